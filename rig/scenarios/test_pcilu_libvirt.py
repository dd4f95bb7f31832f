# SPDX-License-Identifier: GPL-2.0
"""The hook of libvirt: which domains may start. Also under a real libvirt and its QEMU."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import FULL
from rig import container, debian
from rig.paths import TREE
from rig.pcilu_host import NIC, TOOLS, Host

HOOK = TREE / "tools/pcilu/libvirt/qemu-hook"
pytestmark = pytest.mark.skipif(not (TOOLS / "pcilu").exists(), reason="needs make tools SAN=1")

# As libvirt prints it: the first address is the host's, the second the guest's.
HOSTDEV = """    <hostdev mode='subsystem' type='{kind}' managed='yes'>
      <driver name='vfio'/>
      <source>
        <address domain='0x0000' bus='{bus}' slot='0x00' function='0x0'/>
      </source>
      <alias name='hostdev0'/>
      <address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>
    </hostdev>
    <disk type='file'>
      <source file='/x'><seclabel model='dac' relabel='no'/></source>
    </disk>
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Host(tmp_path) as h:
        yield h.standard()


def start(host: Host, *devices: str, operation: str = "prepare") -> subprocess.CompletedProcess:
    xml = "<domain type='kvm'>\n  <devices>\n" + "".join(devices) + "  </devices>\n</domain>\n"
    return host.run(str(HOOK), "vm-1", operation, "begin", "-", input=xml)


@pytest.mark.parametrize("state, starts", [("preserved", False), ("incoming", False),
                                           ("claimed", False), ("none", True), ("lost", True)])
def test_domain_does_not_start_with_a_device_that_a_session_holds(host: Host, state: str,
                                                                  starts: bool) -> None:
    (host.root / "sys/bus/pci/devices" / NIC / "liveupdate/state").write_text(state + "\n")
    other = HOSTDEV.format(kind="pci", bus="0x42")
    out = start(host, other, HOSTDEV.format(kind="pci", bus="0x01"))
    assert (out.returncode == 0) == starts, out.stderr
    assert starts or f"{NIC} of domain vm-1 is {state}" in out.stderr


@pytest.mark.parametrize("device", [HOSTDEV.format(kind="pci", bus="0x42"),    # of the host's 01
                                    HOSTDEV.format(kind="usb", bus="0x01"), ""])
def test_control_other_devices_and_the_guests_addresses_do_not_count(host: Host,
                                                                     device: str) -> None:
    assert start(host, device).returncode == 0
    assert start(host, HOSTDEV.format(kind="pci", bus="0x01")).returncode == 1
    assert start(host, HOSTDEV.format(kind="pci", bus="0x01"), operation="stopped").returncode == 0


def test_device_that_could_not_be_preserved_is_told(host: Host) -> None:
    device = host.root / "sys/bus/pci/devices" / NIC
    (device / "liveupdate/state").write_text("none\n")
    assert start(host, HOSTDEV.format(kind="pci", bus="0x01")).stderr == ""
    (device / "driver").unlink()
    (device / "driver").symlink_to("../../../bus/pci/drivers/e1000e")
    out = start(host, HOSTDEV.format(kind="pci", bus="0x01"))
    assert out.returncode == 0 and f"could not be preserved: pcilu check {NIC}" in out.stderr


PACKAGES = "libvirt-daemon,libvirt-daemon-driver-qemu,libvirt-clients,qemu-system-x86"
DOMAIN = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>{device}</devices></domain>"""
# Nothing of a domain but its QEMU: this is about who may start. One device of sysfs is of our own.
LIBVIRT = """
mkdir -p /var/log/libvirt /var/lib/libvirt /run/libvirt /etc/libvirt/hooks/qemu.d
useradd -r -U libvirt-qemu
cat > /etc/libvirt/qemu.conf << END
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
END
state=/devices/0000:01:00.0/liveupdate/state
mkdir -p ${state%/*}
mount --bind /devices /sys/bus/pci/devices
exec 2> /log
set -x
hook=/etc/libvirt/hooks/qemu.d/pcilu
ln -s /usr/share/pcilu/qemu-hook $hook
libvirtd -d
until virsh list; do sleep 0.5; done
virsh define /plain.xml
virsh define /vm-1.xml
try() {
    echo $1 > $state
    virsh start $2 2>&1
    echo "=== $1 $2 $(virsh domstate $2)"
}
try preserved plain
virsh destroy plain
try preserved vm-1
try incoming vm-1
try none vm-1
rm $hook
kill $(cat /run/libvirtd.pid)
while [ -e /run/libvirtd.pid ]; do sleep 0.1; done
libvirtd -d
until virsh list; do sleep 0.5; done
try preserved vm-1
kill $(cat /run/libvirtd.pid)
"""


@pytest.mark.skipif(not FULL, reason="make test-full makes a Debian with libvirt")
def test_real_libvirt_asks_the_hook_and_tells_why_not(tmp_path: Path) -> None:
    """It has no real device to give, and says so where the hook lets it get that far."""
    container.needs()
    root = tmp_path / "root"
    debian.install(root, "", PACKAGES)
    for name, device in (("plain", ""), ("vm-1", HOSTDEV.format(kind="pci", bus="0x01"))):
        device = device.split("    <disk")[0]       # whose file is not there
        debian.write(root, f"{name}.xml", DOMAIN.format(name=name, device=device))
    debian.write(root, "script", LIBVIRT)
    assert shutil.which("systemd-nspawn")
    out = subprocess.run(["systemd-nspawn", "--register=no", "--keep-unit", "-q",
                          f"--machine=pcilu-{os.getpid()}", "-D", str(root), "/bin/sh", "/script"],
                         text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         timeout=300).stdout
    said = [part.rsplit("\n", 1)[0] for part in out.split("=== ")]
    assert "=== preserved plain running" in out, (out, (root / "log").read_text())
    for state, text in (("preserved", said[1]), ("incoming", said[2])):
        assert f"=== {state} vm-1 shut off" in out
        assert f"{NIC} of domain vm-1 is {state} by a Live Update session" in text, text
    # Controls: a device that no session holds, and a libvirt without the hook.
    for text in said[3:5]:
        assert "Failed to start domain" in text and "Live Update" not in text, text
        assert "passthrough" in text or "not found" in text, text
