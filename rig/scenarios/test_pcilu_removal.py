# SPDX-License-Identifier: GPL-2.0
"""Removing and purging the package in a Debian: named, asked, and refused by default."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from rig import debian

RULES = "etc/udev/rules.d/50-pcilu.rules"
# What it says of two sessions; that this is so is in test_pcilu_daemon_keeper.py.
HAS_SESSIONS = """#!/bin/sh
[ "$1" = --give-up ] || exit 0
echo "pcilud: outgoing session 'vm-1' of user 0 would be lost" >&2
echo "pcilud: incoming session 'vm-2' of user 64055 would be lost" >&2
echo "pcilud: session 'vm-3', which systemd keeps for the stopped pcilud.service, would be lost" >&2
[ "$PCILU_GIVE_UP" = yes ] || exit 69
"""


class Root:
    """A Debian with our packages, not booted."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        debian.install(self.root)
        debian.write(self.root, RULES, "# by pcilu bind --persist\n")

    def sh(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["chroot", str(self.root), "sh", "-c", command], text=True,
                              stdin=subprocess.DEVNULL, capture_output=True,
                              env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C",
                                   "DEBIAN_FRONTEND": "noninteractive"})

    def has_sessions(self) -> None:
        debian.write(self.root, "usr/sbin/pcilud", HAS_SESSIONS, 0o755)

    def installed(self) -> bool:
        return " ok installed" in self.sh("dpkg-query -W -f '${Status}' pcilu").stdout


def test_removal_and_purge(tmp_path: Path) -> None:
    debian.base()
    root = Root(tmp_path)
    root.has_sessions()
    for verb in ("--remove", "--purge"):
        out = root.sh(f"dpkg {verb} pcilu")
        assert out.returncode == 1 and root.installed(), out.stderr
        assert "session 'vm-1' of user 0 would be lost" in out.stderr
        assert (root.root / RULES).exists()
    # The question names them, too.
    assert "vm-1 vm-2 vm-3" in (root.root / "var/cache/debconf/config.dat").read_text()
    # An upgrade restarts the daemon, which loses nothing, and does not ask.
    deb, = (d for d in debian.DEBS if d.name.startswith("pcilu_"))
    shutil.copy(deb, root.root)
    out = root.sh(f"dpkg -i --force-depends /{deb.name}")
    assert out.returncode == 0 and "would be lost" not in out.stderr, out.stderr
    # Somebody said yes beforehand, as automation does; that counts once.
    root.has_sessions()
    root.sh("echo 'pcilu pcilu/give-up boolean true' | debconf-set-selections")
    assert root.sh("dpkg --remove pcilu").returncode == 0 and not root.installed()
    assert (root.root / RULES).exists()         # its configuration stays until the purge
    assert root.sh(f"dpkg -i --force-depends /{deb.name}").returncode == 0
    root.has_sessions()
    assert root.sh("dpkg --remove pcilu").returncode == 1
    # By the environment; and the purge takes the rules that pcilu wrote along.
    assert root.sh("PCILU_GIVE_UP=yes dpkg --purge pcilu").returncode == 0
    assert not (root.root / RULES).exists() and not (root.root / "etc/pcilu").exists()


@pytest.mark.parametrize("debconf", [True, False])
def test_removal_when_nothing_is_preserved_asks_nothing(tmp_path: Path, debconf: bool) -> None:
    debian.base()
    root = Root(tmp_path)
    if not debconf:     # then pcilud asks by itself, and refuses where there is no terminal
        (root.root / "usr/share/debconf/confmodule").unlink()
        root.has_sessions()
        out = root.sh("dpkg --remove pcilu")
        assert out.returncode == 1 and "vm-2" in out.stderr
        debian.write(root.root, "usr/sbin/pcilud", "#!/bin/sh\n", 0o755)
    assert root.sh("dpkg --remove pcilu").returncode == 0 and not root.installed()
