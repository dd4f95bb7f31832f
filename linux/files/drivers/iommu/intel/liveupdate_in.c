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
 * does, the entry is replaced in one store, which is how hardware reads it: there is no
 * moment at which a request is not translated (vtd_lu_replace()). In scalable mode what is
 * replaced is the pointer to the PASID table, by one to a table which is complete, since
 * entries of that are larger than what is read at once. Then nothing refers to what was
 * frozen. What can fail is done before.
 *
 * Devices that firmware uses have entries that pass their requests through. They keep them,
 * too, until this kernel attaches the domain in which it maps what firmware needs.
 *
 * The command line of this kernel does not count where it would end this: it does not
 * switch VT-d or interrupt remapping off, and does not change its mode.
 */

#define pr_fmt(fmt) "DMAR: Live Update: " fmt

#include <linux/crash_dump.h>
#include <linux/dmar.h>
#include <linux/iommu_liveupdate.h>
#include <linux/kexec_handover.h>
#include <linux/liveupdate.h>
#include <linux/pci.h>
#include <linux/pci_liveupdate.h>
#include <linux/slab.h>

#include "../iommu-pages.h"
#include "../iommu-priv.h"
#include "../irq_remapping.h"
#include "../liveupdate.h"
#include "liveupdate.h"

bool intel_lu_used __ro_after_init;

/**
 * struct vtd_in - a Requester ID that has what the previous kernel gave it
 * @list:	all of them
 * @iommu:	its unit
 * @segment:	PCI domain (segment) number
 * @rid:	Requester ID
 * @did:	Domain ID of the frozen domain in @iommu
 * @domain:	the frozen domain; NULL: its requests pass
 * @entry:	what the hardware is told of it
 * @dir:	scalable mode: PASID directory, with one PASID table, that this kernel has
 *		made for it
 * @why:	it is to be paused, at boot
 * @in_use:	the hardware is told that
 */
struct vtd_in {
	struct list_head list;
	struct intel_iommu *iommu;
	u32 segment;
	u16 rid;
	u16 did;
	struct iommu_lu_domain_in *domain;
	struct vtd_lu_entry entry;
	struct pasid_dir_entry *dir;
	const char *why;
	bool in_use;
};

/*
 * After boot guarded by vtd_in_lock, but for which there are, and in which domain. Below
 * it are iommu->did_lock and iommu->lock
 */
static DEFINE_MUTEX(vtd_in_lock);
static struct iommu_lu_in vtd_handed;
static LIST_HEAD(vtd_ins);

/* Units with at least one of them, by number */
static DECLARE_BITMAP(vtd_adopted, DMAR_UNITS_SUPPORTED);

static struct vtd_in *vtd_find(struct intel_iommu *iommu, u16 rid)
{
	struct vtd_in *in;

	list_for_each_entry(in, &vtd_ins, list)
		if (in->iommu == iommu && in->rid == rid)
			return in;
	return NULL;
}

static struct vtd_in *vtd_find_dev(struct device *dev)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);

	return vtd_find(info->iommu, PCI_DEVID(info->bus, info->devfn));
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

/* --- which devices go on ---------------------------------------------------------- */

/* There is one mode for all units that know both */
static const char *vtd_judge_mode(int *mode, struct intel_iommu *iommu,
				  const struct iommu_liveupdate_unit_ser *unit)
{
	bool scalable = unit->kind == IOMMU_LIVEUPDATE_VTD_SCALABLE;
	u64 root = unit->root | (scalable ? DMA_RTADDR_SMT : 0);

	if (!(readl(iommu->reg + DMAR_GSTS_REG) & DMA_GSTS_TES) ||
	    readq(iommu->reg + DMAR_RTADDR_REG) != root)
		return "its IOMMU has other tables";
	if (!ecap_smts(iommu->ecap))
		return scalable ? "its IOMMU has no scalable mode" : NULL;
	if (*mode >= 0 && *mode != scalable)
		return "its IOMMU is in another mode than others are";
	*mode = scalable;
	return NULL;
}

/* Why a device cannot go on; NULL if it can, and then @in is complete */
static const char *vtd_judge(int *mode, struct vtd_in *in,
			     const struct pci_liveupdate_iommu_ser *ser)
{
	const struct iommu_liveupdate_unit_ser *unit;
	struct iommu_lu_domain_in *domain;
	struct vtd_in *other;
	const char *why;
	bool scalable;

	if (ser->domain >= vtd_handed.nr_domains || ser->stream != in->rid)
		return "its domain was not handed over";
	domain = &vtd_handed.domains[ser->domain];
	unit = &vtd_handed.units[domain->unit];
	in->iommu = vtd_find_iommu(unit);
	if (!in->iommu || in->segment != unit->segment)
		return "its IOMMU is not there";
	scalable = unit->kind == IOMMU_LIVEUPDATE_VTD_SCALABLE;
	why = vtd_judge_mode(mode, in->iommu, unit);
	if (!why)
		why = vtd_lu_find_entry(&vtd_handed, unit, in->rid, &in->entry);
	if (why)
		return why;

	if (!vtd_lu_entry_is_of(&in->entry, scalable, domain, &in->did) || in->did != ser->tag)
		return "the IOMMU's entry for it is another";
	if (in->did < IDA_START_DID || in->did >= in->iommu->max_domain_id)
		return "its Domain ID is not one";
	list_for_each_entry(other, &vtd_ins, list) {
		bool same_domain = other->domain == domain, same_did = other->did == in->did;

		if (!other->why && other->iommu == in->iommu && same_domain != same_did)
			return "its Domain ID is that of another domain, or not the only one";
	}
	in->domain = domain;
	return NULL;
}

static int vtd_add(u32 segment, u16 rid, const struct pci_liveupdate_iommu_ser *ser, void *data)
{
	struct vtd_in *in = kzalloc_obj(*in);

	if (!in)
		return -ENOMEM;
	in->segment = segment;
	in->rid = rid;
	in->why = vtd_judge(data, in, ser);
	list_add_tail(&in->list, &vtd_ins);
	return 0;
}

static int vtd_is_one(u32 segment, u16 rid, const struct pci_liveupdate_iommu_ser *ser,
		      void *data)
{
	return 1;
}

/* What firmware needs is not disturbed either; a lack of memory is no reason to stop */
static void vtd_add_passing(struct intel_iommu *iommu,
			    const struct iommu_liveupdate_unit_ser *unit)
{
	bool scalable = unit->kind == IOMMU_LIVEUPDATE_VTD_SCALABLE;

	for (u32 rid = 0; rid <= U16_MAX; rid++) {
		struct vtd_lu_entry entry;
		struct vtd_in *in;

		if (!*vtd_lu_root_half(phys_to_virt(unit->root), scalable, rid)) {
			rid |= scalable ? 0x7f : 0xff;
			continue;
		}
		if (vtd_lu_find_entry(&vtd_handed, unit, rid, &entry) ||
		    !vtd_lu_entry_passes(&entry, scalable) || vtd_find(iommu, rid))
			continue;
		in = kzalloc_obj(*in);
		if (!in)
			return;
		*in = (struct vtd_in){
			.iommu = iommu, .segment = unit->segment, .rid = rid,
			.did = FLPT_DEFAULT_DID, .entry = entry, .in_use = true,
		};
		list_add_tail(&in->list, &vtd_ins);
	}
}

/**
 * intel_lu_prepare - decide which devices go on
 * @scalable: intel_iommu_sm: set to what these need
 *
 * Context: at boot, before a unit is initialised; dmar_global_lock is held.
 * Return: true if any does, so that VT-d has to be on.
 */
bool __init intel_lu_prepare(int *scalable)
{
	u64 handed = pci_liveupdate_iommu();
	const char *why = NULL;
	struct vtd_in *in, *next;
	int mode = -1;

	if (is_kdump_kernel() ||
	    (!handed && !pci_liveupdate_each_translated(vtd_is_one, NULL)))
		return false;

	why = handed ? iommu_lu_read(handed, &vtd_handed) : "it is missing";
	if (why)
		pr_err("what the previous kernel says about its IOMMUs cannot be used: %s\n", why);
	else if (pci_liveupdate_each_translated(vtd_add, &mode))
		why = "there is no memory";
	/* Before translation ends, which is what their addresses depend on */
	if (why)
		pci_liveupdate_pause_all(why);

	list_for_each_entry_safe(in, next, &vtd_ins, list) {
		if (in->why && !why)
			pci_liveupdate_pause(in->segment, in->rid, in->why);
		if (in->why || why) {
			list_del(&in->list);
			kfree(in);
			continue;
		}
		in->domain->users++;
		in->in_use = true;
		set_bit(in->iommu->seq_id, vtd_adopted);
		intel_lu_used = true;
	}
	pci_liveupdate_iommu_taken();

	for (u32 n = 0; n < vtd_handed.nr_units; n++) {
		struct intel_iommu *iommu = vtd_find_iommu(&vtd_handed.units[n]);

		if (iommu && intel_lu_adopts(iommu))
			vtd_add_passing(iommu, &vtd_handed.units[n]);
	}
	if (mode >= 0 && intel_lu_used && *scalable != mode) {
		pr_info("Scalable mode is %s despite the command line: devices go on %s it since before the live update\n",
			mode ? "on" : "off", mode ? "in" : "without");
		*scalable = mode;
	}
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

/**
 * intel_lu_choose_units - some units are on, or off, whatever the command line says
 *
 * DMA that has been going on untranslated since before the kexec stays so, and a unit that
 * devices go on behind is initialised.
 *
 * Context: at boot, before a unit is initialised, when units without devices have been
 * ignored; dmar_global_lock is held.
 */
void __init intel_lu_choose_units(void)
{
	struct dmar_drhd_unit *drhd;
	struct pci_dev *pdev = NULL;

	for_each_pci_dev(pdev) {
		if (!pci_liveupdate_is_untranslated(pdev))
			continue;
		drhd = dmar_find_matched_drhd_unit(pdev);
		if (!drhd || drhd->ignored)
			continue;
		drhd->ignored = 1;
		pci_warn(pdev, "DMAR: DMAR unit %#llx stays off despite the command line: the device runs untranslated since before the live update\n",
			 drhd->reg_base_addr);
	}

	/* Graphics may be assigned, too, whatever intel_iommu=igfx_off says */
	for_each_drhd_unit(drhd)
		if (intel_lu_adopts(drhd->iommu))
			drhd->ignored = 0;
}

/*
 * If interrupt remapping was on, a unit that translates has been left with a table in which
 * there is nothing, and devices that could write what is an interrupt where it is off.
 */
static bool __init vtd_needs_remapping(void)
{
	const u32 both = DMA_GSTS_TES | DMA_GSTS_IRES;
	struct dmar_drhd_unit *drhd;
	struct intel_iommu *iommu;

	if (!is_kho_boot() || is_kdump_kernel() || dmar_table_init() < 0)
		return false;
	for_each_iommu(iommu, drhd)
		if ((readl(iommu->reg + DMAR_GSTS_REG) & both) == both)
			return true;
	return false;
}

/**
 * intel_lu_keeps_remapping - must interrupt remapping be on, whatever the command line says?
 *
 * Context: early at boot.
 * Return: true if so, after a message.
 */
bool __init intel_lu_keeps_remapping(void)
{
	if (!vtd_needs_remapping())
		return false;
	pr_warn("Interrupt remapping is on despite the command line: devices go on behind it since before the live update\n");
	return true;
}

/**
 * intel_lu_loses_remapping - interrupt remapping cannot be set up, and is about to be off
 *
 * Nobody can stop a device as early as this.
 *
 * Context: early at boot.
 */
void __init intel_lu_loses_remapping(void)
{
	if (vtd_needs_remapping())
		liveupdate_fatal("VT-d",
				 "interrupt remapping cannot be set up, and devices that go on since before the live update could raise any interrupt without it");
}

/* --- units ------------------------------------------------------------------------ */

static bool vtd_is_copied(struct vtd_in *in)
{
	return context_copied(in->iommu, PCI_BUS_NUM(in->rid), in->rid & 0xff);
}

/* Shared by all devices in one domain */
static bool vtd_did_is_taken(struct vtd_in *in)
{
	struct vtd_in *other;

	list_for_each_entry(other, &vtd_ins, list) {
		if (other == in)
			return false;
		if (other->iommu == in->iommu && other->did == in->did)
			return true;
	}
	return false;
}

static void vtd_free_dir(struct vtd_in *in)
{
	if (!in->dir)
		return;
	iommu_free_pages(get_pasid_table_from_pde(in->dir));
	iommu_free_pages(in->dir);
	in->dir = NULL;
}

static int vtd_copy_pasid(struct vtd_in *in)
{
	struct intel_iommu *iommu = in->iommu;
	struct pasid_entry *pasids;

	pasids = iommu_alloc_pages_node_sz(iommu->node, GFP_KERNEL, SZ_4K);
	in->dir = iommu_alloc_pages_node_sz(iommu->node, GFP_KERNEL, SZ_4K);
	if (!pasids || !in->dir) {
		iommu_free_pages(pasids);
		iommu_free_pages(in->dir);
		in->dir = NULL;
		return -ENOMEM;
	}
	pasids[IOMMU_NO_PASID] = in->entry.pasid;
	in->dir[0].val = virt_to_phys(pasids) | PASID_PTE_PRESENT;
	__iommu_flush_cache(iommu, pasids, VTD_PAGE_SIZE);
	__iommu_flush_cache(iommu, in->dir, VTD_PAGE_SIZE);
	in->entry.context.lo = virt_to_phys(in->dir) | 1;
	return 0;
}

static int vtd_copy(struct vtd_in *in)
{
	struct intel_iommu *iommu = in->iommu;
	struct context_entry *entry;
	int err;

	err = sm_supported(iommu) ? vtd_copy_pasid(in) : 0;
	if (err)
		return err;
	entry = iommu_context_addr(iommu, PCI_BUS_NUM(in->rid), in->rid & 0xff, 1);
	if (!entry)
		return -ENOMEM;
	if (in->domain && !vtd_did_is_taken(in)) {
		err = ida_alloc_range(&iommu->domain_ida, in->did, in->did, GFP_KERNEL);
		if (err < 0)
			return err;
	}
	*entry = in->entry.context;
	__iommu_flush_cache(iommu, entry, sizeof(*entry));
	set_context_copied(iommu, PCI_BUS_NUM(in->rid), in->rid & 0xff);
	return 0;
}

/* The device does not go on, and the hardware has not been given the new root table */
static void vtd_drop(struct vtd_in *in, const char *why)
{
	struct intel_iommu *iommu = in->iommu;

	if (in->domain) {
		pci_liveupdate_pause(in->segment, in->rid, why);
		in->domain->users--;
	}
	if (iommu->copied_tables && vtd_is_copied(in)) {
		context_clear_entry(iommu_context_addr(iommu, PCI_BUS_NUM(in->rid),
						       in->rid & 0xff, 1));
		clear_context_copied(iommu, PCI_BUS_NUM(in->rid), in->rid & 0xff);
	}
	in->in_use = false;
}

/**
 * intel_lu_copy - give devices that go on entries in a root table of this kernel
 * @iommu: unit that the hardware has not been given the new root table of
 *
 * Context: at boot.
 * Return: 0, or the error of a lack of memory: then all of them have been paused.
 */
int __init intel_lu_copy(struct intel_iommu *iommu)
{
	struct vtd_in *in;
	int err = 0;

	iommu->copied_tables = bitmap_zalloc(BIT_ULL(16), GFP_KERNEL);
	if (!iommu->copied_tables)
		err = -ENOMEM;
	list_for_each_entry(in, &vtd_ins, list)
		if (!err && in->iommu == iommu)
			err = vtd_copy(in);
	if (!err) {
		pr_info("%s goes on translating for devices of the previous kernel\n",
			iommu->name);
		return 0;
	}

	list_for_each_entry(in, &vtd_ins, list) {
		if (in->iommu != iommu)
			continue;
		vtd_drop(in, "there is no memory");
		vtd_free_dir(in);
	}
	bitmap_free(iommu->copied_tables);
	iommu->copied_tables = NULL;
	clear_bit(iommu->seq_id, vtd_adopted);
	ida_destroy(&iommu->domain_ida);
	return err;
}

/**
 * intel_lu_give_up - VT-d cannot be initialised
 *
 * Its units are about to be switched off, whatever their tables are.
 *
 * Context: at boot.
 */
void __init intel_lu_give_up(void)
{
	struct vtd_in *in;

	list_for_each_entry(in, &vtd_ins, list) {
		if (in->in_use)
			vtd_drop(in, "VT-d cannot be initialised");
		/* Nobody else has one yet, and a unit with any would not be switched off */
		ida_destroy(&in->iommu->domain_ida);
	}
	bitmap_zero(vtd_adopted, DMAR_UNITS_SUPPORTED);
}

/* Not while another unit walks through the same tables: the last one frees them */
static void vtd_free_domain(struct iommu_lu_domain_in *domain)
{
	if (!iommu_lu_is_shared(&vtd_handed, domain))
		iommu_lu_free(&vtd_handed, domain->first_page, domain->nr_pages);
	domain->nr_pages = 0;
}

/**
 * intel_lu_done - free what no unit reads any more
 *
 * Context: at boot, when the units have been initialised; dmar_global_lock is held.
 */
void __init intel_lu_done(void)
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

			/* If remapping could not be set up the hardware keeps what it has */
			if ((vtd_handed.pages[page] & VTD_PAGE_MASK) != interrupts)
				iommu_lu_free(&vtd_handed, page, 1);
		}
		for (u32 d = 0; d < vtd_handed.nr_domains; d++)
			if (vtd_handed.domains[d].unit == n && !vtd_handed.domains[d].users)
				vtd_free_domain(&vtd_handed.domains[d]);
	}
}

/* --- devices ---------------------------------------------------------------------- */

/* Nothing of the frozen domain is cached any more on behalf of this device */
static void vtd_put(struct vtd_in *in)
{
	struct iommu_lu_domain_in *domain = in->domain;

	in->in_use = false;
	vtd_free_dir(in);
	if (!domain || --domain->users)
		return;
	scoped_guard(mutex, &in->iommu->did_lock)
		ida_free(&in->iommu->domain_ida, in->did);
	vtd_free_domain(domain);
}

static void vtd_tear_down(struct vtd_in *in)
{
	const struct context_entry none = {};
	struct context_entry *entry;

	scoped_guard(spinlock, &in->iommu->lock) {
		if (!vtd_is_copied(in))
			return;
		entry = iommu_context_addr(in->iommu, PCI_BUS_NUM(in->rid), in->rid & 0xff, 1);
		vtd_lu_replace(in->iommu, entry, &none, in->did, in->rid);
		clear_context_copied(in->iommu, PCI_BUS_NUM(in->rid), in->rid & 0xff);
	}
	vtd_put(in);
}

/* In scalable mode the entry leads to the tables of the device all the time */
static void vtd_set_up(struct device *dev)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);

	if (sm_supported(info->iommu) && intel_pasid_setup_sm_context(dev))
		dev_err(dev, "Live Update: no memory for an IOMMU entry; its DMA is blocked\n");
}

bool __intel_lu_is_frozen(struct intel_iommu *iommu, u8 bus, u8 devfn)
{
	struct vtd_in *in = vtd_find(iommu, PCI_DEVID(bus, devfn));

	return in && in->domain;
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
 * cached leads to the memory that was mapped. It gets the domain of its group with
 * its next driver.
 *
 * Context: process context, without locks of the IOMMU core held.
 */
void iommu_liveupdate_release(u32 segment, u16 rid)
{
	struct pci_dev *pdev __free(pci_dev_put) = NULL;
	bool found = false;
	struct vtd_in *in;

	if (!intel_lu_used)
		return;
	pdev = pci_get_domain_bus_and_slot(segment, PCI_BUS_NUM(rid), rid & 0xff);
	guard(mutex)(&vtd_in_lock);
	list_for_each_entry(in, &vtd_ins, list) {
		if (in->segment != segment || in->rid != rid || !in->domain || !in->in_use)
			continue;
		vtd_tear_down(in);
		found = true;
	}
	/* One that is removed has lost it before, or loses it after this: see __intel_lu_end() */
	if (found && pdev && pdev->dev.iommu)
		vtd_set_up(&pdev->dev);
}

/**
 * iommu_liveupdate_settle - a device that was released gets a driver
 * @dev: device
 *
 * The domain of its group was not attached while its DMA went on.
 *
 * Context: process context; the device is not removed meanwhile.
 */
void iommu_liveupdate_settle(struct device *dev)
{
	scoped_guard(mutex, &vtd_in_lock) {
		struct vtd_in *in;

		if (!intel_lu_used || !dev->iommu || dev_iommu_ops(dev) != &intel_iommu_ops)
			return;
		in = vtd_find_dev(dev);
		if (!in || in->in_use)
			return;
	}
	iommu_deferred_attach(dev, iommu_get_domain_for_dev(dev));
}

/**
 * __intel_lu_probe - a device has been found
 * @dev: device, that the IOMMU driver knows
 *
 * The entry is meant for the one that has been preserved: if that has gone, and another has
 * come to where it was, it must not have it.
 *
 * Context: process context.
 */
void __intel_lu_probe(struct device *dev)
{
	struct vtd_in *in = vtd_find_dev(dev);

	if (!in || !in->domain || !dev_is_pci(dev) || pci_liveupdate_is_incoming(to_pci_dev(dev)))
		return;
	guard(mutex)(&vtd_in_lock);
	if (in->in_use)
		vtd_tear_down(in);
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
	struct vtd_lu_table table;
	struct vtd_in *in;
	u64 iova;
	int err;

	guard(mutex)(&vtd_in_lock);
	in = vtd_find_dev(dev);
	if (!in || !in->domain || !in->in_use)
		return 0;
	if (domain->domain.cookie_type != IOMMU_COOKIE_IOMMUFD) {
		vtd_tear_down(in);
		vtd_set_up(dev);
		return 0;
	}
	if (pci_liveupdate_leaves_out(PCI_LIVEUPDATE_COVER))
		return 0;

	intel_lu_table_of(domain, &table);
	err = vtd_lu_covers(&vtd_handed, in->domain, &table, &iova);
	if (err == -EFAULT)
		dev_err_ratelimited(dev, "Live Update: cannot be attached: the page table that its DMA uses is damaged; finish its session, which stops it\n");
	else if (err)
		dev_err_ratelimited(dev, "Live Update: cannot be attached: what its DMA used before the kexec is not mapped to the same memory, from address %#llx on; map all of it first\n",
				    iova);
	return err;
}

/**
 * __intel_lu_attached - the device may have another entry
 * @dev: device
 *
 * Context: process context.
 */
void __intel_lu_attached(struct device *dev)
{
	struct vtd_in *in;

	guard(mutex)(&vtd_in_lock);
	in = vtd_find_dev(dev);
	if (in && in->in_use && !vtd_is_copied(in))
		vtd_put(in);
}

/**
 * __intel_lu_end - the device loses what the previous kernel gave it
 * @dev: device
 * @stays: it is given something else
 *
 * Context: process context.
 */
void __intel_lu_end(struct device *dev, bool stays)
{
	struct vtd_in *in;

	guard(mutex)(&vtd_in_lock);
	in = vtd_find_dev(dev);
	if (!in || !in->in_use)
		return;
	vtd_tear_down(in);
	if (stays)
		vtd_set_up(dev);
}

/**
 * __intel_lu_switch - replace a copied entry by another, at once
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
	struct vtd_in *in = vtd_find(iommu, PCI_DEVID(bus, devfn));

	vtd_lu_replace(iommu, live, new, in->did, in->rid);
	clear_context_copied(iommu, bus, devfn);
}

/**
 * __intel_lu_publish - let the hardware find the PASID table of a device
 * @dev: device, whose PASID table has the entry that is to be used
 *
 * For a device that the hardware is told something else of up to now; otherwise its
 * table is where the hardware looks.
 *
 * Context: process context.
 */
void __intel_lu_publish(struct device *dev)
{
	struct device_domain_info *info = dev_iommu_priv_get(dev);
	struct intel_iommu *iommu = info->iommu;
	struct context_entry *live, next;

	context_entry_set_pasid_table(&next, dev);
	guard(spinlock)(&iommu->lock);
	if (!intel_lu_is_copied(iommu, info->bus, info->devfn))
		return;
	live = iommu_context_addr(iommu, info->bus, info->devfn, 1);
	__intel_lu_switch(iommu, live, &next, info->bus, info->devfn);
}
