# SPDX-License-Identifier: GPL-2.0
"""The packages in a Debian with systemd on our kernel: a live update through `systemctl kexec`.

vfio-pci is a module. What docs/host.md says to type is typed.
"""

from __future__ import annotations

import re
import time

import pytest

from rig import debian_vm, paths, pcilu_host, topology, witness
from rig.debian_vm import DebianMachine
from rig.lab import Lab
from rig.tools import Borrower

CLIENTS, INCOMING = 500, 1
NOBODY = "setpriv --reuid=65534 --regid=65534 --clear-groups"
ACTIVE, FAILED = ["active", "success"], ["failed", "exit-code"]


def debian(vm: Lab) -> DebianMachine:
    machine: DebianMachine = vm(topology.demo(), variant="debian", kind=DebianMachine)
    return machine


def guide(machine: DebianMachine, section: int) -> list[str]:
    """The commands of a section of docs/host.md, with the names of this machine."""
    text = (paths.TREE / "docs/host.md").read_text().split("\n## ")[section]
    commands = [re.split(r"  +#", line)[0] for line in re.findall(r"^    (.*)$", text, re.M)]
    slot = machine.topology.bdf["nic0"].removeprefix("0000:")
    return [command.replace("3b:00.0", slot).replace("7.3.5-pcilu", debian_vm.next_release())
            for command in commands]


def sessions(machine: DebianMachine) -> dict[str, str]:
    return {s["name"]: s["direction"] for s in machine.pcilu("status")["sessions"]}


def clients(machine: DebianMachine, kind: int, direction: int = 0) -> None:
    """Many at once, all of which must be content."""
    machine.sh(f"clients {kind} {direction} {CLIENTS}")


def kill_daemon(machine: DebianMachine) -> None:
    """As a bug would; and wait until systemd has started it again."""
    machine.sh("old=$(systemctl show -P MainPID pcilud); kill -9 $old; "
               "until [ $(systemctl is-active pcilud) = active ] && "
               "[ $(systemctl show -P MainPID pcilud) != $old ]; do sleep 0.2; done")


def assert_module_stays(machine: DebianMachine) -> None:
    out = machine.run("rmmod vfio_pci")
    assert out.rc and "in use" in out.out, out
    assert machine.run("modprobe -r vfio-pci").rc
    assert machine.run("test -d /sys/module/vfio_pci").rc == 0


def assert_module_goes_and_comes(machine: DebianMachine) -> None:
    machine.sh("modprobe -r vfio-pci && ! test -d /sys/module/vfio_pci && modprobe vfio-pci")


def bind_as_in_the_guide(machine: DebianMachine, bdf: str) -> None:
    """From another driver."""
    machine.sh(f"pci_cfg bind {bdf} pci-stub")
    listing, check, *bind = guide(machine, 3)
    assert bdf in machine.sh(listing).out
    assert "pcilu bind" in machine.run(check).out
    for command in bind:
        machine.sh(command)
    assert "not in D0" in machine.run(check).out


def assert_permissions(machine: DebianMachine, receiver: Borrower) -> None:
    """A client without permission gets nothing, until a line of the policy says otherwise."""
    mine = f"{NOBODY} lend create vm-nobody true"
    assert not checked_sessions(machine)
    for what in (f"lend finish {receiver.name}", f"lend create {receiver.name} true"):
        out = machine.run(f"{NOBODY} {what}")
        assert out.rc == 1 and "Permission denied" in out.out
    assert machine.run(mine).rc == 1
    line, = guide(machine, 4)
    machine.sh(f"echo '{line.replace('libvirt-qemu', 'nogroup')}' >>/etc/pcilu/pcilud.policy; "
               "systemctl reload pcilud")
    machine.sh(mine)
    assert checked_sessions(machine) == {"vm-nobody"}


def checked_sessions(machine: DebianMachine) -> set[str]:
    """What somebody else sees."""
    out = machine.sh(f"{NOBODY} pcilu status --json").out
    return {s["name"] for s in debian_vm.checked(out)["sessions"]}


def assert_preflight_refuses(machine: DebianMachine) -> None:
    """For what only a whole system has: modules, and systemd."""
    modules = f"/lib/modules/{debian_vm.next_release()}"
    same = f"--kernel /boot/vmlinuz-{debian_vm.next_release()} --reuse-cmdline"

    def failed(options: str, rc: int = 1) -> set[str]:
        return {c["check"] for c in machine.pcilu(f"preflight {options}", rc)["checks"]
                if c["verdict"] == "fail"}

    assert failed(same, rc=0) == set()      # control
    machine.sh(f"mv {modules} /root/away")
    assert failed(same) == {"modules"}
    machine.sh(f"mv /root/away {modules}")
    assert failed(f"{same} --cmdline pci=realloc") == {"cmdline"}
    assert machine.pcilu(f"update {same} --cmdline liveupdate=off", rc=1)["steps"][-1]["step"] \
        == "preflight"
    assert machine.pcilu("exec --dry-run")["by"] == "systemctl kexec"
    assert not machine.pcilu("status")["kernel_loaded"]


def test_update_through_systemd(vm: Lab) -> None:
    machine = debian(vm)
    nic = machine.topology.bdf["nic0"]
    assert "pcilud: running" in machine.sh(guide(machine, 2)[-1]).out
    assert machine.unit("pcilu-verify") == ACTIVE
    assert machine.pcilu("status")["last_verify"] is None
    assert_module_goes_and_comes(machine)       # control
    bind_as_in_the_guide(machine, nic)

    receiver = Borrower(machine)
    receiver.start(ring=8192, bind=False)
    assert machine.run(guide(machine, 3)[1]).rc == 0
    receiver.sender.start()
    receiver.preserve()
    assert_permissions(machine, receiver)
    assert_preflight_refuses(machine)
    clients(machine, pcilu_host.CREATE)
    kill_daemon(machine)
    names = {receiver.name, "vm-nobody"} | {f"many-{n}" for n in range(1, CLIENTS + 1)}
    assert sessions(machine) == dict.fromkeys(names, "outgoing")
    assert_module_stays(machine)

    preflight, update = guide(machine, 5)
    assert machine.run(preflight).rc == 0
    before = machine.release
    steps = machine.update(update)
    assert machine.release == debian_vm.next_release() != before
    # Whether it lives to say that the last step is done is systemd's business.
    assert all(f"{step:10} done, " in steps for step in ("preflight", "snapshot", "load"))

    assert machine.unit("pcilu-verify") == ACTIVE
    for command in guide(machine, 6):
        machine.sh(command)
    status = machine.pcilu("status")
    assert status["last_verify"] == "kept"
    assert names <= {s["name"] for s in status["sessions"] if s["direction"] == "incoming"}
    assert f"session {receiver.name} is to be retrieved" in status["remaining"]
    assert_module_stays(machine)
    clients(machine, pcilu_host.RETRIEVE)
    clients(machine, pcilu_host.RELEASE, INCOMING)
    machine.sh(f"{NOBODY} lend finish vm-nobody")

    receiver.bind()
    claimed = time.time()
    receiver.resume(bind=False)
    assert_module_stays(machine)
    receiver.finish()
    assert machine.pcilu("status")["remaining"] == []
    sent, stats = receiver.settle()
    assert stats["distinct"] == sent and not receiver.sender.refused
    assert stats["lost"] == stats["duplicated"] == stats["corrupted"] == 0
    trace = witness.read(machine)
    assert [t for t in trace.dma(ring=receiver.ring) if machine.booted_at[1] < t < claimed]
    assert [w for w in trace.writes("nic0", None, None)
            if machine.jumped_at[0] < w.time < claimed] == []

    receiver.ctl("quit")
    machine.sh(f"pci_cfg unbind {nic}")
    assert_module_goes_and_comes(machine)       # control


@pytest.mark.rare
def test_control_update_through_systemd_without_preserving_loses_frames(vm: Lab) -> None:
    machine = debian(vm)
    receiver = Borrower(machine).receive("--no-preserve-device", ring=8192)
    machine.update(f"{guide(machine, 5)[1]} --accept in-use")
    assert machine.pcilu("status")["last_verify"] == "kept"     # there was no device to keep
    time.sleep(1)
    dma = witness.read(machine).dma()
    assert dma and [t for t in dma if t > machine.booted_at[1]] == []
    assert receiver.sender.sent > len(dma)
    # A session with memory alone keeps no module.
    assert sessions(machine)[receiver.name] == "incoming"
    assert_module_goes_and_comes(machine)


@pytest.mark.rare
def test_verify_unit_fails_when_the_next_kernel_moves_a_bar(vm: Lab) -> None:
    machine = debian(vm)
    receiver = Borrower(machine).receive(ring=8192)
    update = guide(machine, 5)[1]
    machine.update(f"{update} --accept cmdline --cmdline "
                   f"'pci_liveupdate.break=0x580 pci=resource_alignment=20@{receiver.bdf}'")
    assert machine.unit("pcilu-verify") == FAILED
    assert machine.pcilu("status")["last_verify"] == "not kept"


@pytest.mark.rare
def test_module_is_loaded_for_a_session_that_needs_it(vm: Lab) -> None:
    """The next kernel has no vfio-pci until somebody retrieves a session with a device."""
    machine = debian(vm)
    receiver = Borrower(machine).receive(ring=8192)
    machine.sh("rm /etc/modules-load.d/vfio-pci.conf")
    machine.update(guide(machine, 5)[1])
    assert machine.run("test -d /sys/module/vfio_pci").rc
    machine.sh(f"lend retrieve {receiver.name} true")
    assert_module_stays(machine)
    receiver.resume()
    receiver.finish()
    sent, stats = receiver.settle()
    assert stats["distinct"] == sent and stats["lost"] == 0


@pytest.mark.rare
def test_control_without_the_keeper_systemd_ends_the_sessions(vm: Lab) -> None:
    """Whoever jumps by `systemctl kexec` himself, without `pcilu exec`, loses them."""
    machine = debian(vm)
    receiver = Borrower(machine).receive(ring=8192)
    machine.sh(guide(machine, 5)[1].replace("update", "load"))
    machine.update("systemctl kexec")
    assert sessions(machine) == {} and receiver.try_resume().rc
