# SPDX-License-Identifier: GPL-2.0
"""Which QEMU runs a machine: this host's, or a newer one where that lacks what is needed.

What a QEMU can do is asked of it, and not of its version. QEMU=host or QEMU=new in the environment
chooses one for all.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from typing import Iterable

from . import paths

NAMES = {"x86_64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}

# What a scenario may need: a device, and a property of it under the names it has had.
FEATURES: dict[str, tuple[str, tuple[str, ...]]] = {
    "igb": ("igb", ()),
    "x-scalable-mode": ("intel-iommu", ("x-scalable-mode", "scalable-mode")),
    # An NVMe drive with Virtual Functions can be unplugged. Debian 13's 10.0 ends with an assertion
    # then, and nothing there says so but what came with the repair: a VF's name of its PF.
    "nvme-unplug": ("nvme", ("sriov-pf",)),
    # The SVM of 7.2 kills a guest that never halts, that of 11 does not. No word of QEMU's tells
    # which it is; what stands here came in between.
    "busy-guest": ("nvme", ("sriov-pf",)),
    # A virtio NIC with Virtual Functions, which can do ATS.
    "virtio-sriov": ("virtio-net-pci", ("sriov-pf",)),
    "x-flts": ("intel-iommu", ("x-flts", "fsts")),
}
# Trace events that other versions call otherwise.
RENAMED = {"qdev_reset": ("qdev_reset", "resettable_phase_hold_exec")}
# What the scenarios of a run need altogether, by architecture.
EVERYTHING = {"x86_64": tuple(FEATURES), "arm64": ("igb", "nvme-unplug")}


class QemuError(Exception):
    """There is no QEMU that can do what is needed."""


@functools.cache
def properties(binary: str, device: str) -> frozenset[str] | None:
    """The names of a device's properties; None if this QEMU has no such device."""
    out = subprocess.run([binary, "-device", f"{device},help"], text=True,
                         stdin=subprocess.DEVNULL, capture_output=True).stdout
    if not out.startswith(f"{device} options:"):
        return None
    return frozenset(re.findall(r"^\s+([\w-]+)=", out, re.MULTILINE))


def spelled(binary: str, feature: str) -> str | None:
    """How this QEMU calls a feature: the device or the property; None if it lacks it."""
    device, names = FEATURES[feature]
    known = properties(binary, device)
    if known is None:
        return None
    return next((name for name in names if name in known), None) if names else device


def lacking(binary: str, needs: Iterable[str]) -> list[str]:
    """What of it this QEMU cannot do."""
    if not shutil.which(binary):
        return list(needs) or [binary]
    return [feature for feature in needs if spelled(binary, feature) is None]


@functools.cache
def _events(binary: str) -> frozenset[str]:
    out = subprocess.run([binary, "-trace", "help"], check=True, text=True,
                         stdin=subprocess.DEVNULL, capture_output=True).stdout
    return frozenset(out.split())


def traceable(binary: str, events: Iterable[str]) -> list[str]:
    """The events as this QEMU has them. One without a name of ours would be missed in silence."""
    found = []
    for event in events:
        names = RENAMED.get(event, (event,))
        here = next((name for name in names if name in _events(binary)), None)
        if here is None:
            raise QemuError(f"{binary} has no trace event {event}")
        found.append(here)
    return found


@functools.cache
def new(arch: str) -> str:
    """The newer QEMU; the first time its root is made, which takes a minute."""
    made = subprocess.run([str(paths.TREE / "scripts/qemu-root")], text=True, capture_output=True)
    if made.returncode:
        raise QemuError(made.stderr.strip())
    return f"{made.stdout.strip()}/wrapped/{NAMES[arch]}"


def binary(arch: str, needs: Iterable[str] = ()) -> str:
    """The QEMU for a machine that needs these features."""
    choice = os.environ.get("QEMU") or "auto"
    if choice not in ("auto", "host", "new"):
        raise QemuError(f"QEMU={choice} is unknown: use host or new")
    missing = lacking(NAMES[arch], needs)
    if choice == "host" and missing:
        raise QemuError(f"{NAMES[arch]} of this host lacks {' '.join(missing)}: run without "
                        "QEMU=host")
    if choice == "host" or (choice == "auto" and not missing):
        return NAMES[arch]
    missing = lacking(new(arch), needs)
    if missing:
        raise QemuError(f"{new(arch)} lacks {' '.join(missing)}")
    return new(arch)


def version(arch: str) -> str:
    """The version line of the emulator for machines without special needs."""
    return subprocess.run([binary(arch), "--version"], check=True, text=True,
                          stdout=subprocess.PIPE).stdout.splitlines()[0]


def main() -> int:
    """Make what a test run will need: python3 -m rig.qemu."""
    for arch, needs in EVERYTHING.items():
        try:
            print(f"qemu: {arch}: {version(arch)}; for {' '.join(needs)}: {binary(arch, needs)}")
        except QemuError as error:
            print(f"qemu: error: {error}", file=sys.stderr)
            if os.environ.get("QEMU") != "host":    # who wants it so is told by the scenarios
                return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
