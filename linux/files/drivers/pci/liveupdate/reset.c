// SPDX-License-Identifier: GPL-2.0
/*
 * PCI Live Update: what nobody takes back is reset, at once or when nobody needs it.
 */

/**
 * DOC: Reset after it was stopped
 *
 * A device that was stopped goes on with what it did as soon as somebody sets Bus Master,
 * so it is reset before anybody gets it. In two cases that has to wait:
 *
 * - A Virtual Function that was not preserved is reset when its first driver comes.
 * - A Physical Function that its user does not take back is stopped, and its Virtual
 *   Functions go on. If nobody takes them back, either, they go first: the last of their
 *   sessions to end is followed by the reset. If somebody works with one, also when it
 *   has been finished long since, the Physical Function is reset before its next driver
 *   or its next user gets it.
 *
 * "Works with" is a driver, or a user, who has enabled the Virtual Function. Both need the
 * lock of the device for what they begin with, so that nobody begins while all of these
 * locks are held.
 */

#define dev_fmt(fmt) "Live Update: " fmt

#include <linux/cleanup.h>
#include <linux/device.h>
#include <linux/pm_runtime.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "../pci.h"
#include "internal.h"

static int lu_reset(struct pci_dev *dev)
{
	struct pci_liveupdate_bypass bypass;
	int err;

	/* It may be one of the bus */
	pci_liveupdate_bypass_begin(&bypass, pci_upstream_bridge(dev) ?: dev);
	err = pci_reset_function_locked(dev);
	pci_liveupdate_bypass_end(&bypass);
	return err;
}

static void lu_unlock_vfs(struct pci_dev **vfs, int nr)
{
	while (nr--) {
		if (!vfs[nr])
			continue;
		device_unlock(&vfs[nr]->dev);
		pci_dev_put(vfs[nr]);
	}
	kvfree(vfs);
}

/* Returns the Virtual Functions of @pf, locked and idle; NULL if they cannot be that now */
static struct pci_dev **lu_lock_vfs(struct pci_dev *pf, int nr)
{
	struct pci_dev **vfs = kvcalloc(max(nr, 1), sizeof(*vfs), GFP_KERNEL);

	for (int id = 0; vfs && id < nr; id++) {
		struct pci_dev *vf = pci_lu_get_vf(pf, id);

		if (vf && !device_trylock(&vf->dev)) {
			pci_dev_put(vf);
			lu_unlock_vfs(vfs, id);
			return NULL;
		}
		vfs[id] = vf;
		if (vf && pci_is_enabled(vf)) {
			lu_unlock_vfs(vfs, id + 1);
			return NULL;
		}
	}
	return vfs;
}

/* It may be reset then, and its VF BARs be written as that takes */
static void lu_forget_vfs(struct pci_dev *pf)
{
	guard(rwsem_write)(&pci_lu_rwsem);
	if (!pf->lu_incoming)
		return;
	pf->lu_incoming->rec->flags &= ~PCI_LIVEUPDATE_F_PF;
	pci_lu_changed(pf);
}

/*
 * Reset a Physical Function, with device_lock(&pf->dev) held: nobody changes the number of
 * its Virtual Functions. They are there again when that is over.
 */
static int lu_reset_pf(struct pci_dev *pf)
{
	int err, nr = pci_num_vf(pf);
	struct pci_dev **vfs;

	if (pci_lu_vfs_need(pf))
		return -EBUSY;
	vfs = lu_lock_vfs(pf, nr);
	if (!vfs)
		return -EBUSY;
	lu_forget_vfs(pf);
	err = lu_reset(pf);
	lu_unlock_vfs(vfs, nr);
	return err;
}

/**
 * pci_liveupdate_reset - reset a device that was stopped
 * @dev: incoming device
 *
 * So that it does not go on with what it did when the next driver sets Bus
 * Master. A Physical Function is reset later where Virtual ones need it as it is.
 *
 * Context: process context, device_lock(&dev->dev) held. Takes pci_lu_rwsem; tries the
 * locks of Virtual Functions.
 * Return: 0, -ENOTTY if the device has no reset, -EBUSY if it is put off for the sake of
 * Virtual Functions, or the error of the reset.
 */
int pci_liveupdate_reset(struct pci_dev *dev)
{
	int err;

	device_lock_assert(&dev->dev);
	if (test_bit(PCI_DEV_REMOVED, &dev->priv_flags) || pci_lu_break & PCI_LU_BREAK_STOP)
		return 0;

	if (pci_liveupdate_keeps_vfs(dev)) {
		err = lu_reset_pf(dev);
		if (err == -EBUSY) {
			set_bit(PCI_LU_UNRESET, &dev->lu_flags);
			pci_info(dev, "stopped, and reset when its Virtual Functions are not in use\n");
			return err;
		}
	} else {
		err = lu_reset(dev);
	}
	if (err)
		pci_warn(dev, "stopped, but could not be reset: %pe\n", ERR_PTR(err));
	else
		pci_info(dev, "stopped and reset\n");
	return err;
}
EXPORT_SYMBOL_GPL(pci_liveupdate_reset);

static bool lu_is_owed(struct pci_dev *dev)
{
	return pci_lu_test(dev, BIT(PCI_LU_UNRESET) | BIT(PCI_LU_ADOPTED) |
			   BIT(PCI_LU_OUTGOING)) == BIT(PCI_LU_UNRESET);
}

static void lu_reset_owed(struct work_struct *work)
{
	struct pci_dev *dev = NULL;

	for_each_pci_dev(dev) {
		/* If it is being bound or unbound, it is reset for its next driver */
		if (!dev->is_physfn || !lu_is_owed(dev) || !device_trylock(&dev->dev))
			continue;
		pm_runtime_get_sync(&dev->dev);
		/* Somebody has opened it, and has it reset for that */
		if (!pci_is_enabled(dev) && !lu_reset_pf(dev)) {
			clear_bit(PCI_LU_UNRESET, &dev->lu_flags);
			pci_info(dev, "reset: nobody works with its Virtual Functions\n");
		}
		pm_runtime_put(&dev->dev);
		device_unlock(&dev->dev);
	}
}

static DECLARE_WORK(lu_reset_work, lu_reset_owed);

/**
 * pci_lu_reset_later - reset what was not while its Virtual Functions needed it
 * @dev: function that is like any other now
 *
 * Context: any.
 */
void pci_lu_reset_later(struct pci_dev *dev)
{
	if (dev->is_physfn && lu_is_owed(dev))
		schedule_work(&lu_reset_work);
}

/**
 * pci_liveupdate_owe_reset - its user has left a function that cannot be reset now
 * @dev: function that is kept with its Virtual Functions, and does no DMA
 *
 * It is reset when they need it no more, or before it gets its next driver.
 *
 * Context: any.
 */
void pci_liveupdate_owe_reset(struct pci_dev *dev)
{
	set_bit(PCI_LU_UNRESET, &dev->lu_flags);
	/* They may have ended meanwhile */
	pci_lu_reset_later(dev);
}
EXPORT_SYMBOL_GPL(pci_liveupdate_owe_reset);

/**
 * pci_lu_reset_unreset - nobody gets a function as its last user has left it
 * @dev: function that is about to get a driver, or that its user has closed
 *
 * Context: process context; device_lock(&dev->dev) held if it is about to get a driver.
 */
void pci_lu_reset_unreset(struct pci_dev *dev)
{
	int err;

	/* Its driver resets it whenever it is opened */
	if (device_is_bound(&dev->dev))
		return;
	if (!lu_is_owed(dev) || !test_and_clear_bit(PCI_LU_UNRESET, &dev->lu_flags))
		return;
	err = pci_reset_function_locked(dev);
	if (err)
		pci_warn(dev, "is as its last user has left it, and cannot be reset: %pe\n",
			 ERR_PTR(err));
}
