# SPDX-License-Identifier: GPL-2.0
"""A kexec that would hang in the shutdown is refused before anybody's device is frozen."""

from __future__ import annotations

import time

import pytest

from rig import console, witness
from rig.agent import Agent
from rig.keeper import attribute
from rig.lab import Lab
from rig.topology import Topology, edu, root_port


@pytest.mark.console(*console.UNBINDING)
def test_hanging_unbind_of_another_device_freezes_nobody(vm: Lab, variant: str) -> None:
    machine = vm(Topology(root_port("rp0", edu("kept")), root_port("rp1", edu("unbound")),
                          root_port("rp2", edu("removed"))), variant=variant)
    tenant = Agent(machine, "tenant").start().take("kept")
    tenant.do("arm kept msi 1")
    tenant.preserve("kept")
    assert machine.load().rc == 0
    others = {
        "unbound": f"pci_cfg unbind {machine.topology.bdf['unbound']}",
        "removed": f"echo 1 >{attribute(machine, 'removed', 'remove')}"}
    for id, command in others.items():
        other = Agent(machine, id).start().take(id)
        machine.sh(f"({command}; touch /tmp/{id}) >/dev/null 2>&1 &")
        time.sleep(1)
        began = time.time()
        refused = machine.jump()
        assert refused is not None and refused.json()["errno"] == "EBUSY"
        # Frozen it would have been silenced, and nobody would have armed it again.
        trace = witness.read(machine)
        assert [w for w in trace.writes("kept", 1, shutdown=None) if w.time > began] == []
        other.do("quit")
        machine.sh(f"while ! test -e /tmp/{id}; do sleep 0.1; done")
    # Control: with the same two gone for good nothing is in the way, and freezing is seen.
    machine.kexec()
    assert witness.read(machine).writes("kept", 1, shutdown=True)
    tenant.take_back("kept")
