# SPDX-License-Identifier: GPL-2.0
"""A driver in user space receives while the kernel below it is replaced; and the control.

Leaves report.json and timeline.svg in build/demo-driver. Exit status 0: no frame was lost or
duplicated in the first run, and frames did stop in the second, where the device was not preserved.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import console, paths, qemu, timeline, topology, witness
from .machine import Machine, MachineError, probe_accel
from .receiver import Receiver

RATE = 250.0
BEFORE = 3.0        # seconds of streaming before preserve
AFTER = 4.0         # … and between the new driver's start and finish, and after finish
NOTIFIED = "e1000e_irq_msix_notify_vec"     # the NIC wants to send a message, masked or not
RING_LIMIT = 32768  # what the NIC's ring length register takes at most, in descriptors


@dataclass
class Run:
    """What one run came to."""

    machine: Machine
    marks: dict[str, float] = field(default_factory=dict)
    releases: list[str] = field(default_factory=list)
    pci: list[dict[str, Any]] = field(default_factory=list)
    sent: int = 0
    sent_at: list[int] = field(default_factory=list)
    refused: int = 0
    stats: dict[str, Any] = field(default_factory=dict)
    frames: list[tuple[int, int, int]] = field(default_factory=list)
    peek: dict[str, Any] = field(default_factory=dict)
    told: int = 0       # signals of the NIC's vector when it was armed in the next kernel
    ring: int = 0
    trace: witness.Trace | None = None

    def mark(self, name: str) -> None:
        self.marks[name] = time.time()

    @property
    def away(self) -> float:
        """How long there was no user space: from the kexec call to the new init."""
        return self.machine.booted_at[1] - self.machine.jumped_at[0]

    def lost_interrupts(self) -> int:
        """Vectors (there is one) that had news while user space was away, which nobody heard."""
        news = any(self.machine.jumped_at[0] < at / 1e9 < self.machine.booted_at[1]
                   for at in self.sent_at)
        return int(news and not self.told)


def say(text: str) -> None:
    print(text, flush=True)


def describe(machine: Machine) -> dict[str, Any]:
    """What the guest's kernel thinks of every device of the topology."""
    return {id: machine.json(f"pci_cfg dump {bdf}") for id, bdf in machine.topology.bdf.items()}


def ring_size(rate: float, away: float) -> int:
    """Rate × time away × 4, rounded up to what the hardware takes."""
    wanted = int(rate * away * 4)
    return min(RING_LIMIT, max(1024, (wanted + 1023) // 1024 * 1024))


def perform(folder: Path, accel: str, preserve: bool) -> Run:
    """Boot, receive, replace the kernel, receive on (or, in the control, see what is left)."""
    began = time.time()
    machine = Machine(folder, topology.demo(), accel=accel, rate=RATE, trace=[NOTIFIED])
    run = Run(machine)
    with machine:
        run.releases.append(machine.release)
        # The new kernel will take about as long as this one took, and its driver has to start.
        run.ring = ring_size(RATE, time.time() - began + 1)
        receiver = Receiver(machine)
        receiver.start("--interrupts", *([] if preserve else ["--no-preserve-device"]),
                       ring=run.ring)
        receiver.sender.start()
        run.mark("stream")
        say(f"  {machine.release} runs; {RATE:.0f} frames/s into a ring of {run.ring}")
        time.sleep(BEFORE)
        receiver.preserve()
        run.mark("preserve")
        run.pci.append(describe(machine))
        say("  memory and device preserved" if preserve else "  only the memory preserved")
        machine.kexec()
        run.marks["kexec"] = machine.jumped_at[0]
        run.marks["user space"] = machine.booted_at[1]
        run.releases.append(machine.release)
        say(f"  {machine.release} runs; user space was away {run.away:.1f} s")
        if preserve:
            run.told = receiver.resume("--interrupts")["interrupts_when_armed"]
            run.mark("driver")
            time.sleep(AFTER)
            receiver.ctl("finish")
            run.mark("finish")
            time.sleep(AFTER)
            run.sent, run.stats = receiver.settle()
            run.frames = receiver.frames()
        else:
            run.peek = machine.json(f"e1000e_rx peek --session {receiver.name} "
                                    f"--watch {AFTER:.0f}")
            time.sleep(AFTER)
            run.sent = receiver.sender.stop()
        run.pci.append(describe(machine))
        run.mark("end")
        run.sent_at = receiver.sender.times
        run.refused = len(receiver.sender.refused)
    run.trace = witness.read(machine)
    incoming = [p.start for p in run.trace.phases if p.boot == 2]
    if incoming:
        run.marks["first look"] = incoming[0]
    return run


def lowest_rate(times: list[int]) -> float:
    """The fewest frames sent in any whole second of a run."""
    if not times:
        return 0.0
    first, last = times[0], times[-1]
    counts = [0] * (int((last - first) / 1e9) + 1)
    for now in times:
        counts[int((now - first) / 1e9)] += 1
    return float(min(counts[:-1], default=0))


def windows(dump: dict[str, Any]) -> dict[str, Any]:
    """The addresses and numbers in a dump, without the raw bytes."""
    return {"bdf": dump["bdf"], "bars": dump["bars"], "bridge": dump["bridge"]}


def summarise(kept: Run, control: Run, accel: str, reason: str) -> dict[str, Any]:
    """The report."""
    assert kept.trace and control.trace
    gap, gap_at = kept.trace.longest_gap()
    seqs = [seq for seq, _, _ in kept.frames]
    steps = [b - a for a, b in zip(seqs, seqs[1:])]
    distinct = len(set(seqs))
    bridges = kept.machine.topology.above("nic0")
    booted = kept.machine.booted_at[1]

    def changes(id: str) -> dict[str, Any]:
        writes = kept.trace.writes(id, 2) if kept.trace else []
        return {"before": windows(kept.pci[0][id]), "after": windows(kept.pci[1][id]),
                "config_writes_boot": sum(1 for w in writes if w.time < booted),
                "config_writes": len(writes),
                "control_config_writes_boot":
                    sum(1 for w in control.trace.writes(id, 2)
                        if w.time < control.machine.booted_at[1]) if control.trace else 0}

    seconds = (kept.sent_at[-1] - kept.sent_at[0]) / 1e9
    return {
        "kernels": kept.releases,
        "device": {"id": "nic0", **changes("nic0"),
                   "bus_master_cleared": sum(
                       1 for w in kept.trace.cleared_master("nic0")
                       if kept.marks["preserve"] < w.time < kept.marks["end"]),
                   "resets": sum(1 for t in kept.trace.resets("e1000e", kept.marks["preserve"])
                                 if t < kept.marks["end"])},
        "bridges": {id: changes(id) for id in bridges},
        "frames": {"sent": kept.sent, "received": distinct,
                   "lost": kept.sent - distinct,
                   "duplicated": len(seqs) - distinct,
                   "corrupted": kept.stats["corrupted"], "refused": kept.refused,
                   "rate": (kept.sent - 1) / seconds,
                   "lowest_rate": lowest_rate(kept.sent_at),
                   "met_no_bus_master": sum(1 for t in kept.trace.no_master()
                                            if kept.marks["stream"] < t < kept.marks["end"]),
                   "dma_writes": len(kept.trace.dma()),
                   "after_kexec": len(kept.trace.dma_after_jump()),
                   "while_away": kept.stats["arrived_while_away"],
                   "longest_gap_ms": gap * 1e3,
                   "longest_gap_after_kexec_s": gap_at - kept.marks["kexec"],
                   "longest_gap_frames": max(steps, default=0) - 1},
        "interrupts": {"raised_while_away": sum(1 for t in kept.trace.events(NOTIFIED)
                                                if kept.marks["kexec"] < t < booted),
                       "when_armed": kept.told, "since": kept.stats["interrupts"],
                       "lost": kept.lost_interrupts()},
        "ring": {"size": kept.ring, "high_water": kept.stats["high_water_ever"]},
        "user_space_away_s": kept.away,
        "control": {"kernels": control.releases, "sent": control.sent,
                    "frames_before_kexec": len(control.trace.dma(1)),
                    "frames_after_kexec": len(control.trace.dma_after_jump()),
                    "peek": control.peek,
                    "lost": control.sent - len(control.trace.dma()),
                    "interrupts_lost": control.lost_interrupts(),
                    "user_space_away_s": control.away},
        "accel": accel, "accel_reason": reason, "qemu": qemu.version("x86_64"),
    }


def hexes(items: list[dict[str, Any]]) -> str:
    return " ".join(f"{bar['n']}:{bar['start']}" for bar in items
                    if int(bar["end"], 16)) or "-"


def table(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The rows that are printed: what, before or kept, after or control."""
    frames, control = report["frames"], report["control"]
    rows = [("kernel", *report["kernels"])]
    device = report["device"]
    before, after = device["before"], device["after"]
    rows += [("NIC", before["bdf"], after["bdf"]),
             ("  BARs", hexes(before["bars"]), hexes(after["bars"]))]
    for id, bridge in report["bridges"].items():
        for name, key in (("", "bdf"), ("  buses", ""), ("  I/O", "io"), ("  memory", "mem"),
                          ("  prefetchable", "pref")):
            if key == "bdf":
                row = (f"bridge {id}", bridge["before"]["bdf"], bridge["after"]["bdf"])
            else:
                row = (name, *(
                    ("{primary}-{secondary}-{subordinate}".format(**side["bridge"])
                     if not key else str(side["bridge"].get(key) or "-"))
                    for side in (bridge["before"], bridge["after"])))
            rows.append(row)
    rows += [("", "", ""), ("", "preserved", "control"),
             ("frames sent", str(frames["sent"]), str(control["sent"])),
             ("frames received", str(frames["received"]),
              str(control["sent"] - control["lost"])),
             ("  after the kexec", str(frames["after_kexec"]),
              str(control["frames_after_kexec"])),
             ("frames lost", str(frames["lost"]), str(control["lost"])),
             ("frames duplicated", str(frames["duplicated"]), "-"),
             ("interrupts lost", str(report["interrupts"]["lost"]),
              str(control["interrupts_lost"])),
             ("device resets", str(device["resets"]), "-"),
             ("frames/s (lowest second)",
              f"{frames['rate']:.0f} ({frames['lowest_rate']:.0f})", "-"),
             ("longest gap between two DMA writes", f"{frames['longest_gap_ms']:.0f} ms", "-"),
             ("  in sequence numbers", str(frames["longest_gap_frames"]) + " missing", "-"),
             ("ring: size, high-water mark",
              f"{report['ring']['size']}, {report['ring']['high_water']}", "-"),
             ("user space away", f"{report['user_space_away_s']:.1f} s",
              f"{control['user_space_away_s']:.1f} s"),
             ("config writes in the incoming boot", "", "")]
    for id, entry in (("nic0", device), *report["bridges"].items()):
        rows.append((f"  {id}", str(entry["config_writes_boot"]),
                     str(entry["control_config_writes_boot"])))
    return rows


def show(rows: list[tuple[str, str, str]]) -> None:
    """Print a table."""
    widths = [max(len(row[n]) for row in rows) for n in (0, 1)]
    say("")
    for what, first, second in rows:
        say(f"{what:<{widths[0]}}  {first:<{widths[1]}}  {second}".rstrip())
    say("")


def verdict(report: dict[str, Any]) -> list[str]:
    """What keeps this from being a success."""
    frames, control = report["frames"], report["control"]
    checks = [
        (frames["lost"] == 0, f"{frames['lost']} frames were lost"),
        (frames["duplicated"] == 0, f"{frames['duplicated']} frames came twice"),
        (frames["corrupted"] == 0, f"{frames['corrupted']} frames were damaged"),
        (frames["met_no_bus_master"] == 0, "frames met a NIC without Bus Master"),
        (report["device"]["bus_master_cleared"] == 0, "Bus Master of the NIC was cleared"),
        (report["device"]["resets"] == 0, "the NIC was reset"),
        (report["interrupts"]["raised_while_away"] > 0, "the NIC raised no interrupt meanwhile"),
        (report["interrupts"]["lost"] == 0, "what the NIC raised meanwhile did not arrive"),
        (report["interrupts"]["since"] > 1, "no interrupt came afterwards"),
        (frames["lowest_rate"] >= 200, "fewer than 200 frames were sent in some second"),
        (report["kernels"][0] != report["kernels"][1], "the kernel is the same as before"),
        (frames["after_kexec"] > 0, "no frame came after the kexec"),
        (control["frames_before_kexec"] > 0, "the control received nothing before the kexec"),
        (control["frames_after_kexec"] == 0, "the control went on receiving"),
        (control["lost"] > 0, "the control lost nothing"),
        (control["interrupts_lost"] == 1, "the control lost no interrupt"),
    ]
    return [text for good, text in checks if not good]


def main() -> int:
    out = paths.BUILD / "demo-driver"
    accel, reason = probe_accel("x86_64")
    say(f"{qemu.version('x86_64')}, accelerator {accel} ({reason})")
    try:
        say("Live update with the device preserved:")
        kept = perform(out / "preserved", accel, True)
        say("Control, the same with the device not preserved:")
        control = perform(out / "control", accel, False)
    except MachineError as error:
        say(f"demo-driver: {error}")
        return 1
    report = summarise(kept, control, accel, reason)
    found = [line for run in (kept, control)
             for line in console.read(run.machine.folder / "console.log").wrong]
    report["splats"] = found
    problems = verdict(report) + [f"on the console: {line}" for line in found]
    report["problems"] = problems
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    (out / "timeline.svg").write_text(timeline.draw(kept, control))
    show(table(report))
    for text in problems:
        say(f"demo-driver: {text}")
    say(f"{'FAILED' if problems else 'No frame lost'}: see {out}/report.json, timeline.svg")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
