# SPDX-License-Identifier: GPL-2.0
"""A virtual machine in the emulated host: Debian's own kernel, run by pcilu-vmm with KVM.

QEMU emulates what KVM needs (AMD's SVM), so this takes no machine that can nest.
"""

from __future__ import annotations

import json
import lzma
import os
import re
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from . import initrd, paths
from .agent import Agent
from .machine import LIVE_UPDATE, MachineError
from .tools import ToolsMachine, linked
from .topology import Topology

VMM = paths.BUILD / "vmm"
# With nested page tables and without XSAVE: QEMU 7.2 cannot intercept XSETBV, so that KVM and its
# guest would not agree on what is enabled.
CPU = "qemu64,+npt"
# The SVM of QEMU 7.2 loses an interrupt now and then. With a timer that ticks anyway the next
# tick heals that; without, the host would sleep for ever.
TICKING = "nohz=off highres=off"
BEHIND_VTD = "intel_iommu=on iommu.passthrough=0"
MODULES = ("kvm.ko", "kvm-amd.ko")
PATIENCE = 600      # seconds; a guest boots in 10, or in 60 if the machine has other work
BOOT = 240          # the same before a guest that spins is started again
STUCK = 3
DRIVERS = ("e1000e", "igbvf")       # of Debian's, for what a guest may have
WORDS = "console=ttyS0 quiet no_timer_check panic=-1 random.trust_cpu=on mitigations=off"


class Stuck(MachineError):
    """A guest runs and does not get on."""


def _package() -> Path:
    """Debian's kernel for any machine: the image and the modules that are needed."""
    def fetch(name: str) -> str:
        return subprocess.run([paths.FETCH_DEB, "x86_64", name], check=True, text=True,
                              stdout=subprocess.PIPE).stdout.split()[-1]

    depends = subprocess.run(["dpkg-deb", "-f", fetch("linux-image-amd64"), "Depends"], check=True,
                             text=True, stdout=subprocess.PIPE).stdout
    name = re.match(r"linux-image-[\w.+-]+", depends)
    assert name, depends
    folder = paths.BUILD / name[0]
    parts = [f"{driver}.ko" for driver in DRIVERS]
    if all((folder / part).exists() for part in parts):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as tmp:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", fetch(name[0])],
                              stdout=subprocess.PIPE) as whole:
            subprocess.run(["tar", "-x", "-C", tmp, "--wildcards", "./boot/vmlinuz-*",
                            *(f"*/{part}*" for part in parts)], check=True, stdin=whole.stdout)
        image = next(Path(tmp).glob("boot/vmlinuz-*")).read_bytes()
        (Path(tmp) / "vmlinuz").write_bytes(image)
        for part in parts:
            module = next(Path(tmp).rglob(f"{part}*"))
            code = module.read_bytes()
            (Path(tmp) / part).write_bytes(
                lzma.decompress(code) if module.suffix == ".xz" else code)
        folder.mkdir(exist_ok=True)
        for part in ("vmlinuz", *parts):    # the modules last, for others who look for them
            os.replace(Path(tmp) / part, folder / part)
    return folder


def _initrd(folder: Path, kernel: Path) -> Path:
    """The guest's whole user space."""
    archive = initrd.Archive()
    for name in ("bin", "dev", "proc", "sys"):
        archive.add(name, stat.S_IFDIR | 0o755)
    archive.add("dev/console", stat.S_IFCHR | 0o600, rdev=(5, 1))
    archive.add("bin/sh", stat.S_IFLNK | 0o777, b"busybox")
    for name, path in (("init", paths.GUEST / "vm-init"), ("bin/receive", VMM / "receive"),
                       *((f"{driver}.ko", kernel / f"{driver}.ko") for driver in DRIVERS),
                       ("bin/busybox", initrd.program("x86_64", "bin/busybox"))):
        archive.add(name, stat.S_IFREG | 0o755, path.read_bytes())
    out = folder / "guest.cpio"
    out.write_bytes(archive.close())
    return out


class GuestHost(ToolsMachine):
    """A host of virtual machines, with pcilud."""

    def __init__(self, folder: Path, topology: Topology, words: str = "", **options: Any) -> None:
        super().__init__(folder, topology, cpu=CPU, cmdline=f"{LIVE_UPDATE} {TICKING} {words}",
                         **{"accel": "tcg", "rate": 100.0} | options)

    def files(self) -> dict[str, Path]:
        if not (VMM / "pcilu-vmm").exists():
            pytest.skip(f"no {VMM / 'pcilu-vmm'}: make vmm")
        kernel = _package()
        modules = {f"lib/modules/{path.parts[-6]}/{path.name}": path for path in
                   sorted((self._kernel / "modules").rglob("kvm*.ko"))}
        return (super().files() | linked(VMM / "pcilu-vmm") | modules |
                {"boot/guest": kernel / "vmlinuz", "boot/guest.cpio": _initrd(self.folder, kernel)})

    def daemon(self) -> None:
        """At every boot: KVM, too."""
        for name in MODULES:
            self.sh(f"[ -d /sys/module/{name[:-3].replace('-', '_')} ] || "
                    f"insmod /lib/modules/$(uname -r)/{name}")
        super().daemon()

    def kexec(self, image: str = "next", extra: str = "") -> str:
        release = super().kexec(image, extra)
        self.daemon()
        return release


IN_PIECES = "in one piece for the guest's kernel"     # there is no memory
TRIES = 5


class Guest:
    """One virtual machine. What it prints is a line of JSON a second, see vmm/guest/receive.c."""

    def __init__(self, host: GuestHost, name: str = "vm-1", nic: str = "") -> None:
        self.host = host
        self.name = name
        self.nic = nic
        self.past: list[dict[str, Any]] = []    # what it printed in the kernels before

    def _launch(self, verb: str, options: str) -> None:
        self.host.sh(f"setsid pcilu-vmm {verb} {self.name} --serial /tmp/{self.name}.log {options} "
                     f">/tmp/{self.name}.err 2>&1 &")

    def bind(self) -> None:
        """Give the device to vfio-pci; both kernels need that."""
        self.host.json(f"pci_cfg bind {self.host.topology.bdf[self.nic]}")

    def start(self, memory: int = 128, options: str = "", words: str = "") -> "Guest":
        """Boot it, and wait until it lives. The words are for its kernel and its init."""
        if self.nic:
            self.bind()
            options += f" --device {self.host.topology.bdf[self.nic]}"
        command = ("--kernel /boot/guest --initrd /boot/guest.cpio "
                   f"--append '{WORDS} {words}' --memory {memory} {options}")
        self._launch("start", command)
        try:
            self.wait(2, BOOT)
        except Stuck:
            # Seen once with the emulated SVM: early in its boot the guest's kernel spins, with
            # interrupts off, on a lock. Nothing has been asked of Live Update by then.
            self.host.note_where_it_stands()
            self.kill()
            self.host.sh(f"rm /tmp/{self.name}.log")
            self._launch("start", command)
            self.wait(2)
        except MachineError:
            if IN_PIECES not in self.complaints():
                raise
            self._start_in_other_memory(command)
        return self

    def _start_in_other_memory(self, command: str) -> None:
        """Where no IOMMU translates, it takes what pieces there are: leave it others."""
        for n in range(TRIES):
            self.host.sh(f"dd if=/dev/zero of=/tmp/taken-{n} bs=1M count=100 2>&1")
            self._launch("start", command)
            try:
                self.wait(2)
                break
            except MachineError:
                if n + 1 == TRIES or IN_PIECES not in self.complaints():
                    raise
        self.host.sh("rm /tmp/taken-*")

    def restore(self, options: str = "", bind: bool = True) -> None:
        """In the next kernel, until it has told that it is back."""
        if self.nic and bind:
            self.bind()
        self._launch("restore", options)
        self.status()

    def do(self, command: str, rc: int = 0) -> dict[str, Any]:
        """A command that must come to that."""
        answer = self.host.run(f"pcilu-vmm {command} {self.name} 2>&1").json()
        if answer["rc"] != rc:
            raise MachineError(f"{self.name}: {command}: {answer}; {self.complaints()}")
        return answer

    def status(self) -> dict[str, Any]:
        """As soon as it answers."""
        self.host.sh(f"until pcilu-vmm status {self.name} >/dev/null 2>&1 || "
                     f"! pidof pcilu-vmm >/dev/null; do sleep 0.2; done; "
                     f"pcilu-vmm status {self.name} || {{ cat /tmp/{self.name}.err; false; }}")
        return self.do("status")

    def until(self, phase: str) -> None:
        """Its VMM gets there by itself."""
        self.host.sh(f"until pcilu-vmm status {self.name} | grep -q '\"{phase}\"'; "
                     "do sleep 0.2; done")

    def until_asked(self, pid: int) -> None:
        """Its VMM takes part in live updates, as pcilud knows."""
        self.host.sh(f"until grep -q \"'{self.name}' (process {pid}) takes part\" "
                     "/tmp/pcilud.log; do sleep 0.2; done")

    def complaints(self) -> str:
        """What the VMM said."""
        return self.host.run(f"cat /tmp/{self.name}.err").out

    def kill(self) -> None:
        """-9, and wait until it is gone."""
        pid = self.do("status")["pid"]
        self.host.sh(f"kill -9 {pid}; while [ -e /proc/{pid} ]; do sleep 0.1; done")

    def printed(self) -> list[dict[str, Any]]:
        """All that it has printed, in whatever kernel its host had."""
        text = self.host.run(f"cat /tmp/{self.name}.log").out
        return self.past + [json.loads(line) for line in text.splitlines()
                            if line.startswith("{") and line.endswith("}")]

    def wait(self, more: int, patience: int = PATIENCE) -> list[dict[str, Any]]:
        """Until it has printed so many lines more. It is asked there: each question from here
        would cost the guest the one CPU that it has."""
        had = len(self.printed()) - len(self.past)
        log = f"/tmp/{self.name}.log"
        out = self.host.run(f"n=0; until [ $(grep -c '^{{.*}}' {log}) -ge {had + more} ]; do "
                            "pidof pcilu-vmm >/dev/null || exit 1; "
                            f"n=$((n + 1)); [ $n -lt {patience} ] || exit {STUCK}; sleep 1; "
                            "done 2>/dev/null", PATIENCE + patience)
        if out.rc == STUCK:
            raise Stuck(f"{self.name} says nothing any more")
        if out.rc:
            raise MachineError(f"{self.name} is gone: {self.complaints()!r}")
        return self.printed()

    def arrived(self, sent: int) -> dict[str, Any]:
        """What it has printed last, as soon as it knows of as many frames or a minute later."""
        until = time.monotonic() + 60
        while ((last := self.wait(1)[-1])["frames"] + last["lost"] < sent
               and time.monotonic() < until):
            pass
        return last

    def memory(self) -> set[int]:
        """The physical addresses of all of its memory, which does not move any more."""
        pid = self.do("status")["pid"]
        line = self.host.sh(f"ls -l /proc/{pid}/fd | grep memfd:guest").out
        fd = line.split(" -> ")[0].split()[-1]
        agent = Agent(self.host, "looker").start()
        agent.do(f"open-memory ram /proc/{pid}/fd/{fd}")
        pages = agent.pages("ram")
        agent.do("quit")
        return pages

    def leave(self) -> None:
        """Before its host jumps: what is in its host's memory would be lost."""
        self.past = self.printed()
