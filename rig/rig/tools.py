# SPDX-License-Identifier: GPL-2.0
"""A machine with pcilu, pcilud and libpcilu's examples in the rig's own small user space."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from . import initrd, paths
from .machine import Machine, MachineError
from .pcilu_host import checked
from .receiver import Receiver
from .topology import Topology

TOOLS = paths.BUILD / "tools"
PROGRAMS = ("pcilu", "pcilud", "pcilu-keeper", "vmm", "lend", "takepart")
FILES = {"etc/passwd": "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
         "etc/group": "root:x:0:\nnogroup:x:65534:\n",
         "etc/pcilu/pcilud.policy": "user root use *\nuser root hold\n"}


def linked(program: Path) -> dict[str, Path]:
    """A program with all libraries that it is linked with, by their names in the guest."""
    files = {f"opt/bin/{program.name}": program}
    names = subprocess.run(["ldd", str(program)], env={"LD_LIBRARY_PATH": str(TOOLS)},
                           check=True, text=True, stdout=subprocess.PIPE).stdout
    for path in re.findall(r"(/\S+) \(0x", names):
        where = f"usr/lib/{Path(path).name}" if Path(path).parent == TOOLS else path.lstrip("/")
        files[where] = Path(path).resolve()
    return files


def _files(folder: Path) -> dict[str, Path]:
    files = {}
    for name in PROGRAMS:
        if not (TOOLS / name).exists():
            pytest.skip(f"no {TOOLS / name}: make tools")
        files |= linked(TOOLS / name)
    for name, text in FILES.items():
        files[name] = folder / Path(name).name
        files[name].write_text(text)
    return files


class ToolsMachine(Machine):
    """The daemon is started at every boot; what it says is in /tmp/pcilud.log."""

    def __init__(self, folder: Path, topology: Topology, *, images: dict[str, Path] | None = None,
                 **options: Any) -> None:
        memory = {} if options.get("variant") == "debug" else {"memory": "1536M"}
        super().__init__(folder, topology, **memory | options)
        self._images = {f"boot/{name}": path for name, path in (images or {}).items()}

    def files(self) -> dict[str, Path]:
        """What is in the guest beside what every guest has."""
        return _files(self.folder) | self._images

    def _user_space(self) -> list[str]:
        archive = initrd.build(self.arch, self.variant, folder=self._kernel, extra=self.files())
        return ["-initrd", str(archive)]

    def start(self) -> "ToolsMachine":
        super().start()
        self.daemon()
        return self

    def daemon(self) -> None:
        self.sh("mkdir -p /run/pcilud; setsid pcilud -v --user root >/tmp/pcilud.log 2>&1 & "
                "until [ -S /run/pcilud/socket ]; do sleep 0.1; done")

    def kill_daemon(self) -> None:
        """-9. Nobody keeps its sessions here, as systemd would."""
        self.sh("pid=$(pidof pcilud); kill -9 $pid; while [ -e /proc/$pid ]; do sleep 0.1; done; "
                "rm /run/pcilud/socket")

    def pcilu(self, command: str, rc: int = 0) -> dict[str, Any]:
        """The JSON of a command, checked against its schema."""
        out = self.run(f"pcilu {command} --json 2>/tmp/stderr")
        assert out.rc == rc, (command, out, self.run("cat /tmp/stderr").out)
        return checked(out.out)

    def next(self, extra: str = "") -> str:
        """Options of `pcilu` for the next kernel."""
        return (f"--kernel /boot/next --initrd /sys/firmware/initrd --reuse-cmdline "
                f"--cmdline 'pcilu.boot={self.boot + 1} {extra}'")

    def update(self, extra: str = "", options: str = "") -> None:
        """`pcilu update`. What it prints goes to the console: the machine's memory is gone."""
        self._jump(f"pcilu update {self.next(extra)} {options}")

    def exec(self) -> None:
        """`pcilu exec`, into a kernel that was loaded."""
        self._jump("pcilu exec")

    def _jump(self, command: str) -> None:
        self.jumped_at.append(self._send(f"{command} --no-systemd >/dev/console 2>&1"))
        event = self._event(self.timeout)
        if event.get("event") == "done":
            raise MachineError(f"{command} failed with {event['rc']} ({self._last_words()})")
        self._booted(event, self.boot + 1)
        self.daemon()

    def end(self, *programs: str) -> None:
        """As a service manager ends them."""
        for name in programs:
            self.sh(f"kill $(pidof {name}); while pidof {name}; do sleep 0.1; done")

    def sessions(self) -> dict[str, str]:
        """Which sessions pcilud knows, and in which direction they go."""
        return {s["name"]: s["direction"] for s in self.pcilu("status")["sessions"]}

    def states(self) -> dict[str, str]:
        """The devices that Live Update holds something of."""
        return {d["bdf"]: d["state"] for d in self.pcilu("status")["devices"]}


class Borrower(Receiver):
    """A driver that gets its session from pcilud, through the library's example `lend`."""

    def command(self, verb: str, *options: str) -> str:
        how = {"start": "create", "resume": "retrieve"}[verb]
        return f"lend {how} {self.name} " + super().command(verb, "--session-fd 3", *options)

    def receive(self, *options: str, ring: int = 16384) -> "Borrower":
        """Start, with frames, and preserve."""
        self.start(*options, ring=ring)
        self.sender.start()
        self.preserve()
        return self

    def finish(self) -> None:
        """What the owner does when it has its device back."""
        self.machine.sh(f"lend finish {self.name}")
