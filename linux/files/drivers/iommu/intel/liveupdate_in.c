// SPDX-License-Identifier: GPL-2.0
/*
 * VT-d under Live Update: domains that the previous kernel has frozen.
 */

/**
 * DOC: Taking VT-d over
 *
 * Before the units are initialised it is decided which devices can go on: the unit
 * translates, with the root table that was handed over, and the entry of the device in it
 * is that of its domain. Of all others Bus Master is cleared first, and then nothing is
 * different from a boot without Live Update.
 *
 * A unit that has such devices is given a root table of this kernel with their entries in
 * it, and translates all the while (which entries are *copied*, see context_copied(), is a
 * matter of Requester IDs, not of units). Their domain IDs belong to nobody else until the
 * caches have been flushed of them. The core attaches no domain to these devices: see
 * intel_iommu_is_attach_deferred().
 *
 * The owner of a device attaches his domain. If what it maps covers what the frozen one
 * does, the entry is replaced in one store of 128 bits, which is how hardware reads it:
 * there is no moment at which a request is not translated. The rows of VT-d 4.1,
 * sec 6.5.3.3 for a change of a present entry are flushes of the context cache for the
 * device and of the IOTLB for the old domain; the latter waits for requests under way.
 * Then nothing refers to the frozen table.
 *
 * The command line of this kernel does not count where it would end this: it does not
 * switch VT-d off, and does not change its mode.
 */

#define pr_fmt(fmt) "DMAR: Live Update: " fmt

#include <linux/crash_dump.h>
#include <linux/dmar.h>
#include <linux/iommu_liveupdate.h>
#include <linux/pci.h>
#include <linux/pci_liveupdate.h>
#include <linux/slab.h>

#include "../iommu-priv.h"
#include "../liveupdate.h"
#include "liveupdate.h"

bool intel_lu_used __ro_after_init;

/**
 * struct vtd_in - a device that goes on in a frozen domain
 * @iommu:	its unit
 * @segment:	PCI domain (segment) number
 * @rid:	its Requester ID
 * @did:	Domain ID of the frozen domain in @iommu
 * @domain:	number of that
 * @entry:	its context entry
 * @frozen:	that entry is in use
 */
struct vtd_in {
	struct intel_iommu *iommu;
	u32 segment;
	u16 rid;
	u16 did;
	u32 domain;
	struct context_entry entry;
	bool frozen;
};

/* After boot guarded by vtd_in_lock. Below it are iommu->did_lock and iommu->lock */
static DEFINE_MUTEX(vtd_in_lock);
static struct iommu_lu_in vtd_handed;
static struct vtd_in *vtd_ins;
static u32 vtd_nr_ins;

/* Units with at least one of them, by number */
static DECLARE_BITMAP(vtd_adopted, DMAR_UNITS_SUPPORTED);

static struct vtd_in *vtd_find(u32 segment, u16 rid)
{
	for (u32 n = 0; n < vtd_nr_ins; n++)
		if (vtd_ins[n].segment == segment && vtd_ins[n].rid == rid)
			return &vtd_ins[n];
	return NULL;
}

static struct intel_iommu *vtd_find_iommu(const struct iommu_liveupdate_unit_ser *unit)
{
	struct dmar_drhd_unit *drhd;
	struct intel_iommu *iommu;

	for_each_active_iommu(iommu, drhd)
		if (iommu->segment == unit->segment && iommu->reg_phys == unit->base)
			return iommu;
	return NULL;
}

/* Why a device cannot go on; NULL if it can, and then @in is complete */
static const char *vtd_judge(struct vtd_in *in, const struct pci_liveupdate_iommu_ser *ser)
{
	const struct iommu_liveupdate_unit_ser *unit;
	const struct iommu_lu_domain_in *domain;
	const struct context_entry *table;
	const struct root_entry *root;

	if (ser->domain >= vtd_handed.nr_domains || ser->stream != in->rid)
		return "its domain was not handed over";
	domain = &vtd_handed.domains[ser->domain];
	unit = &vtd_handed.units[domain->unit];
	in->domain = ser->domain;
	in->did = ser->tag;
	in->iommu = vtd_find_iommu(unit);
	if (!in->iommu || in->segment != unit->segment)
		return "its IOMMU is not there";
	if (unit->kind != IOMMU_LIVEUPDATE_VTD_LEGACY)
		return "its IOMMU is in an unknown mode";
	if (!(readl(in->iommu->reg + DMAR_GSTS_REG) & DMA_GSTS_TES) ||
	    readq(in->iommu->reg + DMAR_RTADDR_REG) != unit->root)
		return "its IOMMU has other tables";

	root = phys_to_virt(unit->root);
	root += PCI_BUS_NUM(in->rid);
	if (!(root->lo & 1) || !iommu_lu_has_page(&vtd_handed, unit->first_page, unit->nr_pages,
						  root->lo & VTD_PAGE_MASK))
		return "its IOMMU has no entry for it";
	table = phys_to_virt(root->lo & VTD_PAGE_MASK);
	in->entry = table[in->rid & 0xff];
	if (!context_present(&in->entry) ||
	    (in->entry.lo & VTD_PAGE_MASK) != domain->table ||
	    context_domain_id(&in->entry) != in->did ||
	    agaw_to_level(in->entry.hi & 7) != domain->levels)
		return "the IOMMU's entry for it is another";
	if (in->did < IDA_START_DID || in->did >= in->iommu->max_domain_id)
		return "its Domain ID is not one";
	return NULL;
}

static int vtd_add(u32 segment, u16 rid, const struct pci_liveupdate_iommu_ser *ser, void *data)
{
	const char **whys = data;
	struct vtd_in *in = &vtd_ins[vtd_nr_ins];

	in->segment = segment;
	in->rid = rid;
	whys[vtd_nr_ins] = vtd_judge(in, ser);
	in->frozen = !whys[vtd_nr_ins];
	vtd_nr_ins++;
	return 0;
}

static int vtd_count(u32 segment, u16 rid, const struct pci_liveupdate_iommu_ser *ser, void *data)
{
	(*(u32 *)data)++;
	return 0;
}

/**
 * intel_lu_prepare - decide which devices go on
 *
 * Context: at boot, before a unit is initialised; dmar_global_lock is held.
 * Return: true if any does, so that VT-d has to be on, in legacy mode.
 */
bool intel_lu_prepare(void)
{
	u64 handed = pci_liveupdate_iommu();
	const char **whys = NULL;
	const char *why = NULL;
	u32 nr = 0;

	if (is_kdump_kernel())
		return false;
	pci_liveupdate_each_translated(vtd_count, &nr);
	if (!handed && !nr)
		return false;

	why = handed ? iommu_lu_read(handed, &vtd_handed) : "it is missing";
	if (why)
		pr_err("what the previous kernel says about its IOMMUs cannot be used: %s\n", why);

	vtd_ins = kvcalloc(max(nr, 1), sizeof(*vtd_ins), GFP_KERNEL);
	whys = kvcalloc(max(nr, 1), sizeof(*whys), GFP_KERNEL);
	if (why || !vtd_ins || !whys) {
		/* Before translation ends, which is what their addresses depend on */
		pci_liveupdate_pause_all(why ?: "there is no memory");
		goto out;
	}
	pci_liveupdate_each_translated(vtd_add, whys);
	for (u32 n = 0; n < vtd_nr_ins; n++) {
		struct vtd_in *in = &vtd_ins[n];

		if (!in->frozen) {
			pci_liveupdate_pause(in->segment, in->rid, whys[n]);
			continue;
		}
		vtd_handed.domains[in->domain].users++;
		set_bit(in->iommu->seq_id, vtd_adopted);
		intel_lu_used = true;
	}
out:
	kvfree(whys);
	return intel_lu_used;
}

/**
 * intel_lu_adopts - has this unit devices that go on?
 * @iommu: unit
 *
 * Return: true if so, for good.
 */
bool intel_lu_adopts(struct intel_iommu *iommu)
{
	return test_bit(iommu->seq_id, vtd_adopted);
}

static bool vtd_is_copied(struct vtd_in *in)
{
	return context_copied(in->iommu, PCI_BUS_NUM(in->rid), in->rid & 0xff);
}

static bool vtd_did_is_known(u32 n)
{
	for (u32 before = 0; before < n; before++)
		if (vtd_ins[before].frozen && vtd_ins[before].iommu == vtd_ins[n].iommu &&
		    vtd_ins[before].did == vtd_ins[n].did)
			return true;
	return false;
}

/**
 * intel_lu_copy - give devices that go on entries in a root table of this kernel
 * @iommu: unit that the hardware has not been given the new root table of
 *
 * Context: at boot.
 * Return: 0, or the error of a lack of memory: then all of them have been paused.
 */
int intel_lu_copy(struct intel_iommu *iommu)
{
	struct context_entry *entry;
	int err = 0;

	iommu->copied_tables = bitmap_zalloc(BIT_ULL(16), GFP_KERNEL);
	if (!iommu->copied_tables)
		err = -ENOMEM;
	for (u32 n = 0; !err && n < vtd_nr_ins; n++) {
		struct vtd_in *in = &vtd_ins[n];

		if (!in->frozen || in->iommu != iommu)
			continue;
		entry = iommu_context_addr(iommu, PCI_BUS_NUM(in->rid), in->rid & 0xff, 1);
		if (!entry || (!vtd_did_is_known(n) &&
			       ida_alloc_range(&iommu->domain_ida, in->did, in->did,
					       GFP_KERNEL) < 0)) {
			err = -ENOMEM;
			break;
		}
		*entry = in->entry;
		__iommu_flush_cache(iommu, entry, sizeof(*entry));
		set_context_copied(iommu, PCI_BUS_NUM(in->rid), in->rid & 0xff);
	}
	if (!err) {
		pr_info("%s goes on translating for devices of the previous kernel\n",
			iommu->name);
		return 0;
	}

	for (u32 n = 0; n < vtd_nr_ins; n++) {
		struct vtd_in *in = &vtd_ins[n];

		if (!in->frozen || in->iommu != iommu)
			continue;
		if (vtd_is_copied(in))
			context_clear_entry(iommu_context_addr(iommu, PCI_BUS_NUM(in->rid),
							       in->rid & 0xff, 1));
		in->frozen = false;
		vtd_handed.domains[in->domain].users--;
		pci_liveupdate_pause(in->segment, in->rid, "there is no memory");
	}
	bitmap_free(iommu->copied_tables);
	iommu->copied_tables = NULL;
	clear_bit(iommu->seq_id, vtd_adopted);
	return err;
}

static void vtd_free_domain(struct iommu_lu_domain_in *domain)
{
	iommu_lu_free(&vtd_handed, domain->first_page, domain->nr_pages);
	domain->nr_pages = 0;
}

/**
 * intel_lu_done - free what no unit reads any more
 *
 * Context: at boot, when the units have been initialised; dmar_global_lock is held.
 */
void intel_lu_done(void)
{
	for (u32 n = 0; n < vtd_handed.nr_units; n++) {
		struct iommu_liveupdate_unit_ser *unit = &vtd_handed.units[n];
		struct intel_iommu *iommu = vtd_find_iommu(unit);
		u64 interrupts;

		/* Nobody knows what one that is not there does */
		if (!iommu)
			continue;
		interrupts = readq(iommu->reg + DMAR_IRTA_REG) & VTD_PAGE_MASK;
		for (u64 i = 0; i < unit->nr_pages; i++) {
			u64 page = unit->first_page + i;

			/* With nointremap the hardware keeps the table that it has */
			if ((vtd_handed.pages[page] & VTD_PAGE_MASK) != interrupts)
				iommu_lu_free(&vtd_handed, page, 1);
		}
		for (u32 d = 0; d < vtd_handed.nr_domains; d++)
			if (vtd_handed.domains[d].unit == n && !vtd_handed.domains[d].users)
				vtd_free_domain(&vtd_handed.domains[d]);
	}
}

/* Nothing of the frozen domain is cached any more on behalf of this device */
static void vtd_put(struct vtd_in *in)
{
	struct iommu_lu_domain_in *domain = &vtd_handed.domains[in->domain];

	in->frozen = false;
	if (--domain->users)
		return;
	scoped_guard(mutex, &in->iommu->did_lock)
		ida_free(&in->iommu->domain_ida, in->did);
	vtd_free_domain(domain);
}

static void vtd_tear_down(struct vtd_in *in)
{
	struct context_entry *entry;

	scoped_guard(spinlock, &in->iommu->lock) {
		entry = iommu_context_addr(in->iommu, PCI_BUS_NUM(in->rid), in->rid & 0xff, 1);
		if (entry)
			copied_context_tear_down(in->iommu, entry, PCI_BUS_NUM(in->rid),
						 in->rid & 0xff);
	}
	if (!vtd_is_copied(in))
		vtd_put(in);
}

/**
 * iommu_liveupdate_is_frozen - does a device go on in a domain of the previous kernel?
 * @dev: device
 *
 * Context: any; the answer changes when a domain is attached.
 * Return: true if it does.
 */
bool iommu_liveupdate_is_frozen(struct device *dev)
{
	struct device_domain_info *info;

	if (!intel_lu_used || !dev->iommu || dev_iommu_ops(dev) != &intel_iommu_ops)
		return false;
	info = dev_iommu_priv_get(dev);
	return intel_lu_is_frozen(info->iommu, info->bus, info->devfn);
}
EXPORT_SYMBOL_GPL(iommu_liveupdate_is_frozen);

/**
 * iommu_liveupdate_release - a device has been stopped, and loses its frozen entry
 * @segment: PCI domain (segment) number
 * @rid: its Requester ID
 *
 * Whether it is there or not. When this returns nothing that the hardware has
 * cached leads to the memory that was mapped.
 *
 * Context: process context, without locks of the IOMMU core held.
 */
void iommu_liveupdate_release(u32 segment, u16 rid)
{
	struct pci_dev *pdev;
	struct vtd_in *in;

	if (!intel_lu_used)
		return;
	scoped_guard(mutex, &vtd_in_lock) {
		in = vtd_find(segment, rid);
		if (!in || !in->frozen)
			return;
		vtd_tear_down(in);
	}

	/* What its next driver expects has been put off */
	pdev = pci_get_domain_bus_and_slot(segment, PCI_BUS_NUM(rid), rid & 0xff);
	if (pdev && pdev->dev.iommu_group)
		iommu_deferred_attach(&pdev->dev, iommu_get_domain_for_dev(&pdev->dev));
	pci_dev_put(pdev);
}

/* Does the new page table lead to where the frozen one does, with the same rights? */
struct vtd_cover {
	u64 table;
	int levels;
	u64 bad;
};

static int vtd_covers(void *data, u64 iova, u64 address, u64 size, u64 rights)
{
	struct vtd_cover *cover = data;

	while (size) {
		u64 new_size, new_rights, step;
		u64 at = vtd_lu_lookup(cover->table, cover->levels, iova, &new_size, &new_rights);

		if (at == U64_MAX || at + (iova & (new_size - 1)) != address ||
		    rights & ~new_rights) {
			cover->bad = iova;
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
 * __intel_lu_may_attach - may this domain take the place of a frozen one?
 * @domain: domain about to be attached, whose page table does not change meanwhile
 * @dev: device
 *
 * A domain that is not the owner's comes when he has given the device up: that ends the
 * frozen one.
 *
 * Context: process context, with the group's mutex held.
 * Return: 0; -EINVAL after a message if it does not map what the frozen one does.
 */
int __intel_lu_may_attach(struct dmar_domain *domain, struct device *dev)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);
	struct pt_iommu_vtdss_hw_info hw;
	struct vtd_cover cover = {};
	struct vtd_lu_walk walk = { .leaf = vtd_covers, .data = &cover };
	const struct iommu_lu_domain_in *frozen;
	struct vtd_in *in;
	int err;

	if (!intel_lu_is_frozen(info->iommu, info->bus, info->devfn))
		return 0;

	guard(mutex)(&vtd_in_lock);
	in = vtd_find(info->iommu->segment, PCI_DEVID(info->bus, info->devfn));
	if (WARN_ON_ONCE(!in || !in->frozen))
		return -EINVAL;
	if (domain->domain.cookie_type != IOMMU_COOKIE_IOMMUFD) {
		vtd_tear_down(in);
		return 0;
	}

	frozen = &vtd_handed.domains[in->domain];
	pt_iommu_vtdss_hw_info(&domain->sspt, &hw);
	cover.table = hw.ssptptr;
	cover.levels = agaw_to_level(hw.aw);
	err = vtd_lu_walk(&walk, frozen->table, frozen->levels, 0);
	if (err)
		dev_err_ratelimited(dev, "Live Update: cannot be attached: what its DMA used before the kexec is not mapped to the same memory, from address %#llx on; map all of it first\n",
				    cover.bad);
	return err;
}

/**
 * __intel_lu_attached - the device may have another entry
 * @dev: device
 * @end: if it has not, it loses the one that it has
 *
 * Context: process context.
 */
void __intel_lu_attached(struct device *dev, bool end)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);
	struct vtd_in *in;

	guard(mutex)(&vtd_in_lock);
	in = vtd_find(info->iommu->segment, PCI_DEVID(info->bus, info->devfn));
	if (!in || !in->frozen || in->iommu != info->iommu)
		return;
	if (!vtd_is_copied(in))
		vtd_put(in);
	else if (end)
		vtd_tear_down(in);
}

/**
 * __intel_lu_switch - replace a frozen entry by another, at once
 * @iommu: unit
 * @live: entry that the hardware reads
 * @new: what it is to be, present
 * @bus: bus number
 * @devfn: device << 3 | function
 *
 * Context: iommu->lock held.
 */
void __intel_lu_switch(struct intel_iommu *iommu, struct context_entry *live,
		       const struct context_entry *new, u8 bus, u8 devfn)
{
	u16 did = context_domain_id(live);
	u128 was, want;

	memcpy(&was, live, sizeof(was));
	memcpy(&want, new, sizeof(want));
	WARN_ON(!try_cmpxchg128((u128 *)live, &was, want));
	__iommu_flush_cache(iommu, live, sizeof(*live));

	iommu->flush.flush_context(iommu, did, PCI_DEVID(bus, devfn), DMA_CCMD_MASK_NOBIT,
				   DMA_CCMD_DEVICE_INVL);
	iommu->flush.flush_iotlb(iommu, did, 0, 0, DMA_TLB_DSI_FLUSH);
	clear_context_copied(iommu, bus, devfn);
}
