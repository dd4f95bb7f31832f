// SPDX-License-Identifier: GPL-2.0
/*
 * PCI Live Update: the record of Virtual Functions, beside that of their Physical
 * Function.
 */

#include <linux/bsearch.h>
#include <linux/log2.h>
#include <linux/overflow.h>
#include <linux/slab.h>
#include <linux/sort.h>

#include "../pci.h"
#include "internal.h"

#define LU_VFS_ON	(PCI_SRIOV_CTRL_VFE | PCI_SRIOV_CTRL_MSE)
#define LU_MIGRATION	(PCI_SRIOV_CTRL_VFM | PCI_SRIOV_CTRL_INTR)

static void lu_read_iov(struct pci_dev *dev, int pos, struct pci_liveupdate_iov_ser *iov)
{
	pci_read_config_dword(dev, pos + PCI_SRIOV_CAP, &iov->caps);
	pci_read_config_word(dev, pos + PCI_SRIOV_CTRL, &iov->ctrl);
	pci_read_config_word(dev, pos + PCI_SRIOV_INITIAL_VF, &iov->initial);
	pci_read_config_word(dev, pos + PCI_SRIOV_TOTAL_VF, &iov->total);
	pci_read_config_word(dev, pos + PCI_SRIOV_NUM_VF, &iov->num);
	pci_read_config_byte(dev, pos + PCI_SRIOV_FUNC_LINK, &iov->link);
	pci_read_config_word(dev, pos + PCI_SRIOV_VF_OFFSET, &iov->offset);
	pci_read_config_word(dev, pos + PCI_SRIOV_VF_STRIDE, &iov->stride);
	pci_read_config_word(dev, pos + PCI_SRIOV_VF_DID, &iov->vf_device);
	pci_read_config_dword(dev, pos + PCI_SRIOV_SYS_PGSIZE, &iov->page_size);
}

static u64 lu_read_bar(struct pci_dev *dev, int pos, int i)
{
	u32 lo, hi = 0;

	pci_read_config_dword(dev, pos + PCI_SRIOV_BAR + 4 * i, &lo);
	if ((lo & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64)
		pci_read_config_dword(dev, pos + PCI_SRIOV_BAR + 4 * i + 4, &hi);
	return (u64)hi << 32 | lo;
}

static void lu_fill_bars(struct pci_dev *dev, struct pci_liveupdate_record_ser *rec)
{
	struct pci_sriov *sriov = dev->sriov;

	for (int i = 0; i < PCI_SRIOV_NUM_BARS; i++) {
		struct resource *res = &dev->resource[pci_resource_num_from_vf_bar(i)];
		struct pci_liveupdate_bar_ser *bar = &rec->bars[i];

		if (!res->flags || !sriov->barsz[i])
			continue;
		bar->value = lu_read_bar(dev, sriov->pos, i);
		bar->mask = -(u64)sriov->barsz[i];
		if (!(res->flags & IORESOURCE_MEM_64))
			bar->mask = lower_32_bits(bar->mask);
		rec->iov.bar_vfs[i] = div64_u64(resource_size(res), sriov->barsz[i]);
		if (res->parent)
			rec->claimed |= BIT(i);
	}
}

static enum pci_liveupdate_pf_owner lu_owner(struct pci_dev *dev)
{
	if (!dev->driver)
		return PCI_LIVEUPDATE_PF_NOBODY;
	if (dev->driver->live_update_pf)
		return PCI_LIVEUPDATE_PF_NATIVE;
	return pci_lu_leaves_alone(dev->driver) ? PCI_LIVEUPDATE_PF_STUB :
						  PCI_LIVEUPDATE_PF_USER;
}

/*
 * TotalVFs may be more than there are bus numbers for. Virtual Functions beyond the range of
 * the bridge above are not enabled, and those of a bridge beside it do not get to it.
 */
static u8 lu_last_bus(struct pci_dev *dev)
{
	u8 last = min(max(dev->sriov->max_VF_buses, dev->bus->number), dev->bus->busn_res.end);
	struct pci_dev *other;

	list_for_each_entry(other, &dev->bus->devices, bus_list)
		if (other->subordinate && other->subordinate->number > dev->bus->number)
			last = min(last, other->subordinate->number - 1);
	return last;
}

static void lu_fill(struct pci_dev *dev, struct pci_liveupdate_record_ser *rec)
{
	struct pci_liveupdate_iov_ser *iov = &rec->iov;
	struct pci_sriov *sriov = dev->sriov;

	rec->domain = pci_domain_nr(dev->bus);
	rec->bdf = pci_dev_id(dev);
	rec->flags = PCI_LIVEUPDATE_F_IOV;
	rec->use_count = 1;
	lu_read_iov(dev, sriov->pos, iov);
	lu_fill_bars(dev, rec);
	iov->driver_max = sriov->driver_max_VFs;
	iov->vf_class = sriov->class >> 8;
	iov->vf_subvendor = sriov->subsystem_vendor;
	iov->vf_subdevice = sriov->subsystem_device;
	iov->last_bus = lu_last_bus(dev);
	iov->owner = lu_owner(dev);
	iov->flags = sriov->drivers_autoprobe ? PCI_LIVEUPDATE_IOV_AUTOPROBE : 0;
}

/* The next kernel looks for the capability, which this one has done long ago */
static bool lu_is_there(struct pci_dev *dev)
{
	u32 header;

	pci_read_config_dword(dev, dev->sriov->pos, &header);
	return PCI_EXT_CAP_ID(header) == PCI_EXT_CAP_ID_SRIOV;
}

static const char *lu_doubt(struct pci_dev *dev, const struct pci_liveupdate_record_ser *rec)
{
	struct pci_sriov *sriov = dev->sriov;
	u16 vendor;

	/* Virtual Functions have their Vendor ID from here */
	pci_read_config_word(dev, PCI_VENDOR_ID, &vendor);
	if (rec->iov.num != sriov->num_VFs || rec->iov.offset != sriov->offset ||
	    rec->iov.stride != sriov->stride || rec->iov.vf_device != sriov->vf_device ||
	    vendor != dev->vendor || !lu_is_there(dev))
		return "its Virtual Functions are not those that this kernel knows";

	for (int i = 0; i < PCI_SRIOV_NUM_BARS; i++) {
		int idx = pci_resource_num_from_vf_bar(i);
		struct resource *res = &dev->resource[idx];
		struct pci_bus_region region;

		if (!rec->bars[i].mask)
			continue;
		/* One of Enhanced Allocation is not where the register says */
		if (res->flags & IORESOURCE_PCI_FIXED && !(dev->lu_fixed & BIT(idx)))
			return "a VF BAR is fixed by the device";
		pcibios_resource_to_bus(dev->bus, &region, res);
		if (!res->parent || region.start != (rec->bars[i].value & rec->bars[i].mask))
			return "a VF BAR is not where this kernel has put it";
	}
	return NULL;
}

/**
 * pci_lu_vf_index - the number of a Virtual Function
 * @dev: it
 *
 * Return: from 0. Where there is one at most, there may be no VF Stride.
 */
u16 pci_lu_vf_index(struct pci_dev *dev)
{
	return pci_physfn(dev)->sriov->stride ? pci_iov_vf_id(dev) : 0;
}

/**
 * pci_lu_vf_subsystem - Subsystem Vendor ID and Subsystem ID of a Virtual Function
 * @dev: it
 *
 * All of a device are taken to have the same, which has been read of the first.
 *
 * Return: as in the register.
 */
u32 pci_lu_vf_subsystem(struct pci_dev *dev)
{
	struct pci_sriov *sriov = pci_physfn(dev)->sriov;

	return (u32)sriov->subsystem_device << 16 | sriov->subsystem_vendor;
}

/**
 * pci_lu_vf_doubt - is a Virtual Function what its Physical Function says?
 * @dev: it
 * @rec: its record, filled in
 *
 * The next kernel looks for it where the SR-IOV capability says that it is by now, and takes
 * it for a function like all others of this device.
 *
 * Context: neither @dev nor its Physical Function must be reset.
 * Return: NULL if so, or what is wrong.
 */
const char *pci_lu_vf_doubt(struct pci_dev *dev, const struct pci_liveupdate_record_ser *rec)
{
	struct pci_dev *pf = pci_physfn(dev);
	u16 index = rec->vf.index;

	if (index >= pci_num_vf(pf) || dev->bus->number != pci_iov_virtfn_bus(pf, index) ||
	    dev->devfn != pci_iov_virtfn_devfn(pf, index))
		return "it is not where its Physical Function has Virtual Functions";
	if (rec->class != pf->sriov->class >> 8)
		return "its class code is not that of all Virtual Functions";
	return NULL;
}

/**
 * pci_lu_iov_slot - where the outgoing record of Virtual Functions is
 * @dev: Physical Function, which has a record of its own
 *
 * Context: pci_lu_rwsem held.
 * Return: the place, NULL in it if none of them is preserved.
 */
struct pci_liveupdate_record_ser **pci_lu_iov_slot(struct pci_dev *dev)
{
	return &dev->sriov->lu_outgoing;
}

/**
 * pci_lu_iov_take - describe the Virtual Functions of a function
 * @dev: Physical Function that has some
 * @rec: zeroed slot
 *
 * Reads config space and writes nothing.
 *
 * Context: may sleep; @dev must not be reset, nor its Virtual Functions be disabled.
 * Return: NULL, or why the record must not be handed over.
 */
const char *pci_lu_iov_take(struct pci_dev *dev, struct pci_liveupdate_record_ser *rec)
{
	lu_fill(dev, rec);
	if (pci_lu_break & PCI_LU_BREAK_CHECKS)
		return NULL;
	return pci_lu_iov_check(rec) ?: lu_doubt(dev, rec);
}

static const char *lu_differs(struct pci_dev *dev, int pos,
			      const struct pci_liveupdate_record_ser *rec)
{
	const struct pci_liveupdate_iov_ser *was = &rec->iov;
	struct pci_liveupdate_iov_ser now = {};

	lu_read_iov(dev, pos, &now);
	if (now.ctrl != was->ctrl)
		return "SR-IOV Control";
	if (now.num != was->num || now.initial != was->initial || now.total != was->total)
		return "number of Virtual Functions";
	if (now.offset != was->offset || now.stride != was->stride)
		return "offset or stride of Virtual Functions";
	if (now.vf_device != was->vf_device || now.caps != was->caps || now.link != was->link)
		return "SR-IOV capability";
	if (now.page_size != was->page_size)
		return "System Page Size";
	for (int i = 0; i < PCI_SRIOV_NUM_BARS; i++)
		if (rec->bars[i].mask && lu_read_bar(dev, pos, i) != rec->bars[i].value)
			return "VF BAR";
	return NULL;
}

/**
 * pci_lu_iov_changed - are the Virtual Functions still what the record says?
 * @dev: Physical Function of preserved ones
 *
 * Context: may sleep; @dev must not be reset; pci_lu_rwsem held.
 * Return: NULL if they are, otherwise the name of the first thing that differs.
 */
const char *pci_lu_iov_changed(struct pci_dev *dev)
{
	if (!lu_is_there(dev))
		return "SR-IOV capability";
	return lu_differs(dev, dev->sriov->pos, dev->sriov->lu_outgoing);
}

/**
 * pci_lu_iov_mismatch - are these the Virtual Functions that were preserved?
 * @dev: function found in the place of their Physical Function
 * @rec: checked record of them
 *
 * Context: may sleep; early in enumeration, when the size of config space is known.
 * Return: NULL if they are, otherwise the name of the first thing that differs.
 */
const char *pci_lu_iov_mismatch(struct pci_dev *dev,
				const struct pci_liveupdate_record_ser *rec)
{
	int pos = pci_find_ext_capability(dev, PCI_EXT_CAP_ID_SRIOV);

	if (!pos)
		return "SR-IOV capability";
	/* A Virtual Function's registers must not share a page with another's */
	for (int i = 0; i < PCI_SRIOV_NUM_BARS; i++)
		if (rec->bars[i].mask && !IS_ALIGNED(rec->bars[i].mask, PAGE_SIZE))
			return "System Page Size, which is less than a page of this kernel,";
	return lu_differs(dev, pos, rec);
}

static const char *lu_check_bars(const struct pci_liveupdate_record_ser *rec)
{
	if (rec->claimed & BIT(PCI_LIVEUPDATE_ROM_BAR) ||
	    rec->bars[PCI_LIVEUPDATE_ROM_BAR].mask)
		return "Expansion ROM of Virtual Functions";

	for (int i = 0; i < PCI_SRIOV_NUM_BARS; i++) {
		const struct pci_liveupdate_bar_ser *bar = &rec->bars[i];
		u64 span, end;

		if (!bar->mask) {
			if (rec->iov.bar_vfs[i])
				return "address space behind a VF BAR that does not exist";
			continue;
		}
		if (bar->value & PCI_BASE_ADDRESS_SPACE_IO)
			return "I/O space behind a VF BAR";
		if (!(rec->claimed & BIT(i)))
			return "VF BAR that is not claimed";
		if (rec->iov.bar_vfs[i] < rec->iov.num)
			return "VF BAR without room for all Virtual Functions";
		if (check_mul_overflow(pci_lu_bar_bytes(bar), (u64)rec->iov.bar_vfs[i], &span) ||
		    check_add_overflow(bar->value & bar->mask, span - 1, &end) ||
		    (!upper_32_bits(bar->mask) && upper_32_bits(end)))
			return "VF BAR that ends beyond its address space";
	}
	return NULL;
}

/**
 * pci_lu_iov_check - can this record be believed, for itself?
 * @rec: slot with %PCI_LIVEUPDATE_F_IOV, of which pci_lu_abi_check() and the checks of
 *	 BARs that all functions have are content
 *
 * Return: NULL, or what is wrong with it.
 */
const char *pci_lu_iov_check(const struct pci_liveupdate_record_ser *rec)
{
	const struct pci_liveupdate_iov_ser *iov = &rec->iov;
	u32 last;

	if (rec->use_count != 1)
		return "SR-IOV capability that is recorded for several";
	if ((iov->ctrl & LU_VFS_ON) != LU_VFS_ON)
		return "Virtual Functions that are not enabled";
	if (iov->ctrl & LU_MIGRATION || iov->caps & PCI_SRIOV_CAP_VFM)
		return "VF Migration";
	if (!iov->num || iov->num > iov->initial || iov->initial > iov->total ||
	    iov->driver_max > iov->total)
		return "number of Virtual Functions out of range";
	if (!iov->offset || (iov->num > 1 && !iov->stride))
		return "Virtual Functions in the place of each other";
	if (iov->vf_class > 0xffffff)
		return "class code wider than 24 bits";
	if (!is_power_of_2(iov->page_size))
		return "System Page Size is not a power of two";

	last = rec->bdf + iov->offset + (u32)(iov->num - 1) * iov->stride;
	if (last > 0xffff || PCI_BUS_NUM(last) > iov->last_bus ||
	    iov->last_bus < PCI_BUS_NUM(rec->bdf))
		return "Virtual Functions on buses that are not theirs";
	return lu_check_bars(rec);
}

/**
 * struct lu_family - a Physical Function as a set of records describes it
 * @iov: its Virtual Functions
 * @pf:	 itself
 * @vfs: how many of them have a record
 */
struct lu_family {
	const struct pci_liveupdate_record_ser *iov;
	const struct pci_liveupdate_record_ser *pf;
	u32 vfs;
};

static int lu_family_cmp(const void *pa, const void *pb)
{
	const struct lu_family *a = pa, *b = pb;

	return cmp_int(a->iov->domain, b->iov->domain) ?: cmp_int(a->iov->bdf, b->iov->bdf);
}

static struct lu_family *lu_find_family(struct lu_family *families, size_t nr, u32 domain,
					u16 pf)
{
	const struct pci_liveupdate_record_ser place = { .domain = domain, .bdf = pf };
	const struct lu_family key = { .iov = &place };

	return bsearch(&key, families, nr, sizeof(key), lu_family_cmp);
}

static const char *lu_check_member(struct lu_family *families, size_t nr,
				   const struct pci_liveupdate_record_ser *rec)
{
	bool vf = rec->flags & PCI_LIVEUPDATE_F_VF;
	struct lu_family *family;

	if (!vf && !(rec->flags & PCI_LIVEUPDATE_F_PF))
		return NULL;
	family = lu_find_family(families, nr, rec->domain, vf ? rec->vf.pf : rec->bdf);
	if (!family)
		return vf ? "Virtual Function without a Physical Function" :
			    "Physical Function without Virtual Functions";
	if (!vf) {
		family->pf = rec;
		return NULL;
	}
	if (rec->vf.index >= family->iov->iov.num)
		return "Virtual Function that is not enabled";
	if (rec->bdf != rec->vf.pf + family->iov->iov.offset +
			(u32)rec->vf.index * family->iov->iov.stride)
		return "Virtual Function in another place than its number says";
	if (rec->device != family->iov->iov.vf_device)
		return "Virtual Function of another kind than its Physical Function says";
	family->vfs++;
	return NULL;
}

static const char *lu_check_families(struct lu_family *families, size_t nr,
				     const struct pci_liveupdate_record_ser **bad)
{
	for (size_t i = 0; i < nr; i++) {
		bool owned, user;

		*bad = families[i].iov;
		if (i && !lu_family_cmp(&families[i - 1], &families[i]))
			return "SR-IOV capability recorded twice";
		if (!families[i].pf)
			return "SR-IOV capability of a function that is not recorded";
		owned = families[i].pf->flags & PCI_LIVEUPDATE_F_ENDPOINT;
		user = families[i].iov->iov.owner == PCI_LIVEUPDATE_PF_USER;
		if (owned != user)
			return "Physical Function that its user has not preserved";
		if (families[i].vfs + owned != families[i].pf->use_count)
			return "use count that is not the number of Virtual Functions";
	}
	*bad = NULL;
	return NULL;
}

/**
 * pci_lu_iov_check_all - do Virtual and Physical Functions belong together?
 * @slots: all slots of the record set, each of which has been checked
 * @nr_slots: number of @slots
 * @err: filled in on failure
 *
 * Takes time in proportion to n log n of the records.
 *
 * Return: 0, -EINVAL if not, -ENOMEM.
 */
int pci_lu_iov_check_all(struct pci_liveupdate_record_ser **slots, u64 nr_slots,
			 struct pci_lu_error *err)
{
	struct lu_family *families __free(kvfree) = NULL;
	size_t nr = 0;

	for (u64 i = 0; i < nr_slots; i++)
		if (slots[i]->flags & PCI_LIVEUPDATE_F_IOV)
			nr++;
	/* Without any, a record that wants one is told so */
	families = kvcalloc(max(nr, 1), sizeof(*families), GFP_KERNEL);
	if (!families)
		return -ENOMEM;

	nr = 0;
	for (u64 i = 0; i < nr_slots; i++)
		if (slots[i]->flags & PCI_LIVEUPDATE_F_IOV)
			families[nr++].iov = slots[i];
	sort(families, nr, sizeof(*families), lu_family_cmp, NULL);

	for (u64 i = 0; i < nr_slots; i++) {
		err->rec = slots[i];
		err->why = lu_check_member(families, nr, slots[i]);
		if (err->why)
			return -EINVAL;
	}
	err->why = lu_check_families(families, nr, &err->rec);
	return err->why ? -EINVAL : 0;
}
