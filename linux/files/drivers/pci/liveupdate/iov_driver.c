// SPDX-License-Identifier: GPL-2.0
/*
 * PCI Live Update: Physical Functions that have a driver of their own kind.
 */

/**
 * DOC: Drivers that keep Virtual Functions
 *
 * What Virtual Functions depend on is set up by the driver of their Physical Function, and
 * mostly in registers that nobody else knows. A driver that can go on with them, and only
 * that, has &pci_driver.live_update_pf. It works in both kernels, with no word between
 * them: what the next one has to know, it finds in the device. While
 * pci_liveupdate_keeps_vfs() is true of a function, its driver
 *
 * - does not reset it, nor any part that Virtual Functions share, be it in probe, in remove
 *   or shutdown, as an interface goes down, or because somebody wants a setting changed;
 * - changes no state of a Virtual Function but at its owner's request (a mailbox);
 * - does not disable Virtual Functions (pci_disable_sriov() leaves them as they are, and
 *   says so), nor puts the function to sleep, nor powers its link down;
 * - ends its own DMA in shutdown, waits for what is under way, and turns off its interrupts:
 *   Bus Master of the function stays on, and nobody stops what the driver forgets (the log
 *   tells of requests that are outstanding then);
 * - finds the Virtual Functions there in probe, pci_num_vf() of them, and learns from
 *   registers what it has to know of each. What it cannot learn is a reason to refuse, or
 *   it assumes what gives them least;
 * - keeps no memory that Virtual Functions use: it would be free in the next kernel. A
 *   device that wants such memory cannot have a driver of this kind.
 *
 * It goes on like that with those that it has found until they are disabled, also when they
 * have been finished: somebody works with them. After an error from which the function has
 * recovered by a reset there is nothing left to keep, and pci_liveupdate_keeps_vfs() is false.
 *
 * The callback is called with the function locked, when a Virtual Function has been
 * preserved, and again before the kexec. By the time it returns, what the driver had begun
 * before it could know is over. A reason that it returns ends the preservation, or the kexec,
 * with -EOPNOTSUPP and one line in the log. It is not asked for what ``liveupdate/refusal``
 * tells, which locks nothing. It must not wait for locks that are held in page faults, or
 * across copies from and to user space: callers of pci_liveupdate_preserve() may hold what
 * a fault waits for.
 *
 * In the next kernel only a driver with the callback is bound to the function, and may write
 * to it from then on, but for what the guard protects. Without one, Virtual Functions go on,
 * with nobody to answer them.
 */

#define dev_fmt(fmt) "Live Update: " fmt

#include <linux/cleanup.h>

#include "../pci.h"
#include "internal.h"

/**
 * pci_lu_ask_driver - can Virtual Functions go on with the driver of their function?
 * @pf: Physical Function, kept with Virtual Functions; or any other function
 * @dev: whom it is asked for
 * @what: what is to be done with that, in words that fit behind "cannot be "
 *
 * Context: process context, device_lock(&pf->dev) held, but not pci_lu_rwsem.
 * Return: 0, or -EOPNOTSUPP after a message.
 */
int pci_lu_ask_driver(struct pci_dev *pf, struct pci_dev *dev, const char *what)
{
	const struct pci_driver *drv = pf->driver;
	const char *why;

	if (!drv || !drv->live_update_pf || !pci_liveupdate_keeps_vfs(pf))
		return 0;
	why = drv->live_update_pf(pf);
	if (!why)
		return 0;
	dev_err_ratelimited(&dev->dev, "cannot be %s: driver %s of its Physical Function: %s\n",
			    what, drv->name, why);
	return -EOPNOTSUPP;
}

/**
 * pci_lu_look_after_driver - has a driver ended its own DMA?
 * @pf: Physical Function that is left to the next kernel, or a bridge
 *
 * It is too late to do anything but say so.
 *
 * Context: process context, after the driver's shutdown.
 */
void pci_lu_look_after_driver(struct pci_dev *pf)
{
	if (!pci_lu_test(pf, BIT(PCI_LU_PF)) || !pf->driver || !pf->driver->live_update_pf)
		return;
	if (!pci_wait_for_pending_transaction(pf))
		pci_err(pf, "driver %s has left requests of its own outstanding\n",
			pf->driver->name);
}

/**
 * pci_lu_lend - let a driver that keeps Virtual Functions write to their function
 * @pf: function that is about to get a driver, which suits it; or any other
 *
 * Context: process context, device_lock(&pf->dev) held if it is about to get one. Takes
 * pci_lu_rwsem.
 */
void pci_lu_lend(struct pci_dev *pf)
{
	if (!pci_lu_test(pf, BIT(PCI_LU_PF)) || !pci_lu_test(pf, BIT(PCI_LU_ADOPTED)) ||
	    !pf->dev.driver || !to_pci_driver(pf->dev.driver)->live_update_pf)
		return;
	guard(rwsem_write)(&pci_lu_rwsem);
	if (!pf->lu_incoming)
		return;
	set_bit(PCI_LU_CLAIMED, &pf->lu_flags);
	pci_lu_changed(pf);
}
