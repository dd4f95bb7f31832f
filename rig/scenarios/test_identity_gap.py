# SPDX-License-Identifier: GPL-2.0
"""What is missing, different or broken in the incoming kernel is left alone; the rest goes on.

Two NICs are preserved, each in a session of its own: `kept`, below rp0, goes wrong and `other`,
below rp1, must not notice.
"""

from __future__ import annotations

import time

import pytest

from conftest import KERNELS
from rig import config, console, slot
from rig.fabric import Fabric
from rig.keeper import appears, attribute, functions, rescan, state
from rig.lab import Lab
from rig.machine import LIVE_UPDATE, NATIVE_HOTPLUG, Machine
from rig.receiver import Receiver
from rig.topologies import KEPT
from rig.topology import Topology, nic, root_port

IORESOURCE_MEM = 0x200
ROM = 6


def two(vm: Lab, arch: str, variant: str) -> tuple[Machine, Receiver, Receiver]:
    """A machine with both NICs receiving; neither is preserved yet."""
    machine = vm(Topology(root_port("rp0", nic(KEPT)), root_port("rp1", nic("other")),
                          root_port("rp2", nic("idle"))),
                 arch=arch, variant=variant, args=NATIVE_HOTPLUG if arch == "x86_64" else [])
    kept, other = Receiver(machine, KEPT), Receiver(machine, "other")
    for receiver in (kept, other):
        receiver.start()
    other.sender.start()
    return machine, kept, other


def to_be_pulled_out(vm: Lab, arch: str, variant: str) -> tuple[Machine, Receiver, Receiver]:
    """The same two, preserved."""
    machine, kept, other = two(vm, arch, variant)
    kept.preserve()
    other.preserve()
    return machine, kept, other


def reserved(machine: Machine, bdf: str) -> list[str]:
    """Where addresses are reserved for a device that is lost or missing."""
    lines = machine.sh("cat /proc/iomem").out.splitlines()
    return [line.split(" : ")[0].strip() for line in lines if line.endswith(f"Live Update {bdf}")]


def memory(machine: Machine, bdf: str) -> list[str]:
    """Where a device's BARs are in memory, written as in /proc/iomem."""
    return [f"{int(bar['start'], 16):08x}-{int(bar['end'], 16):08x}"
            for bar in machine.json(f"pci_cfg dump {bdf}")["bars"]
            if bar["n"] < ROM and int(bar["flags"], 16) & IORESOURCE_MEM]


def goes_on(other: Receiver) -> None:
    """The NIC that nothing happened to lost no frame, and finishes."""
    other.resume()
    time.sleep(1)
    other.ctl("finish")
    sent, stats = other.settle()
    assert (stats["distinct"], stats["lost"]) == (sent, 0)
    other.ctl("quit")


def cannot_be_retrieved(kept: Receiver) -> None:
    """Its session gives an error for the device; the session's end ends its live update."""
    refused = kept.try_resume("--retrieve device")
    assert refused.rc != 0 and refused.json()["errno"] == "ENODEV", refused.out


@pytest.mark.parametrize("arch,variant", KERNELS)
@pytest.mark.console(console.LOST, console.STOPPED)
def test_device_of_another_model_is_left_alone(vm: Lab, arch: str, variant: str) -> None:
    """What is handed over for `kept` has another Device ID: to the next kernel, it was swapped."""
    machine, kept, other = two(vm, arch, variant)
    other.preserve()
    machine.sh(f"echo 0x40 >{slot.BREAK}")
    kept.preserve()
    fabric = Fabric(machine, KEPT, "other")
    machine.kexec()
    assert state(machine, KEPT) == "lost"
    assert state(machine, "other") == "incoming"
    refused = machine.run(f"pci_cfg bind {kept.bdf}").json()
    assert refused["errno"] == "ENODEV"
    assert [str(d) for d in fabric.disturbed()] == []
    cannot_be_retrieved(kept)
    goes_on(other)
    # With all finished it is a device like any other.
    assert state(machine, KEPT) == "none"
    machine.json(f"pci_cfg bind {kept.bdf}")


@pytest.mark.parametrize("arch,variant", KERNELS)
@pytest.mark.console(console.LOST, console.MISSED)
def test_device_that_is_gone_is_missed(vm: Lab, arch: str, variant: str) -> None:
    """It is taken out behind the outgoing kernel's back."""
    machine, kept, other = two(vm, arch, variant)
    kept.preserve()
    other.preserve()
    had = memory(machine, kept.bdf)
    fabric = Fabric(machine, "other")
    assert machine.load().rc == 0
    slot.pull_out(machine, "rp0", KEPT)
    refused = machine.jump()
    assert refused is None, refused
    assert kept.bdf not in functions(machine)
    said = machine.sh(f"dmesg | grep '{kept.bdf} was preserved.*has not been found'").out
    assert len(said.splitlines()) == 1
    assert sorted(reserved(machine, kept.bdf)) == sorted(had)
    assert state(machine, "other") == "incoming"
    assert [str(d) for d in fabric.disturbed()] == []
    cannot_be_retrieved(kept)
    goes_on(other)
    assert reserved(machine, kept.bdf) == []


@pytest.mark.parametrize("arch,variant", KERNELS)
@pytest.mark.console(console.GONE, console.LOST, console.STOPPED)
def test_device_that_is_pulled_out_after_the_jump_is_dead(vm: Lab, arch: str,
                                                          variant: str) -> None:
    """A surprise that cannot be refused: its slot has power, and nothing in it."""
    machine, kept, other = to_be_pulled_out(vm, arch, variant)
    machine.kexec()
    slot.pull_out(machine, "rp0", KEPT)
    slot.power_on(machine, "rp0")
    machine.sh(f"while test -e /sys/bus/pci/devices/{kept.bdf}; do sleep 0.1; done")
    cannot_be_retrieved(kept)
    goes_on(other)


@pytest.mark.parametrize("arch,variant", KERNELS)
@pytest.mark.console(console.GONE, *console.UNBINDING)
def test_device_that_is_pulled_out_before_the_jump_is_dead(vm: Lab, arch: str,
                                                           variant: str) -> None:
    """The removal waits for the owner. Meanwhile nothing is handed over."""
    machine, kept, other = to_be_pulled_out(vm, arch, variant)
    slot.pull_out(machine, "rp0", KEPT)
    slot.power_on(machine, "rp0")
    becomes(machine, "dead")
    assert state(machine, "other") == "preserved"
    assert machine.load().rc == 0
    refused = machine.jump()
    assert refused is not None and refused.json()["errno"] == "EBUSY"
    kept.ctl("unpreserve")
    kept.ctl("close-device")
    machine.sh(f"while test -e /sys/bus/pci/devices/{kept.bdf}; do sleep 0.1; done")
    machine.kexec()
    goes_on(other)


def becomes(machine: Machine, wanted: str) -> None:
    """Wait until that is the state of `kept`."""
    machine.sh(f"until grep -q {wanted} {attribute(machine, KEPT, 'liveupdate/state')}; do "
               "sleep 0.1; done")


@pytest.mark.parametrize("arch,variant", KERNELS)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.console(console.LOST, console.STOPPED, *console.FATAL)
def test_device_that_fails_is_dead(vm: Lab, arch: str, variant: str, when: str) -> None:
    """A fatal error of the link, before or after the jump; one that is not fatal is the control."""
    machine, kept, other = two(vm, arch, variant)
    kept.preserve()
    other.preserve()
    if when == "after":
        machine.kexec()
    slot.enable_errors(machine, "rp0")
    machine.hmp("pcie_aer_inject_error rp0 ACSV")
    machine.sh("until dmesg | grep -q 'AER: device recovery'; do sleep 0.1; done")
    assert state(machine, KEPT) == ("incoming" if when == "after" else "preserved")
    slot.fail(machine, "rp0")
    becomes(machine, "dead")
    if when == "before":
        machine.kexec()
        assert state(machine, KEPT) == "lost"
    assert state(machine, "other") == "incoming"
    cannot_be_retrieved(kept)
    goes_on(other)
    assert state(machine, KEPT) == "none"


LATE = "fw_devlink.strict=1 initcall_blacklist=arm_smmu_driver_init"


@pytest.mark.parametrize("variant", [variant for arch, variant in KERNELS if arch == "arm64"])
@pytest.mark.console("deferred probe timeout, ignoring dependency", console.MISSED, *console.KEPT)
def test_device_whose_host_comes_late_is_waited_for(vm: Lab, variant: str) -> None:
    """The host bridge of a Device Tree waits for an IOMMU that has no driver, until it gives up."""
    machine = vm(Topology(root_port("rp0", nic(KEPT)), root_port("rp1", nic("other"))),
                 arch="arm64", variant=variant, args=["-machine", "iommu=smmuv3"],
                 cmdline=f"{LIVE_UPDATE} {LATE}", first="deferred_probe_timeout=1")
    kept = Receiver(machine, KEPT)
    assert appears(machine, kept.bdf)
    kept.start()
    kept.preserve()
    before = functions(machine)
    fabric = Fabric(machine, KEPT)
    machine.kexec(extra=f"deferred_probe_timeout={int(60 * machine.slow)}")
    assert functions(machine) == {}
    early = kept.try_resume("--retrieve device")
    assert early.rc != 0 and early.json()["errno"] == "EAGAIN", early.out
    kept.resume("--retrieve none", bind=False)
    assert kept.try_ctl("finish")["errno"] == "EBUSY"
    kept.ctl("close-session")
    kept.ctl("quit")
    assert functions(machine) == {}
    assert appears(machine, kept.bdf, seconds=int(120 * machine.slow))
    assert functions(machine) == before
    assert state(machine, KEPT) == "incoming"
    # Behind an IOMMU it was paused on the way out; that is all.
    assert [(d.id, d.what) for d in fabric.disturbed()] == [(KEPT, "Bus Master")]
    kept.resume()
    assert not kept.ready["bar0_moved"]
    kept.ctl("finish")
    kept.ctl("quit")


def jump_without_numbers(machine: Machine, extra: str = "") -> Fabric:
    """A root port that has nothing preserved below it loses its bus numbers before the jump."""
    port = machine.topology.bdf["rp2"]
    assert machine.load(extra=extra).rc == 0
    config.write(machine, port, 0x18, bytes(2))
    config.write(machine, port, 0x1A, bytes(1))
    fabric = Fabric(machine, KEPT, "other")
    refused = machine.jump()
    assert refused is None, refused
    return fabric


@pytest.mark.parametrize("arch,variant", KERNELS)
@pytest.mark.console(*console.UNNUMBERED)
def test_bridge_without_bus_numbers_is_refused(vm: Lab, arch: str, variant: str) -> None:
    machine, kept, other = two(vm, arch, variant)
    kept.preserve()
    other.preserve()
    before = functions(machine)
    idle, port = machine.topology.bdf["idle"], machine.topology.bdf["rp2"]
    fabric = jump_without_numbers(machine)
    assert functions(machine) == {**{bdf: dev for bdf, dev in before.items() if bdf != idle},
                                  port: (*before[port][:2], "00-00")}
    rescan(machine)
    assert idle not in functions(machine)
    assert [str(d) for d in fabric.disturbed()] == []
    log = machine.sh("dmesg | grep 'nothing below is enumerated'").out
    assert port in log and "missing" in log
    kept.resume()
    kept.ctl("finish")
    kept.ctl("quit")
    # One is not finished: the rule is held.
    rescan(machine)
    assert idle not in functions(machine)
    goes_on(other)
    # Control: none is, and the bridge gets numbers as it always did.
    rescan(machine)
    assert functions(machine) == before
    assert {d.id for d in fabric.disturbed() if d.what == "bus numbers"} == {"rp2"}


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_control_bridge_without_bus_numbers_gets_some(vm: Lab, arch: str) -> None:
    """With rule and guard left out on purpose."""
    machine, kept, other = two(vm, arch, "release")
    kept.preserve()
    fabric = jump_without_numbers(machine, "pci_liveupdate.break=0x88")
    assert "rp2" in {d.id for d in fabric.disturbed() if d.what == "bus numbers"}
