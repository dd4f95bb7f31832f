// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for PCI Live Update records: what is taken from a device, what the
 * incoming kernel accepts and refuses, and what it is told instead of probing.
 */

#include <kunit/test.h>
#include <linux/pci.h>
#include <linux/string.h>

#include "internal.h"

/* A configuration space that can be read and counts what is written */
struct fake_config {
	u8 bytes[PCI_CFG_SPACE_SIZE];
	unsigned int writes;
};

struct fake {
	struct fake_config config;
	u64 sysdata[8];			/* an architecture's; x86 has the domain in it */
	struct pci_bus bus;
	struct pci_dev dev;
	struct resource parent;
	struct pci_liveupdate_header_ser header;
	struct pci_liveupdate_record_ser recs[4];
	struct pci_liveupdate_record_ser *slots[4];
};

static struct fake_config *fake_config(struct pci_bus *bus)
{
	return &container_of(bus, struct fake, bus)->config;
}

static int fake_read(struct pci_bus *bus, unsigned int devfn, int where,
		     int size, u32 *val)
{
	struct fake_config *cfg = fake_config(bus);

	*val = 0;
	memcpy(val, cfg->bytes + where, size);
	return PCIBIOS_SUCCESSFUL;
}

static int fake_write(struct pci_bus *bus, unsigned int devfn, int where,
		      int size, u32 val)
{
	fake_config(bus)->writes++;
	return PCIBIOS_SUCCESSFUL;
}

static struct pci_ops fake_ops = {
	.read	= fake_read,
	.write	= fake_write,
};

static void set_dword(struct fake *fake, int reg, u32 value)
{
	memcpy(fake->config.bytes + reg, &value, sizeof(value));
}

static void set_bar(struct fake *fake, int i, u64 value, resource_size_t size,
		    unsigned long flags)
{
	struct resource *res = &fake->dev.resource[i];

	memcpy(fake->config.bytes + PCI_BASE_ADDRESS_0 + 4 * i, &value,
	       flags & IORESOURCE_MEM_64 ? 8 : 4);
	*res = DEFINE_RES_NAMED(value & ~0xfULL, size, "fake", flags);
	res->parent = &fake->parent;
}

/* 0000:03:00.0: a 64-bit BAR of 1 MiB, an I/O BAR of 32 bytes, a ROM that is off */
static struct fake *fake_device(struct kunit *test)
{
	struct fake *fake = kunit_kzalloc(test, sizeof(*fake), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, fake);
	fake->bus.ops = &fake_ops;
	fake->bus.sysdata = fake->sysdata;
	fake->bus.number = 3;
	fake->dev.bus = &fake->bus;
	fake->dev.cfg_size = PCI_CFG_SPACE_SIZE;
	fake->dev.vendor = 0x8086;
	fake->dev.device = 0x10d3;
	fake->dev.class = 0x020000;
	set_dword(fake, PCI_VENDOR_ID, 0x10d38086);
	set_dword(fake, PCI_CLASS_REVISION, 0x02000001);
	set_dword(fake, PCI_SUBSYSTEM_VENDOR_ID, 0x11001af4);

	set_bar(fake, 0, 0x800000000cULL, SZ_1M,
		IORESOURCE_MEM | IORESOURCE_MEM_64 | IORESOURCE_PREFETCH);
	set_bar(fake, 2, 0xc001, 32, IORESOURCE_IO);
	fake->dev.rom_base_reg = PCI_ROM_ADDRESS;
	fake->dev.resource[PCI_ROM_RESOURCE] =
		DEFINE_RES_NAMED(0, SZ_64K, "fake ROM", IORESOURCE_MEM);

	for (int i = 0; i < ARRAY_SIZE(fake->slots); i++)
		fake->slots[i] = &fake->recs[i];
	fake->header.version = PCI_LIVEUPDATE_ABI_VERSION;
	fake->header.record_size = sizeof(fake->recs[0]);
	return fake;
}

/*
 * The set that the tests damage: a bridge 00:01.0 to bus 1-5, a device 03:00.0
 * as above, a free slot, and a device 04:00.0 with a 32-bit BAR.
 */
static struct fake *fake_set(struct kunit *test)
{
	struct fake *fake = fake_device(test);
	struct pci_liveupdate_record_ser *rec = fake->recs;

	rec[0] = (struct pci_liveupdate_record_ser) {
		.bdf = PCI_DEVID(0, PCI_DEVFN(1, 0)), .use_count = 2,
		.flags = PCI_LIVEUPDATE_F_BRIDGE, .hdr_type = PCI_HEADER_TYPE_BRIDGE,
		.windows = PCI_LIVEUPDATE_WIN_ALL, .class = 0x060400,
		.secondary = 1, .subordinate = 5,
	};
	pci_lu_record_fill(&fake->dev, &rec[1]);
	rec[1].use_count = 1;
	rec[1].dma = PCI_LIVEUPDATE_DMA_UNTRANSLATED;
	rec[3] = (struct pci_liveupdate_record_ser) {
		.bdf = PCI_DEVID(4, 0), .use_count = 1, .claimed = BIT(0),
		.flags = PCI_LIVEUPDATE_F_ENDPOINT,
		.bars[0] = { .value = 0xfe000000, .mask = 0xffffe000 },
	};
	fake->header.nr_records = 3;
	fake->header.records = PAGE_SIZE;
	return fake;
}

static int check(struct fake *fake, struct pci_lu_error *err)
{
	return pci_lu_header_check(&fake->header, err) ?:
	       pci_lu_records_check(&fake->header, fake->slots,
				    ARRAY_SIZE(fake->slots), err);
}

static void lu_round_trip(struct kunit *test)
{
	struct fake *fake = fake_set(test);
	struct pci_liveupdate_record_ser *rec = &fake->recs[1];
	struct pci_lu_error err;

	KUNIT_EXPECT_EQ(test, fake->config.writes, 0);
	KUNIT_EXPECT_EQ(test, check(fake, &err), 0);
	KUNIT_EXPECT_NULL(test, err.why);
	KUNIT_EXPECT_EQ(test, rec->bdf, 0x300);
	KUNIT_EXPECT_EQ(test, rec->bars[0].value, 0x800000000cULL);
	KUNIT_EXPECT_EQ(test, rec->bars[0].mask, ~(u64)(SZ_1M - 1));
	KUNIT_EXPECT_EQ(test, rec->bars[1].mask, 0);
	KUNIT_EXPECT_EQ(test, rec->bars[2].value, 0xc001);
	KUNIT_EXPECT_EQ(test, rec->bars[2].mask, 0xffffffe0);
	KUNIT_EXPECT_EQ(test, rec->bars[PCI_LIVEUPDATE_ROM_BAR].mask, 0xffff0000);
	KUNIT_EXPECT_EQ(test, rec->claimed, BIT(0) | BIT(2));
	KUNIT_EXPECT_NULL(test, pci_lu_record_mismatch(&fake->dev, rec));
}

static void lu_other_device(struct kunit *test)
{
	struct fake *fake = fake_set(test);
	struct pci_liveupdate_record_ser *rec = &fake->recs[1];

	fake->dev.device = 0x10d4;
	KUNIT_EXPECT_STREQ(test, pci_lu_record_mismatch(&fake->dev, rec), "Device ID");
	fake->dev.device = 0x10d3;
	set_dword(fake, PCI_SUBSYSTEM_VENDOR_ID, 0x11011af4);
	KUNIT_EXPECT_STREQ(test, pci_lu_record_mismatch(&fake->dev, rec), "Subsystem ID");
	set_dword(fake, PCI_SUBSYSTEM_VENDOR_ID, 0x11001af4);
	rec->dsn = 1;
	KUNIT_EXPECT_STREQ(test, pci_lu_record_mismatch(&fake->dev, rec),
			   "Device Serial Number");
}

static void lu_header(struct kunit *test)
{
	struct fake *fake = fake_set(test);
	struct pci_liveupdate_header_ser *hdr = &fake->header;
	struct pci_lu_error err;

	hdr->version = 1;
	KUNIT_EXPECT_EQ(test, check(fake, &err), -EPROTO);
	hdr->version = PCI_LIVEUPDATE_ABI_VERSION;
	hdr->record_size += 8;
	KUNIT_EXPECT_EQ(test, check(fake, &err), -EINVAL);
	hdr->record_size -= 8;
	hdr->records++;
	KUNIT_EXPECT_EQ(test, check(fake, &err), -EINVAL);
	hdr->records--;
	hdr->reserved[ARRAY_SIZE(hdr->reserved) - 1] = 1;
	KUNIT_EXPECT_EQ(test, check(fake, &err), -EINVAL);
	hdr->reserved[ARRAY_SIZE(hdr->reserved) - 1] = 0;
	KUNIT_EXPECT_EQ(test, check(fake, &err), 0);

	/* All devices may be gone, but not only what is said of them */
	hdr->records = 0;
	KUNIT_EXPECT_EQ(test, pci_lu_header_check(hdr, &err), -EINVAL);
	hdr->nr_records = 0;
	KUNIT_EXPECT_EQ(test, pci_lu_header_check(hdr, &err), 0);
}

/* One way to damage the set, and what must be said about it */
struct damage {
	const char *name;
	const char *why;
	void (*apply)(struct fake *fake);
};

static void truncate_set(struct fake *f)	{ memset(&f->recs[3], 0, sizeof(f->recs[3])); }
static void oversize_count(struct fake *f)	{ f->header.nr_records = U64_MAX; }
static void undersize_count(struct fake *f)	{ f->header.nr_records = 2; }
static void dirty_free_slot(struct fake *f)	{ f->recs[2].vendor = 1; }
static void unknown_flag(struct fake *f)	{ f->recs[1].flags |= 0x8000; }
static void unknown_verdict(struct fake *f)	{ f->recs[1].dma = PCI_LIVEUPDATE_DMA_NR; }
static void unknown_header(struct fake *f)	{ f->recs[1].hdr_type = 2; }
static void bridge_as_device(struct fake *f)	{ f->recs[0].flags = PCI_LIVEUPDATE_F_ENDPOINT; }
static void two_users(struct fake *f)		{ f->recs[1].use_count = 2; }
static void reserved_used(struct fake *f)	{ f->recs[1].reserved[9] = 1; }
static void wide_class(struct fake *f)		{ f->recs[1].class = 0x1020000; }
static void misaligned_bar(struct fake *f)	{ f->recs[3].bars[0].value += 0x1000; }
static void odd_size(struct fake *f)		{ f->recs[3].bars[0].mask = 0xffffd000; }
static void wide_bar(struct fake *f)		{ f->recs[3].bars[0].value |= BIT_ULL(40); }
static void no_upper_half(struct fake *f)	{ f->recs[1].bars[1] = f->recs[3].bars[0]; }
static void claimed_nothing(struct fake *f)	{ f->recs[3].claimed |= BIT(4); }
static void duplicate_bdf(struct fake *f)	{ f->recs[3].bdf = f->recs[1].bdf; }
static void overlap_bar(struct fake *f)		{ f->recs[3].bars[0] = f->recs[1].bars[2]; }
static void bus_backwards(struct fake *f)	{ f->recs[0].secondary = 6; }
static void bus_above(struct fake *f)		{ f->recs[0].secondary -= 1; }

static void cross_buses(struct fake *f)
{
	f->recs[3] = f->recs[0];
	f->recs[3].bdf = PCI_DEVID(0, PCI_DEVFN(2, 0));
	f->recs[3].secondary = 5;
	f->recs[3].subordinate = 6;
}

static void same_bus(struct fake *f)
{
	f->recs[3] = f->recs[0];
	f->recs[3].bdf = PCI_DEVID(0, PCI_DEVFN(2, 0));
}

static const struct damage damages[] = {
	{ "truncated", "records are missing", truncate_set },
	{ "oversized count", "records are missing", oversize_count },
	{ "undersized count", "more records than counted", undersize_count },
	{ "free slot in use", "free slot with content", dirty_free_slot },
	{ "unknown flag", "unknown flags", unknown_flag },
	{ "unknown verdict", "unknown DMA verdict", unknown_verdict },
	{ "unknown header type", "unknown header type", unknown_header },
	{ "bridge as device", "flags that do not fit the header type", bridge_as_device },
	{ "two users", "device preserved more than once", two_users },
	{ "reserved field", "reserved fields in use", reserved_used },
	{ "wide class", "class code wider than 24 bits", wide_class },
	{ "misaligned BAR", "BAR address is not aligned to its size", misaligned_bar },
	{ "odd BAR size", "BAR size is not a power of two", odd_size },
	{ "wide 32-bit BAR", "32-bit BAR with upper address bits", wide_bar },
	{ "no upper half", "64-bit BAR without room for its upper half", no_upper_half },
	{ "claimed nothing", "claimed BAR that does not exist", claimed_nothing },
	{ "duplicate BDF", "function recorded twice", duplicate_bdf },
	{ "overlapping BARs", "BAR overlaps another device's", overlap_bar },
	{ "bus range backwards", "secondary bus above the subordinate bus", bus_backwards },
	{ "bus above bridge", "secondary bus not below the bridge", bus_above },
	{ "crossing bus ranges", "bus range overlaps another bridge's", cross_buses },
	{ "same bus twice", "bus range overlaps another bridge's", same_bus },
};

static void damage_name(const struct damage *damage, char *desc)
{
	strscpy(desc, damage->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(lu_damage, damages, damage_name);

static void lu_damaged(struct kunit *test)
{
	const struct damage *damage = test->param_value;

	for (u32 version = PCI_LIVEUPDATE_ABI_OLDEST; version <= PCI_LIVEUPDATE_ABI_VERSION;
	     version++) {
		struct fake *fake = fake_set(test);
		struct pci_lu_error err;

		fake->header.version = version;
		KUNIT_ASSERT_EQ(test, check(fake, &err), 0);
		damage->apply(fake);
		KUNIT_EXPECT_EQ(test, check(fake, &err), -EINVAL);
		KUNIT_EXPECT_STREQ(test, err.why, damage->why);
	}
}

/* What looks odd but is right: nested buses, the same place in another domain */
static void lu_not_damaged(struct kunit *test)
{
	struct fake *fake = fake_set(test);
	struct pci_lu_error err;

	fake->recs[2] = fake->recs[0];
	fake->recs[2].bdf = PCI_DEVID(1, 0);
	fake->recs[2].secondary = 2;
	fake->recs[2].subordinate = 5;
	fake->header.nr_records = 4;
	KUNIT_EXPECT_EQ(test, check(fake, &err), 0);

	fake->recs[3] = fake->recs[1];
	fake->recs[3].domain = 1;
	KUNIT_EXPECT_EQ(test, check(fake, &err), 0);

	/* BARs that were not in the resource tree may lie on top of each other */
	fake->recs[3].domain = 0;
	fake->recs[3].bdf = PCI_DEVID(4, 0);
	KUNIT_EXPECT_EQ(test, check(fake, &err), -EINVAL);
	fake->recs[3].claimed = 0;
	KUNIT_EXPECT_EQ(test, check(fake, &err), 0);
}

/* A BAR as it is read, and what it answers to all ones */
struct sizing {
	const char *name;
	u64 value;
	u64 size;
	unsigned long flags;
	u64 answer;
};

#define MEM64	(IORESOURCE_MEM | IORESOURCE_MEM_64)
#define PREF64	(MEM64 | IORESOURCE_PREFETCH)

static const struct sizing sizings[] = {
	{ "I/O, 4 bytes", 0xc001, 4, IORESOURCE_IO, 0xfffffffd },
	{ "I/O, 256 bytes", 0xc101, 256, IORESOURCE_IO, 0xffffff01 },
	{ "memory, 16 bytes", 0xfe000010, 16, IORESOURCE_MEM, 0xfffffff0 },
	{ "memory, 4 KiB", 0xfe001000, SZ_4K, IORESOURCE_MEM, 0xfffff000 },
	{ "memory, 2 GiB", 0x80000000, SZ_2G, IORESOURCE_MEM, 0x80000000 },
	{ "memory, prefetchable", 0xfe000008, SZ_1M, IORESOURCE_MEM | IORESOURCE_PREFETCH,
	  0xfff00008 },
	{ "64-bit below 4 GiB", 0xfe000004, SZ_16K, MEM64, 0xffffffffffffc004 },
	{ "64-bit above 4 GiB", 0x800000000cULL, SZ_1M, PREF64, 0xfffffffffff0000c },
	{ "64-bit, 4 GiB", 0x800000000cULL, SZ_4G, PREF64, 0xffffffff0000000c },
	{ "64-bit, resized to 256 GiB", 0x800000000cULL, 64 * SZ_4G, PREF64,
	  0xffffffc00000000c },
	{ "64-bit without an address", 0xc, SZ_1M, PREF64, 0xfffffffffff0000c },
	/* What such a resource decodes is elsewhere (PCIe r6.0, sec 7.8.5) */
	{ "Enhanced Allocation", 0, SZ_1M, MEM64 | IORESOURCE_PCI_FIXED, 0 },
};

static void sizing_name(const struct sizing *sizing, char *desc)
{
	strscpy(desc, sizing->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(lu_sizing, sizings, sizing_name);

static void lu_sized(struct kunit *test)
{
	const struct sizing *sizing = test->param_value;
	bool wide = sizing->flags & IORESOURCE_MEM_64;
	struct pci_liveupdate_record_ser rec = {};
	struct fake *fake = fake_device(test);
	u32 masks[PCI_STD_NUM_BARS], rom;

	/* In the place of the 64-bit BAR, and in the last one that has room */
	for (int i = 0, last = wide ? 4 : 5; i <= last; i += last) {
		memset(&rec, 0, sizeof(rec));
		memset(&fake->dev.resource[0], 0, sizeof(struct resource));
		set_bar(fake, i, sizing->value, sizing->size, sizing->flags);
		pci_lu_record_fill(&fake->dev, &rec);
		memset(masks, 0xa5, sizeof(masks));
		pci_lu_bar_masks(&rec, PCI_STD_NUM_BARS, masks, &rom);
		KUNIT_EXPECT_EQ(test, masks[i], lower_32_bits(sizing->answer));
		if (wide)
			KUNIT_EXPECT_EQ(test, masks[i + 1], upper_32_bits(sizing->answer));
		KUNIT_EXPECT_EQ(test, masks[2], 0xffffffe1);
		KUNIT_EXPECT_EQ(test, masks[3], 0);
		KUNIT_EXPECT_EQ(test, rom, 0xffff0000);
		KUNIT_EXPECT_EQ(test, fake->config.writes, 0);
	}
}

static void lu_window_kinds(struct kunit *test)
{
	struct fake *fake = fake_device(test);

	fake->dev.hdr_type = PCI_HEADER_TYPE_BRIDGE;
	for (unsigned int kinds = 0; kinds < 8; kinds++) {
		struct pci_liveupdate_record_ser rec = {};

		fake->dev.io_window = kinds & 1;
		fake->dev.pref_window = kinds >> 1 & 1;
		fake->dev.pref_64_window = kinds >> 2;
		pci_lu_record_fill(&fake->dev, &rec);
		fake->dev.io_window = !fake->dev.io_window;
		fake->dev.pref_window = !fake->dev.pref_window;
		fake->dev.pref_64_window = !fake->dev.pref_64_window;
		pci_lu_window_kinds(&rec, &fake->dev);
		KUNIT_EXPECT_EQ(test, kinds, fake->dev.io_window | fake->dev.pref_window << 1 |
					     fake->dev.pref_64_window << 2);
	}
	KUNIT_EXPECT_EQ(test, fake->config.writes, 0);
}

static struct kunit_case lu_record_cases[] = {
	KUNIT_CASE(lu_round_trip),
	KUNIT_CASE_PARAM(lu_sized, lu_sizing_gen_params),
	KUNIT_CASE(lu_window_kinds),
	KUNIT_CASE(lu_other_device),
	KUNIT_CASE(lu_header),
	KUNIT_CASE_PARAM(lu_damaged, lu_damage_gen_params),
	KUNIT_CASE(lu_not_damaged),
	{}
};

static struct kunit_suite lu_record_suite = {
	.name		= "pci_liveupdate_record",
	.test_cases	= lu_record_cases,
};

kunit_test_suite(lu_record_suite);
