# SPDX-License-Identifier: GPL-2.0
"""What `make deb` left in build/deb works when it is unpacked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from rig import debian
from rig.paths import BUILD, TREE, kernel_dir
from rig.pcilu_host import TOOLS

KERNEL = sorted((BUILD / "deb").glob("linux-image-*.deb"))
pytestmark = pytest.mark.skipif(not debian.DEBS, reason="no packages in build/deb: make deb")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for deb in debian.DEBS:
        subprocess.run(["dpkg-deb", "-x", str(deb), str(tmp_path)], check=True)
    return tmp_path


def test_there_are_three_packages() -> None:
    names = {deb.name.split("_")[0] for deb in debian.DEBS}
    assert names == {"pcilu", "libpcilu1", "libpcilu-dev"}


@pytest.mark.parametrize("path", [
    "usr/bin/pcilu", "usr/sbin/pcilud", "usr/libexec/pcilu/pcilu-keeper",
    "etc/pcilu/pcilud.policy", "usr/lib/sysusers.d/pcilu.conf",
    "usr/share/bash-completion/completions/pcilu", "usr/share/zsh/vendor-completions/_pcilu",
    "usr/share/man/man1/pcilu.1.gz", "usr/share/man/man3/libpcilu.3.gz",
    "usr/share/man/man5/pcilud.policy.5.gz", "usr/share/man/man8/pcilud.8.gz",
    "usr/share/man/man7/pcilu.journal.7.gz", "usr/share/pcilu/schema/list.json",
    "usr/share/initramfs-tools/hooks/pcilu",
    "etc/kernel/postinst.d/zz-pcilu", "usr/include/pcilu.h",
    "usr/share/doc/libpcilu-dev/examples/vmm.c", "usr/share/doc/libpcilu-dev/examples/lend.c"])
def test_package_has(tree: Path, path: str) -> None:
    assert (tree / path).exists()


def test_package_has_the_units_where_this_debian_has_them(tree: Path) -> None:
    folders = {str(unit.parent.relative_to(tree)) for unit in tree.rglob("pcilu*.s[eo][rc]*")}
    assert folders <= {"lib/systemd/system", "usr/lib/systemd/system"} and len(folders) == 1
    assert {unit.name for unit in (tree / folders.pop()).iterdir()} == {
        "pcilud.service", "pcilud.socket", "pcilud-guard@.service", "pcilu-keeper.service",
        "pcilu-verify.service", "pcilu-wait.service"}


def test_packaged_tool_runs(tree: Path) -> None:
    out = subprocess.run([str(tree / "usr/bin/pcilu"), "--version"], text=True,
                         capture_output=True)
    assert out.returncode == 0 and out.stdout.startswith("pcilu ")


def test_packages_have_nothing_of_the_tests(tree: Path) -> None:
    symbols = subprocess.run(["nm", "-D", str(tree / "usr/sbin/pcilud")], text=True,
                             capture_output=True, check=True).stdout
    assert "asan" not in symbols and not list(tree.rglob("*shim*"))
    asan = subprocess.run(["nm", "-D", str(TOOLS / "pcilud")], text=True, capture_output=True)
    assert not (TOOLS / "pcilud").exists() or "asan" in asan.stdout     # control


def options(config: str) -> set[str]:
    return {line for line in config.splitlines() if line.startswith("CONFIG_")}


@pytest.mark.parametrize("source,error", [("src", ""), ("src-stock", "cannot have what")])
def test_kernel_packages_take_a_configuration_as_it_is(tmp_path: Path, source: str,
                                                       error: str) -> None:
    """Modules stay modules, and what changes is printed. Control: a source without the feature."""
    given = kernel_dir("x86_64", "debian") / ".config"
    if not given.exists():
        pytest.skip("no kernel with modules: make kernel VARIANT=debian")
    (tmp_path / "build").mkdir()
    (tmp_path / "build/src").symlink_to(BUILD / source)
    for name in ("scripts", "linux"):
        (tmp_path / name).symlink_to(TREE / name)
    config = tmp_path / "config"
    own = [line for line in given.read_text().splitlines() if "LIVEUPDATE" not in line]
    more = ["CONFIG_HOTPLUG_PCI=y", "CONFIG_PCCARD=y", "CONFIG_CARDBUS=y"]
    config.write_text("\n".join((*own, *more, "")))
    out = subprocess.run([tmp_path / "scripts/deb-kernel"], text=True, capture_output=True,
                         env={**os.environ, "CONFIG": str(config), "CONFIG_ONLY": "1"})
    if error:
        assert out.returncode == 1 and error in out.stderr, out.stdout + out.stderr
        return
    assert out.returncode == 0, out.stderr
    after = options((tmp_path / "build/deb-kernel/.config").read_text())
    assert {"CONFIG_VFIO=m", "CONFIG_VFIO_PCI=m", "CONFIG_IOMMUFD=m"} <= after
    assert "CONFIG_PCI_LIVEUPDATE=y" in after
    assert "CONFIG_CARDBUS=y" in after
    added, taken = out.stdout.split("takes away:")
    assert "+ CONFIG_PCI_LIVEUPDATE=y" in added and "VFIO_PCI=" not in added
    assert "CONFIG_" not in taken


@pytest.mark.skipif(not KERNEL, reason="no kernel packages, which make test-full builds: "
                    "make deb-kernel")
def test_kernel_packages_install_a_kernel_with_the_feature(tmp_path: Path) -> None:
    root = tmp_path / "root"
    debian.install(root)
    for deb in KERNEL:
        shutil.copy(deb, root)
    subprocess.run(["chroot", str(root), "sh", "-c", "dpkg -i /linux-*.deb"], check=True)
    image, = (root / "boot").glob("vmlinuz-*-pcilu")
    config = image.with_name(image.name.replace("vmlinuz", "config")).read_text()
    assert options((TREE / "linux/configs/feature.config").read_text()) <= options(config)
    out = subprocess.run([str(root / "usr/bin/pcilu"), "preflight", "--kernel", str(image),
                          "--cmdline", "kho=on liveupdate=on", "--json"], text=True,
                         capture_output=True)
    checks = {c["check"]: c["verdict"] for c in json.loads(out.stdout)["checks"]}
    assert checks["image"] == checks["config"] == "pass", out.stdout


@pytest.mark.parametrize("how", ["shared", "static"])
def test_example_builds_against_the_packages(tree: Path, how: str) -> None:
    """With what pkg-config says, as a VMM's author would."""
    config = next(tree.glob("usr/lib/*/pkgconfig"))
    if not shutil.which("pkg-config") or not shutil.which("cc"):
        pytest.skip("no compiler or no pkg-config")
    env = {**os.environ, "PKG_CONFIG_PATH": str(config), "PKG_CONFIG_SYSROOT_DIR": str(tree)}
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "libpcilu"]
                           + (["--static"] if how == "static" else []),
                           env=env, text=True, capture_output=True, check=True).stdout.split()
    if how == "static":
        flags = ["-static", *flags]
    program = tree / "vmm"
    example = tree / "usr/share/doc/libpcilu-dev/examples/vmm.c"
    subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", str(example), "-o",
                    str(program), *flags, f"-I{tree}/usr/include", f"-L{config.parent}"],
                   check=True)
    out = subprocess.run([str(program), "save", "vm-1"], text=True, capture_output=True,
                         env={**os.environ, "LD_LIBRARY_PATH": str(config.parent),
                              "PCILU_SYSROOT": str(tree)})
    assert out.returncode == 1 and "no sessions to be had" in out.stderr
    cpp = tree / "x.cc"
    cpp.write_text('#include <pcilu.h>\nint main() { return pcilu_name_valid("a") != 1; }\n')
    if shutil.which("c++"):
        subprocess.run(["c++", "-Wall", "-Werror", str(cpp), "-o", str(program), *flags,
                        f"-I{tree}/usr/include", f"-L{config.parent}"], check=True)
