# SPDX-License-Identifier: GPL-2.0
"""What it costs to freeze: instructions, for one more device.

The clock counts instructions (see rig.cost). So that there is somebody to tell the time afterwards,
the kexec is refused when all have been frozen and compared with their records, because of the last:
its BAR is another one. Then all are thawed.
"""

from __future__ import annotations

import pytest
from conftest import FULL

from rig import bench, cost
from rig.keeper import state
from rig.lab import Lab
from rig.machine import LIVE_UPDATE, Machine

# Functions without interrupts, and with one that is armed, for which a CPU has a vector each.
SIZES = {"pvpanic-pci": (1, 64, 512) if FULL else (1, 8, 64), "edu": (1, 8, 64)}
# Instructions for one, frozen and thawed; it takes 3,200 and 7,300.
MOST = {"pvpanic-pci": 10_000, "edu": 20_000}
TRIES = 4
QUIET = "loglevel=3 tsc_early_khz=1000000"


def frozen(machine: Machine, n: int) -> int:
    """Instructions of a kexec that n devices are frozen for, and thawed."""
    machine.json(f"lu_bulk preserve {n}")
    count = cost.freeze(machine, n)
    assert state(machine, "fn0") == "preserved"
    machine.sh("kill $(pidof lu_bulk); while pidof lu_bulk; do sleep 0.1; done")
    return count


@pytest.mark.parametrize("driver", SIZES)
def test_freeze_costs_little_and_as_much_for_each_device(vm: Lab, driver: str) -> None:
    most = max(SIZES[driver])
    machine = vm(cost.many(most, driver=driver), accel="tcg", args=cost.CLOCK,
                 cmdline=f"{LIVE_UPDATE} {QUIET}", timeout=3600,
                 memory="2G" if most <= 256 else "3G")
    machine.sh(f"echo {cost.IDS[driver]} >/sys/bus/pci/drivers/vfio-pci/new_id")
    # The least of some: what else the kernel has to do comes in between, or does not.
    counts = {n: min(frozen(machine, n) for _ in range(TRIES)) for n in SIZES[driver]}
    print(counts, bench.slope(counts))
    ratio = bench.linear(counts)
    assert ratio is not None and ratio <= bench.LINEAR_MAX
    # Control: they were frozen, and a step for each pair of them would be seen.
    assert 1000 < bench.slope(counts) <= MOST[driver]
    square = bench.linear({n: count + 100 * n * n for n, count in counts.items()})
    assert square is not None and square > bench.LINEAR_MAX
