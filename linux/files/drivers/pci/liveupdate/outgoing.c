// SPDX-License-Identifier: GPL-2.0
/*
 * PCI Live Update in the outgoing kernel: preserving devices, and the way out.
 */

#define dev_fmt(fmt) "Live Update: " fmt
#define pr_fmt(fmt) "PCI Live Update: " fmt

#include <linux/acpi.h>
#include <linux/io.h>
#include <linux/kexec.h>
#include <linux/kexec_handover.h>
#include <linux/kho_block.h>
#include <linux/of_pci.h>
#include <linux/pm_runtime.h>
#include <linux/slab.h>

#include "../pci.h"
#include "internal.h"

#include <trace/events/pci_liveupdate.h>

/**
 * struct lu_outgoing - the set of records that the next kernel inherits
 * @header: what is handed over, NULL while nothing is preserved
 * @set:    memory of the records; grows, and is freed as a whole
 * @tail:   where the next new slot is
 * @nr_slots: slots taken from @set so far, free ones included
 * @free:   slots whose device was unpreserved, all zero, to be used again
 * @nr_free: entries in @free, which has room for @nr_slots
 */
static struct lu_outgoing {
	struct pci_liveupdate_header_ser *header;
	struct kho_block_set set;
	struct kho_block_set_it tail;
	u64 nr_slots;
	struct pci_liveupdate_record_ser **free;
	u64 nr_free;
} lu_out;

static struct pci_liveupdate_record_ser *slot_get(void)
{
	struct pci_liveupdate_record_ser *rec;
	int err;

	if (lu_out.nr_free) {
		rec = lu_out.free[--lu_out.nr_free];
		lu_out.header->nr_records++;
		return rec;
	}

	/* Double the room, so that the cost per device stays the same */
	if (!lu_out.nr_slots || is_power_of_2(lu_out.nr_slots)) {
		void *room = kvrealloc(lu_out.free,
				       2 * max(lu_out.nr_slots, 1) * sizeof(*lu_out.free),
				       GFP_KERNEL);

		if (!room)
			return ERR_PTR(-ENOMEM);
		lu_out.free = room;
	}

	err = kho_block_set_grow(&lu_out.set, lu_out.nr_slots + 1);
	if (err)
		return ERR_PTR(err);
	if (!lu_out.nr_slots)
		kho_block_set_it_init(&lu_out.tail, &lu_out.set);

	rec = kho_block_set_it_reserve_entry(&lu_out.tail);
	if (WARN_ON_ONCE(!rec))
		return ERR_PTR(-ENOSPC);

	lu_out.nr_slots++;
	lu_out.header->records = kho_block_set_head_pa(&lu_out.set);
	lu_out.header->nr_records++;
	return rec;
}

static void slot_put(struct pci_liveupdate_record_ser *rec)
{
	memset(rec, 0, sizeof(*rec));
	lu_out.free[lu_out.nr_free++] = rec;
	lu_out.header->nr_records--;
}

/* The File-Lifecycle-Bound object: the first file that needs it comes */
int pci_lu_outgoing_create(struct liveupdate_flb_op_args *args)
{
	struct pci_liveupdate_header_ser *header;

	header = kho_alloc_preserve(sizeof(*header));
	if (IS_ERR(header))
		return PTR_ERR(header);

	header->version = pci_lu_abi_version;
	header->record_size = sizeof(struct pci_liveupdate_record_ser);

	scoped_guard(rwsem_write, &pci_lu_rwsem) {
		kho_block_set_init(&lu_out.set, sizeof(struct pci_liveupdate_record_ser));
		lu_out.header = header;
	}
	static_branch_enable(&pci_lu_outgoing_key);
	static_branch_enable(&pci_lu_used_key);		/* for good */
	pci_lu_guard_start();

	args->data = virt_to_phys(header);
	args->obj = header;
	return 0;
}

/* ... and the last one goes without a kexec */
void pci_lu_outgoing_destroy(struct liveupdate_flb_op_args *args)
{
	struct lu_outgoing old;

	static_branch_disable(&pci_lu_outgoing_key);
	pci_lu_guard_end();

	/* Files unpreserve their devices before their objects */
	scoped_guard(rwsem_write, &pci_lu_rwsem) {
		WARN_ON(lu_out.header->nr_records);
		kho_block_set_destroy(&lu_out.set);
		old = lu_out;
		lu_out = (struct lu_outgoing){};
	}
	kvfree(old.free);
	kho_unpreserve_free(old.header);
}

/* Is any device preserved for the next kernel? */
bool pci_lu_outgoing_active(void)
{
	guard(rwsem_read)(&pci_lu_rwsem);
	return lu_out.header && lu_out.header->nr_records;
}

static bool lu_is_bridge(struct pci_dev *dev)
{
	return dev->hdr_type != PCI_HEADER_TYPE_NORMAL;
}

static bool lu_is_gone(struct pci_dev *dev)
{
	return pci_dev_is_disconnected(dev) || !pci_device_is_present(dev);
}

static bool lu_is_leaving(struct pci_dev *dev)
{
	return !pci_dev_is_added(dev) || test_bit(PCI_LU_DEAD, &dev->lu_flags);
}

static bool lu_is_virtfn(struct pci_dev *dev)
{
	return dev->is_virtfn;
}

static bool lu_has_virtfns(struct pci_dev *dev)
{
	return pci_num_vf(dev);
}

static bool lu_has_pri(struct pci_dev *dev)
{
	return dev->pri_enabled;
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
	return pci_liveupdate_is_incoming(dev);
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
	for (; dev; dev = pci_upstream_bridge(dev))
		if (pci_dev_has_acs_quirk(dev))
			return true;
	return false;
}

/* The next kernel could not tell whether it is the same device */
static bool lu_has_no_extended_config(struct pci_dev *dev)
{
	for (; dev; dev = pci_upstream_bridge(dev))
		if (pci_is_pcie(dev) && dev->cfg_size <= PCI_CFG_SPACE_SIZE)
			return true;
	return false;
}

static const struct pci_lu_refusal lu_refusals[] = {
	{ lu_is_bridge, -EINVAL, "it is a bridge",
	  "preserve the devices below it, bridges follow" },
	{ lu_is_gone, -ENODEV, "it is gone", "check the slot" },
	{ lu_is_leaving, -ENODEV, "it is being removed, or has failed", "rescan the bus" },
	{ lu_is_virtfn, -EOPNOTSUPP, "Virtual Functions are not supported yet",
	  "use a device of its own" },
	{ lu_has_virtfns, -EOPNOTSUPP, "it has Virtual Functions enabled",
	  "write 0 to sriov_numvfs" },
	{ lu_has_pri, -EOPNOTSUPP, "page requests (PRI) are enabled",
	  "detach it from its shared address spaces" },
	{ lu_has_odd_bars, -EOPNOTSUPP, "its BARs are known to be broken",
	  "none, this device cannot be preserved" },
	{ lu_is_asleep, -EINVAL, "it is not in D0", "open it first" },
	{ lu_has_other_host, -EOPNOTSUPP, "its host bridge has a driver of its own kind",
	  "use a device below an ACPI or generic ECAM host bridge" },
	{ lu_has_dynamic_domain, -EOPNOTSUPP, "its domain number may be another next time",
	  "give the host bridge a linux,pci-domain property in the Device Tree" },
	{ lu_has_acs_quirk, -EOPNOTSUPP,
	  "ACS of it, or of a bridge above it, is set up by a quirk that cannot be handed over",
	  "use a device below another root port" },
	{ lu_has_no_extended_config, -EOPNOTSUPP,
	  "extended configuration space of it, or of a bridge above it, cannot be read",
	  "boot without pci=nommconf" },
	{ lu_is_unfinished, -EBUSY, "it is not finished from the previous live update",
	  "finish its session first" },
};

/**
 * pci_lu_refusal - find a reason why a device cannot be preserved
 * @dev: device
 *
 * Return: the first that holds, NULL if none does.
 */
const struct pci_lu_refusal *pci_lu_refusal(struct pci_dev *dev)
{
	for (int i = 0; i < ARRAY_SIZE(lu_refusals); i++)
		if (lu_refusals[i].test(dev))
			return &lu_refusals[i];
	return NULL;
}

static int lu_refuse(struct pci_dev *dev)
{
	const struct pci_lu_refusal *refusal = pci_lu_refusal(dev);

	if (!refusal)
		return 0;
	trace_pci_liveupdate_refuse(dev, refusal->reason);
	pci_err(dev, "cannot be preserved: %s; %s\n", refusal->reason, refusal->remedy);
	return refusal->errno;
}

/* Drop one use of the records of @dev and of the bridges above it, up to @end */
static void lu_path_put(struct pci_dev *dev, struct pci_dev *end)
{
	for (struct pci_dev *up; dev != end; dev = up) {
		struct pci_liveupdate_record_ser *rec = dev->lu_outgoing;

		up = pci_upstream_bridge(dev);
		if (--rec->use_count)
			continue;
		slot_put(rec);
		dev->lu_outgoing = NULL;
		clear_bit(PCI_LU_OUTGOING, &dev->lu_flags);
		clear_bit(PCI_LU_DEAD, &dev->lu_flags);
		pci_lu_guard_update(dev);
		pci_dev_put(dev);
	}
}

static int lu_path_get(struct pci_dev *dev, enum pci_liveupdate_dma dma)
{
	for (struct pci_dev *it = dev; it; it = pci_upstream_bridge(it)) {
		struct pci_liveupdate_record_ser *rec = it->lu_outgoing;

		if (!rec) {
			rec = slot_get();
			if (IS_ERR(rec)) {
				lu_path_put(dev, it);
				return PTR_ERR(rec);
			}
			pci_lu_record_fill(it, rec);
			it->lu_outgoing = rec;
			set_bit(PCI_LU_OUTGOING, &it->lu_flags);
			pci_lu_guard_update(it);
			pci_dev_get(it);
		}
		rec->use_count++;
	}
	dev->lu_outgoing->dma = dma;
	return 0;
}

/**
 * pci_liveupdate_preserve - keep a device working through the next kexec
 * @dev: device, in D0, that the caller owns as its driver
 *
 * Takes the records of @dev and of every bridge above it. From now on the
 * device stays in D0, and on the way out of this kernel it keeps Bus Master,
 * or is paused if an IOMMU is in the way (see pci_liveupdate_dma()). Undo with
 * pci_liveupdate_unpreserve().
 *
 * Context: process context, from the preserve callback of a file handler that
 * has called pci_liveupdate_register_flb(). Tries pci_rescan_remove_lock, takes
 * pci_lu_rwsem.
 * Return: 0, or after a message that names device, reason and remedy: -EBUSY
 * if @dev is preserved already, is not finished from the last live update, or
 * buses are being scanned or devices removed right now; -EINVAL if it is a
 * bridge, not in D0, or its driver has not registered the File-Lifecycle-Bound
 * object; -EOPNOTSUPP if such a device or host cannot be kept yet; -ENODEV if
 * it is gone; -ENOSPC or -ENOMEM if there is no room for its records.
 */
int pci_liveupdate_preserve(struct pci_dev *dev)
{
	enum pci_liveupdate_dma dma;
	const char *paused;
	int err;

	err = lu_refuse(dev);
	if (err)
		return err;

	dma = pci_lu_dma_verdict(dev, &paused);

	/* Awake until unpreserved; the bridges above stay awake with it */
	err = pm_runtime_resume_and_get(&dev->dev);
	if (err < 0)
		return err;

	/*
	 * A scan that began while nothing was preserved may move what is
	 * recorded here, so none may run meanwhile. Waiting for it could
	 * deadlock: it may itself wait for the caller's locks.
	 */
	if (!mutex_trylock(&pci_rescan_remove_lock)) {
		pci_err(dev, "cannot be preserved: buses are being scanned or devices removed; try again\n");
		err = -EBUSY;
		goto err_pm;
	}
	scoped_guard(rwsem_write, &pci_lu_rwsem) {
		if (WARN_ON_ONCE(!lu_out.header))
			err = -EINVAL;
		else if (dev->lu_outgoing)
			err = -EBUSY;
		else
			err = lu_path_get(dev, dma);
	}
	mutex_unlock(&pci_rescan_remove_lock);
	if (err) {
		pci_err(dev, "cannot be preserved: %s\n", err == -EBUSY ?
			"it is preserved already" : "no memory for its record");
		goto err_pm;
	}

	trace_pci_liveupdate_preserve(dev, paused ?: "untranslated");
	if (paused)
		pci_info(dev, "preserved; DMA will pause during the kexec: %s\n", paused);
	else
		pci_info(dev, "preserved; DMA will go on during the kexec\n");
	return 0;

err_pm:
	pm_runtime_put(&dev->dev);
	return err;
}
EXPORT_SYMBOL_GPL(pci_liveupdate_preserve);

/**
 * pci_liveupdate_unpreserve - undo pci_liveupdate_preserve()
 * @dev: preserved device
 *
 * Writes nothing to the device. Its bridges are released with the last device
 * below them.
 *
 * Context: process context, from the unpreserve callback of a file handler.
 * Takes pci_lu_rwsem.
 */
void pci_liveupdate_unpreserve(struct pci_dev *dev)
{
	scoped_guard(rwsem_write, &pci_lu_rwsem) {
		if (WARN_ON_ONCE(!dev->lu_outgoing))
			return;
		lu_path_put(dev, NULL);
	}
	pm_runtime_put(&dev->dev);
	trace_pci_liveupdate_finish(dev, "unpreserved");
	pci_info(dev, "no longer preserved\n");
}
EXPORT_SYMBOL_GPL(pci_liveupdate_unpreserve);

/**
 * pci_liveupdate_is_outgoing - is this function preserved for the next kernel?
 * @dev: device or bridge
 *
 * Context: process context. Takes pci_lu_rwsem for reading.
 * Return: true if it has a record. The answer can change as soon as it is given,
 * unless the caller owns the preservation.
 */
bool pci_liveupdate_is_outgoing(struct pci_dev *dev)
{
	guard(rwsem_read)(&pci_lu_rwsem);
	return dev->lu_outgoing;
}
EXPORT_SYMBOL_GPL(pci_liveupdate_is_outgoing);

/*
 * Called for every device on the way out. LUO holds all sessions frozen by
 * now: nothing can be preserved or unpreserved any more.
 */
bool __pci_liveupdate_shutdown(struct pci_dev *dev)
{
	struct pci_liveupdate_record_ser *rec;

	/* Other ways to reboot end in a reset of all devices */
	if (!kexec_in_progress)
		return false;

	guard(rwsem_write)(&pci_lu_rwsem);
	rec = dev->lu_outgoing;
	if (!rec || rec->flags & PCI_LIVEUPDATE_F_DEAD ||
	    pci_lu_break & PCI_LU_BREAK_BUS_MASTER) {
		/* Nobody retrieved it, or nobody will: it stops like all others */
		if (!pci_liveupdate_held(dev) || dev->current_state == PCI_D3cold ||
		    dev->current_state == PCI_UNKNOWN)
			return false;
		pci_liveupdate_stop_dma(dev);
		return true;
	}

	/* Requests of the devices below go through a bridge with Bus Master */
	if (rec->flags & PCI_LIVEUPDATE_F_BRIDGE ||
	    rec->dma == PCI_LIVEUPDATE_DMA_UNTRANSLATED)
		return true;

	if (!pci_liveupdate_stop_dma(dev)) {
		rec->flags |= PCI_LIVEUPDATE_F_DMA_PENDING;
		pci_warn(dev, "paused with requests still outstanding\n");
	} else {
		pci_info(dev, "paused\n");
	}
	return true;
}
