# SPDX-License-Identifier: GPL-2.0
"""The kernel tree's own tests of VFIO and of LUO pass with our kernel as with the stock one."""

from __future__ import annotations

import re

import pytest

from rig.lab import Lab
from rig.machine import Machine
from rig.topology import Topology, nic, root_port

TESTS = ("vfio_pci_device_test", "vfio_dma_mapping_test", "vfio_iommufd_setup_test")
RESULT = re.compile(r"^(not ok|ok) \d+ (\S+)(?: # (SKIP))?", re.M)


def results(machine: Machine, name: str) -> dict[str, str]:
    """What a test says of each of its cases."""
    out = machine.run(f"{name} {machine.topology.bdf['nic0']}").out
    found = {case: skipped or word for word, case, skipped in RESULT.findall(out)}
    assert found, out
    return found


def with_iommu(vm: Lab, variant: str) -> Machine:
    """The tests want a device behind an IOMMU."""
    machine = vm(Topology(root_port("rp0", nic("nic0"))), variant=variant, iommu=True,
                 cmdline="kho=on liveupdate=on intel_iommu=on iommu.passthrough=0")
    machine.json(f"pci_cfg bind {machine.topology.bdf['nic0']}")
    return machine


def test_vfio_selftests_pass_as_on_the_stock_kernel(vm: Lab) -> None:
    ours, stock = with_iommu(vm, "release"), with_iommu(vm, "stock")
    for name in TESTS:
        mine = results(ours, name)
        assert mine == results(stock, name)
        assert "not ok" not in mine.values() and "ok" in mine.values(), mine
    # Control: a test that cannot work says so.
    assert "not ok" in results(with_iommu_of_no_use(vm), TESTS[1]).values()


def with_iommu_of_no_use(vm: Lab) -> Machine:
    machine = vm(Topology(root_port("rp0", nic("nic0"))))
    machine.json(f"pci_cfg bind {machine.topology.bdf['nic0']}")
    return machine


def test_vfio_selftests_pass_on_the_debug_kernel(vm: Lab) -> None:
    machine = with_iommu(vm, "debug")
    for name in TESTS:
        found = results(machine, name)
        assert "not ok" not in found.values() and "ok" in found.values(), found


@pytest.mark.parametrize("name", ["luo_stress_sessions", "luo_stress_files"])
def test_stress_tests_of_luo_pass(vm: Lab, variant: str, name: str) -> None:
    machine = vm(Topology(), variant=variant)
    machine.sh(f"{name} -s 1")
    machine.kexec()
    assert "PASSED" in machine.sh(f"{name} -s 2").out
