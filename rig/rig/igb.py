# SPDX-License-Identifier: GPL-2.0
"""Receiving on Virtual Functions of an 82576 (QEMU's igb), in the hands of an agent.

Registers are those of the 82576's datasheet: of the Physical Function sec 8.10 and 8.14, of a
Virtual one sec 8.26. In VMDq mode a broadcast reaches every pool that accepts broadcasts. The
Physical Function is an agent's, or nobody's, or has its own driver (DriverMachine).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Callable

import pytest

from . import initrd
from .agent import Agent
from .keeper import attribute
from .machine import Machine

PAGE = 4096
DESCRIPTOR = 16
IN_PAGE = PAGE // DESCRIPTOR

# Of the Physical Function
CTRL, MDIC, RCTL, VFRE, MRQC, VMOLR = 0x0, 0x20, 0x100, 0xC8C, 0x5818, 0x5AD0
MTA, LONGEST, HASHED = 0x5200, 0x3FFF, 0x2000000    # the last two: in VMOLR
LINK_UP, RECEIVE, VMDQ, BROADCASTS = 0x40, 0x8002, 0x3, 0x08000000
NEGOTIATE = 0x04201200      # to register 0 of the only PHY: negotiate, and begin with that

# Of a Virtual Function: receive queue 0
RDBAL, RDBAH, RDLEN, SRRCTL, RDH, RDT, RXDCTL = (0x2800, 0x2804, 0x2808, 0x280C, 0x2810, 0x2818,
                                                 0x2828)
ADVANCED_2K, QUEUE_ON = 0x02000002, 0x02000000

# ... and its mailbox, which has a driver at the other end if the Physical Function has one
MAILBOX, MESSAGE = 0xC40, 0x800
REQUEST, TAKEN, OURS, ANSWERED = 0x1, 0x2, 0x4, 0x10
RESET, MULTICASTS = 0x1, 0x3
DONE, NOT_DONE = 0x80000000, 0x40000000     # said to RESET: with an address, or without

DRIVER = "igb"
MODULES = ("i2c-core", "i2c-algo-bit", DRIVER)
UP, DOWN = 0x1003, 0x1002       # of an interface: with broadcast and multicast


class DriverMachine(Machine):
    """One whose kernels have a driver of its own for the Physical Function, once it is loaded."""

    def modules(self) -> dict[str, Path]:
        """For the guest's /lib/modules, of both kernels."""
        root = self._kernel / "modules/lib/modules"
        files: dict[str, Path] = {}
        for path in sorted(root.rglob("*.ko")):
            if path.stem in MODULES:
                files[f"lib/modules/{path.relative_to(root).parts[0]}/{path.name}"] = path
        if not any(path.stem == DRIVER for path in files.values()):
            pytest.skip(f"no module {DRIVER} in {root}")
        return files

    def _user_space(self) -> list[str]:
        return ["-initrd", str(initrd.build(self.arch, self.variant, folder=self._kernel,
                                            extra=self.modules()))]

    def drive(self, id: str) -> None:
        """Load the driver, which binds the function, and set its interface up."""
        for name in MODULES:
            self.sh(f"insmod /lib/modules/$(uname -r)/{name}.ko")
        self.interface(id, UP)
        self.carrier(id)

    def interface(self, id: str, flags: int) -> None:
        """Set it up or down."""
        self.sh(f"for f in {attribute(self, id, 'net')}/*/flags; do echo {flags:#x} >$f; done")

    def carrier(self, id: str) -> None:
        """Wait until it has a link."""
        self.sh(f"for i in $(seq 300); do grep -q 1 {attribute(self, id, 'net')}/*/carrier && "
                "exit 0; sleep 0.1; done; exit 1")


def link_up(write: Callable[[int, int], None]) -> None:
    """Have the Physical Function take frames from the wire."""
    write(CTRL, LINK_UP)
    write(MDIC, NEGOTIATE)
    time.sleep(2)


def set_up(write: Callable[[int, int], None], vfs: int) -> None:
    """Have all Virtual Functions receive broadcasts, once they have set up their queues.

    What one has been allowed it loses when it is reset.
    """
    write(MRQC, VMDQ)
    for number in range(vfs):
        write(VMOLR + 4 * number, BROADCASTS)
    write(VFRE, (1 << vfs) - 1)
    write(RCTL, RECEIVE)


def first_run(pages: list[int], count: int) -> int:
    """Which of these pages is the first of so many that are next to each other."""
    for first in range(len(pages) - count):
        if pages[first + count - 1] - pages[first] == (count - 1) * PAGE and \
                all(pages[first + n] == pages[first] + n * PAGE for n in range(count)):
            return first
    raise AssertionError(f"no {count} of {len(pages)} pages are next to each other")


class Vf:
    """One Virtual Function, which puts all frames into one page; `id` is the agent's name for it.

    Its memory has the ring, and the page behind it is for frames. Behind an IOMMU it begins at
    `iova`; without one, the ring is where memory is in one piece.
    """

    def __init__(self, agent: Agent, id: str, pages: int, iova: int | None = None) -> None:
        self.agent = agent
        self.id = id
        self.size = pages * IN_PAGE
        self.pages = pages
        self.next = 0       # the descriptor that is to be refilled next
        self.before = 0     # frames that were received up to there
        if iova is None:
            where = agent.in_order(f"{id}-ram")
            self.offset = first_run(where, pages + 1) * PAGE
            self.ring = where[self.offset // PAGE]
        else:
            self.offset = 0
            self.ring = iova

    def _ask(self, *words: int) -> int:
        """What the Physical Function's driver answers to a message."""
        for register, value in ((MAILBOX, TAKEN), (MAILBOX, OURS),
                                *((MESSAGE + 4 * n, word) for n, word in enumerate(words)),
                                (MAILBOX, REQUEST)):
            self.agent.write(self.id, register, value)
        for _ in range(100):
            if self.agent.read(self.id, MAILBOX) & ANSWERED:
                self.agent.write(self.id, MAILBOX, TAKEN)
                answer = self.agent.read(self.id, MESSAGE)
                if answer & 0xFFFF == words[0] & 0xFFFF and answer & (DONE | NOT_DONE):
                    return answer
            time.sleep(0.1)
        raise AssertionError("nobody answers")

    def introduce(self) -> None:
        """Tell the Physical Function's driver that it is there, which lets it receive then."""
        self.agent.read(self.id, MAILBOX)       # what was said before is forgotten
        self._ask(RESET)

    def hear(self, *hashes: int) -> None:
        """Ask for frames to multicast addresses with these hashes, and for no other."""
        pairs = [low | high << 16 for low, high in zip(hashes[::2], (*hashes[1::2], 0))]
        assert self._ask(MULTICASTS | len(hashes) << 16, *pairs) & DONE

    def receive(self) -> None:
        """Begin."""
        self._fill(0, self.size)
        for register, value in ((RXDCTL, 0), (RDBAL, self.ring & 0xFFFFFFFF),
                                (RDBAH, self.ring >> 32), (RDLEN, self.size * DESCRIPTOR),
                                (SRRCTL, ADVANCED_2K), (RDH, 0), (RDT, 0), (RXDCTL, QUEUE_ON),
                                (RDT, self.size - 1)):
            self.agent.write(self.id, register, value)

    def _fill(self, first: int, count: int) -> None:
        at = self.offset + first * DESCRIPTOR
        buffer = self.ring + self.pages * PAGE
        self.agent.poke(f"{self.id}-ram", at, buffer.to_bytes(8, "little") + bytes(8))
        if count > 1:
            self.agent.do(f"repeat {self.id}-ram {at:#x} {count * DESCRIPTOR} {DESCRIPTOR}")

    def refill(self) -> None:
        """Give back what has been used."""
        head = self.agent.read(self.id, RDH)
        used = (head - self.next) % self.size
        if not used:
            return
        self._fill(self.next, min(used, self.size - self.next))
        if self.next + used > self.size:
            self._fill(0, head)
        self.agent.write(self.id, RDT, (head - 1) % self.size)
        self.next = head
        self.before += used

    @property
    def received(self) -> int:
        """How many frames it has received, of a ring at a time at most."""
        return self.before + (self.agent.read(self.id, RDH) - self.next) % self.size
