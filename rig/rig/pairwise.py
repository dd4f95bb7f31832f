# SPDX-License-Identifier: GPL-2.0
"""Few rows in which every two values of different factors meet."""

from __future__ import annotations

import itertools
import random
from typing import Any, Iterable


def pairs(row: Iterable[Any]) -> set[tuple[int, Any, int, Any]]:
    """The pairs of values that meet in a row, with the factors they are of."""
    return {(i, a, j, b) for (i, a), (j, b) in itertools.combinations(enumerate(row), 2)}


def rows(factors: list[list[Any]], seed: int, tries: int = 50) -> list[tuple[Any, ...]]:
    """Each row is the best of some random ones that contain a pair not yet met."""
    chance = random.Random(seed)
    missing = set().union(*(pairs(row) for row in itertools.product(*factors)))
    found = []
    while missing:
        i, a, j, b = chance.choice(sorted(missing, key=str))
        candidates = []
        for _ in range(tries):
            row = [chance.choice(values) for values in factors]
            row[i], row[j] = a, b
            candidates.append(tuple(row))
        best = max(candidates, key=lambda row: len(pairs(row) & missing))
        found.append(best)
        missing -= pairs(best)
    return found
