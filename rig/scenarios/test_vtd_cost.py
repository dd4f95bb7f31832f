# SPDX-License-Identifier: GPL-2.0
"""Behind VT-d: how much is handed over for a frozen domain.

The structures' sizes are what the kernel's headers assert. How many there are is read in memory,
in the gap, and compared with the tables that the unit walks then.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

import pytest
from test_vtd import IOVA, Host

from rig import cost, vtd
from rig.lab import Lab
from rig.outside import Reachable

PAGE = 4096
# What was promised, in bytes.
MAX = {"table page": 8, "device": 64, "unit": 4096}
DEVICES = 2
SMALL, LARGE = 2, 4096      # pages that are mapped beside those of the devices
REMAP_ORDER = 8             # of the one table for interrupts: 1 MiB
BLOCK_HEADER = 16           # of each block of records (linux/kho/abi/block.h)


class Memory:
    """What was in a machine's memory when it stood still."""

    def __init__(self, raw: mmap.mmap) -> None:
        self._raw = raw

    def words(self, address: int, count: int) -> tuple[int, ...]:
        """So many pieces of 64 bits."""
        return struct.unpack_from(f"<{count}Q", self._raw, address)

    def find(self, *words: int, align: int = 8) -> list[int]:
        """Where these are, one after the other."""
        wanted = struct.pack(f"<{len(words)}Q", *words)
        found, at = [], self._raw.find(wanted)
        while at >= 0:
            if at % align == 0:
                found.append(at)
            at = self._raw.find(wanted, at + 8)
        return found

    def blocks(self, head: int, size: int) -> tuple[int, list[tuple[int, ...]]]:
        """A chain of blocks: how many, and the records in them."""
        count, records = 0, []
        while head:
            count += 1
            following, used = self.words(head, 2)
            records += [self.words(head + BLOCK_HEADER + n * size, size // 8)
                        for n in range(used)]
            head = following
        return count, records

    def tables(self, table: int, levels: int) -> set[int]:
        """All pages of a page table of the second stage (VT-d 4.1, sec 9.8)."""
        found = {table}
        for entry in self.words(table, PAGE // 8) if levels > 1 else ():
            if entry & 3 and not entry & 0x80:
                found |= self.tables(entry & 0xFFFFFFFFFF000, levels - 1)
        return found

    def walked(self, root: int) -> tuple[set[int], set[int]]:
        """In legacy mode: root and context tables, and the pages of page tables."""
        above, below = {root}, set()
        for half in self.words(root, PAGE // 8)[::2]:
            if not half & 1:
                continue
            above.add(half & -PAGE)
            entries = self.words(half & -PAGE, PAGE // 8)
            for low, high in zip(entries[::2], entries[1::2]):
                if low & 1:
                    below |= self.tables(low & -PAGE, (high & 7) + 2)
        return above, below


class Counted:
    """What a host of two devices hands over: records, blocks of them, and pages of tables."""

    def __init__(self, vm: Lab, pages: int) -> None:
        host = Host(vm, more="intel_iommu=sp_off", kind=Reachable, rate=5.0, memory="1G")
        machine, agent = host.machine, host.agent
        agent.do(f"memory big {pages}", f"map edu0 big {IOVA['other']:#x}")
        base = int(machine.sh("cat /sys/class/iommu/dmar0/intel-iommu/address").out, 16)
        agent.preserve("edu0", "nic0")
        agent.do("preserve s 9 big")
        assert machine.load().rc == 0
        machine.leave()
        machine.wait_for_next_kernel()
        machine.qmp("stop")
        [root] = [root for time, root, _ in vtd.read(machine).roots if time > machine.jumped_at[-1]]
        into = Path(machine.folder / "all-memory")
        machine.qmp("pmemsave", val=0, size=1 << 30, filename=str(into))
        with open(into, "rb") as file, \
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
            self._count(Memory(raw), base, root)
        into.unlink()
        machine.qmp("cont")
        machine.wait_boot(2)
        assert host.verdicts() == {"translated"}

    def _count(self, memory: Memory, base: int, root: int) -> None:
        size = cost.frozen()
        [unit] = memory.find(base, root)
        [header] = memory.find(unit & -PAGE, align=PAGE)
        units, domains, pages, *numbers = memory.words(header, 6)
        self.blocks, records = 0, []
        for head, of in ((units, 64), (domains, size["device"]), (pages, size["table page"])):
            count, some = memory.blocks(head, of)
            self.blocks += count
            records.append(some)
        assert numbers == [len(some) for some in records]
        self.units, self.domains, self.entries = numbers
        self.told = [entry for entry, in records[2]]
        self.above, self.below = memory.walked(root)

    def bytes(self) -> int:
        """Of all records."""
        size = cost.frozen()
        return (self.entries * size["table page"] + self.domains * size["device"]
                + self.units * size["unit"])

    def allowed(self) -> int:
        """By what the unit walks."""
        return (len(self.above | self.below) * MAX["table page"] + DEVICES * MAX["device"]
                + MAX["unit"])


def missed(size: dict[str, int]) -> set[str]:
    """What takes more than was promised."""
    return {what for what, most in MAX.items() if size[what] > most}


def odd(told: list[int], tables: set[int]) -> list[str]:
    """What is wrong with the list of pages: all tables, each once, and the one for interrupts."""
    addresses = [entry & -PAGE for entry in told]
    rest = [entry for entry in told if entry & -PAGE not in tables]
    return ([f"{at:#x} is missing" for at in sorted(tables - set(addresses))]
            + [f"{at:#x} is told twice" for at in sorted(set(addresses)) if addresses.count(at) > 1]
            + [f"{at:#x} has another size" for at in sorted(tables & set(addresses))
               if at not in told]
            + [f"{entry:#x} is nobody's" for entry in rest[1:]]
            + ["the table for interrupts is missing"
               for found in [[entry & PAGE - 1 for entry in rest[:1]]] if found != [REMAP_ORDER]])


def test_vtd_little_is_handed_over_with_its_control(vm: Lab) -> None:
    """Each table page is told once, a device has at most a domain; more to map adds table pages
    and nothing else."""
    few, many = Counted(vm, SMALL), Counted(vm, LARGE)
    for counted in (few, many):
        tables = counted.above | counted.below
        assert odd(counted.told, tables) == []
        assert (counted.units, counted.domains) == (1, DEVICES)
        print(f"{len(tables)} table pages: {counted.bytes()} bytes of records, "
              f"{counted.blocks + 1} pages that these are in")
        assert counted.bytes() <= counted.allowed()
        # Control: one that is not handed over, is handed over twice, or is not a table's.
        page = min(counted.below)
        others = [entry for entry in counted.told if entry != page]
        assert odd(others, tables) == [f"{page:#x} is missing"]
        assert odd([*counted.told, page], tables) == [f"{page:#x} is told twice"]
        assert odd([*counted.told, PAGE], tables) == [f"{PAGE:#x} is nobody's"]
    more = len(many.below) - len(few.below)
    assert more >= LARGE // 512 - 1
    assert many.bytes() - few.bytes() == more * MAX["table page"]


def test_vtd_records_are_small() -> None:
    assert missed(cost.frozen()) == set()


@pytest.mark.parametrize("name,what,larger", [("_page", "table page", 16),
                                              ("_domain", "device", 72), ("", "unit", 4096)])
def test_control_larger_vtd_record_is_seen(tmp_path: Path, name: str, what: str,
                                           larger: int) -> None:
    struct_name = f"struct iommu_liveupdate{name}_ser) == "
    before, found, after = (cost.ABI / "iommu.h").read_text().partition(struct_name)
    assert found
    (tmp_path / "iommu.h").write_text(f"{before}{found}{larger}{after[after.index(')'):]}")
    assert missed(cost.frozen(tmp_path)) == {what}
