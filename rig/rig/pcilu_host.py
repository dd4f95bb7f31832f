# SPDX-License-Identifier: GPL-2.0
"""The tools on the host: real programs, a temporary /sys, /proc and /run, a stand-in kernel."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

from .fakeluo import FakeLuo
from .paths import BUILD, TREE

TOOLS = Path(os.environ.get("PCILU_TOOLS", BUILD / "tools-san"))
SCHEMAS = TREE / "tools" / "pcilu" / "schema"
POLICY = "user root use *\nuser root hold\nuser * use shared-*\n"

MSG = struct.Struct("=IHHIIiIIIiI8s64s")
MAGIC, VERSION = 0x554c4350, 1
(HELLO, CREATE, ATTACH, RETRIEVE, RELEASE, LIST, HOLD, FOLLOW, SUBSCRIBE, ANSWER, EVENT,
 SUBSCRIBERS, KEEP, KEPT, REASON) = range(1, 16)
F_REPLY, F_FD, F_HELD = 1, 2, 4


def message(kind: int, name: str = "", *, serial: int = 1, index: int = 0, direction: int = 0,
            magic: int = MAGIC, version: int = VERSION, flags: int = 0, error: int = 0,
            uid: int = 0, pid: int = 0, value: int = 0, reserved: bytes = b"") -> bytes:
    return MSG.pack(magic, version, kind, serial, flags, error, index, direction, uid, pid, value,
                    reserved, name.encode())


def fields(data: bytes) -> dict[str, Any]:
    """What a message says, all of it."""
    assert len(data) == MSG.size, "the connection was closed"
    names = ("magic", "version", "kind", "serial", "flags", "error", "index", "direction", "uid",
             "pid", "value", "reserved", "name")
    found = dict(zip(names, MSG.unpack(data)))
    assert (found["magic"], found["version"]) == (MAGIC, VERSION)
    return found | {"name": found["name"].rstrip(b"\0").decode()}


def checked(text: str) -> dict[str, Any]:
    """A document of pcilu that its schema allows."""
    import jsonschema
    document = json.loads(text)
    schema = json.loads((SCHEMAS / f"{document['schema'].split('/')[1]}.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(document, schema)
    return document


class Host:
    """A host of its own in a folder. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.tools = TOOLS
        self.prefix: list[str] = []     # what runs the daemon
        for name in ("sys/bus/pci/devices", "proc/sys/kernel", "run/pcilud", "dev", "etc/pcilu",
                     "boot", "sys/kernel", "bin"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "dev/liveupdate").touch()
        self.write("proc/cmdline",
                   "BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro kho=on liveupdate=on panic=10\n")
        self.write("proc/sys/kernel/osrelease", "7.3.4-test\n")
        self.write("etc/pcilu/pcilud.policy", POLICY)
        self.write("proc/sys/kernel/arch", "x86_64\n")
        self.luo = FakeLuo(folder / "luo")
        self.luo.kexec_loaded = folder / "sys/kernel/kexec_loaded"
        self.daemon: subprocess.Popen[str] | None = None
        self.log = folder / "pcilud.log"
        self.env = {**os.environ, "PCILU_SYSROOT": str(folder),
                    "PCILU_FAKE_LUO": str(self.luo.path),
                    "LD_PRELOAD": str(TOOLS / "shim.so"), "LC_ALL": "C", "TZ": "UTC",
                    "PATH": f"{folder / 'bin'}:{TOOLS}:{os.environ['PATH']}",
                    "LD_LIBRARY_PATH": str(TOOLS),
                    "ASAN_OPTIONS": "verify_asan_link_order=0:detect_leaks=1:abort_on_error=1",
                    "UBSAN_OPTIONS": "print_stacktrace=1"}
        self.env.pop("NOTIFY_SOCKET", None)

    def __enter__(self) -> "Host":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.luo.close()

    def write(self, path: str, text: str | bytes) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    # --- programs

    def run(self, *argv: str, **kw: Any) -> subprocess.CompletedProcess[str]:
        env = {**self.env, **kw.pop("env", {})}
        return subprocess.run(argv, env=env, text=True, capture_output=True, timeout=120, **kw)

    def pcilu(self, *argv: str, **kw: Any) -> subprocess.CompletedProcess[str]:
        return self.run(str(TOOLS / "pcilu"), *argv, **kw)

    def json(self, *argv: str, rc: int = 0, **kw: Any) -> dict[str, Any]:
        """The JSON of a command, checked against its schema."""
        out = self.pcilu(*argv, "--json", **kw)
        assert out.returncode == rc, (out.returncode, out.stdout, out.stderr)
        return checked(out.stdout)

    def start(self, *argv: str, notify: socket.socket | None = None, fds: list[int] | None = None,
              names: list[str] | None = None, expect_ready: bool = True) -> None:
        env = dict(self.env)
        command = [*self.prefix, str(self.tools / "pcilud"), "--user", "root", "-v", *argv]
        if notify:
            env["NOTIFY_SOCKET"] = notify.getsockname()
        if fds:
            # As systemd does it: descriptors from 3 on, addressed to this very process.
            env["LISTEN_FDS"] = str(len(fds))
            env["LISTEN_FDNAMES"] = ":".join(names or [])
            moves = "".join(f" {3 + n}<&{fd} {fd}<&-" for n, fd in enumerate(fds))
            command = ["bash", "-c", f"export LISTEN_PID=$$; exec \"$@\"{moves}", "-", *command]
        with open(self.log, "a", encoding="utf-8") as log:
            self.daemon = subprocess.Popen(command, env=env, text=True, stderr=log,
                                           pass_fds=fds or ())
        if expect_ready:
            self.wait(lambda: self.daemon and self.daemon.poll() is not None
                      or self.log.read_text().count("ready,") > self._readies)
            assert self.daemon.poll() is None, self.log.read_text()
            self._readies += 1

    _readies = 0

    def stop(self, sig: int = signal.SIGTERM) -> int:
        if self.daemon is None:
            return 0
        self.daemon.send_signal(sig)
        rc = self.daemon.wait(timeout=60)
        self.daemon = None
        return rc

    @staticmethod
    def wait(condition: Any, limit: float = 60) -> None:
        end = time.monotonic() + limit
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.02)

    # --- the socket

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.settimeout(30)
        sock.connect(str(self.root / "run/pcilud/socket"))
        return sock

    def ask(self, sock: socket.socket, data: bytes) -> tuple[int, str, list[int], dict[str, int]]:
        """Sends a message; its reply as errno, name, descriptors, fields."""
        sock.sendall(data)
        reply, fds, _, _ = socket.recv_fds(sock, MSG.size, 4)
        found = fields(reply)
        return -found["error"], found["name"], fds, {
            key: found[key] for key in ("kind", "serial", "flags", "index", "direction", "uid",
                                        "pid")}

    # --- the machine

    def config(self, bdf: str, config: bytes, *, driver: str | None = None,
               state: str | None = "none", cdev: str | None = None, **attributes: str) -> Path:
        """A PCI function. `config` as config_space() makes it."""
        folder = self.root / "sys/bus/pci/devices" / bdf
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config").write_bytes(config)
        header = struct.unpack_from("<HHHHBBBB", config)
        values = {"vendor": f"{header[0]:#06x}", "device": f"{header[1]:#06x}",
                  "class": f"{int.from_bytes(config[9:12], 'little'):#08x}", "irq": "0",
                  "resource": resource_file(config), "power_state": "D0", **attributes}
        for name, text in values.items():
            (folder / name).write_text(text + "\n")
        link = folder / "driver"
        if link.is_symlink():
            link.unlink()
        if driver:
            link.symlink_to(f"../../../bus/pci/drivers/{driver}")
        if state is not None:
            (folder / "liveupdate").mkdir(exist_ok=True)
            (folder / "liveupdate/state").write_text(state + "\n")
        if cdev:
            (folder / "vfio-dev" / cdev).mkdir(parents=True, exist_ok=True)
        return folder

    def process(self, pid: int, comm: str, *files: str) -> None:
        """A process that has files open."""
        self.write(f"proc/{pid}/comm", comm + "\n")
        folder = self.root / f"proc/{pid}/fd"
        folder.mkdir(parents=True, exist_ok=True)
        for n, file in enumerate(files):
            (folder / str(n)).symlink_to(file)

    def running_kernel(self, config: str) -> None:
        import gzip
        self.write("proc/config.gz", gzip.compress(config.encode()))

    def standard(self) -> "Host":
        """A root port with a preserved NIC below it, a disk, and a kernel that can do it all."""
        self.running_kernel(CONFIG)
        self.write("boot/vmlinuz-7.3.4-test", bzimage(release="7.3.4-test"))
        self.write("sys/kernel/kexec_loaded", "0\n")
        self.write("sys/kernel/debug/kho/out/scratch_len", "0x8000000\n0x20000000\n")
        self.config(PORT, config_space(0x1b36, 0x000c, 0x060400, bridge=(0, 1, 1)),
                    driver="pcieport", state="preserved")
        self.config(NIC, config_space(0x8086, 0x10d3, 0x020000, bars=[0xfe000000, 0xfe020000]),
                    driver="vfio-pci", state="preserved", cdev="noiommu-vfio0")
        self.config(DISK, config_space(0x8086, 0x2922, 0x010601, bars=[0xfe100000]),
                    driver="ahci")
        self.process(4711, "vmm", "/dev/vfio/devices/noiommu-vfio0")
        return self


PORT, NIC, DISK = "0000:00:04.0", "0000:01:00.0", "0000:00:1f.2"
CONFIG = "".join(f"CONFIG_{name}=y\n" for name in (
    "PCI_LIVEUPDATE", "LIVEUPDATE", "LIVEUPDATE_MEMFD", "KEXEC_HANDOVER", "KEXEC_FILE", "VFIO_PCI",
    "VFIO_DEVICE_CDEV", "VFIO_NOIOMMU", "IOMMUFD", "IOMMUFD_NOIOMMU", "IKCONFIG",
    "BLK_DEV_INITRD", "RD_GZIP", "RD_XZ", "RD_LZMA", "RD_ZSTD", "RD_LZ4", "BOOT_CONFIG")) + \
    "CONFIG_PCI_LIVEUPDATE_ABI=0x4c550002\nCONFIG_PCI_LIVEUPDATE_ABI_OLDEST=0x4c550001\n"


def config_space(vendor: int, device: int, cls: int, *, bars: list[int] | None = None,
                 bridge: tuple[int, int, int] | None = None, command: int = 0x0406,
                 pri: bool = False, devctl: int = 0x2810, header: int | None = None) -> bytes:
    """4096 bytes: a header, a PCI Express capability, and PRI if asked for."""
    c = bytearray(4096)
    struct.pack_into("<HHHHI", c, 0, vendor, device, command, 0x0010, cls << 8 | 1)
    c[0x0e] = header if header is not None else 1 if bridge else 0
    for n, bar in enumerate(bars or []):
        struct.pack_into("<I", c, 0x10 + 4 * n, bar)
    if bridge:
        c[0x18:0x1b] = bytes(bridge)
        struct.pack_into("<HH", c, 0x20, 0xfe00, 0xfe00)
    else:
        struct.pack_into("<HH", c, 0x2c, vendor, device)
    c[0x34] = 0x40
    struct.pack_into("<BBH", c, 0x40, 0x10, 0, 2)
    struct.pack_into("<H", c, 0x48, devctl)
    if pri:
        struct.pack_into("<IH", c, 0x100, 0x00010013, 1)
    return bytes(c)


def resource_file(config: bytes) -> str:
    lines = []
    for n in range(6):
        bar = struct.unpack_from("<I", config, 0x10 + 4 * n)[0] if config[0x0e] == 0 else 0
        end, flags = (bar + 0x1ffff, 0x40200) if bar else (0, 0)
        lines.append(f"{bar:#018x} {end:#018x} {flags:#018x}")
    return "\n".join(lines + ["0x0000000000000000 0x0000000000000000 0x0000000000000000"])


# --- kernel images

def ikconfig(config: str) -> bytes:
    import gzip
    return b"IKCFG_ST" + gzip.compress(config.encode()) + b"IKCFG_ED"


def compress(how: str, data: bytes) -> bytes:
    import gzip
    import lzma
    if how == "gzip":
        return gzip.compress(data)
    if how == "xz":
        return lzma.compress(data, lzma.FORMAT_XZ, check=lzma.CHECK_CRC32)
    if how == "lzma":
        return lzma.compress(data, lzma.FORMAT_ALONE)
    if how in ("zstd", "bzip2"):
        return subprocess.run([how, "-qc"], input=data, capture_output=True, check=True).stdout
    if how == "lz4":
        return subprocess.run(["lz4", "-lqc"], input=data, capture_output=True, check=True).stdout
    return data


VERSIONS = ("kho-v4", "luo-v5", "memfd-v2")


def kernel(config: str | None, release: str, versions: tuple[str, ...] = VERSIONS) -> bytes:
    """What is packed in an image: its configuration, and words of it that count."""
    return (b"\x7fELF" + os.urandom(2000) + b"Linux version %s (x)\0" +
            f"Linux version {release} (gcc)\0".encode() +
            b"".join(b"\0" + v.encode() + b"\0" for v in versions) +
            (ikconfig(config) if config is not None else b"") + bytes(5000))


def bzimage(config: str | None = CONFIG, how: str = "gzip", *, release: str = "7.3.5-next",
            memory: int = 64 << 20, signed: bool = False, garbage: bytes = b"",
            versions: tuple[str, ...] = VERSIONS, xloadflags: int = 0x23, protocol: int = 0x20f,
            boot_flag: int = 0xaa55) -> bytes:
    """The setup header that matters, a compressed kernel, and the code that unpacks it."""
    packed = kernel(config, release, versions)
    payload = garbage or compress(how, packed) + struct.pack("<I", len(packed))
    code = bytes(16) + payload + b"\x90" * 3000
    code += bytes(-len(code) % 16)
    c = bytearray(1024)
    struct.pack_into("<BH", c, 0x1f1, 1, 0)
    struct.pack_into("<I", c, 0x1f4, len(code) // 16)
    struct.pack_into("<H", c, 0x1fe, boot_flag)
    c[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", c, 0x206, protocol)
    struct.pack_into("<H", c, 0x20e, 0x100)
    c[0x211] = 1
    text = f"{release} (builder) #1 SMP\0".encode()
    c[0x300:0x300 + len(text)] = text
    struct.pack_into("<HI", c, 0x236, xloadflags, 2047)
    struct.pack_into("<II", c, 0x248, 16, len(payload))
    struct.pack_into("<I", c, 0x260, memory)
    if not signed:
        return bytes(c) + code
    pe_header(c, {".text": (1024, len(code))}, at=0x80,
              certificates=(1024 + len(code), 0x500))
    return bytes(c) + code + bytes(0x500)


def pe_header(c: bytearray, sections: dict[str, tuple[int, int]], *, at: int,
              certificates: tuple[int, int] = (0, 0)) -> None:
    """PE32+: a COFF header, data directories, a section table of (offset, size)."""
    c[0:2] = b"MZ"
    struct.pack_into("<I", c, 0x3c, at)
    c[at:at + 4] = b"PE\0\0"
    struct.pack_into("<H", c, at + 6, len(sections))
    struct.pack_into("<H", c, at + 20, 112 + 40)
    struct.pack_into("<H", c, at + 24, 0x20b)
    struct.pack_into("<II", c, at + 24 + 112 + 32, *certificates)
    for n, (name, (offset, size)) in enumerate(sections.items()):
        struct.pack_into("<8sIIII", c, at + 24 + 112 + 40 + 40 * n, name.encode(), size, 0x1000,
                         size, offset)


def unified(parts: dict[str, bytes]) -> bytes:
    """A unified kernel image: ".linux", ".initrd", ".cmdline" as sections of a PE file."""
    c, body, sections = bytearray(1024), b"", {}
    for name, data in parts.items():
        sections[name] = (1024 + len(body), len(data))
        body += data
    pe_header(c, sections, at=0x80)
    return bytes(c) + body


def cpio(files: dict[str, bytes]) -> bytes:
    """An archive of the newc format."""
    out = b""
    for name, data in {**files, "TRAILER!!!": b""}.items():
        text = name.encode() + b"\0"
        fields = (0, 0o100644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(text), 0)
        out += b"070701" + b"".join(b"%08X" % f for f in fields) + text
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return out


def initrd(release: str = "7.3.5-next", how: str = "zstd", *, early: bool = True,
           bootconfig: str = "") -> bytes:
    """Microcode in front as it is, then a packed archive; a boot configuration behind."""
    microcode = {"kernel/x86/microcode/GenuineIntel.bin": bytes(1000)}
    out = cpio(microcode) + bytes(512) if early else b""
    out += compress(how, cpio({"init": b"#!/bin/sh\n",
                               f"usr/lib/modules/{release}/modules.dep": b"x" * 5000}))
    if bootconfig:
        text = bootconfig.encode() + bytes(-len(out + bootconfig.encode()) % 4)
        out += text + struct.pack("<II", len(text), sum(text) & 0xffffffff) + b"#BOOTCONFIG\n"
    return out


def arm64_image(config: str = CONFIG, *, release: str = "7.3.5-arm", flags: int = 2) -> bytes:
    body = kernel(config, release)[4:]
    c = bytearray(1024)
    pe_header(c, {".text": (1024, len(body))}, at=0x40)
    struct.pack_into("<QQ", c, 16, 48 << 20, flags)
    c[0x38:0x3c] = b"ARM\x64"
    return bytes(c) + body


def zboot(inner: bytes, how: str = "zstd") -> bytes:
    payload = compress(how, inner)
    c = bytearray(64)
    c[0:2], c[4:8] = b"MZ", b"zimg"
    struct.pack_into("<II", c, 8, 64, len(payload))
    return bytes(c) + payload
