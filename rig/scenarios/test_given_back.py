# SPDX-License-Identifier: GPL-2.0
"""After a live update, or many, a device has what a boot gives it."""

from __future__ import annotations

import pytest
from conftest import FULL

from rig import config, console
from rig.agent import Agent
from rig.keeper import Keeper, attempt, attribute, state
from rig.lab import Lab
from rig.machine import LIVE_UPDATE, Machine
from rig.topologies import KEPT
from rig.topology import Topology, downstream, nic, nvme, root_port, switch

UPDATES = 10 if FULL else 2
LEFT_OUT = {"sriov_numvfs", "sriov_totalvfs", "sriov_drivers_autoprobe"}


def features(machine: Machine, id: str) -> dict[str, str]:
    """Attributes that a function has, and what its ACS and AER are set to."""
    folder = attribute(machine, id, "")
    names = machine.sh(f"cd {folder}; ls -d * link/* 2>/dev/null || :").out.split()
    found = {name: "" for name in names
             if not name.startswith(("driver", "vfio-dev", "iommu", "waiting_for_supplier"))}
    space = config.read(machine, machine.topology.bdf[id])
    for name, cap, at in (("ACS", 0x0D, 0x06), ("AER", 0x01, 0x14), ("ATS", 0x0F, 0x06)):
        where = space.extended(cap)
        if where:
            found[name] = hex(space.get(where + at, 2))
    return found


def links(machine: Machine) -> dict[str, set[str]]:
    """What can be said of the power of the link above each function, if it is managed."""
    return {id: set(machine.sh(f"ls {attribute(machine, id, 'link')} 2>/dev/null || :").out.split())
            for id in machine.topology.bdf}


def test_device_is_given_back_after_updates_in_a_row(vm: Lab) -> None:
    machine = vm(Topology(root_port("rp0", nvme(KEPT))),
                 cmdline=f"{LIVE_UPDATE} vfio_pci.enable_sriov=1")
    keeper = Keeper(machine)
    before = {id: features(machine, id) for id in (KEPT, "rp0")}
    assert before[KEPT].keys() >= LEFT_OUT
    for boot in range(UPDATES):
        keeper.preserve()
        machine.kexec("next" if boot % 2 == 0 else "kernel")
        # Control: as long as nobody has it back, it is left without.
        assert not features(machine, KEPT).keys() & LEFT_OUT
        keeper.take_back()
        assert state(machine, KEPT) == "none"
        for id, was in before.items():
            assert features(machine, id).items() ^ was.items() == set(), id
    numvfs = attribute(machine, KEPT, "sriov_numvfs")
    assert attempt(machine, numvfs, "1") == ""
    assert "virtfn0" in features(machine, KEPT)


@pytest.mark.console(console.STOPPED)
def test_stopped_device_is_given_back_to_its_next_driver(vm: Lab) -> None:
    """Nobody retrieved it; and the links on the way to it are managed again."""
    tree = Topology(root_port("rp0", switch("up0", downstream("dn0", nvme(KEPT)),
                                            downstream("dn1", nic("nic0")))))
    machine = vm(tree, cmdline=f"{LIVE_UPDATE} pcie_aspm=force")
    bdf = machine.topology.bdf[KEPT]
    before, managed = features(machine, KEPT), links(machine)
    machine.json(f"pci_cfg bind {bdf}")
    agent = Agent(machine).start()
    agent.do(f"open {KEPT} {bdf}", f"bind {KEPT}", "session s s", f"preserve s 1 {KEPT}")
    machine.kexec(extra="pcie_aspm=force")
    # Control: neither is there meanwhile.
    assert links(machine)[KEPT] == set() != managed[KEPT]
    assert not features(machine, KEPT).keys() & LEFT_OUT
    agent.start().do("retrieve-session s s", "finish s", "quit")
    assert not features(machine, KEPT).keys() & LEFT_OUT
    machine.json(f"pci_cfg bind {bdf} pci-stub")
    assert features(machine, KEPT) == before
    assert links(machine) == managed
