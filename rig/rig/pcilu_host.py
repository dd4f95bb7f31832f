# SPDX-License-Identifier: GPL-2.0
"""The tools on the host: real programs, a temporary /sys, /proc and /run, a stand-in kernel."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

from .fakeluo import FakeLuo
from .paths import BUILD, TREE

TOOLS = Path(os.environ.get("PCILU_TOOLS", BUILD / "tools-san"))
SCHEMAS = TREE / "tools" / "pcilu" / "schema"
POLICY = "user root use *\nuser root hold\nuser * use shared-*\n"

MSG = struct.Struct("=IHHIIiIIIi12s64s")
MAGIC, VERSION = 0x554c4350, 1
HELLO, CREATE, ATTACH, RETRIEVE, RELEASE, LIST, HOLD = range(1, 8)
F_REPLY, F_FD, F_HELD = 1, 2, 4


def message(kind: int, name: str = "", *, serial: int = 1, index: int = 0, direction: int = 0,
            magic: int = MAGIC, version: int = VERSION, flags: int = 0, error: int = 0, uid: int = 0,
            pid: int = 0, reserved: bytes = b"") -> bytes:
    return MSG.pack(magic, version, kind, serial, flags, error, index, direction, uid, pid,
                    reserved, name.encode())


class Host:
    """A host of its own in a folder. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        for name in ("sys/bus/pci/devices", "proc/sys/kernel", "run/pcilud", "dev", "etc/pcilu",
                     "boot", "sys/kernel", "bin"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "dev/liveupdate").touch()
        self.write("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro kho=on liveupdate=on\n")
        self.write("proc/sys/kernel/osrelease", "7.3.4-test\n")
        self.write("etc/pcilu/pcilud.policy", POLICY)
        self.luo = FakeLuo(folder / "luo")
        self.daemon: subprocess.Popen[str] | None = None
        self.log = folder / "pcilud.log"
        self.env = {**os.environ, "PCILU_SYSROOT": str(folder), "PCILU_FAKE_LUO": str(self.luo.path),
                    "LD_PRELOAD": str(TOOLS / "shim.so"), "LC_ALL": "C", "TZ": "UTC",
                    "PATH": f"{folder / 'bin'}:{TOOLS}:{os.environ['PATH']}",
                    "LD_LIBRARY_PATH": str(TOOLS),
                    "ASAN_OPTIONS": "verify_asan_link_order=0:detect_leaks=0:abort_on_error=1",
                    "UBSAN_OPTIONS": "print_stacktrace=1"}
        self.env.pop("NOTIFY_SOCKET", None)

    def __enter__(self) -> "Host":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.luo.close()

    def write(self, path: str, text: str | bytes) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    # --- programs

    def run(self, *argv: str, **kw: Any) -> subprocess.CompletedProcess[str]:
        env = {**self.env, **kw.pop("env", {})}
        return subprocess.run(argv, env=env, text=True, capture_output=True, timeout=120, **kw)

    def pcilu(self, *argv: str, **kw: Any) -> subprocess.CompletedProcess[str]:
        return self.run(str(TOOLS / "pcilu"), *argv, **kw)

    def json(self, *argv: str, rc: int = 0, **kw: Any) -> dict[str, Any]:
        """The JSON of a command, checked against its schema."""
        import jsonschema
        out = self.pcilu(*argv, "--json", **kw)
        assert out.returncode == rc, (out.returncode, out.stdout, out.stderr)
        document = json.loads(out.stdout)
        schema = json.loads((SCHEMAS / f"{document['schema'].split('/')[1]}.json").read_text())
        jsonschema.Draft7Validator.check_schema(schema)
        jsonschema.validate(document, schema)
        return document

    def start(self, *argv: str, notify: socket.socket | None = None, fds: list[int] | None = None,
              names: list[str] | None = None, expect_ready: bool = True) -> None:
        env = dict(self.env)
        command = [str(TOOLS / "pcilud"), "--user", "root", "-v", *argv]
        if notify:
            env["NOTIFY_SOCKET"] = notify.getsockname()
        if fds:
            # As systemd does it: descriptors from 3 on, addressed to this very process.
            env["LISTEN_FDS"] = str(len(fds))
            env["LISTEN_FDNAMES"] = ":".join(names or [])
            moves = "".join(f" {3 + n}<&{fd}" for n, fd in enumerate(fds))
            command = ["bash", "-c", f"export LISTEN_PID=$$; exec \"$@\"{moves}", "-", *command]
        with open(self.log, "a", encoding="utf-8") as log:
            self.daemon = subprocess.Popen(command, env=env, text=True, stderr=log,
                                           pass_fds=fds or ())
        if expect_ready:
            self.wait(lambda: self.daemon and self.daemon.poll() is not None
                      or self.log.read_text().count("ready,") > self._readies)
            assert self.daemon.poll() is None, self.log.read_text()
            self._readies += 1

    _readies = 0

    def stop(self, sig: int = signal.SIGTERM) -> int:
        if self.daemon is None:
            return 0
        self.daemon.send_signal(sig)
        rc = self.daemon.wait(timeout=60)
        self.daemon = None
        return rc

    @staticmethod
    def wait(condition: Any, limit: float = 60) -> None:
        end = time.monotonic() + limit
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.02)

    # --- the socket

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.settimeout(30)
        sock.connect(str(self.root / "run/pcilud/socket"))
        return sock

    def ask(self, sock: socket.socket, data: bytes) -> tuple[int, str, list[int], dict[str, int]]:
        """Sends a message; its reply as errno, name, descriptors, fields."""
        sock.sendall(data)
        reply, fds, _, _ = socket.recv_fds(sock, MSG.size, 4)
        assert len(reply) == MSG.size, "the connection was closed"
        magic, version, kind, serial, flags, error, index, direction, uid, pid, _, name = \
            MSG.unpack(reply)
        assert (magic, version) == (MAGIC, VERSION)
        return -error, name.rstrip(b"\0").decode(), fds, {
            "kind": kind, "serial": serial, "flags": flags, "index": index,
            "direction": direction, "uid": uid, "pid": pid}

