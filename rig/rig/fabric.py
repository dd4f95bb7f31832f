# SPDX-License-Identifier: GPL-2.0
"""What nobody may write while a device is preserved, and who did: asked of QEMU's trace."""

from __future__ import annotations

import time
from dataclasses import dataclass

from . import config, witness
from .config import Config
from .machine import Machine

ANY, CHANGE, SET = "any write", "a change", "a one"


@dataclass(frozen=True)
class Field:
    """Bits of a register. `forbidden` says which writes to them are one too many."""

    what: str
    offset: int
    size: int
    mask: int
    forbidden: str


@dataclass(frozen=True)
class Disturbance:
    """A write to a field that should have been left alone."""

    id: str
    what: str
    access: witness.Access

    def __str__(self) -> str:
        return f"{self.id}: {self.what}: @{self.access.offset:#x} <- {self.access.value:#x}"


BUS_NUMBERS = Field("bus numbers", 0x18, 3, 0xFFFFFF, ANY)
BUS_MASTER = Field("Bus Master", 0x04, 2, 0x4, CHANGE)
BRIDGE_CONTROL = Field("Bridge Control", 0x3E, 2, 0xFFFF, CHANGE)
# As wide as what the kernel writes at once, or half of it (PCIe r6.0, sec 7.5.1.3)
WINDOWS = [Field("I/O window", 0x1C, 1, 0xF0, CHANGE), Field("I/O window", 0x1D, 1, 0xF0, CHANGE),
           Field("memory window", 0x20, 2, 0xFFF0, CHANGE),
           Field("memory window", 0x22, 2, 0xFFF0, CHANGE),
           Field("prefetchable window", 0x24, 2, 0xFFF0, CHANGE),
           Field("prefetchable window", 0x26, 2, 0xFFF0, CHANGE),
           Field("prefetchable window", 0x28, 4, 0xFFFFFFFF, CHANGE),
           Field("prefetchable window", 0x2C, 4, 0xFFFFFFFF, CHANGE)]


def fields(space: Config, bridge: bool) -> list[Field]:
    """What is watched of a function at or above a preserved one."""
    found = [BUS_MASTER]
    power = space.capability(config.POWER)
    express = space.capability(config.EXPRESS)
    acs = space.extended(config.ACS)
    if bridge:
        found += [BRIDGE_CONTROL, *WINDOWS]
    if power:
        found.append(Field("power state", power + 4, 2, 0x3, CHANGE))
    if acs:
        found.append(Field("ACS", acs + 6, 2, 0xFFFF, ANY))
    if express and bridge:
        found += [Field("ARI forwarding", express + 0x28, 2, 1 << 5, CHANGE),
                  # Payload, request sizes, tags, ordering: not the error reporting
                  Field("Device Control", express + 0x08, 2, 0xFFF0, CHANGE),
                  # ASPM, completion boundary, Link Disable, Retrain, common clock
                  Field("Link Control", express + 0x10, 2, 0x00FB, CHANGE),
                  Field("slot power", express + 0x18, 2, 1 << 10, CHANGE)]
    elif express:
        found.append(Field("FLR", express + 0x08, 2, 1 << 15, SET))
    return found


def written(access: witness.Access, field: Field) -> int | None:
    """The field's new bits if the access reached it.

    The trace does not tell the width of a write. One that begins below the field is taken to reach
    it if the value does.
    """
    low = field.offset - access.offset
    if low <= -field.size or low >= 4 or (low > 0 and not access.value >> 8 * low):
        return None
    value = access.value >> 8 * low if low > 0 else access.value << -8 * low
    return value & field.mask


class Fabric:
    """The bus numbers of all bridges, and the path of the devices `kept`, from now on."""

    def __init__(self, machine: Machine, *kept: str) -> None:
        self.machine = machine
        topology = machine.topology
        bridges = topology.bridges()
        path = {id for device in kept for id in (device, *topology.above(device))}
        spaces = {id: config.read(machine, topology.bdf[id]) for id in path}
        self.watched = {id: fields(spaces[id], id in bridges) if id in path else []
                        for id in {*bridges, *path}}
        for id in bridges:
            self.watched[id].append(BUS_NUMBERS)
        self.before = {(id, field): spaces[id].get(field.offset, field.size) & field.mask
                       for id in path for field in self.watched[id]}
        self.since = time.time()

    def disturbed(self) -> list[Disturbance]:
        """Forbidden writes since, in order."""
        ids = {self.machine.topology.bdf[id].split(":", 1)[1]: id for id in self.watched}
        now = dict(self.before)
        found = []
        for access in witness.read(self.machine).writes_since(self.since):
            id = ids.get(access.bdf, "")
            for field in self.watched.get(id, []):
                bits = written(access, field)
                if bits is None:
                    continue
                if (field.forbidden == ANY or (field.forbidden == SET and bits)
                        or (field.forbidden == CHANGE and bits != now[id, field])):
                    found.append(Disturbance(id, field.what, access))
                now[id, field] = bits
        return found

    def at_first(self, id: str, what: str) -> int:
        """What a field held when this began."""
        return next(bits for (of, field), bits in self.before.items()
                    if of == id and field.what == what)

    def what(self) -> set[str]:
        """The names of the fields that were disturbed."""
        return {disturbance.what for disturbance in self.disturbed()}
