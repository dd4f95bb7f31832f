/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where the PCI core asks PCI Live Update. Each hook costs a static branch
 * while nothing is preserved, and nothing at all without CONFIG_PCI_LIVEUPDATE.
 */
#ifndef _PCI_LIVEUPDATE_HOOKS_H
#define _PCI_LIVEUPDATE_HOOKS_H

#include <linux/jump_label.h>
#include <linux/pci.h>

/**
 * enum pci_lu_buses - what a bus scan does with the bus numbers of a bridge
 * @PCI_LU_BUSES_ASSIGN: what it would do without this feature
 * @PCI_LU_BUSES_KEEP:	 scan below with the numbers that the bridge has
 * @PCI_LU_BUSES_REFUSE: leave the bridge alone and scan nothing below
 */
enum pci_lu_buses {
	PCI_LU_BUSES_ASSIGN,
	PCI_LU_BUSES_KEEP,
	PCI_LU_BUSES_REFUSE,
};

#ifdef CONFIG_PCI_LIVEUPDATE

DECLARE_STATIC_KEY_FALSE(pci_lu_outgoing_key);
DECLARE_STATIC_KEY_FALSE(pci_lu_incoming_key);
DECLARE_STATIC_KEY_FALSE(pci_lu_used_key);

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
	PCI_LU_DEAD,		/* removed or failed while it had a record */
	PCI_LU_ACS_KEPT,	/* lu_acs_ctrl is how ACS stays, also when finished */
};

extern const struct attribute_group pci_liveupdate_attr_group;

enum pci_lu_buses __pci_liveupdate_scan_buses(struct pci_dev *dev, u8 primary,
					      u8 secondary, u8 subordinate, int pass);
bool __pci_liveupdate_adopt_ari(struct pci_dev *dev);
bool __pci_liveupdate_keep_acs(struct pci_dev *dev);
bool __pci_liveupdate_refuses(struct pci_dev *dev, const char *what);
bool __pci_liveupdate_refuses_slot(struct pci_bus *bus, int slot, const char *what);
bool __pci_liveupdate_keeps_driver_out(struct pci_dev *dev, const struct pci_driver *drv);
bool __pci_liveupdate_keeps_master(struct pci_dev *dev);
void __pci_liveupdate_removed(struct pci_dev *dev);
void __pci_liveupdate_failed(struct pci_dev *bridge);

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
	return static_branch_unlikely(&pci_lu_used_key) &&
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

/**
 * pci_liveupdate_held - has this function a record, in either direction?
 * @dev: device or bridge
 *
 * Context: any.
 * Return: true for a preserved device and every bridge above it, in the outgoing
 * kernel until it is unpreserved and in the incoming one until it is finished.
 */
static inline bool pci_liveupdate_held(struct pci_dev *dev)
{
	return static_branch_unlikely(&pci_lu_used_key) &&
	       (test_bit(PCI_LU_OUTGOING, &dev->lu_flags) ||
		test_bit(PCI_LU_ADOPTED, &dev->lu_flags));
}

/**
 * pci_liveupdate_scan_buses - what becomes of the bus numbers of a bridge?
 * @dev: bridge that a scan has come to
 * @primary: its Primary Bus Number
 * @secondary: its Secondary Bus Number
 * @subordinate: its Subordinate Bus Number
 * @pass: 0 or 1; the answer to the second is that to the first
 *
 * Context: a bus scan, which pci_rescan_remove_lock keeps alone once there is a
 * user space.
 * Return: see &enum pci_lu_buses.
 */
static inline enum pci_lu_buses pci_liveupdate_scan_buses(struct pci_dev *dev, u8 primary,
							  u8 secondary, u8 subordinate,
							  int pass)
{
	if (!static_branch_unlikely(&pci_lu_used_key))
		return PCI_LU_BUSES_ASSIGN;
	return __pci_liveupdate_scan_buses(dev, primary, secondary, subordinate, pass);
}

/**
 * pci_liveupdate_adopt_ari - is ARI forwarding above a device settled?
 * @dev: function 0 of it, being enumerated
 *
 * Return: true if the bridge above is preserved: its setting has been adopted.
 */
static inline bool pci_liveupdate_adopt_ari(struct pci_dev *dev)
{
	return static_branch_unlikely(&pci_lu_used_key) && __pci_liveupdate_adopt_ari(dev);
}

/**
 * pci_liveupdate_keep_acs - is ACS of a function settled?
 * @dev: function whose ACS is about to be set up
 *
 * Return: true if it is as the previous kernel had it, and stays so.
 */
static inline bool pci_liveupdate_keep_acs(struct pci_dev *dev)
{
	return static_branch_unlikely(&pci_lu_used_key) && __pci_liveupdate_keep_acs(dev);
}

/**
 * pci_liveupdate_refuses - may user space not do that to this function?
 * @dev: device or bridge
 * @what: the operation, in words that fit before "is refused"
 *
 * Return: true, and the log says so, if a preserved device is at or below @dev:
 * the caller returns -EBUSY.
 */
static inline bool pci_liveupdate_refuses(struct pci_dev *dev, const char *what)
{
	return static_branch_unlikely(&pci_lu_used_key) &&
	       __pci_liveupdate_refuses(dev, what);
}

/**
 * pci_liveupdate_refuses_slot - the same for all functions in a slot
 * @bus: bus that the slot is on
 * @slot: device number, or negative for any device on @bus
 * @what: see pci_liveupdate_refuses()
 *
 * Context: takes pci_bus_sem for reading.
 * Return: see pci_liveupdate_refuses().
 */
static inline bool pci_liveupdate_refuses_slot(struct pci_bus *bus, int slot,
					       const char *what)
{
	return static_branch_unlikely(&pci_lu_used_key) &&
	       __pci_liveupdate_refuses_slot(bus, slot, what);
}

/**
 * pci_liveupdate_keeps_driver_out - must this driver not bind this function?
 * @dev: device or bridge
 * @drv: driver that matches it
 *
 * Return: true, and the log says so, if the function is incoming and @drv does not
 * take over running devices, or it is not the function that was preserved.
 */
static inline bool pci_liveupdate_keeps_driver_out(struct pci_dev *dev,
						   const struct pci_driver *drv)
{
	return static_branch_unlikely(&pci_lu_incoming_key) &&
	       __pci_liveupdate_keeps_driver_out(dev, drv);
}

/**
 * pci_liveupdate_keeps_master - must Bus Master stay on?
 * @dev: device or bridge that is being disabled
 *
 * Return: true if a preserved device is at or below @dev.
 */
static inline bool pci_liveupdate_keeps_master(struct pci_dev *dev)
{
	return static_branch_unlikely(&pci_lu_used_key) && __pci_liveupdate_keeps_master(dev);
}

/**
 * pci_liveupdate_removed - a function goes away, whoever wanted that
 * @dev: function that is about to lose its driver
 *
 * Context: may sleep.
 */
static inline void pci_liveupdate_removed(struct pci_dev *dev)
{
	if (static_branch_unlikely(&pci_lu_used_key))
		__pci_liveupdate_removed(dev);
}

/**
 * pci_liveupdate_failed - a port is about to reset what is below it
 * @bridge: port, or the device itself if it has nothing below
 *
 * Context: error recovery; may sleep. Takes pci_bus_sem for reading.
 */
static inline void pci_liveupdate_failed(struct pci_dev *bridge)
{
	if (static_branch_unlikely(&pci_lu_used_key))
		__pci_liveupdate_failed(bridge);
}

#else /* CONFIG_PCI_LIVEUPDATE */

static inline bool pci_liveupdate_held(struct pci_dev *dev)
{
	return false;
}

static inline enum pci_lu_buses pci_liveupdate_scan_buses(struct pci_dev *dev, u8 primary,
							  u8 secondary, u8 subordinate,
							  int pass)
{
	return PCI_LU_BUSES_ASSIGN;
}

static inline bool pci_liveupdate_adopt_ari(struct pci_dev *dev)
{
	return false;
}

static inline bool pci_liveupdate_keep_acs(struct pci_dev *dev)
{
	return false;
}

static inline bool pci_liveupdate_refuses(struct pci_dev *dev, const char *what)
{
	return false;
}

static inline bool pci_liveupdate_refuses_slot(struct pci_bus *bus, int slot,
					       const char *what)
{
	return false;
}

static inline bool pci_liveupdate_keeps_driver_out(struct pci_dev *dev,
						   const struct pci_driver *drv)
{
	return false;
}

static inline bool pci_liveupdate_keeps_master(struct pci_dev *dev)
{
	return false;
}

static inline void pci_liveupdate_removed(struct pci_dev *dev)
{
}

static inline void pci_liveupdate_failed(struct pci_dev *bridge)
{
}

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
