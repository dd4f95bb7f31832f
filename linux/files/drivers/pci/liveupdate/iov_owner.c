// SPDX-License-Identifier: GPL-2.0
/*
 * PCI Live Update: whose a Physical Function is, and what that means for its Virtual
 * Functions. See iov.c.
 */

#define dev_fmt(fmt) "Live Update: " fmt

#include <linux/cleanup.h>
#include <linux/jiffies.h>
#include <linux/uuid.h>
#include <linux/wait_bit.h>

#include "../pci.h"
#include "internal.h"

/**
 * pci_liveupdate_keeps_vfs - is a function kept with its Virtual Functions?
 * @dev: function
 *
 * Then it is neither reset nor disabled, whoever wants that.
 *
 * Context: any.
 * Return: true if so, in either direction, and it has not failed.
 */
bool pci_liveupdate_keeps_vfs(struct pci_dev *dev)
{
	return pci_lu_used() && pci_lu_test(dev, BIT(PCI_LU_PF)) &&
	       !pci_lu_test(dev, BIT(PCI_LU_DEAD)) && !(pci_lu_break & PCI_LU_BREAK_REFUSALS);
}
EXPORT_SYMBOL_GPL(pci_liveupdate_keeps_vfs);

/* What is known of the Virtual Functions of a function, in either direction */
static const struct pci_liveupdate_record_ser *lu_iov(struct pci_dev *pf)
{
	if (pci_lu_is_pf(pf->lu_outgoing))
		return *pci_lu_iov_slot(pf);
	return pci_lu_record(pf) ? pf->lu_incoming->iov : NULL;
}

static bool lu_has_user(struct pci_dev *pf)
{
	const struct pci_liveupdate_record_ser *iov;

	guard(rwsem_read)(&pci_lu_rwsem);
	iov = lu_iov(pf);
	return iov && iov->iov.owner == PCI_LIVEUPDATE_PF_USER;
}

/**
 * pci_lu_pf_suits - may this driver have a function that is kept with its Virtual ones?
 * @pf: the function
 * @drv: the driver
 *
 * Who looks after it is of the same kind in both kernels: who is trusted with it decides
 * who is with its Virtual Functions.
 *
 * Context: process context. Takes pci_lu_rwsem for reading.
 * Return: true if it may.
 */
bool pci_lu_pf_suits(struct pci_dev *pf, const struct pci_driver *drv)
{
	const struct pci_liveupdate_record_ser *iov;

	guard(rwsem_read)(&pci_lu_rwsem);
	iov = lu_iov(pf);
	if (!iov)
		return false;
	switch (iov->iov.owner) {
	case PCI_LIVEUPDATE_PF_USER:
		return drv->live_update && !drv->live_update_pf && !pci_lu_leaves_alone(drv);
	case PCI_LIVEUPDATE_PF_NATIVE:
		return drv->live_update_pf;
	default:
		return drv->live_update && pci_lu_leaves_alone(drv);
	}
}

/**
 * pci_lu_is_captured - are only drivers for users good for a Virtual Function?
 * @dev: function
 *
 * As in the previous kernel, where the driver of the Physical Function has seen to it.
 *
 * Context: process context. Takes pci_lu_rwsem for reading.
 * Return: true if @dev is an incoming function's Virtual Function, and that is a user's.
 */
bool pci_lu_is_captured(struct pci_dev *dev)
{
	return dev->is_virtfn && pci_lu_test(pci_physfn(dev), BIT(PCI_LU_ADOPTED)) &&
	       lu_has_user(pci_physfn(dev));
}

/**
 * pci_liveupdate_pf_has_user - has the previous kernel left a Physical Function to a user?
 * @pf: Physical Function
 * @token: what users of its Virtual Functions have to know; filled in if so, may be NULL
 *
 * Context: process context. Takes pci_lu_rwsem for reading.
 * Return: true if so, until it and its Virtual Functions are finished.
 */
bool pci_liveupdate_pf_has_user(struct pci_dev *pf, uuid_t *token)
{
	const struct pci_liveupdate_record_ser *rec;

	if (!pci_lu_test(pf, BIT(PCI_LU_ADOPTED)))
		return false;
	guard(rwsem_read)(&pci_lu_rwsem);
	rec = pci_lu_record(pf) ? pf->lu_incoming->iov : NULL;
	if (!rec || rec->iov.owner != PCI_LIVEUPDATE_PF_USER)
		return false;
	if (token)
		import_uuid(token, rec->iov.vf_token);
	return true;
}
EXPORT_SYMBOL_GPL(pci_liveupdate_pf_has_user);

/**
 * pci_lu_vfs_need - do preserved Virtual Functions need a function as it is?
 * @pf: function that is kept with them
 *
 * Those of a function that is lost do not: they end with the first session that does.
 *
 * Context: process context. Takes pci_lu_rwsem for reading.
 * Return: true if one of them is preserved, or is not finished.
 */
bool pci_lu_vfs_need(struct pci_dev *pf)
{
	const struct pci_lu_incoming *in;

	guard(rwsem_read)(&pci_lu_rwsem);
	if (pci_lu_is_pf(pf->lu_outgoing))
		return true;
	in = pf->lu_incoming;
	return in && !test_bit(PCI_LU_LOST, &pf->lu_flags) &&
	       in->users > pci_lu_has_owner(in->rec);
}

/**
 * pci_liveupdate_set_vf_token - hand over what users of Virtual Functions have to know
 * @pf: frozen function; does nothing unless it is kept with its Virtual Functions
 * @token: the VF token
 *
 * Context: process context, from the settle callback of a file handler. Takes
 * pci_lu_rwsem.
 */
void pci_liveupdate_set_vf_token(struct pci_dev *pf, const uuid_t *token)
{
	guard(rwsem_write)(&pci_lu_rwsem);
	if (pci_lu_is_pf(pf->lu_outgoing))
		export_uuid((*pci_lu_iov_slot(pf))->iov.vf_token, token);
}
EXPORT_SYMBOL_GPL(pci_liveupdate_set_vf_token);

/* How often users are asked to let a function go */
#define LU_ASK_AGAIN	(10 * HZ)

/**
 * pci_liveupdate_await_vfs - wait until nobody needs a function as it is
 * @pf: function that is to lose its driver
 * @ask: asks the user of @pf to close it; with how often he has been asked before
 *
 * For drivers that disable Virtual Functions when they go, and would have to leave them
 * on, with no memory of whom they belong to.
 *
 * Context: process context, device_lock(&pf->dev) held: none of them can be preserved.
 */
void pci_liveupdate_await_vfs(struct pci_dev *pf,
			      void (*ask)(struct pci_dev *pf, unsigned int count))
{
	unsigned int count = 0;

	if (!pci_liveupdate_keeps_vfs(pf))
		return;
	pci_warn(pf, "unbind waits until it and its Virtual Functions are no longer preserved, or their live update is finished\n");
	do
		ask(pf, count++);
	while (!wait_var_event_timeout(&pf->lu_flags, !pci_liveupdate_keeps_vfs(pf),
				       LU_ASK_AGAIN));
}
EXPORT_SYMBOL_GPL(pci_liveupdate_await_vfs);
