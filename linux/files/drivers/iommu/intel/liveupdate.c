// SPDX-License-Identifier: GPL-2.0
/*
 * VT-d under Live Update: domains that are frozen for the next kernel.
 */

/**
 * DOC: Frozen domains behind VT-d
 *
 * In legacy mode a Requester ID has one entry in a context table, which points to a
 * second-stage page table. In scalable mode the entry points to a PASID directory, that
 * to a PASID table, and its entry for requests without a PASID to a page table of the
 * first or second stage. Who has more than that, nested tables, PASIDs, page requests,
 * is not frozen, and is paused.
 *
 * The hardware reads all of these tables, so they are handed over. But for the page
 * table they are copies that have the entries of frozen devices alone: nobody needs to
 * know where else the live ones lead. When the kernel is left the unit is pointed to the
 * copies with translation on (VT-d 4.1, sec 6.6: all that it may have cached of the
 * tables before is invalidated afterwards), so that whoever had an entry before and is
 * not stopped gets a fault. Devices that firmware uses (RMRR) get an entry that passes
 * their requests through, if the unit can, which is what becomes of them in a kexec
 * without Live Update.
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

/**
 * struct vtd_out - a device with a frozen domain
 * @list:	in the order of freezing
 * @iommu:	its unit
 * @unit:	number of that
 * @bus:	its Requester ID
 * @devfn:	its Requester ID
 * @entry:	what the hardware is told of it
 */
struct vtd_out {
	struct list_head list;
	struct intel_iommu *iommu;
	u32 unit;
	u8 bus;
	u8 devfn;
	struct vtd_lu_entry entry;
};

/* Changed while the kexec begins or is called off, which happens once at a time */
static LIST_HEAD(vtd_out);

/* By number of the unit: what the hardware is given when the kernel is left */
static struct root_entry *vtd_roots[DMAR_UNITS_SUPPORTED];

/* ... and all the pages that it consists of, by page->lru */
static LIST_HEAD(vtd_pages);

static enum iommu_liveupdate_kind vtd_kind(struct intel_iommu *iommu)
{
	return sm_supported(iommu) ? IOMMU_LIVEUPDATE_VTD_SCALABLE : IOMMU_LIVEUPDATE_VTD_LEGACY;
}

/**
 * intel_lu_table_of - which page table is that of a domain?
 * @domain: domain of the kernel, of either stage
 * @table: set to it
 */
void intel_lu_table_of(struct dmar_domain *domain, struct vtd_lu_table *table)
{
	struct pt_iommu_x86_64_hw_info first;
	struct pt_iommu_vtdss_hw_info second;

	table->first = intel_domain_is_fs_paging(domain);
	if (table->first) {
		pt_iommu_x86_64_hw_info(&domain->fspt, &first);
		table->top = first.gcr3_pt;
		table->levels = first.levels;
	} else {
		pt_iommu_vtdss_hw_info(&domain->sspt, &second);
		table->top = second.ssptptr;
		table->levels = agaw_to_level(second.aw);
	}
}

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
	if (!intel_domain_is_ss_paging(dmar_domain) && !intel_domain_is_fs_paging(dmar_domain))
		return "its page table is not one of the kernel's";
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
	struct pasid_entry *pasids;

	if (!out)
		return NULL;
	out->iommu = info->iommu;
	out->bus = info->bus;
	out->devfn = info->devfn;

	guard(spinlock)(&info->iommu->lock);
	live = iommu_context_addr(info->iommu, info->bus, info->devfn, 0);
	if (!live)
		return out;
	if (!sm_supported(info->iommu)) {
		out->entry.context = *live;
	} else if (info->pasid_table && context_present(live) &&
		   (live->lo & VTD_PAGE_MASK) == virt_to_phys(info->pasid_table->table)) {
		pasids = get_pasid_table_from_pde(info->pasid_table->table);
		if (pasids)
			out->entry.pasid = pasids[IOMMU_NO_PASID];
	}
	return out;
}

/**
 * iommu_liveupdate_look - look at all that a domain leads to
 * @domain: the domain, that iommu_liveupdate_refusal() has nothing against
 * @check: may the device reach this?
 *
 * Context: process context; the domain's page table must not change.
 * Return: NULL if it may reach all of it, or why not.
 */
const char *iommu_liveupdate_look(struct iommu_domain *domain,
				  const struct iommu_liveupdate_check *check)
{
	const char *why = NULL;
	struct vtd_freeze freeze = { .check = check, .why = &why };
	const struct vtd_lu_walk walk = {
		.leaf	= vtd_freeze_leaf,
		.data	= &freeze,
	};
	struct vtd_lu_table table;

	intel_lu_table_of(to_dmar_domain(domain), &table);
	vtd_lu_walk(&walk, &table);
	return why;
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_look);

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
	const struct vtd_lu_walk walk = {
		.table	= vtd_freeze_table,
		.leaf	= vtd_freeze_leaf,
		.data	= &freeze,
	};
	struct vtd_lu_table table, entry;
	struct intel_iommu *iommu;
	struct vtd_out *out;
	u16 did;
	u32 nr;
	int err;

	*why = iommu_liveupdate_refusal(dev, domain);
	if (*why)
		return -EINVAL;
	intel_lu_table_of(to_dmar_domain(domain), &table);

	*why = "no memory for what is handed over";
	out = vtd_out_alloc(dev_iommu_priv_get(dev));
	if (!out)
		return -ENOMEM;
	list_add_tail(&out->list, &vtd_out);
	iommu = out->iommu;
	if (IS_ERR(iommu_lu_unit(vtd_kind(iommu), iommu->segment, iommu->reg_phys, &out->unit)))
		return -ENOMEM;
	freeze.domain = iommu_lu_domain(out->unit, table.top, &nr, &freeze.known);
	if (IS_ERR(freeze.domain))
		return -ENOMEM;
	freeze.domain->levels = table.levels;
	freeze.domain->format = table.first ? IOMMU_LIVEUPDATE_VTD_FIRST :
					      IOMMU_LIVEUPDATE_VTD_SECOND;

	if (!vtd_lu_entry_table(&out->entry, sm_supported(iommu), &entry, &did) ||
	    entry.top != table.top || entry.levels != table.levels ||
	    entry.first != table.first ||
	    did != domain_id_iommu(to_dmar_domain(domain), iommu)) {
		*why = "the IOMMU's entry for it is not what this kernel knows";
		return -EINVAL;
	}

	/* Another device may be of another session: it is looked at again */
	err = vtd_lu_walk(&walk, &table);
	if (err)
		return err;
	*why = NULL;
	*ser = (struct pci_liveupdate_iommu_ser){
		.domain	= nr,
		.tag	= did,
		.stream	= PCI_DEVID(out->bus, out->devfn),
	};
	return 0;
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_freeze);

/* Freed by iommu_lu_forget(), whatever becomes of it here */
static void *vtd_new_page(struct iommu_liveupdate_unit_ser *unit)
{
	void *page = (void *)get_zeroed_page(GFP_KERNEL);

	if (!page)
		return NULL;
	list_add_tail(&virt_to_page(page)->lru, &vtd_pages);
	return iommu_lu_page(page, &unit->first_page, &unit->nr_pages) ? NULL : page;
}

static int vtd_set_entry(struct intel_iommu *iommu, u16 rid, const struct vtd_lu_entry *entry,
			 struct iommu_liveupdate_unit_ser *unit)
{
	bool scalable = sm_supported(iommu);
	struct context_entry *contexts;
	struct pasid_entry *pasids;
	u64 *half, *dir;

	half = vtd_lu_root_half(vtd_roots[iommu->seq_id], scalable, rid);
	if (!*half) {
		contexts = vtd_new_page(unit);
		if (!contexts)
			return -ENOMEM;
		*half = virt_to_phys(contexts) | 1;
	}
	contexts = phys_to_virt(*half & VTD_PAGE_MASK);
	contexts += vtd_lu_index(scalable, rid);
	if (!scalable) {
		*contexts = entry->context;
		return 0;
	}

	/*
	 * The smallest directory there is, with one entry: a PASID that the device may make
	 * up has none.
	 */
	dir = vtd_new_page(unit);
	pasids = dir ? vtd_new_page(unit) : NULL;
	if (!pasids)
		return -ENOMEM;
	pasids[IOMMU_NO_PASID] = entry->pasid;
	dir[0] = virt_to_phys(pasids) | PASID_PTE_PRESENT;
	context_set_sm_rid2pasid(contexts, IOMMU_NO_PASID);
	contexts->lo = virt_to_phys(dir) | 1;
	return 0;
}

/* For each ID under which a device that firmware uses may be seen */
struct vtd_pass {
	struct intel_iommu *iommu;
	struct iommu_liveupdate_unit_ser *unit;
};

static int vtd_set_passing(struct pci_dev *pdev, u16 alias, void *data)
{
	struct vtd_lu_entry entry = {};
	struct vtd_pass *pass = data;

	vtd_lu_entry_pass(pass->iommu, sm_supported(pass->iommu), &entry);
	return vtd_set_entry(pass->iommu, alias, &entry, pass->unit);
}

static int vtd_set_reserved(struct intel_iommu *iommu, struct iommu_liveupdate_unit_ser *unit)
{
	struct vtd_pass pass = { .iommu = iommu, .unit = unit };
	struct pci_dev *pdev = NULL;
	int err;

	if (!ecap_pass_through(iommu->ecap))
		return 0;
	for_each_pci_dev(pdev) {
		struct device_domain_info *info;

		if (!pdev->dev.iommu || !pdev->dev.iommu->require_direct)
			continue;
		info = dev_iommu_priv_get(&pdev->dev);
		if (!info || info->iommu != iommu)
			continue;
		err = pci_for_each_dma_alias(pdev, vtd_set_passing, &pass);
		if (err) {
			pci_dev_put(pdev);
			return err;
		}
	}
	return 0;
}

static int vtd_build(struct intel_iommu *iommu)
{
	struct iommu_liveupdate_unit_ser *unit;
	struct vtd_out *out;
	struct page *page;
	u32 nr;
	int err = 0;

	unit = iommu_lu_unit(vtd_kind(iommu), iommu->segment, iommu->reg_phys, &nr);
	if (IS_ERR(unit))
		return PTR_ERR(unit);
	vtd_roots[iommu->seq_id] = vtd_new_page(unit);
	if (!vtd_roots[iommu->seq_id])
		return -ENOMEM;
	unit->root = virt_to_phys(vtd_roots[iommu->seq_id]);

#ifdef CONFIG_IRQ_REMAP
	if (iommu->ir_table)
		err = iommu_lu_page(iommu->ir_table->base, &unit->first_page,
				    &unit->nr_pages);
#endif
	if (!err)
		err = vtd_set_reserved(iommu, unit);
	list_for_each_entry(out, &vtd_out, list)
		if (!err && out->iommu == iommu)
			err = vtd_set_entry(iommu, PCI_DEVID(out->bus, out->devfn), &out->entry,
					    unit);
	list_for_each_entry(page, &vtd_pages, lru)
		__iommu_flush_cache(iommu, page_address(page), PAGE_SIZE);
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
	struct page *page, *after;

	memset(vtd_roots, 0, sizeof(vtd_roots));
	list_for_each_entry_safe(page, after, &vtd_pages, lru) {
		list_del(&page->lru);
		__free_page(page);
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

	/*
	 * An event would be a message to a vector of this kernel. Page requests come from
	 * devices of others if at all, and would be written to memory of this kernel.
	 */
	writel(DMA_FECTL_IM, iommu->reg + DMAR_FECTL_REG);
	if (ecap_prs(iommu->ecap)) {
		writel(DMA_FECTL_IM, iommu->reg + DMAR_PECTL_REG);
		writeq(0, iommu->reg + DMAR_PQH_REG);
		writeq(0, iommu->reg + DMAR_PQT_REG);
		writeq(0, iommu->reg + DMAR_PQA_REG);
	}

	/* With the invalidations that VT-d 4.1, sec 6.6 wants after it */
	iommu->root_entry = vtd_roots[iommu->seq_id];
	iommu_set_root_entry(iommu);

#ifdef CONFIG_IRQ_REMAP
	if (iommu->ir_table) {
		vtd_lu_clear_irtes(iommu->ir_table->base, INTR_REMAP_TABLE_ENTRIES);
		__iommu_flush_cache(iommu, iommu->ir_table->base, SZ_1M);
		qi_global_iec(iommu);
	}
#endif
	return true;
}
