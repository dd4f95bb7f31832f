// SPDX-License-Identifier: GPL-2.0
/*
 * Where the capabilities of a function are, remembered.
 *
 * A capability is found by walking a list in configuration space (PCI r3.0,
 * sec 6.7, and PCIe r6.0, sec 7.6.3), one read an entry, from the head each
 * time. Enumeration looks for some thirty of them in each function, most of
 * which are not there, so that about half of all its reads are for these
 * walks. The lists are read only and do not change while a function runs: the
 * first walk goes to the end of the list and keeps what it met, in the list's
 * order.
 *
 * Only positions are kept, no register. A walk that does not end as a list
 * should, because the function does not answer or the list is broken, finds
 * what it finds and is not kept. Whatever may make a function show another list
 * calls pci_forget_capabilities(): a quirk, a reset or another way out of a
 * state in which registers are lost, user space that writes beyond the header,
 * and a hot-plug event for the port above.
 *
 * What was decided about a capability (dev->pcie_cap, dev->aer_cap and the like)
 * is not affected by any of this.
 */

#include <linux/bitfield.h>
#include <linux/pci.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>

#include "pci.h"

/* A function with more of one kind is walked each time. */
#define MOST	64

/**
 * struct pci_cap_index - the entries of one list, in its order
 * @rcu: to free it when nobody looks into it any more
 * @nr: how many entries there are
 * @cap: position and capability ID of each
 */
struct pci_cap_index {
	struct rcu_head rcu;
	unsigned int nr;
	struct pci_cap_entry {
		u16 pos;
		u16 id;
	} cap[] __counted_by(nr);
};

struct walk {
	struct pci_cap_entry cap[MOST];
	unsigned int nr;
	bool regular;		/* it ended as a list should */
};

/* Returns false if the entry is one too many. */
static bool walk_add(struct walk *walk, u16 pos, u16 id)
{
	if (walk->nr == MOST)
		return false;
	walk->cap[walk->nr++] = (struct pci_cap_entry){ .pos = pos, .id = id };
	return true;
}

static void walk_standard(struct pci_dev *dev, struct walk *walk)
{
	int left = PCI_FIND_CAP_TTL;
	u16 status, entry;
	u8 pos;

	walk->nr = 0;
	walk->regular = false;

	if (pci_read_config_word(dev, PCI_STATUS, &status) || status == 0xffff)
		return;
	if (!(status & PCI_STATUS_CAP_LIST)) {
		walk->regular = true;
		return;
	}
	switch (dev->hdr_type) {
	case PCI_HEADER_TYPE_NORMAL:
	case PCI_HEADER_TYPE_BRIDGE:
		pos = PCI_CAPABILITY_LIST;
		break;
	case PCI_HEADER_TYPE_CARDBUS:
		pos = PCI_CB_CAPABILITY_LIST;
		break;
	default:
		return;
	}

	if (pci_read_config_byte(dev, pos, &pos))
		return;
	while (left--) {
		if (pos < PCI_STD_HEADER_SIZEOF) {
			walk->regular = true;
			return;
		}
		pos = ALIGN_DOWN(pos, 4);
		if (pci_read_config_word(dev, pos, &entry) ||
		    (entry & PCI_CAP_ID_MASK) == 0xff ||
		    !walk_add(walk, pos, entry & PCI_CAP_ID_MASK))
			return;
		pos = FIELD_GET(PCI_CAP_LIST_NEXT_MASK, entry);
	}
}

static void walk_extended(struct pci_dev *dev, struct walk *walk)
{
	int left = (PCI_CFG_SPACE_EXP_SIZE - PCI_CFG_SPACE_SIZE) / 8;
	u16 pos = PCI_CFG_SPACE_SIZE;
	u32 header;

	walk->nr = 0;
	walk->regular = false;

	while (left--) {
		if (pci_read_config_dword(dev, pos, &header) ||
		    PCI_POSSIBLE_ERROR(header))
			return;
		if (header == 0) {
			walk->regular = true;
			return;
		}
		if (!walk_add(walk, pos, PCI_EXT_CAP_ID(header)))
			return;
		pos = PCI_EXT_CAP_NEXT(header);
		if (pos < PCI_CFG_SPACE_SIZE) {
			walk->regular = true;
			return;
		}
	}
}

/* The first entry with that ID behind position @start, or behind the head for 0. */
static u16 find_in(const struct pci_cap_entry *cap, unsigned int nr, u16 start, int id)
{
	unsigned int i = 0;

	if (start) {
		while (i < nr && cap[i].pos != start)
			i++;
		i++;
	}
	for (; i < nr; i++)
		if (cap[i].id == id)
			return cap[i].pos;
	return 0;
}

static void keep(struct pci_cap_index __rcu **where, const struct walk *walk)
{
	struct pci_cap_index *index;

	index = kmalloc(struct_size(index, cap, walk->nr), GFP_NOWAIT | __GFP_NOWARN);
	if (!index)
		return;
	index->nr = walk->nr;
	memcpy(index->cap, walk->cap, flex_array_size(index, cap, walk->nr));
	/* Somebody else may have walked at the same time, and found the same. */
	if (cmpxchg((struct pci_cap_index **)where, NULL, index))
		kfree(index);
}

/*
 * With PCI_CAP_INDEX_CHECK, walks again and complains if the list is another by
 * now: somebody changed it and did not tell.
 */
static void check(struct pci_dev *dev, struct pci_cap_index __rcu **where,
		  void (*walk_list)(struct pci_dev *dev, struct walk *walk))
{
	const struct pci_cap_index *index;
	struct walk walk;
	bool same = true;

	if (!IS_ENABLED(CONFIG_PCI_CAP_INDEX_CHECK))
		return;

	walk_list(dev, &walk);
	if (!walk.regular)
		return;
	scoped_guard(rcu) {
		index = rcu_dereference(*where);
		if (index)
			same = index->nr == walk.nr &&
			       !memcmp(index->cap, walk.cap,
				       flex_array_size(index, cap, walk.nr));
	}
	pci_WARN_ONCE(dev, !same, "capabilities are not where they were\n");
}

static u16 search(struct pci_dev *dev, struct pci_cap_index __rcu **where,
		  void (*walk_list)(struct pci_dev *dev, struct walk *walk),
		  u16 start, int id)
{
	const struct pci_cap_index *index;
	struct walk walk;

	check(dev, where, walk_list);
	scoped_guard(rcu) {
		index = rcu_dereference(*where);
		if (index)
			return find_in(index->cap, index->nr, start, id);
	}

	walk_list(dev, &walk);
	if (walk.regular)
		keep(where, &walk);
	return find_in(walk.cap, walk.nr, start, id);
}

/**
 * pci_search_capability - Find a capability of a function
 * @dev: the function; its header type is known
 * @start: the position of the capability to go on behind, 0 for the first
 * @id: the capability ID (PCI r3.0, appendix H)
 *
 * Context: any in which configuration space may be read.
 * Return: the position, 0 if there is none, or none that could be read.
 */
u8 pci_search_capability(struct pci_dev *dev, u8 start, int id)
{
	return search(dev, &dev->std_caps, walk_standard, start, id);
}

/**
 * pci_search_ext_capability - Find an extended capability of a function
 * @dev: the function; the size of its configuration space is known
 * @start: the position of the capability to go on behind, 0 for the first
 * @id: the extended capability ID (PCIe r6.0, sec 7.6.3)
 *
 * Context: any in which configuration space may be read.
 * Return: the position, 0 if there is none, or none that could be read.
 */
u16 pci_search_ext_capability(struct pci_dev *dev, u16 start, int id)
{
	return search(dev, &dev->ext_caps, walk_extended, start, id);
}

static void forget(struct pci_cap_index __rcu **where)
{
	struct pci_cap_index *index = xchg((struct pci_cap_index **)where, NULL);

	if (index)
		kfree_rcu(index, rcu);
}

/**
 * pci_forget_capabilities - The lists of a function may be others now
 * @dev: the function
 *
 * The next one to look for a capability walks the list.
 * Context: any.
 */
void pci_forget_capabilities(struct pci_dev *dev)
{
	forget(&dev->std_caps);
	forget(&dev->ext_caps);
}
EXPORT_SYMBOL_GPL(pci_forget_capabilities);
