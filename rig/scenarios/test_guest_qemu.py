# SPDX-License-Identifier: GPL-2.0
"""A machine that an unmodified QEMU runs lives through the replacement of its host's kernel.

With an NVMe drive behind VT-d, which completes what it was told while there is no QEMU.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from rig import console, igb, sriov, topology, untouched, vtd, witness
from rig.drive import COMPLETION, Drive, completions
from rig.guest import BEHIND_VTD
from rig.guest_qemu import QemuGuest, QemuHost
from rig.keeper import attribute, state
from rig.lab import Lab
from rig.machine import MachineError
from rig.outside import Reachable
from rig.topology import Topology, root_port

PF, VF = "igb0", "igb0-vf0"
WAITING = [1] * Drive.DEPTH     # of the one queue for data


class Host(QemuHost, Reachable):
    """A host that can be waited for while no kernel runs."""


class VfHost(QemuHost, igb.DriverMachine):
    """One whose NIC has a driver of its own in each kernel."""

    def files(self) -> dict[str, Path]:
        return super().files() | self.modules()

    def kexec(self, image: str = "next", extra: str = "") -> str:
        release = super().kexec(image, extra)
        self.drive(PF)
        return release


def host_of(vm: Lab) -> tuple[Any, Drive]:
    drive = Drive(vm.folder, "disk0")
    return vm(Topology(root_port("rp0", drive.device)), kind=Host, words=BEHIND_VTD, iommu=True,
              before=drive.args, trace=[*vtd.EVENTS, COMPLETION], needs="busy-guest"), drive


def test_qemu_with_a_nic_that_it_would_reset_is_not_saved(vm: Lab) -> None:
    """It has no reset by function. Nothing has changed: it receives."""
    host: Any = vm(topology.plain(), kind=Host, words=BEHIND_VTD, iommu=True, needs="busy-guest")
    guest = QemuGuest(host, nic="nic0").start()
    host.senders["nic0"].start()
    pid, last = guest.pid(), guest.wait(2)[-1]
    assert "has no reset by function (FLR)" in guest.save(rc=1)
    assert state(host, "nic0") == "none" and guest.pid() == pid
    after = guest.arrived(sent := host.senders["nic0"].stop())
    assert after["tick"] > last["tick"]
    assert (after["frames"], after["lost"], after["again"]) == (sent, 0, 0)
    assert "goes on" not in guest.complaints()


def jump(host: Host, drive: Drive) -> float:
    """The drive completes what it was told after the old kernel has gone; when that was."""
    if (loaded := host.load()).rc:
        raise MachineError(f"kexec -l failed: {loaded.out}")
    host.leave()
    host.wait_for_next_kernel()
    drive.release(host)
    deadline = time.monotonic() + host.timeout
    while completions(host, host.jumped_at[0]) != WAITING and time.monotonic() < deadline:
        time.sleep(0.05)
    now = time.time()
    host.wait_boot(2)
    host.daemon()
    return now


# The bound device keeps the VM of the QEMU that has become another one.
@pytest.mark.console(console.DMA_FAULT, console.STILL_ON,
                     r"KVM: debugfs: duplicate directory \d+-\d+")
@pytest.mark.usefixtures("also_on_debug")
def test_qemu_lives_through_the_replacement_of_its_hosts_kernel(vm: Lab) -> None:
    """And before that through a live update that is called off. The control is in the update after
    that: with the drive's page table forgotten."""
    host, drive = host_of(vm)
    guest = QemuGuest(host, drive="disk0").start(words="nvme_core.io_timeout=600")
    bdf, pid = host.topology.bdf["disk0"], guest.pid()
    guest.save()
    assert state(host, "disk0") == "preserved" and guest.pid() == pid
    printed = guest.printed()
    assert guest.printed() == printed
    guest.resume()
    guest.wait(2)
    assert state(host, "disk0") == "none" and guest.pid() == pid
    drive.hold(host)
    before = guest.until_held()
    memory = guest.memory()
    assert len(memory) * vtd.PAGE == 128 << 20

    stopped = time.time()
    guest.save()
    guest.leave()
    completed = jump(host, drive)
    assert host.sh(f"cat {attribute(host, 'disk0', 'liveupdate/dma')}").out.strip() == "translated"
    claimed = time.time()
    guest.restore()
    assert state(host, "disk0") == "none"
    after = guest.read_on(before)
    assert after["tick"] > before["tick"] and after["uptime"] > before["uptime"]
    assert (after["wrong"], after["failed"], guest.kernel_said()) == (0, 0, [])

    # It wrote to the guest's memory while there was no QEMU, and to nothing else.
    unit, trace = vtd.read(host), witness.read(host)
    away = (host.jumped_at[0], host.booted_at[1])
    assert completions(host, stopped, completed) == completions(host, away[0], completed) == WAITING
    assert [a for a in unit.by(bdf) if away[0] < a.time < away[1]]
    assert unit.outside(memory, bdf) == []
    assert unit.faults == [] and unit.switched() == [True]
    # Nobody wrote to the drive, but for what masks its interrupts when it is frozen
    assert untouched.touched(host, "disk0", claimed) == []
    assert len([w for w in trace.writes("disk0", shutdown=None) if stopped < w.time < claimed]) <= 1
    assert [w for w in trace.cleared_master("disk0") if w.time > stopped] == []
    assert trace.resets("nvme", since=stopped) == []

    guest.save()
    guest.leave()
    host.kexec(extra="pci_liveupdate.break=2")
    assert vtd.read(host).switched()[:2] == [True, False]


# igb's own word for what igbvf asks of it as its interface comes up.
@pytest.mark.console(r"igb \S+ VF \d attempted to set invalid MAC filter",
                     r"KVM: debugfs: duplicate directory \d+-\d+")
def test_sriov_function_of_a_qemu_receives_while_the_kernel_is_replaced(vm: Lab) -> None:
    """The control is test_sriov_guest's: an igb that is not told resets it."""
    host: Any = vm(Topology(root_port("rp0", topology.igb(PF))), kind=VfHost, iommu=True,
                   needs="igb busy-guest", words=BEHIND_VTD, trace=vtd.EVENTS)
    host.drive(PF)
    sriov.enable(host, PF, 1, igb.DRIVER)
    host.carrier(PF)
    guest = QemuGuest(host, nic=VF).start()
    host.senders[PF].start()
    before = guest.wait(2)[-1]
    memory = guest.memory()
    guest.save()
    guest.leave()
    host.kexec()
    assert host.sh(f"cat {attribute(host, VF, 'liveupdate/dma')}").out.strip() == "translated"
    guest.restore()
    assert state(host, VF) == "none"
    after = guest.arrived(sent := host.senders[PF].stop())
    assert after["tick"] > before["tick"] and after["uptime"] > before["uptime"]
    assert (after["frames"], after["lost"], after["again"]) == (sent, 0, 0) and sent > 100

    unit, bdf = vtd.read(host), host.topology.bdf[VF]
    jump = (host.jumped_at[0], host.booted_at[1])
    assert [a for a in unit.by(bdf) if jump[0] < a.time < jump[1]]
    assert unit.outside(memory, bdf) == [] and unit.faults == [] and unit.switched() == [True]
    assert sriov.control_writes(host, PF, 2) == []
    assert [sriov.resets(host, id, 2) for id in (PF, VF)] == [0, 0]
