# SPDX-License-Identifier: GPL-2.0
"""What the parts of adding a function cost, beside the stock kernel, in instructions.

A function is removed and found again by a rescan; what a rescan costs that finds nothing is taken
off. `make bench` counts the same at boot, in one figure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rig import cost, parts
from rig.agent import Agent
from rig.lab import Lab
from rig.machine import Machine
from rig.parts import Account
from rig.topology import Device, Topology, edu, root_port

ROOT = "pci_rescan_bus"
TRIES = 5
RESCAN = "echo 1 >/sys/bus/pci/rescan"
STAMP = re.compile(r"^(<\d+>)?\[[ \d.]+\] ")

# At most so much of what the stock kernel takes.
SHARE = {"a file of sysfs": 0.7, "a message": 0.75, "fixups": 0.15, "uevents": 0.25, "all": 0.7}


def ports() -> Topology:
    """An endpoint beside which there is another one, as servers have them: see `bench`."""
    def drive(id: str, addr: str, **props: str) -> Device:
        return Device("nvme", id, {"serial": id, **props}, addr=addr)
    return Topology(root_port("rp0", drive("first", "0.0", multifunction="on"),
                              drive("second", "0.1")))


@dataclass
class Endpoint:
    """What one more function costs, and what was said about it."""

    account: Account
    nothing: Account    # a rescan that finds nothing
    said: list[str]

    def costs(self) -> dict[str, float]:
        """By the names of `SHARE`."""
        a = self.account
        return {"a file of sysfs": a.parts["sysfs"] / a.calls["kernfs_new_node"],
                "a message": a.parts["messages"] / a.calls["vprintk_emit"],
                "fixups": a.parts["fixups"], "uevents": a.parts["uevents"],
                "all": a.parts.total()}


def start(vm: Lab, variant: str) -> Machine:
    return vm(ports(), variant=variant, accel="tcg", cmdline=f"{cost.LIVE_UPDATE} loglevel=3",
              args=[*cost.CLOCK, *parts.KERNEL], timeout=1800)


def measure(machine: Machine) -> Endpoint:
    functions = parts.symbols(machine)

    def rescan(before: str = "") -> tuple[Account, list[str]]:
        """One that nobody else ran beside, or said anything: what others execute would count."""
        for _ in range(TRIES):
            machine.sh(f"{before} dmesg -c >/dev/null")
            found = parts.account(parts.executed(machine, RESCAN), functions, ROOT)
            assert found.calls[ROOT] == 1
            said = [STAMP.sub("", line) for line in machine.sh("dmesg").out.splitlines()]
            if not found.calls["__switch_to_asm"] and all(s.startswith("pci ") for s in said):
                return found, said
        raise AssertionError(f"somebody else ran beside each of them: {said}")

    machine.sh(RESCAN)      # whatever is done only once
    nothing, _ = rescan()
    added, said = rescan(
        f"echo 1 >/sys/bus/pci/devices/{machine.topology.bdf['second']}/remove;")
    return Endpoint(added - nothing, nothing, said)


def missed(ours: dict[str, float], stocks: dict[str, float]) -> set[str]:
    return {name for name, share in SHARE.items() if ours[name] > share * stocks[name]}


def test_parts_of_an_endpoint_cost_less_than_with_the_stock_kernel(vm: Lab) -> None:
    ours, stocks = (measure(start(vm, variant)) for variant in ("release", "stock"))
    print({name: (round(value), round(stocks.costs()[name]))
           for name, value in ours.costs().items()}, ours.account.parts, stocks.account.parts)
    assert missed(ours.costs(), stocks.costs()) == set()
    # Less for the same: files, but for those of our own, and messages.
    assert ours.account.calls["kernfs_new_node"] >= stocks.account.calls["kernfs_new_node"] > 30
    assert ours.said == stocks.said != []
    assert ours.account.calls["vprintk_emit"] == stocks.account.calls["vprintk_emit"] > 0
    # Controls: the stock kernel misses each, and where nothing is added no file is.
    assert missed(stocks.costs(), stocks.costs()) == set(SHARE)
    for each in (ours, stocks):
        assert each.nothing.calls["kernfs_new_node"] == each.nothing.parts["fixups"] == 0
        assert each.nothing.parts[parts.REST] > 0


WRITE = "vfio_pci_core_write"
# How many instructions more a write of a device's user to its configuration space may take: it must
# not change what is handed over while that is written down.
GATE_MAX = 60


def user_write(vm: Lab, variant: str, preserved: bool = False) -> int:
    """Instructions of one that reaches no device, so that little else is in them."""
    machine = vm(Topology(root_port("rp0", edu("edu0"))), variant=variant, accel="tcg",
                 cmdline=f"{cost.LIVE_UPDATE} loglevel=3", args=[*cost.CLOCK, *parts.KERNEL],
                 timeout=1800)
    agent = Agent(machine).start().take("edu0")
    if preserved:
        agent.preserve("edu0")
    functions = parts.symbols(machine)
    command = "vfio_agent ctl vm0 'config-write edu0 0x3c 1 5'"
    machine.sh(command)     # whatever is done only once
    for _ in range(TRIES):
        found = parts.account(parts.executed(machine, command), functions, WRITE)
        assert found.calls[WRITE] == 1
        if not found.calls["__switch_to_asm"]:
            return found.parts.total()
    raise AssertionError("somebody else ran beside each of them")


def test_user_pays_little_for_what_may_be_frozen_with_its_control(vm: Lab) -> None:
    without, idle = user_write(vm, "off"), user_write(vm, "release")
    held = user_write(vm, "release", preserved=True)
    print(without, idle, held)
    # Control: it is seen.
    assert 0 < without < idle <= without + GATE_MAX
    assert idle <= held <= without + GATE_MAX


def test_files_of_sysfs_have_numbers_of_their_own_with_its_control(vm: Lab) -> None:
    machine = start(vm, "release")
    bdf = machine.topology.bdf["second"]
    machine.sh(f"echo 1 >/sys/bus/pci/devices/{bdf}/remove; {RESCAN}")
    numbers = machine.sh("find /sys/devices -exec stat -c %i {} +").out.split()
    assert len(set(numbers)) == len(numbers) > 1000 and "0" not in numbers
    again = machine.sh("stat -c %i /sys/devices /sys/devices").out.split()
    assert len(set(again)) < len(again)


def test_messages_of_any_length_are_whole(vm: Lab) -> None:
    """Those that are formatted once, and those that are formatted twice."""
    machine = start(vm, "release")
    lengths = [1, 100, *range(120, 136), 500, 900]
    machine.sh("echo on >/proc/sys/kernel/printk_devkmsg; dmesg -c >/dev/null; " + "; ".join(
        f"printf '%0{n}d\\n' 7 >/dev/kmsg" for n in lengths))
    said = [STAMP.sub("", line) for line in machine.sh("dmesg").out.splitlines()]
    assert said == [f"{7:0{n}d}" for n in lengths]


def call(*steps: int) -> list[int]:
    """Four instructions of four bytes at each step."""
    return [step + 4 * n for step in steps for n in range(4)]


def test_control_account_of_calls_that_are_known() -> None:
    functions = {0x1000: ["outer"], 0x2000: [ROOT], 0x3000: ["sysfs_add"], 0x4000: ["kmalloc"],
                 0x5000: ["_dev_info"]}
    executed = call(0x1000, 0x2000, 0x3000, 0x4000, 0x3010, 0x2010, 0x5000, 0x4000, 0x5010,
                    0x2020, 0x2020, 0x1010)
    found = parts.account(executed, functions, ROOT)
    # What is called belongs to the part, a loop is no return, and what is outside does not count.
    assert found.parts == {"sysfs": 12, "messages": 12, parts.REST: 16}
    assert found.calls == {ROOT: 1, "sysfs_add": 1, "kmalloc": 2, "_dev_info": 1}
    # A call in the place of a return: what it was called from is returned to. And an instruction
    # that is repeated counts once.
    tail = call(0x2000, 0x3000) + call(0x4000)[:1] + call(0x4000, 0x2010)
    assert parts.account(tail, functions, ROOT).parts == {"sysfs": 8, parts.REST: 8}
