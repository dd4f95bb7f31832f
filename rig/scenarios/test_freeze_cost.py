# SPDX-License-Identifier: GPL-2.0
"""What it costs to freeze: instructions, for one more device.

The clock counts instructions (see rig.cost). So that there is somebody to tell the time afterwards,
the kexec is refused when all have been frozen and compared with their records, because of one more,
the last: its BAR is another one. Then all are thawed.
"""

from __future__ import annotations

from conftest import FULL

from rig import bench, config, cost
from rig.agent import Agent
from rig.keeper import state
from rig.lab import Lab
from rig.machine import LIVE_UPDATE, Machine
from rig.topology import Topology, edu, root_port

SIZES = (1, 64, 512) if FULL else (1, 8, 64)
MOST = 10_000       # instructions for a device, frozen and thawed; it takes 3,800
TRIES = 4
BAR0 = 0x10
QUIET = "loglevel=3 tsc_early_khz=1000000"


def frozen(machine: Machine, agent: Agent, n: int) -> int:
    """Instructions of a kexec that n devices are frozen for, and thawed."""
    machine.json(f"lu_bulk preserve {n}")
    agent.preserve("veto")
    bdf = machine.topology.bdf["veto"]
    right = config.read(machine, bdf).get(BAR0, 4)
    config.write(machine, bdf, BAR0, (right ^ 1 << 24).to_bytes(4, "little"))
    refused = machine.run("kexec_try exec").json()
    config.write(machine, bdf, BAR0, right.to_bytes(4, "little"))
    assert refused["errno"] == "EIO"
    assert state(machine, "fn0") == "preserved"
    agent.do("close s")
    machine.sh("kill $(pidof lu_bulk); while pidof lu_bulk; do sleep 0.1; done")
    return int(refused["ns"])


def test_freeze_costs_little_and_as_much_for_each_device(vm: Lab) -> None:
    most = max(SIZES)
    # On the last bus: lu_bulk takes the functions that come first.
    tree = Topology(*cost.many(most).devices, root_port("last", edu("veto"), addr="1e"))
    machine = vm(tree, accel="tcg", args=cost.CLOCK,
                 cmdline=f"{LIVE_UPDATE} {QUIET}", timeout=3600,
                 memory="2G" if most <= 256 else "3G")
    machine.sh(f"echo {cost.IDS['pvpanic-pci']} >/sys/bus/pci/drivers/vfio-pci/new_id")
    assert machine.load().rc == 0
    agent = Agent(machine).start().take("veto")
    # The least of some: what else the kernel has to do comes in between, or does not.
    counts = {n: min(frozen(machine, agent, n) for _ in range(TRIES)) for n in SIZES}
    print(counts, bench.slope(counts))
    ratio = bench.linear(counts)
    assert ratio is not None and ratio <= bench.LINEAR_MAX
    # Control: they were frozen, and a step for each pair of them would be seen.
    assert 1000 < bench.slope(counts) <= MOST
    square = bench.linear({n: count + 100 * n * n for n, count in counts.items()})
    assert square is not None and square > bench.LINEAR_MAX
