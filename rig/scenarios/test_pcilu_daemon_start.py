# SPDX-License-Identifier: GPL-2.0
"""Whatever makes pcilud start again, it serves every session that systemd's store holds."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from rig import pcilu_host as ph
from rig.daemon_client import as_user, assert_served, create, listing, session
from rig.fakeluo import CREATE, Refused
from rig.fdstore import Store, device
from rig.pcilu_host import Host, TOOLS

pytestmark = pytest.mark.skipif(not (TOOLS / "pcilud").exists(),
                                reason=f"no tools in {TOOLS}: make tools SAN=1")
POLICY = "etc/pcilu/pcilud.policy"
WRONG = {"a word is missing": "user root\n", "a word is wrong": "usr root use *\n",
         "no names": "user root use\n", "no user number": "user 4294967295 use *\n",
         "names where none go": "user root hold x\n",
         "too many words": "user root use " + "x " * 80 + "\n"}
BOTH = {"vm-1", "vm-2"}


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    os.chmod(tmp_path, 0o755)
    with Host(tmp_path) as h:
        yield h


@pytest.fixture
def running(host: Host, store: Store) -> Host:
    """With two sessions."""
    store.start(host)
    create(host, *BOTH)
    return host


def log(host: Host) -> str:
    return host.log.read_text()


def may_create(host: Host, name: str) -> bool:
    """May somebody who is not root?"""
    data = ph.message(ph.CREATE, name)
    return as_user(host, f"s.sendall({data!r})\nprint(error(s.recv(4096)))") == "0"


# --- a start is a start: what made it does not matter

@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGSEGV])
def test_restart_serves_what_the_store_holds(running: Host, store: Store, sig: int) -> None:
    store.restart(running, sig=sig)
    assert_served(running, BOTH)


def test_control_without_the_store_sessions_are_lost(running: Host, store: Store) -> None:
    running.stop(9)
    store.forget()
    running.wait(lambda: not running.luo.outgoing)
    store.start(running)
    assert listing(running) == {}


def test_sessions_of_both_kinds_with_one_name_come_back(running: Host, store: Store) -> None:
    running.luo.kexec()
    running.stop()
    store.forget()
    store.start(running)
    create(running, *BOTH)
    assert session(running, ph.RETRIEVE, "vm-1") == 0
    store.restart(running)
    assert_served(running, BOTH, BOTH)
    assert session(running, ph.RELEASE, "vm-1", direction=1) == 0
    store.restart(running)
    assert_served(running, BOTH, {"vm-2"})
    assert running.luo.discarded == []


@pytest.mark.parametrize("where", [0, 4, 12])
def test_table_of_another_layout(running: Host, store: Store, where: int) -> None:
    """An upgrade or a downgrade that cannot read the other's list: made anew, and preserved."""
    running.stop(9)
    os.pwrite(store.fd("table"), b"\xff\xff", where)
    store.start(running)
    assert "not understood" in log(running)
    assert_served(running, BOTH)
    running.luo.kexec()
    running.stop()
    store.forget()
    store.start(running)
    assert_served(running, set(), BOTH)


def test_table_of_another_size(running: Host, store: Store) -> None:
    running.stop(9)
    os.ftruncate(store.fd("table"), 4096)
    store.start(running)
    assert_served(running, BOTH)


@pytest.mark.parametrize("lost", [{"table"}, {"own"}, {"table", "own"}])
def test_list_that_is_not_in_the_store(running: Host, store: Store, lost: set[str]) -> None:
    """A crash between any two steps of storing it."""
    running.stop(9)
    store.settle()
    for name, fd in store.kept:
        if name in lost:
            os.close(fd)
    store.kept = [k for k in store.kept if k[0] not in lost]
    store.start(running)
    assert_served(running, BOTH)
    running.luo.kexec()
    running.stop()
    store.forget()
    store.start(running)
    assert_served(running, set(), BOTH)


def test_session_that_is_stored_and_not_listed(running: Host, store: Store) -> None:
    """A downgrade: the table is of the time before vm-2 was made."""
    running.stop(9)
    store.settle()
    table = store.fd("table")
    data = os.pread(table, 64 + 80 * 8, 0)
    at = data.index(b"vm-2\0")
    os.pwrite(table, bytes(80), at)
    store.start(running)
    assert "session 'vm-2' was not in the list, and is there" in log(running)
    assert_served(running, BOTH)


def test_what_a_later_release_stored_is_left_to_it(running: Host, store: Store) -> None:
    running.stop(9)
    store.settle()
    store.kept.append(("metrics", os.memfd_create("x")))
    store.start(running)
    assert "'metrics' was kept for another pcilud" in log(running)
    assert_served(running, BOTH)
    assert "metrics" in store.names()


def test_device_that_somebody_else_has(running: Host, store: Store) -> None:
    """Its sessions are served; there are no new ones."""
    running.stop(9)
    with device(running.luo):
        store.start(running)
        assert_served(running, BOTH)
        assert session(running, ph.CREATE, "vm-3") == errno.EBUSY
        assert session(running, ph.RELEASE, "vm-1") == 0
    assert "systemctl restart pcilud when the device is free" in log(running)
    store.restart(running)
    create(running, "vm-3")
    assert_served(running, {"vm-2", "vm-3"})


def test_control_device_that_somebody_else_has_and_nothing_stored(host: Host,
                                                                  store: Store) -> None:
    with device(host.luo):
        store.start(host, expect_ready=False)
        assert host.daemon and host.daemon.wait(20) == 69
    host.daemon = None


def test_user_that_is_missing(running: Host, store: Store) -> None:
    """It goes on as root without a capability: nobody can look into it, and it can do nothing."""
    if os.geteuid() != 0:
        pytest.skip("only root has privileges to drop")
    store.restart(running, "--user", "no-such-user")
    assert "there is no user 'no-such-user'" in log(running)
    assert_served(running, BOTH)
    assert running.daemon
    status = Path(f"/proc/{running.daemon.pid}/status").read_text()
    assert "CapEff:\t0000000000000000" in status and "NoNewPrivs:\t1" in status


def test_control_user_that_is_missing_and_nothing_stored(host: Host, store: Store) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root has privileges to drop")
    store.start(host, "--user", "no-such-user", expect_ready=False)
    assert host.daemon and host.daemon.wait(20) == 67
    host.daemon = None


# --- a policy that is wrong

@pytest.mark.parametrize("what", WRONG)
def test_wrong_policy_at_first_lets_in_root_alone(host: Host, store: Store, what: str) -> None:
    host.write(POLICY, WRONG[what])
    store.start(host)
    assert "line 1" in log(host) and "nobody but root is let in" in log(host)
    create(host, "shared-1")
    assert not may_create(host, "shared-2")
    store.settle()
    assert "nobody but root" in store.status


@pytest.mark.parametrize("how", ["wrong", "missing", "writable"])
def test_wrong_policy_at_a_restart_leaves_the_last_good_one(running: Host, store: Store,
                                                            how: str) -> None:
    path = running.root / POLICY
    if how == "wrong":
        path.write_text("user root eat *\n")
    elif how == "missing":
        path.unlink()
    else:
        path.write_text(ph.POLICY.replace("shared", "more"))
        path.chmod(0o666)
    for _ in range(2):
        store.restart(running)
        assert_served(running, BOTH)
    assert may_create(running, "shared-1") and not may_create(running, "more-1")
    assert "the last good one is in force" in log(running)
    assert "the last good one is in force" in store.status
    # And when it is right again, that holds.
    path.write_text(ph.POLICY.replace("shared", "other"))
    path.chmod(0o644)
    assert running.daemon
    running.daemon.send_signal(signal.SIGHUP)
    running.wait(lambda: "read " in log(running))
    assert not may_create(running, "shared-2") and may_create(running, "other-1")
    store.restart(running)
    assert may_create(running, "other-2")
    assert len([name for name in store.names() if name.startswith("policy")]) == 1


def test_reload_refuses_a_wrong_policy_before_it_is_in_force(running: Host) -> None:
    """The unit's ExecReload asks first, so that systemctl fails, and says why."""
    path = running.root / POLICY

    def check() -> subprocess.CompletedProcess[str]:
        return running.run(str(TOOLS / "pcilud"), "--check-policy", "--user", "nobody",
                           "--policy", POLICY, cwd=running.root)

    assert check().returncode == 0
    path.write_text("user root eat *\n")
    out = check()
    assert out.returncode == 78 and "line 1" in out.stderr
    path.write_text(ph.POLICY)
    path.chmod(0o600)       # root can read it, the daemon could not
    if os.geteuid() == 0:
        out = check()
        assert out.returncode == 78 and "Permission denied" in out.stderr


def test_policy_about_a_user_who_is_not_there(running: Host, store: Store) -> None:
    (running.root / POLICY).write_text(ph.POLICY + "user no-such-user use *\n")
    store.restart(running)
    assert "no user 'no-such-user' on this host" in log(running)
    assert_served(running, BOTH)
    assert may_create(running, "shared-1")


# --- the copy of systemd is closed a moment later

@pytest.mark.parametrize("slow", [0.0, 0.5])
def test_name_is_free_when_its_session_is_released(running: Host, store: Store,
                                                   slow: float) -> None:
    store.slow = slow
    for _ in range(3):
        assert session(running, ph.RELEASE, "vm-1") == 0
        assert session(running, ph.CREATE, "vm-1") == 0
    assert_served(running, BOTH)


def test_name_is_free_a_moment_after_systemd_has_let_go_of_it(
        running: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, and a thread closes the descriptor then."""
    kernel, refusals = running.luo._session, [errno.EEXIST] * 3

    def create_or_retrieve(op: int, name: str) -> int:
        if (op, name) == (CREATE, "vm-1") and refusals:
            raise Refused(refusals.pop())
        return kernel(op, name)

    assert session(running, ph.RELEASE, "vm-1") == 0
    monkeypatch.setattr(running.luo, "_session", create_or_retrieve)
    assert session(running, ph.CREATE, "vm-1") == 0 and not refusals


def test_control_name_is_not_free_before_all_copies_are_closed(running: Host,
                                                               store: Store) -> None:
    """Of somebody whom nobody waits for; the daemon waits for systemd once, not each time."""
    store.late = []
    assert session(running, ph.RELEASE, "vm-1") == 0
    barriers = store.barriers
    assert [session(running, ph.CREATE, "vm-1") for _ in range(3)] == [errno.EEXIST] * 3
    assert store.barriers == barriers + 1
    running.wait(lambda: session(running, ph.CREATE, "vm-1") == 0)


# --- systemd 261 and later carries the store through the kexec

def test_store_that_came_through_the_kexec(running: Host, store: Store) -> None:
    """All sessions are held at once, and both namesakes live side by side."""
    for _ in range(2):
        running.stop()
        store.carry(running.luo)
        store.start(running)
        assert_served(running, set(), BOTH)
        assert all(fields["flags"] & ph.F_HELD for fields in listing(running).values())
        create(running, *BOTH)
        store.restart(running)
        assert_served(running, BOTH, BOTH)
        for name in BOTH:
            assert session(running, ph.RELEASE, name, direction=1) == 0
        store.restart(running)
        assert_served(running, BOTH)
    assert running.luo.discarded == []


def test_names_of_systemd_are_nobodys(host: Host, store: Store) -> None:
    store.start(host)
    assert session(host, ph.CREATE, "systemd") == errno.EACCES
    assert session(host, ph.CREATE, "vm-systemd") == 0      # control
