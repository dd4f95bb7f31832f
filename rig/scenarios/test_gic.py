# SPDX-License-Identifier: GPL-2.0
"""The interrupt controller of arm64 lets go of memory before it is given away, or keeps it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from conftest import FULL
from rig import console, gic
from rig.agent import Agent
from rig.lab import Lab
from rig.machine import LIVE_UPDATE, Machine
from rig.outside import Reachable
from rig.topology import Topology, edu, root_port

GIVEN_AWAY = "pci_liveupdate.break=0x8000000"
CORRUPTED = "Booted with LPIs enabled, memory probably corrupted"
COMMAND, MASTER, MEMORY = 0x4, 0x4, 0x2
RAISE, ACKNOWLEDGE = 0x60, 0x64     # of edu (QEMU's docs/specs/edu.txt)
ECAM = 0x4010000000                 # of QEMU's virt machine
ENABLED, GROUP1 = 0x1, 0x2          # bits of an interrupt's properties; above is its priority


def start(vm: Lab, smp: int, more: str = "", firmware: str = "",
          variant: str = "release") -> Agent:
    """One device to preserve, and one that goes on talking although it was told to stop."""
    # What is given away is zeroed. Nothing else is in the way of the kernel's first allocations.
    machine = vm(Topology(root_port("rp0", edu("kept")), root_port("rp1", edu("loud"))),
                 kind=Reachable, arch="arm64", smp=smp, trace=gic.TRACE, firmware=firmware,
                 variant=variant, cmdline=f"{LIVE_UPDATE} init_on_free=1 {more}")
    agent = Agent(machine).start().take("kept", "loud")
    agent.set_command("kept", MASTER)
    agent.set_command("loud", MASTER | MEMORY)
    agent.do("arm kept msi 1", "arm loud msi 1")
    for id in ("kept", "loud"):
        assert heard(agent, id)
    return agent


def heard(agent: Agent, id: str) -> bool:
    """Does an interrupt of the device arrive, once?"""
    agent.write(id, RAISE, 1)
    count = 0
    for _ in range(30):
        count += agent.do(f"counts {id} msi")["counts"][0]
        if count:
            break
        time.sleep(0.1)
    agent.write(id, ACKNOWLEDGE, 1)
    return count == 1


def jump_with_a_loud_device(agent: Agent) -> tuple[float, float]:
    """Jump; until the next kernel is up, the loud device sends MSIs without a pause.

    Returns when the old kernel had said its last word and when the new one looked at the ITS.
    """
    machine = agent.machine
    bdf = machine.topology.bdf["loud"]
    bus, slot = int(bdf[5:7], 16), int(bdf[8:10], 16)
    bar = machine.sh(f"head -n 1 /sys/bus/pci/devices/{bdf}/resource")
    raise_ = int(bar.out.split()[0], 0) + RAISE
    log = machine.folder / "console.log"
    assert machine.load().rc == 0
    machine.leave()
    deadline = time.monotonic() + machine.timeout
    while log.read_bytes().count(b"] Bye!") < machine.boot:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    gone = time.time()
    machine.write(ECAM + (bus << 20 | slot << 15) + COMMAND, MASTER | MEMORY)
    # The first words of the next kernel come when its GIC is set up, and before it looks for PCI.
    while log.read_bytes().count(b"] Linux version ") <= machine.boot:
        assert time.monotonic() < deadline
        machine.write(raise_, 1)
    machine.wait_boot(machine.boot + 1)
    return gone, gic.probed(gic.events(machine), gone)


def tables(log: list[gic.Event], smp: int) -> list[int]:
    """Where the hardware has its tables: properties, and what is pending of each CPU."""
    properties = {gic.register(log, cpu, gic.PROPBASER) for cpu in range(smp)}
    assert len(properties) == 1
    found = [*properties, *(gic.register(log, cpu, gic.PENDBASER) for cpu in range(smp))]
    assert None not in found
    return [value & ((1 << 52) - (1 << 12)) for value in found if value is not None]


def has_properties(machine: Machine, address: int) -> bool:
    """Is that memory what Linux tells the GIC about each interrupt, all of it?"""
    values = {byte & ~ENABLED for byte in gic.memory(machine, address, gic.TABLE)}
    return len(values) == 1 and bool(values.pop() & GROUP1)


def assert_let_go(machine: Machine, gone: float, probed: float, where: list[int]) -> None:
    """Nothing has used memory that was given away, and what the hardware keeps was handed over."""
    log = gic.events(machine)
    # The device did send, and the ITS did not look at its tables, which are in free memory.
    gap = [e.kind for e in log if gone < e.time < probed and e.kind.startswith("its_")]
    assert len(gap) > 3
    assert set(gap) == {"its_translation_write"}
    # The next kernel has the tables as they were, and tells the redistributors nothing.
    assert not [e for e in log if e.time > gone and e.kind == "redist_write"
                and e.offset in (gic.CTLR, gic.PROPBASER, gic.PENDBASER)]
    assert has_properties(machine, where[0])
    for address in where[1:]:
        assert not any(gic.memory(machine, address, gic.TABLE))
    text = (machine.folder / "console.log").read_text(errors="replace")
    assert CORRUPTED not in text
    assert text.count("using reserved LPI pending table") == len(where[1:]) * (machine.boot - 1)


@pytest.mark.parametrize("smp,firmware,variant", [
    (1, "", "release"), (2, "", "release"), (2, "uefi", "release"),
    *[(2, firmware, "debug") for firmware in ("", "uefi") if FULL]],
    ids=lambda value: str(value or "dt"))
def test_gic_is_stopped_before_its_memory_is_given_away(vm: Lab, smp: int, firmware: str,
                                                        variant: str) -> None:
    """With a Device Tree, and with ACPI and UEFI, which hands on what is reserved by itself."""
    agent = start(vm, smp, firmware=firmware, variant=variant)
    machine = agent.machine
    where = tables(gic.events(machine), smp)
    assert len(set(where)) == smp + 1 and has_properties(machine, where[0])
    # Twice: the second kernel hands on what it has not allocated.
    for _ in range(2):
        agent.preserve("kept")
        assert_let_go(machine, *jump_with_a_loud_device(agent), where)
        # Interrupts arrive, on each CPU.
        agent.take_back("kept")
        agent.take("loud")
        agent.set_command("loud", MASTER | MEMORY)
        # Without a mask MSI was off in the gap: what it may have missed is signalled once.
        agent.do("arm kept msi 1", "arm loud msi 1", "counts kept msi")
        for cpu in range(smp):
            machine.sh("for i in $(grep vfio /proc/interrupts | cut -d: -f1); do "
                       f"echo {cpu} >/proc/irq/$i/smp_affinity_list; done")
            assert heard(agent, "kept") and heard(agent, "loud")


@pytest.mark.parametrize("kept", ["memory", "nothing"])
def test_gic_is_stopped_where_no_device_is_preserved(vm: Lab, kept: str) -> None:
    """Memory that is handed over is in no less danger, nor is that of a kernel that gets none."""
    agent = start(vm, 2)
    where = tables(gic.events(agent.machine), 2)
    if kept == "memory":
        agent.do("memory m 2", "fill m 0 64 1", "session s vm0", "preserve s 1 m")
    assert_let_go(agent.machine, *jump_with_a_loud_device(agent), where)
    if kept == "memory":
        agent.start().do("retrieve-session s vm0", "retrieve s 1 memory m", "finish s", "close s")


def test_control_gic_that_is_not_stopped_uses_memory_of_the_next_kernel(vm: Lab) -> None:
    vm.expect_splat(console.GIVEN_AWAY.pattern)
    agent = start(vm, 1, GIVEN_AWAY)
    machine = agent.machine
    where = tables(gic.events(machine), 1)
    assert has_properties(machine, where[0])
    agent.preserve("kept")
    gone, probed = jump_with_a_loud_device(agent)
    log = gic.events(machine)
    gap = [e.kind for e in log if gone < e.time < probed]
    assert gap.count("its_ite_read") > 3
    assert [e for e in log if e.time > gone and e.kind == "redist_write"
            and e.offset == gic.PROPBASER]
    # By chance the next kernel's table may be in the same place.
    assert tables(log, 1) == where or not has_properties(machine, where[0])
    assert CORRUPTED in (machine.folder / "console.log").read_text(errors="replace")


def test_gic_that_is_not_stopped_is_noticed_where_a_device_was_preserved(tmp_path: Path) -> None:
    """The message is stock Linux's where none was. No machine."""
    log = tmp_path / "console.log"
    preserved = "<6>[    3.0] vfio-pci 0000:01:00.0: Live Update: preserved; DMA will go on\n"
    given_up = "<6>[    3.1] vfio-pci 0000:01:00.0: Live Update: no longer preserved\n"
    kernel = "<5>[    0.0] Linux version 7.3.4\n"
    said = f"<4>[    0.0] GICv3: CPU0: {CORRUPTED}\n"
    for before, wrong in (("", 0), (preserved, 1), (preserved + given_up, 0),
                          (preserved + kernel, 0)):
        log.write_text(kernel + before + kernel + said)
        assert len(console.read(log).wrong) == wrong, before
