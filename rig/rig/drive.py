# SPDX-License-Identifier: GPL-2.0
"""An NVMe drive that a guest reads, and what QEMU tells of it."""

from __future__ import annotations

import re
import struct
from pathlib import Path

from . import witness
from .machine import Machine
from .topology import Device

COMPLETION = "pci_nvme_enqueue_req_completion"      # to be traced


class Drive:
    """An NVMe drive each of whose blocks holds its own number, as vmm/guest/read.c expects.

    It is as slow as a disk, so that who reads always waits for it.
    """

    BLOCK, BLOCKS = 4096, 256
    MAGIC = 0x50434C55 << 32
    RATE = 50       # reads a second
    DEPTH = 4       # of them each CPU waits for so many, says vmm/guest/read.c

    def __init__(self, folder: Path, id: str) -> None:
        self.id = id
        self.path = folder / f"{id}.img"
        folder.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(b"".join(self._block(n) for n in range(self.BLOCKS)))
        self.device = Device("nvme", id, {"serial": id, "drive": f"drive-{id}",
                                          "max_ioqpairs": "8", "msix_qsize": "9"})
        # For QEMU, before the device
        self.args = ["-drive", f"if=none,id=drive-{id},format=raw,file={self.path},"
                     f"throttling.iops-total={self.RATE}"]

    def _block(self, number: int) -> bytes:
        return struct.pack("<Q", self.MAGIC | number) * (self.BLOCK // 8)

    def spoil(self, number: int) -> None:
        """A block holds the number of the next one."""
        with open(self.path, "r+b") as file:
            file.seek(number * self.BLOCK)
            file.write(self._block(number + 1))

    def _throttle(self, machine: Machine, **limits: int) -> None:
        machine.qmp("block_set_io_throttle", device=f"drive-{self.id}",
                    **dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0)
                    | limits)

    def hold(self, machine: Machine) -> None:
        """After one more it completes no command until it is released."""
        self._throttle(machine, bps=1)

    def release(self, machine: Machine) -> None:
        """What waits is completed at once."""
        self._throttle(machine, iops=self.RATE)


def completions(host: Machine, since: float, until: float = float("inf")) -> list[int]:
    """The queues into which drives have put something, each time."""
    found = []
    with open(host.folder / "trace.log", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            queue = re.search(rf"{COMPLETION} cid \d+ cqid (\d+) ", line)
            match = witness.LINE.match(line)
            if queue and match and since < witness.moment(match) < until:
                found.append(int(queue[1]))
    return sorted(found)
