# SPDX-License-Identifier: GPL-2.0
"""The trees that scenarios choose from by name. In each, the device to preserve is called kept."""

from __future__ import annotations

import os
import random
from typing import Callable

from . import qemu
from .topology import (Device, Topology, downstream, edu, host, igb, nic, nvme, pci_bridge,
                       root_port, switch)

KEPT = "kept"


def flat() -> Topology:
    """Preserved is what has no bridge above it; root ports with and without a device beside it."""
    return Topology(nic(KEPT), edu("edu0"), root_port("rp0", nic("nic0")), root_port("rp1"),
                    root_port("rp2", nic("nic1")))


def switched() -> Topology:
    """Several endpoints below one switch, and another root port beside."""
    return Topology(root_port("rp0", switch(
        "up0", downstream("dn0", nic("nic0")), downstream("dn1", nic(KEPT)), downstream("dn2"))),
        root_port("rp1", nic("nic1")))


def two_hosts() -> Topology:
    """What is preserved is below the second host bridge."""
    return Topology(root_port("rp0", nic("nic0")),
                    host("host1", 0x80,
                         root_port("rp1", switch("up1", downstream("dn1", nic(KEPT)))),
                         root_port("rp2", nic("nic1"))))


def conventional() -> Topology:
    """A conventional device behind a bridge, an Express one below the next root port."""
    return Topology(root_port("rp0", pci_bridge("br0", edu(KEPT), edu("edu0"))),
                    root_port("rp1", nic("nic0")))


def ari() -> Topology:
    """A device of several functions with ARI, below ports that forward by it.

    QEMUs that have igb keep function 1 beside an NVMe controller for its Virtual Function, and
    do not say that another one follows, as long as they are not told.
    """
    newer = os.environ.get("QEMU") == "new" or not qemu.lacking(qemu.NAMES["x86_64"], ["igb"])
    first = (igb("igb0", "0.0", multifunction="on", **{"x-pcie-ari-nextfn-1": "on"}) if newer else
             nvme("nvme0", "0.0", multifunction="on"))
    return Topology(
        root_port("rp0", switch("up0", downstream("dn0", first, nic(KEPT, addr="0.1")))),
        root_port("rp1", nic("nic0", addr="0.0", multifunction="on"), nic("nic1", addr="0.1")))


def deep() -> Topology:
    """Six levels of bridges."""
    return Topology(root_port("rp0", switch("up0", downstream("dn0", switch("up1", downstream(
        "dn1", pci_bridge("br0", edu(KEPT))), downstream("dn2", nic("nic0")))))),
        root_port("rp1", nic("nic1")))


def randomised(seed: int) -> Topology:
    """Up to twelve bridges and four NICs, nested as chance has it; the same for the same seed."""
    chance = random.Random(seed)
    bridges, nics = [12], [4]
    count = {"rp": 0, "up": 0, "dn": 0, "br": 0, "nic": 0, "edu": 0}

    def name(kind: str) -> str:
        count[kind] += 1
        return f"{kind}{count[kind] - 1}"

    def endpoint() -> Device:
        if nics[0] and chance.random() < 0.5:
            nics[0] -= 1
            return nic(name("nic"))
        return edu(name("edu"))

    def below(depth: int) -> list[Device]:
        """What is in the slot of a port."""
        kind = chance.choice(["empty", "endpoint", "endpoint", "switch", "switch", "bridge"])
        if kind == "empty":
            return []
        if kind == "switch" and bridges[0] >= 3 and depth < 5:
            bridges[0] -= 1
            return [switch(name("up"), *(port(downstream, "dn", depth + 2)
                                         for _ in range(chance.randint(1, 3)) if bridges[0]))]
        if kind == "bridge" and bridges[0]:
            bridges[0] -= 1
            return [pci_bridge(name("br"), *(edu(name("edu"))
                                             for _ in range(chance.randint(0, 2))))]
        return [endpoint()]

    def port(make: Callable[..., Device], kind: str, depth: int) -> Device:
        bridges[0] -= 1
        return make(name(kind), *below(depth))

    tree = [port(root_port, "rp", 1) for _ in range(chance.randint(2, 4)) if bridges[0]]
    tree.append(root_port(name("rp"), nic("nic-last")))
    leaves = [dev for dev in Topology(*tree).walk() if not dev.bridge]
    kept = chance.choice(leaves)
    kept.id = KEPT
    if "netdev" in kept.props:
        kept.props["netdev"] = f"net-{KEPT}"
    return Topology(*tree)


NAMED: dict[str, Callable[[], Topology]] = {
    "flat": flat, "switched": switched, "two-hosts": two_hosts, "conventional": conventional,
    "ari": ari, "deep": deep}


def named(name: str) -> Topology:
    """A tree by its name; random-SEED is a randomised one."""
    kind, _, seed = name.partition("-")
    return randomised(int(seed)) if kind == "random" else NAMED[name]()


def suits(name: str, arch: str) -> bool:
    """Can this architecture's machine have that tree?"""
    return name != "two-hosts" or arch == "x86_64"
