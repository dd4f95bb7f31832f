# SPDX-License-Identifier: GPL-2.0
"""What people report of the jump: crash kernels, removals, other kernels, helpers."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from rig import console, initrd, paths, topology, witness
from rig.agent import Agent
from rig.keeper import state
from rig.lab import Lab
from rig.machine import LIVE_UPDATE, Machine
from rig.nic import PAGE, Nic
from rig.receiver import Receiver
from test_crash import MEMORY, ROOM
from test_live_update import assert_all_arrived, assert_untouched


# --- kdump ---------------------------------------------------------------------------------------

@pytest.mark.console(console.NO_KHO, "Misrouted IRQ fixup and polling support enabled",
                     "This may significantly impact system performance")
def test_field_crash_kernel_dumps_while_something_is_incoming(vm: Lab) -> None:
    """With the options that crash kernels are commonly given."""
    vm.expect_splat("sysrq triggered crash|Kernel panic|Call Trace|Oops")
    machine = vm(topology.plain(), cmdline=ROOM, memory=MEMORY)
    receiver = Receiver(machine)
    receiver.start()
    receiver.sender.start()
    receiver.preserve()
    machine.kexec()
    assert state(machine, "nic0") == "incoming"
    # Control: there is no dump without a crash.
    assert machine.run("test -e /proc/vmcore").rc != 0
    loaded = machine.load_crash(extra="crashkernel=0 reset_devices irqpoll")
    assert loaded.rc == 0, loaded.out
    machine.crash()
    machine.wait_boot(machine.boot + 1)
    # An ELF core file of all memory, and it can be read to its end.
    assert machine.sh("head -c 4 /proc/vmcore | tail -c 3").out == "ELF"
    size = int(machine.sh("stat -c %s /proc/vmcore").out)
    assert size > 1 << 30
    assert machine.sh("dd if=/proc/vmcore bs=1M count=64 2>/dev/null | wc -c").out.strip() == \
        str(64 << 20)


# --- another kernel before -----------------------------------------------------------------------

class TwoKernels(Machine):
    """Has /boot/other, the debug kernel: another NR_CPUS, and all its checks."""

    def _user_space(self) -> list[str]:
        other = paths.kernel_dir(self.arch, "debug") / paths.IMAGE[self.arch]
        return ["-initrd", str(initrd.build(self.arch, self.variant, {"boot/other": other}))]


def update_to(machine: Machine, receiver: Receiver, image: str, extra: str = "") -> None:
    """One live update of a receiver."""
    receiver.preserve()
    machine.kexec(image, extra)
    receiver.resume()
    receiver.ctl("finish")


def test_field_five_and_four_levels_of_page_tables(vm: Lab) -> None:
    machine = vm(topology.plain(), cpu="qemu64,+la57", first="no5lvl")
    receiver = Receiver(machine)
    receiver.start(ring=32768)
    receiver.sender.start()
    levels = []
    for extra in ("", "no5lvl"):
        levels.append(machine.run("grep -qw la57 /proc/cpuinfo").rc == 0)
        update_to(machine, receiver, "next", extra)
    # Control: from four to five, and from five to four.
    assert levels == [False, True]
    assert machine.run("grep -qw la57 /proc/cpuinfo").rc == 1
    assert_all_arrived(receiver)
    assert_untouched(machine)
    receiver.ctl("quit")


def test_field_kernel_with_another_nr_cpus(vm: Lab) -> None:
    """And back. That the two differ is asked of them."""
    if not (paths.kernel_dir("x86_64", "debug") / paths.IMAGE["x86_64"]).exists():
        pytest.skip("no debug kernel: make kernel VARIANT=debug")
    machine = vm(topology.plain(), kind=TwoKernels, memory="3G", timeout=600,
                 cmdline=f"{LIVE_UPDATE} kho_scratch=64M,1G,64M")
    receiver = Receiver(machine)
    receiver.start(ring=32768)
    receiver.sender.start()
    asked = "zcat /proc/config.gz | grep ^CONFIG_NR_CPUS="
    numbers = [machine.sh(asked).out]
    for image in ("other", "next"):
        update_to(machine, receiver, image)
        numbers.append(machine.sh(asked).out)
    assert numbers[0] == numbers[2] != numbers[1]
    assert_all_arrived(receiver)
    assert_untouched(machine)
    receiver.ctl("quit")


HEADERS = sorted((paths.TREE / "linux/files/include/linux/kho/abi").glob("*.h"))
STANDALONE = {"linux/build_bug.h": "", "linux/types.h": """
#include <stdint.h>
typedef uint8_t u8, __u8; typedef uint16_t u16, __u16, __le16;
typedef uint32_t u32, __u32, __le32; typedef uint64_t u64, __u64, __le64;
""", "linux/stddef.h": """
#include <stddef.h>
#define __aligned(n) __attribute__((aligned(n)))
#define sizeof_field(type, member) sizeof(((type *)0)->member)
#define static_assert _Static_assert
""", "linux/liveupdate.h": "", "linux/kho/abi/kho.h": ""}


@pytest.mark.parametrize("compiler", ["gcc", "gcc -m32", "clang", "clang -m32",
                                      "aarch64-linux-gnu-gcc"])
def test_field_another_compiler_lays_records_out_alike(tmp_path: Path, compiler: str) -> None:
    """The headers assert each size and offset. No second kernel is built for this; `make test-host`
    builds them with the compiler of another Debian."""
    for name, text in STANDALONE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for header in HEADERS:
        source = "#include <linux/stddef.h>\n#include <linux/types.h>\n" + header.read_text()
        good = source.count("static_assert(")
        assert good > 3
        for text, rc in ((source, 0), (source + "\nstatic_assert(sizeof(u64) == 4, \"\");", 1)):
            out = subprocess.run([*compiler.split(), "-std=gnu11", "-fsyntax-only",
                                  "-ffreestanding", "-xc", "-", f"-I{tmp_path}",
                                  f"-I{paths.TREE / 'linux/files/include'}"],
                                 input=text, text=True, capture_output=True)
            assert (out.returncode != 0) == rc, (header.name, out.stderr)


# --- a removal meanwhile -------------------------------------------------------------------------

@pytest.mark.parametrize("bound", [False, True], ids=["unbound", "pci-stub"])
def test_field_sibling_is_removed_in_a_loop_during_the_kexec(vm: Lab, bound: bool) -> None:
    tree = topology.Topology(topology.root_port("rp0", topology.switch(
        "up0", topology.downstream("dn0", topology.nic("nic0")),
        topology.downstream("dn1", topology.edu("edu0")))))
    machine = vm(tree)
    receiver = Receiver(machine)
    receiver.start()
    receiver.sender.start()
    receiver.preserve()
    sibling = f"/sys/bus/pci/devices/{tree.bdf['edu0']}"
    if bound:
        machine.sh(f"echo pci-stub >{sibling}/driver_override; "
                   f"echo {tree.bdf['edu0']} >/sys/bus/pci/drivers_probe")
    machine.sh(f"(while :; do echo 1 >{sibling}/remove; echo 1 >/sys/bus/pci/rescan; "
               "echo x >>/tmp/rounds; done) >/dev/null 2>&1 & sleep 1")
    machine.kexec()
    receiver.resume()
    receiver.ctl("finish")
    assert_all_arrived(receiver)
    assert_untouched(machine)
    # Control: it was removed and found again up to the jump.
    trace = witness.read(machine)
    found = [w for w in trace.writes("edu0", 1) if w.offset == 0x10]
    assert len(found) > 4
    receiver.ctl("quit")


# --- a privileged helper, and a VMM without privileges -------------------------------------------

UNTRUSTED = 65534
TRANSLATES = "intel_iommu=on iommu.passthrough=0"


def handed_to_a_vmm(vm: Lab, iommu: bool, device: bool = True) -> tuple[Machine, Agent, int]:
    """One process has taken memory and device out of a session; another, without rights, has them.

    And the address at which the device finds its memory.
    """
    machine = vm(topology.plain(), cmdline=f"{LIVE_UPDATE} {TRANSLATES if iommu else ''}",
                 iommu=iommu)
    agent = Agent(machine).start().take("nic0", iova=0x8000000 if iommu else None)
    address = 0x8000000 if iommu else agent.physical("nic0")
    agent.preserve("nic0")
    machine.kexec()
    machine.json(f"pci_cfg bind {machine.topology.bdf['nic0']}")
    machine.sh("chmod 666 /dev/iommu")
    agent.start()
    agent.do(f"retrieve-session s {agent.name}", "retrieve s 1 memory nic0-ram",
             *["retrieve s 2 device nic0"] * device, f"become {UNTRUSTED}")
    pid = machine.sh("pidof vfio_agent").out.strip()
    assert pid != str(agent.pid)
    assert machine.sh(f"stat -c %u /proc/{pid}").out.strip() == str(UNTRUSTED)
    return machine, agent, address


@pytest.mark.parametrize("iommu", [True, False], ids=["iommu", "noiommu"])
def test_field_vmm_goes_on_with_what_a_helper_retrieved(vm: Lab, iommu: bool) -> None:
    """Whoever has the file of a device may use it, as it is with files."""
    machine, agent, address = handed_to_a_vmm(vm, iommu)
    agent.do("bind nic0", "ioas nic0", f"map nic0 nic0-ram {hex(address) if iommu else ''}",
             "attach nic0 ioas")
    agent.finish()
    agent.set_command("nic0", 0x6)
    driver = Nic(agent, "nic0")
    # The frame goes to the second half of the ring's page, whose descriptors are not needed.
    driver.receive(address, 1, address + PAGE // 2)
    machine.senders["nic0"].send()
    for _ in range(50):
        if driver.head:
            break
        time.sleep(0.1)
    assert driver.head == 1


def test_field_control_vmm_may_not_retrieve_it_itself(vm: Lab) -> None:
    """Without an IOMMU it could reach all memory. The errno is the documented one."""
    _, agent, _ = handed_to_a_vmm(vm, False, device=False)
    assert agent.refused("retrieve s 2 device nic0") == "EPERM"
