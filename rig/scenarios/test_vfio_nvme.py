# SPDX-License-Identifier: GPL-2.0
"""A storage controller completes what it was told in the kernel before."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from rig import witness
from rig.agent import Agent
from rig.lab import Lab
from rig.machine import Machine
from rig.nvme import LBA, PAGE, READ, WRITE, Nvme
from rig.topology import Device, Topology, root_port

COMPLETION = "pci_nvme_enqueue_req_completion"
STARTED = "pci_nvme_mmio_start_success"
SLOW = 64           # bytes a second
IN_FLIGHT = 40      # the block that is being read when the kernel is replaced


def image(vm: Lab) -> Path:
    """A disk of random content, the same in every run."""
    path = vm.folder / "disk.img"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(random.Random(1).randbytes(1 << 20))
    return path


def throttle(machine: Machine, rate: int) -> None:
    """Bytes a second that the disk gives; 0: as many as it can. What waits starts again."""
    machine.qmp("block_set_io_throttle", device="disk0", bps=rate, bps_rd=0, bps_wr=0,
                iops=0, iops_rd=0, iops_wr=0)


def start(vm: Lab, arch: str, variant: str) -> tuple[Nvme, Path]:
    disk = image(vm)
    machine = vm(Topology(root_port("rp0", Device("nvme", "nvme0", {
        "serial": "kept", "drive": "disk0"}))), arch=arch, variant=variant,
        before=["-drive", f"if=none,id=disk0,format=raw,file={disk}"],
        trace=[COMPLETION, STARTED])
    driver = Nvme(Agent(machine).start().take("nvme0"), "nvme0")
    driver.enable()
    return driver, disk


def content(disk: Path, lba: int) -> bytes:
    return disk.read_bytes()[lba * LBA:lba * LBA + PAGE]


def begin_long_read(driver: Nvme, disk: Path) -> int:
    """A read that takes as long as the host likes. The one before it uses up the allowance."""
    throttle(driver.agent.machine, SLOW)
    driver.transfer(READ, 8, 0)
    assert driver.data(0, PAGE) == content(disk, 8)
    cid = driver.start(READ, IN_FLIGHT, 1)
    assert driver.poll(1) is None
    return cid


def completions(machine: Machine) -> list[float]:
    """When the controller put a completion into a queue."""
    return witness.read(machine).events(COMPLETION)


CASES = [(arch, variant, when) for arch, variant in
         (("x86_64", "release"), ("x86_64", "debug"), ("arm64", "release"))
         for when in ("in the gap", "when taken back")]


@pytest.mark.parametrize("arch,variant,when", CASES)
def test_command_in_flight_completes(vm: Lab, arch: str, variant: str, when: str) -> None:
    driver, disk = start(vm, arch, variant)
    agent, machine = driver.agent, driver.agent.machine
    data = random.Random(2).randbytes(PAGE)
    driver.put(0, data)
    driver.transfer(WRITE, 16, 0)
    cid = begin_long_read(driver, disk)
    agent.preserve("nvme0")
    assert machine.load().rc == 0
    machine.leave()
    if when == "in the gap":
        time.sleep(0.5 * machine.slow)
        throttle(machine, 0)
    machine.wait_boot(2)
    agent.take_back("nvme0")
    taken = time.time()
    if when == "in the gap":
        assert [t for t in completions(machine) if machine.jumped_at[0] < t < machine.booted_at[1]]
    else:
        assert driver.poll(1) is None
        throttle(machine, 0)
    driver.wait(1, cid)
    assert driver.data(1, PAGE) == content(disk, IN_FLIGHT)
    assert bool([t for t in completions(machine) if t > taken]) == (when == "when taken back")

    # Its queues are as good as before: nothing was reset and nothing begun anew.
    driver.transfer(READ, 16, 2)
    assert driver.data(2, PAGE) == data
    for number in range(8):
        driver.put(0, bytes([number]) * PAGE)
        driver.transfer(WRITE, 64 + 8 * number, 0)
    assert all(content(disk, 64 + 8 * n) == bytes([n]) * PAGE for n in range(8))
    assert content(disk, 16) == data
    trace = witness.read(machine)
    assert trace.resets("nvme", machine.jumped_at[0]) == []
    assert [t for t in trace.events(STARTED) if t > machine.jumped_at[0]] == []
    # Control: closed, it is reset.
    agent.do("close nvme0")
    assert witness.read(machine).resets("nvme", machine.jumped_at[0])


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_control_command_of_an_unpreserved_controller_is_lost(vm: Lab, arch: str) -> None:
    """Its memory is preserved and it is not."""
    driver, disk = start(vm, arch, "release")
    agent, machine = driver.agent, driver.agent.machine
    begin_long_read(driver, disk)
    agent.do("session s vm0", "preserve s 1 nvme0-ram")
    assert machine.load().rc == 0
    machine.leave()
    time.sleep(0.5)
    throttle(machine, 0)
    machine.wait_boot(2)
    agent.start().do("retrieve-session s vm0", "retrieve s 1 memory nvme0-ram")
    # QEMU's backend has read into memory that it had mapped before; the controller can say no more.
    assert driver.data(0, PAGE) == content(disk, 8)
    assert driver.poll(1) is None
    assert witness.read(machine).cleared_master("nvme0", 1, shutdown=True)
