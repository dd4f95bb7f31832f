# SPDX-License-Identifier: GPL-2.0
"""Nobody locks root out of pcilud: not by connections, sessions, descriptors, signals or words."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Iterator

import pytest

from conftest import FULL
from rig import pcilu_host as ph
from rig.daemon_client import NOBODY, as_user, create, listing, session
from rig.pcilu_host import Host, TOOLS

pytestmark = pytest.mark.skipif(not (TOOLS / "pcilud").exists(),
                                reason=f"no tools in {TOOLS}: make tools SAN=1")
PLACES, FOR_ROOT, SESSIONS_PER_USER, CLIENTS_PER_USER = 4096, 256, 2048, 1024
REFUSED = 165_000 if FULL else 20_000


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with Host(tmp_path) as h:
        yield h


def lines(host: Host) -> int:
    return len(host.log.read_text().splitlines())


def cpu(host: Host) -> float:
    """Seconds that the daemon has worked."""
    assert host.daemon
    fields = Path(f"/proc/{host.daemon.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Other:
    """What another user does meanwhile."""

    def __init__(self, host: Host, code: str, uid: int = NOBODY) -> None:
        self.out = ""
        self.thread = threading.Thread(target=self._run, args=(host, code, uid))
        self.thread.start()

    def _run(self, host: Host, code: str, uid: int) -> None:
        self.out = as_user(host, code, uid)

    def result(self) -> str:
        self.thread.join()
        assert self.out, "the other user's program failed"
        return self.out


@pytest.fixture(autouse=True)
def needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")


def test_refused_requests_leave_the_log_readable(host: Host) -> None:
    host.start()
    data = ph.message(ph.ATTACH, "vm-1")
    before = lines(host)
    other = Other(host, f"for _ in range({REFUSED}):\n"
                        f" s.sendall({data!r});r=s.recv(4096)\nprint(error(r))")
    served = 0
    while other.thread.is_alive():
        create(host, name := f"vm-{served}")
        assert session(host, ph.RELEASE, name) == 0
        served += 1
    assert other.result() == str(errno.EACCES)
    assert served > REFUSED // 1000         # root has its turn all the time
    text = host.log.read_text().splitlines()[before:]
    assert 1 <= len([line for line in text if "may not use" in line]) <= 40
    assert host.stop() == 0


def test_left_out_messages_are_counted(host: Host) -> None:
    """Not in the log at once, but when the time is over: half a minute."""
    if not FULL:
        pytest.skip("make test-full waits for it")
    host.start()
    data = ph.message(ph.ATTACH, "vm-1")
    as_user(host, f"for _ in range(110):\n s.sendall({data!r});s.recv(4096)")
    host.wait(lambda: "100 more refused requests in " in host.log.read_text())


def test_idle_connections_of_a_user(host: Host) -> None:
    """2,048 of them: half are turned away, root gets in, and those that say nothing are closed."""
    host.start("--idle", "3")
    code = ("got=[connect() for _ in range(2048)]\ntime.sleep(1)\n"
            "def open_(s):\n s.setblocking(False)\n"
            " try: return s.recv(1) != b''\n except BlockingIOError: return True\n"
            " except OSError: return False\n"
            "print(sum(map(open_,got)),flush=True)\ntime.sleep(5)\nprint(sum(map(open_,got)))")
    other = Other(host, code)
    while other.thread.is_alive():
        create(host, name := f"vm-{time.monotonic()}")
        assert session(host, ph.RELEASE, name) == 0
        time.sleep(0.02)
    first, last = map(int, other.result().split())
    assert CLIENTS_PER_USER - 1 <= first <= CLIENTS_PER_USER and last == 0
    assert lines(host) < 1000 and host.log.read_text().count("turned away") <= 10


def test_control_who_talks_is_not_closed(host: Host) -> None:
    host.start("--idle", "2")
    with host.connect() as sock:
        for _ in range(8):
            time.sleep(0.5)
            assert host.ask(sock, ph.message(ph.HELLO))[0] == 0


def test_users_together_leave_places_for_root(host: Host) -> None:
    """Connections of two users who have all that they can have."""
    host.start()
    code = (f"got=[connect() for _ in range({CLIENTS_PER_USER + 10})]\nprint(1,flush=True)\n"
            "time.sleep(4)")
    others = [Other(host, code, uid) for uid in (NOBODY, NOBODY - 1)]
    time.sleep(2)
    socks = [host.connect() for _ in range(FOR_ROOT - 10)]
    assert all(host.ask(sock, ph.message(ph.HELLO))[0] == 0 for sock in socks)
    for sock in socks:
        sock.close()
    for other in others:
        other.result()


def test_full_table(host: Host) -> None:
    """Two users fill what users can have; root can still make sessions, and take theirs away."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 3 * PLACES:
        pytest.skip("needs more descriptors")
    host.tools = ph.BUILD / "tools"
    if not (host.tools / "pcilud").exists():
        pytest.skip("needs make tools")
    host.start()
    head, tail = ph.message(ph.CREATE, "shared-AAAA-BBBB").split(b"AAAA-BBBB")
    code = (f"import array\nn=0\nwhile True:\n"
            f" s.sendall({head!r}+b'%04d-%04d'%(os.getuid()%10000,n)+{tail!r})\n"
            " r,a,_,_=s.recvmsg(4096,64)\n"
            " for _,_,d in a:\n  for fd in array.array('i',d[:4]): os.close(fd)\n"
            " if error(r): break\n n+=1\nprint(n,error(r))")
    assert as_user(host, code) == f"{SESSIONS_PER_USER} {errno.ENOSPC}"
    rest = PLACES - FOR_ROOT - SESSIONS_PER_USER - 1        # one is the daemon's own
    assert as_user(host, code, NOBODY - 1) == f"{rest} {errno.ENOSPC}"
    create(host, *(f"vm-{n}" for n in range(FOR_ROOT)))
    assert session(host, ph.CREATE, "vm-more") == errno.ENOSPC
    name = next(name for name, _ in listing(host) if name.startswith("shared"))
    assert session(host, ph.RELEASE, name) == 0
    assert session(host, ph.CREATE, "vm-more") == 0
    # And the next kernel gets all of it.
    host.luo.kexec()
    host.stop()
    host.start()
    assert len(listing(host)) == PLACES - 1


def test_no_free_descriptor(host: Host) -> None:
    """What users can have is taken; the last descriptors are root's, and nobody spins."""
    host.start()
    assert host.daemon
    have = len(os.listdir(f"/proc/{host.daemon.pid}/fd"))
    host.stop()
    host.prefix = ["prlimit", f"--nofile={have + 60}"]
    host.start()
    before = cpu(host)
    other = Other(host, "got=[connect() for _ in range(200)]\nprint(1,flush=True)\ntime.sleep(3)")
    time.sleep(1.5)
    socks = [host.connect() for _ in range(5)]
    assert all(host.ask(sock, ph.message(ph.HELLO))[0] == 0 for sock in socks)
    create(host, "vm-1", "vm-2")
    data = ph.message(ph.CREATE, "shared-1")
    assert session(host, ph.CREATE, "vm-1") == errno.EEXIST
    other.result()
    assert cpu(host) - before < 1
    # Root itself at the end of them: told so, and it goes on.
    socks += [host.connect() for _ in range(100)]
    time.sleep(1)
    assert cpu(host) - before < 1.5
    for sock in socks:
        sock.close()
    host.wait(lambda: session(host, ph.ATTACH, "vm-1") == 0)
    assert as_user(host, f"s.sendall({data!r})\nprint(error(s.recv(4096)))") == "0"


def test_signal_every_millisecond(host: Host) -> None:
    """Of all kinds that do not mean the end, from the very start."""
    host.start()
    assert host.daemon
    pid, stop = host.daemon.pid, threading.Event()
    kinds = [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGPIPE,
             signal.SIGCHLD, signal.SIGCONT, signal.SIGWINCH]

    def annoy() -> None:
        n = 0
        while not stop.is_set():
            os.kill(pid, kinds[n % len(kinds)])
            n += 1
            time.sleep(0.001)

    thread = threading.Thread(target=annoy)
    thread.start()
    for n in range(300):
        create(host, f"vm-{n}")
    stop.set()
    thread.join()
    assert host.daemon.poll() is None and len(listing(host)) == 300
    assert lines(host) < 400            # with -v, each session has one


def test_client_that_never_reads(host: Host) -> None:
    host.start()
    data = ph.message(ph.HELLO)
    out = as_user(host, "s.setblocking(False)\nn=0\ntry:\n"
                        f" for n in range(100000): s.sendall({data!r})\n"
                        "except OSError: pass\nprint(n < 99999)")
    assert out == "True"
    create(host, "vm-1")
    assert isinstance(host.daemon, subprocess.Popen) and host.daemon.poll() is None
