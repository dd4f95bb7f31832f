// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for records of Virtual Functions and of what they are part of: what is
 * believed of them, whether they are the same, and what no emulated device has, such as
 * Virtual Functions on buses of their own.
 */

#include <kunit/test.h>
#include <linux/pci.h>
#include <linux/string.h>

#include "../pci.h"
#include "internal.h"

#define AT_SRIOV	0x160

#define BRIDGE	0
#define PF	1
#define IOV	2
#define VF0	3
#define VF3	4
#define OTHER	5
#define SLOTS	6

/**
 * struct fake - a root port 00:01.0 to buses 1-5, and a Physical Function 01:00.0 with
 *		 four Virtual Functions, two of them on bus 2, the first and last preserved
 * @bytes:   configuration space of the Physical Function
 * @writes:  how often anybody wrote to it
 * @sysdata: an architecture's; x86 has the domain in it
 * @bus:     where it is
 * @dev:     what the kernel knows of it
 * @header:  of the set
 * @recs:    the set
 * @slots:   the same
 */
struct fake {
	u8 bytes[PCI_CFG_SPACE_EXP_SIZE];
	unsigned int writes;
	u64 sysdata[8];
	struct pci_bus bus;
	struct pci_dev dev;
	struct pci_liveupdate_header_ser header;
	struct pci_liveupdate_record_ser recs[SLOTS];
	struct pci_liveupdate_record_ser *slots[SLOTS];
};

static int fake_read(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 *val)
{
	*val = 0;
	memcpy(val, container_of(bus, struct fake, bus)->bytes + where, size);
	return PCIBIOS_SUCCESSFUL;
}

static int fake_write(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 val)
{
	container_of(bus, struct fake, bus)->writes++;
	return PCIBIOS_SUCCESSFUL;
}

static struct pci_ops fake_ops = {
	.read	= fake_read,
	.write	= fake_write,
};

static void set(struct fake *fake, int reg, u64 value, int size)
{
	memcpy(fake->bytes + reg, &value, size);
}

static const struct pci_liveupdate_record_ser fake_iov = {
	.bdf = PCI_DEVID(1, 0), .use_count = 1, .flags = PCI_LIVEUPDATE_F_IOV,
	.claimed = BIT(0) | BIT(3),
	.bars[0] = { 0x800000000cULL, ~0x3fffULL },
	.bars[3] = { 0xfe000000, 0xffffc000 },
	.iov = {
		.ctrl = PCI_SRIOV_CTRL_VFE | PCI_SRIOV_CTRL_MSE | PCI_SRIOV_CTRL_ARI,
		.initial = 7, .total = 7, .num = 4, .offset = 0x80, .stride = 0x40,
		.vf_device = 0x10ca, .driver_max = 7, .page_size = 1, .vf_class = 0x020000,
		.bar_vfs = { 7, 0, 0, 7 }, .last_bus = 3,
		.flags = PCI_LIVEUPDATE_IOV_AUTOPROBE,
	},
};

static struct pci_liveupdate_record_ser fake_vf(u16 index)
{
	return (struct pci_liveupdate_record_ser) {
		.bdf = PCI_DEVID(1, 0) + 0x80 + 0x40 * index, .use_count = 1,
		.flags = PCI_LIVEUPDATE_F_ENDPOINT | PCI_LIVEUPDATE_F_VF,
		.dma = PCI_LIVEUPDATE_DMA_UNTRANSLATED, .vendor = 0x8086, .device = 0x10ca,
		.vf = { .pf = PCI_DEVID(1, 0), .index = index },
	};
}

static struct fake *fake_set(struct kunit *test)
{
	struct fake *fake = kunit_kzalloc(test, sizeof(*fake), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, fake);
	fake->bus.ops = &fake_ops;
	fake->bus.sysdata = fake->sysdata;
	fake->bus.number = 1;
	fake->dev.bus = &fake->bus;
	fake->dev.cfg_size = PCI_CFG_SPACE_EXP_SIZE;
	set(fake, 0x100, AT_SRIOV << 20 | 1 << 16 | PCI_EXT_CAP_ID_ERR, 4);
	set(fake, AT_SRIOV, 1 << 16 | PCI_EXT_CAP_ID_SRIOV, 4);
	set(fake, AT_SRIOV + PCI_SRIOV_CTRL, fake_iov.iov.ctrl, 2);
	set(fake, AT_SRIOV + PCI_SRIOV_INITIAL_VF, 7, 2);
	set(fake, AT_SRIOV + PCI_SRIOV_TOTAL_VF, 7, 2);
	set(fake, AT_SRIOV + PCI_SRIOV_NUM_VF, 4, 2);
	set(fake, AT_SRIOV + PCI_SRIOV_VF_OFFSET, 0x80, 2);
	set(fake, AT_SRIOV + PCI_SRIOV_VF_STRIDE, 0x40, 2);
	set(fake, AT_SRIOV + PCI_SRIOV_VF_DID, 0x10ca, 2);
	set(fake, AT_SRIOV + PCI_SRIOV_SYS_PGSIZE, 1, 4);
	set(fake, AT_SRIOV + PCI_SRIOV_BAR, fake_iov.bars[0].value, 8);
	set(fake, AT_SRIOV + PCI_SRIOV_BAR + 12, fake_iov.bars[3].value, 4);

	fake->recs[BRIDGE] = (struct pci_liveupdate_record_ser) {
		.bdf = PCI_DEVID(0, PCI_DEVFN(1, 0)), .use_count = 2,
		.flags = PCI_LIVEUPDATE_F_BRIDGE, .hdr_type = PCI_HEADER_TYPE_BRIDGE,
		.class = 0x060400, .secondary = 1, .subordinate = 5,
	};
	fake->recs[PF] = (struct pci_liveupdate_record_ser) {
		.bdf = PCI_DEVID(1, 0), .use_count = 2, .flags = PCI_LIVEUPDATE_F_PF,
		.vendor = 0x8086, .device = 0x10c9,
	};
	fake->recs[IOV] = fake_iov;
	fake->recs[VF0] = fake_vf(0);
	fake->recs[VF3] = fake_vf(3);
	for (int i = 0; i < SLOTS; i++)
		fake->slots[i] = &fake->recs[i];
	fake->header = (struct pci_liveupdate_header_ser) {
		.version = PCI_LIVEUPDATE_ABI_V2, .nr_records = 5, .records = PAGE_SIZE,
		.record_size = sizeof(fake->recs[0]),
	};
	return fake;
}

static int check(struct fake *fake, struct pci_lu_error *err)
{
	return pci_lu_header_check(&fake->header, err) ?:
	       pci_lu_records_check(&fake->header, fake->slots, SLOTS, err);
}

/* --- damaged --------------------------------------------------------------------- */

struct damage {
	const char *name;
	const char *why;
	void (*apply)(struct pci_liveupdate_record_ser *r, struct pci_liveupdate_iov_ser *iov);
};

#define APPLY(name, what)								\
static void name(struct pci_liveupdate_record_ser *r, struct pci_liveupdate_iov_ser *iov)	\
{											\
	what;										\
}

APPLY(not_enabled, iov->ctrl &= ~PCI_SRIOV_CTRL_VFE)
APPLY(no_decode, iov->ctrl &= ~PCI_SRIOV_CTRL_MSE)
APPLY(migrates, iov->ctrl |= PCI_SRIOV_CTRL_VFM)
APPLY(can_migrate, iov->caps = PCI_SRIOV_CAP_VFM)
APPLY(none, iov->num = 0)
APPLY(more_than_total, iov->num = 8)
APPLY(more_than_initial, iov->initial = 3)
APPLY(initial_high, iov->initial = 8)
APPLY(driver_high, iov->driver_max = 8)
APPLY(no_offset, iov->offset = 0)
APPLY(no_stride, iov->stride = 0)
APPLY(odd_page, iov->page_size = 3)
APPLY(no_page, iov->page_size = 0)
APPLY(wide_class, iov->vf_class = 0x1020000)
APPLY(bus_beyond, iov->last_bus = 1)
APPLY(bus_before, iov->last_bus = 0)
APPLY(far_away, iov->offset = 0xff00)
APPLY(two_uses, r[IOV].use_count = 2)
APPLY(odd_size, r[IOV].bars[3].mask = 0xffffd000)
APPLY(misaligned, r[IOV].bars[3].value += 0x1000)
APPLY(not_claimed, r[IOV].claimed &= ~BIT(3))
APPLY(io_bar, r[IOV].bars[3].value |= 1)
APPLY(little_room, iov->bar_vfs[3] = 3)
APPLY(room_for_nothing, iov->bar_vfs[5] = 1)
APPLY(rom, r[IOV].bars[6].mask = 0xffff0000)
APPLY(wraps, r[IOV].bars[0].value = 0xffffffffffffc00cULL)
APPLY(wraps_32, r[IOV].bars[3].value = 0xffffc000)
APPLY(odd_owner, iov->owner = PCI_LIVEUPDATE_PF_NR)
APPLY(with_owner, iov->owner = PCI_LIVEUPDATE_PF_USER)
APPLY(owned_pf, r[PF].flags |= PCI_LIVEUPDATE_F_ENDPOINT)
APPLY(owned_miscounted, owned_pf(r, iov); with_owner(r, iov))
APPLY(owned_with_driver, owned_pf(r, iov); iov->owner = PCI_LIVEUPDATE_PF_NATIVE)

APPLY(no_pf, r[PF].flags = PCI_LIVEUPDATE_F_ENDPOINT; r[PF].use_count = 1)
APPLY(no_iov, r[IOV] = r[OTHER]; r[OTHER] = fake_vf(1); r[OTHER].bdf = 0x300)
APPLY(other_pf, r[VF3].vf.pf += 8)
APPLY(index_high, r[VF3].vf.index = 4)
APPLY(index_of_another, r[VF3].vf.index = 2)
APPLY(elsewhere, r[VF3].bdf += 1)
APPLY(other_kind, r[VF3].device++)
APPLY(miscounted, r[PF].use_count = 3)
APPLY(twice, r[VF3] = r[VF0])
APPLY(vf_bar, r[VF3].bars[0] = r[IOV].bars[0])
APPLY(vf_pf, r[VF3].flags = PCI_LIVEUPDATE_F_VF | PCI_LIVEUPDATE_F_PF)
APPLY(vf_alone, r[VF3].flags &= ~PCI_LIVEUPDATE_F_ENDPOINT)
APPLY(verdict, r[PF].dma = PCI_LIVEUPDATE_DMA_UNTRANSLATED)
APPLY(pf_bridge, r[PF].hdr_type = PCI_HEADER_TYPE_BRIDGE)
APPLY(bridge_short, r[BRIDGE].subordinate = 2)

static const struct damage damages[] = {
	{ "not enabled", "Virtual Functions that are not enabled", not_enabled },
	{ "no decode", "Virtual Functions that are not enabled", no_decode },
	{ "migration", "VF Migration", migrates },
	{ "migration possible", "VF Migration", can_migrate },
	{ "no VF", "number of Virtual Functions out of range", none },
	{ "NumVFs above TotalVFs", "number of Virtual Functions out of range", more_than_total },
	{ "NumVFs above InitialVFs", "number of Virtual Functions out of range",
	  more_than_initial },
	{ "InitialVFs above TotalVFs", "number of Virtual Functions out of range", initial_high },
	{ "driver's limit", "number of Virtual Functions out of range", driver_high },
	{ "no offset", "Virtual Functions in the place of each other", no_offset },
	{ "no stride", "Virtual Functions in the place of each other", no_stride },
	{ "odd page size", "System Page Size is not a power of two", odd_page },
	{ "no page size", "System Page Size is not a power of two", no_page },
	{ "wide class", "class code wider than 24 bits", wide_class },
	{ "bus beyond the last", "Virtual Functions on buses that are not theirs", bus_beyond },
	{ "last bus before the PF", "Virtual Functions on buses that are not theirs", bus_before },
	{ "beyond the last bus", "Virtual Functions on buses that are not theirs", far_away },
	{ "two uses", "SR-IOV capability that is recorded for several", two_uses },
	{ "odd BAR size", "BAR size is not a power of two", odd_size },
	{ "misaligned BAR", "BAR address is not aligned to its size", misaligned },
	{ "BAR not claimed", "VF BAR that is not claimed", not_claimed },
	{ "I/O BAR", "I/O space behind a VF BAR", io_bar },
	{ "room for three", "VF BAR without room for all Virtual Functions", little_room },
	{ "room without BAR", "address space behind a VF BAR that does not exist",
	  room_for_nothing },
	{ "ROM", "Expansion ROM of Virtual Functions", rom },
	{ "BAR wraps", "VF BAR that ends beyond its address space", wraps },
	{ "32-bit BAR wraps", "VF BAR that ends beyond its address space", wraps_32 },
	{ "odd owner", "unknown owner of a Physical Function", odd_owner },
	{ "PF of a driver is preserved", "Physical Function that its user has not preserved",
	  owned_with_driver },
	{ "PF not preserved", "Physical Function that its user has not preserved", with_owner },
	{ "PF of nobody", "Physical Function that its user has not preserved", owned_pf },
	{ "PF not counted", "use count that is not the number of Virtual Functions",
	  owned_miscounted },
	{ "PF is a device", "SR-IOV capability of a function that is not recorded", no_pf },
	{ "no SR-IOV record", "Physical Function without Virtual Functions", no_iov },
	{ "VF of nobody", "Virtual Function without a Physical Function", other_pf },
	{ "index too high", "Virtual Function that is not enabled", index_high },
	{ "index of another", "Virtual Function in another place than its number says",
	  index_of_another },
	{ "VF elsewhere", "Virtual Function in another place than its number says", elsewhere },
	{ "other kind", "Virtual Function of another kind than its Physical Function says",
	  other_kind },
	{ "miscounted", "use count that is not the number of Virtual Functions", miscounted },
	{ "VF twice", "function recorded twice", twice },
	{ "BAR of a VF", "BARs of a Virtual Function, which has none of its own", vf_bar },
	{ "VF and PF", "flags that do not fit the header type", vf_pf },
	{ "VF that nobody preserved", "flags that do not fit the header type", vf_alone },
	{ "verdict for a PF", "DMA verdict for what nobody preserved", verdict },
	{ "PF as a bridge", "flags that do not fit the header type", pf_bridge },
	{ "bridge ends before VFs", "bus range overlaps another bridge's", bridge_short },
};

KUNIT_ARRAY_PARAM_DESC(iov_damage, damages, name);

static void lu_vfs_damaged(struct kunit *test)
{
	const struct damage *damage = test->param_value;
	struct fake *fake = fake_set(test);
	struct pci_lu_error err;

	KUNIT_ASSERT_EQ(test, check(fake, &err), 0);
	damage->apply(fake->recs, &fake->recs[IOV].iov);
	KUNIT_EXPECT_EQ(test, check(fake, &err), -EINVAL);
	KUNIT_EXPECT_STREQ(test, err.why, damage->why);
}

/* Its user preserves it, too, and may be the only one */
static void lu_vfs_of_a_user(struct kunit *test)
{
	struct fake *fake = fake_set(test);
	struct pci_lu_error err;

	fake->recs[IOV].iov.owner = PCI_LIVEUPDATE_PF_USER;
	fake->recs[PF].flags |= PCI_LIVEUPDATE_F_ENDPOINT;
	fake->recs[PF].dma = PCI_LIVEUPDATE_DMA_UNTRANSLATED;
	fake->recs[PF].use_count++;
	fake->recs[BRIDGE].use_count++;
	KUNIT_EXPECT_EQ(test, check(fake, &err), 0);
	memset(&fake->recs[VF0], 0, sizeof(fake->recs[VF0]));
	memset(&fake->recs[VF3], 0, sizeof(fake->recs[VF3]));
	fake->recs[PF].use_count = 1;
	fake->recs[BRIDGE].use_count = 1;
	fake->header.nr_records -= 2;
	KUNIT_EXPECT_EQ(test, check(fake, &err), 0);
}

/* A driver that keeps them is nobody who preserves anything, as pci-pf-stub is not */
static void lu_vfs_of_a_driver(struct kunit *test)
{
	struct fake *fake = fake_set(test);
	struct pci_lu_error err;

	fake->recs[IOV].iov.owner = PCI_LIVEUPDATE_PF_NATIVE;
	KUNIT_EXPECT_EQ(test, check(fake, &err), 0);
}

static const char *keeps(struct pci_dev *pf)
{
	return NULL;
}

static void removes(struct pci_dev *dev)
{
}

/* Who may have a Physical Function, by who had it when its Virtual Functions were preserved */
static void lu_pf_drivers(struct kunit *test)
{
	static const struct {
		const char *name;
		struct pci_driver drv;
		u8 owners;
	} drivers[] = {
		{ "any", {}, 0 },
		{ "pci-pf-stub", { .live_update = true },
		  BIT(PCI_LIVEUPDATE_PF_NOBODY) | BIT(PCI_LIVEUPDATE_PF_STUB) },
		{ "vfio-pci", { .live_update = true, .remove = removes },
		  BIT(PCI_LIVEUPDATE_PF_USER) },
		{ "igb", { .live_update_pf = keeps, .remove = removes },
		  BIT(PCI_LIVEUPDATE_PF_NATIVE) },
		{ "both", { .live_update = true, .live_update_pf = keeps },
		  BIT(PCI_LIVEUPDATE_PF_NATIVE) },
	};
	struct fake *fake = fake_set(test);
	struct pci_sriov *sriov = kunit_kzalloc(test, sizeof(*sriov), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, sriov);
	fake->dev.sriov = sriov;
	fake->dev.lu_outgoing = &fake->recs[PF];
	sriov->lu_outgoing = &fake->recs[IOV];
	for (int i = 0; i < ARRAY_SIZE(drivers); i++)
		for (int owner = 0; owner < PCI_LIVEUPDATE_PF_NR; owner++) {
			fake->recs[IOV].iov.owner = owner;
			KUNIT_EXPECT_EQ_MSG(test, pci_lu_pf_suits(&fake->dev, &drivers[i].drv),
					    !!(drivers[i].owners & BIT(owner)), "%s, owner %d",
					    drivers[i].name, owner);
		}
}

/* The first version has no word for any of it */
static void lu_vfs_in_version_1(struct kunit *test)
{
	struct fake *fake = fake_set(test);
	struct pci_lu_error err;

	fake->header.version = PCI_LIVEUPDATE_ABI_V1;
	KUNIT_EXPECT_EQ(test, check(fake, &err), -EINVAL);
	for (int i = PF; i <= VF3; i++)
		KUNIT_EXPECT_EQ(test, pci_lu_abi_of(&fake->recs[i]), PCI_LIVEUPDATE_ABI_V2);
}

/* --- beside others ----------------------------------------------------------------- */

static struct pci_liveupdate_record_ser bridge_on_bus_1(u8 secondary, u8 subordinate)
{
	return (struct pci_liveupdate_record_ser) {
		.bdf = PCI_DEVID(1, PCI_DEVFN(2, 0)), .use_count = 1,
		.flags = PCI_LIVEUPDATE_F_BRIDGE, .hdr_type = PCI_HEADER_TYPE_BRIDGE,
		.secondary = secondary, .subordinate = subordinate,
	};
}

static void lu_vf_buses(struct kunit *test)
{
	static const struct {
		u8 secondary, subordinate;
		int err;
	} bridges[] = {
		{ 2, 2, -EINVAL }, { 2, 5, -EINVAL }, { 3, 3, -EINVAL }, { 3, 5, -EINVAL },
		{ 4, 4, 0 }, { 4, 5, 0 }, { 5, 5, 0 },
	};

	for (int i = 0; i < ARRAY_SIZE(bridges); i++) {
		struct fake *fake = fake_set(test);
		struct pci_lu_error err;

		fake->recs[OTHER] = bridge_on_bus_1(bridges[i].secondary,
						    bridges[i].subordinate);
		fake->header.nr_records++;
		KUNIT_EXPECT_EQ_MSG(test, check(fake, &err), bridges[i].err, "%02x-%02x",
				    bridges[i].secondary, bridges[i].subordinate);
		/* Control: where no Virtual Function can be, there may be a bridge */
		fake->recs[IOV].iov.num = 1;
		fake->recs[IOV].iov.last_bus = 1;
		fake->recs[VF3] = (struct pci_liveupdate_record_ser){};
		fake->recs[PF].use_count--;
		fake->header.nr_records--;
		KUNIT_EXPECT_EQ(test, check(fake, &err), 0);
	}
}

/* Functions of one device share the buses beyond theirs, and have their own places there */
static void lu_vfs_of_two(struct kunit *test)
{
	struct pci_liveupdate_record_ser pf, iov, vf, *slots[9];
	struct fake *fake = fake_set(test);
	struct pci_lu_error err;

	pf = fake->recs[PF];
	pf.bdf++;
	pf.use_count = 1;
	iov = fake->recs[IOV];
	iov.bdf++;
	iov.bars[0].value += SZ_1M;
	iov.bars[3].value += SZ_1M;
	vf = fake->recs[VF3];
	vf.bdf++;
	vf.vf.pf++;
	memcpy(slots, fake->slots, sizeof(fake->slots));
	slots[6] = &pf;
	slots[7] = &iov;
	slots[8] = &vf;
	fake->header.nr_records += 3;
	KUNIT_EXPECT_EQ(test, pci_lu_records_check(&fake->header, slots, 9, &err), 0);
	/* The address space behind a BAR is as large as there may be Virtual Functions */
	iov.bars[3].value = fake->recs[IOV].bars[3].value + 6 * SZ_16K;
	KUNIT_EXPECT_EQ(test, pci_lu_records_check(&fake->header, slots, 9, &err), -EINVAL);
	KUNIT_EXPECT_STREQ(test, err.why, "BAR overlaps another device's");
	iov.bars[3].value += SZ_16K;
	KUNIT_EXPECT_EQ(test, pci_lu_records_check(&fake->header, slots, 9, &err), 0);
	/* One that is another's */
	vf.vf.pf--;
	KUNIT_EXPECT_EQ(test, pci_lu_records_check(&fake->header, slots, 9, &err), -EINVAL);
}

/* --- found again -------------------------------------------------------------------- */

static const struct {
	const char *differs;
	int reg;
} registers[] = {
	{ "SR-IOV Control", PCI_SRIOV_CTRL },
	{ "number of Virtual Functions", PCI_SRIOV_NUM_VF },
	{ "number of Virtual Functions", PCI_SRIOV_TOTAL_VF },
	{ "number of Virtual Functions", PCI_SRIOV_INITIAL_VF },
	{ "offset or stride of Virtual Functions", PCI_SRIOV_VF_OFFSET },
	{ "offset or stride of Virtual Functions", PCI_SRIOV_VF_STRIDE },
	{ "SR-IOV capability", PCI_SRIOV_CAP },
	{ "SR-IOV capability", PCI_SRIOV_FUNC_LINK },
	{ "SR-IOV capability", PCI_SRIOV_VF_DID },
	{ "System Page Size", PCI_SRIOV_SYS_PGSIZE },
	{ "VF BAR", PCI_SRIOV_BAR + 3 },
	{ "VF BAR", PCI_SRIOV_BAR + 7 },
	{ "VF BAR", PCI_SRIOV_BAR + 15 },
	{ NULL, PCI_SRIOV_STATUS },
	{ NULL, PCI_SRIOV_BAR + 20 },	/* there is none */
};

static void lu_vfs_found_again(struct kunit *test)
{
	struct fake *fake = fake_set(test);
	struct pci_liveupdate_record_ser *rec = &fake->recs[IOV];

	if (PAGE_SIZE > SZ_16K)
		kunit_skip(test, "pages are larger than the BARs");
	KUNIT_EXPECT_NULL(test, pci_lu_iov_mismatch(&fake->dev, rec));
	for (int i = 0; i < ARRAY_SIZE(registers); i++) {
		u8 *byte = &fake->bytes[AT_SRIOV + registers[i].reg];

		*byte ^= 2;
		KUNIT_EXPECT_STREQ(test, pci_lu_iov_mismatch(&fake->dev, rec) ?: "nothing",
				   registers[i].differs ?: "nothing");
		*byte ^= 2;
	}
	/* A kernel with larger pages would map two Virtual Functions at once */
	rec->bars[3].mask = ~(u32)(PAGE_SIZE / 2 - 1);
	KUNIT_EXPECT_STREQ(test, pci_lu_iov_mismatch(&fake->dev, rec),
			   "System Page Size, which is less than a page of this kernel,");
	rec->bars[3].mask = fake_iov.bars[3].mask;
	set(fake, AT_SRIOV, 0, 4);
	pci_forget_capabilities(&fake->dev);
	KUNIT_EXPECT_STREQ(test, pci_lu_iov_mismatch(&fake->dev, rec) ?: "nothing",
			   "SR-IOV capability");
	pci_forget_capabilities(&fake->dev);
	KUNIT_EXPECT_EQ(test, fake->writes, 0);
}

/* The way up from a Virtual Function on a bus that no bridge leads to */
static void lu_way_up(struct kunit *test)
{
	struct fake *root = fake_set(test), *fake = fake_set(test), *virt = fake_set(test);

	root->bus.number = 0;
	fake->bus.parent = &root->bus;
	fake->bus.self = &root->dev;
	virt->bus.parent = &fake->bus;
	virt->bus.number = 2;
	virt->dev.is_virtfn = 1;
	virt->dev.physfn = &fake->dev;
	KUNIT_EXPECT_PTR_EQ(test, pci_lu_up(&virt->dev), &fake->dev);
	KUNIT_EXPECT_PTR_EQ(test, pci_lu_up(&fake->dev), &root->dev);
	KUNIT_EXPECT_NULL(test, pci_lu_up(&root->dev));
	/* What the core calls the bridge above is the Physical Function's */
	KUNIT_EXPECT_PTR_EQ(test, pci_upstream_bridge(&virt->dev), &root->dev);
}

/* Until when is a Physical Function that nobody took back not reset? */
static void lu_vfs_need_it(struct kunit *test)
{
	struct fake *fake = fake_set(test);
	struct pci_lu_incoming in = { .rec = &fake->recs[PF], .iov = &fake->recs[IOV] };

	KUNIT_EXPECT_FALSE(test, pci_lu_vfs_need(&fake->dev));
	fake->dev.lu_outgoing = &fake->recs[PF];
	KUNIT_EXPECT_TRUE(test, pci_lu_vfs_need(&fake->dev));
	fake->dev.lu_outgoing = NULL;

	/* Two that are not finished; its own session does not count, nor that it is over */
	fake->dev.lu_incoming = &in;
	in.users = 2;
	KUNIT_EXPECT_TRUE(test, pci_lu_vfs_need(&fake->dev));
	fake->recs[PF].flags |= PCI_LIVEUPDATE_F_ENDPOINT;
	KUNIT_EXPECT_TRUE(test, pci_lu_vfs_need(&fake->dev));
	in.users = 1;
	KUNIT_EXPECT_FALSE(test, pci_lu_vfs_need(&fake->dev));
	fake->recs[PF].flags &= ~PCI_LIVEUPDATE_F_ENDPOINT;
	KUNIT_EXPECT_TRUE(test, pci_lu_vfs_need(&fake->dev));
	/* Those of a function that is lost have ended */
	set_bit(PCI_LU_LOST, &fake->dev.lu_flags);
	KUNIT_EXPECT_FALSE(test, pci_lu_vfs_need(&fake->dev));
}

static struct kunit_case lu_iov_cases[] = {
	KUNIT_CASE_PARAM(lu_vfs_damaged, iov_damage_gen_params),
	KUNIT_CASE(lu_vfs_of_a_user),
	KUNIT_CASE(lu_vfs_of_a_driver),
	KUNIT_CASE(lu_pf_drivers),
	KUNIT_CASE(lu_vfs_in_version_1),
	KUNIT_CASE(lu_vf_buses),
	KUNIT_CASE(lu_vfs_of_two),
	KUNIT_CASE(lu_vfs_found_again),
	KUNIT_CASE(lu_way_up),
	KUNIT_CASE(lu_vfs_need_it),
	{}
};

static struct kunit_suite lu_iov_suite = {
	.name		= "pci_liveupdate_iov",
	.test_cases	= lu_iov_cases,
};

kunit_test_suite(lu_iov_suite);
