# SPDX-License-Identifier: GPL-2.0
"""QEMU's gdb stub: a guest that stops at each write to memory (gdb's "Remote Serial Protocol").

Writes are watched at the addresses at which a kernel that is not randomised (nokaslr) has all
memory, with four levels of page tables.
"""

from __future__ import annotations

import select
import socket
import tempfile
import threading
from typing import Callable

from .machine import Machine, MachineError

DIRECT = 0xFFFF888000000000
INTERRUPT = b"\x03"


class Stub:
    """A machine's stub. The guest stands still while we are asked, and in between it runs."""

    def __init__(self, machine: Machine) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="pcilu-")
        at = f"{self._place.name}/gdb"
        machine.hmp(f"gdbserver unix:{at},server=on,wait=off")
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(machine.timeout)
        self._socket.connect(at)        # which stops it
        self._buffer = b""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._failed: Exception | None = None
        # What is read is physical memory, whatever the CPU is doing.
        if (answer := self._ask("Qqemu.PhyMemMode:1")) != "OK":
            self.close()
            raise MachineError(f"QEMU's gdb stub does not read physical memory: {answer!r}")

    def __enter__(self) -> "Stub":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, packet: str) -> None:
        raw = packet.encode()
        self._socket.sendall(b"$%s#%02x" % (raw, sum(raw) & 0xFF))

    def _receive(self) -> str:
        """The next packet, which is acknowledged."""
        while True:
            begin = self._buffer.find(b"$")
            end = self._buffer.find(b"#", begin)
            if begin >= 0 and 0 <= end <= len(self._buffer) - 3:
                packet = self._buffer[begin + 1:end].decode()
                self._buffer = self._buffer[end + 3:]
                self._socket.sendall(b"+")
                return packet
            data = self._socket.recv(65536)
            if not data:
                raise MachineError("QEMU's gdb stub is gone")
            self._buffer += data

    def _ask(self, packet: str) -> str:
        """The answer. That it stands still, as QEMU 7.2 says of itself at first, is none."""
        self._send(packet)
        while (answer := self._receive()).startswith("T"):
            pass
        return answer

    def words(self, address: int, count: int) -> list[int]:
        """So many pieces of 64 bits of physical memory."""
        answer = self._ask(f"m{address:x},{8 * count:x}")
        if len(answer) != 16 * count:
            raise MachineError(f"no memory at {address:#x}: {answer!r}")
        raw = bytes.fromhex(answer)
        return [int.from_bytes(raw[n:n + 8], "little") for n in range(0, 8 * count, 8)]

    def watch(self, places: dict[int, int], look: Callable[["Stub"], None]) -> None:
        """Have a look right after each write there: physical addresses, and how many bytes."""
        for address, size in places.items():
            if (answer := self._ask(f"Z2,{DIRECT + address:x},{size:x}")) != "OK":
                raise MachineError(f"no watchpoint at {address:#x}: {answer!r}")
        self._thread = threading.Thread(target=self._run, args=(look,), daemon=True)
        self._thread.start()

    def _run(self, look: Callable[["Stub"], None]) -> None:
        try:
            while not self._stop.is_set():
                self._send("c")
                while not self._buffer.count(b"$") and not self._stop.is_set():
                    if select.select([self._socket], [], [], 0.1)[0]:
                        self._buffer += self._socket.recv(65536)
                if self._stop.is_set() and b"$" not in self._buffer:
                    self._socket.sendall(INTERRUPT)
                if "watch:" in self._receive():
                    look(self)
        except (OSError, ValueError, MachineError) as error:
            self._failed = error

    def close(self) -> None:
        """Let it run on."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._ask("D")
        self._socket.close()
        self._place.cleanup()
        if self._failed is not None:
            raise self._failed
