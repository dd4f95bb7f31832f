# SPDX-License-Identifier: GPL-2.0
"""Virtual Functions that can do ATS, behind VT-d: their page size is their Physical Function's.

A Virtual Function may use ATS once its Physical Function has been told the smallest translation
unit (PCIe r6.0, sec 10.5.1.3), which an IOMMU driver does when it first sees that one.
"""

from __future__ import annotations

import time

import pytest

from rig import config, sriov, witness
from rig.keeper import Keeper, attempt, attribute, state
from rig.lab import Lab
from rig.machine import LIVE_UPDATE, Machine
from rig.sriov import control_writes
from rig.topology import Device, Topology, root_port
from rig.untouched import touched

PF, VFS = "net0", 2
ATS_CONTROL, ATS_ENABLE = 0x06, 0x8000
VIRTIO = {"romfile": "", "disable-legacy": "on", "iommu_platform": "on", "ats": "on"}


def virtio(id: str, vfs: int) -> Device:
    """A virtio NIC and so many Virtual Functions of it, which QEMU wants to know of before."""
    words = ",".join(f"{name}={value}" for name, value in VIRTIO.items())
    return Device("virtio-net-pci", id, VIRTIO, addr="0.0", needs=[
        word for n in range(vfs, 0, -1)
        for word in ("-device", f"virtio-net-pci,bus=rp0,addr=0.{n},sriov-pf={id},{words}")])


def ats(machine: Machine, id: str) -> int:
    """ATS Control."""
    space = config.read(machine, machine.topology.bdf[id])
    at = space.extended(config.ATS)
    assert at
    return space.get(at + ATS_CONTROL, 2)


def grouped(machine: Machine, id: str) -> bool:
    """Is a function in an IOMMU group? Without, no VMM can have it."""
    return machine.run(f"test -e {attribute(machine, id, 'iommu_group')}").rc == 0


@pytest.mark.console("Hardware bug: VF reports bogus INTx pin 1")      # QEMU's
def test_sriov_functions_with_ats_behind_vtd(vm: Lab, variant: str) -> None:
    machine = vm(Topology(root_port("rp0", virtio(PF, VFS))), variant=variant,
                 needs="virtio-sriov", iommu={"device-iotlb": "on"},
                 cmdline=f"{LIVE_UPDATE} intel_iommu=on iommu.passthrough=0")
    vfs = sriov.enable(machine, PF, VFS)
    assert all(grouped(machine, id) for id in (PF, *vfs))
    kept, other = vfs
    keeper = Keeper(machine, kept)
    keeper.preserve()
    assert ats(machine, kept) & ATS_ENABLE
    unit = ats(machine, PF)

    machine.kexec()
    assert sriov.links(machine, PF) == [machine.topology.bdf[vf] for vf in vfs]
    assert all(grouped(machine, id) for id in (PF, *vfs))
    assert machine.sh(f"cat {attribute(machine, kept, 'liveupdate/dma')}").out.strip() == "paused"
    machine.json(f"pci_cfg bind {machine.topology.bdf[other]}")
    assert touched(machine, kept, time.time()) == touched(machine, PF, time.time()) == []
    assert ats(machine, kept) & ATS_ENABLE
    keeper.take_back()
    assert not ats(machine, kept) & ATS_ENABLE
    assert ats(machine, PF) == unit and control_writes(machine, PF, 2) == []
    assert state(machine, PF) == "none"

    # All is as after a boot: whoever comes now can be had, too.
    machine.json(f"pci_cfg bind {machine.topology.bdf[PF]} {sriov.STUB}")
    for count in (0, VFS):
        assert attempt(machine, attribute(machine, PF, "sriov_numvfs"), str(count)) == ""
    assert all(grouped(machine, id) for id in vfs)
    keeper.preserve()
    machine.kexec("kernel")
    keeper.take_back()
    assert witness.read(machine).boots() == 3
