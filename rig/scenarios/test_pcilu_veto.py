# SPDX-License-Identifier: GPL-2.0
"""A tenant of pcilud that cannot be frozen: the operator is told who, and goes on without it."""

from __future__ import annotations

import pytest

from rig import console, witness
from rig.agent import Agent
from rig.lab import Lab
from rig.tools import ToolsMachine
from rig.topology import Topology, edu, root_port

MASTER = 0x4


def begin(machine: ToolsMachine, name: str, how: str) -> Agent:
    """A process with a session from pcilud, which keeps a copy."""
    agent = Agent(machine, name)
    agent.pid = machine.json(f"lend {how} {name} vfio_agent start {name}")["pid"]
    agent.do("inherit-session s")
    return agent


@pytest.mark.console(console.ASLEEP, console.NO_FREEZE)
def test_operator_goes_on_without_a_session_that_cannot_be_frozen(vm: Lab) -> None:
    tree = Topology(root_port("rp0", edu("mine")), root_port("rp1", edu("its")))
    machine: ToolsMachine = vm(tree, kind=ToolsMachine)
    for name in ("mine", "its"):
        agent = begin(machine, name, "create").take(name)
        agent.set_command(name, MASTER)
        agent.do(f"preserve s 1 {name}-ram", f"preserve s 2 {name}")
    agent.do("low-power its enter")
    machine.pcilu(f"load {machine.next()}")
    refused = machine.run("pcilu exec --no-systemd 2>&1")
    # Control: it was refused, and for that.
    assert refused.rc == 11 and "session its cannot be frozen" in refused.out
    machine.pcilu("discard --force its")
    assert machine.sessions() == {"mine": "outgoing"}
    assert set(machine.states()) == {machine.topology.bdf[id] for id in ("mine", "rp0")}
    assert agent.refused("preserve s 3 its") == "ESHUTDOWN"
    agent.do("low-power its exit")
    machine.exec()
    machine.json(f"pci_cfg bind {machine.topology.bdf['mine']}")
    mine = begin(machine, "mine", "retrieve")
    mine.do("retrieve s 1 memory mine-ram", "retrieve s 2 device mine", "bind mine",
            "attach mine", "map mine mine-ram", "finish s")
    trace, left = witness.read(machine), machine.jumped_at[0]
    stopped = {id for id in ("mine", "its")
               if any(left < w.time < machine.booted_at[1] for w in trace.cleared_master(id))}
    assert stopped == {"its"}
