# SPDX-License-Identifier: GPL-2.0
"""The guard: what would disturb a preserved device does not reach the hardware, and is counted.

That it counts nothing in a live update is asserted at the end of every scenario, see rig.lab.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import Callable

import pytest

from conftest import KERNELS
from rig import config, console, paths, topology, witness
from rig.fabric import Fabric
from rig.keeper import Keeper, attempt
from rig.lab import Lab
from rig.machine import LIVE_UPDATE, Machine
from rig.receiver import Receiver
from rig.topology import Device, Topology, nic, nvme, root_port

DEVICES = "/sys/bus/pci/devices"
BREAK = "pci_liveupdate.break"
OFF = 0x80      # bit of it: no guard
HOSTILE = "pci_liveupdate_hostile"
TRACE = ("trace_event=pci_liveupdate:pci_liveupdate_guard "
         "trace_trigger=pci_liveupdate_guard.stacktrace")
COMMAND, CONTROL = 0x04, 0x3E

# What would cut off the device below the root port: offset, length, bits cleared, bits set.
POKES = {
    "decode and Bus Master off": (0x04, 2, 0x0007, 0), "bus numbers": (0x18, 4, 0x00FFFFFF, 0),
    "one bus number": (0x19, 1, 0, 0x40), "memory window closed": (0x20, 4, 0xFFF0, 0xFFF0),
    "prefetchable window moved": (0x28, 4, 0, 0xFF), "secondary bus reset": (0x3E, 2, 0, 0x40),
    "VGA forwarding": (0x3E, 1, 0, 0x08)}


def poke(machine: Machine, id: str, where: int, value: int, size: int) -> None:
    """Write config space through sysfs, as a root user may who should know better."""
    config.write(machine, machine.topology.bdf[id], where, value.to_bytes(size, "little"))


def space(machine: Machine, id: str) -> config.Config:
    return config.read(machine, machine.topology.bdf[id])


def dropped(machine: Machine, id: str) -> int:
    return machine.drops().get(machine.topology.bdf[id], 0)


def reached(machine: Machine, id: str, since: int = 0) -> list[witness.Access]:
    """The device's config writes in this kernel but for the first `since`."""
    return witness.read(machine).writes(id, machine.boot)[since:]


def preserved(machine: Machine) -> Receiver:
    receiver = Receiver(machine)
    receiver.start()
    receiver.preserve()
    return receiver


# --- what user space writes ---------------------------------------------------------------------

@pytest.mark.parametrize("arch,variant", KERNELS)
def test_writes_to_a_bridge_are_dropped(vm: Lab, arch: str, variant: str) -> None:
    vm.expect_drops()
    machine = vm(topology.plain(), arch=arch, variant=variant)
    preserved(machine)
    before, since = space(machine, "rp0").raw[:64], len(reached(machine, "rp0"))
    for count, (what, (where, size, clear, set_)) in enumerate(POKES.items(), 1):
        value = space(machine, "rp0").get(where, size) & ~clear | set_
        poke(machine, "rp0", where, value, size)
        assert space(machine, "rp0").raw[:64] == before, what
        assert dropped(machine, "rp0") == count, what
    assert reached(machine, "rp0", since) == []
    assert re.search(machine.topology.bdf["rp0"] + r": \d-byte write of \S+ to \S+ dropped: "
                     r".* < pci_write_config < ", machine.sh("dmesg").out)


def test_control_write_arrives_with_the_guard_off(vm: Lab) -> None:
    machine = vm(topology.plain(), cmdline=f"{LIVE_UPDATE} {BREAK}={OFF}")
    preserved(machine)
    since = len(reached(machine, "rp0"))
    poke(machine, "rp0", 0x19, 0x7F, 1)
    assert [(w.offset, w.value) for w in reached(machine, "rp0", since)] == [(0x19, 0x7F)]
    assert dropped(machine, "rp0") == 0


def test_control_write_arrives_with_nothing_preserved(vm: Lab) -> None:
    machine = vm(topology.plain())
    since = len(reached(machine, "rp0"))
    poke(machine, "rp0", CONTROL, 0x10, 2)
    assert [(w.offset, w.value) for w in reached(machine, "rp0", since)] == [(CONTROL, 0x10)]


def test_control_dropped_write_fails_a_scenario(vm: Lab) -> None:
    machine = vm(topology.plain())
    preserved(machine)
    poke(machine, "rp0", 0x19, 0x7F, 1)
    found = vm.close()
    vm.expect_drops()
    bdf = machine.topology.bdf["rp0"]
    assert f"boot 1: the guard dropped 1 writes to {bdf}" in found
    assert any("1-byte write of 0x7f to 0x19" in line for line in found)


def test_unprotected_bits_of_a_write_go_through(vm: Lab) -> None:
    vm.expect_drops()
    machine = vm(topology.plain())
    preserved(machine)
    since = len(reached(machine, "rp0"))
    was = space(machine, "rp0").get(CONTROL, 2)
    poke(machine, "rp0", CONTROL, was ^ 0x0042, 2)      # SERR and a reset
    assert [(w.offset, w.value) for w in reached(machine, "rp0", since)] == [(CONTROL, was ^ 2)]
    assert dropped(machine, "rp0") == 1


def test_unclaimed_device_takes_no_write(vm: Lab) -> None:
    vm.expect_drops()
    machine = vm(topology.plain())
    receiver = preserved(machine)
    machine.kexec()
    before = space(machine, "nic0").raw
    poke(machine, "nic0", COMMAND, 0, 2)
    poke(machine, "nic0", 0x10, 0xFFFFFFFF, 4)
    assert space(machine, "nic0").raw == before
    assert dropped(machine, "nic0") == 2
    assert reached(machine, "nic0") == []
    # Control: its owner may write, and what was counted before stays.
    receiver.resume()
    since = len(reached(machine, "nic0"))
    poke(machine, "nic0", 0x3C, 0x55, 1)
    assert [(w.offset, w.value) for w in reached(machine, "nic0", since)] == [(0x3C, 0x55)]
    assert dropped(machine, "nic0") == 2


def test_nothing_is_guarded_after_finish(vm: Lab) -> None:
    machine = vm(topology.plain())
    receiver = preserved(machine)
    machine.kexec()
    receiver.resume()
    receiver.ctl("finish")
    since = len(reached(machine, "rp0"))
    poke(machine, "rp0", CONTROL, 0x10, 2)
    assert [(w.offset, w.value) for w in reached(machine, "rp0", since)] == [(CONTROL, 0x10)]


@pytest.mark.console(console.STOPPED)
def test_unretrieved_device_is_stopped_all_the_same(vm: Lab) -> None:
    machine = vm(topology.plain())
    receiver = preserved(machine)
    machine.kexec()
    receiver.bind()
    assert witness.read(machine).cleared_master("nic0", 2) == []
    receiver.resume("--retrieve none", bind=False)
    receiver.ctl("finish")
    assert witness.read(machine).cleared_master("nic0", 2)


# --- what the kernel writes where adoption is left out -------------------------------------------

def plain() -> Topology:
    return Topology(root_port("rp0", nic("kept")))


def physical_function() -> Topology:
    return Topology(root_port("rp0", nvme("kept")))


def two_displays() -> Topology:
    return Topology(root_port("rp0", Device("VGA", "kept", {"romfile": ""})),
                    Device("VGA", "other", {"romfile": ""}))


@dataclass(frozen=True)
class Site:
    """A bit of pci_liveupdate.break, and what makes the kernel want to write without it."""

    bit: int
    line: str = ""                                              # of the next kernel
    tree: Callable[[], Topology] = plain
    disturb: Callable[[Machine], None] = lambda machine: None   # before the jump
    act: str = "true"                                           # and after it
    told: str = ""                                              # what the kernel complains of


def enable_msi(machine: Machine) -> None:
    """A preserved device has its interrupts off or masked: MSI on without a vector."""
    at = space(machine, "kept").capability(0x05)
    assert at is not None
    poke(machine, "kept", at + 2, space(machine, "kept").get(at + 2, 2) | 1, 2)


def put_to_sleep(machine: Machine) -> None:
    """A preserved device is in D0: its owner puts it into D3hot behind the kernel's back."""
    at = space(machine, "kept").capability(config.POWER)
    assert at is not None
    poke(machine, "kept", at + 4, space(machine, "kept").get(at + 4, 2) | 3, 2)


LEGACY_VGA = ("exec 4<>/dev/vga_arbiter && printf 'target PCI:{kept}' >&4 && "
              "printf 'trylock io+mem' >&4")

# In the order of enum pci_lu_keep; then bus numbers and routing. Mailboxes (DOE) are not there:
# no option of ours turns them on, only drivers that use them do.
SITES = {
    "bars": Site(0x100, told="is not to be had in this kernel"),
    "windows": Site(0x200), "addresses": Site(0x400),
    "payload": Site(0x800, "pci=pcie_bus_perf", told="Failed attempting to set the MPS"),
    "requests": Site(0x1000),
    "link": Site(0x2000), "intx": Site(0x4000), "msi": Site(0x8000, disturb=enable_msi),
    "power": Site(0x10000, disturb=put_to_sleep), "errors": Site(0x20000),
    "iov": Site(0x80000, tree=physical_function),
    "vpd": Site(0x100000, HOSTILE + ".vpd={kept}", act=f"cat {DEVICES}/{{kept}}/vpd || true"),
    "vga": Site(0x200000, tree=two_displays, act=LEGACY_VGA),
    "buses": Site(0x8, "pci=assign-busses"),
    "routing": Site(0x10, "pci=config_acs=1101x11@pci:1b36:000c")}
MATRIX = [(*kernel, site) for kernel in KERNELS for site in SITES]


@pytest.mark.matrix(MATRIX, 4)
def test_guard_holds_where_adoption_fails(vm: Lab, case: tuple[str, str, str]) -> None:
    """The negative control of the counter, and of the seat belt itself."""
    vm.expect_drops()
    arch, variant, name = case
    site = SITES[name]
    if site.told:
        vm.expect_splat(site.told)
    machine = vm(site.tree(), arch=arch, variant=variant)
    keeper = Keeper(machine)
    keeper.preserve()
    site.disturb(machine)
    fabric = Fabric(machine, "kept")
    numbers = space(machine, "rp0").raw
    machine.kexec(extra=f"{BREAK}={site.bit:#x} " + site.line.format(kept=keeper.bdf))
    machine.sh(site.act.format(kept=keeper.bdf))
    trace = witness.read(machine)
    assert trace.writes("kept", 2) == []
    assert [m for m in trace.moved("kept", 2) if m.time > machine.booted_at[0]] == []
    # A bus number may be written as it is.
    assert [str(d) for d in fabric.disturbed()
            if d.what != "bus numbers" or d.access.value != numbers[d.access.offset]] == []
    assert machine.drops().keys() <= {machine.topology.bdf[id] for id in ("kept", "rp0")}
    assert sum(machine.drops().values()) > 0
    assert "-byte write of" in machine.sh("dmesg | grep 'needs it as it is'").out


# --- who arbitrates legacy VGA -------------------------------------------------------------------

def lock_vga(machine: Machine, id: str) -> bool:
    """Ask the arbiter for legacy I/O and memory of a display: has it got them? Then let go.

    Not with trylock: stock Linux tells of success as a failure, and then keeps it locked.
    """
    told = machine.run("(exec 4<>/dev/vga_arbiter; "
                       f"echo -n 'target PCI:{machine.topology.bdf[id]}' | cat >&4; "
                       "echo -n 'lock io+mem' | cat >&4; dd bs=1024 count=1 <&4)").out
    assert f"PCI:{machine.topology.bdf[id]}" in told
    return "owns=io+mem,locks=io+mem(1:1)" in told


def forwards_vga(control: int) -> bool:
    """VGA Enable, bit 3 of Bridge Control."""
    return bool(control & 8)


def test_preserved_display_is_no_party_to_vga_arbitration(vm: Lab, variant: str) -> None:
    """Neither turned on nor off: nothing is written, so that there is nothing to drop, either."""
    machine = vm(two_displays(), variant=variant)
    keeper = Keeper(machine)
    # First legacy VGA is the other's, and the preserved one is to have it; then the other way.
    for id in ("kept", "other"):
        keeper.preserve()
        before = len(reached(machine, "rp0")), len(reached(machine, "kept"))
        assert forwards_vga(space(machine, "rp0").get(CONTROL, 2)) == (id == "other")
        assert not lock_vga(machine, id)
        assert (len(reached(machine, "rp0")), len(reached(machine, "kept"))) == before
        keeper.unpreserve()
        # Control: with nothing preserved the port is told, and last (its user has it reset, too).
        since = len(reached(machine, "rp0"))
        assert lock_vga(machine, id)
        told = [w.value for w in reached(machine, "rp0", since) if w.offset == CONTROL]
        assert told and forwards_vga(told[-1]) == (id == "kept")
        assert forwards_vga(space(machine, "rp0").get(CONTROL, 2)) == (id == "kept")


# --- what hostile code in the kernel writes ------------------------------------------------------

# Who is among those that are named: the code itself, and the core where it asks that to write.
CALLERS = {"lu_hostile_poke", "pcie_flr", "pci_reset_secondary_bus"}


def attack(machine: Machine, receiver: Receiver, broken: int = 0) -> None:
    """A live update with quirks and a driver in the next kernel that write wherever they can."""
    receiver.sender.start()
    machine.kexec(extra=f"{BREAK}={broken:#x} {HOSTILE}.quirk={receiver.bdf} {TRACE}")
    refused = machine.run(f"pci_cfg bind {receiver.bdf} pci_lu_hostile").json()
    assert refused["errno"] == "ENODEV"
    for part in ("early quirk", "final quirk", "driver")[:2 if broken else 3]:
        machine.sh(f"dmesg | grep '{receiver.bdf}: Live Update, hostile: {part}'")


@pytest.mark.parametrize("arch,variant", KERNELS)
@pytest.mark.console(console.BUS_RESET)
def test_nothing_of_hostile_code_arrives(vm: Lab, arch: str, variant: str) -> None:
    vm.expect_drops()
    machine = vm(topology.plain(), arch=arch, variant=variant)
    receiver = preserved(machine)
    fabric = Fabric(machine, "nic0")
    attack(machine, receiver)
    trace = witness.read(machine)
    assert trace.writes("nic0", 2) == []
    assert [m for m in trace.moved("nic0", 2) if m.time > machine.booted_at[0]] == []
    assert [str(d) for d in fabric.disturbed()] == []
    assert all(dropped(machine, id) for id in ("nic0", "rp0"))
    for text, sign in (("dmesg", "<"), ("cat /sys/kernel/tracing/trace", "=>")):
        found = machine.sh(f"{text} | grep -o ' {sign} [a-z_0-9]*' | sort -u").out
        assert {line.split()[1] for line in found.splitlines() if " " in line.strip()} >= CALLERS
    receiver.resume()
    receiver.ctl("finish")
    sent, stats = receiver.settle()
    assert (stats["distinct"], stats["lost"]) == (sent, 0)


@pytest.mark.console(console.LOST, console.BUS_RESET)
def test_control_hostile_writes_arrive_with_the_guard_off(vm: Lab) -> None:
    """So much that the device is lost before the driver may have it."""
    machine = vm(topology.plain())
    receiver = preserved(machine)
    fabric = Fabric(machine, "nic0")
    attack(machine, receiver, OFF)
    assert {w.offset for w in reached(machine, "nic0")} >= {COMMAND, *range(0x10, 0x28, 4), 0x30}
    assert fabric.what() >= {"Bus Master", "Bridge Control", "bus numbers", "memory window", "ACS",
                             "I/O window", "Link Control", "slot power", "ARI forwarding", "FLR"}
    assert machine.drops() == {}


# --- Vital Product Data ---------------------------------------------------------------------------

@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
@pytest.mark.console("VPD access failed")
def test_vital_product_data_is_busy_until_the_claim(vm: Lab, arch: str) -> None:
    """No device of QEMU has any: a quirk says that this one does, in registers beyond all others.

    It never answers, and reading times out when it is allowed.
    """
    machine = vm(topology.plain(), arch=arch)
    receiver = preserved(machine)
    machine.kexec(extra=f"{HOSTILE}.vpd={receiver.bdf}")
    vpd = f"{DEVICES}/{receiver.bdf}/vpd"
    receiver.bind()
    assert "resource busy" in machine.run(f"cat {vpd}").out
    assert attempt(machine, vpd, "text") == "EBUSY"
    assert reached(machine, "nic0") == []
    # Control: the owner's accesses reach the device.
    receiver.resume(bind=False)
    since = len(reached(machine, "nic0"))
    assert "resource busy" not in machine.run(f"cat {vpd}").out
    assert 0xFA in {w.offset for w in reached(machine, "nic0", since)}


# --- what it costs with nothing preserved ------------------------------------------------------

WRITES = [f"pci_bus_write_config_{size}" for size in ("byte", "word", "dword")]


def code(variant: str, function: str) -> list[str]:
    """The instructions of a function in access.o, up to the jump out of it, without addresses."""
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", "--no-addresses",
                           f"--disassemble={function}",
                           paths.kernel_dir("x86_64", variant) / "drivers/pci/access.o"],
                          check=True, text=True, stdout=subprocess.PIPE).stdout
    found = [line.split("#")[0].split("<")[0].strip() for line in text.splitlines()
             if line.startswith("\t")]
    end = next(n for n, line in enumerate(found) if line.startswith("jmp    *"))
    # Where a branch leads depends on what comes after the end.
    return [re.sub(r"^(j\w+) .*", r"\1", line) if not line.startswith("jmp    *") else line
            for line in found[:end + 1]]


def has_one_no_op_more(guarded: list[str], stock: list[str]) -> bool:
    """Two or five bytes that become a jump, and nothing else besides what stock Linux has."""
    noops = [line for line in guarded if re.match(r"nop|xchg +%ax,%ax", line)]
    rest = [line for line in guarded if line not in noops]
    return len(noops) == 1 and sorted(rest) == sorted(stock)


@pytest.mark.skipif(not shutil.which("objdump"), reason="no objdump (binutils)")
@pytest.mark.parametrize("function", WRITES)
def test_guard_is_one_no_op_while_nothing_is_preserved(function: str) -> None:
    for variant in ("release", "stock", "off"):
        if not (paths.kernel_dir("x86_64", variant) / "drivers/pci/access.o").exists():
            pytest.skip(f"no x86_64 {variant} kernel")
    guarded, stock = code("release", function), code("stock", function)
    assert has_one_no_op_more(guarded, stock)
    # Without the option there is no code at all.
    assert code("off", function) == stock
    # Controls: a kernel without the no-op, and one that does something more.
    assert not has_one_no_op_more(stock, stock)
    assert not has_one_no_op_more([*guarded, "call"], stock)


def test_without_the_option_nothing_of_the_guard_is_built() -> None:
    """And nothing of the rest: no symbol of this feature is left."""
    names = {}
    for variant in ("release", "off"):
        symbols = paths.kernel_dir("x86_64", variant) / "System.map"
        if not symbols.exists():
            pytest.skip(f"no x86_64 {variant} kernel")
        names[variant] = set(re.findall(r"\w*(?:pci_lu_|pci_liveupdate)\w*", symbols.read_text()))
    assert names["off"] == set()
    assert "pci_lu_guard_key" in names["release"]       # control
