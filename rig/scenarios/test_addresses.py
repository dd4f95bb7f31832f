# SPDX-License-Identifier: GPL-2.0
"""Addresses never move, and nothing writes to a preserved device before its owner has it back."""

from __future__ import annotations

import itertools
import re
import time

import pytest

from rig import config, console, topology, witness
from conftest import KERNELS
from rig.keeper import Keeper, state
from rig.lab import Lab
from rig.machine import LIVE_UPDATE, Machine
from rig.receiver import Receiver
from rig.topologies import KEPT
from rig.topology import (Device, Topology, downstream, edu, host, nic, nvme, pci_bridge, root_port,
                          switch)
from rig.untouched import COMMAND, bar, fabric_writes, settings, touched, written


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
    assert touched(machine, id, claimed, boot) == []


def keeps_addresses(machine: Machine, line: str) -> None:
    """Arrange, act and ask: one live update into a kernel with that command line."""
    before = settings(machine, "nic0")
    receiver, claimed = jump(machine, line)
    assert_untouched(machine, claimed)
    assert settings(machine, "nic0") == before
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
# pci_liveupdate.break from 0x100 on, in the order of enum pci_lu_keep. For SR-IOV and ATS see
# below, for links test_addresses_lines.py, for more test_guard.py.
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


@pytest.mark.parametrize("line,kept", [("", True), ("pci_liveupdate.break=0x80080", False)],
                         ids=["kept", "control"])
def test_virtual_functions_are_not_set_up(vm: Lab, line: str, kept: bool) -> None:
    machine = vm(Topology(root_port("rp0", nvme(KEPT))))
    Keeper(machine).preserve()
    machine.kexec(extra=line)
    assert bool(touched(machine, KEPT, time.time())) != kept


def test_control_addresses_are_rewritten_on_arm64_when_they_are_not_claimed(vm: Lab) -> None:
    machine = vm(topology.plain(), arch="arm64")
    _, claimed = jump(machine, "pci_liveupdate.break=0x480")
    assert fabric_writes(written(machine, "rp0", claimed))


def assert_lost(machine: Machine, receiver: Receiver, claimed: float) -> None:
    """The device goes on, untouched; it cannot be retrieved; nobody else has its addresses. It is
    stopped with its session: more of that is in test_stopped.py."""
    assert_untouched(machine, claimed)
    assert state(machine, "nic0") == "lost"
    assert len(witness.read(machine).dma(boot=2)) > 100
    assert bar(machine, receiver.bdf) == (0, 0)
    assert f"Live Update {receiver.bdf}" in machine.sh("cat /proc/iomem").out
    ring, began = receiver.ring, time.time()
    assert receiver.try_resume().rc != 0
    ended = time.time()
    machine.sh("sleep 1")
    trace = witness.read(machine)
    assert [w for w in trace.cleared_master("nic0", boot=2) if began < w.time < ended]
    assert [t for t in trace.descriptors(ring) if t > ended] == []


def lose(machine: Machine, line: str) -> tuple[Receiver, float]:
    """Preserve the NIC and live update into a kernel that cannot have it."""
    receiver = Receiver(machine)
    receiver.start()
    receiver.sender.start()
    receiver.preserve()
    machine.kexec(extra=line)
    time.sleep(1)
    return receiver, time.time()


# Who has one page: firmware tables, or early code.
TAKEN = {"firmware": "memmap=4K#{:#x}", "early": "reserve={:#x},4096"}


@pytest.mark.parametrize("by", TAKEN)
@pytest.mark.console(console.LOST, console.STOPPED)
def test_bar_that_something_else_has_is_left_alone(vm: Lab, variant: str, by: str) -> None:
    """In the incoming kernel the first page of BAR 0 is taken before there is a PCI bus."""
    machine = vm(topology.plain(), variant=variant)
    start, _ = bar(machine, machine.topology.bdf["nic0"])
    assert_lost(machine, *lose(machine, TAKEN[by].format(start)))


def apertures(machine: Machine) -> list[range]:
    """The memory windows of the host bridge."""
    lines = machine.sh("grep 'PCI Bus 0000:00$' /proc/iomem").out.splitlines()
    ends = [[int(word, 16) for word in line.split(" : ")[0].split("-")] for line in lines]
    return [range(start, end + 1) for start, end in ends]


@pytest.mark.console(console.LOST, console.STOPPED)
def test_bar_outside_of_the_host_bridges_window_is_left_alone(vm: Lab, variant: str) -> None:
    """A reservation across the border of a window makes the kernel do without the window."""
    machine = vm(topology.plain(), variant=variant)
    start, _ = bar(machine, machine.topology.bdf["nic0"])
    window = next(window for window in apertures(machine) if start in window)
    lost = lose(machine, f"reserve={window.start - 4096:#x},8192")
    assert not [window for window in apertures(machine) if start in window]
    assert_lost(machine, *lost)


@pytest.mark.console(console.LOST, console.STOPPED, "MMCONFIG is disabled")
def test_device_that_cannot_be_verified_is_left_alone(vm: Lab, variant: str) -> None:
    machine = vm(topology.plain(), variant=variant)
    assert_lost(machine, *lose(machine, "pci=nommconf"))


@pytest.mark.console(console.LOST, console.STOPPED)
def test_other_device_in_its_place_is_left_alone(vm: Lab, variant: str) -> None:
    """The record names another Device ID: to the incoming kernel the device was exchanged."""
    machine = vm(topology.plain(), variant=variant,
                 cmdline=f"{LIVE_UPDATE} pci_liveupdate.break=64")
    assert_lost(machine, *lose(machine, ""))


@pytest.mark.console(console.LOST, console.MISSED, "pci-host-generic", *console.KEPT,
                     "Live Update: no kexec while a device is running that cannot be stopped")
def test_device_below_a_host_bridge_that_fails_on_arm64_is_left_alone(vm: Lab) -> None:
    """A window that is not free makes a generic host bridge give up: nothing is enumerated."""
    machine = vm(topology.plain(), arch="arm64")
    start, _ = bar(machine, machine.topology.bdf["nic0"])
    receiver, _ = lose(machine, TAKEN["early"].format(start))
    ring = receiver.ring
    trace = witness.read(machine)
    # To the trace there is but one kernel: the second one never looks at the host bridge.
    assert trace.boots() == 1
    assert trace.writes("nic0", 1, shutdown=True) == []
    assert fabric_writes(trace.writes("rp0", 1, shutdown=True)) == []
    assert len([t for t in trace.dma() if t > machine.booted_at[1]]) > 100
    refused = receiver.try_resume("--retrieve device")
    assert refused.rc != 0 and refused.json()["errno"] == "EAGAIN", refused.out
    # Nobody can stop it: its memory stays, and is left to no other kernel.
    receiver.resume("--retrieve none", bind=False)
    assert receiver.try_ctl("finish")["errno"] == "EBUSY"
    since = time.time()
    machine.sh("sleep 1")
    assert [t for t in witness.read(machine).descriptors(ring) if t > since]
    assert machine.load().rc == 0
    assert machine.run("kexec_try exec").json()["errno"] == "EBUSY"


@pytest.mark.parametrize("by", TAKEN)
def test_control_range_beside_the_bars_may_be_taken(vm: Lab, by: str) -> None:
    machine = vm(topology.plain())
    keeps_addresses(machine, TAKEN[by].format(0xfed1c000))


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


def covered(vm: Lab, arch: str, line: str) -> tuple[Machine, float, range]:
    """A neighbour that only the incoming kernel finds, before the NIC and on the same addresses."""
    machine = vm(Topology(root_port("rp1", small("covers", membar="4M")),
                          root_port("rp0", nic("nic0"))), arch=arch)
    bdf = machine.topology.bdf
    start, size = bar(machine, bdf["nic0"])
    at = start & -(4 << 20)
    high, window = at >> 32, (at >> 16 & 0xFFFF) * 0x10001 + 0x300000 | 0x10001
    for id, place, words in (("covers", 0x18, (at & 0xFFFFFFFF | 0xC, high)),
                             ("rp1", 0x24, (window, high, high))):
        config.write(machine, bdf[id], COMMAND, bytes(2))
        for n, word in enumerate(words):
            config.write(machine, bdf[id], place + 4 * n, word.to_bytes(4, "little"))
    machine.sh(f"echo 1 >/sys/bus/pci/devices/{bdf['covers']}/remove")
    _, claimed = jump(machine, line)
    return machine, claimed, range(start, start + size)


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_neighbour_on_the_same_addresses_is_moved(vm: Lab, arch: str) -> None:
    machine, claimed, kept = covered(vm, arch, "")
    assert_untouched(machine, claimed)
    at, size = bar(machine, machine.topology.bdf["covers"], 2)
    assert at and (at >= kept.stop or at + size <= kept.start)
    assert not [m for m in witness.read(machine).moved("covers", 2) if m.add
                and m.base < kept.stop and m.base + m.size > kept.start]


def test_control_neighbour_on_the_same_addresses_gets_them(vm: Lab) -> None:
    machine, claimed, kept = covered(vm, "x86_64", "pci_liveupdate.break=0x480")
    assert touched(machine, "nic0", claimed)


ATS_CONTROL, ATS_ENABLE = 6, 0x8000


@pytest.mark.parametrize("line,kept", [("", True), ("pci_liveupdate.break=0x400080", False)],
                         ids=["kept", "control"])
def test_iommu_does_not_set_up_ats_before_the_claim(vm: Lab, variant: str, line: str,
                                                    kept: bool) -> None:
    """The IOMMU of either kernel translates, and can do ATS."""
    machine = vm(Topology(root_port("rp0", Device("virtio-net-pci", KEPT, {
        "romfile": "", "disable-legacy": "on", "iommu_platform": "on", "ats": "on"}))),
        variant=variant, iommu=True, args=["-global", "intel-iommu.device-iotlb=on"],
        cmdline=f"{LIVE_UPDATE} intel_iommu=on iommu.passthrough=0")
    keeper = Keeper(machine)
    keeper.preserve()

    def ats() -> int:
        space = config.read(machine, keeper.bdf)
        at = space.extended(config.ATS)
        return space.get(at + ATS_CONTROL, 2) & ATS_ENABLE if at else -1

    assert ats() == ATS_ENABLE
    machine.kexec(extra=line)
    machine.json(f"pci_cfg bind {keeper.bdf}")
    assert bool(touched(machine, KEPT, time.time())) != kept
    if kept:
        assert ats() == ATS_ENABLE
        keeper.take_back()
        assert ats() == 0


# In a kernel without any driver for frame buffers, nobody takes it from firmware's.
@pytest.mark.console("BAR 0: can't reserve")
@pytest.mark.parametrize("line", ["", "pci_liveupdate.break=0xa0"], ids=["kept", "control"])
def test_rom_of_the_boot_display_is_left_alone(vm: Lab, line: str) -> None:
    """A quirk of x86 turns it off, since firmware has made a copy."""
    machine = vm(Topology(root_port("rp0", Device("VGA", "vga"))), firmware="uefi")
    own_test = f"PCI_LIVEUPDATE_BDF={machine.topology.bdf['vga']} pci_liveupdate_test"
    machine.json(f"pci_cfg bind {machine.topology.bdf['vga']}")
    machine.sh(f"{own_test} -s 1")
    machine.kexec(extra=line)
    if line:
        assert [w.offset for w in written(machine, "vga", time.time())] == [0x30]
    else:
        assert_untouched(machine, time.time(), "vga")
        machine.sh(f"{own_test} -s 2")


class Everything(Topology):
    """QEMU's bridges to conventional PCI have no slot number; one of them has a chassis number."""

    def args(self, root: str = "pcie.0") -> list[str]:
        words = [re.sub(r",chassis=\d+,slot=\d+", "", word) if word.startswith("pcie-pci-bridge")
                 else word for word in super().args(root)]
        return words


def everything(arch: str) -> Topology:
    """What QEMU has, in one machine. IOMMUs apart, all that is not a bridge will be preserved."""
    old = Device("pci-bridge", "br1", {"chassis_nr": "99"}, [small("old", membar="1M")], addr="3",
                 bridge=True)
    old.children[0].addr = "1"
    other_host = [host("host1", 0x80, root_port("rp4", nic("nic3")))] * (arch == "x86_64")
    return Topology(
        root_port("rp0", switch("up0", downstream("dn0", nic("nic0")),
                                downstream("dn1", Device("nvme", "disk", {"serial": "pcilu"})),
                                downstream("dn2", nic("nic1")))),
        root_port("rp1", pci_bridge("br0", Device("pci-ohci", "usb"), edu("edu0"), old)),
        root_port("rp2", nvme("pf")),
        root_port("rp3", Device("virtio-rng-pci", "rng", {"multifunction": "on"}, addr="0.0"),
                  Device("virtio-net-pci", "virtio-net", {"romfile": ""}, addr="0.1")),
        nic("nic2"), Device("intel-hda", "sound"), small("root", membar="16M"), *other_host)


@pytest.mark.timeout(3600)      # four debug kernels, 13 devices in each
@pytest.mark.parametrize("arch,variant", KERNELS)
def test_all_devices_stay_through_three_live_updates(vm: Lab, arch: str, variant: str) -> None:
    machine = vm(everything(arch), arch=arch, variant=variant, rate=50, iommu=arch == "x86_64",
                 cmdline=f"{LIVE_UPDATE} intel_iommu=off")
    ids = [dev.id for dev in machine.topology.walk() if not dev.bridge and dev.root is None]
    receivers = [Receiver(machine, id) for id in machine.topology.nics()]
    keepers = [Keeper(machine, id) for id in ids if id not in machine.topology.nics()]
    for receiver in receivers:
        receiver.start()
        receiver.sender.start()
    for boot, image in enumerate(("next", "kernel", "next"), 2):
        for owner in (*keepers, *receivers):
            owner.preserve()
        machine.kexec(image, extra=hostile(TOGETHER, machine))
        for owner in (*keepers, *receivers):
            machine.json(f"pci_cfg bind {owner.bdf}")
        claimed = time.time()
        for id in ids:
            assert_untouched(machine, claimed, id, boot)
        for keeper in keepers:
            keeper.take_back()
        for receiver in receivers:
            receiver.resume(bind=False)
            assert not receiver.ready["bar0_moved"]
            receiver.ctl("finish")
    for receiver in receivers:
        sent, stats = receiver.settle()
        assert stats["distinct"] == sent
        receiver.ctl("quit")
