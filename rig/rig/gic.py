# SPDX-License-Identifier: GPL-2.0
"""What an emulated GICv3 was told and did, and what is in memory where it has its tables."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .machine import Machine

TRACE = ["gicv3_redist_write", "gicv3_its_read", "gicv3_its_write", "gicv3_its_translation_write",
         "gicv3_its_dte_read", "gicv3_its_ite_read"]
LINE = re.compile(r"\d+@(\d+)\.(\d+):gicv3_(\w+) ?(.*)")
REDIST = re.compile(r"redistributor 0x([0-9a-f]+) write: offset 0x([0-9a-f]+) data 0x([0-9a-f]+)")
ITS = re.compile(r"ITS \w+: offset 0x([0-9a-f]+) data 0x([0-9a-f]+)")

# Registers of a redistributor, and of an ITS
CTLR, PROPBASER, PENDBASER = 0x0, 0x70, 0x78
GITS_CTLR, GITS_PIDR2 = 0x0, 0xFFE8
ENABLE = 0x1        # LPIs of the one, the other as a whole
TABLE = 0x10000     # of 2^16 interrupts: a byte each for properties, a bit each if pending


@dataclass(frozen=True)
class Event:
    """A line of the trace: a register written or read, or what the ITS looked up."""

    time: float
    kind: str
    cpu: int = 0
    offset: int = 0
    value: int = 0


def events(machine: Machine) -> list[Event]:
    """All of them up to now, in order."""
    found = []
    with open(machine.folder / "trace.log", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            match = LINE.match(line)
            if not match or not line.endswith("\n"):
                continue
            time, kind, rest = int(match[1]) + int(match[2]) / 1e6, match[3], match[4]
            if kind == "redist_write":
                redist = REDIST.search(rest)
                assert redist, line
                found.append(Event(time, kind, *(int(text, 16) for text in redist.groups())))
            elif kind in ("its_read", "its_write"):
                its = ITS.search(rest)
                assert its, line
                found.append(Event(time, kind, 0, *(int(text, 16) for text in its.groups())))
            else:
                found.append(Event(time, kind))
    return found


def probed(log: list[Event], after: float) -> float:
    """When a kernel first looks at the ITS, after a host time: nothing of the GIC comes earlier."""
    return next(e.time for e in log if e.time > after and e.kind == "its_read"
                and e.offset == GITS_PIDR2)


def register(log: list[Event], cpu: int, offset: int, until: float = float("inf")) -> int | None:
    """What a redistributor's register was last written with."""
    values = [e.value for e in log if e.kind == "redist_write" and e.time < until
              and (e.cpu, e.offset) == (cpu, offset)]
    return values[-1] if values else None


def memory(machine: Machine, address: int, size: int) -> bytes:
    """What is in the machine's memory, seen from outside."""
    with tempfile.TemporaryDirectory(prefix="pcilu-") as folder:
        path = Path(folder) / "memory"
        machine.qmp("pmemsave", val=address, size=size, filename=str(path))
        return path.read_bytes()
