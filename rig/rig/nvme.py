# SPDX-License-Identifier: GPL-2.0
"""A driver for NVMe controllers in the hands of an agent: an admin queue, one I/O queue, polled.

Registers and structures are those of the NVM Express Base Specification 1.4: registers sec 3.1,
queue entries sec 4.2 and 4.6, admin commands sec 5, and of the NVM command set sec 6.
"""

from __future__ import annotations

import struct
import time

from .agent import Agent
from .machine import MachineError

PAGE = 4096
ENTRIES = 8         # of each queue
LBA = 512

CC, CSTS, AQA, ASQ, ACQ = 0x14, 0x1C, 0x24, 0x28, 0x30
DOORBELLS = 0x1000
ENABLED = 0x460001  # entry sizes 64 and 16, pages of 4 KiB, NVM command set, enable
READY = 1
CREATE_SQ, CREATE_CQ = 0x01, 0x05
WRITE, READ = 0x01, 0x02
MASTER, MEMORY = 0x4, 0x2

# Pages of the agent's memory, and what the queues have come to: what a driver has to know of
# itself in the next kernel is in the memory that is handed over with it.
QUEUES = ((0, 1), (2, 3))       # submission and completion queue: admin, I/O
STATE, DATA = 4, 5


class Nvme:
    """One controller; `id` is the device's name and the agent's for it."""

    def __init__(self, agent: Agent, id: str) -> None:
        self.agent = agent
        self.id = id

    # -- memory ------------------------------------------------------------------------------

    def page(self, number: int) -> int:
        """Where the controller finds a page of memory."""
        return self.agent.physical(self.id, number * PAGE)

    def data(self, page: int, length: int) -> bytes:
        """What is in a page of data."""
        return self.agent.peek(f"{self.id}-ram", (DATA + page) * PAGE, length)

    def put(self, page: int, data: bytes) -> None:
        """Fill a page of data."""
        self.agent.poke(f"{self.id}-ram", (DATA + page) * PAGE, data)

    def _state(self, queue: int) -> tuple[int, int]:
        """How many commands of a queue were submitted, and how many were seen to complete."""
        return struct.unpack("<II", self.agent.peek(f"{self.id}-ram", STATE * PAGE + 8 * queue, 8))

    def _set_state(self, queue: int, submitted: int, completed: int) -> None:
        self.agent.poke(f"{self.id}-ram", STATE * PAGE + 8 * queue,
                        struct.pack("<II", submitted, completed))

    # -- queues ------------------------------------------------------------------------------

    def submit(self, queue: int, opcode: int, *, nsid: int = 0, prp: int = 0,
               words: tuple[int, ...] = ()) -> int:
        """Hand a command to the controller; its identifier."""
        submitted, completed = self._state(queue)
        cid = submitted & 0xFFFF
        entry = struct.pack("<BBHIQQQQ6I", opcode, 0, cid, nsid, 0, 0, prp, 0,
                            *(*words, *[0] * (6 - len(words))))
        self.agent.poke(f"{self.id}-ram",
                        QUEUES[queue][0] * PAGE + submitted % ENTRIES * 64, entry)
        self._set_state(queue, submitted + 1, completed)
        self.agent.write(self.id, DOORBELLS + 8 * queue, (submitted + 1) % ENTRIES)
        return cid

    def poll(self, queue: int) -> tuple[int, int] | None:
        """The next completion, if it is there: identifier and status."""
        submitted, completed = self._state(queue)
        raw = self.agent.peek(f"{self.id}-ram",
                              QUEUES[queue][1] * PAGE + completed % ENTRIES * 16, 16)
        cid, status = struct.unpack("<HH", raw[12:])
        # The phase changes whenever the queue wraps around.
        if status & 1 == completed // ENTRIES % 2:
            return None
        self._set_state(queue, submitted, completed + 1)
        self.agent.write(self.id, DOORBELLS + 8 * queue + 4, (completed + 1) % ENTRIES)
        return cid, status >> 1

    def wait(self, queue: int, cid: int, seconds: float = 60.0) -> None:
        """Wait for a command, which must succeed and be the next to complete."""
        deadline = time.monotonic() + seconds
        while (done := self.poll(queue)) is None:
            if time.monotonic() > deadline:
                raise MachineError(f"{self.id}: command {cid} does not complete")
            time.sleep(0.1)
        if done != (cid, 0):
            raise MachineError(f"{self.id}: command {cid}: completed {done}")

    # -- what it is for ----------------------------------------------------------------------

    def enable(self) -> None:
        """Reset it and set up both queues."""
        agent = self.agent
        agent.set_command(self.id, MASTER | MEMORY)
        agent.write(self.id, CC, 0)
        self._ready(0)
        agent.write(self.id, AQA, (ENTRIES - 1) << 16 | (ENTRIES - 1))
        agent.write(self.id, ASQ, self.page(QUEUES[0][0]), width=8)
        agent.write(self.id, ACQ, self.page(QUEUES[0][1]), width=8)
        agent.write(self.id, CC, ENABLED)
        self._ready(READY)
        size = (ENTRIES - 1) << 16 | 1
        self.wait(0, self.submit(0, CREATE_CQ, prp=self.page(QUEUES[1][1]), words=(size, 1)))
        self.wait(0, self.submit(0, CREATE_SQ, prp=self.page(QUEUES[1][0]),
                                 words=(size, 1 << 16 | 1)))

    def _ready(self, want: int) -> None:
        for _ in range(100):
            if self.agent.read(self.id, CSTS) & READY == want:
                return
            time.sleep(0.1)
        raise MachineError(f"{self.id}: CSTS {self.agent.read(self.id, CSTS):#x}")

    def start(self, opcode: int, lba: int, page: int, blocks: int = PAGE // LBA) -> int:
        """Begin to read or write up to a page; the command's identifier."""
        return self.submit(1, opcode, nsid=1, prp=self.page(DATA + page),
                           words=(lba, 0, blocks - 1))

    def transfer(self, opcode: int, lba: int, page: int, blocks: int = PAGE // LBA) -> None:
        """Read or write up to a page."""
        self.wait(1, self.start(opcode, lba, page, blocks))
