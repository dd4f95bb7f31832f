# SPDX-License-Identifier: GPL-2.0
"""The machines of one scenario: started on demand, stopped and looked at in the end."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from . import console, paths
from .machine import Machine, probe_accel
from .topology import Topology


class Lab:
    """Starts machines; at the end it stops them and looks at their consoles."""

    def __init__(self, name: str) -> None:
        self.folder = paths.EVIDENCE / name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.variant = "release"        # of the kernels of machines that do not say it
        self.all: list[Machine] = []
        self.expected: list[str] = []
        self.look_for_leaks = False     # it takes a debug kernel half a minute
        self.injects_faults = False
        self.drops_allowed = False

    def __call__(self, topology: Topology, *, arch: str = "x86_64", variant: str = "",
                 kind: type[Machine] = Machine, **options: Any) -> Any:
        variant = variant or self.variant
        image = paths.kernel_dir(arch, variant) / paths.IMAGE[arch]
        if not image.exists():
            pytest.skip(f"no {arch} {variant} kernel: make kernel ARCH={arch} VARIANT={variant}")
        folder = self.folder / str(len(self.all) + 1) if self.all else self.folder
        options.setdefault("accel", probe_accel(arch)[0])
        machine = kind(folder, topology, arch=arch, variant=variant, **options)
        self.all.append(machine)
        return machine.start()

    def expect_splat(self, pattern: str) -> None:
        """This scenario means to cause a line of the console that the pattern is found in."""
        self.expected.append(pattern)

    def expect_drops(self) -> None:
        """This scenario means to write what the guard keeps from the hardware."""
        self.drops_allowed = True
        self.expect_splat("a preserved device needs it as it is")

    def close(self) -> list[str]:
        """Stop all; return lines of consoles that are wrong, and what the guards have dropped."""
        found = []
        for machine in self.all:
            if machine.running and machine.idle:
                machine.dropped[machine.boot] = machine.drops()
                if self.look_for_leaks:
                    machine.leaks()
            machine.close()
            if not self.drops_allowed:
                found += [f"boot {boot}: the guard dropped {count} writes to {bdf}"
                          for boot, counts in machine.dropped.items()
                          for bdf, count in counts.items()]
            found += console.read(machine.folder / "console.log", self.expected,
                                  self.injects_faults).wrong
        return found
