# SPDX-License-Identifier: GPL-2.0
"""The Ansible role on hosts that boot: Debians with systemd and our packages in containers.

Ansible's own ssh connection reaches them, by an ssh that enters the container. `pcilu update` ends
in kexec.target; where systemd would jump, the container boots again, with a new PID 1, another boot
id and an empty /run. In between the stand-in for the kernel hands over what was held until then.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import FULL
from rig import container
from rig.container import FAKE, Container
from rig.fakeluo import REBOOT
from rig.paths import TREE
from rig.pcilu_host import CONFIG, NIC, PORT, Host, bzimage, config_space, initrd

ROLE = TREE / "tools/ansible"
HERE = f"{FAKE} PCILU_SYSROOT=/host"
pytestmark = [
    pytest.mark.skipif(not shutil.which("ansible-playbook"), reason="needs ansible-core"),
    pytest.mark.skipif(not FULL, reason="make test-full boots them")]

# `ssh … HOST COMMAND` as an ssh does it: 255 if there is nobody, or nobody any more.
SSH = """#!/bin/sh
while [ $# -gt 2 ]; do shift; done
nspawn=$(cat {folder}/$1.pid) leader=
for status in $(grep -lsx "PPid:.$nspawn" /proc/[0-9]*/status); do
    read -r comm < ${{status%status}}comm && [ "$comm" = systemd ] && leader=${{status#/proc/}}
done 2>/dev/null
[ "$leader" ] || exit 255
env -i PATH=/usr/local/sbin:/usr/sbin:/usr/bin HOME=/root LC_ALL=C.UTF-8 \\
    nsenter -t ${{leader%/status}} -m -u -i -p -- /bin/sh -c "$2"
rc=$?
[ $rc -lt 128 ] || exit 255
exit $rc
"""

# The owner of a session: has it back after a live update, and preserves it for the next one.
OWNER = f"""#!/bin/sh
export {FAKE}
vmm restore vm-1 >> /test/restored 2>&1
vmm save vm-1
pcilu status --json > /test/up.new && mv /test/up.new /test/up
"""

# systemctl(1) looks into the kernel of this machine whether something is loaded.
SYSTEMCTL = """#!/bin/sh
[ "$1" = kexec ] || exec /usr/bin/systemctl "$@"
exec /usr/bin/systemctl start --no-block --job-mode=replace-irreversibly kexec.target
"""

# systemd-shutdown runs it when it has killed everybody and is about to jump: the stand-in is told.
JUMP = """#!/usr/bin/perl
use Socket;
exit 0 if $ARGV[0] ne "kexec";
socket(S, AF_UNIX, SOCK_SEQPACKET, 0) && connect(S, pack_sockaddr_un("/test/luo"))
    && send(S, pack("LlQQa4096", {op}, 0, 0, 0, ""), 0) && recv(S, $reply, 100, 0) or die $!;
""".replace("{op}", str(REBOOT))

# What systemd-nspawn returns when its container wants to boot again.
AGAIN = 'while "$@" & echo $! > {pid}; wait $!; [ $? = 133 ]; do :; done'


class Box(Container):
    """A host that Ansible reaches."""

    def __init__(self, folder: Path, name: str) -> None:
        (folder / name).mkdir()
        super().__init__(folder / name, OWNER)
        self.name, self.folder = name, folder
        self.moves = False      # does the next kernel move a BAR of the device?
        self.jumps: list[list[str]] = []    # sessions that were held until each
        for unit in ("pcilud", "pcilu-keeper", "pcilu-verify", "pcilu-wait"):
            self.write(f"etc/systemd/system/{unit}.service.d/host.conf",
                       f"[Service]\nEnvironment={HERE}\n")
        self.write("test/pcilu", f'#!/bin/sh\nexport {HERE}\nexec pcilu "$@"\n', 0o755)
        self.write("usr/local/sbin/systemctl", SYSTEMCTL, 0o755)
        self.write("usr/lib/systemd/system-shutdown/jump", JUMP, 0o755)
        self.host = Host(self.root / "host").standard()
        self.host.luo.close()
        self.host.luo = self.luo
        self.loaded = self.luo.kexec_loaded = self.root / "host/sys/kernel/kexec_loaded"
        self.luo.before_reboot = self.jump
        shutil.rmtree(self.root / "host/run")
        (self.root / "host/run").symlink_to("/run")
        self.image(CONFIG)
        with open(folder / f"{name}.console", "w", encoding="utf-8") as console:
            python = Path(sys.executable).resolve()
            self.process = self.boot(
                f"--machine={name}", f"--bind-ro={python}:/usr/bin/python3",
                f"--bind-ro={Path(os.__file__).parent}", stdout=console,
                prefix=("sh", "-c", AGAIN.format(pid=folder / f"{name}.pid"), "-"))

    def image(self, config: str) -> None:
        self.host.write("boot/vmlinuz-7.3.5-next", bzimage(config))
        self.host.write("boot/initrd.img-7.3.5-next", initrd())

    def jump(self) -> None:
        self.jumps.append(sorted(self.luo.outgoing))
        self.luo.kexec()
        self.loaded.write_text("0\n")
        for bdf in (NIC, PORT):
            self.host.write(f"sys/bus/pci/devices/{bdf}/liveupdate/state", "none\n")
        if self.moves:
            self.host.config(NIC, config_space(0x8086, 0x10d3, 0x020000,
                                               bars=[0xfd000000, 0xfe020000]),
                             driver="vfio-pci", state="none", cdev="noiommu-vfio0")

    def close(self) -> None:
        """Its PID 1, which systemd-nspawn would leave behind if it were killed itself."""
        nspawn = (self.folder / f"{self.name}.pid").read_text().strip()
        parent = f"\nPPid:\t{nspawn}\n"
        for pid in (folder.name for folder in Path("/proc").glob("[0-9]*")):
            try:
                if parent in Path(f"/proc/{pid}/status").read_text():
                    os.kill(int(pid), signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):
                pass
        self.process.wait(60)
        self.luo.close()


class Fleet:
    """Two of them, and an inventory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.boxes = [Box(folder, f"host{n}") for n in range(2)]
        ssh = folder / "ssh"
        ssh.write_text(SSH.format(folder=folder))
        ssh.chmod(0o755)
        (folder / "inventory.json").write_text(json.dumps({"all": {
            "hosts": {box.name: {} for box in self.boxes}, "vars": {
                "ansible_connection": "ssh", "ansible_ssh_executable": str(ssh),
                "ansible_ssh_args": "", "ansible_ssh_transfer_method": "piped",
                "ansible_python_interpreter": "/usr/bin/python3", "pcilu_command": "/test/pcilu",
                "pcilu_boot_timeout": 120, "pcilu_finish_timeout": 60}}}))

    def run(self, **variables: Any) -> subprocess.CompletedProcess[str]:
        env = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE")}
        return subprocess.run(
            ["ansible-playbook", "-i", str(self.folder / "inventory.json"),
             str(ROLE / "rollout.yml"), "-e", json.dumps(variables)], text=True,
            capture_output=True, timeout=400,
            env={**env, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"),
                 "ANSIBLE_PIPELINING": "1", "LC_ALL": "C.UTF-8"})

    def jumps(self) -> list[int]:
        return [len(box.jumps) for box in self.boxes]

    def close(self) -> None:
        for box in self.boxes:
            box.close()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    container.needs()
    f = Fleet(tmp_path)
    yield f
    f.close()


@pytest.mark.timeout(1200)
def test_role_rolls_out_over_hosts_that_boot(fleet: Fleet) -> None:
    first, second = fleet.boxes
    for box in fleet.boxes:
        box.host.wait(lambda: (box.test / "up").exists(), 120)
        assert box.sessions("up") == {"vm-1"}
    # One would not take over: the roll-out does not begin, if that is what the operator wants.
    second.image(CONFIG.replace("CONFIG_PCI_LIVEUPDATE=y\n", ""))
    out = fleet.run(pcilu_max_refusals=0)
    assert out.returncode != 0 and fleet.jumps() == [0, 0], out.stdout[-4000:]
    assert "the next kernel lacks" in out.stdout, out.stdout[-4000:]
    assert not first.luo.loads and not second.luo.loads
    # Control: the same hosts, without what was wrong with it. One, and when that is done the other.
    second.image(CONFIG)
    out = fleet.run(pcilu_max_refusals=0)
    assert out.returncode == 0 and fleet.jumps() == [1, 1], out.stdout[-6000:]
    for box in fleet.boxes:
        # All was held until the jump, was compared, and the owner has its memory again.
        assert box.jumps == [["pcilu.snapshot", "pcilud", "vm-1"]]
        assert box.text("restored").splitlines()[-1] == "guest memory"
        assert box.luo.discarded == []
    report = json.loads(second_look(fleet, first, "cat /run/pcilu/verify.json"))
    assert report["ok"] and report["live_updates"] == 1
    done = (first.test / "restored").stat().st_mtime
    assert second.luo.ended["pcilu.snapshot"] > done
    # The next kernel of the first one does not keep everything: the second is not touched.
    for box in fleet.boxes:
        for bdf in (NIC, PORT):
            box.host.write(f"sys/bus/pci/devices/{bdf}/liveupdate/state", "preserved\n")
    first.moves = True
    out = fleet.run()
    assert out.returncode != 0 and fleet.jumps() == [2, 1], out.stdout[-6000:]
    assert "not everything was kept" in out.stdout


def second_look(fleet: Fleet, box: Box, command: str) -> str:
    return subprocess.run([str(fleet.folder / "ssh"), box.name, command], text=True,
                          capture_output=True, check=True).stdout
