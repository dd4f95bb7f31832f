# SPDX-License-Identifier: GPL-2.0
"""The guest's file system: busybox, kexec-tools, guest programs and the kernels, as a cpio."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
import tempfile
import zlib
from pathlib import Path

from . import paths

# Every kexec has two digests made of all of it, one of them by code that nothing speeds up.
PACKAGES = ["busybox-static", "kexec-tools", "libuuid1"]
# What the programs may be linked with; the rest of their dependencies only matters to set-up.
LIBRARIES = re.compile(r"libc6|zlib1g|liblzma5|libzstd1|libxen[a-z]+[0-9.]*(t64)?")
WANTED = ["bin/busybox", "sbin/kexec"]
DIRECTORIES = ["bin", "boot", "dev", "etc", "lib", "opt", "opt/bin", "proc", "run", "sbin", "sys",
               "tmp", "usr"]


class Archive:
    """A "newc" cpio archive, written in memory."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._ino = 0

    def add(self, name: str, mode: int, data: bytes = b"", rdev: tuple[int, int] = (0, 0)) -> None:
        self._ino += 1
        raw = name.encode() + b"\0"
        fields = (self._ino, mode, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(raw), 0)
        head = b"070701" + b"".join(b"%08X" % value for value in fields) + raw
        self._parts += [head, b"\0" * (-len(head) % 4), data, b"\0" * (-len(data) % 4)]

    def close(self) -> bytes:
        self.add("TRAILER!!!", 0)
        return b"".join(self._parts)


def _unpacked(arch: str) -> Path:
    """Debian's busybox-static and kexec-tools with its libraries, unpacked and kept in build/."""
    root = paths.BUILD / f"{arch}-debs-{zlib.crc32(' '.join(PACKAGES).encode()):08x}"
    if (root / ".done").exists():
        return root
    debs: list[str] = []
    names = set()
    todo = list(PACKAGES)
    while todo:
        fetched = subprocess.run([paths.FETCH_DEB, arch, *todo], check=True, text=True,
                                 stdout=subprocess.PIPE).stdout.split()
        names |= set(todo)
        debs += fetched
        depends = "".join(subprocess.run(["dpkg-deb", "-f", deb, "Depends"], check=True, text=True,
                                         stdout=subprocess.PIPE).stdout for deb in fetched)
        wanted = re.findall(r"[a-z0-9][a-z0-9+.-]+", re.sub(r"\(.*?\)", "", depends))
        todo = sorted({name for name in wanted if LIBRARIES.fullmatch(name)} - names)
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent) as tmp:
        for deb in debs:
            subprocess.run(["dpkg-deb", "-x", deb, tmp], check=True)
        (Path(tmp) / ".done").touch()
        os.chmod(tmp, 0o755)
        if not root.exists():
            os.rename(tmp, root)
            os.mkdir(tmp)
    return root


def program(arch: str, name: str) -> Path:
    """One of Debian's programs. In the guest nothing is below /usr, wherever a release has it."""
    root = _unpacked(arch)
    return next(p for p in (root / name, root / "usr" / name) if p.exists())


def _libraries(root: Path) -> list[Path]:
    """The loader and the shared objects of the programs, found by name below the root."""
    keep = re.compile(r"(ld-linux|libc\.|libuuid|libz|liblz|"
                      r"libxen(call|ctrl|dev|evt|foreign|gnt|tool)).*")
    return sorted(p for p in root.glob("**/lib*/**/*.so*") if keep.match(p.name))


def build(arch: str, variant: str, extra: dict[str, Path] | None = None,
          folder: Path | None = None) -> Path:
    """Assemble the archive for a kernel folder and return its path.

    It is written anew only when the content differs. `extra` maps names in the guest to host files.
    """
    kernel = folder or paths.kernel_dir(arch, variant)
    image = paths.IMAGE[arch]
    first = kernel / image
    following = kernel / "next" / image
    root = _unpacked(arch)

    files: dict[str, Path] = {"init": paths.GUEST / "init",
                              "bin/agent": paths.GUEST / "agent",
                              "bin/next": paths.GUEST / "next",
                              "boot/kernel": first,
                              "boot/next": following if following.exists() else first}
    for name in WANTED:
        files[name] = program(arch, name)
    links: dict[str, str] = {}
    for path in _libraries(root):
        name = str(path.relative_to(root)).removeprefix("usr/")
        if path.is_symlink():
            links[name] = os.readlink(path)
        else:
            files[name] = path
    guest = paths.guest_dir(arch)
    if guest.is_dir():
        for path in sorted(guest.iterdir()):
            if path.is_file() and os.access(path, os.X_OK):
                files[f"opt/bin/{path.name}"] = path
    files.update(extra or {})

    archive = Archive()
    made: set[str] = set()

    def mkdir(name: str) -> None:
        if name and name not in made:
            mkdir(os.path.dirname(name))
            made.add(name)
            archive.add(name, stat.S_IFDIR | 0o755)

    for name in DIRECTORIES:
        mkdir(name)
    archive.add("bin/sh", stat.S_IFLNK | 0o777, b"busybox")
    archive.add("dev/console", stat.S_IFCHR | 0o600, rdev=(5, 1))
    archive.add("dev/null", stat.S_IFCHR | 0o666, rdev=(1, 3))
    for name, target in sorted(links.items()):
        mkdir(os.path.dirname(name))
        archive.add(name, stat.S_IFLNK | 0o777, target.encode())
    for name, path in sorted(files.items()):
        mkdir(os.path.dirname(name))
        archive.add(name, stat.S_IFREG | 0o755, path.read_bytes())
    data = archive.close()

    digest = hashlib.sha256(data).hexdigest()
    # Machines with other files may start at the same time.
    other = f"-{zlib.crc32(' '.join(sorted(extra)).encode()):08x}" if extra else ""
    out = paths.BUILD / "initrd" / f"{kernel.name}{other}.cpio"
    seal = out.with_suffix(".sha256")
    if out.exists() and seal.exists() and seal.read_text() == digest:
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    for target, content in ((out, data), (seal, digest.encode())):
        with tempfile.NamedTemporaryFile(dir=out.parent, delete=False) as tmp:
            tmp.write(content)
        os.chmod(tmp.name, 0o644)
        os.replace(tmp.name, target)
    return out
