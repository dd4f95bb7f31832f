# SPDX-License-Identifier: GPL-2.0
"""What people report of kexec on hosts with devices: the next kernel, its initrd, its options.

One test, or a group of them, for each kind of trouble; its name tells the kind.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Iterator

import pytest

from rig import pcilu_host as ph
from rig.pcilu_field import GOOD, Preflight
from rig.pcilu_host import CONFIG, Host, TOOLS, bzimage

pytestmark = pytest.mark.skipif(not (TOOLS / "pcilu").exists(),
                                reason=f"no tools in {TOOLS}: make tools SAN=1")
SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Host(tmp_path) as h:
        h.standard().start()
        yield h


def config(*options: str, without: str = "") -> str:
    text = CONFIG + "".join(f"CONFIG_{o}\n" for o in options)
    return text.replace(f"CONFIG_{without}=y\n", f"# CONFIG_{without} is not set\n")


def jumps(host: Host) -> bool:
    """Does exec? The stand-in's reboot comes back, which is the one thing a kernel does not do."""
    before = len(host.luo.reboots)
    host.pcilu("exec")
    return len(host.luo.reboots) > before


# --- the command line is read as the kernel reads it

SEEN = ["intel-iommu=off", "intel_iommu=off", '"intel_iommu=off"', 'intel_iommu="off"',
        "quiet\tintel_iommu=off", "quiet\nintel_iommu=off", "intel_iommu=on intel_iommu=off",
        'dyndbg="file x.c +p" intel_iommu=off']
NOT_SEEN = ["-- intel_iommu=off", '"a intel_iommu=off"', 'x="a intel_iommu=off"']


@pytest.mark.parametrize("words", SEEN)
def test_cmdline_is_read_as_the_kernel_reads_it(host: Host, words: str) -> None:
    pf = Preflight(host, cmdline=f"{GOOD} {words}")
    assert pf.failed == {"cmdline"} and "intel_iommu=off" in pf.text("cmdline")


@pytest.mark.parametrize("words", NOT_SEEN)
def test_control_cmdline_what_is_none_of_the_kernels_does_not_count(host: Host, words: str) -> None:
    assert Preflight(host, cmdline=f"{GOOD} {words}").failed == set()


@pytest.mark.parametrize("word, on", [("on", True), ("ON", True), ("1", True), ("true", True),
                                      ("Yes", True), ("t", True), ("off", False), ("n", False),
                                      ("False", False), ("0", False), ("oFF", False)])
def test_cmdline_switches_take_the_words_of_kstrtobool(host: Host, word: str, on: bool) -> None:
    line = GOOD.replace("kho=on", f"kho={word}")
    assert Preflight(host, cmdline=line).failed == (set() if on else {"kho"})
    # A word that it does not take changes nothing.
    assert Preflight(host, cmdline=f"{line} kho=maybe kho").failed == (set() if on else {"kho"})


def test_cmdline_of_several_the_last_counts(host: Host) -> None:
    assert Preflight(host, cmdline=f"{GOOD} kho=off").failed == {"kho"}
    assert Preflight(host, cmdline=f"kho=off {GOOD}").failed == set()
    host.write("proc/cmdline", f"{GOOD} intel_iommu=on,sm_on\n")
    assert Preflight(host, cmdline=f"{GOOD} intel_iommu=sm_on intel_iommu=on").failed == set()


def test_cmdline_more_options_stay_in_front_of_inits(host: Host) -> None:
    host.write("proc/cmdline", f"{GOOD} -- single\n")
    pf = Preflight(host, "--reuse-cmdline", cmdline="pci=realloc")
    assert pf.document["cmdline"] == f"{GOOD} pci=realloc -- single" and pf.failed == {"cmdline"}


# --- options that change what devices see are known, or not passed over in silence

@pytest.mark.parametrize("option", [
    "acpi=off", "noacpi", "mem=8G", "memmap=1G!4G", "modprobe.blacklist=vfio_pci",
    "module_blacklist=e1000,vfio-pci", "initcall_blacklist=vfio_pci_init", "reset_devices",
    "nointremap", "noapic", "efi=noruntime", "arm-smmu.disable_bypass=0", "iommu.passthrough=1",
    "pciehp.pciehp_force=1", "kho_bootmem=16M,512M,0", "vfio_pci.disable_idle_d3=1"])
def test_hostile_options_are_known(host: Host, option: str) -> None:
    pf = Preflight(host, cmdline=f"{GOOD} {option}")
    assert pf.failed == {"cmdline"} and "it " in pf.text("cmdline")
    host.write("proc/cmdline", f"{GOOD} {option}\n")        # both have it: nothing changes
    assert Preflight(host, cmdline=f"{GOOD} {option}").failed == set()


def test_unknown_options_are_not_passed_over_in_silence(host: Host) -> None:
    pf = Preflight(host, cmdline=f"{GOOD} frobnicate=7")
    assert pf.passed and "frobnicate=7" in pf.text("cmdline") and "cmdline" in pf.warned
    assert not Preflight(host, "--strict", cmdline=f"{GOOD} frobnicate=7").passed


def test_control_options_of_consoles_and_user_space_do_not_matter(host: Host) -> None:
    line = f"{GOOD} quiet console=ttyS0 systemd.unit=rescue.target loglevel=7 rootwait"
    assert Preflight(host, "--strict", cmdline=line).passed


# --- the options that count may stand elsewhere

def test_cmdline_built_in_overrides(host: Host) -> None:
    line = 'CMDLINE="intel_iommu=on kho=on"'
    data = bzimage(config("CMDLINE_BOOL=y", line, "CMDLINE_OVERRIDE=y"))
    pf = Preflight(host, data=data)
    assert pf.document["effective_cmdline"] == "intel_iommu=on kho=on"
    assert pf.failed == {"cmdline", "liveupdate"}


def test_cmdline_built_in_comes_before(host: Host) -> None:
    data = bzimage(config("CMDLINE_BOOL=y", 'CMDLINE="kho=off pci=realloc x=\\"a b\\""'))
    pf = Preflight(host, data=data)
    assert pf.document["effective_cmdline"] == f'kho=off pci=realloc x="a b" {GOOD}'
    assert pf.failed == {"cmdline"} and "pci=realloc" in pf.text("cmdline")


@pytest.mark.parametrize("option, effective", [
    ("CMDLINE_FORCE=y", "kho=off"), ("CMDLINE_EXTEND=y", f"{GOOD} kho=off"),
    ("CMDLINE_FROM_BOOTLOADER=y", GOOD)])
def test_cmdline_built_in_on_arm64(host: Host, option: str, effective: str) -> None:
    host.write("proc/sys/kernel/arch", "aarch64\n")
    pf = Preflight(host, data=ph.arm64_image(config(option, 'CMDLINE="kho=off"')))
    assert pf.document["effective_cmdline"] == effective
    assert ("kho" in pf.failed) == ("kho=off" in effective)


BOOTCONFIG = """
kernel {
    # a comment
    pci = "realloc", "nomsi"
    intel-iommu = off; quiet
}
kernel.iommu = pt
init.x = y
"""


def test_bootconfig_behind_the_initrd_counts(host: Host) -> None:
    initrd = host.write("boot/initrd", ph.initrd(bootconfig=BOOTCONFIG))
    pf = Preflight(host, "--initrd", str(initrd), cmdline=f"{GOOD} bootconfig")
    assert pf.document["effective_cmdline"] == (
        'pci="realloc" pci="nomsi" intel-iommu="off" quiet iommu="pt" ' f"{GOOD} bootconfig")
    assert pf.failed == {"cmdline"}
    for option in ("pci=realloc", "pci=nomsi", "intel_iommu=off", "iommu=pt"):
        assert option in pf.text("cmdline")
    # Control: the kernel does not look for it unless it is told to.
    assert Preflight(host, "--initrd", str(initrd)).failed == set()
    forced = bzimage(config("BOOT_CONFIG_FORCE=y"))
    assert Preflight(host, "--initrd", str(initrd), data=forced).failed == {"cmdline"}


@pytest.mark.parametrize("text", ["kernel {\n", "kernel }\n", "= x\n", 'kernel.a = "b\n'])
def test_bootconfig_that_does_not_parse(host: Host, text: str) -> None:
    initrd = host.write("boot/initrd", ph.initrd(bootconfig=text))
    assert Preflight(host, "--initrd", str(initrd),
                     cmdline=f"{GOOD} bootconfig").failed == {"cmdline"}


def test_bootconfig_that_is_damaged(host: Host) -> None:
    data = bytearray(ph.initrd(bootconfig="kernel.a = b\n"))
    data[-30] ^= 1
    initrd = host.write("boot/initrd", bytes(data))
    assert Preflight(host, "--initrd", str(initrd)).failed == {"initrd"}


# --- an image that this machine's kexec_file_load will not take, or that dies in the jump

BAD_IMAGES = {
    "cut behind its payload": bzimage()[:-1000],
    "cut in its signature": bzimage(signed=True)[:-1],
    "without a boot sector": bzimage(boot_flag=0),
    "of an old protocol": bzimage(protocol=0x20b),
    "32-bit": bzimage(xloadflags=0x22),
    "not above 4 GB": bzimage(xloadflags=0x21),
    "of another architecture": ph.arm64_image(),
    "a vmlinux": b"\x7fELF" + bytes(14) + struct.pack("<H", 62) + bytes(5000),
    "an empty lz4 frame": bzimage(garbage=b"\x02\x21\x4c\x18" + bytes(8)),
}


@pytest.mark.parametrize("what", BAD_IMAGES)
def test_image_that_cannot_be_jumped_into_is_refused(host: Host, what: str) -> None:
    assert "image" in Preflight(host, data=BAD_IMAGES[what]).failed


@pytest.mark.parametrize("how", ["gzip", "xz", "lzma", "zstd", "lz4"])
def test_image_whose_payload_is_cut_is_refused(host: Host, how: str) -> None:
    packed = ph.compress(how, ph.kernel(CONFIG, "7.3.5-next"))
    data = bzimage(garbage=packed[:-40] + struct.pack("<I", 123456))
    assert "image" in Preflight(host, data=data).failed


def test_image_needs_five_level_paging_where_the_machine_has_it(host: Host) -> None:
    plain = bzimage(xloadflags=0x03)
    assert Preflight(host, data=plain).failed == set()
    host.write("proc/cpuinfo", "flags\t\t: fpu la57 vme\n")
    assert Preflight(host, data=plain).failed == {"image"}
    assert Preflight(host).failed == set()


def test_image_with_pages_of_another_size(host: Host) -> None:
    host.write("proc/sys/kernel/arch", "aarch64\n")
    assert Preflight(host, data=ph.arm64_image()).failed == set()
    assert Preflight(host, data=ph.arm64_image(flags=6)).failed == {"image"}
    assert Preflight(host, data=ph.arm64_image(flags=3)).failed == {"image"}


PACKED = {"gzip": lambda i: ph.compress("gzip", i), "zstd": lambda i: ph.compress("zstd", i),
          "zboot": ph.zboot}


@pytest.mark.parametrize("how", PACKED)
def test_packed_image_is_unpacked_and_that_is_loaded(host: Host, how: str) -> None:
    host.write("proc/sys/kernel/arch", "aarch64\n")
    plain = ph.arm64_image()
    path = host.write("boot/Image", PACKED[how](plain))
    assert host.pcilu("load", "--kernel", str(path), "--cmdline", GOOD).returncode == 0
    assert host.luo.loaded == plain
    path.write_bytes(plain)                     # control: as it is, if it can be
    assert host.pcilu("load", "--kernel", str(path), "--cmdline", GOOD).returncode == 0
    assert host.luo.loaded == plain


def test_unified_image_is_taken_apart(host: Host) -> None:
    kernel = bzimage()
    parts = {".linux": kernel, ".initrd": ph.initrd(), ".cmdline": f"{GOOD}\n\0".encode()}
    path = host.write("boot/uki.efi", ph.unified(parts))
    document = host.json("load", "--kernel", str(path))
    assert document["cmdline"] == GOOD and document["initrd"] is None
    assert document["initrd_sha256"] and host.luo.loads == [(GOOD, 0, True)]
    assert host.luo.loaded == kernel
    assert jumps(host)
    path.write_bytes(ph.unified(parts)[:-10])
    assert Preflight(host, data=path.read_bytes(), cmdline=None).failed >= {"image"}


# --- the image checked is the image loaded

def test_image_replaced_after_load_is_noticed(host: Host) -> None:
    path = host.write("boot/vmlinuz-next", bzimage())
    initrd = host.write("boot/initrd", ph.initrd())
    load = ["load", "--kernel", str(path), "--initrd", str(initrd), "--cmdline", GOOD]
    for file, data in ((path, bzimage()), (initrd, ph.initrd(how="gzip"))):
        assert host.pcilu(*load).returncode == 0
        file.write_bytes(data)
        out = host.pcilu("exec")
        assert out.returncode == 1 and "not what was checked" in out.stderr
        assert host.luo.reboots == []
    assert host.pcilu(*load).returncode == 0
    assert jumps(host)          # control


def test_image_replaced_while_it_is_loaded_is_noticed(host: Host) -> None:
    """A package upgrade that writes into the file between our reading and the kernel's."""
    path = host.write("boot/vmlinuz-next", bzimage())
    host.luo.before_load = lambda: path.write_bytes(bzimage())
    out = host.pcilu("load", "--kernel", str(path), "--cmdline", GOOD)
    assert out.returncode == 11 and "not what was checked" in out.stderr
    assert host.luo.loaded is None and host.luo.unloads == 1


def test_another_agents_load_does_not_count(host: Host) -> None:
    """kexec -s -l of something else after ours: exec loads what was checked once more."""
    data = bzimage()
    path = host.write("boot/vmlinuz-next", data)
    assert host.pcilu("load", "--kernel", str(path), "--cmdline", GOOD).returncode == 0
    host.luo.loaded = b"another"
    assert jumps(host) and host.luo.loaded == data
    # Nobody can have loaded another where loading is off.
    host.write("proc/sys/kernel/kexec_load_disabled", "1\n")
    loads = len(host.luo.loads)
    assert jumps(host) and len(host.luo.loads) == loads


# --- the initrd

@pytest.mark.parametrize("name", ["initrd.img-7.3.5-next", "initramfs-7.3.5-next.img",
                                  "initrd-7.3.5-next"])
def test_initrd_that_lies_beside_the_kernel_is_named(host: Host, name: str) -> None:
    beside = host.write(f"boot/{name}", ph.initrd())
    line = GOOD.replace("/dev/sda1", "UUID=2d4b")
    pf = Preflight(host, cmdline=line, name="vmlinuz-7.3.5-next")
    assert pf.failed == {"initrd"} and f"--initrd {beside}" in pf.text("initrd")
    assert Preflight(host, "--initrd", str(beside), cmdline=line,
                     name="vmlinuz-7.3.5-next").failed == set()
    pf = Preflight(host, name="vmlinuz-7.3.5-next")     # a root that the kernel finds by itself
    assert pf.failed == set() and "initrd" in pf.warned


@pytest.mark.parametrize("root", ["UUID=1-2", "LABEL=x", "/dev/mapper/vg-root", "/dev/vg/root",
                                  "/dev/md0"])
def test_initrd_is_needed_for_such_a_root(host: Host, root: str) -> None:
    line = GOOD.replace("/dev/sda1", root)
    assert Preflight(host, cmdline=line).failed == {"initrd"}


@pytest.mark.parametrize("root", ["PARTUUID=1-2", "/dev/nvme0n1p2", "/dev/nfs"])
def test_control_initrd_is_not_needed_for_such_a_root(host: Host, root: str) -> None:
    assert Preflight(host, cmdline=GOOD.replace("/dev/sda1", root)).failed == set()


WHOLE = ph.initrd()
BAD_INITRDS = {
    "text": b"this is none\n" * 100, "empty": b"", "zeros": bytes(4096), "cut": WHOLE[:-50],
    "cut in front": ph.cpio({"a": bytes(3000)})[:2000], "a kernel": bzimage(),
    "no end": ph.cpio({"a": b"b"})[:-124], "packed text": ph.compress("gzip", b"text" * 100),
}


@pytest.mark.parametrize("what", BAD_INITRDS)
def test_initrd_that_is_none_is_refused(host: Host, what: str) -> None:
    initrd = host.write("boot/initrd", BAD_INITRDS[what])
    pf = Preflight(host, "--initrd", str(initrd))
    assert pf.failed == {"initrd"} and str(initrd) in pf.text("initrd")


@pytest.mark.parametrize("how", ["gzip", "xz", "lzma", "zstd", "lz4", "none"])
def test_control_initrd_of_each_kind_passes(host: Host, how: str) -> None:
    initrd = host.write("boot/initrd", ph.initrd(how=how))
    assert Preflight(host, "--strict", "--initrd", str(initrd)).passed


def test_initrd_of_another_kernel_is_refused(host: Host) -> None:
    initrd = host.write("boot/initrd", ph.initrd("7.3.4-test"))
    assert Preflight(host, "--initrd", str(initrd)).failed == {"initrd"}


def test_initrd_that_the_kernel_does_not_unpack_is_refused(host: Host) -> None:
    initrd = host.write("boot/initrd", WHOLE)
    data = bzimage(config(without="RD_ZSTD"))
    assert Preflight(host, "--initrd", str(initrd), data=data).failed == {"initrd"}
    data = bzimage(config(without="BLK_DEV_INITRD"))
    assert Preflight(host, "--initrd", str(initrd), data=data).failed == {"initrd"}


# --- the next kernel's configuration, and all versions of what is handed over

@pytest.mark.parametrize("option", ["KEXEC_FILE", "IOMMUFD_NOIOMMU", "VFIO_NOIOMMU"])
def test_configuration_without_what_is_needed(host: Host, option: str) -> None:
    data = bzimage(config(without=option))
    assert Preflight(host, data=data).failed == {"config"}
    if option != "KEXEC_FILE":      # control: only for a device that has no IOMMU
        host.config(ph.NIC, ph.config_space(0x8086, 0x10d3, 0x020000), driver="vfio-pci",
                    state="preserved", cdev="vfio0")
        (host.root / f"sys/bus/pci/devices/{ph.NIC}/vfio-dev/noiommu-vfio0").rmdir()
        assert Preflight(host, data=data).failed == set()


def test_configuration_no_iommu_mode_of_a_built_in_vfio(host: Host) -> None:
    data = bzimage(config("VFIO=y"))
    assert Preflight(host, data=data).failed == {"config"}
    line = f"{GOOD} vfio.enable_unsafe_noiommu_mode=1"
    host.write("proc/cmdline", line + "\n")
    assert Preflight(host, data=data, cmdline=line).failed == set()


def test_configuration_that_changes_dma_is_told(host: Host) -> None:
    pf = Preflight(host, data=bzimage(config("INTEL_IOMMU_DEFAULT_ON=y")))
    assert pf.warned == {"config"} and "INTEL_IOMMU_DEFAULT_ON" in pf.text("config")
    host.running_kernel(config("INTEL_IOMMU_DEFAULT_ON=y"))     # control: both have it
    assert Preflight(host, data=bzimage(config("INTEL_IOMMU_DEFAULT_ON=y"))).warned == set()
    assert "lacks" in Preflight(host).text("config")


@pytest.mark.parametrize("other", [
    ("kho-v5", "luo-v5", "memfd-v2"), ("kho-v4", "luo-v6", "memfd-v2"),
    ("kho-v4", "luo-v5", "memfd-v1")])
def test_every_version_counts(host: Host, other: tuple[str, ...]) -> None:
    pf = Preflight(host, data=bzimage(versions=other))
    assert pf.failed == {"abi"}
    assert set(other) - set(ph.VERSIONS) <= set(pf.text("abi").split())


def test_versions_that_cannot_be_told_are_no_pass(host: Host) -> None:
    assert Preflight(host, data=bzimage(versions=())).warned == {"abi"}
    (host.root / "boot/vmlinuz-7.3.4-test").unlink()
    pf = Preflight(host)
    assert pf.warned == {"abi"} and "running" in pf.text("abi")
    host.write("sys/kernel/debug/kho/out/fdt", b"\xd0\x0d\0\0kho-v3\0\0")     # debugfs tells, too
    assert Preflight(host).failed == {"abi"}


def speaks(oldest: int | None, newest: int) -> str:
    """A configuration that tells these versions; the first release tells no oldest."""
    text = CONFIG.replace("CONFIG_PCI_LIVEUPDATE_ABI=0x4c550002",
                          f"CONFIG_PCI_LIVEUPDATE_ABI={0x4c550000 + newest:#x}")
    line = f"CONFIG_PCI_LIVEUPDATE_ABI_OLDEST={0x4c550000 + oldest:#x}\n" if oldest else ""
    return text.replace("CONFIG_PCI_LIVEUPDATE_ABI_OLDEST=0x4c550001\n", line)


FIRST, SECOND, THIRD = (None, 1), (1, 2), (2, 3)


@pytest.mark.parametrize("here, there, outcome", [
    (FIRST, FIRST, "is open"), (FIRST, SECOND, "a newer one"), (SECOND, FIRST, "is open"),
    (SECOND, SECOND, "is open"), (SECOND, THIRD, "a newer one"), (THIRD, SECOND, "is open"),
    (SECOND, (1, 1), "is open"), (SECOND, (None, 2), "is open"), ((None, 2), (1, 3), "a newer one"),
    (FIRST, THIRD, ""), (THIRD, FIRST, ""), (FIRST, (None, 2), ""), ((None, 2), (1, 1), "")])
def test_versions_there_and_back(host: Host, here: tuple[int | None, int],
                                 there: tuple[int | None, int], outcome: str) -> None:
    host.running_kernel(speaks(*here))
    pf = Preflight(host, data=bzimage(speaks(*there)))
    assert pf.failed == (set() if outcome else {"abi"}) and pf.warned == set()
    for words in ("is open", "a newer one"):
        assert (words in pf.text("abi")) == (words == outcome)


def test_versions_what_a_device_takes(host: Host) -> None:
    attribute = f"sys/bus/pci/devices/{ph.NIC}/liveupdate/abi"
    host.write(attribute, "0x4c550001\n")
    first = bzimage(speaks(*FIRST))
    assert Preflight(host, data=first).failed == set()              # control
    host.write(attribute, "0x4c550002\n")
    pf = Preflight(host, data=first)
    assert pf.failed == {"abi"} and f"preserving {ph.NIC} takes 0x4c550002" in pf.text("abi")
    assert Preflight(host).failed == set()
    assert Preflight(host, data=bzimage(speaks(*THIRD))).failed == set()


@pytest.mark.parametrize("wish, there, told", [
    (1, FIRST, (1, 1)), (1, SECOND, (1, 2)), (2, SECOND, (2, 2)), (1, THIRD, (2, 2)),
    (2, FIRST, (1, 1))])
def test_versions_of_the_loaded_kernel_are_told_to_the_running_one(
        host: Host, wish: int, there: tuple[int | None, int], told: tuple[int, int]) -> None:
    folder = "sys/module/pci_liveupdate/parameters"
    host.write(f"{folder}/abi_oldest", f"{0x4c550000 + wish:#x}\n")
    host.write(f"{folder}/abi_newest", "0x4c550002\n")
    image = host.write("boot/next", bzimage(speaks(*there)))

    def says() -> tuple[int, ...]:
        return tuple(int((host.root / folder / f"abi_{name}").read_text(), 0) & 0xff
                     for name in ("oldest", "newest"))

    # Control: a dry run tells nothing.
    options = ["load", "--kernel", str(image), "--cmdline", GOOD]
    assert host.pcilu(*options, "--dry-run").returncode == 0
    assert says() == (wish, 2)
    assert host.pcilu(*options).returncode == 0
    assert says() == told
    assert host.pcilu("unload").returncode == 0
    assert says() == (told[0], 2)


def test_versions_of_vfio_count_where_they_are_told(host: Host) -> None:
    host.write("boot/vmlinuz-7.3.4-test", bzimage(release="7.3.4-test",
                                                  versions=(*ph.VERSIONS, "vfio-pci-v1")))
    assert Preflight(host).failed == set()          # it is in a module of the next
    same, other = (bzimage(versions=(*ph.VERSIONS, f"vfio-pci-v{n}")) for n in (1, 2))
    assert Preflight(host, data=same).failed == set()
    assert Preflight(host, data=other).failed == {"abi"}


# --- scratch memory

GB = 1 << 30


@pytest.mark.parametrize("line, megabytes", [
    ("crashkernel=512M,high crashkernel=256M,low", 768), ("crashkernel=512M,high", 640),
    ("crashkernel=512M", 512), ("crashkernel=512M@16M", 512),
    ("crashkernel=256M crashkernel=512M", 512), ("crashkernel=1G-4G:128M,4G-:512M", 512),
    ("crashkernel=1G-64G:192M,64G-:512M", 192), ("crashkernel=192M crashkernel=64M,cma", 256),
    ("crashkernel=192M crashkernel=1G,high", 192), ("", 0)])
def test_crashkernel_in_all_its_forms(host: Host, line: str, megabytes: int) -> None:
    host.write("proc/meminfo", "MemTotal:       33554432 kB\n")
    need = megabytes + 64 + 32
    for size, enough in ((need, True), (need - 1, False)):
        host.write("sys/kernel/debug/kho/out/scratch_len", f"{size << 20:#x}\n")
        pf = Preflight(host, cmdline=f"{GOOD} {line}")
        assert pf.failed == (set() if enough else {"scratch"})


@pytest.mark.parametrize("name", ["scratch_len", "bootmem_len"])
def test_scratch_memory_under_both_names(host: Host, name: str) -> None:
    (host.root / "sys/kernel/debug/kho/out/scratch_len").unlink()
    assert Preflight(host).warned == {"scratch"}
    host.write(f"sys/kernel/debug/kho/out/{name}", "0x1000000\n")
    assert Preflight(host).failed == {"scratch"}
    (host.root / f"sys/kernel/debug/kho/out/{name}").unlink()
    option = {"scratch_len": "kho_scratch", "bootmem_len": "kho_bootmem"}[name]
    for size, verdict in (("16M,512M,0", set()), ("16M,32M,0", {"scratch"})):
        line = f"{GOOD} {option}={size}"
        host.write("proc/cmdline", line + "\n")
        assert Preflight(host, cmdline=line).failed == verdict


def test_huge_pages_that_take_half_of_memory(host: Host) -> None:
    host.write("proc/meminfo", "MemTotal:       33554432 kB\n")
    line = f"{GOOD} hugepagesz=1G hugepages=0:10,1:10"
    host.write("proc/cmdline", line + "\n")
    assert Preflight(host, cmdline=line).warned == {"scratch"}
    line = line.replace("1:10", "1:5")
    host.write("proc/cmdline", line + "\n")
    assert Preflight(host, "--strict", cmdline=line).passed         # control


def test_kho_that_gave_up_at_boot_is_said_as_it_is(host: Host) -> None:
    (host.root / "dev/liveupdate").unlink()
    pf = Preflight(host)
    assert "host" in pf.failed and "gave up" in pf.text("host")
    host.write("proc/cmdline", "root=/dev/sda1 ro panic=10\n")
    pf = Preflight(host)
    assert "host" in pf.failed and "gave up" not in pf.text("host")


# --- Secure Boot

@pytest.mark.parametrize("kexec_sig", [False, True])
def test_secure_boot_with_imas_architecture_policy(host: Host, kexec_sig: bool) -> None:
    host.running_kernel(config("IMA_ARCH_POLICY=y", *["KEXEC_SIG=y"] * kexec_sig))
    assert Preflight(host).failed == set()              # control: Secure Boot is off
    host.write(SECURE_BOOT, b"\x06\0\0\0\x01")
    assert Preflight(host).failed == {"signature"}
    assert Preflight(host, data=bzimage(signed=True)).failed == (
        set() if kexec_sig else {"signature"})
    assert Preflight(host, data=bzimage() + b"sig~Module signature appended~\n").failed == set()


@pytest.mark.parametrize("where", ["command line", "policy"])
def test_imas_own_policy(host: Host, where: str) -> None:
    line = GOOD
    if where == "policy":
        host.write("sys/kernel/security/ima/policy",
                   "measure func=KEXEC_CMDLINE\nappraise func=KEXEC_KERNEL_CHECK "
                   "appraise_type=imasig|modsig\n")
    else:
        line += ' ima_policy="tcb|secure_boot"'
        host.write("proc/cmdline", line + "\n")
    pf = Preflight(host, cmdline=line)
    assert pf.failed == {"signature"} and "IMA" in pf.text("signature")
    signed = bzimage() + b"sig~Module signature appended~\n"
    assert Preflight(host, data=signed, cmdline=line).failed == set()
    # Control: policies that measure, and appraise something else.
    host.write("sys/kernel/security/ima/policy", "measure func=KEXEC_KERNEL_CHECK\n"
               "dont_appraise func=KEXEC_KERNEL_CHECK\nappraise func=MODULE_CHECK\n")
    line = f"{GOOD} ima_policy=tcb"
    host.write("proc/cmdline", line + "\n")
    assert Preflight(host, cmdline=line).failed == set()


# --- a kernel that panics

def test_panic_that_stays_there_is_told(host: Host) -> None:
    line = GOOD.replace(" panic=10", "")
    assert Preflight(host, cmdline=line).warned == {"panic"}
    assert Preflight(host, data=bzimage(config("PANIC_TIMEOUT=5")), cmdline=line).warned == set()
    assert Preflight(host, data=bzimage(config("PANIC_TIMEOUT=5")),
                     cmdline=f"{line} panic=0").warned == {"panic"}


def test_cmdline_that_is_too_long(host: Host) -> None:
    """For the next kernel, whose header tells: 2047 characters."""
    longest = f"{GOOD} {'quiet ' * 400}"[:2044] + " ro"
    assert Preflight(host, cmdline=longest).failed == set()     # control
    assert Preflight(host, cmdline=longest + "x").failed == {"cmdline"}


def test_file_that_is_none_is_no_image(host: Host) -> None:
    os.mkfifo(host.root / "boot/fifo")
    for path in (host.root / "boot/fifo", host.root / "boot", "/dev/null"):
        out = host.pcilu("preflight", "--kernel", str(path), "--cmdline", GOOD)
        assert out.returncode == 1 and "image" in out.stdout
