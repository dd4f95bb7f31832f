# SPDX-License-Identifier: GPL-2.0
"""Behind VT-d: many devices of many owners, most of them in a domain with others."""

from __future__ import annotations

import random
import time

import pytest
from test_vtd import (BUFFER, BUFFER_LEN, DMA, FROM_DEVICE, LENGTH, MASTER, MEMORY, ON, RUN, SOURCE,
                      TARGET)

from rig import vtd
from rig.agent import Agent
from rig.lab import Lab
from rig.machine import LIVE_UPDATE
from rig.nic import PAGE
from rig.topology import Device, Topology, edu

DOMAINS, EACH = 8, 8
IOVA = 0x8000000
PATTERN, PART = random.Random(5).randbytes(BUFFER_LEN), 32


def tree() -> Topology:
    """A root port for each, eight of these to a slot, so that each is alone in its group."""
    return Topology(*(
        Device("pcie-root-port", f"rp{n}",
               {"io-reserve": "0", **({"multifunction": "on"} if n % 8 == 0 else {})},
               [edu(f"edu{n}")], addr=f"{Topology.FIRST_SLOT + n // 8:x}.{n % 8}", bridge=True)
        for n in range(DOMAINS * EACH)))


class Owner:
    """A process with an IOAS, in which all of its devices are, and a session."""

    def __init__(self, agent: Agent, number: int) -> None:
        self.agent = agent
        self.ids = [f"edu{number * EACH + n}" for n in range(EACH)]

    def bind(self) -> None:
        """All of them to one iommufd."""
        first, *others = self.ids
        self.agent.do(f"bind {first}", f"ioas {first}",
                      *(line for id in others for line in (f"bind {id} {first}",
                                                           f"ioas {id} {first}")))

    def attach(self) -> None:
        """Map the memory that they share, and attach each."""
        self.agent.do(f"map {self.ids[0]} ram {IOVA:#x}", *(f"attach {id} ioas" for id in self.ids))

    def dma(self, transfers: dict[str, tuple[int, int, int]]) -> None:
        """From, to and direction, of all of them at the same time."""
        self.agent.do(*(
            f"bar-write {id} 0 {register:#x} 8 {value:#x}"
            for id, (source, target, direction) in transfers.items()
            for register, value in ((SOURCE, source), (TARGET, target), (LENGTH, BUFFER_LEN),
                                    (DMA, RUN | direction))))
        for _ in range(100):
            answers = self.agent.attempt(*(f"bar-read {id} 0 {DMA:#x} 8" for id in transfers))
            if not any(answer["value"] & RUN for answer in answers):
                return
            time.sleep(0.1)
        raise AssertionError(f"DMA of {self.ids} does not end")

    def fill(self) -> None:
        """Each reads the pattern into its buffer."""
        self.agent.poke("ram", 0, PATTERN)
        self.dma({id: (IOVA, BUFFER, 0) for id in self.ids})

    def write(self) -> None:
        """Each writes it to a page of its own, where there was something else."""
        self.agent.do(f"fill ram {PAGE} {EACH * PAGE} 0")
        assert self.parts() == [bytes(PART)] * EACH
        self.dma({id: (BUFFER, IOVA + PAGE * n, FROM_DEVICE)
                  for n, id in enumerate(self.ids, 1)})
        assert self.parts() == [PATTERN[-PART:]] * EACH

    def parts(self) -> list[bytes]:
        """The end of what is in each of these pages."""
        answers = self.agent.attempt(*(f"peek ram {PAGE * n + BUFFER_LEN - PART:#x} {PART}"
                                       for n in range(1, EACH + 1)))
        return [bytes.fromhex(answer["data"]) for answer in answers]


@pytest.mark.rare
@pytest.mark.timeout(1800)
def test_vtd_64_devices_in_8_domains(vm: Lab) -> None:
    """Each reaches what its owner has, in every kernel and in between, and no more."""
    machine = vm(tree(), iommu=True, smp=2, trace=vtd.EVENTS, cmdline=f"{LIVE_UPDATE} {ON}")
    owners = [Owner(Agent(machine, f"vm{number}").start(), number) for number in range(DOMAINS)]
    where = {id: machine.topology.bdf[id] for owner in owners for id in owner.ids}
    for bdf in where.values():
        machine.json(f"pci_cfg bind {bdf}")
    pages: dict[str, set[int]] = {}
    for owner in owners:
        agent = owner.agent
        agent.do(*(f"open {id} {where[id]}" for id in owner.ids), f"memory ram {1 + EACH}")
        owner.bind()
        owner.attach()
        agent.do(*(f"config-write {id} 4 2 {MASTER | MEMORY:#x}" for id in owner.ids))
        owner.fill()
        owner.write()
        pages[agent.name] = agent.pages("ram")
        agent.do(f"session s {agent.name}", "preserve s 9 ram",
                 *(f"preserve s {n} {id}" for n, id in enumerate(owner.ids, 1)))
    used = "cat /sys/class/iommu/dmar0/intel-iommu/domains_used"
    domains = machine.sh(used).out
    verdicts = "cat /sys/bus/pci/devices/*/liveupdate/dma | sort | uniq -c"
    assert [DOMAINS * EACH, "translated"] in [
        [int(line.split()[0]), line.split()[-1]] for line in machine.sh(verdicts).out.splitlines()]
    machine.kexec()

    for bdf in where.values():
        machine.json(f"pci_cfg bind {bdf}")
    for owner in owners:
        agent = owner.agent
        agent.start().do(f"retrieve-session s {agent.name}", "retrieve s 9 memory ram",
                         *(f"retrieve s {n} device {id}" for n, id in enumerate(owner.ids, 1)))
        owner.bind()
    # By the tables of the previous kernel, which as many share as did there.
    jumped = machine.jumped_at[0]
    for owner in owners:
        owner.write()
    frozen = {context.bdf: (context.table, context.domain_id)
              for context in vtd.read(machine).contexts if context.time > jumped}
    for owner in owners:
        assert len({frozen[where[id][-7:]] for id in owner.ids}) == 1
    assert len(set(frozen[bdf[-7:]] for bdf in where.values())) == DOMAINS
    for owner in owners:
        owner.attach()
    for owner in owners:
        owner.write()
        owner.agent.finish()
        owner.write()

    unit = vtd.read(machine)
    now = {context.bdf: context.table for context in unit.contexts if context.time > jumped}
    for owner in owners:
        for id in owner.ids:
            assert now[where[id][-7:]] != frozen[where[id][-7:]][0]
            assert unit.by(where[id], jumped)
            assert unit.outside(pages[owner.agent.name], where[id]) == []
    assert machine.sh(used).out == domains
    assert unit.faults == [] and unit.switched() == [True]
