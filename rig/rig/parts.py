# SPDX-License-Identifier: GPL-2.0
"""In which parts of the kernel the instructions of an operation are.

QEMU logs each instruction that the kernel executes meanwhile, so that nothing in the guest counts,
samples or is built otherwise. Names come from the System.map of the kernel. Who called whom is
taken from where execution goes on: at the start of a function it was called, behind a place that it
was called from it has returned.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Iterable, Iterator

from . import paths
from .machine import Machine

KERNEL = ["-dfilter", "0xffffffff80000000+0x40000000"]     # of everything else nothing is logged
EXECUTED = re.compile(rb"^Trace \d+: \S+ \[[0-9a-f]+/([0-9a-f]+)/", re.MULTILINE)
LONGEST = 15    # bytes of an instruction

# By what names of functions begin with: all that these call belongs to them, whatever it is.
PARTS = {"sysfs": ("sysfs_", "kernfs_", "internal_create_group"),
         "messages": ("_dev_", "_printk", "dev_printk_emit", "dev_vprintk_emit", "vprintk"),
         "fixups": ("pci_fixup_device",),
         "uevents": ("kobject_uevent",)}
REST = "rest"


@dataclass
class Account:
    """Instructions by part, and how often functions were called."""

    parts: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)

    def __sub__(self, other: "Account") -> "Account":
        parts, calls = Counter(self.parts), Counter(self.calls)
        parts.subtract(other.parts)
        calls.subtract(other.calls)
        return Account(parts, calls)


def symbols(machine: Machine) -> dict[int, list[str]]:
    """The functions of a machine's first kernel, by address."""
    found: dict[int, list[str]] = {}
    folder = paths.kernel_dir(machine.arch, machine.variant)
    for line in (folder / "System.map").read_text().splitlines():
        address, kind, name = line.split()
        if kind in "tTwW":
            found.setdefault(int(address, 16), []).append(name)
    return found


def part_of(names: Iterable[str]) -> str | None:
    return next((part for part, starts in PARTS.items()
                 for name in names if name.startswith(starts)), None)


def account(executed: Iterable[int], functions: dict[int, list[str]], root: str) -> Account:
    """What is executed from a call of `root` to its return."""
    found = Account()
    stack: list[tuple[int, str | None, bool]] = []      # called from where, and what was true there
    part: str | None = None
    inside = False
    before = 0
    for at in executed:
        if at == before:    # repeated by a prefix, or begun again after an interruption
            continue
        if not before < at <= before + LONGEST:
            names = functions.get(at)
            if names:
                stack.append((before, part, inside))
                inside = inside or root in names
                if inside:
                    found.calls.update(names)
                    part = part or part_of(names)
            else:
                for depth in reversed(range(len(stack))):
                    if stack[depth][0] < at <= stack[depth][0] + LONGEST:
                        _, part, inside = stack[depth]
                        del stack[depth:]
                        break
        if inside:
            found.parts[part or REST] += 1
        before = at
    return found


def executed(machine: Machine, command: str) -> Iterator[int]:
    """The addresses of what the kernel executes, at least while the shell runs a command."""
    log = machine.folder / "trace.log"
    begins = 0

    def begin() -> None:
        nonlocal begins
        begins = log.stat().st_size
        # As QEMU calls it since 8.1, and before
        if "unknown command" in machine.hmp("one-insn-per-tb on"):
            machine.hmp("singlestep on")
        machine.hmp("log exec")

    def end() -> None:
        machine.hmp("log none")
        if "unknown command" in machine.hmp("one-insn-per-tb off"):
            machine.hmp("singlestep off")

    result = machine.watched(command, begin, end)
    assert result.rc == 0, result.out
    with open(log, "rb") as file:
        file.seek(begins)
        for match in EXECUTED.finditer(file.read()):
            yield int(match[1], 16)
