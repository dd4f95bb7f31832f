# SPDX-License-Identifier: GPL-2.0
"""pcilu on the host: a machine made of files, a stand-in for the kernel's requests."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from rig import pcilu_host as ph
from rig.pcilu_host import DISK, NIC, PORT, Host, TOOLS, bzimage, config_space

pytestmark = pytest.mark.skipif(not (TOOLS / "pcilu").exists(),
                                reason=f"no tools in {TOOLS}: make tools SAN=1")
KEXEC_CMD = 0x45584543
GOOD = "root=/dev/sda1 ro kho=on liveupdate=on panic=10"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Host(tmp_path) as h:
        yield h.standard()


def devices(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {d["bdf"]: d for d in document["devices"]}


# --- list and check

def test_list_tells_driver_owner_state_and_why_not(host: Host) -> None:
    found = devices(host.json("list"))
    assert set(found) == {PORT, NIC, DISK}
    assert found[NIC]["preservable"] == "yes" and found[NIC]["state"] == "preserved"
    assert found[NIC]["owner"] == {"pid": 4711, "name": "vmm"}
    assert found[NIC]["dma"] == "goes on"
    assert found[PORT]["preservable"] == "follows"
    assert [b["id"] for b in found[DISK]["blockers"]] == ["driver"]
    table = host.pcilu("list").stdout.splitlines()
    assert table[0].split() == ["DEVICE", "ID", "DRIVER", "OWNER", "STATE", "PRESERVABLE"]
    assert [line.split()[0] for line in table[1:]] == [PORT, DISK, NIC]
    assert "vmm[4711]" in table[3] and "\033" not in "".join(table)


def test_list_as_a_tree(host: Host) -> None:
    lines = host.pcilu("list", "-t").stdout.splitlines()
    assert lines[0] == "-[0000:00]"
    assert lines[1].startswith(f"  +-{PORT}") and lines[2].startswith(f"    +-{NIC}")
    assert lines[3].startswith(f"  +-{DISK}")


@pytest.mark.parametrize("slot, expected", [
    ("01:00.0", {NIC}), ("0000:01:00.0", {NIC}), ("00:", {PORT, DISK}), (".2", {DISK}),
    ("1f", {DISK}), ("0000:*:*.0", {PORT, NIC})])
def test_slots_are_those_of_lspci(host: Host, slot: str, expected: set[str]) -> None:
    assert set(devices(host.json("list", "-s", slot))) == expected


def test_slot_that_is_none_and_slot_without_a_device(host: Host) -> None:
    assert host.pcilu("list", "-s", "xyz").returncode == 2
    out = host.pcilu("list", "-s", "7f:00.0")
    assert out.returncode == 10 and "no device matches" in out.stderr


def nic(**kw: Any) -> bytes:
    return config_space(0x8086, 0x10d3, 0x020000, bars=[0xfe000000], **kw)


BLOCKERS: dict[str, Callable[[Host], object]] = {
    "driver": lambda h: h.config(NIC, nic(), driver="e1000e"),
    "no-cdev": lambda h: (h.root / f"sys/bus/pci/devices/{NIC}/vfio-dev/noiommu-vfio0").rmdir(),
    "sriov": lambda h: h.config(NIC, nic(), driver="vfio-pci", sriov_numvfs="2"),
    "virtual-function": lambda h: (h.root / f"sys/bus/pci/devices/{NIC}/physfn").symlink_to("../x"),
    "page-requests": lambda h: h.config(NIC, nic(pri=True), driver="vfio-pci"),
    "asleep": lambda h: h.config(NIC, nic(), driver="vfio-pci", power_state="D3hot"),
    "unfinished": lambda h: h.config(NIC, nic(), driver="vfio-pci", state="claimed"),
    "cardbus": lambda h: h.config(NIC, nic(header=2), driver="vfio-pci"),
    "not-enabled": lambda h: (h.root / "dev/liveupdate").unlink(),
    "no-feature": lambda h: h.running_kernel("CONFIG_PCI=y\n"),
}


@pytest.mark.parametrize("what", BLOCKERS)
def test_check_names_each_blocker_with_its_remedy(host: Host, what: str) -> None:
    BLOCKERS[what](host)
    device = host.json("check", NIC, rc=1)["devices"][0]
    assert [b["id"] for b in device["blockers"]] == [what]
    text = host.pcilu("check", NIC)
    assert text.returncode == 1 and "cannot be preserved" in text.stdout
    assert device["blockers"][0]["remedy"] in text.stdout


def test_check_refuses_dynamic_domains(host: Host) -> None:
    host.config("10000:01:00.0", nic(), driver="vfio-pci", cdev="vfio7")
    device = host.json("check", "10000:01:00.0", rc=1)["devices"][0]
    assert [b["id"] for b in device["blockers"]] == ["host-bridge"]


def test_control_check_says_yes(host: Host) -> None:
    assert host.json("check", "01:00.0")["devices"][0]["blockers"] == []
    assert "can be preserved" in host.pcilu("check", "01:00.0").stdout


def test_dma_pauses_where_an_iommu_may_come(host: Host) -> None:
    host.write("sys/firmware/acpi/tables/IVRS", b"")
    assert devices(host.json("list"))[NIC]["dma"] == "paused"


def test_dma_behind_vtd_is_known_when_it_is_preserved(host: Host) -> None:
    behind = "0000:05:00.0"
    host.config(behind, nic(), driver="vfio-pci", cdev="vfio7")
    folder = host.root / "sys/bus/pci/devices" / behind
    (folder / "iommu_group").symlink_to("../../../kernel/iommu_groups/5")
    # Control: of another IOMMU it is known at once.
    assert devices(host.json("list"))[behind]["dma"] == "paused"
    host.write("sys/firmware/acpi/tables/DMAR", b"")
    for word, dma in (("none", "unknown"), ("translated", "goes on"), ("paused", "paused")):
        host.write(f"sys/bus/pci/devices/{behind}/liveupdate/dma", word + "\n")
        assert devices(host.json("list"))[behind]["dma"] == dma


def test_kernel_that_does_not_tell_states(host: Host) -> None:
    for bdf in (NIC, PORT, DISK):
        (host.root / f"sys/bus/pci/devices/{bdf}/liveupdate/state").unlink()
    assert {d["state"] for d in host.json("list")["devices"]} == {"unknown"}


# --- preflight

def image(host: Host, data: bytes | None = None) -> str:
    return str(host.write("boot/vmlinuz-next", bzimage() if data is None else data))


def preflight(host: Host, *argv: str, data: bytes | None = None, rc: int = 1,
              cmdline: str = GOOD) -> dict[str, list[str]]:
    """Verdicts by check."""
    document = host.json("preflight", "--kernel", image(host, data), "--cmdline", cmdline, *argv,
                         rc=rc)
    assert document["passed"] == (rc == 0)
    verdicts: dict[str, list[str]] = {}
    for check in document["checks"]:
        verdicts.setdefault(check["check"], []).append(check["verdict"])
        assert check["verdict"] != "fail" or check["text"]
    return verdicts


def failed(verdicts: dict[str, list[str]]) -> set[str]:
    return {name for name, all_of_it in verdicts.items() if "fail" in all_of_it}


@pytest.mark.parametrize("how", ["gzip", "xz", "lzma", "zstd", "lz4", "none"])
def test_control_preflight_passes(host: Host, how: str) -> None:
    host.start()
    verdicts = preflight(host, "--strict", data=bzimage(how=how), rc=0)
    assert {v for all_of_it in verdicts.values() for v in all_of_it} == {"pass"}


def test_preflight_reads_other_images(host: Host) -> None:
    host.write("proc/sys/kernel/arch", "aarch64\n")
    for data in (ph.arm64_image(), ph.compress("gzip", ph.arm64_image()),
                 ph.zboot(ph.arm64_image())):
        document = host.json("preflight", "--kernel", image(host, data), "--cmdline", GOOD)
        assert document["release"] == "7.3.5-arm"


def test_preflight_reuses_the_command_line(host: Host) -> None:
    document = host.json("preflight", "--kernel", image(host), "--reuse-cmdline")
    assert document["cmdline"] == GOOD


def without(option: str) -> bytes:
    return bzimage(ph.CONFIG.replace(f"CONFIG_{option}=y\n", f"# CONFIG_{option} is not set\n"))


@pytest.mark.parametrize("option", ["PCI_LIVEUPDATE", "LIVEUPDATE", "LIVEUPDATE_MEMFD",
                                    "KEXEC_HANDOVER", "VFIO_PCI", "VFIO_DEVICE_CDEV", "IOMMUFD"])
def test_preflight_refuses_a_kernel_without_the_option(host: Host, option: str) -> None:
    assert failed(preflight(host, data=without(option))) == {"config"}


def test_preflight_refuses_another_abi(host: Host) -> None:
    other = bzimage(ph.CONFIG.replace("0x4c55000", "0x4c55001"))
    assert failed(preflight(host, data=other)) == {"abi"}


@pytest.mark.parametrize("cmdline, check", [
    ("kho=on", "liveupdate"), ("kho=on liveupdate=off", "liveupdate"),
    ("kho=on liveupdate=on liveupdate=0", "liveupdate"), ("liveupdate=on", "kho"),
    ("kho=on -- liveupdate=on", "liveupdate"), ("kho=off liveupdate=on", "kho")])
def test_preflight_refuses_a_missing_switch(host: Host, cmdline: str, check: str) -> None:
    assert failed(preflight(host, cmdline=cmdline)) == {check}


def test_control_kho_may_be_on_by_default(host: Host) -> None:
    data = bzimage(ph.CONFIG + "CONFIG_KEXEC_HANDOVER_ENABLE_DEFAULT=y\n")
    assert failed(preflight(host, data=data, cmdline="liveupdate=on", rc=0)) == set()


@pytest.mark.parametrize("option", ["pci=realloc", "pci=assign-busses", "pcie_aspm=off", "iommu=pt",
                                    "intel_iommu=on", "pci=pcie_bus_perf", "pcie_ports=native"])
def test_preflight_refuses_changed_options(host: Host, option: str) -> None:
    assert failed(preflight(host, cmdline=f"{GOOD} {option}")) == {"cmdline"}
    # An option that is there now and would be gone is a change as well.
    host.write("proc/cmdline", f"{GOOD} {option}\n")
    assert failed(preflight(host)) == {"cmdline"}
    assert failed(preflight(host, cmdline=f"{GOOD} {option}", rc=0)) == set()


def test_preflight_lists_each_change_with_what_it_would_do(host: Host) -> None:
    host.write("proc/cmdline", f"{GOOD} pci=noari,nomsi\n")
    document = host.json("preflight", "--kernel", image(host), "--cmdline",
                         GOOD + " pci=nomsi,realloc quiet", rc=1)
    changes = [c["text"] for c in document["checks"] if c["check"] == "cmdline"]
    assert len(changes) == 2
    assert "has pci=realloc: it moves BARs" in changes[0] and "lacks pci=noari" in changes[1]


def test_preflight_accepts_what_the_operator_accepts(host: Host) -> None:
    verdicts = preflight(host, "--accept", "cmdline", cmdline=f"{GOOD} pci=realloc", rc=0)
    assert verdicts["cmdline"] == ["accepted"]


@pytest.mark.parametrize("data", [
    b"", b"x" * 10, b"text\n" * 1000, bzimage()[:1100],
    bzimage(garbage=b"\x1f\x8b\x08" + b"x" * 500),
    bzimage(garbage=b"\x28\xb5\x2f\xfd" + b"\xff" * 500), bzimage(garbage=b"BZh9xxxx"),
    bzimage(garbage=b"\x02\x21\x4c\x18\xff\xff"), b"MZ\0\0zimg" + b"\xff" * 60],
    ids=["empty", "short", "text", "truncated", "bad gzip", "bad zstd", "bzip2", "bad lz4",
         "bad zboot"])
def test_preflight_refuses_an_unreadable_image(host: Host, data: bytes) -> None:
    assert "image" in failed(preflight(host, data=data))


def test_preflight_refuses_a_missing_image(host: Host) -> None:
    document = host.json("preflight", "--kernel", "/nowhere", "--cmdline", GOOD, rc=1)
    assert document["checks"][0]["text"] == "/nowhere: No such file or directory"


def test_image_without_configuration_needs_a_file(host: Host) -> None:
    data = bzimage(None)
    assert failed(preflight(host, data=data)) == {"config"}
    named = host.write("x.config", ph.CONFIG)
    assert failed(preflight(host, "--config", str(named), data=data, rc=0)) == set()
    host.write("boot/config-7.3.5-next", ph.CONFIG)     # beside the image, by its release
    assert failed(preflight(host, data=data, rc=0)) == set()


def test_modules_of_the_next_kernel_are_looked_for(host: Host) -> None:
    data = bzimage(ph.CONFIG.replace("CONFIG_VFIO_PCI=y", "CONFIG_VFIO_PCI=m"))
    assert failed(preflight(host, data=data)) == {"modules"}


@pytest.mark.parametrize("scratch, cmdline", [("0x1000000\n0x2000000\n", GOOD),
                                              (None, GOOD + " crashkernel=1G")])
def test_preflight_refuses_too_little_scratch(host: Host, scratch: str | None,
                                              cmdline: str) -> None:
    if scratch:
        host.write("sys/kernel/debug/kho/out/scratch_len", scratch)
    assert failed(preflight(host, cmdline=cmdline)) == {"scratch"}


def test_scratch_from_the_command_line_and_unknown(host: Host) -> None:
    (host.root / "sys/kernel/debug/kho/out/scratch_len").unlink()
    assert preflight(host, rc=0)["scratch"] == ["warn"]
    host.write("proc/cmdline", GOOD + " kho_scratch=16M,512M,0\n")
    assert preflight(host, cmdline=GOOD + " kho_scratch=16M,512M,0", rc=0)["scratch"] == ["pass"]
    host.write("proc/cmdline", GOOD + " kho_scratch=16M,32M,0\n")
    assert failed(preflight(host, cmdline=GOOD + " kho_scratch=16M,32M,0")) == {"scratch"}


def test_big_initrd_counts(host: Host) -> None:
    initrd = host.write("boot/initrd", ph.cpio({"init": bytes(80 << 20)}))
    host.write("sys/kernel/debug/kho/out/scratch_len", "0x8000000\n")
    assert failed(preflight(host, "--initrd", str(initrd))) == {"scratch"}
    assert failed(preflight(host, "--initrd", "/nowhere")) == {"initrd"}


def test_preflight_refuses_where_kexec_is_forbidden(host: Host) -> None:
    host.write("proc/sys/kernel/kexec_load_disabled", "1\n")
    assert failed(preflight(host)) == {"kexec"}
    host.write("proc/sys/kernel/kexec_load_disabled", "0\n")
    host.write("proc/sys/kernel/kexec_load_limit_reboot", "0\n")
    assert failed(preflight(host)) == {"kexec"}


def test_lockdown_wants_a_signature(host: Host) -> None:
    host.write("sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
    assert failed(preflight(host)) == {"signature"}
    host.running_kernel(ph.CONFIG + "CONFIG_KEXEC_SIG=y\n")
    assert preflight(host, data=bzimage(signed=True), rc=0)["signature"] == ["warn"]
    host.write("sys/kernel/security/lockdown", "[none] integrity confidentiality\n")
    assert preflight(host, rc=0)["signature"] == ["pass"]


def test_preflight_warns_of_unfinished(host: Host) -> None:
    host.config(NIC, nic(), driver="vfio-pci", state="incoming")
    assert preflight(host, rc=0)["unfinished"] == ["warn"]


def test_preflight_changes_nothing(host: Host) -> None:
    before = sorted(str(p) for p in host.root.rglob("*"))
    image(host)
    preflight(host, rc=0)
    assert host.luo.loads == [] and host.luo.reboots == []
    after = sorted(str(p) for p in host.root.rglob("*"))
    assert set(after) - set(before) == {str(host.root / "boot/vmlinuz-next")}


# --- load and exec

def load(host: Host, *argv: str, cmdline: str = GOOD, data: bytes | None = None) -> Any:
    return host.pcilu("load", "--kernel", image(host, data), "--cmdline", cmdline, *argv)


def test_load_and_exec(host: Host) -> None:
    initrd = host.write("boot/initrd", ph.initrd())
    assert load(host, "--initrd", str(initrd)).returncode == 0
    assert host.luo.loads == [(GOOD, 0, True)]
    out = host.pcilu("exec")
    assert host.luo.reboots == [KEXEC_CMD], out.stderr
    assert host.luo.loads == [(GOOD, 0, True)] * 2      # once more, see pcilu(1)


def test_load_tells_in_json(host: Host) -> None:
    document = host.json("load", "--kernel", image(host), "--cmdline", GOOD)
    assert document["loaded"] and document["passed"]
    document = host.json("load", "--kernel", image(host), "--cmdline", "quiet", rc=1)
    assert not document["loaded"] and not document["passed"]
    assert len(host.luo.loads) == 1


def test_load_without_an_initrd_says_so(host: Host) -> None:
    load(host)
    assert host.luo.loads == [(GOOD, 4, False)]


def test_load_refuses_what_does_not_pass_unless_forced(host: Host) -> None:
    assert load(host, cmdline="quiet").returncode == 1 and host.luo.loads == []
    assert load(host, "--force", cmdline="quiet").returncode == 0 and len(host.luo.loads) == 1
    out = host.pcilu("exec")
    assert out.returncode == 1 and "did not pass" in out.stderr and host.luo.reboots == []
    host.pcilu("exec", "--force")
    assert host.luo.reboots == [KEXEC_CMD]


def test_exec_refuses_without_a_kernel_or_a_preflight(host: Host) -> None:
    out = host.pcilu("exec")
    assert out.returncode == 1 and "no kernel is loaded" in out.stderr
    host.write("sys/kernel/kexec_loaded", "1\n")        # by kexec-tools, say
    out = host.pcilu("exec")
    assert out.returncode == 1 and "no preflight" in out.stderr
    assert host.luo.reboots == []


def test_load_says_why_the_kernel_refused(host: Host) -> None:
    host.luo.load_error = 129       # EKEYREJECTED
    out = load(host)
    assert out.returncode == 11 and "signature" in out.stderr
    host.luo.load_error = 1
    assert load(host).returncode == 4


def test_dry_run_does_nothing(host: Host) -> None:
    out = host.pcilu("update", "--kernel", image(host), "--cmdline", GOOD, "--dry-run")
    assert out.returncode == 0 and "would load" in out.stderr and "would jump" in out.stderr
    assert host.luo.loads == [] and host.luo.reboots == [] and host.luo.outgoing == {}


def systemd(host: Host, script: str = "") -> Path:
    """A systemctl that writes down how it was called."""
    (host.root / "run/systemd/system").mkdir(parents=True)
    log = host.root / "systemctl.log"
    tool = host.write("bin/systemctl", f"#!/bin/sh\necho \"$@\" >> {log}\n{script}\n")
    os.chmod(tool, 0o755)
    return log


def test_exec_tells_in_json(host: Host) -> None:
    assert host.json("exec", rc=1)["status"] == 1
    systemd(host)
    host.start()
    load(host)
    assert host.json("exec", "--dry-run")["by"] == "systemctl kexec"
    assert host.json("exec")["status"] == 0


def test_exec_goes_through_systemd_with_the_keeper(host: Host) -> None:
    log = systemd(host)
    host.start()
    load(host)
    assert host.pcilu("exec").returncode == 0
    assert log.read_text() == "start pcilu-keeper.service\nkexec\n"
    assert host.luo.reboots == []


def test_exec_does_not_jump_without_the_keeper(host: Host) -> None:
    log = systemd(host, '[ "$1" != start ]')
    host.start()
    load(host)
    out = host.pcilu("exec")
    assert out.returncode == 11 and "pcilu-keeper" in out.stderr
    assert "kexec" not in log.read_text().split()


def test_exec_lets_the_keeper_go_when_systemd_refuses(host: Host) -> None:
    log = systemd(host, '[ "$1" != kexec ]')
    host.start()
    load(host)
    assert host.pcilu("exec").returncode == 11
    assert log.read_text().splitlines()[-1] == "stop pcilu-keeper.service"


def test_exec_without_systemd_by_choice(host: Host) -> None:
    log = systemd(host)
    host.start()
    load(host)
    host.pcilu("exec", "--no-systemd")
    assert host.luo.reboots == [KEXEC_CMD] and not log.exists()


# --- snapshot and verify

@pytest.fixture
def updated(host: Host) -> Host:
    """A snapshot was taken, and this is the next kernel."""
    host.start()
    out = host.pcilu("snapshot")
    assert out.returncode == 0, out.stderr
    host.luo.kexec()
    host.stop()
    host.start()
    host.write("proc/sys/kernel/osrelease", "7.3.5-next\n")
    return host


def test_snapshot_survives_in_a_session_and_verify_is_content(updated: Host) -> None:
    assert "pcilu.snapshot" in updated.luo.incoming
    document = updated.json("verify", "--keep")
    assert document["ok"] and document["differences"] == [] and document["compared"] == 3
    assert (document["kernel_before"], document["kernel_after"]) == ("7.3.4-test", "7.3.5-next")
    assert updated.pcilu("verify").stdout.startswith("kept: 3 functions")
    out = updated.pcilu("verify")       # it was finished
    assert out.returncode == 10 and "pcilu.snapshot" not in updated.luo.incoming


def port(**kw: Any) -> bytes:
    return config_space(0x1b36, 0x000c, 0x060400, **{"bridge": (0, 1, 1), **kw})


CHANGES: dict[str, tuple[Callable[[Host], object], str, str]] = {
    "BAR": (lambda h: h.config(NIC, config_space(0x8086, 0x10d3, 0x020000,
                                                 bars=[0xfe400000, 0xfe020000]),
                               driver="vfio-pci"), NIC, "BAR 0"),
    "Bus Master": (lambda h: h.config(NIC, config_space(
        0x8086, 0x10d3, 0x020000, bars=[0xfe000000, 0xfe020000], command=0x0402),
        driver="vfio-pci"), NIC, "Command"),
    "device": (lambda h: h.config(NIC, config_space(0x8086, 0x1533, 0x020000,
                                                    bars=[0xfe000000, 0xfe020000]),
                                  driver="vfio-pci"), NIC, "Device ID"),
    "payload size": (lambda h: h.config(NIC, config_space(
        0x8086, 0x10d3, 0x020000, bars=[0xfe000000, 0xfe020000], devctl=0x2830),
        driver="vfio-pci"), NIC, "Device Control"),
    "bus numbers": (lambda h: h.config(PORT, port(bridge=(0, 2, 2)), driver="pcieport"), PORT,
                    "bus numbers"),
    "driver": (lambda h: h.config(NIC, config_space(0x8086, 0x10d3, 0x020000,
                                                    bars=[0xfe000000, 0xfe020000]),
                                  driver="e1000e"), NIC, "driver"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_verify_catches_a_change_made_on_purpose(updated: Host, what: str) -> None:
    change, bdf, field = CHANGES[what]
    change(updated)
    document = updated.json("verify", "--keep", rc=1)
    assert not document["ok"]
    assert (bdf, field, "broken") in {(d["bdf"], d["what"], d["severity"])
                                      for d in document["differences"]}
    assert "NOT KEPT" in updated.pcilu("verify").stdout


def test_verify_catches_a_missing_device(updated: Host) -> None:
    folder = updated.root / "sys/bus/pci/devices" / NIC
    folder.rename(updated.root / "gone")
    document = updated.json("verify", rc=1)
    assert document["differences"] == [{"bdf": NIC, "what": "function", "before": "present",
                                        "after": "missing", "severity": "broken"}]


def test_control_changes_of_others_are_told_and_do_not_count(updated: Host) -> None:
    updated.config(DISK, config_space(0x8086, 0x2922, 0x010601, bars=[0xfe200000]), driver=None)
    updated.config("0000:00:05.0", nic())
    document = updated.json("verify")
    assert document["ok"]
    assert {(d["bdf"], d["what"]) for d in document["differences"]} == {
        (DISK, "BAR 0"), (DISK, "resource 0"), (DISK, "driver"), ("0000:00:05.0", "function")}


@pytest.mark.parametrize("state", ["preserved", "none"])
def test_bridge_above_nothing_keeps_its_numbers_and_no_more(host: Host, state: str) -> None:
    """And not even these if nothing was preserved anywhere."""
    beside = "0000:00:05.0"
    for bdf in (PORT, NIC):
        (host.root / "sys/bus/pci/devices" / bdf / "liveupdate/state").write_text(state + "\n")
    host.config(beside, port(bridge=(0, 2, 2)), driver="pcieport")
    host.json("snapshot", "-o", str(host.root / "before.json"))
    host.config(beside, port(bridge=(0, 3, 3), command=0x0402), driver="pcieport")
    document = host.json("verify", "-i", str(host.root / "before.json"), rc=state == "preserved")
    assert {d["what"]: d["severity"] for d in document["differences"]} == {
        "bus numbers": "broken" if state == "preserved" else "changed", "Command": "changed"}


def test_control_status_bits_do_not_count(updated: Host) -> None:
    config = bytearray((updated.root / "sys/bus/pci/devices" / NIC / "config").read_bytes())
    struct.pack_into("<H", config, 0x06, 0xf810)
    (updated.root / "sys/bus/pci/devices" / NIC / "config").write_bytes(config)
    assert updated.json("verify")["differences"] == []


def test_verify_at_boot_reports_for_status(updated: Host) -> None:
    assert updated.pcilu("verify", "--boot").returncode == 0
    assert updated.json("status")["last_verify"] == "kept"
    assert "no snapshot was handed over" in updated.pcilu("verify", "--boot").stdout


def test_snapshot_in_a_file(host: Host) -> None:
    file = host.root / "before.json"
    document = host.json("snapshot", "-o", str(file))
    assert json.loads(file.read_text()) == document
    assert host.json("verify", "-i", str(file))["ok"]
    file.write_text('{"schema": "pcilu/list", "schema_version": 1}')
    assert host.pcilu("verify", "-i", str(file)).returncode == 11
    file.write_text("{")
    assert "not understood" in host.pcilu("verify", "-i", str(file)).stderr


def test_snapshot_needs_the_daemon_or_a_file(host: Host) -> None:
    out = host.pcilu("snapshot")
    assert out.returncode == 10 and "pcilud" in out.stderr


def test_snapshot_replaces_the_one_before(host: Host) -> None:
    host.start()
    assert host.pcilu("snapshot").returncode == 0
    host.config(DISK, config_space(0x8086, 0x2922, 0x010601, bars=[0xfe300000]), driver="ahci")
    assert host.pcilu("snapshot").returncode == 0
    host.luo.kexec()
    host.stop()
    host.start()
    assert host.json("verify")["differences"] == []


# --- update and status

def test_update_does_it_all_and_shows_the_time_of_each_step(host: Host) -> None:
    systemd(host)
    host.start()
    host.write("sys/kernel/kexec_loaded", "1\n")
    out = host.pcilu("update", "--kernel", image(host), "--cmdline", GOOD)
    assert out.returncode == 0, out.stderr
    for step in ("preflight", "load", "prepare", "go", "snapshot", "exec"):
        assert any(line.startswith(step) and " done, " in line and line.endswith(" s")
                   for line in out.stdout.splitlines())
    assert "kexec" in (host.root / "systemctl.log").read_text()
    document = host.json("update", "--kernel", image(host), "--cmdline", GOOD)
    assert [s["step"] for s in document["steps"]] == ["preflight", "load", "prepare", "go",
                                                      "snapshot", "exec"]
    assert document["checks"] and not any(c["verdict"] == "fail" for c in document["checks"])


def test_update_stops_at_the_first_step_that_fails(host: Host) -> None:
    host.start()
    document = host.json("update", "--kernel", image(host), "--cmdline", "quiet", rc=1)
    assert [(s["step"], s["status"]) for s in document["steps"]] == [("preflight", 1)]
    # A fleet's log says why, as the preflight does.
    same = host.json("preflight", "--kernel", image(host), "--cmdline", "quiet", rc=1)
    assert document["checks"] == same["checks"]
    why = next(c for c in same["checks"] if c["verdict"] == "fail")
    out = host.pcilu("update", "--kernel", image(host), "--cmdline", "quiet", "--dry-run")
    assert f"nothing was changed: {why['check']}: {why['text']}" in out.stderr
    assert host.luo.loads == [] and set(host.luo.outgoing) == {"pcilud"}


def test_status_tells_what_remains(updated: Host) -> None:
    updated.config(NIC, nic(), driver="vfio-pci", state="incoming")
    document = updated.json("status")
    assert document["daemon"] == "running"
    assert [(s["name"], s["direction"], s["held"]) for s in document["sessions"]] == [
        ("pcilu.snapshot", "incoming", False)]
    assert document["remaining"] == ["session pcilu.snapshot is to be retrieved",
                                     f"device {NIC} is to be retrieved by its owner"]
    text = updated.pcilu("status").stdout
    assert "to do: session pcilu.snapshot is to be retrieved" in text


def test_control_status_with_nothing_to_do(host: Host) -> None:
    for bdf in (NIC, PORT):
        (host.root / f"sys/bus/pci/devices/{bdf}/liveupdate/state").write_text("none\n")
    document = host.json("status")
    assert document["remaining"] == [] and document["sessions"] == [] and document["devices"] == []
    assert document["daemon"] == "No such file or directory"


# --- the command line

@pytest.mark.parametrize("argv", [[], ["fly"], ["list", "extra"], ["list", "--kernel", "x"],
                                  ["check"], ["preflight"], ["preflight", "--kernel", "x"],
                                  ["exec", "-t"], ["list", "--nonsense"], ["status", "-s", "0"]])
def test_wrong_usage(host: Host, argv: list[str]) -> None:
    out = host.pcilu(*argv)
    assert out.returncode == 2 and out.stderr and not out.stdout


def test_every_command_has_help(host: Host) -> None:
    lines = host.pcilu("--help").stdout.splitlines()
    commands = [line.split()[0] for line in lines if line.startswith("  ")]
    assert commands == ["list", "check", "preflight", "load", "unload", "exec", "snapshot",
                        "verify", "update", "status", "bind", "unbind", "release",
                        "discard", "finish", "wait"]
    for command in commands:
        out = host.pcilu(command, "--help")
        assert out.returncode == 0 and out.stdout.startswith(f"Usage: pcilu {command}")
    assert host.pcilu("--version").stdout.startswith("pcilu ")


def test_output_that_cannot_be_written_is_a_failure(host: Host) -> None:
    out = host.run("bash", "-c", f"{TOOLS}/pcilu list > /dev/full")
    assert out.returncode == 11 and "standard output" in out.stderr


def test_control_schema_refuses_another_document(host: Host) -> None:
    import jsonschema
    document = host.json("list")
    document["devices"][0]["bdf"] = "01:00.0"
    schema = json.loads((ph.SCHEMAS / "list.json").read_text())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)
