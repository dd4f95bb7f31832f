# SPDX-License-Identifier: GPL-2.0
"""What kernels say on the console: a warning is listed here, expected by its scenario, or wrong.

Machines boot with console_msg_format=syslog, so that each line of the console begins with its
level. All of it counts then, a panic's last line, too: nothing has to be asked for at the end.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from . import paths

WARNING = 4     # the kernel's number; what is worse has a lower one
DAEMON = 3 << 3     # from here on it is a daemon that speaks, through /dev/kmsg

# Lines of a level that healthy kernels of ours print, whole, and why that is all right. What only
# some scenarios cause they name themselves (the console marker, Lab.expect_splat).
DEVICE = r"[\w-]+ [\da-f:.]+"
CLOCK = "an emulated clock on a busy host"
VFIO = "what vfio-pci says of every device in no-IOMMU mode, or of every reset"
LISTED = {
    r"(tsc|clocksource|CE|hrtimer|sched_clock): .*": CLOCK,
    r"TSC found unstable after boot, .*": CLOCK,
    r"Spurious LAPIC timer interrupt on cpu \d+": CLOCK,
    r"APIC (timer disabled|frequency too slow|calibration not consistent).*": CLOCK,
    r"sched: (DL replenish lagged too much|RT throttling activated)": CLOCK,
    r"perf: interrupt took too long .*": CLOCK,
    r"APIC: Stale I[RS]R: [\da-f,]+": "stock Linux, of a timer that fired during the kexec",
    r"Could not switch to high resolution mode on CPU \d+| *\w+ is not functional\.": CLOCK,
    r"(Unable to calibrate against PIT|HPET/PMTIMER calibration failed|PIT calibration deviates).*":
        CLOCK,
    r"kvm: user requested TSC rate below hardware speed": CLOCK,
    r"(kvm_amd: )?kvm \[\d+\]: vcpu\d+, guest rIP: 0x[\da-f]+ Unhandled (RD|WR)MSR\(0x[\da-f]+\).*":
        "what a guest's kernel tries, to see whether its CPU has it",
    r"hpet: Lost \d+ RTC interrupts": CLOCK,
    r"Unstable clock detected, switching default tracing clock to \"global\"|"
    r"If you want to keep using the local clock, then add:|"
    r" *\"trace_clock=local\"|on the kernel command line": CLOCK,
    r"workqueue: \w+ hogged CPU for >\d+us .*": CLOCK,
    DEVICE + r": Adding kernel taint for vfio-noiommu (group on device|cdev)": VFIO,
    DEVICE + r": (resetting|reset done)": VFIO,
    DEVICE + r": unlocked secondary bus reset via: (pci_reset_bus_function|pciehp_reset_slot)\+\S+":
        "stock Linux, of a function that only the port above can reset",
    r"DMAR-IR: IRQ remapping was enabled on dmar\d+ but we are not in kdump mode":
        "interrupts were remapped in the previous kernel, too",
    r"cacheinfo: Unable to detect cache hierarchy for CPU \d+":
        "QEMU's device tree of arm64 tells of no caches",
    r"pci-host-generic \S+: Memory resource size exceeds max for 32 bits":
        "the window of QEMU's arm64 machine that lies above 4 GiB",
    r"ACPI: IRQ \d+ override to edge\(!\), high\(!\)": "QEMU's tables, from 10 on",
    r"pci_bus \S+: Unknown NUMA node; performance will be reduced":
        "QEMU's host bridge is near no memory node",
    r"\w+: \d+ callbacks suppressed": "what has been said often, and counts where it is said",
    DEVICE + r": pciehp: (Cannot get irq -1 for the hotplug controller|"
    r"Notification initialization failed \(-1\))": "ports on arm64 without interrupts",
    r"PCI: Unknown option `(assign-busses|nocrs)'": "hostile words of x86, on arm64",
    r"shpchp \S+: (pci_hp_register failed with error -16|Slot initialization failed)":
        "acpiphp has the slots of QEMU's bridges already",
}

# Stock Linux after a kexec on arm64. While a device is preserved its GIC is taken over.
GIVEN_AWAY = re.compile(r"GICv3: (CPU\d+: Booted with LPIs enabled, memory probably corrupted|"
                        r"Expected reserved range \[.*\], not found)")
PRESERVED = re.compile(r"Live Update: (preserved; DMA will|no longer preserved$)")

# What several scenarios cause and name.
NO_KHO = "luo: Disabling liveupdate because KHO is disabled"
REFUSED_IMAGE = "luo: kexec refused: session .*close the session$"
LOST = (r"Live Update: .*(it is left alone and cannot be retrieved|"
        r"cannot be retrieved: it is gone, or another device is in its place)")
MISSED = (r"Live Update: .*(was preserved by the previous kernel and has not been found|"
          r"is gone, or does not answer: the next kernel may miss it)")
STOPPED = "Live Update: is stopped: "
KEPT = ("Live Update: .* cannot be stopped: .*; its session is not finished and keeps its memory",
        r"luo: Unable to finish session \[.*\] on release: -16; it can be retrieved again")
REFUSED = "Live Update: .* is refused: a preserved device is here or below"
GONE = "Live Update: no longer preserved as it was: it is being removed"
FATAL = (r"pcieport \S+: (AER: +TLP Header|PCIe Bus Error| +device \[.*error status| +\[ *\d+\] )",
         "no longer preserved as it was: it is reset to recover from a fatal error",
         "Live Update: failed before the kexec; it is left alone")
DMA_FAULT = r"DMAR: (DRHD: handling fault status|\[DMA (Read|Write) )"
UNNUMBERED = ("Live Update: bus numbers .* and none are assigned while devices are preserved",
              "pciehp: Hotplug bridge without secondary bus")
BUS_RESET = "unlocked secondary bus reset via: lu_reset_all"     # hostile code
NO_FREEZE = (r"luo: (Freeze failed for token\[.*\] handler\[vfio-pci-v1\]|"
             r"kexec refused: session .* cannot be frozen)")
ASLEEP = "Live Update: cannot be handed over: its user has put it in a low power state"
UNBINDING = ("No device request channel registered", NO_FREEZE,
             "Live Update: cannot be (preserved|handed over): it is being (unbound|reset)",
             "kexec refused: it is being bound, unbound or removed")
NO_ROOM = (STOPPED, "memfd_luo: failed to setup file: ",
           "Live Update: cannot be retrieved: no memory")
OUTSIDE = "Live Update: cannot be handed over: not all of its memory is in memfds"
# A report of KASAN's, and what is told of a page: for controls that name what it is about
PAGE = ("page: refcount:", "flags: 0x", "head: ", "page_type: ", "raw: ", "page dumped because")
KASAN = ("={66}", "(Read|Write) of size ", "(Allocated|Freed) by task ", "The buggy address ",
         "Memory state around ", " which belongs to the cache ",
         "(freed|allocated) [0-9]+-byte region", "potentially related work creation:",
         r"[ >][0-9a-f]{16}:( [0-9a-f]{2})+", r"\] +\^$", "Call Trace",
         "Disabling lock debugging", *PAGE)
STILL_ON = r"DMAR: Translation was enabled for dmar\d+ but we are not in kdump mode"
UNIT_ON = (r"DMAR: (VT-d|Live Update: Interrupt remapping) is on despite the command line|"
           r"Live Update: cannot be attached: what its DMA used before the kexec is not mapped")
UNIT_OFF = "DMAR: DMAR unit .* stays off despite the command line"

# What no healthy kernel prints, whatever its level.
SPLAT = re.compile(r"BUG: |WARNING: |INFO: (?:task|rcu|possible|trying|suspicious)|KASAN|UBSAN|"
                   r"possible (?:circular|recursive|irq lock|deadlock)|suspicious RCU|"
                   r"kmemleak: [0-9]+ new suspected|general protection|Oops|Kernel panic|"
                   r"Call Trace|list_(?:add|del) corruption|scheduling while atomic|"
                   r"unreferenced object|refcount_t: |a preserved device needs it as it is")
KNOWN = re.compile(r"KernelAddressSanitizer initialized|kmemleak: Kernel memory leak detector")

# The lines of a dump of registers and stack. The one before them says what it is about, and counts.
DUMP = re.compile(r"(CPU: \d|Hardware name:|Workqueue:|Modules linked in:|Tainted:|Code:|PKRU:|"
                  r"\s*</?(TASK|IRQ|NMI)>|(RIP|RSP|R\w\w|E\w\w|FS|CS|CR\d|DR\d): *[\w(]|"
                  r"pstate:|(pc|lr|sp) :|x\d+\s*:|\s*(\? )?[\w.]+\+0x\w+/0x\w+|"
                  r"irq event stamp:|(hard|soft)irqs last|Kernel Offset:|Memory Limit:|"
                  r"-+\[ (cut here|end trace) |---\[ end )")
NO_MEMORY = re.compile(r"(?:page allocation|vm_struct allocation|vmalloc error).*fail")
LINE = re.compile(r"(?:<(\d+)>\[ *\d+\.\d+\] )?(.*)")


@dataclass
class Reading:
    """What is to be said of one console."""

    wrong: list[str] = field(default_factory=list)
    listed: Counter[str] = field(default_factory=Counter)   # by pattern


def read(console: Path, expected: list[str] | None = None, faults: bool = False) -> Reading:
    """Look at every line. A line that an expected pattern occurs in is not wrong.

    With faults injected, a kernel may say where it found no memory, in as many words as it likes.
    """
    reading = Reading()
    if not console.exists():
        return reading
    told = False
    preserved = taken_over = 0      # devices in this kernel, and in the one before
    with open(console, encoding="utf-8", errors="replace") as lines:
        for line in map(str.strip, lines):
            # A program that writes to the console may have left a line unfinished.
            at = re.search(r"<\d+>\[", line)
            prefix, text = LINE.fullmatch(line[at.start():] if at else line).groups()
            level = int(prefix) % 8 if prefix and int(prefix) < DAEMON else WARNING + 1
            if change := PRESERVED.search(text):
                preserved += 1 if change[1].startswith("preserved") else -1
            elif text.startswith("Linux version "):
                preserved, taken_over = 0, preserved
            if faults and NO_MEMORY.search(text):
                told = True
            elif told and "Call Trace" in text:
                told = False
            elif any(re.search(pattern, line) for pattern in expected or []):
                pass
            elif SPLAT.search(line) and not KNOWN.search(line):
                reading.wrong.append(line)
            elif level <= WARNING and not faults and not DUMP.match(text):
                pattern = next((p for p in LISTED if re.fullmatch(p, text)), None)
                if not taken_over and GIVEN_AWAY.fullmatch(text):
                    pass
                elif pattern:
                    reading.listed[pattern] += 1
                elif text:
                    reading.wrong.append(line)
    return reading


def listed(folder: Path, since: float) -> dict[str, int]:
    """How often each listed line was printed by the machines of a run that began then.

    What nothing prints in a full run should leave the list.
    """
    seen: Counter[str] = Counter(dict.fromkeys(LISTED, 0))
    for console in folder.rglob("console.log"):
        if console.stat().st_mtime >= since:
            seen.update(read(console).listed)
    return dict(seen)


def main() -> None:
    """What is wrong on the consoles of a folder (build/test), most frequent first.

    Scenarios that name lines of their own are not asked: theirs are here, too.
    """
    kinds: Counter[str] = Counter()
    where: dict[str, set[str]] = {}
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else paths.EVIDENCE
    for console in folder.rglob("console.log"):
        for line in read(console).wrong:
            kind = re.sub(r"\[ *[\d.]+\] ", " ", line)
            kind = re.sub(r"[\da-f]{4}:[\da-f]{2}:[\da-f]{2}\.\d|0x[\da-f]+", "_", kind)
            kinds[kind] += 1
            where.setdefault(kind, set()).add(console.parent.name)
    for kind, count in kinds.most_common():
        print(f"{count:5} {kind}\n      in {', '.join(sorted(where[kind])[:4])}")


if __name__ == "__main__":
    main()
