# SPDX-License-Identifier: GPL-2.0
"""Fixtures of the scenarios: machines with evidence folders, kernels by variant, samples."""

from __future__ import annotations

import json
import os
import random
import re
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from rig import console, paths
from rig.fdstore import Store
from rig.lab import Lab
from rig.machine import probe_accel

pytest_plugins = ["rig.spent", "rig.spread"]

BEGAN = time.time()
FULL = os.environ.get("FULL", "") not in ("", "0")
# Of the scenarios on the debug kernel this many are in a default run: they take four times as long,
# and the whole must stay below 40 minutes. Of those marked as rare, there are so many.
DEBUG_SAMPLE = 8
RARE_SAMPLE = 1
DEAR = re.compile("debug|debian|fabric|all_devices|vfio_many|failures|fuzz|systemd|daemon_kill|"
                  "ansible_containers")

# For scenarios of every architecture; a default run builds no debug kernel of arm64.
KERNELS = [("x86_64", "release"), ("x86_64", "debug"), ("arm64", "release")]
KERNELS += [("arm64", "debug")] * FULL


def pytest_configure(config: pytest.Config) -> None:
    # xdist's workers are started with this environment and so draw the same samples.
    os.environ.setdefault("PCILU_SEED", str(time.time_ns() // 1000 % 1_000_000))


def pytest_report_header(config: pytest.Config) -> str:
    accel = ", ".join("{} {} ({})".format(arch, *probe_accel(arch)) for arch in ("x86_64", "arm64")
                      if (paths.kernel_dir(arch, "release") / paths.IMAGE[arch]).exists())
    return (f"accelerator: {accel or 'no kernel built'}\n"
            f"sample: {'everything (FULL)' if FULL else 'PCILU_SEED=' + os.environ['PCILU_SEED']}")


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Names what fails at once, not only at the end, which a run that is stopped never has."""
    if not report.failed:
        return None
    status = "failed" if report.when == "call" else "error"
    return status, f"\n{status.upper()} {report.nodeid}\n", status.upper()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Why something failed, in a line: pytest's own summary cuts it off where names are long.

    And which lines of the list of warnings were printed, for nothing useless to stay in it.
    """
    config = terminalreporter.config
    for report in terminalreporter.getreports("failed") + terminalreporter.getreports("error"):
        why = [line for line in report.longreprtext.splitlines() if line.strip()]
        terminalreporter.write_line(f"{report.nodeid}: " + next(
            (line for line in why if line.startswith("E ")), why[-1] if why else "?")[:400])
    if not paths.EVIDENCE.exists() or config.option.keyword or hasattr(config, "workerinput"):
        return
    seen = console.listed(paths.EVIDENCE, BEGAN)
    (paths.EVIDENCE / "console.json").write_text(json.dumps(seen, indent=1) + "\n")
    if FULL and any(seen.values()):
        terminalreporter.section("listed in rig/rig/console.py, but no machine printed it")
        for pattern in (pattern for pattern, count in seen.items() if not count):
            terminalreporter.write_line(pattern)


def sample(cases: list[Any], count: int) -> list[Any]:
    """A seeded choice of a matrix; all of it in a full run."""
    if FULL or count >= len(cases):
        return cases
    chosen = random.Random(int(os.environ["PCILU_SEED"])).sample(range(len(cases)), count)
    return [cases[n] for n in sorted(chosen)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """@pytest.mark.matrix(cases, count): `case` takes a sample of the cases, see pytest.ini."""
    mark = metafunc.definition.get_closest_marker("matrix")
    if mark:
        cases, count = mark.args
        always = mark.kwargs.get("always", 0)
        option = metafunc.config.option
        if mark.kwargs.get("named") and option.keyword and not option.drawn:
            count = len(cases)
        metafunc.parametrize("case", cases[:always] + sample(cases[always:], count),
                             ids=lambda c: "-".join(map(str, c)))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--drawn", action="store_true",
                     help="only what PCILU_SEED draws, on release kernels (make soak)")
    parser.addoption("--but", metavar="FILE",
                     help="with --drawn: not these again, one a line, unless a seed changes them")


def on_debug(item: pytest.Item) -> bool:
    """Does this scenario take the debug kernel, as its name or a mark says?"""
    return "debug" in item.name or bool(item.get_closest_marker("debug"))


def is_rare(item: pytest.Item) -> bool:
    return bool(item.get_closest_marker("rare"))


def is_drawn(item: pytest.Item) -> bool:
    """Does the seed decide what this scenario does, or which of its cases there are?"""
    return any(item.get_closest_marker(name) for name in ("matrix", "drawn"))


def lightness(item: pytest.Item) -> int:
    """What takes long first, what takes no time last: no worker is left with much in the end."""
    if DEAR.search(item.nodeid):
        return 0
    return 1 if "vm" in getattr(item, "fixturenames", ()) else 2


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A default run draws some of what is dear; a choice by name and FULL take it all."""
    left_out: set[pytest.Item] = set()
    if config.option.drawn:
        done = Path(config.option.but).read_text().splitlines() if config.option.but else []
        left_out = {item for item in items if not is_drawn(item) or "debug" in item.name
                    or item.nodeid in done and not item.get_closest_marker("drawn")}
    elif not FULL and not config.option.keyword:
        for belongs, count in ((on_debug, DEBUG_SAMPLE), (is_rare, RARE_SAMPLE)):
            group = [item for item in items if belongs(item)]
            left_out |= set(group) - set(sample(group, count))
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = sorted((item for item in items if item not in left_out), key=lightness)


@pytest.fixture(params=["release", "debug"])
def variant(request: pytest.FixtureRequest) -> str:
    """The kernel's variant: a scenario that takes this runs on both."""
    return str(request.param)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """What stands for systemd's store of descriptors."""
    s = Store(tmp_path)
    yield s
    s.close()


@pytest.fixture
def vm(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The factory of machines. A line that is wrong on any console fails the scenario."""
    name = re.sub(r"[^\w.-]+", "-", request.node.name).strip("-")
    machines = Lab(name)
    for mark in request.node.iter_markers("console"):
        machines.expected += mark.args
    try:
        yield machines
    finally:
        wrong = machines.close()
    if wrong:
        pytest.fail("on the console: " + "; ".join(wrong[:5]), pytrace=False)


@pytest.fixture(params=["release", *(["debug"] if FULL else [])])
def also_on_debug(vm: Lab, request: pytest.FixtureRequest) -> None:
    """On the release kernel, and where all is tested on the debug kernel, too.

    Not for a guest with a device that no IOMMU translates for: KASAN's kernel has no memory for it
    that is in one piece.
    """
    vm.variant = request.param
