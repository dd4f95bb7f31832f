# SPDX-License-Identifier: GPL-2.0
"""Ethernet frames with a sequence number and the host's time, sent into a QEMU dgram netdev.

The socket pair between us and QEMU is the wire. When the NIC cannot take a frame (receive or Bus
Master is off), or a busy host stops QEMU, frames wait in the pair's buffer; what finds it full is
counted as refused and is gone. When a frame was written by DMA is read from QEMU's trace.
"""

from __future__ import annotations

import socket
import struct
import threading
import time

MAGIC = 0x50434C55
SIZE = 128
BUFFER = 16 << 20       # about 20,000 frames
SO_SNDBUFFORCE = 32     # past the host's limit, for root; not in Python's socket module
HEADER = b"\xff" * 6 + bytes.fromhex("525400000001") + b"\x88\xb5"


def frame(stream: int, seq: int, now: int) -> bytes:
    """One frame, as the guest's driver expects it."""
    head = HEADER + struct.pack(">IIQQ", MAGIC, stream, seq, now)
    return head.ljust(SIZE, bytes([seq & 0xFF]))


class Sender:
    """Sends at a fixed rate from a thread of its own; keeps the time of every frame."""

    def __init__(self, rate: float = 250.0, stream: int = 1) -> None:
        self.rate = rate
        self.stream = stream
        self.host, self.qemu = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self.host.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER)
        except PermissionError:     # as much as the host allows, some 270 frames by default
            self.host.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        self.host.setblocking(False)
        self.times: list[int] = []
        self.refused: list[int] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def sent(self) -> int:
        """Frames sent so far, refused ones included: a wire does not wait."""
        return len(self.times)

    def start(self) -> None:
        """Start or go on; sequence numbers continue."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Stop and return how many frames were sent in all."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None
        return self.sent

    def close(self) -> None:
        self.stop()
        self.host.close()
        self.qemu.close()

    def send(self) -> None:
        """One frame, now."""
        now = time.time_ns()
        seq = self.sent
        try:
            self.host.send(frame(self.stream, seq, now))
        except (BlockingIOError, ConnectionError, OSError):
            self.refused.append(seq)
        self.times.append(now)

    def _run(self) -> None:
        began = time.monotonic()
        first = self.sent
        while not self._stop.is_set():
            due = began + (self.sent - first) / self.rate
            delay = due - time.monotonic()
            if delay > 0:
                time.sleep(delay)
            self.send()
