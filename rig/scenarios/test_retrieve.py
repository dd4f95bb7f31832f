# SPDX-License-Identifier: GPL-2.0
"""A retrieve that fails for a reason that passes works when it has passed."""

from __future__ import annotations

import pytest

from rig import console, witness
from rig.agent import Agent
from rig.lab import Lab
from rig.topology import Topology, edu, root_port

MASTER, LIVENESS = 0x4, 0x04
MORE = 30       # places where there may be no memory
FILES = 24      # of memory, each of which misses another allocation


@pytest.mark.console(*console.NO_ROOM)
def test_no_open_files_left(vm: Lab, variant: str) -> None:
    machine = vm(Topology(root_port("rp0", edu("edu0"))), variant=variant)
    agent = Agent(machine).start().take("edu0")
    agent.set_command("edu0", MASTER)
    agent.poke("edu0-ram", 0, b"kept")
    agent.preserve("edu0")
    machine.kexec()
    machine.json(f"pci_cfg bind {machine.topology.bdf['edu0']}")
    agent.start().do("retrieve-session s vm0")
    for _ in range(2):
        assert agent.refused("no-files retrieve s 1 memory edu0-ram") == "ENFILE"
        assert agent.refused("no-files retrieve s 2 device edu0") == "ENFILE"
    # Control: and with the limit lifted nothing has come of it.
    agent.do("retrieve s 1 memory edu0-ram", "retrieve s 2 device edu0", "bind edu0",
             "attach edu0", "map edu0 edu0-ram", "finish s", "close s")
    assert agent.peek("edu0-ram", 0, 4) == b"kept"
    agent.write("edu0", LIVENESS, 0x77)
    assert agent.read("edu0", LIVENESS) == ~0x77 & 0xFFFFFFFF
    assert witness.read(machine).resets("edu", machine.jumped_at[0]) == []
    assert not witness.read(machine).cleared_master("edu0", 2)


@pytest.mark.debug
@pytest.mark.console(*console.NO_ROOM)
def test_no_memory_for_a_while(vm: Lab) -> None:
    """Wherever it is missing for the device. Faults are what the debug kernel alone injects."""
    vm.injects_faults = True
    machine = vm(Topology(root_port("rp0", edu("edu0"))), variant="debug")
    agent = Agent(machine).start().take("edu0")
    agent.set_command("edu0", MASTER)
    agent.preserve("edu0")
    for n in range(FILES):
        agent.do(f"memory m{n} 2", f"fill m{n} 0 64 {n + 1}", f"preserve s {10 + n} m{n}")
    machine.kexec()
    machine.sh("for f in failslab fail_page_alloc; do cd /sys/kernel/debug/$f && "
               "echo N >ignore-gfp-wait && echo 0 >verbose || exit 1; done")
    machine.json(f"pci_cfg bind {machine.topology.bdf['edu0']}")
    agent.start().do("retrieve-session s vm0")
    for nth in range(1, MORE):
        answer = agent.attempt(f"fail-nth {nth} retrieve s 2 device edu0")[0]
        if answer["rc"] >= 0:
            break
        assert answer["injected"] and answer["errno"] == "ENOMEM", answer
    # Control: there were such places, and an end to them.
    assert 1 < nth < MORE - 1
    # Memory that has begun to be restored is another matter: its failure is told again. Before,
    # and where the kernel can do without an allocation, nothing is lost.
    again = final = 0
    for n in range(FILES):
        retrieve = f"retrieve s {10 + n} memory m{n}"
        failed = agent.attempt(f"fail-nth {n + 1} {retrieve}")[0]
        if not failed["injected"]:
            break
        if failed["rc"] < 0:
            told = agent.attempt(retrieve)[0]
            if told["rc"] < 0:
                assert told["errno"] == failed["errno"], (failed, told)
                final += 1
                continue
            again += 1
        assert agent.peek(f"m{n}", 0, 64) == bytes([n + 1]) * 64
    assert again and final
    agent.do("finish s", "close s")
    assert witness.read(machine).cleared_master("edu0", 2)
