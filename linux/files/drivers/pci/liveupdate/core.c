// SPDX-License-Identifier: GPL-2.0
/*
 * PCI Live Update: the File-Lifecycle-Bound object that both kernels share.
 */

/**
 * DOC: PCI Live Update
 *
 * A driver whose file is preserved by the Live Update Orchestrator (LUO)
 * preserves its PCI device with it. From then on the device and all bridges
 * above it have a record in memory that the next kernel inherits. The set of
 * records is one File-Lifecycle-Bound object: it exists from the first
 * preserved device to the last that is unpreserved in this kernel or finished
 * in the next.
 *
 * - *outgoing* is a device that has been preserved in this kernel,
 * - *incoming* one that the previous kernel preserved and that has not been
 *   finished. Both can be true at once only for different updates: a device
 *   is finished before it is preserved again.
 *
 * Locking
 * -------
 *
 * ``pci_lu_rwsem`` guards the state of both directions. Above it are, in this
 * order: LUO's locks (session, File-Lifecycle-Bound object) and
 * ``pci_rescan_remove_lock``. The last is only ever *tried*, by
 * pci_liveupdate_preserve(): enumeration runs with it held and calls into this
 * code, so waiting for it below LUO's locks could deadlock. unpreserve, finish
 * and the callbacks of the File-Lifecycle-Bound object do not even try it.
 * ``pci_bus_sem`` is above ``pci_lu_rwsem``, too. In full::
 *
 *   luo_session mutex -> luo_file mutex -> luo_register_rwlock
 *     -> flb outgoing.lock or incoming.lock -> pci_lu_rwsem
 *   luo_session mutex -> luo_file mutex -> pci_rescan_remove_lock (tried)
 *     -> pci_lu_rwsem
 *   luo_session mutex -> luo_file mutex -> flb incoming.lock
 *     -> pci_bus_sem -> pci_lu_rwsem
 *   pci_rescan_remove_lock -> pci_bus_sem -> pci_lu_rwsem
 *
 * Nothing is called with ``pci_lu_rwsem`` held that takes another of these
 * locks. What the hooks look at on their way (&pci_dev.lu_flags, static
 * branches) needs none.
 */

#define pr_fmt(fmt) "PCI Live Update: " fmt

#include <linux/init.h>
#include <linux/module.h>
#include <linux/reboot.h>
#include <linux/suspend.h>

#include "internal.h"

#define CREATE_TRACE_POINTS
#include <trace/events/pci_liveupdate.h>

DECLARE_RWSEM(pci_lu_rwsem);
DEFINE_STATIC_KEY_FALSE(pci_lu_incoming_key);
DEFINE_STATIC_KEY_FALSE(pci_lu_used_key);

#ifdef CONFIG_PCI_LIVEUPDATE_DEBUG
#undef MODULE_PARAM_PREFIX
#define MODULE_PARAM_PREFIX "pci_liveupdate."

unsigned long pci_lu_break;
module_param_named(break, pci_lu_break, ulong, 0600);

/**
 * pci_liveupdate_leaves_out - has a test said to leave this out?
 * @part: what
 *
 * Return: true if so; without CONFIG_PCI_LIVEUPDATE_DEBUG never.
 */
bool pci_liveupdate_leaves_out(enum pci_liveupdate_part part)
{
	return pci_lu_break & BIT(part);
}
EXPORT_SYMBOL_GPL(pci_liveupdate_leaves_out);

/* The number that is handed over, whatever it would be */
unsigned int pci_lu_abi_version;
module_param_named(abi_version, pci_lu_abi_version, uint, 0600);
#endif

static const struct liveupdate_flb_ops pci_lu_flb_ops = {
	.preserve	= pci_lu_outgoing_create,
	.unpreserve	= pci_lu_outgoing_destroy,
	.freeze		= pci_lu_outgoing_freeze,
	.retrieve	= pci_lu_incoming_retrieve,
	.finish		= pci_lu_incoming_finish,
	.owner		= THIS_MODULE,
};

struct liveupdate_flb pci_lu_flb = {
	.ops		= &pci_lu_flb_ops,
	.compatible	= PCI_LIVEUPDATE_COMPATIBLE,
	.hardware	= true,
};

/**
 * pci_liveupdate_register_flb - make a file handler carry PCI devices
 * @fh: handler registered with liveupdate_register_file_handler()
 *
 * From now on the set of preserved PCI devices is handed over whenever a file
 * of @fh is. Undo with pci_liveupdate_unregister_flb() or by unregistering @fh.
 *
 * Context: may sleep; driver or module initialisation.
 * Return: 0, -EOPNOTSUPP if Live Update is off (liveupdate=on is missing),
 * -EEXIST if done for @fh before, -ENOMEM, -ENOSPC.
 */
int pci_liveupdate_register_flb(struct liveupdate_file_handler *fh)
{
	return liveupdate_register_flb(fh, &pci_lu_flb);
}
EXPORT_SYMBOL_GPL(pci_liveupdate_register_flb);

/**
 * pci_liveupdate_unregister_flb - undo pci_liveupdate_register_flb()
 * @fh: file handler
 *
 * Context: may sleep.
 */
void pci_liveupdate_unregister_flb(struct liveupdate_file_handler *fh)
{
	liveupdate_unregister_flb(fh, &pci_lu_flb);
}
EXPORT_SYMBOL_GPL(pci_liveupdate_unregister_flb);

/*
 * Suspend and hibernation put devices in D3 or forget their state. Neither may
 * happen to a device that somebody counts on to be running.
 */
static int pci_lu_pm_notify(struct notifier_block *nb, unsigned long event,
			    void *unused)
{
	switch (event) {
	case PM_SUSPEND_PREPARE:
	case PM_HIBERNATION_PREPARE:
	case PM_RESTORE_PREPARE:
		break;
	case PM_POST_SUSPEND:
	case PM_POST_HIBERNATION:
	case PM_POST_RESTORE:
		pci_lu_set_suspending(false);
		return NOTIFY_DONE;
	default:
		return NOTIFY_DONE;
	}

	/* User space goes on for a while, and may preserve something yet */
	pci_lu_set_suspending(true);
	if (pci_lu_outgoing_active())
		pr_err("no suspend while PCI devices are preserved; close their Live Update sessions first\n");
	else if (pci_lu_incoming_active())
		pr_err("no suspend while PCI devices of the previous kernel are not finished; finish their Live Update sessions first\n");
	else
		return NOTIFY_DONE;

	/* Who refuses is not told of the end */
	pci_lu_set_suspending(false);
	return notifier_from_errno(-EBUSY);
}

static struct notifier_block pci_lu_pm_nb = {
	.notifier_call = pci_lu_pm_notify,
};

/*
 * Retrieved once, before any bus is scanned, and kept. A first retrieve during
 * the scan would run below pci_rescan_remove_lock.
 */
static int __init pci_lu_init(void)
{
	void *obj;
	int err;

	err = register_pm_notifier(&pci_lu_pm_nb);
	if (err)
		return err;

	err = liveupdate_flb_get_incoming(&pci_lu_flb, &obj);
	switch (err) {
	case 0:
		/* The files that depend on the object keep it */
		liveupdate_flb_put_incoming(&pci_lu_flb);
		return 0;
	case -EOPNOTSUPP:	/* Live Update is off */
	case -ENODATA:		/* no live update brought us here */
	case -ENOENT:		/* one that preserved no PCI device did */
		return 0;
	default:
		/* pci_lu_incoming_retrieve() has stopped the boot for all others */
		return err;
	}
}
core_initcall(pci_lu_init);
