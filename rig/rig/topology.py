# SPDX-License-Identifier: GPL-2.0
"""A tree of PCI devices as data: QEMU's arguments for it, and where Linux will find each."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Iterator


PORTS = ("pcie-root-port", "xio3130-downstream")     # bridges with a slot


@dataclass
class Device:
    """One function. `addr` is its place on the parent's bus; None takes the next free slot.

    `root` is the number of the root bus that a host bridge brings along. `needs` are arguments that
    QEMU must have seen before.
    """

    driver: str
    id: str
    props: dict[str, str] = field(default_factory=dict)
    children: list["Device"] = field(default_factory=list)
    addr: str | None = None
    bridge: bool = False
    root: int | None = None
    needs: list[str] = field(default_factory=list)

    def slot(self) -> tuple[int, int]:
        dev, _, func = (self.addr or "0").partition(".")
        return int(dev, 16), int(func or "0", 16)


def root_port(id: str, *children: Device, **kw: str | None) -> Device:
    """A PCIe root port: the only bridge of QEMU with ACS."""
    return Device("pcie-root-port", id, children=list(children), addr=kw.get("addr"), bridge=True)


def downstream(id: str, *children: Device, **kw: str | None) -> Device:
    """A downstream port of a switch."""
    return Device("xio3130-downstream", id, children=list(children), addr=kw.get("addr"),
                  bridge=True)


def switch(id: str, *ports: Device) -> Device:
    """An upstream port with its downstream ports."""
    return Device("x3130-upstream", id, children=list(ports), addr="0", bridge=True)


def pci_bridge(id: str, *children: Device) -> Device:
    """A bridge from PCI Express to conventional PCI. Slot 0 is for a hotplug controller."""
    for n, dev in enumerate(children, 1):
        dev.addr = dev.addr or f"{n:x}"
    return Device("pcie-pci-bridge", id, children=list(children), bridge=True)


def host(id: str, root: int, *children: Device) -> Device:
    """A second host bridge with a root bus of its own. Only ACPI tells Linux of it."""
    return Device("pxb-pcie", id, {"bus_nr": str(root)}, children=list(children), root=root)


def nic(id: str, addr: str | None = None, **props: str) -> Device:
    """An e1000e that gets its frames from the netdev `net-<id>`; no option ROM to boot from."""
    return Device("e1000e", id, {"netdev": f"net-{id}", "romfile": "", **props}, addr=addr)


def igb(id: str, addr: str | None = None, **props: str) -> Device:
    """A Physical Function whose Virtual Functions receive by themselves; needs="igb"."""
    return Device("igb", id, {"netdev": f"net-{id}", "romfile": "", **props}, addr=addr)


def edu(id: str, **props: str) -> Device:
    """QEMU's educational device: conventional PCI, no I/O ports."""
    return Device("edu", id, dict(props))


def registers(id: str, **props: str) -> Device:
    """QEMU's device of test registers: a reset ends the test that is selected."""
    return Device("pci-testdev", id, dict(props))


def nvme(id: str, addr: str | None = None, **props: str) -> Device:
    """A storage controller that is a Physical Function: with SR-IOV and ARI, no VF enabled."""
    return Device("nvme", id, {"serial": id, "subsys": f"subsys-{id}", "max_ioqpairs": "8",
                               "msix_qsize": "9", "sriov_max_vfs": "1", "sriov_vq_flexible": "2",
                               "sriov_vi_flexible": "1", **props},
                  addr=addr, needs=["-device", f"nvme-subsys,id=subsys-{id}"])


def sleeper(id: str) -> Device:
    """A device that sleeps if vfio-pci has it and nobody uses it.

    On the way out it is woken, which takes 20 ms: time for others to do something meanwhile.
    """
    return Device("nvme", id, {"serial": id})


class Topology:
    """Everything on the root bus."""

    FIRST_SLOT = 4     # below it the machine has devices of its own

    def __init__(self, *devices: Device) -> None:
        self.devices = list(devices)
        self._place(self.devices, self.FIRST_SLOT)
        self.bdf: dict[str, str] = {}
        self.parent: dict[str, str | None] = {}
        self._number(self.devices, 0, itertools.count(1), None)

    @staticmethod
    def _place(devices: list[Device], first: int) -> None:
        free = itertools.count(first)
        for dev in devices:
            if dev.addr is None:
                dev.addr = f"{next(free):x}"
            Topology._place(dev.children, 0)

    def _number(self, devices: list[Device], bus: int, free: Iterator[int],
                parent: str | None) -> None:
        """Number buses as firmware and Linux do on a fresh machine: depth first, in slot order."""
        for dev in sorted(devices, key=Device.slot):
            self.bdf[dev.id] = "0000:%02x:%02x.%x" % (bus, *dev.slot())
            self.parent[dev.id] = parent
            if dev.root is not None:
                self._number(dev.children, dev.root, itertools.count(dev.root + 1), None)
            elif dev.bridge:
                self._number(dev.children, next(free), free, dev.id)

    def walk(self) -> Iterator[Device]:
        """Every device, parents first."""
        todo = list(self.devices)
        while todo:
            dev = todo.pop(0)
            yield dev
            todo[:0] = dev.children

    def above(self, id: str) -> list[str]:
        """The ids of the bridges above a device, nearest first."""
        ids = []
        parent = self.parent[id]
        while parent is not None:
            ids.append(parent)
            parent = self.parent[parent]
        return ids

    def bridges(self) -> list[str]:
        """The ids of all bridges, parents first."""
        return [dev.id for dev in self.walk() if dev.bridge]

    def nics(self) -> list[str]:
        """The ids of all devices that take frames."""
        return [dev.id for dev in self.walk() if "netdev" in dev.props]

    def args(self, root: str = "pcie.0") -> list[str]:
        """QEMU's -device arguments. Slot and chassis numbers are unique, as hotplug ports need."""
        out: list[str] = []
        chassis = itertools.count(1)

        def emit(dev: Device, bus: str) -> None:
            props = {"id": dev.id, "bus": bus, "addr": dev.addr or "0", **dev.props}
            if dev.driver in PORTS:
                number = str(next(chassis))
                props.update(chassis=number, slot=number)
            out.extend([*dev.needs, "-device",
                        ",".join([dev.driver] + [f"{k}={v}" for k, v in props.items()])])
            for child in dev.children:
                emit(child, dev.id)

        for dev in self.devices:
            emit(dev, root)
        return out


def demo() -> Topology:
    """The demo's machine: root port, switch, NIC."""
    return Topology(root_port("rp0", switch("up0", downstream("dn0", nic("nic0")))))


def plain() -> Topology:
    """The smallest one: a NIC behind a root port."""
    return Topology(root_port("rp0", nic("nic0")))


def pair() -> Topology:
    """Two NICs, each behind a root port of its own."""
    return Topology(root_port("rp0", nic("nic0")), root_port("rp1", nic("nic1")))
