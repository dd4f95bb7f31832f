# SPDX-License-Identifier: GPL-2.0
"""The rig itself: a kernel boots, a kexec hands memory over, the witnesses see it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rig import console, topology, witness
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


@pytest.mark.console(console.NO_KHO)
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


def test_every_warning_is_noticed(vm: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its level, in either kernel; and nothing that is listed, expected, or no warning."""
    words = [f"a test of level {level}" for level in range(8)]
    vm.expect_splat("a test of level|BUG: a test")
    machine = vm(topology.plain())

    def wrong(*expected: str) -> list[str]:
        found = console.read(machine.folder / "console.log", list(expected)).wrong
        return [re.sub(r"^<\d+>\[.*?\] ", "", line) for line in found]

    assert wrong() == []
    for boot in (1, 2):
        for level, text in enumerate(words):
            machine.sh(f"echo '<{level}>{text}' >/dev/kmsg")
        machine.sh("echo '<6>BUG: a test' >/dev/kmsg")
        assert wrong() == [*words[:5], "BUG: a test"] * boot
        assert wrong("BUG", "[34]$") == words[:3] * boot
        with monkeypatch.context() as patch:
            patch.setitem(console.LISTED, "a test of level [1-3]", "it is one")
            assert wrong() == [words[0], words[4], "BUG: a test"] * boot
        if boot == 1:
            machine.kexec()


@pytest.mark.parametrize("time", ["1@2.000003:", "1970-01-01T00:00:02.000003Z "])
def test_line_that_qemu_is_still_writing_is_not_read(tmp_path: Path, time: str) -> None:
    trace, line = tmp_path / "trace.log", f"{time}pci_cfg_write e1000e 01:00.0 @0x4 <- 0x107"
    for text, values in ((line[:-2], []), (line, []), (line + "\n", [0x107])):
        trace.write_text(text)
        writes = witness.Trace(trace, topology.plain()).phases[0].writes
        assert [(w.time, w.value) for w in writes] == [(2.000003, value) for value in values]


def test_trace_goes_on_where_it_was_read_to(tmp_path: Path) -> None:
    path, line = tmp_path / "trace.log", "1@{}.0:pci_cfg_write e1000e 01:00.0 @0x4 <- {:#x}\n"
    path.write_text(line.format(2, 1) + line.format(3, 2)[:-3])

    def values(trace: witness.Trace) -> list[int]:
        return [write.value for write in trace.writes_since(0)]

    trace = witness.Trace(path, topology.plain())
    before = trace.copy()
    path.write_text(line.format(2, 1) + line.format(3, 2) + line.format(4, 3))
    trace.go_on(until=3.5)
    assert values(trace) == [1, 2] == values(witness.Trace(path, topology.plain(), 3.5))
    assert values(before) == [1]
