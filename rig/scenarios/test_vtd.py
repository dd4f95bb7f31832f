# SPDX-License-Identifier: GPL-2.0
"""Behind VT-d: what devices reach through a live update, seen from the unit itself."""

from __future__ import annotations

import random
import time

import pytest

from rig import console, vtd, witness
from rig.agent import Agent
from rig.lab import Lab
from rig.machine import LIVE_UPDATE, Machine
from rig.nic import PAGE, Nic
from rig.topology import Topology, edu, nic, root_port

ON = "intel_iommu=on iommu.passthrough=0"
MASTER, MEMORY = 0x4, 0x2
# Properties of the unit, and words for both kernels
MODES: dict[str, tuple[dict[str, str], str]] = {
    "legacy": ({}, ""),
    "48-bit": ({"aw-bits": "48", "caching-mode": "on"}, ""),
    "scalable": ({"x-scalable-mode": "on"}, "intel_iommu=sm_on"),
}

# Where the devices find their memory. No kernel uses the physical memory there.
IOVA = {"edu0": 0x8000000, "nic0": 0x8100000, "other": 0x8200000}
UNUSED = "memmap=4M$0x8000000"

# edu (QEMU's docs/specs/edu.txt)
SOURCE, TARGET, LENGTH, DMA = 0x80, 0x88, 0x90, 0x98
RUN, FROM_DEVICE = 1, 2
BUFFER, BUFFER_LEN = 0x40000, 2048

RING_PAGES = 32


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
                 more: str = "", rate: float = 40.0) -> None:
        unit, words = MODES[mode]
        self.machine: Machine = vm(
            Topology(root_port("rp0", edu("edu0")), root_port("rp1", nic("nic0"))),
            variant=variant, iommu=unit or True, rate=rate, trace=vtd.EVENTS,
            cmdline=f"{LIVE_UPDATE} {ON} {words} {UNUSED} {more}")
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

    def take_back(self) -> None:
        """Retrieve both devices with their memory and map it where it was."""
        self.agent.start().do("retrieve-session s vm0")
        for n, id in enumerate(("edu0", "nic0")):
            self.machine.json(f"pci_cfg bind {self.machine.topology.bdf[id]}")
            self.agent.do(f"retrieve s {2 * n + 1} memory {id}-ram",
                          f"retrieve s {2 * n + 2} device {id}", f"bind {id}", f"attach {id}",
                          f"map {id} {id}-ram {IOVA[id]:#x}")

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


@pytest.mark.matrix([(mode,) for mode in MODES], 1)
def test_vtd_paused_devices_reach_their_session_only(vm: Lab, case: tuple[str]) -> None:
    """Translation is off between the kernels, so a device that is behind it stands still."""
    (mode,) = case
    host = Host(vm, mode=mode)
    machine, agent = host.machine, host.agent
    assert host.accesses("edu0") and host.accesses("nic0")
    host.update()
    host.take_back()
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
    assert {scalable for *_, scalable in unit.roots} == {mode == "scalable"}


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
