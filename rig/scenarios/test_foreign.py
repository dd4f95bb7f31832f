# SPDX-License-Identifier: GPL-2.0
"""Handed-over state that the incoming kernel cannot read, or may not look at, stops its boot."""

from __future__ import annotations

import pytest

from rig import console, topology
from rig.lab import Lab
from rig.machine import LIVE_UPDATE, Machine
from rig.receiver import Receiver

pytestmark = pytest.mark.console(console.NO_KHO)


def hand_over(vm: Lab, variant: str, first: str = LIVE_UPDATE) -> Machine:
    """A machine whose NIC is preserved and whose next kernel may be loaded."""
    vm.expect_splat("Kernel panic|Call Trace")
    machine = vm(topology.plain(), variant=variant, cmdline=first)
    receiver = Receiver(machine)
    receiver.start()
    receiver.preserve()
    return machine


def assert_stops(machine: Machine, extra: str = "") -> None:
    """The incoming kernel says why and reboots through the firmware; QEMU ends at the reset."""
    line = machine.load(extra=extra)
    assert line.rc == 0, line.out
    machine.leave()
    machine.wait_exit()
    log = (machine.folder / "console.log").read_text(errors="replace")
    assert "Kernel panic" in log


def test_foreign_abi_version_stops_the_boot(vm: Lab, variant: str) -> None:
    """A hook of kernels built for tests writes another version."""
    machine = hand_over(vm, variant, f"{LIVE_UPDATE} pci_liveupdate.abi_version=0x4c55ffff")
    assert_stops(machine)


def test_control_own_abi_version_boots(vm: Lab, variant: str) -> None:
    machine = hand_over(vm, variant, f"{LIVE_UPDATE} pci_liveupdate.abi_version=0x4c550001")
    machine.kexec()


@pytest.mark.parametrize("off", ["kho=off", "liveupdate=off"])
def test_blind_kernel_stops_its_boot(vm: Lab, variant: str, off: str) -> None:
    machine = hand_over(vm, variant)
    assert_stops(machine, off)


@pytest.mark.parametrize("off", ["kho=off", "liveupdate=off"])
def test_control_blind_kernel_boots_when_nothing_is_preserved(vm: Lab, off: str) -> None:
    machine = vm(topology.plain())
    machine.kexec(extra=off)
