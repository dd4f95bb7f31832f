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
systemctl --version > version
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
systemctl stop pcilud 2> stop; echo $? >> stop
systemctl start pcilud
sessions stop
# Again as soon as the first is called off: whoever did that is on its way out.
for n in 1 2 3 4 5; do systemctl stop pcilud; systemctl stop pcilud; done 2> twice
systemctl start pcilud
sessions twice
# Masked, which lets systemd forget what it keeps; when it is not any more, it is told again.
systemctl mask --now pcilud 2> mask; echo $? >> mask
sessions mask
systemctl unmask pcilud
systemctl reload pcilud
killed 9
sessions unmask
dpkg --remove --force-depends pcilu < /dev/null > dpkg 2>&1; echo $? >> dpkg
sessions remove
systemctl start vmm-stop vmm-late
"""

# Masked for a moment, and not told again.
FORGET = """
systemctl mask pcilud && systemctl unmask pcilud
killed 9
sessions forgotten
vmm save vm-3
"""

# Somebody says yes; and then something is preserved anew.
GIVE_UP = """
PCILU_GIVE_UP=yes pcilud --give-up; echo $? > given
systemctl show -P ActiveState pcilud >> given
systemctl show-environment | grep PCILU_GIVE_UP >> given
systemctl start pcilud
sessions given
vmm save vm-2
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


SUITES = pytest.mark.parametrize("suite", [(), pytest.param(("sid",), marks=pytest.mark.skipif(
    not FULL, reason="make test-full runs it"))], ids=["own", "unstable"])


def keeps_over_a_stop(debian: Container) -> bool:
    return int(debian.text("version").split()[1]) >= 254


@SUITES
def test_sessions_live_through_all_and_until_the_jump(tmp_path: Path,
                                                      suite: tuple[str, ...]) -> None:
    debian = Container(tmp_path, BEGIN + TROUBLE + END, *suite)
    write_vmms(debian)
    debian.run()
    assert debian.text("uid").strip() not in ("", "0")
    # From the store of systemd, whatever it was that made it start again.
    for name in ("restarted", "killed", "often", "policy", "user", "socket", "socket-again",
                 "stop", "twice", "mask", "unmask", "remove"):
        assert debian.sessions(f"{name}.json") == {"vm-1", "pcilu.snapshot"}, name
    assert debian.sessions("nobody.json") == set()
    assert debian.text("reload").split() == ["1", "0"]
    assert "the last good one is in force" in debian.text("status")
    # A stop that systemd would not keep them over is called off.
    *message, stopped = debian.text("stop").splitlines()
    assert (stopped == "0") == keeps_over_a_stop(debian)
    assert stopped == "0" or "canceled" in "".join(message)
    assert debian.text("twice").count("canceled") == (0 if keeps_over_a_stop(debian) else 10)
    assert "canceled" in debian.text("mask") and debian.text("mask").split()[-1] == "1"
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
    """And with a yes a stop gives all up, so that it is the refusal which keeps it."""
    debian = Container(tmp_path, BEGIN + FORGET + GIVE_UP + END)
    debian.write("test/no-keeper", "")
    debian.run()
    assert debian.sessions("forgotten.json") == set()
    assert debian.text("given").split() == ["0", "inactive"]
    assert debian.sessions("given.json") == set()
    assert debian.text("keeper") == "inactive\n"
    assert "pcilu-keeper" not in debian.text("survivors")
    for name in ("vm-1", "vm-2", "vm-3"):
        assert name in debian.luo.created and not debian.carried(name)
