# SPDX-License-Identifier: GPL-2.0
"""What may be running is stopped before memory of its session is freed, whatever became of it.

A table of reasons why a device cannot be had in the next kernel. In one machine for each there is a
NIC for every way in which a session ends, and one whose session nobody ends before the next kexec.
Freed memory is zeroed, or filled with a pattern, so what a NIC left in it later can only have come
by DMA after the free.
"""

from __future__ import annotations

import re
import struct
import time
from dataclasses import dataclass
from typing import Callable

import pytest

from rig import config, console, topology, witness
from rig.agent import Agent
from rig.frames import SIZE
from rig.keeper import attempt, attribute, functions, state
from rig.lab import Lab
from rig.machine import NATIVE_HOTPLUG, Machine
from rig.outside import Reachable
from rig.receiver import Receiver
from rig.tools import Borrower, ToolsMachine
from rig.topology import Topology, downstream, host, nic, root_port, switch
from rig.untouched import bar

# Devices are lost, missed, removed and failed here.
pytestmark = pytest.mark.console(
    console.LOST, console.STOPPED, console.MISSED, console.GONE, *console.FATAL,
    *console.UNNUMBERED, "Live Update: stopped, but", "MMCONFIG is disabled")

BREAK = "/sys/module/pci_liveupdate/parameters/break"
HOSTILE = "/sys/module/pci_liveupdate_hostile/parameters"
NO_IDENTITY, NO_REFUSALS, NO_STOP = 0x40, 0x20, 0x4000000
COMMAND, DECODE, SERR = 0x04, 0x3, 0x100
NO_KEXEC = "Live Update: no kexec while a device is running that cannot be stopped"
BAR0, BUS_NUMBERS, INTERRUPT_LINE = 0x10, 0x18, 0x3C
DESCRIPTOR = struct.Struct("<QHHBBH")       # buffer, length, _, status, errors, VLAN
DONE = 1


class Host(Reachable, ToolsMachine):
    """pcilud has /dev/liveupdate alone, and is started when its turn comes."""

    def start(self) -> Host:
        Machine.start(self)
        return self


class Owner(Receiver):
    """A driver whose memory is looked at when it is gone."""

    memory = range(0)

    def preserve(self) -> None:
        super().preserve()
        self.memory = self.ring


class Client(Owner, Borrower):
    """The same, with its session from a pcilud of its own: after all others."""

    machine: Host

    def command(self, verb: str, *options: str) -> str:
        self.machine.daemon()
        return super().command(verb, *options)


# --- how a session ends -------------------------------------------------------------------------

def finish(receiver: Owner) -> str:
    """Its holder says so; the errno, if any."""
    return str(receiver.try_ctl("finish").get("errno", ""))


def close(receiver: Owner) -> str:
    """Its holder closes it."""
    receiver.ctl("close-session")
    return ""


def kill(receiver: Owner) -> str:
    """Its holder dies, and has no say."""
    receiver.machine.sh("for p in $(pidof e1000e_rx); do "
                        f"grep -q {receiver.name} /proc/$p/cmdline || continue; "
                        "kill -9 $p; while kill -0 $p 2>/dev/null; do sleep 0.1; done; done")
    return ""


def daemon(client: Client) -> str:
    """Its holder has died before; pcilud dies, and has no time to do anything, either."""
    kill(client)
    # Control: pcilud holds it still.
    assert written(client)
    client.machine.kill_daemon()
    return ""


ENDS: dict[str, Callable[..., str]] = {"finish": finish, "close": close, "kill": kill,
                                       "daemon": daemon}
ALL = ("leave", *ENDS)


# --- why it cannot be had -----------------------------------------------------------------------

Writes = list[tuple[int, int]]

# What the next kernel does with memory that is freed. The debug kernel looks at its pattern when it
# gives a page out again, and tells if it is another one by then.
WIPED = {"release": "init_on_free=1", "debug": "page_poison=1"}
# What a kernel says that is not to ask ACPI for host bridges; and the debug kernel of the second
# one, in whose _PRT it is half a minute, and gives up.
WITHOUT_ACPI = ("ACPI: (MPS support code is not built-in|setting ELCR to)|PMU not available due to|"
                r"bridge window \[io +size 0x0080\]: alignment must not be zero|"
                "ACPI Error: .*_PRT due to previous error|PCI INT A(: no GSI|$)")
CORRUPTED = "pagealloc: (memory corruption|single bit error)"


def other_bars(machine: Reachable) -> Writes:
    return [machine.flipped(id, BAR0, 1 << 22) for id in nics()]


def other_primaries(machine: Reachable) -> Writes:
    return [machine.flipped(f"rp-{end}", BUS_NUMBERS, 0x40) for end in ALL]


def other_buses(machine: Reachable) -> Writes:
    """Up to 80-8f, where nobody is; what QEMU forwards follows."""
    return [machine.flipped(f"rp-{end}", BUS_NUMBERS, 0x808000) for end in ALL]


def removed(machine: Reachable) -> None:
    """By software, past the refusal."""
    machine.sh(f"echo {NO_REFUSALS | broken(machine)} >{BREAK}")
    for id in nics():
        assert not attempt(machine, attribute(machine, id, "remove"), "1")
    machine.sh(f"echo {broken(machine)} >{BREAK}")


def failed(machine: Reachable) -> None:
    """Each has a fatal error."""
    for end in ALL:
        port = machine.topology.bdf[f"rp-{end}"]
        command = config.read(machine, port).get(COMMAND, 2)
        config.write(machine, port, COMMAND, (command | SERR).to_bytes(2, "little"))
        machine.hmp(f"pcie_aer_inject_error rp-{end} DLP")
        machine.sh(f"until grep -q dead {attribute(machine, f'nic-{end}', 'liveupdate/state')}; "
                   "do sleep 0.1; done")
    machine.sh("sleep 2")


def broken(machine: Reachable) -> int:
    return int(machine.sh(f"cat {BREAK}").out)


@dataclass(frozen=True)
class Reason:
    """A row: what is done, what sysfs says of each NIC, and whether it can be stopped."""

    state: str                  # "" if it has not been found
    line: str = ""              # for the next kernel; {start} and {bdf} of each NIC
    first: str = ""             # for this one
    gap: Callable[[Reachable], Writes] | None = None     # done between the kernels, from outside
    then: Callable[[Reachable], None] | None = None      # done in the next one
    stopped: bool = True        # or its session stays
    splat: str = ""
    native: bool = False        # hot-plug: without, QEMU's ports tell of no link after a reset
    root: int = 0               # the bus that the ports are on
    why: str = ""               # it cannot be stopped
    ends: tuple[str, ...] = ALL


# Those that differ in kind come first: a default run has each of them.
KINDS = 4
REASONS = {
    "bar-in-a-firmware-table": Reason("lost", "memmap=4K#{start:#x}"),
    "bridge-with-other-numbers": Reason("", gap=other_buses, stopped=False,
                                        why="a bridge above it has other bus numbers"),
    "removed-by-software": Reason("", then=removed),
    "failed-without-a-reset": Reason("dead", "pci_liveupdate_hostile.no_reset=1", then=failed,
                                     splat="AER: subordinate device reset failed", native=True),
    "not-retrieved": Reason("incoming"),
    "bar-taken-early": Reason("lost", "reserve={start:#x},4096",
                              ends=(*ENDS,)),   # the kernel takes no more than four
    "root-bus-not-looked-for": Reason("", "pci=noacpi pci=lastbus=0x7f", root=0x80,
                                      stopped=False, splat=WITHOUT_ACPI,
                                      why="no host bridge leads there"),
    "not-to-be-verified": Reason("lost", "pci=nommconf"),
    "other-identity": Reason("lost", first=f"pci_liveupdate.break={NO_IDENTITY}"),
    "other-bar": Reason("lost", gap=other_bars),
    "bridge-refused-its-numbers": Reason("", gap=other_primaries),
    "failed-and-reset": Reason("dead", then=failed, native=True),
}


def nics() -> list[str]:
    return [f"nic-{end}" for end in ALL]


def machine_for(vm: Lab, reason: Reason, variant: str = "release",
                extra: str = "") -> dict[str, Owner]:
    """Preserve one NIC for each end, and let the reason have its way."""
    if reason.splat:
        vm.expect_splat(reason.splat)
    for line in () if reason.stopped else (*console.KEPT, NO_KEXEC):
        vm.expect_splat(line)
    ports = [root_port(f"rp-{end}", nic(f"nic-{end}")) for end in reason.ends]
    tree = Topology(host("host1", reason.root, *ports)) if reason.root else Topology(*ports)
    machine: Host = vm(tree, kind=Host, variant=variant, first=reason.first,
                       rate=100, args=NATIVE_HOTPLUG if reason.native else [])
    ends = {end: (Client if end == "daemon" else Owner)(machine, f"nic-{end}")
            for end in reason.ends}
    receivers = ends.values()
    for receiver in receivers:
        receiver.start()
        receiver.sender.start()
    lines = [reason.line.format(start=bar(machine, receiver.bdf)[0], bdf=receiver.bdf)
             for receiver in receivers]
    for receiver in receivers:
        receiver.preserve()
    writes = reason.gap(machine) if reason.gap else []
    line = " ".join(dict.fromkeys(lines))
    assert machine.load(extra=f"{WIPED[variant]} {line} {extra}").rc == 0
    machine.leave()
    machine.wait_for_next_kernel()
    for address, value in writes:
        machine.write(address, value)
    machine.wait_boot(2)
    for receiver in receivers:
        # Control: it is running, whatever the kernel makes of it.
        assert receiver.receives()
    if reason.then:
        reason.then(machine)
    for receiver in receivers:
        exists = machine.run(f"test -e /sys/bus/pci/devices/{receiver.bdf}").rc == 0
        assert (state(machine, receiver.nic) if exists else "") == reason.state
    return ends


# --- what came of it ----------------------------------------------------------------------------

def command(receiver: Owner) -> int:
    """The Command register, as far as anybody has written to it since the jump."""
    machine = receiver.machine
    writes = [w for w in witness.read(machine).writes(receiver.nic, None, None)
              if w.offset == COMMAND and w.time > machine.jumped_at[0]]
    return writes[-1].value if writes else DECODE | witness.BUS_MASTER


def master(receiver: Owner) -> bool:
    """Is Bus Master on?"""
    return bool(command(receiver) & witness.BUS_MASTER)


def decodes(receiver: Owner) -> bool:
    """Does it answer at the addresses that it had?"""
    return bool(command(receiver) & DECODE)


def written(receiver: Owner) -> int:
    """How many descriptors in the ring's memory the NIC has written back. In memory that was freed,
    they are of no frame: the zeroes that it reads there tell of no buffer."""
    machine, ring = receiver.machine, receiver.memory
    dump = machine.folder / f"{receiver.nic}.ring"
    machine.hmp(f'pmemsave {ring.start:#x} {len(ring)} "{dump}"')
    return sum(1 for _, length, _, status, errors, vlan
               in DESCRIPTOR.iter_unpack(dump.read_bytes())
               if status & DONE and length in (0, SIZE) and not errors | vlan)


def end(receiver: Owner, how: str) -> tuple[str, list[float]]:
    """End its session. What the holder was told, and when the NIC wrote to the ring afterwards."""
    receiver.resume("--retrieve none", bind=False)
    errno = ENDS[how](receiver)
    ended = time.time()
    receiver.machine.sh("sleep 1")
    return errno, [t for t in witness.read(receiver.machine).descriptors(receiver.memory)
                   if t > ended]


def assert_stopped(receiver: Owner, how: str, given: bool) -> None:
    """`given`: its addresses are given to others, so that it must not decode them, either."""
    errno, late = end(receiver, how)
    assert (errno, late, master(receiver), written(receiver)) == ("", [], False, 0), receiver.nic
    assert not (given and decodes(receiver)), receiver.nic


def refusals(receiver: Owner) -> list[str]:
    """What the kernel has said of it that it cannot be stopped."""
    return [line for line in receiver.machine.sh("dmesg").out.splitlines()
            if receiver.bdf in line and re.search(console.KEPT[0], line)]


def assert_kept(receiver: Owner, how: str, why: str) -> None:
    """It goes on, in memory that nobody else gets; the session can be had once more."""
    assert refusals(receiver) == []
    errno, late = end(receiver, how)
    assert errno == ("EBUSY" if how == "finish" else "")
    said = refusals(receiver)
    assert said and all(why in line for line in said)
    assert late and written(receiver) > 100
    if how == "finish":
        receiver.ctl("close-session")
    if how in ("finish", "close"):
        receiver.ctl("quit")
    receiver.resume("--retrieve none", bind=False)
    assert finish(receiver) == "EBUSY"


def leave(receiver: Owner, reason: Reason) -> None:
    """Nobody ends its session: it is stopped on the way out, or there is no way out."""
    machine = receiver.machine
    assert machine.load().rc == 0
    refused = machine.jump()
    if not reason.stopped:
        assert refused is not None and refused.json()["errno"] == "EBUSY"
        return
    assert refused is None, refused
    late = [t for t in witness.read(machine).descriptors(receiver.memory)
            if t > machine.booted_at[2]]
    assert (late, master(receiver)) == ([], False)


def stops_in_time(vm: Lab, reason: Reason, variant: str) -> None:
    receivers = machine_for(vm, reason, variant)
    # What is removed, or fails, is stopped there and then.
    assert [master(receiver) for receiver in receivers.values()] == \
        [reason.then is None] * len(receivers)
    for how in ENDS:
        if reason.stopped:
            assert_stopped(receivers[how], how, given=reason.state in ("lost", ""))
        else:
            assert_kept(receivers[how], how, reason.why)
    if "leave" in receivers:
        leave(receivers["leave"], reason)


@pytest.mark.matrix([(name,) for name in REASONS], 1, always=KINDS, named=True)
def test_device_is_stopped_before_its_memory_is_freed(vm: Lab, case: tuple[str]) -> None:
    stops_in_time(vm, REASONS[case[0]], "release")


@pytest.mark.timeout(1800)
@pytest.mark.matrix([(name,) for name in REASONS], 1, named=True)
def test_device_is_stopped_before_its_memory_is_freed_on_debug(vm: Lab, case: tuple[str]) -> None:
    stops_in_time(vm, REASONS[case[0]], "debug")


@pytest.mark.matrix([(how, reason) for how in ENDS for reason in
                     ("bar-in-a-firmware-table", "removed-by-software")], 1, named=True)
def test_control_device_that_is_not_stopped_writes_to_freed_memory(vm: Lab, case: tuple[str, str]
                                                                   ) -> None:
    """In what has been freed a NIC finds orders to write anywhere: it gets its frames when the
    guest has nothing to do any more, which is looked at from outside and goes no further."""
    how, reason = case
    receiver = machine_for(vm, REASONS[reason], extra=f"pci_liveupdate.break={NO_STOP}")[how]
    receiver.sender.stop()
    errno, _ = end(receiver, how)
    assert (errno, written(receiver)) == ("", 0)
    receiver.sender.start()
    time.sleep(1)
    assert written(receiver) > 100
    assert master(receiver) and decodes(receiver)
    receiver.machine.close()


def test_control_device_that_is_not_stopped_writes_to_the_next_kernels_memory(vm: Lab) -> None:
    """Neither when it is removed, nor on the way out."""
    receivers = machine_for(vm, REASONS["removed-by-software"],
                            extra=f"pci_liveupdate.break={NO_STOP}")
    receiver = receivers.pop("leave")
    machine = receiver.machine
    assert master(receiver) and receiver.receives()
    for other in receivers.values():
        other.sender.stop()
    assert machine.load().rc == 0
    machine.leave()
    machine.wait_for_next_kernel()
    assert master(receiver) and receiver.receives()
    machine.close()


@pytest.mark.parametrize("variant", ["debug"])
def test_control_kernel_tells_of_writes_to_freed_memory(vm: Lab, variant: str) -> None:
    """Nothing of the rig looks at that memory."""
    for line in (CORRUPTED, r"(\(____ptrval____\)|[\da-f]{16}): ", "Call Trace", *console.PAGE):
        vm.expect_splat(line)
    receiver = machine_for(vm, REASONS["bar-in-a-firmware-table"], variant,
                           extra=f"pci_liveupdate.break={NO_STOP}")["finish"]
    machine = receiver.machine
    console_log = machine.folder / "console.log"
    assert not re.search(CORRUPTED, console_log.read_text(errors="replace"))
    end(receiver, "finish")
    # All that is free, but for a little, is given out once.
    machine.sh("free=$(sed -n 's/^MemFree: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo); "
               "dd if=/dev/zero of=/tmp/all bs=1M count=$((free / 1024 - 64)); rm /tmp/all")
    assert re.search(CORRUPTED, console_log.read_text(errors="replace"))


@pytest.mark.console("PCI: (Fatal: No config space access|System does not support PCI)",
                     "ACPI Error: ")
def test_kernel_that_has_no_way_to_a_device_stops(vm: Lab, variant: str) -> None:
    """With pci=off nobody can stop anything, not even at the next shutdown."""
    vm.expect_splat("Kernel panic|Call Trace")
    machine = vm(Topology(root_port("rp0", nic("nic0"))), variant=variant)
    receiver = Owner(machine)
    receiver.start()
    receiver.preserve()
    assert machine.load(extra="pci=off").rc == 0
    machine.leave()
    machine.wait_exit()
    console = (machine.folder / "console.log").read_text(errors="replace")
    assert "no way to stop them" in console and "Rebooting" in console


USE_AFTER_FREE = "BUG: KASAN: slab-use-after-free in "


def expect_use_after_free(vm: Lab, where: str) -> None:
    """KASAN's report of it, and only one: the kernel says no more of that kind."""
    for line in (USE_AFTER_FREE + where, *console.KASAN):
        vm.expect_splat(line)


def reports(machine: Machine) -> int:
    text = (machine.folder / "console.log").read_text(errors="replace")
    return len(re.findall(USE_AFTER_FREE, text))


def lost_below_a_switch(vm: Lab, variant: str) -> list[Owner]:
    """NICs that the next kernel cannot have; windows of a switch have their addresses reserved."""
    machine = vm(Topology(root_port("rp0", switch("up0", downstream("dn0", nic("nic0")),
                                                  downstream("dn1", nic("nic1"))))),
                 kind=Reachable, variant=variant, first=f"pci_liveupdate.break={NO_IDENTITY}")
    receivers = [Owner(machine, id) for id in ("nic0", "nic1")]
    for receiver in receivers:
        receiver.start()
        receiver.sender.start()
        receiver.preserve()
    machine.kexec(extra="init_on_free=1")
    assert machine.sh("grep 'Live Update' /proc/iomem").out
    return receivers


def remove_switch(machine: Machine) -> None:
    machine.sh(f"echo {NO_REFUSALS} >{BREAK}")
    assert attempt(machine, attribute(machine, "up0", "remove"), "1") == ""
    machine.sh(f"echo 0 >{BREAK}")


@pytest.mark.parametrize("variant", ["release", "debug"])
def test_reservations_go_with_the_window_that_they_stand_in(vm: Lab, variant: str) -> None:
    """The switch above a device that is lost is removed; KASAN looks on."""
    receivers = lost_below_a_switch(vm, variant)
    machine = receivers[0].machine
    remove_switch(machine)
    assert machine.run("grep 'Live Update' /proc/iomem").rc
    for receiver in receivers:
        assert_stopped(receiver, "finish", given=True)
    machine.json("pci_cfg rescan")
    assert {state(machine, id) for id in machine.topology.bdf} == {"none"}


@pytest.mark.parametrize("variant", ["debug"])
def test_control_reservations_that_outlive_their_window(vm: Lab, variant: str) -> None:
    """They go when the switch has been freed: KASAN does look on."""
    expect_use_after_free(vm, "(__)?release_resource")
    receivers = lost_below_a_switch(vm, variant)
    machine = receivers[0].machine
    outlive = f"{HOSTILE}/outlive"
    machine.sh(f"echo {receivers[0].bdf} >{outlive}")
    remove_switch(machine)
    for receiver in receivers:
        assert_stopped(receiver, "finish", given=True)
    assert not reports(machine)
    machine.sh(f"echo >{outlive}")
    assert reports(machine) == 1


def end_while_a_device_is_added(vm: Lab, variant: str, extra: str = "") -> Owner:
    """It was missing, a scan has just matched it with its record, and the records go."""
    machine = vm(Topology(root_port("rp0", nic("nic0"))), kind=Reachable, variant=variant)
    receiver = Owner(machine)
    receiver.start()
    receiver.preserve()
    address, hidden = machine.flipped("rp0", BUS_NUMBERS, 0x40)
    line = f"pci_liveupdate_hostile.slow={receiver.bdf}"
    assert machine.load(extra=f"{line} {extra}").rc == 0
    machine.leave()
    machine.wait_for_next_kernel()
    machine.write(address, hidden)
    machine.wait_boot(2)
    assert receiver.bdf not in functions(machine)
    machine.write(address, hidden ^ 0x40)
    receiver.resume("--retrieve none", bind=False)
    machine.sh("(echo 1 >/sys/bus/pci/rescan; touch /tmp/scanned) & "
               "until dmesg | grep 'found, not added yet'; do sleep 0.1; done")
    assert finish(receiver) == ""
    assert machine.run("test -e /tmp/scanned").rc, "the scan was over before the session"
    assert not reports(machine)
    machine.sh("until test -e /tmp/scanned; do sleep 0.1; done")
    return receiver


@pytest.mark.parametrize("variant", ["release", "debug"])
def test_last_session_ends_while_a_device_is_being_added(vm: Lab, variant: str) -> None:
    machine = end_while_a_device_is_added(vm, variant).machine
    # It is a device like any other.
    assert state(machine, "nic0") == "none"
    assert machine.sh(f"cat {attribute(machine, 'nic0', 'liveupdate/dma')}").out == "none\n"
    assert attempt(machine, attribute(machine, "nic0", "remove"), "1") == ""


@pytest.mark.parametrize("variant", ["debug"])
def test_control_record_that_is_read_when_the_last_session_has_ended(vm: Lab,
                                                                     variant: str) -> None:
    """Between match and add the session did end: who does not ask reads memory that is free."""
    expect_use_after_free(vm, "lu_quirk_early")
    machine = end_while_a_device_is_added(vm, variant, "pci_liveupdate_hostile.stale=1").machine
    assert reports(machine) == 1


HOST = "/sys/bus/platform/drivers/pci-host-generic"


def unbound_past_the_refusal(vm: Lab, broken: int) -> Owner:
    """The host bridge of a device that nobody has retrieved goes, whatever the kernel thinks. There
    is no port above it, which is stopped by its driver."""
    machine = vm(Topology(nic("nic0")), arch="arm64", rate=100)
    host = machine.sh(f"cd {HOST}; echo *.pcie").out.strip()
    receiver = Owner(machine)
    receiver.start()
    receiver.sender.start()
    receiver.preserve()
    machine.kexec(extra=WIPED["release"])
    assert receiver.receives()
    machine.sh(f"echo {broken} >{BREAK}")
    assert attempt(machine, f"{HOST}/unbind", host) == ""
    assert functions(machine) == {}
    return receiver


def test_host_bridge_that_goes_all_the_same_stops_what_is_below(vm: Lab) -> None:
    receiver = unbound_past_the_refusal(vm, NO_REFUSALS)
    # There and then, while there is a way to it.
    assert not master(receiver)
    assert_stopped(receiver, "close", given=False)


def test_control_host_bridge_that_goes_leaves_a_device_running(vm: Lab) -> None:
    receiver = unbound_past_the_refusal(vm, NO_REFUSALS | NO_STOP)
    assert master(receiver)
    # One frame is enough for all of a ring of zeroes, which takes less than the holder's answer.
    assert end(receiver, "close")[0] == "" and written(receiver)


@pytest.mark.console(console.REFUSED)
def test_host_bridge_stays_while_something_below_is_preserved(vm: Lab) -> None:
    """On arm64's release kernel: x86_64 has no driver to unbind, and a default run no debug kernel
    of arm64."""
    machine = vm(topology.plain(), arch="arm64")
    host = machine.sh(f"cd {HOST}; echo *.pcie").out.strip()
    receiver = Owner(machine)
    receiver.start()
    receiver.sender.start()
    receiver.preserve()
    assert attempt(machine, f"{HOST}/unbind", host) == "EBUSY"
    machine.kexec()
    assert attempt(machine, f"{HOST}/unbind", host) == "EBUSY"
    assert receiver.receives()
    receiver.resume()
    receiver.ctl("finish")
    receiver.ctl("quit")
    # Control: with nothing preserved it goes, and all that is below.
    assert attempt(machine, f"{HOST}/unbind", host) == ""
    assert functions(machine) == {}


def test_retrieved_device_takes_no_write_before_it_is_opened(vm: Lab, variant: str) -> None:
    vm.expect_drops()
    machine = vm(topology.plain(), variant=variant)
    bdf = machine.topology.bdf["nic0"]
    Agent(machine).start().take("nic0").preserve("nic0")
    machine.kexec()
    machine.json(f"pci_cfg bind {bdf}")
    agent = Agent(machine).start()
    agent.do(f"retrieve-session s {agent.name}", "retrieve s 1 memory nic0-ram",
             "retrieve s 2 device nic0")
    assert state(machine, "nic0") == "incoming"
    was = config.read(machine, bdf).get(INTERRUPT_LINE, 1)
    config.write(machine, bdf, INTERRUPT_LINE, bytes([was ^ 0x55]))
    assert config.read(machine, bdf).get(INTERRUPT_LINE, 1) == was
    # Control: as soon as it is open its owner writes, and everybody may.
    agent.do("bind nic0")
    assert state(machine, "nic0") == "claimed"
    config.write(machine, bdf, INTERRUPT_LINE, bytes([was ^ 0x55]))
    assert config.read(machine, bdf).get(INTERRUPT_LINE, 1) == was ^ 0x55
