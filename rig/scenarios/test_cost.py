# SPDX-License-Identifier: GPL-2.0
"""A small `make bench`: what can be counted with a few functions meets its targets.

The targets that need hundreds of functions, those of instructions, are checked by `make bench`.
That careless code would miss the one of enumeration is shown in a full run.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import FULL

from rig import bench, cost
from rig.cost import Outcome
from rig.lab import Lab

# Enough ports for what is asked of one of them only to weigh little on the mean.
FEW = 64

# The incoming kernel probes BARs and windows as if nothing were preserved, with no guard in the
# way, and reads every register one more time.
CARELESS = "pci_liveupdate.break=0x380 pci=earlydump"


def missed(ours: Outcome, stock: Outcome) -> set[str]:
    """The names of the targets that are not met."""
    return {what for what, target, value in bench.access_targets(ours, stock) if value > target}


def test_small_bench_meets_its_targets(vm: Lab) -> None:
    few = {kind: cost.measure(vm, cost.many(FEW), kind, FEW) for kind in ("preserved", "stock")}
    assert few["stock"].accesses["pvpanic-pci"].mean("writes") > 0
    assert few["preserved"].enumeration and set(few["preserved"].steps) > set(bench.STEPS)
    assert missed(few["preserved"], few["stock"]) == set()

    assorted = {kind: cost.measure(vm, cost.mixed(), kind, cost.MIXED)
                for kind in ("preserved", "stock")}
    assert missed(assorted["preserved"], assorted["stock"]) == set()
    ours, stocks = (assorted[kind].accesses["e1000e" + cost.BESIDE] for kind in assorted)
    assert ours.mean("writes") == stocks.mean("writes") > 0
    assert cost.handed_over()["pci record"] <= bench.RECORD_MAX


def test_memory_in_pieces_costs_each_the_same_with_its_control(vm: Lab) -> None:
    pieces = bench.PAGES // 4
    one, many = (cost.measure_pages(vm, "release", n) for n in (1, pieces))
    assert many - one <= bench.PAGES_MAX * pieces / bench.PAGES
    # The stock kernel looks for each of them among those before.
    assert cost.measure_pages(vm, "stock", pieces) - one > bench.PAGES_MAX


def test_control_small_bench_misses_its_targets_when_nothing_is_adopted(vm: Lab) -> None:
    stock = cost.measure(vm, cost.many(FEW), "stock", FEW)
    careless = cost.measure(vm, cost.many(FEW), "preserved", FEW, extra=CARELESS)
    assert missed(careless, stock) == {
        "writes to a preserved pvpanic-pci", "fabric writes to a pcie-root-port",
        "config reads of a pvpanic-pci", "config reads of a pcie-root-port"}


@pytest.mark.skipif(not FULL, reason="three machines with 512 functions: make test-full")
def test_enumeration_of_512_functions_with_its_control(vm: Lab) -> None:
    stock = cost.measure(vm, cost.many(512), "stock", 512)
    ours = cost.measure(vm, cost.many(512), "preserved", 512)
    careless = cost.measure(vm, cost.many(512), "preserved", 512, extra=CARELESS)
    assert ours.enumeration <= stock.enumeration < careless.enumeration


def test_control_larger_record_is_seen(tmp_path: Path) -> None:
    for header in ("pci.h", "vfio_pci.h"):
        text = (cost.ABI / header).read_text()
        (tmp_path / header).write_text(text.replace("record_ser) == 232", "record_ser) == 264"))
    assert cost.handed_over(tmp_path)["pci record"] > bench.RECORD_MAX


def test_control_cost_that_grows_with_the_square_is_not_linear() -> None:
    assert bench.linear({n: 1000 * n for n in (1, 64, 256, 512)}) == 1
    ratio = bench.linear({n: 1000 * n + 40 * n * n for n in (1, 64, 256, 512)})
    assert ratio is not None and ratio > bench.LINEAR_MAX
