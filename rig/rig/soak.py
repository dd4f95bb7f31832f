# SPDX-License-Identifier: GPL-2.0
"""`make soak`: what the seed draws, with one seed after the other, on release kernels.

Each seed has its evidence in build/soak/SEED, which stays if something failed. A case of a matrix
that has passed is not run again when a later seed draws it. The summary is a table of the scenarios
that failed, with their seeds, and build/soak/summary.json.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as xml

from . import paths

SOAK = paths.BUILD / "soak"
PASSED = SOAK / "passed"
NONE = 5        # pytest's exit status when there is nothing to run


def cpu() -> float:
    """Minutes that all which has ended took so far, machines included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) / 60


def run(seed: int, jobs: str, choice: str) -> tuple[int, dict[str, str]]:
    """One run of pytest: how many scenarios ran, and which failed, with the first line of why."""
    folder = SOAK / str(seed)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "pytest", "-q", "--drawn", "-n", jobs, f"--but={PASSED}",
               f"--junitxml={folder / 'results.xml'}", *(["-k", choice] if choice else [])]
    with open(folder / "log", "w", encoding="utf-8") as log:
        rc = subprocess.run(command, stdout=log, stderr=log, env={
            **os.environ, "PCILU_SEED": str(seed), "PCILU_EVIDENCE": str(folder)}).returncode
    if rc not in (0, 1, NONE):
        return 0, {"pytest": f"ended with {rc}: see {folder / 'log'}"}
    count, failed = 0, {}
    for case in xml.parse(folder / "results.xml").iter("testcase"):
        count += case.find("skipped") is None
        name = f"{case.get('classname', '').split('.')[-1]}::{case.get('name')}"
        for what in (*case.findall("failure"), *case.findall("error")):
            failed[name] = (what.get("message") or "?").splitlines()[0][:150]
        if name not in failed and case.find("skipped") is None:
            with open(PASSED, "a", encoding="utf-8") as passed:
                passed.write(f"{case.get('classname', '').replace('.', '/')}.py"
                             f"::{case.get('name')}\n")
    return count, failed


def main() -> int:
    seeds, jobs = int(os.environ.get("SEEDS") or 20), os.environ.get("JOBS") or "2"
    first = int(os.environ.get("PCILU_SEED") or time.time_ns() // 1000 % 1_000_000)
    failures: dict[str, dict[int, str]] = {}
    SOAK.mkdir(parents=True, exist_ok=True)
    PASSED.write_text("")
    counts = {}
    for seed in range(first, first + seeds):
        began, used = time.monotonic(), cpu()
        counts[seed], failed = run(seed, jobs, os.environ.get("T") or "")
        for name, why in failed.items():
            failures.setdefault(name, {})[seed] = why
        if not failed:
            shutil.rmtree(SOAK / str(seed))
        print(f"soak: seed {seed}: {len(failed)} of {counts[seed]} failed in "
              f"{(time.monotonic() - began) / 60:.1f} minutes, {cpu() - used:.1f} of CPU",
              flush=True)
        (SOAK / "summary.json").write_text(json.dumps(
            {"scenarios": counts, "failures": failures}, indent=1) + "\n")
    print(f"soak: {sum(counts.values())} scenarios with {seeds} seeds")
    for name, by_seed in sorted(failures.items(), key=lambda item: -len(item[1])):
        print(f"{len(by_seed):4} of {seeds}  {name}")
        for seed, why in by_seed.items():
            print(f"{'':12}{seed}: {why}")
    return 1 if failures or not sum(counts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
