# SPDX-License-Identifier: GPL-2.0
"""A device that waits for its owner is reached or bound by nobody else, and then it is."""

from __future__ import annotations

from rig.keeper import Keeper, attribute
from rig.lab import Lab
from rig.topologies import KEPT
from rig.topology import Topology, nic, root_port

NIC_STATUS = 0x8
IO_BAR = 2


def test_bars_of_an_unclaimed_device_are_out_of_reach(vm: Lab, variant: str) -> None:
    machine = vm(Topology(root_port("rp0", nic(KEPT))), variant=variant)
    keeper = Keeper(machine)
    keeper.preserve()
    ports = f"dd if={attribute(machine, KEPT, f'resource{IO_BAR}')} bs=4 count=1 of=/dev/null"
    machine.kexec()
    refused = machine.run(f"pci_cfg peek {keeper.bdf} 0 {NIC_STATUS}").json()
    assert refused["errno"] == "EBUSY"
    assert "busy" in machine.run(f"{ports} 2>&1").out
    # Control: finished, it is like any other.
    keeper.take_back()
    machine.sh(f"echo 1 >{attribute(machine, KEPT, 'enable')}")
    machine.json(f"pci_cfg peek {keeper.bdf} 0 {NIC_STATUS}")
    machine.sh(ports)
