# SPDX-License-Identifier: GPL-2.0
"""The machines of one scenario: started on demand, stopped and looked at in the end."""

from __future__ import annotations

import re
import shutil
from typing import Any

import pytest

from . import paths, witness
from .machine import Machine, probe_accel
from .topology import Topology


class Lab:
    """Starts machines; at the end it stops them and looks at their consoles."""

    def __init__(self, name: str) -> None:
        self.folder = paths.BUILD / "test" / name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.all: list[Machine] = []
        self.expected: list[str] = []
        self.look_for_leaks = False     # it takes a debug kernel half a minute

    def __call__(self, topology: Topology, *, arch: str = "x86_64", variant: str = "release",
                 kind: type[Machine] = Machine, **options: Any) -> Any:
        image = paths.kernel_dir(arch, variant) / paths.IMAGE[arch]
        if not image.exists():
            pytest.skip(f"no {arch} {variant} kernel: make kernel ARCH={arch} VARIANT={variant}")
        folder = self.folder / str(len(self.all) + 1) if self.all else self.folder
        machine = kind(folder, topology, arch=arch, variant=variant, accel=probe_accel(arch)[0],
                       **options)
        self.all.append(machine)
        return machine.start()

    def expect_splat(self, pattern: str) -> None:
        """This scenario means to cause what the pattern says."""
        self.expected.append(pattern)

    def close(self) -> list[str]:
        """Stop all; return the splats that nobody expected."""
        found = []
        for machine in self.all:
            if self.look_for_leaks and machine.running and machine.idle:
                machine.leaks()
            machine.close()
            found += witness.splats(machine.folder / "console.log")
        return [line for line in found
                if not any(re.search(pattern, line) for pattern in self.expected)]
