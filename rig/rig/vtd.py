# SPDX-License-Identifier: GPL-2.0
"""What QEMU's VT-d unit did: who reached which memory, when it translated, what it was told.

A machine that is to be asked needs trace=EVENTS. QEMU names every access through the unit while
translation is on with the physical addresses that it came to, whether or not they were cached.
It can be trusted on addresses and on the order of things. It cannot show an entry that is read half
written, a domain ID that two domains share, or a flush that is missing after the root table was
set: it has no word of that kind, drops cached translations by function, and drops all with the
root table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .machine import Machine
from .witness import LINE, moment

PAGE = 4096
FLUSHES = ["vtd_inv_desc_cc_global", "vtd_inv_desc_cc_domain", "vtd_inv_desc_cc_devices",
           "vtd_inv_desc_iotlb_global", "vtd_inv_desc_iotlb_domain", "vtd_inv_desc_iotlb_pages"]
EVENTS = ["vtd_dmar_translate", "vtd_dmar_enable", "vtd_reg_dmar_root", "vtd_re_not_present",
          "vtd_ce_not_present", "vtd_iotlb_cc_update", "vtd_iotlb_page_update", "vtd_ir_enable",
          *FLUSHES]

TRANSLATE = re.compile(r"dev (\S+):(\S+)\.(\S+) iova 0x([0-9a-f]+) -> gpa 0x([0-9a-f]+) "
                       r"mask 0x([0-9a-f]+)")
ROOT = re.compile(r"addr 0x([0-9a-f]+) scalable (\d)")
CONTEXT = re.compile(r"bus 0x([0-9a-f]+) devfn 0x([0-9a-f]+) high 0x([0-9a-f]+) low 0x([0-9a-f]+)")
FILLED = re.compile(r"sid 0x([0-9a-f]+) iova 0x([0-9a-f]+) .*domain 0x([0-9a-f]+)")
FAULT = re.compile(r"sid 0x([0-9a-f]+) fault (\d+) addr 0x([0-9a-f]+) write (\d)")


def bdf(bus: int, devfn: int) -> str:
    """A Requester ID as lspci writes it, without the domain."""
    return f"{bus:02x}:{devfn >> 3:02x}.{devfn & 7}"


@dataclass(frozen=True)
class Access:
    """DMA that was translated. All of `size` bytes at `gpa` is what one leaf maps."""

    time: float
    bdf: str
    iova: int
    gpa: int
    size: int

    def pages(self) -> range:
        """Every page that it may have reached."""
        return range(self.gpa & -PAGE, self.gpa + self.size, PAGE)


@dataclass(frozen=True)
class Fault:
    """DMA that was refused, with the reason's number (VT-d 4.1, table 26)."""

    time: float
    bdf: str
    reason: int
    iova: int
    write: bool


@dataclass(frozen=True)
class Context:
    """A context entry that the unit has read, since it was not cached."""

    time: float
    bdf: str
    high: int
    low: int

    @property
    def table(self) -> int:
        """Where the page table is (VT-d 4.1, sec 9.3)."""
        return self.low & -PAGE

    @property
    def domain_id(self) -> int:
        return self.high >> 8 & 0xFFFF


@dataclass
class Unit:
    """What is in the trace up to a time."""

    enables: list[tuple[float, bool]] = field(default_factory=list)
    remaps: list[tuple[float, bool]] = field(default_factory=list)      # interrupts
    roots: list[tuple[float, int, bool]] = field(default_factory=list)  # address, scalable mode
    accesses: list[Access] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    contexts: list[Context] = field(default_factory=list)
    absent: list[tuple[float, str]] = field(default_factory=list)       # entries not present
    tags: dict[str, set[int]] = field(default_factory=dict)     # domain IDs by function
    flushes: list[tuple[float, str]] = field(default_factory=list)

    def by(self, function: str, since: float = 0.0) -> list[Access]:
        """What a function reached from a host time on; with or without its domain."""
        return [access for access in self.accesses
                if access.bdf == function[-7:] and access.time > since]

    def outside(self, pages: set[int], *functions: str, since: float = 0.0) -> list[Access]:
        """Accesses of functions that reached a page which is none of these."""
        return [access for function in functions for access in self.by(function, since)
                if not pages.issuperset(access.pages())]

    def off_at(self, time: float) -> bool:
        """Did it let everything pass untranslated then?"""
        return not next((on for since, on in reversed(self.enables) if since <= time), False)

    def switched(self) -> list[bool]:
        """Translation on and off, in order."""
        return [on for _, on in self.enables]


def _take(unit: Unit, time: float, event: str, rest: str) -> None:
    if event in ("vtd_dmar_enable", "vtd_ir_enable"):
        states = unit.enables if event == "vtd_dmar_enable" else unit.remaps
        states.append((time, rest.endswith("1")))
    elif event == "vtd_dmar_translate" and (found := TRANSLATE.match(rest)):
        bus, device, function, iova, gpa, mask = (int(word, 16) for word in found.groups())
        unit.accesses.append(Access(time, bdf(bus, device << 3 | function), iova, gpa, mask + 1))
    elif event == "vtd_reg_dmar_root" and (found := ROOT.match(rest)):
        unit.roots.append((time, int(found[1], 16), found[2] == "1"))
    elif event == "vtd_dmar_fault" and (found := FAULT.match(rest)):
        sid = int(found[1], 16)
        unit.faults.append(Fault(time, bdf(sid >> 8, sid & 0xFF), int(found[2]),
                                 int(found[3], 16), found[4] == "1"))
    elif event == "vtd_iotlb_cc_update" and (found := CONTEXT.search(rest)):
        bus, devfn, high, low = (int(word, 16) for word in found.groups())
        unit.contexts.append(Context(time, bdf(bus, devfn), high, low))
    elif event == "vtd_iotlb_page_update" and (found := FILLED.search(rest)):
        sid = int(found[1], 16)
        unit.tags.setdefault(bdf(sid >> 8, sid & 0xFF), set()).add(int(found[3], 16))
    elif event in ("vtd_re_not_present", "vtd_ce_not_present"):
        unit.absent.append((time, rest))
    elif event in FLUSHES:
        unit.flushes.append((time, f"{event.removeprefix('vtd_inv_desc_')}: {rest}"))
    elif event in EVENTS:
        raise ValueError(f"{event} is not written as expected: {rest}")


def read(machine: Machine) -> Unit:
    """All of it, up to now or to when the machine was stopped: QEMU's end is no guest's doing."""
    unit = Unit()
    until = machine.ended_at or float("inf")
    with open(machine.folder / "trace.log", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if "vtd_" not in line or not line.endswith("\n"):
                continue
            match = LINE.match(line.rstrip("\n"))
            if match and (time := moment(match)) <= until:
                _take(unit, time, match[3], match[4])
    return unit


def memory(machine: Machine, address: int, size: int) -> bytes:
    """What is in physical memory."""
    into = machine.folder / "memory"
    machine.qmp("pmemsave", val=address, size=size, filename=str(into))
    return into.read_bytes()


def _words(machine: Machine, address: int) -> list[int]:
    """A page of it, in pieces of 64 bits."""
    raw = memory(machine, address, PAGE)
    return [int.from_bytes(raw[at:at + 8], "little") for at in range(0, PAGE, 8)]


def entries(machine: Machine, root: int) -> dict[str, int]:
    """Whom a root table has a context entry of: function, and where the entry is in memory.

    In legacy mode, where the unit may have them cached still (VT-d 4.1, sec 9.1 and 9.3).
    """
    found = {}
    for bus, half in enumerate(_words(machine, root)[::2]):
        if not half & 1:
            continue
        table = half & -PAGE
        for devfn, low in enumerate(_words(machine, table)[::2]):
            if low & 1:
                found[bdf(bus, devfn)] = table + devfn * 16
    return found
