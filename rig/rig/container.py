# SPDX-License-Identifier: GPL-2.0
"""A Debian with systemd and our packages in a container, with a stand-in for the kernel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from . import debian
from .fakeluo import FakeLuo
from .pcilu_host import TOOLS

SECONDS = 1500      # a busy host's minutes
FAKE = "LD_PRELOAD=/test/shim.so PCILU_FAKE_LUO=/test/luo"
ENVIRONMENT = f"[Service]\nEnvironment={FAKE}\n"

# systemd-shutdown runs it when it has killed everybody and is about to jump.
HOOK = """#!/bin/sh
for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done > /test/survivors 2>/dev/null
"""


def needs() -> None:
    """Skips where there can be none."""
    debian.base()
    if not (TOOLS / "shim.so").exists() or not shutil.which("systemd-nspawn"):
        pytest.skip("needs make tools SAN=1 and systemd-nspawn")


class Container:
    """Runs a script when it is up; what that finds out goes to /test."""

    def __init__(self, folder: Path, script: str, *suite: str) -> None:
        # Later ones run on the unified hierarchy alone, whatever this machine has.
        self.env = {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"} if suite else {}
        self.root, self.test = folder / "root", folder / "root/test"
        debian.install(self.root, *suite)
        self.test.mkdir()
        shutil.copy(TOOLS / "shim.so", self.test)
        for unit in ("pcilud", "pcilu-keeper", "pcilu-verify"):
            self.write(f"etc/systemd/system/{unit}.service.d/test.conf", ENVIRONMENT)
        self.write("test/script", script, 0o755)
        self.write("usr/lib/systemd/system-shutdown/survivors", HOOK, 0o755)
        debian.enable(self.root, "test.service",
                      "[Unit]\nAfter=multi-user.target\n[Service]\nExecStart=/test/script\n"
                      "[Install]\nWantedBy=default.target\n")
        self.write("device", "")
        self.luo = FakeLuo(self.test / "luo")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        debian.write(self.root, path, text, mode)

    def boot(self, *options: str, prefix: tuple[str, ...] = (),
             **how: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            # By a name of its own: that of the folder is "root" for all of them.
            [*prefix, "systemd-nspawn", "--register=no", "--keep-unit", "-q", "-b",
             f"--machine=pcilu-{os.getpid()}-{id(self)}", "-D", str(self.root),
             f"--bind={self.root}/device:/dev/liveupdate", *options],
            stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, **self.env}, **how)

    def run(self) -> None:
        with self.boot(stdout=subprocess.PIPE) as process:
            try:
                console = process.communicate(timeout=SECONDS)[0]
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        self.write("test/console", console)
        self.luo.close()

    def text(self, name: str) -> str:
        file = self.test / name
        assert file.exists(), (self.test / "console").read_text()[-3000:]
        return file.read_text()

    def sessions(self, name: str) -> set[str]:
        return {s["name"] for s in json.loads(self.text(name))["sessions"]}

    def carried(self, session: str) -> bool:
        """Was it made, and did it live until the jump?"""
        hook = (self.test / "survivors").stat().st_mtime
        return session in self.luo.created and self.luo.ended.get(session, hook + 1) > hook
