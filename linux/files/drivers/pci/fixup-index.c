// SPDX-License-Identifier: GPL-2.0
/*
 * Which fixups may concern a function, without asking all of them.
 *
 * There are hundreds of fixups, in a table for each pass, and a function takes
 * part in three or four passes when it is added. Hardly any fixup is of the
 * function's vendor, or of no vendor in particular: to compare a function with
 * each costs more than most other things that are done to it.
 *
 * The tables are put in their place by the linker and never change. Entries of
 * vendors with the same hash are chained here, and so are those for any vendor.
 * Each chain is in the order of its table. Two of them, merged, are what there is
 * to compare, in the order in which fixups have always been run. Before there is
 * an index, and if there is no memory for it, all entries are compared.
 */

#include <linux/array_size.h>
#include <linux/bits.h>
#include <linux/hash.h>
#include <linux/limits.h>
#include <linux/minmax.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "pci.h"

#define HASH_BITS	6
#define ANY_VENDOR	BIT(HASH_BITS)	/* the chain of entries without a vendor */
#define NONE		U16_MAX		/* ends a chain */

/**
 * struct pci_fixup_index - the chains of one table
 * @first: for each hash, the first entry's number or %NONE
 * @nr: how many entries the table has
 * @next: for each entry, the next one of its chain or %NONE
 */
struct pci_fixup_index {
	u16 first[ANY_VENDOR + 1];
	u16 nr;
	u16 next[] __counted_by(nr);
};

static unsigned int chain_of(u16 vendor)
{
	return vendor == (u16)PCI_ANY_ID ? ANY_VENDOR : hash_32(vendor, HASH_BITS);
}

/**
 * pci_fixup_index_build - index a table of fixups
 * @table: table without an index; gets one if possible
 *
 * Context: process context, before the table is used on another CPU.
 */
void pci_fixup_index_build(struct pci_fixup_table *table)
{
	size_t nr = table->end - table->start;
	struct pci_fixup_index *index;

	if (!nr || nr >= NONE)
		return;
	index = kmalloc(struct_size(index, next, nr), GFP_KERNEL);
	if (!index)
		return;

	index->nr = nr;
	memset16(index->first, NONE, ARRAY_SIZE(index->first));
	/* From the end, so that chains begin with what comes first */
	while (nr--) {
		u16 *first = &index->first[chain_of(table->start[nr].vendor)];

		index->next[nr] = *first;
		*first = nr;
	}
	table->index = index;
}

/**
 * pci_fixup_iter_init - begin with the fixups that may concern a vendor
 * @iter: iterator
 * @table: table of fixups, with or without an index
 * @vendor: Vendor ID of the function
 */
void pci_fixup_iter_init(struct pci_fixup_iter *iter, const struct pci_fixup_table *table,
			 u16 vendor)
{
	unsigned int chain = chain_of(vendor);

	iter->table = table;
	iter->all = table->start;
	if (!table->index)
		return;
	iter->any = table->index->first[ANY_VENDOR];
	iter->mine = chain == ANY_VENDOR ? NONE : table->index->first[chain];
}

/**
 * pci_fixup_iter_next - the next fixup that may concern a vendor
 * @iter: iterator
 *
 * Return: the fixup, which is still to be compared, or NULL after the last.
 */
struct pci_fixup *pci_fixup_iter_next(struct pci_fixup_iter *iter)
{
	const struct pci_fixup_table *table = iter->table;
	u16 nr;

	if (!table->index)
		return iter->all < table->end ? iter->all++ : NULL;

	nr = min(iter->mine, iter->any);
	if (nr == NONE)
		return NULL;
	if (nr == iter->any)
		iter->any = table->index->next[nr];
	else
		iter->mine = table->index->next[nr];
	return table->start + nr;
}
