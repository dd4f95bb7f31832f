# SPDX-License-Identifier: GPL-2.0
"""A stand-in for /dev/liveupdate on the host: what the shim asks, this answers.

Sessions and files behave as in the kernel: one opener of the device, an outgoing session ends when
its last descriptor is closed, an incoming one is finished then. `kexec` is the jump.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

CREATE, RETRIEVE, PRESERVE, RETRIEVE_FD, FINISH, GET_NAME = 0x00, 0x01, 0x40, 0x41, 0x42, 0x43
DISCARD = 0x44
OPEN, KEXEC_LOAD, REBOOT = 0x100, 0x101, 0x102
UNLOAD = 1      # KEXEC_FILE_UNLOAD
REQUEST = struct.Struct("=IiQQ4096s")
REPLY = struct.Struct("=i64sQ")


class Refused(Exception):
    """An errno as the answer."""


@dataclass
class Session:
    name: str
    files: dict[int, int] = field(default_factory=dict)
    given: set[int] = field(default_factory=set)
    incoming: bool = False
    retrieved: bool = False
    finished: bool = False
    discarded: bool = False

    def drop(self) -> None:
        for fd in self.files.values():
            os.close(fd)
        self.files.clear()


class FakeLuo:
    """Runs in a thread of its own from start to close."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.RLock()
        self.outgoing: dict[str, Session] = {}
        self.incoming: dict[str, Session] = {}
        self.opener: socket.socket | None = None
        self.of: dict[socket.socket, Session] = {}
        self.loads: list[tuple[str, int, bool]] = []   # command line, flags, with an initrd
        self.loaded: bytes | None = None    # the image, as it was when it was loaded
        self.unloads = 0
        self.before_load: Callable[[], object] = lambda: None
        self.before_reboot: Callable[[], object] = lambda: None     # may refuse
        self.kexec_loaded: Path | None = None       # the file in sysfs that tells
        self.reboots: list[int] = []
        self.load_error = 0
        self.max_sessions = 100_000
        self.created: set[str] = set()
        self.ended: dict[str, float] = {}       # when the last descriptor of a session was closed
        self.discarded: list[str] = []     # finished by a close, with files nobody retrieved
        self.selector = selectors.DefaultSelector()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(path))
        os.chmod(path, 0o666)
        self.listener.listen(64)
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.wake_r, self.wake_w = os.pipe()
        self.selector.register(self.wake_r, selectors.EVENT_READ)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def close(self) -> None:
        os.write(self.wake_w, b"x")
        self.thread.join()
        for key in list(self.selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        os.close(self.wake_r)
        os.close(self.wake_w)

    def kexec(self) -> None:
        """The jump: whoever holds a descriptor of the old kernel holds nothing any more."""
        with self.lock:
            for session in self.incoming.values():
                session.drop()
            self.incoming = {s.name: Session(s.name, s.files, incoming=True)
                             for s in self.outgoing.values()}
            self.outgoing = {}
            for sock in list(self.of) + ([self.opener] if self.opener else []):
                self.selector.unregister(sock)
                sock.close()
            self.of = {}
            self.opener = None

    def _run(self) -> None:
        while True:
            for key, _ in self.selector.select():
                if key.fileobj == self.wake_r:
                    return
                with self.lock:
                    self._serve(key.fileobj)      # type: ignore[arg-type]

    def _serve(self, sock: socket.socket) -> None:
        if sock.fileno() < 0:
            return      # went away in this round
        if sock is self.listener:
            client, _ = sock.accept()
            self.selector.register(client, selectors.EVENT_READ)
            return
        try:
            data, fds, _, _ = socket.recv_fds(sock, REQUEST.size, 1)
        except OSError:
            data, fds = b"", []
        if len(data) != REQUEST.size:
            self._gone(sock)
            return
        op, arg, token, serial, text = REQUEST.unpack(data)
        name, passed, error = b"", -1, 0
        try:
            name, passed = self._request(sock, op, arg, token, text.rstrip(b"\0").decode(),
                                         fds)
        except Refused as refusal:
            error = refusal.args[0]
        for fd in fds:
            os.close(fd)
        try:
            socket.send_fds(sock, [REPLY.pack(error, name, serial)],
                            [passed] if passed >= 0 else [])
        except OSError:
            pass        # who asked was killed meanwhile; what was made goes with the descriptor
        if op in (CREATE, RETRIEVE) and passed >= 0:
            os.close(passed)

    def _gone(self, sock: socket.socket) -> None:
        """The last copy of a descriptor was closed."""
        self.selector.unregister(sock)
        sock.close()
        if sock is self.opener:
            self.opener = None
        session = self.of.pop(sock, None)
        if session is None:
            return
        self.ended[session.name] = time.time()
        if session.incoming and set(session.files) - session.given and not session.finished:
            self.discarded.append(session.name)
        session.drop()
        (self.incoming if session.incoming else self.outgoing).pop(session.name, None)

    def _new_descriptor(self, session: Session) -> int:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.of[ours] = session
        self.selector.register(ours, selectors.EVENT_READ)
        return theirs.detach()

    def _request(self, sock: socket.socket, op: int, arg: int, token: int, text: str,
                 fds: list[int]) -> tuple[bytes, int]:
        if op == OPEN:
            if self.opener:
                raise Refused(errno.EBUSY)
            self.opener = sock
        elif op == KEXEC_LOAD:
            if self.load_error:
                raise Refused(self.load_error)
            self._load(text, arg, bool(token), fds)
        elif op == REBOOT:
            self.before_reboot()
            self.reboots.append(arg & 0xffffffff)
        elif op in (CREATE, RETRIEVE):
            if sock is not self.opener:
                raise Refused(errno.ENOTTY)
            return b"", self._session(op, text)
        else:
            session = self.of.get(sock)
            if session is None:
                raise Refused(errno.ENOTTY)
            return self._file(session, op, token, fds)
        return b"", -1

    def _load(self, cmdline: str, flags: int, initrd: bool, fds: list[int]) -> None:
        """kexec_file_load(2): reads the whole file from its beginning, or unloads."""
        if flags & UNLOAD:
            self.loaded = None
            self.unloads += 1
        else:
            self.before_load()
            size = os.fstat(fds[0]).st_size
            self.loaded = os.pread(fds[0], size, 0)
            self.loads.append((cmdline, flags, initrd))
        if self.kexec_loaded:
            self.kexec_loaded.write_text("0\n" if self.loaded is None else "1\n")

    def _session(self, op: int, name: str) -> int:
        if op == CREATE:
            if name in self.outgoing:
                raise Refused(errno.EEXIST)
            if len(self.outgoing) >= self.max_sessions:
                raise Refused(errno.ENOSPC)
            self.outgoing[name] = Session(name)
            self.created.add(name)
            return self._new_descriptor(self.outgoing[name])
        if name not in self.incoming:
            raise Refused(errno.ENOENT)
        if self.incoming[name].retrieved:
            raise Refused(errno.EINVAL)
        self.incoming[name].retrieved = True
        return self._new_descriptor(self.incoming[name])

    def _file(self, session: Session, op: int, token: int, fds: list[int]) -> tuple[bytes, int]:
        if op == GET_NAME:
            return session.name.encode(), -1
        if session.incoming != (op not in (PRESERVE, DISCARD)):
            raise Refused(errno.EINVAL)
        if op == DISCARD:
            session.discarded = True
            session.drop()
        elif op == PRESERVE:
            if session.discarded:
                raise Refused(errno.ESHUTDOWN)
            if token in session.files:
                raise Refused(errno.EEXIST)
            if not os.readlink(f"/proc/self/fd/{fds[0]}").startswith("/memfd:"):
                raise Refused(errno.ENOENT)
            session.files[token] = os.dup(fds[0])
        elif op == RETRIEVE_FD:
            if token not in session.files:
                raise Refused(errno.ENOENT)
            session.given.add(token)
            return b"", session.files[token]
        elif op == FINISH:
            session.finished = True
            session.drop()
        else:
            raise Refused(errno.EINVAL)
        return b"", -1
