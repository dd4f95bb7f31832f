// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for remembered positions of capabilities: whatever a list looks like,
 * what is found is what a walk finds.
 */

#include <kunit/test.h>
#include <linux/bitfield.h>
#include <linux/pci.h>
#include <linux/prandom.h>
#include <linux/string.h>

#include "pci.h"

#define IDS	8	/* few, so that most occur more than once */

struct fake {
	u8 host[256];	/* what the architecture has in sysdata: zero */
	u8 config[PCI_CFG_SPACE_EXP_SIZE];
	unsigned int reads;
	struct pci_bus bus;
	struct pci_dev dev;
};

static int fake_read(struct pci_bus *bus, unsigned int devfn, int where, int size,
		     u32 *val)
{
	struct fake *fake = container_of((u8 (*)[256])bus->sysdata, struct fake, host);

	fake->reads++;
	*val = 0;
	for (int i = 0; i < size; i++)
		*val |= (u32)fake->config[where + i] << 8 * i;
	return PCIBIOS_SUCCESSFUL;
}

static int fake_write(struct pci_bus *bus, unsigned int devfn, int where, int size,
		      u32 val)
{
	struct fake *fake = container_of((u8 (*)[256])bus->sysdata, struct fake, host);

	for (int i = 0; i < size; i++)
		fake->config[where + i] = val >> 8 * i;
	return PCIBIOS_SUCCESSFUL;
}

static struct pci_ops fake_ops = {
	.read	= fake_read,
	.write	= fake_write,
};

static void fake_drop(void *data)
{
	struct fake *fake = data;

	pci_forget_capabilities(&fake->dev);
}

static struct fake *fake_function(struct kunit *test)
{
	struct fake *fake = kunit_kzalloc(test, sizeof(*fake), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, fake);
	fake->bus.ops = &fake_ops;
	fake->bus.sysdata = fake->host;
	fake->dev.bus = &fake->bus;
	fake->dev.cfg_size = PCI_CFG_SPACE_EXP_SIZE;
	fake->dev.dev.init_name = "fake";
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, fake_drop, fake), 0);
	return fake;
}

static void set_entry(struct fake *fake, int pos, u8 id, u8 next)
{
	fake->config[pos] = id;
	fake->config[pos + 1] = next;
}

static void set_ext_entry(struct fake *fake, int pos, u16 id, u16 next)
{
	u32 header = id | 1 << 16 | (u32)next << 20;

	memcpy(&fake->config[pos], &header, sizeof(header));
}

/* Lists of that many entries, in any order and at any place. */
static void set_lists(struct fake *fake, struct rnd_state *rnd, int nr, int nr_ext)
{
	u8 pos = 0x40 + prandom_u32_state(rnd) % 8 * 4;
	u16 at = PCI_CFG_SPACE_SIZE;

	memset(fake->config, 0, sizeof(fake->config));
	if (nr)
		fake->config[PCI_STATUS] = PCI_STATUS_CAP_LIST;
	fake->config[PCI_CAPABILITY_LIST] = nr ? pos : 0;
	for (int i = 0; i < nr; i++) {
		u8 next = i == nr - 1 ? 0 : 0x40 + (pos - 0x40 + 8) % 0xc0;

		/* The low bits of a pointer mean nothing */
		set_entry(fake, pos, 1 + prandom_u32_state(rnd) % IDS,
			  next ? next | prandom_u32_state(rnd) % 4 : 0);
		pos = next;
	}
	for (int i = 0; i < nr_ext; i++) {
		u16 next = i == nr_ext - 1 ? 0 : at + 8 + prandom_u32_state(rnd) % 4 * 4;

		set_ext_entry(fake, at, 1 + prandom_u32_state(rnd) % IDS, next);
		at = next;
	}
}

/* Everything that can be asked, against walks that know nothing of an index. */
static void compare(struct kunit *test, struct fake *fake)
{
	struct pci_bus *bus = &fake->bus;
	int found, want;

	for (int id = 0; id <= IDS + 1; id++) {
		KUNIT_EXPECT_EQ(test, pci_find_capability(&fake->dev, id),
				pci_bus_find_capability(bus, 0, id));
		for (int start = 0x40; start < PCI_CFG_SPACE_SIZE; start += 4) {
			found = pci_find_next_capability(&fake->dev, start, id);
			want = PCI_FIND_NEXT_CAP(pci_bus_read_config, start + PCI_CAP_LIST_NEXT,
						 id, NULL, bus, 0);
			/* Not where an entry is: there only a walk can tell */
			KUNIT_EXPECT_EQ_MSG(test, found, want, "%d after %#x", id, start);
		}
		for (int start = 0; start < 0x800; start += start ? 4 : PCI_CFG_SPACE_SIZE) {
			found = pci_find_next_ext_capability(&fake->dev, start, id);
			want = PCI_FIND_NEXT_EXT_CAP(pci_bus_read_config, start, id, NULL, bus, 0);
			KUNIT_EXPECT_EQ_MSG(test, found, want, "%d after %#x", id, start);
		}
	}
}

static void cap_index_finds_what_a_walk_finds(struct kunit *test)
{
	struct fake *fake = fake_function(test);
	struct rnd_state rnd;

	prandom_seed_state(&rnd, 7);
	for (int round = 0; round < 20; round++) {
		pci_forget_capabilities(&fake->dev);
		set_lists(fake, &rnd, prandom_u32_state(&rnd) % 12, prandom_u32_state(&rnd) % 20);
		compare(test, fake);
	}
}

static void cap_index_odd_lists(struct kunit *test)
{
	struct fake *fake = fake_function(test);
	struct rnd_state rnd;

	prandom_seed_state(&rnd, 8);

	/* Both end where they began */
	set_lists(fake, &rnd, 3, 3);
	fake->config[PCI_CAPABILITY_LIST] = 0x40;
	set_entry(fake, 0x40, 1, 0x50);
	set_entry(fake, 0x50, 2, 0x40);
	set_ext_entry(fake, 0x100, 3, 0x110);
	set_ext_entry(fake, 0x110, 4, 0x100);
	compare(test, fake);
	KUNIT_EXPECT_EQ(test, pci_find_capability(&fake->dev, 2), 0x50);

	/* More than are remembered */
	pci_forget_capabilities(&fake->dev);
	set_lists(fake, &rnd, 20, 80);
	compare(test, fake);

	/* Reads as ones in the middle */
	pci_forget_capabilities(&fake->dev);
	set_entry(fake, 0x40, 1, 0x50);
	set_entry(fake, 0x50, 0xff, 0xff);
	fake->config[PCI_CAPABILITY_LIST] = 0x40;
	compare(test, fake);

	/* Reads as ones all over */
	pci_forget_capabilities(&fake->dev);
	memset(fake->config, 0xff, sizeof(fake->config));
	compare(test, fake);

	/* Nothing extended */
	pci_forget_capabilities(&fake->dev);
	set_lists(fake, &rnd, 2, 5);
	fake->dev.cfg_size = PCI_CFG_SPACE_SIZE;
	KUNIT_EXPECT_EQ(test, pci_find_ext_capability(&fake->dev, 1), 0);
}

static void cap_index_reads_once_and_forgets(struct kunit *test)
{
	struct fake *fake = fake_function(test);

	fake->config[PCI_STATUS] = PCI_STATUS_CAP_LIST;
	fake->config[PCI_CAPABILITY_LIST] = 0x40;
	set_entry(fake, 0x40, 1, 0x50);
	set_entry(fake, 0x50, 2, 0);
	KUNIT_EXPECT_EQ(test, pci_find_capability(&fake->dev, 2), 0x50);

	/* Remembered, and the debug option says on the console that it is wrong */
	set_entry(fake, 0x40, 1, 0x60);
	set_entry(fake, 0x60, 2, 0);
	fake->reads = 0;
	KUNIT_EXPECT_EQ(test, pci_find_capability(&fake->dev, 2), 0x50);
	if (!IS_ENABLED(CONFIG_PCI_CAP_INDEX_CHECK))
		KUNIT_EXPECT_EQ(test, fake->reads, 0);

	pci_forget_capabilities(&fake->dev);
	KUNIT_EXPECT_EQ(test, pci_find_capability(&fake->dev, 2), 0x60);

	/* A program that writes beyond the header is reason enough */
	set_entry(fake, 0x40, 1, 0x50);
	pci_user_write_config_byte(&fake->dev, 0x80, 0);
	KUNIT_EXPECT_EQ(test, pci_find_capability(&fake->dev, 2), 0x50);

	/* What was pulled out has no capabilities */
	fake->dev.error_state = pci_channel_io_perm_failure;
	memset(fake->config, 0xff, sizeof(fake->config));
	KUNIT_EXPECT_EQ(test, pci_find_capability(&fake->dev, 2), 0);
}

static struct kunit_case cap_index_cases[] = {
	KUNIT_CASE(cap_index_finds_what_a_walk_finds),
	KUNIT_CASE(cap_index_odd_lists),
	KUNIT_CASE(cap_index_reads_once_and_forgets),
	{ }
};

static struct kunit_suite cap_index_suite = {
	.name = "pci_cap_index",
	.test_cases = cap_index_cases,
};

kunit_test_suite(cap_index_suite);

MODULE_DESCRIPTION("KUnit tests for remembered positions of PCI capabilities");
MODULE_LICENSE("GPL");
