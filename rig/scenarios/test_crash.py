# SPDX-License-Identifier: GPL-2.0
"""A crash kernel boots as always, whatever was preserved or handed over."""

from __future__ import annotations

import pytest

from rig import console, topology
from rig.lab import Lab
from rig.machine import LIVE_UPDATE, Machine
from rig.receiver import Receiver

pytestmark = pytest.mark.console(console.NO_KHO)

# The incoming kernel can only take its crash kernel's memory from KHO's scratch area, and that must
# be below 4 GiB, or a second piece is asked for there.
ROOM = f"{LIVE_UPDATE} crashkernel=384M kho_scratch=32M,64M,1G"
MEMORY = "2560M"


def crash(vm: Lab, machine: Machine) -> None:
    """Load a crash kernel, panic, and wait for it; nothing of ours may act in it."""
    vm.expect_splat("sysrq triggered crash|Kernel panic|Call Trace|Oops")
    loaded = machine.load_crash(extra="crashkernel=0")
    assert loaded.rc == 0, loaded.out
    machine.crash()
    machine.wait_boot(machine.boot + 1)
    machine.sh("test -e /proc/vmcore")


@pytest.mark.parametrize("preserve", [True, False], ids=["preserved", "control"])
def test_crash_kernel_of_the_outgoing_kernel_boots(vm: Lab, variant: str, preserve: bool) -> None:
    machine = vm(topology.plain(), variant=variant, cmdline=ROOM, memory=MEMORY)
    receiver = Receiver(machine)
    receiver.start()
    receiver.sender.start()
    if preserve:
        receiver.preserve()
    crash(vm, machine)


@pytest.mark.parametrize("retrieve", [True, False], ids=["retrieved", "unretrieved"])
def test_crash_kernel_of_the_incoming_kernel_boots(vm: Lab, variant: str, retrieve: bool) -> None:
    machine = vm(topology.plain(), variant=variant, cmdline=ROOM, memory=MEMORY)
    receiver = Receiver(machine)
    receiver.start()
    receiver.sender.start()
    receiver.preserve()
    machine.kexec()
    if retrieve:
        receiver.resume()
    crash(vm, machine)
