// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit: VT-d's tables under Live Update, and what is believed of what was handed over.
 */

#include <kunit/test.h>
#include <linux/iommu_liveupdate.h>
#include <linux/moduleparam.h>
#include <linux/prandom.h>
#include <linux/random.h>

#include "../liveupdate.h"
#include "liveupdate.h"

#undef MODULE_PARAM_PREFIX
#define MODULE_PARAM_PREFIX "intel_liveupdate_fuzz."

/* With all the checks of a debug kernel on, fewer do, in the same time */
static unsigned int fuzz_rounds = IS_ENABLED(CONFIG_KASAN) ? 50000 : 1000000;
module_param_named(rounds, fuzz_rounds, uint, 0400);
MODULE_PARM_DESC(rounds, "how many hand-overs");

static u64 fuzz_seed;
module_param_named(seed, fuzz_seed, ullong, 0400);
MODULE_PARM_DESC(seed, "of the first of them, 0 for one that nobody has had yet");

static u64 *vtd_page(struct kunit *test)
{
	u64 *page = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, page);
	return page;
}

/* --- page tables ------------------------------------------------------------------- */

static u64 vtd_pte(bool first, u64 address, u64 rights)
{
	if (!first)
		return address | rights;
	return address | 1 | (rights & DMA_PTE_WRITE);
}

/* As they are handed over */
struct vtd_listed {
	u64 pages[32];
	struct iommu_lu_in in;
	struct iommu_lu_domain_in domain;
};

static int vtd_list(void *data, u64 address)
{
	struct vtd_listed *listed = data;

	if (listed->domain.nr_pages == ARRAY_SIZE(listed->pages))
		return -ENOSPC;
	listed->pages[listed->domain.nr_pages++] = address;
	return 0;
}

static void vtd_hand_over(struct kunit *test, const struct vtd_lu_table *table,
			  struct vtd_listed *listed)
{
	struct vtd_lu_walk walk = { .table = vtd_list, .data = listed };

	*listed = (struct vtd_listed){
		.in.pages = listed->pages,
		.domain = { .table = table->top, .levels = table->levels,
			    .format = table->first ? IOMMU_LIVEUPDATE_VTD_FIRST : 0 },
	};
	KUNIT_ASSERT_EQ(test, vtd_lu_walk(&walk, table), 0);
	listed->in.nr_pages = listed->domain.nr_pages;
}

/* Maps one page of 4 KiB << 9 * (level - 1); returns the entry */
static u64 *vtd_map(struct kunit *test, struct vtd_lu_table *table, u64 iova, u64 address,
		    u64 rights, int level)
{
	u64 *entries = phys_to_virt(table->top);

	for (int at = table->levels; at > level; at--) {
		u64 *entry = &entries[pfn_level_offset(iova >> PAGE_SHIFT, at)];

		if (!*entry)
			*entry = vtd_pte(table->first, virt_to_phys(vtd_page(test)),
					 DMA_PTE_READ | DMA_PTE_WRITE);
		entries = phys_to_virt(*entry & GENMASK_ULL(51, 12));
	}
	entries += pfn_level_offset(iova >> PAGE_SHIFT, level);
	*entries = vtd_pte(table->first, address, rights) | (level > 1 ? DMA_PTE_LARGE_PAGE : 0);
	return entries;
}

static struct vtd_lu_table vtd_new_table(struct kunit *test, int levels, bool first)
{
	return (struct vtd_lu_table){ virt_to_phys(vtd_page(test)), levels, first };
}

/* What the frozen table has, and another may have otherwise */
static const struct vtd_range {
	u64 iova, address, size, rights;
} vtd_ranges[] = {
	{ 0x8000000, SZ_1G, 3 * SZ_4K, DMA_PTE_READ | DMA_PTE_WRITE },
	{ SZ_1G, 2ULL * SZ_1G, SZ_2M, DMA_PTE_READ | DMA_PTE_WRITE },
	{ 0x7fffffc000, 5ULL * SZ_1G, SZ_16K, DMA_PTE_READ },
};

struct vtd_cover_case {
	const char *name;
	int levels;
	bool first;
	int range;		/* that is otherwise, -1: none is */
	u64 skip;		/* bytes that are not mapped at its beginning */
	u64 offset;		/* of the memory */
	u64 rights;		/* fewer */
	bool covers;
};

static const struct vtd_cover_case vtd_cover_cases[] = {
	{ "the same", 3, false, -1, .covers = true },
	{ "more levels", 4, false, -1, .covers = true },
	{ "first stage", 4, true, -1, .covers = true },
	{ "first stage, five levels", 5, true, -1, .covers = true },
	{ "the first page missing", 3, false, 0, .skip = SZ_4K },
	{ "a page of a large one missing", 3, false, 1, .skip = SZ_4K },
	{ "all of a range missing", 3, false, 2, .skip = SZ_16K },
	{ "another page", 3, false, 0, .offset = SZ_4K },
	{ "another large page", 3, false, 1, .offset = SZ_2M },
	{ "read only", 3, false, 0, .rights = DMA_PTE_WRITE },
	{ "first stage, read only", 4, true, 1, .rights = DMA_PTE_WRITE },
	{ "write where there was none", 3, false, -1, .covers = true },
	{ "first stage, another page", 4, true, 2, .offset = SZ_4K },
};

KUNIT_ARRAY_PARAM_DESC(vtd_cover, vtd_cover_cases, name);

static void vtd_cover(struct kunit *test)
{
	const struct vtd_cover_case *c = test->param_value;
	bool more = strstarts(c->name, "write where");

	/* Frozen in either stage, with large pages and without */
	for (int how = 0; how < 4; how++) {
		struct vtd_lu_table frozen = vtd_new_table(test, how & 1 ? 4 : 3, how & 1);
		struct vtd_lu_table new = vtd_new_table(test, c->levels, c->first);
		struct vtd_listed listed;
		u64 bad;
		int err;

		for (int r = 0; r < ARRAY_SIZE(vtd_ranges); r++) {
			const struct vtd_range *range = &vtd_ranges[r];
			bool large = range->size == SZ_2M && how & 2;

			for (u64 at = 0; at < range->size; at += large ? SZ_2M : SZ_4K)
				vtd_map(test, &frozen, range->iova + at, range->address + at,
					range->rights, large ? 2 : 1);
			for (u64 at = r == c->range ? c->skip : 0; at < range->size; at += SZ_4K)
				vtd_map(test, &new, range->iova + at,
					range->address + at + (r == c->range ? c->offset : 0),
					(range->rights | (more ? DMA_PTE_WRITE : 0)) &
					~(r == c->range ? c->rights : 0), 1);
		}
		vtd_hand_over(test, &frozen, &listed);
		err = vtd_lu_covers(&listed.in, &listed.domain, &new, &bad);
		KUNIT_EXPECT_EQ_MSG(test, err, c->covers ? 0 : -EINVAL, "frozen how %d", how);
		if (!c->covers)
			KUNIT_EXPECT_EQ(test, bad, vtd_ranges[c->range].iova);
		/* A page of it that was not handed over is not read */
		listed.domain.nr_pages = 2;
		KUNIT_EXPECT_EQ(test, vtd_lu_covers(&listed.in, &listed.domain, &new, &bad),
				-EFAULT);
	}
}

/* Rights are those of all entries on the way, and what is not in the table is not there */
static void vtd_lookup(struct kunit *test)
{
	for (int first = 0; first < 2; first++) {
		struct vtd_lu_table table = vtd_new_table(test, 4, first);
		u64 *top = phys_to_virt(table.top), size, rights;
		struct vtd_listed listed;

		vtd_map(test, &table, SZ_2M, SZ_1G, DMA_PTE_READ | DMA_PTE_WRITE, 2);
		vtd_map(test, &table, 0x1000, SZ_4K, DMA_PTE_READ | DMA_PTE_WRITE, 1);
		KUNIT_EXPECT_EQ(test, vtd_lu_lookup(&table, SZ_2M + 0x1234, &size, &rights),
				SZ_1G);
		KUNIT_EXPECT_EQ(test, size, SZ_2M);
		KUNIT_EXPECT_EQ(test, rights, DMA_PTE_READ | DMA_PTE_WRITE);
		KUNIT_EXPECT_EQ(test, vtd_lu_lookup(&table, 0x1fff, &size, &rights), SZ_4K);
		KUNIT_EXPECT_EQ(test, size, SZ_4K);
		KUNIT_EXPECT_EQ(test, vtd_lu_lookup(&table, 0x2000, &size, &rights), U64_MAX);
		KUNIT_EXPECT_EQ(test, vtd_lu_lookup(&table, SZ_1G, &size, &rights), U64_MAX);
		KUNIT_EXPECT_EQ(test, vtd_lu_lookup(&table, 1ULL << 48, &size, &rights), U64_MAX);
		top[0] &= ~(u64)DMA_PTE_WRITE;
		KUNIT_EXPECT_EQ(test, vtd_lu_lookup(&table, 0x1000, &size, &rights), SZ_4K);
		KUNIT_EXPECT_EQ(test, rights, DMA_PTE_READ);
		vtd_hand_over(test, &table, &listed);
		KUNIT_EXPECT_EQ(test, listed.domain.nr_pages, 4);
		/* In circles */
		top[1] = vtd_pte(first, table.top, DMA_PTE_READ | DMA_PTE_WRITE);
		KUNIT_EXPECT_EQ(test, vtd_lu_covers(&listed.in, &listed.domain, &table, &size),
				-EFAULT);
	}
}

/* What is told of leaves: as many at once as follow each other in one table */
static const struct vtd_range vtd_told[] = {
	{ 0x1000, SZ_1G, 4 * SZ_4K, DMA_PTE_READ | DMA_PTE_WRITE },
	{ 0x5000, SZ_1G + 4 * SZ_4K, SZ_4K, DMA_PTE_READ },
	{ 0x7000, SZ_1G + 5 * SZ_4K, SZ_4K, DMA_PTE_READ | DMA_PTE_WRITE },
	{ 0x8000, SZ_1G + 5 * SZ_4K, SZ_4K, DMA_PTE_READ | DMA_PTE_WRITE },
	{ SZ_2M - SZ_8K, 2ULL * SZ_1G, SZ_8K, DMA_PTE_READ | DMA_PTE_WRITE },
	{ SZ_2M, 2ULL * SZ_1G + SZ_8K, SZ_4K, DMA_PTE_READ | DMA_PTE_WRITE },
};

struct vtd_tellings {
	struct vtd_range of[ARRAY_SIZE(vtd_told) + 2];
	int nr;
};

static int vtd_tell(void *data, u64 iova, u64 address, u64 size, u64 rights)
{
	struct vtd_tellings *told = data;

	if (told->nr == ARRAY_SIZE(told->of))
		return -ENOSPC;
	told->of[told->nr++] = (struct vtd_range){ iova, address, size, rights };
	return 0;
}

static void vtd_runs(struct kunit *test)
{
	for (int first = 0; first < 2; first++) {
		struct vtd_lu_table table = vtd_new_table(test, 4, first);
		struct vtd_tellings told = {};
		const struct vtd_lu_walk walk = { .leaf = vtd_tell, .data = &told };

		for (int n = 0; n < ARRAY_SIZE(vtd_told); n++)
			for (u64 at = 0; at < vtd_told[n].size; at += SZ_4K)
				vtd_map(test, &table, vtd_told[n].iova + at,
					vtd_told[n].address + at, vtd_told[n].rights, 1);
		/* What hardware does not look at tells nothing apart */
		*vtd_map(test, &table, 0x3000, SZ_1G + SZ_8K, vtd_told[0].rights, 1) |= BIT_ULL(10);
		KUNIT_EXPECT_EQ(test, vtd_lu_walk(&walk, &table), 0);
		KUNIT_EXPECT_EQ(test, told.nr, ARRAY_SIZE(vtd_told));
		KUNIT_EXPECT_MEMEQ(test, told.of, vtd_told, sizeof(vtd_told));
	}
}

/* --- entries ----------------------------------------------------------------------- */

#define TABLE	0x12345000ULL

static const struct vtd_entry_case {
	const char *name;
	bool scalable;
	struct vtd_lu_entry entry;
	bool good;
	int levels;
	bool first;
	bool passes;
} vtd_entry_cases[] = {
	{ "context, 3 levels", false, { { TABLE | 1, 0x4201 } }, true, 3 },
	{ "context, 5 levels", false, { { TABLE | 1, 0x4203 } }, true, 5 },
	{ "context, no levels", false, { { TABLE | 1, 0x4200 } } },
	{ "context, 6 levels", false, { { TABLE | 1, 0x4204 } } },
	{ "context, not present", false, { { TABLE, 0x4201 } } },
	{ "context, silent", false, { { TABLE | 3, 0x4201 } } },
	{ "context, ATS", false, { { TABLE | 1 | 1 << 2, 0x4201 } } },
	{ "context, passes", false, { { 1 | 2 << 2, 0x0102 } }, .passes = true },
	{ "second stage", true, { .pasid.val = { TABLE | 1 | 1 << 2 | 2 << 6, 0x42 } }, true, 3 },
	{ "second stage, 5", true, { .pasid.val = { TABLE | 1 | 3 << 2 | 2 << 6, 0x42 } },
	  true, 5 },
	{ "second stage, 6", true, { .pasid.val = { TABLE | 1 | 4 << 2 | 2 << 6, 0x42 } } },
	{ "second stage, dirty", true,
	  { .pasid.val = { TABLE | 1 | 1 << 2 | 2 << 6 | 1 << 9, 0x42 } } },
	{ "first stage", true, { .pasid.val = { 1 | 1 << 6, 0x42, TABLE } }, true, 4, true },
	{ "first stage, 5", true, { .pasid.val = { 1 | 1 << 6, 0x42, TABLE | 1 << 2 } },
	  true, 5, true },
	{ "first stage, 6", true, { .pasid.val = { 1 | 1 << 6, 0x42, TABLE | 2 << 2 } } },
	{ "nested", true, { .pasid.val = { TABLE | 1 | 1 << 2 | 3 << 6, 0x42, TABLE } } },
	{ "pasid, passes", true, { .pasid.val = { 1 | 4 << 6, 1 } }, .passes = true },
	{ "pasid, not present", true, { .pasid.val = { TABLE | 1 << 2 | 2 << 6, 0x42 } } },
	{ "pasid, silent", true, { .pasid.val = { TABLE | 3 | 1 << 2 | 2 << 6, 0x42 } } },
};

KUNIT_ARRAY_PARAM_DESC(vtd_entry, vtd_entry_cases, name);

static void vtd_entry(struct kunit *test)
{
	const struct vtd_entry_case *c = test->param_value;
	struct vtd_lu_table table;
	u16 did;

	KUNIT_EXPECT_EQ(test, vtd_lu_entry_table(&c->entry, c->scalable, &table, &did), c->good);
	KUNIT_EXPECT_EQ(test, vtd_lu_entry_passes(&c->entry, c->scalable), c->passes);
	if (!c->good)
		return;
	KUNIT_EXPECT_EQ(test, table.top, TABLE);
	KUNIT_EXPECT_EQ(test, table.levels, c->levels);
	KUNIT_EXPECT_EQ(test, table.first, c->first);
	KUNIT_EXPECT_EQ(test, did, 0x42);
}

/* What is said of devices that firmware uses is what the driver says of those that pass */
static void vtd_pass(struct kunit *test)
{
	static struct intel_iommu iommu = { .agaw = 2, .msagaw = 3 };

	for (int scalable = 0; scalable < 2; scalable++) {
		struct vtd_lu_entry entry = {};
		struct vtd_lu_table table;
		u16 did;

		vtd_lu_entry_pass(&iommu, scalable, &entry);
		KUNIT_EXPECT_TRUE(test, vtd_lu_entry_passes(&entry, scalable));
		KUNIT_EXPECT_FALSE(test, vtd_lu_entry_table(&entry, scalable, &table, &did));
		if (scalable) {
			KUNIT_EXPECT_EQ(test, pasid_get_domain_id(&entry.pasid), FLPT_DEFAULT_DID);
			KUNIT_EXPECT_EQ(test, entry.pasid.val[0], 1 | 2 << 2 | 4 << 6);
		} else {
			KUNIT_EXPECT_EQ(test, context_domain_id(&entry.context), FLPT_DEFAULT_DID);
			KUNIT_EXPECT_EQ(test, entry.context.lo, 1 | 2 << 2);
			KUNIT_EXPECT_EQ(test, entry.context.hi & 7, 3);
		}
	}
}

static void vtd_interrupts(struct kunit *test)
{
	struct irte *irtes = (struct irte *)vtd_page(test);

	memset(irtes, 0xff, PAGE_SIZE);
	vtd_lu_clear_irtes(irtes, 3);
	KUNIT_EXPECT_NULL(test, memchr_inv(irtes, 0, 3 * sizeof(*irtes)));
	KUNIT_EXPECT_EQ(test, irtes[3].low, U64_MAX);
}

/* --- the switch -------------------------------------------------------------------- */

#define RID	0x0308

static struct vtd_switch {
	struct kunit *test;
	struct context_entry live __aligned(sizeof(u128));
	struct context_entry new;
	int step;
} vtd_switch;

static void vtd_sees_new(int step)
{
	KUNIT_EXPECT_EQ(vtd_switch.test, vtd_switch.step++, step);
	KUNIT_EXPECT_MEMEQ(vtd_switch.test, &vtd_switch.live, &vtd_switch.new,
			   sizeof(vtd_switch.live));
}

static void vtd_flush_context(struct intel_iommu *iommu, u16 did, u16 sid, u8 fm, u64 type)
{
	vtd_sees_new(0);
	KUNIT_EXPECT_EQ(vtd_switch.test, did, 0x42);
	KUNIT_EXPECT_EQ(vtd_switch.test, sid, RID);
	KUNIT_EXPECT_EQ(vtd_switch.test, type, DMA_CCMD_DEVICE_INVL);
}

static void vtd_flush_iotlb(struct intel_iommu *iommu, u16 did, u64 addr, unsigned int order,
			    u64 type)
{
	vtd_sees_new(1);
	KUNIT_EXPECT_EQ(vtd_switch.test, did, 0x42);
	KUNIT_EXPECT_EQ(vtd_switch.test, type, DMA_TLB_DSI_FLUSH);
}

/* All 128 bits are new before the first flush, and the flushes are those of the book */
static void vtd_switches(struct kunit *test)
{
	static struct intel_iommu iommu;
	static const struct context_entry next[] = { { 0x777000 | 1, 0x4302 }, {} };

	if (!system_has_cmpxchg128())
		kunit_skip(test, "no 128-bit store");
	iommu.flush.flush_context = vtd_flush_context;
	iommu.flush.flush_iotlb = vtd_flush_iotlb;
	iommu.ecap = BIT_ULL(0);	/* coherent */
	for (int n = 0; n < ARRAY_SIZE(next); n++) {
		vtd_switch = (struct vtd_switch){
			.test = test, .live = { TABLE | 1, 0x4201 }, .new = next[n],
		};
		vtd_lu_replace(&iommu, &vtd_switch.live, &next[n], 0x42, RID);
		KUNIT_EXPECT_EQ(test, vtd_switch.step, 2);
	}
}

/* --- what was handed over ---------------------------------------------------------- */

#define FUZZ_PAGES	20
#define FUZZ_HANDED	13
#define FUZZ_RID	0x0290	/* in the second context table of its bus */

/*
 * Two units, one in each mode, with a device each. The pages: 0 to 2 second-stage table, 3 to
 * 6 first-stage table, 7 and 8 root and context tables of the first unit, 9 to 12 those of the
 * second with PASID directory and table. They can be damaged; the rest is what the owners of
 * the devices map anew.
 */
static struct vtd_fuzz {
	struct rnd_state rnd;
	u64 (*page)[VTD_PAGE_SIZE / sizeof(u64)];
	u64 pages[FUZZ_PAGES];
	struct iommu_liveupdate_unit_ser units[2];
	struct iommu_liveupdate_domain_ser domains[2];
	struct iommu_lu_in in;
} *fz;

static u64 vtd_at(int page)
{
	return virt_to_phys(fz->page[page]);
}

static u64 any(u64 below)
{
	return prandom_u32_state(&fz->rnd) % below;
}

/* The second entry of each leads to the next, and the last to memory */
static void vtd_one_page(int page, int levels)
{
	for (int n = 1; n < levels; n++, page++)
		fz->page[page][1] = vtd_at(page + 1) | 3;
	fz->page[page][1] = SZ_1G | 3;
}

static void vtd_sound(void)
{
	struct vtd_lu_entry entry = {};

	memset(fz->page, 0, FUZZ_PAGES * VTD_PAGE_SIZE);
	for (int n = 0; n < FUZZ_HANDED; n++)
		fz->pages[n] = vtd_at(n);
	fz->in = (struct iommu_lu_in){
		.units = fz->units, .pages = fz->pages,
		.nr_units = 2, .nr_domains = 2, .nr_pages = FUZZ_HANDED,
	};
	fz->domains[0] = (struct iommu_liveupdate_domain_ser){
		.table = vtd_at(0), .unit = 0, .levels = 3, .first_page = 0, .nr_pages = 3,
	};
	fz->domains[1] = (struct iommu_liveupdate_domain_ser){
		.table = vtd_at(3), .unit = 1, .levels = 4, .first_page = 3, .nr_pages = 4,
		.format = IOMMU_LIVEUPDATE_VTD_FIRST,
	};
	fz->units[0] = (struct iommu_liveupdate_unit_ser){
		.base = 0xfed90000, .root = vtd_at(7), .first_page = 7, .nr_pages = 2,
	};
	fz->units[1] = (struct iommu_liveupdate_unit_ser){
		.base = 0xfed91000, .root = vtd_at(9), .first_page = 9, .nr_pages = 4,
		.kind = IOMMU_LIVEUPDATE_VTD_SCALABLE,
	};
	vtd_one_page(0, 3);
	vtd_one_page(3, 4);
	vtd_one_page(FUZZ_HANDED, 3);
	vtd_one_page(FUZZ_HANDED + 3, 4);

	*vtd_lu_root_half((void *)fz->page[7], false, FUZZ_RID) = vtd_at(8) | 1;
	entry.context = (struct context_entry){ vtd_at(0) | 1, 0x4201 };
	((struct context_entry *)fz->page[8])[vtd_lu_index(false, FUZZ_RID)] = entry.context;
	*vtd_lu_root_half((void *)fz->page[9], true, FUZZ_RID) = vtd_at(10) | 1;
	((struct context_entry *)fz->page[10])[vtd_lu_index(true, FUZZ_RID)].lo = vtd_at(11) | 1;
	fz->page[11][0] = vtd_at(12) | 1;
	fz->page[12][0] = 1 | 1 << 6;
	fz->page[12][1] = 0x42;
	fz->page[12][2] = vtd_at(3);
}

/* As the next kernel asks; NULL if it would let the device go on */
static const char *vtd_incoming(int unit, bool *attaches)
{
	const struct iommu_liveupdate_domain_ser *ser = &fz->domains[unit];
	struct iommu_lu_domain_in domain = {
		.table = ser->table, .levels = ser->levels, .format = ser->format,
		.first_page = ser->first_page, .nr_pages = ser->nr_pages,
	};
	bool scalable = fz->units[unit].kind == IOMMU_LIVEUPDATE_VTD_SCALABLE;
	struct vtd_lu_table new;
	struct vtd_lu_entry entry;
	const char *why;
	u64 iova;
	u16 did;

	*attaches = false;
	if (ser->unit != unit)
		return "another unit";
	why = vtd_lu_find_entry(&fz->in, &fz->units[unit], FUZZ_RID, &entry);
	if (why)
		return why;
	if (!vtd_lu_entry_is_of(&entry, scalable, &domain, &did) || did != 0x42)
		return "another entry";

	/* What its owner maps anew is what there was */
	new = (struct vtd_lu_table){
		vtd_at(unit ? FUZZ_HANDED + 3 : FUZZ_HANDED), unit ? 4 : 3, unit,
	};
	*attaches = !vtd_lu_covers(&fz->in, &domain, &new, &iova);
	return NULL;
}

static void vtd_handed_over(struct kunit *test)
{
	struct vtd_lu_entry entry;
	bool attaches;

	vtd_sound();
	KUNIT_EXPECT_NULL(test, iommu_lu_check(&fz->in, fz->domains));
	for (int unit = 0; unit < 2; unit++) {
		KUNIT_EXPECT_NULL(test, vtd_incoming(unit, &attaches));
		KUNIT_EXPECT_TRUE(test, attaches);
		for (int rid = 0; rid <= U16_MAX; rid++)
			if (rid != FUZZ_RID)
				KUNIT_EXPECT_NOT_NULL(test, vtd_lu_find_entry(&fz->in,
									      &fz->units[unit],
									      rid, &entry));
	}
}

/* One thing that is wrong with each */
static const struct vtd_wrong {
	const char *why;
	size_t offset;		/* in struct vtd_fuzz */
	u64 flip;
} vtd_wrongs[] = {
#define WRONG(_why, _field, _flip) { _why, offsetof(struct vtd_fuzz, _field), _flip }
	WRONG("a unit of an unknown kind", units[0].kind, 2),
	WRONG("reserved fields of a unit in use", units[1].reserved[2], 1),
	WRONG("a unit without tables of its own", units[0].root, BIT_ULL(40)),
	WRONG("a unit without tables of its own", units[0].first_page, BIT_ULL(63)),
	WRONG("a unit without tables of its own", units[0].first_page, 7 ^ 6),
	WRONG("a unit without tables of its own", units[1].nr_pages, 1),
	WRONG("a unit without tables of its own", units[1].nr_pages, BIT_ULL(63)),
	WRONG("a domain of an unknown unit", domains[0].unit, 2),
	WRONG("a page table of an unknown format", domains[1].format, 2),
	WRONG("reserved fields of a domain in use", domains[1].reserved32, 1),
	WRONG("reserved fields of a domain in use", domains[1].reserved[2], BIT_ULL(63)),
	WRONG("a domain without tables of its own", domains[1].first_page, 3 ^ 2),
	WRONG("a domain without tables of its own", domains[1].table, BIT_ULL(40)),
	WRONG("a domain without tables of its own", domains[0].nr_pages, 3),
	WRONG("a page that is not memory", pages[5], MAX_PAGE_ORDER + 1),
	WRONG("a page that is not memory", pages[5], BIT_ULL(51)),
};

static void vtd_refuses(struct kunit *test)
{
	for (int n = 0; n < ARRAY_SIZE(vtd_wrongs); n++) {
		const struct vtd_wrong *wrong = &vtd_wrongs[n];

		vtd_sound();
		*(u32 *)((void *)fz + wrong->offset) ^= (u32)wrong->flip;
		if (wrong->flip >> 32)
			*(u32 *)((void *)fz + wrong->offset + 4) ^= wrong->flip >> 32;
		KUNIT_EXPECT_STREQ_MSG(test, iommu_lu_check(&fz->in, fz->domains) ?: "accepted",
				       wrong->why, "case %d", n);
	}
}

/* A few words of the records, or of the tables */
static void vtd_damage(void)
{
	u64 bits = any(2) ? BIT_ULL(any(64)) : (u64)prandom_u32_state(&fz->rnd) << any(33);
	int page = any(FUZZ_HANDED);

	switch (any(7)) {
	case 0:
		((u64 *)fz->units)[any(sizeof(fz->units)) / sizeof(u64)] ^= bits;
		break;
	case 1:
		((u64 *)fz->domains)[any(sizeof(fz->domains)) / sizeof(u64)] ^= bits;
		break;
	case 2:		/* what is listed is read, so that it is ours or no memory */
		fz->pages[page] = any(2) ? vtd_at(any(FUZZ_PAGES)) | any(3) :
					   fz->pages[page] ^ BIT_ULL(44 + any(20));
		break;
	case 3:		/* where the tables have something */
		fz->page[page][any(3)] ^= bits;
		break;
	case 4:		/* to a page that is there, or not one of them */
		fz->page[page][any(512)] = vtd_at(any(FUZZ_PAGES)) | any(8);
		break;
	case 5:		/* where the entry is */
		fz->page[10][2 * vtd_lu_index(true, FUZZ_RID) + any(4)] ^= bits;
		break;
	case 6:
		*vtd_lu_root_half((void *)fz->page[9], true, FUZZ_RID) ^= bits;
		break;
	}
}

/* No damage makes the next kernel read what was not handed over, or go on with no table */
static void vtd_fuzzed(struct kunit *test)
{
	u64 seed = fuzz_seed ?: get_random_u32();
	unsigned int refused = 0, paused = 0, went_on = 0, not_attached = 0;

	kunit_info(test, "intel_liveupdate_fuzz.seed=%llu, %u hand-overs\n", seed, fuzz_rounds);
	for (unsigned int n = 0; n < fuzz_rounds && test->status == KUNIT_SUCCESS; n++) {
		prandom_seed_state(&fz->rnd, seed + n);
		vtd_sound();
		for (int left = 1 + any(3); left; left--)
			vtd_damage();
		if (iommu_lu_check(&fz->in, fz->domains)) {
			refused++;
			continue;
		}
		for (int unit = 0; unit < 2; unit++) {
			const struct iommu_liveupdate_domain_ser *domain = &fz->domains[unit];
			bool attaches;

			if (vtd_incoming(unit, &attaches)) {
				paused++;
				continue;
			}
			went_on++;
			not_attached += !attaches;
			KUNIT_EXPECT_TRUE_MSG(test,
					      iommu_lu_has_page(&fz->in, domain->first_page,
								domain->nr_pages, domain->table),
					      "seed %llu: goes on without its table", seed + n);
		}
	}
	kunit_info(test, "%u refused, %u devices paused, %u went on, %u of them not attached\n",
		   refused, paused, went_on, not_attached);
	/* Control: each of these does come */
	KUNIT_EXPECT_GT(test, refused, fuzz_rounds / 20);
	KUNIT_EXPECT_GT(test, paused, fuzz_rounds / 100);
	KUNIT_EXPECT_GT(test, went_on, fuzz_rounds / 20);
	KUNIT_EXPECT_GT(test, not_attached, 0);
}

/* Two units may use one page table: whoever is the last to leave it frees it */
static void vtd_shares(struct kunit *test)
{
	struct iommu_lu_domain_in domains[] = {
		{ .table = SZ_4K, .unit = 0, .nr_pages = 1 },
		{ .table = SZ_8K, .unit = 0, .first_page = 1, .nr_pages = 1 },
		{ .table = SZ_4K, .unit = 1, .first_page = 2, .nr_pages = 1 },
	};
	const struct iommu_lu_in in = { .domains = domains, .nr_domains = ARRAY_SIZE(domains) };

	KUNIT_EXPECT_TRUE(test, iommu_lu_is_shared(&in, &domains[0]));
	KUNIT_EXPECT_FALSE(test, iommu_lu_is_shared(&in, &domains[1]));
	KUNIT_EXPECT_TRUE(test, iommu_lu_is_shared(&in, &domains[2]));
	domains[2].nr_pages = 0;
	KUNIT_EXPECT_FALSE(test, iommu_lu_is_shared(&in, &domains[0]));
}

static int vtd_fuzz_init(struct kunit *test)
{
	fz = kunit_kzalloc(test, sizeof(*fz), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, fz);
	fz->page = kunit_kzalloc(test, FUZZ_PAGES * VTD_PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, fz->page);
	return 0;
}

static struct kunit_case vtd_table_kunit[] = {
	KUNIT_CASE_PARAM(vtd_cover, vtd_cover_gen_params),
	KUNIT_CASE(vtd_lookup),
	KUNIT_CASE(vtd_runs),
	KUNIT_CASE_PARAM(vtd_entry, vtd_entry_gen_params),
	KUNIT_CASE(vtd_pass),
	KUNIT_CASE(vtd_interrupts),
	KUNIT_CASE(vtd_switches),
	{}
};

static struct kunit_suite vtd_table_suite = {
	.name		= "intel_liveupdate",
	.test_cases	= vtd_table_kunit,
};

static struct kunit_case vtd_fuzz_kunit[] = {
	KUNIT_CASE(vtd_handed_over),
	KUNIT_CASE(vtd_shares),
	KUNIT_CASE(vtd_refuses),
	KUNIT_CASE_SLOW(vtd_fuzzed),
	{}
};

static struct kunit_suite vtd_fuzz_suite = {
	.name		= "intel_liveupdate_fuzz",
	.init		= vtd_fuzz_init,
	.test_cases	= vtd_fuzz_kunit,
};

kunit_test_suites(&vtd_table_suite, &vtd_fuzz_suite);
