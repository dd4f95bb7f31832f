# SPDX-License-Identifier: GPL-2.0
"""A function's config space as the guest read it, and where its capabilities are."""

from __future__ import annotations

from dataclasses import dataclass

from .machine import Machine

STATUS = 0x06
CAP_LIST = 0x10
FIRST = 0x34
EXTENDED = 0x100

POWER = 0x01
EXPRESS = 0x10
ACS = 0x0D
ATS = 0x0F


@dataclass(frozen=True)
class Config:
    """The raw bytes: 256, or 4096 of a PCI Express function."""

    raw: bytes

    def get(self, offset: int, size: int) -> int:
        return int.from_bytes(self.raw[offset:offset + size], "little")

    def capability(self, number: int) -> int | None:
        """The offset of a capability (PCI r3.0, sec 6.7)."""
        at = self.get(FIRST, 1) & ~3 if self.get(STATUS, 2) & CAP_LIST else 0
        seen: set[int] = set()
        while at and at not in seen:
            seen.add(at)
            if self.get(at, 1) == number:
                return at
            at = self.get(at + 1, 1) & ~3
        return None

    def extended(self, number: int) -> int | None:
        """The offset of an extended capability (PCIe r6.0, sec 7.6.3)."""
        at = EXTENDED if len(self.raw) > EXTENDED else 0
        seen: set[int] = set()
        while at and at not in seen and self.get(at, 4) not in (0, 0xFFFFFFFF):
            seen.add(at)
            if self.get(at, 2) == number:
                return at
            at = self.get(at + 2, 2) >> 4
        return None


def read(machine: Machine, bdf: str) -> Config:
    """What the guest sees now. The look at it writes nothing."""
    return Config(bytes.fromhex(machine.json(f"pci_cfg dump {bdf}")["config"]))


def write(machine: Machine, bdf: str, offset: int, value: bytes) -> None:
    """Write through sysfs, all bytes in one access where they are aligned."""
    data = "".join(f"\\{byte:03o}" for byte in value)
    machine.sh(f"printf '{data}' | dd bs={len(value)} seek={offset // len(value)} conv=notrunc "
               f"of=/sys/bus/pci/devices/{bdf}/config" if offset % len(value) == 0 else
               f"printf '{data}' | dd bs=1 seek={offset} conv=notrunc "
               f"of=/sys/bus/pci/devices/{bdf}/config")
