# SPDX-License-Identifier: GPL-2.0
"""Whatever a user of VFIO does wrongly gets its errno, and spoils nothing."""

from __future__ import annotations

import time

import pytest
from conftest import FULL

from rig import console, witness
from rig.agent import Agent
from rig.keeper import attempt, attribute, rescan, state
from rig.lab import Lab
from rig.topology import Topology, edu, registers, root_port, sleeper

MASTER = 0x4
LIVENESS = 0x04
REMOVALS = 200 if FULL else 40


def tree() -> Topology:
    return Topology(root_port("rp0", edu("edu0", dma_mask="0xffffffffffffffff")),
                    root_port("rp1", registers("test0")), root_port("rp2", edu("edu1")))


def works(agent: Agent, id: str, value: int) -> bool:
    """Does an edu answer?"""
    agent.write(id, LIVENESS, value)
    return agent.read(id, LIVENESS) == ~value & 0xFFFFFFFF


@pytest.mark.console("vfio-noiommu device opened by user",
                     "cannot be preserved: (the file is not bound|it was opened)")
def test_misuse_before_the_kexec(vm: Lab, variant: str) -> None:
    vm.look_for_leaks = variant == "debug"
    machine = vm(tree(), variant=variant)
    agent = Agent(machine).start()
    bdf = machine.topology.bdf["edu0"]
    machine.json(f"pci_cfg bind {bdf}")
    agent.do("session s one", "session other two", "memory ram 4", f"open dev {bdf}")

    assert agent.refused("preserve s 1 dev") == "EINVAL"            # not bound to an iommufd
    agent.do("bind dev", "attach dev", "map dev ram", "dup again dev")
    agent.do("preserve s 1 dev")
    assert agent.refused("preserve s 1 dev") == "EEXIST"
    assert agent.refused("preserve s 2 dev") == "EBUSY"
    assert agent.refused("preserve s 2 again") == "EBUSY"
    assert agent.refused("preserve other 1 again") == "EBUSY"
    assert agent.refused("retrieve s 1 device mine") == "EINVAL"
    assert agent.refused("finish s") == "EINVAL"
    assert agent.refused("session third one") == "EEXIST"
    # The other has nothing in it, and the first is as it was.
    agent.do("close other")
    assert state(machine, "edu0") == "preserved"
    assert works(agent, "dev", 0x5A5A0001)
    # Closed without the duplicate the file lives on, and is preserved.
    agent.do("close dev")
    assert state(machine, "edu0") == "preserved"
    agent.do("close s")
    assert state(machine, "edu0") == "none"
    agent.do("close again")
    agent.do(f"open-group dev {bdf}")
    assert agent.refused("session s one") == ""
    assert agent.refused("preserve s 1 dev") == "EOPNOTSUPP"
    agent.do("close dev", "close s")
    # Control: now that nothing is preserved and nothing is open, all of it works.
    agent.do(f"open dev {bdf}", "bind dev", "attach dev", "session s one", "preserve s 1 dev",
             "close s")


@pytest.mark.console(*console.UNBINDING)
def test_removed_device_cannot_be_preserved(vm: Lab, variant: str) -> None:
    vm.look_for_leaks = variant == "debug"
    machine = vm(tree(), variant=variant)
    agent = Agent(machine).start().take("edu0")
    # Control: until its removal begins it can.
    agent.do("session s one", "preserve s 1 edu0", "close s", "session s two")
    machine.sh(f"(echo 1 >{attribute(machine, 'edu0', 'remove')}; echo gone >/tmp/removed) "
               ">/dev/null 2>&1 &")
    time.sleep(1)
    assert agent.refused("preserve s 1 edu0") == "ENODEV"
    agent.do("close edu0")
    machine.sh("for i in $(seq 100); do test -e /tmp/removed && exit 0; sleep 0.1; done; exit 1")
    agent.do("close s")


@pytest.mark.console(console.STOPPED)
def test_misuse_after_the_kexec(vm: Lab, variant: str) -> None:
    vm.look_for_leaks = variant == "debug"
    machine = vm(tree(), variant=variant)
    agent = Agent(machine).start().take("edu0", "test0")
    agent.set_command("edu0", MASTER)
    agent.write("edu0", LIVENESS, 0x77)
    agent.preserve("edu0", "test0")
    machine.kexec()
    agent.start()
    bdf = machine.topology.bdf["edu0"]

    # Nobody gets it past its session.
    agent.do("retrieve-session s vm0")
    assert agent.refused("retrieve s 2 device edu0") == "EAGAIN"    # vfio-pci has not bound it
    machine.json(f"pci_cfg bind {bdf}")
    assert agent.refused(f"open thief {bdf}") == "EBUSY"
    assert agent.refused(f"open-group thief {bdf}") == "EBUSY"
    assert agent.refused("retrieve-session again vm0") == "EINVAL"
    assert agent.refused("retrieve-session again vm1") == "ENOENT"
    assert agent.refused("retrieve s 9 device edu0") == "ENOENT"
    assert agent.refused("preserve s 9 s") == "EINVAL"
    # The device first and the memory after it is as good; again gives the same file.
    agent.do("retrieve s 2 device edu0", "retrieve s 2 device edu0-again", "bind edu0")
    assert agent.refused("bind edu0-again") == "EINVAL"
    agent.do("close edu0-again", "retrieve s 1 memory edu0-ram", "attach edu0",
             "map edu0 edu0-ram", "session next three")
    assert agent.refused("preserve next 1 edu0") == "EBUSY"         # not finished
    assert agent.read("edu0", LIVENESS) == ~0x77 & 0xFFFFFFFF
    assert witness.read(machine).resets("edu", machine.jumped_at[0]) == []

    # Finished with one of its files not retrieved: devices stop, whose memory is unknown.
    agent.do("finish s", "close s")
    assert not agent.command("edu0") & MASTER
    assert [state(machine, id) for id in ("edu0", "test0")] == ["none", "none"]
    trace = witness.read(machine)
    assert trace.resets("edu", machine.jumped_at[0])
    assert trace.resets("pci-testdev", machine.jumped_at[0])
    # Control: finished, it is like any other.
    agent.do("preserve next 1 edu0", "close next")


@pytest.mark.parametrize("how", ["not bound", "not attached", "nothing mapped", "mapped"])
@pytest.mark.console(console.STOPPED)
def test_finish_too_early_stops_the_device(vm: Lab, variant: str, how: str) -> None:
    """And not too early, the control, it does not."""
    machine = vm(tree(), variant=variant)
    agent = Agent(machine).start().take("edu0")
    agent.set_command("edu0", MASTER)
    agent.preserve("edu0")
    machine.kexec()
    machine.json(f"pci_cfg bind {machine.topology.bdf['edu0']}")
    steps = ["bind edu0", "attach edu0", "map edu0 edu0-ram"]
    count = {"not bound": 0, "not attached": 1, "nothing mapped": 2, "mapped": 3}[how]
    agent.start().do("retrieve-session s vm0", "retrieve s 1 memory edu0-ram",
                     "retrieve s 2 device edu0", *steps[:count], "finish s")
    trace = witness.read(machine)
    assert bool(trace.resets("edu", machine.jumped_at[0])) == (how != "mapped")
    assert bool(trace.cleared_master("edu0", 2)) == (how != "mapped")
    # Either way it is the user's from here on.
    agent.do("close s", *steps[count:])
    assert works(agent, "edu0", 0xABCD)


def test_preserving_and_freezing_while_it_is_reset(vm: Lab, variant: str) -> None:
    vm.look_for_leaks = variant == "debug"
    machine = vm(tree(), variant=variant, smp=2)
    agent = Agent(machine).start().take("edu0")
    agent.do("hammer edu0 edu0-ram 0x1000 reset")
    for _ in range(10):
        agent.preserve("edu0")
        assert state(machine, "edu0") == "preserved"
        agent.do("close s")
    agent.preserve("edu0")
    before = agent.hammered("edu0-ram")
    assert before["reset done"] > 0 and before["reset refused"] == 0
    machine.kexec()
    jumped = machine.jumped_at[0]
    agent.take_back("edu0")
    after = agent.hammered("edu0-ram")
    assert after["reset done"] >= before["reset done"] and after["other"] == 0, after
    assert works(agent, "edu0", 0x5EED)
    # Reset until the freeze and not in the next kernel; control: the witness has seen them.
    trace = witness.read(machine)
    assert [t for t in trace.resets("edu") if t < jumped]
    assert trace.resets("edu", trace.phases[-1].start) == []


def test_frozen_file_refuses_what_would_change_the_device(vm: Lab, variant: str) -> None:
    """A thread that does not stop asking: in the memory that is handed over are its results."""
    ids = [f"asleep{n}" for n in range(4)]
    machine = vm(Topology(root_port("rp0", edu("edu0", dma_mask="0xffffffffffffffff")),
                          *(root_port(f"rp{n}", sleeper(id)) for n, id in enumerate(ids, 1))),
                 variant=variant, smp=2)
    for id in ids:      # without them two rounds of the thread were all, or not even one
        machine.json(f"pci_cfg bind {machine.topology.bdf[id]}")
    agent = Agent(machine).start().take("edu0")
    agent.write("edu0", LIVENESS, 0x1234)
    agent.preserve("edu0")
    agent.do("hammer edu0 edu0-ram 0x1000")
    time.sleep(0.5)
    before = agent.hammered("edu0-ram")
    # Control: until the kexec nothing is refused.
    assert before["config done"] > 0 and before["irqs done"] > 0
    assert before["config refused"] == before["irqs refused"] == before["other"] == 0
    machine.kexec()
    agent.take_back("edu0")
    after = agent.hammered("edu0-ram")
    assert after["config refused"] > 0 and after["irqs refused"] > 0
    assert after["reset refused"] > 0 and after["reset done"] == 0
    assert after["export refused"] > 0 and after["export done"] == 0
    assert after["other"] == 0, after
    assert agent.read("edu0", LIVENESS) == ~0x1234 & 0xFFFFFFFF


# What a removal says that finds it opened.
@pytest.mark.console("No device request channel registered, blocked until released by user")
@pytest.mark.parametrize("variant", ["debug"])
def test_opens_race_with_the_removal_of_the_device(vm: Lab, variant: str) -> None:
    """KASAN tells of one that follows a device which is gone; that it would, test_stopped shows."""
    machine = vm(tree(), variant=variant, smp=2)
    bdf = machine.topology.bdf["edu0"]
    machine.json(f"pci_cfg bind {bdf}")
    machine.sh("(while ! test -e /tmp/enough; do for file in /dev/vfio/devices/*; do "
               "true <$file && echo >>/tmp/opened; done; done) >/dev/null 2>&1 &")
    for _ in range(REMOVALS):
        assert attempt(machine, attribute(machine, "edu0", "remove"), "1") == ""
        rescan(machine)
        machine.json(f"pci_cfg bind {bdf}")
    machine.sh("touch /tmp/enough")
    # Control: it was opened all the while.
    assert int(machine.sh("wc -l </tmp/opened").out) > REMOVALS
