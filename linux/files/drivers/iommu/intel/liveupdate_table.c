// SPDX-License-Identifier: GPL-2.0
/*
 * VT-d under Live Update: tables as the hardware reads them.
 *
 * Nothing here has state, and nothing asks whose table it is. Section numbers are those of
 * the VT-d specification 4.1.
 */

#include <linux/delay.h>
#include <linux/iommu_liveupdate.h>
#include <linux/pci.h>
#include <linux/pci_liveupdate.h>
#include <linux/sched.h>

#include "../liveupdate.h"
#include "liveupdate.h"

#define VTD_RIGHTS	(DMA_PTE_READ | DMA_PTE_WRITE)
#define VTD_ADDRESS	GENMASK_ULL(51, VTD_PAGE_SHIFT)
#define VTD_ENTRIES	(VTD_PAGE_SIZE / sizeof(u64))

/* First-stage paging entries, sec 9.7 */
#define VTD_FS_PRESENT	BIT_ULL(0)
#define VTD_FS_WRITE	BIT_ULL(1)

static u64 vtd_size(int level)
{
	return 1ULL << (VTD_PAGE_SHIFT + level_to_offset_bits(level));
}

/* 1 GiB is the largest that one maps */
static bool vtd_is_leaf(u64 entry, int level)
{
	return level == 1 || (level <= 3 && entry & DMA_PTE_LARGE_PAGE);
}

static u64 vtd_rights(u64 entry, bool first)
{
	if (!first)
		return entry & VTD_RIGHTS;
	if (!(entry & VTD_FS_PRESENT))
		return 0;
	return DMA_PTE_READ | (entry & VTD_FS_WRITE ? DMA_PTE_WRITE : 0);
}

/* Leaves of one table that follow each other, here and in memory */
struct vtd_run {
	u64 iova;
	u64 address;
	u64 size;
	u64 rights;
};

static int vtd_end_run(const struct vtd_lu_walk *walk, struct vtd_run *run)
{
	u64 size = run->size;

	run->size = 0;
	if (!size || !walk->leaf)
		return 0;
	return walk->leaf(walk->data, run->iova, run->address, size, run->rights);
}

static int vtd_walk(const struct vtd_lu_walk *walk, u64 table, bool first, int level, u64 iova,
		    u64 rights)
{
	const u64 size = vtd_size(level);
	struct vtd_run run = {};
	const u64 *entries;
	int err = 0;

	if (walk->table)
		err = walk->table(walk->data, table);

	entries = phys_to_virt(table);
	for (unsigned int n = 0; !err && n < VTD_ENTRIES; n++) {
		u64 entry = READ_ONCE(entries[n]);
		u64 address = entry & VTD_ADDRESS & -size;
		u64 left = rights & vtd_rights(entry, first);

		if (!left || !vtd_is_leaf(entry, level)) {
			err = vtd_end_run(walk, &run);
			if (!err && left)
				err = vtd_walk(walk, entry & VTD_ADDRESS, first, level - 1,
					       iova + n * size, left);
			continue;
		}
		if (!run.size || run.address + run.size != address || run.rights != left) {
			err = vtd_end_run(walk, &run);
			run = (struct vtd_run){ iova + n * size, address, 0, left };
		}
		/* Most leaves are the one before but for the address, whatever else is in them */
		run.size += size;
		entry += size;
		while (n + 1 < VTD_ENTRIES && READ_ONCE(entries[n + 1]) == entry) {
			run.size += size;
			entry += size;
			n++;
		}
	}
	if (!err)
		err = vtd_end_run(walk, &run);
	cond_resched();
	return err;
}

/**
 * vtd_lu_walk - look at a whole page table
 * @walk: what to do with it
 * @table: the table
 *
 * As hardware reads it. What a first-stage table translates in the upper half of the
 * address space is told with the bits above it zero.
 *
 * Context: may sleep; the table must not change.
 * Return: 0, or the first error of a callback.
 */
int vtd_lu_walk(const struct vtd_lu_walk *walk, const struct vtd_lu_table *table)
{
	return vtd_walk(walk, table->top, table->first, table->levels, 0, VTD_RIGHTS);
}

/**
 * vtd_lu_lookup - what does a page table of this kernel translate an address to?
 * @table: the table
 * @iova: the address
 * @size: set to what the leaf maps, in bytes
 * @rights: set to DMA_PTE_READ, DMA_PTE_WRITE
 *
 * Context: the table must not change.
 * Return: physical address of what the leaf maps; U64_MAX if there is none.
 */
u64 vtd_lu_lookup(const struct vtd_lu_table *table, u64 iova, u64 *size, u64 *rights)
{
	u64 address = table->top;

	*rights = VTD_RIGHTS;
	if (iova >> (VTD_PAGE_SHIFT + LEVEL_STRIDE * table->levels))
		return U64_MAX;

	for (int level = table->levels; level; level--) {
		const u64 *entries = phys_to_virt(address);
		u64 entry = READ_ONCE(entries[pfn_level_offset(iova >> VTD_PAGE_SHIFT, level)]);

		*rights &= vtd_rights(entry, table->first);
		if (!*rights)
			break;
		address = entry & VTD_ADDRESS;
		if (vtd_is_leaf(entry, level)) {
			*size = vtd_size(level);
			return address & -*size;
		}
	}
	return U64_MAX;
}

struct vtd_cover {
	const struct iommu_lu_in *in;
	const struct iommu_lu_domain_in *frozen;
	u64 pages;		/* of it that have been met */
	const struct vtd_lu_table *table;
	u64 *iova;
};

/* One that is damaged may lead anywhere, and in circles. Its pages are listed as they are met */
static int vtd_is_next(void *data, u64 address)
{
	struct vtd_cover *cover = data;
	u64 n = cover->frozen->first_page + cover->pages;

	if (cover->pages >= cover->frozen->nr_pages || cover->in->pages[n] != address)
		return -EFAULT;
	cover->pages++;
	return 0;
}

static int vtd_covers(void *data, u64 iova, u64 address, u64 size, u64 rights)
{
	struct vtd_cover *cover = data;

	while (size) {
		u64 new_size, new_rights, step;
		u64 at = vtd_lu_lookup(cover->table, iova, &new_size, &new_rights);

		if (at == U64_MAX || at + (iova & (new_size - 1)) != address ||
		    rights & ~new_rights) {
			*cover->iova = iova;
			return -EINVAL;
		}
		step = min(size, new_size - (iova & (new_size - 1)));
		iova += step;
		address += step;
		size -= step;
	}
	return 0;
}

/**
 * vtd_lu_covers - does a page table lead to all that a frozen one does, with the same rights?
 * @in: what was handed over
 * @frozen: a domain of that
 * @table: this kernel's
 * @iova: set to the first address that it does not translate as the other, if any
 *
 * They need not be of the same stage, nor have pages of the same sizes.
 *
 * Context: may sleep; neither must change.
 * Return: 0; -EINVAL if it does not, -EFAULT if @frozen is damaged.
 */
int vtd_lu_covers(const struct iommu_lu_in *in, const struct iommu_lu_domain_in *frozen,
		  const struct vtd_lu_table *table, u64 *iova)
{
	struct vtd_cover cover = { .in = in, .frozen = frozen, .table = table, .iova = iova };
	const struct vtd_lu_walk walk = {
		.table = vtd_is_next, .leaf = vtd_covers, .data = &cover,
	};
	const struct vtd_lu_table was = {
		.top	= frozen->table,
		.levels	= frozen->levels,
		.first	= frozen->format == IOMMU_LIVEUPDATE_VTD_FIRST,
	};

	*iova = 0;
	return vtd_lu_walk(&walk, &was);
}

/**
 * vtd_lu_entry_table - which page table translates for a Requester ID?
 * @entry: what the hardware is told
 * @scalable: in scalable mode
 * @table: set to it
 * @did: set to the Domain ID
 *
 * Return: false if none does, or not only that one.
 */
bool vtd_lu_entry_table(const struct vtd_lu_entry *entry, bool scalable,
			struct vtd_lu_table *table, u16 *did)
{
	const u64 *pasid = entry->pasid.val;
	unsigned int width;

	if (!scalable) {
		/* Sec 9.3: present, faults reported, untranslated requests only */
		if ((entry->context.lo & GENMASK_ULL(3, 0)) != 1)
			return false;
		table->top = entry->context.lo & VTD_PAGE_MASK;
		*did = entry->context.hi >> 8;
		width = entry->context.hi & 7;
		table->first = false;
	} else if ((pasid[0] & 3) != 1 || pasid[0] & BIT_ULL(9)) {
		/* Sec 9.6: not present, no faults reported, or dirty bits in use */
		return false;
	} else if ((pasid[0] >> 6 & 7) == PASID_ENTRY_PGTT_FL_ONLY) {
		table->top = pasid[2] & VTD_PAGE_MASK;
		*did = pasid[1];
		width = (pasid[2] >> 2 & 3) + 2;
		table->first = true;
	} else if ((pasid[0] >> 6 & 7) == PASID_ENTRY_PGTT_SL_ONLY) {
		table->top = pasid[0] & VTD_PAGE_MASK;
		*did = pasid[1];
		width = pasid[0] >> 2 & 7;
		table->first = false;
	} else {
		return false;
	}
	table->levels = agaw_to_level(width);
	return width >= 1 && width <= 3;
}

/**
 * vtd_lu_entry_is_of - does this domain translate for a Requester ID?
 * @entry: what the hardware is told
 * @scalable: in scalable mode
 * @domain: a domain that was handed over
 * @did: set to its Domain ID
 *
 * Return: true if it does, and nothing else.
 */
bool vtd_lu_entry_is_of(const struct vtd_lu_entry *entry, bool scalable,
			const struct iommu_lu_domain_in *domain, u16 *did)
{
	struct vtd_lu_table table;

	return vtd_lu_entry_table(entry, scalable, &table, did) && table.top == domain->table &&
	       table.levels == domain->levels &&
	       table.first == (domain->format == IOMMU_LIVEUPDATE_VTD_FIRST);
}

/**
 * vtd_lu_entry_pass - let the requests of a Requester ID pass
 * @iommu: unit, that can
 * @scalable: in scalable mode
 * @entry: zero, made to say so
 */
void vtd_lu_entry_pass(struct intel_iommu *iommu, bool scalable, struct vtd_lu_entry *entry)
{
	if (!scalable) {
		context_set_domain_id(&entry->context, FLPT_DEFAULT_DID);
		context_set_address_width(&entry->context, iommu->msagaw);
		context_set_translation_type(&entry->context, CONTEXT_TT_PASS_THROUGH);
		context_set_present(&entry->context);
		return;
	}
	pasid_set_domain_id(&entry->pasid, FLPT_DEFAULT_DID);
	pasid_set_address_width(&entry->pasid, iommu->agaw);
	pasid_set_translation_type(&entry->pasid, PASID_ENTRY_PGTT_PT);
	pasid_set_page_snoop(&entry->pasid, ecap_smpwc(iommu->ecap));
	pasid_set_present(&entry->pasid);
}

/**
 * vtd_lu_entry_passes - do the requests of a Requester ID pass?
 * @entry: what the hardware is told
 * @scalable: in scalable mode
 *
 * Return: true if so.
 */
bool vtd_lu_entry_passes(const struct vtd_lu_entry *entry, bool scalable)
{
	if (!scalable)
		return entry->context.lo & 1 &&
		       (entry->context.lo >> 2 & 3) == CONTEXT_TT_PASS_THROUGH;
	return entry->pasid.val[0] & 1 &&
	       (entry->pasid.val[0] >> 6 & 7) == PASID_ENTRY_PGTT_PT;
}

/**
 * vtd_lu_root_half - which part of a root table points to the entry of a Requester ID?
 * @root: the table
 * @scalable: in scalable mode, where a bus has two context tables
 * @rid: Requester ID
 *
 * Return: that part.
 */
u64 *vtd_lu_root_half(struct root_entry *root, bool scalable, u16 rid)
{
	return scalable && rid & 0x80 ? &root[rid >> 8].hi : &root[rid >> 8].lo;
}

/**
 * vtd_lu_index - where in a context table is a Requester ID?
 * @scalable: in scalable mode, where an entry has 256 bits
 * @rid: Requester ID
 *
 * Return: in units of struct context_entry.
 */
unsigned int vtd_lu_index(bool scalable, u16 rid)
{
	return scalable ? (rid & 0x7f) * 2 : rid & 0xff;
}

/* What an entry points to, if that has been handed over */
static const void *vtd_page(const struct iommu_lu_in *in,
			    const struct iommu_liveupdate_unit_ser *unit, u64 entry)
{
	u64 address = entry & VTD_PAGE_MASK;

	if (!(entry & 1) || !iommu_lu_has_page(in, unit->first_page, unit->nr_pages, address))
		return NULL;
	return phys_to_virt(address);
}

/**
 * vtd_lu_find_entry - what has the previous kernel told the hardware of a Requester ID?
 * @in: what was handed over, which is a table that the unit points to
 * @unit: the unit
 * @rid: Requester ID
 * @entry: set to it
 *
 * Return: NULL, or why it cannot be told.
 */
const char *vtd_lu_find_entry(const struct iommu_lu_in *in,
			      const struct iommu_liveupdate_unit_ser *unit, u16 rid,
			      struct vtd_lu_entry *entry)
{
	bool scalable = unit->kind == IOMMU_LIVEUPDATE_VTD_SCALABLE;
	const struct context_entry *contexts;
	const struct pasid_entry *pasids;
	const u64 *dir;

	*entry = (struct vtd_lu_entry){};
	contexts = vtd_page(in, unit, *vtd_lu_root_half(phys_to_virt(unit->root), scalable, rid));
	if (!contexts)
		return "its IOMMU has no entry for it";
	contexts += vtd_lu_index(scalable, rid);
	entry->context = contexts[0];
	if (!(entry->context.lo & 1))
		return "its IOMMU has no entry for it";
	if (!scalable)
		return NULL;

	/* Sec 9.4: the smallest directory, and PASID 0 for requests without one, no more */
	if (entry->context.lo & ~VTD_PAGE_MASK & ~1ULL || entry->context.hi ||
	    contexts[1].lo || contexts[1].hi)
		return "its IOMMU does more for it than translate";
	dir = vtd_page(in, unit, entry->context.lo);
	pasids = dir ? vtd_page(in, unit, dir[0]) : NULL;
	if (!pasids)
		return "its IOMMU has no PASID table for it";
	entry->pasid = pasids[0];
	return NULL;
}

/**
 * vtd_lu_clear_irtes - end interrupts
 * @irtes: entries of an interrupt remapping table
 * @nr: how many
 *
 * The half that says that an entry is present goes first (sec 9.9): without the other half
 * it would be open to all.
 */
void vtd_lu_clear_irtes(struct irte *irtes, unsigned int nr)
{
	for (unsigned int n = 0; n < nr; n++) {
		WRITE_ONCE(irtes[n].low, 0);
		WRITE_ONCE(irtes[n].high, 0);
	}
}

/**
 * vtd_lu_replace - replace an entry that is in use by another, or by none, at once
 * @iommu: unit
 * @live: what the hardware reads, present: in scalable mode the first half
 * @new: what it is to be
 * @did: Domain ID of what it was
 * @rid: Requester ID
 *
 * Hardware reads 128 bits at once, and sees one or the other. What it does not read again
 * until it is told to is flushed as sec 6.5.3.3 says of a context entry that was present,
 * in this order: context cache for the device, in scalable mode PASID cache for the domain,
 * IOTLB for the domain. The last waits for requests under way, so that nothing leads to the
 * old table when this returns. Devices with translations of their own (ATS) have not been
 * frozen.
 *
 * Context: iommu->lock held.
 */
void vtd_lu_replace(struct intel_iommu *iommu, struct context_entry *live,
		    const struct context_entry *new, u16 did, u16 rid)
{
	u128 was, want;

	memcpy(&was, live, sizeof(was));
	memcpy(&want, new, sizeof(want));
	if (pci_liveupdate_leaves_out(PCI_LIVEUPDATE_SWITCH)) {
		/* A test wants to see what there would be to see without it */
		WRITE_ONCE(live->lo, live->lo & ~1ULL);
		__iommu_flush_cache(iommu, live, sizeof(*live));
		iommu->flush.flush_context(iommu, did, rid, DMA_CCMD_MASK_NOBIT,
					   DMA_CCMD_DEVICE_INVL);
		iommu->flush.flush_iotlb(iommu, did, 0, 0, DMA_TLB_DSI_FLUSH);
		mdelay(300);
		memcpy(&was, live, sizeof(was));
	}
	/* Nobody else writes it: hardware never does, and iommu->lock is held */
	WARN_ON(!try_cmpxchg128((u128 *)live, &was, want));
	__iommu_flush_cache(iommu, live, sizeof(*live));
	iommu_flush_write_buffer(iommu);

	iommu->flush.flush_context(iommu, did, rid, DMA_CCMD_MASK_NOBIT, DMA_CCMD_DEVICE_INVL);
	if (sm_supported(iommu))
		qi_flush_pasid_cache(iommu, did, QI_PC_ALL_PASIDS, 0);
	iommu->flush.flush_iotlb(iommu, did, 0, 0, DMA_TLB_DSI_FLUSH);
}
