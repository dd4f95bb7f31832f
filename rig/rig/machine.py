# SPDX-License-Identifier: GPL-2.0
"""A virtual machine: its command line, its life, and the JSON channel to its agent."""

from __future__ import annotations

import base64
import json
import os
import select
import shlex
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from . import initrd, paths, qemu
from .frames import Sender
from .topology import Topology

CONSOLE = {"x86_64": "ttyS0", "arm64": "ttyAMA0"}
CHANNEL = {"x86_64": "ttyS1", "arm64": "hvc0"}
LIVE_UPDATE = "kho=on liveupdate=on"
# For q35. With ACPI hot-plug QEMU keeps slots from the kernel's drivers.
NATIVE_HOTPLUG = ["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"]
LEVELS = "console_msg_format=syslog"    # each line of the console begins with its level
TRACE = ["pci_cfg_read", "pci_cfg_write", "pci_update_mappings_add", "pci_update_mappings_del",
         "e1000e_rx_written_to_guest", "e1000e_rx_not_written_to_guest", "e1000e_rx_descr",
         "e1000x_rx_can_recv_disabled", "qdev_reset"]
FIRMWARE = {"x86_64": "/usr/share/ovmf/OVMF.fd", "arm64": "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd"}
MARK = 0xA0     # the marker's value is this plus the number of the boot that ends
STEP = 0x3F     # a byte of the host bridge that nothing but its mark reads alone


class MachineError(Exception):
    """The machine did not do what was asked: it hangs, it is gone, or its agent said no."""


@dataclass
class Result:
    """What a command in the guest came to."""

    rc: int
    out: str

    def json(self) -> dict[str, Any]:
        """The last line of output that is a JSON object."""
        for line in reversed(self.out.splitlines()):
            if line.startswith("{"):
                return json.loads(line)
        raise MachineError(f"no JSON in the output (rc {self.rc}): {self.out!r}")


@dataclass(frozen=True)
class Hardware:
    """What a host may have beside CPUs, memory and the devices of the topology.

    `firmware` "uefi" is OVMF or AAVMF; on arm64 it brings ACPI along, and without it there is a
    device tree. `iommu` is an SMMU there and VT-d here: true, or VT-d's properties by the names of
    qemu.FEATURES or QEMU's.
    `huge` says how many huge pages of a size every kernel sets aside.
    """

    firmware: str = ""
    cpu: str = ""
    nodes: int = 1
    huge: dict[str, int] = field(default_factory=dict)
    iommu: bool | dict[str, str] = False
    watchdog: bool = False


class Machine:
    """One QEMU process. Everything it leaves behind is in `folder`."""

    def __init__(self, folder: Path, topology: Topology, *, arch: str = "x86_64",
                 variant: str = "release", cmdline: str = LIVE_UPDATE, accel: str = "tcg",
                 smp: int = 1, memory: str | None = None, rate: float | None = None,
                 args: list[str] | None = None, trace: list[str] | None = None,
                 kernel: Path | None = None, timeout: float = 180.0,
                 first: str = "", before: list[str] | None = None, needs: str = "",
                 **hardware: Any) -> None:
        self.folder = folder
        self.topology = topology
        self.arch = arch
        self.variant = variant
        self.accel = accel
        self.slow = 5.0 if variant == "debug" else 1.0
        self.timeout = timeout * self.slow
        # KASAN's shadow counts as reserved memory, of which KHO wants twice as much as scratch.
        # On arm64 image and initrd have to be in the first area, the highest: the initrd above.
        room = variant == "debug" and "kho_scratch=" not in cmdline
        scratch = " kho_scratch=" + ("256M,512M,64M" if arch == "arm64" else "64M,1G,64M")
        self.cmdline = cmdline + (scratch if room else "")
        self.first = first      # words for the first kernel only
        self.boot = 0
        self.release = ""
        self.booted_at: list[float] = []
        self.jumped_at: list[float] = []
        self.ended_at: float | None = None
        self.idle = False       # the agent waits for a command
        self.dropped: dict[int, dict[str, int]] = {}    # what the guards of past kernels counted
        # A ring must last until the next kernel has booted, and a debug kernel takes a minute.
        rate = rate or (100.0 if variant == "debug" else 250.0)
        self.senders = {id: Sender(rate, n + 1) for n, id in enumerate(topology.nics())}
        self._smp = smp
        self._memory = memory or ("3G" if variant == "debug" else "2G")
        self._args = args or []
        self._before = before or []     # what devices refer to
        self._hardware = Hardware(**hardware)
        iommu = self._hardware.iommu
        self._iommu: dict[str, str] = iommu if isinstance(iommu, dict) else {}
        faults = ["vtd_dmar_fault"] if iommu and arch == "x86_64" else []
        self._trace = TRACE + faults + (trace or [])
        self._needs = (*needs.split(), *(name for name in self._iommu if name in qemu.FEATURES))
        self._kernel = kernel or paths.kernel_dir(arch, variant)
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        self._log: Any = None
        self._channel: socket.socket | None = None
        self._qmp: socket.socket | None = None

    # -- what is on its command line ------------------------------------------------------------

    def kernel_cmdline(self, boot: int, extra: str = "") -> str:
        """The kernel command line of a boot; `extra` comes last, so it may override."""
        # An emulated timer may be late when the kernel tries it out.
        timer = "no_timer_check" if self.arch == "x86_64" else ""
        huge = " ".join(f"hugepagesz={size} hugepages={count}"
                        for size, count in self._hardware.huge.items())
        words = [f"console={CONSOLE[self.arch]} {LEVELS} rdinit=/init retain_initrd panic=-1",
                 timer, "vfio.enable_unsafe_noiommu_mode=1",
                 f"pcilu.channel={CHANNEL[self.arch]} pcilu.boot={boot}", huge, self.cmdline,
                 self.first if boot == 1 else "", extra]
        return " ".join(word for word in words if word)

    def _user_space(self) -> list[str]:
        return ["-initrd", str(initrd.build(self.arch, self.variant, folder=self._kernel))]

    def binary(self) -> str:
        """The QEMU that can do what this machine needs."""
        return qemu.binary(self.arch, self._needs)

    def _machine_args(self) -> list[str]:
        """The board, its CPUs and memory, and what is on it."""
        hardware = self._hardware
        cpu = hardware.cpu or ("host" if self.accel == "kvm" else
                               "max" if self.arch == "arm64" else "")
        board = "virt,gic-version=3" if self.arch == "arm64" else "q35"
        if hardware.iommu:
            board += ",iommu=smmuv3" if self.arch == "arm64" else ",kernel-irqchip=split"
        sockets = f",sockets={hardware.nodes}" if hardware.nodes > 1 else ""
        args = ["-M", board, "-m", self._memory, "-smp", f"{self._smp}{sockets}"]
        if cpu:
            args += ["-cpu", cpu]
        if hardware.firmware == "uefi":
            args += ["-bios", FIRMWARE[self.arch]]
        if hardware.iommu and self.arch == "x86_64":
            names = {name: qemu.spelled(self.binary(), name) for name in self._needs}
            args += ["-device", ",".join(["intel-iommu", *(
                f"{names.get(name, name)}={value}" for name, value in self._iommu.items())])]
        if hardware.watchdog:
            args += ["-device", "i6300esb,id=watchdog0,bus=pcie.0,addr=3"]
        if hardware.nodes > 1:
            args += self._nodes()
        return args

    def _nodes(self) -> list[str]:
        """Memory, dealt out evenly, and CPUs, a socket to each."""
        amount, unit = int(self._memory[:-1]), self._memory[-1]
        amount *= 1024 if unit == "G" else 1
        count, args = self._hardware.nodes, []
        for node in range(count):
            args += ["-object", f"memory-backend-ram,id=node{node},size={amount // count}M",
                     "-numa", f"node,nodeid={node},memdev=node{node}",
                     "-numa", f"cpu,node-id={node},socket-id={node}"]
        return args

    def qemu_args(self, channel: int, qmp: int) -> list[str]:
        """QEMU's command line; the two arguments are inherited sockets."""
        # With a thread for each CPU, QEMU 7.2 may read a stale section while another moves BARs.
        single = ",thread=single" if self.accel == "tcg" and self._smp > 1 else ""
        args = [self.binary(), *self._machine_args(), "-accel", self.accel + single,
                "-nodefaults", "-display", "none",
                "-no-reboot", "-msg", "timestamp=on", "-D", str(self.folder / "trace.log"),
                "-kernel", str(self._kernel / paths.IMAGE[self.arch]),
                *self._user_space(), "-append", self.kernel_cmdline(1),
                "-chardev", f"file,id=console,path={self.folder / 'console.log'}",
                "-serial", "chardev:console",
                "-chardev", f"socket,id=channel,fd={channel}",
                "-chardev", f"socket,id=qmp,fd={qmp}", "-mon", "chardev=qmp,mode=control"]
        if self.arch == "arm64":
            args += ["-global", "virtio-mmio.force-legacy=false",
                     "-device", "virtio-serial-device", "-device", "virtconsole,chardev=channel"]
        else:
            args += ["-serial", "chardev:channel"]
        for id, sender in self.senders.items():
            args += ["-netdev", f"dgram,id=net-{id},local.type=fd,local.str={sender.qemu.fileno()}"]
        args += self._before + self.topology.args()
        for event in qemu.traceable(self.binary(), self._trace):
            args += ["-trace", event]
        return args + self._args

    # -- life ------------------------------------------------------------------------------------

    def start(self) -> "Machine":
        """Start QEMU and wait until the first kernel's agent answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._channel, channel = socket.socketpair()
        # So that the guest need not wait for us: a console sends a few bytes at a time.
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        self._qmp, qmp = socket.socketpair()
        args = self.qemu_args(channel.fileno(), qmp.fileno())
        (self.folder / "command").write_text(shlex.join(args) + "\n")
        self._log = open(self.folder / "channel.log", "w", encoding="utf-8")
        fds = [channel.fileno(), qmp.fileno()]
        fds += [sender.qemu.fileno() for sender in self.senders.values()]
        with open(self.folder / "qemu.log", "wb") as log:
            self._process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *args],
                                             stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                             pass_fds=fds)
        channel.close()
        qmp.close()
        self.wait_boot(1)
        return self

    def __enter__(self) -> "Machine":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait_exit(self, timeout: float | None = None) -> None:
        """Wait until QEMU ends, as it does when the guest resets or powers off."""
        assert self._process is not None
        try:
            self._process.wait(timeout or self.timeout)
        except subprocess.TimeoutExpired:
            raise MachineError("the machine goes on although it should have reset") from None

    def close(self) -> None:
        """Stop everything. The evidence stays."""
        if self.ended_at is None:
            self.ended_at = time.time()
        for sender in self.senders.values():
            sender.stop()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for thing in (self._channel, self._qmp, self._log, *self.senders.values()):
            if thing is not None:
                thing.close()
        self._channel = self._qmp = self._log = self._process = None

    # -- the channel -----------------------------------------------------------------------------

    def _event(self, timeout: float) -> dict[str, Any]:
        """The next JSON line from the guest. Anything else on the line is firmware noise."""
        assert self._channel is not None
        deadline = time.monotonic() + timeout
        while True:
            line, newline, rest = self._buffer.partition(b"\n")
            if newline:
                self._buffer = rest
                text = line.decode(errors="replace").strip()
                self._log.write(f"{time.time():.6f} < {text}\n")
                self._log.flush()
                # A console may echo part of a long command before it.
                start = text.find('{"event":')
                if start >= 0:
                    self.idle = True
                    return json.loads(text[start:])
                continue
            ready, _, _ = select.select([self._channel], [], [], min(1.0, timeout))
            if ready:
                data = self._channel.recv(65536)
                if not data:
                    raise MachineError(f"QEMU ended ({self._last_words()})")
                self._buffer += data
            elif time.monotonic() > deadline:
                self.note_where_it_stands()
                raise MachineError(f"no answer within {timeout:.0f} s ({self._last_words()})")

    def note_where_it_stands(self) -> None:
        """Two looks at the CPUs of a machine that does not answer: does it wait, run or spin?"""
        assert self._qmp is not None
        with open(self.folder / "registers.log", "w", encoding="utf-8") as log:
            self._qmp.settimeout(10)
            try:
                for _ in range(2):
                    log.write(self.hmp("info registers -a"))
                    time.sleep(1)
            except (OSError, MachineError, ValueError) as error:
                log.write(f"{error}\n")
            finally:
                self._qmp.settimeout(None)

    def _last_words(self) -> str:
        texts = []
        for name in ("qemu.log", "console.log"):
            path = self.folder / name
            lines = path.read_text(errors="replace").splitlines() if path.exists() else []
            texts += lines[-3:]
        return " | ".join(texts) + f"; see {self.folder}"

    def _send(self, line: str) -> float:
        """Send a line; returns when."""
        assert self._channel is not None
        assert "\n" not in line
        self._log.write(f"{time.time():.6f} > {line}\n")
        self._log.flush()
        self.idle = False
        now = time.time()
        self._channel.sendall(line.encode() + b"\n")
        return now

    def wait_boot(self, boot: int, timeout: float | None = None) -> str:
        """Wait for the agent of boot number `boot`; return that kernel's release."""
        return self._booted(self._event(timeout or self.timeout), boot)

    def _booted(self, event: dict[str, Any], boot: int) -> str:
        if event.get("event") != "boot" or event.get("boot") != boot:
            raise MachineError(f"boot {boot} was expected, not {self._readable(event)}")
        self.boot = boot
        self.release = str(event["release"])
        self.booted_at.append(time.time())
        return self.release

    @staticmethod
    def _readable(event: dict[str, Any]) -> str:
        if event.get("event") == "done":
            return f"rc {event['rc']}: {base64.b64decode(event['out']).decode(errors='replace')!r}"
        return str(event)

    def run(self, command: str, timeout: float | None = None) -> Result:
        """Run a shell command in the guest, whatever comes of it."""
        self._send(command)
        event = self._event(timeout or self.timeout)
        if event.get("event") != "done":
            raise MachineError(f"{command!r} ended in {event}")
        return Result(event["rc"], base64.b64decode(event["out"]).decode(errors="replace"))

    def sh(self, command: str, timeout: float | None = None) -> Result:
        """Run a shell command in the guest that must succeed."""
        result = self.run(command, timeout)
        if result.rc:
            raise MachineError(f"{command!r} failed with {result.rc}: {result.out.strip()}")
        return result

    def json(self, command: str, timeout: float | None = None) -> dict[str, Any]:
        """Run a guest program that must succeed, and return its JSON."""
        return self.sh(command, timeout).json()

    def watched(self, command: str, begin: Callable[[], None], end: Callable[[], None]) -> Result:
        """Run a command of the shell, with something done right before and after it, while the
        guest waits and executes nothing but what it takes to wait."""
        tty = f"/dev/{CHANNEL[self.arch]}"
        self._send(f"pause() {{ echo '{{\"event\":\"pause\"}}' >{tty}; read -r _ <{tty}; }}; "
                   f"pause; {command}; rc=$?; pause; exit $rc")
        for step in (begin, end):
            event = self._event(self.timeout)
            if event.get("event") != "pause":
                raise MachineError(f"{command!r} ended in {self._readable(event)}")
            step()
            self._send("")
        event = self._event(self.timeout)
        if event.get("event") != "done":
            raise MachineError(f"{command!r} ended in {event}")
        return Result(event["rc"], base64.b64decode(event["out"]).decode(errors="replace"))

    # -- kexec -----------------------------------------------------------------------------------

    def drops(self) -> dict[str, int]:
        """Functions that this kernel's guard kept config writes from, and how many."""
        out = self.run("grep -s . /dev/null /sys/bus/pci/devices/*/liveupdate/guard_count").out
        counts = (line.rsplit(":", 1) for line in out.splitlines())
        return {path.split("/")[5]: int(count) for path, count in counts if count != "0"}

    def load(self, image: str = "next", extra: str = "", options: str = "-s") -> Result:
        """Load the next kernel; its command line is ours with `extra` at the end."""
        line = self.kernel_cmdline(self.boot + 1, extra)
        return self.run(f"kexec {options} -l /boot/{image} --initrd=/sys/firmware/initrd "
                        f"--command-line={shlex.quote(line)}")

    def mark(self) -> None:
        """Write the marker that ends this kernel's part of the trace."""
        self.sh(f"printf '\\{MARK + self.boot % 16:03o}' | dd bs=1 seek=60 conv=notrunc "
                "of=/sys/bus/pci/devices/0000:00:00.0/config")

    def mark_step(self) -> None:
        """Read what nothing else reads alone, as lu_bulk does: a step begins, or ends."""
        self.sh(f"dd bs=1 skip={STEP} count=1 of=/dev/null "
                "if=/sys/bus/pci/devices/0000:00:00.0/config")

    def jump(self, nth: int | None = None) -> Result | None:
        """Mark the trace and jump. None: the next kernel is up; a result: this one refused.

        With a number, a debug kernel fails at that of its chances to.
        """
        self.dropped[self.boot] = self.drops()
        self.mark()
        self.jumped_at.append(time.time())
        self._send("kexec_try exec" + (f" {nth}" if nth else ""))
        event = self._event(self.timeout)
        if event.get("event") == "done":
            self.jumped_at.pop()
            return Result(event["rc"], base64.b64decode(event["out"]).decode(errors="replace"))
        self._booted(event, self.boot + 1)
        return None

    def leave(self) -> None:
        """Mark the trace and jump without waiting for what comes."""
        self.dropped[self.boot] = self.drops()
        self.mark()
        self.jumped_at.append(time.time())
        self._send("kexec_try exec")

    def kexec(self, image: str = "next", extra: str = "") -> str:
        """A live update that must work; returns the new kernel's release."""
        loaded = self.load(image, extra)
        if loaded.rc:
            raise MachineError(f"kexec -l failed with {loaded.rc}: {loaded.out.strip()}")
        refused = self.jump()
        if refused is not None:
            raise MachineError(f"the kexec was refused: {refused.out.strip()}")
        return self.release

    def suspend(self, state: str) -> Result:
        """Suspend and, once QEMU says that the guest sleeps, wake it."""
        self._send(f"kexec_try suspend {state}")
        deadline = time.monotonic() + self.timeout
        while self.qmp("query-status")["status"] != "suspended":
            if time.monotonic() > deadline:
                raise MachineError("the machine does not fall asleep")
            time.sleep(0.2)
        self.qmp("system_wakeup")
        event = self._event(self.timeout)
        return Result(event["rc"], base64.b64decode(event["out"]).decode(errors="replace"))

    def crash(self) -> None:
        """Panic. A crash kernel must have been loaded with `load_crash`."""
        self._send("echo c >/proc/sysrq-trigger")

    def load_crash(self, image: str = "next", extra: str = "") -> Result:
        """Load a crash kernel with a small initrd made of what is in the running one."""
        self.sh("cd / && (find bin sbin lib lib64 usr opt init; echo dev; echo dev/console; "
                "echo dev/null; echo proc; echo sys; echo tmp; echo run) 2>/dev/null "
                "| cpio -o -H newc >/tmp/crash.cpio")
        line = self.kernel_cmdline(self.boot + 1, extra)
        return self.run(f"kexec -s -p /boot/{image} --initrd=/tmp/crash.cpio "
                        f"--command-line={shlex.quote(line)}")

    def leaks(self) -> None:
        """Have kmemleak look twice; it reports on the console, where a splat is found."""
        self.run("test -e /sys/kernel/debug/kmemleak && { echo scan >/sys/kernel/debug/kmemleak; "
                 "sleep 6; echo scan >/sys/kernel/debug/kmemleak; "
                 "cat /sys/kernel/debug/kmemleak >/dev/console; }")

    # -- the monitor -----------------------------------------------------------------------------

    def qmp(self, command: str, **arguments: Any) -> Any:
        """One QMP command."""
        assert self._qmp is not None
        if not hasattr(self, "_qmp_file"):
            self._qmp_file = self._qmp.makefile("rw", encoding="utf-8")
            self._qmp_file.readline()
            self.qmp("qmp_capabilities")
        self._qmp_file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._qmp_file.flush()
        while True:
            answer = json.loads(self._qmp_file.readline())
            if "error" in answer:
                raise MachineError(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def hmp(self, command: str) -> str:
        """One command of the human monitor."""
        return str(self.qmp("human-monitor-command", **{"command-line": command}))


def probe_accel(arch: str, variant: str = "release") -> tuple[str, str]:
    """"kvm" if our kernel boots with it, else "tcg"; and the reason. The answer is kept."""
    forced = os.environ.get("PCILU_ACCEL")
    if forced:
        return forced, "set by PCILU_ACCEL"
    if os.uname().machine != {"x86_64": "x86_64", "arm64": "aarch64"}[arch]:
        return "tcg", "the host has another architecture"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg", "/dev/kvm is not there or not ours to use"
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    kept = paths.BUILD / f"accel-{arch}.json"
    if kept.exists():
        known = json.loads(kept.read_text())
        if known["boot_id"] == boot_id:
            return known["accel"], known["reason"]
    machine = Machine(paths.BUILD / f"accel-{arch}", Topology(), arch=arch, variant=variant,
                      accel="kvm", timeout=60)
    try:
        with machine:
            machine.kexec()
        accel, reason = "kvm", "a kernel booted and a kexec worked with it"
    except MachineError:
        accel, reason = "tcg", f"KVM is there, but no kernel boots with it (see {machine.folder})"
    kept.write_text(json.dumps({"boot_id": boot_id, "accel": accel, "reason": reason}))
    return accel, reason
