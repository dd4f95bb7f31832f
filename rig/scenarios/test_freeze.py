# SPDX-License-Identifier: GPL-2.0
"""However many devices freeze, and whatever keeps a CPU busy: one wait serves all of them."""

from __future__ import annotations

import pytest

from rig import config, witness
from rig.agent import Agent
from rig.lab import Lab
from rig.machine import Machine
from rig.topology import Topology, edu

DEVICES = 8
CPUS = 2
MSI, MSI_FLAGS, MSI_ENABLE = 0x05, 2, 1
# The drain is told on the console of both kernels as it happens.
TOLD = "tp_printk trace_event=pci_liveupdate:pci_liveupdate_drain"
SERVER = "/sys/kernel/debug/sched/fair_server/cpu1/runtime"


def drains(machine: Machine) -> list[str]:
    """What was told about drains so far."""
    log = (machine.folder / "console.log").read_text(errors="replace")
    return [line for line in log.splitlines() if "pci_liveupdate_drain: cpus=" in line]


def spin(machine: Machine) -> int:
    """Give CPU 1 to a real-time task for good."""
    machine.sh(f"echo 0 >{SERVER}")
    return int(machine.json("rt_spin 1")["pid"])


@pytest.mark.console("pci_liveupdate_drain: cpus=")
def test_realtime_task_does_not_hold_up_the_freeze(vm: Lab, variant: str) -> None:
    ids = [f"edu{n}" for n in range(DEVICES)]
    # No ports: the threads of their interrupts may be where they do not get to run to their end.
    machine = vm(Topology(*(edu(id) for id in ids)), variant=variant, smp=CPUS, first=TOLD)
    agent = Agent(machine).start().take(*ids, pages=2)
    agent.do(*(f"arm {id} msi 1" for id in ids))
    agent.preserve(*ids)
    flags = {id: config.read(machine, machine.topology.bdf[id]).capability(MSI)
             for id in ids}
    # Control: nothing that a worker on each CPU has a part in comes to an end.
    pid = spin(machine)
    machine.sh("(echo 1 >/proc/sys/vm/stat_refresh; touch /tmp/refreshed) >/dev/null 2>&1 &")
    machine.sh("sleep 2; ! test -e /tmp/refreshed")
    machine.sh(f"kill {pid}; while ! test -e /tmp/refreshed; do sleep 0.1; done")
    spin(machine)
    machine.kexec(extra=TOLD)
    # All were silenced, by the outside witness, and the CPUs were asked once.
    trace = witness.read(machine)
    for id in ids:
        at = flags[id]
        assert at is not None
        last = [w for w in trace.writes(id, 1, shutdown=True) if w.offset == at + MSI_FLAGS][-1]
        assert not last.value & MSI_ENABLE
    assert len(drains(machine)) == 1 and drains(machine)[0].endswith(f"cpus={CPUS}")
    agent.take_back(*ids)
    # Control: one device costs as much as eight, and none that may have spoken costs nothing.
    agent.do("arm edu0 msi 1")
    agent.preserve("edu0")
    machine.kexec(extra=TOLD)
    assert len(drains(machine)) == 2
    agent.take_back("edu0")
    agent.preserve("edu0")
    machine.kexec()
    assert len(drains(machine)) == 2
    agent.take_back("edu0")
