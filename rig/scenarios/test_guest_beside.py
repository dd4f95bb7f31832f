# SPDX-License-Identifier: GPL-2.0
"""Guests that are not alone, or not at work, while their host's kernel is replaced.

An unmodified Debian each. What becomes of one is the other's control.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from rig import topology, vtd, witness
from rig.guest import BEHIND_VTD, Guest, GuestHost
from rig.keeper import attribute, state
from rig.lab import Lab
from rig.machine import MachineError

COUNTERS = "/sys/kernel/debug/kvm"      # a folder for each VM, by its VMM's process
LISTEN = 2.0                            # seconds


def count(guest: Guest, name: str) -> int:
    """What KVM has counted of a guest's virtual CPUs."""
    pid = guest.do("status")["pid"]
    return int(guest.host.sh(f"cat {COUNTERS}/{pid}-*/{name}").out)


def save_while_it_halts(guest: Guest) -> None:
    """Its CPU waits for an interrupt."""
    pid = guest.do("status")["pid"]
    saved = guest.host.sh(f"until grep -qx 1 {COUNTERS}/{pid}-*/blocking; do :; done; "
                          f"pcilu-vmm save {guest.name}")
    assert saved.json()["phase"] == "saved"


def assert_same(guest: Guest, before: dict[str, Any]) -> dict[str, Any]:
    """Not booted again, and no clock of it has gone back."""
    lines = guest.wait(2)
    for clock in ("tick", "uptime", "clock"):
        values = [line[clock] for line in lines]
        assert values == sorted(set(values)), (clock, values)
    assert lines[-1]["tick"] > before["tick"] and lines[-1]["uptime"] > before["uptime"]
    return lines[-1]


@pytest.mark.usefixtures("also_on_debug")
def test_guest_keeps_its_nic_beside_one_that_nobody_saves(vm: Lab) -> None:
    """The other one is gone, and its NIC is stopped: every assertion about the first is false of
    it. A new guest has that NIC while the first goes on."""
    host: GuestHost = vm(topology.pair(), kind=GuestHost, words=BEHIND_VTD, iommu=True,
                         trace=vtd.EVENTS)
    kept, gone = Guest(host, "vm-1", nic="nic0").start(), Guest(host, "vm-2", nic="nic1").start()
    for sender in host.senders.values():
        sender.start()
    before, other = kept.wait(2)[-1], gone.wait(2)[-1]
    memory = kept.memory()

    kept.do("save")
    stopped = time.time()
    assert gone.wait(1)[-1]["frames"] > other["frames"]
    for guest in (kept, gone):
        guest.leave()
    host.kexec()
    assert host.sessions() == {"vm-1": "incoming"}
    assert [state(host, id) for id in host.senders] == ["incoming", "none"]
    assert host.sh(f"cat {attribute(host, 'nic0', 'liveupdate/dma')}").out.strip() == "translated"
    kept.restore()
    assert host.run("pcilu-vmm restore vm-2 2>&1").out.endswith("vm-2 was not handed over\n")
    sent = host.senders["nic1"].stop()
    assert gone.past[-1]["frames"] < sent

    # What the first one had was never disturbed,
    unit, trace = vtd.read(host), witness.read(host)
    nic0, nic1 = (host.topology.bdf[id] for id in host.senders)
    jump = (host.jumped_at[0], host.booted_at[1])
    assert [a for a in unit.by(nic0) if jump[0] < a.time < jump[1]]
    assert unit.outside(memory, nic0) == [] and unit.switched() == [True]
    assert unit.faults == []
    assert [w for w in trace.cleared_master("nic0") if w.time > stopped] == []
    # and what the other one had was stopped, before the next kernel.
    assert [w for w in trace.cleared_master("nic1", shutdown=True) if w.time > stopped]
    assert [a for a in unit.by(nic1) if a.time < jump[0]]
    assert unit.by(nic1, since=jump[1]) == []

    new = Guest(host, "vm-2", nic="nic1").start()
    assert new.printed()[0]["tick"] == 0 < gone.past[-1]["tick"]
    host.senders["nic1"].start()
    assert new.wait(3)[-1]["frames"]
    assert_same(kept, before)
    sent = host.senders["nic0"].stop()
    last = kept.arrived(sent)
    assert (last["frames"], last["lost"], last["again"]) == (sent, 0, 0)


def test_guest_that_halts_is_woken_by_what_came_meanwhile(vm: Lab) -> None:
    """Beside it is one that never halts. KVM counts how often they did."""
    host: GuestHost = vm(topology.plain(), kind=GuestHost, needs="busy-guest")
    still = Guest(host, "vm-1", nic="nic0").start()
    busy = Guest(host, "vm-2").start(words="busy")
    halts = [count(guest, "halt_exits") for guest in (still, busy)]
    for guest in (still, busy):
        guest.wait(1)
    more = [count(guest, "halt_exits") - had for guest, had in zip((still, busy), halts)]
    assert more[0] > 0 and more[1] == 0     # the control: such a count tells them apart
    before = [guest.printed()[-1] for guest in (still, busy)]
    assert not before[0]["frames"]

    busy.do("save")
    save_while_it_halts(still)
    host.senders["nic0"].start()
    for guest in (still, busy):
        guest.leave()
    host.kexec()
    came = witness.read(host).dma()
    assert came     # while it halted, and there was no virtual machine
    for guest in (still, busy):
        guest.restore()
    after = [assert_same(guest, had) for guest, had in zip((still, busy), before)]
    assert after[0]["frames"] >= len(came)
    last = still.arrived(sent := host.senders["nic0"].stop())
    assert (last["frames"], last["lost"], last["again"]) == (sent, 0, 0)
    halts = [count(guest, "halt_exits") for guest in (still, busy)]
    for guest in (still, busy):
        guest.wait(1)
    assert count(still, "halt_exits") > halts[0] and count(busy, "halt_exits") == halts[1]


def test_control_vmm_that_ends_without_a_successor_takes_its_guest_along(vm: Lab) -> None:
    """In one kernel: what is replaced goes on, what is killed does not, with a NIC or without."""
    host: GuestHost = vm(topology.plain(), kind=GuestHost)
    guest, plain = Guest(host, "vm-1", nic="nic0").start(), Guest(host, "vm-2").start()
    before = plain.printed()[-1]
    assert plain.do("replace")["phase"] == "running"
    assert_same(plain, before)
    host.senders["nic0"].start()
    assert guest.wait(2)[-1]["frames"]
    for each in (guest, plain):
        each.kill()
        out = host.run(f"pcilu-vmm restore {each.name} 2>&1").out
        assert out.endswith(f"{each.name} was not handed over\n")
    killed = time.time()
    time.sleep(LISTEN)
    with pytest.raises(MachineError, match="is gone"):
        plain.wait(1)
    trace = witness.read(host)
    assert [t for t in trace.dma() if t < killed] and [t for t in trace.dma() if t > killed] == []
    assert trace.no_master()
