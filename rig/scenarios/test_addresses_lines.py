# SPDX-License-Identifier: GPL-2.0
"""Addresses stay on every topology, whatever the incoming kernel's command line asks for.

One machine makes several live updates, each into a kernel with other options.
"""

from __future__ import annotations

import itertools
import os
import random
import time

import pytest

from conftest import FULL, KERNELS
from rig import config, pairwise, topologies
from rig.fabric import Fabric
from rig.keeper import Keeper, functions, rescan
from rig.lab import Lab
from rig.machine import Machine
from rig.topologies import KEPT
from rig.untouched import settings, touched

SEED = int(os.environ["PCILU_SEED"])
TREES = [*topologies.NAMED, *(f"random-{SEED + n}" for n in range(3))]
ASPM = "pcie_aspm=force pcie_aspm.policy=powersave"
OPTIONS = [["", "pci=realloc"], ["", "pci=assign-busses,realloc"],
           ["", "pci=resource_alignment={alignment}"],
           ["", "pci=pcie_bus_perf", "pci=pcie_bus_safe", "pci=pcie_bus_peer2peer"],
           ["", ASPM, "pcie_aspm=off"], ["", "pci=nocrs"], ["", "pci=noats"]]
ROWS = pairwise.choose([*itertools.product(*OPTIONS)], SEED)
PAIRWISE = [" ".join(filter(None, row)) for row in ROWS]
SINGLE = [option for values in OPTIONS for option in values if option]
JUMPS = 4       # of one machine
NEXT = ("kernel", "next")


def parts(lines: list[str]) -> list[list[str]]:
    """The lines of one machine each."""
    return [lines[n:n + JUMPS] for n in range(0, len(lines), JUMPS)]


def cases() -> list[tuple[str, str, str, list[str]]]:
    """Kernel, tree and command lines: everything, or one tree for each part of the pairwise rows.

    A debug kernel takes so long that a default run gives it only one line of a part.
    """
    if FULL:
        return [(*kernel, tree, lines) for kernel, tree, lines
                in itertools.product(KERNELS, TREES, parts(SINGLE + PAIRWISE))
                if topologies.suits(tree, kernel[0])]
    chance = random.Random(SEED)
    chosen = []
    for n, lines in enumerate(parts(PAIRWISE)):
        arch = ("x86_64", "arm64")[n % 2]
        trees = [tree for tree in TREES if topologies.suits(tree, arch)]
        chosen.append((arch, "release", chance.choice(trees), lines))
    return chosen + [("x86_64", "debug", chance.choice(TREES), [chance.choice(PAIRWISE)])]


CASES = cases()


def bars(machine: Machine) -> set[tuple[str, int]]:
    """Every BAR that has an address: its function and its number."""
    return {(dev["bdf"], bar["n"])
            for dev in machine.json("pci_cfg tree")["devices"] for bar in dev["bars"]
            if bar["n"] < 6 and int(bar["start"], 16)}


def aligned(machine: Machine) -> list[str]:
    """What an alignment is asked for: the kept device, the bridges above it, and a neighbour."""
    beside = [dev.id for dev in machine.topology.walk() if not dev.bridge and dev.id != KEPT]
    return [machine.topology.bdf[id]
            for id in (KEPT, *machine.topology.above(KEPT), *beside[:1])]


@pytest.mark.drawn
@pytest.mark.parametrize("case", CASES, ids=["-".join((*case[:3], str(n)))
                                             for n, case in enumerate(CASES)])
def test_command_lines_move_nothing(vm: Lab, case: tuple[str, str, str, list[str]]) -> None:
    arch, variant, tree, lines = case
    machine = vm(topologies.named(tree), arch=arch, variant=variant)
    keeper = Keeper(machine)
    for boot, line in enumerate(lines, 2):
        keeper.preserve()
        rescan(machine)
        before, assigned, set_up = functions(machine), bars(machine), settings(machine, KEPT)
        fabric = Fabric(machine, KEPT)
        # Larger than any BAR has it
        alignment = ";".join(f"2{n % 2}@{bdf}" for n, bdf in enumerate(aligned(machine)))
        machine.kexec(NEXT[boot % 2], extra=line.format(alignment=alignment))
        rescan(machine)
        machine.json(f"pci_cfg bind {keeper.bdf}")
        claimed = time.time()
        assert touched(machine, KEPT, claimed, boot) == [], line
        assert [str(d) for d in fabric.disturbed()] == [], line
        assert settings(machine, KEPT) == set_up, line
        assert functions(machine) == before, line
        # With an alignment, the neighbour may have become too large for windows that do not grow.
        lost = {bdf for bdf, _ in assigned - bars(machine)}
        assert lost <= ({aligned(machine)[-1]} if "alignment" in line else set()), line
        keeper.take_back()


def test_control_links_are_set_up_when_they_are_not_adopted(vm: Lab) -> None:
    """And what nobody sets up in QEMU's bridges is noticed if it is written to."""
    machine = vm(topologies.switched())
    Keeper(machine).preserve()
    fabric = Fabric(machine, KEPT)
    machine.kexec(extra=f"{ASPM} pci_liveupdate.break=0x2080")
    assert fabric.what() == {"Link Control"}
    port = machine.topology.bdf["dn1"]
    space = config.read(machine, port)
    express = space.capability(config.EXPRESS)
    assert express is not None
    for at, bits in ((express + 0x08, 0x10), (express + 0x18, 0x400)):
        config.write(machine, port, at, (space.get(at, 2) ^ bits).to_bytes(2, "little"))
    assert fabric.what() == {"Link Control", "Device Control", "slot power"}


def test_control_every_two_options_meet() -> None:
    wanted = set().union(*(pairwise.pairs(row) for row in itertools.product(*OPTIONS)))
    assert set().union(*(pairwise.pairs(row) for row in ROWS)) == wanted
    assert len(ROWS) < 20
    # Control: without one of them, some do not.
    assert set().union(*(pairwise.pairs(row) for row in ROWS[1:])) != wanted
