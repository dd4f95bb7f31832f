/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where the PCI core asks the guard of PCI Live Update, see guard.c.
 */
#ifndef _PCI_LIVEUPDATE_GUARD_H
#define _PCI_LIVEUPDATE_GUARD_H

#include <linux/jump_label.h>
#include <linux/list.h>
#include <linux/pci.h>

/**
 * struct pci_liveupdate_bypass - a part of the tree that is not guarded for a while
 * @node: in the list of these
 * @dev: this function and all below it; NULL if nothing is guarded
 */
struct pci_liveupdate_bypass {
#ifdef CONFIG_PCI_LIVEUPDATE_GUARD
	struct list_head node;
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
 * pci_liveupdate_bypass_begin - let through what is guarded
 * @bypass: room, on the stack, until pci_liveupdate_bypass_end()
 * @dev: function, or bridge, in which case all below it is meant as well
 *
 * For recovery from errors, and to stop or reset a device by the right of its
 * owner: whoever writes there meanwhile cannot disturb it more than that does.
 *
 * Context: process context, @dev stays.
 */
static inline void pci_liveupdate_bypass_begin(struct pci_liveupdate_bypass *bypass,
					       struct pci_dev *dev)
{
	bypass->dev = NULL;
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
	bypass->dev = NULL;
	/* Nobody resets an incoming device before it is claimed */
	if (static_branch_unlikely(&pci_lu_guard_key) && pci_upstream_bridge(dev) &&
	    (!test_bit(PCI_LU_ADOPTED, &dev->lu_flags) ||
	     test_bit(PCI_LU_CLAIMED, &dev->lu_flags)))
		__pci_liveupdate_bypass_begin(bypass, pci_upstream_bridge(dev));
}

/**
 * pci_liveupdate_bypass_end - guard again
 * @bypass: as it was begun
 */
static inline void pci_liveupdate_bypass_end(struct pci_liveupdate_bypass *bypass)
{
	if (bypass->dev)
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

#ifdef CONFIG_PCI_LIVEUPDATE_HOSTILE
void pci_hostile_capability_init(struct pci_dev *dev);
#else
static inline void pci_hostile_capability_init(struct pci_dev *dev)
{
}
#endif

#endif /* _PCI_LIVEUPDATE_GUARD_H */
