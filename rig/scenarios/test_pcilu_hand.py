# SPDX-License-Identifier: GPL-2.0
"""pcilu in the hand: options, documents, tables, untrusted names, output; what people type."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
from pathlib import Path
from typing import Iterator

import pytest

from rig import pcilu_host as ph
from rig.paths import TREE
from rig.pcilu_field import GOOD, Preflight
from rig.pcilu_host import NIC, PORT, Host, TOOLS, bzimage

pytestmark = pytest.mark.skipif(not (TOOLS / "pcilu").exists(),
                                reason=f"no tools in {TOOLS}: make tools SAN=1")
EVIL = "a\033[2Jb\r\xe9"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Host(tmp_path) as h:
        yield h.standard()


def on_a_terminal(host: Host, *argv: str, columns: int = 80) -> list[str]:
    """The lines that a terminal of that width is shown."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {k: v for k, v in host.env.items() if k != "COLUMNS"}
    process = subprocess.Popen([str(TOOLS / "pcilu"), *argv], env=env, stdout=theirs,
                               stderr=subprocess.DEVNULL)
    os.close(theirs)
    text = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break
        if not piece:
            break
        text += piece
    process.wait(60)
    os.close(ours)
    return text.decode().replace("\r\n", "\n").splitlines()


# --- a document on every exit

ERRORS = [(["fly"], 2), ([], 2), (["list", "--nonsense"], 2), (["list", "-s", "xyz"], 2),
          (["list", "-s", "7f:00.0"], 10), (["check"], 2), (["check", "7f:00.0"], 10),
          (["preflight"], 2), (["snapshot"], 10),
          (["snapshot", "-o", "/nowhere/x"], 10), (["verify"], 10), (["unbind"], 2),
          (["wait", "--timeout", "x"], 2), (["update", "--kernel", "/nowhere"], 2),
          (["preflight", "--kernel", "x", "--cmdline", "y", "--accept", "cmdlin"], 2)]


@pytest.mark.parametrize("argv, rc", ERRORS, ids=[" ".join(argv) for argv, _ in ERRORS])
@pytest.mark.parametrize("where", ["before", "behind"])
def test_json_says_something_on_every_exit(host: Host, argv: list[str], rc: int,
                                           where: str) -> None:
    out = host.pcilu(*(["-j", *argv] if where == "before" else [*argv, "--json"]))
    assert out.returncode == rc, out.stderr
    document = ph.checked(out.stdout)
    assert document["schema"] == "pcilu/error" and document["status"] == rc
    assert not document["error"] or document["error"] in out.stderr


def test_control_without_json_an_error_is_no_document(host: Host) -> None:
    assert host.pcilu("list", "-s", "7f:00.0").stdout == ""


@pytest.mark.parametrize("root", ["/dev/full"])
def test_json_that_cannot_be_written_is_a_failure(host: Host, root: str) -> None:
    assert host.run("bash", "-c", f"{TOOLS}/pcilu list -j > {root}").returncode == 11


# --- --strict and --accept

def test_strict_makes_warnings_refuse_unless_they_are_accepted(host: Host) -> None:
    pf = Preflight(host)                # no daemon: a warning
    assert pf.passed and pf.warned == {"daemon"}
    assert not Preflight(host, "--strict").passed
    pf = Preflight(host, "--strict", "--accept", "daemon")
    assert pf.passed and pf.of("accepted") == {"daemon"}
    path = host.write("boot/vmlinuz-next", bzimage())
    out = host.pcilu("load", "--strict", "--kernel", str(path), "--cmdline", GOOD)
    assert out.returncode == 1 and host.luo.loads == []


def test_accept_of_a_check_that_is_none_is_an_error(host: Host) -> None:
    out = host.pcilu("preflight", "--kernel", "x", "--cmdline", "y", "--accept", "interrupts")
    assert out.returncode == 2 and "no such check" in out.stderr


def test_every_check_is_in_the_manual_the_completions_and_the_schema() -> None:
    source = (TREE / "tools/pcilu/cmd/preflight.c").read_text()
    names = re.findall(r'"([a-z-]+)"', source[source.index("pf_checks[]"):source.index("NULL")])
    used = {n for f in (TREE / "tools/pcilu/cmd").glob("check_*.c")
            for n in re.findall(r'pf_add\(\s*pf,\s*"([a-z-]+)"', f.read_text())}
    assert used - {"kho", "liveupdate"} == set(names) - {"kho", "liveupdate"}
    page = (TREE / "tools/pcilu/man/pcilu.1").read_text().replace("\\-", "-")
    schema = json.loads((ph.SCHEMAS / "preflight.json").read_text())
    enum = schema["properties"]["checks"]["items"]["properties"]["check"]["enum"]
    assert sorted(names) == sorted(enum)
    for name in names:
        assert re.search(rf'(\.BR? |" ", ?|" and " ?|, "? ?){name}\b', page), name
        for shell in ("_pcilu", "pcilu.bash"):
            assert re.search(rf"[ (\t\"]{name}[ )\"]", (TREE / "tools/pcilu/completion" / shell)
                             .read_text()), (shell, name)


# --- options

@pytest.mark.parametrize("argv", [["-V"], ["--version"], ["list", "-V"], ["-v", "-V"]])
def test_version_everywhere(host: Host, argv: list[str]) -> None:
    out = host.pcilu(*argv)
    assert out.returncode == 0 and re.fullmatch(r"pcilu \d+\.\d+\.\d+\n", out.stdout)


def test_global_options_stand_before_the_command_too(host: Host) -> None:
    assert ph.checked(host.pcilu("-j", "list").stdout)["schema"] == "pcilu/list"
    assert "NAME" in host.pcilu("--verbose", "list").stdout
    assert "behind the command" in host.pcilu("--kernel", "x", "load").stderr


def test_help_explains_every_option_that_is_taken(host: Host) -> None:
    source = (TREE / "tools/pcilu/cmd/main.c").read_text()
    options = re.findall(r'^\t\{ "([a-z-]+)", (?:no|required)_argument', source, re.M)
    for command in ("list", "preflight", "exec", "verify", "bind", "wait"):
        text = host.pcilu(command, "--help").stdout
        for option in options:
            taken = "does not take" not in host.pcilu(command, f"--{option}", "x", "-h").stderr
            assert (re.search(rf"^  (-., )?--{option}\b.* \S+$", text, re.M) is not None) == taken


# --- output

def test_output_to_standard_output(host: Host) -> None:
    document = ph.checked(host.pcilu("snapshot", "-o", "-").stdout)
    assert document["schema"] == "pcilu/snapshot"
    times = {"time": 0, "time_ms": 0}
    assert ph.checked(host.pcilu("snapshot", "-j", "-o", "-").stdout) | times == \
        document | times
    out = host.pcilu("verify", "-i", "-", input=json.dumps(document))
    assert out.returncode == 0 and out.stdout.startswith("kept")


def test_output_never_replaces_what_is_no_file(host: Host) -> None:
    null = host.root / "null"
    os.mknod(null, 0o666 | 0o020000, os.makedev(1, 3))
    assert host.pcilu("snapshot", "-o", str(null)).returncode == 0
    assert null.is_char_device()
    (host.root / "link").symlink_to(null)
    assert host.pcilu("snapshot", "-o", str(host.root / "link")).returncode == 0
    assert null.is_char_device() and (host.root / "link").is_symlink()
    assert host.pcilu("snapshot", "-o", str(host.root)).returncode == 11
    file = host.write("before.json", "old")                     # control
    assert host.pcilu("snapshot", "-o", str(file)).returncode == 0
    assert ph.checked(file.read_text())["devices"]


# --- tables, and names that anybody can choose

@pytest.mark.parametrize("columns", [80, 132])
def test_tables_are_as_wide_as_the_terminal(host: Host, columns: int) -> None:
    host.start()
    long = host.write("boot/" + "k" * 60, bzimage(ph.CONFIG.replace("CONFIG_IOMMUFD=y\n", "")))
    for argv in (["list"], ["status"], ["preflight", "-v", "--kernel", str(long), "--cmdline",
                                        GOOD.replace("kho=on", "pci=realloc mem=8G")]):
        lines = on_a_terminal(host, *argv, columns=columns)
        words = max(len(w) for line in lines for w in line.split())
        assert lines and max(map(len, lines)) <= max(columns, words + 24), lines
    assert any("the next kernel lacks" in line and len(line) <= columns for line in lines)
    # Control: where nobody looks, a row is a line.
    out = host.pcilu("preflight", "-v", "--kernel", str(long), "--cmdline", "mem=8G").stdout
    assert max(map(len, out.splitlines())) > 132


def test_names_from_processes_are_escaped(host: Host) -> None:
    (host.root / "proc/4711/comm").write_bytes(EVIL.encode("latin-1") + b"\n")
    for argv in (["list"], ["list", "-v"], ["check", NIC]):
        out = host.run(str(TOOLS / "pcilu"), *argv)
        assert "\033" not in out.stdout and "\r" not in out.stdout
    assert "a\\x1b[2Jb\\x0d\\xe9[4711]" in host.pcilu("list").stdout
    owner = {d["bdf"]: d["owner"] for d in host.json("list")["devices"]}[NIC]
    assert owner == {"pid": 4711, "name": "a\033[2Jb\r\\xe9"}
    (host.root / "sys/bus/pci/devices" / NIC / "liveupdate/state").write_text("none\n")
    out = host.pcilu("unbind", NIC)
    assert "\033" not in out.stderr and "\\x1b" in out.stderr
    assert "\033" not in host.pcilu("list", "-s", "\033[2J").stderr


def test_control_names_in_utf8_are_shown(host: Host) -> None:
    (host.root / "proc/4711/comm").write_text("gerät\n")
    assert "gerät[4711]" in host.pcilu("list", env={"LC_ALL": "C.UTF-8"}).stdout


# --- wait

def test_wait_until_nothing_remains(host: Host) -> None:
    state = host.root / "sys/bus/pci/devices" / NIC / "liveupdate/state"
    for bdf in (NIC, PORT):
        (host.root / "sys/bus/pci/devices" / bdf / "liveupdate/state").write_text("incoming\n")
    out = host.pcilu("wait", "--timeout", "0.5")
    assert out.returncode == 1 and "1 things remain" in out.stderr
    document = host.json("wait", "--timeout", "0", rc=1)
    assert document["remaining"] == [f"device {NIC} is to be retrieved by its owner"]
    waiting = subprocess.Popen([str(TOOLS / "pcilu"), "wait"], env=host.env,
                               stdout=subprocess.PIPE, text=True)
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(1)
    state.write_text("none\n")
    assert waiting.wait(60) == 0 and "to do" not in waiting.communicate()[0]


# --- examples

def test_every_example_of_the_readme_and_the_guides_is_taken(host: Host) -> None:
    """Commands and options exist; what they do is tested elsewhere."""
    found = 0
    for page in (TREE / "README.md", *(TREE / "docs").glob("*.md")):
        for line in re.findall(r"^    (pcilu .*?)(?: +#.*)?$", page.read_text(), re.M):
            words = line.split()
            if words[1] in ("exec", "update", "wait"):
                words += ["--help"]
            out = host.run("bash", "-c", " ".join(words[:1] + words[1:] + ["--help"]))
            assert out.returncode == 0, (page.name, line, out.stderr)
            found += 1
    assert found > 8


# --- a kernel package is installed

@pytest.mark.parametrize("passes", [True, False])
def test_kernel_package_leaves_the_verdict_of_its_preflight(host: Host, passes: bool) -> None:
    release = "7.3.5-next"
    image = host.write(f"boot/vmlinuz-{release}", bzimage() if passes else b"none")
    host.write(f"boot/initrd.img-{release}", ph.initrd())
    hook = TREE / "tools/pcilu/kernel/postinst"
    out = host.run(str(hook), release, str(image))
    assert out.returncode == 0 and ("would take over" in out.stdout) == passes
    document = ph.checked((host.root / f"run/pcilu/preflight-{release}.json").read_text())
    assert document["passed"] == passes and document["initrd"].endswith(f"initrd.img-{release}")
    (host.root / "dev/liveupdate").unlink()             # control: nothing here to take over
    assert host.run(str(hook), release, str(image)).stdout == ""


# --- metrics

def metrics(host: Host) -> dict[str, float]:
    """As a collector reads them: a type in front of each, a number behind."""
    lines = host.pcilu("status", "--metrics").stdout.splitlines()
    typed = {line.split()[2] for line in lines if line.startswith("# TYPE ")}
    found = {}
    for line in lines:
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            assert re.fullmatch(r'[a-z_]+(\{[a-z]+="[a-z]+"\})?', name)
            assert name.split("{")[0] in typed
            found[name] = float(value)
    return found


def test_status_as_metrics(host: Host) -> None:
    found = metrics(host)
    assert found['pcilu_devices{state="preserved"}'] == 2
    assert found["pcilu_daemon_up"] == 0 and "pcilu_last_verify_ok" not in found
    host.start()
    assert host.pcilu("snapshot").returncode == 0
    host.write(f"sys/bus/pci/devices/{NIC}/liveupdate/guard_count", "3\n")
    host.write("run/pcilu/verify.json", '{"ok": false}')
    found = metrics(host)
    assert found["pcilu_daemon_up"] == 1 and found["pcilu_guarded_writes"] == 3
    assert found['pcilu_sessions{direction="outgoing"}'] == 1
    assert found["pcilu_last_verify_ok"] == 0
