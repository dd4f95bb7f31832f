# SPDX-License-Identifier: GPL-2.0
"""pcilud is killed at every system call of every operation: nothing is lost, and nothing is listed
that is not there.

Each call is a place twice: before it has any effect, and after it has had it.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
from pathlib import Path
from typing import Callable, Iterator

import pytest

from conftest import FULL
from rig import paths
from rig import pcilu_host as ph
from rig.daemon_client import CONNECTION_ENDS, keep, listing, session
from rig.fdstore import Store, device, retrieve
from rig.pcilu_host import Host, TOOLS

# The sanitizers' runtime is slow to start, and that is most of what is done here.
PLAIN = paths.BUILD / "tools"
pytestmark = pytest.mark.skipif(not (TOOLS / "killer").exists() or not (PLAIN / "pcilud").exists(),
                                reason="needs make tools and make tools SAN=1")
NULL = "1:3\n"      # the device that stands for /dev/iommu
KILLS = 10_000 if FULL else 200         # altogether, in each run


class Victim:
    """A host whose daemon dies, and what must and what may be there."""

    def __init__(self, folder: Path) -> None:
        self.host = Host(folder)
        self.host.tools = PLAIN
        self.store = Store(folder)
        self.sure: set[tuple[str, int]] = set()
        self.unsure: set[tuple[str, int]] = set()
        self.retrieved: set[str] = set()
        self.kept: set[str] = set()         # with these it keeps an iommufd
        self.number = 0
        self.patience = 20.0
        self.host.write("sys/class/misc/iommu/dev", NULL)
        self.store.start(self.host)

    def close(self) -> None:
        self.host.__exit__()
        self.store.close()

    # --- the operations: what a client does, and what it knows afterwards

    def ask(self, kind: int, name: str, direction: int = 0) -> bool:
        """Was it done? It may have been if there is no answer."""
        try:
            error = session(self.host, kind, name, direction)
        except (OSError, AssertionError):
            return False
        assert error == 0, (kind, name, error)
        return True

    def pick(self, direction: int) -> tuple[str, int]:
        return min(key for key in self.sure if key[1] == direction)

    def create(self) -> None:
        self.number += 1
        key = (f"vm-{self.number}", 0)
        (self.sure if self.ask(ph.CREATE, key[0]) else self.unsure).add(key)

    def release(self, direction: int = 0) -> None:
        key = self.pick(direction)
        self.sure.discard(key)
        if direction:
            self.kept.discard(key[0])
        if not self.ask(ph.RELEASE, *key):
            self.unsure.add(key)

    def finish(self) -> None:
        self.release(1)

    def retrieve(self) -> None:
        self.retrieved.add(name := min(self.left()))
        self.ask(ph.RETRIEVE, name)

    def keep(self) -> None:
        name = min(name for name, direction in self.sure if direction and name in self.retrieved)
        try:
            error = keep(self.host, name)
        except (OSError, AssertionError):
            return
        if error != CONNECTION_ENDS:
            assert error == 0, (name, error)
            self.kept.add(name)

    def attach(self) -> None:
        self.ask(ph.ATTACH, self.pick(0)[0])

    def list(self) -> None:
        try:
            listing(self.host)
        except (OSError, AssertionError):
            pass

    def reload(self) -> None:
        """Another policy each time, so that it has to be kept."""
        self.number += 1
        self.host.write("etc/pcilu/pcilud.policy", f"{ph.POLICY}# {self.number}\n")
        readies = self.store.readies
        assert self.host.daemon
        self.host.daemon.send_signal(signal.SIGHUP)
        self.host.wait(lambda: self.store.readies > readies or self.dead())

    # --- what is there

    def dead(self) -> bool:
        return self.host.daemon is None or self.host.daemon.poll() is not None

    def check(self) -> None:
        listed = set(listing(self.host))
        assert self.sure <= listed <= self.sure | self.unsure, \
            (self.sure - listed, listed - self.sure - self.unsure, self.log()[-2000:])
        self.sure, self.unsure = listed, set()
        luo = self.host.luo
        for direction, there in enumerate((luo.outgoing, luo.incoming)):
            names = {name for name, d in listed if d == direction}
            self.host.wait(lambda: set(there) - {"pcilud"} == names, self.patience)
        assert luo.discarded == []
        for name, direction in listed:
            if direction == 0:
                assert session(self.host, ph.ATTACH, name) == 0
        # If the client has no answer, it may be kept.
        kept = {name for name in self.retrieved if session(self.host, ph.KEPT, name) == 0}
        assert self.kept <= kept <= {name for name, direction in listed if direction}
        assert sorted(kept) == sorted(n[2:] for n in self.store.names() if n[:2] in ("k.", "l."))
        self.kept = kept

    def left(self) -> set[str]:
        """Incoming sessions that nobody has retrieved."""
        return {name for name, direction in self.sure if direction} - self.retrieved

    def setup(self, outgoing: int, left: int, retrieved: int) -> None:
        """At least so many of each, and not too many."""
        while sum(not direction for _, direction in self.sure) > 50:
            self.release()
        if len(self.left()) < left + retrieved:
            for _ in range(40):
                self.create()
            self.jump()
            self.store.start(self.host)
            self.check()
        while len({key for key in self.sure if key[1]} - {(n, 1) for n in self.left()}) < retrieved:
            self.retrieve()
        while sum(not direction for _, direction in self.sure) < outgoing:
            self.create()

    def jump(self) -> None:
        """The kexec, with somebody who keeps the sessions until then; what was incoming is gone."""
        self.host.luo.kexec()
        self.host.stop(9)
        self.store.forget()
        self.sure = {(name, 1) for name, direction in self.sure if direction == 0}
        self.retrieved, self.kept = set(), set()

    # --- killing

    def attached(self, n: int, operation: Callable[[], None]) -> int:
        """Kill it at the nth stop of an operation; how many stops there were."""
        assert self.host.daemon
        with subprocess.Popen([str(TOOLS / "killer"), str(n), str(self.host.daemon.pid)],
                              stdout=subprocess.PIPE, text=True) as killer:
            assert killer.stdout and killer.stdout.readline() == "ready\n"
            operation()
            killer.terminate()
            return int(killer.stdout.read().split()[1])

    def started(self, n: int) -> int:
        """The same for a start and the stop after it."""
        counts = self.log().count("killer: ")
        self.host.prefix = [str(TOOLS / "killer"), str(n)]
        self.store.start(self.host, expect_ready=False)
        self.host.prefix = []
        readies = self.host._readies
        self.host.wait(lambda: self.dead() or self.log().count("ready,") > readies)
        self.bury(signal.SIGTERM)
        self.host.wait(lambda: self.log().count("killer: ") > counts)
        return int(self.log().rsplit("killer: ", 1)[1].split()[0])

    def log(self) -> str:
        return self.host.log.read_text()

    def bury(self, sig: int = 9) -> None:
        self.host.stop(sig)
        self.host._readies = self.log().count("ready,")

    def resurrect(self) -> None:
        self.bury()
        self.store.start(self.host)
        self.check()


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Victim]:
    v = Victim(tmp_path)
    yield v
    v.close()


def places(total: int, share: float) -> Iterator[int]:
    """Every one, in a full run again and again; else a sample."""
    want = max(1, int(KILLS * share))
    rng = random.Random(int(os.environ["PCILU_SEED"]))
    every = list(range(1, total + 1))
    if want < total:
        yield from sorted(rng.sample(every, want))
        return
    for n in range(want):
        yield every[n % total]


# What has to be there: outgoing sessions, incoming ones that nobody retrieved, and retrieved ones.
OPERATIONS = {"create": (0, 0, 0), "release": (2, 0, 0), "retrieve": (1, 2, 1),
              "finish": (0, 0, 2), "keep": (0, 0, 2), "attach": (1, 0, 0), "list": (2, 2, 1),
              "reload": (1, 0, 0)}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_killed_at_every_call_of(victim: Victim, operation: str) -> None:
    victim.setup(*OPERATIONS[operation])
    total = victim.attached(0, getattr(victim, operation))
    victim.check()
    assert total > 4
    for n in places(total, 0.1):
        victim.setup(*OPERATIONS[operation])
        victim.attached(n, getattr(victim, operation))
        victim.resurrect()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kernel", ["same", "next"])
def test_killed_at_every_call_of_a_start(victim: Victim, kernel: str) -> None:
    """With sessions of all kinds; in the next kernel, with a list to be taken over."""
    def prepare() -> None:
        victim.setup(3, 2, 2)
        victim.keep()
        if kernel == "next":
            victim.jump()
        victim.bury()

    prepare()
    total = victim.started(0)
    victim.resurrect()
    assert total > 100
    for n in places(total, 0.15):
        prepare()
        victim.started(n)
        victim.resurrect()


def test_control_a_retrieve_in_one_process_is_lost(victim: Victim) -> None:
    """The loop would see it: nobody stores what the kernel gave."""
    victim.setup(0, 2, 0)
    victim.host.stop(9)
    with device(victim.host.luo) as opener:
        os.close(retrieve(opener, min(victim.left())))
    victim.store.start(victim.host)
    victim.patience = 0.5
    with pytest.raises(AssertionError):
        victim.check()
