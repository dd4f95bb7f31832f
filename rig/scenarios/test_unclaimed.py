# SPDX-License-Identifier: GPL-2.0
"""A device that waits for its owner is reached or bound by nobody else, and then it is."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import pytest

from rig import console
from rig.agent import Agent
from rig.keeper import Keeper, attribute, driver
from rig.lab import Lab
from rig.topologies import KEPT
from rig.topology import Device, Topology, nic, root_port

NIC_STATUS = 0x8
IO_BAR = 2
ROM_SIZE = 2048         # the smallest that a ROM's BAR can have
LAST_IMAGE = 0x80       # PCI Firmware r3.0, sec 5.1.2
E1000E = "8086:10d3"
MEMORY = 0x2
# A quirk masks interrupts of this one (SCB Interrupt Mask) if nobody has.
EEPRO100, INTERRUPT_MASK = "i82559c", 3
LET_THROUGH = "pci_liveupdate.break=0xa0"


def expansion_rom(path: Path) -> Path:
    """An image for nobody: firmware does not run what another device's driver is in."""
    data = struct.pack("<4sHHHHB3sHHBBH", b"PCIR", 0xFFFF, 0xFFFF, 0, 24, 0, bytes(3),
                       ROM_SIZE // 512, 0, 0xFF, LAST_IMAGE, 0)
    header = b"\x55\xaa" + bytes(22) + struct.pack("<HH", 28, 0)
    path.write_bytes((header + data).ljust(ROM_SIZE, b"\0"))
    return path


def test_bars_of_an_unclaimed_device_are_out_of_reach(vm: Lab, variant: str,
                                                      tmp_path: Path) -> None:
    image = expansion_rom(tmp_path / "rom")
    machine = vm(Topology(root_port("rp0", nic(KEPT, romfile=str(image)))), variant=variant)
    keeper = Keeper(machine)
    keeper.preserve()
    ports = f"dd if={attribute(machine, KEPT, f'resource{IO_BAR}')} bs=4 count=1 of=/dev/null"
    file = attribute(machine, KEPT, "rom")
    rom = f"echo 1 >{file} && dd if={file} bs=1 count=1"
    memory = [f"pci_cfg peek {keeper.bdf} 0 {NIC_STATUS}", f"pci_cfg map {keeper.bdf} 0"]
    machine.kexec()
    for access in memory:
        assert machine.run(access).json()["errno"] == "EBUSY", access
    for access in (ports, rom):
        assert "busy" in machine.run(f"({access}) 2>&1").out, access
    # Control: finished, it is like any other.
    keeper.take_back()
    machine.sh(f"pci_cfg unbind {keeper.bdf}; echo 1 >{attribute(machine, KEPT, 'enable')}")
    for access in memory:
        machine.json(access)
    machine.sh(ports)
    assert machine.sh(f"{rom} 2>/dev/null").out == "U"      # 55h, with which it begins


@pytest.mark.console(console.STOPPED)
def test_driver_that_was_kept_away_gets_the_device_in_the_end(vm: Lab, variant: str) -> None:
    """Of a session that nobody wants: closed by whoever has retrieved it, and nothing of it."""
    machine = vm(Topology(root_port("rp0", nic(KEPT)), root_port("rp1", nic("nic1"))),
                 variant=variant)
    agent = Agent(machine).start().take(KEPT)
    agent.preserve(KEPT)
    machine.kexec(extra=f"pci-stub.ids={E1000E}")
    # Control: it was kept away, and one that was not preserved has it.
    assert [driver(machine, id) for id in (KEPT, "nic1")] == [None, "pci-stub"]
    agent.start().do("retrieve-session s vm0", "close s")
    for _ in range(50):
        if driver(machine, KEPT):
            break
        time.sleep(0.1)
    assert driver(machine, KEPT) == "pci-stub"


@pytest.mark.console("Firmware left e100 interrupts enabled")
def test_quirk_leaves_interrupts_of_a_network_adapter_alone(vm: Lab, variant: str) -> None:
    machine = vm(Topology(Device(EEPRO100, KEPT, {"netdev": f"net-{KEPT}", "romfile": ""})),
                 variant=variant)
    agent = Agent(machine).start().take(KEPT)
    agent.set_command(KEPT, MEMORY)
    for extra, masked in (("", 0), (LET_THROUGH, 1)):
        agent.write(KEPT, INTERRUPT_MASK, 0, width=1)
        agent.preserve(KEPT)
        machine.kexec(extra=extra)
        agent.take_back(KEPT)
        assert agent.read(KEPT, INTERRUPT_MASK, width=1) == masked
