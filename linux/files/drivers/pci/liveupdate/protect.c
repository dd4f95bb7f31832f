// SPDX-License-Identifier: GPL-2.0
/*
 * PCI Live Update: nobody but its owner gets or disturbs a preserved device.
 */

/**
 * DOC: Who may do what
 *
 * A preserved device, and every bridge above it, has a record in this kernel
 * (outgoing) or of the previous one (incoming). As long as it has:
 *
 * - Bus Master is not cleared on behalf of drivers that fail to probe, port
 *   drivers without a service, quirks, or whoever disables the device;
 * - removal, also of another function in the slot, resets from outside, a change
 *   of BAR sizes or of Virtual Functions are refused with -EBUSY and one line in
 *   the log: by the functions of the PCI core that do it, whoever calls them;
 * - an incoming device is bound only by a driver that says that it takes
 *   devices over as they are (&pci_driver.live_update). The same goes for
 *   the bridges above it. In either kernel, a Physical Function above a Virtual one
 *   is bound only by such a driver that does nothing when it goes, either: it has
 *   neither a remove nor a shutdown callback. If it is preserved itself, only by one
 *   that has an owner for it; and if it has a driver that keeps Virtual Functions
 *   (&pci_driver.live_update_pf), only by such a one;
 * - such a Physical Function is not reset, also by its owner, nor when he closes it:
 *   that would disable its Virtual Functions.
 *
 * What cannot be refused, because it has happened already or because the
 * machine is worse off without, marks the record dead: surprise removal, and
 * the recovery from fatal errors. A dead device is not handed over, or not
 * given back; if nobody has it yet, it is stopped there and then.
 */

#define dev_fmt(fmt) "Live Update: " fmt

#include <linux/acpi.h>
#include <linux/cleanup.h>
#include <linux/device.h>
#include <linux/workqueue.h>

#include "../pci.h"
#include "internal.h"

#include <trace/events/pci_liveupdate.h>

static bool lu_lets_all_through(void)
{
	return pci_lu_break & PCI_LU_BREAK_REFUSALS;
}

bool __pci_liveupdate_refuses(struct pci_dev *dev, const char *what)
{
	if (lu_lets_all_through())
		return false;

	trace_pci_liveupdate_refuse(dev, what);
	dev_err_ratelimited(&dev->dev, "%s is refused: a preserved device is here or below; unpreserve it, or finish its live update, first\n",
			    what);
	return true;
}

/**
 * pci_lu_refuses_slot - may this not be done to the functions in a slot?
 * @bus: bus
 * @slot: device number, or any if it is negative
 * @what: see pci_liveupdate_refuses()
 *
 * Context: takes pci_bus_sem for reading.
 * Return: true, and the log says so, if any of them is preserved in either direction.
 */
bool pci_lu_refuses_slot(struct pci_bus *bus, int slot, const char *what)
{
	struct pci_dev *dev;

	if (!pci_lu_used())
		return false;

	guard(rwsem_read)(&pci_bus_sem);
	/* With ARI all functions of the bus are one device's */
	if (pci_ari_enabled(bus))
		slot = -1;
	list_for_each_entry(dev, &bus->devices, bus_list)
		if ((slot < 0 || PCI_SLOT(dev->devfn) == slot) &&
		    pci_liveupdate_refuses(dev, false, what))
			return true;
	return false;
}

/**
 * pci_liveupdate_refuses_reset - may the bus of this function not be reset?
 * @dev: function on it
 *
 * For drivers that would prepare all functions before they ask the PCI core.
 *
 * Context: takes pci_bus_sem for reading.
 * Return: true, and the log says so, if any function there is preserved, in
 * either direction: the caller returns -EBUSY.
 */
bool pci_liveupdate_refuses_reset(struct pci_dev *dev)
{
	return pci_lu_refuses_slot(dev->bus, -1, "a bus or slot reset");
}
EXPORT_SYMBOL_GPL(pci_liveupdate_refuses_reset);

/* Is a root bus that of a host bridge, by what its driver has bound or firmware describes? */
static bool lu_is_of_host(const struct pci_bus *root, const struct device *host)
{
	struct acpi_device *adev;

	if (root->bridge->parent == host)
		return true;
	/* A container of ACPI goes with all that is in it */
	for (adev = ACPI_COMPANION(root->bridge); adev; adev = acpi_dev_parent(adev))
		if (&adev->dev == host)
			return true;
	return false;
}

static struct pci_bus *lu_root_of(const struct device *host, unsigned int nr)
{
	struct pci_bus *root;

	guard(rwsem_read)(&pci_bus_sem);
	list_for_each_entry(root, &pci_root_buses, node) {
		if (!lu_is_of_host(root, host) || nr--)
			continue;
		get_device(&root->dev);
		return root;
	}
	return NULL;
}

static bool lu_refuses_root(struct pci_bus *root)
{
	static const char what[] = "removal of the host bridge";

	if (pci_lu_refuses_slot(root, -1, what))
		return true;
	scoped_guard(rwsem_read, &pci_lu_rwsem)
		if (!pci_lu_incoming_below(root, NULL))
			return false;
	dev_err_ratelimited(&root->dev, "%s is refused: a device that was preserved below has not been found; finish its session first\n",
			    what);
	return true;
}

/**
 * pci_liveupdate_refuses_host - must a host bridge stay?
 * @host: device whose driver is to be unbound, or that ACPI is to eject
 *
 * Also for the sake of what was preserved below and has not been found: without
 * a host bridge nobody could stop it.
 *
 * Context: process context. Takes pci_bus_sem, then pci_lu_rwsem, for reading.
 * Return: true, and the log says so, if @host is a host bridge, or has one in it, and
 * anything below it is preserved, in either direction: the caller returns -EBUSY.
 */
bool pci_liveupdate_refuses_host(const struct device *host)
{
	struct pci_bus *root;
	bool refuses = false;

	if (!static_branch_unlikely(&pci_lu_used_key) || lu_lets_all_through())
		return false;
	for (unsigned int nr = 0; !refuses && (root = lu_root_of(host, nr)); nr++) {
		refuses = lu_refuses_root(root);
		put_device(&root->dev);
	}
	return refuses;
}

bool __pci_liveupdate_keeps_driver_out(struct pci_dev *dev, const struct pci_driver *drv)
{
	bool pf = test_bit(PCI_LU_PF, &dev->lu_flags);
	bool able = pf ? pci_lu_pf_suits(dev, drv) : drv->live_update;

	/* In the outgoing kernel too, what is above Virtual Functions stays whose it is */
	if (lu_lets_all_through() ||
	    !(pf || test_bit(PCI_LU_ADOPTED, &dev->lu_flags) || pci_lu_is_captured(dev)))
		return false;
	if (able && !test_bit(PCI_LU_LOST, &dev->lu_flags))
		return false;

	/* Nor is it tried later where Virtual Functions go on working without it */
	if (!pf && test_bit(PCI_LU_ADOPTED, &dev->lu_flags))
		set_bit(PCI_LU_KEPT_APART, &dev->lu_flags);
	trace_pci_liveupdate_refuse(dev, drv->name);
	pci_notice_ratelimited(dev, "driver %s is kept away until the live update is finished: %s\n",
			       drv->name, able ?
			       "this is not the device that was preserved, or it failed since" :
			       pf ? "it is not of the kind that keeps these Virtual Functions" :
			       "it does not know how to take over a running device");
	return true;
}

static void lu_probe(struct work_struct *work)
{
	struct pci_dev *dev = NULL;

	for_each_pci_dev(dev) {
		if (test_bit(PCI_LU_ADOPTED, &dev->lu_flags) ||
		    !test_and_clear_bit(PCI_LU_KEPT_APART, &dev->lu_flags))
			continue;
		if (device_attach(&dev->dev) < 0)
			pci_warn(dev, "no driver for it, now that it is finished\n");
	}
}

static DECLARE_WORK(lu_probe_work, lu_probe);

/**
 * pci_lu_let_drivers_in - try the drivers that were kept away from a function
 * @dev: function that is like any other now
 *
 * A driver is tried when it, or the function, comes, and not again.
 *
 * Context: any.
 */
void pci_lu_let_drivers_in(struct pci_dev *dev)
{
	/* A port is shpchp's, too; one that has a driver needs no other */
	if (READ_ONCE(dev->dev.driver))
		clear_bit(PCI_LU_KEPT_APART, &dev->lu_flags);
	else if (test_bit(PCI_LU_KEPT_APART, &dev->lu_flags))
		schedule_work(&lu_probe_work);
}

bool __pci_liveupdate_keeps_master(struct pci_dev *dev)
{
	if (lu_lets_all_through())
		return false;
	/* What failed, or goes, is stopped by its driver, who knows best */
	if (test_bit(PCI_LU_DEAD, &dev->lu_flags) ||
	    dev->error_state == pci_channel_io_frozen ||
	    dev->error_state == pci_channel_io_perm_failure)
		return false;

	pci_dbg(dev, "Bus Master stays on\n");
	return true;
}

int __pci_liveupdate_removing(struct pci_dev *dev)
{
	struct pci_dev *pf = dev ? pci_physfn(dev) : NULL;

	/* What was pulled is gone; Virtual Functions go all together, or none does */
	if (dev && !pci_dev_is_disconnected(pf) &&
	    (pf != dev ? pci_liveupdate_refuses(pf, true, "removal of a Virtual Function") :
	     pci_lu_refuses_slot(dev->bus, PCI_SLOT(dev->devfn), "removal")))
		return -EBUSY;

	pci_lu_stopping(dev);
	return 0;
}

static int lu_mark_dead(struct pci_dev *dev, void *why);

/* They may be on buses that no bridge leads to */
static void lu_mark_vfs_dead(struct pci_dev *pf, void *why)
{
	struct pci_dev *dev = NULL;

	for_each_pci_dev(dev)
		if (dev->is_virtfn && pci_physfn(dev) == pf)
			lu_mark_dead(dev, why);
}

static int lu_mark_dead(struct pci_dev *dev, void *why)
{
	scoped_guard(rwsem_write, &pci_lu_rwsem) {
		if (!pci_liveupdate_held(dev) ||
		    test_and_set_bit(PCI_LU_DEAD, &dev->lu_flags))
			return 0;
		if (dev->lu_outgoing)
			dev->lu_outgoing->flags |= PCI_LIVEUPDATE_F_DEAD;
		if (dev->lu_incoming)
			set_bit(PCI_LU_LOST, &dev->lu_flags);
		pci_lu_changed(dev);
		pci_err(dev, "no longer preserved as it was: %s\n", (const char *)why);
	}
	pci_lu_leaves(dev);
	if (test_bit(PCI_LU_PF, &dev->lu_flags))
		lu_mark_vfs_dead(dev, why);
	return 0;
}

void __pci_liveupdate_removed(struct pci_dev *dev)
{
	if (dev->subordinate)
		pci_lu_unreserve_below(dev->subordinate);
	lu_mark_dead(dev, "it is being removed");
	pci_lu_has_left(dev);
}

void __pci_liveupdate_host_removed(struct pci_bus *root)
{
	pci_lu_unreserve_below(root);
}

void __pci_liveupdate_failed(struct pci_dev *bridge)
{
	static const char why[] = "it is reset to recover from a fatal error";

	if (bridge->subordinate)
		pci_walk_bus(bridge->subordinate, lu_mark_dead, (void *)why);
	else
		lu_mark_dead(bridge, (void *)why);
}
