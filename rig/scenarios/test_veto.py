# SPDX-License-Identifier: GPL-2.0
"""A tenant who keeps the host from being updated, or fills its log, does so for a while only."""

from __future__ import annotations

import time

import pytest

from rig import console, witness
from rig.agent import Agent
from rig.keeper import attribute, state
from rig.lab import Lab
from rig.machine import Machine
from rig.topology import Topology, edu, pci_bridge, root_port
from rig.untouched import bar

MASTER = 0x4
TRIES = {"release": 60, "debug": 240}
REFUSED = "is refused: a preserved device is here or below"
V1, V2 = "0x4c550001", "0x4c550002"
PARAMETERS = "/sys/module/pci_liveupdate/parameters"


@pytest.mark.console(console.ASLEEP, console.NO_FREEZE)
def test_session_that_cannot_be_frozen_is_discarded(vm: Lab, variant: str) -> None:
    machine = vm(Topology(root_port("rp0", edu("mine")), root_port("rp1", edu("its"))),
                 variant=variant)
    mine, its = Agent(machine, "mine").start().take("mine"), Agent(machine, "its").start()
    its.take("its")
    for agent in (mine, its):
        agent.set_command(agent.name, MASTER)
        agent.preserve(agent.name)
    # What a daemon does that gives sessions away: it keeps a descriptor.
    its.do("dup kept s", "low-power its enter")
    assert machine.load().rc == 0
    # Control: without it nobody gets to the next kernel.
    refused = machine.jump()
    assert refused is not None and refused.json()["errno"] == "EBUSY"
    its.do("discard kept")
    assert [state(machine, id) for id in ("mine", "its")] == ["preserved", "none"]
    assert its.refused("preserve s 2 its") == "ESHUTDOWN"
    its.do("discard kept", "low-power its exit")
    assert machine.jump() is None
    mine.take_back("mine", finish=False)
    assert mine.refused("discard s") == "EINVAL"        # it is not outgoing
    mine.finish()
    # It is the other's that was stopped.
    trace = witness.read(machine)
    assert trace.cleared_master("its", 1, shutdown=True)
    assert not trace.cleared_master("mine", 1, shutdown=True)
    assert not trace.cleared_master("mine", 2)


class Told:
    """How often the log says something, while it is tried over and over again."""

    def __init__(self, machine: Machine, text: str, tries: int) -> None:
        self.machine, self.text, self.tries, self.began = machine, text, tries, time.time()

    def is_little(self) -> bool:
        """Ten times in five seconds; control: it is told."""
        told = int(self.machine.sh(f"dmesg | grep -c '{self.text}'").out)
        return 0 < told <= 10 * (1 + (time.time() - self.began) // 5) < self.tries


@pytest.mark.console(console.REFUSED, console.LOST, "Live Update: cannot be preserved: that takes")
def test_refusals_do_not_fill_the_log(vm: Lab, variant: str) -> None:
    machine = vm(Topology(root_port("rp0", edu("edu0"))), variant=variant)
    tries = TRIES[variant]
    agent = Agent(machine).start().take("edu0")
    machine.sh(f"echo {V1} >{PARAMETERS}/abi_newest; echo {V2} >{PARAMETERS}/abi_oldest")
    told = Told(machine, "cannot be preserved: that takes version", tries)
    agent.do("session s vm0", "preserve s 1 edu0-ram")
    for answer in agent.attempt(*["preserve s 2 edu0"] * tries):
        assert answer["errno"] == "EOPNOTSUPP", answer
    assert told.is_little()
    machine.sh(f"echo {V1} >{PARAMETERS}/abi_oldest; echo {V2} >{PARAMETERS}/abi_newest")

    agent.do("preserve s 2 edu0")
    told = Told(machine, REFUSED, tries)
    for answer in agent.attempt(*["hot-reset edu0"] * tries):
        assert answer["errno"] == "EBUSY", answer
    assert told.is_little()

    start, _ = bar(machine, machine.topology.bdf["edu0"])
    machine.kexec(extra=f"memmap=4K#{start:#x}")
    agent.start().do("retrieve-session s vm0")
    told = Told(machine, "cannot be retrieved: it is gone, or another", tries)
    for answer in agent.attempt(*["retrieve s 2 device edu0"] * tries):
        assert answer["errno"] == "ENODEV", answer
    assert told.is_little()


@pytest.mark.console(*console.UNBINDING, "cannot be preserved: buses are being scanned or devices")
def test_removal_that_hangs_blocks_nobody_else(vm: Lab, variant: str) -> None:
    """Whoever has the removed device open lets the request pass. Who asks for the same removal
    meanwhile is told that there is nothing left to remove."""
    machine = vm(Topology(root_port("rp0", edu("mine")),
                          root_port("rp1", pci_bridge("br0", edu("beside"), edu("its")))),
                 variant=variant)
    mine, its = Agent(machine, "mine").start().take("mine"), Agent(machine, "its").start()
    its.take("its", "beside")
    remove = attribute(machine, "rp1", "remove")
    for who in ("first", "second"):
        machine.sh(f"(echo 1 >{remove}; echo $? >/tmp/removed-{who}) >/tmp/said-{who} 2>&1 &")
        time.sleep(1)
    mine.preserve("mine")
    assert state(machine, "mine") == "preserved"
    # Control: what is removed next, when that has come to its end, cannot be.
    its.do("session s its")
    assert its.refused("preserve s 2 beside") == "EBUSY"
    mine.do("close s")
    its.do("quit")
    machine.sh("while ! test -e /tmp/removed-first -a -e /tmp/removed-second; do sleep 0.1; done")
    assert machine.sh("cat /tmp/removed-first").out.strip() == "0"
    assert "No such device" in machine.sh("cat /tmp/said-second").out
