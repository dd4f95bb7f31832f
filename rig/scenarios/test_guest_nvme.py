# SPDX-License-Identifier: GPL-2.0
"""A virtual machine with two devices and two CPUs lives through the kexec of its host.

An unmodified Debian behind VT-d, with a network card that receives and an NVMe drive that it reads.
The drive completes what it was told while there is no virtual machine.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from rig import untouched, vtd, witness
from rig.drive import COMPLETION, Drive, completions
from rig.guest import BEHIND_VTD, Guest, GuestHost
from rig.keeper import attribute, state
from rig.lab import Lab
from rig.machine import MachineError
from rig.outside import Reachable
from rig.topology import Topology, nic, root_port

CPUS = 2
# What each waits for, by queue; the admin's is queue 0
WAITING = [queue + 1 for queue in range(CPUS) for _ in range(Drive.DEPTH)]
DEVICES = ("nic0", "disk0")
STARTED, STOPPED = "pci_nvme_mmio_start_success", "pci_nvme_mmio_stopped"
CC = 0x14           # Controller Configuration; 0 resets the controller (NVMe 1.4, sec 3.1.5)


class Host(GuestHost, Reachable):
    """A host of virtual machines whose devices can be written to while no kernel runs."""


def jump(host: Host, drive: Drive, other: Drive) -> float:
    """The drive completes what it was told after the old kernel has gone, and after that the other
    is reset, at the time that is returned."""
    bar, _ = untouched.bar(host, host.topology.bdf[other.id])
    if (loaded := host.load()).rc:
        raise MachineError(f"kexec -l failed: {loaded.out}")
    host.leave()
    host.wait_for_next_kernel()
    drive.release(host)
    deadline = time.monotonic() + host.timeout
    while completions(host, host.jumped_at[0]) != WAITING and time.monotonic() < deadline:
        time.sleep(0.05)
    now = time.time()
    host.write(bar + CC, 0)
    host.wait_boot(2)
    host.daemon()
    return now


@pytest.mark.usefixtures("also_on_debug")
def test_guest_reads_its_drive_and_receives_while_the_kernel_is_replaced(vm: Lab) -> None:
    """Beside it is the control: a guest whose drive is reset meanwhile, from outside."""
    drive, other = Drive(vm.folder, "disk0"), Drive(vm.folder, "disk1")
    host: Any = vm(Topology(root_port("rp0", nic("nic0")), root_port("rp1", drive.device),
                            root_port("rp2", other.device)),
                   kind=Host, words=BEHIND_VTD, iommu=True, before=drive.args + other.args,
                   trace=[*vtd.EVENTS, COMPLETION, STARTED, STOPPED])
    # That a busy machine takes its time is no reason to call a drive late.
    guest = Guest(host, "vm-1", nic="nic0", drive="disk0").start(
        options=f"--cpus {CPUS}", words="nvme_core.io_timeout=600")
    control = Guest(host, "vm-2", drive="disk1").start()
    host.senders["nic0"].start()
    memory = guest.memory()
    for one in (drive, other):
        one.hold(host)
    before = guest.until_held()
    assert len(before["reads"]) == before["cpus"] == CPUS
    assert min(before["reads"] + control.until_held()["reads"]) > 3

    stopped = time.time()
    for each in (guest, control):
        each.do("save")
        each.leave()
    reset = jump(host, drive, other)
    for id in DEVICES:
        assert host.sh(f"cat {attribute(host, id, 'liveupdate/dma')}").out.strip() == "translated"
    claimed = time.time()
    for each in (guest, control):
        each.restore()
    assert [state(host, id) for id in DEVICES] == ["none", "none"]
    assert "was paused" not in guest.complaints()

    # What it waited for is right, and each CPU was told of its own.
    after = guest.read_on(before)
    assert after["tick"] > before["tick"] and after["uptime"] > before["uptime"]
    assert min(now - then for now, then in zip(after["reads"], before["reads"])) > Drive.DEPTH
    assert (after["wrong"], after["failed"], guest.kernel_said()) == (0, 0, [])
    after = guest.arrived(sent := host.senders["nic0"].stop())
    assert (after["frames"], after["lost"], after["again"]) == (sent, 0, 0)

    unit, trace = vtd.read(host), witness.read(host)
    away = (host.jumped_at[0], host.booted_at[1])
    assert completions(host, stopped, reset) == completions(host, away[0], reset) == WAITING
    bdfs = [host.topology.bdf[id] for id in DEVICES]
    for id, bdf in zip(DEVICES, bdfs):
        assert [a for a in unit.by(bdf) if away[0] < a.time < away[1]]
        assert untouched.touched(host, id, claimed) == []
        # That which masks its interrupts when it is frozen
        assert len([w for w in trace.writes(id, shutdown=None) if stopped < w.time < claimed]) <= 1
        assert [w for w in trace.cleared_master(id) if w.time > stopped] == []
    assert unit.outside(memory, *bdfs) == []
    assert unit.faults == [] and unit.switched() == [True]
    assert [trace.resets(name, since=stopped) for name in ("e1000e", "nvme")] == [[], []]
    assert [t for t in trace.events(STARTED) if stopped < t < claimed] == []
    assert len([t for t in trace.events(STOPPED) if stopped < t < claimed]) == 1    # the control's

    # The control: its kernel says so. And a block that is not what it should be is noticed.
    host.sh("until grep -q 'nvme.*\\(abort\\|reset\\)' /tmp/vm-2.log; do sleep 1; done")
    assert control.kernel_said()
    drive.spoil(7)
    until = time.monotonic() + 60
    while not (last := guest.wait(1)[-1])["wrong"] and time.monotonic() < until:
        pass
    assert last["wrong"] and not last["failed"]
