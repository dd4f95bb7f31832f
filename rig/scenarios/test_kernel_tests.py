# SPDX-License-Identifier: GPL-2.0
"""The kernel's own tests: KUnit of the records, LUO's selftests, and ours in kselftest form."""

from __future__ import annotations

import re

import pytest
from conftest import FULL

from rig import console, topology
from rig.lab import Lab
from rig.machine import LIVE_UPDATE

TAP = re.compile(r"^\s*(not ok|ok) \d+ (.*)$", re.M)
# Topologies of the fuzz. By itself a kernel with KASAN takes the fewer.
TOPOLOGIES = 100_000 if FULL else 20_000


def assert_passed(out: str) -> None:
    """A kselftest's output has results, and none of them is bad."""
    assert "\nok " in out and "\nnot ok" not in out, out


@pytest.mark.timeout(5400)
@pytest.mark.console(console.REFUSED, "Test should be marked slow",
                     "Live Update: cannot be preserved: driver fake of its Physical Function")
def test_kunit_suites_pass(vm: Lab) -> None:
    vm.expect_drops()
    # Control: the debug option notices a capability that moved behind the PCI core's back.
    vm.expect_splat("fake: capabilities are not where they were$")
    rounds = f"pci_liveupdate_fuzz.rounds={TOPOLOGIES}" if FULL else ""
    machine = vm(topology.plain(), variant="debug", timeout=900 if FULL else 180,
                 cmdline=f"{LIVE_UPDATE} kunit.autorun=1 {rounds}")
    results = machine.sh("cat /sys/kernel/debug/kunit/*/results").out
    assert f", {TOPOLOGIES} topologies" in results
    outcome = {name: word for word, name in TAP.findall(results)}
    assert [name for name, word in outcome.items() if word != "ok"] == []
    # Control: our suite did run, and it has the cases that it must have.
    for wanted in ("pci_liveupdate_record", "lu_round_trip", "truncated", "oversized count",
                   "misaligned BAR", "overlapping BARs", "duplicate BDF", "I/O, 4 bytes",
                   "resized to 256 GiB", "Enhanced Allocation", "lu_window_kinds",
                   "pci_liveupdate_fabric", "held empty", "lu_held_never_assigns",
                   "pci_liveupdate_resources", "lu_fixes_what_is_held", "lu_fixes_what_comes_late",
                   "pci_liveupdate_saved_state", "saved_comes_back",
                   "pci_liveupdate_outgoing", "VF", "PF kept with VFs", "PRI", "odd BARs", "asleep",
                   "other host", "dynamic domain", "ACS quirk", "lu_refused_for_a_bridge",
                   "lu_slot_stays", "lu_vga_stays", "lu_vga_stays_of_what_is_preserved",
                   "failed for good",
                   "pci_liveupdate_dma", "SMMUv3 last", "last node beyond the end",
                   "pci_liveupdate_guard", "lu_guard_bridge_incoming", "lu_guard_unclaimed",
                   "lu_guard_bypass", "lu_guard_pf_claimed", "lu_guard_pf_stopped",
                   "about to sleep", "held CardBus", "pci_liveupdate_iov", "lu_vfs_of_a_user",
                   "lu_new_vfs_refused",
                   "pci_liveupdate_fuzz", "lu_fuzz", "pci_liveupdate_fuzz_iov", "lu_fuzz_vfs",
                   "intel_liveupdate", "a page of a large one missing", "first stage, read only",
                   "second stage, dirty", "pasid, passes", "vtd_switches", "vtd_runs",
                   "intel_liveupdate_refusals", "parent of nested tables", "behind a VMD",
                   "a second member",
                   "iommufd_liveupdate", "reports faults", "an empty IOAS",
                   "intel_liveupdate_fuzz", "vtd_handed_over", "vtd_shares", "vtd_refuses",
                   "vtd_fuzzed",
                   "pci_liveupdate_stop", "half reset", "with requests that hang",
                   "pci_cap_index", "cap_index_finds_what_a_walk_finds",
                   "pci_fixup_index", "fixup_index_gives_what_a_comparison_finds",
                   "pci_liveupdate_abi", "lu_read_as",
                   "lu_bytes", "vfio_pci_liveupdate", "0x4c560001", "0x4c560002",
                   "second_is_small", "spans out of order", "random_is_survived"):
        assert any(wanted in name for name in outcome), wanted
    assert "capabilities are not where they were" in machine.sh("dmesg").out


@pytest.mark.parametrize("name", ["luo_kexec_simple", "luo_multi_session"])
def test_selftests_of_luo_pass(vm: Lab, variant: str, name: str) -> None:
    machine = vm(topology.plain(), variant=variant)
    machine.sh(f"{name} -s 1")
    machine.kexec()
    assert "PASSED" in machine.sh(f"{name} -s 2").out


def test_selftest_of_ours_passes_in_one_kernel(vm: Lab, variant: str) -> None:
    machine = vm(topology.demo(), variant=variant)
    bdf = machine.topology.bdf["nic0"]
    machine.json(f"pci_cfg bind {bdf}")
    out = machine.sh(f"PCI_LIVEUPDATE_BDF={bdf} pci_liveupdate_test").out
    assert_passed(out)


def test_selftest_of_ours_passes_across_a_kexec(vm: Lab, variant: str) -> None:
    machine = vm(topology.demo(), variant=variant)
    bdf = machine.topology.bdf["nic0"]
    machine.json(f"pci_cfg bind {bdf}")
    machine.sh(f"PCI_LIVEUPDATE_BDF={bdf} pci_liveupdate_test -s 1")
    machine.kexec()
    out = machine.sh(f"PCI_LIVEUPDATE_BDF={bdf} pci_liveupdate_test -s 2").out
    assert_passed(out)


@pytest.mark.parametrize("name", ["luo_kexec_simple", "luo_multi_session"])
def test_control_selftests_of_luo_fail_without_their_first_stage(vm: Lab, name: str) -> None:
    machine = vm(topology.plain())
    machine.kexec()
    assert machine.run(f"{name} -s 2").rc != 0
