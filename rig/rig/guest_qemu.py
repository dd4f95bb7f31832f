# SPDX-License-Identifier: GPL-2.0
"""A virtual machine in the emulated host that QEMU runs: Debian's, of the backports, unmodified.

It is carried through a live update by pcilu-qemu.
"""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from . import paths, qemu
from .guest import BOOT, WORDS, Guest, GuestHost
from .machine import MachineError
from .tools import linked
from .topology import Topology

BROKER = paths.BUILD / "vmm/pcilu-qemu"
NAME = "qemu-system-x86_64"
FIRMWARE = ("seabios/bios-256k.bin", "qemu/linuxboot_dma.bin", "qemu/kvmvapic.bin")
# Its loader has its name, so that the process has.
RUN = f"/qemu/{NAME} --library-path /qemu/lib /qemu/qemu -L /qemu/share"
MEMORY = 128    # MiB


@functools.cache
def _program() -> dict[str, Path]:
    """QEMU with its libraries and firmware, out of the root that the rig has of it."""
    root = Path(qemu.new("x86_64")).parent.parent
    binary = root / f"usr/bin/{NAME}"
    loader = next((root / "usr").rglob("ld-linux-x86-64.so.2")).resolve()
    libraries = next((root / "usr").rglob("libc.so.6")).parent
    listed = subprocess.run([loader, "--library-path", libraries, "--list", binary], check=True,
                            text=True, stdout=subprocess.PIPE).stdout
    return ({f"qemu/{NAME}": loader, "qemu/qemu": binary} |
            {f"qemu/lib/{Path(path).name}": Path(path).resolve()
             for path in re.findall(r"=> (/\S+)", listed)} |
            {f"qemu/share/{Path(name).name}": (root / "usr/share" / name).resolve()
             for name in FIRMWARE})


class QemuHost(GuestHost):
    """A host that has QEMU beside pcilu-vmm."""

    def __init__(self, folder: Path, topology: Topology, words: str = "", **options: Any) -> None:
        super().__init__(folder, topology, words, **{"memory": "3G"} | options)

    def files(self) -> dict[str, Path]:
        if not BROKER.exists():
            pytest.skip(f"no {BROKER}: make vmm")
        return super().files() | _program() | linked(BROKER)


class QemuGuest(Guest):
    """One such machine. Its QEMU, pcilu-qemu and the QEMU after that are one process."""

    process = NAME

    def start(self, memory: int = MEMORY, options: str = "", words: str = "") -> "QemuGuest":
        self.bind()
        devices = " ".join(
            f"-device vfio-pci,host={self.host.topology.bdf[id]},iommufd=iommufd0,rombar=0"
            for id in self._devices)
        self.host.sh(
            f"setsid {RUN} -M q35,aux-ram-share=on,memory-backend=ram0 -accel kvm -cpu host "
            f"-m {memory} -object memory-backend-memfd,id=ram0,size={memory}M,share=on "
            "-nodefaults -display none -vga none -serial chardev:serial "
            f"-chardev file,id=serial,path=/tmp/{self.name}.log,append=on "
            f"-kernel /boot/guest -initrd /boot/guest.cpio -append '{WORDS} {words}' "
            f"-object iommufd,id=iommufd0 {devices} {options} -mon chardev=qmp,mode=control "
            f"-chardev socket,id=qmp,path=/tmp/{self.name}.qmp,server=on,wait=off "
            f">/tmp/{self.name}.err 2>&1 &")
        self.wait(2, int(BOOT * self.host.slow))
        return self

    def pid(self) -> int:
        return int(self.host.sh(f"pidof {self.process} pcilu-qemu").out)

    def save(self, rc: int = 0) -> str:
        """What pcilu-qemu says."""
        out = self.host.run(f"pcilu-qemu save {self.name} /tmp/{self.name}.qmp 2>&1")
        if out.rc != rc:
            raise MachineError(f"{self.name}: {out.out}; {self.complaints()}")
        return out.out

    def resume(self) -> None:
        self.host.sh(f"pcilu-qemu resume {self.name}")

    def restore(self, options: str = "", bind: bool = True) -> None:
        """In the next kernel, until it has printed something."""
        if bind:
            self.bind()
        self.host.sh(f"touch /tmp/{self.name}.log; "
                     f"setsid pcilu-qemu restore {self.name} >/tmp/{self.name}.err 2>&1 & "
                     f"until pidof {self.process} || ! pidof pcilu-qemu; do sleep 0.2; done")
        self.wait(1)

    def memory(self) -> set[int]:
        return self._pages(self.pid(), "memfd:memory-backend-memfd")
