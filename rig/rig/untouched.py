# SPDX-License-Identifier: GPL-2.0
"""Was a preserved device, or the way to it, written to or moved? Asked of QEMU's trace."""

from __future__ import annotations

from . import config, witness
from .machine import Machine
from .witness import Access

COMMAND = 0x04
MEMORY_AND_MASTER = 0x6
# Header fields of a bridge that decide over the way to what is below (PCIe r6.0, sec 7.5.1.3):
# bus numbers, I/O, memory and prefetchable windows with their upper halves, Bridge Control.
FABRIC = {*range(0x18, 0x1B), 0x1C, 0x1D, *range(0x20, 0x34), 0x3E, 0x3F}
# Of the PCI Express capability: sizes, tags and ordering (Device Control without error
# reporting), ASPM, completion boundary and common clock (Link Control), Device Control 2.
EXPRESS = {0x08: 0xFFF0, 0x10: 0x004B, 0x28: 0xFFFF}


def fabric_writes(writes: list[Access]) -> list[Access]:
    """Writes that reach a field of a bridge which devices below depend on."""
    return [w for w in writes if w.offset in FABRIC
            or (w.offset == COMMAND and w.value & MEMORY_AND_MASTER != MEMORY_AND_MASTER)]


def written(machine: Machine, id: str, until: float, boot: int = 2) -> list[Access]:
    """What a function was written in a kernel up to a time."""
    return [w for w in witness.read(machine).writes(id, boot) if w.time < until]


def touched(machine: Machine, id: str, until: float, boot: int = 2) -> list[str]:
    """Writes to an endpoint, to fields of the bridges above it, and moves of their BARs."""
    trace = witness.read(machine)
    lines = []
    for name in (id, *machine.topology.above(id)):
        writes = [w for w in trace.writes(name, boot) if w.time < until]
        moves = [m for m in trace.moved(name, boot)
                 if machine.booted_at[boot - 2] < m.time < until]
        lines += [f"{name}: @{w.offset:#x} <- {w.value:#x}"
                  for w in (writes if name == id else fabric_writes(writes))]
        lines += [f"{name}: BAR {m.bar} {'at' if m.add else 'no longer at'} {m.base:#x}"
                  for m in moves]
    return lines


def settings(machine: Machine, id: str) -> dict[str, list[int]]:
    """What a function and the bridges above it have in the registers of EXPRESS."""
    found = {}
    for name in (id, *machine.topology.above(id)):
        space = config.read(machine, machine.topology.bdf[name])
        at = space.capability(config.EXPRESS)
        found[name] = [space.get(at + n, 2) & mask for n, mask in EXPRESS.items()] if at else []
    return found


def bar(machine: Machine, bdf: str, n: int = 0) -> tuple[int, int]:
    """Start and size of a BAR as this kernel sees it; zeros if it has none."""
    words = machine.sh(f"sed -n {n + 1}p /sys/bus/pci/devices/{bdf}/resource").out.split()
    start, end = int(words[0], 16), int(words[1], 16)
    return start, end - start + 1 if end else 0
