# SPDX-License-Identifier: GPL-2.0
"""Behind VT-d: each reason against going on that a machine can have, one by one. What none of
QEMU's has is asked by KUnit (intel_liveupdate_refusals, iommufd_liveupdate)."""

from __future__ import annotations

from typing import Any

import pytest
from test_vtd import BUFFER_LEN, IOVA, MASTER, MEMORY, ON, Host, write_from_edu

from rig import console, vtd, witness
from rig.agent import Agent
from rig.keeper import attribute
from rig.lab import Lab
from rig.machine import LIVE_UPDATE, Machine
from rig.nic import PAGE, Nic
from rig.outside import Reachable
from rig.topology import Device, Topology, edu, pci_bridge, root_port

GOES_ON = "DMA will go on during the kexec, translated as it is when that begins"
PAUSES = "DMA will pause during the kexec: "

# Where what is refused is mapped. It begins where a huge page may.
ELSEWHERE = 0x10000000
HUGE_PAGES, IN_HUGE = {"2M": 4}, 512


def last(machine: Machine, id: str, what: str) -> str:
    """The end of the last message about a device that says this."""
    said = [line for line in machine.sh("dmesg").out.splitlines()
            if f"{machine.topology.bdf[id]}: Live Update: {what}" in line]
    return said[-1].partition(what)[2]


def asked(agent: Agent, id: str) -> str:
    """What its owner is told when it is preserved, which is what sysfs says, too."""
    machine = agent.machine
    agent.do("session asked asked", f"preserve asked 1 {id}")
    said = last(machine, id, "preserved; ")
    verdict = machine.sh(f"cat {attribute(machine, id, 'liveupdate/dma')}").out.strip()
    assert verdict == ("translated" if said == GOES_ON else "paused"), said
    agent.do("close asked")
    return said


WHERE = {"pair0": "it is not alone in its IOMMU group",
         "old0": "its requests come under another device's ID",
         "ats0": "it may have translations of its own (ATS)"}


def test_vtd_refused_devices_are_paused(vm: Lab) -> None:
    """Their owner is told why; who has no such reason any more goes on, beside the others."""
    disk = {"drive": "disk", "disable-legacy": "on", "iommu_platform": "on", "ats": "on"}
    machine = vm(Topology(
        root_port("rp0", edu("edu0")),
        root_port("rp1", Device("edu", "pair0", {"multifunction": "on"}, addr="0.0"),
                  Device("edu", "pair1", addr="0.1")),
        root_port("rp2", pci_bridge("br0", edu("old0"))),
        root_port("rp3", Device("virtio-blk-pci", "ats0", disk, needs=[
            "-drive", "if=none,id=disk,driver=null-co,size=1048576,read-zeroes=on"]))),
        iommu={"device-iotlb": "on"}, huge=HUGE_PAGES, trace=vtd.EVENTS,
        cmdline=f"{LIVE_UPDATE} {ON}")
    agent = Agent(machine).start()
    for id, why in WHERE.items():
        assert asked(agent.take(id, pages=2, iova=IOVA["edu0"]), id) == PAUSES + why

    # What its owner has set up, or not yet.
    machine.json(f"pci_cfg bind {machine.topology.bdf['edu0']}")
    agent.do(f"open edu0 {machine.topology.bdf['edu0']}", "bind edu0", "memory edu0-ram 4")
    assert asked(agent, "edu0") == PAUSES + "it is not attached to an IOAS"
    agent.do("attach edu0")
    assert asked(agent, "edu0") == PAUSES + "nothing is mapped for it"
    agent.do(f"map edu0 edu0-ram {IOVA['edu0']:#x}")
    assert asked(agent, "edu0") == GOES_ON
    agent.do(f"memory huge {IN_HUGE} huge", f"map edu0 huge {ELSEWHERE:#x}")
    assert asked(agent, "edu0") == (
        PAUSES + "not all of its memory is that of memfds; map no other")
    agent.do("unmap edu0", "close huge", "export old0 0 0x1000 bar",
             f"map edu0 bar {ELSEWHERE:#x}")
    assert asked(agent, "edu0") == PAUSES + "a dma-buf is mapped for it"
    agent.do("unmap edu0", "close bar")
    assert asked(agent, "edu0") == GOES_ON

    for id in ("edu0", *WHERE):
        agent.set_command(id, MASTER | MEMORY)
    agent.preserve("edu0", *WHERE)
    machine.kexec()
    trace, unit = witness.read(machine), vtd.read(machine)
    for id in ("edu0", *WHERE):
        verdict = machine.sh(f"cat {attribute(machine, id, 'liveupdate/dma')}").out.strip()
        assert verdict == ("translated" if id == "edu0" else "paused")
        assert bool(trace.cleared_master(id, 1, shutdown=True)) == (id != "edu0")
    assert unit.faults == [] and unit.switched() == [True]


# Who has none of the reasons above on such a machine.
MACHINES: dict[str, tuple[dict[str, Any], str]] = {
    "processor": ({"iommu": True, "cpu": "qemu64,-cx16"}, "the IOMMU or the processor is too old"),
    "amd": ({"args": ["-device", "amd-iommu,intremap=on"]},
            "an IOMMU translates for it that cannot be handed over"),
}


# QEMU's AMD IOMMU has no table for the interrupts of its I/O APIC, and Linux remaps none then.
@pytest.mark.parametrize("kind", MACHINES)
@pytest.mark.console("AMD-Vi: .*(No southbridge IOAPIC found|Disabling interrupt remapping)",
                     "MSI interrupts are not secure, they cannot be isolated by the platform")
def test_vtd_machine_that_cannot_pauses(vm: Lab, kind: str) -> None:
    """A processor without stores of 128 bits, and the other IOMMU."""
    options, why = MACHINES[kind]
    machine = vm(Topology(root_port("rp0", edu("edu0"))), accel="tcg",
                 cmdline=f"{LIVE_UPDATE} {ON} iommufd.allow_unsafe_interrupts=1", **options)
    agent = Agent(machine).start().take("edu0", iova=IOVA["edu0"])
    assert asked(agent, "edu0") == PAUSES + why


# What the owner does after his device was preserved, how he undoes it, and what comes of it.
CHANGES = {
    "it is not attached to an IOAS": (["detach edu0"], ["attach edu0 ioas"]),
    "nothing is mapped for it": (["unmap edu0"], [f"map edu0 edu0-ram {IOVA['edu0']:#x}"]),
    "not all of its memory is in memfds of its session; preserve that": (
        [f"memory huge {IN_HUGE} huge", f"map edu0 huge {ELSEWHERE:#x}"],
        ["unmap edu0", "close huge"]),
    "a dma-buf is mapped for it": (
        ["export edu1 0 0x1000 bar", f"map edu0 bar {ELSEWHERE:#x}"], ["unmap edu0", "close bar"]),
}
NOT_ITS_ENTRY = "the IOMMU's entry for it is not what this kernel knows"
DOMAIN_ID = 1 << 11     # a bit of it, in the upper half of a context entry


@pytest.mark.console(console.NO_FREEZE, "Live Update: cannot be handed over: "
                     f"({'|'.join(CHANGES)}|{NOT_ITS_ENTRY})$")
def test_vtd_refused_at_freeze_changes_nothing(vm: Lab) -> None:
    """A device that was frozen before goes on as it did, and so does the one that was refused."""
    host = Host(vm, kind=Reachable, beside=edu("edu1"), huge=HUGE_PAGES)
    machine, agent = host.machine, host.agent
    agent.take("edu1", pages=1)
    # The one that nothing is changed about is frozen first.
    agent.do("session s vm0", "preserve s 3 nic0-ram", "preserve s 4 nic0",
             "preserve s 1 edu0-ram", "preserve s 2 edu0")
    assert host.verdicts() == {"translated"}
    assert machine.load().rc == 0

    def refused(why: str) -> None:
        answer = machine.jump()
        assert answer is not None and answer.json()["errno"] == "EINVAL", why
        assert last(machine, "edu0", "cannot be handed over: ") == why

    for why, (change, undo) in CHANGES.items():
        agent.do(*change)
        refused(why)
        before = Nic(agent, "nic0").head
        agent.do(*undo, "memory other 1", f"map nic0 other {ELSEWHERE:#x}", "unmap nic0",
                 "close other")
        write_from_edu(agent, IOVA["edu0"] + PAGE)
        assert agent.peek("edu0-ram", PAGE, BUFFER_LEN) == host.pattern
        assert Nic(agent, "nic0").head > before

    # The unit has the entry cached, and is not told.
    known = vtd.entries(machine, vtd.read(machine).roots[-1][1])
    at = known[machine.topology.bdf["edu0"][-7:]] + 8
    assert machine.topology.bdf["nic0"][-7:] in known
    upper = int.from_bytes(vtd.memory(machine, at, 4), "little")
    machine.write(at, upper ^ DOMAIN_ID)
    refused(NOT_ITS_ENTRY)
    machine.write(at, upper)

    # Control: with all as it was the kexec is no different from another.
    assert machine.jump() is None
    assert host.verdicts() == {"translated"}
    host.retrieve()
    host.attach()
    agent.finish()
    write_from_edu(agent, IOVA["edu0"] + 2 * PAGE)
    assert agent.peek("edu0-ram", 2 * PAGE, BUFFER_LEN) == host.pattern
    assert host.received() and host.outside() == []
    unit = vtd.read(machine)
    assert unit.faults == [] and unit.switched() == [True]
