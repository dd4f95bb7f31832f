/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the PCI core asks PCI Live Update. It costs a static branch while nothing
 * has been preserved, and nothing at all without CONFIG_PCI_LIVEUPDATE. There are
 * three ideas:
 *
 * - *adopted*: a function that the previous kernel preserved is read, not set up,
 *   see adopt.c. It is known before the first write to the function;
 * - *fixed*: its resources are IORESOURCE_PCI_FIXED, see resources.c;
 * - *held*: what is preserved in either direction, and the bridges above it, are
 *   neither removed, reset, resized nor disabled, see protect.c.
 *
 * Bus numbers have a rule of their own, see fabric.c.
 */
#ifndef _PCI_LIVEUPDATE_HOOKS_H
#define _PCI_LIVEUPDATE_HOOKS_H

#include <linux/jump_label.h>
#include <linux/pci.h>
#include <linux/pci_liveupdate.h>

/**
 * enum pci_lu_buses - what a bus scan does with the bus numbers of a bridge
 * @PCI_LU_BUSES_ASSIGN: what it would do without this feature
 * @PCI_LU_BUSES_KEEP:	 scan below with the numbers that the bridge has
 * @PCI_LU_BUSES_HELD:	 the same, and leave Bridge Control alone meanwhile
 * @PCI_LU_BUSES_REFUSE: leave the bridge alone and scan nothing below
 */
enum pci_lu_buses {
	PCI_LU_BUSES_ASSIGN,
	PCI_LU_BUSES_KEEP,
	PCI_LU_BUSES_HELD,
	PCI_LU_BUSES_REFUSE,
};

/* What is left as it is in adopted functions, see the table in adopt.c */
enum pci_lu_keep {
	PCI_LU_KEEP_BARS,		/* BARs and the decode of them */
	PCI_LU_KEEP_WINDOWS,		/* windows of bridges, which tell their kinds if probed */
	PCI_LU_KEEP_ADDRESSES,		/* what is claimed in the resource tree */
	PCI_LU_KEEP_PAYLOAD,		/* Max Payload Size, Max Read Request Size */
	PCI_LU_KEEP_REQUESTS,		/* tags, ordering, completion boundary, LTR, SERR, _HPX */
	PCI_LU_KEEP_LINK,		/* ASPM, common clock, retraining */
	PCI_LU_KEEP_INTX,		/* INTx Disable, Interrupt Line */
	PCI_LU_KEEP_MSI,		/* MSI Enable, MSI-X Enable */
	PCI_LU_KEEP_POWER,		/* power state, PME */
	PCI_LU_KEEP_ERRORS,		/* AER */
	PCI_LU_KEEP_MAILBOX,		/* DOE */
	PCI_LU_KEEP_IOV,		/* SR-IOV */
	PCI_LU_KEEP_VPD,		/* Vital Product Data, which is read by writing */
	PCI_LU_KEEP_VGA,		/* VGA decode and forwarding */
	PCI_LU_KEEP_TRANSLATION,	/* ATS, PRI, PASID */
	PCI_LU_KEEP_STREAMS,		/* stream IDs of IDE */
	PCI_LU_KEEP_INTX_OFF,		/* INTx Disable, also when it is enabled for its owner */
	PCI_LU_KEEP_ROUTING,		/* Bridge Control, ARI forwarding */
	PCI_LU_KEEP_NR
};

/* Bits of &pci_dev.lu_flags, which is changed with pci_lu_rwsem held for writing */
enum {
	PCI_LU_OUTGOING,	/* has a record for the next kernel */
	PCI_LU_ADOPTED,		/* has a record of the previous kernel, unfinished */
	PCI_LU_CLAIMED,		/* ... and its owner has retrieved it */
	PCI_LU_LOST,		/* ... but it is another device, or failed since */
	PCI_LU_DEAD,		/* removed or failed while it had a record */
	PCI_LU_STOPPED,		/* not running any more, memory may go */
	PCI_LU_KEPT_APART,	/* a driver was kept away, which is tried when finished */
	PCI_LU_ACS_KEPT,	/* lu_acs_ctrl is how ACS stays, also when finished */
	PCI_LU_LEFT_OUT,	/* was adopted, and has not been given back */
	PCI_LU_PF,		/* kept with its Virtual Functions, in either direction */
	PCI_LU_UNRESET,		/* to be reset before anybody gets it, see reset.c */
};

extern const struct attribute_group pci_liveupdate_attr_group;

void __pci_liveupdate_match(struct pci_dev *dev);
bool __pci_liveupdate_bar_masks(struct pci_dev *dev, unsigned int nr, u32 *masks, u32 *rom);
bool __pci_liveupdate_adopt_capabilities(struct pci_dev *dev);
bool __pci_liveupdate_keeps_path(struct pci_dev *dev, enum pci_lu_keep what);
enum pci_lu_buses __pci_liveupdate_scan_buses(struct pci_dev *dev, u8 primary,
					      u8 secondary, u8 subordinate, int pass);
void __pci_liveupdate_claim_resources(struct pci_bus *bus);
bool __pci_liveupdate_keep_acs(struct pci_dev *dev);
void __pci_liveupdate_vf_config(struct pci_dev *pf);
void __pci_liveupdate_add_vfs(struct pci_dev *dev);
bool __pci_liveupdate_keeps_ari(struct pci_dev *dev);
bool __pci_liveupdate_msi_is_held(struct pci_dev *dev, int type);
bool __pci_liveupdate_keeps_driver_out(struct pci_dev *dev, const struct pci_driver *drv);
bool __pci_liveupdate_refuses(struct pci_dev *dev, const char *what);
bool __pci_liveupdate_keeps_master(struct pci_dev *dev);
bool __pci_liveupdate_shutdown(struct pci_dev *dev);
int __pci_liveupdate_removing(struct pci_dev *dev);
void __pci_liveupdate_removed(struct pci_dev *dev);
void __pci_liveupdate_host_removed(struct pci_bus *root);
void __pci_liveupdate_failed(struct pci_dev *bridge);

#ifdef CONFIG_PCI_LIVEUPDATE

/* Something is, or has been, preserved in either direction */
DECLARE_STATIC_KEY_FALSE(pci_lu_used_key);

#define pci_lu_used()		static_branch_unlikely(&pci_lu_used_key)
#define pci_lu_test(dev, flags)	(READ_ONCE((dev)->lu_flags) & (flags))
#define pci_lu_kept(dev)	READ_ONCE((dev)->lu_keep)

#else

#define pci_lu_used()		false
#define pci_lu_test(dev, flags)	((void)(dev), (void)(flags), false)
#define pci_lu_kept(dev)	((void)(dev), 0U)

#endif

/* --- adopted ------------------------------------------------------------------ */

/*
 * Match a function with its record. In pci_setup_device(), before the first write.
 * Returns what is not to be written to, bits of &enum pci_lu_keep
 */
static inline u32 pci_liveupdate_match(struct pci_dev *dev)
{
	if (!pci_lu_used())
		return 0;
	__pci_liveupdate_match(dev);
	return pci_lu_kept(dev);
}

/**
 * pci_liveupdate_keeps - is this not to be written to?
 * @dev: device or bridge
 * @what: what would be written
 *
 * Context: any.
 * Return: true if @dev is adopted and @what of it is taken over as it is, or if
 * @dev is preserved for the next kernel and not even its neighbours may be a
 * reason to change @what. Which is which is told by a table in adopt.c. Payload
 * and VGA are a matter of the whole path: one bridge above that keeps it will do.
 */
static inline bool pci_liveupdate_keeps(struct pci_dev *dev, enum pci_lu_keep what)
{
	if (!pci_lu_used())
		return false;
	if (what == PCI_LU_KEEP_PAYLOAD || what == PCI_LU_KEEP_VGA)
		return __pci_liveupdate_keeps_path(dev, what);
	return pci_lu_kept(dev) & BIT(what);
}

/* Are the sizes of @nr BARs, and of the ROM if there can be one, known? */
static inline bool pci_liveupdate_bar_masks(struct pci_dev *dev, unsigned int nr,
					    u32 *masks, u32 *rom)
{
	return pci_liveupdate_keeps(dev, PCI_LU_KEEP_BARS) &&
	       __pci_liveupdate_bar_masks(dev, nr, masks, rom);
}

/* Read what others are initialised with, and return true, if @dev is adopted */
static inline bool pci_liveupdate_adopt_capabilities(struct pci_dev *dev)
{
	return pci_lu_used() && pci_lu_test(dev, BIT(PCI_LU_ADOPTED)) &&
	       __pci_liveupdate_adopt_capabilities(dev);
}

/* Claim what adopted functions decode; buses are scanned, and nothing is assigned yet */
static inline void pci_liveupdate_claim_resources(struct pci_bus *bus)
{
	if (pci_lu_used())
		__pci_liveupdate_claim_resources(bus);
}

/* Is ACS as the previous kernel had it, and stays so? */
static inline bool pci_liveupdate_keep_acs(struct pci_dev *dev)
{
	return pci_lu_used() && __pci_liveupdate_keep_acs(dev);
}

/**
 * pci_liveupdate_msi_is_held - has the previous kernel left vectors on and masked?
 * @dev: device whose interrupts this kernel has not set up
 * @type: %PCI_CAP_ID_MSI or %PCI_CAP_ID_MSIX
 *
 * Return: true if so: to turn them off would lose what is pending, and to unmask
 * them without setting them up would send messages to the previous kernel.
 */
static inline bool pci_liveupdate_msi_is_held(struct pci_dev *dev, int type)
{
	return pci_lu_used() && __pci_liveupdate_msi_is_held(dev, type);
}

/* Must this driver not bind this incoming function? The log says why */
static inline bool pci_liveupdate_keeps_driver_out(struct pci_dev *dev,
						   const struct pci_driver *drv)
{
	return pci_lu_used() && __pci_liveupdate_keeps_driver_out(dev, drv);
}

/* What all Virtual Functions have in common has been read of the first one */
static inline void pci_liveupdate_vf_config(struct pci_dev *pf)
{
	if (pci_lu_used() && pci_lu_test(pf, BIT(PCI_LU_PF)))
		__pci_liveupdate_vf_config(pf);
}

/*
 * Add devices for the Virtual Functions that the previous kernel has enabled, if that
 * is due. Called with pci_rescan_remove_lock held
 */
static inline void pci_liveupdate_add_vfs(struct pci_dev *dev)
{
	if (IS_ENABLED(CONFIG_PCI_LIVEUPDATE_VFS) && pci_lu_used() &&
	    pci_lu_test(dev, BIT(PCI_LU_PF)))
		__pci_liveupdate_add_vfs(dev);
}

/* Does SR-IOV of another function need ARI Capable Hierarchy of this one as it is? */
static inline bool pci_liveupdate_keeps_ari(struct pci_dev *dev)
{
	return pci_lu_used() && __pci_liveupdate_keeps_ari(dev);
}

/* What becomes of the bus numbers of a bridge? The answer is the same in both passes */
static inline enum pci_lu_buses pci_liveupdate_scan_buses(struct pci_dev *dev, u8 primary,
							  u8 secondary, u8 subordinate,
							  int pass)
{
	if (!pci_lu_used())
		return PCI_LU_BUSES_ASSIGN;
	return __pci_liveupdate_scan_buses(dev, primary, secondary, subordinate, pass);
}

/* --- held --------------------------------------------------------------------- */

/* Has this function, or one below it, a record in either direction? */
static inline bool pci_liveupdate_held(struct pci_dev *dev)
{
	return pci_lu_used() && pci_lu_test(dev, BIT(PCI_LU_OUTGOING) | BIT(PCI_LU_ADOPTED));
}

/**
 * pci_liveupdate_refuses - may this not be done to this function?
 * @dev: device or bridge
 * @own: its owner wants it, who may not if @dev is kept with its Virtual Functions
 * @what: the operation, in words that fit before "is refused"
 *
 * Return: true, and the log says so, if a preserved device is at or below @dev:
 * the caller returns -EBUSY.
 */
static inline bool pci_liveupdate_refuses(struct pci_dev *dev, bool own, const char *what)
{
	return pci_liveupdate_held(dev) && (!own || pci_liveupdate_keeps_vfs(dev)) &&
	       __pci_liveupdate_refuses(dev, what);
}

/* Must Bus Master stay on although the function is being disabled? */
static inline bool pci_liveupdate_keeps_master(struct pci_dev *dev)
{
	return pci_liveupdate_held(dev) && __pci_liveupdate_keeps_master(dev);
}

/* Has Bus Master been dealt with? On the way out, after the driver's shutdown */
static inline bool pci_liveupdate_shutdown(struct pci_dev *dev)
{
	return pci_lu_used() && __pci_liveupdate_shutdown(dev);
}

/*
 * A function is about to be removed, with all below it; NULL when its drivers are
 * gone. Returns -EBUSY if a preserved device is below, or in the same slot, and still
 * there. Called with pci_rescan_remove_lock held, but for some Virtual Functions
 */
static inline int pci_liveupdate_removing(struct pci_dev *dev)
{
	return IS_ENABLED(CONFIG_PCI_LIVEUPDATE) ? __pci_liveupdate_removing(dev) : 0;
}

/* A function is about to lose its driver and go, whoever wanted that. May sleep */
static inline void pci_liveupdate_removed(struct pci_dev *dev)
{
	if (pci_lu_used())
		__pci_liveupdate_removed(dev);
}

/* A host bridge is about to go, with its windows. May sleep */
static inline void pci_liveupdate_host_removed(struct pci_bus *root)
{
	if (pci_lu_used())
		__pci_liveupdate_host_removed(root);
}

/* A port is about to reset what is below it, or itself. Takes pci_bus_sem for reading */
static inline void pci_liveupdate_failed(struct pci_dev *bridge)
{
	if (pci_lu_used())
		__pci_liveupdate_failed(bridge);
}

#include "guard.h"

#endif /* _PCI_LIVEUPDATE_HOOKS_H */
