// SPDX-License-Identifier: GPL-2.0
/*
 * VT-d under Live Update: domains that are frozen for the next kernel.
 */

/**
 * DOC: Frozen domains behind VT-d
 *
 * In legacy mode, where a Requester ID has one entry in a context table, which points to a
 * second-stage page table. Anything else is not frozen, and its device is paused.
 *
 * The hardware reads root table, context table and page table, so these are handed over,
 * the first two as copies that have the entries of frozen devices alone. When the kernel
 * is left the unit is pointed to the copies with translation on (VT-d 4.1, sec 6.6: all
 * that it may have cached of the tables before is invalidated afterwards), so that
 * whoever had an entry before and is not stopped gets a fault. Devices that firmware
 * uses (RMRR) get an entry that passes their requests through, which is what becomes of
 * them in a kexec without Live Update.
 *
 * A write to 0xfeexxxxx is an interrupt, whoever makes it and whatever its page table
 * says, and the table for these is cleared and handed over, too: nothing that a user has
 * programmed into his device raises an interrupt, or writes to where an interrupt
 * was posted to, before the next kernel has a table of its own.
 */

#define pr_fmt(fmt) "DMAR: Live Update: " fmt

#include <linux/cpufeature.h>
#include <linux/dmar.h>
#include <linux/iommu_liveupdate.h>
#include <linux/pci.h>
#include <linux/pci-ats.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "../iommu-pages.h"
#include "../liveupdate.h"
#include "liveupdate.h"

#define VTD_RIGHTS	(DMA_PTE_READ | DMA_PTE_WRITE)
#define VTD_ADDRESS	GENMASK_ULL(51, VTD_PAGE_SHIFT)
#define VTD_ENTRIES	(VTD_PAGE_SIZE / sizeof(u64))

static u64 vtd_size(int level)
{
	return 1ULL << (VTD_PAGE_SHIFT + level_to_offset_bits(level));
}

static bool vtd_is_leaf(u64 entry, int level)
{
	return level == 1 || entry & DMA_PTE_LARGE_PAGE;
}

/**
 * vtd_lu_walk - look at a whole page table
 * @walk: what to do with it
 * @table: physical address of a page of it
 * @level: level of that page, 1 for the lowest
 * @iova: first address that it translates
 *
 * Second stage, as hardware reads it (VT-d 4.1, sec 9.8).
 *
 * Context: may sleep; the table must not change.
 * Return: 0, the first error of a callback, or -EFAULT if it leads to where no memory is.
 */
int vtd_lu_walk(const struct vtd_lu_walk *walk, u64 table, int level, u64 iova)
{
	const u64 *entries;
	int err = 0;

	if (!walk->trusted && !pfn_valid(PHYS_PFN(table)))
		return -EFAULT;
	if (walk->table)
		err = walk->table(walk->data, table);

	entries = phys_to_virt(table);
	for (unsigned int n = 0; !err && n < VTD_ENTRIES; n++, iova += vtd_size(level)) {
		u64 entry = READ_ONCE(entries[n]);
		u64 address = entry & VTD_ADDRESS;

		if (!(entry & VTD_RIGHTS))
			continue;
		if (vtd_is_leaf(entry, level))
			err = walk->leaf(walk->data, iova, address & -vtd_size(level),
					 vtd_size(level), entry & VTD_RIGHTS);
		else
			err = vtd_lu_walk(walk, address, level - 1, iova);
	}
	cond_resched();
	return err;
}

/**
 * vtd_lu_lookup - what does a page table of this kernel translate an address to?
 * @table: physical address of the top of the table
 * @levels: how many it has
 * @iova: the address
 * @size: set to what the leaf maps, in bytes
 * @rights: set to DMA_PTE_READ, DMA_PTE_WRITE
 *
 * Context: the table must not change.
 * Return: physical address of what the leaf maps; U64_MAX if there is none.
 */
u64 vtd_lu_lookup(u64 table, int levels, u64 iova, u64 *size, u64 *rights)
{
	if (iova >> (VTD_PAGE_SHIFT + LEVEL_STRIDE * levels))
		return U64_MAX;

	for (int level = levels; level; level--) {
		const u64 *entries = phys_to_virt(table);
		u64 entry = READ_ONCE(entries[pfn_level_offset(iova >> VTD_PAGE_SHIFT, level)]);

		if (!(entry & VTD_RIGHTS))
			break;
		table = entry & VTD_ADDRESS;
		if (vtd_is_leaf(entry, level)) {
			*size = vtd_size(level);
			*rights = entry & VTD_RIGHTS;
			return table & -*size;
		}
	}
	return U64_MAX;
}

/**
 * struct vtd_out - a device with a frozen domain
 * @list:	in the order of freezing
 * @iommu:	its unit
 * @unit:	number of that
 * @bus:	its Requester ID
 * @devfn:	its Requester ID
 * @entry:	its context entry
 */
struct vtd_out {
	struct list_head list;
	struct intel_iommu *iommu;
	u32 unit;
	u8 bus;
	u8 devfn;
	struct context_entry entry;
};

/* Changed while the kexec begins or is called off, which happens once at a time */
static LIST_HEAD(vtd_out);

/* By number of the unit: what the hardware is given when the kernel is left */
static struct root_entry *vtd_roots[DMAR_UNITS_SUPPORTED];

static int vtd_count(struct device *dev, void *data)
{
	(*(unsigned int *)data)++;
	return 0;
}

static int vtd_is_other_alias(struct pci_dev *pdev, u16 alias, void *data)
{
	return alias != pci_dev_id(data);
}

/**
 * iommu_liveupdate_refusal - can a device go on in its domain during a kexec?
 * @dev: PCI device
 * @domain: domain that it is attached to
 *
 * Context: process context; @dev stays attached.
 * Return: NULL if so, as far as it is up to the IOMMU, or why not.
 */
const char *iommu_liveupdate_refusal(struct device *dev, struct iommu_domain *domain)
{
	struct dmar_domain *dmar_domain = to_dmar_domain(domain);
	struct device_domain_info *info;
	unsigned int members = 0;

	if (!dev->iommu || domain->owner != &intel_iommu_ops)
		return "an IOMMU translates for it that cannot be handed over";
	info = dev_iommu_priv_get(dev);
	if (sm_supported(info->iommu) || !intel_domain_is_ss_paging(dmar_domain))
		return "the IOMMU is in scalable mode";
	if (!system_has_cmpxchg128() || !info->iommu->qi)
		return "the IOMMU or the processor is too old";
	if (info->domain != dmar_domain || dmar_domain->nested_parent ||
	    dmar_domain->dirty_tracking)
		return "its page table is used for more than DMA";
	if (dev->iommu->require_direct)
		return "firmware uses it";
	if (info->ats_supported)
		return "it may have translations of its own (ATS)";
	if (dev_is_real_dma_subdevice(dev) ||
	    pci_for_each_dma_alias(to_pci_dev(dev), vtd_is_other_alias, to_pci_dev(dev)))
		return "its requests come under another device's ID";
	if (iommu_group_for_each_dev(dev->iommu_group, &members, vtd_count) || members != 1)
		return "it is not alone in its IOMMU group";
	return NULL;
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_refusal);

/* What a walk through a page table that is being frozen goes by */
struct vtd_freeze {
	const struct iommu_liveupdate_check *check;
	struct iommu_liveupdate_domain_ser *domain;
	bool known;
	const char **why;
};

static int vtd_freeze_table(void *data, u64 address)
{
	struct vtd_freeze *freeze = data;

	if (freeze->known)
		return 0;
	*freeze->why = "no memory for what is handed over";
	return iommu_lu_page(phys_to_virt(address), &freeze->domain->first_page,
			     &freeze->domain->nr_pages);
}

static int vtd_freeze_leaf(void *data, u64 iova, u64 address, u64 size, u64 rights)
{
	struct vtd_freeze *freeze = data;

	*freeze->why = freeze->check->leaf(freeze->check->data, address, size);
	return *freeze->why ? -EINVAL : 0;
}

static struct vtd_out *vtd_out_alloc(struct device_domain_info *info)
{
	struct vtd_out *out = kzalloc_obj(*out);
	struct context_entry *live;

	if (!out)
		return NULL;
	out->iommu = info->iommu;
	out->bus = info->bus;
	out->devfn = info->devfn;

	guard(spinlock)(&info->iommu->lock);
	live = iommu_context_addr(info->iommu, info->bus, info->devfn, 0);
	if (live)
		out->entry = *live;
	return out;
}

/**
 * iommu_liveupdate_freeze - hand a domain over
 * @dev: device that goes on in it
 * @domain: the domain, whose page table does not change from here on
 * @check: may the device reach this?
 * @ser: filled in, for the device's record
 * @why: set if it cannot be handed over, in words that fit behind "cannot be handed over: "
 *
 * If it fails, the kexec is called off, and so is everything that has been frozen.
 *
 * Context: process context, while a kexec begins.
 * Return: 0, the error of a lack of memory, or -EINVAL.
 */
int iommu_liveupdate_freeze(struct device *dev, struct iommu_domain *domain,
			    const struct iommu_liveupdate_check *check,
			    struct pci_liveupdate_iommu_ser *ser, const char **why)
{
	struct vtd_freeze freeze = { .check = check, .why = why };
	struct vtd_lu_walk walk = {
		.table	 = vtd_freeze_table,
		.leaf	 = vtd_freeze_leaf,
		.trusted = true,
		.data	 = &freeze,
	};
	struct pt_iommu_vtdss_hw_info info;
	struct intel_iommu *iommu;
	struct vtd_out *out;
	u32 nr;
	int err;

	*why = iommu_liveupdate_refusal(dev, domain);
	if (*why)
		return -EINVAL;
	pt_iommu_vtdss_hw_info(&to_dmar_domain(domain)->sspt, &info);

	*why = "no memory for what is handed over";
	out = vtd_out_alloc(dev_iommu_priv_get(dev));
	if (!out)
		return -ENOMEM;
	list_add_tail(&out->list, &vtd_out);
	iommu = out->iommu;
	if (IS_ERR(iommu_lu_unit(IOMMU_LIVEUPDATE_VTD_LEGACY, iommu->segment,
				 iommu->reg_phys, &out->unit)))
		return -ENOMEM;
	freeze.domain = iommu_lu_domain(out->unit, info.ssptptr, &nr, &freeze.known);
	if (IS_ERR(freeze.domain))
		return -ENOMEM;
	freeze.domain->levels = agaw_to_level(info.aw);

	if (!context_present(&out->entry) || (out->entry.lo & VTD_PAGE_MASK) != info.ssptptr ||
	    (out->entry.hi & 7) != info.aw) {
		*why = "the IOMMU's entry for it is not what this kernel knows";
		return -EINVAL;
	}

	/* Another device may be of another session: it is looked at again */
	err = vtd_lu_walk(&walk, info.ssptptr, freeze.domain->levels, 0);
	if (err)
		return err;
	*why = NULL;
	*ser = (struct pci_liveupdate_iommu_ser){
		.domain	= nr,
		.tag	= context_domain_id(&out->entry),
		.stream	= PCI_DEVID(out->bus, out->devfn),
	};
	return 0;
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_freeze);

static int vtd_set_entry(struct root_entry *root, u8 bus, u8 devfn,
			 const struct context_entry *entry,
			 struct iommu_liveupdate_unit_ser *unit)
{
	struct context_entry *table;

	if (!(root[bus].lo & 1)) {
		table = (void *)get_zeroed_page(GFP_KERNEL);
		if (!table)
			return -ENOMEM;
		/* Known from here on, to be freed */
		root[bus].lo = virt_to_phys(table) | 1;
		if (iommu_lu_page(table, &unit->first_page, &unit->nr_pages))
			return -ENOMEM;
	}
	table = phys_to_virt(root[bus].lo & VTD_PAGE_MASK);
	table[devfn] = *entry;
	return 0;
}

/* Devices that firmware uses: their requests pass */
static int vtd_set_reserved(struct intel_iommu *iommu, struct root_entry *root,
			    struct iommu_liveupdate_unit_ser *unit)
{
	struct pci_dev *pdev = NULL;
	int err = 0;

	if (!ecap_pass_through(iommu->ecap))
		return 0;
	for_each_pci_dev(pdev) {
		struct device_domain_info *info;
		struct context_entry entry = {};

		if (!pdev->dev.iommu || !pdev->dev.iommu->require_direct)
			continue;
		info = dev_iommu_priv_get(&pdev->dev);
		if (!info || info->iommu != iommu)
			continue;
		context_set_domain_id(&entry, FLPT_DEFAULT_DID);
		context_set_address_width(&entry, iommu->msagaw);
		context_set_translation_type(&entry, CONTEXT_TT_PASS_THROUGH);
		context_set_present(&entry);
		err = vtd_set_entry(root, info->bus, info->devfn, &entry, unit);
		if (err) {
			pci_dev_put(pdev);
			return err;
		}
	}
	return 0;
}

static void vtd_flush_tables(struct intel_iommu *iommu, struct root_entry *root)
{
	for (int bus = 0; bus < VTD_PAGE_SIZE / sizeof(*root); bus++)
		if (root[bus].lo & 1)
			__iommu_flush_cache(iommu, phys_to_virt(root[bus].lo & VTD_PAGE_MASK),
					    VTD_PAGE_SIZE);
	__iommu_flush_cache(iommu, root, VTD_PAGE_SIZE);
}

static int vtd_build(struct intel_iommu *iommu)
{
	struct iommu_liveupdate_unit_ser *unit;
	struct root_entry *root;
	struct vtd_out *out;
	u32 nr;
	int err;

	unit = iommu_lu_unit(IOMMU_LIVEUPDATE_VTD_LEGACY, iommu->segment, iommu->reg_phys, &nr);
	if (IS_ERR(unit))
		return PTR_ERR(unit);
	root = (void *)get_zeroed_page(GFP_KERNEL);
	if (!root)
		return -ENOMEM;
	vtd_roots[iommu->seq_id] = root;
	unit->root = virt_to_phys(root);
	err = iommu_lu_page(root, &unit->first_page, &unit->nr_pages);

#ifdef CONFIG_IRQ_REMAP
	if (!err && iommu->ir_table)
		err = iommu_lu_page(iommu->ir_table->base, &unit->first_page,
				    &unit->nr_pages);
#endif
	if (!err)
		err = vtd_set_reserved(iommu, root, unit);
	list_for_each_entry(out, &vtd_out, list)
		if (!err && out->iommu == iommu)
			err = vtd_set_entry(root, out->bus, out->devfn, &out->entry, unit);
	vtd_flush_tables(iommu, root);
	return err;
}

/**
 * iommu_lu_build - make what the hardware reads when the kernel is left
 *
 * Context: process context, when all is frozen.
 * Return: 0, or the error of a lack of memory.
 */
int iommu_lu_build(void)
{
	struct vtd_out *out;

	list_for_each_entry(out, &vtd_out, list) {
		int err = vtd_roots[out->iommu->seq_id] ? 0 : vtd_build(out->iommu);

		if (err)
			return err;
	}
	return 0;
}

/**
 * iommu_lu_forget - there is no kexec
 *
 * Context: process context, when what has been handed over is not any more.
 */
void iommu_lu_forget(void)
{
	struct vtd_out *out, *next;

	for (int id = 0; id < ARRAY_SIZE(vtd_roots); id++) {
		struct root_entry *root = vtd_roots[id];

		if (!root)
			continue;
		vtd_roots[id] = NULL;
		for (int bus = 0; bus < VTD_PAGE_SIZE / sizeof(*root); bus++)
			if (root[bus].lo & 1)
				free_page((unsigned long)phys_to_virt(root[bus].lo &
								      VTD_PAGE_MASK));
		free_page((unsigned long)root);
	}
	list_for_each_entry_safe(out, next, &vtd_out, list)
		kfree(out);
	INIT_LIST_HEAD(&vtd_out);
}

/**
 * intel_lu_shutdown - leave the hardware to the next kernel
 * @iommu: unit
 *
 * Context: the last CPU, when all devices have been shut down.
 * Return: false if nothing goes on behind @iommu: it is switched off as always.
 */
bool intel_lu_shutdown(struct intel_iommu *iommu)
{
	if (!vtd_roots[iommu->seq_id])
		return false;

	/* An event would be a message to a vector of this kernel */
	writel(DMA_FECTL_IM, iommu->reg + DMAR_FECTL_REG);

	/* With the invalidations that VT-d 4.1, sec 6.6 wants after it */
	iommu->root_entry = vtd_roots[iommu->seq_id];
	iommu_set_root_entry(iommu);

#ifdef CONFIG_IRQ_REMAP
	if (iommu->ir_table) {
		memset(iommu->ir_table->base, 0, SZ_1M);
		__iommu_flush_cache(iommu, iommu->ir_table->base, SZ_1M);
		qi_global_iec(iommu);
	}
#endif
	return true;
}
