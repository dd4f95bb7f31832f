# SPDX-License-Identifier: GPL-2.0
"""A systemd that carries descriptors through the kexec by itself: Debian unstable's, on our kernel.

From version 261 on PID 1 gives the sessions that pcilud stored to itself in the next kernel.
"""

from __future__ import annotations

import time

import pytest

from conftest import FULL
from rig import debian_vm, topology, witness
from rig.debian_vm import UnstableMachine
from rig.lab import Lab
from rig.tools import Borrower
from test_pcilu_debian import ACTIVE, kill_daemon, sessions

pytestmark = pytest.mark.skipif(not FULL, reason="make test-full makes that Debian")

# Starts, and holds nothing.
NO_KEEPER = "pcilu-keeper", "Type=oneshot", "ExecStart=", "ExecStart=/bin/true"
NO_PRESERVE = "pcilud", "FileDescriptorStorePreserve=no"


def unstable(vm: Lab, *changes: tuple[str, ...]) -> UnstableMachine:
    """With changed units, and vfio-pci: what reads modules-load.d is not in this root."""
    machine: UnstableMachine = vm(topology.demo(), variant="debian", kind=UnstableMachine)
    version = machine.sh("systemctl --version").out.split()[1]
    if int(version) < 261:
        pytest.skip(f"unstable has systemd {version}")
    for unit, *lines in changes:
        folder = f"/etc/systemd/system/{unit}.service.d"
        text = " ".join(["[Service]", *lines])
        machine.sh(f"mkdir {folder}; printf '%s\\n' {text} >{folder}/test.conf")
    machine.sh("systemctl daemon-reload; modprobe vfio-pci")
    return machine


def update() -> str:
    release = debian_vm.next_release()
    return (f"pcilu update --kernel /boot/vmlinuz-{release} --initrd /boot/initrd.img-{release} "
            "--reuse-cmdline")


def held(machine: UnstableMachine) -> dict[str, bool]:
    return {s["name"]: s["held"] for s in machine.pcilu("status")["sessions"]
            if s["direction"] == "incoming"}


@pytest.mark.parametrize("changes", [(NO_KEEPER,), ()], ids=["without-keeper", "with-keeper"])
def test_systemd_carries_the_sessions(vm: Lab, changes: tuple[tuple[str, ...], ...]) -> None:
    machine = unstable(vm, *changes)
    # It lets go of the device, and keeps its name.
    assert machine.run("ls -l /proc/1/fd | grep liveupdate").rc
    assert machine.run("lend create systemd true").rc
    machine.sh("lend create vm-2 true")
    receiver = Borrower(machine).receive(ring=8192)
    names = {receiver.name, "vm-2"}
    assert names <= set(sessions(machine))

    machine.update(update())
    assert machine.release == debian_vm.next_release()
    assert machine.sh("systemctl show -P KExecCount").out == "1\n"
    assert machine.unit("pcilu-verify") == ACTIVE
    assert machine.pcilu("status")["last_verify"] == "kept"
    # Retrieved by PID 1, and given to the daemon, which could not know otherwise.
    assert held(machine) == dict.fromkeys(names, True)
    kill_daemon(machine)
    assert held(machine) == dict.fromkeys(names, True)
    assert machine.run("ls -l /proc/1/fd | grep -w liveupdate").rc

    machine.sh("modprobe vfio-pci")
    receiver.bind()
    claimed = time.time()
    receiver.resume(bind=False)
    for name in names:
        machine.sh(f"lend finish {name}")
    status = machine.pcilu("status")
    assert status["sessions"] == status["remaining"] == []
    sent, stats = receiver.settle()
    assert stats["distinct"] == sent and not receiver.sender.refused
    assert stats["lost"] == stats["duplicated"] == stats["corrupted"] == 0
    trace = witness.read(machine)
    assert [t for t in trace.dma(ring=receiver.ring) if machine.booted_at[1] < t < claimed]


def test_control_systemd_that_may_not_preserve_ends_the_sessions(vm: Lab) -> None:
    machine = unstable(vm, NO_KEEPER, NO_PRESERVE)
    receiver = Borrower(machine).receive(ring=8192)
    assert receiver.name in sessions(machine)
    machine.update(update())
    assert machine.release == debian_vm.next_release()
    assert sessions(machine) == {}
    machine.sh("modprobe vfio-pci")
    assert receiver.try_resume().rc
