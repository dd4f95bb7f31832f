# SPDX-License-Identifier: GPL-2.0
"""Behind VT-d: what the unit would find of a device at each write to what leads to its page table.

The guest stands still right after the write: no interval is too short to be seen. That two halves
of an entry are written at once is seen, too, as one write.
"""

from __future__ import annotations

import itertools

import pytest
from test_vtd import Host
from test_vtd_beside import MODES

from rig import console, vtd
from rig.gdb import Stub
from rig.lab import Lab

PAGE = 4096
GAP = "pci_liveupdate.break=0x4000000000000000"
VARIANTS = ("release", "debug")
FIRST_STAGE = 1     # translation type of a PASID table entry (VT-d 4.1, sec 9.6)


class Path:
    """From the root table to the entry of the NIC (VT-d 4.1, sec 9.1 to 9.6)."""

    def __init__(self, stub: Stub, root: int, function: str, scalable: bool) -> None:
        bus, device, number = (int(part, 16) for part in
                               (function[-7:-5], function[-4:-2], function[-1]))
        devfn = device << 3 | number
        self.scalable = scalable
        tables = stub.words(root + 16 * bus, 2)
        table = tables[devfn >> 7 if scalable else 0] & -PAGE
        self.size = 32 if scalable else 16
        self.context = table + (devfn & 0x7F) * 32 if scalable else table + devfn * 16
        self.found: list[tuple[bool, int]] = []     # at each write: present, and by which table

    def look(self, stub: Stub) -> None:
        """What the unit would find now."""
        entry, *_ = stub.words(self.context, 1)
        present, table = bool(entry & 1), entry
        if present and self.scalable:
            directory, *_ = stub.words(entry & -PAGE, 1)
            entry, _, first = stub.words(directory & -PAGE, 3)
            present = bool(directory & entry & 1)
            table = first if entry >> 6 & 7 == FIRST_STAGE else entry
        self.found.append((present, table & -PAGE if present else 0))

    def pasid(self, stub: Stub) -> int:
        """Where the entry of PASID 0 is."""
        directory = stub.words(self.context, 1)[0] & -PAGE
        return stub.words(directory, 1)[0] & -PAGE


def switch(vm: Lab, mode: str, variant: str, incoming: str = "") -> Path:
    """Attach both devices in the next kernel, with an eye on the NIC's entries."""
    host = Host(vm, mode=mode, variant=variant, rate=20.0, more="nokaslr", accel="tcg")
    machine = host.machine
    host.update(incoming)
    assert host.verdicts() == {"translated"}
    host.retrieve()
    root = vtd.read(machine).roots[-1][1]
    with Stub(machine) as stub:
        path = Path(stub, root, machine.topology.bdf["nic0"], mode != "legacy")
        path.look(stub)
        places = {path.context: path.size}
        if path.scalable:
            places[path.pasid(stub)] = 64
        stub.watch(places, path.look)
        host.attach()
    host.agent.finish()
    assert incoming or host.received()
    return path


@pytest.mark.matrix([*itertools.product(MODES, VARIANTS)], 1)
def test_vtd_entry_is_present_at_every_write(vm: Lab, case: tuple[str, str]) -> None:
    """It leads to the old page table, and then to the new one."""
    path = switch(vm, *case)
    assert {present for present, _ in path.found} == {True}
    # One step, and nothing in between. Memory of the old entry may be written to after it.
    assert len(list(itertools.groupby(path.found))) == 2


@pytest.mark.console(console.DMA_FAULT)
@pytest.mark.matrix([(mode,) for mode in MODES], 1)
def test_control_vtd_write_that_takes_the_entry_away_is_seen(vm: Lab, case: tuple[str]) -> None:
    """With the entry gone for 300 ms on purpose."""
    path = switch(vm, case[0], "release", GAP)
    assert {present for present, _ in path.found} == {True, False}
    assert [present for present, _ in itertools.groupby(path.found, lambda at: at[0])] == [
        True, False, True]
