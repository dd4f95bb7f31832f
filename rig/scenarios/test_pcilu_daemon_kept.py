# SPDX-License-Identifier: GPL-2.0
"""The iommufd of a session's devices, which pcilud keeps for who comes after a program that died.

What stands for /dev/iommu here is /dev/null.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
from pathlib import Path
from typing import Iterator

import pytest

from rig import pcilu_host as ph
from rig.daemon_client import CONNECTION_ENDS, as_user, create, keep, session
from rig.fdstore import Store, high
from rig.pcilu_host import Host, TOOLS

PLAIN = ph.BUILD / "tools" / "libpcilu.so.1"
pytestmark = pytest.mark.skipif(not (TOOLS / "pcilud").exists() or not PLAIN.exists(),
                                reason="needs make tools and make tools SAN=1")
ONE, OTHER = os.O_NONBLOCK, os.O_APPEND     # by which open files are told apart


@pytest.fixture
def host(tmp_path: Path, store: Store) -> Iterator[Host]:
    """With sessions from the previous kernel, of which the first has been retrieved."""
    os.chmod(tmp_path, 0o755)
    with Host(tmp_path) as h:
        h.write("sys/class/misc/iommu/dev", "1:3\n")
        store.start(h)
        create(h, "vm-1", "vm-2")
        h.luo.kexec()
        h.stop()
        store.forget()
        store.start(h)
        assert session(h, ph.RETRIEVE, "vm-1") == 0
        yield h


def stored(store: Store) -> list[str]:
    return [name for name in store.names() if name[:2] in ("k.", "l.")]


def kept(host: Host, name: str = "vm-1") -> int:
    """The flag of the file that is kept, or a negative errno."""
    with host.connect() as sock:
        error, _, fds, _ = host.ask(sock, ph.message(ph.KEPT, name))
    if error:
        assert not fds
        return -error
    flags = fcntl.fcntl(fds[0], fcntl.F_GETFL) & (ONE | OTHER)
    os.close(fds[0])
    return flags


def test_last_one_is_kept_until_the_session_is_released(host: Host, store: Store) -> None:
    assert kept(host) == -errno.ENOENT
    assert keep(host, "vm-1") == 0 and kept(host) == kept(host) == ONE
    assert keep(host, "vm-1", flags=OTHER) == 0 and kept(host) == OTHER
    assert len(stored(store)) == 1
    assert session(host, ph.RETRIEVE, "vm-2") == 0 and kept(host, "vm-2") == -errno.ENOENT
    assert session(host, ph.RELEASE, "vm-1", direction=1) == 0
    assert kept(host) == -errno.ENOENT
    assert stored(store) == []


def test_one_that_is_kept_already_stays_in_the_store(host: Host, store: Store) -> None:
    """systemd takes no file twice, under another name neither."""
    assert keep(host, "vm-1") == 0
    with host.connect() as sock:
        _, _, fds, _ = host.ask(sock, ph.message(ph.KEPT, "vm-1"))
    assert keep(host, "vm-1", path=f"/proc/self/fd/{fds[0]}") == 0      # control: opened anew
    assert keep(host, "vm-1", fd=fds[0]) == 0
    os.close(fds[0])
    store.restart(host, sig=signal.SIGKILL)
    assert kept(host) == ONE and len(stored(store)) == 1


def test_one_for_two_sessions_is_refused(host: Host, store: Store) -> None:
    """It would be in the store under the first name alone, and the second would be without."""
    assert session(host, ph.RETRIEVE, "vm-2") == 0 and keep(host, "vm-1") == 0
    with host.connect() as sock:
        _, _, fds, _ = host.ask(sock, ph.message(ph.KEPT, "vm-1"))
    assert keep(host, "vm-2") == 0          # the control: another one
    assert keep(host, "vm-2", fd=fds[0]) == errno.EBUSY
    assert session(host, ph.RELEASE, "vm-1", direction=1) == 0
    assert keep(host, "vm-2", fd=fds[0]) == 0
    os.close(fds[0])
    store.restart(host, sig=signal.SIGKILL)
    assert kept(host, "vm-2") == ONE and stored(store) in (["k.vm-2"], ["l.vm-2"])


def test_of_two_in_the_store_one_stays(host: Host, store: Store) -> None:
    """As when it was killed between storing one and letting go of the other."""
    assert keep(host, "vm-1") == 0
    host.stop(9)
    name = "l.vm-1" if stored(store) == ["k.vm-1"] else "k.vm-1"
    store.kept.append((name, high(fd := os.open("/dev/null", os.O_RDONLY | OTHER))))
    os.close(fd)
    store.start(host)
    assert kept(host) in (ONE, OTHER) and len(stored(store)) == 1
    assert keep(host, "vm-1") == 0 and kept(host) == ONE and len(stored(store)) == 1


def test_restarted_daemon_has_it_from_the_store(host: Host, store: Store) -> None:
    assert keep(host, "vm-1") == 0
    store.restart(host, sig=signal.SIGKILL)
    assert kept(host) == ONE


def test_control_it_is_in_the_store_or_nowhere(host: Host, store: Store) -> None:
    assert keep(host, "vm-1") == 0
    host.stop(9)
    store.settle()
    store.kept = [(name, fd) for name, fd in store.kept if name[2:] != "vm-1" or
                  name[0] == "i" or os.close(fd)]
    store.start(host)
    assert session(host, ph.RETRIEVE, "vm-1") == 0
    assert kept(host) == -errno.ENOENT


def test_without_its_session_it_leaves_the_store(host: Host, store: Store) -> None:
    assert keep(host, "vm-1") == 0
    host.stop(9)
    store.settle()
    store.kept = [(name, fd) for name, fd in store.kept if name != "i.vm-1" or os.close(fd)]
    store.start(host)
    assert kept(host) == -errno.ENOENT
    assert stored(store) == []


def test_what_is_not_to_be_kept_is_refused(host: Host) -> None:
    assert keep(host, "vm-2") == errno.ENOENT       # nobody has retrieved it
    create(host, "vm-3")
    assert keep(host, "vm-3") == errno.ENOENT       # it is outgoing
    for path in ("/dev/zero", "/proc/version"):
        assert keep(host, "vm-1", path=path) == errno.EINVAL
    assert kept(host) == -errno.ENOENT
    assert keep(host, "vm-1") == 0      # the control
    data = ph.message(ph.KEPT, "vm-1")
    assert as_user(host, f"s.sendall({data!r})\nprint(error(s.recv(4096)))") == str(errno.EACCES)


def test_request_with_a_descriptor_too_many_or_too_few_ends_the_connection(host: Host) -> None:
    assert keep(host, "vm-1", message=ph.message(ph.KEPT, "vm-1")) == CONNECTION_ENDS
    assert keep(host, "vm-1", message=ph.message(ph.KEEP, "vm-1")) == CONNECTION_ENDS
    with host.connect() as sock:
        sock.sendall(ph.message(ph.KEEP, "vm-1", flags=ph.F_FD))
        assert sock.recv(ph.MSG.size) == b""


def test_library_keeps_and_gives_it(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCILU_SYSROOT", str(host.root))
    so = ctypes.CDLL(str(PLAIN))
    lu, incoming, outgoing = (ctypes.c_void_p() for _ in range(3))
    assert so.pcilu_open(ctypes.byref(lu), 1) == 0
    assert so.pcilu_session_retrieve(lu, b"vm-1", ctypes.byref(incoming)) == 0
    assert so.pcilu_session_create(lu, b"vm-3", ctypes.byref(outgoing)) == 0
    assert so.pcilu_session_kept_iommufd(lu, incoming) == -errno.ENOENT
    with open("/dev/null") as null:
        assert so.pcilu_session_keep_iommufd(lu, outgoing, null.fileno()) == -errno.EINVAL
        assert so.pcilu_session_keep_iommufd(lu, incoming, -1) == -errno.EINVAL
        assert so.pcilu_session_keep_iommufd(lu, incoming, null.fileno()) == 0
    fd = so.pcilu_session_kept_iommufd(lu, incoming)
    assert fd >= 0 and not os.get_inheritable(fd)
    os.close(fd)
    for s in (incoming, outgoing):
        so.pcilu_session_close(s)
    so.pcilu_close(lu)
