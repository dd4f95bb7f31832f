# SPDX-License-Identifier: GPL-2.0
"""A process in the guest (the vfio_agent program) that does with VFIO devices what it is told."""

from __future__ import annotations

import json
from typing import Any

from .machine import Machine, MachineError

PAGE = 4096
BATCH = 200     # commands in one line to the agent
HAMMER = ("config", "irqs", "reset", "export")      # what the thread of `hammer` tries


class Agent:
    """One such process. Its devices, memories and sessions have the names given here."""

    def __init__(self, machine: Machine, name: str = "vm0") -> None:
        self.machine = machine
        self.name = name
        self.pid = 0

    def start(self) -> "Agent":
        """Begin anew: in the first kernel, and in every kernel after it."""
        self.pid = self.machine.json(f"vfio_agent start {self.name}")["pid"]
        return self

    def attempt(self, *commands: str) -> list[dict[str, Any]]:
        """Commands one after the other, whatever comes of each."""
        answers: list[dict[str, Any]] = []
        for first in range(0, len(commands), BATCH):
            part = commands[first:first + BATCH]
            out = self.machine.run(f"vfio_agent ctl {self.name} '{'; '.join(part)}'").out
            some = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
            if len(some) != len(part):
                raise MachineError(f"{self.name}: {part}: {out!r}")
            answers += some
        return answers

    def do(self, *commands: str) -> dict[str, Any]:
        """Commands that must all work; the answer to the last."""
        for command, answer in zip(commands, answers := self.attempt(*commands)):
            if answer["rc"] < 0:
                raise MachineError(f"{self.name}: {command}: {answer}")
        return answers[-1]

    def refused(self, command: str) -> str:
        """The name of the errno that comes of a command, or nothing."""
        return str(self.attempt(command)[0].get("errno", ""))

    # -- what most scenarios begin and go on with -------------------------------------------------

    def take(self, *ids: str, pages: int = 16, iova: int | None = None,
             token: str = "") -> "Agent":
        """Bind devices to vfio-pci and open them, each with memory (ID-ram) mapped."""
        at = "" if iova is None else hex(iova)
        for id in ids:
            bdf = self.machine.topology.bdf[id]
            self.machine.json(f"pci_cfg bind {bdf}")
            self.do(f"open {id} {bdf}", *([f"token {id} {token}"] if token else []),
                    f"bind {id}", f"attach {id}",
                    f"memory {id}-ram {pages}", f"map {id} {id}-ram {at}")
        return self

    def preserve(self, *ids: str) -> None:
        """A session of the agent's name with devices and memories: tokens 1 and 2, 3 and 4."""
        self.do(f"session s {self.name}",
                *(line for n, id in enumerate(ids)
                  for line in (f"preserve s {2 * n + 1} {id}-ram", f"preserve s {2 * n + 2} {id}")))

    def take_back(self, *ids: str, finish: bool = True, token: str = "") -> "Agent":
        """In the next kernel, with a new process: all of that again, out of the session."""
        for id in ids:
            self.machine.json(f"pci_cfg bind {self.machine.topology.bdf[id]}")
        self.start()
        self.do(f"retrieve-session s {self.name}")
        for n, id in enumerate(ids):
            self.do(f"retrieve s {2 * n + 1} memory {id}-ram",
                    f"retrieve s {2 * n + 2} device {id}",
                    *([f"token {id} {token}"] if token else []), f"bind {id}", f"attach {id}",
                    f"map {id} {id}-ram")
        if finish:
            self.finish()
        return self

    def finish(self) -> None:
        """Finish the session and close it."""
        self.do("finish s", "close s")

    # -- registers -------------------------------------------------------------------------------

    def read(self, id: str, offset: int, width: int = 4, bar: int = 0) -> int:
        """A register of a device."""
        return int(self.do(f"bar-read {id} {bar} {offset:#x} {width}")["value"])

    def write(self, id: str, offset: int, value: int, width: int = 4, bar: int = 0) -> None:
        """Write a register."""
        self.do(f"bar-write {id} {bar} {offset:#x} {width} {value:#x}")

    def command(self, id: str) -> int:
        """The Command register."""
        return int(self.do(f"config-read {id} 4 2")["value"])

    def set_command(self, id: str, bits: int) -> None:
        """Set bits of the Command register."""
        self.do(f"config-write {id} 4 2 {self.command(id) | bits:#x}")

    def peek(self, memory: str, offset: int, length: int) -> bytes:
        """Bytes of a memory."""
        return bytes.fromhex(self.do(f"peek {memory} {offset:#x} {length}")["data"])

    def poke(self, memory: str, offset: int, data: bytes) -> None:
        """Put bytes there."""
        self.do(f"poke {memory} {offset:#x} {data.hex()}")

    def in_order(self, memory: str) -> list[int]:
        """The physical addresses of the pages of a memory, by offset."""
        runs = [run.split("+") for run in self.do(f"pages {memory}")["pages"]]
        return [int(start, 16) + PAGE * n for start, count in runs for n in range(int(count))]

    def pages(self, *memories: str) -> set[int]:
        """The physical addresses of all pages of memories."""
        return {page for memory in memories for page in self.in_order(memory)}

    def hammered(self, memory: str, at: int = 0x1000) -> dict[str, int]:
        """How often what `hammer` tries was done, and refused with -EBUSY."""
        raw = self.peek(memory, at, 80)
        number = [int.from_bytes(raw[n:n + 8], "little") for n in range(0, 80, 8)]
        return {f"{what} {outcome}": number[2 * n + m] for n, what in enumerate(HAMMER)
                for m, outcome in enumerate(("done", "refused"))} | {
                    "other": number[8], "errno": number[9]}

    def physical(self, id: str, offset: int = 0) -> int:
        """The physical address of a device's mapped memory (no-IOMMU mode)."""
        return int(self.do(f"pa {id} {offset:#x}")["pa"], 16)
