# SPDX-License-Identifier: GPL-2.0
"""docs/host.md, as far as it needs no kernel: what it says to type, in Debian 12, 13 and unstable.

The packages are installed into a bare root of that release, and the programs run in it, with a
stand-in for the kernel. Under systemd and with a kernel: test_pcilu_systemd.py, _debian.py.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import FULL
from rig import debian
from rig.paths import TREE
from rig.pcilu_host import CONFIG, TOOLS, Host, bzimage, initrd

ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "PCILU_SYSROOT": "/host",
       "PCILU_FAKE_LUO": "/host/luo"}
SUITES = ("", "trixie", "sid")
# The stand-in's devices are bound to no real driver, and it has no systemd.
NOT_HERE = ("pcilu bind", "pcilu unbind", "systemctl", "apt", "make")


class Followed:
    """Somebody who types what the guide says."""

    def __init__(self, folder: Path, *suite: str) -> None:
        self.root = folder / "r"
        debian.install(self.root, *suite)
        shutil.copy(TOOLS / "shim.so", self.root)
        self.host = Host(self.root / "host").standard()
        for name, data in (("boot/vmlinuz-7.3.5-pcilu", bzimage(CONFIG, release="7.3.5-pcilu")),
                           ("boot/initrd.img-7.3.5-pcilu", initrd("7.3.5-pcilu"))):
            self.host.write(name, data)
        self.daemon = subprocess.Popen(
            ["chroot", str(self.root), "env", "LD_PRELOAD=/shim.so", "pcilud", "--user", "root",
             "--policy", "/etc/pcilu/pcilud.policy"], env=ENV, stderr=subprocess.PIPE, text=True)
        assert self.daemon.stderr
        first = self.daemon.stderr.readline()
        assert "ready" in first, first

    def types(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["chroot", str(self.root), "sh", "-c",
                               f"export LD_PRELOAD=/shim.so; {command}"], env=ENV, text=True,
                              capture_output=True, timeout=60, stdin=subprocess.DEVNULL)

    def end(self) -> None:
        self.daemon.terminate()
        self.daemon.wait(30)
        self.host.__exit__()


@pytest.fixture(params=[pytest.param(s, id=s or "own", marks=pytest.mark.skipif(
    bool(s) and not FULL, reason="make test-full makes that Debian")) for s in SUITES])
def guide(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Followed]:
    if not (TOOLS / "shim.so").exists():
        pytest.skip("needs make tools SAN=1")
    suite = (request.param,) if request.param else ()
    debian.base(*suite)
    followed = Followed(tmp_path, *suite)
    yield followed
    followed.end()


def commands() -> list[str]:
    text = (TREE / "docs/host.md").read_text()
    lines = [re.sub(r" +#.*", "", line) for line in re.findall(r"^    (\S.*)$", text, re.M)]
    return [line for line in lines if line.startswith("pcilu") and not line.startswith(NOT_HERE)]


def test_what_the_guide_says_to_type(guide: Followed) -> None:
    typed = commands()
    assert len(typed) > 4 and any("update" in c for c in typed)
    for command in typed:
        out = guide.types(command.replace("/boot/", "/host/boot/").replace("3b:00.0", "01:00.0"))
        if "update" in command:     # the stand-in's kexec comes back, which no kernel's does
            assert guide.host.luo.reboots, (command, out.stdout, out.stderr)
        else:
            assert out.returncode == 0, (command, out.stdout, out.stderr)
    assert guide.types("pcilu list --no-such-option").returncode == 2       # control


def test_libraries_of_that_release_are_the_ones_that_the_packages_want(guide: Followed) -> None:
    for program in ("/usr/bin/pcilu", "/usr/sbin/pcilud", "/usr/libexec/pcilu/pcilu-keeper"):
        out = guide.types(f"LD_PRELOAD= ldd {program}")
        assert out.returncode == 0 and "not found" not in out.stdout, out.stdout
