# SPDX-License-Identifier: GPL-2.0
"""A small Debian with systemd and our packages, to boot."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from . import paths

DEBS = sorted(deb for deb in (paths.BUILD / "deb").glob("*pcilu*_*.deb")
              if "dbgsym" not in deb.name and not deb.name.startswith("linux-"))
TOOLS = paths.BUILD / "tools"


def write(root: Path, path: str, text: str, mode: int = 0o644) -> None:
    """A file of a root."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    os.chmod(file, mode)


def base(*suite: str) -> Path:
    """The Debian without our packages; kept in the cache. Skips where there can be none."""
    if not DEBS or not (TOOLS / "vmm").exists():
        pytest.skip("no packages or tools: make deb; make tools")
    if os.geteuid() != 0 or not shutil.which("mmdebstrap"):
        pytest.skip("needs root and mmdebstrap")
    out = subprocess.run([str(paths.TREE / "scripts/debian-root"), *suite], text=True,
                         capture_output=True)
    if out.returncode:
        pytest.skip(f"no Debian root: {out.stderr.strip()}")
    return Path(out.stdout.strip())


def install(root: Path, *suite: str) -> None:
    """A copy of it at `root`, with our packages and the library's examples installed."""
    subprocess.run(["cp", "-a", "--reflink=auto", str(base(*suite)), str(root)], check=True)
    for deb in DEBS:
        shutil.copy(deb, root)
    # Its dependencies are there but for those that only set up.
    subprocess.run(["chroot", str(root), "sh", "-c", "dpkg -i --force-depends /*.deb && rm /*.deb"],
                   check=True, capture_output=True)
    for example in ("vmm", "lend"):
        shutil.copy(TOOLS / example, root / "usr/bin")


def enable(root: Path, unit: str, text: str) -> None:
    """A unit that is started at boot."""
    write(root, f"etc/systemd/system/{unit}", text)
    subprocess.run(["systemctl", f"--root={root}", "enable", unit], check=True,
                   capture_output=True)
