# SPDX-License-Identifier: GPL-2.0
"""Where the build leaves what the rig needs."""

from __future__ import annotations

import os
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("PCILU_BUILD", TREE / "build")).resolve()
EVIDENCE = Path(os.environ.get("PCILU_EVIDENCE", BUILD / "test")).resolve()
GUEST = TREE / "rig" / "guest"
FETCH_DEB = TREE / "scripts" / "fetch-deb"

IMAGE = {"x86_64": "bzImage", "arm64": "Image"}


def kernel_dir(arch: str, variant: str) -> Path:
    """The folder that `make kernel ARCH=… VARIANT=…` leaves."""
    return BUILD / f"{arch}-{variant}"


def guest_dir(arch: str) -> Path:
    """The folder with the static guest programs."""
    return BUILD / f"{arch}-guest"
