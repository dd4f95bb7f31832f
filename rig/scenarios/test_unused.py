# SPDX-License-Identifier: GPL-2.0
"""Without the option, or with nothing preserved, a boot is the stock kernel's boot."""

from __future__ import annotations

import pytest

from rig import topology, witness
from rig.lab import Lab
from rig.machine import Machine
from rig.receiver import Receiver

Writes = dict[str, list[tuple[int, int]]]


def written(machine: Machine, boot: int, shutdown: bool = False) -> Writes:
    """What each device of the topology was written in a kernel's boot, in order."""
    trace = witness.read(machine)
    until = machine.booted_at[boot - 1] if not shutdown else float("inf")
    return {id: [(w.offset, w.value) for w in trace.writes(id, boot, shutdown) if w.time < until]
            for id in machine.topology.bdf}


def boots(vm: Lab, variant: str) -> list[Writes]:
    """First boot, shutdown and second boot of a variant, nothing preserved."""
    machine = vm(topology.demo(), variant=variant)
    machine.kexec()
    return [written(machine, 1), written(machine, 1, shutdown=True), written(machine, 2)]


@pytest.mark.parametrize("built", ["release", "off"])
def test_config_writes_equal_the_stock_kernels(vm: Lab, built: str) -> None:
    assert boots(vm, built) == boots(vm, "stock")


def test_control_config_writes_differ_when_a_device_is_preserved(vm: Lab) -> None:
    machine = vm(topology.demo())
    receiver = Receiver(machine)
    receiver.start()
    receiver.preserve()
    machine.kexec()
    stock = boots(vm, "stock")
    assert [written(machine, 1, shutdown=True), written(machine, 2)] != stock[1:]


def test_off_kernel_preserves_no_device(vm: Lab) -> None:
    machine = vm(topology.plain(), variant="off")
    receiver = Receiver(machine)
    receiver.start()
    assert receiver.try_ctl("preserve")["errno"] == "ENOENT"
