# SPDX-License-Identifier: GPL-2.0
"""`pcilu discard`: the host goes on without a session that is in the way. See test_veto, too."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from pathlib import Path
from typing import Iterator

import pytest

from rig import pcilu_host as ph
from rig.daemon_client import session
from rig.fakeluo import Refused
from rig.fdstore import Store
from rig.pcilu_host import Host


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Host(tmp_path) as h:
        h.standard().start()
        yield h


def own(host: Host, name: str) -> int:
    """What a VMM has: a descriptor of its session. There is something in it."""
    sock = host.connect()
    error, _, fds, _ = host.ask(sock, ph.message(ph.CREATE, name))
    assert error == 0
    host.luo.outgoing[name].files[1] = os.memfd_create(name)
    return fds[0]


def owner(host: Host) -> int:
    pid = int(host.json("status")["sessions"][0]["pid"])
    host.process(pid, "vmm")
    return pid


def test_session_is_discarded_although_its_owner_has_it(host: Host) -> None:
    fd, _ = own(host, "vm-1"), own(host, "vm-2")
    pid = owner(host)
    out = host.pcilu("discard", "vm-1")
    assert out.returncode == 1 and f"has an owner, process {pid}; --force" in out.stderr
    assert host.json("discard", "vm-1", "--force", "--dry-run")["dry_run"]
    assert host.luo.outgoing["vm-1"].files
    # Control: releasing it changes nothing as long as its owner has a descriptor.
    assert host.json("release", "vm-2", "--force")["session"] == "vm-2"
    assert host.luo.outgoing["vm-2"].files
    assert host.json("discard", "vm-1", "--force")["session"] == "vm-1"
    assert host.luo.outgoing["vm-1"].discarded and not host.luo.outgoing["vm-1"].files
    assert host.json("status")["sessions"] == []
    assert host.pcilu("discard", "vm-1", "--force").returncode == 10
    os.close(fd)
    host.wait(lambda: "vm-1" not in host.luo.outgoing)


def test_session_that_was_handed_over_is_not_discarded(host: Host) -> None:
    own(host, "vm-1")
    host.luo.kexec()
    host.stop()
    host.start()
    assert host.pcilu("discard", "vm-1", "--force").returncode == 10
    assert host.json("finish", "vm-1")["session"] == "vm-1"     # control: it is there


def test_orphan_is_discarded_without_force(host: Host) -> None:
    own(host, "vm-1")
    shutil.rmtree(host.root / f"proc/{owner(host)}")
    assert host.json("discard", "vm-1")["session"] == "vm-1"


@pytest.mark.parametrize("verb", ["release", "discard", "finish"])
def test_owner_is_not_known_any_more_when_pcilud_was_restarted(host: Host, store: Store,
                                                               verb: str) -> None:
    """It may live, and have the session: that is not given up without being asked for."""
    host.stop()
    store.start(host)
    own(host, "vm-1")
    request = ph.ATTACH
    if verb == "finish":
        request = ph.RETRIEVE
        host.luo.kexec()
        host.stop()
        store.forget()
        store.start(host)
        assert session(host, request, "vm-1") == 0
    store.restart(host, sig=signal.SIGTERM)
    [info] = host.json("status")["sessions"]
    assert (info["held"], info["pid"]) == (True, 0)
    for options in ((), ("--dry-run",), ("--reason", "I say so")):
        out = host.pcilu(verb, "vm-1", *options)
        assert out.returncode == 1 and "not known since pcilud was restarted" in out.stderr
        assert "--force" in out.stderr
    # Control: it has come back.
    assert session(host, request, "vm-1") == 0
    host.process(os.getpid(), "vmm")
    assert f"has an owner, process {os.getpid()};" in host.pcilu(verb, "vm-1").stderr
    store.restart(host)
    assert host.json(verb, "vm-1", "--force")["reason"] == \
        "forced; its owner is not known since pcilud was restarted"
    assert host.json("status")["sessions"] == []


def test_kernel_that_cannot_discard_is_told(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    own(host, "vm-1")
    original = host.luo._file

    def older(session: object, op: int, *rest: object) -> object:
        if op == 0x44:
            raise Refused(errno.ENOTTY)
        return original(session, op, *rest)     # type: ignore[arg-type]

    monkeypatch.setattr(host.luo, "_file", older)
    out = host.pcilu("discard", "--force", "vm-1")
    assert out.returncode not in (0, 1) and "does not discard" in out.stderr
    assert host.json("status")["sessions"]


def test_refused_kexec_names_the_session_and_the_way_out(host: Host) -> None:
    log = host.write("dev/kmsg", "3,1,1,-;luo: kexec refused: session [vm-0] cannot be frozen\n")
    host.write("sys/kernel/kexec_loaded", "1\n")

    def refuse(said: str) -> None:
        with open(log, "a", encoding="utf-8") as kmsg:
            kmsg.write(said)
        raise Refused(errno.EBUSY)

    why = ("3,2,2,-;luo: kexec refused: session [vm-1] cannot be frozen (-EBUSY). Mend that, or "
           "discard the session to go on without it\n")
    for said, told in ((why, True), ("3,3,3,-;luo: something else\n", False)):
        host.luo.before_reboot = lambda: refuse(said)
        out = host.pcilu("exec", "--force", "--no-systemd")
        assert out.returncode == 11 and "vm-0" not in out.stderr
        assert ("pcilu discard --force vm-1" in out.stderr) == told
        assert os.strerror(errno.EBUSY) in out.stderr
