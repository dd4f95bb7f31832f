# SPDX-License-Identifier: GPL-2.0
"""libFuzzer under ASan and UBSan: messages, the policy, kernel images.

A short run by default; five minutes of messages in CI and in a full run.
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
LONG = os.environ.get("CI") or os.environ.get("FULL", "") not in ("", "0")
SECONDS = {"message": 300 if LONG else 15, "policy": 30 if LONG else 5, "image": 60 if LONG else 10}


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    if not shutil.which("clang"):
        pytest.skip("clang is not installed")
    subprocess.run(["make", "-s", "-C", str(TREE / "tools/pcilu"), "fuzz", f"O={OUT}"], check=True)


def run(target: str, *argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(OUT / target), *argv], cwd=cwd, text=True, capture_output=True)


@pytest.mark.parametrize("target", sorted(SECONDS))
def test_fuzz(target: str, tmp_path: Path) -> None:
    seeds = CORPUS / target
    assert any(seeds.iterdir())
    out = run(f"fuzz_{target}", f"-max_total_time={SECONDS[target]}", "-max_len=4096", ".",
              str(seeds), cwd=tmp_path)
    assert out.returncode == 0, out.stderr[-5000:]


def test_control_a_planted_bug_is_found(tmp_path: Path) -> None:
    out = run("control_message", "-runs=0", str(CORPUS / "message"), cwd=tmp_path)
    assert out.returncode != 0 and "heap-buffer-overflow" in out.stderr, out.stderr[-3000:]
