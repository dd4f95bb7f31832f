# SPDX-License-Identifier: GPL-2.0
"""DMA runs only where nothing translates it, in either kernel."""

from __future__ import annotations

import time

import pytest

from rig import console, topology, witness
from rig.lab import Lab
from rig.machine import LIVE_UPDATE, Machine
from rig.receiver import Receiver

ON = "intel_iommu=on iommu.passthrough=0"
COMMAND, MASTER, INTX_DISABLE = 0x4, 0x4, 0x400


def update(vm: Lab, variant: str, incoming: str) -> Receiver:
    """A live update out of a kernel without IOMMU; the receiver is not resumed yet."""
    machine = vm(topology.plain(), variant=variant, iommu=True,
                 cmdline=f"{LIVE_UPDATE} intel_iommu=off")
    receiver = Receiver(machine)
    receiver.start()
    receiver.sender.start()
    time.sleep(1)
    receiver.preserve()
    machine.kexec(extra=incoming)
    return receiver


@pytest.mark.console(console.UNIT_OFF)
def test_iommu_switched_on_by_the_incoming_kernel_does_not_stop_dma(vm: Lab, variant: str) -> None:
    receiver = update(vm, variant, ON)
    receiver.resume()
    time.sleep(1)
    receiver.ctl("finish")
    sent, stats = receiver.settle()
    assert (stats["distinct"], stats["lost"]) == (sent, 0)
    trace = witness.read(receiver.machine)
    assert trace.faults() == []
    assert len(trace.dma_after_jump(ring=receiver.ring)) > 250
    receiver.ctl("quit")


@pytest.mark.console(console.DMA_FAULT)
def test_control_forgotten_verdict_stops_dma(vm: Lab, variant: str) -> None:
    """With the verdict forgotten on purpose the unit translates: faults."""
    receiver = update(vm, variant, f"{ON} pci_liveupdate.break=2")
    time.sleep(2)
    assert witness.read(receiver.machine).faults(boot=2)


def test_control_iommu_is_really_on_in_the_incoming_kernel(vm: Lab) -> None:
    machine = vm(topology.plain(), iommu=True, cmdline=f"{LIVE_UPDATE} intel_iommu=off")
    assert machine.run("ls /sys/class/iommu/dmar0").rc != 0
    machine.kexec(extra=ON)
    machine.sh("ls /sys/class/iommu/dmar0")


def translated(vm: Lab, variant: str, more: str = "") -> Machine:
    """A live update of a device for which an IOMMU translates in both kernels."""
    machine = vm(topology.plain(), variant=variant, iommu=True,
                 cmdline=f"{LIVE_UPDATE} {ON} {more}")
    bdf = machine.topology.bdf["nic0"]
    machine.json(f"pci_cfg bind {bdf}")
    machine.sh(f"PCI_LIVEUPDATE_BDF={bdf} pci_liveupdate_test -s 1")
    machine.kexec()
    return machine


def test_iommu_on_in_both_kernels_pauses_the_device(vm: Lab, variant: str) -> None:
    machine = translated(vm, variant)
    trace = witness.read(machine)
    # INTx is turned off, then Bus Master, and nothing else is written to it.
    assert trace.cleared_master("nic0", boot=1, shutdown=True)
    writes = trace.writes("nic0", 1, shutdown=True)
    assert [(w.offset, w.value & (INTX_DISABLE | MASTER)) for w in writes] == [
        (COMMAND, INTX_DISABLE | MASTER), (COMMAND, INTX_DISABLE)]
    assert trace.faults() == []
    # The owner gets it back all the same.
    bdf = machine.topology.bdf["nic0"]
    machine.sh(f"PCI_LIVEUPDATE_BDF={bdf} pci_liveupdate_test -s 2")


@pytest.mark.console(console.UNIT_OFF)
def test_control_device_that_is_not_paused_keeps_bus_master(vm: Lab, variant: str) -> None:
    """With the pause left out on purpose."""
    machine = translated(vm, variant, "pci_liveupdate.break=4")
    assert witness.read(machine).cleared_master("nic0", boot=1, shutdown=True) == []
