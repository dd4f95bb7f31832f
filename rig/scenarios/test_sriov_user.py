# SPDX-License-Identifier: GPL-2.0
"""A Physical Function that is a user's, its Virtual Functions others', and who trusts whom."""

from __future__ import annotations

import time

import pytest

from rig import console, sriov, witness
from rig.agent import Agent
from rig.keeper import attempt, attribute, driver, functions, state
from rig.lab import Lab
from rig.machine import Machine
from rig.sriov import STUB, control_writes, controller, resets
from rig.topology import Topology, root_port
from rig.untouched import COMMAND, touched, written

PF, VFS = "nvme0", 3
WORDS = "vfio_pci.enable_sriov=1"
NEWEST, ABI_V1 = "/sys/module/pci_liveupdate/parameters/abi_newest", "0x4c550001"
TOKEN, WRONG = "00112233445566778899aabbccddeeff", "ff" * 16
MASTER = 0x4
NOT_PRESERVED = ("its Physical Function has a driver for users, and is not preserved: vfio-pci; "
                 "preserve that first, or bind it to pci-pf-stub")
WAITS = "Live Update: unbind waits until it and its Virtual Functions"
pytestmark = pytest.mark.console("Hardware bug: VF reports bogus INTx pin 1")   # QEMU's, in 7.2

# vfio-pci that is unbound from a Physical Function takes Virtual ones away without the lock for
# that, in stock Linux, too: a debug kernel says so of each.
UNLOCKED = (r"WARNING: at pci_stop_and_remove_bus_device\+", "Call Trace")

# Letters: bind the Physical Function (B), have it retrieved (P), finished (p); the Virtual: V, v
ORDERS = ["BPpVv", "BPVpv", "BPVvp", "BVPpv", "BVPvp", "BVvPp"]


class Host:
    """A controller that `owner` has, whose Virtual Function `kept` is `tenant`'s."""

    def __init__(self, vm: Lab, **options: str) -> None:
        self.machine: Machine = vm(Topology(root_port("rp0", controller(PF, VFS))), first=WORDS,
                                   **options)
        self.owner = Agent(self.machine, "owner").start().take(PF)
        self.owner.do(f"set-token {PF} {TOKEN}")
        self.owner.set_command(PF, MASTER)
        self.vfs = sriov.enable(self.machine, PF, VFS, "vfio-pci")
        self.kept = self.vfs[1]
        self.tenant = Agent(self.machine, "tenant").start().take(self.kept, token=TOKEN)
        self.tenant.set_command(self.kept, MASTER)
        self.before: dict[int, tuple[list[int], int]] = {}

    def preserve(self) -> None:
        """Both, in the only order that there is."""
        self.owner.preserve(PF)
        self.tenant.preserve(self.kept)
        self.before = {self.machine.boot: self.done(self.machine.boot)}

    def done(self, boot: int) -> tuple[list[int], int]:
        """What was done to Virtual Functions: writes of SR-IOV Control, and resets."""
        return control_writes(self.machine, PF, boot), resets(self.machine, PF, boot)

    def update(self) -> None:
        """Into the next kernel."""
        self.machine.kexec("next" if self.machine.boot % 2 else "kernel", extra=WORDS)

    def bind(self, id: str, to: str = "vfio-pci") -> bool:
        """Bind a function to a driver; does that have it then?"""
        self.machine.run(f"pci_cfg bind {self.machine.topology.bdf[id]} {to}")
        return driver(self.machine, id) == to

    def states(self) -> list[str]:
        """What becomes of both."""
        return [state(self.machine, id) for id in (PF, self.kept)]

    def goes_on(self, id: str) -> bool:
        """Has a function, by its registers, Bus Master?"""
        raw = self.machine.sh(f"od -An -tu2 -j4 -N2 {attribute(self.machine, id, 'config')}").out
        assert int(raw) != 0xffff
        return bool(int(raw) & MASTER)

    def undisturbed(self, boot: int) -> None:
        """Nobody has touched what Virtual Functions depend on since they were preserved."""
        assert self.done(boot) == self.before.get(boot, ([], 0))
        assert sriov.enabled(self.machine, PF) == VFS
        assert self.goes_on(self.kept)


def take_back(host: Host, order: str) -> None:
    """After the kexec: what both do, in that order."""
    machine, boot = host.machine, host.machine.boot
    now = time.time()
    assert touched(machine, PF, now, boot) == []
    assert touched(machine, host.kept, now, boot) == []
    # Nobody but the user's driver gets it, and no Virtual Function has one before it has.
    assert not host.bind(PF, sriov.STUB)
    assert not host.bind(host.kept)
    for step in order:
        if step == "B":
            assert host.bind(PF)
            machine.sh(f"for i in $(seq 50); do test -e {attribute(machine, host.kept, 'driver')} "
                       "&& exit 0; sleep 0.1; done; exit 1")
            # As in the previous kernel: no other driver gets any of them by itself.
            assert {machine.sh(f"cat {attribute(machine, vf, 'driver_override')}").out.strip()
                    for vf in host.vfs} == {"vfio-pci"}
        elif step == "P":
            host.owner.take_back(PF, finish=False, token=TOKEN)
        elif step == "V":
            agent = host.tenant.start()
            agent.do("retrieve-session s tenant", f"retrieve s 1 memory {host.kept}-ram",
                     f"retrieve s 2 device {host.kept}")
            # The word is as good as it was, and needed as before.
            assert agent.refused(f"bind {host.kept}") == "EACCES"
            agent.do(f"token {host.kept} {WRONG}")
            assert agent.refused(f"bind {host.kept}") == "EACCES"
            agent.do(f"token {host.kept} {TOKEN}", f"bind {host.kept}", f"attach {host.kept}",
                     f"map {host.kept} {host.kept}-ram")
        elif step == "p":
            host.owner.finish()
        else:
            host.tenant.finish()
        host.undisturbed(boot)
        if step in "Pp" and "v" in order[order.index(step):]:
            # Its owner has it, and cannot disturb the others.
            assert host.owner.refused(f"reset {PF}") == "EBUSY"


@pytest.mark.matrix([(order,) for order in ORDERS], 1)
@pytest.mark.console(console.REFUSED)
def test_sriov_user_takes_back(vm: Lab, variant: str, case: tuple[str]) -> None:
    host = Host(vm, variant=variant)
    machine = host.machine
    before, addresses = functions(machine), sriov.resources(machine, PF, *host.vfs)
    for _ in range(2):
        host.preserve()
        assert host.states() == ["preserved"] * 2
        assert host.owner.refused(f"reset {PF}") == "EBUSY"
        host.undisturbed(machine.boot)
        host.update()
        assert functions(machine) == before
        assert sriov.resources(machine, PF, *host.vfs) == addresses
        assert host.states() == ["incoming"] * 2
        take_back(host, case[0])
        assert host.states() == ["none"] * 2
    # Control: now its owner may do to it what he likes, and that is seen.
    host.owner.do(f"reset {PF}")
    assert resets(machine, PF, 3)


def test_control_sriov_function_that_is_bound_first_needs_no_token(vm: Lab, variant: str) -> None:
    """Where it does not wait for its Physical Function, the kernel knows no word to ask for."""
    host = Host(vm, variant=variant)
    host.preserve()
    host.machine.kexec(extra=f"{WORDS} pci_liveupdate.break={1 << 63:#x}")
    assert host.bind(host.kept)
    agent = host.tenant.start()
    agent.do("retrieve-session s tenant", f"retrieve s 2 device {host.kept}", f"bind {host.kept}")


@pytest.mark.console(console.REFUSED, NOT_PRESERVED, WAITS, *console.UNBINDING,
                     "luo: Freeze failed for FLB 'pci'", *UNLOCKED,
                     "Live Update: cannot be preserved: that takes version 0x4c550002")
def test_sriov_user_leaves_before_the_kexec(vm: Lab, variant: str) -> None:
    """His session, and he himself: it is stopped, the others go on, and there is no kexec."""
    host = Host(vm, variant=variant)
    machine, owner, tenant = host.machine, host.owner, host.tenant
    tenant.do("session early tenant-early")
    assert tenant.refused(f"preserve early 1 {host.kept}") == "EOPNOTSUPP"
    assert NOT_PRESERVED in machine.sh(f"cat {attribute(machine, host.kept, 'liveupdate/refusal')}"
                                       ).out
    host.preserve()
    owner.do("close s")
    assert host.states() == ["preserved"] * 2
    assert machine.load(extra=WORDS).rc == 0
    refused = machine.jump()
    assert refused is not None and refused.json()["errno"] == "EOPNOTSUPP"
    # He may think better of it, and need not find the right moment at once.
    was = machine.sh(f"cat {NEWEST}; echo {ABI_V1} >{NEWEST}").out
    owner.do("session early owner-early")
    assert owner.refused(f"preserve early 1 {PF}") == "EOPNOTSUPP"
    owner.do("close early")
    machine.sh(f"echo {was.strip()} >{NEWEST}")
    owner.preserve(PF)
    owner.do("close s")
    assert host.goes_on(PF)
    owner.do("quit")
    machine.sh("while pidof vfio_agent | grep -q ' '; do sleep 0.1; done")
    assert not host.goes_on(PF)
    host.undisturbed(1)
    # What he left in it is for nobody else's eyes, and his driver waits with its leaving.
    other = Agent(machine, "other").start()
    other.do(f"open {PF} {machine.topology.bdf[PF]}", f"token {PF} {TOKEN}")
    assert other.refused(f"bind {PF}") == "EBUSY"
    other.do("quit")
    machine.sh(f"(pci_cfg unbind {machine.topology.bdf[PF]}; touch /tmp/unbound) "
               ">/dev/null 2>&1 &")
    time.sleep(2)
    assert machine.run("test -e /tmp/unbound").rc != 0
    assert host.done(1) == host.before[1] and host.goes_on(host.kept)
    refused = machine.jump()
    assert refused is not None and refused.json()["errno"]
    tenant.do("close s", f"close {host.kept}")
    machine.sh("while ! test -e /tmp/unbound; do sleep 0.1; done")
    # Control: without them all is as ever.
    assert control_writes(machine, PF, 1)[-1] & sriov.ENABLE == 0
    assert sriov.links(machine, PF) == []
    assert state(machine, PF) == "none"
    # The reset that could not be when he left comes before the next driver.
    assert resets(machine, PF, 1) == host.before[1][1]
    assert host.bind(PF, STUB)
    assert resets(machine, PF, 1) == host.before[1][1] + 1


def end(agent: Agent) -> None:
    """A session that nobody takes anything back from."""
    agent.start().do(f"retrieve-session s {agent.name}", "finish s", "close s")


def await_reset(host: Host) -> None:
    """The Physical Function is reset, once."""
    for _ in range(50):
        if resets(host.machine, PF, 2):
            break
        time.sleep(0.1)
    time.sleep(1)
    assert resets(host.machine, PF, 2) == 1


def stopped_at(host: Host, id: str) -> float:
    """When a function lost Bus Master in the second kernel, which happened once by itself."""
    times = [w.time for w in witness.read(host.machine).writes(id, 2)
             if w.offset == COMMAND and not w.value & MASTER]
    assert times
    return times[0]


def reset_at(host: Host, id: str) -> float:
    """When a function was told to reset itself first. All of a device have it in one place."""
    at = sriov.device_control(host.machine, PF)
    return next(w.time for w in witness.read(host.machine).writes(id, 2)
                if w.offset == at and w.value & sriov.FLR)


@pytest.mark.console(console.STOPPED, console.REFUSED, *UNLOCKED)
def test_sriov_user_does_not_come_back(vm: Lab, variant: str) -> None:
    """He does not take it back: it is stopped, and the others go on."""
    host = Host(vm, variant=variant)
    owner = host.owner
    host.preserve()
    host.update()
    assert host.bind(PF)
    owner.start().do("retrieve-session s owner", "finish s")
    assert not host.goes_on(PF)
    host.undisturbed(2)
    assert host.states() == ["incoming"] * 2
    host.tenant.take_back(host.kept, token=TOKEN)
    host.undisturbed(2)
    assert host.states() == ["none"] * 2
    # The reset that it is owed waits for those who work with a Virtual Function, and comes
    # before its next driver.
    time.sleep(1)
    host.undisturbed(2)
    host.tenant.do("quit")
    host.machine.sh("while pidof vfio_agent | grep -q ' '; do sleep 0.1; done")
    assert resets(host.machine, PF, 2) == 0
    assert host.bind(PF, STUB)
    await_reset(host)


@pytest.mark.console(console.STOPPED, console.REFUSED)
def test_sriov_user_comes_back_too_late(vm: Lab, variant: str) -> None:
    """He has it, and does not use it when he finishes: it is stopped, and not his to go on with."""
    host = Host(vm, variant=variant)
    owner = host.owner
    host.preserve()
    host.update()
    assert host.bind(PF)
    owner.start().do("retrieve-session s owner", f"retrieve s 1 memory {PF}-ram",
                     f"retrieve s 2 device {PF}", "finish s", f"token {PF} {TOKEN}")
    assert not host.goes_on(PF)
    assert owner.refused(f"bind {PF}") == "EBUSY"
    host.tenant.take_back(host.kept, token=TOKEN)
    host.undisturbed(2)
    # Control: when nobody needs it as it is he gets it, and gets it reset.
    owner.do(f"bind {PF}")
    assert resets(host.machine, PF, 2) == 1


@pytest.mark.parametrize("first", ["owner", "tenant"])
@pytest.mark.console(console.STOPPED, console.REFUSED)
def test_sriov_nobody_comes_back(vm: Lab, variant: str, first: str) -> None:
    """Whoever's session ends first: the Virtual Function goes, then the Physical one is reset."""
    host = Host(vm, variant=variant)
    machine = host.machine
    host.preserve()
    host.update()
    agents = [host.owner, host.tenant] if first == "owner" else [host.tenant, host.owner]
    end(agents[0])
    assert host.done(2) == ([], 0)
    assert [host.goes_on(id) for id in (PF, host.kept)] == [first != "owner", first == "owner"]
    end(agents[1])
    await_reset(host)
    assert stopped_at(host, host.kept) <= reset_at(host, host.kept) < reset_at(host, PF)
    assert stopped_at(host, PF) < reset_at(host, PF)
    assert host.states() == ["none"] * 2
    # They are there, and good for whoever comes next.
    assert sriov.links(machine, PF) == [machine.topology.bdf[vf] for vf in host.vfs]
    # But for QEMU, which forgets them when its NVMe is reset, and leaves VF Enable as it was.
    assert host.bind(PF, sriov.STUB)
    assert attempt(machine, attribute(machine, PF, "sriov_numvfs"), "0") == ""
    sriov.enable(machine, PF, VFS)
    Agent(machine, "next").start().take(host.kept).set_command(host.kept, MASTER)
    assert host.goes_on(host.kept)


@pytest.mark.console(console.STOPPED, console.REFUSED)
def test_control_sriov_user_who_does_not_come_back_takes_them_along(vm: Lab, variant: str) -> None:
    """Without what is refused for their sake: his function is reset while others are at work."""
    host = Host(vm, variant=variant)
    host.preserve()
    host.update()
    host.machine.sh("echo 0xa0 >/sys/module/pci_liveupdate/parameters/break")
    end(host.owner)
    assert resets(host.machine, PF, 2) == 1


LEFT = 0x4000000    # pci_liveupdate.break: nothing is stopped, nor reset


@pytest.mark.parametrize("first", ["owner", "tenant", "control"])
@pytest.mark.console(console.MISSED, console.LOST, console.STOPPED)
def test_sriov_function_of_a_user_is_lost(vm: Lab, variant: str, first: str) -> None:
    """Another device is in its place: all of it goes, each before what it depends on."""
    host = Host(vm, variant=variant)
    machine = host.machine
    machine.sh("echo 0x40 >/sys/module/pci_liveupdate/parameters/break")
    host.preserve()
    host.update()
    assert state(machine, PF) == "lost"
    assert sriov.links(machine, PF) == []
    assert written(machine, PF, time.time()) == written(machine, host.kept, time.time()) == []
    if first == "control":
        machine.sh(f"echo {LEFT:#x} >/sys/module/pci_liveupdate/parameters/break")
    agents = [host.tenant, host.owner] if first == "tenant" else [host.owner, host.tenant]
    end(agents[0])
    if first == "control":
        assert host.done(2) == ([], 0)
        assert written(machine, host.kept, time.time()) == []
        return
    done = host.done(2)
    assert [value & sriov.ENABLE for value in done[0]] == [0]
    assert done[1] == (first == "owner")
    if first == "tenant":
        assert host.goes_on(PF)
    end(agents[1])
    assert host.done(2) == (done[0], 1)
    trace = witness.read(machine)
    assert [w.value & MASTER for w in trace.writes(host.kept, 2) if w.offset == COMMAND] == [0]
    at = sriov.control(machine, PF)
    disabled = next(w.time for w in trace.writes(PF, 2) if w.offset == at)
    assert stopped_at(host, host.kept) < disabled < stopped_at(host, PF) < reset_at(host, PF)
    assert state(machine, PF) == "none"


@pytest.mark.console(console.REFUSED)
def test_sriov_user_dies_after_the_kexec(vm: Lab, variant: str) -> None:
    """He has it back, has finished, and goes: as before, until the last of them is finished."""
    host = Host(vm, variant=variant)
    machine, owner = host.machine, host.owner
    host.preserve()
    host.update()
    assert host.bind(PF)
    owner.take_back(PF, token=TOKEN)
    assert host.goes_on(PF)
    assert host.states() == ["claimed", "incoming"]
    owner.do("quit")
    machine.sh("while pidof vfio_agent; do sleep 0.1; done")
    assert not host.goes_on(PF)
    host.undisturbed(2)
    host.tenant.take_back(host.kept, token=TOKEN)
    host.undisturbed(2)
    # Control: the next user of it gets it reset.
    Agent(machine, "next").start().take(PF, token=TOKEN)
    assert resets(machine, PF, 2)


@pytest.mark.console(console.REFUSED)
def test_control_sriov_functions_go_when_their_user_leaves(vm: Lab, variant: str) -> None:
    """Without what is refused for their sake, the close resets the Physical Function."""
    host = Host(vm, variant=variant)
    machine = host.machine
    host.preserve()
    machine.sh("echo 0xa0 >/sys/module/pci_liveupdate/parameters/break")
    host.owner.do("quit")
    for _ in range(50):
        if host.done(1) != host.before[1]:
            return
        time.sleep(0.1)
    raise AssertionError("it is not reset")
