# SPDX-License-Identifier: GPL-2.0
"""What one kernel hands over the next can read, and what it cannot read it does not ignore."""

from __future__ import annotations

import pytest
from conftest import FULL, KERNELS

from rig import config, console, initrd, paths
from rig.agent import Agent
from rig.keeper import attribute, state
from rig.lab import Lab
from rig.machine import Machine, MachineError
from rig.topology import Topology, downstream, edu, nvme, registers, root_port, switch

BREAK = "/sys/module/pci_liveupdate/parameters/break"
HOSTILE = "/sys/module/pci_liveupdate_hostile/parameters"
CHECKS = 0x2000000      # hand over records that nobody checked
ROUNDS = 10_000 if FULL else 40
JUMPS = 100 if FULL else 5
BATCH = 20
TRIES = 100     # of a batch, to meet a reset at the wrong moment
EIO = -5
PANIC = "Kernel panic|Call Trace"
SUBORDINATE, BAR0 = 0x1A, 0x10
LIVENESS = 0x04


def said(machine: Machine) -> str:
    return (machine.folder / "console.log").read_text(errors="replace")


def stops(machine: Machine, image: str = "next", extra: str = "") -> str:
    """A jump into a kernel that panics and resets the machine; what it says."""
    before = len(said(machine))
    # A console that is there before the panic: that of arm64 comes late.
    loaded = machine.load(image, f"{extra} earlycon" if machine.arch == "arm64" else extra)
    assert loaded.rc == 0, loaded.out
    machine.leave()
    machine.wait_exit()
    log = said(machine)[before:]
    assert "Kernel panic" in log and "Rebooting through the firmware" in log, log[-4000:]
    return log


# -- checked before it is handed over -------------------------------------------------------------

def tree() -> Topology:
    return Topology(root_port("rp0", nvme("nvme0")), root_port("rp1", edu("edu0")),
                    root_port("rp2", switch("up0", downstream("dn0", registers("test0")),
                                            downstream("dn1"))))


def preserve_once(agent: Agent, id: str) -> str:
    """A session with a device in it and nothing else; the name of the errno."""
    agent.do(f"session s {agent.name}")
    errno = agent.refused(f"preserve s 1 {id}")
    if errno:
        agent.do("close s")
    return errno


def make_deaf(machine: Machine, id: str) -> None:
    """It answers all ones for a while after each reset, and has no addresses for longer."""
    # Each reset has two lines in the log, for which a serial console takes longer than for it.
    machine.sh(f"dmesg -n 1; echo {machine.topology.bdf[id]} >{HOSTILE}/deaf")


def misread(machine: Machine) -> int:
    """How often ones were read for a record."""
    return int(machine.sh(f"cat {HOSTILE}/deaf_records").out)


@pytest.mark.timeout(7200)
@pytest.mark.console(console.REFUSED,
                     "Live Update: cannot be preserved: it is being reset")
def test_preserving_while_another_thread_resets(vm: Lab, variant: str) -> None:
    machine = vm(tree(), variant=variant, smp=2)
    agent = Agent(machine).start().take("nvme0")
    make_deaf(machine, "nvme0")
    reset = attribute(machine, "nvme0", "reset")
    machine.sh(f"while :; do echo 1 >{reset}; sleep 0.002; done >/dev/null 2>&1 & "
               "echo $! >/tmp/resets")

    rounds = ("session s vm0", "preserve s 1 nvme0", "close s")
    preserved = 0
    refused: set[str] = set()
    for _ in range(0, ROUNDS, BATCH):
        answers = agent.attempt(*rounds * BATCH)[1::3]
        errnos = [str(answer["errno"]) for answer in answers if answer["rc"] < 0]
        preserved += len(answers) - len(errnos)
        refused |= set(errnos)
    # Between two resets it could be preserved, and nothing but a reset was in the way.
    assert preserved > ROUNDS / 2 and refused <= {"EAGAIN"}, (preserved, refused)
    assert misread(machine) == 0
    # Control: the two do meet, if nobody looks whether it is being reset.
    machine.sh(f"echo {CHECKS} >{BREAK}")
    for _ in range(TRIES):
        agent.attempt(*rounds * BATCH)
        if misread(machine):
            break
    assert misread(machine)
    machine.sh("kill $(cat /tmp/resets)")


@pytest.mark.timeout(7200)
def test_jumping_while_its_owner_resets_it(vm: Lab, variant: str) -> None:
    """Up to the freeze, which has to wait for an answer, and whenever it is refused after that."""
    machine = vm(tree(), variant=variant, smp=2)
    agent = Agent(machine).start().take("nvme0")
    count = {"reset done": 0, "reset refused": 0}
    for _ in range(JUMPS):
        make_deaf(machine, "nvme0")
        agent.do("hammer nvme0 nvme0-ram 0x1000 reset")
        for _ in range(BATCH // 10):
            agent.preserve("nvme0")
            agent.do("close s")
        agent.preserve("nvme0")
        machine.kexec()
        assert state(machine, "nvme0") == "incoming"
        agent.take_back("nvme0")
        before, count = count, agent.hammered("nvme0-ram")
        assert count["reset done"] > before["reset done"]
    assert count["reset refused"]
    assert "no handler in this kernel does" not in said(machine)


@pytest.mark.console(PANIC,
                     "Live Update: cannot be preserved: it is gone, or does not answer")
def test_device_that_does_not_answer_is_not_preserved(vm: Lab, variant: str) -> None:
    """And if it were, the control, the next kernel would stop."""
    machine = vm(tree(), variant=variant)
    agent = Agent(machine).start().take("nvme0")
    reset = attribute(machine, "nvme0", "reset")
    machine.sh(f"echo 30000000 >{HOSTILE}/deaf_us; "
               f"echo {machine.topology.bdf['nvme0']} >{HOSTILE}/deaf; echo 1 >{reset}")
    assert preserve_once(agent, "nvme0") == "ENODEV"
    while (errno := preserve_once(agent, "nvme0")) == "ENODEV":
        machine.sh("sleep 1")
    assert errno == ""
    agent.do("close s")
    # However long a busy machine takes from the reset to the preserve
    machine.sh(f"echo 1200000000 >{HOSTILE}/deaf_us; echo {CHECKS} >{BREAK}; echo 1 >{reset}")
    assert preserve_once(agent, "nvme0") == ""
    assert "cannot be read" in stops(machine)


@pytest.mark.console(PANIC,
                     console.LOST,
                     "Live Update: cannot be preserved: .* bus numbers",
                     "Live Update: cannot be preserved: the machine has a CardBus bridge",
                     "Live Update: cannot be handed over: "
                     "(its BAR differs|the machine has a CardBus)",
                     "luo: Freeze failed for FLB 'pci'")
def test_what_differs_is_refused_before_the_jump(vm: Lab, variant: str) -> None:
    """Bus numbers at preserve, addresses at the kexec; controls: what would have come of it."""
    machine = vm(tree(), variant=variant)
    bdf = machine.topology.bdf
    agent = Agent(machine).start().take("edu0", "test0")

    # A port whose range reaches beyond that of the switch's upstream port.
    dump = machine.json(f"pci_cfg dump {bdf['dn0']}")["bridge"]
    wide, right = bytes([dump["subordinate"] + 9]), bytes([dump["subordinate"]])
    config.write(machine, bdf["dn0"], SUBORDINATE, wide)
    assert preserve_once(agent, "test0") == "EIO"
    config.write(machine, bdf["dn0"], SUBORDINATE, right)
    assert preserve_once(agent, "test0") == ""
    agent.do("close s")

    # A machine that has a CardBus bridge.
    machine.sh(f"echo {bdf['nvme0']} >{HOSTILE}/cardbus")
    assert preserve_once(agent, "test0") == "EOPNOTSUPP"
    machine.sh(f"echo {bdf['nvme0']} >{HOSTILE}/cardbus")

    # A device whose address was changed after it was preserved.
    agent.preserve("edu0")
    bar0 = int(machine.json(f"pci_cfg dump {bdf['edu0']}")["bars"][0]["start"], 16)
    there, elsewhere = ((bar0 + n).to_bytes(4, "little") for n in (0, 1 << 20))
    assert machine.load().rc == 0
    # Or a CardBus bridge that has come since.
    machine.sh(f"echo {bdf['nvme0']} >{HOSTILE}/cardbus")
    refused = machine.jump()
    assert refused is not None and refused.json()["errno"] == "EOPNOTSUPP"
    machine.sh(f"echo {bdf['nvme0']} >{HOSTILE}/cardbus")
    config.write(machine, bdf["edu0"], BAR0, elsewhere)
    refused = machine.jump()
    assert refused is not None and refused.json()["rc"] == EIO
    assert "its BAR differs from what was preserved" in said(machine)
    config.write(machine, bdf["edu0"], BAR0, there)
    agent.write("edu0", LIVENESS, 0x1234)
    assert agent.read("edu0", LIVENESS) == ~0x1234 & 0xFFFFFFFF
    assert state(machine, "edu0") == "preserved"

    machine.sh(f"echo {CHECKS} >{BREAK}")
    config.write(machine, bdf["edu0"], BAR0, elsewhere)
    assert machine.jump() is None
    assert state(machine, "edu0") == "lost"

    other = Agent(machine, "vm1").start().take("test0")
    machine.sh(f"echo {CHECKS} >{BREAK}")
    config.write(machine, bdf["dn0"], SUBORDINATE, wide)
    assert preserve_once(other, "test0") == ""
    assert "bus range overlaps another bridge's" in stops(machine)


# -- not ignored in silence -----------------------------------------------------------------------

class WithOff(Machine):
    """A machine that can also jump into a kernel that is built without the feature."""

    def _user_space(self) -> list[str]:
        off = paths.kernel_dir(self.arch, "off") / paths.IMAGE[self.arch]
        return ["-initrd", str(initrd.build(self.arch, self.variant, {"boot/off": off},
                                            folder=self._kernel))]


def held(machine: Machine) -> Agent:
    """An agent that has preserved a device."""
    agent = Agent(machine).start().take("edu0")
    agent.preserve("edu0")
    return agent


def small() -> Topology:
    return Topology(root_port("rp0", edu("edu0")))


@pytest.mark.console(PANIC)
def test_kernel_without_the_feature_stops(vm: Lab, variant: str) -> None:
    """Live Update is on, and nobody there knows of PCI devices."""
    if not (paths.kernel_dir("x86_64", "off") / paths.IMAGE["x86_64"]).exists():
        pytest.skip("no kernel without the feature: make kernel VARIANT=off")
    machine = vm(small(), variant=variant, kind=WithOff)
    # Control: with nothing preserved it boots.
    machine.kexec("off")
    machine.kexec()
    held(machine)
    log = stops(machine, "off")
    assert "handed over running hardware ('pci')" in log
    # Before it has looked at any bus
    assert "PCI host bridge to bus" not in log


# What of the hand-over is not as it should be, who says so, and how.
SPOILT = {"version": ("KHO", "of another version"),
          "tree": ("KHO", "its tree is damaged"),
          "map": ("KHO", "its map of preserved memory cannot be used"),
          "luo": ("LUO", "the incoming tree cannot be read"),
          "flbs": ("LUO", "FLBs were handed over that are not in memory"),
          "header": ("PCI", "a header that is not in memory")}


@pytest.mark.console(PANIC,
                     "disabling KHO revival",
                     "setup: handover FDT .* is (incompatible|invalid)",
                     "LUO state is not in memory", console.GIVEN_AWAY.pattern,
                     "KHO: Failed to reserve", "luo: Disabling liveupdate because KHO is disabled")
@pytest.mark.parametrize("arch,variant,spoilt", [
    *((*kernel, "version") for kernel in KERNELS),
    *(("x86_64", variant, what) for variant in ("release", "debug") for what in [*SPOILT][1:])])
def test_kernel_that_cannot_read_what_is_there_stops(vm: Lab, arch: str, variant: str,
                                                     spoilt: str) -> None:
    machine = vm(small(), arch=arch, variant=variant)
    held(machine)
    # Control: with what it has the next kernel reads it.
    machine.kexec()
    assert state(machine, "edu0") == "incoming"
    Agent(machine).take_back("edu0").preserve("edu0")
    machine.sh(f"echo {spoilt} >{HOSTILE}/spoil")
    log = stops(machine)
    who, why = SPOILT[spoilt]
    assert f"Live Update: {who}: " in log and why in log
    assert "PCI host bridge to bus" not in log


@pytest.mark.console("No registered handler for compatible")
def test_kernel_without_the_handler_says_so(vm: Lab, variant: str) -> None:
    """The device is known, and the driver whose file it is is missing: nothing is given away."""
    machine = vm(small(), variant=variant)
    held(machine)
    # Control: a kernel that has the driver says nothing of the kind.
    machine.kexec()
    assert "no handler in this kernel" not in said(machine)
    Agent(machine).take_back("edu0").preserve("edu0")
    machine.kexec(extra="initcall_blacklist=vfio_pci_init")
    log = said(machine)
    assert "2 files of the previous kernel depend on 'pci'" not in log
    assert "1 files of the previous kernel depend on 'pci', and no handler in this kernel" in log
    assert state(machine, "edu0") == "incoming"
    with pytest.raises(MachineError):
        Agent(machine).start().do("retrieve-session s vm0", "retrieve s 2 device edu0")


@pytest.mark.console("No registered handler for compatible")
def test_modprobe_that_hangs_holds_up_nobody_else(vm: Lab, variant: str) -> None:
    """The kernel asks for the module of a handler, and what it runs for that does not end."""
    machine = vm(small(), variant=variant)
    held(machine)
    Agent(machine, "vm1").start().do("memory m 2", "fill m 0 64 1", "session s vm1",
                                     "preserve s 1 m")
    machine.kexec(extra="initcall_blacklist=vfio_pci_init")
    machine.sh("echo '#!/bin/sh' >/tmp/hangs; echo 'touch /tmp/asked; sleep 1000' >>/tmp/hangs; "
               "chmod +x /tmp/hangs; echo /tmp/hangs >/proc/sys/kernel/modprobe")
    other = Agent(machine, "vm1").start()
    other.do("retrieve-session s vm1", "retrieve s 1 memory m", "session t fresh",
             "memory n 2", "preserve t 1 n")
    Agent(machine).start()
    machine.sh("vfio_agent ctl vm0 'retrieve-session s vm0' >/tmp/answer & "
               "until test -e /tmp/asked; do sleep 0.1; done")
    # Who has a session goes on, although nobody gets one meanwhile: /dev/liveupdate is open.
    assert other.refused("retrieve-session u vm1") == "EBUSY"
    other.do("finish s", "close s", "memory o 2", "preserve t 2 o")
    # Control: it did hang.
    assert machine.run("test -s /tmp/answer").rc
    # Nor is the way out held up. The device, whose file nobody could have, is stopped on it.
    assert machine.load().rc == 0
    assert machine.jump() is None
    assert state(machine, "edu0") == "none"
    Agent(machine).start().do("retrieve-session t fresh", "retrieve t 1 memory n",
                              "retrieve t 2 memory o", "finish t", "close t")
