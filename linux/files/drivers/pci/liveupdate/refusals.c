// SPDX-License-Identifier: GPL-2.0
/*
 * PCI Live Update: what cannot be kept.
 */

#define dev_fmt(fmt) "Live Update: " fmt

#include <linux/acpi.h>
#include <linux/cleanup.h>
#include <linux/of_pci.h>
#include <linux/sysfb.h>
#include <linux/vgaarb.h>

#include "../pci.h"
#include "internal.h"

#include <trace/events/pci_liveupdate.h>

/* From the first notice of a suspend or hibernation to the last */
static bool lu_suspending;

/**
 * pci_lu_set_suspending - nothing can be preserved while the machine falls asleep
 * @suspending: true as it begins, false when it is over
 *
 * What is preserved already has to be asked for after this.
 *
 * Context: process context. Takes pci_lu_rwsem.
 */
void pci_lu_set_suspending(bool suspending)
{
	guard(rwsem_write)(&pci_lu_rwsem);
	lu_suspending = suspending;
}

static bool lu_is_suspending(struct pci_dev *dev)
{
	return lu_suspending;
}

static bool lu_is_bridge(struct pci_dev *dev)
{
	return dev->hdr_type != PCI_HEADER_TYPE_NORMAL;
}

/* Nobody answers at its place, for now at least */
bool pci_lu_is_gone(struct pci_dev *dev)
{
	if (pci_lu_break & PCI_LU_BREAK_CHECKS)
		return false;
	return pci_dev_is_disconnected(dev) || !pci_device_is_present(dev);
}

static bool lu_is_leaving(struct pci_dev *dev)
{
	return !pci_dev_is_added(dev) || test_bit(PCI_LU_DEAD, &dev->lu_flags) ||
	       test_bit(PCI_LU_DEAD, &pci_physfn(dev)->lu_flags);
}

static struct pci_driver *lu_physfn_driver(struct pci_dev *dev)
{
	return dev->is_virtfn ? pci_physfn(dev)->driver : NULL;
}

/* It may stop, reset or disable its Virtual Functions in either kernel */
static bool lu_has_busy_physfn(struct pci_dev *dev)
{
	struct pci_driver *drv = lu_physfn_driver(dev);

	return drv && !drv->live_update && !drv->live_update_pf;
}

/* Nobody vouches for what it does meanwhile, nor for who may have its Virtual Functions */
static bool lu_has_unpreserved_physfn(struct pci_dev *dev)
{
	struct pci_driver *drv = lu_physfn_driver(dev);

	return drv && drv->live_update && !drv->live_update_pf &&
	       !pci_lu_leaves_alone(drv) && !pci_lu_has_owner(pci_physfn(dev)->lu_outgoing);
}

/* A function that has lost its driver is in a state that nobody has looked at since */
static bool lu_sleeps(struct pci_dev *dev)
{
	u16 pmcsr;

	if (dev->current_state != PCI_UNKNOWN || !dev->pm_cap)
		return dev->current_state != PCI_D0 && dev->current_state != PCI_UNKNOWN;
	pci_read_config_word(dev, dev->pm_cap + PCI_PM_CTRL, &pmcsr);
	return pmcsr & PCI_PM_CTRL_STATE_MASK;
}

static bool lu_has_sleeping_physfn(struct pci_dev *dev)
{
	return dev->is_virtfn && lu_sleeps(pci_physfn(dev));
}

/* Those that a Physical Function had when it was preserved are kept */
static bool lu_has_new_virtfns(struct pci_dev *dev)
{
	return pci_num_vf(dev) && (!IS_ENABLED(CONFIG_PCI_LIVEUPDATE_VFS) ||
				   (dev->lu_outgoing && !pci_lu_is_pf(dev->lu_outgoing)));
}

static bool lu_has_pri(struct pci_dev *dev)
{
	return pci_physfn(dev)->pri_enabled;
}

static bool lu_has_odd_bars(struct pci_dev *dev)
{
	return dev->non_compliant_bars;
}

static bool lu_is_asleep(struct pci_dev *dev)
{
	return dev->current_state != PCI_D0;
}

static bool lu_is_unfinished(struct pci_dev *dev)
{
	return dev->lu_incoming && !test_bit(PCI_LU_LOST, &dev->lu_flags);
}

static bool lu_is_outgoing(struct pci_dev *dev)
{
	return pci_lu_has_owner(dev->lu_outgoing);
}

static bool lu_is_kept_for_others(struct pci_dev *dev)
{
	return pci_lu_is_pf(dev->lu_outgoing) &&
	       (*pci_lu_iov_slot(dev))->iov.owner != PCI_LIVEUPDATE_PF_USER;
}

static bool lu_cardbus;

/**
 * pci_lu_look_for_cardbus - is there a CardBus bridge in the machine?
 *
 * Looked for when there is something to be preserved and when it leaves, not for
 * each device that is.
 *
 * Context: process context.
 */
void pci_lu_look_for_cardbus(void)
{
	struct pci_dev *dev = NULL;

	if (!IS_ENABLED(CONFIG_CARDBUS))
		return;
	for_each_pci_dev(dev)
		if (pci_is_cardbus_bridge(dev))
			break;
	WRITE_ONCE(lu_cardbus, dev);
	pci_dev_put(dev);
}

static int __init lu_refusals_init(void)
{
	pci_lu_look_for_cardbus();
	return 0;
}
late_initcall(lu_refusals_init);

/*
 * The code that gives CardBus bridges their bus numbers sets some aside for cards
 * that may come, and asks nobody.
 */
static bool lu_has_cardbus(struct pci_dev *dev)
{
	return READ_ONCE(lu_cardbus);
}

static bool lu_has_ecam_host(struct pci_host_bridge *host)
{
	struct device *parent = host->dev.parent;

	return parent && parent->driver &&
	       !strcmp(parent->driver->name, "pci-host-generic");
}

/*
 * An ACPI host bridge has no driver that could tear it down at shutdown, and
 * the generic ECAM driver has no shutdown callback. Others may stop the link.
 */
static bool lu_has_other_host(struct pci_dev *dev)
{
	struct pci_host_bridge *host = pci_find_host_bridge(dev->bus);

	return !has_acpi_companion(&host->dev) && !lu_has_ecam_host(host);
}

/* Numbers that are given out as hosts are probed may be others next time */
static bool lu_has_dynamic_domain(struct pci_dev *dev)
{
	struct pci_host_bridge *host = pci_find_host_bridge(dev->bus);

	return lu_has_ecam_host(host) && host->dev.parent->of_node &&
	       of_get_pci_domain_nr(host->dev.parent->of_node) < 0;
}

/*
 * Some chipsets have ACS in registers of their own, and whether they have been
 * set up is a flag in this kernel's memory.
 */
static bool lu_has_acs_quirk(struct pci_dev *dev)
{
	for (; dev; dev = pci_lu_up(dev))
		if (pci_dev_has_acs_quirk(dev))
			return true;
	return false;
}

/* The next kernel could not tell whether it is the same device */
static bool lu_has_no_extended_config(struct pci_dev *dev)
{
	for (; dev; dev = pci_lu_up(dev))
		if (pci_is_pcie(dev) && dev->cfg_size <= PCI_CFG_SPACE_SIZE)
			return true;
	return false;
}

/*
 * kexec passes the mode of the screen on, and the text console of the next kernel writes to
 * the screen's memory and registers before anybody there knows of what was handed over. The
 * driver for it does nothing in these two modes, and is left out on other architectures.
 */
static bool lu_is_text_screen(struct pci_dev *dev)
{
#ifdef CONFIG_X86
	unsigned int mode = sysfb_primary_display.screen.orig_video_isVGA;

	return dev == vga_default_device() && mode != VIDEO_TYPE_VLFB && mode != VIDEO_TYPE_EFI;
#else
	return false;
#endif
}

/* What may have changed when the kexec comes is asked again at freeze */
#define LU_BOTH		(PCI_LU_PRESERVE | PCI_LU_FREEZE)

static const struct pci_lu_refusal lu_refusals[] = {
	{ lu_is_bridge, PCI_LU_PRESERVE, -EINVAL, "it is a bridge",
	  "preserve the devices below it, bridges follow" },
	{ lu_is_suspending, PCI_LU_PRESERVE, -EBUSY, "the machine is about to sleep",
	  "try again when it is awake" },
	{ lu_is_outgoing, PCI_LU_PRESERVE, -EBUSY, "it is preserved already",
	  "close that session first" },
	{ pci_lu_is_gone, PCI_LU_PRESERVE, -ENODEV, "it is gone, or does not answer",
	  "check the slot" },
	{ lu_is_leaving, PCI_LU_PRESERVE, -ENODEV, "it is being removed, or has failed",
	  "rescan the bus" },
	{ lu_is_kept_for_others, PCI_LU_PRESERVE, -EBUSY,
	  "it is kept with its Virtual Functions, and had no user when they were preserved",
	  "preserve it before them" },
	{ lu_has_busy_physfn, LU_BOTH, -EOPNOTSUPP,
	  "its Physical Function has a driver that does not keep Virtual Functions through a kexec",
	  "unbind that, or bind it to pci-pf-stub or vfio-pci", lu_physfn_driver },
	{ lu_has_unpreserved_physfn, LU_BOTH, -EOPNOTSUPP,
	  "its Physical Function has a driver for users, and is not preserved",
	  "preserve that first, or bind it to pci-pf-stub", lu_physfn_driver },
	{ lu_has_sleeping_physfn, LU_BOTH, -EINVAL, "its Physical Function is not in D0",
	  "write on to power/control of that" },
	{ lu_has_new_virtfns, LU_BOTH, -EOPNOTSUPP, "it has Virtual Functions enabled",
	  "preserve it when it has them, or write 0 to sriov_numvfs" },
	{ lu_has_pri, LU_BOTH, -EOPNOTSUPP, "page requests (PRI) are enabled",
	  "detach it from its shared address spaces" },
	{ lu_has_odd_bars, PCI_LU_PRESERVE, -EOPNOTSUPP, "its BARs are known to be broken",
	  "none, this device cannot be preserved" },
	{ lu_is_asleep, LU_BOTH, -EINVAL, "it is not in D0", "open it first" },
	{ lu_has_other_host, PCI_LU_PRESERVE, -EOPNOTSUPP,
	  "its host bridge has a driver of its own kind",
	  "use a device below an ACPI or generic ECAM host bridge" },
	{ lu_has_dynamic_domain, PCI_LU_PRESERVE, -EOPNOTSUPP,
	  "its domain number may be another next time",
	  "give the host bridge a linux,pci-domain property in the Device Tree" },
	{ lu_has_acs_quirk, PCI_LU_PRESERVE, -EOPNOTSUPP,
	  "ACS of it, or of a bridge above it, is set up by a quirk that cannot be handed over",
	  "use a device below another root port" },
	{ lu_has_no_extended_config, PCI_LU_PRESERVE, -EOPNOTSUPP,
	  "extended configuration space of it, or of a bridge above it, cannot be read",
	  "boot without pci=nommconf" },
	{ lu_has_cardbus, LU_BOTH, -EOPNOTSUPP,
	  "the machine has a CardBus bridge, which is given bus numbers that may be in use",
	  "take it out, or boot a kernel without CONFIG_CARDBUS" },
	{ lu_is_text_screen, PCI_LU_PRESERVE, -EOPNOTSUPP,
	  "it is the screen that the machine has booted on, in text mode",
	  "boot through UEFI, or make another adapter the firmware's first" },
	{ lu_is_unfinished, PCI_LU_PRESERVE, -EBUSY,
	  "it is not finished from the previous live update",
	  "finish its session first" },
};

/**
 * pci_lu_refusal - find a reason why a device cannot be kept
 * @dev: device
 * @when: %PCI_LU_PRESERVE or %PCI_LU_FREEZE
 *
 * Return: the first that holds, NULL if none does.
 */
const struct pci_lu_refusal *pci_lu_refusal(struct pci_dev *dev, unsigned int when)
{
	for (int i = 0; i < ARRAY_SIZE(lu_refusals); i++)
		if (lu_refusals[i].when & when && lu_refusals[i].test(dev))
			return &lu_refusals[i];
	return NULL;
}

/**
 * pci_lu_refuse - say why a device cannot be kept, if so
 * @dev: device
 * @when: %PCI_LU_PRESERVE or %PCI_LU_FREEZE
 *
 * Context: pci_lu_rwsem held, and the locks of @dev that exclude its reset.
 * Return: 0, or after a message the errno of the refusal.
 */
int pci_lu_refuse(struct pci_dev *dev, unsigned int when)
{
	const struct pci_lu_refusal *refusal = pci_lu_refusal(dev, when);
	const struct pci_driver *drv;

	if (!refusal)
		return 0;
	trace_pci_liveupdate_refuse(dev, refusal->reason);
	drv = refusal->driver ? refusal->driver(dev) : NULL;
	dev_err_ratelimited(&dev->dev, "cannot be %s: %s%s%s; %s\n",
			    when == PCI_LU_FREEZE ? "handed over" : "preserved",
			    refusal->reason, drv ? ": " : "", drv ? drv->name : "",
			    refusal->remedy);
	return refusal->errno;
}
