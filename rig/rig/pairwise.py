# SPDX-License-Identifier: GPL-2.0
"""Few cases in which every two values of different factors meet."""

from __future__ import annotations

import itertools
import random
from typing import Any


def pairs(case: tuple[Any, ...]) -> set[tuple[Any, ...]]:
    """The pairs of values that meet in a case, with the factors they are of."""
    return {*itertools.combinations(enumerate(case), 2)}


def choose(cases: list[tuple[Any, ...]], seed: int) -> list[tuple[Any, ...]]:
    """A choice in which every two values that occur together in a case still do."""
    todo = {case: pairs(case) for case in cases}
    order = random.Random(seed).sample(cases, len(cases))
    missing = set().union(*todo.values())
    chosen = []
    while missing:
        best = max(order, key=lambda case: len(todo[case] & missing))
        chosen.append(best)
        missing -= todo[best]
    return chosen
