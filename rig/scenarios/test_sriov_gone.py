# SPDX-License-Identifier: GPL-2.0
"""A Physical Function that is pulled out, or fails, takes its Virtual Functions along; no others.

One of two Virtual Functions is preserved, and so is a NIC beside, which must not notice.
"""

from __future__ import annotations

import time

import pytest

from rig import console, slot, sriov
from rig.agent import Agent
from rig.keeper import attribute, functions, state
from rig.lab import Lab
from rig.machine import NATIVE_HOTPLUG, Machine
from rig.receiver import Receiver
from rig.topology import Topology, nic, root_port

PF, VF, VFS = "nvme0", "nvme0-vf1", 2
pytestmark = pytest.mark.console("Hardware bug: VF reports bogus INTx pin 1",   # QEMU's, in 7.2
                                 sriov.LEFT_ON)


class Host:
    """Both are preserved, each in a session of its own."""

    def __init__(self, vm: Lab, **options: str) -> None:
        self.machine: Machine = vm(
            Topology(root_port("rp0", sriov.controller(PF, VFS)), root_port("rp1", nic("nic0"))),
            args=NATIVE_HOTPLUG, **options)
        sriov.enable(self.machine, PF, VFS)
        self.tenant = Agent(self.machine, "tenant").start().take(VF)
        self.tenant.preserve(VF)
        self.other = Receiver(self.machine, "nic0")
        self.other.start()
        self.other.sender.start()
        self.other.preserve()

    def pull_out(self) -> None:
        """Its slot is switched off behind the kernel's back, and on again with nothing in it."""
        slot.pull_out(self.machine, "rp0", PF)
        slot.power_on(self.machine, "rp0")

    def fail(self) -> None:
        """The link above has a fatal error."""
        slot.enable_errors(self.machine, "rp0")
        slot.fail(self.machine, "rp0")

    def becomes(self, wanted: str, *ids: str) -> None:
        for id in ids:
            self.machine.sh(f"until grep -q {wanted} {attribute(self.machine, id, 'liveupdate')}"
                            "/state; do sleep 0.1; done")

    def is_gone(self) -> None:
        """With all Virtual Functions."""
        for bdf in (self.machine.topology.bdf[id] for id in (PF, VF)):
            self.machine.sh(f"while test -e /sys/bus/pci/devices/{bdf}; do sleep 0.1; done")

    def cannot_be_retrieved(self) -> None:
        """Its session tells so, and ends."""
        tenant = self.tenant.start()
        tenant.do("retrieve-session s tenant", f"retrieve s 1 memory {VF}-ram")
        assert tenant.refused(f"retrieve s 2 device {VF}") == "ENODEV"
        tenant.finish()

    def goes_on(self) -> None:
        """The NIC lost nothing, and is given back."""
        self.other.resume()
        time.sleep(1)
        self.other.ctl("finish")
        sent, stats = self.other.settle()
        assert (stats["distinct"], stats["lost"]) == (sent, 0)


@pytest.mark.console(console.GONE, console.LOST, console.STOPPED)
def test_sriov_function_that_is_pulled_out_after_the_jump_is_dead(vm: Lab) -> None:
    host = Host(vm, needs="nvme-unplug")
    host.machine.kexec()
    assert [state(host.machine, id) for id in (VF, PF)] == ["incoming"] * 2
    host.pull_out()
    host.is_gone()
    host.cannot_be_retrieved()
    host.goes_on()


@pytest.mark.console(console.GONE, *console.UNBINDING)
def test_sriov_function_that_is_pulled_out_before_the_jump_is_dead(vm: Lab) -> None:
    """The removal waits for whoever has it open. Meanwhile nothing is handed over."""
    host = Host(vm, needs="nvme-unplug")
    host.pull_out()
    host.becomes("dead", VF)
    assert state(host.machine, "nic0") == "preserved"
    assert host.machine.load().rc == 0
    refused = host.machine.jump()
    assert refused is not None and refused.json()["errno"] == "EBUSY"
    host.tenant.do("quit")
    host.is_gone()
    host.machine.kexec()
    host.goes_on()


@pytest.mark.parametrize("when, on", [("before", "release"), ("after", "release"),
                                      ("after", "debug")])
@pytest.mark.console(console.LOST, console.STOPPED, console.MISSED, *console.FATAL,
                     "Device config space inaccessible; unable to (FLR|save state)")
def test_sriov_function_whose_device_fails_is_dead(vm: Lab, when: str, on: str) -> None:
    """A fatal error of the link above, in either kernel. The reset to recover ends all of them."""
    host = Host(vm, variant=on)
    if when == "after":
        host.machine.kexec()
    host.fail()
    host.becomes("dead", PF, VF)
    if when == "before":
        host.machine.kexec()
        assert host.machine.topology.bdf[VF] not in functions(host.machine)
    assert state(host.machine, "nic0") == "incoming"
    host.cannot_be_retrieved()
    host.goes_on()
    # With all finished there is nothing left of it: it can have Virtual Functions again.
    assert state(host.machine, PF) == "none"
    host.machine.json(f"pci_cfg bind {host.machine.topology.bdf[PF]} {sriov.STUB}")
    host.machine.sh(f"echo 0 >{attribute(host.machine, PF, 'sriov_numvfs')}")
    sriov.enable(host.machine, PF, VFS)
    host.machine.json(f"pci_cfg bind {host.machine.topology.bdf[VF]}")
