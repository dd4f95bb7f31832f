# SPDX-License-Identifier: GPL-2.0
"""What a live update costs, in counts that do not depend on the machine: `make bench`.

Each size is run three times: with all functions preserved, with none, and on the stock kernel from
the same source. The guest's clock counts instructions (-icount shift=0, one CPU), so that what the
kernel prints as time is their number; its idle time counts too, as if it had spun. Config accesses
are read from QEMU's trace. Nothing here is compared with a time of the host.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import sys
from dataclasses import dataclass, field
from typing import Any

from . import paths, witness
from .machine import LIVE_UPDATE, Machine, qemu_version
from .topology import Device, Topology

FOLDER = paths.BUILD / "bench"
VENDOR_DEVICE = "1b36 0011"     # pvpanic-pci: one memory BAR, no interrupt, no ROM
KINDS = ("preserved", "unused", "stock")
LABEL = {"preserved": "all preserved", "unused": "none preserved", "stock": "stock kernel"}
CLOCK = ["-icount", "shift=0,sleep=off"]
LOG = "initcall_debug loglevel=3 log_buf_len=16M printk.time=1"

# Initcalls that enumerate, assign and fix up; the first contains ACPI's scan of its hosts.
ENUMERATION = ("acpi_init", "pci_subsys_init", "pcibios_assign_resources",
               "pci_apply_final_quirks", "pcie_portdrv_init")
INITCALL = re.compile(r"\[ *(\d+)\.(\d+)\] (?:calling  |initcall )(\w+)\+")
RUN_INIT = re.compile(r"\[ *(\d+)\.(\d+)\] Run /init as init process")

# Registers of a bridge that decide what reaches the devices below, in the type 1 header and in
# capabilities (0x1...: extended): offset, length, and which bits do. 0: all, and any write counts.
# Of the others, only a write that changes such a bit does: their other bits are the port services'.
FABRIC_HEADER = ((0x04, 1, 0x07), (0x10, 8, 0), (0x18, 3, 0), (0x1C, 2, 0), (0x20, 20, 0),
                 (0x38, 4, 0), (0x3E, 1, 0x5C))
FABRIC_CAPS = {0x01: ((0x04, 1, 0x03),),
               0x10: ((0x08, 1, 0xE0), (0x10, 1, 0x30), (0x19, 1, 0x0C), (0x28, 1, 0xA0)),
               0x1000D: ((0x06, 2, 0),)}


def many(n: int) -> Topology:
    """n functions, eight to a root port and eight root ports to a slot: what QEMU holds best."""
    ports = []
    for port in range((n + 7) // 8):
        below = [Device("pvpanic-pci", f"fn{port * 8 + i}",
                        {"multifunction": "on"} if i == 0 else {}, addr=f"0.{i}")
                 for i in range(min(8, n - port * 8))]
        props = {"io-reserve": "0"}
        if port % 8 == 0:
            props["multifunction"] = "on"
        ports.append(Device("pcie-root-port", f"rp{port}", props, below,
                            addr=f"{Topology.FIRST_SLOT + port // 8:x}.{port % 8}", bridge=True))
    return Topology(*ports)


def fabric_bits(config: bytes) -> dict[int, int]:
    """The bytes of a bridge's config space that hold fabric fields, and which bits do."""
    spans = list(FABRIC_HEADER)
    at = config[0x34]
    while at >= 0x40:
        spans += [(at + reg, *rest) for reg, *rest in FABRIC_CAPS.get(config[at], ())]
        at = config[at + 1]
    at = 0x100 if len(config) > 0x100 else 0
    while at:
        header = int.from_bytes(config[at:at + 4], "little")
        spans += [(at + reg, *rest)
                  for reg, *rest in FABRIC_CAPS.get(0x10000 | header & 0xFFFF, ())]
        at = header >> 20
    return {offset: bits for start, size, bits in spans
            for offset in range(start, start + size)}


def is_fabric_write(write: witness.Access, fabric: dict[int, int], config: bytes) -> bool:
    """Does it write a fabric register, or change a fabric bit from what it is in the end?"""
    for n in range(max(1, (write.value.bit_length() + 7) // 8)):
        bits = fabric.get(write.offset + n)
        if bits == 0 or (bits and (write.value >> 8 * n ^ config[write.offset + n]) & bits):
            return True
    return False


def floor_reads(config: bytes) -> int:
    """Reads that any enumeration must make: the header once, and each capability's head."""
    count, at = 16, config[0x34]
    while at >= 0x40:
        count, at = count + 1, config[at + 1]
    at = 0x100 if len(config) > 0x100 else 0
    while at:
        count, at = count + 1, int.from_bytes(config[at:at + 4], "little") >> 20
    return count


@dataclass
class Outcome:
    """One machine: what its incoming boot cost."""

    boot: int = 0
    enumeration: int = 0
    initcalls: dict[str, int] = field(default_factory=dict)
    endpoint: dict[str, float] = field(default_factory=dict)
    bridge: dict[str, float] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    guard: int = 0


def means(rows: list[dict[str, int]]) -> dict[str, float]:
    return {key: round(statistics.mean(row[key] for row in rows), 2) for key in rows[0]}


def count_accesses(machine: Machine, outcome: Outcome) -> None:
    """Config accesses of the incoming boot, until its user space answers."""
    trace = witness.Trace(machine.folder / "trace.log", machine.topology, machine.booted_at[1])
    rows: dict[bool, list[dict[str, int]]] = {True: [], False: []}
    floors: dict[bool, int] = {}
    for dev in machine.topology.walk():
        writes = trace.writes(dev.id, 2)
        row = {"reads": trace.reads(dev.id, 2), "writes": len(writes)}
        if dev.bridge or not rows[False]:
            bdf = machine.topology.bdf[dev.id]
            config = bytes.fromhex(machine.sh(
                f"od -An -v -tx1 /sys/bus/pci/devices/{bdf}/config | tr -d ' \\n'").out)
            floors[dev.bridge] = floor_reads(config)
        row["floor"] = floors[dev.bridge]
        if dev.bridge:
            fabric = fabric_bits(config)
            row["fabric_writes"] = sum(is_fabric_write(w, fabric, config) for w in writes)
        rows[dev.bridge].append(row)
    outcome.endpoint = means(rows[False])
    outcome.bridge = means(rows[True])


def read_boot(machine: Machine, outcome: Outcome) -> None:
    """Instructions from where the kernel's clock begins to the first one of user space."""
    log = machine.sh("dmesg | grep -E 'calling |initcall .* returned|Run /init'").out
    init = RUN_INIT.search(log)
    assert init, "the kernel does not say when it ran init"
    outcome.boot = (int(init[1]) * 1_000_000 + int(init[2])) * 1000
    began: dict[str, int] = {}
    for seconds, micros, name in INITCALL.findall(log):
        now = (int(seconds) * 1_000_000 + int(micros)) * 1000
        if name in ENUMERATION and name in began:
            outcome.initcalls[name] = now - began[name]
        began[name] = now
    outcome.enumeration = sum(outcome.initcalls.values())


def measure(kind: str, n: int) -> Outcome:
    """One live update of a machine with n functions."""
    outcome = Outcome()
    machine = Machine(FOLDER / f"{kind}-{n}", many(n), variant="stock" if kind == "stock" else
                      "release", cmdline=f"{LIVE_UPDATE} {LOG}", args=CLOCK, timeout=3600,
                      memory="2G" if n <= 256 else "3G")
    shutil.rmtree(machine.folder, ignore_errors=True)
    bind = f"echo {VENDOR_DEVICE} >/sys/bus/pci/drivers/vfio-pci/new_id"
    with machine:
        if kind == "preserved":
            machine.sh(bind)
            outcome.steps.update(machine.json(f"lu_bulk preserve {n}"))
        machine.kexec()
        count_accesses(machine, outcome)
        read_boot(machine, outcome)
        if kind == "preserved":
            machine.sh(bind)
            outcome.steps.update(machine.json(f"lu_bulk resume {n}"))
            guard = machine.run("cat /sys/bus/pci/devices/*/liveupdate/guard_count").out.split()
            outcome.guard = sum(map(int, guard))
    (machine.folder / "trace.log").unlink()
    return outcome


def handed_over() -> dict[str, int]:
    """Bytes per function, from the sizes that the kernel's headers assert."""
    include = paths.BUILD / "src" / "include" / "linux" / "kho" / "abi"

    def size(header: str, name: str) -> int:
        found = re.search(rf"static_assert\(sizeof\(struct {name}\) == (\d+)\)",
                          (include / header).read_text())
        assert found, f"{header} does not assert the size of {name}"
        return int(found[1])

    return {"pci record": size("pci.h", "pci_liveupdate_record_ser"),
            "vfio-pci file": size("vfio_pci.h", "vfio_pci_liveupdate_ser"),
            "header, once": size("pci.h", "pci_liveupdate_header_ser")}


def slope(points: dict[int, int]) -> float | None:
    """Per function, between the smallest and the largest size."""
    low, high = min(points), max(points)
    return None if low == high else (points[high] - points[low]) / (high - low)


def linear(points: dict[int, int]) -> float | None:
    """Cost of one more function among many, by that among few: 1 is linear."""
    sizes = sorted(points)
    if len(sizes) < 3:
        return None
    first = slope({n: points[n] for n in sizes[:2]})
    last = slope({n: points[n] for n in sizes[-2:]})
    return last / first if first and last else None


def targets(runs: dict[int, dict[str, Outcome]], size: dict[str, int]) -> list[dict[str, Any]]:
    """What issue and README promise, and what came out at the largest size."""
    n = max(runs)
    ours, stock = runs[n]["preserved"], runs[n]["stock"]
    found: list[tuple[str, float, float]] = [
        ("writes to a preserved endpoint", 0, ours.endpoint["writes"]),
        ("fabric writes to a bridge", 0, ours.bridge["fabric_writes"]),
        ("writes dropped by the guard", 0, ours.guard),
        ("config reads per preserved endpoint", stock.endpoint["reads"], ours.endpoint["reads"]),
        ("config reads per bridge", stock.bridge["reads"], ours.bridge["reads"]),
        (f"enumeration instructions, {n} preserved", stock.enumeration, ours.enumeration),
        ("bytes a function in the PCI records", 256, size["pci record"]),
    ]
    for step in ("preserve", "unpreserve", "retrieve", "finish"):
        ratio = linear({m: runs[m]["preserved"].steps[step] for m in runs})
        if ratio is not None:
            found.append((f"{step}: cost of one more, many against few", 1.5, round(ratio, 2)))
    return [{"what": what, "target": target, "value": value, "met": value <= target}
            for what, target, value in found]


def table(head: list[str], rows: list[list[Any]]) -> str:
    cells = [head] + [[f"{c:,}" if isinstance(c, (int, float)) else str(c) for c in row]
                      for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in
                               enumerate(zip(row, widths))).rstrip() for row in cells)


def show(report: dict[str, Any], runs: dict[int, dict[str, Outcome]]) -> None:
    access = ["incoming boot, config accesses (mean)", "endpoint reads", "writes", "bridge reads",
              "writes", "fabric writes"]
    print("\n" + table(access, [
        [f"{n:4} functions, {LABEL[kind]}", o.endpoint["reads"], o.endpoint["writes"],
         o.bridge["reads"], o.bridge["writes"], o.bridge["fabric_writes"]]
        for n, kinds in runs.items() for kind, o in kinds.items()]))
    last = runs[max(runs)]["preserved"]
    print(f"floor, reads that any enumeration must make: endpoint {last.endpoint['floor']:g}, "
          f"bridge {last.bridge['floor']:g}\n")
    print(table(["incoming boot, thousands of instructions", "start to init", "enumeration"],
                [[f"{n:4} functions, {LABEL[kind]}", o.boot // 1000, o.enumeration // 1000]
                 for n, kinds in runs.items() for kind, o in kinds.items()]
                + [[f"per function, {LABEL[kind]}", *(f"{(value or 0) / 1000:,.1f}"
                                                      for value in report["slope"][kind].values())]
                   for kind in KINDS if len(runs) > 1]))
    steps = ["preserve", "unpreserve", "retrieve", "attach", "finish"]
    print("\n" + table(["thousands of instructions a function", *steps],
                       [[f"{n:4} functions", *(f"{k['preserved'].steps[s] / n / 1000:,.1f}"
                                               for s in steps)] for n, k in runs.items()]))
    print("\n" + table(["bytes handed over", ""], [list(kv) for kv in report["bytes"].items()]))
    print("\n" + table(["target", "at most", "is", ""],
                       [[t["what"], t["target"], t["value"], "met" if t["met"] else "NOT MET"]
                        for t in report["targets"]]))


def main() -> int:
    sizes = sorted({int(n) for n in (os.environ.get("BENCH_SIZES") or "1 64 256 512").split()})
    FOLDER.mkdir(parents=True, exist_ok=True)
    runs: dict[int, dict[str, Outcome]] = {}
    for n in sizes:
        runs[n] = {}
        for kind in KINDS:
            print(f"bench: {n} functions, {LABEL[kind]}", flush=True)
            runs[n][kind] = measure(kind, n)
    size = handed_over()
    report: dict[str, Any] = {
        "qemu": qemu_version("x86_64"), "sizes": sizes, "bytes": size,
        "runs": {n: {kind: vars(o) for kind, o in kinds.items()} for n, kinds in runs.items()},
        "slope": {kind: {"boot": slope({n: runs[n][kind].boot for n in runs}),
                         "enumeration": slope({n: runs[n][kind].enumeration for n in runs})}
                  for kind in KINDS},
        "targets": targets(runs, size),
    }
    (FOLDER / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    show(report, runs)
    print("\nbench: build/bench/report.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
