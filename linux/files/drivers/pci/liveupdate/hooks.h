/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where the PCI core asks PCI Live Update. Each hook costs a static branch
 * while nothing is preserved, and nothing at all without CONFIG_PCI_LIVEUPDATE.
 */
#ifndef _PCI_LIVEUPDATE_HOOKS_H
#define _PCI_LIVEUPDATE_HOOKS_H

#include <linux/jump_label.h>
#include <linux/list.h>
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

/**
 * enum pci_lu_keep - what is left as it is in adopted functions
 * @PCI_LU_KEEP_BARS:	   BARs and the decode of them
 * @PCI_LU_KEEP_WINDOWS:   windows of bridges, which tell their kinds if probed
 * @PCI_LU_KEEP_ADDRESSES: what is claimed in the resource tree
 * @PCI_LU_KEEP_PAYLOAD:   Max Payload Size, Max Read Request Size
 * @PCI_LU_KEEP_REQUESTS:  tags, ordering, completion boundary, LTR, SERR, _HPX
 * @PCI_LU_KEEP_LINK:	   ASPM, common clock, retraining
 * @PCI_LU_KEEP_INTX:	   INTx Disable, Interrupt Line
 * @PCI_LU_KEEP_MSI:	   MSI Enable, MSI-X Enable
 * @PCI_LU_KEEP_POWER:	   power state, PME
 * @PCI_LU_KEEP_ERRORS:	   AER
 * @PCI_LU_KEEP_MAILBOX:   DOE
 * @PCI_LU_KEEP_IOV:	   SR-IOV
 * @PCI_LU_KEEP_VPD:	   Vital Product Data, which is read by writing
 * @PCI_LU_KEEP_VGA:	   VGA decode and forwarding
 * @PCI_LU_KEEP_TRANSLATION: ATS, PRI, PASID
 * @PCI_LU_KEEP_STREAMS:   stream IDs of IDE
 * @PCI_LU_KEEP_NR:	   number of these, not one itself
 */
enum pci_lu_keep {
	PCI_LU_KEEP_BARS,
	PCI_LU_KEEP_WINDOWS,
	PCI_LU_KEEP_ADDRESSES,
	PCI_LU_KEEP_PAYLOAD,
	PCI_LU_KEEP_REQUESTS,
	PCI_LU_KEEP_LINK,
	PCI_LU_KEEP_INTX,
	PCI_LU_KEEP_MSI,
	PCI_LU_KEEP_POWER,
	PCI_LU_KEEP_ERRORS,
	PCI_LU_KEEP_MAILBOX,
	PCI_LU_KEEP_IOV,
	PCI_LU_KEEP_VPD,
	PCI_LU_KEEP_VGA,
	PCI_LU_KEEP_TRANSLATION,
	PCI_LU_KEEP_STREAMS,
	PCI_LU_KEEP_NR
};

#ifdef CONFIG_PCI_LIVEUPDATE

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
	PCI_LU_STOPPED,		/* not running any more, memory may go */
	PCI_LU_KEPT_APART,	/* a driver was kept away, which is tried when finished */
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
void pci_liveupdate_stopping(struct pci_dev *dev);
void __pci_liveupdate_removed(struct pci_dev *dev);
void __pci_liveupdate_host_removed(struct pci_bus *root);
void __pci_liveupdate_failed(struct pci_dev *bridge);
bool __pci_liveupdate_keeps(struct pci_dev *dev, enum pci_lu_keep what);
bool __pci_liveupdate_keeps_path(struct pci_dev *dev, enum pci_lu_keep what);
bool __pci_liveupdate_keeps_address(struct pci_dev *dev, const struct resource *res);
bool __pci_liveupdate_bar_masks(struct pci_dev *dev, unsigned int nr, u32 *masks, u32 *rom);
bool __pci_liveupdate_windows(struct pci_dev *bridge);
bool __pci_liveupdate_rrs_sv(struct pci_dev *port);
bool __pci_liveupdate_msi_is_held(struct pci_dev *dev);
bool __pci_liveupdate_msix_is_held(struct pci_dev *dev);

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
	/* Not the key of what is incoming: that may have ended since the match */
	if (static_branch_unlikely(&pci_lu_used_key) &&
	    test_bit(PCI_LU_ADOPTED, &dev->lu_flags))
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
 * pci_liveupdate_host_removed - a host bridge goes away, with its windows
 * @root: its root bus, nothing of which has been removed yet
 *
 * Context: may sleep.
 */
static inline void pci_liveupdate_host_removed(struct pci_bus *root)
{
	if (static_branch_unlikely(&pci_lu_used_key))
		__pci_liveupdate_host_removed(root);
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

/**
 * pci_liveupdate_keeps - is this function not to be written to?
 * @dev: device or bridge that is being set up
 * @what: what would be written
 *
 * Context: any.
 * Return: true if @dev is adopted and @what of it is taken over as it is, or if
 * @dev is preserved for the next kernel and not even its neighbours may be a
 * reason to change @what.
 */
static inline bool pci_liveupdate_keeps(struct pci_dev *dev, enum pci_lu_keep what)
{
	return pci_liveupdate_held(dev) && __pci_liveupdate_keeps(dev, what);
}

/**
 * pci_liveupdate_keeps_path - the same for a function or any bridge above it
 * @dev: device or bridge
 * @what: what would be written
 *
 * Return: true if @what of any of them is kept.
 */
static inline bool pci_liveupdate_keeps_path(struct pci_dev *dev, enum pci_lu_keep what)
{
	return static_branch_unlikely(&pci_lu_used_key) &&
	       __pci_liveupdate_keeps_path(dev, what);
}

/**
 * pci_liveupdate_keeps_address - must this resource stay as it is?
 * @dev: device or bridge
 * @res: one of its resources
 *
 * Return: true if it must be neither assigned nor moved nor released.
 */
static inline bool pci_liveupdate_keeps_address(struct pci_dev *dev,
						const struct resource *res)
{
	return pci_liveupdate_held(dev) && __pci_liveupdate_keeps_address(dev, res);
}

/**
 * pci_liveupdate_bar_masks - are the sizes of these BARs known?
 * @dev: function that is being set up
 * @nr: number of BARs of its header type
 * @masks: filled in if so, as if the BARs had been sized
 * @rom: the same for the Expansion ROM, NULL if the header type has none
 *
 * Return: true if the BARs must not be sized.
 */
static inline bool pci_liveupdate_bar_masks(struct pci_dev *dev, unsigned int nr,
					    u32 *masks, u32 *rom)
{
	return pci_liveupdate_adopted(dev) &&
	       __pci_liveupdate_bar_masks(dev, nr, masks, rom);
}

/**
 * pci_liveupdate_windows - are the kinds of windows of this bridge known?
 * @bridge: bridge that is being set up; its window flags are filled in if so
 *
 * Return: true if the windows must not be probed.
 */
static inline bool pci_liveupdate_windows(struct pci_dev *bridge)
{
	return pci_liveupdate_adopted(bridge) && __pci_liveupdate_windows(bridge);
}

/**
 * pci_liveupdate_rrs_sv - has this root port RRS Software Visibility on?
 * @port: root port that is being set up, before it is matched
 *
 * Return: true if it has, and devices of the previous kernel are running: then
 * the caller need not write.
 */
static inline bool pci_liveupdate_rrs_sv(struct pci_dev *port)
{
	return static_branch_unlikely(&pci_lu_incoming_key) && __pci_liveupdate_rrs_sv(port);
}

/**
 * pci_liveupdate_msi_is_held - has the previous kernel left MSI on and masked?
 * @dev: device with MSI, which this kernel has not set up
 *
 * Return: true if so: to turn it off would lose what is pending, and to unmask it
 * without setting it up would send messages to the previous kernel.
 */
static inline bool pci_liveupdate_msi_is_held(struct pci_dev *dev)
{
	return static_branch_unlikely(&pci_lu_used_key) && __pci_liveupdate_msi_is_held(dev);
}

/**
 * pci_liveupdate_msix_is_held - has the previous kernel left MSI-X on and masked?
 * @dev: device with MSI-X, which this kernel has not set up
 *
 * Return: see pci_liveupdate_msi_is_held().
 */
static inline bool pci_liveupdate_msix_is_held(struct pci_dev *dev)
{
	return static_branch_unlikely(&pci_lu_used_key) && __pci_liveupdate_msix_is_held(dev);
}

#else /* CONFIG_PCI_LIVEUPDATE */

static inline bool pci_liveupdate_msi_is_held(struct pci_dev *dev)
{
	return false;
}

static inline bool pci_liveupdate_msix_is_held(struct pci_dev *dev)
{
	return false;
}

static inline bool pci_liveupdate_rrs_sv(struct pci_dev *port)
{
	return false;
}

static inline bool pci_liveupdate_keeps(struct pci_dev *dev, enum pci_lu_keep what)
{
	return false;
}

static inline bool pci_liveupdate_keeps_path(struct pci_dev *dev, enum pci_lu_keep what)
{
	return false;
}

static inline bool pci_liveupdate_keeps_address(struct pci_dev *dev,
						const struct resource *res)
{
	return false;
}

static inline bool pci_liveupdate_bar_masks(struct pci_dev *dev, unsigned int nr,
					    u32 *masks, u32 *rom)
{
	return false;
}

static inline bool pci_liveupdate_windows(struct pci_dev *bridge)
{
	return false;
}

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

static inline void pci_liveupdate_stopping(struct pci_dev *dev)
{
}

static inline void pci_liveupdate_removed(struct pci_dev *dev)
{
}

static inline void pci_liveupdate_host_removed(struct pci_bus *root)
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

/**
 * struct pci_liveupdate_bypass - the right to change what is guarded
 * @node: in the list of these
 * @task: who has it, NULL if nothing is guarded
 * @dev: for this function and all below it
 */
struct pci_liveupdate_bypass {
#ifdef CONFIG_PCI_LIVEUPDATE_GUARD
	struct list_head node;
	struct task_struct *task;
	struct pci_dev *dev;
#endif
};

#ifdef CONFIG_PCI_LIVEUPDATE_GUARD

DECLARE_STATIC_KEY_FALSE(pci_lu_guard_key);

int __pci_liveupdate_write(struct pci_bus *bus, unsigned int devfn, int where,
			   int size, u32 value);
void __pci_liveupdate_bypass_begin(struct pci_liveupdate_bypass *bypass,
				   struct pci_dev *dev);
void __pci_liveupdate_bypass_end(struct pci_liveupdate_bypass *bypass);

/**
 * pci_liveupdate_write - write to configuration space what may be written
 * @bus: bus
 * @devfn: device and function
 * @where: aligned offset
 * @size: 1, 2 or 4
 * @value: value
 *
 * What an accessor calls instead of the write operation of @bus.
 *
 * Context: any; pci_lock held where configuration accesses take it.
 * Return: what the operation returns, or PCIBIOS_SET_FAILED if a preserved
 * device needs the register as it is.
 */
static __always_inline int pci_liveupdate_write(struct pci_bus *bus, unsigned int devfn,
						int where, int size, u32 value)
{
	if (static_branch_unlikely(&pci_lu_guard_key))
		return __pci_liveupdate_write(bus, devfn, where, size, value);
	return bus->ops->write(bus, devfn, where, size, value);
}

/**
 * pci_liveupdate_bypass_begin - let this task write what is guarded
 * @bypass: room, on the stack, until pci_liveupdate_bypass_end()
 * @dev: function, or bridge, in which case all below it is meant as well
 *
 * For recovery from errors, and to stop or reset a device by the right of its
 * owner. Interrupts and other tasks stay out.
 *
 * Context: process context, @dev stays.
 */
static inline void pci_liveupdate_bypass_begin(struct pci_liveupdate_bypass *bypass,
					       struct pci_dev *dev)
{
	bypass->task = NULL;
	if (static_branch_unlikely(&pci_lu_guard_key))
		__pci_liveupdate_bypass_begin(bypass, dev);
}

/**
 * pci_liveupdate_bypass_reset - let a reset of a function through to its bridge
 * @bypass: room, on the stack, until pci_liveupdate_bypass_end()
 * @dev: function that is about to be reset
 *
 * Whether it may be reset has been decided by now. The way to do it may be a
 * reset of the bus, of which it is the only user.
 *
 * Context: process context.
 */
static inline void pci_liveupdate_bypass_reset(struct pci_liveupdate_bypass *bypass,
					       struct pci_dev *dev)
{
	bypass->task = NULL;
	/* Nobody resets an incoming device before it is claimed */
	if (static_branch_unlikely(&pci_lu_guard_key) && pci_upstream_bridge(dev) &&
	    (!test_bit(PCI_LU_ADOPTED, &dev->lu_flags) ||
	     test_bit(PCI_LU_CLAIMED, &dev->lu_flags)))
		__pci_liveupdate_bypass_begin(bypass, pci_upstream_bridge(dev));
}

/**
 * pci_liveupdate_bypass_end - give a right back
 * @bypass: as it was begun
 */
static inline void pci_liveupdate_bypass_end(struct pci_liveupdate_bypass *bypass)
{
	if (bypass->task)
		__pci_liveupdate_bypass_end(bypass);
}

#else /* CONFIG_PCI_LIVEUPDATE_GUARD */

static __always_inline int pci_liveupdate_write(struct pci_bus *bus, unsigned int devfn,
						int where, int size, u32 value)
{
	return bus->ops->write(bus, devfn, where, size, value);
}

static inline void pci_liveupdate_bypass_begin(struct pci_liveupdate_bypass *bypass,
					       struct pci_dev *dev)
{
}

static inline void pci_liveupdate_bypass_reset(struct pci_liveupdate_bypass *bypass,
					       struct pci_dev *dev)
{
}

static inline void pci_liveupdate_bypass_end(struct pci_liveupdate_bypass *bypass)
{
}

#endif /* CONFIG_PCI_LIVEUPDATE_GUARD */

#endif /* _PCI_LIVEUPDATE_HOOKS_H */
