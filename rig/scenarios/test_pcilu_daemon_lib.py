# SPDX-License-Identifier: GPL-2.0
"""libpcilu in a program that has signals, threads, a main loop, and few descriptors."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import resource
import select
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Iterator

import pytest

from rig import paths
from rig import pcilu_host as ph
from rig.daemon_client import create, listing
from rig.pcilu_host import Host, TOOLS
from rig.signals import Signals

PLAIN = ph.BUILD / "tools" / "libpcilu.so.1"
pytestmark = pytest.mark.skipif(not (TOOLS / "pcilud").exists() or not PLAIN.exists(),
                                reason="needs make tools and make tools SAN=1")
DAEMON, DIRECT = 1, 2
CREATE, ATTACH, RETRIEVE = range(3)


class Info(ctypes.Structure):
    """What a program sees that was built with today's header."""
    _fields_ = [("size", ctypes.c_uint32), ("direction", ctypes.c_uint32),
                ("held", ctypes.c_uint32), ("uid", ctypes.c_uint32), ("pid", ctypes.c_int32),
                ("name", ctypes.c_char * 64)]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("PCILU_SYSROOT", str(tmp_path))
    with Host(tmp_path) as h:
        h.start()
        yield h


@pytest.fixture
def so() -> ctypes.CDLL:
    lib = ctypes.CDLL(str(PLAIN))
    lib.pcilu_version.restype = lib.pcilu_session_name.restype = ctypes.c_char_p
    return lib


@pytest.fixture
def lu(host: Host, so: ctypes.CDLL) -> Iterator[ctypes.c_void_p]:
    connection = ctypes.c_void_p()
    assert so.pcilu_open(ctypes.byref(connection), DAEMON) == 0
    yield connection
    so.pcilu_close(connection)


def make(so: ctypes.CDLL, lu: ctypes.c_void_p, name: str, call: str = "create") -> int:
    session = ctypes.c_void_p()
    error: int = getattr(so, f"pcilu_session_{call}")(lu, name.encode(), ctypes.byref(session))
    so.pcilu_session_close(session)
    return error


def test_signal_every_millisecond(host: Host, so: ctypes.CDLL, lu: ctypes.c_void_p) -> None:
    """Also while the daemon takes its time: done is done, once, and reported as that."""
    assert host.daemon
    pid = host.daemon.pid
    with Signals():
        for n in range(100):
            assert make(so, lu, f"vm-{n}") == 0
        for n in range(3):
            os.kill(pid, signal.SIGSTOP)
            threading.Timer(0.3, os.kill, (pid, signal.SIGCONT)).start()
            start = time.monotonic()
            assert make(so, lu, f"slow-{n}") == 0
            assert time.monotonic() - start > 0.2
    assert len(listing(host)) == 103


def test_control_the_signals_interrupt_what_lets_them() -> None:
    signals = Signals()
    libc = ctypes.CDLL(None, use_errno=True)
    with signals:
        reader, writer = os.pipe()
        timer = threading.Timer(5, os.write, (writer, b"x"))
        timer.start()
        assert libc.read(reader, ctypes.create_string_buffer(1), 1) == -1
        assert ctypes.get_errno() == errno.EINTR
    timer.cancel()
    for fd in (reader, writer):
        os.close(fd)


@pytest.mark.timeout(60)
def test_time_limit_is_not_lengthened_by_signals(host: Host, so: ctypes.CDLL,
                                                 lu: ctypes.c_void_p) -> None:
    assert host.daemon
    os.kill(host.daemon.pid, signal.SIGSTOP)
    start = time.monotonic()
    with Signals():                     # a wait that each of them began anew would not end
        assert make(so, lu, "vm-1") == -errno.ETIMEDOUT
    assert time.monotonic() - start > 9
    os.kill(host.daemon.pid, signal.SIGCONT)
    host.wait(lambda: ("vm-1", 0) in listing(host))     # it was asked for before
    assert make(so, lu, "vm-1") == -errno.EEXIST
    assert make(so, lu, "vm-1", "attach") == 0


def test_no_free_descriptor(host: Host, so: ctypes.CDLL, lu: ctypes.c_void_p) -> None:
    """Nothing is made that could not be given."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open("/dev/null", os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1, hard))
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    try:
        errors = [make(so, lu, "vm-1"), make(so, lu, "vm-1", "attach")]
        fresh = ctypes.c_void_p()
        errors.append(so.pcilu_open(ctypes.byref(fresh), DAEMON))
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert errors == [-errno.EMFILE] * 3
    assert listing(host) == {}
    assert make(so, lu, "vm-1") == 0        # control


def test_null(so: ctypes.CDLL, host: Host, lu: ctypes.c_void_p) -> None:
    null, out = None, ctypes.byref(ctypes.c_void_p())
    for result in (so.pcilu_is_daemon(null), so.pcilu_session_fd(null),
                   so.pcilu_session_direction(null), so.pcilu_session_create(null, b"a", out),
                   so.pcilu_session_create(lu, null, out), so.pcilu_session_create(lu, b"a", null),
                   so.pcilu_session_attach(null, b"a", out), so.pcilu_session_retrieve(lu, b"a", 0),
                   so.pcilu_session_from_fd(0, 0, null), so.pcilu_session_from_fd(0, 2, out),
                   so.pcilu_session_preserve_fd(null, 0, 0), so.pcilu_session_retrieve_fd(null, 0),
                   so.pcilu_session_finish(lu, null), so.pcilu_session_release(lu, null),
                   so.pcilu_session_release(null, null), so.pcilu_session_list(lu, null, null),
                   so.pcilu_session_list(null, out, null), so.pcilu_device_state(null),
                   so.pcilu_request_start(null, 0, b"a", out), so.pcilu_request_fd(null),
                   so.pcilu_request_start(lu, 3, b"a", out), so.pcilu_request_take(null, out)):
        assert result == -errno.EINVAL
    assert so.pcilu_session_name(null) is None and so.pcilu_name_valid(null) == 0
    for end in (so.pcilu_close, so.pcilu_session_close, so.pcilu_request_close):
        end(null)
    assert listing(host) == {}


def test_upper_case(host: Host, so: ctypes.CDLL) -> None:
    """Of addresses; names of sessions are what they are."""
    host.write("sys/bus/pci/devices/0000:3b:00.0/liveupdate/state", "preserved\n")
    assert so.pcilu_device_state(b"0000:3B:00.0") == so.pcilu_device_state(b"0000:3b:00.0") == 1
    assert so.pcilu_device_state(b"0000:3G:00.0") == -errno.EINVAL
    create(host, "VM-1", "vm-1")
    assert {name for name, _ in listing(host)} == {"VM-1", "vm-1"}


def test_list_can_grow(host: Host, so: ctypes.CDLL, lu: ctypes.c_void_p) -> None:
    """It is walked by pointers, and each element says how large it is."""
    array = ctypes.POINTER(ctypes.POINTER(Info))()
    libc = ctypes.CDLL(None)
    libc.free.argtypes = [ctypes.c_void_p]
    for names in ((), tuple(f"vm-{n}" for n in range(40))):
        create(host, *names)
        count = ctypes.c_size_t()
        assert so.pcilu_session_list(lu, ctypes.byref(array), ctypes.byref(count)) == 0
        infos = [array[n].contents for n in range(count.value)]
        assert {i.name.decode() for i in infos} == set(names) and not array[count.value]
        assert all((i.size, i.direction, i.held) == (ctypes.sizeof(Info), 0, 1) for i in infos)
        libc.free(array)


def test_version_is_that_of_the_package(so: ctypes.CDLL) -> None:
    flags = (paths.TREE / "lib/flags.mk").read_text()
    assert so.pcilu_version().decode() == re.findall(r"^VERSION := (.*)$", flags, re.M)[0]


def test_all_that_is_public_has_the_prefix_and_a_fixed_width() -> None:
    header = (paths.TREE / "lib/include/pcilu.h").read_text()
    for name, body in re.findall(r"^enum (pcilu_\w+) \{(.*?)^\}", header, re.M | re.S):
        prefix = name.upper().removesuffix("_KIND") + "_"
        assert all(word.startswith(prefix) for word in re.findall(r"^\t(\w+) =", body, re.M)), name
    assert not re.search(r"^(?!enum pcilu_\w+ \{).*\benum pcilu_\w+ \w+[,;)]", header, re.M)


# --- a main loop

def ready(fd: int, seconds: float = 10) -> bool:
    return bool(select.select([fd], [], [], seconds)[0])


def test_main_loop_asks_and_goes_on(host: Host, so: ctypes.CDLL, lu: ctypes.c_void_p) -> None:
    """Fifty at once, of a daemon that takes its time."""
    assert host.daemon
    os.kill(host.daemon.pid, signal.SIGSTOP)
    requests, session = [], ctypes.c_void_p()
    for n in range(50):
        request = ctypes.c_void_p()
        assert so.pcilu_request_start(lu, CREATE, f"vm-{n}".encode(), ctypes.byref(request)) == 0
        assert so.pcilu_request_take(request, ctypes.byref(session)) == -errno.EAGAIN
        requests.append(request)
    os.kill(host.daemon.pid, signal.SIGCONT)
    for n, request in enumerate(requests):
        assert ready(so.pcilu_request_fd(request))
        assert so.pcilu_request_take(request, ctypes.byref(session)) == 0
        assert so.pcilu_session_name(session).decode() == f"vm-{n}"
        so.pcilu_session_close(session)
        so.pcilu_request_close(request)
    assert len(listing(host)) == 50


@pytest.mark.parametrize("kind,name,expected", [
    (CREATE, b"vm-1", errno.EEXIST), (ATTACH, b"vm-1", 0), (ATTACH, b"vm-2", errno.ENOENT),
    (RETRIEVE, b"vm-1", errno.ENOENT), (CREATE, b"pcilud", errno.EACCES)])
def test_main_loop_gets_the_errors_of_the_function(host: Host, so: ctypes.CDLL,
                                                   lu: ctypes.c_void_p, kind: int, name: bytes,
                                                   expected: int) -> None:
    create(host, "vm-1")
    request, session = ctypes.c_void_p(), ctypes.c_void_p()
    assert so.pcilu_request_start(lu, kind, name, ctypes.byref(request)) == 0
    assert ready(so.pcilu_request_fd(request))
    assert so.pcilu_request_take(request, ctypes.byref(session)) == -expected
    so.pcilu_session_close(session)
    so.pcilu_request_close(request)


def test_main_loop_and_a_daemon_that_goes_away(host: Host, so: ctypes.CDLL,
                                               lu: ctypes.c_void_p) -> None:
    assert host.daemon
    os.kill(host.daemon.pid, signal.SIGSTOP)
    request, session = ctypes.c_void_p(), ctypes.c_void_p()
    assert so.pcilu_request_start(lu, CREATE, b"vm-1", ctypes.byref(request)) == 0
    host.stop(signal.SIGKILL)
    assert ready(so.pcilu_request_fd(request))
    assert so.pcilu_request_take(request, ctypes.byref(session)) == -errno.ECONNRESET
    so.pcilu_request_close(request)
    assert so.pcilu_request_start(lu, CREATE, b"vm-1", ctypes.byref(request)) == -errno.ECONNRESET


def test_programs_do_not_see_what_is_not_public() -> None:
    out = subprocess.run(["nm", "-D", "--defined-only", str(PLAIN)], text=True,
                         capture_output=True, check=True).stdout
    names = {line.split()[2].split("@")[0] for line in out.splitlines() if " T " in line}
    header = (paths.TREE / "lib/include/pcilu.h").read_text()
    code = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
    assert names == set(re.findall(r"\b(pcilu_\w+)\(", code))
