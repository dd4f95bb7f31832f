# SPDX-License-Identifier: GPL-2.0
"""What programs are told of a live update: the journal, the report, metrics."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.daemon_client import create, session
from rig import pcilu_host as ph
from rig.paths import TREE
from rig.pcilu_host import Host, NIC, PORT, TOOLS, bzimage

pytestmark = pytest.mark.skipif(not (TOOLS / "pcilud").exists(), reason="needs make tools SAN=1")
HERE = TREE / "tools/pcilu"
HELD, RELEASED, NOT_READY, JUMP, FAILED, VERIFIED, BACK, GIVEN_UP = (
    "653c511f40004070b91e8aaa4612f576", "61fef8b4ebaf414c8d250557e91e3f8b",
    "56bc337291524533a4a961bd37a6b016", "7ef9c02d7e1348929a94c3303b63df8a",
    "81817872d380475fbb16dae1fd129449", "53d53817dc07459ea240598ca8e18a15",
    "2bdcb38bff3641108ee9828d82a24e3a", "bb16f4722a8441f0995bb13b16192067")
GOOD = ["--cmdline", "root=/dev/sda1 ro kho=on liveupdate=on panic=10"]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Host(tmp_path).standard() as h:
        h.write("boot/vmlinuz-next", bzimage())
        h.start()
        yield h


def journal(host: Host, message_id: str) -> list[dict[str, str]]:
    """The entries of that kind, as the journal got them."""
    file = host.root / "journal"
    entries = file.read_text().strip("\n").split("\n\n") if file.exists() else []
    parsed = [dict(line.split("=", 1) for line in e.splitlines()) for e in entries]
    return [p for p in parsed if p["MESSAGE_ID"] == message_id]


def state(host: Host, bdf: str, word: str) -> None:
    (host.root / "sys/bus/pci/devices" / bdf / "liveupdate/state").write_text(word + "\n")


def update(host: Host) -> None:
    """A snapshot, the next kernel, and its boot up to the comparison."""
    for bdf in (PORT, NIC):
        state(host, bdf, "preserved")
    assert host.pcilu("snapshot").returncode == 0
    host.luo.kexec()
    host.stop()
    (host.root / "run/pcilu/verify.json").unlink(missing_ok=True)
    host.start()
    for bdf in (PORT, NIC):
        state(host, bdf, "incoming")
    assert host.pcilu("verify", "--boot").returncode == 0


def test_every_id_and_field_is_documented_and_no_other() -> None:
    page = (HERE / "man/pcilu.journal.7").read_text()
    source = "".join(p.read_text() for p in HERE.rglob("*.c") if "fuzz" not in str(p))
    ids = re.findall(r'"([0-9a-f]{32})"', (HERE / "common/journal.c").read_text())
    assert len(set(ids)) == len(ids) > 5
    assert set(re.findall(r"\b[0-9a-f]{32}\b", page)) == set(ids)
    used = set(re.findall(r'"(PCILU_[A-Z_]+)"', source)) - {"PCILU_SYSROOT", "PCILU_GIVE_UP"}
    assert set(re.findall(r"^\.B (PCILU_\w+)$", page, re.M)) == used - {"PCILU_FAKE_LUO"}


def test_sessions(host: Host) -> None:
    create(host, "vm-1")
    assert session(host, ph.RELEASE, "vm-1") == 0
    [made] = [e for e in journal(host, HELD) if e["PCILU_SESSION"] == "vm-1"]
    assert made["PCILU_UID"] == "0" and made["PCILU_DIRECTION"] == "outgoing"
    assert made["PRIORITY"] == "6" and made["SYSLOG_IDENTIFIER"] == "pcilud"
    assert journal(host, RELEASED)[-1]["PCILU_SESSION"] == "vm-1"


def test_update_that_fails_and_one_that_jumps(host: Host) -> None:
    kernel = str(host.root / "boot/vmlinuz-next")
    assert host.pcilu("update", "--kernel", kernel, "--cmdline", "kho=off").returncode == 1
    [failed] = journal(host, FAILED)
    assert failed["PCILU_STEP"] == "preflight"
    assert "kho: the next kernel" in failed["PCILU_REASON"]
    assert journal(host, JUMP) == []
    host.pcilu("update", "--kernel", kernel, "--dry-run", "--cmdline", "kho=off")
    assert len(journal(host, FAILED)) == 1      # a dry run is none
    host.pcilu("update", "--kernel", kernel, "--no-systemd", *GOOD)
    assert [e["PCILU_KERNEL"] for e in journal(host, JUMP)] == [kernel]


@pytest.mark.parametrize("argv, reason", [
    (["--reason", "its VM was deleted"], "its VM was deleted"),
    ([], r"its owner, process \d+, is gone"),
    (["--force"], r"its owner, process \d+, is gone")])
def test_reason_of_giving_up_a_session(host: Host, argv: list[str], reason: str) -> None:
    out = host.run("/usr/bin/python3", "-c", (
        "import socket,sys\ns=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET)\n"
        f"s.connect('{host.root}/run/pcilud/socket')\ns.send({ph.message(ph.CREATE, 'vm-1')!r})\n"
        "s.recv(200)"), env={"LD_PRELOAD": ""})
    assert out.returncode == 0, out.stderr
    document = host.json("release", "vm-1", "--dry-run", *argv)
    assert journal(host, GIVEN_UP) == []
    document = host.json("release", "vm-1", *argv)
    [entry] = journal(host, GIVEN_UP)
    assert re.fullmatch(reason, entry["PCILU_REASON"]) and \
        document["reason"] == entry["PCILU_REASON"]
    assert (entry["PCILU_ACTION"], entry["PCILU_SESSION"]) == ("release", "vm-1")


def test_forced_although_the_owner_lives(host: Host) -> None:
    create(host, "vm-1")
    (host.root / f"proc/{os.getpid()}").mkdir(exist_ok=True)
    assert host.pcilu("release", "vm-1").returncode == 1
    assert "lives" in host.json("release", "--force", "vm-1")["reason"]


def test_live_updates_are_counted_from_the_boot_on(host: Host) -> None:
    for number in (1, 2, 3):
        assert host.pcilu("snapshot").returncode == 0
        host.luo.kexec()
        host.stop()
        host.start()
        (host.root / "run/pcilu/verify.json").unlink(missing_ok=True)   # /run is new
        assert host.json("verify", "--boot")["live_updates"] == number
        assert journal(host, VERIFIED)[-1]["PCILU_LIVE_UPDATES"] == str(number)
    assert f"\npcilu_live_updates {number}\n" in host.pcilu("status", "--metrics").stdout
    (host.root / "run/pcilu/verify.json").unlink()      # control: as after another boot
    assert host.json("status")["live_updates"] == 0


def test_verify_tells_the_journal_what_was_not_kept(host: Host) -> None:
    update(host)
    assert journal(host, VERIFIED)[-1]["PCILU_RESULT"] == "kept"
    assert host.pcilu("snapshot").returncode == 0
    host.luo.kexec()
    host.stop()
    host.start()
    host.config(NIC, ph.config_space(0x8086, 0x1533, 0x020000), driver="vfio-pci")
    assert host.pcilu("verify", "--boot").returncode == 1
    entry = journal(host, VERIFIED)[-1]
    assert entry["PCILU_RESULT"] == "not kept" and int(entry["PCILU_DIFFERENCES"]) > 0
    assert entry["PRIORITY"] == "3"


def test_blackout_is_from_the_snapshot_to_the_end_of_the_session(host: Host) -> None:
    start = time.time()
    update(host)
    assert not any(b["over"] for b in host.json("status")["blackouts"])
    waiting = subprocess.Popen([str(TOOLS / "pcilu"), "wait", "--timeout", "60"], env=host.env,
                               stdout=subprocess.DEVNULL)
    asleep = Path(f"/proc/{waiting.pid}/wchan")
    while "nanosleep" not in asleep.read_text():        # it has looked once
        assert time.time() - start < 60
        time.sleep(0.1)
    time.sleep(1)
    state(host, NIC, "claimed")         # its owner has it, and goes on with its work
    time.sleep(0.5)
    assert journal(host, BACK) == [] and waiting.poll() is None
    for bdf in (PORT, NIC):
        state(host, bdf, "none")
    assert waiting.wait(30) == 0
    took = time.time() - start
    [blackout] = host.json("status")["blackouts"]       # bridges have no owner
    assert blackout["bdf"] == NIC and blackout["over"] and blackout["exact"]
    assert 1.5 <= blackout["milliseconds"] / 1000 <= took       # with both sleeps
    [entry] = journal(host, BACK)
    assert (entry["PCILU_DEVICE"], entry["PCILU_BLACKOUT_MS"], entry["PCILU_EXACT"]) == \
        (NIC, str(blackout["milliseconds"]), "yes")
    assert f'pcilu_blackout_seconds{{device="{NIC}"}} ' in host.pcilu("status", "--metrics").stdout
    assert f"{NIC} was without its owner for" in host.pcilu("status").stdout


def test_owner_that_finishes_while_wait_looks_is_not_missed(host: Host) -> None:
    update(host)
    assert host.daemon
    host.daemon.send_signal(signal.SIGSTOP)     # wait has read the devices' states, and asks it
    waiting = subprocess.Popen([str(TOOLS / "pcilu"), "wait", "--json", "--timeout", "60"],
                               env=host.env, stdout=subprocess.PIPE, text=True)
    try:
        host.wait(lambda: "poll" in Path(f"/proc/{waiting.pid}/wchan").read_text())
        for bdf in (PORT, NIC):
            state(host, bdf, "none")
    finally:
        host.daemon.send_signal(signal.SIGCONT)
    out, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    [blackout] = json.loads(out)["blackouts"]
    assert blackout["bdf"] == NIC and blackout["over"] and blackout["exact"]
    assert len(journal(host, BACK)) == 1


def test_blackout_that_nobody_saw_end_is_an_upper_bound(host: Host) -> None:
    update(host)
    for bdf in (PORT, NIC):
        state(host, bdf, "none")
    assert host.pcilu("wait").returncode == 0
    assert not host.json("status")["blackouts"][0]["exact"]
    assert "at most" in host.pcilu("status").stdout


@pytest.mark.parametrize("word", ["incoming", "claimed", "lost", "dead"])
def test_control_device_that_is_not_back_has_no_blackout(host: Host, word: str) -> None:
    update(host)
    state(host, NIC, word)
    host.pcilu("wait", "--timeout", "0")
    assert journal(host, BACK) == []


def test_snapshot_of_an_older_pcilu_has_no_times(host: Host) -> None:
    assert host.pcilu("snapshot", "-o", str(host.root / "old.json")).returncode == 0
    document = json.loads((host.root / "old.json").read_text())
    del document["time_ms"], document["live_updates"]
    host.write("old.json", json.dumps(document))
    report = host.json("verify", "-i", str(host.root / "old.json"))
    assert report["blackouts"] == [] and report["live_updates"] == 0
