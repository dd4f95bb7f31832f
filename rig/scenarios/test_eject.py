# SPDX-License-Identifier: GPL-2.0
"""ACPI does not eject a host bridge that something preserved is below."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from rig import console
from rig.keeper import Keeper, attempt, functions, state
from rig.lab import Lab
from rig.machine import Machine
from rig.topologies import KEPT
from rig.topology import Topology, host, nic, root_port

ROOT = 0x80
NAME = f"PC{ROOT:02X}"          # as QEMU calls it
SAID = "removal of the host bridge is refused"


def method(name: bytes, flags: int, body: bytes) -> bytes:
    """ACPI 6.5, sec 20.2.5.2; not longer than what one byte says."""
    return bytes([0x14, 6 + len(body)]) + name + bytes([flags]) + body


def ejectable(name: str) -> bytes:
    """A table that has a device say that it can be ejected, and when it has been."""
    there = bytes([0x08]) + b"THER" + bytes([0x0a, 0x0f])           # Name (THER, 0x0f)
    status = method(b"_STA", 0, b"\xa4THER")                        # Return (THER)
    eject = method(b"_EJ0", 1, b"\x70\x00THER")                     # THER = 0
    scope = b"\\\x2e_SB_" + name.encode()                          # \_SB.name
    body = scope + there + status + eject
    size = len(body) + 2
    code = bytes([0x10, 0x40 | size & 0xf, size >> 4]) + body       # Scope, sec 20.2.4
    table = struct.pack("<4sIBB6s8sI4sI", b"SSDT", 36 + len(code), 2, 0, b"PCILU ", b"EJECT   ", 1,
                        b"RIG ", 1) + code
    return table[:9] + bytes([-sum(table) & 0xff]) + table[10:]


def eject(machine: Machine) -> None:
    """Ask for it, and wait until ACPI has thought about it."""
    path = machine.sh(f"grep -lx '\\\\_SB_.{NAME}' /sys/bus/acpi/devices/*/path").out.strip()
    assert attempt(machine, path.replace("/path", "/eject"), "1") == ""


def refused(machine: Machine, times: int) -> None:
    """It was, that often since this kernel booted, and all are still there."""
    machine.sh(f"until [ $(dmesg | grep -c '{SAID}') -ge {times} ]; do sleep 0.1; done")
    assert machine.topology.bdf[KEPT] in functions(machine)


# On the release kernel: the debug kernel is half a minute in QEMU's _PRT, and gives up.
@pytest.mark.console(console.REFUSED, SAID)
def test_host_bridge_is_not_ejected(vm: Lab, tmp_path: Path) -> None:
    table = tmp_path / "ejectable.aml"
    table.write_bytes(ejectable(NAME))
    machine = vm(Topology(nic("nic0"), host("host1", ROOT, root_port("rp1", nic(KEPT)))),
                 args=["-acpitable", f"file={table}"])
    keeper = Keeper(machine)
    keeper.preserve()
    eject(machine)
    refused(machine, 1)
    machine.kexec()
    eject(machine)
    refused(machine, 1)
    assert state(machine, KEPT) == "incoming"
    keeper.take_back()
    # Control: with nothing preserved it goes, and what is below.
    eject(machine)
    gone = machine.topology.bdf[KEPT]
    machine.sh(f"while [ -e /sys/bus/pci/devices/{gone} ]; do sleep 0.1; done")
    assert machine.topology.bdf["nic0"] in functions(machine)
