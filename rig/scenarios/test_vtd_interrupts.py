# SPDX-License-Identifier: GPL-2.0
"""Behind VT-d: what a device writes to 0xfeexxxxx is an interrupt, whatever its page table says."""

from __future__ import annotations

import re
import time

import pytest
from test_vfio_failures import eventually
from test_vtd import (BUFFER, DMA, FROM_DEVICE, IOVA, LENGTH, MASTER, MEMORY, ON, RUN, SOURCE,
                      TARGET, dma)

from rig import config, vtd
from rig.agent import Agent
from rig.lab import Lab
from rig.machine import LIVE_UPDATE, Machine
from rig.outside import Reachable
from rig.topology import Topology, edu, root_port
from rig.witness import LINE, moment

MSI, WIDE = 0x05, 0x80      # the capability, and what says that its address has 64 bits
ENTRY = re.compile(r"index (\d+) low 0x([0-9a-f]+) high 0x([0-9a-f]+)")
EVENTS = ["vtd_ir_irte_get", "vtd_ir_remap_msi", "vtd_reg_ir_root"]


def happened(machine: Machine, event: str) -> list[tuple[float, str]]:
    """When, and what the trace says of it."""
    lines = (machine.folder / "trace.log").read_text(errors="replace").splitlines()
    found = (LINE.match(line) for line in lines if event in line)
    return [(moment(match), match[4]) for match in found if match and match[3] == event]


def message(machine: Machine, bdf: str) -> tuple[int, int]:
    """What a device writes for its first interrupt: address and data (PCI r3.0, sec 6.8.1)."""
    space = config.read(machine, bdf)
    at = space.capability(MSI)
    assert at is not None
    wide = space.get(at + 2, 2) & WIDE
    return space.get(at + 4, 4), space.get(at + (12 if wide else 8), 2)


# Later QEMUs than 7.2 note the fault in the unit, and the next kernel tells of it.
@pytest.mark.console("DMAR: DRHD: handling fault status",
                     r"DMAR: \[INTR-REMAP\] Request device \[0000:ff:1f\.7\] .*Present field")
def test_vtd_message_of_before_interrupts_nobody(vm: Lab) -> None:
    """The message of a device, written as DMA that its user has set up, when no kernel runs."""
    machine = vm(Topology(root_port("rp0", edu("edu0", dma_mask="0xffffffffffffffff"))),
                 kind=Reachable, iommu=True, trace=[*vtd.EVENTS, *EVENTS],
                 cmdline=f"{LIVE_UPDATE} {ON}")
    bdf = machine.topology.bdf["edu0"]
    agent = Agent(machine).start().take("edu0", iova=IOVA["edu0"])
    agent.set_command("edu0", MASTER | MEMORY)
    agent.do("arm edu0 msi 1")
    address, data = message(machine, bdf)
    # In which entry of the table it is (VT-d 4.1, sec 5.1.3).
    index = ((address >> 5 & 0x7FFF) | (address >> 2 & 1) << 15) + (data if address & 8 else 0)
    agent.poke("edu0-ram", 0, data.to_bytes(4, "little"))
    dma(agent, IOVA["edu0"], BUFFER, 0)

    # Control: while there is an entry it does interrupt.
    for register, value in ((SOURCE, BUFFER), (TARGET, address), (LENGTH, 4),
                            (DMA, RUN | FROM_DEVICE)):
        agent.write("edu0", register, value, width=8)
    assert eventually(lambda: agent.do("counts edu0 msi")["counts"] == [1])
    assert [text for _, text in happened(machine, "vtd_ir_remap_msi")
            if f"(addr {address:#x}, data {data:#x}) ->" in text]

    registers = int(machine.sh(f"head -n 1 /sys/bus/pci/devices/{bdf}/resource").out.split()[0], 16)
    agent.preserve("edu0")
    assert machine.load().rc == 0
    machine.leave()
    left = 0.0
    while not left:
        left = next((since for since, *_ in vtd.read(machine).roots
                     if since > machine.jumped_at[0]), 0.0)
        time.sleep(0.01)
    # It has the rest of its registers still.
    machine.write(registers + DMA, RUN | FROM_DEVICE)
    machine.wait_boot(2)

    taken = next(since for since, _ in happened(machine, "vtd_reg_ir_root") if since > left)
    found = [ENTRY.match(text) for since, text in happened(machine, "vtd_ir_irte_get")
             if left < since < taken]
    assert [(int(match[2], 16), int(match[3], 16))
            for match in found if match and int(match[1]) == index] == [(0, 0)]
    assert [text for since, text in happened(machine, "vtd_ir_remap_msi")
            if left < since < taken] == []
    assert [on for _, on in vtd.read(machine).remaps] == [True]


# Of the table DMAR (VT-d 4.1, sec 8): its checksum, and in the first scope of its first unit what
# it is, and the number of that.
CHECKSUM, SCOPE, NUMBER, IOAPIC = 9, 64, 68, 3


def change_ioapic(machine: Reachable, by: int) -> None:
    """Firmware's table names another I/O APIC than there is, or the right one again."""
    found = re.search(r"ACPI: DMAR 0x([0-9A-F]+)", machine.sh("dmesg").out)
    assert found
    start = int(found[1], 16)
    table = bytearray.fromhex(machine.sh(
        "hexdump -v -e '1/1 \"%02x\"' /sys/firmware/acpi/tables/DMAR").out)
    assert table[SCOPE] == IOAPIC
    for at, more in ((NUMBER, by), (CHECKSUM, -by)):
        table[at] = (table[at] + more) % 256
        word = at // 4 * 4
        machine.write(start + word, int.from_bytes(table[word:word + 4], "little"))


@pytest.mark.console("Kernel panic|Call Trace", "ioapic 0 has no mapping iommu")
def test_vtd_boot_stops_where_interrupts_cannot_be_remapped(vm: Lab) -> None:
    """A device that goes on could raise any."""
    machine = vm(Topology(root_port("rp0", edu("edu0"))), kind=Reachable, iommu=True,
                 trace=[*vtd.EVENTS, *EVENTS], cmdline=f"{LIVE_UPDATE} {ON}")
    # Control: with nothing preserved it goes on without, as ever.
    change_ioapic(machine, 1)
    machine.kexec()
    assert [on for _, on in vtd.read(machine).remaps] == [True, False]
    change_ioapic(machine, -1)
    machine.kexec()

    agent = Agent(machine).start().take("edu0", iova=IOVA["edu0"])
    agent.set_command("edu0", MASTER | MEMORY)
    agent.preserve("edu0")
    change_ioapic(machine, 1)
    assert machine.load().rc == 0
    machine.leave()
    machine.wait_exit()
    log = (machine.folder / "console.log").read_text(errors="replace")
    assert "VT-d: interrupt remapping cannot be set up" in log and "Kernel panic" in log
    unit = vtd.read(machine)
    assert [on for _, on in unit.remaps] == [True, False, True]
    assert unit.switched()[-1]
