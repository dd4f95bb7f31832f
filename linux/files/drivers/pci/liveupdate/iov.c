// SPDX-License-Identifier: GPL-2.0
/*
 * PCI Live Update: Virtual Functions, and the Physical Function that they are part of.
 */

/**
 * DOC: Virtual Functions
 *
 * A Virtual Function is preserved by its owner, as any device. What makes it be
 * there is in its Physical Function: how many there are, where, and what they
 * decode. So a Physical Function is kept *with* its Virtual Functions as a bridge is
 * with what is below: it has a record as long as one of them has, and everywhere the
 * way up goes from the Virtual Function to the Physical Function and on to the
 * bridges. Who looks after it is the same in both kernels:
 *
 * - nobody: it has no driver, or one that leaves it alone (pci-pf-stub), or
 * - a user (vfio-pci), who has to preserve it, for its own sake and before its Virtual
 *   Functions: they are trusted by the word that he has given out (the VF token), which
 *   is handed over with it. In the next kernel no Virtual Function has a driver for users
 *   before it has, and no other driver; or
 * - a driver of its own kind that leaves alone what Virtual Functions depend on, in both
 *   kernels, see iov_driver.c.
 *
 * Drivers of another kind are kept away from it in both kernels, and what would take
 * Virtual Functions with it is refused: resets, also those that its user asks for, or
 * that come with his leaving. If he leaves, it is stopped and no more; so it is in the next
 * kernel if he does not take it back: the reset that it is owed comes when nobody needs a
 * Virtual Function any more, see reset.c. It can be taken over, and finished, before or
 * after them, and is held until the last of all is. If it is no longer preserved when the
 * kexec comes, and one of them is, there is no kexec.
 *
 * The incoming kernel reads the Physical Function's SR-IOV capability and compares it
 * with what was handed over. Sizes of VF BARs, and how many bus numbers there may be,
 * come from the record, because both take writes to find out. Virtual Functions are
 * not enabled, as they are already: devices are made for all of them, preserved or
 * not. That waits until
 *
 * - the VF BARs have been claimed, or they would have none, and
 * - IOMMU drivers have started, which give a Virtual Function the interrupt
 *   remapping of its Physical Function when they are told of a new device,
 *
 * and comes before any driver. A Virtual Function that was not preserved has been
 * stopped by the previous kernel and is reset before its first driver gets it: it
 * begins as it would after VF Enable.
 *
 * If the Physical Function is another, has failed, or cannot have its addresses, there
 * are no devices for its Virtual Functions, which cannot be retrieved then. The end of any
 * of their sessions, or of its own, is that of all: each is stopped, then VF Enable is
 * cleared. With its own session it is stopped and reset, too.
 */

#define dev_fmt(fmt) "Live Update: " fmt

#include <linux/cleanup.h>
#include <linux/slab.h>
#include <linux/sysfs.h>
#include <linux/xarray.h>

#include "../pci.h"
#include "internal.h"

static void lu_adopt_bars(struct pci_dev *dev, const struct pci_liveupdate_record_ser *rec)
{
	struct pci_sriov *sriov = dev->sriov;
	u32 masks[PCI_SRIOV_NUM_BARS];

	pci_lu_bar_masks(rec, PCI_SRIOV_NUM_BARS, masks, NULL);
	for (int i = 0; i < PCI_SRIOV_NUM_BARS; i++) {
		struct resource *res = &dev->resource[pci_resource_num_from_vf_bar(i)];
		int wide;

		wide = __pci_read_base(dev, pci_bar_unknown, res,
				       sriov->pos + PCI_SRIOV_BAR + 4 * i, &masks[i]);
		if (!res->flags)
			continue;
		sriov->barsz[i] = resource_size(res);
		resource_set_size(res, resource_size(res) * rec->iov.bar_vfs[i]);
		sriov->nres++;
		i += wide;
	}
}

static struct pci_dev *lu_lowest_pf(struct pci_dev *dev)
{
	struct pci_dev *it;

	list_for_each_entry(it, &dev->bus->devices, bus_list)
		if (it->is_physfn)
			return pci_dev_get(it);
	return dev;
}

/**
 * pci_lu_adopt_iov - have Virtual Functions as the previous kernel enabled them
 * @dev: incoming function that is being added
 *
 * Devices for them come later, see pci_liveupdate_add_vfs(). A function whose Virtual
 * Functions were not preserved has none, and is left without until it is given back.
 */
void pci_lu_adopt_iov(struct pci_dev *dev)
{
	const struct pci_liveupdate_record_ser *rec;
	struct pci_sriov *sriov;

	guard(rwsem_read)(&pci_lu_rwsem);
	if (!pci_lu_record(dev) || !dev->lu_incoming->iov ||
	    test_bit(PCI_LU_LOST, &dev->lu_flags))
		return;
	rec = dev->lu_incoming->iov;
	sriov = kzalloc_obj(*sriov);
	if (!sriov) {
		pci_err(dev, "no memory for its Virtual Functions, which cannot be retrieved\n");
		return;
	}

	sriov->pos = pci_find_ext_capability(dev, PCI_EXT_CAP_ID_SRIOV);
	sriov->cap = rec->iov.caps;
	sriov->ctrl = rec->iov.ctrl;
	sriov->total_VFs = rec->iov.total;
	sriov->initial_VFs = rec->iov.initial;
	sriov->driver_max_VFs = rec->iov.driver_max;
	sriov->offset = rec->iov.offset;
	sriov->stride = rec->iov.stride;
	sriov->vf_device = rec->iov.vf_device;
	sriov->pgsz = rec->iov.page_size;
	sriov->max_VF_buses = rec->iov.last_bus;
	sriov->link = rec->iov.link;
	if (pci_pcie_type(dev) == PCI_EXP_TYPE_RC_END)
		sriov->link = PCI_DEVFN(PCI_SLOT(dev->devfn), sriov->link);
	sriov->vf_rebar_cap = pci_find_ext_capability(dev, PCI_EXT_CAP_ID_VF_REBAR);
	sriov->drivers_autoprobe = rec->iov.flags & PCI_LIVEUPDATE_IOV_AUTOPROBE;
	sriov->self = dev;
	sriov->dev = lu_lowest_pf(dev);

	dev->sriov = sriov;
	dev->is_physfn = 1;
	lu_adopt_bars(dev, rec);
}

/**
 * __pci_liveupdate_vf_config - what all Virtual Functions have in common
 * @pf: Physical Function, of whose first Virtual Function that has been read
 *
 * Which may be in a reset that its owner began, and answers all ones, or zeroes a little
 * later. What it has said to the previous kernel is in the record, all but the revision.
 */
void __pci_liveupdate_vf_config(struct pci_dev *pf)
{
	const struct pci_liveupdate_iov_ser *iov;

	guard(rwsem_read)(&pci_lu_rwsem);
	if (!pci_lu_record(pf) || !pf->lu_incoming->iov)
		return;
	iov = &pf->lu_incoming->iov->iov;
	if (pf->sriov->class >> 8 != iov->vf_class)
		pf->sriov->class = iov->vf_class << 8 | pf->revision;
	pf->sriov->hdr_type = PCI_HEADER_TYPE_NORMAL;
	pf->sriov->subsystem_vendor = iov->vf_subvendor;
	pf->sriov->subsystem_device = iov->vf_subdevice;
}

/* How many are enabled, and have no devices yet? */
static u16 lu_vfs_to_add(struct pci_dev *dev)
{
	guard(rwsem_read)(&pci_lu_rwsem);
	if (!dev->is_physfn || !(dev->sriov->ctrl & PCI_SRIOV_CTRL_VFE) ||
	    dev->sriov->num_VFs || !pci_lu_record(dev) || !dev->lu_incoming->iov ||
	    test_bit(PCI_LU_LOST, &dev->lu_flags) || pci_dev_is_disconnected(dev))
		return 0;
	return dev->lu_incoming->iov->iov.num;
}

/* It has its part of what is fixed for its Physical Function, which is not fixed for ever */
static void lu_unfix(struct pci_dev *vf)
{
	struct pci_dev *pf = pci_physfn(vf);

	guard(rwsem_write)(&pci_lu_rwsem);
	for (int i = 0; i < PCI_SRIOV_NUM_BARS; i++)
		if (pf->lu_fixed & BIT(pci_resource_num_from_vf_bar(i)) &&
		    !(vf->lu_fixed & BIT(i)))
			vf->resource[i].flags &= ~IORESOURCE_PCI_FIXED;
	pci_lu_fix(vf);
}

static void lu_add_vf(struct pci_dev *dev, int id)
{
	struct pci_dev *vf = pci_lu_get_vf(dev, id);
	int err;

	if (vf) {
		pci_err(dev, "Virtual Function %d is not added: %s is in its place\n", id,
			pci_name(vf));
		pci_dev_put(vf);
		return;
	}
	err = pci_iov_add_virtfn(dev, id);
	if (err) {
		pci_err(dev, "Virtual Function %d is not added: %pe\n", id, ERR_PTR(err));
		return;
	}
	vf = pci_lu_get_vf(dev, id);
	if (vf)
		lu_unfix(vf);
	pci_dev_put(vf);
}

static void lu_link_dependency(struct pci_dev *dev)
{
	struct pci_dev *other;

	if (dev->sriov->link == dev->devfn)
		return;
	other = pci_get_slot(dev->bus, dev->sriov->link);
	if (!other || !other->is_physfn ||
	    sysfs_create_link(&dev->dev.kobj, &other->dev.kobj, "dep_link"))
		pci_warn(dev, "no link to the function that it depends on\n");
	pci_dev_put(other);
}

/* IOMMU drivers have started: see pci_lu_add_all_vfs() */
static bool lu_iommus_are_up;

void __pci_liveupdate_add_vfs(struct pci_dev *dev)
{
	u16 nr;

	lockdep_assert_held(&pci_rescan_remove_lock);
	nr = lu_iommus_are_up ? lu_vfs_to_add(dev) : 0;
	if (!nr)
		return;

	for (int id = 0; id < nr; id++)
		lu_add_vf(dev, id);
	dev->sriov->num_VFs = nr;
	lu_link_dependency(dev);
	kobject_uevent(&dev->dev.kobj, KOBJ_CHANGE);
	pci_info(dev, "has %u Virtual Functions, as in the previous kernel\n", nr);
}

/*
 * At boot, for what has been added before IOMMU drivers started. They are rootfs
 * initcalls at the latest where they tell devices from each other when these are
 * added, and drivers of PCI devices come after this in the order of linking.
 */
static int __init pci_lu_add_all_vfs(void)
{
	struct pci_dev *dev = NULL;

	pci_lock_rescan_remove();
	lu_iommus_are_up = true;
	if (pci_lu_incoming_active())
		for_each_pci_dev(dev)
			if (pci_dev_is_added(dev))
				__pci_liveupdate_add_vfs(dev);
	pci_unlock_rescan_remove();
	return 0;
}
device_initcall(pci_lu_add_all_vfs);

/**
 * __pci_liveupdate_keeps_ari - does SR-IOV of another function need ARI as it is?
 * @dev: Physical Function that was not preserved
 *
 * ARI Capable Hierarchy is one bit for all Physical Functions of a device, in the
 * lowest of them, and must not change while any has Virtual Functions enabled (PCIe
 * r6.0, sec 9.3.3.3.5).
 *
 * Context: process context. Takes pci_lu_rwsem for reading.
 * Return: true if a Physical Function on the same bus is preserved, found or not.
 */
bool __pci_liveupdate_keeps_ari(struct pci_dev *dev)
{
	unsigned long key, on_bus = pci_lu_key(pci_domain_nr(dev->bus),
					       PCI_DEVID(dev->bus->number, 0));
	struct pci_lu_incoming *in;
	struct pci_dev *it;

	list_for_each_entry(it, &dev->bus->devices, bus_list)
		if (it != dev && pci_lu_test(it, BIT(PCI_LU_PF)))
			return true;

	guard(rwsem_read)(&pci_lu_rwsem);
	xa_for_each_range(&pci_lu_entries, key, in, on_bus, on_bus | 0xff)
		if (in->iov && in->rec->bdf != pci_dev_id(dev))
			return true;
	return false;
}
