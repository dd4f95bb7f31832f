// SPDX-License-Identifier: GPL-2.0
/*
 * IOMMU domains that stay as they are while the kernel is replaced (Live Update).
 */

/**
 * DOC: Frozen domains
 *
 * Behind an IOMMU the addresses that a device uses mean something as long as the
 * IOMMU translates them, with the same page table. So that DMA can go on during a kexec,
 * translation is not switched off, and
 *
 * - when the kexec begins the page table is *frozen*: nobody maps or unmaps. Each page of
 *   memory that it leads to is looked at then, whether it will be there afterwards;
 * - all that the hardware can read on its way through the tables is handed over. The
 *   hardware is given a root table that knows the devices with frozen domains and no
 *   others before the kernel is left: who could reach what before no longer matters;
 * - the next kernel makes tables of its own, with the entries of these devices copied into
 *   them, and the rest by its own policy. It understands as much of the frozen tables as
 *   the hardware does, and changes nothing in them;
 * - the device's owner maps its memory and attaches, which is when the entry of the device
 *   is replaced by another, at once, if the new page table leads to all that the old one
 *   did. The pages of the old one are freed when no device uses it any more.
 *
 * What cannot be taken over costs its device Bus Master before anything else is done, and
 * is an ordinary device that was paused from then on. A device that is stopped, because
 * nobody wants it, loses its entry before the memory that it used is freed.
 *
 * Here is what is set down and read. What the tables look like is the business of drivers:
 * drivers/iommu/intel/liveupdate.c.
 */

#define pr_fmt(fmt) "iommu: Live Update: " fmt

#include <linux/io.h>
#include <linux/iommu_liveupdate.h>
#include <linux/kexec_handover.h>
#include <linux/kho_block.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "liveupdate.h"

/* A list of entries of one size that the next kernel inherits */
struct lu_list {
	struct kho_block_set set;
	struct kho_block_set_it tail;
	u64 nr;
};

/* Changed while the kexec begins or is called off, which happens once at a time */
static struct lu_out {
	struct iommu_liveupdate_ser *ser;	/* NULL while nothing is frozen */
	struct lu_list units;
	struct lu_list domains;
	struct lu_list pages;
} lu_out;

static void *lu_list_add(struct lu_list *list)
{
	void *entry;
	int err;

	err = kho_block_set_grow(&list->set, list->nr + 1);
	if (err)
		return ERR_PTR(err);
	if (!list->nr)
		kho_block_set_it_init(&list->tail, &list->set);
	entry = kho_block_set_it_reserve_entry(&list->tail);
	if (WARN_ON_ONCE(!entry))
		return ERR_PTR(-ENOSPC);
	list->nr++;
	return entry;
}

static int lu_begin(void)
{
	if (lu_out.ser)
		return 0;
	lu_out.ser = kho_alloc_preserve(sizeof(*lu_out.ser));
	if (IS_ERR(lu_out.ser)) {
		int err = PTR_ERR(lu_out.ser);

		lu_out.ser = NULL;
		return err;
	}
	kho_block_set_init(&lu_out.units.set, sizeof(struct iommu_liveupdate_unit_ser));
	kho_block_set_init(&lu_out.domains.set, sizeof(struct iommu_liveupdate_domain_ser));
	kho_block_set_init(&lu_out.pages.set, sizeof(struct iommu_liveupdate_page_ser));
	return 0;
}

/**
 * iommu_lu_unit - a unit with a frozen domain
 * @kind: &enum iommu_liveupdate_kind
 * @segment: PCI domain (segment) number
 * @base: physical address of its registers
 * @nr: set to its number
 *
 * Context: process context, while a kexec begins.
 * Return: its entry, without a root if it is new, or an ERR_PTR.
 */
struct iommu_liveupdate_unit_ser *iommu_lu_unit(u32 kind, u32 segment, u64 base, u32 *nr)
{
	struct iommu_liveupdate_unit_ser *unit;
	struct kho_block_set_it it;
	int err;

	err = lu_begin();
	if (err)
		return ERR_PTR(err);

	*nr = 0;
	kho_block_set_it_init(&it, &lu_out.units.set);
	while (*nr < lu_out.units.nr && (unit = kho_block_set_it_read_entry(&it))) {
		if (unit->segment == segment && unit->base == base)
			return unit;
		(*nr)++;
	}

	unit = lu_list_add(&lu_out.units);
	if (IS_ERR(unit))
		return unit;
	unit->kind = kind;
	unit->segment = segment;
	unit->base = base;
	return unit;
}

/**
 * iommu_lu_domain - a frozen domain
 * @unit: number of its unit
 * @table: physical address of its page table
 * @nr: set to its number
 * @known: set to whether it has been frozen for another device before
 *
 * Context: process context, while a kexec begins.
 * Return: its entry, or an ERR_PTR.
 */
struct iommu_liveupdate_domain_ser *iommu_lu_domain(u32 unit, u64 table, u32 *nr, bool *known)
{
	struct iommu_liveupdate_domain_ser *domain;
	struct kho_block_set_it it;

	*nr = 0;
	*known = true;
	kho_block_set_it_init(&it, &lu_out.domains.set);
	while (*nr < lu_out.domains.nr && (domain = kho_block_set_it_read_entry(&it))) {
		if (domain->unit == unit && domain->table == table)
			return domain;
		(*nr)++;
	}

	*known = false;
	domain = lu_list_add(&lu_out.domains);
	if (IS_ERR(domain))
		return domain;
	domain->unit = unit;
	domain->table = table;
	return domain;
}

/**
 * iommu_lu_page - hand over memory that the hardware may read
 * @page: the memory, a folio
 * @first: set to its number if @nr is zero
 * @nr: how many pages its user has; one more now
 *
 * All pages of one user are handed over in a row.
 *
 * Context: process context, while a kexec begins.
 * Return: 0, or the error of a lack of memory.
 */
int iommu_lu_page(void *page, u64 *first, u64 *nr)
{
	struct folio *folio = virt_to_folio(page);
	struct iommu_liveupdate_page_ser *ser;
	int err;

	ser = lu_list_add(&lu_out.pages);
	if (IS_ERR(ser))
		return PTR_ERR(ser);
	err = kho_preserve_folio(folio);
	if (err)
		return err;	/* the entry stays without an address */
	ser->address = PFN_PHYS(folio_pfn(folio)) | folio_order(folio);
	if (!*nr)
		*first = lu_out.pages.nr - 1;
	(*nr)++;
	return 0;
}

static void lu_end(void)
{
	struct iommu_liveupdate_page_ser *page;
	struct kho_block_set_it it;

	kho_block_set_it_init(&it, &lu_out.pages.set);
	for (u64 n = 0; n < lu_out.pages.nr; n++) {
		page = kho_block_set_it_read_entry(&it);
		if (page && page->address)
			kho_unpreserve_folio(pfn_folio(PHYS_PFN(page->address)));
	}
	kho_block_set_destroy(&lu_out.pages.set);
	kho_block_set_destroy(&lu_out.domains.set);
	kho_block_set_destroy(&lu_out.units.set);
	kho_unpreserve_free(lu_out.ser);
	lu_out = (struct lu_out){};
}

/**
 * iommu_liveupdate_unfreeze - there is no kexec, or nothing goes on translated in it
 *
 * Called once or more for all that is frozen.
 *
 * Context: process context.
 */
void iommu_liveupdate_unfreeze(void)
{
	if (lu_out.ser)
		lu_end();
	/* Its driver may have begun where there was no memory for the first of it */
	iommu_lu_forget();
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_unfreeze);

/**
 * iommu_liveupdate_hand_over - what the next kernel finds all of it by
 * @pa: set to the physical address of a &struct iommu_liveupdate_ser, 0 if nothing is
 *	frozen
 *
 * Context: process context, when all is frozen.
 * Return: 0, or the error of a lack of memory.
 */
int iommu_liveupdate_hand_over(u64 *pa)
{
	int err;

	*pa = 0;
	if (!lu_out.ser)
		return 0;
	err = iommu_lu_build();
	if (err)
		return err;
	lu_out.ser->units = kho_block_set_head_pa(&lu_out.units.set);
	lu_out.ser->domains = kho_block_set_head_pa(&lu_out.domains.set);
	lu_out.ser->pages = kho_block_set_head_pa(&lu_out.pages.set);
	lu_out.ser->nr_units = lu_out.units.nr;
	lu_out.ser->nr_domains = lu_out.domains.nr;
	lu_out.ser->nr_pages = lu_out.pages.nr;
	*pa = virt_to_phys(lu_out.ser);
	return 0;
}

/* --- the next kernel ------------------------------------------------------------ */

/* Copies a list into memory of this kernel; the other's is freed */
static void *lu_list_read(u64 head, u64 nr, size_t size)
{
	struct kho_block_set set;
	struct kho_block_set_it it;
	void *all, *entry;
	u64 n = 0;

	if (!nr != !head || !PAGE_ALIGNED(head) || (head && !pfn_valid(PHYS_PFN(head))))
		return ERR_PTR(-EINVAL);
	kho_block_set_init(&set, size);
	if (kho_block_set_restore(&set, head))
		return ERR_PTR(-EINVAL);

	all = nr <= set.nblocks * set.count_per_block ? kvcalloc(max(nr, 1), size, GFP_KERNEL) :
							ERR_PTR(-EINVAL);
	if (!IS_ERR_OR_NULL(all)) {
		kho_block_set_it_init(&it, &set);
		while (n < nr && (entry = kho_block_set_it_read_entry(&it)))
			memcpy(all + size * n++, entry, size);
	}
	kho_block_set_destroy(&set);
	if (!all)
		return ERR_PTR(-ENOMEM);
	if (!IS_ERR(all) && n != nr) {
		kvfree(all);
		return ERR_PTR(-EINVAL);
	}
	return all;
}

/* The next part of the list, whose user has its tables there? */
static bool lu_takes(const struct iommu_lu_in *in, u64 *end, u64 first, u64 nr, u64 table)
{
	if (first < *end || first > in->nr_pages || nr > in->nr_pages - first)
		return false;
	*end = first + nr;
	return iommu_lu_has_page(in, first, nr, table);
}

static bool lu_page_is_good(u64 entry)
{
	u64 order = entry & ~PAGE_MASK, address = entry & PAGE_MASK;

	/* An entry that could not be used is left in the list */
	return !entry || (order <= MAX_PAGE_ORDER && IS_ALIGNED(address, PAGE_SIZE << order) &&
			  pfn_valid(PHYS_PFN(address)));
}

/**
 * iommu_lu_check - can what was handed over be true, as far as it can be told by itself?
 * @in: units and pages
 * @domains: as many domains as @in says
 *
 * If so, every number in it is that of something which is there, and every page is memory.
 *
 * Return: NULL, or what is wrong.
 */
const char *iommu_lu_check(const struct iommu_lu_in *in,
			   const struct iommu_liveupdate_domain_ser *domains)
{
	u64 end = 0;

	for (u64 n = 0; n < in->nr_pages; n++)
		if (!lu_page_is_good(in->pages[n]))
			return "a page that is not memory";

	for (u32 n = 0; n < in->nr_domains; n++) {
		const struct iommu_liveupdate_domain_ser *domain = &domains[n];

		if (domain->unit >= in->nr_units)
			return "a domain of an unknown unit";
		if (domain->format >= IOMMU_LIVEUPDATE_FORMAT_NR)
			return "a page table of an unknown format";
		if (domain->reserved32 ||
		    memchr_inv(domain->reserved, 0, sizeof(domain->reserved)))
			return "reserved fields of a domain in use";
		if (!lu_takes(in, &end, domain->first_page, domain->nr_pages, domain->table))
			return "a domain without tables of its own";
	}

	for (u32 n = 0; n < in->nr_units; n++) {
		const struct iommu_liveupdate_unit_ser *unit = &in->units[n];

		if (unit->kind >= IOMMU_LIVEUPDATE_KIND_NR)
			return "a unit of an unknown kind";
		if (memchr_inv(unit->reserved, 0, sizeof(unit->reserved)))
			return "reserved fields of a unit in use";
		if (!lu_takes(in, &end, unit->first_page, unit->nr_pages, unit->root))
			return "a unit without tables of its own";
	}
	return NULL;
}

/**
 * iommu_lu_read - what has the previous kernel frozen?
 * @pa: physical address of a &struct iommu_liveupdate_ser
 * @in: filled in
 *
 * Nothing in it is believed. What it is about stays reserved, also if it cannot be read.
 *
 * Context: process context, at boot.
 * Return: NULL, or why it cannot be read.
 */
const char *iommu_lu_read(u64 pa, struct iommu_lu_in *in)
{
	struct iommu_liveupdate_domain_ser *domains;
	struct iommu_liveupdate_ser *ser;
	const char *why;

	if (!PAGE_ALIGNED(pa) || !pfn_valid(PHYS_PFN(pa)))
		return "it is not in memory";
	ser = phys_to_virt(pa);
	if (ser->nr_units > U16_MAX || ser->nr_domains > U16_MAX || ser->nr_pages > S32_MAX ||
	    memchr_inv(ser->reserved, 0, sizeof(ser->reserved)))
		return "it is damaged";

	in->nr_units = ser->nr_units;
	in->nr_domains = ser->nr_domains;
	in->nr_pages = ser->nr_pages;
	in->units = lu_list_read(ser->units, ser->nr_units, sizeof(*in->units));
	domains = lu_list_read(ser->domains, ser->nr_domains, sizeof(*domains));
	in->pages = lu_list_read(ser->pages, ser->nr_pages, sizeof(*in->pages));
	in->domains = kvcalloc(max(in->nr_domains, 1), sizeof(*in->domains), GFP_KERNEL);
	kho_restore_free(ser);

	if (IS_ERR(in->units) || IS_ERR(domains) || IS_ERR(in->pages))
		why = "a list in it is damaged, or there is no memory for it";
	else if (!in->domains)
		why = "no memory for it";
	else
		why = iommu_lu_check(in, domains);

	if (!why) {
		for (u32 n = 0; n < in->nr_domains; n++)
			in->domains[n] = (struct iommu_lu_domain_in){
				.table = domains[n].table,
				.unit = domains[n].unit,
				.levels = domains[n].levels,
				.format = domains[n].format,
				.first_page = domains[n].first_page,
				.nr_pages = domains[n].nr_pages,
			};
	} else {
		if (!IS_ERR(in->units))
			kvfree(in->units);
		if (!IS_ERR(in->pages))
			kvfree(in->pages);
		kvfree(in->domains);
		*in = (struct iommu_lu_in){};
	}
	if (!IS_ERR(domains))
		kvfree(domains);
	return why;
}

/**
 * iommu_lu_has_page - is this one of these pages?
 * @in: what was handed over
 * @first: first of the pages
 * @nr: how many there are
 * @address: physical address of it
 *
 * Return: true if it is.
 */
bool iommu_lu_has_page(const struct iommu_lu_in *in, u64 first, u64 nr, u64 address)
{
	for (u64 n = 0; n < nr; n++)
		if (in->pages[first + n] && (in->pages[first + n] & PAGE_MASK) == address)
			return true;
	return false;
}

/**
 * iommu_lu_free - free pages that the hardware does not read any more
 * @in: what was handed over
 * @first: first of the pages
 * @nr: how many there are
 *
 * Context: any that may free memory.
 */
void iommu_lu_free(const struct iommu_lu_in *in, u64 first, u64 nr)
{
	for (u64 n = first; n < first + nr; n++) {
		if (in->pages[n])
			kho_restore_free(phys_to_virt(in->pages[n] & PAGE_MASK));
		in->pages[n] = 0;
	}
}

/**
 * iommu_lu_is_shared - does another unit use the page table of a domain?
 * @in: what was handed over
 * @domain: the domain
 *
 * Then there is a domain of each unit, and each has all pages of the table.
 *
 * Return: true as long as the pages are those of another domain, too.
 */
bool iommu_lu_is_shared(const struct iommu_lu_in *in, const struct iommu_lu_domain_in *domain)
{
	for (u32 n = 0; n < in->nr_domains; n++) {
		const struct iommu_lu_domain_in *other = &in->domains[n];

		if (other != domain && other->table == domain->table && other->nr_pages)
			return true;
	}
	return false;
}
