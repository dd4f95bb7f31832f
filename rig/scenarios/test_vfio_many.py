# SPDX-License-Identifier: GPL-2.0
"""Several devices, sessions and processes; several live updates in a row."""

from __future__ import annotations

import time

import pytest
from conftest import FULL

from rig import console, witness
from rig.agent import Agent
from rig.keeper import attempt, attribute, state
from rig.lab import Lab
from rig.machine import Machine
from rig.receiver import Receiver
from rig.topology import Topology, edu, nic, registers, root_port

MASTER = 0x4
LIVENESS = 0x04
BRIDGE_CONTROL, BUS_RESET = 0x3E, 0x40

# Who has which; each device is alone on its bus, so that a reset of one is seen as its own.
OWNERS = {"vm0": ["edu0", "edu1", "test0"], "vm1": ["edu2", "edu3", "test1"],
          "vm2": ["edu4", "test2"]}


def eight() -> Topology:
    ids = [id for owned in OWNERS.values() for id in owned]
    return Topology(*(root_port(f"rp{n}", edu(id) if id.startswith("edu") else registers(id))
                      for n, id in enumerate(ids)))


@pytest.mark.console(console.STOPPED, console.REFUSED)
def test_eight_devices_of_three_processes(vm: Lab, variant: str) -> None:
    """One takes all of its devices, one is killed when it has two, one never comes."""
    vm.look_for_leaks = variant == "debug"
    machine = vm(eight(), variant=variant)
    for name, ids in OWNERS.items():
        agent = Agent(machine, name).start().take(*ids)
        for number, id in enumerate(ids):
            agent.set_command(id, MASTER)
            if id.startswith("edu"):
                agent.write(id, LIVENESS, 0x100 + number)
        agent.preserve(*ids)
    machine.kexec()

    for ids in OWNERS.values():
        assert {state(machine, id) for id in ids} == {"incoming"}
    whole = Agent(machine, "vm0").take_back(*OWNERS["vm0"])
    half = Agent(machine, "vm1").take_back("edu2", "edu3", finish=False)
    assert [state(machine, id) for id in OWNERS["vm1"]] == ["claimed", "claimed", "incoming"]
    machine.sh(f"kill -9 {half.pid}; for i in $(seq 100); do "
               f"grep -q none {attribute(machine, 'test1', 'liveupdate/state')} && exit 0; "
               "sleep 0.1; done; exit 1")

    trace = witness.read(machine)
    for number, id in enumerate(OWNERS["vm0"]):
        assert trace.moved(id, 2) == trace.cleared_master(id, 2) == [], id
        assert whole.command(id) & MASTER
        if id.startswith("edu"):
            assert whole.read(id, LIVENESS) == ~(0x100 + number) & 0xFFFFFFFF
    # Control: of the process that was killed all were stopped and reset.
    for id in OWNERS["vm1"]:
        assert state(machine, id) == "none"
        assert trace.cleared_master(id, 2) and trace.moved(id, 2), id
    # Nobody but its owner gets what the third has left, until the next kernel stops it.
    for id in OWNERS["vm2"]:
        assert state(machine, id) == "incoming"
        assert attempt(machine, attribute(machine, id, "reset"), "1") == "EBUSY"
        assert trace.moved(id, 2) == trace.cleared_master(id, 2) == [], id
    machine.kexec()
    trace = witness.read(machine)
    for id in OWNERS["vm2"]:
        assert trace.cleared_master(id, 2, shutdown=True)
        assert state(machine, id) == "none"


def reset_span(machine: Machine, id: str) -> tuple[int, int]:
    """Between which two of all config writes a device was reset: its port says so, and it is
    written to again."""
    port, device = (machine.topology.bdf[name].split(":", 1)[1]
                    for name in (machine.topology.above(id)[0], id))
    writes = list(enumerate(witness.read(machine).all_writes(2)))
    began = next(n for n, w in writes if w.bdf == port and w.offset == BRIDGE_CONTROL
                 and w.value & BUS_RESET)
    return began, next(n for n, w in writes if n > began and w.bdf == device)


@pytest.mark.console(console.STOPPED)
def test_abandoned_devices_are_reset_at_the_same_time(vm: Lab, variant: str) -> None:
    """Those of one session. Control: sessions that are closed one after the other."""
    owners = {"vm0": ["edu0", "edu1", "edu2"], "vm1": ["edu3"], "vm2": ["edu4"]}
    machine = vm(Topology(*(root_port(f"rp-{id}", edu(id))
                            for ids in owners.values() for id in ids)), variant=variant, smp=2)
    for name, ids in owners.items():
        Agent(machine, name).start().take(*ids).preserve(*ids)
    machine.kexec()
    heir = Agent(machine, "heir").start()
    for name, ids in owners.items():
        heir.do(f"retrieve-session s {name}", "close s")
        assert {state(machine, id) for id in ids} == {"none"}

    together = sorted(reset_span(machine, id) for id in owners["vm0"])
    print(together)
    # Not all three in a slow kernel: one may be over before the next has begun.
    assert any(began < over for (_, over), (began, _) in zip(together, together[1:]))
    (_, first_over), (second_began, _) = (reset_span(machine, id) for id in ("edu3", "edu4"))
    assert first_over < second_began


ROUNDS = 50 if FULL else 5


@pytest.mark.timeout(3600)
def test_live_updates_in_a_row(vm: Lab, variant: str) -> None:
    """Fifty in a full run."""
    vm.look_for_leaks = variant == "debug"
    machine = vm(Topology(root_port("rp0", nic("nic0")), root_port("rp1", edu("edu0")),
                          root_port("rp2", registers("test0"))), variant=variant, rate=50.0)
    receiver, agent = Receiver(machine), Agent(machine).start()
    agent.take("edu0", "test0")
    agent.set_command("edu0", MASTER)
    agent.write("test0", 0x0, 0, width=1)
    receiver.start()
    receiver.sender.start()
    for number in range(1, ROUNDS + 1):
        agent.write("edu0", LIVENESS, number)
        agent.write("test0", 0x800, agent.read("test0", 0x8), width=1)
        receiver.preserve()
        agent.preserve("edu0", "test0")
        machine.kexec("next" if number % 2 else "kernel")
        receiver.resume()
        receiver.ctl("finish")
        agent.take_back("edu0", "test0")
        assert agent.read("edu0", LIVENESS) == ~number & 0xFFFFFFFF
        assert agent.read("test0", 0xC) == number
    time.sleep(1)
    sent, stats = receiver.settle()
    assert (stats["distinct"], stats["lost"], stats["duplicated"]) == (sent, 0, 0)
    trace = witness.read(machine)
    assert trace.boots() == ROUNDS + 1
    for id in ("nic0", "edu0"):
        assert [w for w in trace.cleared_master(id) if w.time > machine.jumped_at[0]] == []
    for driver in ("edu", "pci-testdev"):
        assert trace.resets(driver, machine.jumped_at[0]) == []
    # Control: closed, they are reset.
    receiver.ctl("quit")
    agent.do("close edu0", "close test0")
    for driver in ("edu", "pci-testdev"):
        assert witness.read(machine).resets(driver, machine.jumped_at[0])
