# SPDX-License-Identifier: GPL-2.0
"""Any device that vfio-pci can have, preserved and taken back by pci_liveupdate_test."""

from __future__ import annotations

from .machine import Machine, Result
from .topologies import KEPT


class Keeper:
    """One preserved device."""

    def __init__(self, machine: Machine, id: str = KEPT) -> None:
        self.machine = machine
        self.id = id
        self.bdf = machine.topology.bdf[id]
        self.program = (f"PCI_LIVEUPDATE_NAME={id} PCI_LIVEUPDATE_BDF={self.bdf} "
                        "pci_liveupdate_test")

    def preserve(self) -> None:
        """Bind it, set Bus Master, put it into a session that a process in the background holds."""
        self.machine.json(f"pci_cfg bind {self.bdf}")
        self.machine.sh(f"{self.program} -s 1")

    def unpreserve(self) -> None:
        """End the processes of all first stages, and with them their sessions."""
        self.machine.sh("for p in $(pidof pci_liveupdate_test); do kill $p; done; "
                        "while pidof pci_liveupdate_test; do sleep 0.1; done")

    def take_back(self) -> Result:
        """Retrieve the device, compare it with what it was, finish, and let it go (a reset)."""
        return self.machine.sh(f"{self.program} -s 2")


def state(machine: Machine, id: str) -> str:
    """What sysfs says that a device is: none, preserved, incoming, claimed, lost or dead."""
    return machine.sh(f"cat {attribute(machine, id, 'liveupdate/state')}").out.strip()


def functions(machine: Machine) -> dict[str, tuple[str, str, str]]:
    """Every function in sysfs with its IDs and, of a bridge, its bus numbers."""
    return {dev["bdf"]: (dev["vendor"], dev["device"],
                         "{secondary:02x}-{subordinate:02x}".format(**dev["bridge"])
                         if dev["bridge"] else "")
            for dev in machine.json("pci_cfg tree")["devices"]}


def attempt(machine: Machine, path: str, value: str) -> str:
    """Write to an attribute; the name of the errno that came of it, or nothing."""
    return str(machine.run(f"pci_cfg write {path} '{value}'").json().get("errno", ""))


def attribute(machine: Machine, id: str, name: str) -> str:
    """The path of a device's attribute."""
    return f"/sys/bus/pci/devices/{machine.topology.bdf[id]}/{name}"


def driver(machine: Machine, id: str) -> str | None:
    """The driver that has bound a device."""
    return machine.json(f"pci_cfg dump {machine.topology.bdf[id]}")["driver"]


def appears(machine: Machine, bdf: str, seconds: int = 60) -> bool:
    """Does the guest find a device at that address before long?"""
    return machine.run(f"for i in $(seq {2 * seconds}); do test -e /sys/bus/pci/devices/{bdf} && "
                       "exit 0; sleep 0.5; done; exit 1").rc == 0


def rescan(machine: Machine) -> None:
    """Have the kernel look at all buses again."""
    machine.json("pci_cfg rescan")
