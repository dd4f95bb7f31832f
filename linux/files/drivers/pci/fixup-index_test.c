// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for the index of fixups: what it gives are those that a comparison
 * with all of a table finds, in the same order.
 */

#include <kunit/test.h>
#include <linux/pci.h>
#include <linux/prandom.h>
#include <linux/slab.h>

#include "pci.h"

#define ENTRIES	300
#define VENDORS	40

static bool matches(const struct pci_fixup *f, u16 vendor)
{
	return f->vendor == vendor || f->vendor == (u16)PCI_ANY_ID;
}

static void drop_index(void *data)
{
	struct pci_fixup_table *table = data;

	kfree(table->index);
}

static struct pci_fixup_table *table_of(struct kunit *test, unsigned int entries)
{
	struct pci_fixup_table *table = kunit_kzalloc(test, sizeof(*table), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, table);
	table->start = kunit_kcalloc(test, entries + 1, sizeof(*table->start), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, table->start);
	table->end = table->start + entries;
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, drop_index, table));
	return table;
}

/* Returns how many entries the iterator gave */
static unsigned int compare(struct kunit *test, const struct pci_fixup_table *table, u16 vendor)
{
	struct pci_fixup *want = table->start;
	struct pci_fixup_iter iter;
	struct pci_fixup *f;
	unsigned int nr = 0;

	pci_fixup_iter_init(&iter, table, vendor);
	while ((f = pci_fixup_iter_next(&iter))) {
		nr++;
		if (!matches(f, vendor))
			continue;
		while (want < table->end && !matches(want, vendor))
			want++;
		KUNIT_ASSERT_PTR_EQ(test, f, want);
		want++;
	}
	while (want < table->end && !matches(want, vendor))
		want++;
	KUNIT_EXPECT_PTR_EQ(test, want, table->end);
	return nr;
}

static void fixup_index_gives_what_a_comparison_finds(struct kunit *test)
{
	struct pci_fixup_table *table = table_of(test, ENTRIES);
	struct rnd_state rnd;
	unsigned int most = 0;

	prandom_seed_state(&rnd, 1);
	for (struct pci_fixup *f = table->start; f < table->end; f++)
		f->vendor = prandom_u32_state(&rnd) % 16 ?
			    0x8086 + prandom_u32_state(&rnd) % VENDORS : (u16)PCI_ANY_ID;

	/* Control: without an index it is all */
	KUNIT_EXPECT_EQ(test, compare(test, table, 0x8086), ENTRIES);

	pci_fixup_index_build(table);
	KUNIT_ASSERT_NOT_NULL(test, table->index);
	for (unsigned int n = 0; n < VENDORS; n++)
		most = max(most, compare(test, table, 0x8086 + n));
	KUNIT_EXPECT_LT(test, most, ENTRIES / 4);
	/* Of a vendor that has no fixup, and of a function that does not say whose it is */
	compare(test, table, 0x1);
	compare(test, table, (u16)PCI_ANY_ID);
}

static void fixup_index_of_odd_tables(struct kunit *test)
{
	struct pci_fixup_table *table = table_of(test, 0);

	pci_fixup_index_build(table);
	KUNIT_EXPECT_EQ(test, compare(test, table, 0x8086), 0);

	table = table_of(test, 1);
	table->start->vendor = (u16)PCI_ANY_ID;
	pci_fixup_index_build(table);
	KUNIT_EXPECT_EQ(test, compare(test, table, 0x8086), 1);

	table = table_of(test, 1);
	table->start->vendor = 0x8086;
	pci_fixup_index_build(table);
	KUNIT_EXPECT_EQ(test, compare(test, table, 0x8086), 1);

	/* More than can be numbered */
	table = table_of(test, U16_MAX);
	pci_fixup_index_build(table);
	KUNIT_EXPECT_NULL(test, table->index);
}

static struct kunit_case fixup_index_cases[] = {
	KUNIT_CASE(fixup_index_gives_what_a_comparison_finds),
	KUNIT_CASE(fixup_index_of_odd_tables),
	{ }
};

static struct kunit_suite fixup_index_suite = {
	.name = "pci_fixup_index",
	.test_cases = fixup_index_cases,
};

kunit_test_suite(fixup_index_suite);

MODULE_DESCRIPTION("KUnit tests for the index of PCI fixups");
MODULE_LICENSE("GPL");
