# SPDX-License-Identifier: GPL-2.0
"""The rig itself: a kernel boots, a kexec hands memory over, the witnesses see it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rig import topology, witness
from rig.lab import Lab
from rig.machine import Machine

ARCHES = ["x86_64", "arm64"]


def handed_over(machine: Machine) -> bool:
    """Does this kernel have a hand-over from an earlier one?"""
    return machine.run("ls /sys/kernel/debug/kho/in/fdt").rc == 0


@pytest.mark.parametrize("arch", ARCHES)
def test_kexec_hands_over(vm: Lab, arch: str) -> None:
    machine = vm(topology.demo(), arch=arch)
    first = machine.release
    assert not handed_over(machine)
    assert machine.kexec() != first
    assert handed_over(machine)
    assert witness.read(machine).boots() == 2


def test_kexec_hands_nothing_over_with_kho_off(vm: Lab) -> None:
    machine = vm(topology.demo(), cmdline="kho=off")
    machine.kexec()
    assert not handed_over(machine)


def test_kexec_on_debug_kernel(vm: Lab) -> None:
    machine = vm(topology.demo(), variant="debug")
    machine.kexec()
    assert handed_over(machine)


def test_topology_is_where_it_should_be(vm: Lab) -> None:
    tree = topology.Topology(
        topology.root_port("rp0", topology.switch(
            "up0", topology.downstream("dn0", topology.nic("nic0")),
            topology.downstream("dn1", topology.nic("nic1")))),
        topology.root_port("rp1", topology.nic("nic2")))
    machine = vm(tree)
    for id, bdf in tree.bdf.items():
        assert machine.run(f"test -d /sys/bus/pci/devices/{bdf}").rc == 0, id
        assert len(witness.read(machine).writes(id, 1)) > 0, id


def test_splat_is_noticed(vm: Lab) -> None:
    machine = vm(topology.plain())
    vm.expect_splat("BUG: a test")
    assert witness.splats(machine.folder / "console.log") == []
    machine.sh("echo 'BUG: a test' >/dev/kmsg")
    assert len(witness.splats(machine.folder / "console.log")) == 1


@pytest.mark.parametrize("time", ["1@2.000003:", "1970-01-01T00:00:02.000003Z "])
def test_line_that_qemu_is_still_writing_is_not_read(tmp_path: Path, time: str) -> None:
    trace, line = tmp_path / "trace.log", f"{time}pci_cfg_write e1000e 01:00.0 @0x4 <- 0x107"
    for text, values in ((line[:-2], []), (line, []), (line + "\n", [0x107])):
        trace.write_text(text)
        writes = witness.Trace(trace, topology.plain()).phases[0].writes
        assert [(w.time, w.value) for w in writes] == [(2.000003, value) for value in values]
