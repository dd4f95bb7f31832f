# SPDX-License-Identifier: GPL-2.0
"""The packages in a Debian with systemd on our kernel: a live update through `systemctl kexec`."""

from __future__ import annotations

import time

from rig import topology, witness
from rig.debian import DebianMachine
from rig.lab import Lab
from rig.tools import Borrower


def debian(vm: Lab) -> DebianMachine:
    machine: DebianMachine = vm(topology.demo(), variant="debian", kind=DebianMachine)
    return machine


def sessions(machine: DebianMachine) -> set[str]:
    return {s["name"] for s in machine.status()["sessions"]}


def kill_daemon(machine: DebianMachine) -> None:
    """As a bug would; and wait until systemd has started it again."""
    machine.sh("old=$(systemctl show -P MainPID pcilud); kill -9 $old; "
               "until [ $(systemctl is-active pcilud) = active ] && "
               "[ $(systemctl show -P MainPID pcilud) != $old ]; do sleep 0.2; done")


def verify_unit(machine: DebianMachine) -> str:
    """How the unit came out that verifies at boot; it has ended when the agent answers."""
    return machine.sh("systemctl show -P Result pcilu-verify").out.strip()


def test_update_through_systemd_with_a_daemon_that_was_killed(vm: Lab) -> None:
    machine = debian(vm)
    assert machine.status()["last_verify"] is None and verify_unit(machine) == "success"
    receiver = Borrower(machine).receive(ring=8192)
    kill_daemon(machine)
    assert sessions(machine) == {receiver.name}
    nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    assert machine.run(f"{nobody} lend finish {receiver.name}").rc == 1

    before = machine.release
    steps = machine.update("--kernel /boot/vmlinuz-next --reuse-cmdline")
    assert machine.release != before
    # Whether it lives to say that the last step is done is systemd's business.
    assert all(f"{step:10} done, " in steps for step in ("preflight", "snapshot", "load"))
    assert verify_unit(machine) == "success"
    status = machine.status()
    assert status["last_verify"] == "kept"
    assert f"session {receiver.name} is to be retrieved" in status["remaining"]

    receiver.bind()
    claimed = time.time()
    receiver.resume(bind=False)
    receiver.finish()
    assert machine.status()["remaining"] == []
    sent, stats = receiver.settle()
    assert stats["distinct"] == sent and not receiver.sender.refused
    assert stats["lost"] == stats["duplicated"] == stats["corrupted"] == 0
    trace = witness.read(machine)
    assert [t for t in trace.dma(ring=receiver.ring) if machine.booted_at[1] < t < claimed]
    assert [w for w in trace.writes("nic0", None, None)
            if machine.jumped_at[0] < w.time < claimed] == []


def test_control_update_through_systemd_without_preserving_loses_frames(vm: Lab) -> None:
    machine = debian(vm)
    receiver = Borrower(machine).receive("--no-preserve-device", ring=8192)
    machine.update("--kernel /boot/vmlinuz-next --reuse-cmdline")
    assert machine.status()["last_verify"] == "kept"     # there was no device to keep
    time.sleep(1)
    dma = witness.read(machine).dma()
    assert dma and [t for t in dma if t > machine.booted_at[1]] == []
    assert receiver.sender.sent > len(dma)


def test_verify_unit_fails_when_the_next_kernel_moves_a_bar(vm: Lab) -> None:
    machine = debian(vm)
    receiver = Borrower(machine).receive(ring=8192)
    machine.update("--kernel /boot/vmlinuz-next --reuse-cmdline --accept cmdline --cmdline "
                   f"'pci_liveupdate.break=0x500 pci=resource_alignment=20@{receiver.bdf}'")
    assert verify_unit(machine) == "exit-code"
    assert machine.status()["last_verify"] == "not kept"
