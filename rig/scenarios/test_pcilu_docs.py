# SPDX-License-Identifier: GPL-2.0
"""What the documentation and the shells promise of pcilu."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from rig.paths import TREE
from rig.pcilu_host import NIC, TOOLS, Host, bzimage, initrd

pytestmark = pytest.mark.skipif(not (TOOLS / "pcilu").exists(),
                                reason=f"no tools in {TOOLS}: make tools SAN=1")
HERE = TREE / "tools" / "pcilu"
PAGES = sorted(page for page in [*HERE.glob("man/*.[1578]"), *TREE.glob("lib/man/*.3"),
                                 *TREE.glob("vmm/qemu/*.8")]
               if not page.read_text().startswith(".so "))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Host(tmp_path) as h:
        yield h.standard()


def examples(page: Path) -> list[str]:
    """Lines that a reader would type: those with a prompt in the page's examples."""
    text = page.read_text()
    if page.suffix == ".md":
        return re.findall(r"^    (pcilu .*?)(?: +#.*)?$", text, re.M)
    blocks = re.findall(r"^\.EX\n(.*?)^\.EE", text, re.M | re.S)
    lines = [line.replace("\\-", "-") for block in blocks for line in block.splitlines()]
    return [line[2:] for line in lines if line.startswith("# ")]


@pytest.mark.parametrize("page", [HERE / "man/pcilu.1", HERE / "man/pcilud.8", TREE / "README.md"],
                         ids=lambda page: page.name)
def test_examples_of_the_manuals_and_the_readme_run(host: Host, page: Path) -> None:
    host.write("sys/kernel/kexec_loaded", "1\n")
    host.start()
    commands = examples(page)
    assert commands
    image = host.write("boot/vmlinuz-next", bzimage())
    host.write("boot/vmlinuz-7.3.5-next", bzimage())
    host.write("boot/initrd.img-7.3.5-next", initrd())
    for command in commands:
        reboots = len(host.luo.reboots)
        out = host.run("bash", "-c", command.replace("/tmp/", f"{host.root}/")
                       .replace("/boot/vmlinuz-next", str(image)))
        if "update" in command and "--dry-run" not in command:
            # The stand-in's reboot comes back, which is the one thing a kernel does not do.
            assert len(host.luo.reboots) > reboots, (command, out.stderr)
            continue
        assert out.returncode == 0, (command, out.stdout, out.stderr)


def test_control_an_example_that_is_wrong_would_fail(host: Host) -> None:
    assert host.run("bash", "-c", "pcilu list --no-such-option").returncode == 2


def test_policy_of_the_man_page_and_of_the_package_is_accepted(host: Host) -> None:
    page = (HERE / "man/pcilud.policy.5").read_text()
    block = re.findall(r"^\.EX\n(.*?)^\.EE", page, re.M | re.S)[0].replace("\\-", "-")
    for text in (block, (HERE / "systemd/pcilud.policy").read_text()):
        host.write("etc/pcilu/pcilud.policy", text)
        host.start()
        host.stop()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_man_page_has_no_warnings(page: Path) -> None:
    if not shutil.which("man"):
        pytest.skip("man-db is not installed")
    out = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", str(page)], text=True,
                         capture_output=True, env={**os.environ, "MANWIDTH": "80"})
    assert out.returncode == 0
    assert out.stderr == ""


def test_man_page_names_every_option_and_command(host: Host) -> None:
    page = (HERE / "man/pcilu.1").read_text().replace("\\-", "-")
    source = (HERE / "cmd/main.c").read_text()
    for option in re.findall(r'^\t\{ "([a-z-]+)", (?:no|required)_argument', source, re.M):
        assert f"--{option}" in page or option == "version", option
    for line in host.pcilu("--help").stdout.splitlines():
        if line.startswith("  "):
            assert f".B {line.split()[0]}\n" in page


def test_library_page_names_every_exported_function() -> None:
    page = (TREE / "lib/man/libpcilu.3").read_text()
    header = (TREE / "lib/include/pcilu.h").read_text()
    exported = re.findall(r"^\t(pcilu_\w+);", (TREE / "lib/libpcilu.map").read_text(), re.M)
    assert exported
    for name in exported:
        assert f"{name}(" in page, name
        assert f" * {name} - " in header, name


def test_library_exports_what_its_map_says() -> None:
    names = set(re.findall(r"^\t(pcilu_\w+);", (TREE / "lib/libpcilu.map").read_text(), re.M))
    for file, flags in (("libpcilu.so.1", "-D"), ("libpcilu.a", "-g")):
        out = subprocess.run(["nm", flags, "--defined-only", str(TOOLS / file)], text=True,
                             capture_output=True, check=True).stdout
        found = {line.split()[2].split("@")[0] for line in out.splitlines()
                 if len(line.split()) == 3 and line.split()[1] == "T"}
        assert {n for n in found if not n.startswith("_")} == names, file


# --- completions

def bash_complete(host: Host, line: str) -> list[str]:
    """What bash would offer at the end of the line."""
    script = f"""
    . /usr/share/bash-completion/bash_completion
    . {HERE}/completion/pcilu.bash
    COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}; COMP_TYPE=9; COMP_KEY=9
    COMP_WORDBREAKS=" \t\n\\"'><=;|&("
    read -ra COMP_WORDS <<< "$COMP_LINE"
    [[ $COMP_LINE == *" " ]] && COMP_WORDS+=("")
    COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
    COMPREPLY=()
    _pcilu
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    if not Path("/usr/share/bash-completion/bash_completion").exists():
        pytest.skip("bash-completion is not installed")
    out = host.run("bash", "-c", script)
    assert out.returncode == 0 and not out.stderr, out.stderr
    return out.stdout.split()


def commands(host: Host) -> list[str]:
    return [line.split()[0] for line in host.pcilu("--help").stdout.splitlines()
            if line.startswith("  ")]


def test_bash_completes_commands_options_and_slots(host: Host) -> None:
    assert set(commands(host)) <= set(bash_complete(host, "pcilu "))
    assert bash_complete(host, "pcilu pre") == ["preflight"]
    assert "--reuse-cmdline" in bash_complete(host, "pcilu preflight --")
    assert NIC in bash_complete(host, "pcilu check 0000:01")
    assert NIC in bash_complete(host, "pcilu list -s ")
    assert bash_complete(host, "pcilu nonsense --") == []       # control


def test_bash_offers_only_options_that_exist(host: Host) -> None:
    for command in commands(host):
        for option in bash_complete(host, f"pcilu {command} --"):
            out = host.pcilu(command, option, "x", "--help")
            assert "does not take" not in out.stderr and "unrecognized" not in out.stderr


def test_zsh_completion_loads_and_names_every_command(host: Host) -> None:
    if not shutil.which("zsh"):
        pytest.skip("zsh is not installed")
    text = (HERE / "completion/_pcilu").read_text()
    for command in commands(host):
        assert f"\t{command}) _arguments" in text and f"'{command}:" in text
    script = f"""
    fpath=({HERE}/completion $fpath); autoload -U compinit; compinit -D -u
    _describe() {{ print -l -- ${{(P)2}} }}
    _arguments() {{ print -l -- "$@" }}
    words=(pcilu ''); CURRENT=2; autoload -U _pcilu; _pcilu
    print -r -- ---; words=(pcilu verify ''); CURRENT=3; _pcilu
    """
    out = subprocess.run(["zsh", "-fc", script], text=True, capture_output=True, timeout=60)
    first, second = out.stdout.split("---")
    assert "preflight:will this kernel take over?" in first, out.stderr
    assert "--keep[do not finish the session]" in second and "--kernel" not in second


# --- units

def systemd_version() -> int:
    out = subprocess.run(["systemctl", "--version"], text=True, capture_output=True, check=True)
    return int(out.stdout.split()[1])


@pytest.mark.parametrize("unit", sorted(HERE.glob("systemd/*.s[eo][rc]*")), ids=lambda p: p.name)
def test_unit_is_well_formed(unit: Path, tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze")
    for other in HERE.glob("systemd/*"):
        if other.suffix in (".service", ".socket"):
            text = other.read_text().replace("/usr/libexec/pcilu/pcilud-may-stop",
                                             f"{HERE}/systemd/pcilud-may-stop")
            text = re.sub(r"=(@?)/usr/(?:sbin|bin|libexec/pcilu)/(pcilu\S*)", rf"=\1{TOOLS}/\2",
                          text)
            if systemd_version() < 254:     # it says that it does not know it, and goes on
                text = re.sub(r"^FileDescriptorStorePreserve=.*\n", "", text, flags=re.M)
            (tmp_path / other.name).write_text(text)
    out = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no",
                          str(tmp_path / unit.name)], text=True, capture_output=True)
    assert out.returncode == 0, out.stderr
    assert unit.name not in out.stderr, out.stderr


# --- the guides

DOCS = TREE / "docs"
KERNEL = TREE / "linux" / "files"


def test_program_of_the_vmm_page_compiles_and_is_short(tmp_path: Path) -> None:
    code = re.findall(r"```c\n(.*?)```", (DOCS / "vmm.md").read_text(), re.S)[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 40
    source = tmp_path / "vmm.c"
    source.write_text(code)
    command = ["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{TREE}/lib/include", "-c",
               str(source), "-o", str(tmp_path / "vmm.o")]
    subprocess.run(command, check=True)
    source.write_text(code.replace("pcilu_session_create(lu, vm, &s)", "pcilu_session_create(lu)"))
    assert subprocess.run(command, capture_output=True).returncode != 0     # control


def test_example_of_the_library_page_compiles(tmp_path: Path) -> None:
    page = (TREE / "lib/man/libpcilu.3").read_text()
    code = re.findall(r"^\.EX\n(.*?)^\.EE", page, re.M | re.S)[0].replace("\\-", "-")
    source = tmp_path / "example.c"
    source.write_text("#include <pcilu.h>\n#include <stdio.h>\nvoid f(int memory, int device);\n"
                      f"void f(int memory, int device)\n{{\n{code}}}\n")
    subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", f"-I{TREE}/lib/include", "-c",
                    str(source), "-o", str(tmp_path / "example.o")], check=True)


def flat(text: str) -> str:
    """Source text with its string constants put together, and formats like the guide's."""
    text = re.sub(r'"\\s*\n\\s*"', "", text)
    return re.sub(r"%[-#.*0-9]*(?:ll|z|l)?[a-z]", "…", text)


def test_every_message_of_the_troubleshooting_table_exists() -> None:
    source = flat("".join(p.read_text() for p in [*HERE.rglob("*.c"), *KERNEL.rglob("*.c"),
                                                  *(TREE / "linux/patches").glob("*.patch"),
                                                  HERE / "systemd/pcilud-may-stop"]))
    rows = re.findall(r"^\| `([^`]+)` \|", (DOCS / "troubleshooting.md").read_text(), re.M)
    assert len(rows) > 15
    known = [m for m in rows if all(part.strip(" ,:;'()") in source
                                    for part in m.split("…") if part.strip(" ,:;'()"))]
    assert sorted(set(rows) - set(known)) == []


def test_scenarios_that_a_page_names_exist() -> None:
    """What it says is tested is."""
    text = (DOCS / "other-vmms.md").read_text()
    claims = re.findall(r"(?<!\*)\[tested: ([^\]]*)\]", text)
    there = set(re.findall(r"^def (test_\w+)", "".join(
        p.read_text() for p in (TREE / "rig/scenarios").glob("test_*.py")), re.M))
    assert len(claims) > 8
    assert {f"`{name}`" for name in there}.issuperset(claims)
    assert "test_that_is_none" not in there     # control


@pytest.mark.parametrize("page", ["host.md", "vmm.md", "other-vmms.md", "troubleshooting.md",
                                  "rollout.md"])
def test_links_and_options_of_the_guides_exist(host: Host, page: str) -> None:
    text = (DOCS / page).read_text()
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (DOCS / link).exists(), link
    for command, rest in re.findall(r"^    pcilu (\w+)(.*)$", text, re.M):
        for option in re.findall(r"(--[a-z-]+)", rest):
            out = host.pcilu(command, option, "x", "--help")
            assert "does not take" not in out.stderr and "unrecognized" not in out.stderr
