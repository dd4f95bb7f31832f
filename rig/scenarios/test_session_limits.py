# SPDX-License-Identifier: GPL-2.0
"""What LUO takes, the next kernel can read, and give back as it was."""

from __future__ import annotations

from rig.agent import PAGE, Agent
from rig.lab import Lab
from rig.topologies import KEPT
from rig.topology import Topology, edu, root_port

IN_A_BLOCK = 51         # sessions of 80 bytes in a page with a header of 16


def test_name_that_is_taken_leaves_no_room_behind(vm: Lab, variant: str) -> None:
    """A block for sessions that there are not would stop the next kernel."""
    machine = vm(Topology(root_port("rp0", edu(KEPT))), variant=variant)
    agent = Agent(machine).start().take(KEPT)
    agent.preserve(KEPT)
    agent.do(*(f"session s{n} other-{n}" for n in range(1, IN_A_BLOCK)))
    assert agent.refused("session late other-1") == "EEXIST"
    machine.kexec()
    agent.take_back(KEPT)


def test_memory_that_cannot_be_executed_comes_back_writable(vm: Lab, variant: str) -> None:
    """As all memfds are on many hosts: the seal against execution implies no other."""
    machine = vm(Topology(root_port("rp0", edu(KEPT))), variant=variant)
    machine.sh("echo 1 >/proc/sys/vm/memfd_noexec")
    agent = Agent(machine).start().take(KEPT)
    agent.poke(f"{KEPT}-ram", PAGE, b"before")
    agent.preserve(KEPT)
    machine.kexec()
    agent.take_back(KEPT)
    assert agent.peek(f"{KEPT}-ram", PAGE, 6) == b"before"
    agent.poke(f"{KEPT}-ram", PAGE, b"after")
    assert agent.peek(f"{KEPT}-ram", PAGE, 5) == b"after"
