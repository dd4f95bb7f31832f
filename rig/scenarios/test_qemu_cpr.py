# SPDX-License-Identifier: GPL-2.0
"""What docs/other-vmms.md says of QEMU's CPR, as far as it can be tried without a device.

A QEMU is saved, and every process that knew of it ends. Somebody else makes new memory with what
was in the old one, writes the stream of descriptors, and starts another QEMU, which goes on.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from rig import cpr, qemu

MIB = 64
MEMORY = "ram0"
ARGS = ["-M", f"q35,aux-ram-share=on,memory-backend={MEMORY}", "-m", str(MIB), "-nodefaults",
        "-display", "none", "-accel", "tcg", "-S", "-vga", "none", "-object",
        f"memory-backend-memfd,id={MEMORY},size={MIB}M,share=on"]
SECONDS = 120


class Qemu:
    """One that is asked by QMP."""

    def __init__(self, folder: Path, name: str, *args: str, fds: list[int] | None = None,
                 env: dict[str, str] | None = None) -> None:
        ours, theirs = socket.socketpair()
        self.log = folder / f"{name}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [qemu.new("x86_64"), *ARGS, *args, "-trace", "cpr_find_fd",
                 "-chardev", f"socket,id=qmp,fd={theirs.fileno()}",
                 "-mon", "chardev=qmp,mode=control"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
                pass_fds=[theirs.fileno(), *(fds or [])])
        theirs.close()
        self._file = ours.makefile("rw", encoding="utf-8")
        ours.close()
        self._folder = folder

    def greet(self) -> "Qemu":
        assert "QMP" in self._file.readline()
        self.do("qmp_capabilities")
        return self

    def do(self, command: str, **arguments: Any) -> Any:
        self._file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._file.flush()
        while "event" in (answer := json.loads(self._file.readline())):
            pass
        assert "return" in answer, answer
        return answer["return"]

    def memory(self, size: int = MIB << 20) -> bytes:
        """From address 0 on."""
        self.do("pmemsave", val=0, size=size, filename=str(self._folder / "memory"))
        return (self._folder / "memory").read_bytes()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._file.close()


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[tuple[Path, bytes]]:
    """The folder with all that a QEMU whose firmware ran has handed over, and its memory."""
    if os.environ.get("QEMU") == "host":
        pytest.skip("QEMU=host: this takes the newer one")
    old = Qemu(tmp_path, "old").greet()
    try:
        old.do("cont")
        until = time.monotonic() + SECONDS
        # What the firmware leaves in the BIOS data area
        while not any(old.memory(0x500)[0x400:]):
            assert time.monotonic() < until, old.log.read_text()
            time.sleep(0.2)
        old.do("stop")
        memory = old.memory()
        old.do("migrate-set-parameters", **{"mode": "cpr-exec", "cpr-exec-command": [
            "/usr/bin/python3", cpr.__file__, str(tmp_path)]})
        old.do("migrate", uri=f"file:{tmp_path / 'main'}")
        assert old.process.wait(SECONDS) == 0
    finally:
        old.end()
    yield tmp_path, memory


def successor(folder: Path, name: str, without: str = "") -> Qemu:
    fds, env = cpr.offer(folder, without)
    try:
        return Qemu(folder, name, "-incoming", f"file:{folder / 'main'}", fds=fds, env=env)
    finally:
        for fd in fds:
            os.close(fd)


def test_qemu_goes_on_with_what_a_broker_hands_it(kept: tuple[Path, bytes]) -> None:
    """And is not told, but by what becomes of it, that its memory is missing."""
    folder, memory = kept
    handed, rest = cpr.parse((folder / cpr.STATE).read_bytes())
    assert rest == cpr.NO_DEVICES and {MEMORY, "pc.bios"} <= {one.name for one in handed}

    new = successor(folder, "new").greet()
    try:
        until = time.monotonic() + SECONDS
        while (status := new.do("query-migrate"))["status"] != "completed":
            assert time.monotonic() < until, status
            time.sleep(0.2)
        assert new.memory() == memory
        new.do("cont")
        assert new.do("query-status")["status"] == "running"
        assert f"cpr_find_fd {MEMORY}, id 0 returns -1" not in new.log.read_text()
    finally:
        new.end()

    # The control
    empty = successor(folder, "empty", without=MEMORY)
    try:
        assert empty.process.wait(SECONDS) == 1
        log = empty.log.read_text()
        assert f"cpr_find_fd {MEMORY}, id 0 returns -1" in log
        # It goes on with empty memory, in which a device then misses what it has put there.
        assert "load of migration failed" in log and "emory" not in log.split("load of", 1)[1]
    finally:
        empty.end()
