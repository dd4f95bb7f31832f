# SPDX-License-Identifier: GPL-2.0
"""A driver for the receive side of e1000e in the hands of an agent: one ring, one place for frames.

Registers are those of the 82574L's datasheet, sec 10.2; its MSI-X is told in sec 7.4 and 10.2.4.
"""

from __future__ import annotations

from .agent import Agent

PAGE = 4096
IN_PAGE = PAGE // 16        # descriptors

CTRL, RCTL = 0x0, 0x100
RDBAL, RDBAH, RDLEN, RDH, RDT = 0x2800, 0x2804, 0x2808, 0x2810, 0x2818
ICR, ICS, IMS, IMC, IVAR = 0xC0, 0xC8, 0xD0, 0xD8, 0xE4
LINK_UP, RECEIVE = 0x40, 0x0400801A     # of everything, without checksums
QUEUE = 1 << 20         # the cause: a frame in receive queue 0


class Nic:
    """One e1000e; `id` is the device's name and the agent's for it."""

    def __init__(self, agent: Agent, id: str) -> None:
        self.agent = agent
        self.id = id

    def receive(self, ring: int, pages: int, buffer: int) -> None:
        """Put all frames into one place. The ring is in the first pages of the memory."""
        self.agent.poke(f"{self.id}-ram", 0, buffer.to_bytes(8, "little") + bytes(8))
        self.agent.do(f"repeat {self.id}-ram 0 {pages * PAGE} {PAGE // IN_PAGE}")
        self.agent.write(self.id, CTRL, self.agent.read(self.id, CTRL) | LINK_UP)
        for register, value in ((RDBAL, ring & 0xFFFFFFFF), (RDBAH, ring >> 32),
                                (RDLEN, pages * PAGE), (RDH, 0), (RDT, 0), (RCTL, RECEIVE),
                                (RDT, pages * IN_PAGE - 1)):
            self.agent.write(self.id, register, value)

    def interrupt(self, vector: int) -> None:
        """Send a message for the first frame after an acknowledgement, of this MSI-X vector."""
        for register, value in ((IMC, 0xFFFFFFFF), (IVAR, 0x8 | vector), (IMS, QUEUE)):
            self.agent.write(self.id, register, value)

    def acknowledge(self) -> None:
        """It has been heard."""
        self.agent.write(self.id, ICR, QUEUE)

    @property
    def head(self) -> int:
        """How many frames it has received, if the ring has not wrapped around."""
        return self.agent.read(self.id, RDH)
