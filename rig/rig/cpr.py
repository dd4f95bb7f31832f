# SPDX-License-Identifier: GPL-2.0
"""What QEMU's CPR hands to a successor, by way of somebody who is none (docs/other-vmms.md).

As a program this is the cpr-exec-command: it writes down what it was given, and ends. What stands
for the kexec is that no process and no descriptor is left; for the session, files in a folder.
"""

from __future__ import annotations

import os
import shutil
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "QEMU_CPR_EXEC_STATE"
MAGIC, VERSION = 0x51435052, 1
# After the descriptors: a subsection (5) by its name, of a version, whose list of devices is empty
NO_DEVICES = b"\5\x15CprState/vfio devices" + struct.pack(">I", 1) + b"\0"
STATE = "state"


@dataclass(frozen=True)
class Handed:
    """A descriptor, as the new QEMU asks for it."""

    name: str
    id: int
    fd: int


def parse(raw: bytes) -> tuple[list[Handed], bytes]:
    """The descriptors, and what comes after them."""
    head = struct.unpack_from(">II", raw)
    assert head == (MAGIC, VERSION), head
    found, at = [], 8
    while raw[at] == 1:
        length, = struct.unpack_from(">I", raw, at + 1)
        name = raw[at + 5:at + 5 + length]
        assert name.endswith(b"\0"), name
        at += 5 + length
        found.append(Handed(name[:-1].decode(), *struct.unpack_from(">ii", raw, at)))
        at += 8
    assert raw[at] == 0, raw[at:]
    return found, raw[at + 1:]


def build(handed: list[Handed], rest: bytes) -> bytes:
    """The same the other way round."""
    raw = struct.pack(">II", MAGIC, VERSION)
    for one in handed:
        name = one.name.encode() + b"\0"
        raw += b"\1" + struct.pack(">I", len(name)) + name + struct.pack(">ii", one.id, one.fd)
    return raw + b"\0" + rest


def keep(folder: Path) -> None:
    """What QEMU hands over, as files. In the state their numbers stand for descriptors."""
    with open(int(os.environ[VARIABLE]), "rb") as file:
        file.seek(0)
        handed, rest = parse(file.read())
    kept = []
    for number, one in enumerate(handed):
        with open(one.fd, "rb") as memory, open(folder / str(number), "wb") as copy:
            memory.seek(0)
            shutil.copyfileobj(memory, copy)
        kept.append(Handed(one.name, one.id, number))
    (folder / STATE).write_bytes(build(kept, rest))


def offer(folder: Path, without: str = "") -> tuple[list[int], dict[str, str]]:
    """New memfds with what was kept, and an environment: for who starts the new QEMU."""
    handed, rest = parse((folder / STATE).read_bytes())
    given = []
    for one in (one for one in handed if one.name != without):
        fd = os.memfd_create(one.name.replace("/", "_"), 0)
        with open(folder / str(one.fd), "rb") as copy, open(fd, "wb", closefd=False) as memory:
            shutil.copyfileobj(copy, memory)
        given.append(Handed(one.name, one.id, fd))
    state = os.memfd_create(STATE, 0)
    os.write(state, build(given, rest))
    return [state, *(one.fd for one in given)], {**os.environ, VARIABLE: str(state)}


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
