# SPDX-License-Identifier: GPL-2.0
"""What scenarios ask of a pcilud."""

from __future__ import annotations

import errno
import os
import socket
import subprocess

import pytest

from . import pcilu_host as ph
from .pcilu_host import Host

NOBODY = 65534
CONNECTION_ENDS = -1


def session(host: Host, kind: int, name: str, direction: int = 0) -> int:
    """One request: its errno. A descriptor that comes with the reply is closed."""
    with host.connect() as sock:
        error, _, fds, _ = host.ask(sock, ph.message(kind, name, direction=direction))
        for fd in fds:
            os.close(fd)
        return error


def keep(host: Host, name: str, flags: int = os.O_NONBLOCK, path: str = "/dev/null",
         fd: int = -1, message: bytes = b"") -> int:
    """Have it keep a descriptor with a session: an errno, or that it ended the connection."""
    fd = os.open(path, os.O_RDONLY | flags) if fd < 0 else os.dup(fd)
    try:
        with host.connect() as sock:
            socket.send_fds(sock, [message or ph.message(ph.KEEP, name, flags=ph.F_FD)], [fd])
            reply = sock.recv(ph.MSG.size)
            return -ph.fields(reply)["error"] if reply else CONNECTION_ENDS
    finally:
        os.close(fd)


def listing(host: Host) -> dict[tuple[str, int], dict[str, int]]:
    """The sessions that it lists, by name and direction."""
    found, index = {}, 0
    with host.connect() as sock:
        while True:
            error, name, _, fields = host.ask(sock, ph.message(ph.LIST, index=index))
            if error == errno.ENOENT:
                return found
            assert error == 0
            found[name, fields["direction"]] = fields
            index = fields["index"] + 1


def create(host: Host, *names: str) -> None:
    for name in names:
        assert session(host, ph.CREATE, name) == 0


def assert_served(host: Host, outgoing: set[str], incoming: set[str] | None = None) -> None:
    """It lists these and no others, the kernel has them, and they can be had."""
    expected = {(name, 0) for name in outgoing} | {(name, 1) for name in incoming or ()}
    assert set(listing(host)) == expected, host.log.read_text()
    assert set(host.luo.outgoing) >= outgoing and set(host.luo.incoming) >= (incoming or set())
    for name, direction in sorted(expected):
        assert session(host, ph.RETRIEVE if direction else ph.ATTACH, name) == 0, name


def as_user(host: Host, code: str, uid: int = NOBODY) -> str:
    """What a Python program of another user prints. It has `s`, connected to the daemon."""
    if os.geteuid() != 0:
        pytest.skip("only root can try what another user may do")
    # By a path from its working directory, whoever may pass through those above.
    out = subprocess.run(
        ["/usr/bin/python3", "-c",
         "import os,socket,sys,struct,time,resource\n"
         "resource.setrlimit(resource.RLIMIT_NOFILE,(4096,4096))\n"
         f"os.setgroups([]);os.setgid({uid});os.setuid({uid})\n"
         "def connect():\n"
         " s=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET);s.settimeout(30)\n"
         " s.connect('socket');return s\n"
         "def error(reply): return -struct.unpack_from('=i',reply,16)[0]\n"
         f"s=connect()\n{code}"], text=True, capture_output=True, timeout=120,
        cwd=host.root / "run/pcilud")
    assert out.returncode == 0, out.stderr
    return out.stdout.strip()
