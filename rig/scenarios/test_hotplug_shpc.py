# SPDX-License-Identifier: GPL-2.0
"""The button of a conventional slot: the Standard Hot-Plug Controller asks, as others do."""

from __future__ import annotations

import time

import pytest

from rig import console, topologies
from rig.fabric import Fabric
from rig.keeper import Keeper, driver
from rig.lab import Lab
from rig.machine import NATIVE_HOTPLUG, Machine
from rig.topologies import KEPT


def press(machine: Machine, id: str) -> None:
    """Which is how QEMU asks for a device."""
    machine.qmp("device_del", id=id)


def is_refused(machine: Machine) -> None:
    """A kernel waits five seconds for a second press before it acts."""
    machine.sh("until dmesg | grep 'removal is refused'; do sleep 0.1; done",
               timeout=60 * machine.slow)


def goes(machine: Machine, id: str) -> None:
    bdf = machine.topology.bdf[id]
    machine.sh(f"while test -e /sys/bus/pci/devices/{bdf}; do sleep 0.1; done",
               timeout=60 * machine.slow)


@pytest.mark.console(console.REFUSED)
def test_button_of_a_conventional_slot_is_refused(vm: Lab, variant: str) -> None:
    machine = vm(topologies.conventional(), variant=variant, args=NATIVE_HOTPLUG)
    keeper = Keeper(machine)
    keeper.preserve()
    fabric = Fabric(machine, KEPT)
    assert driver(machine, "br0") == "shpchp"
    press(machine, KEPT)
    is_refused(machine)
    assert machine.run(f"test -e /sys/bus/pci/devices/{keeper.bdf}").rc == 0
    # Control: the slot beside it has a button that works.
    press(machine, "edu0")
    goes(machine, "edu0")
    assert [str(d) for d in fabric.disturbed()] == []

    # The driver is none that takes over a running bridge: it comes when all is finished.
    machine.kexec()
    assert driver(machine, "br0") is None
    press(machine, KEPT)
    time.sleep(1)
    assert [str(d) for d in fabric.disturbed()] == []
    keeper.take_back()
    for _ in range(100):
        if driver(machine, "br0"):
            break
        time.sleep(0.1)
    assert driver(machine, "br0") == "shpchp"
    press(machine, KEPT)
    goes(machine, KEPT)
