# SPDX-License-Identifier: GPL-2.0
"""pcilu and Virtual Functions: what is told of them, and which next kernel takes them over."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from rig.pcilu_field import Preflight
from rig.pcilu_host import CONFIG, Host, TOOLS, bzimage, config_space

pytestmark = pytest.mark.skipif(not (TOOLS / "pcilu").exists(),
                                reason=f"no tools in {TOOLS}: make tools SAN=1")
PF, VF, BUSY = "0000:02:00.0", "0000:02:00.1", "0000:02:00.2"
REFUSAL = ("its Physical Function has a driver that does not keep Virtual Functions through a "
           "kexec; unbind that, or bind it to pci-pf-stub")
WITH_VFS = CONFIG + "CONFIG_PCI_LIVEUPDATE_VFS=y\n"


def function(host: Host, bdf: str, state: str, refusal: str | None) -> None:
    """A Virtual Function of the user's: the IDs in its registers are all ones."""
    folder = host.config(bdf, config_space(0xffff, 0xffff, 0x010802), driver="vfio-pci",
                         state=state, cdev=f"noiommu-vfio{bdf[-1]}", vendor="0x1b36",
                         device="0x0010")
    (folder / "physfn").symlink_to(f"../{PF}")
    if refusal:
        (folder / "liveupdate/refusal").write_text(refusal + "\n")
        (folder / "liveupdate/dma").write_text("untranslated\n")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A Physical Function with two Virtual ones, of which one is preserved."""
    with Host(tmp_path) as h:
        h.standard().start()
        folder = h.config(PF, config_space(0x1b36, 0x0010, 0x010802, bars=[0xfe200000]),
                          driver="pci-pf-stub", state="preserved", sriov_numvfs="2")
        (folder / "liveupdate/dma").write_text("none\n")
        function(h, VF, "preserved", "none")
        function(h, BUSY, "none", REFUSAL)
        yield h


def test_sriov_functions_are_listed_as_the_kernel_sees_them(host: Host) -> None:
    found = {d["bdf"]: d for d in host.json("list")["devices"]}
    assert [found[bdf]["preservable"] for bdf in (PF, VF, BUSY)] == ["follows", "yes", "no"]
    assert [b["id"] for b in found[BUSY]["blockers"]] == ["kernel"]
    assert "pci-pf-stub" in host.pcilu("check", BUSY).stdout
    assert host.pcilu("check", VF).returncode == 0
    # Control: a Physical Function that is not kept with any of them is refused.
    (host.root / f"sys/bus/pci/devices/{PF}/liveupdate/state").write_text("none\n")
    device = host.json("check", PF, rc=1)["devices"][0]
    assert "sriov" in [b["id"] for b in device["blockers"]]


def test_sriov_functions_of_a_kernel_that_does_not_tell_are_refused(host: Host) -> None:
    (host.root / f"sys/bus/pci/devices/{VF}/liveupdate/refusal").unlink()
    device = host.json("check", VF, rc=1)["devices"][0]
    assert [b["id"] for b in device["blockers"]] == ["virtual-function"]


def test_sriov_function_is_preserved_for_a_kernel_that_takes_it_over(host: Host) -> None:
    preflight = Preflight(host, data=bzimage(WITH_VFS))
    assert "config" not in preflight.failed
    assert "2 functions are preserved" in preflight.text("devices")
    assert "config" in Preflight(host, data=bzimage(CONFIG)).failed
    # Control: it does not matter to what else is preserved.
    for bdf in (VF, PF):
        (host.root / f"sys/bus/pci/devices/{bdf}/liveupdate/state").write_text("none\n")
    assert "config" not in Preflight(host, data=bzimage(CONFIG)).failed


def test_sriov_function_of_a_user_is_one_of_what_is_preserved(host: Host) -> None:
    """Its own file is: it counts, and does not just follow."""
    assert "2 functions are preserved" in Preflight(host, data=bzimage(WITH_VFS)).text("devices")
    folder = host.root / f"sys/bus/pci/devices/{PF}"
    (folder / "liveupdate/dma").write_text("untranslated\n")
    (folder / "liveupdate/refusal").write_text("none\n")
    (folder / "driver").unlink()
    (folder / "driver").symlink_to("../../../../bus/pci/drivers/vfio-pci")
    found = {d["bdf"]: d for d in host.json("list")["devices"]}
    assert "sriov" not in [b["id"] for b in found[PF]["blockers"]]
    assert found[PF]["preservable"] != "follows"
    assert "3 functions are preserved" in Preflight(host, data=bzimage(WITH_VFS)).text("devices")


RELEASE = "7.3.5-next"


def module(host: Host, name: str, asks_for: str) -> None:
    """A module of the next kernel, which calls a function of the core."""
    folder = host.root / f"lib/modules/{RELEASE}/kernel"
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cc", "-x", "c", "-c", "-o", folder / f"{name}.ko", "-"], text=True,
                   input=f"void {asks_for}(void);\nvoid probe(void);\n"
                         f"void probe(void) {{ {asks_for}(); }}\n", check=True)
    depmod(host)


def depmod(host: Host) -> None:
    folder = host.root / f"lib/modules/{RELEASE}"
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        (folder / name).touch()
    subprocess.run(["/sbin/depmod", "-b", host.root, RELEASE], check=True)


def test_driver_that_keeps_sriov_functions_is_asked_for_in_the_next_kernel(host: Host) -> None:
    """By the name of its module, which is not that of the driver; a built-in one will do."""
    link = host.root / f"sys/bus/pci/devices/{PF}/driver"
    link.unlink()
    link.symlink_to("../../../../bus/pci/drivers/igb")
    folder = host.root / "sys/bus/pci/drivers/igb"
    folder.mkdir(parents=True)
    (folder / "module").symlink_to("../../../../module/igb_module")

    def preflight() -> Preflight:
        return Preflight(host, data=bzimage(WITH_VFS, release=RELEASE))

    assert "modules" in preflight().failed
    module(host, "igb_module", "pci_enable_sriov")
    assert "modules" in preflight().failed
    assert "does not go on with Virtual Functions" in preflight().text("modules")
    module(host, "igb_module", "pci_liveupdate_keeps_vfs")
    assert "modules" in preflight().of("pass")
    (host.root / f"lib/modules/{RELEASE}/kernel/igb_module.ko").unlink()
    depmod(host)
    assert "modules" in preflight().failed
    (host.root / f"lib/modules/{RELEASE}/modules.builtin").write_text("kernel/igb_module.ko\n")
    (host.root / f"lib/modules/{RELEASE}/modules.builtin.modinfo").write_text(
        "igb_module.license=GPL\0")
    depmod(host)
    assert "modules" in preflight().of("pass")
    # Control: without a Virtual Function that is preserved nobody has to keep it.
    (host.root / f"lib/modules/{RELEASE}/modules.builtin").write_text("")
    depmod(host)
    assert "modules" in preflight().failed
    for bdf in (VF, PF):
        (host.root / f"sys/bus/pci/devices/{bdf}/liveupdate/state").write_text("none\n")
    assert "modules" not in preflight().failed
