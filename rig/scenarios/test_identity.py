# SPDX-License-Identifier: GPL-2.0
"""Bus numbers, routing and Bus Master stay, whatever topology, command line and rescans say."""

from __future__ import annotations

import itertools
import os
import random
from typing import NamedTuple

import pytest

from conftest import FULL, sample
from rig import pairwise, topologies
from rig.fabric import Fabric
from rig.keeper import Keeper, functions, rescan
from rig.lab import Lab

SEED = int(os.environ["PCILU_SEED"])
KERNELS = [("x86_64", "release"), ("x86_64", "debug"), ("arm64", "release"), ("arm64", "debug")]
TREES = [*topologies.NAMED, *(f"random-{SEED + n}" for n in range(3 if FULL else 1))]
LINES = {
    "plain": "",
    "assign": "pci=assign-busses",
    "noari": "pci=noari",
    "acs": "pci=config_acs=1101x11@pci:1b36:000c",
    "hpbussize": "pci=hpbussize=5",
    "no-service": "pci=nomsi,noaer",
    "all": "pci=assign-busses,noari,hpbussize=3,config_acs=0000000@pci:1b36:000c",
}
# The first kernel's options differ, too: what the next one finds is then not its own default.
FIRST = {"plain": "", "noari": "pci=noari", "acs": "pci=config_acs=0011111@pci:1b36:000c"}
SOME_TREES = 6      # in a default run


class Case(NamedTuple):
    """A machine, the first kernel's options, and those of the kernels after it."""

    arch: str
    variant: str
    tree: str
    first: str
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "-".join((*self[:4], "+".join(self.lines)))


def everything() -> list[Case]:
    """On every kernel and tree, each line after each first one."""
    return [Case(*kernel, tree, first, tuple(x for line in LINES for x in (line, first)))
            for kernel, tree, first in itertools.product(KERNELS, TREES, FIRST)
            if topologies.suits(tree, kernel[0])]


def some() -> list[Case]:
    """Every two of architecture, line and some trees. What a kernel finds is its predecessor's."""
    lines: dict[tuple[str, str], list[str]] = {}
    trees = random.Random(SEED).sample(TREES, SOME_TREES)
    for arch, tree, line in pairwise.choose([case for case in itertools.product(
            ("x86_64", "arm64"), trees, LINES) if topologies.suits(case[1], case[0])], SEED):
        lines.setdefault((arch, tree), []).append(line)
    chance = random.Random(SEED)
    return [Case(arch, "release", tree, chance.choice(list(FIRST)), tuple(found))
            for (arch, tree), found in sorted(lines.items())]


def check(vm: Lab, case: Case) -> None:
    """For each line: preserve, update, rescan, finish, rescan."""
    machine = vm(topologies.named(case.tree), arch=case.arch, variant=case.variant,
                 first=FIRST[case.first])
    keeper = Keeper(machine)
    before = functions(machine)
    assert set(machine.topology.bdf.values()) <= set(before)
    for boot, line in enumerate(case.lines, 2):
        keeper.preserve()
        fabric = Fabric(machine, topologies.KEPT)
        rescan(machine)
        machine.kexec("next" if boot % 2 == 0 else "kernel", extra=LINES[line])
        assert functions(machine) == before, line
        rescan(machine)
        assert functions(machine) == before, line
        assert [str(d) for d in fabric.disturbed()] == [], line
        keeper.take_back()
        # The device is reset when its owner lets it go; nobody writes a bus number all the same.
        rescan(machine)
        assert functions(machine) == before, line
        assert "bus numbers" not in fabric.what(), line


@pytest.mark.timeout(4 * 3600)
@pytest.mark.drawn
@pytest.mark.parametrize("case", everything() if FULL else some(), ids=str)
def test_fabric_stays_as_it_was(vm: Lab, case: Case) -> None:
    check(vm, case)


@pytest.mark.skipif(FULL, reason="test_fabric_stays_as_it_was has it")
@pytest.mark.parametrize("case", sample([
    Case("x86_64", "debug", tree, first, (line,))
    for tree, first, line in itertools.product(TREES, FIRST, LINES)], 1), ids=str)
def test_fabric_stays_as_it_was_on_debug(vm: Lab, case: Case) -> None:
    check(vm, case)


@pytest.mark.parametrize("arch,line", [("arm64", ""), ("x86_64", "pci=assign-busses")])
def test_control_buses_are_numbered_anew(vm: Lab, arch: str, line: str) -> None:
    """With rule and guard left out: bus numbers are zeroed first, below a running device."""
    machine = vm(topologies.switched(), arch=arch)
    Keeper(machine).preserve()
    fabric = Fabric(machine, topologies.KEPT)
    machine.kexec(extra=f"{line} pci_liveupdate.break=0x88")
    zeroed = {d.id for d in fabric.disturbed()
              if d.what == "bus numbers" and not d.access.value & 0xFFFFFF}
    assert set(machine.topology.above(topologies.KEPT)) <= zeroed


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_routing_stays_as_it_was(vm: Lab, arch: str) -> None:
    """ARI forwarding is off and ACS on, which is neither kernel's default."""
    machine = vm(topologies.ari(), arch=arch, first=f"{FIRST['noari']} {FIRST['acs']}")
    Keeper(machine).preserve()
    before = functions(machine)
    fabric = Fabric(machine, topologies.KEPT)
    assert fabric.at_first("dn0", "ARI forwarding") == 0
    assert fabric.at_first("rp0", "ACS") == 0x1F
    machine.kexec()
    assert functions(machine) == before
    assert [str(d) for d in fabric.disturbed()] == []


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_control_routing_is_set_up_anew(vm: Lab, arch: str) -> None:
    """With adoption and guard left out on purpose."""
    machine = vm(topologies.ari(), arch=arch, first=FIRST["noari"])
    Keeper(machine).preserve()
    fabric = Fabric(machine, topologies.KEPT)
    machine.kexec(extra=f"{LINES['acs']} pci_liveupdate.break=0x90")
    assert {"ARI forwarding", "ACS"} <= fabric.what()
