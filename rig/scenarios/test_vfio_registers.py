# SPDX-License-Identifier: GPL-2.0
"""Registers of any device keep their values over a live update."""

from __future__ import annotations

import pytest
from conftest import KERNELS

from rig import witness
from rig.agent import Agent
from rig.keeper import state
from rig.lab import Lab
from rig.machine import Machine
from rig.topology import Topology, edu, registers, root_port

MASTER = 0x4

# edu (QEMU's docs/specs/edu.txt): what is written to "liveness" is read inverted
LIVENESS, FACTORIAL = 0x04, 0x08
# pci-testdev (docs/specs/pci-testdev.txt): writes of DATA at OFFSET are counted, until a reset
# ends the test
TEST, OFFSET, DATA, COUNT = 0x0, 0x4, 0x8, 0xC


def two_devices() -> Topology:
    """Each alone on its bus, so that VFIO can reset it: by a reset of the bus."""
    return Topology(root_port("rp0", edu("edu0")), root_port("rp1", registers("test0")))


def busy(machine: Machine) -> Agent:
    """Both devices at work."""
    agent = Agent(machine).start().take("edu0", "test0")
    for id in ("edu0", "test0"):
        agent.set_command(id, MASTER)
    agent.write("edu0", LIVENESS, 0x12345678)
    agent.write("edu0", FACTORIAL, 10)
    agent.write("test0", TEST, 0, width=1)
    at, data = agent.read("test0", OFFSET), agent.read("test0", DATA)
    for _ in range(5):
        agent.write("test0", at, data, width=1)
    return agent


def values(agent: Agent) -> dict[str, int]:
    """What both devices say."""
    return {"liveness": agent.read("edu0", LIVENESS), "factorial": agent.read("edu0", FACTORIAL),
            "test": agent.read("test0", OFFSET), "count": agent.read("test0", COUNT),
            "edu": agent.command("edu0") & MASTER, "testdev": agent.command("test0") & MASTER}


EXPECTED = {"liveness": 0xEDCBA987, "factorial": 3628800, "test": 0x800, "count": 5,
            "edu": MASTER, "testdev": MASTER}
DRIVERS = ("edu", "pci-testdev")


@pytest.mark.parametrize("arch,variant", KERNELS)
def test_registers_keep_their_values(vm: Lab, arch: str, variant: str) -> None:
    vm.look_for_leaks = variant == "debug"
    machine = vm(two_devices(), arch=arch, variant=variant)
    agent = busy(machine)
    assert values(agent) == EXPECTED
    agent.preserve("edu0", "test0")
    machine.kexec()
    agent.take_back("edu0", "test0", finish=False)
    assert values(agent) == EXPECTED
    agent.finish()
    assert values(agent) == EXPECTED
    trace = witness.read(machine)
    for id, driver in zip(("edu0", "test0"), DRIVERS):
        assert trace.resets(driver, machine.jumped_at[0]) == []
        assert trace.cleared_master(id, 1, shutdown=True) == trace.moved(id, 2) == []
        assert state(machine, id) == "none"
    # Control: once it is closed each is reset like any other, and the witness sees it.
    agent.do("close edu0", "close test0")
    for driver in DRIVERS:
        assert witness.read(machine).resets(driver, machine.jumped_at[0])


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_control_registers_lose_their_values_without_preserving(vm: Lab, arch: str) -> None:
    machine = vm(two_devices(), arch=arch)
    agent = busy(machine)
    assert values(agent) == EXPECTED
    machine.kexec()
    agent.start().take("edu0", "test0")
    assert (agent.read("test0", OFFSET), agent.read("test0", COUNT)) == (0, 0)
    assert agent.command("edu0") & MASTER == agent.command("test0") & MASTER == 0
    trace = witness.read(machine)
    for id, driver in zip(("edu0", "test0"), DRIVERS):
        assert trace.resets(driver, machine.jumped_at[0])
        assert trace.cleared_master(id, 1, shutdown=True)


def test_control_a_reset_after_the_live_update_is_noticed(vm: Lab, variant: str) -> None:
    machine = vm(two_devices(), variant=variant)
    agent = busy(machine)
    agent.preserve("edu0", "test0")
    machine.kexec()
    agent.take_back("edu0", "test0")
    agent.do("reset test0")
    assert agent.read("test0", COUNT) == 0
    assert witness.read(machine).resets("pci-testdev", machine.jumped_at[0])
