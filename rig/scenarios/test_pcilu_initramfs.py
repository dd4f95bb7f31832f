# SPDX-License-Identifier: GPL-2.0
"""The initial RAM disk of a Debian: with what `pcilu bind --persist` wrote, and vfio-pci.

Debian's own kernel makes one when it is installed, and boots with two cards that its driver wants.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from rig import debian, paths, qemu
from rig.pcilu_host import Host, config_space

RULES, MODULE = "etc/udev/rules.d/50-pcilu.rules", "kernel/drivers/vfio/pci/vfio-pci.ko"
RELEASE = "7.3.5-next"
# As mkinitramfs runs it.
HOOK = f"""rm -rf /ram && mkdir -p /ram && : > /list
export DESTDIR=/ram version={RELEASE} verbose=n CONFDIR=/etc/initramfs-tools
export __MODULES_TO_ADD=/list
[ -z "$(/usr/share/initramfs-tools/hooks/pcilu prereqs)" ] &&
    /usr/share/initramfs-tools/hooks/pcilu && cat /list && cd /ram && find . -type f
"""
# What it takes to make one, beside what a root has.
PACKAGES = ["initramfs-tools-core", "initramfs-tools", "klibc-utils", "libklibc", "cpio", "udev",
            "zstd", "logsave", "linux-base"]
LATER = "dracut-install"        # from Debian 13 on
CONF = "MODULES=list\nBUSYBOX=n\nCOMPRESS=gzip\nRESUME=none\n"
# The driver that udev loads for both; nothing loads it by name.
OTHER_DRIVER = """#!/bin/sh
[ "$1" = prereqs ] && exit 0
. /usr/share/initramfs-tools/hook-functions
manual_add_modules e1000e
"""
# After udev has done what it does, and before there is another root.
TELL = """#!/bin/sh
[ "$1" = prereqs ] && exit 0
for d in /sys/bus/pci/devices/*; do
    echo "driver of ${d##*/}: $(readlink $d/driver 2> /dev/null)" > /dev/console
done
reboot
"""
OURS, OTHERS = "0000:00:05.0", "0000:00:06.0"


def fetch(*packages: str) -> list[str]:
    out = subprocess.run([str(paths.FETCH_DEB), "x86_64", *packages], text=True,
                         capture_output=True)
    if out.returncode:
        pytest.skip(f"no {' '.join(packages)}: {out.stderr.strip()}")
    return out.stdout.split()


class Root:
    """A Debian with our packages and what makes initial RAM disks, not booted."""

    def __init__(self, folder: Path) -> None:
        debian.base()
        self.root = folder / "root"
        debian.install(self.root)
        debs = fetch(*PACKAGES)
        depends = subprocess.run(["dpkg-deb", "-f", debs[0], "Depends"], check=True, text=True,
                                 stdout=subprocess.PIPE).stdout
        if LATER in depends:
            debs += fetch(LATER)
        self.install(*debs)

    def install(self, *debs: str) -> None:
        for deb in debs:
            shutil.copy(deb, self.root)
        self.sh("dpkg -i --force-depends /*.deb > /dpkg.log 2>&1 && rm /*.deb")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        debian.write(self.root, path, text, mode)

    def sh(self, script: str) -> str:
        return subprocess.run(["chroot", str(self.root), "sh", "-ec", script], text=True,
                              check=True, stdout=subprocess.PIPE,
                              env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}).stdout


def rules(folder: Path) -> str:
    """What pcilu writes for that function."""
    with Host(folder) as host:
        host.standard()
        host.config(OURS, config_space(0x8086, 0x10d3, 0x020000), driver="vfio-pci", cdev="vfio3")
        for made in ("sys/bus/pci/drivers/vfio-pci", "etc/udev/rules.d"):
            (host.root / made).mkdir(parents=True, exist_ok=True)
        assert host.json("bind", OURS, "--persist")["devices"][0]["persists"]
        return (host.root / RULES).read_text()


def test_initial_ram_disk_has_what_bind_wrote(tmp_path: Path) -> None:
    root = Root(tmp_path)
    # A module as far as depmod and modprobe look into it.
    module = root.root / "usr/lib/modules" / RELEASE / MODULE
    module.parent.mkdir(parents=True)
    subprocess.run(["cc", "-c", "-x", "c", "/dev/null", "-o", str(module)], check=True)
    root.sh(f"depmod {RELEASE}")
    assert root.sh(HOOK) == ""          # control: an operator who binds nothing
    rule = rules(tmp_path / "host")
    root.write(RULES, rule)
    files = root.sh(HOOK).split()
    # Later ones note the names of modules, and copy them all in the end.
    assert f"./{RULES}" in files, files
    assert "vfio-pci" in files or any(f.endswith("/vfio-pci.ko") for f in files), files
    assert (root.root / "ram" / RULES).read_text() == rule


@pytest.mark.rare
def test_initial_ram_disk_binds_before_other_drivers(tmp_path: Path) -> None:
    """Control beside it: the function of the same kind that nobody bound."""
    root = Root(tmp_path)
    newest, = fetch("linux-image-amd64")        # which is empty, and depends on it
    depends = subprocess.run(["dpkg-deb", "-f", newest, "Depends"], check=True, text=True,
                             stdout=subprocess.PIPE).stdout
    image = depends.split()[0]
    release = image.removeprefix("linux-image-")
    root.write(RULES, rules(tmp_path / "host"))
    root.write("etc/initramfs-tools/initramfs.conf", CONF)
    root.write("etc/initramfs-tools/hooks/other-driver", OTHER_DRIVER, 0o755)
    root.write("etc/initramfs-tools/scripts/init-premount/tell", TELL, 0o755)
    root.install(*fetch(image))         # which makes the initial RAM disk
    console = subprocess.run(
        [qemu.binary("x86_64"), "-M", "q35", "-m", "1G", "-nodefaults", "-display", "none",
         "-no-reboot", "-serial", "stdio", "-kernel", str(root.root / f"boot/vmlinuz-{release}"),
         "-initrd", str(root.root / f"boot/initrd.img-{release}"), "-append",
         "console=ttyS0 panic=-1 no_timer_check intel_iommu=on", "-device", "intel-iommu",
         *(word for slot in (5, 6) for word in ("-device", f"e1000e,addr={slot}"))],
        text=True, errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        timeout=300).stdout
    (tmp_path / "console.log").write_text(console)
    drivers = {line.split()[2].rstrip(":"): line.split("/")[-1].strip()
               for line in console.splitlines() if line.startswith("driver of")}
    assert drivers[OURS] == "vfio-pci", console[-3000:]
    assert drivers[OTHERS] == "e1000e", console[-3000:]
