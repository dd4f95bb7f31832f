# SPDX-License-Identifier: GPL-2.0
"""The Ansible role on hosts with a stand-in kernel: the gate, the steps, and when it stops."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import FULL
from rig.paths import TREE
from rig.pcilu_host import CONFIG, NIC, PORT, TOOLS, Host, bzimage, initrd

ROLE = TREE / "tools/ansible"
pytestmark = pytest.mark.skipif(not (TOOLS / "pcilud").exists() or
                                not shutil.which("ansible-playbook"),
                                reason="needs make tools SAN=1 and ansible-core")

# Ansible's own way to this machine is one that it does not reboot.
CONNECTION = """
DOCUMENTATION = "name: standin\\nshort_description: this machine\\ndescription: [for tests]"
from ansible.plugins.connection.local import Connection as Local
class Connection(Local):
    transport = "standin"
"""

# The jump: another boot, a new /run, and what pcilu-verify.service does in it.
SYSTEMCTL = """#!/bin/sh
[ "$1" = kexec ] || exit 0
echo "{name}" >> {log}
{fault}
cp {root}/proc/sys/kernel/random/uuid {root}/proc/sys/kernel/random/boot_id
rm -rf {root}/run/pcilu
echo 0 > {root}/sys/kernel/kexec_loaded
mkdir {root}/run/pcilu
for d in {nic} {port}; do echo none > {root}/sys/bus/pci/devices/$d/liveupdate/state; done
cat > {root}/run/pcilu/verify.json <<-EOF
{verify}
EOF
"""
VERIFY = {"schema": "pcilu/verify", "schema_version": 1, "ok": True, "live_updates": 1,
          "blackouts": []}
FAULTS = {
    "refused": "exit 1",
    "never comes back": "exit 0",
    "not kept": "",
    "not finished": f"left={NIC}",
}
SAYS = {"refused": "systemctl kexec failed", "never comes back": "Timed out",
        "not kept": "not everything was kept", "not finished": "things remain to be done"}


class Fleet:
    """Hosts in folders, and an inventory of them."""

    def __init__(self, folder: Path, faults: dict[str, str], count: int) -> None:
        self.folder, self.log = folder, folder / "jumped"
        self.hosts: dict[str, Host] = {}
        inventory: dict[str, Any] = {}
        for n in range(count):
            name = f"host{n}"
            host = Host(folder / name).standard()
            host.start()
            self.hosts[name] = host
            self.prepare(host, name, faults.get(name, ""))
            wrapper = host.write("bin/pcilu-here", "#!/bin/sh\n" + "".join(
                f"export {key}='{host.env[key]}'\n" for key in (
                    "PCILU_SYSROOT", "PCILU_FAKE_LUO", "LD_PRELOAD", "PATH", "LD_LIBRARY_PATH",
                    "ASAN_OPTIONS")) + f"exec {TOOLS}/pcilu \"$@\"\n")
            os.chmod(wrapper, 0o755)
            inventory[name] = {"pcilu_command": str(wrapper), "pcilu_root": str(host.root)}
        self.inventory = folder / "inventory.json"
        self.inventory.write_text(json.dumps({"all": {
            "hosts": inventory, "vars": {
                "ansible_connection": "standin", "ansible_python_interpreter": "/usr/bin/python3",
                "pcilu_boot_timeout": 6, "pcilu_verify_timeout": 4, "pcilu_finish_timeout": 1}}}))
        plugin = folder / "connection"
        plugin.mkdir()
        (plugin / "standin.py").write_text(CONNECTION)

    def prepare(self, host: Host, name: str, fault: str) -> None:
        host.write("boot/vmlinuz-7.3.5-next", bzimage())
        host.write("boot/initrd.img-7.3.5-next", initrd())
        host.write("proc/sys/kernel/random/boot_id", "before\n")
        host.write("proc/sys/kernel/random/uuid", "after\n")
        (host.root / "run/systemd/system").mkdir(parents=True)
        if fault == "preflight":
            host.write("boot/vmlinuz-7.3.5-next",
                       bzimage(CONFIG.replace("CONFIG_PCI_LIVEUPDATE=y\n", "")))
        text = SYSTEMCTL.format(
            name=name, log=self.log, root=host.root, nic=NIC, port=PORT,
            fault=FAULTS.get(fault, ""),
            verify=json.dumps(VERIFY | {"ok": fault != "not kept"}))
        if fault == "not finished":
            text += f"echo claimed > {host.root}/sys/bus/pci/devices/{NIC}/liveupdate/state\n"
        os.chmod(host.write("bin/systemctl", text), 0o755)

    def run(self, **variables: Any) -> subprocess.CompletedProcess[str]:
        env = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE")}
        return subprocess.run(
            ["ansible-playbook", "-i", str(self.inventory), str(ROLE / "rollout.yml"), "-e",
             json.dumps(variables)], text=True, capture_output=True, timeout=280,
            env={**env, "ANSIBLE_CONNECTION_PLUGINS": str(self.folder / "connection"),
                 "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"), "ANSIBLE_NOCOLOR": "1",
                 "ANSIBLE_REMOTE_TEMP": str(self.folder / "tmp"), "LC_ALL": "C.UTF-8"})

    def jumped(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []

    def close(self) -> None:
        for host in self.hosts.values():
            host.__exit__()


@pytest.fixture
def fleet(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    faults, count = request.param
    f = Fleet(tmp_path, faults, count)
    yield f
    f.close()


@pytest.mark.parametrize("fleet", [({}, 3)], indirect=True)
def test_all_hosts_are_updated_one_first(fleet: Fleet) -> None:
    out = fleet.run()
    assert out.returncode == 0, out.stdout[-4000:] + out.stderr
    assert fleet.jumped()[0] == "host0" and sorted(fleet.jumped()) == ["host0", "host1", "host2"]
    assert out.stdout.count("PLAY [Live update]") == 3      # one, a tenth, the rest


@pytest.mark.parametrize("fleet", [({"host1": "preflight"}, 3)], indirect=True)
def test_host_that_would_not_take_over_is_left_alone(fleet: Fleet) -> None:
    out = fleet.run()
    assert fleet.jumped() == ["host0", "host2"], out.stdout[-4000:]
    assert out.returncode != 0                      # and it is told, and why
    assert "the next kernel lacks" in out.stdout[out.stdout.index("fatal: [host1]"):]
    assert not fleet.hosts["host1"].luo.loads


@pytest.mark.parametrize("fleet", [
    pytest.param(({"host0": fault}, 2), id=fault, marks=pytest.mark.skipif(
        not FULL and fault in ("never comes back", "not finished"), reason="make test-full waits"))
    for fault in FAULTS], indirect=True)
def test_first_failure_stops_it(fleet: Fleet, request: pytest.FixtureRequest) -> None:
    out = fleet.run()
    assert out.returncode != 0 and fleet.jumped() == ["host0"], out.stdout[-4000:]
    fault = request.node.callspec.id
    assert SAYS[fault] in out.stdout[out.stdout.index("fatal:"):], out.stdout[-4000:]


@pytest.mark.parametrize("fleet", [({"host1": "not kept"}, 5)], indirect=True)
def test_failures_below_the_rate_do_not_stop_it(fleet: Fleet) -> None:
    out = fleet.run(pcilu_serial=[1, 2, 2], pcilu_max_fail_percentage=60)
    assert sorted(fleet.jumped()) == sorted(fleet.hosts), out.stdout[-4000:]
    assert out.returncode != 0
