# SPDX-License-Identifier: GPL-2.0
"""What QEMU saw: its trace split by kernel, and questions to it.

The split: just before the jump the guest writes a marker to the host bridge's Interrupt Line. What
follows is the outgoing kernel's shutdown, until the incoming kernel looks at the host bridge for
the first time (its vendor or class; nothing reads these during a shutdown).
"""

from __future__ import annotations

import copy
import itertools
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Iterable, Iterator, NamedTuple
from weakref import WeakKeyDictionary

from . import qemu
from .machine import MARK, STEP, Machine
from .topology import Topology

COMMAND = 0x04
BUS_MASTER = 0x4
INTERRUPT_LINE = 0x3C

# With the time as QEMU 7.2 writes it, or as later ones do.
STAMP = r"(?:\d+@(\d+\.\d+):|(\d[\d:T.-]+Z) )"
LINE = re.compile(STAMP + r"(\w+) ?(.*)")
READ = re.compile(STAMP + r"pci_cfg_read \S+ (\S+) @0x([0-9a-f]+) ")
MAPPING = re.compile(r"(\S+) (\S+) (\d+),0x([0-9a-f]+)\+0x([0-9a-f]+)")
DESCRIPTOR = re.compile(r"ring #(\d+), PA: 0x([0-9a-f]+)")
FAULT = re.compile(r"sid 0x([0-9a-f]+) fault (\d+) addr 0x([0-9a-f]+) write (\d)")
RESET = re.compile(r"obj=(\S+)\((\S+)\)")
REFUSED = re.compile(r"link_up: (\d+), rx_enabled (\d+), pci_master (\d+)")
CHARACTER = re.compile(r"write addr 0x00 val 0x([0-9a-f]{2})")  # to a UART's Transmitter Holding

# Of a machine that is told to: what it says on its console when it has frozen all.
SAID, FROZEN = "serial_write", "notifier_run: "


_traces: WeakKeyDictionary[Machine, Trace] = WeakKeyDictionary()    # each as far as it was read


@dataclass(frozen=True)
class Access:
    """One config write. `bdf` is where the device answered at that moment."""

    time: float
    bdf: str
    offset: int
    value: int


@dataclass(frozen=True)
class Mapping:
    """A BAR that QEMU began (add) or ceased to decode."""

    time: float
    bdf: str
    bar: int
    base: int
    size: int
    add: bool


class Cost(NamedTuple):
    """Config accesses of all functions together."""

    reads: int
    writes: int


@dataclass
class Phase:
    """The time of one kernel: as it boots and runs, or as it shuts down."""

    boot: int
    shutdown: bool
    start: float
    writes: list[Access] = field(default_factory=list)
    reads: dict[str, Counter[int]] = field(default_factory=dict)    # by register
    mappings: list[Mapping] = field(default_factory=list)
    dma: list[tuple[float, int]] = field(default_factory=list)
    descriptors: list[tuple[float, int]] = field(default_factory=list)
    dropped: list[float] = field(default_factory=list)
    no_master: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    resets: list[tuple[float, str]] = field(default_factory=list)
    others: list[tuple[float, str]] = field(default_factory=list)
    steps: list[Cost] = field(default_factory=list)     # until each mark

    def cost(self) -> Cost:
        """Up to now."""
        return Cost(sum(c.total() for c in self.reads.values()), len(self.writes))

    def copy(self) -> "Phase":
        """Another to which may be added."""
        parts = {name: list(value) for name, value in vars(self).items() if isinstance(value, list)}
        return replace(self, **parts, reads={bdf: Counter(c) for bdf, c in self.reads.items()})


def moment(line: re.Match[str]) -> float:
    """The host time of a line of the trace."""
    return float(line[1]) if line[1] else datetime.fromisoformat(line[2]).timestamp()


class Trace:
    """A parsed trace, up to a host time: QEMU flushes its queues when it ends."""

    def __init__(self, path: Path, topology: Topology, until: float | None = None) -> None:
        self.topology = topology
        self.phases = [Phase(1, False, 0.0)]
        self._path = path
        self._root = "00:00.0"
        self._at = 0            # what is before this is parsed
        self._descriptor = 0
        self._said = ""         # the last of it
        self.go_on(until)

    def go_on(self, until: float | None = None) -> None:
        """Parse what has been written since."""
        with open(self._path, "rb") as file:
            file.seek(self._at)
            text = file.read()
        text = text[:text.rfind(b"\n") + 1]     # the rest QEMU is still writing
        self._at += len(text)
        self._parse(text.decode(errors="replace").splitlines(), until or float("inf"))

    def copy(self) -> "Trace":
        """What is parsed up to now: it stays as it is when the other goes on."""
        other = copy.copy(self)
        other.phases = [phase.copy() for phase in self.phases]
        return other

    def _parse(self, lines: Iterable[str], until: float) -> None:
        phase = self.phases[-1]
        for line in lines:
            read = READ.match(line)     # as most are
            if read:
                if until < moment(read):
                    break
                if phase.shutdown and read[3] == self._root and read[4] in ("0", "8", "a"):
                    phase = Phase(phase.boot + 1, False, moment(read))
                    self.phases.append(phase)
                if read[3] == self._root and int(read[4], 16) == STEP:
                    phase.steps.append(phase.cost())
                    continue
                phase.reads.setdefault(read[3], Counter())[int(read[4], 16)] += 1
                continue
            match = LINE.match(line)
            if not match:
                continue
            time = moment(match)
            if time > until:
                break
            event, rest = match[3], match[4]
            if event == "pci_cfg_write":
                _, bdf, offset, _, value = rest.split()
                access = Access(time, bdf, int(offset[1:], 16), int(value, 16))
                phase.writes.append(access)
                if (access.bdf == self._root and access.offset == INTERRUPT_LINE
                        and access.value == MARK + phase.boot % 16):
                    phase = Phase(phase.boot, True, time)
                    self.phases.append(phase)
            elif event.startswith("pci_update_mappings"):
                found = MAPPING.match(rest)
                assert found, line
                phase.mappings.append(Mapping(time, found[2], int(found[3]), int(found[4], 16),
                                              int(found[5], 16), event.endswith("add")))
            elif event == SAID:
                character = CHARACTER.match(rest)
                if character:
                    self._said = (self._said + chr(int(character[1], 16)))[-len(FROZEN):]
                if self._said == FROZEN and phase.shutdown and not phase.steps:
                    phase.steps.append(phase.cost())
            elif event == "e1000e_rx_written_to_guest":
                phase.dma.append((time, self._descriptor))
            elif event == "e1000e_rx_not_written_to_guest":
                phase.dropped.append(time)
            elif event == "e1000e_rx_descr":
                ring = DESCRIPTOR.search(rest)
                assert ring, line
                self._descriptor = int(ring[2], 16)
                phase.descriptors.append((time, self._descriptor))
            elif event == "e1000x_rx_can_recv_disabled":
                refused = REFUSED.search(rest)
                assert refused, line
                if refused[3] == "0":
                    phase.no_master.append(time)
            elif event == "vtd_dmar_fault":
                phase.faults.append(rest)
            elif event in qemu.RENAMED["qdev_reset"]:
                reset = RESET.search(rest)
                assert reset, line
                phase.resets.append((time, reset[2]))
            else:
                phase.others.append((time, event))

    # -- choosing -------------------------------------------------------------------------------

    def _phases(self, boot: int | None, shutdown: bool | None) -> Iterator[Phase]:
        for phase in self.phases:
            if boot in (None, phase.boot) and shutdown in (None, phase.shutdown):
                yield phase

    def boots(self) -> int:
        """How many kernels there were."""
        return self.phases[-1].boot

    def _bdf(self, id: str) -> str:
        return self.topology.bdf[id].split(":", 1)[1]

    # -- config space ---------------------------------------------------------------------------

    def writes(self, id: str, boot: int | None = None,
               shutdown: bool | None = False) -> list[Access]:
        """Config writes that a device took while a kernel booted and ran (or shut down).

        The device is known by the address it had in the first kernel: that this has not changed is
        what `Fabric` watches.
        """
        bdf = self._bdf(id)
        return [w for phase in self._phases(boot, shutdown) for w in phase.writes if w.bdf == bdf]

    def all_writes(self, boot: int, until: float | None = None) -> list[Access]:
        """Every config write of a kernel, in order, up to a host time."""
        return [w for phase in self._phases(boot, False) for w in phase.writes
                if until is None or w.time < until]

    def writes_since(self, time: float) -> list[Access]:
        """Every config write from a host time on, whichever kernel it was."""
        return [w for phase in self.phases for w in phase.writes if w.time > time]

    def reads(self, id: str, boot: int) -> int:
        """How often a kernel read a device's config space."""
        return self.registers(id, boot).total()

    def registers(self, id: str, boot: int) -> Counter[int]:
        """How often a kernel read each of a device's registers."""
        return sum((p.reads.get(self._bdf(id), Counter()) for p in self._phases(boot, False)),
                   Counter())

    def steps(self, boot: int) -> list[Cost]:
        """Of what a kernel did between one mark_step() and the next."""
        [phase] = self._phases(boot, False)
        return [Cost(after.reads - before.reads, after.writes - before.writes)
                for before, after in itertools.pairwise(phase.steps)]

    def cost(self, boot: int, shutdown: bool) -> Cost:
        """Of what a kernel did as long as it ran, or on its way out."""
        [phase] = self._phases(boot, shutdown)
        return phase.cost()

    def way_out(self, boot: int) -> tuple[Cost, Cost]:
        """Of a machine that told SAID: of a kernel's freeze, and of what comes after it."""
        [phase] = self._phases(boot, True)
        [freeze] = phase.steps
        both = phase.cost()
        return freeze, Cost(both.reads - freeze.reads, both.writes - freeze.writes)

    def cleared_master(self, id: str, boot: int | None = None,
                       shutdown: bool | None = None) -> list[Access]:
        """Writes that left a device with Bus Master off."""
        return [w for w in self.writes(id, boot, shutdown)
                if w.offset == COMMAND and not w.value & BUS_MASTER]

    def moved(self, id: str, boot: int | None = None) -> list[Mapping]:
        """BARs of a device that ceased to be decoded, or were decoded elsewhere."""
        bdf = self._bdf(id)
        return [m for phase in self._phases(boot, None) for m in phase.mappings if m.bdf == bdf]

    # -- DMA ------------------------------------------------------------------------------------

    def dma(self, boot: int | None = None, shutdown: bool | None = None,
            ring: range | None = None) -> list[float]:
        """Host times at which frames were written to memory.

        Only descriptors in `ring` (physical addresses) count: the trace does not name the NIC.
        """
        return [t for phase in self._phases(boot, shutdown) for t, at in phase.dma
                if ring is None or at in ring]

    def descriptors(self, ring: range) -> list[float]:
        """When a NIC took descriptors out of a ring and wrote them back, for a frame or for none:
        one that says nothing, such as zeroes, is passed over."""
        return [t for phase in self.phases for t, at in phase.descriptors if at in ring]

    def dma_after_jump(self, boot: int = 1, ring: range | None = None) -> list[float]:
        """DMA from the first look of the kernel after `boot` on."""
        return [t for phase in self.phases if phase.boot > boot for t, at in phase.dma
                if ring is None or at in ring]

    def longest_gap(self) -> tuple[float, float]:
        """The longest time between two frames written, and when it began."""
        times = self.dma()
        gaps = [(b - a, a) for a, b in zip(times, times[1:])]
        return max(gaps, default=(float("inf"), 0.0))

    def no_master(self) -> list[float]:
        """When frames met a NIC whose Bus Master was off."""
        return [t for phase in self.phases for t in phase.no_master]

    def overruns(self) -> list[float]:
        """When a frame was dropped because the ring was full."""
        return [t for phase in self.phases for t in phase.dropped]

    def resets(self, driver: str, since: float = 0.0) -> list[float]:
        """When devices of a driver were reset, from a host time on."""
        return [t for phase in self.phases for t, what in phase.resets
                if what == driver and t > since]

    def events(self, name: str) -> list[float]:
        """When an event happened that a scenario has added to the trace."""
        return [t for phase in self.phases for t, event in phase.others if event == name]

    def faults(self, boot: int | None = None) -> list[str]:
        """DMA that an emulated VT-d unit refused."""
        return [f for phase in self._phases(boot, None) for f in phase.faults]


def read(machine: Machine) -> Trace:
    """The trace of a machine, whole if it has ended and up to now if not."""
    if machine not in _traces:
        _traces[machine] = Trace(machine.folder / "trace.log", machine.topology, machine.ended_at)
    else:
        _traces[machine].go_on(machine.ended_at)
    return _traces[machine].copy()
