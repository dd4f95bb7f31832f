# SPDX-License-Identifier: GPL-2.0
"""Nobody but its owner resets, removes, disables or binds a preserved device."""

from __future__ import annotations

import re

import conftest
import pytest

from rig import console
from rig.agent import Agent
from rig.fabric import Fabric
from rig.keeper import Keeper, attempt, attribute, driver, rescan, state
from rig.lab import Lab
from rig.machine import LIVE_UPDATE, NATIVE_HOTPLUG, Machine
from rig.receiver import Receiver
from rig.topologies import KEPT
from rig.topology import Topology, nic, nvme, root_port

SLOT_POWER = "/sys/bus/pci/slots/1/power"     # of the first root port
STUB = "/sys/bus/pci/drivers/pci-stub"
E1000E = "8086:10d3"
KERNELS = pytest.mark.parametrize("arch,variant", conftest.KERNELS)


def disturb(machine: Machine) -> dict[str, str]:
    """Try everything, on the device and on the bridge above; the errno of each."""
    tries = [(KEPT, "reset", "1"), (KEPT, "sriov_numvfs", "1"), ("rp0", "reset_subordinate", "1"),
             (KEPT, "remove", "1"), ("rp0", "remove", "1")]
    came = {}
    for id, name, value in tries:
        came[f"{id} {name}"] = attempt(machine, attribute(machine, id, name), value)
        if name == "remove":
            rescan(machine)
    came["slot power"] = attempt(machine, SLOT_POWER, "0")
    return came


# A Virtual Function that came with what was given back goes when its Physical Function is reset.
@KERNELS
@pytest.mark.console(console.REFUSED, r"Unable to change power state from \S+ to D0, device inacc")
def test_nobody_disturbs_a_preserved_device(vm: Lab, arch: str, variant: str) -> None:
    machine = vm(Topology(root_port("rp0", nvme(KEPT)), root_port("rp1", nic("nic1"))),
                 arch=arch, variant=variant, needs="nvme-unplug",
                 cmdline=f"{LIVE_UPDATE} vfio_pci.enable_sriov=1",
                 args=NATIVE_HOTPLUG if arch == "x86_64" else [])
    keeper = Keeper(machine)
    keeper.preserve()
    assert [state(machine, id) for id in (KEPT, "rp0", "rp1", "nic1")] == [
        "preserved", "preserved", "none", "none"]
    fabric = Fabric(machine, KEPT)
    came = disturb(machine)
    assert set(came.values()) == {"EBUSY"}, came

    machine.kexec()
    assert [state(machine, id) for id in (KEPT, "rp0", "rp1", "nic1")] == [
        "incoming", "incoming", "none", "none"]
    came = disturb(machine)
    came["enable"] = attempt(machine, attribute(machine, KEPT, "enable"), "0")
    # SR-IOV of an adopted Physical Function is left alone, so there is no such file.
    assert came.pop(f"{KEPT} sriov_numvfs") == "ENOENT"
    assert set(came.values()) == {"EBUSY"}, came
    assert [str(d) for d in fabric.disturbed()] == []

    # Control: all of it works, or fails for another reason, when it is over.
    keeper.take_back()
    assert [state(machine, id) for id in (KEPT, "rp0")] == ["none", "none"]
    came = disturb(machine)
    assert "EBUSY" not in came.values(), came
    assert {"Bus Master", "Bridge Control", "FLR"} <= fabric.what()


@KERNELS
@pytest.mark.console(console.REFUSED)
def test_unpreserved_device_may_be_disturbed_again(vm: Lab, arch: str, variant: str) -> None:
    machine = vm(Topology(root_port("rp0", nvme(KEPT)), root_port("rp1", nic("nic1"))),
                 arch=arch, variant=variant, needs="nvme-unplug",
                 args=NATIVE_HOTPLUG if arch == "x86_64" else [])
    keeper = Keeper(machine)
    keeper.preserve()
    assert attempt(machine, attribute(machine, "rp0", "remove"), "1") == "EBUSY"
    keeper.unpreserve()
    assert state(machine, "rp0") == "none"
    came = disturb(machine)
    assert "EBUSY" not in came.values(), came


def hot_reset(machine: Machine, *ids: str) -> str:
    """Have the owner of these devices reset the bus that they are on; the errno, or nothing."""
    owner = Agent(machine, f"owner-of-{len(ids)}").start()
    for id in ids:
        owner.do(f"open {id} {machine.topology.bdf[id]}",
                 f"bind {id} {ids[0] if id != ids[0] else ''}")
    errno = owner.refused(f"hot-reset {ids[0]}")
    owner.do("quit")
    return errno


@KERNELS
@pytest.mark.console(console.REFUSED)
def test_owner_of_a_sibling_cannot_reset_both(vm: Lab, arch: str, variant: str) -> None:
    """Two functions of one card, each with an owner; VFIO resets the bus for either."""
    machine = vm(Topology(root_port("rp0", nic(KEPT, addr="0.0", multifunction="on"),
                                    nic("sibling", addr="0.1"))), arch=arch, variant=variant)
    keeper = Keeper(machine)
    keeper.preserve()
    fabric = Fabric(machine, KEPT)
    for update in (machine.kexec, keeper.take_back):
        machine.json(f"pci_cfg bind {machine.topology.bdf['sibling']}")
        assert hot_reset(machine, "sibling") == "EBUSY"
        said = machine.sh(f"dmesg | grep '{keeper.bdf}.*a bus or slot reset is refused'").out
        assert len(said.splitlines()) == 1
        assert [str(d) for d in fabric.disturbed()] == []
        update()
    # Control: with the live update over, who owns both may reset them. QEMU's port does not report
    # an active link after that, which Linux takes for a reset that failed.
    assert hot_reset(machine, "sibling", KEPT) in ("", "ENOTTY")
    assert "Bridge Control" in fabric.what()


@KERNELS
@pytest.mark.parametrize("line", ["", "driver_async_probe=pci-stub"], ids=["sync", "async"])
@pytest.mark.parametrize("broken", [False, True], ids=["refused", "control"])
def test_unwilling_driver_does_not_get_an_incoming_device(vm: Lab, arch: str, variant: str,
                                                          broken: bool, line: str) -> None:
    machine = vm(Topology(root_port("rp0", nic(KEPT)), root_port("rp1", nic("nic1"))),
                 arch=arch, variant=variant)
    keeper = Keeper(machine)
    keeper.preserve()
    fabric = Fabric(machine, KEPT)
    machine.kexec(extra=f"{line} pci-stub.ids={E1000E}" + " pci_liveupdate.break=0xa0" * broken)
    assert driver(machine, "nic1") == "pci-stub"
    assert driver(machine, KEPT) == ("pci-stub" if broken else None)
    if broken:
        return

    assert attempt(machine, f"{STUB}/bind", keeper.bdf) == "ENODEV"
    assert attempt(machine, f"{STUB}/remove_id", E1000E.replace(":", " ")) == ""
    assert attempt(machine, f"{STUB}/new_id", E1000E.replace(":", " ")) == ""
    assert driver(machine, KEPT) is None
    for id, own in ((KEPT, "vfio-pci"), ("rp0", "pcieport")):
        bdf = machine.topology.bdf[id]
        assert machine.run(f"pci_cfg bind {bdf} pci-stub").json()["errno"] == "ENODEV"
        assert driver(machine, id) is None
        machine.json(f"pci_cfg bind {bdf} {own}")
    assert [str(d) for d in fabric.disturbed()] == []
    # Control: with the live update over it may have it.
    keeper.take_back()
    machine.json(f"pci_cfg bind {keeper.bdf} pci-stub")


EVENTS = "/sys/kernel/tracing/events/pci_liveupdate/enable"
EVENT = re.compile(r"pci_liveupdate_(\w+): (\S+): (.*)")


def events(machine: Machine) -> set[tuple[str, str, str]]:
    """What the kernel's trace has of Live Update: event, device, and what of it."""
    ids = {bdf: id for id, bdf in machine.topology.bdf.items()}
    return {(event, ids[bdf], what) for event, bdf, what
            in EVENT.findall(machine.sh("cat /sys/kernel/tracing/trace").out)}


@KERNELS
@pytest.mark.console(console.REFUSED)
def test_trace_events_and_states_tell_of_each_step(vm: Lab, arch: str, variant: str) -> None:
    machine = vm(Topology(root_port("rp0", nic(KEPT)), root_port("rp1", nic("nic1"))),
                 arch=arch, variant=variant)
    owner = Receiver(machine, KEPT)
    owner.start()
    machine.sh(f"echo 1 >{EVENTS}")
    assert events(machine) == set()
    owner.preserve()
    owner.ctl("unpreserve")
    owner.preserve()
    assert attempt(machine, attribute(machine, "rp0", "remove"), "1") == "EBUSY"
    assert events(machine) == {("preserve", KEPT, "untranslated"), ("finish", KEPT, "unpreserved"),
                               ("refuse", "rp0", "removal")}
    assert state(machine, KEPT) == "preserved"

    machine.kexec(extra="trace_event=pci_liveupdate:*")
    adopted = {("adopt", KEPT, "as it was"), ("adopt", "rp0", "as it was")}
    # shpchp is for any bridge, and asks only when it is probed.
    others = {("refuse", "rp0", "shpchp")} if arch == "x86_64" else set()
    assert events(machine) == adopted | others
    assert state(machine, KEPT) == "incoming"
    assert machine.run(f"pci_cfg bind {owner.bdf} pci-stub").rc != 0
    owner.resume()
    assert state(machine, KEPT) == "claimed"
    owner.ctl("finish")
    assert state(machine, KEPT) == "none"
    assert events(machine) == adopted | others | {("refuse", KEPT, "pci-stub"),
                                                  ("claim", KEPT, "opened"),
                                                  ("finish", KEPT, "finished")}
    owner.ctl("quit")
