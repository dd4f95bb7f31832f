# SPDX-License-Identifier: GPL-2.0
"""What fails in the middle is undone: a freeze, and any step for which there is no memory."""

from __future__ import annotations

import time
from typing import Any

import pytest
from conftest import FULL

from rig import console, witness
from rig.agent import Agent
from rig.keeper import state
from rig.lab import Lab
from rig.machine import Machine
from rig.topology import Topology, edu, root_port

MASTER = 0x4

# edu (QEMU's docs/specs/edu.txt)
LIVENESS, RAISE, ACKNOWLEDGE = 0x04, 0x60, 0x64
SOURCE, TARGET, LENGTH, DMA = 0x80, 0x88, 0x90, 0x98
RUN, FROM_DEVICE = 1, 2
BUFFER = 0x40000


def edus(count: int) -> list[str]:
    return [f"edu{n}" for n in range(count)]


def tree(count: int) -> Topology:
    """Devices that find all memory, each alone on its bus."""
    return Topology(*(root_port(f"rp{n}", edu(id, dma_mask="0xffffffffffffffff"))
                      for n, id in enumerate(edus(count))))


def eventually(what: Any) -> bool:
    for _ in range(100):
        if what():
            return True
        time.sleep(0.1)
    return False


def works(agent: Agent, id: str, token: int) -> None:
    """Registers, DMA both ways, interrupts and config writes of an edu."""
    agent.write(id, LIVENESS, token)
    assert agent.read(id, LIVENESS) == ~token & 0xFFFFFFFF
    agent.poke(f"{id}-ram", 0, token.to_bytes(4, "little") * 4)
    at = agent.physical(id)
    for source, target, direction in ((at, BUFFER, 0), (BUFFER, at + 64, FROM_DEVICE)):
        for register, value in ((SOURCE, source), (TARGET, target), (LENGTH, 16),
                                (DMA, RUN | direction)):
            agent.write(id, register, value, width=8)
        assert eventually(lambda: not agent.read(id, DMA, width=8) & RUN)
    assert agent.peek(f"{id}-ram", 64, 16) == token.to_bytes(4, "little") * 4
    agent.do(f"arm {id} msi 1")
    agent.write(id, RAISE, 1)
    assert eventually(lambda: agent.do(f"counts {id} msi")["counts"] == [1])
    agent.write(id, ACKNOWLEDGE, 1)
    agent.do(f"disarm {id} msi", f"config-write {id} 0x3c 1 {token & 0xFF:#x}")
    assert agent.do(f"config-read {id} 0x3c 1")["value"] == token & 0xFF


@pytest.mark.console(console.ASLEEP, console.NO_FREEZE)
def test_failed_freeze_is_rolled_back(vm: Lab, variant: str) -> None:
    """At each position, in the first session and in the second; asleep: refused at freeze."""
    vm.look_for_leaks = variant == "debug"
    machine = vm(tree(3), variant=variant)
    agent, other = Agent(machine, "vm0").start(), Agent(machine, "vm1").start()
    agent.take("edu0", "edu1")
    other.take("edu2")
    owner = {"edu0": agent, "edu1": agent, "edu2": other}
    for id, its in owner.items():
        its.set_command(id, MASTER)
        works(its, id, 0x11)
    agent.preserve("edu0", "edu1")
    other.preserve("edu2")
    assert machine.load().rc == 0
    began = time.time()
    for number, (id, its) in enumerate(owner.items()):
        its.do(f"low-power {id} enter")
        refused = machine.jump()
        assert refused is not None and refused.json()["errno"] == "EBUSY"
        its.do(f"low-power {id} exit")
        for each, user in owner.items():
            assert state(machine, each) == "preserved"
            works(user, each, 0x21 + number)
    trace = witness.read(machine)
    assert trace.resets("edu", began) == []
    # Control: with all awake it works.
    assert machine.jump() is None
    agent.take_back("edu0", "edu1")
    other.take_back("edu2")
    for id, its in owner.items():
        assert its.command(id) & MASTER
        works(its, id, 0x31)


@pytest.mark.console("its memory has been exported as a dma-buf", console.NO_FREEZE)
def test_exported_memory_is_refused(vm: Lab, variant: str) -> None:
    """A dma-buf: others reach the device by it, and it is not handed over."""
    vm.look_for_leaks = variant == "debug"
    machine = vm(tree(1), variant=variant)
    agent = Agent(machine).start().take("edu0")
    agent.set_command("edu0", MASTER)
    agent.do("session s vm0", "export edu0 0 0x1000 bar")
    assert agent.refused("preserve s 1 edu0") == "EBUSY"
    assert state(machine, "edu0") == "none"
    agent.do("close bar", "preserve s 1 edu0-ram", "preserve s 2 edu0", "export edu0 0 0x1000 bar")
    assert machine.load().rc == 0
    refused = machine.jump()
    assert refused is not None and refused.json()["errno"] == "EBUSY"
    works(agent, "edu0", 0x5A)
    # Control: closed, it is in nobody's way; and the next kernel exports it as well.
    agent.do("close bar")
    assert machine.jump() is None
    agent.take_back("edu0")
    agent.do("export edu0 0 0x1000 bar")
    works(agent, "edu0", 0xA5)


RUNS = 1000 if FULL else 50
DEVICES = 8 if FULL else 4
KNOBS = "/sys/kernel/debug"


def arm_faults(machine: Machine) -> None:
    """Allocations may fail that wait for memory, too; what fails leaves no trace in the log."""
    machine.sh(f"for f in failslab fail_page_alloc; do echo N >{KNOBS}/$f/ignore-gfp-wait && "
               f"echo 0 >{KNOBS}/$f/verbose || exit 1; done; "
               f"echo N >{KNOBS}/fail_page_alloc/ignore-gfp-highmem && "
               f"echo 0 >{KNOBS}/fail_page_alloc/min-order")


def injected(answers: list[dict[str, Any]]) -> int:
    """How many faults there were. Nothing else may have failed, and only for lack of memory:

    which the handler of memory calls EINVAL (what was handed over) or ENOSPC (the file).
    """
    for answer in answers:
        if answer["rc"] < 0:
            assert answer["injected"], answer
            assert answer["errno"] in ("ENOMEM", "EINVAL", "ENOSPC"), answer
    return sum(answer.get("injected", False) for answer in answers)


def fail_preserves(agent: Agent, runs: int) -> int:
    """Preserve and unpreserve, with the first fault, with the second, and so on, round and round.

    The number of faults, and that there is an end to the places where one can be is a control.
    """
    total = nth = ends = 0
    while total < runs or not ends:
        nth += 1
        memory, device = agent.attempt("session s faults", f"fail-nth {nth} preserve s 1 edu0-ram",
                                       f"fail-nth {nth} preserve s 2 edu0", "close s")[1:3]
        count = injected([memory, device])
        total += count
        if not count:
            # Neither had so many places: both have worked.
            assert memory["rc"] == device["rc"] == 0
            nth, ends = 0, ends + 1
    return total


@pytest.mark.debug
@pytest.mark.timeout(7200)
def test_no_memory_at_any_step(vm: Lab) -> None:
    """Faults are what the debug kernel alone can inject. A thousand in a full run."""
    vm.look_for_leaks = vm.injects_faults = True
    machine = vm(tree(DEVICES), variant="debug")
    agent = Agent(machine).start().take(*edus(DEVICES), pages=2)
    agent.set_command("edu0", MASTER)
    arm_faults(machine)
    total, nth = 0, 1
    # In the outgoing kernel as often as one likes; in the incoming once a file.
    for _ in range(4 if FULL else 1):
        total += fail_preserves(agent, RUNS // (5 if FULL else 2))
        assert state(machine, "edu0") == "none"
        works(agent, "edu0", 0x44)
        for id in edus(DEVICES):
            agent.do(f"session {id}-s {id}", f"preserve {id}-s 1 {id}-ram",
                     f"preserve {id}-s 2 {id}")
        machine.kexec()
        arm_faults(machine)
        agent.start()
        for id in edus(DEVICES):
            machine.json(f"pci_cfg bind {machine.topology.bdf[id]}")
        for id in edus(DEVICES):
            total += injected(agent.attempt(f"fail-nth {nth} retrieve-session {id}-s {id}"))
            agent.attempt(f"retrieve-session {id}-s {id}")
            total += injected(agent.attempt(
                f"fail-nth {nth} retrieve {id}-s 1 memory {id}-ram",
                f"fail-nth {nth} retrieve {id}-s 2 device {id}"))
            total += injected(agent.attempt(f"fail-nth {nth} finish {id}-s"))
            agent.attempt(f"finish {id}-s", f"close {id}", f"close {id}-ram")
            agent.do(f"close {id}-s")
            assert state(machine, id) == "none"
            nth += 1
        # Each is as good as new.
        agent.do("quit")
        agent.start().take(*edus(DEVICES), pages=2)
        for id in edus(DEVICES):
            agent.set_command(id, MASTER)
            works(agent, id, 0x55)
    while total < RUNS:
        total += fail_preserves(agent, RUNS - total)
    assert total >= RUNS
