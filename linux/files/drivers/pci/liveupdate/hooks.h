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
void __pci_liveupdate_setup_device(struct pci_dev *dev);

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
 * pci_liveupdate_setup_device - match a device with its handed-over record
 * @dev: device that has just been discovered
 *
 * Context: pci_device_add(), capabilities known, no driver can bind yet.
 */
static inline void pci_liveupdate_setup_device(struct pci_dev *dev)
{
	if (static_branch_unlikely(&pci_lu_incoming_key))
		__pci_liveupdate_setup_device(dev);
}

/**
 * pci_liveupdate_adopted - is this function to be left as it is?
 * @dev: device or bridge
 *
 * Context: any.
 * Return: true for an incoming function, from before anybody can bind it until
 * its live update is finished.
 */
static inline bool pci_liveupdate_adopted(struct pci_dev *dev)
{
	return static_branch_unlikely(&pci_lu_incoming_key) &&
	       READ_ONCE(dev->lu_incoming);
}

#else /* CONFIG_PCI_LIVEUPDATE */

static inline bool pci_liveupdate_shutdown(struct pci_dev *dev)
{
	return false;
}

static inline void pci_liveupdate_setup_device(struct pci_dev *dev)
{
}

static inline bool pci_liveupdate_adopted(struct pci_dev *dev)
{
	return false;
}

#endif /* CONFIG_PCI_LIVEUPDATE */

#endif /* _PCI_LIVEUPDATE_HOOKS_H */
