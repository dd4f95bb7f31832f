# SPDX-License-Identifier: GPL-2.0
"""Live updates between kernels that speak different versions of the hand-over, both ways.

`make kernel VARIANT=first` builds the first release of the feature from this repository's history:
a kernel that reads and writes version 1 and knows of nothing else.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from rig import initrd, paths, topology
from rig.agent import Agent
from rig.lab import Lab
from rig.machine import LIVE_UPDATE, Machine
from rig.nic import PAGE, Nic
from rig.receiver import Receiver
from rig.tools import Borrower, ToolsMachine
from test_foreign import assert_stops
from test_live_update import assert_all_arrived, assert_untouched
from test_vfio_interrupts import MASTER, MEMORY, eventually, heard

FIRST = paths.kernel_dir("x86_64", "first")
V1, V2 = "0x4c550001", "0x4c550002"
PARAMETERS = "/sys/module/pci_liveupdate/parameters"
BREAK_VERDICT = 0x10000000      # records say what only version 2 can, and no kernel does yet
UNSAYABLE = "Live Update: cannot be preserved: that takes version 0x4c550002"
UNSAID = "PCI Live Update: no kexec: what is preserved takes version 0x4c550002"
REFUSED_ALL = ("luo: Freeze failed for FLB 'pci'",
               "luo: kexec refused: session .* cannot be frozen")


def first_release() -> Path:
    """The image of the first release."""
    image = FIRST / paths.IMAGE["x86_64"]
    if not image.exists():
        pytest.skip("no kernel of the first release: make kernel VARIANT=first")
    return image


class FromFirst(Machine):
    """Boots the first release, and has this kernel as /boot/this."""

    def _user_space(self) -> list[str]:
        this = paths.kernel_dir(self.arch, "release") / paths.IMAGE[self.arch]
        return ["-initrd", str(initrd.build(self.arch, self.variant, {"boot/this": this},
                                            folder=self._kernel))]


def parameter(machine: Machine, name: str, value: str) -> None:
    machine.sh(f"echo {value} >{PARAMETERS}/abi_{name}")


def takes(machine: Machine, id: str) -> str:
    """The version that handing a device over takes, as its kernel says."""
    return machine.sh(f"cat /sys/bus/pci/devices/{machine.topology.bdf[id]}/liveupdate/abi"
                      ).out.strip()


class Pair:
    """A NIC that receives all the while, and one that has something to say in each gap."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.receiver = Receiver(machine, "nic0")
        self.receiver.start(ring=32768)
        self.receiver.sender.start()
        self.agent = Agent(machine).start().take("nic1")
        self.agent.set_command("nic1", MASTER | MEMORY)
        self.driver = Nic(self.agent, "nic1")
        self.driver.receive(self.agent.physical("nic1"), 1, self.agent.physical("nic1", PAGE))
        self.agent.do("arm nic1 msix 4")
        self.driver.interrupt(1)
        # Virtualised: nothing of it is in the device.
        self.agent.do("config-write nic1 0x3c 1 0x5a")

    def line(self) -> int:
        return int(self.agent.do("config-read nic1 0x3c 1")["value"])

    def preserve(self) -> None:
        self.agent.do("trigger nic1 msix 3")        # and nobody reads it in this kernel
        self.receiver.preserve()
        self.agent.preserve("nic1")

    def take_back(self) -> None:
        """Everything is as it was, and what was not delivered is, once."""
        self.receiver.resume()
        assert self.receiver.ready["pa_moved"] == 0 and not self.receiver.ready["bar0_moved"]
        self.receiver.ctl("finish")
        self.agent.take_back("nic1")
        assert self.line() == 0x5a
        self.agent.do("arm nic1 msix 4")
        assert eventually(self.agent, "nic1", "msix", [0, 0, 0, 1]) == [0, 0, 0, 1]
        assert self.agent.command("nic1") & MASTER

    def end(self) -> None:
        assert_all_arrived(self.receiver)
        for id in ("nic0", "nic1"):
            assert_untouched(self.machine, id)
        self.receiver.ctl("quit")


def test_first_release_into_this_one_and_back(vm: Lab) -> None:
    """Plain devices: frames, interrupts, what VFIO keeps for the user."""
    first_release()
    machine = vm(topology.pair(), kind=FromFirst, kernel=FIRST)
    first = machine.release
    assert machine.run(f"test -e {PARAMETERS}/abi_oldest").rc       # control: it is the old one
    pair = Pair(machine)
    pair.preserve()
    machine.kexec("this")
    pair.take_back()
    assert machine.sh(f"cat {PARAMETERS}/abi_newest").out.strip() == V2

    pair.preserve()
    assert takes(machine, "nic0") == takes(machine, "nic1") == V1
    machine.kexec("kernel")
    pair.take_back()
    assert machine.release == first and machine.run(f"test -e {PARAMETERS}/abi_oldest").rc
    pair.end()


@pytest.mark.console(UNSAID, *REFUSED_ALL)
def test_second_version_between_two_of_this_kernel(vm: Lab) -> None:
    """What a host may ask for that never goes back. It is not handed to who cannot read it."""
    machine = vm(topology.pair(), cmdline=f"{LIVE_UPDATE} pci_liveupdate.abi_oldest={V2}")
    pair = Pair(machine)
    pair.preserve()
    assert takes(machine, "nic0") == takes(machine, "nic1") == V2

    # The next kernel is said to read version 1: refused before the jump, and nothing has changed.
    parameter(machine, "newest", V1)
    assert machine.load().rc == 0
    refused = machine.jump()
    assert refused is not None and refused.rc
    assert pair.receiver.receives()
    # Control: it is that.
    parameter(machine, "newest", V2)
    machine.kexec()
    pair.take_back()
    assert heard(pair.driver)
    # Control: nonsense is not taken.
    for nonsense in ("0x4c550000", "0x4c550003", "2", "old"):
        assert machine.run(f"echo {nonsense} >{PARAMETERS}/abi_newest").rc
    pair.end()


@pytest.mark.console("Live Update: cannot be preserved: .*", UNSAYABLE, UNSAID, *REFUSED_ALL,
                     "luo: .*")
def test_what_only_the_second_version_says_does_not_go_back(vm: Lab) -> None:
    """The preflight refuses, and so does the kernel. What the first version says does go back."""
    machine: ToolsMachine = vm(topology.pair(), kind=ToolsMachine,
                               images={"first": first_release()})
    plain, other = Borrower(machine, "nic0").receive(), Borrower(machine, "nic1")
    first = machine.next().replace("/boot/next", "/boot/first")

    def abi(options: str = "", rc: int = 0) -> str:
        """What the check of versions says, and nothing else fails."""
        report = machine.pcilu(f"preflight {first} {options}", rc)
        assert {c["check"] for c in report["checks"] if c["verdict"] == "fail"} == \
            ({"abi"} if rc else set())
        return " ".join(c["text"] for c in report["checks"] if c["check"] == "abi")

    assert takes(machine, "nic0") == V1
    assert f"hands over {V1}; the way back is open" in abi()
    machine.pcilu(f"load {first}")
    assert machine.sh(f"cat {PARAMETERS}/abi_newest").out.strip() == V1

    # Its record would say what that kernel cannot read: refused when it is preserved.
    machine.sh(f"echo {BREAK_VERDICT} >{PARAMETERS}/break")
    other.start()
    assert other.try_ctl("preserve")["rc"] < 0
    machine.pcilu("unload")
    assert machine.sh(f"cat {PARAMETERS}/abi_newest").out.strip() == V2
    other.preserve()
    assert takes(machine, "nic1") == V2 and takes(machine, "nic0") == V1

    # Refused by the preflight, and by the kernel if nobody listens to that.
    assert f"preserving {other.bdf} takes {V2}" in abi(rc=1)
    report = machine.pcilu(f"load {first}", rc=1)
    assert not report["loaded"]
    machine.pcilu(f"load {first} --force")
    assert machine.run("pcilu exec --no-systemd --force").rc
    assert plain.receives()

    # Control: without it, the same jump is one into the first release, and nothing is lost.
    other.ctl("quit")
    machine.pcilu(f"release {other.name} --force")
    machine.sh(f"echo 0 >{PARAMETERS}/break")
    assert takes(machine, "nic1") == "none"
    machine.pcilu(f"load {first}")
    machine.exec()
    assert machine.run(f"test -e {PARAMETERS}/abi_oldest").rc
    plain.resume()
    plain.finish()
    time.sleep(1)
    assert_all_arrived(plain)


def test_kernel_that_cannot_do_what_a_record_says_stops_its_boot(vm: Lab) -> None:
    """It reads the version, and finds nothing of what the record is about."""
    vm.expect_splat("Kernel panic|Call Trace|PCI Live Update: devices are running on behalf")
    machine = vm(topology.plain(), cmdline=f"{LIVE_UPDATE} pci_liveupdate.break={BREAK_VERDICT}")
    receiver = Receiver(machine)
    receiver.start()
    receiver.preserve()
    assert takes(machine, "nic0") == V2
    assert_stops(machine)
    log = (machine.folder / "console.log").read_text(errors="replace")
    assert "frozen IOMMU domain that was not handed over" in log
    assert f"versions {V1} to {V2} are read here, {V2} was handed over" in log
