# SPDX-License-Identifier: GPL-2.0
"""Virtual Functions that receive by themselves lose no frame, whoever has the Physical one."""

from __future__ import annotations

import itertools
import time
from typing import Any, Callable

import pytest

from rig import config, console, sriov, vtd
from rig import igb as hw
from rig.agent import Agent
from rig.keeper import attribute, driver, state
from rig.lab import Lab
from rig.machine import LIVE_UPDATE, Machine
from rig.sriov import LEFT_ON, control_writes, resets
from rig.topology import Topology, igb, root_port
from rig.untouched import COMMAND, touched, written

PF, VFS = "igb0", 3
WORDS = "vfio_pci.enable_sriov=1"
TOKEN = "00112233445566778899aabbccddeeff"
MASTER, MEMORY = 0x4, 0x2
RING_PAGES, MEMORY_PAGES = 32, 512
IOVA = 0x8000000
TRANSLATED = "intel_iommu=on iommu.passthrough=0 memmap=8M$0x8000000"


class Host:
    """Two of three Virtual Functions are a tenant's, and receive 250 frames a second each."""

    def __init__(self, vm: Lab, owner: str = sriov.STUB, translated: bool = False,
                 **options: object) -> None:
        if translated:
            options |= {"iommu": True, "trace": vtd.EVENTS,
                        "cmdline": f"{LIVE_UPDATE} {TRANSLATED}"}
        self.driven = owner == hw.DRIVER
        self.machine: Any = vm(Topology(root_port("rp0", igb(PF))), needs="igb", first=WORDS,
                               kind=hw.DriverMachine if self.driven else Machine, **options)
        self.bdf = self.machine.topology.bdf[PF]
        self.owner: Agent | None = None
        if self.driven:
            self.machine.drive(PF)
        elif owner == "vfio-pci":
            self.owner = Agent(self.machine, "owner").start().take(PF)
            self.owner.do(f"set-token {PF} {TOKEN}")
            self.owner.set_command(PF, MASTER | MEMORY)
        self.vfs = sriov.enable(self.machine, PF, VFS, owner)
        if self.driven:
            self.machine.carrier(PF)
        elif not self.owner:
            self.master(True)
        self.tenant = Agent(self.machine, "tenant").start()
        self.rings = [self.ring(self.tenant, vf, IOVA + n * 0x400000 if translated else None)
                      for n, vf in enumerate(self.vfs[:2])]
        if not self.driven:
            hw.link_up(self.poke())
            hw.set_up(self.poke(), 2)
        for ring in self.rings:
            if self.driven:
                ring.introduce()
            ring.receive()
        self.sender = self.machine.senders[PF]

    def token(self) -> str:
        return TOKEN if self.owner else ""

    def ring(self, agent: Agent, vf: str, iova: int | None) -> hw.Vf:
        """One of them, with its memory."""
        agent.take(vf, pages=MEMORY_PAGES, iova=iova, token=self.token())
        agent.set_command(vf, MASTER | MEMORY)
        return hw.Vf(agent, vf, RING_PAGES, iova)

    def poke(self) -> Callable[[int, int], None]:
        """How registers of the Physical Function are written."""
        if self.owner:
            return lambda offset, value: self.owner.write(PF, offset, value)
        return lambda offset, value: self.machine.json(
            f"pci_cfg poke {self.bdf} 0 {offset:#x} {value:#x}") and None

    def master(self, on: bool) -> None:
        """Bus Master of the Physical Function, which QEMU's Virtual Functions need."""
        command = config.read(self.machine, self.bdf).get(COMMAND, 2)
        command = command | MASTER | MEMORY if on else command & ~MASTER
        config.write(self.machine, self.bdf, COMMAND, command.to_bytes(2, "little"))

    def settle(self) -> list[int]:
        """Stop the frames: how many has each received, when as many as were sent could be?"""
        sent = self.sender.stop()
        for _ in range(50):
            if all(ring.received == sent for ring in self.rings):
                break
            time.sleep(0.1)
        return [ring.received - sent for ring in self.rings]

    def serve(self, neighbour: hw.Vf) -> None:
        """An ordinary function beside them begins to receive, and none of them loses anything."""
        neighbour.receive()
        sent = self.sender.sent
        self.sender.start()
        time.sleep(1)
        assert self.settle() == [0, 0]
        assert neighbour.received == self.sender.sent - sent > 0

    def update(self, extra: str = "") -> None:
        """Into the next kernel and on, with frames all the while."""
        machine = self.machine
        for ring in self.rings:
            ring.refill()
        if self.owner:
            self.owner.preserve(PF)
        self.tenant.preserve(*self.vfs[:2])
        machine.kexec("next" if machine.boot % 2 else "kernel", extra=f"{WORDS} {extra}")
        now, boot = time.time(), machine.boot
        for id in (PF, *self.vfs[:2]):
            assert touched(machine, id, now, boot) == []
        if self.driven:
            machine.drive(PF)
        elif self.owner:
            self.owner.take_back(PF, token=TOKEN)

    def kept(self) -> None:
        """Nobody has enabled, disabled or reset anything."""
        boot = self.machine.boot
        assert control_writes(self.machine, PF, boot) == []
        assert [resets(self.machine, id, boot) for id in (PF, *self.vfs[:2])] == [0] * 3
        assert [state(self.machine, id) for id in (PF, *self.vfs)] == ["none"] * (1 + VFS)


# A debug kernel takes its time to start, and a ring takes 8,192 frames.
DEBUG = {"variant": "debug", "rate": 40.0}


@pytest.mark.matrix([*itertools.product((sriov.STUB, "vfio-pci"), ("debug", "arm64")),
                     (hw.DRIVER, "debug")], 1)
@pytest.mark.console(LEFT_ON)
def test_sriov_functions_receive_elsewhere(vm: Lab, case: tuple[str, str]) -> None:
    host = Host(vm, case[0], **(DEBUG if case[1] == "debug" else {"arch": case[1]}))
    if host.driven:
        receives_beside_igb(host)
    else:
        receives(host)


@pytest.mark.parametrize("owner", [sriov.STUB, "vfio-pci"])
@pytest.mark.console(LEFT_ON)
def test_sriov_functions_receive(vm: Lab, owner: str) -> None:
    receives(Host(vm, owner))


def receives(host: Host) -> None:
    """Three updates in a row, and at their end a neighbour that nobody preserved."""
    machine = host.machine
    host.sender.start()
    time.sleep(1)
    for _ in range(3):
        host.update()
        host.tenant.take_back(*host.vfs[:2], token=host.token())
        host.kept()
    assert host.settle() == [0, 0]
    assert host.sender.sent > 1000 and host.sender.refused == []

    # The third is an ordinary function: reset before it has a driver, and good for use.
    other = host.vfs[2]
    assert resets(machine, other, 4) == 0
    if not host.owner:
        machine.json(f"pci_cfg bind {host.bdf} {sriov.STUB}")
    neighbour = host.ring(Agent(machine, "other").start(), other, None)
    assert resets(machine, other, 4) >= 1
    hw.set_up(host.poke(), VFS)
    host.serve(neighbour)

    # Control: what disturbs the Physical Function is seen in the others.
    if host.owner:
        host.owner.do(f"config-write {PF} {COMMAND} 2 {MEMORY:#x}")
    else:
        host.master(False)
    host.sender.start()
    time.sleep(1)
    # A queue that was reset begins to count anew.
    assert 0 not in host.settle()


def test_sriov_functions_receive_while_igb_has_theirs(vm: Lab) -> None:
    receives_beside_igb(Host(vm, hw.DRIVER))


def receives_beside_igb(host: Host) -> None:
    """It begins anew in each kernel, by reading, and goes down and up under them."""
    machine = host.machine
    host.sender.start()
    time.sleep(1)
    for _ in range(2):
        host.update()
        boot = machine.boot
        assert driver(machine, PF) == hw.DRIVER
        assert state(machine, PF) == "claimed"
        for flags in (hw.DOWN, hw.UP):
            machine.interface(PF, flags)
        host.tenant.take_back(*host.vfs[:2])
        host.kept()
        # They are finished and in use: it goes on like that.
        for flags in (hw.DOWN, hw.UP):
            machine.interface(PF, flags)
        machine.carrier(PF)
    assert host.settle() == [0, 0]
    assert host.sender.sent > 1000 and host.sender.refused == []

    # The third is an ordinary function, which finds somebody to talk to.
    assert resets(machine, host.vfs[2], boot) == 0
    neighbour = host.ring(Agent(machine, "other").start(), host.vfs[2], None)
    assert resets(machine, host.vfs[2], boot) >= 1
    neighbour.introduce()
    host.serve(neighbour)
    assert control_writes(machine, PF, boot) == []


def test_control_igb_ends_them_when_it_is_not_told(vm: Lab) -> None:
    """With nothing refused, it does what it does in stock Linux: it resets the device."""
    host = Host(vm, hw.DRIVER)
    host.sender.start()
    time.sleep(1)
    host.update("pci_liveupdate.break=0x20")
    host.tenant.take_back(*host.vfs[:2])
    # A queue that was reset begins to count anew.
    assert 0 not in host.settle()


@pytest.mark.console("cannot be (preserved|handed over): driver igb of its Physical Function",
                     "Live Update: no longer preserved", "luo: Freeze failed for FLB 'pci'",
                     "Cannot deallocate SR-IOV virtual functions", LEFT_ON, console.REFUSED)
def test_sriov_functions_that_igb_cannot_keep_are_refused(vm: Lab) -> None:
    """And those that it keeps it does not let go of, whoever has it unbound."""
    host = Host(vm, hw.DRIVER)
    machine, tenant = host.machine, host.tenant
    machine.interface(PF, hw.DOWN)
    tenant.do("session early tenant-early")
    assert tenant.refused(f"preserve early 1 {host.vfs[0]}") == "EOPNOTSUPP"
    assert [state(machine, id) for id in (PF, *host.vfs)] == ["none"] * (1 + VFS)
    assert "set that up" in machine.sh("dmesg").out
    # What has gone down has forgotten them: they begin anew.
    machine.interface(PF, hw.UP)
    machine.carrier(PF)
    for ring in host.rings:
        ring.introduce()
        ring.receive()
    tenant.do("close early")
    tenant.preserve(*host.vfs[:2])
    before = control_writes(machine, PF, 1)
    host.sender.start()
    assert machine.run(f"pci_cfg bind {host.bdf} {sriov.STUB}").json()["errno"] == "ENODEV"
    assert driver(machine, PF) is None
    machine.json(f"pci_cfg bind {host.bdf} {hw.DRIVER}")
    assert driver(machine, PF) == hw.DRIVER
    machine.interface(PF, hw.UP)
    machine.carrier(PF)
    time.sleep(1)
    assert host.settle() == [0, 0]
    assert control_writes(machine, PF, 1) == before
    # Control: when nobody needs them any more, it lets them go.
    tenant.do("close s", *(f"close {vf}" for vf in host.vfs[:2]))
    machine.sh(f"echo 0 >{attribute(machine, PF, 'sriov_numvfs')}")
    assert sriov.links(machine, PF) == []


def test_sriov_what_igb_is_asked_for_while_it_shares(vm: Lab) -> None:
    """Buffers are as long as its own frames may be, and Virtual Functions hear what they want."""
    host = Host(vm, hw.DRIVER)
    machine, (one, two) = host.machine, host.rings

    def register(offset: int) -> int:
        return int(machine.json(f"pci_cfg peek {host.bdf} 0 {offset:#x}")["value"], 16)

    def longest(mtu: int = 0) -> int:
        if mtu:
            machine.sh(f"for f in {attribute(machine, PF, 'net')}/*/mtu; do echo {mtu} >$f; done")
        return register(hw.VMOLR + 4 * VFS) & hw.LONGEST

    def hears(number: int) -> bool:
        return bool(register(hw.VMOLR + 4 * number) & hw.HASHED)

    short, long = longest(1500), longest(9000)
    assert 1518 <= short < 2048 and long > 9018
    # It has been down, and has forgotten them.
    machine.carrier(PF)
    for ring in host.rings:
        ring.introduce()
        ring.receive()
    one.hear(33)
    assert [hears(n) for n in range(2)] == [True, False] and register(hw.MTA + 4) == 0b0010
    host.sender.start()
    time.sleep(1)
    host.update()
    # This kernel's driver has short ones, and may be told otherwise.
    assert [longest(), longest(9000), longest(1500)] == [short, long, short]
    host.tenant.take_back(*host.vfs[:2])
    two.hear(34, 35, 36)
    # Control: the hash of the first is known to the hardware alone.
    assert [hears(n) for n in range(2)] == [True, True] and register(hw.MTA + 4) == 0b11110
    two.hear()
    assert [hears(n) for n in range(2)] == [True, False]
    host.kept()
    assert host.settle() == [0, 0]


def allow(machine: Machine, number: int, what: str, value: int) -> None:
    """What igb lets a Virtual Function do."""
    machine.json(f"vf_set $(ls {attribute(machine, PF, 'net')}) {number} {what} {value}")


@pytest.mark.parametrize("what, value, said", [("trust", 1, "set trust off"),
                                               ("rate", 100, "set that off")])
@pytest.mark.console("cannot be (preserved|handed over): driver igb of its Physical Function",
                     "luo: Freeze failed for FLB 'pci'", "VF \\d is( not)? trusted")
def test_sriov_what_igb_could_not_tell_is_refused(vm: Lab, what: str, value: int,
                                                  said: str) -> None:
    """Before preserve, and between preserve and the kexec; taken back, all goes on."""
    host = Host(vm, hw.DRIVER)
    machine, tenant = host.machine, host.tenant
    allow(machine, 1, what, value)
    tenant.do("session early tenant-early")
    # It is a setting of the device: another's Virtual Function cannot be kept with it either.
    assert [tenant.refused(f"preserve early 1 {vf}") for vf in host.vfs[:2]] == ["EOPNOTSUPP"] * 2
    assert said in machine.sh("dmesg").out
    allow(machine, 1, what, 0)
    tenant.do("close early")
    for ring in host.rings:
        ring.refill()
    tenant.preserve(*host.vfs[:2])
    allow(machine, 1, what, value)
    assert machine.load().rc == 0
    assert machine.run("kexec_try exec").json()["errno"] == "EOPNOTSUPP"
    assert [state(machine, id) for id in host.vfs[:2]] == ["preserved"] * 2
    allow(machine, 1, what, 0)
    tenant.do("close s")
    host.sender.start()
    time.sleep(1)
    host.update()
    host.tenant.take_back(*host.vfs[:2])
    host.kept()
    assert host.settle() == [0, 0]


@pytest.mark.console(console.UNIT_OFF)
def test_sriov_functions_receive_where_a_unit_would_be_switched_on(vm: Lab) -> None:
    """Their Physical Function answers for them: they come when the unit has long been started."""
    host = Host(vm, iommu=True, trace=vtd.EVENTS, cmdline=f"{LIVE_UPDATE} intel_iommu=off")
    host.sender.start()
    time.sleep(1)
    host.update("intel_iommu=on")
    host.tenant.take_back(*host.vfs[:2])
    host.kept()
    assert host.settle() == [0, 0]
    assert vtd.read(host.machine).switched() == []
    assert "stays off despite the command line" in host.machine.sh("dmesg").out


def test_sriov_functions_receive_translated(vm: Lab) -> None:
    """Behind VT-d each goes on in a domain of its own, as a function of its own."""
    host = Host(vm, translated=True)
    machine = host.machine
    host.sender.start()
    time.sleep(1)
    host.update()
    assert {machine.sh(f"cat {attribute(machine, vf, 'liveupdate/dma')}").out.strip()
            for vf in host.vfs[:2]} == {"translated"}
    agent = host.tenant.start()
    agent.do("retrieve-session s tenant")
    for n, vf in enumerate(host.vfs[:2]):
        machine.json(f"pci_cfg bind {machine.topology.bdf[vf]}")
        agent.do(f"retrieve s {2 * n + 1} memory {vf}-ram", f"retrieve s {2 * n + 2} device {vf}",
                 f"bind {vf}", f"ioas {vf}", f"map {vf} {vf}-ram {IOVA + n * 0x400000:#x}",
                 f"attach {vf} ioas")
    agent.finish()
    host.kept()
    time.sleep(1)
    assert host.settle() == [0, 0]
    assert host.sender.sent > 500 and host.sender.refused == []
    unit = vtd.read(machine)
    assert unit.faults == []
    assert not [w for w in written(machine, PF, time.time()) if w.offset == COMMAND]
    # Control: the unit knows them apart.
    names = {machine.topology.bdf[vf][5:] for vf in host.vfs[:2]}
    assert names <= {access.bdf for access in unit.accesses}
