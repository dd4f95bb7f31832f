# SPDX-License-Identifier: GPL-2.0
"""Addresses never move, and nothing writes to a preserved device before its owner has it back."""

from __future__ import annotations

import itertools
import time

import pytest

from rig import topology, witness
from rig.lab import Lab
from rig.machine import LIVE_UPDATE, Machine
from rig.receiver import Receiver
from rig.topology import Device, Topology, downstream, nic, root_port, switch
from rig.witness import Access

MEMORY_AND_MASTER = 0x6
COMMAND = 0x04
# Header fields of a bridge that decide over the way to what is below (PCIe r6.0, sec 7.5.1.3):
# bus numbers, I/O, memory and prefetchable windows with their upper halves, Bridge Control.
FABRIC = {*range(0x18, 0x1B), 0x1C, 0x1D, *range(0x20, 0x34), 0x3E, 0x3F}


def testdev(id: str, **props: str) -> Device:
    """Conventional PCI with a memory and an I/O BAR, and one of any size on demand."""
    return Device("pci-testdev", id, dict(props))


def crowded() -> Topology:
    """A switch with the NIC and neighbours, a bridge that holds nothing, a conventional bus."""
    return Topology(
        root_port("rp0", switch("up0", downstream("dn0", nic("nic0")),
                                downstream("dn1", testdev("beside")), downstream("dn2"))),
        root_port("rp1", testdev("below", membar="32M")), root_port("rp2"))


TOPOLOGIES = {"root-port": topology.plain, "switch": topology.demo, "crowded": crowded}
HOSTILE = ["pci=realloc", "pci=assign-busses,realloc", "pci=pcie_bus_perf", "pci=pcie_bus_safe",
           "pci=pcie_bus_peer2peer", "pcie_aspm=force", "pcie_aspm=off", "pci=nocrs", "pci=noats",
           "pci=resource_alignment=20@{nic}"]
TOGETHER = ("pci=assign-busses,realloc,pcie_bus_peer2peer,nocrs,noats pcie_aspm=force "
            "pci=resource_alignment=21@{nic};20@{port}")


def hostile(line: str, machine: Machine) -> str:
    """A command line with the addresses of the machine's NIC and of the port above it."""
    port = machine.topology.above("nic0")[0]
    return line.format(nic=machine.topology.bdf["nic0"], port=machine.topology.bdf[port])


def fabric_writes(writes: list[Access]) -> list[Access]:
    """Writes that reach a field of a bridge which devices below depend on."""
    return [w for w in writes if w.offset in FABRIC
            or (w.offset == COMMAND and w.value & MEMORY_AND_MASTER != MEMORY_AND_MASTER)]


def written(machine: Machine, id: str, until: float, boot: int = 2) -> list[Access]:
    """What a function was written in a kernel up to a time."""
    return [w for w in witness.read(machine).writes(id, boot) if w.time < until]


def jump(machine: Machine, line: str = "") -> tuple[Receiver, float]:
    """Preserve the NIC, live update with that command line; also when its owner asks for it."""
    receiver = Receiver(machine)
    receiver.start()
    receiver.sender.start()
    receiver.preserve()
    machine.kexec(extra=hostile(line, machine))
    receiver.bind()
    return receiver, time.time()


def assert_untouched(machine: Machine, claimed: float, id: str = "nic0", boot: int = 2) -> None:
    """Not one write to the endpoint, none to the way to it, no BAR moved."""
    assert written(machine, id, claimed, boot) == []
    for bridge in machine.topology.above(id):
        assert fabric_writes(written(machine, bridge, claimed, boot)) == [], bridge
    trace = witness.read(machine)
    since = machine.booted_at[boot - 2]
    for moved in (id, *machine.topology.above(id)):
        assert not [m for m in trace.moved(moved, boot) if m.time > since], moved


def keeps_addresses(machine: Machine, line: str) -> None:
    """Arrange, act and ask: one live update into a kernel with that command line."""
    receiver, claimed = jump(machine, line)
    assert_untouched(machine, claimed)
    receiver.resume(bind=False)
    assert not receiver.ready["bar0_moved"]
    receiver.ctl("finish")
    sent, stats = receiver.settle()
    assert stats["distinct"] == sent
    receiver.ctl("quit")


@pytest.mark.parametrize("tree", TOPOLOGIES)
def test_nothing_is_written_before_the_claim(vm: Lab, tree: str) -> None:
    keeps_addresses(vm(TOPOLOGIES[tree]()), "")
