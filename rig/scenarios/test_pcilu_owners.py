# SPDX-License-Identifier: GPL-2.0
"""`pcilu update` asks those who own devices: prepare, go, abort. One of them can say no."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rig import pcilu_host as ph
from rig.daemon_client import as_user, listing, session
from rig.pcilu_host import Host, NIC, TOOLS, bzimage
from rig.signals import Signals

PLAIN = ph.BUILD / "tools" / "libpcilu.so.1"
pytestmark = pytest.mark.skipif(not (TOOLS / "pcilud").exists() or not PLAIN.exists(),
                                reason="needs make tools and make tools SAN=1")
GOOD = "root=/dev/sda1 ro kho=on liveupdate=on panic=10"
DAEMON = 1
PREPARE, GO, ABORT = 1, 2, 3
WORDS = {PREPARE: "prepare", GO: "go", ABORT: "abort"}
ALL_STEPS = ["preflight", "load", "prepare", "go", "snapshot", "exec"]


class Event(ctypes.Structure):
    """What a program sees that was built with today's header."""
    _fields_ = [("size", ctypes.c_uint32), ("kind", ctypes.c_uint32),
                ("limit_ms", ctypes.c_uint32)]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("PCILU_SYSROOT", str(tmp_path))
    with Host(tmp_path).standard() as h:
        h.write("boot/vmlinuz-next", bzimage())
        h.start()
        yield h
        for vmm in Vmm.alive:
            vmm.leave()
        Vmm.alive.clear()


@pytest.fixture
def so() -> ctypes.CDLL:
    return ctypes.CDLL(str(PLAIN))


class Vmm:
    """Takes part in a thread of its own. `does` gives the answer to an event; None is none."""

    alive: list["Vmm"] = []     # they would come to the next scenario's daemon

    def __init__(self, so: ctypes.CDLL, name: str,
                 does: Callable[[int], int | None] = lambda kind: 0) -> None:
        self.so, self.name, self.does = so, name, does
        self.lu, self.events = ctypes.c_void_p(), ctypes.c_void_p()
        self.seen: list[int] = []
        self.error = 0
        self.ended = False
        assert so.pcilu_open(ctypes.byref(self.lu), DAEMON) == 0
        self.error = so.pcilu_events_start(self.lu, name.encode(), ctypes.byref(self.events))
        assert self.error == 0
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        Vmm.alive.append(self)

    def _run(self) -> None:
        event = ctypes.POINTER(Event)()
        while not self.ended:
            error = self.so.pcilu_events_take(self.events, ctypes.byref(event))
            if error == -errno.EAGAIN:
                select.select([self.so.pcilu_events_fd(self.events)], [], [], 0.1)
                continue
            if error:
                self.error = error
                return
            kind, limit = event.contents.kind, event.contents.limit_ms
            assert event.contents.size == ctypes.sizeof(Event)
            assert (limit > 0) == (kind != ABORT)
            self.seen.append(kind)
            verdict = self.does(kind)
            if kind != ABORT and verdict is not None and not self.ended:
                self.so.pcilu_events_answer(self.events, verdict)

    def end(self) -> None:
        """As the death of the program: its connection is closed. Only from what it does."""
        self.ended = True
        self.so.pcilu_events_close(self.events)
        self.events = None

    def leave(self) -> None:
        """At the end of a scenario. Who still does something is left to itself."""
        self.ended = True
        self.thread.join(1)
        if self.events and not self.thread.is_alive():
            self.so.pcilu_events_close(self.events)

    def words(self) -> list[str]:
        return [WORDS[kind] for kind in self.seen]

    def hears(self, words: list[str]) -> None:
        """It is told that before long, and nothing else."""
        end = time.monotonic() + 60
        while self.words() != words and time.monotonic() < end:
            time.sleep(0.05)
        assert (self.words(), self.error) == (words, 0)


def taking_part(host: Host) -> int:
    """How many the daemon knows."""
    index = 0
    with host.connect() as sock:
        while True:
            error, _, _, fields = host.ask(sock, ph.message(ph.SUBSCRIBERS, index=index))
            if error:
                return index
            index = fields["index"] + 1


def vmms(host: Host, so: ctypes.CDLL, *does: Callable[[int], int | None]) -> list[Vmm]:
    before = taking_part(host)
    all_of_them = [Vmm(so, f"vm-{n}", what) for n, what in enumerate(does)]
    host.wait(lambda: taking_part(host) == before + len(does))
    return all_of_them


def update(host: Host, *options: str, rc: int | None = None) -> dict[str, Any]:
    """The stand-in's jump comes back, so an update that does all ends with 11."""
    out = host.pcilu("update", "--kernel", str(host.root / "boot/vmlinuz-next"), "--cmdline", GOOD,
                     "--json", *options)
    document = ph.checked(out.stdout)
    document["stderr"] = out.stderr
    assert rc is None or out.returncode == rc, out.stderr
    return document


def steps(document: dict[str, Any]) -> list[str]:
    return [s["step"] for s in document["steps"]]


def answers(document: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    return sorted((a["name"], a["event"], a["reason"]) for a in document["owners"])


def systemctl(host: Host, script: str = "exit 0") -> None:
    (host.root / "run/systemd/system").mkdir(parents=True, exist_ok=True)
    os.chmod(host.write("bin/systemctl", f"#!/bin/sh\n{script}\n"), 0o755)


def assert_taken_back(host: Host) -> None:
    assert host.luo.loads and host.luo.loaded is None
    assert host.luo.reboots == [] and "pcilu.snapshot" not in host.luo.outgoing


def test_all_are_asked_twice_and_then_it_jumps(host: Host, so: ctypes.CDLL) -> None:
    at: list[float] = []
    all_three = vmms(host, so, lambda kind: 0, lambda kind: 0,
                     lambda kind: at.append(time.monotonic()) or 0)
    document = update(host, "--no-systemd")
    assert steps(document) == ALL_STEPS
    assert answers(document) == sorted((f"vm-{n}", event, None) for n in range(3)
                                       for event in ("prepare", "go"))
    assert len(host.luo.reboots) == 1
    # The stand-in came back from its jump, which failed therefore.
    host.wait(lambda: all(v.words() == ["prepare", "go", "abort"] for v in all_three))


@pytest.mark.parametrize("event", [PREPARE, GO])
def test_one_says_no(host: Host, so: ctypes.CDLL, event: int) -> None:
    ready, other = vmms(host, so, lambda kind: 0,
                        lambda kind: -errno.EBUSY if kind == event else 0)
    document = update(host, rc=1)
    assert steps(document)[-1] == WORDS[event]
    assert ("vm-1", WORDS[event], "Device or resource busy") in answers(document)
    assert f"vm-1 (process {os.getpid()}): Device or resource busy" in document["stderr"]
    assert_taken_back(host)
    host.wait(lambda: ready.words()[-1] == other.words()[-1] == "abort")
    assert GO in ready.seen if event == GO else GO not in ready.seen


def test_who_says_no_says_why_in_its_words(host: Host, so: ctypes.CDLL) -> None:
    """Of any bytes and any length; and only with that answer."""
    long = "it is being migrated, to a host that has no such device at all, or not yet"
    errno_says = "Device or resource busy"
    words: dict[str, bytes | None] = {"vm-1": long.encode(), "vm-2": b"\x1b[2Jold\nnews",
                                      "vm-3": b"", "vm-4": None}

    def refuses(n: int) -> Callable[[int], int | None]:
        def refuse(kind: int) -> None:
            if kind != ABORT:
                so.pcilu_events_refuse(all_of_them[n].events, -errno.EBUSY, words[f"vm-{n}"])
        return refuse

    all_of_them = vmms(host, so, lambda kind: 0, *[refuses(n) for n in range(1, 5)])
    document = update(host, rc=1)
    assert answers(document) == [
        ("vm-0", "prepare", None), ("vm-1", "prepare", long[:63]),
        ("vm-2", "prepare", "?[2Jold?news"), ("vm-3", "prepare", errno_says),
        ("vm-4", "prepare", errno_says)]
    assert long[:63] in document["stderr"] and "\x1b" not in document["stderr"]
    assert f"is not ready: {long[:63]}" in host.log.read_text()
    # What it said then is not said again.
    words["vm-1"] = words["vm-2"] = None
    assert {reason for _, _, reason in answers(update(host, rc=1))} == {None, errno_says}
    assert so.pcilu_events_refuse(all_of_them[0].events, 0, b"ready") == -errno.EINVAL


def test_reason_of_who_is_not_asked_is_none(host: Host) -> None:
    with host.connect() as vmm:
        reason = ph.message(ph.REASON, "no reason", index=PREPARE)
        assert host.ask(vmm, reason)[0] == errno.ECANCELED
        assert host.ask(vmm, ph.message(ph.SUBSCRIBE, "vm-1"))[0] == 0
        assert host.ask(vmm, reason)[0] == errno.ECANCELED
        for wrong in (b"\x1b[2J", b"\xff", b""):
            assert host.ask(vmm, reason[:-64] + wrong.ljust(64, b"\0"))[0] == errno.EINVAL


def test_force_goes_on_without_who_says_no(host: Host, so: ctypes.CDLL) -> None:
    ready, other = vmms(host, so, lambda kind: 0, lambda kind: -errno.EBUSY)
    document = update(host, "--force", "--no-systemd")
    assert steps(document) == ALL_STEPS and len(host.luo.reboots) == 1
    assert ready.seen[:2] == [PREPARE, GO] and GO not in other.seen


def test_one_hangs_beyond_the_limit(host: Host, so: ctypes.CDLL) -> None:
    ready, other = vmms(host, so, lambda kind: 0, lambda kind: None)
    start = time.monotonic()
    document = update(host, "--timeout", "1", rc=1)
    assert 0.9 < time.monotonic() - start < 60         # without it, a minute
    assert ("vm-1", "prepare", "Connection timed out") in answers(document)
    assert_taken_back(host)
    host.wait(lambda: ready.words() == other.words() == ["prepare", "abort"])
    # Its answer comes when nobody waits any more, and changes nothing.
    assert so.pcilu_events_answer(other.events, 0) == -errno.EINVAL
    other.does = lambda kind: 0
    assert steps(update(host, "--timeout", "5", "--no-systemd")) == ALL_STEPS     # control


def test_who_is_slow_within_the_limit_is_waited_for(host: Host, so: ctypes.CDLL) -> None:
    vmms(host, so, lambda kind: time.sleep(1) or 0)
    document = update(host, "--timeout", "30", "--no-systemd")
    assert steps(document) == ALL_STEPS
    assert all(a["seconds"] >= 0.9 for a in document["owners"])


@pytest.mark.parametrize("event", [PREPARE, GO])
def test_one_dies_while_it_is_asked(host: Host, so: ctypes.CDLL, event: int) -> None:
    ready, other = vmms(host, so, lambda kind: 0,
                        lambda kind: other.end() if kind == event else 0)
    document = update(host, rc=1)
    assert ("vm-1", WORDS[event], "Connection reset by peer") in answers(document)
    assert_taken_back(host)
    host.wait(lambda: ready.words()[-1] == "abort")
    assert taking_part(host) == 1


def test_one_dies_between_the_two(host: Host) -> None:
    """It was ready, and is gone when it is to go: what it owns is not preserved."""
    with host.connect() as leader, host.connect() as vmm:
        assert host.ask(vmm, ph.message(ph.SUBSCRIBE, "vm-1"))[0] == 0
        leader.sendall(ph.message(ph.EVENT, index=PREPARE, value=5000))
        assert unasked(vmm)["index"] == PREPARE
        assert host.ask(vmm, ph.message(ph.ANSWER, index=PREPARE))[0] == 0
        assert [m["name"] for m in until_end(leader)] == ["vm-1"]
        vmm.close()
        host.wait(lambda: taking_part(host) == 0)
        leader.sendall(ph.message(ph.EVENT, index=GO, value=5000))
        assert [(m["name"], m["value"]) for m in until_end(leader)] == [("vm-1", errno.ECONNRESET)]


def unasked(sock: Any) -> dict[str, Any]:
    """The next message that is no reply."""
    while True:
        fields = ph.fields(sock.recv(ph.MSG.size))
        if fields["serial"] == 0:
            return fields


def until_end(leader: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while not found or found[-1]["name"]:
        found.append(unasked(leader))
    return found[:-1]


@pytest.mark.parametrize("when", [PREPARE, GO])
def test_one_connects_late(host: Host, so: ctypes.CDLL, when: int) -> None:
    """While another is being asked: it is asked as well, from the beginning."""
    late: list[Vmm] = []

    def first(kind: int) -> int:
        if kind == when and not late:
            late.append(Vmm(so, "vm-late"))
            host.wait(lambda: taking_part(host) == 2)
        return 0

    vmms(host, so, first)
    document = update(host, "--no-systemd")
    assert steps(document) == ALL_STEPS
    assert ("vm-late", "go", None) in answers(document)
    host.wait(lambda: late[0].words()[:2] == ["prepare", "go"])


def test_one_connects_late_and_is_not_ready(host: Host, so: ctypes.CDLL) -> None:
    """After all others were ready; the next step tells."""
    with host.connect() as leader:
        leader.sendall(ph.message(ph.EVENT, index=PREPARE, value=5000))
        assert until_end(leader) == []
        late = Vmm(so, "vm-late", lambda kind: -errno.ENOSPC)
        host.wait(lambda: late.seen == [PREPARE])
        leader.sendall(ph.message(ph.EVENT, index=GO, value=5000))
        assert [(m["name"], m["value"]) for m in until_end(leader)] == [("vm-late", errno.ENOSPC)]
    host.wait(lambda: late.seen == [PREPARE, ABORT])


def test_update_that_is_killed_is_an_abort(host: Host, so: ctypes.CDLL) -> None:
    [vmm] = vmms(host, so, lambda kind: None if kind == GO else 0)
    program = started(host)
    host.wait(lambda: GO in vmm.seen)
    assert ABORT not in vmm.seen
    program.kill()
    program.communicate()
    vmm.hears(["prepare", "go", "abort"])


def started(host: Host, *options: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """An update, in a session of its own as in a terminal's; this run itself may ignore signals."""
    return subprocess.Popen(["env", "--default-signal=INT,TERM,HUP", *prefix, str(TOOLS / "pcilu"),
                             "update", "--kernel", str(host.root / "boot/vmlinuz-next"),
                             "--cmdline", GOOD, *options],
                            env=host.env, text=True, start_new_session=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ends(program: subprocess.Popen[str]) -> str:
    """Not by a signal, and nothing is preserved; what it says on standard error."""
    text = program.communicate(timeout=50)[1]       # owners have a minute
    assert program.returncode == 11, (program.returncode, text)
    return text


@pytest.mark.parametrize("event", [PREPARE, GO])
@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_update_that_is_interrupted_takes_back_what_it_did(
        host: Host, so: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch, event: int,
        sig: int) -> None:
    """At once, while an owner does not answer; and whoever cannot wait does not stop that."""
    [vmm] = vmms(host, so, lambda kind: None if kind == event else 0)
    program = started(host)
    kernel = host.luo._load

    def load(*args: object) -> None:
        program.send_signal(sig)
        kernel(*args)           # type: ignore[arg-type]

    host.wait(lambda: event in vmm.seen)
    monkeypatch.setattr(host.luo, "_load", load)        # from here on it is to unload
    program.send_signal(sig)
    assert ends(program).count("pcilu: interrupted\n") == 1
    assert_taken_back(host)
    vmm.hears(["prepare", "go", "abort"] if event == GO else ["prepare", "abort"])


def test_update_that_is_interrupted_in_a_step_that_succeeds(host: Host, so: ctypes.CDLL) -> None:
    """Then the next one does not begin: the first load, and the one right before the jump."""
    [vmm] = vmms(host, so, lambda kind: 0)
    for nth, words in ((1, []), (2, ["prepare", "go", "abort"])):
        loads = len(host.luo.loads)
        program: list[subprocess.Popen[str]] = []

        def before_load() -> None:
            host.wait(lambda: program)
            if len(host.luo.loads) - loads == nth - 1:
                program[0].send_signal(signal.SIGTERM)

        host.luo.before_load = before_load
        program.append(started(host, "--no-systemd"))
        assert "pcilu: interrupted\n" in ends(program[0])
        assert len(host.luo.loads) - loads == nth
        assert_taken_back(host)
        vmm.hears(words)


def test_signal_that_comes_when_the_jump_has_begun_is_too_late(host: Host,
                                                               so: ctypes.CDLL) -> None:
    """It fails here, and all is taken back nevertheless."""
    [vmm] = vmms(host, so, lambda kind: 0)
    program: list[subprocess.Popen[str]] = []
    host.luo.before_reboot = lambda: program[0].send_signal(signal.SIGTERM)
    program.append(started(host, "--no-systemd"))
    assert "interrupted" not in ends(program[0])
    assert len(host.luo.reboots) == 1 and host.luo.loaded is None
    vmm.hears(["prepare", "go", "abort"])


def test_key_that_comes_when_systemd_has_begun_the_jump_is_too_late(host: Host,
                                                                    so: ctypes.CDLL) -> None:
    """systemctl does not get it, but can be ended by any signal."""
    mask = host.root / "mask"
    # By itself: a shell that starts a program blocks them all for a moment.
    systemctl(host, '[ "$1" = kexec ] || exit 0\nwhile read word value; do\n'
                    f'[ $word != SigBlk: ] || echo $word $value > {mask}.new\n'
                    f"done < /proc/self/status\nmv {mask}.new {mask}\nsleep 2")
    [vmm] = vmms(host, so, lambda kind: 0)
    program = started(host)
    host.wait(mask.exists)
    os.killpg(program.pid, signal.SIGINT)
    program.communicate(timeout=60)
    assert program.returncode == 0 and host.luo.loaded is not None
    assert int(mask.read_text().split()[1], 16) == 0
    assert vmm.words() == ["prepare", "go"]


@pytest.mark.parametrize("prefix", [(), ("nohup",)])
def test_signal_that_is_ignored_stays_ignored(host: Host, so: ctypes.CDLL,
                                              prefix: tuple[str, ...]) -> None:
    program: list[subprocess.Popen[str]] = []
    [vmm] = vmms(host, so, lambda kind: (kind == GO and program[0].send_signal(signal.SIGHUP)) or 0)
    program.append(started(host, "--no-systemd", prefix=prefix))
    assert ("interrupted" in ends(program[0])) == (not prefix)
    assert len(host.luo.reboots) == len(prefix)
    vmm.hears(["prepare", "go", "abort"])


def test_update_whose_output_nobody_reads_any_more_is_taken_back(host: Host,
                                                                 so: ctypes.CDLL) -> None:
    program: list[subprocess.Popen[str]] = []

    def stops_reading(kind: int) -> int:
        if kind == PREPARE and program[0].stdout:
            program[0].stdout.close()
        return 0

    [vmm] = vmms(host, so, stops_reading)
    program.append(started(host))
    program[0].wait(60)
    assert program[0].returncode in (11, -signal.SIGPIPE)       # at the end of it
    assert_taken_back(host)
    vmm.hears(["prepare", "abort"])


@pytest.mark.parametrize("event", [PREPARE, GO])
def test_daemon_that_dies_while_it_asks_is_an_abort_for_both_sides(
        host: Host, so: ctypes.CDLL, event: int) -> None:
    """Not before there is one again, and then all take part as before."""
    def dies(kind: int) -> int:
        if kind == event and vmm.seen.count(event) == 1:
            host.stop(signal.SIGKILL)
        return 0

    [vmm] = vmms(host, so, dies)
    document = update(host, rc=11)
    asked = [WORDS[kind] for kind in (PREPARE, GO) if kind <= event]
    assert steps(document)[-1] == WORDS[event] and vmm.words() == asked
    assert_taken_back(host)
    time.sleep(1)
    assert vmm.words() == asked         # nothing could be released
    host.start()
    vmm.hears([*asked, "abort"])
    host.wait(lambda: taking_part(host) == 1)
    assert steps(update(host, "--no-systemd")) == ALL_STEPS
    vmm.hears([*asked, "abort", "prepare", "go", "abort"])


def test_all_take_part_again_when_the_daemon_was_restarted(host: Host, so: ctypes.CDLL) -> None:
    """However it ended, also if nobody was there for a while, and if it asks at once."""
    known = vmms(host, so, *[lambda kind: 0] * 20)
    with host.connect() as gone:        # control: one that does not come back by itself
        assert host.ask(gone, ph.message(ph.SUBSCRIBE, "vm-plain"))[0] == 0
        for sig, pause in ((signal.SIGTERM, 0.0), (signal.SIGKILL, 1.0), (signal.SIGKILL, 0.0)):
            host.stop(sig)
            time.sleep(pause)
            host.start()
            host.wait(lambda: taking_part(host) == len(known))
    assert [(v.words(), v.error) for v in known] == [([], 0)] * len(known)
    document = update(host, "--no-systemd")
    assert steps(document) == ALL_STEPS
    assert {a["name"] for a in document["owners"]} == {v.name for v in known}


def test_daemon_that_is_back_and_asks_at_once_is_understood(host: Host, so: ctypes.CDLL) -> None:
    """What it asked before it died is called off first, then comes what it asks now."""
    [vmm] = vmms(host, so, lambda kind: 0)
    with host.connect() as leader:
        leader.sendall(ph.message(ph.EVENT, index=PREPARE, value=5000))
        assert [m["name"] for m in until_end(leader)] == ["vm-0"]
    vmm.hears(["prepare", "abort"])
    with host.connect() as leader:
        leader.sendall(ph.message(ph.EVENT, index=PREPARE, value=5000))
        assert [m["name"] for m in until_end(leader)] == ["vm-0"]
        host.stop(signal.SIGKILL)
    host.start()
    with host.connect() as leader:      # nobody is there yet: who comes late is asked
        leader.sendall(ph.message(ph.EVENT, index=PREPARE, value=5000))
        vmm.hears(["prepare", "abort", "prepare", "abort", "prepare"])


def test_policy_that_changed_meanwhile_ends_it(host: Host, so: ctypes.CDLL) -> None:
    [vmm] = vmms(host, so, lambda kind: 0)
    with host.connect() as leader:
        leader.sendall(ph.message(ph.EVENT, index=PREPARE, value=5000))
        assert [m["name"] for m in until_end(leader)] == ["vm-0"]
        host.stop(signal.SIGKILL)
    host.write("etc/pcilu/pcilud.policy", "user root use other-*\nuser root hold\n")
    host.start()
    host.wait(lambda: vmm.error == -errno.EACCES)
    assert vmm.words() == ["prepare", "abort"]


def test_start_without_a_daemon_at_the_moment(host: Host, so: ctypes.CDLL) -> None:
    """A VMM that is started while the daemon is restarted takes part nevertheless."""
    lu, events = ctypes.c_void_p(), ctypes.c_void_p()
    assert so.pcilu_open(ctypes.byref(lu), DAEMON) == 0
    host.stop()
    assert so.pcilu_events_start(lu, b"vm-1", ctypes.byref(events)) == 0
    host.start()
    taken, event = ctypes.c_int(), ctypes.c_void_p()

    def there() -> bool:
        taken.value = so.pcilu_events_take(events, ctypes.byref(event))
        return taken.value != -errno.EAGAIN or taking_part(host) == 1

    host.wait(there)
    assert taken.value == -errno.EAGAIN
    so.pcilu_events_close(events)
    host.wait(lambda: taking_part(host) == 0)
    so.pcilu_close(lu)


@pytest.mark.parametrize("dies", [True, False])
def test_daemon_that_dies_after_all_have_answered_is_no_jump(host: Host, so: ctypes.CDLL,
                                                             dies: bool) -> None:
    """The owners will take back what they did. It is dead, and another is there, before the
    update has read the last answer."""
    program: list[subprocess.Popen[str]] = []

    def hold(kind: int) -> int:
        if kind == GO and program[0].poll() is None:
            program[0].send_signal(signal.SIGSTOP)
        return 0

    [vmm] = vmms(host, so, hold)
    program.append(subprocess.Popen(
        [str(TOOLS / "pcilu"), "update", "--kernel", str(host.root / "boot/vmlinuz-next"),
         "--cmdline", GOOD, "--no-systemd"], env=host.env, text=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE))
    host.wait(lambda: GO in vmm.seen)
    time.sleep(0.5)                     # pcilud has told the answer
    if dies:
        host.stop(signal.SIGKILL)
        host.start()
        vmm.hears(["prepare", "go", "abort"])
    program[0].send_signal(signal.SIGCONT)
    _, text = program[0].communicate(timeout=60)
    assert program[0].returncode == 11
    assert ("pcilud does not know of this update any more" in text) == dies
    assert len(host.luo.reboots) == (0 if dies else 1)      # the stand-in's jump comes back
    assert "pcilu.snapshot" not in host.luo.outgoing and host.luo.loaded is None


def test_jump_that_systemd_has_begun_is_no_abort(host: Host, so: ctypes.CDLL) -> None:
    """`pcilu update` ends then, and VMMs are stopped: they must not take it back. It can be
    called off."""
    systemctl(host)
    [vmm] = vmms(host, so, lambda kind: 0)
    assert steps(update(host, rc=0)) == ALL_STEPS
    time.sleep(0.3)
    assert vmm.words() == ["prepare", "go"]
    assert host.pcilu("unload").returncode == 0
    vmm.hears(["prepare", "go", "abort"])
    # Control: systemctl fails
    systemctl(host, '[ "$1" != kexec ]')
    update(host, rc=11)
    vmm.hears(["prepare", "go", "abort"] * 2)


def test_second_leader_waits_for_its_turn(host: Host) -> None:
    with host.connect() as vmm, host.connect() as first, host.connect() as second:
        assert host.ask(vmm, ph.message(ph.SUBSCRIBE, "vm-1"))[0] == 0
        assert host.ask(first, ph.message(ph.EVENT, index=PREPARE, value=5000))[0] == 0
        for event, error in ((PREPARE, errno.EBUSY), (ABORT, errno.EINVAL)):
            assert host.ask(second, ph.message(ph.EVENT, index=event, value=5000))[0] == error
        assert unasked(vmm)["index"] == PREPARE
        assert host.ask(first, ph.message(ph.EVENT, index=ABORT))[0] == 0
        assert unasked(vmm)["index"] == ABORT
        assert host.ask(second, ph.message(ph.EVENT, index=PREPARE, value=5000))[0] == 0


@pytest.mark.parametrize("event, value, expected", [
    (GO, 5000, errno.EINVAL), (0, 5000, errno.EINVAL), (9, 5000, errno.EINVAL),
    (PREPARE, 0, errno.EINVAL), (4, 0, errno.EINVAL), (ABORT, 0, 0), (PREPARE, 5000, 0)])
def test_events_out_of_order_are_refused(host: Host, event: int, value: int,
                                         expected: int) -> None:
    with host.connect() as leader:
        leader.sendall(ph.message(ph.EVENT, index=event, value=value))
        while (fields := ph.fields(leader.recv(ph.MSG.size)))["serial"] == 0:
            pass
        assert -fields["error"] == expected


def test_policy_says_who_takes_part_and_who_asks(host: Host) -> None:
    subscribe = ph.message(ph.SUBSCRIBE, "shared-1"), ph.message(ph.SUBSCRIBE, "vm-1")
    ask = ph.message(ph.EVENT, index=PREPARE, value=1000)
    out = as_user(host, "".join(f"s.send({m!r});print(error(s.recv(200)))\n"
                                for m in (subscribe[1], subscribe[0], ask)))
    assert out.split() == [str(errno.EACCES), "0", str(errno.EACCES)]
    with host.connect() as leader:
        leader.sendall(ask)
        assert until_end(leader) == []      # that one is gone


def test_one_user_cannot_take_all_places(host: Host) -> None:
    out = as_user(host, "all=[]\nfor n in range(600):\n all.append(connect())\n"
                  f" all[-1].send({ph.message(ph.SUBSCRIBE, 'shared-1')!r})\n"
                  "print([error(c.recv(200)) for c in all].count(0))")
    assert out == "512"
    assert session(host, ph.CREATE, "vm-1") == 0


def test_who_takes_part_is_not_idle(host: Host) -> None:
    host.stop()
    host.start("--idle", "1")
    with host.connect() as vmm, host.connect() as other:
        assert host.ask(vmm, ph.message(ph.SUBSCRIBE, "vm-1"))[0] == 0
        assert host.ask(other, ph.message(ph.HELLO))[0] == 0
        other.settimeout(10)
        assert other.recv(1) == b""         # control: closed, after a second or two
        assert taking_part(host) == 1


# --- with devices

def in_use(host: Host, pid: int) -> Path:
    """The NIC is open in a process, and nobody has preserved it."""
    shutil.rmtree(host.root / "proc/4711")
    host.process(pid, "vmm", "/dev/vfio/devices/noiommu-vfio0")
    state = host.root / "sys/bus/pci/devices" / NIC / "liveupdate/state"
    state.write_text("none\n")
    return state


def test_device_in_use_is_preserved_by_the_update(host: Host, so: ctypes.CDLL) -> None:
    state = in_use(host, os.getpid())
    assert steps(update(host, rc=1)) == ["preflight"]       # control: nobody takes part
    vmms(host, so, lambda kind: kind == GO and state.write_text("preserved\n") and 0 or 0)
    preflight = host.json("preflight", "--kernel", str(host.root / "boot/vmlinuz-next"),
                          "--cmdline", GOOD)
    assert [c["verdict"] for c in preflight["checks"] if c["check"] == "in-use"] == ["warn"]
    assert steps(update(host, "--no-systemd")) == ALL_STEPS


def test_who_says_it_is_ready_and_preserves_nothing_is_found_out(host: Host,
                                                                 so: ctypes.CDLL) -> None:
    in_use(host, os.getpid())
    [vmm] = vmms(host, so, lambda kind: 0)
    document = update(host, rc=1)
    assert steps(document)[-1] == "go" and f"{NIC} is in use by vmm[{os.getpid()}]" in \
        document["stderr"]
    assert_taken_back(host)
    vmm.hears(["prepare", "go", "abort"])


def test_dry_run_asks_nobody(host: Host, so: ctypes.CDLL) -> None:
    [vmm] = vmms(host, so, lambda kind: 0)
    document = update(host, "--dry-run", rc=0)
    assert "would ask 1 owners" in document["stderr"] and document["owners"] == []
    assert vmm.seen == []


# --- the library

def test_events_and_null(so: ctypes.CDLL, host: Host) -> None:
    lu, out = ctypes.c_void_p(), ctypes.c_void_p()
    assert so.pcilu_open(ctypes.byref(lu), DAEMON) == 0
    for result in (so.pcilu_events_start(None, b"a", ctypes.byref(out)),
                   so.pcilu_events_start(lu, None, ctypes.byref(out)),
                   so.pcilu_events_start(lu, b"a b", ctypes.byref(out)),
                   so.pcilu_events_start(lu, b"a", None), so.pcilu_events_fd(None),
                   so.pcilu_events_take(None, ctypes.byref(out)),
                   so.pcilu_events_answer(None, 0)):
        assert result == -errno.EINVAL
    assert so.pcilu_events_start(lu, b"pcilud", ctypes.byref(out)) == 0
    event = ctypes.c_void_p()
    assert so.pcilu_events_take(out, None) == -errno.EINVAL
    assert so.pcilu_events_answer(out, 0) == so.pcilu_events_answer(out, 5) == -errno.EINVAL
    select.select([so.pcilu_events_fd(out)], [], [], 10)
    assert so.pcilu_events_take(out, ctypes.byref(event)) == -errno.EACCES
    so.pcilu_events_close(out)
    so.pcilu_events_close(None)
    so.pcilu_close(lu)


def test_nothing_waits_for_a_daemon_that_takes_its_time(so: ctypes.CDLL, host: Host) -> None:
    """Also with a signal each millisecond."""
    lu, events, event = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    assert so.pcilu_open(ctypes.byref(lu), DAEMON) == 0
    assert host.daemon
    os.kill(host.daemon.pid, signal.SIGSTOP)
    with Signals():
        assert so.pcilu_events_start(lu, b"vm-1", ctypes.byref(events)) == 0
        for _ in range(1000):
            assert so.pcilu_events_take(events, ctypes.byref(event)) == -errno.EAGAIN
    os.kill(host.daemon.pid, signal.SIGCONT)
    host.wait(lambda: taking_part(host) == 1)
    so.pcilu_events_close(events)
    so.pcilu_close(lu)


def test_example_takes_part_over_a_restart_of_the_daemon(host: Host) -> None:
    systemctl(host)
    program = subprocess.Popen([str(ph.BUILD / "tools/takepart"), "vm-1"], text=True,
                               env=host.env | {"LD_LIBRARY_PATH": str(PLAIN.parent)},
                               stdout=subprocess.PIPE)
    try:
        host.wait(lambda: taking_part(host) == 1)
        assert steps(update(host, rc=0)) == ALL_STEPS
        assert sorted(host.luo.outgoing["vm-1"].files) == [1, 2]
        assert host.pcilu("unload").returncode == 0
        host.wait(lambda: ("vm-1", 0) not in listing(host))
        host.stop()
        host.start()
        host.wait(lambda: taking_part(host) == 1)
        assert answers(update(host, rc=0)) == [("vm-1", "go", None), ("vm-1", "prepare", None)]
    finally:
        program.kill()
        text, _ = program.communicate()
    assert text.split() == ["prepare", "go", "abort", "prepare", "go"]


def test_json_of_a_refusal_names_who(host: Host, so: ctypes.CDLL) -> None:
    vmms(host, so, *[lambda kind: -errno.EBUSY] * 3)
    document = update(host, rc=1)
    assert len([a for a in document["owners"] if not a["ready"]]) == 3
    assert "and 2 more" in document["stderr"] and "vm-0" in document["stderr"]
