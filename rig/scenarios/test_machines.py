# SPDX-License-Identifier: GPL-2.0
"""What a machine can be given is there for its kernels, before and after a kexec."""

from __future__ import annotations

import re

import pytest

from rig import topology
from rig.lab import Lab
from rig.machine import LIVE_UPDATE, Machine, MachineError

FLTS, SMTS = 1 << 47, 1 << 43       # VT-d r4.0, sec 11.4.3


def succeeds(machine: Machine, checks: dict[str, str]) -> set[str]:
    """The names of the checks that succeed in the guest."""
    return {name for name, command in checks.items() if machine.run(command).rc == 0}


PC = {
    "CPUs": "test $(nproc) = 4",
    "five levels": "grep -qw la57 /proc/cpuinfo",
    "nodes": "grep -qx 0-1 /sys/devices/system/node/node0/cpulist && "
             "grep -q 'MemTotal: *[1-9]' /sys/devices/system/node/node1/meminfo",
    "1 GiB pages": "grep -qx 1 /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages",
    "2 MiB pages": "grep -qx 16 /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
    "interrupt remapping": "dmesg | grep -q 'Enabled IRQ remapping'",
    "watchdog": "test -c /dev/watchdog0",
}


@pytest.mark.parametrize("wanted", [True, False], ids=["all", "control"])
def test_pc_has_what_it_is_given(vm: Lab, wanted: bool) -> None:
    """All but UEFI, which the chain of updates in test_field_hosts.py has."""
    options = {"smp": 4, "cpu": "qemu64,+la57,+pdpe1gb", "nodes": 2,
               "huge": {"1G": 1, "2M": 16}, "iommu": {"intremap": "on"}, "watchdog": True,
               "memory": "4G"}
    machine = vm(topology.plain(), **(options if wanted else {}))
    assert succeeds(machine, PC) == (set(PC) if wanted else set())
    machine.kexec()
    assert succeeds(machine, PC) == (set(PC) if wanted else set())


ARM = {
    "ACPI": "test -e /sys/firmware/acpi/tables/IORT && test ! -e /proc/device-tree/pcie@10000000",
    "UEFI": "test -d /sys/firmware/efi",
    "ITS": "dmesg | grep -q 'ITS \\[mem 0x'",
    "CPUs": "test $(nproc) = 2",
}


@pytest.mark.parametrize("wanted", [True, False], ids=["all", "control"])
def test_arm64_has_what_it_is_given(vm: Lab, wanted: bool) -> None:
    # Not with nodes: AAVMF's tables tell of no node for its flash, and Linux believes none then.
    options = {"firmware": "uefi", "smp": 2}
    machine = vm(topology.plain(), arch="arm64", **(options if wanted else {}))
    # A machine with a device tree has an ITS as well.
    assert succeeds(machine, ARM) == (set(ARM) if wanted else {"ITS"})


def test_virtual_functions_of_igb_are_listed(vm: Lab) -> None:
    tree = topology.Topology(topology.root_port("rp0", topology.igb("igb0")))
    machine = vm(tree, needs="igb")
    bdf = tree.bdf["igb0"]
    functions = f"grep -lx 0x10ca /sys/bus/pci/devices/{bdf}/virtfn*/device 2>/dev/null | wc -l"
    machine.sh("echo 8086 10c9 >/sys/bus/pci/drivers/pci-pf-stub/new_id")
    # Control: none that nobody asked for.
    assert machine.sh(functions).out.strip() == "0"
    machine.sh(f"echo 3 >/sys/bus/pci/devices/{bdf}/sriov_numvfs")
    assert machine.sh(functions).out.strip() == "3"


@pytest.mark.parametrize("on", ["on", "off"])
def test_first_stage_tables_of_vt_d(vm: Lab, on: str) -> None:
    """With off as the control."""
    machine = vm(topology.plain(), iommu={"x-scalable-mode": "on", "x-flts": on},
                 cmdline=f"{LIVE_UPDATE} intel_iommu=on,sm_on")
    for boot in range(2):
        ecap = int(machine.sh("cat /sys/class/iommu/dmar0/intel-iommu/ecap").out, 16)
        assert (bool(ecap & SMTS), bool(ecap & FLTS)) == (True, on == "on")
        if not boot:
            machine.kexec()


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_machine_that_does_not_answer_leaves_its_registers(vm: Lab, arch: str) -> None:
    machine = vm(topology.plain(), arch=arch)
    machine.sh("true")
    log = machine.folder / "registers.log"
    assert not log.exists()
    with pytest.raises(MachineError, match="no answer"):
        machine.run("sleep 4", timeout=1)
    assert len(re.findall(r"^\s*(?:RIP|PC)=\w+", log.read_text(), re.M)) >= 2
