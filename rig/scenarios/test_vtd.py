# SPDX-License-Identifier: GPL-2.0
"""Behind VT-d: what devices reach through a live update, seen from the unit itself."""

from __future__ import annotations

import itertools
import os
import random
import re
import time
from typing import Any

import pytest

from rig import console, cost, vtd, witness
from rig.agent import Agent
from rig.keeper import attribute
from rig.lab import Lab
from rig.machine import LIVE_UPDATE, Machine
from rig.nic import PAGE, Nic
from rig.topology import Device, Topology, edu, nic, root_port, sleeper

ON = "intel_iommu=on iommu.passthrough=0"
MASTER, MEMORY = 0x4, 0x2
# Properties of the unit, and words for both kernels
MODES: dict[str, tuple[dict[str, str], str]] = {
    "legacy": ({}, ""),
    "48-bit": ({"aw-bits": "48", "caching-mode": "on"}, ""),
    "scalable": ({"x-scalable-mode": "on"}, "intel_iommu=sm_on"),
    "first-stage": ({"x-scalable-mode": "on", "x-flts": "on"}, "intel_iommu=sm_on"),
}
# The oldest kernels that can be gone to know nothing of frozen domains.
OLDEST = "pci_liveupdate.abi_newest=0x4c550001"

HOSTILE = "/sys/module/pci_liveupdate_hostile/parameters"

# Where the devices find their memory. No kernel uses the physical memory there.
IOVA = {"edu0": 0x8000000, "nic0": 0x8100000, "other": 0x8200000}
UNUSED = "memmap=4M$0x8000000"

# edu (QEMU's docs/specs/edu.txt)
SOURCE, TARGET, LENGTH, DMA = 0x80, 0x88, 0x90, 0x98
RUN, FROM_DEVICE = 1, 2
BUFFER, BUFFER_LEN = 0x40000, 2048

RING_PAGES = 64
FULL = os.environ.get("FULL", "") not in ("", "0")


def dma(agent: Agent, source: int, target: int, direction: int) -> None:
    """Have edu copy its whole buffer, one way or the other."""
    for register, value in ((SOURCE, source), (TARGET, target), (LENGTH, BUFFER_LEN),
                            (DMA, RUN | direction)):
        agent.write("edu0", register, value, width=8)
    for _ in range(100):
        if not agent.read("edu0", DMA, width=8) & RUN:
            return
        time.sleep(0.1)
    raise AssertionError("edu does not end its DMA")


def write_from_edu(agent: Agent, iova: int) -> None:
    """Have edu write what it has in its buffer."""
    dma(agent, BUFFER, iova, FROM_DEVICE)


class Host:
    """A machine whose two devices translate: a NIC that receives, and an edu that has a pattern."""

    def __init__(self, vm: Lab, variant: str = "release", mode: str = "legacy",
                 more: str = "", rate: float = 40.0, beside: Device | None = None,
                 **options: Any) -> None:
        unit, words = MODES[mode]
        self.machine: Machine = vm(
            Topology(root_port("rp0", edu("edu0")), root_port("rp1", nic("nic0")),
                     *([root_port("rp2", beside)] if beside else [])),
            variant=variant, iommu=unit or True, rate=rate, trace=vtd.EVENTS,
            cmdline=f"{LIVE_UPDATE} {ON} {words} {UNUSED} {more}", **options)
        self.agent = Agent(self.machine).start()
        self.agent.take("edu0", iova=IOVA["edu0"])
        self.agent.take("nic0", pages=RING_PAGES + 1, iova=IOVA["nic0"])
        self.pages = self.agent.pages("edu0-ram", "nic0-ram")
        for id in ("edu0", "nic0"):
            self.agent.set_command(id, MASTER | MEMORY)
        self.pattern = random.Random(3).randbytes(BUFFER_LEN)
        self.agent.poke("edu0-ram", 0, self.pattern)
        dma(self.agent, IOVA["edu0"], BUFFER, 0)
        Nic(self.agent, "nic0").receive(IOVA["nic0"], RING_PAGES,
                                        IOVA["nic0"] + RING_PAGES * PAGE)
        self.machine.senders["nic0"].start()
        write_from_edu(self.agent, IOVA["edu0"] + PAGE)
        assert self.agent.peek("edu0-ram", PAGE, BUFFER_LEN) == self.pattern
        time.sleep(1)

    def update(self, incoming: str = "") -> None:
        """Into the next kernel, with devices and memory in one session."""
        self.agent.preserve("edu0", "nic0")
        self.machine.kexec(extra=incoming)

    def received(self) -> bool:
        """Stop the frames: has the NIC received as many as were sent?"""
        sent = self.machine.senders["nic0"].stop()
        for _ in range(20):
            if Nic(self.agent, "nic0").head == sent:
                return True
            time.sleep(0.1)
        return False

    def verdict(self, id: str) -> str:
        """What becomes of the DMA of one, as sysfs says."""
        return self.machine.sh(f"cat {attribute(self.machine, id, 'liveupdate/dma')}").out.strip()

    def verdicts(self) -> set[str]:
        """The same of both."""
        return {self.verdict(id) for id in ("edu0", "nic0")}

    def retrieve(self) -> None:
        """Both devices with their memory, each with an IOAS that it is not attached to."""
        self.agent.start().do("retrieve-session s vm0")
        for n, id in enumerate(("edu0", "nic0")):
            self.machine.json(f"pci_cfg bind {self.machine.topology.bdf[id]}")
            self.agent.do(f"retrieve s {2 * n + 1} memory {id}-ram",
                          f"retrieve s {2 * n + 2} device {id}", f"bind {id}", f"ioas {id}")

    def attach(self) -> None:
        """Map the memory where it was, and attach."""
        for id in ("edu0", "nic0"):
            self.agent.do(f"map {id} {id}-ram {IOVA[id]:#x}", f"attach {id} ioas")

    def second_kernel(self) -> float:
        """The host time of its first look at the hardware."""
        return next(phase.start for phase in witness.read(self.machine).phases if phase.boot == 2)

    def accesses(self, id: str, since: float = 0.0) -> list[vtd.Access]:
        return vtd.read(self.machine).by(self.machine.topology.bdf[id], since)

    def outside(self) -> list[vtd.Access]:
        """What either device reached that is not its session's."""
        return vtd.read(self.machine).outside(
            self.pages, *(self.machine.topology.bdf[id] for id in ("edu0", "nic0")))

    def untranslated(self) -> list[float]:
        """When frames were written to memory while the unit let everything pass."""
        unit = vtd.read(self.machine)
        return [t for t in witness.read(self.machine).dma() if unit.off_at(t)]


def test_vtd_paused_devices_reach_their_session_only(vm: Lab) -> None:
    """What the next kernel cannot be told of is paused, and nothing translates in between."""
    host = Host(vm, mode="scalable", more=OLDEST)
    machine, agent = host.machine, host.agent
    assert host.accesses("edu0") and host.accesses("nic0")
    host.update()
    assert host.verdicts() == {"paused"}
    host.retrieve()
    host.attach()
    assert agent.pages("edu0-ram", "nic0-ram") == host.pages
    since = host.second_kernel()
    for id in ("edu0", "nic0"):
        assert host.accesses(id, since=since) == []
    for id in ("edu0", "nic0"):
        agent.set_command(id, MASTER)
    agent.finish()
    write_from_edu(agent, IOVA["edu0"] + 2 * PAGE)
    assert agent.peek("edu0-ram", 2 * PAGE, BUFFER_LEN) == host.pattern
    time.sleep(1)

    unit = vtd.read(machine)
    for id in ("edu0", "nic0"):
        assert host.accesses(id, since=since)
    assert host.outside() == [] and host.untranslated() == []
    assert unit.faults == []
    assert unit.switched() == [True, False, True]
    assert len({root for _, root, _ in unit.roots}) == 2
    assert {scalable for *_, scalable in unit.roots} == {True}


@pytest.mark.console(console.UNIT_OFF)
def test_control_vtd_sees_what_a_device_reaches_outside(vm: Lab) -> None:
    """Memory that is in no session is noticed, and so is a device that goes on untranslated."""
    host = Host(vm, more="pci_liveupdate.break=4")
    machine, agent = host.machine, host.agent
    assert host.outside() == [] and host.untranslated() == []
    agent.do("memory other 1", f"map edu0 other {IOVA['other']:#x}")
    write_from_edu(agent, IOVA["other"])
    (stray,) = agent.pages("other")
    assert {access.gpa for access in host.outside()} == {stray}

    # The NIC keeps Bus Master although its addresses mean nothing while translation is off.
    host.update()
    time.sleep(1)
    assert host.untranslated()
    assert not vtd.read(machine).switched()[1]


WORDS = {"same": "", "off": "intel_iommu=off", "iommu-off": "iommu=off", "pt": "iommu=pt",
         "scalable": "intel_iommu=sm_on", "not-scalable": "intel_iommu=sm_off",
         "nointremap": "nointremap", "small-pages": "intel_iommu=sp_off iommu.strict=1",
         "poison": "init_on_alloc=1 init_on_free=1", "page-poison": "page_poison=1"}


@pytest.mark.matrix([*itertools.product(MODES, [*WORDS][:-1]),
                     *((mode, "page-poison", "debug") for mode in MODES)], 2)
@pytest.mark.console(console.UNIT_ON)
def test_vtd_devices_go_on_translated(vm: Lab, case: tuple[str, ...]) -> None:
    """The whole way: what they reach, that nothing is lost, and that translation never ends."""
    mode, words, *debug = case
    host = Host(vm, mode=mode, **({"variant": "debug"} if debug else {"rate": 250.0}))
    machine, agent = host.machine, host.agent
    host.update(WORDS[words])
    assert host.verdicts() == {"translated"}
    since = host.second_kernel()
    host.retrieve()
    assert host.accesses("nic0", since=since)

    # Nothing is mapped, too little, or elsewhere: the devices go on as they did.
    for id in ("edu0", "nic0"):
        assert agent.refused(f"attach {id} ioas") == "EINVAL"
    agent.do(f"map edu0 edu0-ram {IOVA['edu0'] + 0x100000:#x}")
    assert agent.refused("attach edu0 ioas") == "EINVAL"
    agent.do("unmap edu0", f"map nic0 edu0-ram {IOVA['nic0']:#x}")
    assert agent.refused("attach nic0 ioas") == "EINVAL"
    agent.do("unmap nic0")
    write_from_edu(agent, IOVA["edu0"] + 2 * PAGE)
    assert agent.peek("edu0-ram", 2 * PAGE, BUFFER_LEN) == host.pattern
    before = vtd.read(machine).contexts[-1]

    host.attach()
    agent.finish()
    write_from_edu(agent, IOVA["edu0"] + 3 * PAGE)
    assert agent.peek("edu0-ram", 3 * PAGE, BUFFER_LEN) == host.pattern
    # It is an attachment like any other now.
    agent.do("memory other 1", f"map edu0 other {IOVA['other']:#x}")
    write_from_edu(agent, IOVA["other"])
    assert agent.peek("other", 0, BUFFER_LEN) == host.pattern
    host.pages |= agent.pages("other")
    time.sleep(1)
    assert agent.pages("edu0-ram", "nic0-ram") <= host.pages
    assert host.received()

    unit = vtd.read(machine)
    after = [context for context in unit.contexts if context.bdf == before.bdf][-1]
    assert after.table != before.table
    if mode in ("legacy", "48-bit"):
        assert after.domain_id != before.domain_id
    assert {scalable for *_, scalable in unit.roots} == {"x-scalable-mode" in MODES[mode][0]}
    assert host.outside() == [] and host.untranslated() == []
    assert unit.faults == [] and unit.switched() == [True]
    assert len({root for _, root, _ in unit.roots}) == 3    # of each kernel, and of neither
    assert [on for _, on in unit.remaps] == [True]
    trace = witness.read(machine)
    assert trace.overruns() == [] and not [t for t in trace.no_master() if t > since]
    assert not trace.cleared_master("nic0", 1, shutdown=True) + trace.cleared_master("nic0", 2)


@pytest.mark.matrix([("legacy",), ("scalable",), ("first-stage",)], 1)
def test_vtd_other_devices_of_the_unit_start_afresh(vm: Lab, case: tuple[str]) -> None:
    """A disk of the host works in both kernels, and has no entry in between."""
    host = Host(vm, mode=case[0], beside=Device(
        "virtio-blk-pci", "disk0", {"drive": "disk", "disable-legacy": "on",
                                    "iommu_platform": "on"},
        needs=["-drive", "if=none,id=disk,driver=null-co,size=1048576,read-zeroes=on"]))
    machine = host.machine
    machine.sh("dd if=/dev/vda of=/dev/null bs=4k count=64")
    host.update()
    machine.sh("dd if=/dev/vda of=/dev/null bs=4k count=64")
    host.retrieve()
    host.attach()
    host.agent.finish()

    unit = vtd.read(machine)
    (first, _, _), (gap, _, _), (second, _, _) = unit.roots
    for id, goes_on in (("disk0", False), ("nic0", True)):
        at = [access.time for access in host.accesses(id)]
        assert [t for t in at if first < t < gap] and [t for t in at if t > second]
        assert bool([t for t in at if gap < t < second]) == goes_on
    # Each domain has a tag of its own in what the unit remembers, whoever gave it.
    disk, *others = (unit.tags[machine.topology.bdf[id][-7:]] for id in ("disk0", "nic0", "edu0"))
    assert disk and not disk & set.union(*others)
    assert unit.faults == [] and unit.switched() == [True] and host.outside() == []
    assert host.received()


@pytest.mark.console(console.DMA_FAULT, console.STILL_ON)
def test_control_vtd_forgotten_domain_ends_translation(vm: Lab) -> None:
    """With the domains forgotten on purpose the next kernel does what it always does."""
    host = Host(vm)
    host.update("pci_liveupdate.break=2")
    time.sleep(1)
    unit = vtd.read(host.machine)
    assert unit.switched()[:2] == [True, False]
    assert host.untranslated() or unit.faults


# Tables that the unit reads: of each kind there is one at least for each device, but for the root.
TABLES = {"legacy": ("root", "context", "page"),
          "scalable": ("root", "context", "directory", "pasid", "page")}


@pytest.mark.console(console.DMA_FAULT, console.STILL_ON,
                     "PCI Live Update: .* is paused: (its IOMMU has no|the IOMMU's entry for it)")
@pytest.mark.matrix([(mode, kind) for mode, kinds in TABLES.items() for kind in kinds], 1)
def test_control_vtd_table_that_is_not_kept_ends_translation(vm: Lab,
                                                             case: tuple[str, str]) -> None:
    """The next kernel writes zeroes to all memory that is not handed over to it: it reaches each
    kind of table, and DMA would not go on if one were left out."""
    mode, kind = case
    vm.expect_splat("WARNING: at kho_restore_(page|free)|Call Trace")
    host = Host(vm, mode=mode)
    host.machine.sh(f"echo {kind} >{HOSTILE}/forget")
    host.update(WORDS["poison"])
    time.sleep(1)
    unit = vtd.read(host.machine)
    if kind == "page":
        assert host.machine.topology.bdf["nic0"][-7:] in {fault.bdf for fault in unit.faults}
    else:   # what leads there is looked at before it is taken over
        assert host.verdicts() == {"paused"} and unit.switched()[:2] == [True, False]


@pytest.mark.console(console.STILL_ON, r"PCI Live Update: .* is paused: the IOMMU's entry for it")
def test_vtd_what_cannot_be_taken_over_is_paused_first(vm: Lab) -> None:
    """What is handed over does not fit the hardware, and is not used. Nothing is written astray."""
    host = Host(vm, more="pci_liveupdate.break=0x20000000")
    machine, agent = host.machine, host.agent
    host.update()
    assert host.verdicts() == {"paused"}
    trace, unit = witness.read(machine), vtd.read(machine)
    since = host.second_kernel()
    assert host.accesses("nic0", since=since)
    assert unit.switched() == [True, False, True]
    off = unit.enables[1][0]
    for id in ("edu0", "nic0"):
        assert trace.cleared_master(id, boot=2)[0].time < off
    host.retrieve()
    host.attach()
    for id in ("edu0", "nic0"):
        agent.set_command(id, MASTER)
    agent.finish()
    write_from_edu(agent, IOVA["edu0"] + 2 * PAGE)
    assert agent.peek("edu0-ram", 2 * PAGE, BUFFER_LEN) == host.pattern
    assert host.outside() == [] and host.untranslated() == []
    assert vtd.read(machine).faults == []


@pytest.mark.console(console.NO_FREEZE, console.OUTSIDE)
def test_vtd_memory_outside_of_the_session_is_refused(vm: Lab) -> None:
    """When it is preserved and when the kexec begins each page is looked at; what is refused
    changes nothing."""
    host = Host(vm)
    machine, agent = host.machine, host.agent

    # What cannot be in any session is known at once, and the device's owner is told.
    agent.do("memory other 4", f"map edu0 other {IOVA['other']:#x}", "punch other 0x1000 4096")
    agent.preserve("edu0", "nic0")
    assert host.verdict("edu0") == "paused" and host.verdict("nic0") == "translated"
    assert "pause during the kexec: not all of its memory is" in machine.sh("dmesg").out
    agent.do("close s", "unmap edu0", "close other")

    agent.do("memory other 4", f"map edu0 other {IOVA['other']:#x}")
    agent.preserve("edu0", "nic0")
    assert host.verdicts() == {"translated"}
    assert machine.load().rc == 0
    # Not in a session; in another; in it, but a hole has been punched in what is mapped.
    assert (refused := machine.jump()) and refused.rc
    agent.do("session t vm1", "preserve t 1 other")
    assert (refused := machine.jump()) and refused.rc
    agent.do("close t")
    agent.do("punch other 0x1000 4096", "preserve s 9 other")
    assert (refused := machine.jump()) and refused.rc
    agent.do("unmap edu0")
    assert machine.jump() is None
    host.retrieve()
    agent.do("retrieve s 9 memory other")
    host.attach()
    agent.finish()
    assert host.received()
    unit = vtd.read(machine)
    assert unit.faults == [] and unit.switched() == [True] and host.outside() == []


@pytest.mark.console(console.STOPPED)
@pytest.mark.matrix([("legacy",), ("scalable",), ("first-stage",)], 1, always=1)
def test_vtd_unretrieved_device_is_stopped_and_its_entry_goes(vm: Lab, case: tuple[str]) -> None:
    """Bus Master off, then the entry, then the flush, and only then memory."""
    host = Host(vm, mode=case[0])
    machine, agent = host.machine, host.agent
    host.update()
    agent.start().do("retrieve-session s vm0", "finish s", "close s")
    stopped = time.time()
    trace = witness.read(machine)
    unit = vtd.read(machine)
    since = host.second_kernel()
    for id in ("edu0", "nic0"):
        off = trace.cleared_master(id, boot=2)[0].time
        # QEMU tells of none of these in scalable mode.
        for flush in ("cc_devices", "iotlb_domain") if case[0] == "legacy" else ():
            assert [text for t, text in unit.flushes if t > off and text.startswith(flush)]
        assert host.accesses(id, since=stopped) == []
    assert host.accesses("nic0", since=since) and unit.faults == []
    # They are ordinary devices.
    agent.take("edu0", iova=IOVA["edu0"]).set_command("edu0", MASTER | MEMORY)
    agent.poke("edu0-ram", 0, host.pattern)
    dma(agent, IOVA["edu0"], BUFFER, 0)
    write_from_edu(agent, IOVA["edu0"] + PAGE)
    assert agent.peek("edu0-ram", PAGE, BUFFER_LEN) == host.pattern
    assert vtd.read(machine).faults == []


@pytest.mark.console(console.DMA_FAULT, console.LOST)
def test_vtd_another_device_has_not_its_entry(vm: Lab) -> None:
    """The next kernel finds another where it was: that reaches nothing."""
    host = Host(vm, more="pci_liveupdate.break=0x40")
    host.update()
    time.sleep(1)
    unit = vtd.read(host.machine)
    assert unit.switched() == [True] and host.outside() == []
    refused = unit.faults[0]
    assert refused.bdf == host.machine.topology.bdf["nic0"][-7:]
    before = host.second_kernel()
    assert [access for access in host.accesses("nic0", since=before) if access.time < refused.time]
    assert host.accesses("nic0", since=refused.time) == []


@pytest.mark.console(console.UNIT_ON)
def test_vtd_page_table_that_is_allocated_before_it_maps_anything(vm: Lab) -> None:
    """As QEMU does it (docs/other-vmms.md): attached at once it is refused, attached after its IOAS
    has the memory it is as good as any."""
    host = Host(vm)
    machine, agent = host.machine, host.agent
    host.update()
    assert host.verdicts() == {"translated"}
    since = host.second_kernel()
    host.retrieve()
    for id in ("edu0", "nic0"):
        agent.do(f"hwpt {id}")
        assert agent.refused(f"attach {id} hwpt") == "EINVAL"
        agent.do(f"map {id} {id}-ram {IOVA[id]:#x}", f"attach {id} hwpt")
    agent.finish()
    write_from_edu(agent, IOVA["edu0"] + 3 * PAGE)
    assert agent.peek("edu0-ram", 3 * PAGE, BUFFER_LEN) == host.pattern
    assert host.accesses("nic0", since=since) and host.received()
    unit = vtd.read(machine)
    assert unit.faults == [] and unit.switched() == [True]
    assert host.outside() == [] and host.untranslated() == []


@pytest.mark.console(console.DMA_FAULT)
def test_control_vtd_looks_at_what_is_frozen_and_attached(vm: Lab) -> None:
    """With neither looked at, devices reach memory of others, and other memory than they did."""
    host = Host(vm, more="pci_liveupdate.break=0x40000000")
    machine, agent = host.machine, host.agent
    agent.do("memory other 4", f"map edu0 other {IOVA['other']:#x}")
    host.update("pci_liveupdate.break=0x80000000")
    assert host.verdicts() == {"translated"}
    host.retrieve()
    # It is somebody else's now, so it is only read.
    dma(agent, IOVA["other"], BUFFER, 0)
    assert host.outside()
    others = agent.pages("edu0-ram")
    agent.do(f"map nic0 edu0-ram {IOVA['nic0']:#x}", "attach nic0 ioas")
    attached = time.time()
    time.sleep(1)
    assert [access for access in host.accesses("nic0", since=attached)
            if others.issuperset(access.pages())] or vtd.read(machine).faults


@pytest.mark.matrix([("legacy",), ("scalable",), ("first-stage",)], 1)
def test_vtd_threads_map_and_unmap_all_the_while(vm: Lab, case: tuple[str]) -> None:
    """From preserve to the jump, and into the next kernel with what there was then."""
    host = Host(vm, mode=case[0], smp=2, beside=sleeper("asleep"))
    machine, agent = host.machine, host.agent
    machine.json(f"pci_cfg bind {machine.topology.bdf['asleep']}")
    agent.do("memory other 600")
    host.pages |= agent.pages("other")
    agent.do(f"hammer-maps edu0 other {IOVA['other']:#x} edu0-ram 0x4000")
    agent.preserve("edu0", "nic0")
    agent.do("preserve s 9 other")
    time.sleep(0.5)
    before = maps(agent)
    assert before["map done"] > 2 and before["unmap done"] > 2 and before["refused"] == 0, before
    machine.kexec()
    host.retrieve()
    agent.do("retrieve s 9 memory other", f"map edu0 other {IOVA['other']:#x}")
    after = maps(agent)
    assert after["refused"] >= 3 and after["other"] == 0, after
    assert after["map done"] - after["unmap done"] in (0, 1), after
    # Who may not map any more may not attach another page table, either.
    assert after["not attached"] and not after["attached or detached"], after
    host.attach()
    agent.finish()
    write_from_edu(agent, IOVA["other"])
    assert agent.peek("other", 0, BUFFER_LEN) == host.pattern
    assert host.received() and host.outside() == []
    unit = vtd.read(machine)
    assert unit.faults == [] and unit.switched() == [True]


@pytest.mark.matrix([("legacy",), ("scalable",), ("first-stage",)], 1)
@pytest.mark.console(r"luo: kexec refused: session \[vm0\] cannot be frozen",
                     "luo: Freeze failed for token",
                     "Live Update: cannot be handed over: "
                     "(it is not attached to an IOAS|a page table is being attached)")
def test_vtd_thread_attaches_and_faults_all_the_while(vm: Lab, case: tuple[str]) -> None:
    """An attach whose answer cannot be written is undone: not when the page table is frozen."""
    host = Host(vm, mode=case[0], smp=2)
    machine, agent = host.machine, host.agent
    agent.preserve("edu0", "nic0")
    agent.do("hammer-attach edu0 edu0-ram 0x4000")
    assert machine.load().rc == 0
    errnos: set[str] = set()
    while machine.boot == 1:
        refused = machine.jump()
        errnos |= {refused.json()["errno"]} if refused else set()
    assert errnos <= {"EINVAL", "EBUSY"}
    host.retrieve()
    tried = attaches(agent)
    # Control: both were done, and nothing was when the page table was frozen.
    assert tried["attached"] > 2 and tried["faulted"] > 2 and tried["other"] == 0, tried
    host.attach()
    agent.finish()
    write_from_edu(agent, IOVA["edu0"] + PAGE)
    assert agent.peek("edu0-ram", PAGE, BUFFER_LEN) == host.pattern
    assert host.received() and host.outside() == []
    unit = vtd.read(machine)
    assert unit.faults == [] and unit.switched() == [True]


@pytest.mark.console(r"luo: kexec refused: session \[vm0\] cannot be frozen",
                     "luo: Freeze failed for token",
                     "Live Update: cannot be handed over: memory is being mapped for it")
def test_vtd_mapping_that_hangs_keeps_nobody_waiting(vm: Lab) -> None:
    """One of memory that a page fault has to bring first, from a disk that does not answer."""
    disk = vm.folder / "slow.img"
    disk.parent.mkdir(parents=True, exist_ok=True)
    disk.write_bytes(bytes(1 << 20))
    host = Host(vm, beside=Device("virtio-blk-pci", "disk0", {"drive": "slow"}, needs=[
        "-drive", f"if=none,id=slow,format=raw,file={disk}"]))
    machine, agent = host.machine, host.agent

    def throttle(rate: int) -> None:
        machine.qmp("block_set_io_throttle", device="slow", bps=rate, bps_rd=0, bps_wr=0,
                    iops=0, iops_rd=0, iops_wr=0)

    agent.preserve("edu0", "nic0")
    throttle(64)
    machine.sh("dd if=/dev/vda of=/dev/null bs=4k count=1")     # which uses up the allowance
    agent.do(f"map-stuck edu0 /dev/vda {IOVA['other']:#x} {1 << 19:#x}")
    time.sleep(1)
    assert machine.load().rc == 0
    refused = machine.jump()
    assert refused is not None and refused.json()["errno"] == "EBUSY"
    # Control: it goes on as it was, and when that is over there is nothing in the way.
    throttle(0)
    agent.do("ioas edu0", f"map edu0 edu0-ram {IOVA['edu0']:#x}", "attach edu0 ioas")
    machine.kexec()
    assert host.verdicts() == {"translated"}
    host.retrieve()
    host.attach()
    agent.finish()
    assert host.received() and host.outside() == []
    unit = vtd.read(machine)
    assert unit.faults == [] and unit.switched() == [True]


def attaches(agent: Agent) -> dict[str, int]:
    """What became of what that thread tried."""
    raw = agent.peek("edu0-ram", 0x4000, 80)
    number = [int.from_bytes(raw[at:at + 8], "little") for at in range(0, 80, 8)]
    return {"attached": number[4], "faulted": number[6], "refused": number[5] + number[7],
            "other": number[8]}


def maps(agent: Agent) -> dict[str, int]:
    """What became of what the thread tried."""
    raw = agent.peek("edu0-ram", 0x4000, 80)
    number = [int.from_bytes(raw[at:at + 8], "little") for at in range(0, 80, 8)]
    return {"map done": number[0], "unmap done": number[2],
            "refused": number[1] + number[3] + number[5] + number[7],
            "attached or detached": number[4] + number[6],
            "not attached": number[5], "other": number[8]}


NICS = ("nic0", "nic1", "nic2", "nic3")
SHARED = {"nic3": "nic2"}


def switches(vm: Lab, mode: str, rounds: int, rate: float, incoming: str = "") -> vtd.Unit:
    """Live updates in a row under four NICs that receive; each ends in four switches.

    The last two share an IOAS, so that both can reach the memory of both.
    """
    unit, words = MODES[mode]
    machine = vm(Topology(*(root_port(f"rp{n}", nic(id)) for n, id in enumerate(NICS))),
                 iommu=unit or True, rate=rate / len(NICS), trace=vtd.EVENTS,
                 cmdline=f"{LIVE_UPDATE} {ON} {words} {UNUSED}")
    agent = Agent(machine).start()
    for n, id in enumerate(NICS):
        bdf, shared = machine.topology.bdf[id], SHARED.get(id, "")
        machine.json(f"pci_cfg bind {bdf}")
        agent.do(f"open {id} {bdf}", f"bind {id} {shared}", f"ioas {id} {shared}",
                 f"attach {id} ioas", f"memory {id}-ram {SWITCH_PAGES + 1}",
                 f"map {id} {id}-ram {SWITCH_IOVA + n * SWITCH_STEP:#x}")
        agent.set_command(id, MASTER | MEMORY)
        Nic(agent, id).receive(SWITCH_IOVA + n * SWITCH_STEP, SWITCH_PAGES,
                               SWITCH_IOVA + n * SWITCH_STEP + SWITCH_PAGES * PAGE)
        machine.senders[id].start()
    pages = agent.pages(*(f"{id}-ram" for id in NICS))
    used = "cat /sys/class/iommu/dmar0/intel-iommu/domains_used"
    domains = machine.sh(used).out
    for _ in range(rounds):
        agent.preserve(*NICS)
        machine.kexec(extra=incoming)
        agent.start().do("retrieve-session s vm0")
        for n, id in enumerate(NICS):
            machine.json(f"pci_cfg bind {machine.topology.bdf[id]}")
            shared = SHARED.get(id, "")
            agent.do(f"retrieve s {2 * n + 1} memory {id}-ram",
                     f"retrieve s {2 * n + 2} device {id}", f"bind {id} {shared}",
                     f"ioas {id} {shared}",
                     f"map {id} {id}-ram {SWITCH_IOVA + n * SWITCH_STEP:#x}")
        for id in NICS:
            agent.do(f"attach {id} ioas")
            # There is room for as many frames again.
            agent.write(id, RDT, (Nic(agent, id).head - 1) % (SWITCH_PAGES * IN_PAGE))
        agent.finish()
        assert agent.pages(*(f"{id}-ram" for id in NICS)) == pages
        assert machine.sh(used).out == domains
    for id in NICS:
        sent = machine.senders[id].stop()
        for _ in range(50):
            if Nic(agent, id).head == sent % (SWITCH_PAGES * IN_PAGE):
                break
            time.sleep(0.1)
        else:
            assert incoming, f"{id}: {sent} sent, {Nic(agent, id).head} received"
    trace = witness.read(machine)
    assert trace.overruns() == []
    found = vtd.read(machine)
    assert found.outside(pages, *(machine.topology.bdf[id] for id in NICS)) == []
    assert found.switched() == [True]
    return found


def no_entry(vm: Lab, unit: vtd.Unit) -> list[str]:
    """Where the unit has looked in vain for the entry of a NIC since the first kexec. In scalable
    mode it looks for those of all devices, also where there is no device, when it gets a root."""
    return [text for time, text in unit.absent
            if time > vm.all[0].jumped_at[0] and not re.search(r"\bbus (0x)?0+\b", text)]


SWITCH_PAGES, SWITCH_IOVA, SWITCH_STEP = 255, 0x8000000, 0x200000
IN_PAGE, RDT = 256, 0x2818
ROUNDS = 50 if FULL else 1


@pytest.mark.matrix([("legacy",), ("scalable",), ("first-stage",)], 1)
def test_vtd_switches_without_a_gap(vm: Lab, case: tuple[str]) -> None:
    """2,000 frames a second, and no moment at which a device has no entry."""
    unit = switches(vm, case[0], ROUNDS, 2000.0)
    assert unit.faults == [] and no_entry(vm, unit) == []


@pytest.mark.console(console.DMA_FAULT)
def test_control_vtd_sees_a_switch_with_a_gap(vm: Lab) -> None:
    """With the entry gone for 300 ms on purpose."""
    unit = switches(vm, "legacy", 1, 400.0, "pci_liveupdate.break=0x4000000000000000")
    assert unit.faults and no_entry(vm, unit)


@pytest.mark.console(console.NO_KHO, "sysrq triggered crash|Kernel panic|Call Trace|Oops")
def test_vtd_crash_kernel_while_domains_are_frozen(vm: Lab) -> None:
    """It boots, and devices reach what they did, by the tables of a kernel that was never left."""
    host = Host(vm, more="crashkernel=384M kho_scratch=32M,64M,1G", memory="2560M")
    machine = host.machine
    host.update()
    loaded = machine.load_crash(extra="crashkernel=0")
    assert loaded.rc == 0, loaded.out
    machine.crash()
    machine.wait_boot(machine.boot + 1)
    machine.sh("test -e /proc/vmcore")
    unit = vtd.read(machine)
    assert host.accesses("nic0", since=machine.booted_at[-1] - 1)
    assert unit.faults == [] and unit.switched() == [True] and host.outside() == []


def writes(vm: Lab, variant: str) -> list[str]:
    """What two kernels with nothing preserved tell the unit: registers, and commands.

    How many invalidations there are depends on when who maps what.
    """
    machine = vm(Topology(root_port("rp0", edu("edu0"))), variant=variant, iommu=True,
                 trace=["vtd_reg_write", "vtd_reg_write_gcmd"], cmdline=f"{LIVE_UPDATE} {ON}")
    machine.kexec()
    log = (machine.folder / "trace.log").read_text(errors="replace")
    found = re.findall(r"vtd_reg_write(?: (addr 0x\w+ size 0x\w+)|_gcmd (.*)$)", log, re.MULTILINE)
    return [register or f"command {values}" for register, values in found
            if not register.startswith(f"addr {QUEUE_TAIL:#x} ")]


QUEUE_TAIL = 0x88


def test_vtd_nothing_preserved_is_what_stock_does(vm: Lab) -> None:
    """Register by register, on the way out and on the way in."""
    ours, stock = writes(vm, "release"), writes(vm, "stock")
    assert len([line for line in ours if line.startswith("command")]) > 6
    assert ours == stock


@pytest.mark.console("Kernel panic|Call Trace", "Rebooting through the firmware", console.LOST,
                     "MPS support code is not built-in", "PMU not available due to virtualization",
                     "extended configuration space, which cannot be read here")
def test_vtd_that_cannot_be_found_stops_the_boot(vm: Lab) -> None:
    """Without the table that describes it: nobody could say what devices write to."""
    host = Host(vm)
    machine = host.machine
    host.agent.preserve("edu0", "nic0")
    assert machine.load(extra="acpi=off").rc == 0
    machine.leave()
    machine.wait_exit()
    said = (machine.folder / "console.log").read_text(errors="replace")
    assert "since before the kexec has no driver" in said
    assert vtd.read(machine).switched() == [True] and host.outside() == []


@pytest.mark.rare
@pytest.mark.console(console.NO_FREEZE, console.OUTSIDE)
def test_vtd_freezing_takes_few_instructions(vm: Lab) -> None:
    """The clock counts them: 256 MiB of small pages, frozen and let go again, and without."""
    host = Host(vm, more=f"intel_iommu=sp_off {cost.TRACING}", args=cost.CLOCK, rate=1.0)
    machine, agent = host.machine, host.agent
    agent.do("memory other 1", f"map nic0 other {IOVA['other']:#x}",    # which ends the kexec
             f"memory big {LEAVES}", f"map edu0 big {SWITCH_IOVA * 2:#x}",
             "session s vm0", "preserve s 1 edu0-ram", "preserve s 2 big", "preserve s 3 edu0",
             "preserve s 4 nic0-ram", "preserve s 5 nic0")
    assert machine.load().rc == 0

    def instructions() -> int:
        return min(int(machine.run("kexec_try exec").json()["ns"]) for _ in range(3))

    frozen = instructions()
    agent.do("unmap edu0")
    each = (frozen - instructions()) / LEAVES
    print(f"{each:.1f} instructions a leaf, its part of a table page and undoing it included")
    # What is wanted of freezing; a table page is given back, too.
    assert 1 < each <= 60 + 2 * 1000 / 512


LEAVES = 65536
