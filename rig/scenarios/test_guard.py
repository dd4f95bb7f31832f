# SPDX-License-Identifier: GPL-2.0
"""The guard: what would disturb a preserved device does not reach the hardware, and is counted.

Config space is written through sysfs, by a root user who should know better.
"""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from rig import paths, topology, witness
from rig.lab import Lab
from rig.machine import LIVE_UPDATE, Machine
from rig.receiver import Receiver

DEVICES = "/sys/bus/pci/devices"
OFF = "pci_liveupdate.break=0x80"

# What would cut off the device below the root port: offset, length, bits cleared, bits set.
HOSTILE = {
    "decode and Bus Master off": (0x04, 2, 0x0007, 0), "bus numbers": (0x18, 4, 0x00FFFFFF, 0),
    "one bus number": (0x19, 1, 0, 0x40), "memory window closed": (0x20, 4, 0xFFF0, 0xFFF0),
    "prefetchable window moved": (0x28, 4, 0, 0xFF), "secondary bus reset": (0x3E, 2, 0, 0x40),
    "VGA forwarding": (0x3E, 1, 0, 0x08)}
COMMAND, CONTROL = 0x04, 0x3E
# Adoption that can be switched off, whose writes the guard must stop all the same
ADOPTIONS = {"bars": 0, "windows": 1, "requests": 4, "errors": 9}


def poke(machine: Machine, id: str, where: int, data: bytes) -> None:
    """Write config space in one access."""
    octets = "".join(f"\\{byte:03o}" for byte in data)
    machine.sh(f"printf '{octets}' | dd bs={len(data)} seek={where} oflag=seek_bytes conv=notrunc "
               f"of={DEVICES}/{machine.topology.bdf[id]}/config 2>/dev/null")


def peek(machine: Machine, id: str, where: int, size: int) -> int:
    """Read config space."""
    out = machine.sh(f"od -An -v -tu{size} -j {where} -N {size} "
                     f"{DEVICES}/{machine.topology.bdf[id]}/config").out
    return int(out)


def dropped(machine: Machine, id: str) -> int:
    return int(machine.sh(f"cat {DEVICES}/{machine.topology.bdf[id]}/liveupdate/guard_count").out)


def header(machine: Machine, id: str) -> str:
    return machine.sh(f"od -An -v -tx1 -N 64 {DEVICES}/{machine.topology.bdf[id]}/config").out


def reached(machine: Machine, id: str, since: int) -> list[witness.Access]:
    """The device's config writes but for the first `since`."""
    return witness.read(machine).writes(id, machine.boot)[since:]


def outgoing(vm: Lab, **options: str) -> Machine:
    machine = vm(topology.plain(), **options)
    receiver = Receiver(machine)
    receiver.start()
    receiver.preserve()
    return machine


def test_hostile_writes_to_a_bridge_are_dropped(vm: Lab) -> None:
    machine = outgoing(vm)
    before, since = header(machine, "rp0"), len(witness.read(machine).writes("rp0", 1))
    for count, (what, (where, size, clear, set_)) in enumerate(HOSTILE.items(), 1):
        value = peek(machine, "rp0", where, size) & ~clear | set_
        poke(machine, "rp0", where, value.to_bytes(size, "little"))
        assert header(machine, "rp0") == before, what
        assert dropped(machine, "rp0") == count, what
    assert reached(machine, "rp0", since) == []
    assert re.search(r"0000:00:04\.0: \d-byte write of \S+ to \S+ by \w+\+0x\S+ dropped",
                     machine.sh("dmesg").out)


def test_control_hostile_write_arrives_with_the_guard_off(vm: Lab) -> None:
    machine = outgoing(vm, cmdline=f"{LIVE_UPDATE} {OFF}")
    since = len(witness.read(machine).writes("rp0", 1))
    poke(machine, "rp0", 0x19, b"\x7f")
    assert [(w.offset, w.value) for w in reached(machine, "rp0", since)] == [(0x19, 0x7F)]
    assert dropped(machine, "rp0") == 0


def test_control_hostile_write_arrives_with_nothing_preserved(vm: Lab) -> None:
    machine = vm(topology.plain())
    since = len(witness.read(machine).writes("rp0", 1))
    poke(machine, "rp0", CONTROL, b"\x10\0")
    assert [(w.offset, w.value) for w in reached(machine, "rp0", since)] == [(CONTROL, 0x10)]


def test_unprotected_bits_of_a_write_go_through(vm: Lab) -> None:
    machine = outgoing(vm)
    since = len(witness.read(machine).writes("rp0", 1))
    was = peek(machine, "rp0", CONTROL, 2)
    poke(machine, "rp0", CONTROL, (was ^ 0x0042).to_bytes(2, "little"))    # SERR and a reset
    assert [(w.offset, w.value) for w in reached(machine, "rp0", since)] == [(CONTROL, was ^ 2)]
    assert dropped(machine, "rp0") == 1


def test_unclaimed_device_takes_no_write(vm: Lab) -> None:
    machine = outgoing(vm)
    machine.kexec()
    count, since = dropped(machine, "nic0"), len(witness.read(machine).writes("nic0", 2))
    before = header(machine, "nic0")
    poke(machine, "nic0", COMMAND, b"\0\0")
    poke(machine, "nic0", 0x10, b"\xff" * 4)
    assert header(machine, "nic0") == before
    assert dropped(machine, "nic0") == count + 2
    assert reached(machine, "nic0", since) == []


@pytest.mark.parametrize("tree", ["root-port", "switch"])
def test_nothing_trips_over_the_guard(vm: Lab, tree: str) -> None:
    machine = vm({"root-port": topology.plain, "switch": topology.demo}[tree]())
    receiver = Receiver(machine)
    receiver.start()
    receiver.preserve()
    counted = ["nic0", *machine.topology.above("nic0")]
    assert [dropped(machine, id) for id in counted] == [0] * len(counted)
    machine.kexec()
    receiver.resume()
    assert [dropped(machine, id) for id in counted] == [0] * len(counted)
    receiver.ctl("finish")
    assert [dropped(machine, id) for id in counted] == [0] * len(counted)


@pytest.mark.parametrize("adoption", ADOPTIONS)
def test_guard_holds_where_adoption_fails(vm: Lab, adoption: str) -> None:
    """The negative control of the counter, and of the seat belt itself."""
    machine = outgoing(vm)
    machine.kexec(extra=f"pci_liveupdate.break={1 << (8 + ADOPTIONS[adoption]):#x}")
    writes = witness.read(machine).writes("nic0", 2)
    assert writes == []
    assert not witness.read(machine).moved("nic0", 2)
    assert sum(dropped(machine, id) for id in ("nic0", "rp0")) > 0
    assert "by" in machine.sh("dmesg | grep 'byte write'").out


def test_nothing_is_guarded_after_finish(vm: Lab) -> None:
    machine = vm(topology.plain())
    receiver = Receiver(machine)
    receiver.start()
    receiver.preserve()
    machine.kexec()
    receiver.resume()
    receiver.ctl("finish")
    since = len(witness.read(machine).writes("rp0", 2))
    poke(machine, "rp0", CONTROL, b"\x10\0")
    assert [(w.offset, w.value) for w in reached(machine, "rp0", since)] == [(CONTROL, 0x10)]


def test_unretrieved_device_is_stopped_all_the_same(vm: Lab) -> None:
    machine = vm(topology.plain())
    receiver = Receiver(machine)
    receiver.start()
    receiver.preserve()
    machine.kexec()
    receiver.bind()
    count = dropped(machine, "nic0")
    assert witness.read(machine).cleared_master("nic0", 2) == []
    receiver.resume("--retrieve none", bind=False)
    receiver.ctl("finish")
    assert dropped(machine, "nic0") == count
    assert witness.read(machine).cleared_master("nic0", 2)


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


@pytest.mark.skipif(not shutil.which("objdump"), reason="no objdump (binutils)")
@pytest.mark.parametrize("function", WRITES)
def test_guard_is_one_no_op_while_nothing_is_preserved(function: str) -> None:
    for variant in ("release", "stock", "off"):
        if not (paths.kernel_dir("x86_64", variant) / "drivers/pci/access.o").exists():
            pytest.skip(f"no x86_64 {variant} kernel")
    stock = code("stock", function)
    assert code("off", function) == stock
    guarded = code("release", function)
    # Control: the release kernel has the no-op, two or five bytes that become a jump.
    noops = [line for line in guarded if re.match(r"nop|xchg +%ax,%ax", line)]
    assert len(noops) == 1
    assert sorted(line for line in guarded if line not in noops) == sorted(stock)
