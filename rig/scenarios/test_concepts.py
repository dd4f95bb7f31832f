# SPDX-License-Identifier: GPL-2.0
"""What the PCI core is asked for holds for code that knows nothing of it."""

from __future__ import annotations

import time

import pytest

from rig import console
from rig.keeper import Keeper, attempt, attribute, rescan
from rig.lab import Lab
from rig.machine import NATIVE_HOTPLUG
from rig.topologies import KEPT
from rig.topology import Topology, nic, root_port
from rig.untouched import touched, written

CACHE_LINE_SIZE = 0x0C
INITIALISED = "hostile: capability initialised"


def test_capability_that_linux_learns_of_later_is_left_alone(vm: Lab, variant: str) -> None:
    """An initialiser at the end of the core's list writes to the function it is told to."""
    machine = vm(Topology(root_port("rp0", nic(KEPT)), root_port("rp1", nic("nic1"))),
                 variant=variant)
    keeper = Keeper(machine)
    keeper.preserve()
    machine.kexec(extra=f"pci_liveupdate_hostile.capability={keeper.bdf}")
    assert touched(machine, KEPT, time.time()) == []
    assert not machine.sh(f"dmesg | grep '{INITIALISED}' || true").out
    keeper.take_back()
    # Control: a device that nobody preserved is initialised.
    keeper.preserve()
    beside = machine.topology.bdf["nic1"]
    machine.kexec(extra=f"pci_liveupdate_hostile.capability={beside}")
    assert INITIALISED in machine.sh(f"dmesg | grep '{beside}.*{INITIALISED}'").out
    assert CACHE_LINE_SIZE in {w.offset for w in written(machine, "nic1", time.time(), 3)}
    assert touched(machine, KEPT, time.time(), 3) == []
    keeper.take_back()


@pytest.mark.console(console.REFUSED)
def test_slot_is_emptied_as_a_whole_or_not_at_all(vm: Lab, variant: str) -> None:
    """Removing another function of the card would leave half of it in a slot that stays on."""
    machine = vm(Topology(root_port("rp0", nic(KEPT, addr="0.0", multifunction="on"),
                                    nic("sibling", addr="0.1"))),
                 args=NATIVE_HOTPLUG, variant=variant)
    keeper = Keeper(machine)
    keeper.preserve()
    slot = "/sys/bus/pci/slots/1/power"
    assert attempt(machine, slot, "0") == "EBUSY"
    assert attempt(machine, attribute(machine, "sibling", "remove"), "1") == "EBUSY"
    assert machine.run(f"test -e {attribute(machine, 'sibling', 'remove')}").rc == 0
    keeper.unpreserve()
    # Control: then it goes.
    assert attempt(machine, attribute(machine, "sibling", "remove"), "1") == ""
    assert machine.run(f"test -e {attribute(machine, 'sibling', 'remove')}").rc != 0
    rescan(machine)
