# SPDX-License-Identifier: GPL-2.0
"""What happens at a root port behind the kernel's back: a device is pulled out, its link fails.

Registers are those of PCIe r6.0, sec 7.5.3.10, and 7.5.1.1.3. QEMU (hw/pci/pcie.c) takes the device
out of a slot whose power and indicator are switched off.
"""

from __future__ import annotations

from . import config
from .machine import Machine

BREAK = "/sys/module/pci_liveupdate/parameters/break"
NO_GUARD = 0x80
SLOT_CONTROL = 0x18
OFF = 0x07C0        # the slot's indicators and its power; no interrupt
ON = 0x11E8         # power, and interrupts when a device comes or goes
COMMAND, SERR = 0x04, 0x100


def _control(machine: Machine, port: str, value: int) -> None:
    bdf = machine.topology.bdf[port]
    express = config.read(machine, bdf).capability(config.EXPRESS)
    assert express is not None
    write(machine, bdf, express + SLOT_CONTROL, value.to_bytes(2, "little"))


def write(machine: Machine, bdf: str, offset: int, value: bytes) -> None:
    """Write to a bridge what the guard would keep from it, as if it had changed by itself."""
    machine.sh(f"echo {NO_GUARD:#x} >{BREAK}")
    config.write(machine, bdf, offset, value)
    machine.sh(f"echo 0 >{BREAK}")


def pull_out(machine: Machine, port: str, id: str) -> None:
    """Nobody is told that the device below the port is gone."""
    _control(machine, port, OFF)
    assert f'id "{id}"' not in machine.hmp("info qtree")


def power_on(machine: Machine, port: str) -> None:
    """The port tells that its slot is empty."""
    _control(machine, port, ON)


def enable_errors(machine: Machine, port: str) -> None:
    """QEMU's port reports errors only if SERR is enabled, which on arm64 no firmware has done."""
    bdf = machine.topology.bdf[port]
    command = config.read(machine, bdf).get(COMMAND, 2)
    config.write(machine, bdf, COMMAND, (command | SERR).to_bytes(2, "little"))


def fail(machine: Machine, port: str) -> None:
    """A fatal error of its link (Data Link Protocol Error)."""
    machine.hmp(f"pcie_aer_inject_error {port} DLP")
