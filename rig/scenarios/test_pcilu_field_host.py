# SPDX-License-Identifier: GPL-2.0
"""What people report of kexec on hosts with devices: this host, its devices, loading, binding.

One test, or a group of them, for each kind of trouble; its name tells the kind.
"""

from __future__ import annotations

import os
import resource
import shutil
import threading
from pathlib import Path
from typing import Iterator

import pytest

from rig import pcilu_host as ph
from rig.pcilu_field import GOOD, Preflight
from rig.pcilu_host import DISK, NIC, PORT, Host, TOOLS, bzimage, config_space

PLAIN = ph.BUILD / "tools/pcilu"
pytestmark = pytest.mark.skipif(not (TOOLS / "pcilu").exists(),
                                reason=f"no tools in {TOOLS}: make tools SAN=1")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Host(tmp_path) as h:
        h.standard().start()
        yield h


def nic(**kw: object) -> bytes:
    return config_space(0x8086, 0x10d3, 0x020000, bars=[0xfe000000], **kw)     # type: ignore


def state(host: Host, bdf: str, word: str) -> None:
    (host.root / "sys/bus/pci/devices" / bdf / "liveupdate/state").write_text(word + "\n")


# --- the host itself

def test_host_without_live_update_fails(host: Host) -> None:
    (host.root / "dev/liveupdate").unlink()
    assert "host" in Preflight(host).failed


def test_host_whose_daemon_is_down(host: Host) -> None:
    host.stop()
    assert Preflight(host).warned == {"daemon"}
    (host.root / "run/systemd/system").mkdir(parents=True)
    assert Preflight(host).failed == {"daemon"}         # units stop, and sessions with them


def test_host_with_nothing_preserved_warns(host: Host) -> None:
    state(host, NIC, "none")
    shutil.rmtree(host.root / "proc/4711")
    pf = Preflight(host)
    assert pf.passed and pf.warned == {"devices"} and "nothing is preserved" in pf.text("devices")
    assert not Preflight(host, "--strict").passed
    assert Preflight(host, "--strict", "--accept", "devices").passed


@pytest.mark.parametrize("how", ["cdev", "group", "noiommu group"])
def test_host_with_a_device_in_use_that_nobody_preserved(host: Host, how: str) -> None:
    bdf = "0000:00:06.0"
    folder = host.config(bdf, nic(), driver="vfio-pci", state="none",
                         cdev="vfio3" if how == "cdev" else None)
    (folder / "iommu_group").symlink_to("../../../kernel/iommu_groups/17")
    assert Preflight(host).failed == set()              # control: nobody has it open
    host.process(815, "qemu", {"cdev": "/dev/vfio/devices/vfio3", "group": "/dev/vfio/17",
                               "noiommu group": "/dev/vfio/noiommu-17"}[how])
    pf = Preflight(host)
    assert pf.failed == {"in-use"}
    assert bdf in pf.text("in-use") and "qemu[815]" in pf.text("in-use")


@pytest.mark.parametrize("timeout, stops, identity, says", [
    ("180", "0", "i6300ESB timer", None),                       # control: it runs on
    ("10", "0", "i6300ESB timer", "within 10 s"),
    ("180", "1", "i6300ESB timer", "is stopped by the kexec"),
    ("10", "1", "i6300ESB timer", "is stopped by the kexec"),
    ("180", "-1", "i6300ESB timer", "may be stopped by its driver"),
    ("180", None, "i6300ESB timer", "may be stopped by its driver"),
    ("180", "0", "Software Watchdog", "is a timer of this kernel")])
def test_host_with_a_watchdog_that_runs(host: Host, timeout: str, stops: str | None, identity: str,
                                        says: str | None) -> None:
    for name, text in (("state", "active"), ("timeout", timeout), ("identity", identity)):
        host.write(f"sys/class/watchdog/watchdog0/{name}", text + "\n")
    if stops:
        host.write("sys/module/watchdog/parameters/stop_on_reboot", stops + "\n")
    found = Preflight(host)
    assert found.warned == ({"watchdog"} if says else set())
    assert not says or says in found.text("watchdog")
    host.write("sys/class/watchdog/watchdog0/state", "inactive\n")
    assert Preflight(host).warned == set()


# --- check agrees with the kernel

def blockers(host: Host, bdf: str) -> list[str]:
    out = host.pcilu("check", bdf, "--json")
    assert out.returncode in (0, 1), out.stderr
    return [b["id"] for b in ph.checked(out.stdout)["devices"][0]["blockers"]]


def test_check_takes_the_kernels_answer(host: Host) -> None:
    """What only the kernel knows: a host bridge without ACPI, an ACS quirk of a port above."""
    state(host, NIC, "none")
    assert blockers(host, NIC) == []
    refusal = host.write(f"sys/bus/pci/devices/{NIC}/liveupdate/refusal",
                         "its host bridge has a driver of its own kind; use another\n")
    assert blockers(host, NIC) == ["kernel"]
    out = host.pcilu("check", NIC)
    assert "its host bridge has a driver of its own kind: use another" in out.stdout
    state(host, NIC, "preserved")
    refusal.write_text("it is preserved already; close that session first\n")
    assert blockers(host, NIC) == []


def test_check_does_not_guess_where_the_kernel_tells(host: Host) -> None:
    bdf = "10000:01:00.0"
    host.config(bdf, nic(), driver="vfio-pci", cdev="vfio7")
    assert blockers(host, bdf) == ["host-bridge"]
    host.write(f"sys/bus/pci/devices/{bdf}/liveupdate/refusal", "none\n")
    assert blockers(host, bdf) == []


def test_check_of_a_function_without_extended_configuration_space(host: Host) -> None:
    config = host.root / f"sys/bus/pci/devices/{NIC}/config"
    config.write_bytes(nic()[:256])
    assert blockers(host, NIC) == ["short-config"]


def test_check_of_a_device_that_was_opened_through_its_group(host: Host) -> None:
    folder = host.root / "sys/bus/pci/devices" / NIC
    (folder / "iommu_group").symlink_to("../../../kernel/iommu_groups/5")
    shutil.rmtree(host.root / "proc/4711")
    host.process(815, "qemu", "/dev/vfio/5")
    assert blockers(host, NIC) == ["group"]


@pytest.mark.parametrize("word, dma", [("untranslated", "goes on"), ("translated", "goes on"),
                                       ("paused", "paused"), ("paused-pending", "paused"),
                                       ("none", "goes on")])
def test_check_asks_the_kernel_about_dma(host: Host, word: str, dma: str) -> None:
    host.write(f"sys/bus/pci/devices/{NIC}/liveupdate/dma", word + "\n")
    assert host.json("check", NIC)["devices"][0]["dma"] == dma


# --- odd machines

def test_odd_machine_shows_every_function_once(host: Host) -> None:
    """Roots, a bridge to a lower bus than its own, functions above 7, a dead one, a loop."""
    bridge = dict(vendor=0x1b36, device=0xc, cls=0x060400)
    for bdf, numbers in {"0000:80:00.0": (0x80, 0x40, 0x40), "0000:40:00.0": (0x40, 0x41, 0x41),
                         "0000:f0:00.0": (0xf0, 0xf1, 0xf1), "0000:f1:00.0": (0xf1, 0xf0, 0xf0),
                         "0001:00:01.0": (0, 1, 1)}.items():
        host.config(bdf, config_space(**bridge, bridge=numbers), driver="pcieport")
    for bdf in ("0000:41:00.0", "0000:41:01.0", "0000:41:1f.7", "0001:01:00.0"):
        host.config(bdf, nic())
    dead = "0000:41:02.0"
    host.config(dead, nic())
    (host.root / "sys/bus/pci/devices" / dead / "config").write_bytes(b"\xff" * 4096)
    every = {p.name for p in (host.root / "sys/bus/pci/devices").iterdir()}
    assert {d["bdf"] for d in host.json("list")["devices"]} == every
    lines = host.pcilu("list", "-t").stdout.splitlines()
    shown = [line.split("+-")[1].split()[0] for line in lines if "+-" in line]
    assert sorted(shown) == sorted(every)
    assert any(line.startswith("      +-0000:41:1f.7") for line in lines)
    assert "dead" in blockers(host, dead)


def add_functions(host: Host, first: int, count: int) -> None:
    """Functions of a driver that has a file for each; fifteen to a process, which has more open."""
    for n in range(first, first + count):
        bdf = f"0000:{0x10 + (n >> 8):02x}:{n >> 3 & 31:02x}.{n & 7}"
        folder = host.root / "sys/bus/pci/devices" / bdf
        (folder / "vfio-dev" / f"vfio{n}").mkdir(parents=True)
        for name, text in {"vendor": "0x8086", "device": "0x10d3", "class": "0x020000", "irq": "0",
                           "resource": "", "power_state": "D0"}.items():
            (folder / name).write_text(text + "\n")
        (folder / "config").write_bytes(nic()[:256])
        (folder / "driver").symlink_to("../../../bus/pci/drivers/vfio-pci")
    for n in range(first, first + count, 15):
        files = [f"/dev/vfio/devices/vfio{n + i}" for i in range(15)]
        host.process(10000 + n // 15, "qemu", *files, *["/dev/null"] * 40)


def calls(host: Host, *program: str, command: tuple[str, ...] = ("list",)) -> tuple[int, int]:
    """System calls that a command takes, and how many functions it tells of."""
    out = host.run(str(TOOLS / "killer"), "0", *program, *command, "--json")
    return int(out.stderr.split("killer: ")[1]) // 2, len(ph.checked(out.stdout)["devices"])


@pytest.mark.skipif(not PLAIN.exists(), reason="needs make tools, too")
def test_odd_machine_with_4600_functions_and_300_processes_is_quick(host: Host) -> None:
    """In system calls, of which each takes some microseconds: what is the same for all functions is
    looked up once. Processor time is printed and not judged."""
    host.run(str(PLAIN), "list")
    few, there = calls(host, str(PLAIN))
    assert there == 3
    add_functions(host, 0, 300)
    some, there = calls(host, str(PLAIN))
    assert there == 303
    add_functions(host, 300, 4300)
    many, there = calls(host, str(PLAIN))
    assert there == 4603
    # It is 43.5, four of them for the files of its process; nothing is looked up for each again.
    assert many < 46 * 4603
    assert (many - some) / 4300 < (some - few) / 300 + 1
    # Control: one file more that is read for each is seen.
    again = "for d in $PCILU_SYSROOT/sys/bus/pci/devices/*; do read -r x < $d/irq; done"
    assert calls(host, "bash", "-c", f'{again}; exec "$@"', "-", str(PLAIN))[0] > 46 * 4603
    # What asks again and again, as wait does, looks only whether Live Update holds a function.
    held, there = calls(host, str(PLAIN), command=("status",))
    assert there == 2 and held < 6 * 4603 + 15000           # and at what processes have open
    document = host.json("list")            # with the sanitizers
    assert sum(d["owner"] is not None for d in document["devices"]) == 4601
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    host.run(str(PLAIN), "list", "--json")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime:.2f} s of CPU")


@pytest.mark.skipif(not PLAIN.exists(), reason="needs make tools, too")
@pytest.mark.parametrize("command", ["check", "bind"])
def test_many_named_functions_are_looked_for_once(host: Host, command: str) -> None:
    """Processes, devices and the platform are the same for all that are named."""
    (host.root / "sys/bus/pci/drivers/vfio-pci").mkdir(parents=True)
    add_functions(host, 0, 150)
    slots = [f"10:{n >> 3:02x}.{n & 7}" for n in range(150)]

    def of(*named: str) -> tuple[int, int]:
        return calls(host, str(PLAIN), command=(command, *named))

    of(slots[0])
    one, there = of(slots[0])
    assert there == 1
    all_of_them, there = of(*slots)
    assert there == 150
    assert all_of_them - one < 46 * 149
    # Control: what each took when it was looked for alone.
    assert one > 10 * 46
    # One name for many, named twice, and one that is not there: each once, and the others all the
    # same.
    assert of("10:*.*", slots[3])[1] == 150
    assert host.pcilu("check", slots[0], "7f:00.0", slots[1]).stdout.count("be preserved\n") == 2
    assert host.json("check", slots[0], "7f:00.0", rc=10)["error"] == "no device matches '7f:00.0'"


# --- a kernel that stays loaded

def loaded(host: Host) -> bool:
    return (host.root / "sys/kernel/kexec_loaded").read_text() == "1\n"


def test_update_that_fails_takes_its_steps_back(host: Host) -> None:
    (host.root / "run/systemd/system").mkdir(parents=True)
    tool = host.write("bin/systemctl", '#!/bin/sh\n[ "$1" != kexec ]\n')
    os.chmod(tool, 0o755)
    path = host.write("boot/vmlinuz-next", bzimage())
    document = host.json("update", "--kernel", str(path), "--cmdline", GOOD, rc=11)
    assert [s["status"] for s in document["steps"]] == [0, 0, 0, 0, 0, 11]
    assert host.luo.loads and not loaded(host) and host.luo.loaded is None
    assert set(host.luo.outgoing) == {"pcilud"}         # and no snapshot is left
    assert not (host.root / "run/pcilu/loaded.json").exists()
    assert host.pcilu("exec").returncode == 1


def test_unload_takes_the_loaded_kernel_away(host: Host) -> None:
    path = host.write("boot/vmlinuz-next", bzimage())
    assert host.pcilu("load", "--kernel", str(path), "--cmdline", GOOD).returncode == 0
    assert loaded(host)
    assert host.json("unload", "--dry-run")["was_loaded"] and loaded(host)
    assert host.json("unload")["was_loaded"] and not loaded(host)
    assert not host.json("unload")["was_loaded"]


def test_load_that_cannot_be_remembered_is_taken_back(host: Host) -> None:
    path = host.write("boot/vmlinuz-next", bzimage())
    (host.root / "run/pcilu/loaded.json.new").mkdir(parents=True)
    out = host.pcilu("load", "--kernel", str(path), "--cmdline", GOOD)
    assert out.returncode == 11 and not loaded(host)


def test_two_updates_do_not_interleave(host: Host) -> None:
    path = host.write("boot/vmlinuz-next", bzimage())
    load = ["load", "--kernel", str(path), "--cmdline", GOOD]
    second = []

    def try_another() -> None:
        if not second:
            second.append(host.pcilu(*load))

    host.luo.before_load = try_another
    assert host.pcilu(*load).returncode == 0
    assert second[0].returncode == 11 and "another pcilu is at work" in second[0].stderr
    assert len(host.luo.loads) == 1
    host.luo.before_load = lambda: None
    assert host.pcilu(*load).returncode == 0            # control: one after the other


# --- update takes the newest kernel

@pytest.mark.parametrize("releases, newest", [
    (["7.3.9-a", "7.3.10-a", "7.3.4-test"], "7.3.10-a"),
    (["7.4-rc2", "7.4-rc10", "7.3.4-test"], "7.4-rc10"), (["7.4-rc2", "7.4"], "7.4"),
    (["7.4.0-rc2", "7.4.0-1"], "7.4.0-1"), (["6.12.90", "7.3.4-test"], "7.3.4-test")])
def test_update_takes_the_newest_installed_kernel(host: Host, releases: list[str],
                                                  newest: str) -> None:
    for release in releases:
        host.write(f"boot/vmlinuz-{release}", bzimage(release=release))
        host.write(f"boot/initrd.img-{release}", ph.initrd(release))
    host.write("boot/vmlinuz-9.9.9.old", b"")
    host.write("boot/vmlinuz-0-rescue-123", b"")
    document = host.json("update", "--dry-run")
    assert document["kernel"] == str(host.root / f"boot/vmlinuz-{newest}")
    assert document["initrd"] == str(host.root / f"boot/initrd.img-{newest}")
    host.pcilu("update")
    assert host.luo.loads[0] == (GOOD, 0, True)


def test_update_without_an_installed_kernel(host: Host) -> None:
    (host.root / "boot/vmlinuz-7.3.4-test").unlink()
    assert host.json("update", rc=10)["error"].startswith("no kernel is installed")


# --- names of devices are no identity

def test_verify_does_not_take_another_device_name_for_a_change(host: Host) -> None:
    assert host.pcilu("snapshot").returncode == 0
    host.luo.kexec()
    host.stop()
    host.start()
    folder = host.root / f"sys/bus/pci/devices/{NIC}/vfio-dev"
    (folder / "noiommu-vfio0").rename(folder / "noiommu-vfio3")
    document = host.json("verify")
    assert document["ok"]
    assert [(d["what"], d["before"], d["after"], d["severity"])
            for d in document["differences"]] == [
                ("device file", "noiommu-vfio0", "noiommu-vfio3", "changed")]


# --- binding reports success and nothing is bound

class DriverCore(threading.Thread):
    """What the kernel does with drivers_probe and unbind, in files.

    Whoever opens drivers_probe waits until it is opened here, so what a probe does is done before.
    """

    def __init__(self, host: Host, *, refuses: bool = False) -> None:
        super().__init__(daemon=True)
        self.bus = host.root / "sys/bus/pci"
        self.refuses = refuses
        (self.bus / "drivers/vfio-pci").mkdir(parents=True)
        (self.bus / "drivers/ahci").mkdir(parents=True)
        os.mkfifo(self.bus / "drivers/ahci/unbind")
        os.mkfifo(self.bus / "drivers/vfio-pci/unbind")
        os.mkfifo(self.bus / "drivers_probe")
        self.link = self.bus / "devices" / DISK / "driver"
        (self.bus / "devices" / DISK / "driver_override").write_text("(null)\n")
        self._point_at("ahci")
        self.running = True
        self.start()

    def _point_at(self, driver: str) -> None:
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(self.bus / "drivers" / driver)

    def run(self) -> None:
        while self.running:
            owner = self.link.resolve().name
            (self.bus / "drivers" / owner / "unbind").read_text()
            override = (self.bus / "devices" / DISK / "driver_override").read_text().strip()
            self.link.unlink()
            if not self.refuses:
                self._point_at(override or "ahci")
            (self.bus / "drivers_probe").read_text()
            if self.refuses:
                return


def driver_is(host: Host, name: str) -> bool:
    return (host.root / f"sys/bus/pci/devices/{DISK}/driver").resolve().name == name


def test_bind_and_unbind(host: Host) -> None:
    core = DriverCore(host)
    assert host.json("bind", DISK)["devices"][0]["driver"] == "vfio-pci"
    assert driver_is(host, "vfio-pci")
    assert host.json("bind", DISK)["devices"][0]["driver"] == "vfio-pci"     # nothing to do
    assert host.json("unbind", DISK)["devices"][0]["driver"] == "ahci"
    assert driver_is(host, "ahci") and core.is_alive()


def test_bind_that_reports_success_and_binds_nothing_is_noticed(host: Host) -> None:
    DriverCore(host, refuses=True)
    out = host.pcilu("bind", DISK)
    assert out.returncode == 11 and "its driver is none" in out.stderr


def test_bind_refuses_what_is_preserved_in_use_or_a_bridge(host: Host) -> None:
    (host.root / "sys/bus/pci/drivers/vfio-pci").mkdir(parents=True)
    assert host.json("unbind", NIC, rc=1)["devices"][0]["status"] == 1
    assert "is preserved, and stays with its driver" in host.pcilu("unbind", NIC).stderr
    assert "is a bridge" in host.pcilu("bind", PORT).stderr
    state(host, NIC, "none")
    assert "is in use by vmm[4711]" in host.pcilu("unbind", NIC).stderr
    assert host.pcilu("bind", "7f:00.0").returncode == 10


def test_bind_persists_by_a_rule_for_each_function(host: Host) -> None:
    (host.root / "sys/bus/pci/drivers/vfio-pci").mkdir(parents=True)
    state(host, NIC, "none")
    shutil.rmtree(host.root / "proc/4711")
    rules = host.root / "etc/udev/rules.d/50-pcilu.rules"
    rules.parent.mkdir(parents=True)
    assert host.json("bind", NIC, "--persist")["devices"][0]["persists"]
    assert host.json("bind", NIC, "--persist")["devices"][0]["persists"]     # not twice
    lines = [line for line in rules.read_text().splitlines() if not line.startswith("#")]
    assert lines == [f'ACTION=="add", SUBSYSTEM=="pci", KERNEL=="{NIC}", '
                     'ATTR{driver_override}="vfio-pci", RUN{builtin}+="kmod load vfio-pci"']
    rules.write_text(rules.read_text() + "# of the operator\n")
    host.config(NIC, nic(), driver="e1000e")
    assert not host.json("unbind", NIC, "--persist")["devices"][0]["persists"]
    assert NIC not in rules.read_text() and "# of the operator" in rules.read_text()


# --- sessions and snapshots that nobody owns

def test_orphaned_session_is_released_and_finished(host: Host) -> None:
    sock = host.connect()
    for name in ("vm-1", "vm-2"):
        error, _, fds, _ = host.ask(sock, ph.message(ph.CREATE, name))
        assert error == 0
        os.close(fds[0])
    owner = host.json("status")["sessions"][0]["pid"]
    host.process(owner, "vmm")
    out = host.pcilu("release", "vm-1")
    assert out.returncode == 1 and f"has an owner, process {owner}" in out.stderr
    shutil.rmtree(host.root / f"proc/{owner}")
    assert host.json("release", "vm-1", "--dry-run")["dry_run"] and "vm-1" in host.luo.outgoing
    assert host.json("release", "vm-1")["session"] == "vm-1"
    sock.close()
    host.wait(lambda: "vm-1" not in host.luo.outgoing)
    assert host.pcilu("release", "vm-1").returncode == 10
    assert host.pcilu("finish", "vm-2").returncode == 10        # it is outgoing
    host.luo.kexec()
    host.stop()
    host.start()
    assert host.json("finish", "vm-2")["session"] == "vm-2"
    host.wait(lambda: "vm-2" not in host.luo.incoming)


def test_verify_at_boot_misses_the_snapshot_that_should_have_come(host: Host) -> None:
    for bdf, word in ((NIC, "incoming"), (PORT, "incoming")):
        state(host, bdf, word)
    out = host.pcilu("verify", "--boot")
    assert out.returncode == 1 and "1 functions were handed over" in out.stderr
    state(host, NIC, "none")
    assert host.pcilu("verify", "--boot").returncode == 0       # control: an ordinary boot
