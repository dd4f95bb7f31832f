# SPDX-License-Identifier: GPL-2.0
"""Bus numbers, routing and Bus Master stay, whatever topology, command line and rescans say."""

from __future__ import annotations

import itertools
import os

import pytest

from conftest import FULL
from rig import topologies
from rig.fabric import Fabric
from rig.keeper import Keeper, functions, rescan
from rig.lab import Lab

SEED = int(os.environ["PCILU_SEED"])
KERNELS = [("x86_64", "release"), ("x86_64", "debug"), ("arm64", "release"), ("arm64", "debug")]
TREES = [*topologies.NAMED, *(f"random-{SEED + n}" for n in range(3))]
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

MATRIX = [(*kernel, tree, first, line) for kernel, tree, first, line
          in itertools.product(KERNELS, TREES, FIRST, LINES) if topologies.suits(tree, kernel[0])]
QUICK = [case for case in MATRIX if case[1] == "release"]
# A default run builds no debug kernel of arm64.
SLOW = [case for case in MATRIX if case[1] == "debug" and (FULL or case[0] == "x86_64")]


def check(vm: Lab, case: tuple[str, str, str, str, str]) -> None:
    """Preserve, update, rescan, finish, rescan."""
    arch, variant, tree, first, line = case
    machine = vm(topologies.named(tree), arch=arch, variant=variant, first=FIRST[first])
    keeper = Keeper(machine)
    keeper.preserve()
    before = functions(machine)
    assert set(machine.topology.bdf.values()) <= set(before)
    fabric = Fabric(machine, topologies.KEPT)
    rescan(machine)
    machine.kexec(extra=LINES[line])
    assert functions(machine) == before
    rescan(machine)
    assert functions(machine) == before
    assert [str(d) for d in fabric.disturbed()] == []
    keeper.take_back()
    # The device is reset when its owner lets it go; nobody writes a bus number all the same.
    rescan(machine)
    assert functions(machine) == before
    assert "bus numbers" not in fabric.what()


@pytest.mark.matrix(QUICK, 6)
def test_fabric_stays_as_it_was(vm: Lab, case: tuple[str, str, str, str, str]) -> None:
    check(vm, case)


@pytest.mark.matrix(SLOW, 1)
def test_fabric_stays_as_it_was_on_debug(vm: Lab, case: tuple[str, str, str, str, str]) -> None:
    check(vm, case)


@pytest.mark.parametrize("tree", ["switched", "deep"])
def test_fabric_of_arm64_stays_as_it_was(vm: Lab, tree: str) -> None:
    check(vm, ("arm64", "release", tree, "plain", "plain"))


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
