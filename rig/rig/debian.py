# SPDX-License-Identifier: GPL-2.0
"""A small Debian with systemd and our packages, to boot."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from . import paths
from .machine import Machine, MachineError
from .pcilu_host import checked
from .topology import Topology

DEBS = sorted(deb for deb in (paths.BUILD / "deb").glob("*pcilu*_*.deb")
              if "dbgsym" not in deb.name and not deb.name.startswith("linux-"))
TOOLS = paths.BUILD / "tools"
NEXT = paths.kernel_dir("x86_64", "debian") / "next/bzImage"

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


def write(root: Path, path: str, text: str, mode: int = 0o644) -> None:
    """A file of a root."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    os.chmod(file, mode)


def base() -> Path:
    """The Debian without our packages; kept in the cache. Skips where there can be none."""
    if not DEBS or not (TOOLS / "vmm").exists():
        pytest.skip("no packages or tools: make deb; make tools")
    if os.geteuid() != 0 or not shutil.which("mmdebstrap"):
        pytest.skip("needs root and mmdebstrap")
    out = subprocess.run([str(paths.TREE / "scripts/debian-root")], text=True, capture_output=True)
    if out.returncode:
        pytest.skip(f"no Debian root: {out.stderr.strip()}")
    return Path(out.stdout.strip())


def install(root: Path) -> None:
    """A copy of it at `root`, with our packages and the library's examples installed."""
    subprocess.run(["cp", "-a", "--reflink=auto", str(base()), str(root)], check=True)
    for deb in DEBS:
        shutil.copy(deb, root)
    # Its dependencies are there but for those that only set up.
    subprocess.run(["chroot", str(root), "sh", "-c", "dpkg -i --force-depends /*.deb && rm /*.deb"],
                   check=True, capture_output=True)
    for example in ("vmm", "lend"):
        shutil.copy(TOOLS / example, root / "usr/bin")


def enable(root: Path, unit: str, text: str) -> None:
    """A unit that is started at boot."""
    write(root, f"etc/systemd/system/{unit}", text)
    subprocess.run(["systemctl", f"--root={root}", "enable", unit], check=True,
                   capture_output=True)


def _disk() -> Path:
    """A file system with all of it, made anew when something in it has changed."""
    guest = sorted(path for path in paths.guest_dir("x86_64").iterdir()
                   if path.is_file() and os.access(path, os.X_OK))
    parts = [*DEBS, *guest, TOOLS / "lend", NEXT, paths.GUEST / "agent",
             Path(__file__)]
    for path in parts:
        if not path.exists():
            pytest.skip(f"no {path.relative_to(paths.TREE)}: make test T=pcilu builds it")
    digest = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in parts)
                            + str(base()).encode()).hexdigest()
    folder = paths.BUILD / "debian"
    disk = folder / "disk.ext4"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if disk.exists() and (folder / "sha256").read_text() == digest:
            return disk
        root = folder / "root"
        shutil.rmtree(root, ignore_errors=True)
        install(root)
        for program in (*guest, paths.GUEST / "agent"):
            (root / "opt/bin").mkdir(exist_ok=True)
            shutil.copy(program, root / "opt/bin")
        shutil.copy(NEXT, root / "boot/vmlinuz-next")
        write(root, "opt/bin/counted-agent", AGENT, 0o755)
        enable(root, "agent.service", AGENT_UNIT)
        disk.unlink(missing_ok=True)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(root), str(disk), "1G"],
                       check=True, capture_output=True)
        (folder / "sha256").write_text(digest)
        shutil.rmtree(root)
    return disk


class DebianMachine(Machine):
    """Boots that disk; what it writes there is gone when it ends."""

    def __init__(self, folder: Path, topology: Topology, **options: Any) -> None:
        super().__init__(folder, topology, memory="1G", rate=20.0, timeout=600, **options)
        self._disk = _disk()

    def kernel_cmdline(self, boot: int, extra: str = "") -> str:
        return " ".join(["console=ttyS0 root=/dev/vda rw panic=-1 no_timer_check",
                         "systemd.getty_auto=no vfio.enable_unsafe_noiommu_mode=1",
                         "pcilu.channel=ttyS1", self.cmdline, self.first, extra])

    def _user_space(self) -> list[str]:
        return ["-drive", f"if=none,id=disk,format=raw,snapshot=on,file={self._disk}",
                "-device", "virtio-blk-pci,drive=disk,addr=2"]

    def update(self, options: str) -> str:
        """`pcilu update`, which lets systemd stop the machine; what it printed."""
        self.jumped_at.append(self._send(f"pcilu update {options} >/var/lib/update 2>&1"))
        event = self._event(self.timeout)
        # Whether it gets to answer before it is stopped is systemd's business.
        if event.get("event") == "done":
            if event["rc"]:
                raise MachineError(f"pcilu update failed: {self.sh('cat /var/lib/update').out}")
            event = self._event(self.timeout)
        self._booted(event, self.boot + 1)
        return self.sh("cat /var/lib/update").out

    def status(self) -> dict[str, Any]:
        """`pcilu status`, checked against its schema."""
        return checked(self.sh("pcilu status --json").out)
