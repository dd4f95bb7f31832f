# SPDX-License-Identifier: GPL-2.0
"""A virtual machine with a Virtual Function lives through the replacement of its host's kernel.

An unmodified Debian, whose igbvf talks to the host's igb: as in a cloud, behind VT-d.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from rig import console, sriov, vtd, witness
from rig import igb as hw
from rig.guest import BEHIND_VTD, Guest, GuestHost
from rig.keeper import attribute, driver, state
from rig.lab import Lab
from rig.sriov import control_writes, resets
from rig.topology import Topology, igb, root_port

PF, VF = "igb0", "igb0-vf0"


class Host(GuestHost, hw.DriverMachine):
    """A host of virtual machines whose NIC has a driver of its own in each kernel."""

    def files(self) -> dict[str, Path]:
        return super().files() | self.modules()

    def kexec(self, image: str = "next", extra: str = "") -> str:
        release = super().kexec(image, extra)
        self.drive(PF)
        return release


def update(guest: Guest, incoming: str = "") -> None:
    guest.do("save")
    guest.leave()
    guest.host.kexec(extra=incoming)
    verdict = guest.host.sh(f"cat {attribute(guest.host, VF, 'liveupdate/dma')}").out
    assert verdict.strip() == "translated"
    guest.restore()


# igb's own word for what igbvf asks of it as its interface comes up.
@pytest.mark.console(console.DMA_FAULT, r"igb \S+ VF \d attempted to set invalid MAC filter")
def test_sriov_function_of_a_guest_receives_while_the_kernel_is_replaced(vm: Lab) -> None:
    host: Any = vm(Topology(root_port("rp0", igb(PF))), kind=Host, needs="igb", iommu=True,
                   words=BEHIND_VTD, trace=vtd.EVENTS)
    host.drive(PF)
    sriov.enable(host, PF, 1, hw.DRIVER)
    host.carrier(PF)
    guest = Guest(host, nic=VF).start()
    host.senders[PF].start()
    before = guest.wait(2)[-1]
    memory = guest.memory()
    stopped = time.time()
    update(guest)
    assert driver(host, PF) == hw.DRIVER and state(host, VF) == "none"
    after = guest.arrived(sent := host.senders[PF].stop())
    assert after["tick"] > before["tick"] and after["uptime"] > before["uptime"]
    assert (after["frames"], after["lost"], after["again"]) == (sent, 0, 0) and sent > 100

    unit, bdf = vtd.read(host), host.topology.bdf[VF]
    jump = (host.jumped_at[0], host.booted_at[1])
    assert [a for a in unit.by(bdf) if jump[0] < a.time < jump[1]]
    assert unit.outside(memory, bdf) == []
    assert unit.faults == [] and unit.switched() == [True]
    assert control_writes(host, PF, 2) == []
    assert [resets(host, id, 2) for id in (PF, VF)] == [0, 0]
    assert [w for w in witness.read(host).cleared_master(PF) if w.time > stopped] == []

    # Control: an igb that is not told resets the device under the guest.
    host.senders[PF].start()
    guest.wait(1)
    update(guest, "pci_liveupdate.break=0x20")
    time.sleep(2)
    sent = host.senders[PF].stop()
    last = guest.wait(5)[-1]
    assert last["frames"] < sent
