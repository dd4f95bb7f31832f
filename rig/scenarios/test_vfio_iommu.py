# SPDX-License-Identifier: GPL-2.0
"""Behind a VT-d that the next kernel cannot be told of a device is paused, and goes on when its
owner wants it to."""

from __future__ import annotations

import random
import struct
import time

import pytest

from rig import console, witness
from rig.agent import Agent
from rig.keeper import attribute
from rig.lab import Lab
from rig.machine import LIVE_UPDATE, Machine
from rig.nic import PAGE, Nic
from rig.topology import Topology, edu, nic, root_port

# The oldest kernels that can be gone to know nothing of frozen domains.
ON = ("intel_iommu=on,sm_on iommu.passthrough=0 pci_liveupdate.abi_newest=0x4c550001")
MASTER, MEMORY = 0x4, 0x2

# Where the devices find their memory. No kernel uses the physical memory at these addresses, so
# that what is written there while nothing translates can be seen from outside.
IOVA = {"edu0": 0x8000000, "nic0": 0x8100000}
UNUSED = "memmap=4M$0x8000000"

# edu (QEMU's docs/specs/edu.txt)
LIVENESS, SOURCE, TARGET, LENGTH, DMA = 0x04, 0x80, 0x88, 0x90, 0x98
RUN, FROM_DEVICE = 1, 2
BUFFER, BUFFER_LEN = 0x40000, 2048

RING_PAGES = 16


def dma(agent: Agent, source: int, target: int, direction: int) -> None:
    """Have edu copy its whole buffer, one way or the other."""
    agent.write("edu0", SOURCE, source, width=8)
    agent.write("edu0", TARGET, target, width=8)
    agent.write("edu0", LENGTH, BUFFER_LEN, width=8)
    agent.write("edu0", DMA, RUN | direction, width=8)
    for _ in range(100):
        if not agent.read("edu0", DMA, width=8) & RUN:
            return
        time.sleep(0.1)
    raise AssertionError("edu does not end its DMA")


def update(vm: Lab, variant: str, verdict: str = "paused",
           more: str = "") -> tuple[Machine, Agent, bytes]:
    """A live update with an idle edu and a NIC that receives."""
    machine = vm(Topology(root_port("rp0", edu("edu0")), root_port("rp1", nic("nic0"))),
                 variant=variant, iommu={"x-scalable-mode": "on"}, rate=50.0,
                 cmdline=f"{LIVE_UPDATE} {ON} {UNUSED} {more}")
    agent = Agent(machine).start().take("edu0", iova=IOVA["edu0"])
    agent.take("nic0", pages=RING_PAGES + 1, iova=IOVA["nic0"])
    for id in ("edu0", "nic0"):
        agent.set_command(id, MASTER | MEMORY)
    pattern = random.Random(3).randbytes(BUFFER_LEN)
    agent.poke("edu0-ram", 0, pattern)
    dma(agent, IOVA["edu0"], BUFFER, 0)
    agent.write("edu0", LIVENESS, 0x600D)
    Nic(agent, "nic0").receive(IOVA["nic0"], RING_PAGES, IOVA["nic0"] + RING_PAGES * PAGE)
    machine.senders["nic0"].start()
    time.sleep(1)
    # Control: until the jump both do DMA, translated, and nothing arrives there as such.
    dma(agent, BUFFER, IOVA["edu0"] + 4096, FROM_DEVICE)
    assert agent.peek("edu0-ram", 4096, BUFFER_LEN) == pattern
    assert len(witness.read(machine).dma(boot=1)) > 10
    assert stray(machine) == 0 and witness.read(machine).faults() == []
    agent.preserve("edu0", "nic0")
    assert machine.sh(f"cat {attribute(machine, 'nic0', 'liveupdate/dma')}").out.strip() == verdict
    machine.kexec()
    return machine, agent, pattern


def stray(machine: Machine) -> int:
    """How much is in physical memory where the device's addresses point if nothing translates."""
    total = 0
    dump = machine.folder / "stray"
    for at in IOVA.values():
        machine.hmp(f'pmemsave {at:#x} {(RING_PAGES + 1) * PAGE} "{dump}"')
        total += sum(word != 0 for word, in struct.iter_unpack("<Q", dump.read_bytes()))
    return total


def test_paused_device_resumes_when_its_owner_says_so(vm: Lab, variant: str) -> None:
    machine, agent, pattern = update(vm, variant)
    agent.start().do("retrieve-session s vm0")
    for n, id in enumerate(("edu0", "nic0")):
        machine.json(f"pci_cfg bind {machine.topology.bdf[id]}")
        agent.do(f"retrieve s {2 * n + 1} memory {id}-ram", f"retrieve s {2 * n + 2} device {id}",
                 f"bind {id}", f"attach {id}", f"map {id} {id}-ram {IOVA[id]:#x}")
    trace = witness.read(machine)
    for id in ("edu0", "nic0"):
        assert len(trace.cleared_master(id, 1, shutdown=True)) == 1
        assert not agent.command(id) & MASTER
    assert trace.resets("edu", machine.jumped_at[0]) == []
    # No DMA and no fault since, and what arrived in memory is what was there before.
    assert trace.dma_after_jump() == [] and trace.faults() == [] and stray(machine) == 0
    assert trace.no_master()
    assert agent.read("edu0", LIVENESS) == ~0x600D & 0xFFFFFFFF

    head = Nic(agent, "nic0").head
    resumed = time.time()
    for id in ("edu0", "nic0"):
        agent.set_command(id, MASTER)
    agent.do("finish s", "close s")
    dma(agent, BUFFER, IOVA["edu0"] + 2 * 4096, FROM_DEVICE)
    assert agent.peek("edu0-ram", 2 * 4096, BUFFER_LEN) == pattern
    time.sleep(1)
    assert Nic(agent, "nic0").head > head
    trace = witness.read(machine)
    assert [t for t in trace.dma(boot=2) if t > resumed]
    assert trace.faults() == [] and stray(machine) == 0
    assert trace.resets("edu", machine.jumped_at[0]) == []


@pytest.mark.console(console.UNIT_OFF)
def test_control_device_that_is_not_paused_writes_astray(vm: Lab, variant: str) -> None:
    """With the pause left out on purpose: into memory of no one, or into a fault."""
    machine, _, _ = update(vm, variant, "untranslated", "pci_liveupdate.break=4")
    time.sleep(1)
    trace = witness.read(machine)
    assert trace.cleared_master("nic0", 1, shutdown=True) == []
    assert trace.faults() or stray(machine)
