# SPDX-License-Identifier: GPL-2.0
"""The screen that firmware set up is nobody's console once its adapter is preserved."""

from __future__ import annotations

import time

import pytest

from rig.agent import Agent
from rig.keeper import Keeper
from rig.lab import Lab
from rig.machine import Machine
from rig.topologies import KEPT
from rig.topology import Device, Topology, edu, root_port
from rig.untouched import touched


def screens(machine: Machine) -> list[str]:
    """The frame buffers of firmware that this kernel offers to drivers."""
    return machine.sh("find /sys/bus/platform/devices -name '*framebuffer*'").out.split()


@pytest.mark.console("Live Update: cannot be preserved: it is the screen that")
def test_screen_in_text_mode_is_not_preserved(vm: Lab, variant: str) -> None:
    """The console of the next kernel would write to it before it knows."""
    machine = vm(Topology(root_port("rp0", Device("VGA", KEPT)), root_port("rp1", edu("edu0"))),
                 variant=variant)
    screen = machine.topology.bdf[KEPT]
    assert machine.sh(f"cat /sys/bus/pci/devices/{screen}/boot_vga").out.strip() == "1"
    agent = Agent(machine).start().take(KEPT, "edu0")
    agent.do("session s vm0")
    assert agent.refused(f"preserve s 1 {KEPT}") == "EOPNOTSUPP"
    assert "booted on, in text mode" in machine.sh("dmesg").out
    # Control: another device is.
    agent.do("preserve s 1 edu0")


# In a kernel without any driver for frame buffers, nobody takes it from firmware's.
@pytest.mark.console("BAR 0: can't reserve")
def test_screen_of_a_preserved_adapter_is_left_alone(vm: Lab, variant: str) -> None:
    machine = vm(Topology(root_port("rp0", Device("VGA", KEPT))), variant=variant,
                 firmware="uefi")
    assert screens(machine)
    # Control: kexec passes it on, as long as the adapter is this kernel's.
    machine.kexec()
    assert screens(machine)
    keeper = Keeper(machine)
    keeper.preserve()
    machine.kexec()
    assert not screens(machine)
    assert touched(machine, KEPT, time.time(), 3) == []
    keeper.take_back()
