# SPDX-License-Identifier: GPL-2.0
"""`make bench`: what preserving costs beside the stock kernel, and whether the targets are met."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

from . import cost, initrd, paths, qemu
from .cost import KINDS, LABEL, Outcome
from .machine import Machine
from .topology import Topology

FOLDER = paths.BUILD / "bench"
STEPS = ("preserve", "unpreserve", "retrieve", "finish")
RECORD_MAX = 256        # bytes
LINEAR_MAX = 1.5
Runs = dict[int, dict[str, Outcome]]


def slope(points: dict[int, int]) -> float:
    """Per function, between the smallest and the largest size."""
    low, high = min(points), max(points)
    return (points[high] - points[low]) / (high - low) if low != high else 0


def linear(points: dict[int, int]) -> float | None:
    """Cost of one more function among many, by that among few: 1 is linear."""
    sizes = sorted(points)
    if len(sizes) < 3:
        return None
    first = slope({n: points[n] for n in sizes[:2]})
    last = slope({n: points[n] for n in sizes[-2:]})
    return round(last / first, 2)


def access_targets(ours: Outcome, stock: Outcome) -> list[tuple[str, float, float]]:
    """What was promised of config accesses in one machine: (what, at most, is)."""
    found: list[tuple[str, float, float]] = []
    for name, mine in ours.accesses.items():
        if name.endswith(cost.BESIDE):
            continue
        if name in cost.IDS:
            found.append((f"writes to a preserved {name}", 0, mine.mean("writes")))
        else:
            found.append((f"fabric writes to a {name}", 0, mine.mean("fabric writes")))
        found.append((f"config reads of a {name}", stock.accesses[name].mean("reads"),
                      mine.mean("reads")))
    if ours.guard is not None:
        found.append(("writes dropped by the guard", 0, ours.guard))
    return found


def targets(runs: Runs, mixed: dict[str, Outcome], size: dict[str, int]) -> list[dict[str, Any]]:
    """What was promised, and what came out."""
    most = runs[max(runs)]
    found = [(f"{max(runs)} functions: {what}", target, value) for what, target, value
             in access_targets(most["preserved"], most["stock"])]
    found += [(f"assorted: {what}", target, value) for what, target, value
              in access_targets(mixed["preserved"], mixed["stock"])]
    found.append((f"{max(runs)} functions: enumeration instructions", most["stock"].enumeration,
                  most["preserved"].enumeration))
    found.append(("bytes a function in the PCI records", RECORD_MAX, size["pci record"]))
    for step in STEPS:
        ratio = linear({m: runs[m]["preserved"].steps[step] for m in runs})
        if ratio is not None:
            found.append((f"{step}: cost of one more, many against few", LINEAR_MAX, ratio))
    return [{"what": what, "target": target, "value": value, "met": value <= target}
            for what, target, value in found]


def table(head: list[str], rows: list[list[Any]]) -> str:
    cells = [head] + [[f"{c:,}" if isinstance(c, (int, float)) else str(c) for c in row]
                      for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in
                               enumerate(zip(row, widths))).rstrip() for row in cells)


def access_rows(label: str, kinds: dict[str, Outcome]) -> list[list[Any]]:
    """One row for each kind of function, the kernels beside each other."""
    rows = []
    for name, first in kinds["preserved"].accesses.items():
        row: list[Any] = [f"{label}: {name}"]
        for outcome in kinds.values():
            row += [outcome.accesses[name].mean(what) for what in ("reads", "writes")]
        rows.append([*row, first.mean("fabric writes"), first.mean("look-ups"),
                     first.least_reads])
    return rows


def show(report: dict[str, Any], runs: Runs, mixed: dict[str, Outcome]) -> None:
    """The tables."""
    heads = [part for kind in KINDS for part in (f"{LABEL[kind]}: reads", "writes")]
    rows = [row for n, kinds in runs.items() for row in access_rows(f"{n:4} functions", kinds)]
    print("\n" + table(["incoming boot, config accesses a function", *heads, "fabric writes",
                        "look-ups", "least reads"], rows + access_rows("assorted", mixed)))
    print("Fabric writes, and reads that look up capabilities, are those with all preserved.\n"
          "Least reads: any enumeration reads the header and each capability's head once.")
    print("\n" + table(["incoming boot, thousands of instructions", "entry to init",
                        "enumeration"],
                       [[f"{n:4} functions, {LABEL[kind]}", o.boot // 1000,
                         o.enumeration // 1000] for n, kinds in runs.items()
                        for kind, o in kinds.items()]
                       + [[f"per function, {LABEL[kind]}", round(s["boot"] / 1000, 1),
                           round(s["enumeration"] / 1000, 1)]
                          for kind, s in report["slope"].items()]))
    print("\n" + table(["thousands of instructions a function", *STEPS],
                       [[f"{n:4} functions", *(f"{k['preserved'].steps[s] / n / 1000:,.1f}"
                                               for s in STEPS)] for n, k in runs.items()]))
    print("\n" + table(["bytes handed over", ""], [list(kv) for kv in report["bytes"].items()]))
    print("\n" + table(["target", "at most", "is", ""],
                       [[t["what"], t["target"], t["value"], "met" if t["met"] else "NOT MET"]
                        for t in report["targets"]]), flush=True)


def measure(start: Callable[..., Machine], sizes: list[int],
            jobs: int) -> tuple[Runs, dict[str, Outcome]]:
    """Every size with every kind of kernel, and the assortment; the largest first."""
    wanted = [(n, kind) for n in (*reversed(sizes), 0) for kind in KINDS]

    def one(n: int, kind: str) -> Outcome:
        topology, preserved = (cost.many(n), n) if n else (cost.mixed(), cost.MIXED)
        outcome = cost.measure(start, topology, kind, preserved)
        print(f"bench: {n or 'assorted'} functions, {LABEL[kind]}: "
              f"{outcome.enumeration // 1000:,} thousand instructions of enumeration", flush=True)
        return outcome

    with ThreadPoolExecutor(jobs) as pool:
        done = dict(zip(wanted, pool.map(lambda each: one(*each), wanted)))
    return ({n: {kind: done[n, kind] for kind in KINDS} for n in sizes},
            {kind: done[0, kind] for kind in KINDS})


def summary(runs: Runs, mixed: dict[str, Outcome]) -> dict[str, Any]:
    """All of it, for report.json."""
    size = cost.handed_over()
    return {
        "qemu": qemu.version("x86_64"), "sizes": sorted(runs), "bytes": size,
        "runs": {n: {kind: o.json() for kind, o in kinds.items()} for n, kinds in runs.items()},
        "assorted": {kind: o.json() for kind, o in mixed.items()},
        "slope": {kind: {"boot": slope({n: runs[n][kind].boot for n in runs}),
                         "enumeration": slope({n: runs[n][kind].enumeration for n in runs})}
                  for kind in KINDS},
        "targets": targets(runs, mixed, size),
    }


def main() -> int:
    sizes = sorted({int(n) for n in (os.environ.get("SIZES") or "1 64 256 512").split()})
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    number = itertools.count(1)
    for variant in ("release", "stock"):
        initrd.build("x86_64", variant)     # not by two machines at once

    def start(topology: Topology, **options: Any) -> Machine:
        return Machine(FOLDER / str(next(number)), topology, **options).start()

    runs, mixed = measure(start, sizes, int(os.environ.get("JOBS") or 2))
    report = summary(runs, mixed)
    (FOLDER / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    show(report, runs, mixed)
    missed = [t["what"] for t in report["targets"] if not t["met"]]
    print("\nbench: build/bench/report.json;",
          f"{len(missed)} targets are not met" if missed else "all targets are met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
