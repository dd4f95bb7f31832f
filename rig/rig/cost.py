# SPDX-License-Identifier: GPL-2.0
"""What one live update costs, in counts that do not depend on the machine it is measured on.

The guest's clock counts instructions (-icount shift=0, one CPU), so what the kernel prints as time
is their number. Waiting goes by that clock, too, and is taken out with the help of the scheduler's
trace events. Config accesses are read from QEMU's trace. The host's clock plays no part.

Left out is what only this way of counting costs: the timer of the local APIC, which the emulated
CPU would have to calibrate by waiting for a tenth of a second, is not used, and of a boot it counts
what process 1 runs, not the workers that prepare the tracer's names beside it.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Callable

from . import config, fabric, paths, sriov, witness
from .config import Config
from .keeper import attribute
from .machine import LIVE_UPDATE, Machine
from .topology import Device, Topology, downstream, nic, root_port, switch
from .witness import Cost

KINDS = ("preserved", "unused", "stock")
LABEL = {"preserved": "all preserved", "unused": "none preserved", "stock": "stock kernel"}
CLOCK = ["-icount", "shift=0,sleep=off"]
QUIET = "loglevel=3 noapictimer tsc_early_khz=1000000"
EVENTS = ("trace_clock=local trace_buf_size=16M trace_event="
          "initcall:initcall_start,initcall:initcall_finish,sched:sched_switch,"
          "sched:sched_process_exec")
TRACING = f"{QUIET} {EVENTS}"
# What the kernel that is left traces from here on goes to the console: nobody can read it later.
TOLD = "tp_printk tp_printk_stop_on_boot"
# As long as there is a boot console, here one that nobody listens to, the UART's driver writes a
# line where it is said, and not when its thread has time: what follows it in the trace is later.
AT_ONCE = "earlycon=uart8250,io,0x2e8 keep_bootcon"
TELL = "/proc/sys/kernel/tracepoint_printk"
OUT = "notifier:notifier_run workqueue:workqueue_queue_work"
OURS = "pci_liveupdate:pci_liveupdate_drain"
# Work that whoever calls kexec gives away. The kernel's housekeeping, of which there is more on a
# busy machine, is not the freeze's: timers (flags of an interrupt and of a softirq), other tasks.
QUEUE = "/sys/kernel/tracing/events/workqueue/workqueue_queue_work"
ITS_OWN = f"echo '!(common_flags & 0x18) && comm == \"kexec_try\"' >{QUEUE}/filter"
# One such, so that what the trace does not tell of was not there
SEEN = "sh -c 'printf kexec_try >/proc/$$/comm; echo 1 >/proc/sys/vm/stat_refresh'"
IDS = {"pvpanic-pci": "1b36 0011", "e1000e": "8086 10d3", "nvme": "1b36 0010",
       "edu": "1234 11e8"}

# Initcalls that read what was handed over, enumerate, assign and fix up. ACPI's contains the scan
# of its host bridges.
ENUMERATION = ("pci_lu_init", "acpi_init", "pci_subsys_init", "pcibios_assign_resources",
               "pci_apply_final_quirks", "pcie_portdrv_init", "incoming_report_missing")
EVENT = re.compile(r" (\d+)\.(\d+): (\w+): (?:.*func=(\w+)\+)?")

# Registers of a bridge that decide what reaches the devices below, beside the bus numbers and
# Bridge Control that `fabric` knows (PCIe r6.0, sec 7.5.1.3 and 7.5.3): offset, length. Any write
# to these is one too many; in PCI Express registers, one that changes the bits.
BAR0 = 0x10
HEADER = ((BAR0, 8), (0x1C, 2), (0x20, 20), (0x38, 4))
EXPRESS = ((0x08, 0xFFF0), (0x10, 0x00FB), (0x28, 0xFFFF))


def many(n: int, per_port: int = 8, driver: str = "pvpanic-pci") -> Topology:
    """n functions of a kind, so many to a root port, and eight root ports to a slot."""
    ports = []
    for port in range((n + per_port - 1) // per_port):
        first = port * per_port
        below = [Device(driver, f"fn{first + i}",
                        {**({"multifunction": "on"} if i == 0 else {}),
                         **({"serial": "pcilu"} if driver == "nvme" else {})}, addr=f"0.{i}")
                 for i in range(min(per_port, n - first))]
        props = {"io-reserve": "0"}
        if port % 8 == 0:
            props["multifunction"] = "on"
        ports.append(Device("pcie-root-port", f"rp{port}", props, below,
                            addr=f"{Topology.FIRST_SLOT + port // 8:x}.{port % 8}", bridge=True))
    return Topology(*ports)


def mixed() -> Topology:
    """Functions with more registers than those of `many`, and one beside them that stays behind."""
    return Topology(
        root_port("rp0", switch("up0", downstream("dn0", nic("nic0")),
                                downstream("dn1", Device("nvme", "disk", {"serial": "pcilu"})))),
        root_port("rp1", nic("nic1")), root_port("beside0", nic("beside1")))


# How many functions of `mixed` are preserved: those that come first. The others go by this name.
MIXED = 3
BESIDE = ", beside"


def fabric_fields(space: Config) -> list[fabric.Field]:
    """What no write to a bridge above a preserved device may reach, or change."""
    fields = [*fabric.fields(space, True), fabric.BUS_NUMBERS,
              fabric.Field("decode", 0x04, 2, 0x3, fabric.CHANGE)]
    for offset, size in HEADER:
        fields.append(fabric.Field("addresses", offset, size, (1 << 8 * size) - 1, fabric.ANY))
    express = space.capability(config.EXPRESS)
    if express:
        fields += [fabric.Field("PCI Express settings", express + offset, 2, mask, fabric.CHANGE)
                   for offset, mask in EXPRESS]
    return fields


def is_fabric_write(write: witness.Access, fields: list[fabric.Field], space: Config) -> bool:
    """Is it one too many? What a field is in the end tells what changes it."""
    for f in fields:
        bits = fabric.written(write, f)
        if bits is not None and (f.forbidden == fabric.ANY
                                 or bits != space.get(f.offset, f.size) & f.mask):
            return True
    return False


def capabilities(space: Config) -> list[int]:
    """Where the capabilities are, of both lists."""
    found, at = [], space.get(config.FIRST, 1)
    while at:
        found.append(at)
        at = space.get(at + 1, 1)
    at = config.EXTENDED if len(space.raw) > config.EXTENDED else 0
    while at:
        found.append(at)
        at = space.get(at + 2, 2) >> 4
    return found


COUNTED = ("reads", "writes", "fabric writes", "look-ups")


@dataclass
class Accesses:
    """Config accesses of all functions of one kind together."""

    functions: int = 0
    total: Counter[str] = field(default_factory=Counter)
    registers: Counter[int] = field(default_factory=Counter)    # reads of each
    least_reads: int = 0    # a function, by any enumeration: its header and each capability's head

    def add(self, space: Config, reads: Counter[int], writes: int, fabric_writes: int) -> None:
        heads = capabilities(space)
        self.functions += 1
        self.registers += reads
        self.total += Counter({
            "reads": reads.total(), "writes": writes, "fabric writes": fabric_writes,
            "look-ups": sum(reads[at] for at in (config.STATUS, config.FIRST, *heads))})
        self.least_reads = 16 + len(heads)

    def mean(self, what: str) -> float:
        """Per function."""
        return round(self.total[what] / self.functions, 2)


@dataclass
class Outcome:
    """One machine: what its live update cost."""

    outgoing: int = 0       # instructions from the system call to the end of device_shutdown()
    shutdown: int = 0       # of these, after the freeze: reboot notifiers and device_shutdown()
    boot: int = 0           # and from the next kernel's entry to its user space
    first_look: int = 0     # of these, before anything is done to a PCI device
    enumeration: int = 0
    sleeps: int = 0         # how often the enumeration left the CPU idle
    initcalls: dict[str, int] = field(default_factory=dict)
    accesses: dict[str, Accesses] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    config: dict[str, Cost] = field(default_factory=dict)   # accesses of each phase
    works: int = 0          # that the freeze gave others to do
    guard: int | None = None    # writes that it dropped, None without one

    def json(self) -> dict[str, Any]:
        """For the report, per function, and with registers as people write them."""
        return {**asdict(self), "accesses": {name: {
            "functions": a.functions, "least reads": a.least_reads,
            **{what: a.mean(what) for what in COUNTED},
            "reads of": {f"{at:#05x}": round(n / a.functions, 2)
                         for at, n in sorted(a.registers.items())}}
            for name, a in self.accesses.items()}}


def count_accesses(machine: Machine, outcome: Outcome) -> None:
    """Config accesses of the incoming boot, until its user space answers."""
    topology = machine.topology
    trace = witness.Trace(machine.folder / "trace.log", topology, machine.booted_at[1])
    outcome.config["way out"] = trace.cost(1, True)
    outcome.config["freezing"], outcome.config["shutdown"] = trace.way_out(1)
    outcome.config["boot"] = trace.cost(2, False)
    spaces: dict[str, Config] = {}
    for dev in topology.walk():
        name = dev.driver + (BESIDE if dev.id.startswith("beside") else "")
        if dev.bridge or name not in spaces:    # endpoints of one kind look alike
            spaces[name] = config.read(machine, topology.bdf[dev.id])
        space = spaces[name]
        writes = trace.writes(dev.id, 2)
        fields = fabric_fields(space) if dev.bridge else []
        outcome.accesses.setdefault(name, Accesses()).add(
            space, trace.registers(dev.id, 2), len(writes),
            sum(is_fabric_write(write, fields, space) for write in writes))


def count_instructions(machine: Machine, outcome: Outcome) -> None:
    """Instructions from where the kernel's clock begins to the first one of user space.

    It counts what process 1 runs, and what ran before there was one: others, such as the one that
    unpacks the initrd meanwhile, take turns with it.
    """
    began: dict[str, int] = {}
    away = 0                            # until now, how long process 1 did not run
    since: int | None = None            # when it went
    enumerating = False
    for line in machine.sh("grep -E '(prev|next)_pid=[01] |initcall_|=/init ' "
                           "/sys/kernel/tracing/trace").out.splitlines():
        event = EVENT.search(line)
        assert event, line
        now = int(event[1] + event[2])      # microseconds
        if event[3] == "sched_switch":
            if "next_pid=1 " in line and since is not None:
                away += now - since
                since = None
            if "prev_pid=1 " in line:
                since = now
            outcome.sleeps += enumerating and "next_pid=0 " in line
        elif event[3] == "sched_process_exec":
            outcome.boot = (now - away) * 1000
            break
        else:
            name = event[4]
            if event[3] == "initcall_finish" and name in ENUMERATION:
                outcome.initcalls[name] = (now - away - began[name]) * 1000
            enumerating = event[3] == "initcall_start" and name in ENUMERATION
            began[name] = now - away
            if enumerating and not outcome.first_look:
                outcome.first_look = began[name] * 1000
    assert outcome.boot, "the trace does not tell when the kernel ran init"
    outcome.enumeration = sum(outcome.initcalls.values())


def works(console: str) -> int:
    """What a freeze gives others to do: works, but for what the rig types, and CPUs of a drain."""
    return len(re.findall(r"workqueue_queue_work: (?!.*flush_to_ldisc)", console)) + \
        sum(map(int, re.findall(r"pci_liveupdate_drain: cpus=(\d+)", console)))


def count_outgoing(machine: Machine, outcome: Outcome) -> None:
    """From kexec_try's mark to the kernel's last word before it jumps, waits included.

    The jump and the unpacking of the next kernel are not in it: they are the same for any kernel.
    Once all is frozen, notifiers are run, and devices are shut down. Each line that tells so
    takes 6,000 instructions itself.
    """
    log = (machine.folder / "console.log").read_text(errors="replace")
    # One that was refused may have been told before.
    way = log[log.rindex("kexec_try: exec"):log.index("kexec_core: Starting new kernel")]
    assert "function=refresh_vm_stats" in log, "the trace does not tell of works"
    outcome.works = works(way.partition("notifier_run: ")[0])
    began, frozen, ended = (
        [int("".join(found)) for found in re.findall(rf"\[ *(\d+)\.(\d+)\] {what}", log)]
        for what in ("kexec_try: exec", "notifier_run: ", "kexec_core: Starting new kernel"))
    assert began and frozen and len(ended) == 1, f"{began}, {frozen}, {ended}"
    assert began[-1] < frozen[0] < ended[0]
    outcome.outgoing = (ended[0] - began[-1]) * 1000
    outcome.shutdown = (ended[0] - frozen[0]) * 1000


def freeze(machine: Machine, n: int) -> int:
    """Instructions of a kexec that is refused at the last of n functions, and of the thaw.

    That one's first BAR is not what is written down of it. It is put right again.
    """
    bdf = machine.sh(f"cd /sys/bus/pci/drivers/vfio-pci; ls -d 0000:* | sed -n {n}p").out.strip()
    right = config.read(machine, bdf).get(BAR0, 4)
    assert machine.load().rc == 0
    config.write(machine, bdf, BAR0, (right ^ 1 << 24).to_bytes(4, "little"))
    machine.mark_step()
    refused = machine.run("kexec_try exec").json()
    machine.mark_step()
    config.write(machine, bdf, BAR0, right.to_bytes(4, "little"))
    assert refused["errno"] == "EIO", refused
    return int(refused["ns"])


# What lu_bulk marks one after another, and the rig.
BEFORE, AFTER = ("preserve", "unpreserve"), ("retrieve", "attach", "arm", "finish")


def count_steps(machine: Machine, preserved: bool) -> dict[str, Cost]:
    """Config accesses of each step that was marked, in the kernel before and in the next one.

    Between what one program marks and the next one there is a gap. The last of the attempts to
    preserve counts: nothing that a first one leaves behind comes in between.
    """
    trace = witness.Trace(machine.folder / "trace.log", machine.topology)
    after = trace.steps(2)
    if not preserved:
        [bind] = after
        return {"bind": bind}
    *_, preserve, unpreserve, _, freeze = trace.steps(1)
    bind, _, *found = after
    assert len(found) == len(AFTER), found
    return {**dict(zip(BEFORE, (preserve, unpreserve))), "freeze": freeze, "bind": bind,
            **dict(zip(AFTER, found))}


def measure(start: Callable[..., Machine], topology: Topology, kind: str, n: int,
            extra: str = "") -> Outcome:
    """One live update of a machine with n functions; `extra` is for the incoming kernel.

    The kind is what becomes of the functions, "preserved" or "unused", or another kernel's variant.
    `start` takes a topology and options of a machine.
    """
    outcome = Outcome()
    variant = kind if kind in ("stock", "off") else "release"
    machine = start(topology, variant=variant, accel="tcg",
                    cmdline=f"{LIVE_UPDATE} {QUIET}", first=f"{TOLD} {AT_ONCE}", args=CLOCK,
                    timeout=3600, memory="2G" if n <= 256 else "3G")
    drivers = {dev.driver for dev in topology.walk()} & set(IDS)
    bind = ";".join(f"echo {IDS[driver]} >/sys/bus/pci/drivers/vfio-pci/new_id"
                    for driver in sorted(drivers))
    machine.sh(bind)    # in all kinds: the way out wakes what sleeps under vfio-pci
    if kind == "preserved":
        outcome.steps.update(machine.json(f"lu_bulk preserve {n}"))
        outcome.steps["freeze"] = freeze(machine, n)
    # The marks of the way out
    events = f"{OUT} {OURS}" if variant == "release" else OUT
    machine.sh(ITS_OWN)
    machine.sh(f"echo 1 >{TELL}; echo '{events}' >/sys/kernel/tracing/set_event; dmesg -n 6")
    machine.sh(SEEN)
    machine.qmp("trace-event-set-state", name=witness.SAID, enable=True)
    machine.kexec(extra=f"{EVENTS} {extra}")
    machine.qmp("trace-event-set-state", name=witness.SAID, enable=False)
    count_outgoing(machine, outcome)
    count_instructions(machine, outcome)
    count_accesses(machine, outcome)
    outcome.steps["bind"] = int(machine.json(f"lu_bulk bind '{bind}'")["bind"])
    if kind == "preserved":
        outcome.steps.update(machine.json(f"lu_bulk resume {n}"))
        counts = machine.run("cat /sys/bus/pci/devices/*/liveupdate/guard_count 2>/dev/null").out
        outcome.guard = sum(map(int, counts.split())) if counts else None
    machine.close()
    outcome.config.update(count_steps(machine, kind == "preserved"))
    return outcome


def measure_pages(start: Callable[..., Machine], variant: str, n: int) -> int:
    """Instructions of a boot that was handed n pages, none of which is next to another."""
    outcome = Outcome()
    machine = start(Topology(), variant=variant, accel="tcg", cmdline=f"{LIVE_UPDATE} {TRACING}",
                    args=CLOCK, timeout=3600, memory="1G")
    machine.json(f"lu_bulk pages {n}")
    machine.kexec()
    count_instructions(machine, outcome)
    machine.close()
    return outcome.boot


@dataclass
class Functions:
    """Virtual Functions of one device: what the next kernel does to have them."""

    reads: float            # of one
    writes: float
    owner_writes: int       # of their Physical Function
    sleeps: int             # of the enumeration
    enabling: int           # nanoseconds that enabling them took, waits included


def measure_functions(start: Callable[..., Machine], kind: str, n: int) -> Functions:
    """n Virtual Functions of an NVMe controller, preserved, or enabled anew in a stock kernel."""
    stock = kind == "stock"
    pf = "nvme0"
    machine = start(Topology(root_port("rp0", sriov.controller(pf, n))),
                    variant="stock" if stock else "release", accel="tcg",
                    cmdline=f"{LIVE_UPDATE} {QUIET}", args=CLOCK, timeout=3600)
    vfs = sriov.enable(machine, pf, n)
    if not stock:
        machine.sh(f"echo {IDS['nvme']} >/sys/bus/pci/drivers/vfio-pci/new_id")
        machine.sh(f"lu_bulk preserve {n}")
    machine.kexec(extra=EVENTS)
    outcome = Outcome()
    count_instructions(machine, outcome)
    enabling = 0
    if stock:       # what the kernel before left on, it has switched off by now
        machine.json(f"pci_cfg bind {machine.topology.bdf[pf]} {sriov.STUB}")
        numvfs = attribute(machine, pf, "sriov_numvfs")
        enabling = int(machine.json(f"lu_bulk bind 'echo {n} >{numvfs}'")["bind"])
    assert sriov.links(machine, pf) == [machine.topology.bdf[vf] for vf in vfs]
    trace = witness.read(machine)
    counts = Functions(sum(trace.reads(vf, 2) for vf in vfs) / n,
                       sum(len(trace.writes(vf, 2)) for vf in vfs) / n,
                       len(trace.writes(pf, 2)), outcome.sleeps, enabling)
    machine.close()
    return counts


ABI = paths.BUILD / "src" / "include" / "linux" / "kho" / "abi"


def _size(include: Path, header: str, name: str) -> int:
    """Of a structure, in bytes, as the kernel's header asserts it."""
    found = re.search(rf"static_assert\(sizeof\(struct {name}\) == (\d+)\)",
                      (include / header).read_text())
    assert found, f"{header} does not assert the size of {name}"
    return int(found[1])


def handed_over(include: Path = ABI) -> dict[str, int]:
    """Bytes for each function, from the sizes that the kernel's headers assert."""
    return {"pci record": _size(include, "pci.h", "pci_liveupdate_record_ser"),
            "vfio-pci file, version 1": _size(include, "vfio_pci.h", "vfio_pci_liveupdate_v1_ser"),
            "header, once": _size(include, "pci.h", "pci_liveupdate_header_ser")}


def frozen(include: Path = ABI) -> dict[str, int]:
    """Bytes of what goes on translated. Each domain has a device at least, and of units there is
    one at least, which the header is counted with."""
    size = {name: _size(include, "iommu.h", f"iommu_liveupdate{name}_ser")
            for name in ("_page", "_domain", "_unit", "")}
    return {"table page": size["_page"], "device": size["_domain"],
            "unit": size["_unit"] + size[""]}
