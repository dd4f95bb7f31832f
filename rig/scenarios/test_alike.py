# SPDX-License-Identifier: GPL-2.0
"""Cheaper, and nothing else: the kernel makes of its PCI devices what the stock kernel does.

What is meant to differ: a function below a port that has no PME in any power state is not shown as
able to wake the machine (sysfs lacks its attributes for that).
"""

from __future__ import annotations

import re

import pytest
from conftest import FULL

from rig import alike, config, topologies
from rig.config import Config
from rig.lab import Lab
from rig.topology import Topology, edu, nic, root_port

WAKEUP = re.compile(r"(0000:\S+) (power/wakeup\S*|wakeup(/\S+)?)")
PME_SUPPORT = 0xF800     # of the PM capability's second word (PCI PM r1.2, sec 3.2.3)


def has_pme(space: Config) -> bool:
    at = space.capability(config.POWER)
    return at is not None and bool(space.get(at + 2, 2) & PME_SUPPORT)


def unexpected(ours: dict[str, str], stocks: dict[str, str]) -> dict[str, str]:
    """Differences but for the one that is meant."""
    found = {}
    for name, what in alike.differences(ours, stocks).items():
        meant = WAKEUP.fullmatch(name)
        if meant and what == "only stock":
            if not has_pme(Config(bytes.fromhex(stocks[f"{meant[1]} config space"]))):
                continue
        found[name] = what
    return found


@pytest.mark.matrix([(name,) for name in topologies.NAMED], 2)
def test_devices_are_those_of_the_stock_kernel(vm: Lab, case: tuple[str]) -> None:
    ours, stocks = (alike.look(vm(topologies.named(case[0]), variant=variant))
                    for variant in ("release", "stock"))
    assert unexpected(ours, stocks) == {}


@pytest.mark.skipif(not FULL, reason="a kernel of its own: make test-full")
@pytest.mark.parametrize("name", topologies.NAMED)
def test_arm64_devices_are_those_of_the_stock_kernel(vm: Lab, name: str) -> None:
    ours, stocks = (alike.look(vm(topologies.named(name), arch="arm64", variant=variant))
                    for variant in ("release", "stock"))
    assert unexpected(ours, stocks) == {}


def test_control_whatever_differs_is_told(vm: Lab) -> None:
    machine = vm(Topology(root_port("rp0", edu("edu0")), root_port("rp1", nic("nic0"))))
    port, function = machine.topology.bdf["rp0"], machine.topology.bdf["edu0"]
    before = alike.look(machine)
    assert unexpected(alike.look(machine), before) == {}
    machine.sh(f"echo enabled >/sys/bus/pci/devices/{port}/power/wakeup")
    config.write(machine, port, 0x3C, b"\x77")
    machine.sh(f"echo 1 >/sys/bus/pci/devices/{function}/remove")
    told = unexpected(alike.look(machine), before)
    assert f"{port} power/wakeup" in told and f"{port} config space" in told
    assert told[f"{function} irq"] == told[f"{function} event"] == "only stock"
    # A function that has PME, as none of QEMU's do, may not lose its attributes.
    able = machine.topology.bdf["nic0"]
    shown = {f"{able} power/wakeup": "disabled"}
    without = {name: what for name, what in before.items() if name not in shown}
    assert unexpected(without, without | shown) == {}
    space = bytearray.fromhex(before[f"{able} config space"])
    at = Config(space).capability(config.POWER)
    assert at is not None
    space[at + 3] |= PME_SUPPORT >> 8
    able_too = {f"{able} config space": space.hex()}
    assert list(unexpected(without | able_too, without | shown | able_too)) == list(shown)
