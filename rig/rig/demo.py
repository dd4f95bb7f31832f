# SPDX-License-Identifier: GPL-2.0
"""The main job: a virtual machine receives while its host's kernel is replaced; and the control.

An unmodified Debian in KVM, with a network card behind VT-d. What it counts
itself is put beside what QEMU, outside of everything, has seen.

Leaves report.json and timeline.svg in build/demo. Exit status 0: the guest went on, no frame was
lost, and the card reached nothing but the guest's memory; and in the control, where the card was
not preserved, frames did stop.
"""

from __future__ import annotations

import json
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import console, paths, qemu, timeline, topology, vtd, witness
from .demo_driver import lowest_rate, say, show
from .guest import BEHIND_VTD, Guest, GuestHost
from .keeper import attribute
from .machine import MachineError

RATE = 250.0
BEFORE = 3      # seconds of streaming before the guest is saved
AFTER = 5       # … and after it is back
PHASES = [("save", "guest is saved"), ("kexec", "kexec"), ("first look", "new kernel scans PCI"),
          ("user space", "new user space"), ("back", "guest goes on")]
TITLE = "Frames that a NIC wrote to a guest's memory while its host's kernel was replaced"
STILL = ("save", "back", "the guest stands still")


@dataclass
class Run:
    """What one run came to."""

    host: GuestHost
    guest: Guest
    marks: dict[str, float] = field(default_factory=dict)
    releases: list[str] = field(default_factory=list)
    dma: str = ""
    memory: set[int] = field(default_factory=set)
    before: dict[str, Any] = field(default_factory=dict)    # what the guest printed last
    after: dict[str, Any] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)
    said: str = ""      # by the VMM, in both kernels
    sent: int = 0
    sent_at: list[int] = field(default_factory=list)
    refused: int = 0
    trace: witness.Trace = field(init=False)
    unit: vtd.Unit = field(init=False)

    def mark(self, name: str) -> None:
        self.marks[name] = time.time()

    def number(self, pattern: str) -> float:
        """One that the VMM has said."""
        found = re.search(pattern, self.said)
        return float(found[1]) if found else float("nan")

    def behind(self) -> float:
        """Seconds that passed here and not for the guest; a line of it may be one late."""
        return ((self.marks["end"] - self.marks["save"]) -
                (self.after["uptime"] - self.before["uptime"]))

    def clocks_went_on(self) -> bool:
        """From each line of the guest to the next."""
        return all([line[clock] for line in self.lines] ==
                   sorted({line[clock] for line in self.lines}) for clock in ("uptime", "clock"))

    def seen(self) -> list[tuple[float, int]]:
        """The frames that the guest had counted, at host times: its clock is set by those before
        the update, of which it counts each as soon as it is written."""
        written = self.trace.dma()
        late = [written[line["frames"] - 1] - line["uptime"] for line in self.lines
                if line["frames"] and line["tick"] <= self.before["tick"]]
        return [(line["uptime"] + max(late), line["frames"]) for line in self.lines]


def leave(run: Run) -> None:
    """Save the guest and jump, with the next kernel loaded before."""
    host, guest = run.host, run.guest
    loaded = host.load()
    if loaded.rc:
        raise MachineError(f"kexec -l failed: {loaded.out}")
    run.before = guest.wait(1)[-1]
    guest.leave()
    run.mark("save")
    guest.do("save")
    run.said = guest.complaints()
    refused = host.jump()
    if refused is not None:
        raise MachineError(f"the kexec was refused: {refused.out}")
    run.marks["kexec"], run.marks["user space"] = host.jumped_at[0], host.booted_at[1]
    run.releases.append(host.release)
    host.daemon()
    guest.bind()


def come_back(run: Run) -> None:
    """The guest goes on, and counts all that was sent."""
    host, guest = run.host, run.guest
    run.dma = host.sh(f"cat {attribute(host, 'nic0', 'liveupdate/dma')}").out.strip()
    guest.restore(bind=False)
    run.mark("back")
    run.said += guest.complaints()
    say(f"  {host.release} runs; the guest stood still for "
        f"{run.number('stood still for ([0-9]+) ms') / 1e3:.1f} s of its time")
    time.sleep(AFTER)
    run.sent = host.senders["nic0"].stop()
    run.after = guest.arrived(run.sent)
    run.lines = guest.printed()


def stay_away(run: Run) -> None:
    """The guest cannot come back without its NIC."""
    host = run.host
    out = host.run(f"pcilu-vmm restore {run.guest.name} 2>&1")
    run.said += out.out
    say(f"  {host.release} runs; {out.out.splitlines()[-1]}")
    time.sleep(AFTER)
    run.sent = host.senders["nic0"].stop()


def perform(folder: Path, preserve: bool) -> Run:
    """Boot host and guest, receive, replace the host's kernel, receive on (or, in the control, see
    what is left)."""
    host = GuestHost(folder, topology.plain(), words=BEHIND_VTD, iommu=True, rate=RATE,
                     trace=vtd.EVENTS)
    run = Run(host, Guest(host, nic="nic0"))
    with host:
        run.releases.append(host.release)
        say(f"  {host.release} runs")
        run.guest.start(options="" if preserve else "--leave-out devices")
        host.senders["nic0"].start()
        run.mark("stream")
        uptime = run.guest.wait(BEFORE)[-1]["uptime"]
        run.memory = run.guest.memory()
        say(f"  the guest runs for {uptime:.0f} s and receives {RATE:.0f} frames/s")
        leave(run)
        (come_back if preserve else stay_away)(run)
        run.mark("end")
        run.sent_at = host.senders["nic0"].times
        run.refused = len(host.senders["nic0"].refused)
    run.trace, run.unit = witness.read(host), vtd.read(host)
    run.marks["first look"] = next(p.start for p in run.trace.phases if p.boot == 2)
    return run


def phases(run: Run) -> dict[str, float]:
    """Of the time in which the guest stood still, in milliseconds. The freeze ends when the unit is
    given the root table of the time between the kernels."""
    frozen = next(t for t, *_ in run.unit.roots if t > run.marks["kexec"])
    marks = [run.marks["kexec"], frozen, run.marks["first look"], run.marks["user space"]]
    freeze, jump, boot = (1e3 * (b - a) for a, b in zip(marks, marks[1:]))
    return {"save": run.number(r"saved in (\d+) ms"), "freeze": freeze,
            "jump to the first look at PCI": jump, "boot to user space": boot,
            "retrieve": run.number(r"retrieved in (\d+) ms"),
            "restore": run.number(r"restored in (\d+) ms"),
            "in all": run.number(r"stood still for (\d+) ms")}


def summarise(kept: Run, control: Run) -> dict[str, Any]:
    """The report."""
    since, back = kept.marks["save"], kept.marks["back"]
    nic = kept.host.topology.bdf["nic0"]
    gap, gap_at = kept.trace.longest_gap()
    away = (kept.marks["kexec"], kept.marks["user space"])
    return {
        "kernels": kept.releases, "dma": kept.dma,
        "guest": {"before": kept.before, "after": kept.after, "phases_ms": phases(kept),
                  "behind_s": kept.behind(), "clocks_went_on": kept.clocks_went_on()},
        "frames": {"sent": kept.sent, "refused": kept.refused,
                   "lowest_rate": lowest_rate(kept.sent_at),
                   "written": len(kept.trace.dma()),
                   "written_while_away": sum(1 for t in kept.trace.dma()
                                             if away[0] < t < away[1]),
                   "seen": kept.after["frames"], "lost": kept.after["lost"],
                   "again": kept.after["again"],
                   "longest_gap_ms": gap * 1e3,
                   "longest_gap_after_kexec_s": gap_at - kept.marks["kexec"]},
        "nic": {"bdf": nic,
                # The freeze masks its interrupts; from then on nobody writes.
                "config_writes_freeze": len(kept.trace.writes("nic0", 1, shutdown=True)),
                "config_writes": sum(1 for w in kept.trace.writes("nic0", 2)
                                     if w.time < away[1]),
                "bus_master_cleared": sum(1 for w in kept.trace.cleared_master("nic0")
                                          if w.time > since),
                "resets": sum(1 for t in kept.trace.resets("e1000e", since)
                              if t < kept.marks["end"]),
                "outside_of_the_guest": len(kept.unit.outside(kept.memory, nic)),
                "faults": len(kept.unit.faults),
                "translation_switched": kept.unit.switched()},
        "user_space_away_s": away[1] - away[0], "stood_still_s": back - since,
        "control": {"kernels": control.releases, "sent": control.sent,
                    "written_before_kexec": len(control.trace.dma(1)),
                    "written_after_kexec": len(control.trace.dma_after_jump()),
                    "lost": control.sent - len(control.trace.dma()),
                    "vmm": control.said.splitlines()[-1:]},
        "qemu": qemu.version("x86_64"),
    }


def table(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The rows that are printed: what, before or kept, after or control."""
    frames, control, nic, guest = (report[key] for key in ("frames", "control", "nic", "guest"))
    rows = [("", "before", "after"), ("host's kernel", *report["kernels"]),
            ("guest's uptime", *(f"{guest[when]['uptime']:.1f} s" for when in ("before", "after"))),
            ("", "", ""), ("", "preserved", "control"),
            ("frames sent", str(frames["sent"]), str(control["sent"])),
            ("  written by DMA", str(frames["written"]),
             str(control["sent"] - control["lost"])),
            ("  while there was no user space", str(frames["written_while_away"]),
             str(control["written_after_kexec"])),
            ("  seen by the guest", str(frames["seen"]), "-"),
            ("  lost, by the guest's count", str(frames["lost"]), str(control["lost"])),
            ("longest gap between two DMA writes", f"{frames['longest_gap_ms']:.0f} ms", "-"),
            ("", "", ""),
            ("the NIC, while the kernel was replaced", "", ""),
            ("  config writes: to mask interrupts, others",
             f"{nic['config_writes_freeze']}, {nic['config_writes']}", "-"),
            ("  resets, Bus Master off", f"{nic['resets']}, {nic['bus_master_cleared']}", "-"),
            ("  DMA outside of the guest", str(nic["outside_of_the_guest"]), "-"),
            ("  faults", str(nic["faults"]), "-"),
            ("", "", ""), ("the guest stood still", "", "")]
    return rows + [(f"  {name}", f"{ms:.0f} ms", "") for name, ms in guest["phases_ms"].items()]


def verdict(report: dict[str, Any]) -> list[str]:
    """What keeps this from being a success."""
    frames, control, nic, guest = (report[key] for key in ("frames", "control", "nic", "guest"))
    checks = [
        (report["dma"] == "translated", f"the NIC's DMA was {report['dma']}"),
        (frames["seen"] == frames["sent"] == frames["written"], "not all frames arrived"),
        (frames["lost"] == 0, f"the guest lost {frames['lost']} frames"),
        (frames["again"] == 0, f"{frames['again']} frames came twice"),
        (frames["refused"] == 0, f"{frames['refused']} frames could not be sent"),
        (frames["written_while_away"] > 0, "no frame was written while the kernel was replaced"),
        (guest["after"]["uptime"] > guest["before"]["uptime"]
         and guest["after"]["tick"] > guest["before"]["tick"], "it is not the same guest"),
        (guest["clocks_went_on"], "a clock of the guest went back"),
        (abs(guest["behind_s"]) < report["stood_still_s"] / 2 + 1,
         "time stood still for the guest"),
        (nic["config_writes_freeze"] <= 1 and nic["config_writes"] == 0,
         "the NIC's configuration was written"),
        (nic["bus_master_cleared"] == 0, "Bus Master of the NIC was cleared"),
        (nic["resets"] == 0, "the NIC was reset"),
        (nic["outside_of_the_guest"] == 0, "the NIC reached what is not the guest's"),
        (nic["faults"] == 0, "the IOMMU refused DMA"),
        (nic["translation_switched"] == [True], "the IOMMU was switched off"),
        (report["kernels"][0] != report["kernels"][1], "the kernel is the same as before"),
        (control["written_before_kexec"] > 0, "the control received nothing before the kexec"),
        (control["written_after_kexec"] == 0, "the control went on receiving"),
        (control["lost"] > 0, "the control lost nothing"),
    ]
    return [text for good, text in checks if not good]


def main() -> int:
    out = paths.BUILD / "demo"
    say(f"{qemu.version('x86_64')}, KVM in an emulated host")
    try:
        say("Live update of a virtual machine's host:")
        kept = perform(out / "preserved", True)
        say("Control, the same with the NIC not preserved:")
        control = perform(out / "control", False)
    except MachineError as error:
        say(f"demo: {error}")
        return 1
    report = summarise(kept, control)
    found = [line for run in (kept, control)
             for line in console.read(run.host.folder / "console.log").wrong]
    report["splats"] = found
    problems = verdict(report) + [f"on the console: {line}" for line in found]
    report["problems"] = problems
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    (out / "timeline.svg").write_text(
        timeline.draw(kept, control, TITLE, PHASES, STILL, kept.seen()))
    show(table(report))
    for text in problems:
        say(f"demo: {text}")
    say(f"{'FAILED' if problems else 'No frame lost'}: see {out}/report.json, timeline.svg")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
