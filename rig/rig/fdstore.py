# SPDX-License-Identifier: GPL-2.0
"""A stand-in for systemd: takes a daemon's notifications, and keeps descriptors for it."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import threading
import time
from pathlib import Path

from . import pcilu_host as ph
from .fakeluo import OPEN, REPLY, REQUEST, RETRIEVE, FakeLuo


class Store:
    """Runs in a thread of its own from start to close."""

    def __init__(self, folder: Path) -> None:
        self.kept: list[tuple[str, int]] = []
        self.status = ""
        self.readies = 0
        self.barriers = 0
        self.slow = 0.0         # seconds before it lets go of what is dropped
        self.late: list[threading.Timer] | None = None      # who close it long after it said so
        self.lock = threading.Lock()
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(folder / "notify"))
        os.chmod(folder / "notify", 0o666)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def getsockname(self) -> str:
        return str(self.sock.getsockname())

    def _run(self) -> None:
        while True:
            data, fds, _, _ = socket.recv_fds(self.sock, 65536, 4)
            if data == b"END":
                return
            with self.lock:
                self._take(data.decode(), fds)

    def _take(self, text: str, fds: list[int]) -> None:
        fields = dict(line.split("=", 1) for line in text.splitlines())
        self.status = fields.get("STATUS", self.status)
        self.readies += "READY" in fields
        self.barriers += "BARRIER" in fields
        if "FDSTOREREMOVE" in fields:
            time.sleep(self.slow)
            for _, fd in (k for k in self.kept if k[0] == fields["FDNAME"]):
                if self.late is None:
                    os.close(fd)
                else:
                    self.late.append(threading.Timer(2, os.close, [fd]))
                    self.late[-1].start()
            self.kept = [k for k in self.kept if k[0] != fields["FDNAME"]]
        # A descriptor of a file that is there already is not kept twice.
        if "FDSTORE" in fields and not any(is_same_file(fd, fds[0])
                                           for _, fd in self.kept):
            self.kept.append((fields["FDNAME"], high(fds[0])))
        for fd in fds:
            os.close(fd)        # that of a barrier, too

    def settle(self) -> None:
        """All that was sent has been taken."""
        reader, writer = os.pipe()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect(self.getsockname())
            socket.send_fds(sock, [b"BARRIER=1"], [writer])
        os.close(writer)
        os.read(reader, 1)
        os.close(reader)

    def names(self) -> list[str]:
        self.settle()
        return sorted(name for name, _ in self.kept)

    def fd(self, name: str) -> int:
        self.settle()
        return next(fd for n, fd in self.kept if n == name)

    def start(self, host: ph.Host, *argv: str, **options: bool) -> None:
        """The daemon gets what is kept for it."""
        self.settle()
        host.start(*argv, notify=self,       # type: ignore[arg-type]
                   fds=[fd for _, fd in self.kept], names=[name for name, _ in self.kept],
                   **options)

    def restart(self, host: ph.Host, *argv: str, sig: int = 9) -> None:
        host.stop(sig)
        self.start(host, *argv)

    def forget(self) -> None:
        """As when a unit is stopped."""
        self.settle()
        for _, fd in self.kept:
            os.close(fd)
        self.kept = []

    def carry(self, luo: FakeLuo) -> None:
        """What systemd 261 does over a kexec: sessions are retrieved under their old names.

        Memory that is in a session already cannot be in systemd's own.
        """
        self.settle()
        luo.kexec()
        old, self.kept = self.kept, []
        with device(luo) as opener:
            for name, fd in old:
                os.close(fd)
                session = "pcilud" if name.startswith("own") else name[2:]
                if name.startswith(("own", "o.")):
                    self.kept.append((name, high(got := retrieve(opener, session))))
                    os.close(got)

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"END", self.getsockname())
        self.thread.join()
        for timer in self.late or ():
            timer.join()
        self.forget_quietly()
        self.sock.close()

    def forget_quietly(self) -> None:
        for _, fd in self.kept:
            os.close(fd)
        self.kept = []


def is_same_file(one: int, other: int) -> bool:
    """Of an open file, not of what was opened, as systemd tells by kcmp(2)."""
    number = {"x86_64": 312, "aarch64": 272}[os.uname().machine]
    me = os.getpid()
    return ctypes.CDLL(None).syscall(number, me, me, 0, one, other) == 0


def high(fd: int) -> int:
    """A copy whose number is no other's in the daemon that gets it."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 300)


def ask(sock: socket.socket, op: int, name: str = "") -> list[int]:
    sock.sendall(REQUEST.pack(op, 0, 0, 0, name.encode()))
    data, fds, _, _ = socket.recv_fds(sock, REPLY.size, 1)
    assert REPLY.unpack(data)[0] == 0, (op, name, REPLY.unpack(data))
    return fds


def device(luo: FakeLuo) -> socket.socket:
    """The stand-in's device, open."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.connect(str(luo.path))
    ask(sock, OPEN)
    return sock


def retrieve(opener: socket.socket, name: str) -> int:
    return ask(opener, RETRIEVE, name)[0]
