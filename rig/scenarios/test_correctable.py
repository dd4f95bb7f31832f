# SPDX-License-Identifier: GPL-2.0
"""A correctable error of a device that waits for its owner is acknowledged, and no more.

No endpoint of QEMU tells of a correctable error. So it is Linux that makes one up below its own
accessors (aer_inject): it shows a status register that nobody wrote, and an interrupt.
"""

from __future__ import annotations

import struct
import time

import pytest

from rig import config, witness
from rig.keeper import Keeper, state
from rig.lab import Lab
from rig.machine import Machine
from rig.topologies import KEPT
from rig.topology import Topology, nic, root_port

ERRORS, COR_STATUS, BAD_TLP = 0x0001, 0x10, 1 << 6
EXPRESS_STATUS = 0x0A


def inject(machine: Machine, id: str, correctable: int) -> None:
    """struct aer_error_inj"""
    domain, bus, rest = machine.topology.bdf[id].split(":")
    slot, function = rest.split(".")
    what = struct.pack("<BBBx7I", int(bus, 16), int(slot, 16), int(function), 0, correctable,
                       0, 0, 0, 0, int(domain, 16))
    octal = "".join(f"\\{byte:03o}" for byte in what)
    machine.sh(f"printf '{octal}' >/dev/aer_inject")


@pytest.mark.console("PCIe Bus Error: severity=Correctable", r"device \[.*error status",
                     r"\[ *6\] BadTLP", "aer_inject")
def test_correctable_error_before_the_claim_is_acknowledged(vm: Lab, variant: str) -> None:
    machine = vm(Topology(root_port("rp0", nic(KEPT))), variant=variant)
    keeper = Keeper(machine)
    keeper.preserve()
    machine.kexec()
    space = config.read(machine, keeper.bdf)
    errors, express = space.extended(ERRORS), space.capability(config.EXPRESS)
    assert errors is not None and express is not None
    began = time.time()
    inject(machine, KEPT, BAD_TLP)
    machine.sh("until dmesg | grep -q BadTLP; do sleep 0.1; done")
    machine.sh("sleep 1")
    # What was shown is gone: the write was not dropped. That the laboratory's guards counted
    # nothing is looked at in the end.
    assert not config.read(machine, keeper.bdf).get(errors + COR_STATUS, 4) & BAD_TLP
    assert {w.offset for w in witness.read(machine).writes(KEPT, 2) if w.time > began} <= {
        express + EXPRESS_STATUS}
    assert state(machine, KEPT) == "incoming"
    keeper.take_back()


def test_control_acknowledgement_by_another_is_dropped(vm: Lab) -> None:
    """The same register, and nobody who handles an error of the device: the guard counts."""
    vm.expect_drops()
    machine = vm(Topology(root_port("rp0", nic(KEPT))))
    keeper = Keeper(machine)
    keeper.preserve()
    machine.kexec()
    errors = config.read(machine, keeper.bdf).extended(ERRORS)
    assert errors is not None and not machine.drops()
    config.write(machine, keeper.bdf, errors + COR_STATUS, BAD_TLP.to_bytes(4, "little"))
    assert machine.drops() == {keeper.bdf: 1}
    assert errors + COR_STATUS not in {w.offset for w in witness.read(machine).writes(KEPT, 2)}
