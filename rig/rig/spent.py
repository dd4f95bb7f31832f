# SPDX-License-Identifier: GPL-2.0
"""What a test run cost, in CPU time: a pytest plugin that counts, keeps and prints it.

A scenario's time is that of its worker and of all children that ended in it, QEMU's above all. The
parts before the scenarios are measured by scripts/spent.
"""

from __future__ import annotations

import json
import os
import resource
import time
from typing import Any, Iterator

import pytest

from . import paths

PARTS = paths.BUILD / "spent"
REPORT = paths.EVIDENCE / "cost.json"
DEAREST = 20

Cost = tuple[float, float]      # seconds of CPU and of the clock
_began = pytest.StashKey[Cost]()
_scenarios: dict[str, Cost] = {}
_start = time.monotonic()


def now() -> Cost:
    """What this process and its children have used so far, and the clock."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used), time.monotonic()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    item.stash[_began] = now()
    yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """The last report of a scenario takes the numbers along, from a worker to the controller."""
    if call.when == "teardown":
        cpu, clock = (b - a for a, b in zip(item.stash[_began], now()))
        item.user_properties.append(("spent", (round(cpu, 2), round(clock, 2))))
    yield


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    spent = dict(report.user_properties).get("spent")
    if report.when == "teardown" and spent:
        cpu, clock = spent      # type: ignore[misc]
        _scenarios[report.nodeid.removeprefix("scenarios/")] = (cpu, clock)


def parts() -> dict[str, Cost]:
    """What scripts/spent has noted in this run; the next begins anew."""
    noted: dict[str, Cost] = {}
    for line in PARTS.read_text().splitlines() if PARTS.exists() else []:
        cpu, clock, name = line.split("\t")
        noted[name] = (float(cpu), float(clock))
    PARTS.unlink(missing_ok=True)
    return noted


def table(rows: dict[str, Cost]) -> Iterator[str]:
    for name, (cpu, clock) in rows.items():
        yield f"{cpu / 60:7.1f} {clock / 60:7.1f}  {name}"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table, and build/test/cost.json."""
    if not _scenarios or hasattr(terminalreporter.config, "workerinput"):
        return      # xdist's workers come here, too
    subjects: dict[str, Cost] = {}
    for name, cost in _scenarios.items():
        file = name.split("::")[0]
        before = subjects.get(file, (0.0, 0.0))
        subjects[file] = (before[0] + cost[0], before[1] + cost[1])
    dearest = dict(sorted(_scenarios.items(), key=lambda item: -item[1][0]))
    every = (sum(cost[0] for cost in _scenarios.values()), time.monotonic() - _start)
    build = parts()
    whole = {**build, f"{len(_scenarios)} scenarios": every}
    total = (sum(cost[0] for cost in whole.values()), sum(cost[1] for cost in whole.values()))
    subjects = dict(sorted(subjects.items(), key=lambda item: -item[1][0]))
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps({
        "unit": "seconds of CPU, seconds of the clock", "cores": os.cpu_count(), "total": total,
        "parts": whole, "subjects": subjects, "scenarios": dearest}, indent=1) + "\n")
    say = terminalreporter.write_line
    terminalreporter.section("cost in minutes: CPU, clock")
    for line in table({**whole, "in all": total}):
        say(line)
    if len(_scenarios) > DEAREST:
        say(f"the {DEAREST} dearest scenarios, in seconds:")
        for name, (cpu, clock) in list(dearest.items())[:DEAREST]:
            say(f"{cpu:7.1f} {clock:7.1f}  {name}")
    say(f"more of it in {os.path.relpath(REPORT, paths.TREE)}")
