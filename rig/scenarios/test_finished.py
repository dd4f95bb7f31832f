# SPDX-License-Identifier: GPL-2.0
"""What is finished is like any other, also as long as something else of the host is not.

Two devices, each in a session of its own: `kept` is taken back and finished, and nobody has asked
for `other` yet.
"""

from __future__ import annotations

import time

import pytest

from rig import console, slot, sriov, witness
from rig.agent import Agent
from rig.keeper import Keeper, attempt, attribute, functions, state
from rig.lab import Lab
from rig.machine import NATIVE_HOTPLUG, Machine
from rig.outside import Reachable
from rig.receiver import Receiver
from rig.topologies import KEPT
from rig.topology import Topology, downstream, edu, nic, nvme, root_port, switch

PF, VFS = "nvme0", 4
BREAK, NO_REFUSALS = "/sys/module/pci_liveupdate/parameters/break", 0x20
MASTER = 0x4                # of Command
BUS_NUMBERS = 0x18          # of a bridge (PCIe r6.0, sec 7.5.1.3.4)


def half_finished(vm: Lab, variant: str, arch: str = "x86_64") -> tuple[Machine, Receiver,
                                                                        Receiver]:
    machine = vm(Topology(root_port("rp0", nic(KEPT)), root_port("rp1", nic("other"))),
                 arch=arch, variant=variant)
    kept, other = Receiver(machine, KEPT), Receiver(machine, "other")
    for receiver in (kept, other):
        receiver.start()
        receiver.sender.start()
        receiver.preserve()
    machine.kexec()
    kept.resume()
    kept.ctl("finish")
    assert [state(machine, id) for id in (KEPT, "other")] == ["none", "incoming"]
    return machine, kept, other


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
@pytest.mark.console(console.STOPPED)
def test_finished_device_that_is_preserved_again_goes_on(vm: Lab, arch: str) -> None:
    """The other one is stopped, and nothing else."""
    machine, kept, _ = half_finished(vm, "release", arch)
    kept.preserve()
    machine.kexec("kernel")
    trace = witness.read(machine)
    assert trace.cleared_master(KEPT, 2, shutdown=True) == []
    # Control: the other one is one that nobody wanted.
    assert trace.cleared_master("other", 2, shutdown=True)
    assert state(machine, KEPT) == "incoming"
    assert kept.receives()
    kept.resume()
    kept.ctl("finish")
    sent, stats = kept.settle()
    assert (stats["distinct"], stats["lost"]) == (sent, 0)


def test_finished_device_may_go_and_come(vm: Lab, variant: str) -> None:
    """Another is in its place then, as far as Linux knows."""
    machine, kept, other = half_finished(vm, variant)
    kept.sender.stop()
    kept.ctl("quit")
    before = functions(machine)
    assert attempt(machine, attribute(machine, KEPT, "remove"), "1") == ""
    machine.json("pci_cfg rescan")
    assert functions(machine) == before
    assert [state(machine, id) for id in (KEPT, "other")] == ["none", "incoming"]
    again = Receiver(machine, KEPT, "again")
    again.start()
    again.sender.start()
    assert again.receives()
    other.resume()
    time.sleep(1)
    other.ctl("finish")
    sent, stats = other.settle()
    assert (stats["distinct"], stats["lost"]) == (sent, 0)


@pytest.mark.console("Hardware bug: VF reports bogus INTx pin 1", sriov.LEFT_ON, console.STOPPED)
def test_finished_functions_may_go_and_come(vm: Lab, variant: str) -> None:
    """Virtual Functions that are enabled anew are not those that were handed over."""
    machine = vm(Topology(root_port("rp0", sriov.controller(PF, VFS)),
                          root_port("rp1", edu("other"))), variant=variant)
    vfs = sriov.enable(machine, PF, VFS)
    other = Agent(machine, "other").start().take("other")
    other.preserve("other")
    keepers = [Keeper(machine, id) for id in (vfs[1], vfs[2])]
    for keeper in keepers:
        keeper.preserve()
    machine.kexec()
    machine.json(f"pci_cfg bind {machine.topology.bdf[PF]} {sriov.STUB}")
    for keeper in keepers:
        keeper.take_back()
    numvfs = attribute(machine, PF, "sriov_numvfs")
    assert attempt(machine, numvfs, "0") == "" and sriov.links(machine, PF) == []
    assert attempt(machine, numvfs, str(VFS)) == ""
    assert {state(machine, id) for id in (PF, *vfs)} == {"none"}
    # Anybody may have them, and have them preserved.
    agent = Agent(machine, "again").start().take(vfs[1])
    agent.set_command(vfs[1], MASTER)
    agent.preserve(vfs[1])
    machine.kexec("kernel")
    assert sriov.control_writes(machine, PF, 2)[-1] & sriov.ENABLE
    assert witness.read(machine).cleared_master(vfs[1], 2, shutdown=True) == []
    assert [state(machine, id) for id in (vfs[1], PF, "other")] == ["incoming", "incoming", "none"]


@pytest.mark.console(console.MISSED, console.LOST, *console.UNNUMBERED)
def test_device_that_is_late_for_its_session_is_like_any_other(vm: Lab, variant: str) -> None:
    """It is missing when its session ends, and comes while another session has not ended."""
    machine = vm(Topology(root_port("rp0", nvme(KEPT)), root_port("rp1", edu("other"))),
                 kind=Reachable, variant=variant)
    agents = {id: Agent(machine, id).start().take(id) for id in (KEPT, "other")}
    for id, agent in agents.items():
        agent.preserve(id)
    port, hidden = machine.flipped("rp0", BUS_NUMBERS, 0x40)
    assert machine.load().rc == 0
    machine.leave()
    machine.wait_for_next_kernel()
    machine.write(port, hidden)
    machine.wait_boot(2)
    bdf = machine.topology.bdf[KEPT]
    assert bdf not in functions(machine)
    machine.write(port, hidden ^ 0x40)
    agents[KEPT].start().do(f"retrieve-session s {KEPT}", "finish s", "close s")
    machine.json("pci_cfg rescan")
    assert [state(machine, id) for id in (KEPT, "other")] == ["none", "incoming"]
    # It was stopped, and would go on as soon as somebody sets Bus Master.
    before = sriov.resets(machine, KEPT, 2)
    machine.json(f"pci_cfg bind {bdf}")
    assert sriov.resets(machine, KEPT, 2) == before + 1
    agents["other"].take_back("other")


@pytest.mark.parametrize("order", ["comes-then-ends", "ends-then-comes"])
@pytest.mark.console(console.GONE, console.STOPPED, console.REFUSED)
def test_device_that_went_before_its_session_ended_is_reset(vm: Lab, variant: str,
                                                            order: str) -> None:
    """It was stopped when it was removed, and would go on as soon as somebody sets Bus Master."""
    machine = vm(Topology(root_port("rp0", nvme(KEPT)), root_port("rp1", edu("other"))),
                 variant=variant)
    agents = {id: Agent(machine, id).start().take(id) for id in (KEPT, "other")}
    agents[KEPT].set_command(KEPT, MASTER)
    for id, agent in agents.items():
        agent.preserve(id)
    machine.kexec()
    # Control: with nothing refused, somebody can.
    assert attempt(machine, attribute(machine, KEPT, "remove"), "1")
    machine.sh(f"echo {NO_REFUSALS:#x} >{BREAK}")
    assert not attempt(machine, attribute(machine, KEPT, "remove"), "1")
    machine.sh(f"echo 0 >{BREAK}")
    assert witness.read(machine).cleared_master(KEPT, 2)

    def ends() -> None:
        agents[KEPT].start().do(f"retrieve-session s {KEPT}", "finish s", "close s")

    def comes() -> None:
        machine.json("pci_cfg rescan")
        assert [state(machine, id) for id in (KEPT, "other")] == ["none", "incoming"]
        before = sriov.resets(machine, KEPT, 2)
        machine.json(f"pci_cfg bind {machine.topology.bdf[KEPT]}")
        assert sriov.resets(machine, KEPT, 2) == before + 1

    for step in (comes, ends) if order == "comes-then-ends" else (ends, comes):
        step()
    agents["other"].take_back("other")


@pytest.mark.parametrize("variant", ["release"])
@pytest.mark.console(console.LOST, *console.FATAL)
def test_bridge_that_failed_is_good_for_who_comes_after(vm: Lab, variant: str) -> None:
    """What was below it then is not; whoever is preserved below it anew goes on through it."""
    machine = vm(Topology(root_port("rp0", switch("up0", downstream("dn0", edu("gone")),
                                                  downstream("dn1", edu(KEPT))))),
                 variant=variant, args=NATIVE_HOTPLUG)
    gone, kept = (Agent(machine, id).start().take(id) for id in ("gone", KEPT))
    gone.preserve("gone")
    kept.preserve(KEPT)
    slot.enable_errors(machine, "rp0")
    slot.fail(machine, "rp0")
    for id in ("gone", KEPT, "up0", "dn1"):
        machine.sh(f"until grep -q dead {attribute(machine, id, 'liveupdate/state')}; do "
                   "sleep 0.1; done")
    machine.sh("until dmesg | grep -q 'AER: device recovery'; do sleep 0.1; done")
    kept.do("close s")
    kept.set_command(KEPT, MASTER)
    kept.preserve(KEPT)
    assert [state(machine, id) for id in (KEPT, "up0", "dn1", "gone", "dn0")] == [
        "preserved", "preserved", "preserved", "dead", "dead"]
    machine.kexec()
    trace = witness.read(machine)
    assert not [id for id in ("rp0", "up0", "dn1") if trace.cleared_master(id, 1, shutdown=True)]
    # Control: what failed, and is good for nobody, is stopped.
    assert trace.cleared_master("dn0", 1, shutdown=True)
    assert [state(machine, id) for id in (KEPT, "up0", "dn1", "gone")] == [
        "incoming", "incoming", "incoming", "lost"]
    kept.take_back(KEPT)
    assert state(machine, KEPT) == "none"
