/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where the PCI core asks PCI Live Update. Each hook costs a static branch
 * while nothing is preserved, and nothing at all without CONFIG_PCI_LIVEUPDATE.
 */
#ifndef _PCI_LIVEUPDATE_HOOKS_H
#define _PCI_LIVEUPDATE_HOOKS_H

#include <linux/jump_label.h>
#include <linux/pci.h>

#ifdef CONFIG_PCI_LIVEUPDATE

DECLARE_STATIC_KEY_FALSE(pci_lu_outgoing_key);
DECLARE_STATIC_KEY_FALSE(pci_lu_incoming_key);

bool __pci_liveupdate_shutdown(struct pci_dev *dev);
void __pci_liveupdate_match(struct pci_dev *dev);
void __pci_liveupdate_add(struct pci_dev *dev);

/*
 * Bits of &pci_dev.lu_flags, which hooks look at without a lock. Set before
 * anybody else knows the device, or with the last user of a record.
 */
enum {
	PCI_LU_OUTGOING,	/* has a record for the next kernel */
	PCI_LU_ADOPTED,		/* has a record of the previous kernel, unfinished */
	PCI_LU_CLAIMED,		/* ... and its owner has retrieved it */
	PCI_LU_LOST,		/* ... but it is another device, or failed since */
};

/**
 * pci_liveupdate_shutdown - decide about Bus Master on the way out
 * @dev: device that is being shut down
 *
 * Context: pci_device_shutdown(), after the driver's shutdown callback.
 * Return: true if Bus Master has been dealt with, false if the caller is to do
 * what it would do without this feature.
 */
static inline bool pci_liveupdate_shutdown(struct pci_dev *dev)
{
	return static_branch_unlikely(&pci_lu_outgoing_key) &&
	       __pci_liveupdate_shutdown(dev);
}

/**
 * pci_liveupdate_match - match a function with its handed-over record
 * @dev: function that has just been discovered
 *
 * From here on pci_liveupdate_adopted() tells.
 *
 * Context: pci_setup_device(), before the first write to the function; config
 * space size and header type are known.
 */
static inline void pci_liveupdate_match(struct pci_dev *dev)
{
	if (static_branch_unlikely(&pci_lu_incoming_key))
		__pci_liveupdate_match(dev);
}

/**
 * pci_liveupdate_add - hold a matched function until it is finished
 * @dev: function that is being added
 *
 * Context: pci_device_add(), references can be taken, no driver can bind yet.
 */
static inline void pci_liveupdate_add(struct pci_dev *dev)
{
	if (static_branch_unlikely(&pci_lu_incoming_key))
		__pci_liveupdate_add(dev);
}

/**
 * pci_liveupdate_adopted - is this function to be left as it is?
 * @dev: device or bridge
 *
 * Context: any.
 * Return: true for a function that the previous kernel preserved (or one that
 * is in its place), from before anything is written to it until its live update
 * is finished.
 */
static inline bool pci_liveupdate_adopted(struct pci_dev *dev)
{
	return static_branch_unlikely(&pci_lu_incoming_key) &&
	       test_bit(PCI_LU_ADOPTED, &dev->lu_flags);
}

#else /* CONFIG_PCI_LIVEUPDATE */

static inline bool pci_liveupdate_shutdown(struct pci_dev *dev)
{
	return false;
}

static inline void pci_liveupdate_match(struct pci_dev *dev)
{
}

static inline void pci_liveupdate_add(struct pci_dev *dev)
{
}

static inline bool pci_liveupdate_adopted(struct pci_dev *dev)
{
	return false;
}

#endif /* CONFIG_PCI_LIVEUPDATE */

#endif /* _PCI_LIVEUPDATE_HOOKS_H */
