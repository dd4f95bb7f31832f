# SPDX-License-Identifier: GPL-2.0
"""What a session does with a device: put in, taken out, closed, finished, asked wrongly."""

from __future__ import annotations

import time

import pytest

from rig import console, topology, witness
from rig.lab import Lab
from rig.machine import Machine
from rig.receiver import Receiver

ENOENT, EBUSY, EEXIST = -2, -16, -17


def streaming(machine: Machine, *options: str) -> Receiver:
    """A receiver that has been receiving for a while."""
    receiver = Receiver(machine)
    receiver.start(*options)
    receiver.sender.start()
    time.sleep(1)
    return receiver


def test_unpreserve_leaves_config_space_as_it_was(vm: Lab, variant: str) -> None:
    machine = vm(topology.demo(), variant=variant)
    receiver = streaming(machine)
    ids = ("nic0", *machine.topology.above("nic0"))

    def snapshot() -> list[str]:
        return [machine.json(f"pci_cfg dump {machine.topology.bdf[id]}")["config"] for id in ids]

    before = snapshot()
    receiver.preserve()
    receiver.ctl("unpreserve")
    assert snapshot() == before
    assert receiver.receives()
    # Control: the comparison does see a single bit, the NIC's Interrupt Disable.
    command = int(machine.sh(f"dd if=/sys/bus/pci/devices/{receiver.bdf}/config bs=1 skip=60 "
                             "count=1 2>/dev/null | od -An -tu1").out)
    machine.sh(f"printf '\\{command ^ 1:03o}' | dd bs=1 seek=60 conv=notrunc "
               f"of=/sys/bus/pci/devices/{receiver.bdf}/config")
    assert snapshot() != before
    receiver.ctl("quit")


def test_preserving_writes_nothing_to_the_device(vm: Lab) -> None:
    machine = vm(topology.demo())
    receiver = streaming(machine)
    began = time.time()
    receiver.preserve()
    ids = ("nic0", *machine.topology.above("nic0"))
    trace = witness.read(machine)
    assert [w for id in ids for w in trace.writes(id, 1) if w.time > began] == []
    receiver.ctl("unpreserve")
    receiver.ctl("quit")


def test_preserving_twice_is_refused(vm: Lab, variant: str) -> None:
    machine = vm(topology.plain(), variant=variant)
    receiver = streaming(machine)
    receiver.preserve()
    assert receiver.try_ctl("preserve-device-again")["rc"] == EBUSY
    assert receiver.try_ctl("preserve-device-again same-token")["rc"] in (EEXIST, EBUSY)
    assert receiver.receives()
    # Control: after unpreserve the same call works.
    receiver.ctl("unpreserve")
    receiver.preserve()
    receiver.ctl("unpreserve")
    receiver.ctl("quit")


def test_closed_session_preserves_nothing(vm: Lab, variant: str) -> None:
    machine = vm(topology.plain(), variant=variant)
    receiver = streaming(machine)
    receiver.preserve()
    receiver.ctl("close-session")
    assert receiver.receives()
    machine.kexec()
    trace = witness.read(machine)
    assert trace.cleared_master("nic0", boot=1, shutdown=True)
    assert trace.dma_after_jump() == []


@pytest.mark.parametrize("end", ["finish", "close-session"])
@pytest.mark.parametrize("order", ["memory-first", "device-first"])
@pytest.mark.console(console.STOPPED)
def test_unretrieved_nic_is_stopped(vm: Lab, variant: str, order: str, end: str) -> None:
    machine = vm(topology.plain(), variant=variant)
    vm.look_for_leaks = variant == "debug"
    receiver = streaming(machine, f"--{order}")
    receiver.preserve()
    ring = receiver.ring
    # Freed memory is zeroed, so a frame in it later can only come from DMA after the free.
    machine.kexec(extra="init_on_free=1")
    receiver.bind()
    # Control: until the session ends the device goes on receiving.
    assert receiver.receives()
    began = time.time()
    receiver.resume("--retrieve none", bind=False)
    receiver.ctl(end)
    ended = time.time()
    time.sleep(1)
    trace = witness.read(machine)
    assert [w for w in trace.cleared_master("nic0", boot=2) if began < w.time < ended]
    assert [t for t in trace.dma(ring=ring) if t > ended] == []
    size = 16 * (ring.stop - ring.start) // 16
    assert not int(machine.hmp(f"xp /1gx {ring.start:#x}").split(":")[1].strip(), 16), size


@pytest.mark.parametrize("end", ["finish", "close-session"])
def test_control_retrieved_nic_goes_on_after_the_session(vm: Lab, end: str) -> None:
    machine = vm(topology.plain())
    receiver = streaming(machine)
    receiver.preserve()
    machine.kexec()
    receiver.resume()
    receiver.ctl(end)
    assert receiver.receives()
    receiver.ctl("quit")


def test_wrong_token_gives_nothing(vm: Lab, variant: str) -> None:
    machine = vm(topology.plain(), variant=variant)
    receiver = streaming(machine)
    receiver.preserve()
    machine.kexec()
    receiver.resume("--token-wrong")
    assert receiver.ready["wrong_token"]["rc"] == ENOENT
    # Control: the right token, asked afterwards by the same program, gives the device.
    assert receiver.ready["retrieved"] == ["memory", "device"]
    assert receiver.receives()
    receiver.ctl("finish")
    receiver.ctl("quit")


def test_retrieve_needs_the_rights_of_opening(vm: Lab, variant: str) -> None:
    machine = vm(topology.plain(), variant=variant)
    receiver = streaming(machine)
    receiver.preserve()
    machine.kexec()
    receiver.resume("--unprivileged")
    assert receiver.ready["unprivileged"]["errno"] == "EPERM"
    # Control: with CAP_SYS_RAWIO it is given out, and the refusal is not held against it.
    assert receiver.ready["retrieved"] == ["memory", "device"]
    # A second descriptor of what is given out takes the same.
    assert receiver.ready["unprivileged_again"]["errno"] == "EPERM"
    assert receiver.ready["again"]["rc"] == 0
    assert receiver.receives()
    receiver.ctl("finish")
    receiver.ctl("quit")


@pytest.mark.console(console.STOPPED)
def test_finish_stops_a_retrieved_nic_that_has_nothing_mapped(vm: Lab, variant: str) -> None:
    machine = vm(topology.plain(), variant=variant)
    receiver = streaming(machine)
    receiver.preserve()
    machine.kexec()
    receiver.resume("--no-map")
    # Control: until then it receives; that it goes on with its memory mapped is shown below.
    assert receiver.receives()
    began = time.time()
    receiver.ctl("finish")
    ended = time.time()
    time.sleep(1)
    trace = witness.read(machine)
    assert [w for w in trace.cleared_master("nic0", boot=2) if began < w.time < ended]
    assert [t for t in trace.dma() if t > ended] == []
    receiver.ctl("quit")


COMPACT = "echo 1 >/proc/sys/vm/compact_memory"


@pytest.mark.console(console.STOPPED)
def test_compaction_moves_no_page_under_the_nic(vm: Lab, variant: str) -> None:
    machine = vm(topology.plain(), variant=variant)
    receiver = streaming(machine)
    receiver.preserve()
    machine.kexec()
    receiver.resume("--no-map")
    machine.sh(COMPACT)
    assert receiver.ctl("check-memory")["moved"] == 0
    # After finish it is the mapping in the driver's IOAS that pins.
    receiver.ctl("quit")


def test_compaction_after_finish_moves_no_mapped_page(vm: Lab, variant: str) -> None:
    machine = vm(topology.plain(), variant=variant)
    receiver = streaming(machine)
    receiver.preserve()
    machine.kexec()
    receiver.resume()
    machine.sh(COMPACT)
    receiver.ctl("finish")
    machine.sh(COMPACT)
    memory = receiver.ctl("check-memory")
    assert memory["moved"] == 0
    assert receiver.receives()
    sent, stats = receiver.settle()
    assert (stats["distinct"], stats["lost"], stats["corrupted"]) == (sent, 0, 0)
    receiver.ctl("quit")


@pytest.mark.debug
@pytest.mark.console("memfd_luo: retrieved memory is not pinned", console.STOPPED)
def test_control_compaction_moves_unpinned_pages(vm: Lab) -> None:
    """The hook that leaves the pins out is honoured by debug kernels only."""
    machine = vm(topology.plain(), variant="debug")
    # Compaction moves pages up, so the driver's have to come from low in the zone: what is left
    # once a big file has taken the rest.
    machine.sh("mount -o remount,size=100% /tmp; "
               "free=$(sed -n 's/^MemFree: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo); "
               "dd if=/dev/zero of=/tmp/fill bs=1M count=$((free / 1024 - 250))")
    receiver = Receiver(machine)
    receiver.start()
    machine.sh("rm /tmp/fill")
    receiver.preserve()
    machine.kexec(extra="memfd_luo.nopin=1")
    receiver.resume("--no-map")
    for _ in range(3):
        machine.sh(COMPACT)
    assert receiver.ctl("check-memory")["moved"] > 0
    receiver.ctl("quit")
