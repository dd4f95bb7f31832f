# SPDX-License-Identifier: GPL-2.0
"""pcilu-qemu and a real QEMU without a device, on this host; Live Update is a stand-in.

With a device, and through a real kexec: test_guest_qemu.py.
"""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rig import paths, qemu
from rig.daemon_client import create
from rig.pcilu_host import Host

PROGRAM = paths.BUILD / "vmm-san/pcilu-qemu"
pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="needs make vmm SAN=1")
NAME = "vm-1"
MIB = 64
SECONDS = 120


class Qmp:
    """A connection to a QEMU's monitor."""

    def __init__(self, path: Path) -> None:
        deadline = time.monotonic() + SECONDS
        while True:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(str(path))
                break
            except OSError:
                sock.close()
                assert time.monotonic() < deadline
                time.sleep(0.1)
        self._file = sock.makefile("rw", encoding="utf-8")
        sock.close()
        assert "QMP" in self._file.readline()
        self.do("qmp_capabilities")

    def do(self, command: str, **arguments: Any) -> Any:
        self._file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._file.flush()
        while "event" in (answer := json.loads(self._file.readline())):
            pass
        assert "return" in answer, answer
        return answer["return"]

    def close(self) -> None:
        self._file.close()


class Guest:
    """A QEMU, or what it has become meanwhile: the process stays the same until a kexec."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.socket = host.root / "qmp"
        self.log = host.root / "qemu.log"
        self.process = self._run(
            qemu.new("x86_64"), "-M", "q35,aux-ram-share=on,memory-backend=ram0", "-m", str(MIB),
            "-nodefaults", "-display", "none", "-accel", "tcg", "-vga", "none", "-object",
            f"memory-backend-memfd,id=ram0,size={MIB}M,share=on", "-chardev",
            f"socket,id=qmp,path={self.socket},server=on,wait=off", "-mon",
            "chardev=qmp,mode=control")

    def _run(self, *argv: str) -> subprocess.Popen[bytes]:
        with open(self.log, "ab") as log:
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                    env=self.host.env)

    def restore(self) -> None:
        self.process = self._run(str(PROGRAM), "restore", NAME)

    def do(self, command: str, **arguments: Any) -> Any:
        """Asked when it answers."""
        qmp = Qmp(self.socket)
        try:
            return qmp.do(command, **arguments)
        finally:
            qmp.close()

    def memory(self, size: int = MIB << 20) -> bytes:
        file = self.host.root / "memory"
        self.do("pmemsave", val=0, size=size, filename=str(file))
        return file.read_bytes()

    def until(self, status: str) -> None:
        deadline = time.monotonic() + SECONDS
        while self.do("query-status")["status"] != status:
            assert time.monotonic() < deadline and self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Host(tmp_path).standard() as h:
        h.start()
        yield h


@pytest.fixture
def guest(host: Host) -> Iterator[Guest]:
    """Its firmware has run."""
    if os.environ.get("QEMU") == "host":
        pytest.skip("QEMU=host: this takes the newer one")
    one = Guest(host)
    try:
        deadline = time.monotonic() + SECONDS
        while not any(one.memory(0x500)[0x400:]):   # the BIOS data area
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield one
    finally:
        one.end()


def broker(host: Host, *argv: str) -> tuple[int, str]:
    out = host.run(str(PROGRAM), *argv, errors="replace")
    return out.returncode, out.stderr


def test_qemu_is_saved_and_goes_on(host: Host, guest: Guest) -> None:
    """Here, when the live update is called off, and in the next kernel."""
    guest.until("running")
    guest.do("stop")
    memory = guest.memory()
    for _ in range(2):
        assert broker(host, "save", NAME, str(guest.socket)) == (0, "")
        assert [s["name"] for s in host.json("status")["sessions"]] == [NAME]
        assert broker(host, "resume", NAME) == (0, "")
        guest.until("paused")
        assert guest.memory() == memory
        assert host.json("status")["sessions"] == []
    guest.do("cont")
    guest.until("running")
    guest.do("stop")
    memory = guest.memory()

    assert broker(host, "save", NAME, str(guest.socket)) == (0, "")
    host.luo.kexec()
    host.stop()
    guest.end()
    host.start()
    guest.restore()
    guest.until("paused")
    assert guest.memory() == memory
    guest.do("cont")
    guest.until("running")
    assert host.json("status")["sessions"] == []


def test_qemu_that_cannot_be_preserved_goes_on(host: Host, guest: Guest) -> None:
    room, host.luo.max_sessions = host.luo.max_sessions, 0
    code, said = broker(host, "save", NAME, str(guest.socket))
    assert code == 1 and "no session vm-1: No space left on device" in said
    guest.until("running")
    assert "vm-1 goes on" in guest.log.read_text()
    host.luo.max_sessions = room
    create(host, NAME)      # of somebody else's: this is found out before it stops
    code, said = broker(host, "save", NAME, str(guest.socket))
    assert code == 1 and "session vm-1: File exists" in said
    assert guest.log.read_text().count("vm-1 goes on") == 1
    pid = guest.process.pid
    code, said = broker(host, "save", "vm-2", str(host.root / "nowhere"))
    assert code == 1 and "nowhere: No such file or directory" in said
    code, said = broker(host, "resume", NAME)
    assert code == 1 and "nobody keeps a guest vm-1" in said
    assert guest.process.pid == pid and guest.process.poll() is None


@pytest.mark.parametrize("argv", [(), ("save",), ("save", NAME), ("restore", "no/name"),
                                  ("eat", NAME), ("restore", NAME, "more")])
def test_usage(host: Host, argv: tuple[str, ...]) -> None:
    code, said = broker(host, *argv)
    assert code == 2 and "usage: pcilu-qemu save NAME" in said


def test_restore_of_what_was_not_handed_over(host: Host) -> None:
    code, said = broker(host, "restore", NAME)
    assert code == 1 and "session vm-1: No such file or directory" in said
    code, said = broker(host, "keep", NAME)
    assert code == 1 and "no QEMU has become this" in said


# --- a QEMU that says something else ----------------------------------------------------

MTREE = ('FlatView #0\n AS "I/O", root: io\n Root memory region: io\n'
         '  0000000000000000-0000000000000fff (prio 0, ram): elsewhere\n'
         'FlatView #1\n AS "memory", root: system\n Root memory region: system\n'
         '  0000000000000000-00000000000bffff (prio 0, ram): ram0 KVM\n')


class Talker(threading.Thread):
    """In a QEMU's place: answers by rote."""

    def __init__(self, path: Path, greeting: str, answers: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self._greeting, self._answers = greeting, answers
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen(1)
        self.asked: list[str] = []
        self.start()

    def run(self) -> None:
        client, _ = self._server.accept()
        with client, client.makefile("rw", encoding="utf-8") as file:
            file.write(self._greeting + "\n")
            file.flush()
            for line in file:
                command = json.loads(line)["execute"]
                self.asked.append(command)
                answer = self._answers.get(command, {})
                if answer is None:
                    return
                file.write(json.dumps(answer if "error" in answer else {"return": answer}) + "\n")
                file.flush()


ASKED = {"query-version": {"qemu": {"major": 11, "minor": 1, "micro": 3}}, "query-block": [],
         "qom-list": [{"name": "type", "type": "string"}],
         "query-cpus-fast": [{"thread-id": os.getpid()}]}
PLUGGED = [{"name": "disk7", "type": "child<virtio-blk-pci>"}]
SNAPSHOT = [{"inserted": {"file": "/images/later.qcow2"}}]


@pytest.mark.parametrize("greeting,answers,expected", [
    ("SSH-2.0", {}, "is no QMP socket of a QEMU"),
    ('{"QMP": {}}', {"qmp_capabilities": {"error": {"desc": "no"}}}, "qmp_capabilities: no"),
    ('{"QMP": {}}', {"human-monitor-command": "what?"}, "tells of its memory in a way that is not"),
    ('{"QMP": {}}', {"qom-list": PLUGGED}, "device disk7 was plugged in after the start of QEMU"),
    ('{"QMP": {}}', {"query-block": SNAPSHOT}, "drive /images/later.qcow2 is another one than at"),
    ('{"QMP": {}}', {"query-cpus-fast": []}, "the process of that QEMU"),
    ('{"QMP": {}}', {"human-monitor-command": MTREE, "migrate-set-parameters":
                     {"error": {"desc": "no such mode"}}}, "migrate-set-parameters: no such mode"),
    ('{"QMP": {}}', {"human-monitor-command": MTREE, "query-migrate":
                     {"status": "failed", "error-desc": "pre-save failed: iommufd"}},
     "QEMU cannot save itself: pre-save failed: iommufd"),
], ids=["greeting", "capabilities", "mtree", "plugged", "drive", "process", "mode", "failed"])
def test_qemu_that_is_not_understood(host: Host, greeting: str, answers: dict[str, Any],
                                     expected: str) -> None:
    talker = Talker(host.root / "qmp", greeting, ASKED | answers)
    code, said = broker(host, "save", NAME, str(host.root / "qmp"))
    assert code == 1 and expected in said, said
    # Control: what comes after was not asked for.
    assert ("migrate" in talker.asked) == ("query-migrate" in answers)


DEVICES = b"CprState/vfio devices"


def stream() -> bytes:
    """One descriptor and one device."""
    def name(text: bytes) -> bytes:
        return struct.pack(">I", len(text) + 1) + text + b"\0"
    return (struct.pack(">II", 0x51435052, 1) + b"\1" + name(b"ram0") + struct.pack(">II", 0, 99)
            + b"\0\5" + bytes([len(DEVICES)]) + DEVICES + struct.pack(">I", 1)
            + b"\1" + name(b"0000:01:00.0") + struct.pack(">III", 2, 1, 3) + b"\0")


def keep(host: Host, data: bytes) -> str:
    """What it answers. The QEMU that it becomes then tells that it has been."""
    folder = host.root / "run/pcilu-qemu" / NAME
    folder.mkdir(parents=True, exist_ok=True)
    became = folder / "became"
    became.unlink(missing_ok=True)
    (folder / "guest.json").write_text(json.dumps({
        "version": 1, "cwd": "/", "exe": "/bin/sh",
        "argv": ["sh", "-c", f'echo "$@" >{became}', "qemu"]}))
    fd = os.memfd_create("state")
    os.write(fd, data)
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [str(PROGRAM), "keep", NAME], stderr=log, pass_fds=(fd,),
            env={**host.env, "QEMU_CPR_EXEC_STATE": str(fd)})
    os.close(fd)
    try:
        while "nobody keeps" in (said := broker(host, "resume", NAME)[1]):
            assert process.poll() is None, (folder / "log").read_text()
        assert process.wait(SECONDS) == 0, (folder / "log").read_text()
    finally:
        process.kill()
    assert became.read_text() == f"-incoming file:{folder}/main\n"
    return said


UNKNOWN = "hands its descriptors over in a way that is not known"


def test_stream_that_is_not_understood_is_refused_and_qemu_goes_on(host: Host) -> None:
    """Cut off anywhere, or changed at random. The control: what is understood gets further."""
    good = stream()
    assert "cannot be handed over" in keep(host, good)
    draw = random.Random(int(os.environ.get("PCILU_SEED") or 1))
    for size in range(0, len(good), 5):
        assert UNKNOWN in keep(host, good[:size]), size
    assert UNKNOWN in keep(host, good + b"\0")
    for _ in range(20):
        data = bytearray(good)
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        keep(host, bytes(data))
