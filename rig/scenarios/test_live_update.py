# SPDX-License-Identifier: GPL-2.0
"""A NIC under a user-space driver receives while the kernel below it is replaced."""

from __future__ import annotations

import itertools
import time

import pytest

from rig import topology, witness
from rig.lab import Lab
from rig.machine import LIVE_UPDATE, Machine
from rig.receiver import Receiver

TOPOLOGIES = {"root-port": topology.plain, "switch": topology.demo}


def assert_all_arrived(receiver: Receiver) -> None:
    """Every frame sent was received, once."""
    sent, stats = receiver.settle()
    assert stats["distinct"] == sent
    assert stats["lost"] == stats["duplicated"] == stats["corrupted"] == 0
    assert stats["high_water_ever"] < stats["ring_size"]
    assert not receiver.sender.refused


def assert_untouched(machine: Machine, nic: str = "nic0") -> None:
    """Neither the NIC nor a bridge above it lost Bus Master; the NIC has its address still."""
    trace = witness.read(machine)
    since = machine.jumped_at[0]
    for id in (nic, *machine.topology.above(nic)):
        assert not [w for w in trace.cleared_master(id) if w.time > since], id


def live_update(vm: Lab, tree: topology.Topology, *, arch: str = "x86_64",
                variant: str = "release", order: str = "--memory-first", smp: int = 1) -> None:
    """Arrange, act and ask: the plain live update."""
    vm.look_for_leaks = variant == "debug"
    machine = vm(tree, arch=arch, variant=variant, smp=smp)
    receiver = Receiver(machine)
    receiver.start(order)
    receiver.sender.start()
    time.sleep(1)
    receiver.preserve()
    before = machine.json("pci_cfg tree")
    machine.kexec()
    receiver.resume()
    assert receiver.ready["pa_moved"] == 0
    assert not receiver.ready["bar0_moved"]
    assert receiver.ready["bus_master"]
    time.sleep(1)
    receiver.ctl("finish")
    time.sleep(1)
    assert_all_arrived(receiver)
    addresses = [{key: device[key] for key in ("bdf", "bars")} for device in before["devices"]]
    after = [{key: device[key] for key in ("bdf", "bars")}
             for device in machine.json("pci_cfg tree")["devices"]]
    assert after == addresses
    assert_untouched(machine)
    assert len(witness.read(machine).dma_after_jump(ring=receiver.ring)) > 250
    receiver.ctl("quit")


def test_preserved_nic_receives_across_kexec(vm: Lab, variant: str) -> None:
    live_update(vm, topology.demo(), variant=variant)


def test_preserved_nic_receives_across_kexec_on_arm64(vm: Lab) -> None:
    live_update(vm, topology.plain(), arch="arm64")


@pytest.mark.matrix(list(itertools.product(TOPOLOGIES, ("release", "debug"),
                                           ("memory-first", "device-first"), (1, 2))), 3)
def test_preserved_nic_receives_matrix(vm: Lab, case: tuple[str, str, str, int]) -> None:
    tree, variant, order, smp = case
    live_update(vm, TOPOLOGIES[tree](), variant=variant, order=f"--{order}", smp=smp)


@pytest.mark.parametrize("arch,variant", [("x86_64", "release"), ("x86_64", "debug"),
                                          ("arm64", "release")])
def test_control_unpreserved_nic_stops_at_kexec(vm: Lab, arch: str, variant: str) -> None:
    machine = vm(topology.plain(), arch=arch, variant=variant)
    receiver = Receiver(machine)
    receiver.start("--no-preserve-device")
    receiver.sender.start()
    time.sleep(1)
    receiver.preserve()
    machine.kexec()
    time.sleep(1)
    trace = witness.read(machine)
    assert trace.dma(boot=1)
    assert trace.cleared_master("nic0", boot=1, shutdown=True)
    assert trace.dma_after_jump() == []
    peek = machine.json(f"e1000e_rx peek --session {receiver.name}")
    assert peek["frames_before"] > 0


def test_control_nic_stops_when_bus_master_is_not_kept(vm: Lab, variant: str) -> None:
    """Everything is preserved but Bus Master, left out on purpose."""
    machine = vm(topology.plain(), variant=variant,
                 cmdline=f"{LIVE_UPDATE} pci_liveupdate.break=0x81")
    receiver = Receiver(machine)
    receiver.start()
    receiver.sender.start()
    time.sleep(1)
    receiver.preserve()
    machine.kexec()
    time.sleep(1)
    trace = witness.read(machine)
    assert trace.cleared_master("nic0", boot=1, shutdown=True)
    assert trace.dma_after_jump() == []


def test_three_live_updates_in_a_row(vm: Lab, variant: str) -> None:
    machine = vm(topology.demo(), variant=variant)
    receiver = Receiver(machine)
    receiver.start(ring=32768)
    receiver.sender.start()
    releases = [machine.release]
    for image in ("next", "kernel", "next"):
        receiver.preserve()
        releases.append(machine.kexec(image))
        receiver.resume()
        receiver.ctl("finish")
    assert releases[0] == releases[2] != releases[1] == releases[3]
    assert_all_arrived(receiver)
    assert_untouched(machine)
    assert witness.read(machine).boots() == 4
    receiver.ctl("quit")


def test_unpreserved_nic_beside_a_preserved_one_loses_bus_master(vm: Lab, variant: str) -> None:
    machine = vm(topology.pair(), variant=variant)
    kept, other = Receiver(machine, "nic0"), Receiver(machine, "nic1")
    kept.start()
    other.start("--no-preserve-device")
    for receiver in (kept, other):
        receiver.sender.start()
    time.sleep(1)
    kept.preserve()
    other.preserve()
    rings = [kept.ring, other.ring]
    machine.kexec()
    kept.resume()
    time.sleep(1)
    kept.ctl("finish")
    assert_all_arrived(kept)
    assert_untouched(machine, "nic0")
    trace = witness.read(machine)
    assert trace.dma_after_jump(ring=rings[0])
    assert trace.cleared_master("nic1", boot=1, shutdown=True)
    assert trace.dma_after_jump(ring=rings[1]) == []
    kept.ctl("quit")


def test_unretrieved_nic_loses_bus_master_at_the_next_kexec(vm: Lab, variant: str) -> None:
    machine = vm(topology.plain(), variant=variant)
    receiver = Receiver(machine)
    receiver.start()
    receiver.sender.start()
    receiver.preserve()
    machine.kexec()
    time.sleep(1)
    # Control: as long as this kernel lives it goes on.
    assert len(witness.read(machine).dma(boot=2)) > 100
    machine.kexec()
    time.sleep(1)
    trace = witness.read(machine)
    assert trace.cleared_master("nic0", boot=2, shutdown=True)
    assert trace.dma_after_jump(boot=2) == []


def test_handed_over_nic_cannot_be_opened_past_its_session(vm: Lab, variant: str) -> None:
    machine = vm(topology.plain(), variant=variant)
    receiver = Receiver(machine)
    receiver.start()
    receiver.preserve()
    machine.kexec()
    receiver.bind()
    thief = machine.run(f"e1000e_rx start --bdf {receiver.bdf} --name thief --no-session "
                        "--background")
    assert thief.rc == 10
    receiver.resume(bind=False)
    receiver.ctl("finish")
    receiver.ctl("quit")


def test_control_nic_without_session_can_be_opened_after_kexec(vm: Lab) -> None:
    machine = vm(topology.plain())
    machine.kexec()
    receiver = Receiver(machine)
    receiver.start("--no-session")
    receiver.ctl("quit")
