# SPDX-License-Identifier: GPL-2.0
"""Virtual Functions in the guest: enabled, and known to the rig by names of their own."""

from __future__ import annotations

from . import config, topology, witness
from .keeper import attribute
from .machine import Machine
from .topology import Device

STUB = "pci-pf-stub"
SRIOV, CONTROL = 0x10, 0x08         # the capability and SR-IOV Control (PCIe r6.0, sec 9.3.3)
ENABLE, ARI = 0x1, 0x10
FLR = 0x8000                        # in Device Control
LEFT_ON = "driver left SR-IOV enabled after remove"


def controller(id: str, vfs: int, addr: str | None = None, **props: str) -> Device:
    """An NVMe controller with as many Virtual Functions as that, none of them enabled."""
    return topology.nvme(id, addr, **{
        "sriov_max_vfs": str(vfs), "sriov_vq_flexible": str(2 * vfs),
        "sriov_vi_flexible": str(vfs), "max_ioqpairs": str(2 * vfs + 2),
        "msix_qsize": str(vfs + 1), **props})


def enable(machine: Machine, pf: str, count: int, driver: str = STUB) -> list[str]:
    """Enable Virtual Functions of a device under a driver; their names, in the topology, too.

    A driver that has bound it keeps it, with what its user has done.
    """
    machine.json(f"pci_cfg bind {machine.topology.bdf[pf]} {driver}")
    machine.sh(f"echo {count} >{attribute(machine, pf, 'sriov_numvfs')}")
    names = []
    for number, bdf in enumerate(links(machine, pf)):
        names.append(f"{pf}-vf{number}")
        machine.topology.bdf[names[-1]] = bdf
        machine.topology.parent[names[-1]] = machine.topology.parent[pf]
    assert len(names) == count
    return names


def links(machine: Machine, pf: str) -> list[str]:
    """Where the Virtual Functions of a device are, by its links to them; they link back."""
    found = machine.sh(f"cd {attribute(machine, pf, '')}; for n in $(seq 0 255); do "
                       "test -e virtfn$n || break; basename $(readlink virtfn$n); done").out.split()
    for bdf in found:
        back = machine.sh(f"basename $(readlink /sys/bus/pci/devices/{bdf}/physfn)").out.strip()
        assert back == machine.topology.bdf[pf]
    return found


def enabled(machine: Machine, pf: str) -> int:
    """How many the kernel says there are."""
    return int(machine.sh(f"cat {attribute(machine, pf, 'sriov_numvfs')}").out)


def resources(machine: Machine, *ids: str) -> dict[str, str]:
    """The addresses of functions as this kernel sees them: where resources start and end."""
    return {id: machine.sh(f"cut -d' ' -f1,2 {attribute(machine, id, 'resource')}").out
            for id in ids}


def control(machine: Machine, id: str) -> int:
    """Where SR-IOV Control is."""
    at = config.read(machine, machine.topology.bdf[id]).extended(SRIOV)
    assert at
    return at + CONTROL


def device_control(machine: Machine, id: str) -> int:
    """Where Device Control is."""
    at = config.read(machine, machine.topology.bdf[id]).capability(config.EXPRESS)
    assert at
    return at + 8


def control_writes(machine: Machine, id: str, boot: int) -> list[int]:
    """What SR-IOV Control of a Physical Function was written, also as a kernel left."""
    at = control(machine, id)
    return [w.value for w in witness.read(machine).writes(id, boot, shutdown=None)
            if w.offset == at]


def resets(machine: Machine, id: str, boot: int) -> int:
    """How often a function was told to reset itself."""
    at = device_control(machine, id)
    return len([w for w in witness.read(machine).writes(id, boot, shutdown=None)
                if w.offset == at and w.value & FLR])
