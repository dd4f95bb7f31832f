# SPDX-License-Identifier: GPL-2.0
"""Behind VT-d: a device that was released is its next driver's, with the domain of its group.

That domain is not attached while DMA goes on through the frozen one. VFIO would attach one of its
own: it takes a driver of the kernel to see it.
"""

from __future__ import annotations

import time

import pytest
from test_vtd import IOVA, MASTER, MEMORY, Host
from test_vtd_beside import MODES, last_of_all, receives
from test_vtd_failures import functions

from rig import console, vtd, witness
from rig import igb as hw
from rig.agent import Agent
from rig.keeper import attribute, driver
from rig.lab import Lab
from rig.topology import igb

PF = "igb0"


@pytest.mark.console(console.STOPPED)
@pytest.mark.matrix([(mode,) for mode in MODES], 1)
def test_vtd_released_device_is_its_next_drivers_with_its_control(vm: Lab,
                                                                  case: tuple[str]) -> None:
    """Nobody retrieves it: it is stopped and has no entry. The kernel's driver has DMA again, while
    the others go on."""
    mode = case[0]
    host = Host(vm, mode=mode, beside=igb(PF), kind=hw.DriverMachine, needs="igb")
    machine = host.machine
    its = functions(machine, PF)
    other = Agent(machine, "vm1").start().take(PF, iova=IOVA["other"])
    other.set_command(PF, MASTER | MEMORY)
    other.preserve(PF)
    host.update()
    root = vtd.read(machine).roots[-1][1]
    assert host.verdict(PF) == "translated" and host.verdicts() == {"translated"}

    # Control: until it is released no driver gets it, and it has the entry that it had.
    for name in hw.MODULES:
        machine.sh(f"insmod /lib/modules/$(uname -r)/{name}.ko")
    assert driver(machine, PF) is None
    machine.sh(f"rmmod {hw.DRIVER}")
    assert mode != "legacy" or its <= set(vtd.entries(machine, root))

    other.start().do("retrieve-session s vm1", "finish s", "close s")
    stopped = time.time()
    assert witness.read(machine).cleared_master(PF, boot=2)
    # Control: nothing has been attached in place of what it had.
    assert mode != "legacy" or not its & set(vtd.entries(machine, root))
    assert host.accesses(PF, since=stopped) == []
    machine.sh(f"insmod /lib/modules/$(uname -r)/{hw.DRIVER}.ko")
    assert driver(machine, PF) == hw.DRIVER
    kind = machine.sh(f"cat {attribute(machine, PF, 'iommu_group/type')}").out.strip()
    assert kind.startswith("DMA")
    machine.interface(PF, hw.UP)
    machine.carrier(PF)
    receives(machine, PF)
    assert mode != "legacy" or its <= set(vtd.entries(machine, root))
    assert host.accesses(PF, since=stopped)
    # Nothing of what it had: its memory has been given back.
    assert not [access for access in host.accesses(PF, since=stopped)
                if access.iova in range(IOVA["other"], IOVA["other"] + 16 * 4096)]
    last_of_all(host)
