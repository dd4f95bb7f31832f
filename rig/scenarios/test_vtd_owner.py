# SPDX-License-Identifier: GPL-2.0
"""Behind VT-d: what owners do in other ways than most, and again and again."""

from __future__ import annotations

import time

import pytest
from test_vtd import BUFFER_LEN, FULL, IOVA, Host, write_from_edu

from rig import console, vtd
from rig.lab import Lab
from rig.nic import PAGE

UPDATES = 20 if FULL else 3


@pytest.mark.console(console.UNIT_ON)
@pytest.mark.matrix([("legacy",), ("scalable",), ("first-stage",)], 1)
def test_vtd_memory_that_is_mapped_by_its_address(vm: Lab, case: tuple[str]) -> None:
    """Of a file that is in the session, but the mapping does not say so."""
    host = Host(vm, mode=case[0])
    agent = host.agent
    agent.do("memory user 2", f"map-user edu0 user {IOVA['other']:#x}")
    host.pages |= agent.pages("user")
    agent.preserve("edu0", "nic0")
    agent.do("preserve s 9 user")
    host.machine.kexec()
    assert host.verdicts() == {"translated"}
    host.retrieve()
    agent.do("retrieve s 9 memory user")
    write_from_edu(agent, IOVA["other"])
    assert agent.peek("user", 0, BUFFER_LEN) == host.pattern
    # Control: it belongs to what was frozen.
    agent.do(f"map edu0 edu0-ram {IOVA['edu0']:#x}")
    assert agent.refused("attach edu0 ioas") == "EINVAL"
    agent.do(f"map-user edu0 user {IOVA['other']:#x}", "attach edu0 ioas",
             f"map-user nic0 nic0-ram {IOVA['nic0']:#x}", "attach nic0 ioas")
    agent.finish()
    write_from_edu(agent, IOVA["other"] + PAGE)
    assert agent.peek("user", PAGE, BUFFER_LEN) == host.pattern
    assert host.received() and host.outside() == []
    unit = vtd.read(host.machine)
    assert unit.faults == [] and unit.switched() == [True]


@pytest.mark.timeout(3600)
@pytest.mark.matrix([("legacy",), ("scalable",), ("first-stage",)], 1)
def test_vtd_updates_in_a_row(vm: Lab, case: tuple[str]) -> None:
    """Each kernel goes on with what the one before has attached."""
    host = Host(vm, mode=case[0], rate=20.0)
    machine, agent = host.machine, host.agent
    used = machine.sh("cat /sys/class/iommu/dmar0/intel-iommu/domains_used").out
    for _ in range(UPDATES):
        host.update()
        assert host.verdicts() == {"translated"}
        host.retrieve()
        host.attach()
        agent.finish()
        agent.poke("edu0-ram", PAGE, bytes(BUFFER_LEN))
        write_from_edu(agent, IOVA["edu0"] + PAGE)
        assert agent.peek("edu0-ram", PAGE, BUFFER_LEN) == host.pattern
        assert machine.sh("cat /sys/class/iommu/dmar0/intel-iommu/domains_used").out == used
    time.sleep(1)
    assert host.received() and host.outside() == []
    unit = vtd.read(machine)
    assert unit.faults == [] and unit.switched() == [True]
