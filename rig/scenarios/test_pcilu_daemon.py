# SPDX-License-Identifier: GPL-2.0
"""pcilud and libpcilu on the host, against a stand-in for /dev/liveupdate."""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import os
import random
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import Iterator

import pytest

from rig import pcilu_host as ph
from rig.daemon_client import listing
from rig.fakeluo import FINISH, Refused
from rig.pcilu_host import Host, TOOLS

pytestmark = pytest.mark.skipif(not (TOOLS / "pcilud").exists(),
                                reason=f"no tools in {TOOLS}: make tools SAN=1")
NOBODY = 65534


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    os.chmod(tmp_path, 0o755)
    with Host(tmp_path) as h:
        yield h


def session(host: Host, kind: int, name: str) -> tuple[int, int]:
    """One request: errno, and the descriptor (-1 if none)."""
    with host.connect() as sock:
        error, _, fds, _ = host.ask(sock, ph.message(kind, name))
        return error, fds[0] if fds else -1


# --- sessions live and die as they should

def test_session_outlives_its_client(host: Host) -> None:
    host.start()
    error, fd = session(host, ph.CREATE, "vm-1")
    assert error == 0
    os.close(fd)
    assert "vm-1" in host.luo.outgoing
    error, fd = session(host, ph.ATTACH, "vm-1")
    assert error == 0
    os.close(fd)


def test_control_released_session_ends_with_its_last_descriptor(host: Host) -> None:
    host.start()
    _, fd = session(host, ph.CREATE, "vm-1")
    assert session(host, ph.RELEASE, "vm-1") == (0, -1)
    assert "vm-1" in host.luo.outgoing      # the client's own descriptor holds it
    os.close(fd)
    host.wait(lambda: "vm-1" not in host.luo.outgoing)
    assert session(host, ph.ATTACH, "vm-1")[0] == errno.ENOENT


def test_sessions_come_back_in_the_next_kernel(host: Host) -> None:
    host.start()
    for name in ("vm-1", "vm-2"):
        os.close(session(host, ph.CREATE, name)[1])
    host.luo.kexec()
    host.stop()
    host.start()
    before = listing(host)
    assert set(before) == {("vm-1", 1), ("vm-2", 1)}
    assert not before["vm-1", 1]["flags"] & ph.F_HELD      # nobody retrieved it yet
    assert session(host, ph.CREATE, "vm-1")[0] == 0         # outgoing and incoming are two things
    error, fd = session(host, ph.RETRIEVE, "vm-1")
    assert error == 0
    os.close(fd)
    assert listing(host)["vm-1", 1]["flags"] & ph.F_HELD
    error, again = session(host, ph.RETRIEVE, "vm-1")       # its client died: once more
    assert error == 0
    os.close(again)
    assert host.luo.discarded == []


def test_control_unknown_session_is_not_retrieved(host: Host) -> None:
    host.start()
    assert session(host, ph.RETRIEVE, "vm-1")[0] == errno.ENOENT


def test_damaged_list_of_sessions_is_refused_and_names_still_work(host: Host) -> None:
    host.start()
    os.close(session(host, ph.CREATE, "vm-1")[1])
    host.luo.kexec()
    host.stop()
    memfd = host.luo.incoming["pcilud"].files[1]
    os.pwrite(memfd, b"\xff" * 4, 4)        # another version
    host.start()
    assert "not understood" in host.log.read_text()
    assert listing(host) == {}
    error, fd = session(host, ph.RETRIEVE, "vm-1")
    assert error == 0
    os.close(fd)


def test_library_example_saves_and_restores(host: Host) -> None:
    host.start()
    assert host.run(str(TOOLS / "vmm"), "save", "vm-1").returncode == 0
    assert "vm-1" in host.luo.outgoing
    host.luo.kexec()
    host.stop()
    host.start()
    out = host.run(str(TOOLS / "vmm"), "restore", "vm-1")
    assert (out.returncode, out.stdout) == (0, "guest memory\n"), out.stderr
    assert ("vm-1", 1) not in listing(host)


@pytest.mark.parametrize("program, verb", [("pcilu", "finish"), ("lend", "finish"),
                                           ("vmm", "restore")])
def test_finished_is_finished_although_the_daemon_does_not_hear_of_it(
        host: Host, monkeypatch: pytest.MonkeyPatch, program: str, verb: str) -> None:
    """It dies when the kernel has done it. Control: the kernel says no."""
    host.start()
    assert host.run(str(TOOLS / "vmm"), "save", "vm-1").returncode == 0
    host.luo.kexec()
    host.stop()
    host.start()
    kernel, refusals = host.luo._file, [errno.EBUSY]

    def finish(session: object, op: int, *rest: object) -> object:
        if op == FINISH and refusals:
            raise Refused(refusals.pop())
        answer = kernel(session, op, *rest)      # type: ignore[arg-type]
        if op == FINISH:
            host.stop(signal.SIGKILL)
        return answer

    monkeypatch.setattr(host.luo, "_file", finish)
    out = host.run(str(TOOLS / program), verb, "vm-1")
    assert out.returncode not in (0, 1) if program == "pcilu" else out.returncode == 1
    assert "Device or resource busy" in out.stderr and ("vm-1", 1) in listing(host)
    out = host.run(str(TOOLS / program), verb, "vm-1")
    assert out.returncode == 0 and "pcilud still lists" in out.stderr
    assert host.daemon is None
    host.wait(lambda: "vm-1" not in host.luo.incoming)
    assert host.luo.discarded == []


def test_control_library_without_daemon_loses_the_session_with_the_program(host: Host) -> None:
    assert host.run(str(TOOLS / "vmm"), "save", "vm-1").returncode == 0
    host.wait(lambda: not host.luo.outgoing)
    out = host.run(str(TOOLS / "vmm"), "restore", "vm-1")
    assert out.returncode == 1 and "No such file" in out.stderr


def test_library_without_daemon_and_device_says_so(host: Host) -> None:
    (host.root / "dev/liveupdate").unlink()
    out = host.run(str(TOOLS / "vmm"), "save", "vm-1")
    assert out.returncode == 1 and "no sessions to be had" in out.stderr


# --- restart

def stored_descriptors(notify: socket.socket) -> dict[str, int]:
    """What systemd would have in its store after all messages that are there now."""
    store: dict[str, int] = {}
    notify.settimeout(0.5)
    while True:
        try:
            data, fds, _, _ = socket.recv_fds(notify, 4096, 4)
        except TimeoutError:
            return store
        fields = dict(line.split("=", 1) for line in data.decode().splitlines())
        if "FDSTORE" in fields:
            store[fields["FDNAME"]] = fcntl.fcntl(fds[0], fcntl.F_DUPFD, 200)
        if "FDSTOREREMOVE" in fields:
            os.close(store.pop(fields["FDNAME"]))
        for fd in fds:
            os.close(fd)


@pytest.fixture
def notify(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        yield sock


def test_restarted_daemon_gets_its_sessions_from_the_store(host: Host,
                                                           notify: socket.socket) -> None:
    host.start(notify=notify)
    for name in ("vm-1", "vm-2", "vm-3"):
        os.close(session(host, ph.CREATE, name)[1])
    assert session(host, ph.RELEASE, "vm-3")[0] == 0
    store = stored_descriptors(notify)
    assert set(store) == {"table", "own", "policy.1", "o.vm-1", "o.vm-2"}
    host.stop(9)
    assert {"vm-1", "vm-2"} <= set(host.luo.outgoing)
    host.start(notify=notify, fds=list(store.values()), names=list(store))
    for fd in store.values():
        os.close(fd)
    assert set(listing(host)) == {("vm-1", 0), ("vm-2", 0)}
    error, fd = session(host, ph.ATTACH, "vm-2")
    assert error == 0
    os.close(fd)
    # And what it remembers still reaches the next kernel.
    host.luo.kexec()
    host.stop()
    host.start()
    assert set(listing(host)) == {("vm-1", 1), ("vm-2", 1)}


def test_control_restart_without_a_store_loses_outgoing_sessions(host: Host) -> None:
    host.start()
    os.close(session(host, ph.CREATE, "vm-1")[1])
    host.stop(9)
    host.wait(lambda: "vm-1" not in host.luo.outgoing)
    host.start()
    assert listing(host) == {}


def test_library_connects_to_a_restarted_daemon(host: Host) -> None:
    host.start()
    os.close(session(host, ph.CREATE, "vm-1")[1])
    first = host.run(str(TOOLS / "vmm"), "save", "vm-2")
    host.stop()
    host.start()
    second = host.run(str(TOOLS / "vmm"), "save", "vm-2")
    assert first.returncode == second.returncode == 0


def test_socket_activation(host: Host, notify: socket.socket) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(host.root / "run/pcilud/socket"))
        listener.listen(8)
        fd = fcntl.fcntl(listener.fileno(), fcntl.F_DUPFD, 100)
        host.start(notify=notify, fds=[fd], names=["pcilud.socket"])
        os.close(fd)
    assert session(host, ph.CREATE, "vm-1")[0] == 0
    notify.settimeout(5)
    messages = b"\n".join(notify.recv(4096) for _ in range(4))
    assert b"READY=1" in messages and b"STATUS=" in messages


def test_keeper_holds_sessions_through_the_shutdown(host: Host, notify: socket.socket) -> None:
    host.start()
    os.close(session(host, ph.CREATE, "vm-1")[1])
    env = {**host.env, "NOTIFY_SOCKET": notify.getsockname()}
    with subprocess.Popen(["@pcilu-keeper"], executable=TOOLS / "pcilu-keeper", env=env,
                          stderr=subprocess.DEVNULL) as keeper:
        notify.settimeout(30)
        assert b"holding 2 sessions" in notify.recv(4096)
        assert Path(f"/proc/{keeper.pid}/cmdline").read_bytes()[:1] == b"@"
        host.stop()
        assert "vm-1" in host.luo.outgoing
        host.luo.kexec()        # now is the jump
        keeper.terminate()
    host.start()
    assert set(listing(host)) == {("vm-1", 1)}


def test_control_without_keeper_the_shutdown_ends_the_sessions(host: Host) -> None:
    host.start()
    os.close(session(host, ph.CREATE, "vm-1")[1])
    host.stop()
    host.wait(lambda: not host.luo.outgoing)
    host.luo.kexec()
    host.start()
    assert listing(host) == {}


# --- the library, called from threads

class Library:
    """The shared library as a program would load it."""

    OPEN = ("AUTO", "DAEMON", "DIRECT")

    def __init__(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        plain = ph.BUILD / "tools" / "libpcilu.so.1"
        if not plain.exists():
            pytest.skip("no library: make tools")
        monkeypatch.setenv("PCILU_SYSROOT", str(host.root))
        self.so = ctypes.CDLL(str(plain))
        self.so.pcilu_state_name.restype = ctypes.c_char_p

    def open(self, mode: str) -> tuple[int, ctypes.c_void_p]:
        lu = ctypes.c_void_p()
        return self.so.pcilu_open(ctypes.byref(lu), self.OPEN.index(mode)), lu

    def session(self, call: str, lu: ctypes.c_void_p, name: str) -> tuple[int, ctypes.c_void_p]:
        s = ctypes.c_void_p()
        return getattr(self.so, f"pcilu_session_{call}")(lu, name.encode(), ctypes.byref(s)), s


@pytest.fixture
def lib(host: Host, monkeypatch: pytest.MonkeyPatch) -> Library:
    return Library(host, monkeypatch)


def test_threads_share_one_connection(host: Host, lib: Library) -> None:
    host.start()
    error, lu = lib.open("DAEMON")
    assert error == 0
    wrong: list[object] = []

    def work(n: int) -> None:
        for k in range(50):
            name = f"vm-{n}-{k}"
            error, s = lib.session("create", lu, name)
            lib.so.pcilu_session_name.restype = ctypes.c_char_p
            if error or lib.so.pcilu_session_name(s) != name.encode():
                wrong.append((name, error))
            if k % 2 and lib.so.pcilu_session_release(lu, s):
                wrong.append(("release", name))
            lib.so.pcilu_session_close(s)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    expected = {f"vm-{n}-{k}" for n in range(8) for k in range(0, 50, 2)}
    assert {name for name, _ in listing(host)} == expected
    host.wait(lambda: set(host.luo.outgoing) == expected | {"pcilud"})
    lib.so.pcilu_close(lu)


def test_errors_of_the_library_are_those_of_its_header(host: Host, lib: Library) -> None:
    assert lib.open("DAEMON")[0] == -errno.ENOENT
    assert lib.so.pcilu_open(None, 0) == -errno.EINVAL
    assert lib.so.pcilu_open(ctypes.byref(ctypes.c_void_p()), 7) == -errno.EINVAL
    error, direct = lib.open("AUTO")
    assert error == 0 and lib.so.pcilu_is_daemon(direct) == 0
    assert lib.session("attach", direct, "vm-1")[0] == -errno.EOPNOTSUPP
    assert lib.so.pcilu_session_list(direct, ctypes.byref(ctypes.c_void_p()),
                                     ctypes.byref(ctypes.c_size_t())) == -errno.EOPNOTSUPP
    lib.so.pcilu_close(direct)

    host.start()
    error, lu = lib.open("AUTO")
    assert error == 0 and lib.so.pcilu_is_daemon(lu) == 1
    for name in ("", ".x", "a/b", "x" * 64):
        assert lib.session("create", lu, name)[0] == -errno.EINVAL
        assert lib.so.pcilu_name_valid(name.encode()) == 0
    error, s = lib.session("create", lu, "vm-1")
    assert error == 0 and lib.session("create", lu, "vm-1")[0] == -errno.EEXIST
    assert lib.session("create", lu, "pcilud")[0] == -errno.EACCES
    assert lib.session("retrieve", lu, "vm-1")[0] == -errno.ENOENT
    assert lib.session("attach", lu, "vm-2")[0] == -errno.ENOENT
    assert lib.so.pcilu_session_finish(lu, s) == -errno.EINVAL      # it is outgoing
    host.stop()
    assert lib.session("create", lu, "vm-2")[0] == -errno.ECONNRESET
    host.start()
    assert lib.session("create", lu, "vm-2")[0] == 0                # and connects again
    lib.so.pcilu_session_close(s)
    lib.so.pcilu_close(lu)


def test_states_of_devices(host: Host, lib: Library) -> None:
    bdf = b"0000:01:00.0"
    folder = host.root / "sys/bus/pci/devices" / bdf.decode()
    assert lib.so.pcilu_device_state(bdf) == -errno.ENODEV
    (folder / "liveupdate").mkdir(parents=True)
    assert lib.so.pcilu_device_state(bdf) == -errno.EOPNOTSUPP
    for n, word in enumerate(["none", "preserved", "incoming", "claimed", "lost", "dead"]):
        (folder / "liveupdate/state").write_text(word + "\n")
        assert lib.so.pcilu_device_state(bdf) == n
        assert lib.so.pcilu_state_name(n) == word.encode()
    (folder / "liveupdate/state").write_text("flying\n")
    assert lib.so.pcilu_device_state(bdf) == -errno.EPROTO
    assert lib.so.pcilu_state_name(99) == b"unknown"
    for wrong in (b"01:00.0", b"0000:01:00.8", b"../../0000:01:00.0", b"0000:01:00.0/x", b""):
        assert lib.so.pcilu_device_state(wrong) == -errno.EINVAL


# --- who may do what

def as_nobody(host: Host, data: bytes) -> int:
    """What the daemon answers another user: an errno."""
    code = ("import os,socket,sys,struct\n"
            "s=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET);s.settimeout(30)\n"
            f"os.setgroups([]);os.setgid({NOBODY});os.setuid({NOBODY})\n"
            f"s.connect({str(host.root / 'run/pcilud/socket')!r})\n"
            f"s.sendall({data!r})\n"
            "print(-struct.unpack_from('=i',s.recv(4096),16)[0])")
    if os.geteuid() != 0:
        pytest.skip("only root can try what another user may do")
    out = subprocess.run(["/usr/bin/python3", "-c", code], text=True, capture_output=True,
                         timeout=60)
    assert out.returncode == 0, out.stderr
    return int(out.stdout)


@pytest.fixture
def open_host(host: Host, tmp_path: Path) -> Host:
    """Other users can reach the socket."""
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.owner() == "root" and str(folder).startswith("/tmp/"):
            os.chmod(folder, folder.stat().st_mode | 0o011)
    return host


def test_client_without_permission_is_refused(open_host: Host) -> None:
    host = open_host
    host.start()
    os.close(session(host, ph.CREATE, "vm-1")[1])
    for kind in (ph.CREATE, ph.ATTACH, ph.RETRIEVE, ph.RELEASE):
        assert as_nobody(host, ph.message(kind, "vm-1")) == errno.EACCES
    assert as_nobody(host, ph.message(ph.HOLD)) == errno.EACCES
    assert as_nobody(host, ph.message(ph.LIST)) == errno.ENOENT     # sees nothing
    assert "may not use 'vm-1'" in host.log.read_text()
    assert "vm-1" in host.luo.outgoing


def test_control_the_same_client_may_use_what_the_policy_gives_it(open_host: Host) -> None:
    host = open_host
    host.start()
    assert as_nobody(host, ph.message(ph.CREATE, "shared-1")) == 0
    assert listing(host)["shared-1", 0]["uid"] == NOBODY
    assert as_nobody(host, ph.message(ph.LIST)) == 0


def test_names_of_the_daemon_are_nobodys(host: Host) -> None:
    host.start()
    for kind in (ph.CREATE, ph.ATTACH, ph.RETRIEVE, ph.RELEASE):
        assert session(host, kind, "pcilud")[0] == errno.EACCES
        assert session(host, kind, "pcilud-x")[0] == errno.EACCES


def test_policy_is_read_again_and_a_wrong_one_is_not(open_host: Host) -> None:
    host = open_host
    host.start()
    path = host.root / "etc/pcilu/pcilud.policy"
    path.write_text(ph.POLICY + f"user {NOBODY} use vm-*\n")
    host.daemon.send_signal(1)      # type: ignore[union-attr]
    host.wait(lambda: "again" in host.log.read_text())
    assert as_nobody(host, ph.message(ph.CREATE, "vm-7")) == 0
    path.write_text("user root eat *\n")
    host.daemon.send_signal(1)      # type: ignore[union-attr]
    host.wait(lambda: "stays as it was" in host.log.read_text())
    assert "line 1" in host.log.read_text()
    assert as_nobody(host, ph.message(ph.CREATE, "vm-8")) == 0


# --- it is not alone

def test_steps_aside_when_somebody_owns_the_device(host: Host) -> None:
    host.start()
    first, host.daemon = host.daemon, None
    host.start(expect_ready=False)
    assert host.daemon.wait(60) == 69       # type: ignore[union-attr]
    host.daemon = first
    assert "/dev/liveupdate belongs to" in host.log.read_text()
    assert session(host, ph.CREATE, "vm-1")[0] == 0     # the first one goes on


def test_says_what_to_do_without_the_device(host: Host) -> None:
    host.luo.close()
    host.luo.path.unlink()
    host.start(expect_ready=False)
    assert host.daemon and host.daemon.wait(60) == 69
    host.daemon = None
    assert "kho=on liveupdate=on" in host.log.read_text()
    host.luo = ph.FakeLuo(host.root / "luo")


def test_500_clients_at_once(host: Host) -> None:
    host.start()
    socks = [host.connect() for _ in range(500)]
    for n, sock in enumerate(socks):
        sock.sendall(ph.message(ph.CREATE, f"vm-{n}", serial=n))
    for n, sock in enumerate(socks):
        data, fds, _, _ = socket.recv_fds(sock, ph.MSG.size, 1)
        fields = ph.MSG.unpack(data)
        assert (fields[3], fields[5], len(fds)) == (n, 0, 1)
        os.close(fds[0])
    assert len(listing(host)) == 500
    for sock in socks:
        sock.close()
    host.luo.kexec()
    host.stop()
    host.start()
    assert len(listing(host)) == 500
    failures: list[int] = []

    def retrieve(n: int) -> None:
        error, fd = session(host, ph.RETRIEVE, f"vm-{n}")
        if error:
            failures.append(n)
        else:
            os.close(fd)

    threads = [threading.Thread(target=retrieve, args=(n,)) for n in range(500)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_kernel_without_room_is_reported(host: Host) -> None:
    host.luo.max_sessions = 3       # one is the daemon's
    host.start()
    assert [session(host, ph.CREATE, f"vm-{n}")[0] for n in range(3)] == [0, 0, errno.ENOSPC]
    assert session(host, ph.CREATE, "vm-0")[0] == errno.EEXIST


# --- bad messages

BAD = {
    "bad field: flags": ph.message(ph.HELLO, flags=1),
    "bad field: error": ph.message(ph.HELLO, error=-5),
    "bad field: uid": ph.message(ph.HELLO, uid=1),
    "bad field: pid": ph.message(ph.HELLO, pid=1),
    "bad field: reserved": ph.message(ph.HELLO, reserved=b"\0\0\0\0\0\0\0\1"),
    "bad field: value": ph.message(ph.HELLO, value=1),
    "bad field: index": ph.message(ph.CREATE, "vm-1", index=1),
    "bad field: direction": ph.message(ph.RELEASE, "vm-1", direction=2),
    "a direction that is not used": ph.message(ph.CREATE, "vm-1", direction=1),
    "no name": ph.message(ph.CREATE),
    "a name that is not used": ph.message(ph.LIST, "vm-1"),
    "a name without an end": ph.message(ph.CREATE, "x" * 64),
    "a path": ph.message(ph.CREATE, "../x"),
    "a hidden name": ph.message(ph.CREATE, ".x"),
    "a line break": ph.message(ph.CREATE, "a\nFDSTORE=1"),
    "a colon": ph.message(ph.CREATE, "a:b"),
    "bytes after the name": ph.message(ph.CREATE, "vm-1\0x"),
}


@pytest.mark.parametrize("what", BAD)
def test_message_with_a_wrong_field_is_refused(host: Host, what: str) -> None:
    host.start()
    with host.connect() as sock:
        assert host.ask(sock, BAD[what])[0] == errno.EINVAL
        assert host.ask(sock, ph.message(ph.HELLO))[0] == 0     # and that is all
    assert set(host.luo.outgoing) == {"pcilud"}


def test_control_the_same_message_without_the_wrong_field_is_accepted(host: Host) -> None:
    host.start()
    with host.connect() as sock:
        assert host.ask(sock, ph.message(ph.CREATE, "x" * 63))[0] == 0
        assert host.ask(sock, ph.message(ph.RELEASE, "x" * 63))[0] == 0


def test_other_versions_are_told_so(host: Host) -> None:
    host.start()
    with host.connect() as sock:
        assert host.ask(sock, ph.message(ph.HELLO, version=2))[0] == errno.EPROTONOSUPPORT


@pytest.mark.parametrize("data", [b"x", ph.message(ph.HELLO)[:-1], ph.message(ph.HELLO) + b"x",
                                  b"\0" * 60000, ph.message(ph.HELLO, magic=1)],
                         ids=["one byte", "truncated", "oversized", "huge", "other magic"])
def test_who_does_not_speak_the_protocol_is_disconnected(host: Host, data: bytes) -> None:
    host.start()
    with host.connect() as other, host.connect() as sock:
        sock.sendall(data)
        assert sock.recv(4096) == b""
        assert host.ask(other, ph.message(ph.HELLO))[0] == 0


def test_descriptors_in_a_request_are_not_kept(host: Host) -> None:
    host.start()
    assert host.daemon
    before = len(os.listdir(f"/proc/{host.daemon.pid}/fd"))
    for _ in range(20):
        with host.connect() as sock:
            socket.send_fds(sock, [ph.message(ph.HELLO)], [0, 1, 2])
            assert sock.recv(4096) == b""
    host.wait(lambda: len(os.listdir(f"/proc/{host.daemon.pid}/fd")) == before)


def test_who_does_not_read_replies_is_disconnected_and_hurts_nobody(host: Host) -> None:
    host.start()
    with host.connect() as sock, host.connect() as other:
        sock.setblocking(False)
        with pytest.raises((BlockingIOError, ConnectionError)):
            for _ in range(100_000):
                sock.sendall(ph.message(ph.HELLO))
        assert host.ask(other, ph.message(ph.HELLO))[0] == 0


def test_random_messages(host: Host) -> None:
    """The fuzz target does this in depth; here the whole daemon is in the way."""
    host.start()
    rng = random.Random(20261125)
    for _ in range(2000):
        data = array.array("B", ph.message(rng.randrange(1, 8), "vm-1"))
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        with host.connect() as sock:
            sock.sendall(data.tobytes())
            reply, fds, _, _ = socket.recv_fds(sock, 4096, 4)
            assert len(reply) in (0, ph.MSG.size)
            for fd in fds:
                os.close(fd)
    assert session(host, ph.CREATE, "vm-2")[0] == 0


def test_privileges_are_dropped(open_host: Host) -> None:
    host = open_host
    if os.geteuid() != 0:
        pytest.skip("only root has privileges to drop")
    host.start("--user", "nobody")
    status = Path(f"/proc/{host.daemon.pid}/status").read_text()    # type: ignore[union-attr]
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == [str(NOBODY)] * 4
    assert fields["Groups"].strip() == "" and fields["NoNewPrivs"] == "1"
    assert int(fields["CapEff"], 16) == 0
    assert session(host, ph.CREATE, "vm-1")[0] == 0
