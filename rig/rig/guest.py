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
from .drive import Drive
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
DRIVERS = ("e1000e", "igbvf", "nvme")       # of Debian's, for what a guest may have
WORDS = "console=ttyS0 quiet no_timer_check panic=-1 random.trust_cpu=on mitigations=off"


class Stuck(MachineError):
    """A guest runs and does not get on."""


def _add_module(found: dict[str, bytes], tree: Path, name: str) -> None:
    """A module, after those that it needs."""
    if name in found:
        return
    path = next(tree.rglob(f"{name}.ko*"))
    code = path.read_bytes()
    if path.suffix == ".xz":
        code = lzma.decompress(code)
    needs = re.search(rb"\bdepends=([^\0]*)\0", code)
    assert needs, path
    for other in needs[1].decode().split(","):
        if other:
            _add_module(found, tree, other)
    found[name] = code


def _modules(tree: Path) -> tuple[dict[str, bytes], str]:
    """The drivers and what they need, by file name, and depmod's file about them."""
    files, dep = {}, ""
    for driver in DRIVERS:
        found: dict[str, bytes] = {}
        _add_module(found, tree, driver)
        names = [f"{name}.ko" for name in found]
        files |= dict(zip(names, found.values()))
        dep += f"{names[-1]}: {' '.join(reversed(names[:-1]))}\n"
    return files, dep


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
    last = folder / "modules.dep"
    if last.exists() and all(f"{driver}.ko:" in last.read_text() for driver in DRIVERS):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as tmp:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", fetch(name[0])],
                              stdout=subprocess.PIPE) as whole:
            subprocess.run(["tar", "-x", "-C", tmp, "--wildcards", "./boot/vmlinuz-*", "*.ko*"],
                           check=True, stdin=whole.stdout)
        files, dep = _modules(Path(tmp))
        files["vmlinuz"] = next(Path(tmp).glob("boot/vmlinuz-*")).read_bytes()
        files[last.name] = dep.encode()     # the last one, for others who look for it
        folder.mkdir(exist_ok=True)
        for part, content in files.items():
            (Path(tmp) / part).write_bytes(content)
            os.replace(Path(tmp) / part, folder / part)
    return folder


def _initrd(folder: Path, kernel: Path, drives: bool) -> Path:
    """The guest's whole user space. It is small: where no IOMMU translates, it takes memory in one
    piece, so that what only drives need is left out where there is none."""
    without = {"vmlinuz"}
    if not drives:
        _, _, names = next(line.partition(":") for line in
                           (kernel / "modules.dep").read_text().splitlines()
                           if line.startswith("nvme.ko:"))
        without |= {"nvme.ko", *names.split()}
    archive = initrd.Archive()
    modules = f"lib/modules/{kernel.name.removeprefix('linux-image-')}"
    for name in ("bin", "dev", "proc", "sys", "lib", "lib/modules", modules):
        archive.add(name, stat.S_IFDIR | 0o755)
    archive.add("dev/console", stat.S_IFCHR | 0o600, rdev=(5, 1))
    archive.add("bin/sh", stat.S_IFLNK | 0o777, b"busybox")
    for name, path in (("init", paths.GUEST / "vm-init"), ("bin/receive", VMM / "receive"),
                       *((f"{modules}/{path.name}", path)
                         for path in sorted(kernel.iterdir()) if path.name not in without),
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
        drives = any(device.driver == "nvme" for device in self.topology.walk())
        modules = {f"lib/modules/{path.parts[-6]}/{path.name}": path for path in
                   sorted((self._kernel / "modules").rglob("kvm*.ko"))}
        return (super().files() | linked(VMM / "pcilu-vmm") | modules |
                {"boot/guest": kernel / "vmlinuz",
                 "boot/guest.cpio": _initrd(self.folder, kernel, drives)})

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
TRIES, STEP = 5, 128    # MiB


class Guest:
    """One virtual machine. What it prints is a line of JSON a second, see vmm/guest/receive.c."""

    process = "pcilu-vmm"

    def __init__(self, host: GuestHost, name: str = "vm-1", nic: str = "",
                 drive: str = "") -> None:
        self.host = host
        self.name = name
        self.nic = nic
        self._devices = [id for id in (nic, drive) if id]
        self.past: list[dict[str, Any]] = []    # what it printed in the kernels before

    def _launch(self, verb: str, options: str) -> None:
        self.host.sh(f"setsid pcilu-vmm {verb} {self.name} --serial /tmp/{self.name}.log {options} "
                     f">/tmp/{self.name}.err 2>&1 &")

    def bind(self) -> None:
        """Give its devices to vfio-pci; both kernels need that."""
        for id in self._devices:
            self.host.json(f"pci_cfg bind {self.host.topology.bdf[id]}")

    def start(self, memory: int = 128, options: str = "", words: str = "") -> "Guest":
        """Boot it, and wait until it lives. The words are for its kernel and its init."""
        self.bind()
        for id in self._devices:
            options += f" --device {self.host.topology.bdf[id]}"
        command = ("--kernel /boot/guest --initrd /boot/guest.cpio "
                   f"--append '{WORDS} {words}' {options} --memory ")
        self._launch("start", f"{command}{memory}")
        try:
            self.wait(2, int(BOOT * self.host.slow))
        except Stuck:
            # Seen once with the emulated SVM: early in its boot the guest's kernel spins, with
            # interrupts off, on a lock. Nothing has been asked of Live Update by then.
            self.host.note_where_it_stands()
            self.kill()
            self.host.sh(f"rm /tmp/{self.name}.log")
            self._launch("start", f"{command}{memory}")
            self.wait(2)
        except MachineError:
            if IN_PIECES not in self.complaints():
                raise
            self._start_in_more_memory(command, memory)
        return self

    def _start_in_more_memory(self, command: str, memory: int) -> None:
        """Where no IOMMU translates, it takes what pieces there are. The more it takes, the larger
        is the largest; of as much that is elsewhere, five times, none was large enough once."""
        for more in range(1, TRIES + 1):
            self._launch("start", f"{command}{memory + STEP * more}")
            try:
                self.wait(2)
                return
            except MachineError:
                if more == TRIES or IN_PIECES not in self.complaints():
                    raise

    def restore(self, options: str = "", bind: bool = True) -> None:
        """In the next kernel, until it has told that it is back."""
        if bind:
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

    def kernel_said(self) -> list[str]:
        """What the guest's kernel has printed of the drive while its host had this kernel."""
        text = self.host.run(f"cat /tmp/{self.name}.log").out
        return [line for line in text.splitlines() if "nvme" in line and line[:1] != "{"]

    def wait(self, more: int, patience: int = PATIENCE) -> list[dict[str, Any]]:
        """Until it has printed so many lines more. It is asked there: each question from here
        would cost the guest the one CPU that it has."""
        had = len(self.printed()) - len(self.past)
        log = f"/tmp/{self.name}.log"
        out = self.host.run(f"n=0; until [ $(grep -c '^{{.*}}' {log}) -ge {had + more} ]; do "
                            f"pidof {self.process} >/dev/null || exit 1; "
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

    def until_held(self) -> dict[str, Any]:
        """What it has printed last, when all of its reads wait for a drive that is held. Of two
        lines that say the same a busy machine may have given it no time between."""
        until = time.monotonic() + PATIENCE
        while (lines := self.wait(1)[-3:])[0]["reads"] != lines[-1]["reads"]:
            if time.monotonic() > until:
                raise MachineError(f"{self.name} reads on: {lines}")
        return lines[-1]

    def read_on(self, before: dict[str, Any]) -> dict[str, Any]:
        """What it has printed last, as soon as each of its CPUs has had what it waited for, and
        more; or a long time later."""
        until = time.monotonic() + PATIENCE
        while ((last := self.wait(1)[-1]) and time.monotonic() < until and not
               min(now - then for now, then in zip(last["reads"], before["reads"])) > Drive.DEPTH):
            pass
        return last

    def memory(self) -> set[int]:
        """The physical addresses of all of its memory, which does not move any more."""
        return self._pages(self.do("status")["pid"], "memfd:guest")

    def _pages(self, pid: int, memfd: str) -> set[int]:
        line = self.host.sh(f"ls -l /proc/{pid}/fd | grep {memfd}").out
        fd = line.split(" -> ")[0].split()[-1]
        agent = Agent(self.host, "looker").start()
        agent.do(f"open-memory ram /proc/{pid}/fd/{fd}")
        pages = agent.pages("ram")
        agent.do("quit")
        return pages

    def leave(self) -> None:
        """Before its host jumps: what is in its host's memory would be lost."""
        self.past = self.printed()
