# SPDX-License-Identifier: GPL-2.0
"""pcilu-keeper follows pcilud: what is preserved while the machine goes down is carried, too."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from rig import pcilu_host as ph
from rig.daemon_client import create, listing, session
from rig.fdstore import Store
from rig.pcilu_host import Host, TOOLS

pytestmark = pytest.mark.skipif(not (TOOLS / "pcilu-keeper").exists(),
                                reason=f"no tools in {TOOLS}: make tools SAN=1")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Host(tmp_path) as h:
        h.start()
        create(h, "vm-1")
        yield h


class Keeper:
    def __init__(self, host: Host, folder: Path) -> None:
        (folder / "keeper").mkdir()
        self.notify = Store(folder / "keeper")      # it tells systemd how many it holds
        env = {**host.env, "NOTIFY_SOCKET": self.notify.getsockname()}
        self.process = subprocess.Popen(["@pcilu-keeper"], executable=TOOLS / "pcilu-keeper",
                                        env=env, stderr=subprocess.DEVNULL)
        host.wait(lambda: self.notify.readies)

    def holds(self, host: Host, count: int) -> None:
        host.wait(lambda: self.notify.status == f"holding {count} sessions", 10)

    def close(self) -> None:
        self.process.terminate()
        assert self.process.wait(20) == 0
        self.notify.close()


@pytest.fixture
def keeper(host: Host, tmp_path: Path) -> Iterator[Keeper]:
    k = Keeper(host, tmp_path)
    k.holds(host, 2)        # one is the daemon's own
    yield k
    k.close()


def next_kernel(host: Host) -> set[str]:
    host.luo.kexec()
    host.start()
    return {name for name, _ in listing(host)}


def test_session_made_after_the_keeper_started_is_carried(host: Host, keeper: Keeper) -> None:
    """A VMM that preserves when it is stopped."""
    assert keeper.process.poll() is None
    create(host, "vm-2")
    host.stop()
    assert next_kernel(host) == {"vm-1", "vm-2"}


def test_control_session_of_a_keeper_that_was_stopped_is_not(host: Host, keeper: Keeper) -> None:
    keeper.process.terminate()
    keeper.process.wait(20)
    create(host, "vm-2")
    host.stop()
    host.wait(lambda: not host.luo.outgoing)
    assert next_kernel(host) == set()


def test_released_session_is_not_held_any_more(host: Host, keeper: Keeper) -> None:
    assert session(host, ph.RELEASE, "vm-1") == 0
    host.wait(lambda: "vm-1" not in host.luo.outgoing, 10)
    keeper.holds(host, 1)
    create(host, "vm-1")
    keeper.holds(host, 2)
    host.stop()
    assert next_kernel(host) == {"vm-1"}


def test_keeper_that_has_no_time_to_look_has_it_all_the_same(host: Host, keeper: Keeper) -> None:
    """Its copy is on its way before the VMM has its own."""
    keeper.process.send_signal(signal.SIGSTOP)
    create(host, *(f"vm-{n}" for n in range(2, 20)))
    host.stop(9)
    assert {f"vm-{n}" for n in range(1, 20)} <= set(host.luo.outgoing)
    keeper.process.send_signal(signal.SIGCONT)
    keeper.holds(host, 20)
    assert next_kernel(host) == {f"vm-{n}" for n in range(1, 20)}


def test_keeper_that_never_looks_keeps_nobody_waiting(host: Host, keeper: Keeper) -> None:
    """It is let go after a second, and has all of it when it looks again."""
    keeper.process.send_signal(signal.SIGSTOP)
    create(host, *(f"vm-{n}" for n in range(2, 400)))
    assert "does not follow any more" in host.log.read_text()
    keeper.process.send_signal(signal.SIGCONT)
    keeper.holds(host, 400)
    host.stop()
    assert len(next_kernel(host)) == 399


def test_keeper_finds_a_restarted_daemon(host: Host, keeper: Keeper, tmp_path: Path) -> None:
    """Which has its sessions from the store; here the keeper is all there is."""
    store = Store(tmp_path)
    host.stop()
    store.start(host)
    create(host, "vm-2")
    keeper.holds(host, 3)       # its own has a successor
    host.stop()
    assert {"vm-1", "vm-2"} <= set(host.luo.outgoing)
    store.close()


def test_only_who_may_hold_follows(host: Host) -> None:
    (host.root / "etc/pcilu/pcilud.policy").write_text("user root use *\n")
    assert host.daemon
    os.kill(host.daemon.pid, signal.SIGHUP)
    host.wait(lambda: "again" in host.log.read_text())
    out = subprocess.run(["@pcilu-keeper"], executable=TOOLS / "pcilu-keeper", env=host.env,
                         capture_output=True, text=True, timeout=20)
    assert out.returncode == 77 and "Permission denied" in out.stderr


# --- nothing is given up without being asked

def give_up(host: Host, **env: str) -> subprocess.CompletedProcess[str]:
    """What the package's prerm asks."""
    return host.run(str(TOOLS / "pcilud"), "--give-up", env=env, stdin=subprocess.DEVNULL)


def test_removing_names_what_would_be_lost_and_refuses(host: Host) -> None:
    create(host, "vm-2")
    # A policy that does not let root use them hides nothing from root.
    (host.root / "etc/pcilu/pcilud.policy").write_text("user nobody use *\n")
    assert host.daemon
    os.kill(host.daemon.pid, signal.SIGHUP)
    host.wait(lambda: "again" in host.log.read_text())
    out = give_up(host)
    assert out.returncode == 69 and "PCILU_GIVE_UP=yes" in out.stderr
    for name in ("vm-1", "vm-2"):
        assert f"outgoing session '{name}' of user 0 would be lost" in out.stderr
    assert "pcilud' of" not in out.stderr
    assert give_up(host, PCILU_GIVE_UP="yes").returncode == 0


def test_what_is_given_up_is_stopped_by_systemd(host: Host) -> None:
    (host.root / "run/systemd/system").mkdir(parents=True)
    log = host.root / "systemctl.log"
    tool = host.write("bin/systemctl", f"#!/bin/sh\necho \"$@\" >> {log}\n[ $1 != $REFUSES ]\n")
    tool.chmod(0o755)
    assert give_up(host, REFUSES="none").returncode == 69 and not log.exists()
    dry = host.run(str(TOOLS / "pcilud"), "-gn", env={"PCILU_GIVE_UP": "yes", "REFUSES": "none"})
    assert dry.returncode == 0 and not log.exists()
    assert give_up(host, PCILU_GIVE_UP="yes", REFUSES="none").returncode == 0
    asked = log.read_text().splitlines()
    assert asked == ["set-environment PCILU_GIVE_UP=yes", "stop pcilud.service",
                     "unset-environment PCILU_GIVE_UP", "clean --what=fdstore pcilud.service"]
    out = give_up(host, PCILU_GIVE_UP="yes", REFUSES="stop")
    assert out.returncode == 71 and "nothing is given up" in out.stderr
    assert "unset-environment PCILU_GIVE_UP" in log.read_text().splitlines()[len(asked):]


STORE = "FDNAME TYPE DEVNO INODE RDEVNO PATH FLAGS\n" + "".join(
    f"{name} reg 0:1 7 - /memfd:x ro\n" for name in ("table", "own", "policy.0", "{}"))


@pytest.mark.parametrize("count, names, told, rc", [
    (0, [], True, 0), (4, ["k"], True, 0), (5, ["o.vm-1", "i.vm-2", "k.vm-2"], True, 69),
    (4, [], False, 69)])
def test_removing_names_what_systemd_keeps_for_a_pcilud_that_is_stopped(
        host: Host, count: int, names: list[str], told: bool, rc: int) -> None:
    """From version 254 on. With its own descriptors alone nothing is lost; and a systemd that
    does not tell their names may have sessions."""
    host.stop()
    (host.root / "run/systemd/system").mkdir(parents=True)
    log = host.root / "systemctl.log"
    host.write("stored", "".join(STORE.format(name) for name in names))
    for tool, script in (("systemctl", f'echo "$@" >> {log}; [ $1 != show ] || echo {count}'),
                         ("systemd-analyze", f"cat {host.root}/stored\nexit {int(not told)}")):
        host.write(f"bin/{tool}", f"#!/bin/sh\n{script}\n").chmod(0o755)
    out = give_up(host)
    assert out.returncode == rc
    lost = [name for name in names if name[0] != "k"]
    assert out.stderr.count("would be lost") == (len(lost) if told else 1)
    for name in lost:
        assert f"session '{name[2:]}', which systemd keeps" in out.stderr
    assert ("systemd keeps 4 descriptors" in out.stderr) == (not told)
    assert log.read_text() == "show -P NFileDescriptorStore pcilud.service\n"
    assert give_up(host, PCILU_GIVE_UP="yes").returncode == 0
    assert ("clean --what=fdstore pcilud.service" in log.read_text()) == (rc != 0)


def test_removing_asks_on_a_terminal(host: Host) -> None:
    for answer, rc in ((b"y\n", 0), (b"\n", 69), (b"no\n", 69)):
        ours, theirs = os.openpty()
        os.write(ours, answer)
        rest = subprocess.run([str(TOOLS / "pcilud"), "--give-up"], env=host.env, stdin=theirs,
                              stderr=theirs, timeout=20)
        assert rest.returncode == rc
        os.close(ours)
        os.close(theirs)


def test_control_removing_with_nothing_preserved(host: Host) -> None:
    assert session(host, ph.RELEASE, "vm-1") == 0
    assert give_up(host).returncode == 0
    host.stop()
    assert give_up(host).returncode == 0


# --- no jump without a keeper

def exec_through_systemd(host: Host) -> subprocess.CompletedProcess[str]:
    (host.root / "run/systemd/system").mkdir(parents=True, exist_ok=True)
    tool = host.write("bin/systemctl", f"#!/bin/sh\necho \"$@\" >> {host.root}/systemctl.log\n")
    tool.chmod(0o755)
    host.write("sys/kernel/kexec_loaded", "1\n")
    return host.pcilu("exec", "--force")


def test_exec_does_not_jump_without_a_keeper_while_something_is_preserved(host: Host) -> None:
    host.standard()
    host.stop()
    (host.root / "run/pcilud/socket").unlink()
    out = exec_through_systemd(host)
    assert out.returncode == 1 and "0000:0" in out.stderr and "no keeper" in out.stderr
    assert not (host.root / "systemctl.log").exists()


def test_control_exec_with_a_keeper_or_with_nothing_preserved(host: Host) -> None:
    host.standard()
    assert exec_through_systemd(host).returncode == 0
    assert (host.root / "systemctl.log").read_text() == "start pcilu-keeper.service\nkexec\n"
    host.stop()
    (host.root / "run/pcilud/socket").unlink()
    for state in (host.root / "sys/bus/pci/devices").glob("*/liveupdate/state"):
        state.write_text("none\n")
    assert exec_through_systemd(host).returncode == 0
