# SPDX-License-Identifier: GPL-2.0
"""What must not happen while a device is preserved is refused (and allowed when none is)."""

from __future__ import annotations

import time

import pytest

from rig import console, topology
from rig.lab import Lab
from rig.receiver import Receiver

EBUSY, EINVAL = -16, -22


def preserved(vm: Lab, variant: str) -> Receiver:
    """A receiver whose device is preserved."""
    receiver = Receiver(vm(topology.plain(), variant=variant))
    receiver.start()
    receiver.sender.start()
    receiver.preserve()
    return receiver


def release(receiver: Receiver) -> None:
    receiver.ctl("unpreserve")
    receiver.ctl("quit")


@pytest.mark.console(console.REFUSED_IMAGE)
def test_image_without_handover_is_refused(vm: Lab, variant: str) -> None:
    receiver = preserved(vm, variant)
    machine = receiver.machine
    assert machine.load(options="-c").rc == 0
    refused = machine.jump()
    assert refused is not None and refused.json()["rc"] == EINVAL
    assert receiver.receives()
    # The session is as it was: with the right image the live update works.
    machine.kexec()
    receiver.resume()
    assert receiver.receives()
    receiver.ctl("finish")
    receiver.ctl("quit")


def test_control_image_without_handover_boots_with_nothing_preserved(vm: Lab,
                                                                     variant: str) -> None:
    receiver = preserved(vm, variant)
    machine = receiver.machine
    release(receiver)
    assert machine.load(options="-c").rc == 0
    assert machine.jump() is None


@pytest.mark.console(console.REFUSED_IMAGE)
def test_preserve_context_is_refused(vm: Lab) -> None:
    receiver = preserved(vm, "release")
    machine = receiver.machine
    machine.json("kexec_try legacy-preserve-context")
    refused = machine.jump()
    assert refused is not None and refused.json()["rc"] == EINVAL
    assert receiver.receives()
    release(receiver)


@pytest.mark.console("PCI Live Update: no suspend while PCI devices are preserved")
def test_suspend_and_hibernation_are_refused(vm: Lab, variant: str) -> None:
    receiver = preserved(vm, variant)
    machine = receiver.machine
    assert machine.run("kexec_try suspend mem").json()["rc"] == EBUSY
    assert machine.run("kexec_try suspend freeze").json()["rc"] == EBUSY
    assert machine.run("kexec_try hibernate").json()["rc"] == EBUSY
    assert receiver.receives()
    # It is not about to sleep any more.
    receiver.ctl("unpreserve")
    receiver.preserve()
    release(receiver)


@pytest.mark.console("PM: Cannot (get swap writer|find swap device)",
                     r"PM: hibernation: Image allocation is \d+ pages short")
def test_control_hibernation_is_not_busy_when_nothing_is_preserved(vm: Lab, variant: str) -> None:
    receiver = preserved(vm, variant)
    machine = receiver.machine
    release(receiver)
    assert machine.run("kexec_try hibernate").json()["rc"] not in (0, EBUSY)   # there is no swap


def test_control_suspend_works_when_nothing_is_preserved(vm: Lab) -> None:
    receiver = preserved(vm, "release")
    machine = receiver.machine
    release(receiver)
    assert machine.suspend("mem").json()["rc"] == 0
    # Awake, it is a machine like any other.
    receiver.start(bind=False)
    receiver.preserve()
    release(receiver)


@pytest.mark.console(*console.UNBINDING)
def test_hanging_unbind_stops_the_kexec(vm: Lab, variant: str) -> None:
    receiver = preserved(vm, variant)
    machine = receiver.machine
    machine.sh(f"pci_cfg unbind {receiver.bdf} >/tmp/unbind 2>&1 &")
    time.sleep(1)
    assert machine.load().rc == 0
    refused = machine.jump()
    assert refused is not None and refused.json()["rc"] < 0
    assert receiver.receives()
    receiver.ctl("unpreserve")
    receiver.ctl("close-device")
    machine.sh("for i in 1 2 3 4 5 6 7 8 9; do grep -q rc /tmp/unbind && break; sleep 1; done; "
               "grep '\"rc\":0' /tmp/unbind")
    receiver.ctl("quit")
