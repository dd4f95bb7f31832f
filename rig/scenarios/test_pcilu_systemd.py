# SPDX-License-Identifier: GPL-2.0
"""The packages under a real systemd: a Debian in a container, with a stand-in for the kernel.

What a unit may do, what systemd keeps over a restart, and who lives how long when the machine is
shut down are systemd's to decide, so it is asked.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import FULL
from rig import container
from rig.container import FAKE, Container

# Run in the container when it is up; what they find out goes to /test.
BEGIN = f"#!/bin/sh\nexport {FAKE}\n" + """
main() { systemctl show -P MainPID pcilud; }
up() { [ "$(systemctl is-active pcilud)" = active ] && now=$(main) && [ $now != 0 ] &&
    [ $now != "$1" ]; }
# What ends it without systemctl; systemd starts it again.
killed() { old=$(main); kill -$1 $old; until up $old; do sleep 0.1; done; }
sessions() { pcilu status --json > $1.json; }
cd /test
vmm save vm-1 && pcilu snapshot
sed -n 's/^Uid:\\t\\([0-9]*\\).*/\\1/p' /proc/$(main)/status > uid
systemctl restart pcilud
sessions restarted
killed 9
sessions killed
LD_PRELOAD= PCILU_FAKE_LUO= setpriv --reuid=65534 --clear-groups pcilu status --json > nobody.json
"""

TROUBLE = """
# A clean exit, and more starts than systemd allows by default.
killed TERM
for n in 1 2 3 4 5 6 7; do killed 9; done
sessions often
# A policy with a mistake is refused by reload, and does not stop a restart.
policy=/etc/pcilu/pcilud.policy
cp $policy good
echo 'user root eat *' >> $policy
systemctl reload pcilud; echo $? > reload
systemctl restart pcilud
sessions policy
systemctl show -P StatusText pcilud > status
cp good $policy
systemctl reload pcilud; echo $? >> reload
# Its user is gone.
cp /etc/passwd passwd
sed -i /pcilud/d /etc/passwd
systemctl restart pcilud
sessions user
cp passwd /etc/passwd
systemctl restart pcilud
systemctl stop pcilud.socket
sessions socket
systemctl restart pcilud
sessions socket-again
dpkg --remove --force-depends pcilu < /dev/null > dpkg 2>&1; echo $? >> dpkg
sessions remove
systemctl start vmm-stop vmm-late
"""

STOP = """
systemctl --version > version
systemctl stop pcilud
systemctl show -P ActiveState pcilud > stopped
systemctl start pcilud
sessions stopped
"""

END = """
[ -e no-keeper ] || systemctl start pcilu-keeper
systemctl is-active pcilu-keeper > keeper
systemctl show -P ActiveState -P SubState -P Result pcilud pcilud.socket pcilu-verify > units
systemctl poweroff
"""

# As docs/vmm.md says, and the other way round.
VMM = """[Unit]
{order}=pcilud.service
[Service]
Type=oneshot
RemainAfterExit=yes
Environment={fake}
ExecStart=/bin/true
ExecStop=/usr/bin/vmm save {name}
"""


@pytest.fixture(autouse=True)
def needs() -> None:
    container.needs()


def write_vmms(debian: Container) -> None:
    for name, order in (("vmm-stop", "After"), ("vmm-late", "Before")):
        debian.write(f"etc/systemd/system/{name}.service",
                     VMM.format(order=order, name=name, fake=FAKE))


def test_sessions_live_through_all_and_until_the_jump(tmp_path: Path) -> None:
    debian = Container(tmp_path, BEGIN + TROUBLE + END)
    write_vmms(debian)
    debian.run()
    assert debian.text("uid").strip() not in ("", "0")
    # From the store of systemd, whatever it was that made it start again.
    for name in ("restarted", "killed", "often", "policy", "user", "socket", "socket-again",
                 "remove"):
        assert debian.sessions(f"{name}.json") == {"vm-1", "pcilu.snapshot"}, name
    assert debian.sessions("nobody.json") == set()
    assert debian.text("reload").split() == ["1", "0"]
    assert "the last good one is in force" in debian.text("status")
    assert "session 'vm-1' of user 0 would be lost" in debian.text("dpkg")
    assert debian.text("dpkg").split()[-1] == "1"
    assert debian.text("keeper") == "active\n"
    assert "failed" not in debian.text("units")
    # When all units were stopped and everybody was killed, the keeper was there, and with it they.
    assert "@pcilu-keeper" in debian.text("survivors")
    # Also what was preserved while its VMM was stopped. Control: one that is stopped after pcilud.
    assert debian.carried("vm-1") and debian.carried("vmm-stop")
    assert not debian.carried("vmm-late")


def test_control_without_the_keeper_sessions_end_before_the_jump(tmp_path: Path) -> None:
    debian = Container(tmp_path, BEGIN + END)
    debian.write("test/no-keeper", "")
    debian.run()
    assert debian.text("keeper") == "inactive\n"
    assert "pcilu-keeper" not in debian.text("survivors")
    assert "vm-1" in debian.luo.created and not debian.carried("vm-1")


@pytest.mark.skipif(not FULL, reason="make test-full runs it")
@pytest.mark.parametrize("suite,keeps", [((), False), (("sid",), True)], ids=["own", "unstable"])
def test_stopped_daemon_gets_its_sessions_from_a_later_systemd(tmp_path: Path,
                                                               suite: tuple[str, ...],
                                                               keeps: bool) -> None:
    """From systemd 254 on. Control: the one of Debian 12 gives them up when the unit is stopped."""
    debian = Container(tmp_path, BEGIN + TROUBLE + STOP + END, *suite)
    write_vmms(debian)
    debian.run()
    version = int(debian.text("version").split()[1])
    if not suite and version >= 254:
        pytest.skip(f"this Debian has systemd {version}")
    assert debian.text("stopped") == "inactive\n"
    assert debian.sessions("stopped.json") == ({"vm-1", "pcilu.snapshot"} if keeps else set())
    for name in ("restarted", "killed", "often", "policy", "user", "socket", "socket-again"):
        assert debian.sessions(f"{name}.json") == {"vm-1", "pcilu.snapshot"}, name
    assert debian.carried("vmm-stop") and debian.carried("vm-1") == keeps
