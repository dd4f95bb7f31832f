# SPDX-License-Identifier: GPL-2.0
"""Behind VT-d: what the host itself uses, behind the unit that preserved devices go on through.

The host's kernels have no driver of NVMe: the disk with the file system is a virtio one, which the
unit translates for as for any.
"""

from __future__ import annotations

import itertools
import subprocess
import time
from pathlib import Path

import pytest
from test_vtd import IOVA, Host, write_from_edu
from test_vtd_failures import functions

from rig import igb as hw
from rig import vtd
from rig.keeper import attribute
from rig.lab import Lab
from rig.machine import Machine
from rig.nic import PAGE
from rig.outside import Reachable
from rig.topology import Device, igb

MODES = ("legacy", "scalable", "first-stage")
VARIANTS = ("release", "debug")
SEED = "seq 100000 | head -c 1048576"       # what is in the file, in the guest
BLOCK = 1024
# What stock Linux says of a disk that is shut down while there is something to write to it.
SHUT_DOWN = (r"I/O error,? (on )?dev(ice)? vda", "Aborting journal on device vda",
             r"EXT4-fs( error| warning)? \(device vda\)", r"EXT4-fs \(vda\)", "JBD2: .*vda")


class Driven(Reachable, hw.DriverMachine):
    """Whose kernels have a driver of their own for the 82576, which can be looked at in the gap."""


def disk(at: Path) -> Device:
    """Whose file is made anew, with an empty file system in it."""
    at.parent.mkdir(parents=True, exist_ok=True)
    at.unlink(missing_ok=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-b", str(BLOCK), str(at), "64M"], check=True)
    return Device("virtio-blk-pci", "disk0", {"drive": "disk", "disable-legacy": "on",
                                              "iommu_platform": "on"},
                  needs=["-drive", f"if=none,id=disk,format=raw,file={at}"])


def whole(image: Path) -> bool:
    """Does the host's e2fsck find nothing to repair, and nothing left to replay?"""
    return subprocess.run(["e2fsck", "-f", "-n", str(image)], stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def gap(host: Host) -> set[str]:
    """Jump; who has an entry while no kernel runs, for modes that tell."""
    machine = host.machine
    assert machine.load().rc == 0
    machine.leave()
    machine.wait_for_next_kernel()
    machine.qmp("stop")
    [root] = [root for at, root, _ in vtd.read(machine).roots if at > machine.jumped_at[-1]]
    known = set(vtd.entries(machine, root))
    machine.qmp("cont")
    machine.wait_boot(2)
    return known


def in_the_gap(host: Host, id: str) -> tuple[bool, bool, bool]:
    """Did a device reach anything in the first kernel, in the gap, and in the second kernel?"""
    (first, _, _), (left, _, _), (second, _, _) = vtd.read(host.machine).roots
    at = [access.time for access in host.accesses(id)]
    return (any(first < t < left for t in at), any(left < t < second for t in at),
            any(t > second for t in at))


def last_of_all(host: Host) -> None:
    """Both preserved devices are their owner's again, and have lost nothing."""
    host.retrieve()
    host.attach()
    host.agent.finish()
    write_from_edu(host.agent, IOVA["edu0"] + 2 * PAGE)
    assert host.received() and host.outside() == []
    unit = vtd.read(host.machine)
    assert unit.faults == [] and unit.switched() == [True]


@pytest.mark.console(*SHUT_DOWN)
@pytest.mark.matrix([*itertools.product(MODES, VARIANTS)], 1)
def test_vtd_file_system_beside_lives_through_it_with_its_control(vm: Lab,
                                                                  case: tuple[str, str]) -> None:
    """A file system that is written to until the jump: what was synced is there, and is right."""
    mode, variant = case
    image = vm.folder / "disk.ext4"
    host = Host(vm, mode=mode, variant=variant, kind=Reachable, beside=disk(image))
    machine = host.machine
    machine.sh("mkdir -p /tmp/fs && mount -t ext4 /dev/vda /tmp/fs && "
               f"{SEED} >/tmp/fs/kept && sync")
    digest = machine.sh("sha256sum </tmp/fs/kept").out
    root = vtd.read(machine).roots[-1][1]
    beside = functions(machine, "disk0")
    # Control: it has an entry of its own until then.
    assert mode != "legacy" or beside <= set(vtd.entries(machine, root))
    machine.sh("(while :; do cp /tmp/fs/kept /tmp/fs/other; sync; done) "
               "</dev/null >/dev/null 2>&1 &")
    host.agent.preserve("edu0", "nic0")
    known = gap(host)
    if mode == "legacy":
        assert known == functions(machine, "edu0", "nic0")
    assert host.verdicts() == {"translated"}

    machine.sh("mkdir -p /tmp/fs && mount -t ext4 /dev/vda /tmp/fs")
    assert machine.sh("sha256sum </tmp/fs/kept").out == digest
    machine.sh(f"{SEED} >/tmp/fs/after && sync && echo 3 >/proc/sys/vm/drop_caches")
    assert machine.sh("sha256sum </tmp/fs/after").out == digest
    assert in_the_gap(host, "disk0") == (True, False, True)
    assert in_the_gap(host, "nic0") == (True, True, True)
    last_of_all(host)
    machine.sh("umount /tmp/fs")
    assert whole(image)
    # Control: one that is spoilt is not.
    with open(image, "r+b") as file:
        file.seek(BLOCK * 3)
        file.write(bytes(BLOCK * 200))
    assert not whole(image)


def frames(machine: Machine, id: str) -> int:
    """That the host's driver has received."""
    return int(machine.sh(f"cat {attribute(machine, id, 'net')}/*/statistics/rx_packets").out)


def receives(machine: Machine, id: str) -> None:
    """Everything that is sent to a NIC that the host drives."""
    sender = machine.senders[id]
    before, sent = frames(machine, id), sender.sent
    sender.start()
    time.sleep(1)
    sent = sender.stop() - sent
    for _ in range(50):
        if frames(machine, id) - before >= sent:
            break
        time.sleep(0.1)
    # What else there is on the wire does not come from us.
    assert frames(machine, id) - before >= sent > 0


@pytest.mark.matrix([(mode,) for mode in MODES], 1)
def test_vtd_nic_of_the_host_beside_works_in_both_kernels(vm: Lab, case: tuple[str]) -> None:
    """One that its own driver has, with frames for it until the jump."""
    host = Host(vm, mode=case[0], beside=igb("igb0"), kind=Driven, needs="igb")
    machine = host.machine
    machine.drive("igb0")
    receives(machine, "igb0")
    root = vtd.read(machine).roots[-1][1]
    # Control: it has an entry of its own until then.
    assert case[0] != "legacy" or functions(machine, "igb0") <= set(vtd.entries(machine, root))
    machine.senders["igb0"].start()
    host.agent.preserve("edu0", "nic0")
    known = gap(host)
    machine.senders["igb0"].stop()
    if case[0] == "legacy":
        assert known == functions(machine, "edu0", "nic0")
    assert host.verdicts() == {"translated"}
    machine.drive("igb0")
    receives(machine, "igb0")
    assert in_the_gap(host, "igb0") == (True, False, True)
    assert in_the_gap(host, "nic0") == (True, True, True)
    last_of_all(host)
