# SPDX-License-Identifier: GPL-2.0
"""What people report of hosts: UEFI, ACPI on arm64, huge pages, interrupt remapping, watchdogs."""

from __future__ import annotations

import re
import time

import pytest

from conftest import FULL
from rig import topology, witness
from rig.keeper import attribute
from rig.lab import Lab
from rig.machine import Machine, MachineError
from rig.nic import Nic
from rig.receiver import Receiver
from test_live_update import assert_all_arrived, assert_untouched
from test_vfio_interrupts import (NOT_HELD, eventually, heard, nic_with_vectors,
                                  notified_after_jump, raise_in_the_gap)

UPDATES = 10 if FULL else 3


# --- UEFI: a chain of kexecs ---------------------------------------------------------------------

def memory_map(machine: Machine) -> list[str]:
    """What memory and address space are, as firmware and kernel say. Not where the kernel is."""
    lines = machine.sh("cat /proc/iomem; for r in /sys/firmware/efi/runtime-map/*; do "
                       "echo $(cat $r/type $r/phys_addr $r/virt_addr $r/num_pages); done").out
    return [line for line in lines.splitlines() if not re.search(" : Kernel | : KHO", line)]


def windows(machine: Machine) -> list[str]:
    """What the host bridges forward."""
    return re.findall("pci_bus .*root bus resource .*", machine.sh("dmesg").out)


def test_field_updates_in_a_row_under_uefi(vm: Lab) -> None:
    """Ten in a full run. That there is no new warning either is seen on the console."""
    machine = vm(topology.demo(), firmware="uefi", memory="1G", rate=100.0)
    receiver = Receiver(machine)
    receiver.start(ring=32768)
    receiver.sender.start()
    maps, bridges = [], [windows(machine)]
    for n in range(UPDATES):
        receiver.preserve()
        machine.kexec(("next", "kernel")[n % 2])
        receiver.resume()
        receiver.ctl("finish")
        maps.append(memory_map(machine))
        bridges.append(windows(machine))
    assert_all_arrived(receiver)
    assert_untouched(machine)
    receiver.ctl("quit")
    assert machine.run("test -d /sys/firmware/efi/runtime-map").rc == 0
    assert maps == maps[:1] * UPDATES
    assert len(bridges[0]) > 3 and bridges == bridges[:1] * (UPDATES + 1)
    # Control: a kernel that sees it differently is noticed.
    machine.kexec(extra="memmap=64K$0x20000000 pci=nocrs")
    assert memory_map(machine) != maps[0]
    assert windows(machine) != bridges[0]


# --- arm64 under ACPI ----------------------------------------------------------------------------

@pytest.mark.parametrize("smmu", [False, True], ids=["no-smmu", "smmu"])
def test_field_arm64_under_acpi(vm: Lab, smmu: bool) -> None:
    """The IORT is there for the ITS, too; only one with an SMMU in it is an IOMMU."""
    machine = vm(topology.plain(), arch="arm64", firmware="uefi", iommu=smmu)
    assert machine.run("test -e /sys/firmware/acpi/tables/IORT").rc == 0
    if smmu:
        bdf = machine.topology.bdf["nic0"]
        machine.json(f"pci_cfg bind {bdf}")
        machine.sh(f"PCI_LIVEUPDATE_BDF={bdf} pci_liveupdate_test -s 1")
        assert machine.sh(f"cat {attribute(machine, 'nic0', 'liveupdate/dma')}").out == "paused\n"
        machine.kexec()
        assert witness.read(machine).cleared_master("nic0", boot=1, shutdown=True)
        return
    receiver = Receiver(machine)
    receiver.start()
    receiver.sender.start()
    receiver.preserve()
    assert machine.sh(f"cat {attribute(machine, 'nic0', 'liveupdate/dma')}").out == "untranslated\n"
    machine.kexec()
    receiver.resume()
    receiver.ctl("finish")
    assert_all_arrived(receiver)
    assert_untouched(machine)
    receiver.ctl("quit")
    # Its tables are the old kernel's, which nobody else gets (test_gic.py).
    console = (machine.folder / "console.log").read_text(errors="replace")
    assert "Booted with LPIs enabled" not in console


# --- huge pages ----------------------------------------------------------------------------------

@pytest.mark.parametrize("pages", [5, 0], ids=["most-of-memory", "control"])
def test_field_huge_pages_leave_room_for_the_hand_over(vm: Lab, pages: int) -> None:
    machine = vm(topology.plain(), memory="8G", huge={"1G": pages}, cpu="qemu64,+pdpe1gb")
    count = "cat /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages"
    assert machine.sh(count).out.strip() == str(pages)
    receiver = Receiver(machine)
    receiver.start()
    receiver.sender.start()
    receiver.preserve()
    machine.kexec()
    receiver.resume()
    receiver.ctl("finish")
    assert_all_arrived(receiver)
    assert machine.sh(count).out.strip() == str(pages)
    receiver.ctl("quit")


# --- interrupt remapping -------------------------------------------------------------------------

@pytest.mark.parametrize("held", [True, False], ids=["held", "control"])
@pytest.mark.console(r"No irq handler for \d+\.\d+")
def test_field_held_interrupt_arrives_once_through_interrupt_remapping(vm: Lab, held: bool) -> None:
    """What is not held is sent into a table of the old kernel, and is lost."""
    agent = nic_with_vectors(vm, "x86_64", "release",
                             f"intel_iommu=off {'' if held else NOT_HELD}",
                             iommu={"intremap": "on"})
    machine = agent.machine
    machine.sh("dmesg | grep -q 'Enabled IRQ remapping'")
    Nic(agent, "nic0").acknowledge()
    agent.preserve("nic0")
    raise_in_the_gap(machine)
    agent.take_back("nic0", finish=False)
    machine.sh("dmesg | grep -q 'Enabled IRQ remapping'")
    assert notified_after_jump(machine)
    agent.do("arm nic0 msix 4")
    want = [0, 1, 0, 0] if held else [0, 0, 0, 0]
    assert eventually(agent, "nic0", "msix", [0, 1, 0, 0]) == want
    time.sleep(0.5)
    assert agent.do("counts nic0 msix")["counts"] == [0, 0, 0, 0]
    agent.finish()
    if held:
        assert machine.run("dmesg | grep -q 'INTR-REMAP.*fault'").rc != 0
        assert "vtd" not in (machine.folder / "qemu.log").read_text()
        assert heard(Nic(agent, "nic0"))


# --- a watchdog ----------------------------------------------------------------------------------

SECONDS = 8         # of the watchdog; it lets them pass twice
FED = f"watchdog -t 1 -T {SECONDS} /dev/watchdog0; sleep 1"
HANGS = "rdinit=/nowhere panic=0"


@pytest.mark.parametrize("locked", [True, False], ids=["locked", "control"])
@pytest.mark.console("rdinit=/nowhere", "/dev/root: Can't lookup", "VFS: ", "correct .root=. boot",
                     "List of all bdev filesystems", r"\]  ext[34]$", r"\] *$")
def test_field_watchdog_resets_a_kernel_that_hangs(vm: Lab, locked: bool) -> None:
    """If nothing can stop it. Otherwise its driver does before the jump, and nobody is watching."""
    vm.expect_splat("Kernel panic|Call Trace|i6300ESB timer .*: nowayout already set")
    machine = vm(topology.plain(), watchdog=True, first=f"i6300esb.nowayout={int(locked)}")
    receiver = Receiver(machine)
    receiver.start()
    receiver.sender.start()
    machine.sh(FED)
    receiver.preserve()
    machine.kexec(extra=f"i6300esb.nowayout={int(locked)}")
    # A kernel that is up in time feeds it.
    machine.sh(FED)
    receiver.resume()
    receiver.ctl("finish")
    if locked:
        time.sleep(2 * SECONDS + 1)
    assert_all_arrived(receiver)
    receiver.preserve()
    assert machine.load(extra=HANGS).rc == 0
    machine.leave()
    if locked:
        machine.wait_exit(60)
    else:
        with pytest.raises(MachineError, match="goes on"):
            machine.wait_exit(2 * SECONDS + 10)
