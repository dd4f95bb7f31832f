# SPDX-License-Identifier: GPL-2.0
"""Virtual Functions are handed over one by one, and their Physical Function with them."""

from __future__ import annotations

import time

import pytest

from rig import config, console, sriov, witness
from rig.keeper import Keeper, attempt, attribute, driver, functions, rescan, state
from rig.lab import Lab
from rig.machine import Machine
from rig.sriov import (ARI, CONTROL, ENABLE, LEFT_ON, SRIOV, STUB, control_writes, controller,
                       resets)
from rig.topology import Topology, igb, nic, root_port
from rig.untouched import COMMAND, bar, touched, written

PF, VFS, MANY = "nvme0", 4, 64
pytestmark = pytest.mark.console("Hardware bug: VF reports bogus INTx pin 1")   # QEMU's, in 7.2
HOSTILE = "pci=realloc,assign-busses,noari,pcie_bus_perf"


def machine_with_vfs(vm: Lab, **options: str) -> tuple[Machine, list[str]]:
    """A controller below a port, with its Virtual Functions enabled, and a neighbour."""
    machine = vm(Topology(root_port("rp0", controller(PF, VFS)), root_port("rp1", nic("nic0"))),
                 **options)
    return machine, sriov.enable(machine, PF, VFS)


def disturb(machine: Machine, kept: str) -> dict[str, str]:
    """Try what would take Virtual Functions along; the errno of each."""
    tries = [(PF, "sriov_numvfs", "0"), (PF, "reset", "1"), (PF, "remove", "1"),
             (PF, "enable", "0"), (kept, "reset", "1"), ("rp0", "reset_subordinate", "1"),
             ("rp0", "remove", "1")]
    return {f"{id} {name}": attempt(machine, attribute(machine, id, name), value)
            for id, name, value in tries}


def keeps_functions(machine: Machine, vfs: list[str]) -> None:
    """One of four is preserved; the next kernel has all of them, and the port's neighbour."""
    kept, other = vfs[1], vfs[0]
    keeper = Keeper(machine, kept)
    assert state(machine, PF) == "none"
    before = functions(machine)
    addresses = sriov.resources(machine, PF, *vfs)
    assert bar(machine, machine.topology.bdf[kept])[1]
    keeper.preserve()
    assert [state(machine, id) for id in (kept, PF, "rp0", other, "rp1")] == [
        "preserved", "preserved", "preserved", "none", "none"]
    came = disturb(machine, kept)
    assert set(came.values()) == {"EBUSY"}, came
    # Without a driver it is as good; with one that does what it likes with it, it is not.
    pf = machine.topology.bdf[PF]
    assert machine.run(f"pci_cfg bind {pf} vfio-pci").json()["errno"] == "ENODEV"
    assert driver(machine, PF) is None

    machine.kexec(extra=HOSTILE)
    assert functions(machine) == before
    assert sriov.links(machine, PF) == [machine.topology.bdf[vf] for vf in vfs]
    assert sriov.resources(machine, PF, *vfs) == addresses
    assert sriov.enabled(machine, PF) == VFS
    assert [state(machine, id) for id in (kept, PF, "rp0", other, "rp1")] == [
        "incoming", "incoming", "incoming", "none", "none"]
    assert machine.run(f"pci_cfg bind {pf} vfio-pci").json()["errno"] == "ENODEV"
    machine.json(f"pci_cfg bind {pf} {STUB}")
    came = disturb(machine, kept)
    assert set(came.values()) == {"EBUSY"}, came
    rescan(machine)
    # What nobody preserved is an ordinary function, which is reset before its first driver.
    assert resets(machine, other, 2) == 0
    machine.json(f"pci_cfg bind {machine.topology.bdf[other]}")
    assert resets(machine, other, 2) == 1
    now = time.time()
    assert touched(machine, kept, now) == []
    assert touched(machine, PF, now) == []
    keeper.take_back()
    assert [state(machine, id) for id in (kept, PF, "rp0")] == ["none"] * 3
    assert functions(machine) == before
    assert written(machine, PF, time.time()) == []
    # Control: the trace does tell of resets, and it is all possible again.
    assert resets(machine, kept, 2)
    assert attempt(machine, attribute(machine, PF, "sriov_numvfs"), "0") == ""
    assert sriov.links(machine, PF) == []
    assert not control_writes(machine, PF, 2)[-1] & ENABLE


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
@pytest.mark.console(console.REFUSED, LEFT_ON)
def test_sriov_functions_stay(vm: Lab, arch: str) -> None:
    keeps_functions(*machine_with_vfs(vm, arch=arch))


@pytest.mark.console(console.REFUSED, LEFT_ON)
def test_sriov_functions_stay_on_debug(vm: Lab) -> None:
    keeps_functions(*machine_with_vfs(vm, variant="debug"))


@pytest.mark.console(console.MISSED, console.LOST, console.STOPPED)
def test_control_sriov_functions_go_when_their_function_is_set_up(vm: Lab, variant: str) -> None:
    """With its adoption, and the guard, left out: VF Enable is cleared at first sight."""
    machine, vfs = machine_with_vfs(vm, variant=variant)
    keeper = Keeper(machine, vfs[1])
    keeper.preserve()
    machine.kexec(extra="pci_liveupdate.break=0x80080")
    assert sriov.links(machine, PF) == []
    assert machine.run(f"{keeper.program} -s 2").rc != 0
    assert control_writes(machine, PF, 2)[0] & ENABLE == 0


@pytest.mark.console(console.MISSED, console.LOST, console.STOPPED)
def test_sriov_functions_of_another_device_are_stopped(vm: Lab, variant: str) -> None:
    """What is in the place of the Physical Function is not what was there."""
    machine, vfs = machine_with_vfs(vm, variant=variant)
    keeper = Keeper(machine, vfs[1])
    machine.sh("echo 0x40 >/sys/module/pci_liveupdate/parameters/break")
    keeper.preserve()
    machine.kexec()
    assert state(machine, PF) == "lost"
    assert sriov.links(machine, PF) == []
    assert written(machine, PF, time.time()) == []
    # It is running still; who ends the session stops it, and all others of that device.
    machine.run(f"{keeper.program} -s 2")
    assert [w.value & 0x4 for w in written(machine, vfs[1], time.time())
            if w.offset == COMMAND] == [0]
    assert [value & ENABLE for value in control_writes(machine, PF, 2)] == [0]
    assert state(machine, PF) == "none"


@pytest.mark.console(LEFT_ON)
def test_sriov_function_stays_until_the_last_is_finished(vm: Lab, variant: str) -> None:
    """Two owners, in this order and in the other, in updates in a row."""
    machine, vfs = machine_with_vfs(vm, variant=variant)
    keepers = [Keeper(machine, id) for id in (vfs[0], vfs[3])]
    before = functions(machine)
    for boot, order in enumerate((keepers, keepers[::-1]), 2):
        for keeper in keepers:
            keeper.preserve()
        machine.kexec("next" if boot == 2 else "kernel")
        assert functions(machine) == before
        now = time.time()
        for keeper in keepers:
            assert touched(machine, keeper.id, now, boot) == []
        order[0].take_back()
        assert [state(machine, id) for id in (order[0].id, PF, order[1].id)] == [
            "none", "incoming", "incoming"]
        order[1].take_back()
        assert [state(machine, id) for id in (order[1].id, PF, "rp0")] == ["none"] * 3
        assert written(machine, PF, time.time(), boot) == []
        assert sriov.enabled(machine, PF) == VFS
    # Control: what is written to the function is seen.
    machine.json(f"pci_cfg bind {machine.topology.bdf[PF]} {STUB}")
    assert attempt(machine, attribute(machine, PF, "sriov_numvfs"), "0") == ""
    assert control_writes(machine, PF, 3)


def test_sriov_sibling_keeps_ari(vm: Lab, variant: str) -> None:
    """One bit is for all functions of a device, and in the first, which is not preserved."""
    machine = vm(Topology(root_port("rp0", igb("igb0", "0.0", multifunction="on",
                                               **{"x-pcie-ari-nextfn-1": "on"}),
                                    igb("igb1", "0.1"))), needs="igb", variant=variant)
    sriov.enable(machine, "igb0", 2)
    vfs = sriov.enable(machine, "igb1", 2)
    assert control_writes(machine, "igb0", 1)[-1] & ARI
    keeper = Keeper(machine, vfs[0])
    keeper.preserve()
    machine.kexec(extra="pci=noari")
    assert sriov.links(machine, "igb0") == []
    assert sriov.links(machine, "igb1") == [machine.topology.bdf[vf] for vf in vfs]
    now = time.time()
    assert touched(machine, keeper.id, now) == []
    assert written(machine, "igb1", now) == []
    values = control_writes(machine, "igb0", 2)
    assert values and all(value & ARI for value in values)
    keeper.take_back()
    # Control: when nobody needs it, it is cleared first.
    sriov.enable(machine, "igb0", 2)
    machine.kexec()
    assert not control_writes(machine, "igb0", 3)[0] & ARI


def test_sriov_function_with_a_driver_of_its_own_is_refused(vm: Lab) -> None:
    machine = vm(Topology(root_port("rp0", controller(PF, VFS)), root_port("rp1", nic("nic0"))),
                 first="vfio_pci.enable_sriov=1")
    vfs = sriov.enable(machine, PF, VFS, "vfio-pci")
    why = machine.sh(f"cat {attribute(machine, vfs[0], 'liveupdate/refusal')}").out
    assert "its Physical Function has a driver for users, and is not preserved: vfio-pci" in why


@pytest.mark.console("a preserved device needs it as it is")
def test_sriov_registers_are_guarded(vm: Lab, variant: str) -> None:
    """In the first kernel, bit by bit; in the next, all of them."""
    machine, vfs = machine_with_vfs(vm, variant=variant)
    vm.expect_drops()
    keeper = Keeper(machine, vfs[1])
    keeper.preserve()
    pf = machine.topology.bdf[PF]
    at = config.read(machine, pf).extended(SRIOV)
    count = attribute(machine, PF, "liveupdate/guard_count")
    for boot in (1, 2):
        config.write(machine, pf, at + CONTROL, bytes(2))
        assert machine.sh(f"cat {count}").out.strip() == "1"
        assert control_writes(machine, PF, boot)[-1:] != [0]
        assert sriov.enabled(machine, PF) == VFS
        if boot == 1:
            machine.kexec()
    assert witness.read(machine).boots() == 2
    keeper.take_back()


@pytest.mark.console(LEFT_ON)
def test_sriov_many_functions_stay(vm: Lab) -> None:
    """64 of one device, all preserved: none costs more reads than when it was enabled."""
    machine = vm(Topology(root_port("rp0", controller(PF, MANY))))
    vfs = sriov.enable(machine, PF, MANY)
    trace = witness.read(machine)
    enabling = [trace.reads(vf, 1) for vf in vfs]
    machine.sh("echo 1b36 0010 >/sys/bus/pci/drivers/vfio-pci/new_id")
    machine.sh(f"lu_bulk preserve {MANY}")
    machine.kexec()
    trace = witness.read(machine)
    adopting = [trace.reads(vf, 2) for vf in vfs]
    # At function 0 of a slot every boot of x86 looks early for what needs a quirk.
    early = [4 * machine.topology.bdf[vf].endswith(".0") for vf in vfs]
    assert [vf for vf, then, now, more in zip(vfs, enabling, adopting, early)
            if now > then + more] == [], (enabling, adopting)
    assert [trace.writes(id, 2) for id in (PF, *vfs)] == [[]] * (MANY + 1)
    assert sriov.links(machine, PF) == [machine.topology.bdf[vf] for vf in vfs]
    machine.sh("echo 1b36 0010 >/sys/bus/pci/drivers/vfio-pci/new_id")
    machine.sh(f"lu_bulk resume {MANY}")
    assert {state(machine, id) for id in (PF, *vfs)} == {"none"}
    # Control: enabled anew, they are read and the function is written to.
    assert all(then > 0 for then in enabling)
    assert trace.writes(PF, 1) != []
