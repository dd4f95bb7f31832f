# SPDX-License-Identifier: GPL-2.0
"""A final quirk halts OHCI controllers at every boot. One that is preserved runs on."""

from __future__ import annotations

import time

import pytest

from conftest import KERNELS
from rig import config, witness
from rig.fabric import Fabric
from rig.keeper import Keeper
from rig.lab import Lab
from rig.machine import LIVE_UPDATE, Machine
from rig.topologies import KEPT
from rig.topology import Device, Topology, nic, root_port

HC_CONTROL, OPERATIONAL = 0x04, 0x80
HC_HCCA = 0x18
FRAME_NUMBER = 0x80     # in that area; the controller writes it every millisecond
COMMAND, MEMORY_AND_MASTER = 0x04, b"\x06\x00"
# Memory that Linux does not use. The first page of a PC's is left to its firmware; where there is
# none, the command line keeps Linux from the last.
MEMORY = 3 << 30
AREA = {"x86_64": 0, "arm64": (1 << 30) + MEMORY - (8 << 20)}
LESS = {"x86_64": "", "arm64": f" mem={(MEMORY >> 20) - 16}M"}


def frame(machine: Machine) -> int:
    """The frame number in memory, as QEMU sees it."""
    at = AREA[machine.arch] + FRAME_NUMBER
    return int(machine.hmp(f"xp /1hx {at:#x}").split(":")[1].strip(), 16)


def counts(machine: Machine) -> bool:
    """Does the controller write frame numbers?"""
    seen = set()
    for _ in range(5):
        seen.add(frame(machine))
        time.sleep(0.1)
    return len(seen) > 1


def halted(machine: Machine) -> list[float]:
    """Changes of the controller's state since the jump."""
    return [time for time in witness.read(machine).events("usb_ohci_set_ctl")
            if time > machine.jumped_at[-1]]


@pytest.mark.parametrize("arch,variant", KERNELS)
@pytest.mark.parametrize("preserved", [True, False], ids=["preserved", "control"])
def test_running_ohci_is_not_halted(vm: Lab, arch: str, variant: str, preserved: bool) -> None:
    machine = vm(Topology(Device("pci-ohci", KEPT), root_port("rp0", nic("nic0"))),
                 arch=arch, variant=variant, trace=["usb_ohci_set_ctl"],
                 cmdline=LIVE_UPDATE + LESS[arch], memory=f"{MEMORY >> 30}G")
    keeper = Keeper(machine)
    machine.json(f"pci_cfg bind {keeper.bdf}")
    if preserved:
        keeper.preserve()
    else:
        config.write(machine, keeper.bdf, COMMAND, MEMORY_AND_MASTER)
    machine.json(f"pci_cfg poke {keeper.bdf} 0 {HC_HCCA} {AREA[arch]}")
    machine.json(f"pci_cfg poke {keeper.bdf} 0 {HC_CONTROL} {OPERATIONAL}")
    assert counts(machine)
    fabric = Fabric(machine, KEPT)
    machine.kexec()
    if preserved:
        assert halted(machine) == []
        assert [str(d) for d in fabric.disturbed()] == []
        assert counts(machine)
        keeper.take_back()
    else:
        assert halted(machine)
        assert "Bus Master" in fabric.what()
        assert not counts(machine)
