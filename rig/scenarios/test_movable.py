# SPDX-License-Identifier: GPL-2.0
"""Memory that is handed over is not in a zone for movable memory, where no device could have it."""

from __future__ import annotations

import re

import pytest

from rig import topology
from rig.lab import Lab
from rig.machine import Machine
from rig.receiver import Receiver

PAGE = 4096
SHARE = 0.8
TOLD = re.compile(r"node 0: movable memory starts above what was handed over, "
                  r"at 0x([\da-f]+) instead of 0x([\da-f]+)")


def zones(machine: Machine) -> dict[str, range]:
    """The physical addresses of each zone of node 0 that there is."""
    found = {}
    for part in re.split(r"^(?=Node)", machine.sh("cat /proc/zoneinfo").out, flags=re.MULTILINE):
        numbers = dict(re.findall(r"^ +(spanned|start_pfn):? +(\d+)", part, re.MULTILINE))
        if name := re.match(r"Node 0, zone +(\w+)", part):
            start = int(numbers.get("start_pfn", 0)) * PAGE
            found[name[1]] = range(start, start + int(numbers["spanned"]) * PAGE)
    return {name: where for name, where in found.items() if where}


@pytest.mark.parametrize("asks", [f"movablecore={SHARE:.0%}", f"kernelcore={1 - SHARE:.0%}"])
def test_movable_memory_begins_above_what_was_handed_over(vm: Lab, asks: str) -> None:
    """A debug machine has memory above 4 GiB, and gives only that away: the NIC's is below."""
    machine = vm(topology.plain())
    # Memory is given out from its lower end.
    machine.sh("dd if=/dev/zero of=/tmp/low bs=1M count=700 2>/dev/null")
    receiver = Receiver(machine)
    receiver.start()
    receiver.sender.start()
    receiver.preserve()
    end = max(where.stop for where in zones(machine).values())
    machine.kexec(extra=asks)
    told = TOLD.search(machine.sh("dmesg").out)
    assert told
    start, asked = (int(address, 16) for address in told.groups())
    # Control: with as much as was asked for, the NIC's memory would be in there.
    assert abs(asked - end * (1 - SHARE)) < end / 10
    assert asked <= receiver.ring.start < receiver.ring.stop <= start
    movable = zones(machine).get("Movable")
    assert movable is None or movable.start >= start
    # It is mapped again, which takes pins for long, and goes on.
    receiver.resume()
    assert receiver.ready["retrieved"] == ["memory", "device"]
    receiver.ctl("finish")
    assert receiver.receives()
    sent, stats = receiver.settle()
    assert stats["distinct"] == sent
    receiver.ctl("quit")
