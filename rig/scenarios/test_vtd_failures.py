# SPDX-License-Identifier: GPL-2.0
"""Behind VT-d: what fails when domains are frozen, or when another takes the place of a frozen one,
leaves everything as it was. The witness is the unit itself."""

from __future__ import annotations

import pytest
from conftest import FULL
from test_vfio_failures import KNOBS, arm_faults, eventually
from test_vtd import BUFFER_LEN, IOVA, Host, no_entry, write_from_edu

from rig import config, console, slot, vtd
from rig.keeper import attribute
from rig.lab import Lab
from rig.machine import NATIVE_HOTPLUG, Machine
from rig.nic import PAGE, Nic
from rig.outside import Reachable

BUS_NUMBERS = 0x18          # of a bridge (PCIe r6.0, sec 7.5.1.3): the highest in the third byte
USED = "cat /sys/class/iommu/dmar0/intel-iommu/domains_used"
ELSEWHERE = 0x10000000
NO_MEMORY = "cannot be handed over: no memory for what is handed over"


def goes_on(host: Host) -> None:
    """Both devices reach what they did, and nothing else."""
    before = Nic(host.agent, "nic0").head
    host.agent.poke("edu0-ram", PAGE, bytes(BUFFER_LEN))
    write_from_edu(host.agent, IOVA["edu0"] + PAGE)
    assert host.agent.peek("edu0-ram", PAGE, BUFFER_LEN) == host.pattern
    assert eventually(lambda: Nic(host.agent, "nic0").head > before)
    unit = vtd.read(host.machine)
    assert unit.faults == [] and host.outside() == []


def is_as_before(host: Host) -> None:
    """Their owners may do again what they may not while domains are frozen."""
    goes_on(host)
    assert host.verdicts() == {"translated"}
    host.agent.do("memory other 1", f"map nic0 other {ELSEWHERE:#x}", "unmap nic0", "close other",
                  "detach edu0", "attach edu0 ioas")


def handed_over(machine: Machine) -> set[str]:
    """Jump, and who has an entry in the tables that the unit is left with; no kernel runs then."""
    machine.leave()
    machine.wait_for_next_kernel()
    machine.qmp("stop")
    roots = [(time, root) for time, root, _ in vtd.read(machine).roots
             if time > machine.jumped_at[-1]]
    assert len(roots) == 1
    known = set(vtd.entries(machine, roots[0][1]))
    machine.qmp("cont")
    return known


def functions(machine: Machine, *ids: str) -> set[str]:
    return {machine.topology.bdf[id][-7:] for id in ids}


@pytest.mark.console("Live Update: cannot be handed over: its bus number range differs",
                     "luo: Freeze failed for FLB")
def test_vtd_kexec_called_off_when_all_is_frozen(vm: Lab) -> None:
    """The last to be asked says no: what has been frozen is as it was, twice, and who is not in a
    session any more is not in what is handed over in the end."""
    host = Host(vm, kind=Reachable)
    machine, agent = host.machine, host.agent
    agent.preserve("edu0", "nic0")
    assert machine.load().rc == 0
    port = machine.topology.bdf["rp1"]
    at = machine.config_at("rp1", BUS_NUMBERS)
    numbers = config.read(machine, port).get(BUS_NUMBERS, 4)
    used = machine.sh(USED).out
    for _ in range(2):
        machine.write(at, numbers + (1 << 16))
        refused = machine.jump()
        assert refused is not None and refused.json()["errno"] == "EIO"
        machine.write(at, numbers)
        is_as_before(host)
        assert machine.sh(USED).out == used

    # Control: both have an entry here.
    assert functions(machine, "edu0", "nic0") <= set(
        vtd.entries(machine, vtd.read(machine).roots[-1][1]))
    agent.do("close s", "session s vm0", "preserve s 3 nic0-ram", "preserve s 4 nic0")
    assert handed_over(machine) == functions(machine, "nic0")
    machine.wait_boot(2)
    agent.start().do("retrieve-session s vm0")
    machine.json(f"pci_cfg bind {machine.topology.bdf['nic0']}")
    agent.do("retrieve s 3 memory nic0-ram", "retrieve s 4 device nic0", "bind nic0", "ioas nic0",
             f"map nic0 nic0-ram {IOVA['nic0']:#x}", "attach nic0 ioas")
    agent.finish()
    assert host.received() and host.outside() == []
    unit = vtd.read(machine)
    assert unit.faults == [] and unit.switched() == [True]


def arm(machine: Machine) -> None:
    """Pages, and memory that is asked for by its size. What has a cache of its own belongs to those
    who can do without (an xarray, kmemleak): a fault there does no harm, and shows nothing."""
    arm_faults(machine)
    machine.sh(f"echo Y >{KNOBS}/failslab/cache-filter && "
               "for c in /sys/kernel/slab/kmalloc-*; do echo 1 >$c/failslab || exit 1; done")


def fail_kexecs(host: Host, n: int, enough: int = 0) -> list[int]:
    """Kexecs that find no memory at one place after another from the Nth on: until one gets
    through, or until so many could not freeze a domain. Which of them could not."""
    machine = host.machine
    found: list[int] = []
    while not enough or len(found) < enough:
        told = machine.run(f"dmesg | grep -c '{NO_MEMORY}'").out
        refused = machine.jump(n)
        if refused is None:
            break
        answer = refused.json()
        assert answer["injected"] and answer["errno"] == "ENOMEM", (n, answer)
        is_as_before(host)
        if machine.run(f"dmesg | grep -c '{NO_MEMORY}'").out != told:
            found.append(n)
        n += 1 if FULL or len(found) < 4 else 11
    return found


def fail_attaches(vm: Lab, host: Host, id: str) -> int:
    """Attach with no memory at one place after another, until it works. At how many it did not."""
    machine, agent = host.machine, host.agent
    goes_on(host)
    used = machine.sh(USED).out
    its = functions(machine, id)
    had = [context for context in vtd.read(machine).contexts if context.bdf in its][-1]
    n = 1
    while (answer := agent.attempt(f"fail-nth {n} attach {id} hwpt")[0])["rc"] < 0:
        assert answer["injected"] and answer["errno"] in ("ENOMEM", "ENOSPC"), (n, answer)
        goes_on(host)
        unit = vtd.read(machine)
        assert no_entry(vm, unit) == []
        assert [context for context in unit.contexts if context.bdf in its][-1].table == had.table
        assert machine.sh(USED).out == used
        n += 1
    return n - 1


@pytest.mark.debug
@pytest.mark.timeout(7200)
@pytest.mark.matrix([("legacy",), ("scalable",)], 1)
def test_vtd_without_memory_nothing_changes(vm: Lab, case: tuple[str]) -> None:
    """Faults are what the debug kernel alone can inject: at each place in a full run."""
    vm.injects_faults = True
    host = Host(vm, variant="debug", mode=case[0], kind=Reachable, rate=5.0)
    machine, agent = host.machine, host.agent
    arm(machine)
    agent.preserve("edu0", "nic0")
    assert machine.load().rc == 0
    places = fail_kexecs(host, 1)
    # Control: it did come to that, and then to a kexec.
    assert len(places) >= 4 and machine.boot == 2 and host.verdicts() == {"translated"}

    host.retrieve()
    arm(machine)
    for id in ("edu0", "nic0"):
        agent.do(f"hwpt {id}", f"map {id} {id}-ram {IOVA[id]:#x}")
        assert fail_attaches(vm, host, id)
    agent.finish()
    goes_on(host)
    assert vtd.read(machine).switched() == [True]
    if case[0] != "legacy":
        assert host.received()
        return

    # What could not be frozen is not handed over later, when another is: the first of these finds
    # no memory for the device, the second none for what all of them are listed in.
    agent.preserve("edu0", "nic0")
    assert machine.load().rc == 0
    assert len(fail_kexecs(host, max(1, places[0] - 3), enough=2)) == 2
    machine.leaks()
    agent.do("close s", "session s vm0", "preserve s 3 nic0-ram", "preserve s 4 nic0")
    assert handed_over(machine) == functions(machine, "nic0")
    machine.wait_boot(3)


@pytest.mark.console(console.GONE, console.LOST, console.STOPPED)
def test_vtd_frozen_device_that_is_pulled_out_is_dead(vm: Lab) -> None:
    """Its entry goes with it, and its memory when its session ends; the other goes on."""
    host = Host(vm, args=NATIVE_HOTPLUG)
    machine, agent = host.machine, host.agent
    host.update()
    assert host.verdicts() == {"translated"}
    its, root = functions(machine, "nic0"), vtd.read(machine).roots[-1][1]
    # Control: it has one until then.
    assert its <= set(vtd.entries(machine, root))
    slot.pull_out(machine, "rp1", "nic0")
    slot.power_on(machine, "rp1")
    machine.sh(f"while test -e {attribute(machine, 'nic0', '')}; do sleep 0.1; done")
    agent.start().do("retrieve-session s vm0")
    machine.json(f"pci_cfg bind {machine.topology.bdf['edu0']}")
    agent.do("retrieve s 1 memory edu0-ram", "retrieve s 2 device edu0", "bind edu0", "ioas edu0",
             "retrieve s 3 memory nic0-ram")
    assert agent.refused("retrieve s 4 device nic0") == "ENODEV"
    assert not its & set(vtd.entries(machine, root))
    agent.do(f"map edu0 edu0-ram {IOVA['edu0']:#x}", "attach edu0 ioas")
    agent.finish()
    write_from_edu(agent, IOVA["edu0"] + PAGE)
    assert agent.peek("edu0-ram", PAGE, BUFFER_LEN) == host.pattern
    unit = vtd.read(machine)
    assert unit.faults == [] and host.outside() == [] and unit.switched() == [True]
