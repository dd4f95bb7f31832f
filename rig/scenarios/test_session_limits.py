# SPDX-License-Identifier: GPL-2.0
"""What LUO takes, the next kernel can read, and give back as it was."""

from __future__ import annotations

import subprocess

import pytest

from rig.agent import PAGE, Agent
from rig.lab import Lab
from rig.topologies import KEPT
from rig.topology import Device, Topology, edu, root_port

IN_A_BLOCK = 51         # sessions of 80 bytes in a page with a header of 16
STUCK = r"luo: kexec refused: an operation on session \[vm1\] does not end"


def test_name_that_is_taken_leaves_no_room_behind(vm: Lab, variant: str) -> None:
    """A block for sessions that there are not would stop the next kernel."""
    machine = vm(Topology(root_port("rp0", edu(KEPT))), variant=variant)
    agent = Agent(machine).start().take(KEPT)
    agent.preserve(KEPT)
    agent.do(*(f"session s{n} other-{n}" for n in range(1, IN_A_BLOCK)))
    assert agent.refused("session late other-1") == "EEXIST"
    machine.kexec()
    agent.take_back(KEPT)


def test_memory_that_cannot_be_executed_comes_back_writable(vm: Lab, variant: str) -> None:
    """As all memfds are on many hosts: the seal against execution implies no other."""
    machine = vm(Topology(root_port("rp0", edu(KEPT))), variant=variant)
    machine.sh("echo 1 >/proc/sys/vm/memfd_noexec")
    agent = Agent(machine).start().take(KEPT)
    agent.poke(f"{KEPT}-ram", PAGE, b"before")
    agent.preserve(KEPT)
    machine.kexec()
    agent.take_back(KEPT)
    assert agent.peek(f"{KEPT}-ram", PAGE, 6) == b"before"
    agent.poke(f"{KEPT}-ram", PAGE, b"after")
    assert agent.peek(f"{KEPT}-ram", PAGE, 5) == b"after"


@pytest.mark.console(STUCK)
def test_session_that_hangs_keeps_no_other_waiting(vm: Lab, variant: str) -> None:
    """One of a tenant, for whom the kernel waits to write an answer: the operator is told whose."""
    disk = vm.folder / "disk.ext4"
    disk.parent.mkdir(parents=True, exist_ok=True)
    disk.unlink(missing_ok=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", str(disk), "16M"], check=True)
    machine = vm(Topology(root_port("rp0", edu(KEPT)), root_port("rp1", Device(
        "virtio-blk-pci", "disk0", {"drive": "disk", "disable-legacy": "on"},
        needs=["-drive", f"if=none,id=disk,format=raw,file={disk}"]))), variant=variant)
    machine.sh("mkdir /tmp/fs; mount -t ext4 /dev/vda /tmp/fs")
    agent = Agent(machine).start().take(KEPT)
    agent.poke(f"{KEPT}-ram", PAGE, b"before")
    agent.preserve(KEPT)
    other = Agent(machine, "vm1").start()
    other.do("memory ram 16", "session s vm1", "preserve-stuck s 1 ram /tmp/fs/answer")
    assert not machine.load().rc
    refused = machine.jump()
    assert refused is not None and refused.json()["errno"] == "EBUSY"
    # What is asked meanwhile is answered, and what hung is over when it can be.
    agent.do("session t another", "close t")
    # Not by the process itself, of whose memory it is about.
    agent.do("thaw /tmp/fs/answer")
    machine.kexec()
    agent.take_back(KEPT)
    assert agent.peek(f"{KEPT}-ram", PAGE, 6) == b"before"
    other.start().do("retrieve-session s vm1", "retrieve s 1 memory ram", "finish s")
