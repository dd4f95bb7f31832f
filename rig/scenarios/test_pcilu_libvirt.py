# SPDX-License-Identifier: GPL-2.0
"""The hook of libvirt: which domains may start."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

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
