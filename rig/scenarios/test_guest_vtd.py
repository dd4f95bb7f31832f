# SPDX-License-Identifier: GPL-2.0
"""A virtual machine behind VT-d lives through the replacement of its host's kernel.

An unmodified Debian, with guest-physical addresses as VMMs like them, whose NIC goes on through the
unit. QEMU tells what the NIC reached and whether anything was untranslated meanwhile; the guest
itself counts frames.
"""

from __future__ import annotations

import time

import pytest

from rig import console, topology, vtd, witness
from rig.guest import BEHIND_VTD, Guest, GuestHost
from rig.keeper import attribute, state
from rig.lab import Lab
from rig.machine import MachineError


def host_of(vm: Lab, **options: object) -> GuestHost:
    host: GuestHost = vm(topology.plain(), kind=GuestHost, words=BEHIND_VTD, trace=vtd.EVENTS,
                         **{"iommu": True} | options)
    return host


def update(guest: Guest, incoming: str = "") -> str:
    """Into the next kernel and back. What became of the NIC's DMA, as sysfs says."""
    guest.do("save")
    guest.leave()
    guest.host.kexec(extra=incoming)
    verdict = guest.host.sh(f"cat {attribute(guest.host, guest.nic, 'liveupdate/dma')}").out.strip()
    guest.restore()
    return verdict


# The bound device keeps the VM of the process that was replaced.
@pytest.mark.console(console.DMA_FAULT, console.STILL_ON,
                     r"KVM: debugfs: duplicate directory \d+-\d+")
@pytest.mark.usefixtures("also_on_debug")
def test_guest_behind_vtd_receives_while_the_kernel_is_replaced(vm: Lab) -> None:
    """And before that its VMM. The control is in the update after that: with the NIC's page table
    forgotten."""
    host = host_of(vm)
    guest = Guest(host, nic="nic0").start()
    host.senders["nic0"].start()
    assert guest.do("replace")["phase"] == "running"
    before = guest.wait(2)[-1]
    memory = guest.memory()
    assert len(memory) * vtd.PAGE == 128 << 20
    assert "no IOMMU" not in guest.complaints()

    stopped = time.time()
    assert update(guest) == "translated"
    assert state(host, "nic0") == "none"
    after = guest.arrived(sent := host.senders["nic0"].stop())
    assert after["tick"] > before["tick"] and after["uptime"] > before["uptime"]
    assert (after["frames"], after["lost"], after["again"]) == (sent, 0, 0)
    assert "was paused" not in guest.complaints()

    unit, trace = vtd.read(host), witness.read(host)
    nic = host.topology.bdf["nic0"]
    jump = (host.jumped_at[0], host.booted_at[1])
    # It wrote to the guest's memory while there was no virtual machine, and to nothing else.
    assert [a for a in unit.by(nic) if jump[0] < a.time < jump[1]]
    assert [t for t in trace.dma() if jump[0] < t < jump[1]]
    assert unit.outside(memory, nic) == []
    assert unit.faults == [] and unit.switched() == [True]
    assert [on for _, on in unit.remaps] == [True]
    assert [w for w in trace.cleared_master("nic0") if w.time > stopped] == []
    assert trace.resets("e1000e", since=stopped) == [] and trace.overruns() == []

    host.senders["nic0"].start()
    guest.wait(1)
    update(guest, "pci_liveupdate.break=2")
    time.sleep(2)
    sent = host.senders["nic0"].stop()
    try:
        assert guest.wait(5)[-1]["frames"] < sent
    except MachineError:    # what the NIC wrote elsewhere may take the guest with it
        assert "is back" in guest.complaints()
    unit = vtd.read(host)
    assert unit.faults or unit.outside(memory, nic)
    assert unit.switched()[:2] == [True, False]
