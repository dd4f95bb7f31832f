// SPDX-License-Identifier: GPL-2.0
/*
 * Where the capabilities of a function are, remembered.
 *
 * A capability is found by walking a list in configuration space (PCI r3.0,
 * sec 6.7, and PCIe r6.0, sec 7.6.3), one read an entry, from the head each
 * time. Enumeration looks for some thirty of them in each function, most of
 * which are not there, so that about half of all its reads are for these
 * walks. The lists are read only and do not change while a function runs: the
 * first look-up walks to the end of the list and keeps what it met, in the
 * list's order.
 *
 * Only positions are kept, no register. A list that does not end as a list
 * should, because the function does not answer or the list is broken, is not
 * kept: then each look-up walks, as it does for a device that was pulled out.
 * Whatever may make a function show another list calls
 * pci_forget_capabilities(): a quirk, a reset or another way out of a state in
 * which registers are lost, user space that writes beyond the header, and a
 * device that appears below a port.
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
};

/* Returns false if the entry is one too many. */
static bool walk_add(struct walk *walk, u16 pos, u16 id)
{
	if (walk->nr == MOST)
		return false;
	walk->cap[walk->nr++] = (struct pci_cap_entry){ .pos = pos, .id = id };
	return true;
}

/* Returns false if there is anything about the list that a list should not have. */
static bool walk_standard(struct pci_dev *dev, struct walk *walk)
{
	int left = PCI_FIND_CAP_TTL;
	u16 status, entry;
	u8 pos;

	if (pci_read_config_word(dev, PCI_STATUS, &status) || status == 0xffff)
		return false;
	if (!(status & PCI_STATUS_CAP_LIST))
		return true;
	switch (dev->hdr_type) {
	case PCI_HEADER_TYPE_NORMAL:
	case PCI_HEADER_TYPE_BRIDGE:
		pos = PCI_CAPABILITY_LIST;
		break;
	case PCI_HEADER_TYPE_CARDBUS:
		pos = PCI_CB_CAPABILITY_LIST;
		break;
	default:
		return false;
	}

	if (pci_read_config_byte(dev, pos, &pos))
		return false;
	while (left--) {
		if (pos < PCI_STD_HEADER_SIZEOF)
			return true;
		pos = ALIGN_DOWN(pos, 4);
		if (pci_read_config_word(dev, pos, &entry) ||
		    (entry & PCI_CAP_ID_MASK) == 0xff ||
		    !walk_add(walk, pos, entry & PCI_CAP_ID_MASK))
			return false;
		pos = FIELD_GET(PCI_CAP_LIST_NEXT_MASK, entry);
	}
	return false;
}

static bool walk_extended(struct pci_dev *dev, struct walk *walk)
{
	u16 pos = PCI_CFG_SPACE_SIZE;
	u32 header;

	do {
		if (pci_read_config_dword(dev, pos, &header) ||
		    PCI_POSSIBLE_ERROR(header))
			return false;
		if (!header)
			return true;
		if (!walk_add(walk, pos, PCI_EXT_CAP_ID(header)))
			return false;
		pos = PCI_EXT_CAP_NEXT(header);
	} while (pos >= PCI_CFG_SPACE_SIZE);
	return true;
}

/*
 * Finds the first entry with that ID behind the one at @start, or of all for 0.
 * Returns false if nothing in the list begins at @start.
 */
static bool find_in(const struct pci_cap_index *index, u16 start, int id, u16 *pos)
{
	unsigned int i = 0;

	if (start) {
		while (i < index->nr && index->cap[i].pos != start)
			i++;
		if (i++ == index->nr)
			return false;
	}
	*pos = 0;
	for (; i < index->nr && !*pos; i++)
		if (index->cap[i].id == id)
			*pos = index->cap[i].pos;
	return true;
}

static struct pci_cap_index *index_of(const struct walk *walk)
{
	struct pci_cap_index *index;

	index = kmalloc(struct_size(index, cap, walk->nr), GFP_NOWAIT | __GFP_NOWARN);
	if (index) {
		index->nr = walk->nr;
		memcpy(index->cap, walk->cap, flex_array_size(index, cap, walk->nr));
	}
	return index;
}

static bool find(struct pci_dev *dev, struct pci_cap_index __rcu **where,
		 bool (*walk_list)(struct pci_dev *dev, struct walk *walk),
		 u16 start, int id, u16 *pos)
{
	struct pci_cap_index *index;
	struct walk walk;

	if (pci_dev_is_disconnected(dev))
		return false;

	guard(rcu)();
	index = rcu_dereference(*where);
	if (!index || IS_ENABLED(CONFIG_PCI_CAP_INDEX_CHECK)) {
		walk.nr = 0;
		if (!walk_list(dev, &walk))
			return false;
	}
	if (!index) {
		index = index_of(&walk);
		if (!index)
			return false;
		/* Somebody else may have walked at the same time, and found the same. */
		if (cmpxchg((struct pci_cap_index __force **)where, NULL, index)) {
			kfree(index);
			return false;
		}
	} else if (IS_ENABLED(CONFIG_PCI_CAP_INDEX_CHECK)) {
		if (index->nr != walk.nr ||
		    memcmp(index->cap, walk.cap, flex_array_size(index, cap, walk.nr)))
			pci_warn_once(dev, "capabilities are not where they were\n");
	}
	return find_in(index, start, id, pos);
}

/**
 * pci_cap_index_find - Look for a capability without walking the list
 * @dev: the function; its header type is known
 * @start: the position of the capability to go on behind, 0 for the first
 * @id: the capability ID (PCI r3.0, appendix H)
 * @pos: the position, 0 if there is no such capability
 *
 * Context: any in which configuration space may be read.
 * Return: false if the list has to be walked, and @pos is not set.
 */
bool pci_cap_index_find(struct pci_dev *dev, u8 start, int id, u16 *pos)
{
	return find(dev, &dev->std_caps, walk_standard, start, id, pos);
}

/**
 * pci_ext_cap_index_find - Look for an extended capability without walking the list
 * @dev: the function; the size of its configuration space is known, and larger
 *	than that of conventional PCI
 * @start: the position of the capability to go on behind, 0 for the first
 * @id: the extended capability ID (PCIe r6.0, sec 7.6.3)
 * @pos: the position, 0 if there is no such capability
 *
 * Context: any in which configuration space may be read.
 * Return: false if the list has to be walked, and @pos is not set.
 */
bool pci_ext_cap_index_find(struct pci_dev *dev, u16 start, int id, u16 *pos)
{
	return find(dev, &dev->ext_caps, walk_extended, start, id, pos);
}

static void forget(struct pci_cap_index __rcu **where)
{
	struct pci_cap_index *index = xchg((struct pci_cap_index __force **)where, NULL);

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
