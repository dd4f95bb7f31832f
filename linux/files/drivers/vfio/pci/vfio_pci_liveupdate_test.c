// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for the versions of what vfio-pci hands over: what is written in one is
 * read back, both say the same, and nothing that is damaged is followed.
 */

#include <kunit/test.h>
#include <linux/array_size.h>
#include <linux/prandom.h>
#include <linux/random.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "vfio_pci_liveupdate.h"
#include "vfio_pci_priv.h"

#define CONFIG_SIZE	VFIO_PCI_LIVEUPDATE_CONFIG_SIZE
#define VECTORS	100
#define STATE_SIZE	184

/* Configuration space of a NIC with what such cards have; PCI_CAP_ID_BASIC is at 0 */
static const struct {
	u16 offset;
	u16 size;
	u8 id;
} nic_caps[] = {
	{ 0x000, 0x40, 0 },
	{ 0x040, 0x08, PCI_CAP_ID_PM },
	{ 0x050, 0x18, PCI_CAP_ID_MSI },
	{ 0x070, 0x0c, PCI_CAP_ID_MSIX },
	{ 0x0a0, 0x3c, PCI_CAP_ID_EXP },
	{ 0x0e0, 0x08, PCI_CAP_ID_VPD },
	{ 0x100, 0x48, PCI_EXT_CAP_ID_ERR },
	{ 0x148, 0x1c, PCI_EXT_CAP_ID_VC },
	{ 0x164, 0x0c, PCI_EXT_CAP_ID_DSN },
	{ 0x170, 0x10, PCI_EXT_CAP_ID_PWR },
	{ 0x180, 0x08, PCI_EXT_CAP_ID_ARI },
	{ 0x188, 0x08, PCI_EXT_CAP_ID_ACS },
	{ 0x190, 0x0c, PCI_EXT_CAP_ID_LTR },
	{ 0x1a0, 0x40, PCI_EXT_CAP_ID_SRIOV },
	{ 0x1e0, 0x60, PCI_EXT_CAP_ID_SECPCI },
	{ 0x240, 0x100, PCI_EXT_CAP_ID_TPH },
};

struct fixture {
	u8 map[CONFIG_SIZE];
	u8 vconfig[CONFIG_SIZE];
	struct vfio_pci_liveupdate_ser *ser;
	size_t room;
};

static struct fixture *fixture(struct kunit *test)
{
	struct fixture *f = kunit_kzalloc(test, sizeof(*f), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, f);
	memset(f->map, PCI_CAP_ID_INVALID, sizeof(f->map));
	for (int i = 0; i < ARRAY_SIZE(nic_caps); i++)
		memset(f->map + nic_caps[i].offset, nic_caps[i].id, nic_caps[i].size);
	f->map[0xff] = PCI_CAP_ID_INVALID_VIRT;
	for (int i = 0; i < CONFIG_SIZE; i++)
		f->vconfig[i] = i * 7 + 1;
	f->room = vfio_pci_liveupdate_size(f->map, CONFIG_SIZE, VECTORS, STATE_SIZE);
	return f;
}

/* As vfio_pci_liveupdate_save() does, into memory that ends where it should */
static void write_as(struct kunit *test, struct fixture *f, u32 version)
{
	size_t room = version == VFIO_PCI_LIVEUPDATE_ABI_V1 ?
		      sizeof(struct vfio_pci_liveupdate_v1_ser) : f->room;
	struct vfio_pci_liveupdate_parts parts;

	f->ser = kunit_kmalloc(test, room, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, f->ser);
	memset(f->ser, 0xa5, room);
	*f->ser = (struct vfio_pci_liveupdate_ser){
		.version = version, .bdf = 0x300, .flags = VFIO_PCI_LIVEUPDATE_F_NOIOMMU,
	};
	vfio_pci_liveupdate_begin(f->ser, room, f->vconfig, f->map, CONFIG_SIZE, VECTORS,
				  &parts);
	f->ser->irq_type = VFIO_PCI_MSIX_IRQ_INDEX;
	parts.armed[1] = BIT_ULL(35);
	parts.signalled[0] = BIT_ULL(3);
	KUNIT_ASSERT_GE(test, parts.state_room, STATE_SIZE);
	memset(parts.state, 0x5a, STATE_SIZE);
	f->ser->state_size = STATE_SIZE;
	vfio_pci_liveupdate_end(f->ser, &parts);
}

static const u32 versions[] = { VFIO_PCI_LIVEUPDATE_ABI_V1, VFIO_PCI_LIVEUPDATE_ABI_V2 };

static void version_name(const u32 *version, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%#x", *version);
}

KUNIT_ARRAY_PARAM(version, versions, version_name);

static void both_come_back(struct kunit *test)
{
	u32 version = *(const u32 *)test->param_value;
	struct fixture *f = fixture(test);
	struct vfio_pci_liveupdate_parts parts;
	u8 *vconfig = kunit_kzalloc(test, CONFIG_SIZE, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, vconfig);
	write_as(test, f, version);
	KUNIT_ASSERT_TRUE(test, vfio_pci_liveupdate_parse(f->ser, &parts));
	KUNIT_EXPECT_EQ(test, f->ser->bdf, 0x300);
	KUNIT_EXPECT_GE(test, parts.nr_vectors, VECTORS);
	KUNIT_EXPECT_EQ(test, parts.armed[0], 0);
	KUNIT_EXPECT_EQ(test, parts.armed[1], BIT_ULL(35));
	KUNIT_EXPECT_EQ(test, parts.signalled[0], BIT_ULL(3));
	KUNIT_EXPECT_EQ(test, f->ser->state_size, STATE_SIZE);
	KUNIT_EXPECT_NULL(test, memchr_inv(parts.state, 0x5a, STATE_SIZE));

	/* The next kernel hides one capability, and takes another for something else */
	memset(f->map + 0x164, PCI_CAP_ID_INVALID, 0x0c);
	memset(f->map + 0x180, PCI_EXT_CAP_ID_PRI, 0x08);
	vconfig[PCI_INTERRUPT_PIN] = 9;
	vfio_pci_liveupdate_load_config(f->ser, &parts, vconfig, f->map, CONFIG_SIZE);
	for (int i = 0; i < CONFIG_SIZE; i++) {
		bool there = f->map[i] < PCI_CAP_ID_INVALID_VIRT &&
			     f->map[i] != PCI_EXT_CAP_ID_PRI;

		/* Version 1 has bytes of no capability, too, which nobody reads */
		if (!there && f->map[i] != PCI_EXT_CAP_ID_PRI &&
		    version == VFIO_PCI_LIVEUPDATE_ABI_V1 && !(i >= 0x164 && i < 0x170))
			continue;
		KUNIT_EXPECT_EQ_MSG(test, vconfig[i], i == PCI_INTERRUPT_PIN ? 9 :
				    there ? f->vconfig[i] : 0, "offset %#x", i);
	}

	/* Conventional configuration space, of a kernel that sees no more */
	memset(vconfig, 0, CONFIG_SIZE);
	vfio_pci_liveupdate_load_config(f->ser, &parts, vconfig, f->map, 256);
	KUNIT_EXPECT_NULL(test, memchr_inv(vconfig + 256, 0, CONFIG_SIZE - 256));
	KUNIT_EXPECT_EQ(test, vconfig[0x40], f->vconfig[0x40]);
}

static void second_is_small(struct kunit *test)
{
	struct fixture *f = fixture(test);

	write_as(test, f, VFIO_PCI_LIVEUPDATE_ABI_V2);
	kunit_info(test, "a NIC with %zu capabilities: %u bytes\n", ARRAY_SIZE(nic_caps) - 1,
		   f->ser->size);
	KUNIT_EXPECT_EQ(test, f->ser->size, f->room);
	KUNIT_EXPECT_LE(test, f->ser->size, SZ_2K);
	write_as(test, f, VFIO_PCI_LIVEUPDATE_ABI_V1);
	KUNIT_EXPECT_EQ(test, f->ser->size, 10816);

	/* Nothing is in use, and everything is: capabilities of four bytes */
	memset(f->map, PCI_CAP_ID_INVALID, CONFIG_SIZE);
	KUNIT_EXPECT_EQ(test, vfio_pci_liveupdate_size(f->map, CONFIG_SIZE, 1, 0),
			sizeof(*f->ser) + 16);
	for (int i = 0; i < CONFIG_SIZE; i++)
		f->map[i] = i / 4 % 2;
	f->room = vfio_pci_liveupdate_size(f->map, CONFIG_SIZE, VFIO_PCI_LIVEUPDATE_VECTORS,
					   STATE_SIZE);
	write_as(test, f, VFIO_PCI_LIVEUPDATE_ABI_V2);
	KUNIT_EXPECT_EQ(test, f->ser->nr_spans, CONFIG_SIZE / 4);
}

/* The first span of version 2 */
static struct vfio_pci_liveupdate_span_ser *span(struct vfio_pci_liveupdate_ser *ser)
{
	return (void *)(ser + 1) + 2 * (ser->nr_vectors / 8);
}

static void other_version(struct vfio_pci_liveupdate_ser *s)	{ s->version += 2; }
static void foreign(struct vfio_pci_liveupdate_ser *s)		{ s->version = 1; }
static void too_short(struct vfio_pci_liveupdate_ser *s)	{ s->size -= 8; }
static void too_long(struct vfio_pci_liveupdate_ser *s)		{ s->size += 8; }
static void unknown_flag(struct vfio_pci_liveupdate_ser *s)	{ s->flags |= 0x8000; }
static void sriov(struct vfio_pci_liveupdate_ser *s) { s->flags |= VFIO_PCI_LIVEUPDATE_F_SRIOV; }
static void large_config(struct vfio_pci_liveupdate_ser *s)	{ s->config_size = 4097; }
static void other_irq(struct vfio_pci_liveupdate_ser *s)	{ s->irq_type = 3; }
static void reserved(struct vfio_pci_liveupdate_ser *s)		{ s->reserved[10] = 1; }
static void large_state(struct vfio_pci_liveupdate_ser *s)	{ s->state_size = 0xffff; }
static void vectors(struct vfio_pci_liveupdate_ser *s)		{ s->nr_vectors += 64; }
static void odd_vectors(struct vfio_pci_liveupdate_ser *s)	{ s->nr_vectors += 1; }
static void many_vectors(struct vfio_pci_liveupdate_ser *s)	{ s->nr_vectors = 0xffc0; }
static void spans(struct vfio_pci_liveupdate_ser *s)		{ s->nr_spans += 1; }
static void many_spans(struct vfio_pci_liveupdate_ser *s)	{ s->nr_spans = 0xffff; }
static void small_config(struct vfio_pci_liveupdate_ser *s)	{ s->config_size = 0x200; }
static void backwards(struct vfio_pci_liveupdate_ser *s)	{ span(s)[1].offset = 0x3f; }
static void empty(struct vfio_pci_liveupdate_ser *s)		{ span(s)->size ^= 0x40; }
static void beyond(struct vfio_pci_liveupdate_ser *s)		{ span(s)[15].offset = 0xf01; }
static void no_capability(struct vfio_pci_liveupdate_ser *s)	{ span(s)->id = 0xfe; }
static void span_reserved(struct vfio_pci_liveupdate_ser *s)	{ span(s)->reserved[2] = 1; }

/* One way to damage it, and from which version on there is such a thing */
static const struct damage {
	const char *name;
	void (*apply)(struct vfio_pci_liveupdate_ser *ser);
	bool second;
} damages[] = {
	{ "another version", other_version },
	{ "foreign version", foreign },
	{ "too short", too_short },
	{ "too long", too_long },
	{ "unknown flag", unknown_flag },
	{ "no code for SR-IOV", sriov },
	{ "large configuration space", large_config },
	{ "other interrupt", other_irq },
	{ "reserved field", reserved },
	{ "large state", large_state },
	{ "vectors", vectors },
	{ "odd vectors", odd_vectors },
	{ "many vectors", many_vectors },
	{ "spans", spans },
	{ "many spans", many_spans },
	{ "small configuration space", small_config, true },
	{ "spans out of order", backwards, true },
	{ "empty span", empty, true },
	{ "span beyond the end", beyond, true },
	{ "span of no capability", no_capability, true },
	{ "reserved field of a span", span_reserved, true },
};

static void damage_name(const struct damage *damage, char *desc)
{
	strscpy(desc, damage->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(damage, damages, damage_name);

static void damaged_is_refused(struct kunit *test)
{
	const struct damage *damage = test->param_value;
	struct vfio_pci_liveupdate_parts parts;
	struct fixture *f = fixture(test);

	for (int i = damage->second; i < ARRAY_SIZE(versions); i++) {
		write_as(test, f, versions[i]);
		KUNIT_ASSERT_TRUE(test, vfio_pci_liveupdate_parse(f->ser, &parts));
		damage->apply(f->ser);
		KUNIT_EXPECT_FALSE(test, vfio_pci_liveupdate_parse(f->ser, &parts));
	}
}

/* What is accepted is read within its memory, which KASAN looks at */
static void random_is_survived(struct kunit *test)
{
	struct fixture *f = fixture(test);
	u64 seed = get_random_u32();
	unsigned int accepted = 0;
	struct rnd_state rnd;
	void *good;

	kunit_info(test, "seed %llu\n", seed);
	prandom_seed_state(&rnd, seed);
	write_as(test, f, VFIO_PCI_LIVEUPDATE_ABI_V2);
	good = kunit_kmalloc(test, f->room, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, good);
	memcpy(good, f->ser, f->room);

	for (unsigned int i = 0; i < 50000; i++) {
		struct vfio_pci_liveupdate_parts parts;

		memcpy(f->ser, good, f->room);
		for (unsigned int n = 1 + prandom_u32_state(&rnd) % 3; n; n--) {
			u32 r = prandom_u32_state(&rnd);
			size_t at = r & 1 ? r >> 8 : (r >> 8) % (sizeof(*f->ser) + 200);

			/* What the memory ends at is known from elsewhere */
			at = at % f->room;
			if (at < 4 || at >= 8)
				((u8 *)f->ser)[at] ^= BIT(r >> 1 & 7);
		}
		if (!vfio_pci_liveupdate_parse(f->ser, &parts))
			continue;
		accepted++;
		KUNIT_ASSERT_LE(test, (size_t)(parts.state - (void *)f->ser) + f->ser->state_size,
				f->room);
		vfio_pci_liveupdate_load_config(f->ser, &parts, f->vconfig, f->map, CONFIG_SIZE);
	}
	kunit_info(test, "%u of 50000 accepted\n", accepted);
	KUNIT_EXPECT_GT(test, accepted, 5000);
	KUNIT_EXPECT_LT(test, accepted, 45000);
}

static struct kunit_case vfio_pci_lu_cases[] = {
	KUNIT_CASE_PARAM(both_come_back, version_gen_params),
	KUNIT_CASE(second_is_small),
	KUNIT_CASE_PARAM(damaged_is_refused, damage_gen_params),
	KUNIT_CASE(random_is_survived),
	{}
};

static struct kunit_suite vfio_pci_lu_suite = {
	.name		= "vfio_pci_liveupdate",
	.test_cases	= vfio_pci_lu_cases,
};

kunit_test_suite(vfio_pci_lu_suite);
