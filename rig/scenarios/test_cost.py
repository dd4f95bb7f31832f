# SPDX-License-Identifier: GPL-2.0
"""A small `make bench`: what can be counted with a few functions meets its targets.

The targets that need hundreds of functions, those of instructions, are checked by `make bench`.
That careless code would miss the one of enumeration is shown in a full run.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import FULL

from rig import bench, config, cost, sriov, witness
from rig.cost import Functions, Outcome
from rig.lab import Lab
from rig.machine import Machine
from rig.topology import Topology, root_port

# Enough ports for what is asked of one of them only to weigh little on the mean.
FEW = 64
# Of the same kernel without the feature. 1.012 of the enumeration is true, most of it for files in
# sysfs. Beside it, in some boots one port of these takes 150,000 to 290,000 instructions more, in
# any kernel, without an interrupt or a switch meanwhile.
UNUSED_MAX = {"enumeration": 1.03, "boot": 1.012}

# What the way out tells.
TOLD = pytest.mark.console("(notifier_run|workqueue_queue_work|pci_liveupdate_drain): ")

# The incoming kernel probes BARs and windows as if nothing were preserved, with no guard in the
# way, and reads every register one more time.
CARELESS = "pci_liveupdate.break=0x380 pci=earlydump"


def missed(ours: Outcome, stock: Outcome) -> set[str]:
    """The names of the targets that are not met."""
    return {what for what, target, value in bench.access_targets(ours, stock) if value > target}


@TOLD
def test_small_bench_meets_its_targets(vm: Lab) -> None:
    few = {kind: cost.measure(vm, cost.many(FEW), kind, FEW) for kind in ("preserved", "stock")}
    assert few["stock"].accesses["pvpanic-pci"].mean("writes") > 0
    assert few["preserved"].enumeration and set(few["preserved"].steps) > set(bench.STEPS)
    assert missed(few["preserved"], few["stock"]) == set()

    assorted = {kind: cost.measure(vm, cost.mixed(), kind, cost.MIXED)
                for kind in ("preserved", "stock")}
    assert missed(assorted["preserved"], assorted["stock"]) == set()
    # Three of them may have sent a message: the CPU was asked once.
    assert [assorted[kind].works for kind in assorted] == [1, 0]
    assert all(0 < o.shutdown < o.outgoing for o in assorted.values())
    # Each step is told by itself. A freeze that is called off masks INTx where there is a pin, and
    # unmasks it again; what is bound after stock's boot is woken.
    plain, pins = few["preserved"].config, assorted["preserved"].config
    assert (plain["freeze"].writes, pins["freeze"].writes) == (0, 2 * cost.MIXED)
    # It is what a freeze is that is not called off, but for the thaw; stock has none, which is seen
    # only where the console says without delay when it ends.
    assert plain["freezing"] == plain["freeze"] and pins["freezing"].writes == cost.MIXED
    assert all(kinds["stock"].config["freezing"] == (0, 0) for kinds in (few, assorted))
    assert plain["preserve"].reads > 0 and {plain[step] for step in ("retrieve", "finish")} == {
        cost.Cost(0, 0)}
    assert plain["arm"] == (0, 0) != pins["arm"]
    assert plain["bind"] == (0, 0) and few["stock"].config["bind"].reads > FEW
    for kinds in (few, assorted):
        for phase in ("way out", "shutdown", "boot", "bind"):
            ours, stocks = (kinds[kind].config[phase] for kind in ("preserved", "stock"))
            assert ours.reads <= stocks.reads and ours.writes <= stocks.writes, phase
    beside, stocks_beside = (assorted[kind].accesses["e1000e" + cost.BESIDE] for kind in assorted)
    assert beside.mean("writes") == stocks_beside.mean("writes") > 0
    assert cost.handed_over()["pci record"] <= bench.RECORD_MAX


@TOLD
def test_feature_that_nobody_uses_costs_nothing_with_its_control(vm: Lab) -> None:
    off, unused, stock = (cost.measure(vm, cost.many(FEW), kind, FEW)
                          for kind in ("off", "unused", "stock"))
    assert unused.config == off.config != stock.config
    for phase, most in UNUSED_MAX.items():
        ours, without, stocks = (getattr(o, phase) for o in (unused, off, stock))
        assert 0 < ours <= without * most < stocks, phase


def test_memory_in_pieces_costs_each_the_same_with_its_control(vm: Lab) -> None:
    pieces = bench.PAGES // 4
    one, many = (cost.measure_pages(vm, "release", n) for n in (1, pieces))
    assert many - one <= bench.PAGES_MAX * pieces / bench.PAGES
    # The stock kernel looks for each of them among those before.
    assert cost.measure_pages(vm, "stock", pieces) - one > bench.PAGES_MAX


@TOLD
def test_control_small_bench_misses_its_targets_when_nothing_is_adopted(vm: Lab) -> None:
    stock = cost.measure(vm, cost.many(FEW), "stock", FEW)
    careless = cost.measure(vm, cost.many(FEW), "preserved", FEW, extra=CARELESS)
    assert missed(careless, stock) == {
        "writes to a preserved pvpanic-pci", "fabric writes to a pcie-root-port",
        "config reads of a pvpanic-pci", "config reads of a pcie-root-port"}


PF, VFS = "nvme0", 16
# Of a Virtual Function, what its Physical Function tells, or the specification (PCIe r6.0, sec
# 9.3.4.1): BARs; Link Capabilities and Link Capabilities 2 in the PCI Express capability. What is
# only read as its state is saved: Command, Subsystem ID, Device Control 2.
KNOWN, EXPRESS_KNOWN = set(range(0x10, 0x28, 4)), {0x0C, 0x2C}
SAVED, EXPRESS_SAVED = {0x04, 0x2C}, {0x28}


def with_vfs_preserved(vm: Lab, extra: str = "") -> tuple[Machine, list[str]]:
    """A machine in its second kernel, with all Virtual Functions incoming."""
    machine = vm(Topology(root_port("rp0", sriov.controller(PF, VFS))))
    vfs = sriov.enable(machine, PF, VFS)
    machine.sh("echo 1b36 0010 >/sys/bus/pci/drivers/vfio-pci/new_id")
    machine.sh(f"lu_bulk preserve {VFS}")
    machine.kexec(extra=extra)
    # At function 0 of a slot every boot of x86 looks early for what needs a quirk.
    return machine, [vf for vf in vfs if not machine.topology.bdf[vf].endswith(".0")]


@pytest.mark.console("Hardware bug: VF reports bogus INTx pin 1", sriov.LEFT_ON)    # QEMU's, in 7.2
def test_virtual_functions_are_not_asked_what_is_known_with_its_control(vm: Lab) -> None:
    machine, vfs = with_vfs_preserved(vm)
    at = config.read(machine, machine.topology.bdf[vfs[0]]).capability(config.EXPRESS)
    assert at
    known = KNOWN | {at + n for n in EXPRESS_KNOWN}
    saved = SAVED | {at + n for n in EXPRESS_SAVED}
    trace = witness.read(machine)
    reads = {vf: trace.registers(vf, 2) for vf in vfs[1:]}      # that look at one is a read, too
    assert {vf: known & set(found) for vf, found in reads.items()} == {vf: set() for vf in reads}
    assert {found[n] for found in reads.values() for n in saved} == {1}, reads
    # Nor is a register of one read more often than of another.
    assert len({tuple(sorted(found.items())) for found in reads.values()}) == 1, reads
    most = max(found.total() for found in reads.values())
    assert most <= bench.VF_READS_MAX, reads
    # Control: each enabling asks, and one that reads every register once more is seen.
    assert all(set(trace.registers(vf, 1)) & known for vf in vfs)
    machine, vfs = with_vfs_preserved(vm, "pci=earlydump")
    trace = witness.read(machine)
    assert min(trace.reads(vf, 2) for vf in vfs) > bench.VF_READS_MAX


@TOLD
@pytest.mark.skipif(not FULL, reason="three machines with 512 functions: make test-full")
def test_enumeration_of_512_functions_with_its_control(vm: Lab) -> None:
    stock = cost.measure(vm, cost.many(512), "stock", 512)
    ours = cost.measure(vm, cost.many(512), "preserved", 512)
    careless = cost.measure(vm, cost.many(512), "preserved", 512, extra=CARELESS)
    assert ours.enumeration <= stock.enumeration < careless.enumeration


def test_control_freeze_that_asks_a_cpu_for_each_device_is_seen() -> None:
    drains = "[ 1.2] pci_liveupdate_drain: cpus=1\n"
    typed = "[ 1.2] workqueue_queue_work: work struct=(0) function=flush_to_ldisc workqueue=t\n"
    queued = "[ 1.2] workqueue_queue_work: work struct=(0) function=settle workqueue=events\n"
    assert (cost.works(typed), cost.works(drains), cost.works(drains + queued)) == (0, 1, 2)
    works = "works of the freeze, one a CPU"
    assert missed(Outcome(works=1), Outcome()) == set()
    assert missed(Outcome(works=2), Outcome()) == {works}


def test_control_virtual_functions_that_are_enabled_anew_are_seen() -> None:
    stock = Functions(reads=102, writes=2, owner_writes=54, sleeps=3, enabling=106_000_000)
    assert all(value > target for _, target, value in bench.function_targets(stock, stock))
    ours = Functions(reads=28, writes=0, owner_writes=0, sleeps=0, enabling=0)
    assert all(value <= target for _, target, value in bench.function_targets(ours, stock))


def test_control_larger_record_is_seen(tmp_path: Path) -> None:
    for header in ("pci.h", "vfio_pci.h"):
        text = (cost.ABI / header).read_text()
        (tmp_path / header).write_text(text.replace("record_ser) == 232", "record_ser) == 264"))
    assert cost.handed_over(tmp_path)["pci record"] > bench.RECORD_MAX


def test_control_cost_that_grows_with_the_square_is_not_linear() -> None:
    assert bench.linear({n: 1000 * n for n in (1, 64, 256, 512)}) == 1
    ratio = bench.linear({n: 1000 * n + 40 * n * n for n in (1, 64, 256, 512)})
    assert ratio is not None and ratio > bench.LINEAR_MAX
