# SPDX-License-Identifier: GPL-2.0
"""How scenarios are spread over pytest-xdist's workers.

By itself xdist gives each worker a quarter of all scenarios at once, and later still dozens: fine
where all take the same time, but ours take from milliseconds to minutes, and in the end one worker
would have many and the others none.
"""

from __future__ import annotations

from typing import Any

from xdist.scheduler import LoadScheduling

AHEAD = 2       # the one that runs and the one after it, which a worker wants to know


class FewAtATime(LoadScheduling):
    """Each worker has no more than it needs."""

    def _send_tests(self, node: Any, num: int) -> None:
        super()._send_tests(node, max(0, min(num, AHEAD - len(self.node2pending[node]))))


def pytest_xdist_make_scheduler(config: Any, log: Any) -> LoadScheduling:
    return FewAtATime(config, log)
