# SPDX-License-Identifier: GPL-2.0
"""A virtual machine lives through the replacement of its host's kernel.

An unmodified Debian in KVM, in an emulated host. What it says of itself, a line a second, is
compared with what QEMU saw. No IOMMU translates here: the guest's memory is at the addresses that
it has in the host.
"""

from __future__ import annotations

import errno
import time
from typing import Any

import pytest

from rig import topology, witness
from rig.guest import Guest, GuestHost
from rig.keeper import state
from rig.lab import Lab
from rig.machine import Result

KILLED = 128 + 9
RESET = "e1000e_core_ctrl_sw_reset"     # QEMU's word for what a driver does
LATE = 10.0     # seconds that a busy machine may be late with a line of the guest


def host_of(vm: Lab, tree: topology.Topology | None = None) -> GuestHost:
    host: GuestHost = vm(tree or topology.Topology(), kind=GuestHost)
    return host


def receiving(host: GuestHost, options: str = "", words: str = "") -> Guest:
    """A guest with the NIC, and frames that it counts."""
    guest = Guest(host, nic="nic0").start(options=options, words=words)
    host.senders["nic0"].start()
    guest.wait(2)
    return guest


def assert_went_on(guest: Guest, before: dict[str, Any]) -> None:
    """The same guest: not booted again, nothing lost, and no clock of it has ever gone back."""
    lines = guest.wait(2)
    after = lines[-1]
    assert after["tick"] > before["tick"] and after["uptime"] > before["uptime"]
    assert after["lost"] == before["lost"] == after["again"] == 0
    for clock in ("tick", "uptime", "clock"):
        values = [line[clock] for line in lines]
        assert values == sorted(set(values)), (clock, values)


def assert_all_arrived(guest: Guest) -> None:
    """Each frame that was sent, once, by the guest's own count."""
    sent = guest.host.senders["nic0"].stop()
    last = guest.arrived(sent)
    assert (last["frames"], last["lost"], last["again"]) == (sent, 0, 0)
    assert not guest.host.senders["nic0"].refused


def dying_restore(guest: Guest, leave_out: str) -> Result:
    """By a VMM that is killed where it should go on with something."""
    return guest.host.run(f"pcilu-vmm restore {guest.name} --serial /tmp/{guest.name}.log "
                          f"--leave-out {leave_out} 2>&1")


def clocks(guest: Guest) -> tuple[float, float]:
    """The guest's uptime, and the time here, of the same moment or of one soon after."""
    return guest.wait(1)[-1]["uptime"], time.time()


def missing(guest: Guest, earlier: tuple[float, float]) -> float:
    """Seconds since then that have passed here and not for the guest."""
    uptime, now = clocks(guest)
    return (now - earlier[1]) - (uptime - earlier[0])


def in_use(host: GuestHost, rc: int) -> list[str]:
    """What a preflight makes of devices that somebody has and nobody preserved."""
    checks = host.pcilu(f"preflight {host.next()}", rc)["checks"]
    return [c["verdict"] for c in checks if c["check"] == "in-use"]


def assert_unchanged(guest: Guest) -> None:
    """It runs, nothing is preserved, and no kernel is loaded."""
    host = guest.host
    guest.until("running")      # it is told after those who asked have gone
    assert state(host, "nic0") == "none"
    assert host.sessions() == {} and not host.pcilu("status")["kernel_loaded"]
    before = guest.printed()[-1]
    assert_went_on(guest, before)


def test_pcilu_update_alone_carries_a_guest_through_the_kexec(vm: Lab) -> None:
    """Nobody saves it by hand. Before that its VMM says no, and pcilud dies under it, twice."""
    host = host_of(vm, topology.plain())
    guest = receiving(host)
    pid = guest.do("status")["pid"]

    host.sh(f"lend create {guest.name} true")       # its name is taken
    report = host.pcilu(f"update --no-systemd {host.next()}", rc=1)
    assert report["steps"][-1]["step"] == "prepare"
    why = f"somebody has a session {guest.name}"
    assert [(o["name"], o["pid"], o["reason"]) for o in report["owners"]] == \
        [(guest.name, pid, why)]
    assert f"not ready is {guest.name} (process {pid}): {why}" in host.sh("cat /tmp/stderr").out
    host.sh(f"pcilu release --force {guest.name}")
    assert_unchanged(guest)

    # Who is not asked has a device in use; the VMM comes back to another pcilud as soon as it can.
    host.sh(f"kill -STOP {pid}")
    host.kill_daemon()
    host.daemon()
    assert in_use(host, rc=1) == ["fail"]
    host.sh(f"kill -CONT {pid}")
    guest.until_asked(pid)
    assert in_use(host, rc=0) == ["warn"]

    # Without a pcilud nothing can be given up, and what is not given up must not run.
    guest.do("save")
    host.kill_daemon()
    guest.do("resume", -errno.ECONNRESET)
    assert guest.do("status")["phase"] == "saved" and state(host, "nic0") == "preserved"
    host.daemon()
    assert_unchanged(guest)
    guest.until_asked(pid)

    before, started = guest.printed()[-1], clocks(guest)
    stopped = time.time()
    guest.leave()
    host.update()
    assert host.sessions() == {guest.name: "incoming", "pcilu.snapshot": "incoming"}
    assert host.pcilu("verify --boot")["ok"] and state(host, "nic0") == "incoming"
    claimed = time.time()
    guest.restore()
    away = time.time() - stopped
    assert state(host, "nic0") == "none"
    assert_went_on(guest, before)
    assert abs(missing(guest, started)) < away / 2
    assert_all_arrived(guest)
    trace = witness.read(host)
    assert [t for t in trace.dma() if host.booted_at[1] < t < claimed]
    # That which masks its interrupts when it is frozen
    assert len([w for w in trace.writes("nic0", shutdown=None) if stopped < w.time < claimed]) <= 1
    assert [w for w in trace.cleared_master("nic0") if w.time > stopped] == []
    assert trace.resets("e1000e", since=stopped) == []


# The bound device keeps the VM of the process that was replaced.
@pytest.mark.console(r"KVM: debugfs: duplicate directory \d+-\d+")
def test_guest_with_a_nic_lives_through_the_kexec(vm: Lab) -> None:
    """And before that through the replacement of its VMM, and a live update called off."""
    host = host_of(vm, topology.plain())
    guest = receiving(host)
    first, started = guest.do("status")["pid"], clocks(guest)
    assert guest.do("replace")["phase"] == "running"
    assert_went_on(guest, guest.printed()[-1])
    assert abs(missing(guest, started)) < LATE
    assert first == guest.do("status")["pid"]       # of the same process, by exec
    guest.do("save")
    assert guest.do("resume")["phase"] == "running" and state(host, "nic0") == "none"
    before = guest.wait(2)[-1]
    assert before["frames"] and not before["lost"]

    started = clocks(guest)
    guest.do("save")
    stopped = time.time()
    assert state(host, "nic0") == "preserved"
    guest.leave()
    host.kexec()
    assert state(host, "nic0") == "incoming"
    guest.bind()
    claimed = time.time()
    guest.restore(bind=False)
    away = time.time() - stopped
    assert state(host, "nic0") == "none"
    assert_went_on(guest, before)
    assert abs(missing(guest, started)) < away / 2
    assert_all_arrived(guest)
    trace = witness.read(host)
    # The device wrote to the guest's memory while there was no virtual machine.
    assert [t for t in trace.dma() if host.jumped_at[0] < t < host.booted_at[1]]
    assert [w for w in trace.writes("nic0", boot=2) if w.time < claimed] == []
    assert [w for w in trace.cleared_master("nic0") if w.time > stopped] == []
    assert trace.resets("e1000e", since=stopped) == []


@pytest.mark.usefixtures("also_on_debug")
def test_two_guests_of_which_the_one_that_is_saved_lives_through_the_kexec(vm: Lab) -> None:
    host = host_of(vm)
    kept, gone = Guest(host, "vm-1").start(options="--cpus 2"), Guest(host, "vm-2").start()
    before = kept.printed()[-1]
    assert before["cpus"] == 2
    kept.do("save")
    assert gone.wait(1)
    kept.leave()
    host.kexec()
    assert host.sessions() == {"vm-1": "incoming"}
    kept.restore()
    assert_went_on(kept, before)
    assert kept.printed()[-1]["cpus"] == 2
    assert host.run("pcilu-vmm restore vm-2 2>&1").out.endswith("vm-2 was not handed over\n")


def test_control_guest_whose_device_and_time_are_left_out(vm: Lab) -> None:
    """The guest with the NIC does not come back, and its NIC was stopped; the other one does, and
    believes that no time has passed."""
    host = host_of(vm, topology.plain())
    guest = receiving(host, "--leave-out devices")
    still = Guest(host, "vm-2").start()
    # Its VMM tells `pcilu update` that it is ready, and is found out; both guests go on.
    report = host.pcilu(f"update --no-systemd {host.next()}", rc=1)
    assert report["steps"][-1]["step"] == "go"
    assert "who said it was ready and did not preserve it" in host.sh("cat /tmp/stderr").out
    assert_unchanged(guest)
    still.until("running")
    assert still.wait(1)
    started = clocks(still)
    for one in (guest, still):
        one.do("save")
        one.leave()
    stopped = time.time()
    host.kexec()
    assert host.sessions() == {"vm-1": "incoming", "vm-2": "incoming"}
    still.restore("--leave-out time")
    assert missing(still, started) > (time.time() - stopped) / 2
    guest.bind()
    lost = host.run("pcilu-vmm restore vm-1 2>&1")
    assert lost.rc and "does not come back" in lost.out
    trace = witness.read(host)
    assert [t for t in trace.dma() if stopped - 5 < t < stopped]
    assert [t for t in trace.dma() if t > host.booted_at[1]] == []
    assert trace.cleared_master("nic0")


def test_guest_whose_vmm_is_killed_before_the_jump_and_after_it(vm: Lab) -> None:
    host = host_of(vm, topology.plain())
    guest = receiving(host)
    before = guest.printed()[-1]
    guest.do("save")
    guest.leave()
    guest.kill()
    assert state(host, "nic0") == "preserved"       # pcilud has the session
    host.kexec()
    guest.bind()
    # With the device bound, then with all of it done but the last.
    for rest in ("map", "finish"):
        died = dying_restore(guest, rest)
        assert died.rc == KILLED, died
        assert state(host, "nic0") == "claimed"
    guest.restore(bind=False)
    assert_went_on(guest, before)
    assert_all_arrived(guest)

    # The control: with nobody who keeps the iommufd
    guest.do("save")
    guest.leave()
    host.kexec()
    guest.bind()
    assert dying_restore(guest, "finish,keep").rc == KILLED
    lost = dying_restore(guest, "nothing")
    assert lost.rc and "VFIO_DEVICE_BIND_IOMMUFD: Invalid argument" in lost.out


def test_busy_guest_lives_through_three_live_updates(vm: Lab) -> None:
    host: GuestHost = vm(topology.plain(), kind=GuestHost, needs="busy-guest")
    guest = receiving(host, words="busy")
    for options in ("", "", "--leave-out devices"):
        before = guest.printed()[-1]
        guest.do("save")
        guest.leave()
        host.kexec()
        guest.restore(options)
        assert_went_on(guest, before)
    assert_all_arrived(guest)

    # The control: a fourth, by the VMM that was told to leave the NIC out
    stopped = time.time()
    guest.do("save")
    assert state(host, "nic0") == "none"
    guest.leave()
    host.kexec()
    guest.bind()
    lost = host.run(f"pcilu-vmm restore {guest.name} 2>&1")
    assert lost.rc and "does not come back" in lost.out
    assert [w for w in witness.read(host).cleared_master("nic0") if w.time > stopped]


def test_guest_resets_its_nic_up_to_the_save_and_goes_on_with_that(vm: Lab) -> None:
    """What is handed over is a device at whatever point that has come to."""
    host: GuestHost = vm(topology.plain(), kind=GuestHost, trace=[RESET])
    guest = Guest(host, nic="nic0").start(words="resets=60")
    before = guest.printed()[-1]
    guest.do("save")
    stopped = time.time()
    guest.leave()
    host.kexec()
    guest.bind()
    claimed = time.time()
    guest.restore(bind=False)
    host.sh(f"until grep -q 'resets are over' /tmp/{guest.name}.log; do sleep 1; done")
    assert_went_on(guest, before)
    host.senders["nic0"].start()
    guest.wait(2)
    assert_all_arrived(guest)
    resets = witness.read(host).events(RESET)
    # Control: the guest does that, before and afterwards, and nobody does it meanwhile.
    assert [t for t in resets if stopped - 10 < t < stopped] and [t for t in resets if t > claimed]
    assert [t for t in resets if stopped < t < claimed] == []
