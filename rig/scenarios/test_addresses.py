# SPDX-License-Identifier: GPL-2.0
"""Addresses never move, and nothing writes to a preserved device before its owner has it back."""

from __future__ import annotations

import itertools
import re
import time

import pytest

from rig import topology, witness
from rig.lab import Lab
from rig.machine import LIVE_UPDATE, Machine
from rig.receiver import Receiver
from rig.topology import Device, Topology, downstream, nic, root_port, switch
from rig.witness import Access

MEMORY_AND_MASTER = 0x6
COMMAND = 0x04
# Header fields of a bridge that decide over the way to what is below (PCIe r6.0, sec 7.5.1.3):
# bus numbers, I/O, memory and prefetchable windows with their upper halves, Bridge Control.
FABRIC = {*range(0x18, 0x1B), 0x1C, 0x1D, *range(0x20, 0x34), 0x3E, 0x3F}


def small(id: str, **props: str) -> Device:
    """Conventional PCI with a memory and an I/O BAR, and one of any size on demand."""
    return Device("pci-testdev", id, dict(props))


def crowded() -> Topology:
    """A switch with the NIC and neighbours, a bridge that holds nothing, a conventional bus."""
    return Topology(
        root_port("rp0", switch("up0", downstream("dn0", nic("nic0")),
                                downstream("dn1", small("beside")), downstream("dn2"))),
        root_port("rp1", small("below", membar="32M")), root_port("rp2"))


TOPOLOGIES = {"root-port": topology.plain, "switch": topology.demo, "crowded": crowded}
HOSTILE = ["pci=realloc", "pci=assign-busses,realloc", "pci=pcie_bus_perf", "pci=pcie_bus_safe",
           "pci=pcie_bus_peer2peer", "pcie_aspm=force", "pcie_aspm=off", "pci=nocrs", "pci=noats",
           "pci=resource_alignment=20@{nic}"]
TOGETHER = ("pci=assign-busses,realloc,pcie_bus_peer2peer,nocrs,noats pcie_aspm=force "
            "pci=resource_alignment=21@{nic};20@{port}")


def hostile(line: str, machine: Machine) -> str:
    """A command line with the addresses of the machine's NIC and of the port above it."""
    port = machine.topology.above("nic0")[0]
    return line.format(nic=machine.topology.bdf["nic0"], port=machine.topology.bdf[port])


def fabric_writes(writes: list[Access]) -> list[Access]:
    """Writes that reach a field of a bridge which devices below depend on."""
    return [w for w in writes if w.offset in FABRIC
            or (w.offset == COMMAND and w.value & MEMORY_AND_MASTER != MEMORY_AND_MASTER)]


def written(machine: Machine, id: str, until: float, boot: int = 2) -> list[Access]:
    """What a function was written in a kernel up to a time."""
    return [w for w in witness.read(machine).writes(id, boot) if w.time < until]


# Of the PCI Express capability: sizes, tags and ordering (Device Control without error
# reporting), ASPM, completion boundary and common clock (Link Control), Device Control 2.
EXPRESS = {0x08: 0xFFF0, 0x10: 0x004B, 0x28: 0xFFFF}


def settings(machine: Machine, id: str) -> list[int]:
    """What a function has in these registers."""
    text = machine.sh(f"od -An -v -tx1 /sys/bus/pci/devices/{machine.topology.bdf[id]}/config").out
    config = bytes.fromhex(text)
    at = config[0x34]
    while at and config[at] != 0x10:
        at = config[at + 1]
    return [int.from_bytes(config[at + n:at + n + 2], "little") & mask
            for n, mask in EXPRESS.items() if at]


def jump(machine: Machine, line: str = "") -> tuple[Receiver, float]:
    """Preserve the NIC, live update with that command line; also when its owner asks for it."""
    receiver = Receiver(machine)
    receiver.start()
    receiver.sender.start()
    receiver.preserve()
    machine.kexec(extra=hostile(line, machine))
    receiver.bind()
    return receiver, time.time()


def assert_untouched(machine: Machine, claimed: float, id: str = "nic0", boot: int = 2) -> None:
    """Not one write to the endpoint, none to the way to it, no BAR moved."""
    assert written(machine, id, claimed, boot) == []
    for bridge in machine.topology.above(id):
        assert fabric_writes(written(machine, bridge, claimed, boot)) == [], bridge
    trace = witness.read(machine)
    since = machine.booted_at[boot - 2]
    for moved in (id, *machine.topology.above(id)):
        assert not [m for m in trace.moved(moved, boot) if m.time > since], moved


def keeps_addresses(machine: Machine, line: str) -> None:
    """Arrange, act and ask: one live update into a kernel with that command line."""
    way = ["nic0", *machine.topology.above("nic0")]
    before = {id: settings(machine, id) for id in way}
    receiver, claimed = jump(machine, line)
    assert_untouched(machine, claimed)
    assert {id: settings(machine, id) for id in way} == before
    receiver.resume(bind=False)
    assert not receiver.ready["bar0_moved"]
    receiver.ctl("finish")
    sent, stats = receiver.settle()
    assert stats["distinct"] == sent
    receiver.ctl("quit")


@pytest.mark.parametrize("tree", TOPOLOGIES)
def test_nothing_is_written_before_the_claim(vm: Lab, tree: str) -> None:
    keeps_addresses(vm(TOPOLOGIES[tree]()), "")


def test_nothing_is_written_before_the_claim_by_a_debug_kernel(vm: Lab) -> None:
    keeps_addresses(vm(crowded(), variant="debug"), TOGETHER)


def test_nothing_is_written_before_the_claim_on_arm64(vm: Lab) -> None:
    """Where a stock kernel assigns all bus numbers and addresses anew."""
    keeps_addresses(vm(crowded(), arch="arm64"), "")


@pytest.mark.parametrize("tree", ["crowded"])
def test_hostile_command_lines_together_move_nothing(vm: Lab, tree: str) -> None:
    keeps_addresses(vm(TOPOLOGIES[tree]()), TOGETHER)


@pytest.mark.matrix(list(itertools.product(("x86_64", "arm64"), TOPOLOGIES, HOSTILE)), 3)
def test_hostile_command_line_moves_nothing(vm: Lab, case: tuple[str, str, str]) -> None:
    arch, tree, line = case
    keeps_addresses(vm(TOPOLOGIES[tree](), arch=arch), line)


# What is left out besides the guard, the command line that makes it show, and where: bits of
# pci_liveupdate.break from 0x100 on, in the order of enum pci_lu_keep. MSI, power, mailbox, SR-IOV,
# VPD and VGA have nothing to write to on these devices; for more, see test_guard.
BROKEN = {"bars": (0x100, "", "nic0"), "windows": (0x200, "", "rp0"),
          "addresses": (0x400, "pci=resource_alignment=20@{nic}", "nic0"),
          "payload": (0x800, "pci=pcie_bus_perf", "nic0"),
          "requests": (0x1000, "", "nic0"), "intx": (0x4000, "", "nic0"),
          "errors": (0x20000, "", "nic0")}


@pytest.mark.matrix([(site,) for site in BROKEN], 2)
def test_control_write_shows_when_one_site_adopts_nothing(vm: Lab, case: tuple[str]) -> None:
    bit, line, id = BROKEN[case[0]]
    machine = vm(topology.plain())
    _, claimed = jump(machine, f"pci_liveupdate.break={0x80 | bit:#x} {line}")
    writes = written(machine, id, claimed)
    assert writes if id == "nic0" else fabric_writes(writes)


def test_control_addresses_are_rewritten_on_arm64_when_they_are_not_claimed(vm: Lab) -> None:
    machine = vm(topology.plain(), arch="arm64")
    _, claimed = jump(machine, "pci_liveupdate.break=0x480")
    assert fabric_writes(written(machine, "rp0", claimed))


def bar(machine: Machine, bdf: str, n: int = 0) -> tuple[int, int]:
    """Start and size of a BAR as this kernel sees it; zeros if it has none."""
    words = machine.sh(f"sed -n {n + 1}p /sys/bus/pci/devices/{bdf}/resource").out.split()
    start, end = int(words[0], 16), int(words[1], 16)
    return start, end - start + 1 if end else 0


def assert_lost(machine: Machine, receiver: Receiver, claimed: float) -> None:
    """The device goes on, untouched; it cannot be retrieved; nobody else has its addresses."""
    assert_untouched(machine, claimed)
    assert len(witness.read(machine).dma(boot=2)) > 100
    assert bar(machine, receiver.bdf) == (0, 0)
    assert f"Live Update {receiver.bdf}" in machine.sh("cat /proc/iomem").out
    assert receiver.try_resume().rc != 0


def lose(machine: Machine, line: str) -> tuple[Receiver, float]:
    """Preserve the NIC and live update into a kernel that cannot have it."""
    receiver = Receiver(machine)
    receiver.start()
    receiver.sender.start()
    receiver.preserve()
    machine.kexec(extra=line)
    time.sleep(1)
    return receiver, time.time()


def test_bar_that_something_else_has_is_left_alone(vm: Lab, variant: str) -> None:
    """The incoming kernel's command line gives the first page of BAR 0 to firmware tables."""
    machine = vm(topology.plain(), variant=variant)
    start, _ = bar(machine, machine.topology.bdf["nic0"])
    assert_lost(machine, *lose(machine, f"memmap=4K#{start:#x}"))


def test_device_that_cannot_be_verified_is_left_alone(vm: Lab, variant: str) -> None:
    machine = vm(topology.plain(), variant=variant)
    assert_lost(machine, *lose(machine, "pci=nommconf"))


def test_other_device_in_its_place_is_left_alone(vm: Lab, variant: str) -> None:
    """The record names another Device ID: to the incoming kernel the device was exchanged."""
    machine = vm(topology.plain(), variant=variant,
                 cmdline=f"{LIVE_UPDATE} pci_liveupdate.break=64")
    assert_lost(machine, *lose(machine, ""))


def test_control_range_beside_the_bars_may_be_taken(vm: Lab) -> None:
    machine = vm(topology.plain())
    keeps_addresses(machine, "memmap=4K#0xfed1c000")


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_large_neighbour_is_placed_elsewhere(vm: Lab, arch: str) -> None:
    """A device that only the incoming kernel finds, with a BAR larger than all of the rest."""
    machine = vm(Topology(root_port("rp0", nic("nic0")), root_port("rp1")), arch=arch)
    start, size = bar(machine, machine.topology.bdf["nic0"])
    receiver, claimed = jump(machine)
    machine.qmp("device_add", driver="pci-testdev", id="large", bus="rp1", membar=1 << 30)
    machine.sh("sleep 6; echo 1 >/sys/bus/pci/rescan; sleep 1")
    large = machine.topology.bdf["rp1"][:5] + "02:00.0"
    at, length = bar(machine, large, 2)
    assert at == 0 or at >= start + size or at + length <= start
    assert_untouched(machine, time.time())
    receiver.resume(bind=False)
    assert not receiver.ready["bar0_moved"]
    receiver.ctl("finish")
    receiver.ctl("quit")


@pytest.mark.parametrize("line", ["", "pci_liveupdate.break=0xa0"], ids=["kept", "control"])
def test_rom_of_the_boot_display_is_left_alone(vm: Lab, line: str) -> None:
    """A quirk of x86 turns it off, since firmware has made a copy."""
    machine = vm(Topology(root_port("rp0", Device("VGA", "vga"))))
    own_test = f"PCI_LIVEUPDATE_BDF={machine.topology.bdf['vga']} pci_liveupdate_test"
    machine.json(f"pci_cfg bind {machine.topology.bdf['vga']}")
    machine.sh(f"{own_test} -s 1")
    machine.kexec(extra=line)
    if line:
        assert [w.offset for w in written(machine, "vga", time.time())] == [0x30]
    else:
        assert_untouched(machine, time.time(), "vga")
        machine.sh(f"{own_test} -s 2")


class WithConventionalBus(Topology):
    """QEMU's bridge to conventional PCI has no slot number."""

    def args(self, root: str = "pcie.0") -> list[str]:
        return [re.sub(r",chassis=\d+,slot=\d+", "", word) if word.startswith("pcie-pci-bridge")
                else word for word in super().args(root)]


def assorted() -> Topology:
    """What QEMU has, in one machine: three NICs and an NVMe drive are going to be preserved."""
    return WithConventionalBus(
        root_port("rp0", switch("up0", downstream("dn0", nic("nic0")),
                                downstream("dn1", Device("nvme", "disk", {"serial": "pcilu"})),
                                downstream("dn2", nic("nic1")))),
        root_port("rp1", Device("pcie-pci-bridge", "conventional", bridge=True, addr="0",
                                children=[small("old", membar="1M"), Device("pci-ohci", "usb"),
                                          Device("edu", "edu")])),
        root_port("rp2", Device("nvme", "spare", {"serial": "spare"})),
        nic("nic2"), Device("intel-hda", "sound"), small("root", membar="16M"))


def test_assorted_devices_stay_through_three_live_updates(vm: Lab, variant: str) -> None:
    machine = vm(assorted(), variant=variant)
    receivers = [Receiver(machine, id) for id in machine.topology.nics()]
    disk = machine.topology.bdf["disk"]
    own_test = f"PCI_LIVEUPDATE_BDF={disk} pci_liveupdate_test"
    machine.json(f"pci_cfg bind {disk}")
    for receiver in receivers:
        receiver.start()
        receiver.sender.start()
    for boot, image in enumerate(("next", "kernel", "next"), 2):
        machine.sh(f"{own_test} -s 1")
        for receiver in receivers:
            receiver.preserve()
        machine.kexec(image, extra=hostile(TOGETHER, machine))
        for id in (disk, *(receiver.bdf for receiver in receivers)):
            machine.json(f"pci_cfg bind {id}")
        claimed = time.time()
        for id in ("disk", *machine.topology.nics()):
            assert_untouched(machine, claimed, id, boot)
        machine.sh(f"{own_test} -s 2")
        for receiver in receivers:
            receiver.resume(bind=False)
            assert not receiver.ready["bar0_moved"]
            receiver.ctl("finish")
    for receiver in receivers:
        sent, stats = receiver.settle()
        assert stats["distinct"] == sent
        receiver.ctl("quit")
