# SPDX-License-Identifier: GPL-2.0
"""A session gives a device to those who may open it, whoever asks first. See also test_session."""

from __future__ import annotations

from rig.agent import Agent
from rig.lab import Lab
from rig.topologies import KEPT
from rig.topology import Topology, nic, root_port

GROUP = "/tmp/cg/vmm"


def test_device_cgroup_is_asked_at_each_retrieve(vm: Lab) -> None:
    """Of the rig's kernels the debug one alone has it."""
    machine = vm(Topology(root_port("rp0", nic(KEPT))), variant="debug")
    agent = Agent(machine).start().take(KEPT)
    agent.preserve(KEPT)
    machine.kexec()
    machine.json(f"pci_cfg bind {machine.topology.bdf[KEPT]}")
    agent.start().do(f"retrieve-session s {agent.name}", f"retrieve s 1 memory {KEPT}-ram")
    number = machine.sh("cat /sys/class/vfio-dev/*/dev").out.strip()
    machine.sh("mkdir /tmp/cg && mount -t cgroup -o devices none /tmp/cg && "
               f"mkdir {GROUP} && echo {agent.pid} >{GROUP}/cgroup.procs")

    def rule(verb: str) -> None:
        machine.sh(f"echo 'c {number} rw' >{GROUP}/devices.{verb}")

    for name in (KEPT, "again"):
        rule("deny")
        assert agent.refused(f"retrieve s 2 device {name}") == "EPERM"
        # Control: it is the rule, and nothing is held against the device or the session.
        rule("allow")
        agent.do(f"retrieve s 2 device {name}")
    agent.do(f"bind {KEPT}", f"attach {KEPT}", f"map {KEPT} {KEPT}-ram")
    agent.finish()
