# SPDX-License-Identifier: GPL-2.0
"""Devices that are added while others are preserved, and scans that race with preserving."""

from __future__ import annotations

import time

import pytest

from conftest import FULL
from rig import console, topologies
from rig.fabric import Fabric
from rig.keeper import Keeper, appears, attribute, functions, rescan
from rig.lab import Lab
from rig.machine import LIVE_UPDATE, NATIVE_HOTPLUG
from rig.receiver import Receiver
from rig.topologies import KEPT
from rig.topology import Topology, downstream, edu, nic, root_port, switch

BUTTON = 8      # seconds; a kernel waits five for a second press before it acts
RACES = (console.STOPPED, "cannot be preserved: buses are being scanned or devices removed")
ROUNDS = 1000 if FULL else 30
BESIDE_PRESERVES = ("(pci_lu_loop {} {rounds} >/tmp/loop0 2>&1; touch /tmp/end0) & "
                    "(pci_lu_loop {} {rounds} >/tmp/loop1 2>&1; touch /tmp/end1) & "
                    "until test -e /tmp/end0 && test -e /tmp/end1; do "
                    "echo 1 >/sys/bus/pci/rescan; echo >>/tmp/scans; done; wait")
BESIDE_RESCANS = ("touch /tmp/go; (while test -e /tmp/go; do echo 1 >/sys/bus/pci/rescan; "
                  "echo >>/tmp/rescans; done) >/dev/null 2>&1 & "
                  "{}; rc=$?; rm /tmp/go; wait; exit $rc")


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_device_is_added_while_another_is_preserved(vm: Lab, arch: str) -> None:
    """In the outgoing and in the incoming kernel, below root ports that were empty."""
    machine = vm(Topology(root_port("rp0", nic(KEPT)), root_port("rp1"), root_port("rp2")),
                 arch=arch, args=NATIVE_HOTPLUG if arch == "x86_64" else [])
    keeper = Keeper(machine)
    keeper.preserve()
    fabric = Fabric(machine, KEPT)
    machine.qmp("device_add", driver="edu", id="new1", bus="rp1")
    assert appears(machine, "0000:02:00.0")
    machine.kexec()
    machine.qmp("device_add", driver="edu", id="new2", bus="rp2")
    assert appears(machine, "0000:03:00.0")
    assert [str(d) for d in fabric.disturbed()] == []
    keeper.take_back()


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
@pytest.mark.console(console.REFUSED)
def test_request_to_unplug_is_refused(vm: Lab, arch: str) -> None:
    """QEMU presses the slot's button, which is polite: the kernel may say no."""
    machine = vm(Topology(root_port("rp0", nic(KEPT)), root_port("rp1", edu("edu0"))), arch=arch,
                 args=NATIVE_HOTPLUG if arch == "x86_64" else [])
    keeper = Keeper(machine)
    keeper.preserve()
    fabric = Fabric(machine, KEPT)
    for update in (machine.kexec, keeper.take_back):
        machine.qmp("device_del", id=KEPT)
        time.sleep(BUTTON)
        assert machine.run(f"test -e /sys/bus/pci/devices/{keeper.bdf}").rc == 0
        assert [str(d) for d in fabric.disturbed()] == []
        update()
    # Control: with the live update over it goes, and so did one that is not preserved.
    # An idle port may sleep, and QEMU's does not wake its system when the button is pressed.
    machine.sh(f"echo on >{attribute(machine, 'rp0', 'power/control')}")
    machine.qmp("device_del", id=KEPT)
    machine.qmp("device_del", id="edu0")
    gone = [keeper.bdf, machine.topology.bdf["edu0"]]
    machine.sh(f"cd /sys/bus/pci/devices; while test -e {gone[0]} -o -e {gone[1]}; do sleep 0.1; "
               "done", timeout=60)


@pytest.mark.console(*console.UNNUMBERED)
def test_added_bridge_gets_no_bus_numbers_until_the_finish(vm: Lab) -> None:
    """On arm64, whose kernel leaves room for it below each root port when it is told to."""
    machine = vm(Topology(root_port("rp0", nic(KEPT)), root_port("rp1")), arch="arm64",
                 cmdline=f"{LIVE_UPDATE} pci=hpbussize=4")
    keeper = Keeper(machine)
    keeper.preserve()
    bridge = machine.json("pci_cfg dump " + machine.topology.bdf["rp1"])["bridge"]
    added = f"0000:{bridge['secondary']:02x}:00.0"
    fabric = Fabric(machine, KEPT)
    machine.qmp("device_add", driver="pcie-pci-bridge", id="br0", bus="rp1")
    assert appears(machine, added)
    time.sleep(2)
    for _ in range(2):
        assert functions(machine)[added][2] == "00-00"
        rescan(machine)
    machine.kexec()
    assert functions(machine)[added][2] == "00-00"
    assert [str(d) for d in fabric.disturbed()] == []
    keeper.take_back()
    rescan(machine)
    number = f"{bridge['secondary'] + 1:02x}"
    assert functions(machine)[added][2].startswith(number)
    assert "bus numbers" not in fabric.what()


def switched(kept: int) -> Topology:
    """Four NICs below a switch, and a root port with one beside."""
    ports = [downstream(f"dn{n}", nic(f"nic{n}")) for n in range(kept)]
    return Topology(root_port("rp0", switch("up0", *ports)), root_port("rp1", nic("idle")))


@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
@pytest.mark.console(*RACES)
def test_scans_race_with_preserve_and_finish(vm: Lab, arch: str) -> None:
    scans_race(vm, arch, "release")


@pytest.mark.timeout(4 * 3600)
@pytest.mark.console(*RACES)
def test_scans_race_with_preserve_and_finish_on_debug(vm: Lab) -> None:
    scans_race(vm, "x86_64", "debug")


def scans_race(vm: Lab, arch: str, variant: str) -> None:
    """One process scans, two preserve and unpreserve; then four sessions finish below scans."""
    machine = vm(switched(4), arch=arch, variant=variant, smp=2)
    bdf = machine.topology.bdf
    for n in range(4):
        machine.json(f"pci_cfg bind {bdf[f'nic{n}']}")
    # On arm64 scans number anew as long as nothing has ever been preserved.
    first = Keeper(machine, "nic0")
    first.preserve()
    first.unpreserve()
    before = functions(machine)
    fabric = Fabric(machine)
    machine.sh(BESIDE_PRESERVES.format(bdf["nic0"], bdf["nic1"], rounds=ROUNDS), timeout=3 * 3600)
    loops = [machine.sh(f"cat /tmp/loop{n}").json() for n in range(2)]
    assert [loop["preserved"] for loop in loops] == [ROUNDS] * 2
    # Control: they met.
    assert sum(loop["busy"] for loop in loops), loops
    assert int(machine.sh("wc -l </tmp/scans").out) > 4
    assert functions(machine) == before
    assert [str(d) for d in fabric.disturbed()] == []

    receivers = [Receiver(machine, f"nic{n}") for n in range(4)]
    for receiver in receivers:
        receiver.start(ring=256)
        receiver.preserve()
    machine.kexec(extra="pci=assign-busses")
    # Two are finished by their owners, two by nobody: those are reset.
    finish = [f"pci_cfg bind {receiver.bdf} && e1000e_rx resume --name {receiver.name} "
              f"--background {'--retrieve none' * (n % 2)} && e1000e_rx ctl {receiver.name} finish"
              for n, receiver in enumerate(receivers)]
    machine.sh(BESIDE_RESCANS.format(" && ".join(finish)), timeout=5 * machine.timeout)
    assert int(machine.sh("wc -l </tmp/rescans").out) > 4
    assert functions(machine) == before
    assert [str(d) for d in fabric.disturbed()] == []


def test_control_scan_without_the_rule_numbers_anew(vm: Lab) -> None:
    machine = vm(topologies.switched(), arch="arm64",
                 cmdline=f"{LIVE_UPDATE} pci_liveupdate.break=0x88")
    Keeper(machine).preserve()
    fabric = Fabric(machine, KEPT)
    rescan(machine)
    assert "bus numbers" in fabric.what()
