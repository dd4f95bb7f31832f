# SPDX-License-Identifier: GPL-2.0
"""The main job: a virtual machine goes on while its host's kernel is replaced; and the control.

An unmodified Debian in KVM, with a network card that receives and an NVMe drive that it reads, both
behind VT-d. What it counts itself is put beside what QEMU, outside of everything, has seen.

Leaves report.json and timeline.svg in build/demo. Exit status 0: the guest went on, no frame was
lost, no read went wrong, and both reached nothing but the guest's memory; and in the control, where
they were not preserved, frames did stop.
"""

from __future__ import annotations

import json
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import console, paths, qemu, timeline, vtd, witness
from .demo_driver import lowest_rate, say, show
from .drive import Drive
from .guest import BEHIND_VTD, Guest, GuestHost
from .keeper import attribute
from .machine import MachineError
from .topology import Topology, nic, root_port

RATE = 250.0
BEFORE = 3      # seconds of streaming before the guest is saved
AFTER = 5       # … and after it is back
IN_BETWEEN = 0.5    # … from the kexec call until the drive does what it was told
NIC, DISK = "nic0", "disk0"
COMPLETED = "pci_nvme_enqueue_req_completion"       # QEMU's word for it
# Of the guest's NVMe driver: that a machine takes its time is no reason to call a drive late.
PATIENT = "nvme_core.io_timeout=3600"
PHASES = [("save", "guest is saved"), ("kexec", "kexec"), ("first look", "new kernel scans PCI"),
          ("user space", "new user space"), ("back", "guest goes on")]
TITLE = "Frames that a NIC wrote to a guest's memory while its host's kernel was replaced"
STILL = ("save", "back", "the guest stands still")


@dataclass
class Run:
    """What one run came to."""

    host: GuestHost
    guest: Guest
    drive: Drive
    marks: dict[str, float] = field(default_factory=dict)
    releases: list[str] = field(default_factory=list)
    dma: str = ""
    memory: set[int] = field(default_factory=set)
    before: dict[str, Any] = field(default_factory=dict)    # what the guest printed last
    after: dict[str, Any] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)
    said: str = ""      # by the VMM, in both kernels
    complaints: list[str] = field(default_factory=list)     # of the drive, by the guest's kernel
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

    def reads(self) -> dict[str, Any]:
        """What became of them: the drive does while no guest runs what this one waits for."""
        before, after = (sum(line["reads"]) for line in (self.before, self.after))
        away = (self.marks["kexec"], self.marks["user space"])
        return {"before": before, "waited_for": Drive.DEPTH * len(self.before["reads"]),
                "completed_while_away": sum(1 for t in self.trace.events(COMPLETED)
                                            if away[0] < t < away[1]),
                "after": after - before, "wrong": self.after["wrong"],
                "failed": self.after["failed"], "longest_s": self.after["longest_read"],
                "complaints": self.complaints}

    def seen(self) -> list[tuple[float, int]]:
        """The frames that the guest had counted, at host times: its clock is set by those before
        the update, of which it counts each as soon as it is written."""
        written = self.trace.dma()
        late = [written[line["frames"] - 1] - line["uptime"] for line in self.lines
                if line["frames"] and line["tick"] <= self.before["tick"]]
        return [(line["uptime"] + max(late), line["frames"]) for line in self.lines]


def leave(run: Run) -> None:
    """Save the guest, which waits for its drive, and jump, with the next kernel loaded before. The
    drive does what it was told in between."""
    host, guest = run.host, run.guest
    loaded = host.load()
    if loaded.rc:
        raise MachineError(f"kexec -l failed: {loaded.out}")
    run.drive.hold(host)
    run.before = guest.until_held()
    guest.leave()
    run.mark("save")
    guest.do("save")
    run.said = guest.complaints()
    host.leave()
    time.sleep(IN_BETWEEN)
    run.drive.release(host)
    host.wait_boot(2)
    run.marks["kexec"], run.marks["user space"] = host.jumped_at[0], host.booted_at[1]
    run.releases.append(host.release)
    host.daemon()
    guest.bind()


def come_back(run: Run) -> None:
    """The guest goes on, and counts all that was sent."""
    host, guest = run.host, run.guest
    run.dma = " and ".join(sorted({
        host.sh(f"cat {attribute(host, id, 'liveupdate/dma')}").out.strip()
        for id in (NIC, DISK)}))
    guest.restore(bind=False)
    run.mark("back")
    run.said += guest.complaints()
    run.after = guest.read_on(run.before)
    say(f"  {host.release} runs; the guest stood still for "
        f"{run.number('stood still for ([0-9]+) ms') / 1e3:.1f} s of its time")
    time.sleep(AFTER)
    run.sent = host.senders[NIC].stop()
    run.after = guest.arrived(run.sent)
    run.lines = guest.printed()
    run.complaints = guest.kernel_said()


def stay_away(run: Run) -> None:
    """The guest cannot come back without its devices."""
    host = run.host
    out = host.run(f"pcilu-vmm restore {run.guest.name} 2>&1")
    run.said += out.out
    say(f"  {host.release} runs; {out.out.splitlines()[-1]}")
    time.sleep(AFTER)
    run.sent = host.senders[NIC].stop()


def perform(folder: Path, preserve: bool) -> Run:
    """Boot host and guest, receive and read, replace the host's kernel, go on (or, in the control,
    see what is left)."""
    drive = Drive(folder, DISK)
    tree = Topology(root_port("rp0", nic(NIC)), root_port("rp1", drive.device))
    host = GuestHost(folder, tree, words=BEHIND_VTD, iommu=True, rate=RATE, before=drive.args,
                     trace=[*vtd.EVENTS, COMPLETED])
    run = Run(host, Guest(host, nic=NIC, drive=DISK), drive)
    with host:
        run.releases.append(host.release)
        say(f"  {host.release} runs")
        run.guest.start(options="" if preserve else "--leave-out devices", words=PATIENT)
        host.senders[NIC].start()
        run.mark("stream")
        uptime = run.guest.wait(BEFORE)[-1]["uptime"]
        run.memory = run.guest.memory()
        say(f"  the guest runs for {uptime:.0f} s and receives {RATE:.0f} frames/s")
        leave(run)
        (come_back if preserve else stay_away)(run)
        run.mark("end")
        run.sent_at = host.senders[NIC].times
        run.refused = len(host.senders[NIC].refused)
    run.trace, run.unit = witness.read(host), vtd.read(host)
    run.marks["first look"] = next(p.start for p in run.trace.phases if p.boot == 2)
    if preserve:
        say("  reads of its drive: {before} before, {completed_while_away} completed while there "
            "was no user space, {after} after".format(**run.reads()))
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
    gap, gap_at = kept.trace.longest_gap()
    away = (kept.marks["kexec"], kept.marks["user space"])

    def untouched(id: str, driver: str) -> dict[str, Any]:
        """By whoever is not the guest."""
        bdf = kept.host.topology.bdf[id]
        return {"bdf": bdf,
                # The freeze masks its interrupts; from then on nobody writes.
                "config_writes_freeze": len(kept.trace.writes(id, 1, shutdown=True)),
                "config_writes": sum(1 for w in kept.trace.writes(id, 2) if w.time < away[1]),
                "bus_master_cleared": sum(1 for w in kept.trace.cleared_master(id)
                                          if w.time > since),
                "resets": sum(1 for t in kept.trace.resets(driver, since)
                              if t < kept.marks["end"]),
                "outside_of_the_guest": len(kept.unit.outside(kept.memory, bdf))}

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
        "reads": kept.reads(),
        "nic": untouched(NIC, "e1000e"), "drive": untouched(DISK, "nvme"),
        "iommu": {"faults": len(kept.unit.faults), "translation_switched": kept.unit.switched()},
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
    frames, control, reads, guest = (report[key]
                                     for key in ("frames", "control", "reads", "guest"))
    both = [report[key] for key in ("nic", "drive")]

    def each(*names: str) -> tuple[str, str]:
        first, second = (", ".join(str(device[name]) for name in names) for device in both)
        return first, second

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
            ("", "", ""), ("reads of the drive", "", ""),
            ("  before, while there was no user space, after",
             f"{reads['before']}, {reads['completed_while_away']}, {reads['after']}", "-"),
            ("  wrong, failed", f"{reads['wrong']}, {reads['failed']}", "-"),
            ("  longest time between two", f"{reads['longest_s']:.1f} s", "-"),
            ("", "", ""), ("while the kernel was replaced", "the NIC", "the drive"),
            ("  config writes: to mask interrupts, others",
             *each("config_writes_freeze", "config_writes")),
            ("  resets, Bus Master off", *each("resets", "bus_master_cleared")),
            ("  DMA outside of the guest", *each("outside_of_the_guest")),
            ("  faults", str(report["iommu"]["faults"]), ""),
            ("", "", ""), ("the guest stood still", "", "")]
    return rows + [(f"  {name}", f"{ms:.0f} ms", "") for name, ms in guest["phases_ms"].items()]


def verdict(report: dict[str, Any]) -> list[str]:
    """What keeps this from being a success."""
    frames, control, reads, guest = (report[key]
                                     for key in ("frames", "control", "reads", "guest"))
    checks = [
        (report["dma"] == "translated", f"DMA was {report['dma']}"),
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
        (reads["before"] > 0, "the guest did not read before"),
        (reads["completed_while_away"] > 0, "no read was completed while the kernel was replaced"),
        (reads["after"] > reads["waited_for"], "the guest does not read on"),
        (reads["wrong"] == 0, f"{reads['wrong']} reads were wrong"),
        (reads["failed"] == 0, f"{reads['failed']} reads failed"),
        (not reads["complaints"], f"the guest's kernel says {reads['complaints']}"),
        (report["iommu"]["faults"] == 0, "the IOMMU refused DMA"),
        (report["iommu"]["translation_switched"] == [True], "the IOMMU was switched off"),
        (report["kernels"][0] != report["kernels"][1], "the kernel is the same as before"),
        (control["written_before_kexec"] > 0, "the control received nothing before the kexec"),
        (control["written_after_kexec"] == 0, "the control went on receiving"),
        (control["lost"] > 0, "the control lost nothing"),
    ]
    for name, device in (("NIC", report["nic"]), ("drive", report["drive"])):
        checks += [
            (device["config_writes_freeze"] <= 1 and device["config_writes"] == 0,
             f"the {name}'s configuration was written"),
            (device["bus_master_cleared"] == 0, f"Bus Master of the {name} was cleared"),
            (device["resets"] == 0, f"the {name} was reset"),
            (device["outside_of_the_guest"] == 0, f"the {name} reached what is not the guest's"),
        ]
    return [text for good, text in checks if not good]


def main() -> int:
    out = paths.BUILD / "demo"
    say(f"{qemu.version('x86_64')}, KVM in an emulated host")
    try:
        say("Live update of a virtual machine's host:")
        kept = perform(out / "preserved", True)
        say("Control, the same with the NIC and the drive not preserved:")
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
