// SPDX-License-Identifier: GPL-2.0
/*
 * PCI Live Update in the incoming kernel: finding the devices again, from the match
 * with a record to the finish.
 */

#define dev_fmt(fmt) "Live Update: " fmt
#define pr_fmt(fmt) "PCI Live Update: " fmt

#include <linux/cleanup.h>
#include <linux/pm_runtime.h>
#include <linux/slab.h>
#include <linux/xarray.h>

#include "../pci.h"
#include "internal.h"

#include <trace/events/pci_liveupdate.h>

/* What a function is no longer when its record goes */
static const int lu_incoming_flags[] = {
	PCI_LU_ADOPTED, PCI_LU_CLAIMED, PCI_LU_LOST, PCI_LU_DEAD, PCI_LU_STOPPED,
};

/* Stopped at the end of their sessions, and not there: what comes there is reset */
static DEFINE_XARRAY(lu_unreset);

static void lu_note_unreset(struct pci_dev *dev)
{
	if (xa_erase(&lu_unreset, pci_lu_key(pci_domain_nr(dev->bus), pci_dev_id(dev))) &&
	    dev->hdr_type == PCI_HEADER_TYPE_NORMAL)
		set_bit(PCI_LU_UNRESET, &dev->lu_flags);
}

static void incoming_release(struct pci_lu_incoming *in)
{
	unsigned long key = pci_lu_key(in->rec->domain, in->rec->bdf);
	struct pci_dev *dev = in->dev;

	/* They may lie in a window of a bridge that is released next */
	pci_lu_unreserve(in);
	if (!dev) {
		pci_lu_guard_forget(key);
		return;
	}
	in->dev = NULL;
	/* Another device than was preserved has nothing of the last kernel's to keep */
	if (test_bit(PCI_LU_LOST, &dev->lu_flags) && !dev->subordinate)
		clear_bit(PCI_LU_ACS_KEPT, &dev->lu_flags);
	for (int i = 0; i < ARRAY_SIZE(lu_incoming_flags); i++)
		clear_bit(lu_incoming_flags[i], &dev->lu_flags);
	pci_lu_changed(dev);
	dev->lu_incoming = NULL;
	pci_lu_let_drivers_in(dev);
	pci_lu_reset_later(dev);
	pm_runtime_put(&dev->dev);
	pci_dev_put(dev);
}

/* All files that depend on the object are finished */
void pci_lu_incoming_finish(struct liveupdate_flb_op_args *args)
{
	struct pci_lu_incoming *in;
	unsigned long key;

	static_branch_disable(&pci_lu_incoming_key);
	pci_lu_guard_end();
	pci_lu_release_hosts();

	guard(rwsem_write)(&pci_lu_rwsem);
	/* Bridges come before what is below them, and hold the windows */
	xa_for_each(&pci_lu_entries, key, in)
		pci_lu_unreserve(in);
	xa_for_each(&pci_lu_entries, key, in)
		incoming_release(in);
	pci_lu_incoming_end();
	pr_info("all devices of the previous kernel are finished\n");
}

static const char *lu_mismatch(struct pci_dev *dev, struct pci_lu_incoming *in)
{
	const char *differs = pci_lu_record_mismatch(dev, in->rec);

	if (!differs && in->iov)
		differs = pci_lu_iov_mismatch(dev, in->iov);
	return differs;
}

void __pci_liveupdate_match(struct pci_dev *dev)
{
	struct pci_lu_incoming *in;
	const char *differs;

	lu_note_unreset(dev);
	if (!static_branch_unlikely(&pci_lu_incoming_key))
		return;

	guard(rwsem_write)(&pci_lu_rwsem);
	in = xa_load(&pci_lu_entries, pci_lu_key(pci_domain_nr(dev->bus), pci_dev_id(dev)));
	if (!in || in->dev) {
		/*
		 * What was removed was stopped, and may be what comes again. And nobody but a
		 * new kernel adds Virtual Functions to what is adopted.
		 */
		if ((in && dev->hdr_type == PCI_HEADER_TYPE_NORMAL) ||
		    (dev->is_virtfn && test_bit(PCI_LU_PF, &pci_physfn(dev)->lu_flags)))
			set_bit(PCI_LU_UNRESET, &dev->lu_flags);
		if (in)
			in->replaced = true;
		return;
	}

	/* Whatever it is, nobody here knows what it is doing: leave it alone */
	dev->lu_incoming = in;
	set_bit(PCI_LU_ADOPTED, &dev->lu_flags);

	differs = lu_mismatch(dev, in);
	trace_pci_liveupdate_adopt(dev, differs ?: "as it was");
	if (in->rec->flags & PCI_LIVEUPDATE_F_DEAD) {
		set_bit(PCI_LU_LOST, &dev->lu_flags);
		pci_err(dev, "failed before the kexec; it is left alone and cannot be retrieved\n");
	} else if (differs) {
		set_bit(PCI_LU_LOST, &dev->lu_flags);
		pci_err(dev, "not the device that was preserved here: its %s differs; it is left alone and cannot be retrieved\n",
			differs);
	} else if (in->rec->flags & PCI_LIVEUPDATE_F_BRIDGE) {
		pci_info(dev, "bridge above %u preserved device(s)\n", in->users);
	} else if (!pci_lu_has_owner(in->rec)) {
		pci_info(dev, "kept with %u preserved Virtual Function(s)\n", in->users);
	} else {
		pci_info(dev, "preserved by the previous kernel, DMA %s\n",
			 in->rec->dma == PCI_LIVEUPDATE_DMA_PAUSED ? "paused" : "goes on");
	}
	pci_lu_changed(dev);
	/* What probing the windows would tell; those of a lost bridge can be seen */
	if (!test_bit(PCI_LU_LOST, &dev->lu_flags))
		pci_lu_window_kinds(in->rec, dev);
}

/*
 * Hold a matched function, awake, until it is finished. Returns false if its session
 * was finished since: it is a function like any other then.
 */
static bool lu_hold(struct pci_dev *dev)
{
	guard(rwsem_write)(&pci_lu_rwsem);
	if (!pci_lu_record(dev)) {
		/* Nobody could take it back from a function that was not added */
		for (int i = 0; i < ARRAY_SIZE(lu_incoming_flags); i++)
			clear_bit(lu_incoming_flags[i], &dev->lu_flags);
		dev->lu_incoming = NULL;
		pci_lu_changed(dev);
		lu_note_unreset(dev);
		return false;
	}

	/* Whoever binds it first would let it sleep */
	pm_runtime_get_noresume(&dev->dev);
	dev->lu_incoming->dev = pci_dev_get(dev);
	return true;
}

bool __pci_liveupdate_adopt_capabilities(struct pci_dev *dev)
{
	/* It has not been configured, also if it is held no more */
	pci_lu_read_ltr(dev);
	if (!lu_hold(dev))
		return false;
	pci_lu_read_capabilities(dev);
	return true;
}

/*
 * Every bus of ACPI hosts has been scanned by now. A host that is a platform
 * device may still come, hence a warning and no more.
 */
static int __init incoming_report_missing(void)
{
	struct pci_lu_incoming *in;
	unsigned long key;

	pci_lu_stop_boot_without_access();

	guard(rwsem_read)(&pci_lu_rwsem);
	xa_for_each(&pci_lu_entries, key, in)
		if (!in->dev)
			pr_warn("%04x:%02x:%02x.%d was preserved by the previous kernel and has not been found\n",
				in->rec->domain, PCI_BUS_NUM(in->rec->bdf),
				PCI_SLOT(in->rec->bdf), PCI_FUNC(in->rec->bdf));
	return 0;
}
late_initcall(incoming_report_missing);

/**
 * pci_liveupdate_claim - the owner of an incoming device has it
 * @dev: incoming device whose retrieved file is being opened
 *
 * From now on it may be written to. Does nothing if @dev has been finished
 * meanwhile.
 *
 * Context: process context. Takes pci_lu_rwsem.
 */
void pci_liveupdate_claim(struct pci_dev *dev)
{
	scoped_guard(rwsem_write, &pci_lu_rwsem) {
		if (!dev->lu_incoming)
			return;
		set_bit(PCI_LU_CLAIMED, &dev->lu_flags);
		pci_lu_changed(dev);
	}
	pci_lu_end_translation(dev);
	trace_pci_liveupdate_claim(dev, "opened");
}
EXPORT_SYMBOL_GPL(pci_liveupdate_claim);

/**
 * pci_liveupdate_finish - the live update of a device is over
 * @domain: PCI domain (segment) number
 * @bdf: bus << 8 | device << 3 | function
 *
 * It is retrieved and safe, or stopped, or has never been found. From now on what is
 * there is like any other, and so is a bridge above it when no other incoming device is
 * below. A Physical Function is not before its Virtual Functions are finished, too.
 *
 * Context: process context, from the finish callback of a file handler. Takes
 * pci_lu_rwsem.
 */
void pci_liveupdate_finish(u32 domain, u16 bdf)
{
	struct pci_lu_incoming *in, *up;

	guard(rwsem_write)(&pci_lu_rwsem);
	in = xa_load(&pci_lu_entries, pci_lu_key(domain, bdf));
	if (!in || !(in->rec->flags & PCI_LIVEUPDATE_F_ENDPOINT))
		return;

	pci_lu_incoming_done();
	/* It may be kept with its Virtual Functions for a while */
	in->rec->flags &= ~PCI_LIVEUPDATE_F_ENDPOINT;
	if (in->dev) {
		trace_pci_liveupdate_finish(in->dev, "finished");
		pci_info(in->dev, "finished\n");
	}
	if (!in->dev || (test_bit(PCI_DEV_REMOVED, &in->dev->priv_flags) && !in->replaced))
		xa_store(&lu_unreset, pci_lu_key(domain, bdf), xa_mk_value(1),
			 GFP_KERNEL | __GFP_NOFAIL);
	for (; in; in = up) {
		up = in->up;
		if (--in->users)
			continue;
		/* Whatever comes to its place has nothing to do with it */
		incoming_release(in);
		xa_erase(&pci_lu_entries, pci_lu_key(in->rec->domain, in->rec->bdf));
		kfree(in);
	}
}
EXPORT_SYMBOL_GPL(pci_liveupdate_finish);
