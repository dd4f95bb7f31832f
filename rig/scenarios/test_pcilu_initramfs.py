# SPDX-License-Identifier: GPL-2.0
"""The initial RAM disk of a Debian: with what `pcilu bind --persist` wrote, and vfio-pci."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from rig import debian, paths

RULES, MODULE = "etc/udev/rules.d/50-pcilu.rules", "kernel/drivers/vfio/pci/vfio-pci.ko"
RELEASE = "7.3.5-next"
RULE = 'ACTION=="add", SUBSYSTEM=="pci", KERNEL=="0000:3b:00.0", ATTR{driver_override}="vfio-pci"\n'
# As mkinitramfs runs it.
HOOK = f"""rm -rf /ram && mkdir -p /ram
export DESTDIR=/ram version={RELEASE} verbose=n CONFDIR=/etc/initramfs-tools
[ -z "$(/usr/share/initramfs-tools/hooks/pcilu prereqs)" ] &&
    /usr/share/initramfs-tools/hooks/pcilu && cd /ram && find . -type f
"""


def initramfs_tools(root: Path) -> None:
    """Debian's functions for hooks; the rest of the package wants many others."""
    out = subprocess.run([str(paths.FETCH_DEB), "x86_64", "initramfs-tools-core"], text=True,
                         capture_output=True)
    if out.returncode:
        pytest.skip(f"no initramfs-tools-core: {out.stderr.strip()}")
    tar = subprocess.run(["dpkg-deb", "--fsys-tarfile", out.stdout.strip()], check=True,
                         capture_output=True).stdout
    name = "usr/share/initramfs-tools/hook-functions"
    text = subprocess.run(["tar", "xO", f"./{name}"], input=tar, check=True, capture_output=True)
    debian.write(root, name, text.stdout.decode())


def test_initial_ram_disk_binds_before_other_drivers(tmp_path: Path) -> None:
    debian.base()
    root = tmp_path / "root"
    debian.install(root)
    initramfs_tools(root)
    # A module as far as depmod and modprobe look into it.
    module = root / "usr/lib/modules" / RELEASE / MODULE
    module.parent.mkdir(parents=True)
    subprocess.run(["cc", "-c", "-x", "c", "/dev/null", "-o", str(module)], check=True)

    def chroot(script: str) -> str:
        return subprocess.run(["chroot", str(root), "sh", "-ec", script], text=True, check=True,
                              stdout=subprocess.PIPE,
                              env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}).stdout

    chroot(f"depmod {RELEASE}")
    assert chroot(HOOK) == ""           # control: an operator who binds nothing
    debian.write(root, RULES, RULE)
    files = chroot(HOOK).split()
    assert f"./{RULES}" in files and any(f.endswith("/vfio-pci.ko") for f in files), files
    assert (root / "ram" / RULES).read_text() == RULE
