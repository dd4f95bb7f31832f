# SPDX-License-Identifier: GPL-2.0
"""What is not preserved works after a live update, too, if it did before."""

from __future__ import annotations

import pytest
from conftest import KERNELS

from rig.keeper import Keeper, rescan
from rig.lab import Lab
from rig.machine import Machine
from rig.topologies import KEPT
from rig.topology import Topology, downstream, edu, nic, root_port, switch


def bars(machine: Machine) -> set[tuple[str, int, str]]:
    """Every BAR that has an address, and which."""
    return {(dev["bdf"], bar["n"], bar["start"])
            for dev in machine.json("pci_cfg tree")["devices"] for bar in dev["bars"]
            if bar["n"] < 6 and int(bar["start"], 16)}


@pytest.mark.parametrize("arch,variant", KERNELS)
def test_reallocation_takes_nothing_from_a_neighbour(vm: Lab, arch: str, variant: str) -> None:
    """A port without a device wants I/O addresses, and its neighbour's NIC has them."""
    machine = vm(Topology(root_port("rp0", switch(
        "up0", downstream("dn0", edu(KEPT)), downstream("dn1"), downstream("dn2", nic("nic0")))),
        root_port("rp1"), root_port("rp2", nic("nic1"))), arch=arch, variant=variant)
    keeper = Keeper(machine)
    keeper.preserve()
    before = bars(machine)
    machine.kexec(extra="pci=realloc,nocrs")
    rescan(machine)
    assert before <= bars(machine)
    # What was left as it was is in use, as well.
    machine.json(f"pci_cfg bind {machine.topology.bdf['nic0']}")
    keeper.take_back()
    # Control: one that asks for more than there is between windows that stay has less.
    keeper.preserve()
    machine.kexec(extra=f"pci=realloc,resource_alignment=24@{machine.topology.bdf['nic0']}")
    assert {bar[0] for bar in before - bars(machine)} == {machine.topology.bdf["nic0"]}
    keeper.take_back()
