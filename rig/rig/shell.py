# SPDX-License-Identifier: GPL-2.0
"""An interactive machine with the demo's topology: `make shell`, or python3 -m rig.shell -h."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from . import initrd, paths, topologies, topology
from .machine import CONSOLE, LIVE_UPDATE, Machine, probe_accel

TOPOLOGIES = {"demo": topology.demo, "plain": topology.plain, "pair": topology.pair,
              **topologies.NAMED}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default=os.environ.get("ARCH") or "x86_64",
                        choices=sorted(paths.IMAGE))
    parser.add_argument("--variant", default=os.environ.get("VARIANT") or "release")
    parser.add_argument("--kernel", type=Path,
                        help="a build folder other than build/ARCH-VARIANT (it holds the image, "
                             "and next/ with a second one)")
    parser.add_argument("--topology", default="demo", choices=sorted(TOPOLOGIES))
    parser.add_argument("--append", default="", help="more words for the kernel command line")
    parser.add_argument("--accel", choices=["tcg", "kvm"])
    parser.add_argument("qemu", nargs="*", help="after --: more arguments for QEMU")
    args = parser.parse_args()

    tree = TOPOLOGIES[args.topology]()
    accel = args.accel or probe_accel(args.arch)[0]
    machine = Machine(Path(tempfile.gettempdir()), tree, arch=args.arch, variant=args.variant,
                      accel=accel)
    folder = args.kernel or paths.kernel_dir(args.arch, args.variant)
    line = (f"console={CONSOLE[args.arch]} rdinit=/init retain_initrd panic=-1 {LIVE_UPDATE} "
            f"vfio.enable_unsafe_noiommu_mode=1 pcilu.shell {args.append}")
    command = [machine.binary(), *machine._machine_args(), "-accel", accel, "-nodefaults",
               "-nographic", "-no-reboot", "-serial", "mon:stdio",
               "-kernel", str(folder / paths.IMAGE[args.arch]),
               "-initrd", str(initrd.build(args.arch, args.variant, folder=args.kernel)),
               "-append", line]
    for id in tree.nics():
        command += ["-netdev", f"user,id=net-{id},restrict=on"]
    print(f"{args.arch} {args.variant}, {accel}; devices: "
          + ", ".join(f"{id} {bdf}" for id, bdf in tree.bdf.items()), file=sys.stderr)
    os.execvp(command[0], command + tree.args() + args.qemu)


if __name__ == "__main__":
    sys.exit(main())
