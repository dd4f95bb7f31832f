# SPDX-License-Identifier: GPL-2.0
"""What it costs to leave a kernel with preserved devices: instructions, for one more device.

From reboot(2), where all devices freeze, to the jump, on the console of a machine whose clock is a
count of instructions (see rig.cost). Where none is preserved, that is what any kexec costs.
"""

from __future__ import annotations

import re

from conftest import FULL

from rig import bench, cost
from rig.lab import Lab
from rig.machine import LIVE_UPDATE, Machine

SIZES = (1, 64, 512) if FULL else (1, 8, 64)
LINE = r"^<\d+>\[ *(\d+)\.(\d+)\] {}"
BEGIN, END = "kexec_try: exec", "kexec_core: Starting new kernel"
# Levels down to "notice" go to the console, what is said of each device does not.
CLOCK = "loglevel=6 tsc_early_khz=1000000"
MOST = 60_000       # instructions for a device, of which vfio-pci takes most


def time_of(machine: Machine, what: str) -> int:
    """When the first kernel said it, in instructions."""
    log = (machine.folder / "console.log").read_text(errors="replace")
    found = re.search(LINE.format(re.escape(what)), log, re.MULTILINE)
    assert found, f"the console does not tell of {what!r}"
    return int(found[1] + found[2]) * 1000


def way_out(vm: Lab, n: int, preserved: bool) -> int:
    """Instructions that one kexec takes until the jump."""
    machine = vm(cost.many(n), accel="tcg", cmdline=f"{LIVE_UPDATE} {CLOCK}", args=cost.CLOCK,
                 timeout=3600, memory="2G" if n <= 256 else "3G")
    machine.sh(f"echo {cost.IDS['pvpanic-pci']} >/sys/bus/pci/drivers/vfio-pci/new_id")
    if preserved:
        machine.json(f"lu_bulk preserve {n}")
    machine.kexec()
    machine.close()
    return time_of(machine, END) - time_of(machine, BEGIN)


def test_freeze_costs_little_and_as_much_for_each_device(vm: Lab) -> None:
    ours = {n: way_out(vm, n, True) for n in SIZES}
    most = max(SIZES)
    none = {n: way_out(vm, n, False) for n in (1, most)}
    print({"preserved": ours, "none": none, "a device": bench.slope(ours),
           "a device, none preserved": bench.slope(none)})
    ratio = bench.linear(ours)
    assert ratio is not None and ratio <= bench.LINEAR_MAX
    # Control: it is the devices that are counted.
    assert 0 < bench.slope(none) < bench.slope(ours) <= MOST
    # Control: a step for each pair of devices, of the size of an access to memory that is not in
    # any cache, would be seen.
    assert bench.linear({n: count + 300 * n * n for n, count in ours.items()}) > bench.LINEAR_MAX
