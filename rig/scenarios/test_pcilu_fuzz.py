# SPDX-License-Identifier: GPL-2.0
"""libFuzzer under ASan and UBSan: messages, the policy, kernel images, initrds,
command lines, configurations.

A short run by default; five minutes of messages in CI (.ci/run says so) and in a full run. What
is found stays in build/fuzz, which the next run begins with.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from rig.paths import BUILD, TREE

OUT = BUILD / "tools-fuzz"
CORPUS = TREE / "tools" / "pcilu" / "fuzz" / "corpus"
FULL = os.environ.get("FULL", "") not in ("", "0")
SECONDS = {"message": int(os.environ.get("PCILU_FUZZ_SECONDS", 300 if FULL else 15)),
           "policy": 30 if FULL else 5, "image": 60 if FULL else 10,
           "initrd": 60 if FULL else 5, "cmdline": 30 if FULL else 5, "config": 15 if FULL else 2}


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    if not shutil.which("clang"):
        pytest.skip("clang is not installed")
    subprocess.run(["make", "-s", "-C", str(TREE / "tools/pcilu"), "fuzz", f"O={OUT}"], check=True)


def run(target: str, *argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(OUT / target), *argv], cwd=cwd, text=True, capture_output=True)


@pytest.mark.parametrize("target", sorted(SECONDS))
def test_fuzz(target: str) -> None:
    seeds, found = CORPUS / target, BUILD / "fuzz" / target
    assert any(seeds.iterdir())
    found.mkdir(parents=True, exist_ok=True)
    out = run(f"fuzz_{target}", f"-max_total_time={SECONDS[target]}", "-max_len=8192", ".",
              str(seeds), cwd=found)
    assert out.returncode == 0, out.stderr[-5000:]


def test_control_a_planted_bug_is_found(tmp_path: Path) -> None:
    out = run("control_message", "-runs=0", str(CORPUS / "message"), cwd=tmp_path)
    assert out.returncode != 0 and "heap-buffer-overflow" in out.stderr, out.stderr[-3000:]
