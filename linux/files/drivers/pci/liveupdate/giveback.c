// SPDX-License-Identifier: GPL-2.0
/*
 * PCI Live Update: what adoption left out is done when the device is idle.
 */

/**
 * DOC: Given back
 *
 * An adopted device is left as it is, so that it has no SR-IOV, mailboxes or error
 * reporting of this kernel's, and its link no power management. With one live
 * update after the other that would be so for ever. What was left out is done when
 * nobody works with the device any more: it is finished, and then either its owner
 * has closed it, which resets it, or a driver is about to bind it. From then on it
 * has what a boot gives it.
 *
 * Address translation services are an exception: an IOMMU driver decides on ATS when
 * it first sees the device, and does not look again. Nor is its Physical Function told
 * the page size that a Virtual Function needs, which can therefore not use ATS either.
 */

#define dev_fmt(fmt) "Live Update: " fmt

#include <linux/cleanup.h>
#include <linux/iommu_liveupdate.h>
#include <linux/pm_runtime.h>
#include <linux/sysfs.h>
#include <linux/workqueue.h>

#include "../pci.h"
#include "internal.h"

#ifdef CONFIG_PCI_IOV
static void lu_give_back_vfs(struct pci_dev *dev)
{
	if (dev->is_physfn || dev->is_virtfn || pci_iov_init(dev))
		return;

	/* Where they were, else where there is room */
	for (int i = PCI_IOV_RESOURCES; i <= PCI_IOV_RESOURCE_END; i++) {
		struct resource *res = &dev->resource[i];

		if (!res->flags || resource_assigned(res))
			continue;
		if ((!res->start || pci_claim_resource(dev, i)) && pci_assign_resource(dev, i))
			pci_warn(dev, "no room for Virtual Functions\n");
	}
	if (sysfs_update_group(&dev->dev.kobj, &sriov_pf_dev_attr_group))
		pci_warn(dev, "no attributes for Virtual Functions\n");
}
#else
static void lu_give_back_vfs(struct pci_dev *dev)
{
}
#endif

static bool lu_is_left_out(struct pci_dev *dev)
{
	return pci_lu_test(dev, BIT(PCI_LU_LEFT_OUT) | BIT(PCI_LU_ADOPTED));
}

/*
 * Is a function on the bus behind this bridge still as the last kernel left it? The bridge is
 * above a device of our caller's, or pci_rescan_remove_lock is held: it is not removed.
 */
static bool lu_link_is_needed(struct pci_dev *bridge)
{
	struct pci_dev *dev;

	if (pci_lu_test(bridge, BIT(PCI_LU_ADOPTED)))
		return true;
	guard(rwsem_read)(&pci_bus_sem);
	list_for_each_entry(dev, &bridge->subordinate->devices, bus_list)
		if (lu_is_left_out(dev))
			return true;
	return false;
}

/*
 * Manage the links below a root port, or below all if it is NULL, that nobody needs as they
 * are, from the top: a link is not managed below one that is not. Those of neighbours that
 * came meanwhile are among them. Bridges are not removed: pci_rescan_remove_lock is held.
 */
static void lu_give_back_links(struct pci_dev *root)
{
	struct pci_dev *it = NULL;

	lockdep_assert_held(&pci_rescan_remove_lock);
	/* A bridge comes before what is below it */
	for_each_pci_dev(it)
		if (it->subordinate && (!root || pcie_find_root_port(it) == root) &&
		    !lu_link_is_needed(it))
			pcie_aspm_init_link_state(it);
}

static void lu_give_back_links_later(struct work_struct *work)
{
	pci_lock_rescan_remove();
	lu_give_back_links(NULL);
	pci_unlock_rescan_remove();
}

static DECLARE_WORK(lu_links_work, lu_give_back_links_later);

static void lu_give_back_path(struct pci_dev *dev)
{
	struct pci_dev *root = pcie_find_root_port(dev), *it;

	/* Ports above @dev have nothing left out any more if nobody else needs them */
	for (it = pci_upstream_bridge(dev); it && !lu_link_is_needed(it);
	     it = pci_upstream_bridge(it))
		if (test_and_clear_bit(PCI_LU_LEFT_OUT, &it->lu_flags))
			pci_lu_init_left_out(it);

	if (!root)
		return;
	/* Whoever scans or removes may wait for a lock of our caller's: then when he is done */
	if (!mutex_trylock(&pci_rescan_remove_lock)) {
		schedule_work(&lu_links_work);
		return;
	}
	lu_give_back_links(root);
	mutex_unlock(&pci_rescan_remove_lock);
}

/**
 * pci_liveupdate_give_back - do what was left out in an idle function
 * @dev: function that nobody works with: it is about to get a driver, or has been
 *	 reset after its user closed it
 *
 * Context: may sleep. Whoever calls keeps drivers and users away. Takes
 * pci_bus_sem for reading, tries pci_rescan_remove_lock.
 * Return: true if there was anything to do.
 */
bool pci_liveupdate_give_back(struct pci_dev *dev)
{
	iommu_liveupdate_settle(&dev->dev);
	pci_lu_reset_unreset(dev);
	pci_lu_lend(dev);
	if (!pci_lu_test(dev, BIT(PCI_LU_LEFT_OUT)) ||
	    pci_lu_test(dev, BIT(PCI_LU_ADOPTED) | BIT(PCI_LU_OUTGOING)) ||
	    !test_and_clear_bit(PCI_LU_LEFT_OUT, &dev->lu_flags))
		return false;

	/* What is written in D3hot may be forgotten */
	pm_runtime_get_sync(&dev->dev);
	pci_lu_init_left_out(dev);
	if (dev->hdr_type == PCI_HEADER_TYPE_NORMAL) {
		lu_give_back_vfs(dev);
		pci_doe_sysfs_init(dev);
	}
	lu_give_back_path(dev);
	pm_runtime_put(&dev->dev);
	pci_info(dev, "is like any other device again\n");
	return true;
}
EXPORT_SYMBOL_GPL(pci_liveupdate_give_back);
