# SPDX-License-Identifier: GPL-2.0
"""The tools on our kernel: real sessions, real devices, real kexecs.

What they say is compared with what QEMU saw. systemd has no part in it, see test_pcilu_systemd.py.
"""

from __future__ import annotations

import gzip
import struct
import subprocess
import time
from pathlib import Path

import pytest

from rig import paths, topology, witness
from rig.lab import Lab
from rig.tools import Borrower, ToolsMachine


def machine_of(vm: Lab, tree: topology.Topology, **options: object) -> ToolsMachine:
    machine: ToolsMachine = vm(tree, kind=ToolsMachine, **options)
    return machine


def written(machine: ToolsMachine, since: float, until: float) -> list[witness.Access]:
    """What the NIC was written meanwhile. By time: pcilu reads what tells kernels apart."""
    return [w for w in witness.read(machine).writes("nic0", None, None) if since < w.time < until]


def assert_all_arrived(receiver: Borrower) -> None:
    sent, stats = receiver.settle()
    assert stats["distinct"] == sent and not receiver.sender.refused
    assert stats["lost"] == stats["duplicated"] == stats["corrupted"] == 0
    assert stats["high_water_ever"] < stats["ring_size"]


def test_update_under_a_receiver_that_has_its_session_from_pcilud(vm: Lab) -> None:
    machine = machine_of(vm, topology.demo())
    way = [machine.topology.bdf[id] for id in ("nic0", *machine.topology.above("nic0"))]
    assert machine.pcilu("status")["last_verify"] is None
    receiver = Borrower(machine).receive()
    assert machine.sessions() == {receiver.name: "outgoing"}
    assert machine.states() == dict.fromkeys(way, "preserved")

    machine.update()
    console = (machine.folder / "console.log").read_text(errors="replace")
    assert all(f"{step:10} done, " in console for step in ("preflight", "snapshot", "load"))
    assert machine.sessions() == {receiver.name: "incoming", "pcilu.snapshot": "incoming"}
    assert machine.pcilu("verify --boot")["ok"]
    status = machine.pcilu("status")
    assert status["last_verify"] == "kept"
    assert status["remaining"] == [f"session {receiver.name} is to be retrieved",
                                   f"device {receiver.bdf} is to be retrieved by its owner"]
    assert machine.states() == dict.fromkeys(way, "incoming")

    receiver.bind()
    claimed = time.time()
    receiver.resume(bind=False)
    assert machine.states()[receiver.bdf] == "claimed"
    receiver.finish()
    assert machine.pcilu("status")["remaining"] == [] and machine.states() == {}
    assert_all_arrived(receiver)
    trace = witness.read(machine)
    assert [t for t in trace.dma(ring=receiver.ring) if machine.booted_at[1] < t < claimed]
    assert written(machine, machine.jumped_at[0], claimed) == []


def test_control_update_without_preserving_the_device_loses_frames(vm: Lab) -> None:
    machine = machine_of(vm, topology.demo())
    receiver = Borrower(machine).receive("--no-preserve-device")
    preflight = machine.pcilu(f"preflight {machine.next()}", rc=1)
    assert {c["check"] for c in preflight["checks"] if c["verdict"] == "fail"} == {"in-use"}
    machine.update(options="--accept in-use")
    # There was no device to keep, and so nothing is reported.
    assert machine.pcilu("verify --boot")["ok"]
    time.sleep(1)
    dma = witness.read(machine).dma()
    assert dma and [t for t in dma if t > machine.booted_at[1]] == []
    assert receiver.sender.sent > len(dma)
    assert [w for w in written(machine, machine.jumped_at[0], machine.booted_at[1])
            if w.offset == witness.COMMAND and not w.value & witness.BUS_MASTER]


def test_keeper_alone_holds_sessions_for_the_jump(vm: Lab) -> None:
    """When a service manager is done with everybody: no owner lives, and no daemon."""
    machine = machine_of(vm, topology.plain())
    receiver = Borrower(machine).receive()
    machine.pcilu(f"load {machine.next()}")
    machine.sh("setsid pcilu-keeper 2>/tmp/keeper.log & "
               "until grep 'holding' /tmp/keeper.log; do sleep 0.1; done")
    machine.end("pcilud", "e1000e_rx")
    assert machine.states()[receiver.bdf] == "preserved"
    machine.exec()
    receiver.resume()
    receiver.finish()
    assert_all_arrived(receiver)


def test_control_without_the_keeper_nothing_is_left_to_preserve(vm: Lab) -> None:
    machine = machine_of(vm, topology.plain())
    receiver = Borrower(machine).receive()
    machine.pcilu(f"load {machine.next()}")
    machine.end("pcilud", "e1000e_rx")
    assert machine.states() == {}
    machine.exec()
    assert machine.sessions() == {} and receiver.try_resume().rc


def test_verify_catches_a_bar_that_the_next_kernel_moves(vm: Lab) -> None:
    """That kernel is told to leave out keeping BARs and addresses, and to align them otherwise."""
    machine = machine_of(vm, topology.plain())
    receiver = Borrower(machine).receive()
    aligned = f"pci=resource_alignment=20@{receiver.bdf}"
    machine.update(f"pci_liveupdate.break=0x580 {aligned}", "--accept cmdline")
    report = machine.pcilu("verify --boot", rc=1)
    moved = {int(d["what"][4:]) for d in report["differences"]
             if d["bdf"] == receiver.bdf and d["what"].startswith("BAR ")
             and d["severity"] == "broken"}
    assert moved and machine.pcilu("status")["last_verify"] == "not kept"
    assert moved <= {(w.offset - 0x10) // 4
                     for w in written(machine, machine.jumped_at[0], machine.booted_at[1])}


def test_update_goes_no_further_than_a_step_that_fails(vm: Lab) -> None:
    """Without the daemon the snapshot cannot be kept: what was loaded is unloaded."""
    machine = machine_of(vm, topology.plain())
    machine.end("pcilud")
    report = machine.pcilu(f"update --no-systemd {machine.next()}", rc=10)
    assert [step["step"] for step in report["steps"]] == ["preflight", "load", "prepare", "go",
                                                          "snapshot"]
    assert not machine.pcilu("status")["kernel_loaded"]


def test_owner_preserves_when_update_asks(vm: Lab) -> None:
    """Behind the load, right before the jump; the first time one of the two says no."""
    machine = machine_of(vm, topology.plain())
    machine.sh("setsid takepart vm-1 >/tmp/vm-1.log 2>&1 & "
               "setsid takepart vm-2 >/tmp/vm-2.log 2>&1 & sleep 1; vmm save vm-2")
    report = machine.pcilu(f"update --no-systemd {machine.next()}", rc=1)
    assert report["steps"][-1]["step"] == "prepare"     # its name is taken, by another
    assert [o["name"] for o in report["owners"] if not o["ready"]] == ["vm-2"]
    assert not machine.pcilu("status")["kernel_loaded"]
    machine.sh("pcilu release --force vm-2")
    machine.update()
    assert machine.sessions() == {"vm-1": "incoming", "vm-2": "incoming",
                                  "pcilu.snapshot": "incoming"}
    report = machine.pcilu("verify --boot")
    assert report["ok"] and report["live_updates"] == 1
    assert not [w for w in ("vm-1", "vm-2") if machine.run(f"pcilu finish {w}").rc]


def test_commands_tell_what_the_kernel_does(vm: Lab) -> None:
    machine = machine_of(vm, topology.demo())
    nic, port = machine.topology.bdf["nic0"], machine.topology.bdf["rp0"]
    device = {d["bdf"]: d for d in machine.pcilu("list")["devices"]}
    assert set(machine.topology.bdf.values()) <= set(device)
    assert device[port]["driver"] == "pcieport" and device[nic]["state"] == "none"
    # No driver has it yet; then vfio-pci.
    assert machine.pcilu(f"check {nic}", rc=1)["devices"][0]["blockers"]
    refusal = "cat /sys/bus/pci/devices/{}/liveupdate/refusal"
    assert machine.sh(refusal.format(port)).out.startswith("it is a bridge; ")
    receiver = Borrower(machine).receive()
    assert machine.pcilu(f"check {nic}")["devices"][0]["state"] == "preserved"
    assert [d["bdf"] for d in machine.pcilu(f"list -s {nic[5:]}")["devices"]] == [nic]
    assert nic in machine.sh("pcilu list -t -v").out
    assert machine.sh(refusal.format(nic)).out.startswith("it is preserved already; ")
    line = machine.sh(f"pcilu list -s {nic}").out
    assert "e1000e_rx[" in line and "preserved" in line and "\x1b" not in line

    # A client without permission sees nothing, gets nothing, and takes nothing away.
    def nobody(command: str) -> tuple[int, str]:
        out = machine.run(f"su -s /bin/sh nobody -c '{command}'")
        return out.rc, out.out

    assert "SESSION" not in nobody("/opt/bin/pcilu status")[1]
    for what in ("create mine true", f"create {receiver.name} true", f"finish {receiver.name}"):
        rc, text = nobody(f"/opt/bin/lend {what}")
        assert rc == 1 and "Permission denied" in text, (what, text)
    assert machine.run("lend create mine true").rc == 0        # control
    assert machine.sessions() == {receiver.name: "outgoing", "mine": "outgoing"}

    assert machine.pcilu(f"load {machine.next()} --dry-run")["loaded"] is False
    assert machine.pcilu("exec", rc=1)["status"] == 1           # nothing is loaded
    assert machine.pcilu(f"load {machine.next()}")["loaded"] is True
    assert machine.pcilu("status")["kernel_loaded"] is True
    assert machine.pcilu("exec --dry-run")["by"] == "reboot"
    assert machine.pcilu(f"update {machine.next()} --dry-run")["dry_run"] is True
    # With the daemon and the driver goes all that their sessions hold.
    receiver.ctl("quit")
    machine.end("pcilud")
    assert machine.states() == {}


def test_verify_catches_a_bar_that_is_written_to(vm: Lab) -> None:
    """A BAR changed on purpose, behind the kernel's back; and put back."""
    machine = machine_of(vm, topology.plain())
    receiver = Borrower(machine).receive()
    assert machine.pcilu("snapshot")["devices"]
    assert "pcilu.snapshot" in machine.sessions()
    machine.pcilu("snapshot -o /tmp/before.json")
    config = f"/sys/bus/pci/devices/{receiver.bdf}/config"
    machine.sh(f"dd bs=4 skip=4 count=1 if={config} of=/tmp/bar")
    assert machine.pcilu("verify -i /tmp/before.json")["ok"]
    machine.sh(f"printf '\\000\\000\\000\\300' | dd bs=4 seek=4 conv=notrunc of={config}")
    report = machine.pcilu("verify -i /tmp/before.json", rc=1)
    assert [(d["bdf"], d["what"], d["after"], d["severity"]) for d in report["differences"]] == \
        [(receiver.bdf, "BAR 0", "c0000000", "broken")]
    assert "NOT KEPT" in machine.run("pcilu verify -i /tmp/before.json").out
    machine.sh(f"dd bs=4 seek=4 conv=notrunc if=/tmp/bar of={config}")
    assert machine.pcilu("verify -i /tmp/before.json")["ok"]


# --- preflight of what the build left

NEXT = paths.kernel_dir("x86_64", "release") / "next/bzImage"
OTHERS = {name: paths.kernel_dir("x86_64", name) / "bzImage" for name in ("off", "stock")}


def speaks_another_abi(image: Path, folder: Path) -> Path:
    """That image, but for what its configuration tells (Documentation/arch/x86/boot.rst)."""
    data = bytearray(image.read_bytes())
    start = (data[0x1F1] + 1) * 512 + struct.unpack_from("<I", data, 0x248)[0]
    end = start + struct.unpack_from("<I", data, 0x24C)[0]
    kernel = bytearray(subprocess.run(["lz4", "-dc"], input=data[start:end - 4], check=True,
                                      capture_output=True).stdout)
    first, last = kernel.index(b"IKCFG_ST") + 8, kernel.index(b"IKCFG_ED")
    config = gzip.decompress(kernel[first:last])
    assert b"ABI=0x4c550001" in config
    for version in range(2, 256):       # one that packs into the same space
        other = gzip.compress(config.replace(b"ABI=0x4c550001", b"ABI=0x4c5500%02x" % version),
                              mtime=0)
        if len(other) <= last - first:
            break
    kernel[first:last] = other.ljust(last - first, b"\0")
    packed = subprocess.run(["lz4", "-lqc", "-12"], input=kernel, check=True,
                            capture_output=True).stdout + data[end - 4:end]
    assert len(packed) <= end - start
    data[start:end] = packed.ljust(end - start, b"\0")
    struct.pack_into("<I", data, 0x24C, len(packed))
    out = folder / "abi"
    out.write_bytes(data)
    return out


@pytest.mark.console("__vm_enough_memory: pid: .* comm: pcilu")     # of the image that is too large
def test_preflight_refuses_each_real_image_with_its_reason(vm: Lab, tmp_path: Path) -> None:
    for name, image in {"next": NEXT, **OTHERS}.items():
        if not image.exists():
            pytest.skip(f"no {image.relative_to(paths.BUILD)}: make kernel VARIANT={name}")
    images = {**OTHERS, "abi": speaks_another_abi(NEXT, tmp_path)}
    machine = machine_of(vm, topology.plain(), images=images)
    receiver = Borrower(machine).receive()
    machine.sh("truncate -s 4G /tmp/huge; head -c 100000 /boot/next >/tmp/cut; "
               "echo 'no kernel' >/tmp/text")

    def failed(kernel: str, *options: str, rc: int = 1) -> dict[str, str]:
        """The checks that fail, and with which words."""
        report = machine.pcilu(f"preflight --kernel {kernel} {' '.join(options)}", rc)
        assert all(c["remedy"] for c in report["checks"] if c["verdict"] == "fail")
        return {c["check"]: c["text"] for c in report["checks"] if c["verdict"] == "fail"}

    same = "--reuse-cmdline"
    assert failed("/boot/next", same, rc=0) == {}                # control
    vfio = "vfio.enable_unsafe_noiommu_mode=1"
    line = f"--cmdline 'kho=on liveupdate=on {vfio}"
    assert failed("/boot/next", f"{line}'", rc=0) == {}          # control
    for name in OTHERS:
        reasons = failed(f"/boot/{name}", same)
        assert set(reasons) == {"config", "abi"}
        assert "CONFIG_PCI_LIVEUPDATE" in reasons["config"]
    assert "and this kernel hands over 0x4c550001" in failed("/boot/abi", same)["abi"]
    assert set(failed("/tmp/cut", same)) == set(failed("/tmp/text", same)) == {"image"}
    assert set(failed("/boot/next", f"--cmdline 'kho=on {vfio}'")) == {"liveupdate"}
    assert set(failed("/boot/next", f"--cmdline 'liveupdate=on {vfio}'")) == {"kho"}
    assert "pci=realloc" in failed("/boot/next", f"{line} pci=realloc'")["cmdline"]
    assert set(failed("/boot/next", same, "--initrd /tmp/huge")) == {"initrd"}
    assert set(failed("/boot/next", same, "--cmdline crashkernel=4G")) == {"scratch"}

    # The update stops there, and nothing has changed.
    report = machine.pcilu(f"update --kernel /boot/off {same}", rc=1)
    assert [step["step"] for step in report["steps"]] == ["preflight"]
    assert not machine.pcilu("status")["kernel_loaded"]
    assert machine.sessions() == {receiver.name: "outgoing"}
    assert receiver.receives()
