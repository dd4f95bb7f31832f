# SPDX-License-Identifier: GPL-2.0
"""A machine whose devices the host can act on while no kernel runs."""

from __future__ import annotations

import socket
import tempfile
import time
from typing import Any

from . import config
from .machine import Machine, MachineError


class Reachable(Machine):
    """QEMU's test protocol (docs/devel/testing.rst) makes accesses that no kernel makes."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # The path of a socket must be short.
        self._place = tempfile.TemporaryDirectory(prefix="pcilu-")
        self._at = f"{self._place.name}/outside"

    def qemu_args(self, channel: int, qmp: int) -> list[str]:
        return [*super().qemu_args(channel, qmp), "-qtest", f"unix:{self._at},server=on,wait=off"]

    def close(self) -> None:
        super().close()
        self._place.cleanup()

    def write(self, address: int, value: int) -> None:
        """Write 32 bits at a physical address."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(self.timeout)
            connection.connect(self._at)
            connection.sendall(f"writel {address:#x} {value:#x}\n".encode())
            answer = connection.makefile().readline()
        if answer != "OK\n":
            raise MachineError(f"writing {value:#x} to {address:#x} from outside: {answer!r}")

    def config_at(self, id: str, offset: int) -> int:
        """Where a register in configuration space is in memory."""
        window = next(line for line in self.sh("cat /proc/iomem").out.splitlines()
                      if "ECAM" in line or "MMCONFIG" in line)
        domain, bus, rest = self.topology.bdf[id].split(":")
        slot, function = rest.split(".")
        return (int(window.split("-")[0], 16) + (int(bus, 16) << 20) + (int(slot, 16) << 15)
                + (int(function) << 12) + offset)

    def flipped(self, id: str, offset: int, bits: int) -> tuple[int, int]:
        """A register and what it would be with other bits, for later."""
        was = config.read(self, self.topology.bdf[id]).get(offset, 4)
        return self.config_at(id, offset), was ^ bits

    def wait_for_next_kernel(self) -> None:
        """After leave(): until the next kernel says a first word, long before it looks for PCI."""
        console = self.folder / "console.log"
        deadline = time.monotonic() + self.timeout
        while console.read_bytes().count(b"] Linux version ") <= self.boot:
            if time.monotonic() > deadline:
                raise MachineError(f"no next kernel within {self.timeout:.0f} s; see {self.folder}")
            time.sleep(0.01)
