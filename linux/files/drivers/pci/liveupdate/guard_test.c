// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for the guard of preserved PCI devices: through the accessors of
 * the PCI core, down to a configuration space that behaves like hardware.
 */

#include <kunit/test.h>
#include <linux/pci.h>
#include <linux/prandom.h>
#include <linux/string.h>

#include "../pci.h"
#include "internal.h"

#define AT_PM	0x40
#define AT_EXP	0x60
#define AT_ACS	0x100
#define AT_DPC	0x120
#define AT_SRIOV 0x160

/*
 * What the specification says of a function with these capabilities, bit by bit
 * and in numbers, so that it shares no mistake with the table it is compared to.
 */
struct model {
	u16 offset;
	u32 fixed;	/* may not change */
	u32 rises;	/* ... but for being set */
	u32 clears;	/* cleared by a one */
};

static const struct model bridge_model[] = {
	{ 0x004, 0x00000007, 0x00000007, 0xf9000000 },	/* Command, Status */
	{ 0x010, 0xfffffffc },				/* BAR 0 */
	{ 0x014, 0xffffffff },				/* BAR 1 */
	{ 0x018, 0x00ffffff },				/* bus numbers, Latency Timer */
	{ 0x01c, 0x0000fcfc, 0, 0xf9000000 },		/* I/O, Secondary Status */
	{ 0x020, 0xfff0fff0 },				/* memory */
	{ 0x024, 0xfff0fff0 },				/* prefetchable memory */
	{ 0x028, 0xffffffff },				/* ... its upper halves */
	{ 0x02c, 0xffffffff },
	{ 0x030, 0xffffffff },				/* I/O, upper halves */
	{ 0x038, 0xfffff801 },				/* ROM */
	{ 0x03c, 0x005c0000, 0, 0x04000000 },		/* Interrupt, Bridge Control */
	{ 0x044, 0x00000003, 0, 0x00008000 },		/* PMCSR */
	{ 0x068, 0x000000e0, 0, 0x004f0000 },		/* Device Control, Status */
	{ 0x070, 0x00000073, 0, 0xc0000000 },		/* Link Control, Status */
	{ 0x078, 0x00000c00, 0, 0x011f0000 },		/* Slot Control, Status */
	{ 0x088, 0x000080a0 },				/* Device Control 2 */
	{ 0x104, 0xffff0000 },				/* ACS Capability, Control */
	{ 0x124, 0x00400000 },				/* DPC Capability, Control */
	{}
};

/* A Physical Function above a Virtual one, before the kexec */
static const struct model pf_model[] = {
	{ 0x004, 0, 0, 0xf9000000 },			/* Command, Status */
	{ 0x044, 0x00000003, 0, 0x00008000 },		/* PMCSR */
	{ 0x068, 0x0000f1e0, 0, 0x004f0000 },		/* Device Control, Status */
	{ 0x104, 0xffff0000 },				/* ACS Capability, Control */
	{ 0x168, 0x0000ffff, 0, 0x00010000 },		/* SR-IOV Control, Status */
	{ 0x170, 0x0000ffff },				/* NumVFs, Dependency Link */
	{ 0x180, 0xffffffff },				/* System Page Size */
	{ 0x184, 0xfffffff0 },				/* VF BARs */
	{ 0x188, 0xffffffff },
	{ 0x18c, 0xffffffff },
	{ 0x190, 0xffffffff },
	{ 0x194, 0xffffffff },
	{ 0x198, 0xffffffff },
	{}
};

struct fake {
	u8 host[256];		/* what the architecture has in sysdata: zero */
	u8 config[PCI_CFG_SPACE_EXP_SIZE];
	unsigned int writes;
	struct pci_bus bus;
	struct pci_dev dev;
	struct pci_bus below;
	struct rnd_state rnd;
	const struct model *model;
};

/* The last one, of no register, leaves everybody free */
static const struct model *model_of(struct fake *fake, int where)
{
	const struct model *model = fake->model;

	while (model->offset && model->offset != (where & ~3))
		model++;
	return model;
}

static u32 config_get(struct fake *fake, int where, int size)
{
	u32 value = 0;

	for (int i = 0; i < size; i++)
		value |= (u32)fake->config[where + i] << 8 * i;
	return value;
}

static void config_set(struct fake *fake, int where, int size, u32 value)
{
	for (int i = 0; i < size; i++)
		fake->config[where + i] = value >> 8 * i;
}

static struct fake *fake_of(struct pci_bus *bus)
{
	return container_of((u8 (*)[256])bus->sysdata, struct fake, host);
}

static int fake_read(struct pci_bus *bus, unsigned int devfn, int where,
		     int size, u32 *val)
{
	*val = config_get(fake_of(bus), where, size);
	return PCIBIOS_SUCCESSFUL;
}

static int fake_write(struct pci_bus *bus, unsigned int devfn, int where,
		      int size, u32 val)
{
	struct fake *fake = fake_of(bus);
	u32 clears = model_of(fake, where)->clears >> 8 * (where & 3);
	u32 was = config_get(fake, where, size);

	fake->writes++;
	config_set(fake, where, size, (val & ~clears) | (was & ~val & clears));
	return PCIBIOS_SUCCESSFUL;
}

static struct pci_ops fake_ops = {
	.read	= fake_read,
	.write	= fake_write,
};

static void guard_update(struct fake *fake)
{
	guard(rwsem_write)(&pci_lu_rwsem);
	pci_lu_guard_update(&fake->dev);
}

static void guard_drop(void *data)
{
	struct fake *fake = data;

	fake->dev.lu_flags = 0;
	guard_update(fake);
	pci_lu_guard_end();
	pci_forget_capabilities(&fake->dev);
}

/* ee:1f.7 with a layout as in the model, guarded because of @bit */
static struct fake *fake_guarded(struct kunit *test, u8 hdr_type, int bit)
{
	struct fake *fake = kunit_kzalloc(test, sizeof(*fake), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, fake);
	prandom_seed_state(&fake->rnd, 7);
	fake->model = bridge_model;
	fake->bus.ops = &fake_ops;
	fake->bus.sysdata = fake->host;
	fake->bus.number = 0xee;
	fake->below = fake->bus;
	fake->below.number = 0xef;
	fake->below.self = &fake->dev;
	fake->below.parent = &fake->bus;
	fake->dev.bus = &fake->bus;
	fake->dev.devfn = PCI_DEVFN(0x1f, 7);
	fake->dev.hdr_type = hdr_type;
	fake->dev.cfg_size = PCI_CFG_SPACE_EXP_SIZE;

	config_set(fake, PCI_STATUS, 2, PCI_STATUS_CAP_LIST);
	config_set(fake, PCI_CAPABILITY_LIST, 1, AT_PM);
	config_set(fake, AT_PM, 2, PCI_CAP_ID_PM | AT_EXP << 8);
	config_set(fake, AT_EXP, 2, PCI_CAP_ID_EXP);
	fake->dev.pcie_cap = AT_EXP;
	fake->dev.pcie_flags_reg = 0x0162;			/* v2, a slot */
	config_set(fake, AT_ACS, 4, PCI_EXT_CAP_ID_ACS | 1 << 16 | AT_DPC << 20);
	config_set(fake, AT_DPC, 4, PCI_EXT_CAP_ID_DPC | 1 << 16 | AT_SRIOV << 20);
	config_set(fake, AT_SRIOV, 4, PCI_EXT_CAP_ID_SRIOV | 1 << 16);

	set_bit(bit, &fake->dev.lu_flags);
	pci_lu_guard_start();
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, guard_drop, fake), 0);
	return fake;
}

static int bus_write(struct fake *fake, int where, int size, u32 value)
{
	switch (size) {
	case 1:
		return pci_bus_write_config_byte(&fake->bus, fake->dev.devfn, where, value);
	case 2:
		return pci_bus_write_config_word(&fake->bus, fake->dev.devfn, where, value);
	default:
		return pci_bus_write_config_dword(&fake->bus, fake->dev.devfn, where, value);
	}
}

static int user_write(struct fake *fake, int where, int size, u32 value)
{
	switch (size) {
	case 1:
		return pci_user_write_config_byte(&fake->dev, where, value);
	case 2:
		return pci_user_write_config_word(&fake->dev, where, value);
	default:
		return pci_user_write_config_dword(&fake->dev, where, value);
	}
}

/* One write against the model: what must be there now, and what counts */
static void try_write(struct kunit *test, struct fake *fake, int where, int size,
		      u32 value, bool user)
{
	const struct model *model = model_of(fake, where);
	u32 was = config_get(fake, where, size), want = was, got;
	unsigned int count = pci_lu_guard_count(&fake->dev);
	bool bad = false, effect = false;
	int err;

	for (int bit = 0; bit < 8 * size; bit++) {
		int at = bit + 8 * (where & 3);
		bool old = was >> bit & 1, new = value >> bit & 1, end = new;

		if (model->clears >> at & 1) {
			end = old && !new;
			effect |= new;
		} else if (model->fixed >> at & 1 && old != new &&
			   !(new && model->rises >> at & 1)) {
			end = old;
			bad = true;
		}
		effect |= end != old;
		want &= ~((u32)1 << bit);
		want |= (u32)end << bit;
	}

	fake->writes = 0;
	err = user ? user_write(fake, where, size, value) :
		     bus_write(fake, where, size, value);
	got = config_get(fake, where, size);
	if (got != want || fake->writes != (!bad || effect) || !!err == (!bad || effect) ||
	    pci_lu_guard_count(&fake->dev) - count != bad)
		KUNIT_FAIL(test, "%#x/%d <- %#x over %#x: %#x, not %#x; %u through, %u dropped\n",
			   where, size, value, was, got, want, fake->writes,
			   pci_lu_guard_count(&fake->dev) - count);
}

static void try_all(struct kunit *test, struct fake *fake, bool user)
{
	for (int size = 1; size <= 4; size *= 2) {
		u32 ones = GENMASK(8 * size - 1, 0);

		for (int where = 0; where < PCI_CFG_SPACE_EXP_SIZE; where += size) {
			u32 random = prandom_u32_state(&fake->rnd) & ones;
			u32 was = prandom_u32_state(&fake->rnd) & ones;
			u32 values[] = { 0, ones, was, ~was & ones, random };

			for (int i = 0; i < ARRAY_SIZE(values) + 8 * size; i++) {
				u32 value = i < ARRAY_SIZE(values) ? values[i] :
					    was ^ 1U << (i - ARRAY_SIZE(values));

				config_set(fake, where, size, was);
				try_write(test, fake, where, size, value, user);
			}
		}
	}
}

static void lu_guard_bridge_outgoing(struct kunit *test)
{
	struct fake *fake = fake_guarded(test, PCI_HEADER_TYPE_BRIDGE, PCI_LU_OUTGOING);

	guard_update(fake);
	try_all(test, fake, false);
}

static void lu_guard_pf_outgoing(struct kunit *test)
{
	struct fake *fake = fake_guarded(test, PCI_HEADER_TYPE_NORMAL, PCI_LU_OUTGOING);

	fake->model = pf_model;
	set_bit(PCI_LU_PF, &fake->dev.lu_flags);
	guard_update(fake);
	try_all(test, fake, false);
}

/* In the next kernel it takes no write at all, and is as before when that is over */
static void lu_guard_pf_incoming(struct kunit *test)
{
	struct fake *fake = fake_guarded(test, PCI_HEADER_TYPE_NORMAL, PCI_LU_ADOPTED);

	fake->model = pf_model;
	set_bit(PCI_LU_PF, &fake->dev.lu_flags);
	guard_update(fake);
	KUNIT_EXPECT_NE(test, bus_write(fake, PCI_CACHE_LINE_SIZE, 1, 0), 0);
	set_bit(PCI_LU_OUTGOING, &fake->dev.lu_flags);
	guard_update(fake);
	KUNIT_EXPECT_NE(test, bus_write(fake, PCI_CACHE_LINE_SIZE, 1, 0), 0);
	clear_bit(PCI_LU_ADOPTED, &fake->dev.lu_flags);
	guard_update(fake);
	KUNIT_EXPECT_EQ(test, bus_write(fake, PCI_CACHE_LINE_SIZE, 1, 0), 0);
	KUNIT_EXPECT_NE(test, bus_write(fake, AT_SRIOV + PCI_SRIOV_CTRL, 2, 1), 0);
	clear_bit(PCI_LU_OUTGOING, &fake->dev.lu_flags);
	guard_update(fake);
	KUNIT_EXPECT_EQ(test, bus_write(fake, AT_SRIOV + PCI_SRIOV_CTRL, 2, 1), 0);
	KUNIT_EXPECT_EQ(test, pci_lu_guard_count(&fake->dev), 3);
}

/* Whose owner has it back, or has been stopped */
static void lu_guard_pf_settled(struct kunit *test, int bit)
{
	struct fake *fake = fake_guarded(test, PCI_HEADER_TYPE_NORMAL, PCI_LU_ADOPTED);

	fake->model = pf_model;
	set_bit(PCI_LU_PF, &fake->dev.lu_flags);
	set_bit(bit, &fake->dev.lu_flags);
	guard_update(fake);
	try_all(test, fake, false);
	set_bit(PCI_LU_LOST, &fake->dev.lu_flags);
	guard_update(fake);
	KUNIT_EXPECT_EQ(test, bus_write(fake, AT_SRIOV + PCI_SRIOV_CTRL, 2, 1), 0);
}

static void lu_guard_pf_claimed(struct kunit *test)
{
	lu_guard_pf_settled(test, PCI_LU_CLAIMED);
}

static void lu_guard_pf_stopped(struct kunit *test)
{
	lu_guard_pf_settled(test, PCI_LU_STOPPED);
}

static void lu_guard_bridge_incoming(struct kunit *test)
{
	struct fake *fake = fake_guarded(test, PCI_HEADER_TYPE_BRIDGE, PCI_LU_ADOPTED);

	guard_update(fake);
	try_all(test, fake, false);
}

static void lu_guard_bridge_user_space(struct kunit *test)
{
	struct fake *fake = fake_guarded(test, PCI_HEADER_TYPE_BRIDGE, PCI_LU_OUTGOING);

	guard_update(fake);
	try_all(test, fake, true);
}

/* Each register of the type 0 header and of every capability: nothing gets in */
static void lu_guard_unclaimed(struct kunit *test)
{
	struct fake *fake = fake_guarded(test, PCI_HEADER_TYPE_NORMAL, PCI_LU_ADOPTED);
	u8 *before = kunit_kzalloc(test, sizeof(fake->config), GFP_KERNEL);
	unsigned int tries = 0;

	KUNIT_ASSERT_NOT_NULL(test, before);
	memcpy(before, fake->config, sizeof(fake->config));
	guard_update(fake);
	for (int size = 1; size <= 4; size *= 2) {
		for (int where = 0; where < PCI_CFG_SPACE_EXP_SIZE; where += size) {
			u32 was = config_get(fake, where, size);
			u32 values[] = { 0, GENMASK(8 * size - 1, 0), was, ~was };

			for (int i = 0; i < ARRAY_SIZE(values); i++) {
				if (bus_write(fake, where, size, values[i]) !=
				    PCIBIOS_SET_FAILED)
					KUNIT_FAIL(test, "%d-byte write to %#x\n", size, where);
				KUNIT_EXPECT_EQ(test, user_write(fake, where, size, values[i]),
						-EIO);
				tries += 2;
			}
		}
	}
	KUNIT_EXPECT_EQ(test, fake->writes, 0);
	KUNIT_EXPECT_MEMEQ(test, fake->config, before, sizeof(fake->config));
	KUNIT_EXPECT_EQ(test, pci_lu_guard_count(&fake->dev), tries);
}

/* Its owner may write what he likes, as to any device that is not guarded */
static void lu_guard_claimed(struct kunit *test)
{
	struct fake *fake = fake_guarded(test, PCI_HEADER_TYPE_NORMAL, PCI_LU_ADOPTED);

	guard_update(fake);
	KUNIT_EXPECT_NE(test, bus_write(fake, PCI_COMMAND, 2, 7), 0);
	set_bit(PCI_LU_CLAIMED, &fake->dev.lu_flags);
	guard_update(fake);
	KUNIT_EXPECT_EQ(test, bus_write(fake, PCI_COMMAND, 2, 7), 0);
	KUNIT_EXPECT_EQ(test, fake->writes, 1);
	KUNIT_EXPECT_EQ(test, config_get(fake, PCI_COMMAND, 2), 7);
	/* What was counted is not forgotten */
	KUNIT_EXPECT_EQ(test, pci_lu_guard_count(&fake->dev), 1);
}

static void lu_guard_outgoing_device(struct kunit *test)
{
	struct fake *fake = fake_guarded(test, PCI_HEADER_TYPE_NORMAL, PCI_LU_OUTGOING);

	guard_update(fake);
	KUNIT_EXPECT_EQ(test, bus_write(fake, PCI_BASE_ADDRESS_0, 4, ~0), 0);
	KUNIT_EXPECT_EQ(test, fake->writes, 1);
	KUNIT_EXPECT_EQ(test, pci_lu_guard_count(&fake->dev), 0);
}

static void lu_guard_both_directions(struct kunit *test)
{
	struct fake *fake = fake_guarded(test, PCI_HEADER_TYPE_BRIDGE, PCI_LU_ADOPTED);

	guard_update(fake);
	set_bit(PCI_LU_OUTGOING, &fake->dev.lu_flags);
	guard_update(fake);
	clear_bit(PCI_LU_ADOPTED, &fake->dev.lu_flags);
	guard_update(fake);
	KUNIT_EXPECT_EQ(test, bus_write(fake, PCI_SECONDARY_BUS, 1, 9), PCIBIOS_SET_FAILED);
	clear_bit(PCI_LU_OUTGOING, &fake->dev.lu_flags);
	guard_update(fake);
	KUNIT_EXPECT_EQ(test, bus_write(fake, PCI_SECONDARY_BUS, 1, 9), 0);
	KUNIT_EXPECT_EQ(test, config_get(fake, PCI_SECONDARY_BUS, 1), 9);
}

/* Where a register is not, something else may be: a version 1 port without a slot */
static void lu_guard_old_capability(struct kunit *test)
{
	struct fake *fake = fake_guarded(test, PCI_HEADER_TYPE_BRIDGE, PCI_LU_OUTGOING);

	fake->dev.pcie_flags_reg = 0x0061;
	config_set(fake, AT_ACS, 4, 0);
	guard_update(fake);
	KUNIT_EXPECT_EQ(test, bus_write(fake, AT_EXP + PCI_EXP_DEVCTL2, 2, 0xffff), 0);
	KUNIT_EXPECT_EQ(test, bus_write(fake, AT_EXP + PCI_EXP_SLTCTL, 2, 0xffff), 0);
	KUNIT_EXPECT_EQ(test, bus_write(fake, AT_ACS + PCI_ACS_CTRL, 2, 0xffff), 0);
	KUNIT_EXPECT_EQ(test, pci_lu_guard_count(&fake->dev), 0);
	KUNIT_EXPECT_EQ(test, bus_write(fake, AT_EXP + PCI_EXP_DEVCTL, 1, 0xe0),
			PCIBIOS_SET_FAILED);
}

/* More capabilities than any port has: the first are guarded, and memory is not overrun */
static void lu_guard_endless_list(struct kunit *test)
{
	struct fake *fake = fake_guarded(test, PCI_HEADER_TYPE_BRIDGE, PCI_LU_OUTGOING);
	int last = PCI_CFG_SPACE_EXP_SIZE - 8;

	for (int at = AT_ACS; at <= last; at += 8)
		config_set(fake, at, 4, PCI_EXT_CAP_ID_ACS | 1 << 16 |
				       (at < last ? at + 8 : AT_ACS) << 20);
	guard_update(fake);
	KUNIT_EXPECT_EQ(test, bus_write(fake, PCI_SECONDARY_BUS, 1, 9), PCIBIOS_SET_FAILED);
	KUNIT_EXPECT_EQ(test, bus_write(fake, AT_ACS + PCI_ACS_CTRL, 2, 0xffff),
			PCIBIOS_SET_FAILED);
	KUNIT_EXPECT_EQ(test, bus_write(fake, last + PCI_ACS_CTRL, 2, 0xffff), 0);
}

static void lu_guard_bypass(struct kunit *test)
{
	struct fake *fake = fake_guarded(test, PCI_HEADER_TYPE_BRIDGE, PCI_LU_OUTGOING);
	struct pci_liveupdate_bypass bypass, other;
	struct pci_dev *elsewhere = kunit_kzalloc(test, sizeof(*elsewhere), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, elsewhere);
	elsewhere->bus = &fake->bus;
	elsewhere->devfn = PCI_DEVFN(0x1e, 0);
	guard_update(fake);

	pci_liveupdate_bypass_begin(&other, elsewhere);
	KUNIT_EXPECT_NE(test, bus_write(fake, PCI_BRIDGE_CONTROL, 2, 0x40), 0);
	pci_liveupdate_bypass_begin(&bypass, &fake->dev);
	KUNIT_EXPECT_EQ(test, bus_write(fake, PCI_BRIDGE_CONTROL, 2, 0x40), 0);
	pci_liveupdate_bypass_end(&bypass);
	pci_liveupdate_bypass_end(&other);
	KUNIT_EXPECT_NE(test, bus_write(fake, PCI_BRIDGE_CONTROL, 2, 0), 0);
	KUNIT_EXPECT_EQ(test, config_get(fake, PCI_BRIDGE_CONTROL, 2), 0x40);
	KUNIT_EXPECT_EQ(test, pci_lu_guard_count(&fake->dev), 2);
}

/* A reset that its owner may do goes through to the bridge, another one does not */
static void lu_guard_bypass_reset(struct kunit *test)
{
	struct fake *fake = fake_guarded(test, PCI_HEADER_TYPE_BRIDGE, PCI_LU_ADOPTED);
	struct pci_liveupdate_bypass bypass;
	struct pci_dev *dev = kunit_kzalloc(test, sizeof(*dev), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, dev);
	dev->bus = &fake->below;
	set_bit(PCI_LU_ADOPTED, &dev->lu_flags);
	guard_update(fake);

	pci_liveupdate_bypass_reset(&bypass, dev);
	KUNIT_EXPECT_NE(test, bus_write(fake, PCI_BRIDGE_CONTROL, 2, 0x40), 0);
	pci_liveupdate_bypass_end(&bypass);
	set_bit(PCI_LU_CLAIMED, &dev->lu_flags);
	pci_liveupdate_bypass_reset(&bypass, dev);
	KUNIT_EXPECT_EQ(test, bus_write(fake, PCI_BRIDGE_CONTROL, 2, 0x40), 0);
	pci_liveupdate_bypass_end(&bypass);
	KUNIT_EXPECT_EQ(test, pci_lu_guard_count(&fake->dev), 1);
}

static struct kunit_case lu_guard_cases[] = {
	KUNIT_CASE_SLOW(lu_guard_bridge_outgoing),
	KUNIT_CASE_SLOW(lu_guard_bridge_incoming),
	KUNIT_CASE_SLOW(lu_guard_bridge_user_space),
	KUNIT_CASE_SLOW(lu_guard_pf_outgoing),
	KUNIT_CASE(lu_guard_pf_incoming),
	KUNIT_CASE(lu_guard_pf_claimed),
	KUNIT_CASE(lu_guard_pf_stopped),
	KUNIT_CASE(lu_guard_unclaimed),
	KUNIT_CASE(lu_guard_claimed),
	KUNIT_CASE(lu_guard_outgoing_device),
	KUNIT_CASE(lu_guard_both_directions),
	KUNIT_CASE(lu_guard_old_capability),
	KUNIT_CASE(lu_guard_endless_list),
	KUNIT_CASE(lu_guard_bypass),
	KUNIT_CASE(lu_guard_bypass_reset),
	{}
};

static struct kunit_suite lu_guard_suite = {
	.name		= "pci_liveupdate_guard",
	.test_cases	= lu_guard_cases,
};

kunit_test_suite(lu_guard_suite);
