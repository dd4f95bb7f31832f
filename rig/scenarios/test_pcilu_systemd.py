# SPDX-License-Identifier: GPL-2.0
"""The packages under a real systemd: a Debian in a container, with a stand-in for the kernel.

What a unit may do, what systemd keeps over a restart, and who lives how long when the machine is
shut down are systemd's to decide, so it is asked.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from rig import debian
from rig.fakeluo import FakeLuo
from rig.pcilu_host import TOOLS

ENVIRONMENT = "[Service]\nEnvironment=LD_PRELOAD=/test/shim.so PCILU_FAKE_LUO=/test/luo\n"

# Runs in the container when it is up; what it finds out goes to /test.
SCRIPT = """#!/bin/sh
export LD_PRELOAD=/test/shim.so PCILU_FAKE_LUO=/test/luo
main() { systemctl show -P MainPID pcilud; }
cd /test
vmm save vm-1 && pcilu snapshot
sed -n 's/^Uid:\\t\\([0-9]*\\).*/\\1/p' /proc/$(main)/status > uid
systemctl restart pcilud
pcilu status --json > restarted.json
kill -9 $(main)
until [ "$(systemctl is-active pcilud)" = active ] && [ "$(main)" != 0 ]; do sleep 0.2; done
pcilu status --json > killed.json
LD_PRELOAD= PCILU_FAKE_LUO= setpriv --reuid=65534 --clear-groups pcilu status --json > nobody.json
[ -e no-keeper ] || systemctl start pcilu-keeper
systemctl is-active pcilu-keeper > keeper
systemctl show -P ActiveState -P SubState -P Result pcilud pcilud.socket pcilu-verify > units
systemctl poweroff
"""

# systemd-shutdown runs it when it has killed everybody and is about to jump.
HOOK = """#!/bin/sh
for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done > /test/survivors 2>/dev/null
"""


class Container:
    def __init__(self, folder: Path, keeper: bool) -> None:
        self.root, self.test = folder / "root", folder / "root/test"
        debian.install(self.root)
        self.test.mkdir()
        shutil.copy(TOOLS / "shim.so", self.test)
        for unit in ("pcilud", "pcilu-keeper", "pcilu-verify"):
            self.write(f"etc/systemd/system/{unit}.service.d/test.conf", ENVIRONMENT)
        self.write("test/script", SCRIPT, 0o755)
        self.write("usr/lib/systemd/system-shutdown/survivors", HOOK, 0o755)
        debian.enable(self.root, "test.service",
                      "[Unit]\nAfter=multi-user.target\n[Service]\nExecStart=/test/script\n"
                      "[Install]\nWantedBy=default.target\n")
        self.write("device", "")
        if not keeper:
            self.write("test/no-keeper", "")
        self.luo = FakeLuo(self.test / "luo")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        debian.write(self.root, path, text, mode)

    def run(self) -> None:
        out = subprocess.run(
            ["systemd-nspawn", "--register=no", "--keep-unit", "-q", "-b", "-D", str(self.root),
             f"--bind={self.root}/device:/dev/liveupdate"], stdin=subprocess.DEVNULL, text=True,
            capture_output=True, timeout=300)
        self.write("test/console", out.stdout + out.stderr)
        self.luo.close()

    def text(self, name: str) -> str:
        file = self.test / name
        assert file.exists(), (self.test / "console").read_text()[-3000:]
        return file.read_text()

    def sessions(self, name: str) -> set[str]:
        return {s["name"] for s in json.loads(self.text(name))["sessions"]}


@pytest.fixture(autouse=True)
def needs() -> None:
    debian.base()
    if not (TOOLS / "shim.so").exists() or not shutil.which("systemd-nspawn"):
        pytest.skip("needs make tools SAN=1 and systemd-nspawn")


def test_sessions_live_through_restarts_and_until_the_jump(tmp_path: Path) -> None:
    container = Container(tmp_path, keeper=True)
    container.run()
    assert container.text("uid").strip() not in ("", "0")
    # From the store of systemd, after an orderly restart and after a crash.
    for name in ("restarted.json", "killed.json"):
        assert container.sessions(name) == {"vm-1", "pcilu.snapshot"}
    assert container.sessions("nobody.json") == set()
    assert container.text("keeper") == "active\n"
    assert "failed" not in container.text("units")
    # When all units were stopped and everybody was killed, the keeper was there, and with it they.
    assert "@pcilu-keeper" in container.text("survivors")
    hook = (container.test / "survivors").stat().st_mtime
    assert container.luo.ended.get("vm-1", hook + 1) > hook


def test_control_without_the_keeper_sessions_end_before_the_jump(tmp_path: Path) -> None:
    container = Container(tmp_path, keeper=False)
    container.run()
    assert container.text("keeper") == "inactive\n"
    assert "pcilu-keeper" not in container.text("survivors")
    hook = (container.test / "survivors").stat().st_mtime
    assert container.luo.ended["vm-1"] < hook
