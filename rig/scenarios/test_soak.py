# SPDX-License-Identifier: GPL-2.0
"""`make soak` does not run the same case of a matrix twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

RIG = Path(__file__).parent.parent


def drawn(*options: str) -> set[str]:
    """What a seed draws of two files: cases of a matrix, and what it decides itself."""
    out = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--collect-only", "--drawn", *options,
         "scenarios/test_guard.py", "scenarios/test_addresses_lines.py"],
        env={**os.environ, "PCILU_SEED": "80360", "FULL": "", "PYTEST_ADDOPTS": ""},
        cwd=RIG, text=True, stdout=subprocess.PIPE).stdout
    return {line for line in out.splitlines() if "::" in line}


def test_case_that_passed_is_not_drawn_again(tmp_path: Path) -> None:
    first = drawn()
    seeds = {item for item in first if "test_command_lines_move_nothing" in item}
    assert seeds and first - seeds
    passed = tmp_path / "passed"
    passed.write_text("\n".join(sorted(first)))
    # What runs under a name with another seed is another thing.
    assert drawn(f"--but={passed}") == seeds
    # Control: none has passed.
    passed.write_text("")
    assert drawn(f"--but={passed}") == first
