# SPDX-License-Identifier: GPL-2.0
"""A Debian with systemd and our packages that boots from a disk. vfio-pci is a module there."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from . import debian, paths
from .initrd import Archive
from .machine import LEVELS, Machine, MachineError
from .pcilu_host import checked
from .topology import Topology

KERNEL = paths.kernel_dir("x86_64", "debian")
NEXT = KERNEL / "next/bzImage"
AGENTS = [paths.GUEST / "agent", paths.GUEST / "clients"]

# The kernels share one disk, which counts them.
AGENT = """#!/bin/sh
BOOT=$(($(cat /var/lib/boots 2>/dev/null) + 1))
echo $BOOT >/var/lib/boots
export BOOT PATH=/opt/bin:/usr/sbin:/usr/bin
exec /opt/bin/agent
"""
AGENT_UNIT = """[Unit]
After=multi-user.target
[Service]
ExecStart=/opt/bin/counted-agent
[Install]
WantedBy=default.target
"""


def modules() -> dict[str, Path]:
    """What `make modules_install` left, by release."""
    return {folder.name: folder for folder in sorted((KERNEL / "modules/lib/modules").glob("*"))}


def next_release() -> str:
    return next((name for name in modules() if name.endswith("-next")), "")


def _disk(*suite: str) -> Path:
    """A file system with all of it, made anew when something in it has changed."""
    guest = sorted(path for path in paths.guest_dir("x86_64").glob("*")
                   if path.is_file() and os.access(path, os.X_OK))
    parts = [*debian.DEBS, *guest, paths.guest_dir("x86_64") / "e1000e_rx", debian.TOOLS / "lend",
             NEXT, *AGENTS, Path(__file__),
             *sorted((KERNEL / "modules").rglob("*.ko"))]
    for path in parts:
        if not path.exists():
            pytest.skip(f"no {path.relative_to(paths.TREE)}: make test T=pcilu builds it")
    parts.append(debian.base(*suite) / ".complete")
    digest = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest()
                                     for path in parts)).hexdigest()
    folder = paths.BUILD / "-".join(("debian", *suite))
    disk, seal = folder / "disk.ext4", folder / "sha256"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not disk.exists() or not seal.exists() or seal.read_text() != digest:
            seal.unlink(missing_ok=True)
            _fill(folder / "root", guest, *suite)
            disk.unlink(missing_ok=True)
            subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(folder / "root"), str(disk),
                            "1G"], check=True, capture_output=True)
            seal.write_text(digest)
            shutil.rmtree(folder / "root")
    return disk


def _fill(root: Path, programs: list[Path], *suite: str) -> None:
    """As a host is set up by docs/host.md, and the rig's agent."""
    shutil.rmtree(root, ignore_errors=True)
    debian.install(root, *suite)
    (root / "opt/bin").mkdir()
    for program in (*programs, *AGENTS):
        shutil.copy(program, root / "opt/bin")
    for release, folder in modules().items():
        shutil.copytree(folder, root / "usr/lib/modules" / release, symlinks=True,
                        ignore=shutil.ignore_patterns("build"))
    debian.write(root, "etc/modules-load.d/vfio-pci.conf", "vfio-pci\n")
    # Whatever its unit says: on a busy host what takes a second may take minutes.
    debian.write(root, "etc/systemd/system/service.d/busy.conf", "[Service]\nTimeoutStartSec=600\n")
    shutil.copy(NEXT, root / f"boot/vmlinuz-{next_release()}")
    # There is nothing that an initial RAM disk would have to do.
    (root / f"boot/initrd.img-{next_release()}").write_bytes(Archive().close())
    debian.write(root, "opt/bin/counted-agent", AGENT, 0o755)
    debian.enable(root, "agent.service", AGENT_UNIT)
    # Looks for snapshots by LVM, which takes half of the boot
    (root / "etc/systemd/system/e2scrub_reap.service").symlink_to("/dev/null")


class DebianMachine(Machine):
    """Boots that disk; what it writes there is gone when it ends."""

    suite: tuple[str, ...] = ()

    def __init__(self, folder: Path, topology: Topology, **options: Any) -> None:
        # On a busy host a boot takes ten minutes, in which no ring of 8192 may be filled.
        super().__init__(folder, topology, memory="1536M", rate=8.0, timeout=1500, **options)
        self._disk = _disk(*self.suite)

    def kernel_cmdline(self, boot: int, extra: str = "") -> str:
        # On a busy host what starts in a second may take minutes.
        return " ".join([f"console=ttyS0 {LEVELS} root=/dev/vda rw panic=-1 no_timer_check",
                         "systemd.default_timeout_start_sec=600",
                         "systemd.getty_auto=no vfio.enable_unsafe_noiommu_mode=1",
                         "pcilu.channel=ttyS1", self.cmdline, self.first, extra])

    def _user_space(self) -> list[str]:
        return ["-drive", f"if=none,id=disk,format=raw,snapshot=on,file={self._disk}",
                "-device", "virtio-blk-pci,drive=disk,addr=2"]

    def pcilu(self, command: str, rc: int = 0) -> dict[str, Any]:
        """The JSON of a command, checked against its schema."""
        out = self.run(f"pcilu {command} --json 2>/tmp/stderr")
        assert out.rc == rc, (command, out, self.run("cat /tmp/stderr").out)
        return checked(out.out)

    def unit(self, name: str) -> list[str]:
        """A unit's state, and how it came out."""
        return [self.sh(f"systemctl show -P {property} {name}").out.strip()
                for property in ("ActiveState", "Result")]

    def update(self, command: str) -> str:
        """A `pcilu update`, which lets systemd stop the machine; what it printed."""
        self.dropped[self.boot] = self.drops()
        self.jumped_at.append(self._send(f"{command} >/var/lib/update 2>&1"))
        event = self._event(self.timeout)
        # Whether it gets to answer before it is stopped is systemd's business.
        if event.get("event") == "done":
            if event["rc"]:
                raise MachineError(f"{command} failed: {self.sh('cat /var/lib/update').out}")
            event = self._event(self.timeout)
        self._booted(event, self.boot + 1)
        # The agent comes up without them, too.
        if self.unit("systemd-modules-load")[1] != "success":
            raise MachineError(self.sh("systemctl --no-pager -l status systemd-modules-load; "
                                       "journalctl -b -o short-monotonic | tail -n 200").out)
        return self.sh("cat /var/lib/update").out


class UnstableMachine(DebianMachine):
    """Its systemd is 261 or later, and carries descriptors through a kexec by itself."""

    suite = ("sid",)
