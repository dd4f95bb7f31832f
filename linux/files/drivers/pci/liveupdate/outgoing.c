// SPDX-License-Identifier: GPL-2.0
/*
 * PCI Live Update in the outgoing kernel: preserving devices, and the way out.
 */

#define dev_fmt(fmt) "Live Update: " fmt
#define pr_fmt(fmt) "PCI Live Update: " fmt

#include <linux/cleanup.h>
#include <linux/delay.h>
#include <linux/io.h>
#include <linux/iommu_liveupdate.h>
#include <linux/iopoll.h>
#include <linux/irqchip/arm-gic-v3-liveupdate.h>
#include <linux/kexec.h>
#include <linux/kexec_handover.h>
#include <linux/kho_block.h>
#include <linux/pm_runtime.h>
#include <linux/ratelimit.h>
#include <linux/slab.h>
#include <linux/time64.h>

#include "../pci.h"
#include "internal.h"

#include <trace/events/pci_liveupdate.h>

/*
 * For each device there may ever be, and not as often as its owner can have it preserved
 * and give it up again
 */
static DEFINE_RATELIMIT_STATE(lu_told, 60 * HZ, 4096);

/**
 * struct lu_outgoing - the set of records that the next kernel inherits
 * @header: what is handed over, NULL while nothing is preserved
 * @floor:  version that is not gone below, because structures beside the records
 *	    have been laid out for it
 * @set:    memory of the records; grows, and is freed as a whole
 * @tail:   where the next new slot is
 * @nr_slots: slots taken from @set so far, free ones included
 * @free:   slots whose device was unpreserved, all zero, to be used again
 * @nr_free: entries in @free, which has room for @nr_slots
 */
static struct lu_outgoing {
	struct pci_liveupdate_header_ser *header;
	u32 floor;
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
	int err = gic_liveupdate_may_preserve();

	if (err)
		return err;

	header = kho_alloc_preserve(sizeof(*header));
	if (IS_ERR(header))
		return PTR_ERR(header);

	header->record_size = sizeof(struct pci_liveupdate_record_ser);
	pci_lu_look_for_cardbus();

	scoped_guard(rwsem_write, &pci_lu_rwsem) {
		kho_block_set_init(&lu_out.set, sizeof(struct pci_liveupdate_record_ser));
		lu_out.header = header;
		lu_out.floor = pci_lu_abi_oldest;
	}
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

/**
 * pci_liveupdate_abi_pin - which version must a driver's own structure fit?
 *
 * For drivers whose structures come in the same versions, when they set aside
 * memory for one. What is handed over in the end is not older.
 *
 * Context: process context, from the preserve callback of a file handler. Takes
 * pci_lu_rwsem.
 * Return: PCI_LIVEUPDATE_ABI_V*.
 */
u32 pci_liveupdate_abi_pin(void)
{
	guard(rwsem_write)(&pci_lu_rwsem);
	lu_out.floor = max(lu_out.floor, READ_ONCE(pci_lu_abi_oldest));
	return lu_out.floor;
}
EXPORT_SYMBOL_GPL(pci_liveupdate_abi_pin);

/**
 * pci_liveupdate_abi - in which version is it handed over?
 *
 * Context: process context, from the settle callback of a file handler. Takes
 * pci_lu_rwsem.
 * Return: PCI_LIVEUPDATE_ABI_V*.
 */
u32 pci_liveupdate_abi(void)
{
	guard(rwsem_read)(&pci_lu_rwsem);
	return lu_out.header->version;
}
EXPORT_SYMBOL_GPL(pci_liveupdate_abi);

/**
 * pci_lu_outgoing_abi - the oldest version that this can be handed over in
 * @rec: record of the outgoing set
 *
 * Whatever pci_liveupdate.abi_oldest is set to from now on.
 *
 * Context: pci_lu_rwsem held.
 * Return: PCI_LIVEUPDATE_ABI_V*.
 */
u32 pci_lu_outgoing_abi(const struct pci_liveupdate_record_ser *rec)
{
	return max(lu_out.floor, pci_lu_abi_of(rec));
}

/* Who has loaded the next kernel may have said what it reads */
static int lu_abi_refuses(struct pci_dev *dev)
{
	u32 version = max(pci_lu_outgoing_abi(dev->lu_outgoing), READ_ONCE(pci_lu_abi_oldest));
	u32 newest = READ_ONCE(pci_lu_abi_newest);

	if (version <= newest)
		return 0;
	dev_err_ratelimited(&dev->dev, "cannot be preserved: that takes version %#x of the hand-over, and the next kernel is said to read none after %#x; load another kernel, or set pci_liveupdate.abi_newest\n",
			    version, newest);
	return -EOPNOTSUPP;
}

/* Whatever has been frozen is not needed then */
static void lu_pause_translated(void)
{
	struct pci_liveupdate_record_ser *rec;
	struct kho_block_set_it it;

	kho_block_set_it_init(&it, &lu_out.set);
	while ((rec = kho_block_set_it_read_entry(&it))) {
		if (pci_lu_slot_is_free(rec) || rec->dma != PCI_LIVEUPDATE_DMA_TRANSLATED)
			continue;
		pr_warn("%04x:%02x:%02x.%d is paused after all: the next kernel is said not to read version %#x of the hand-over\n",
			rec->domain, PCI_BUS_NUM(rec->bdf), PCI_SLOT(rec->bdf),
			PCI_FUNC(rec->bdf), PCI_LIVEUPDATE_ABI_V2);
		rec->dma = PCI_LIVEUPDATE_DMA_PAUSED;
		memset(&rec->iommu, 0, sizeof(rec->iommu));
	}
	iommu_liveupdate_unfreeze();
}

static int lu_choose_abi(void)
{
	u32 newest = READ_ONCE(pci_lu_abi_newest);
	u32 version;

	/* A test has something that stays unsayable */
	if (newest < PCI_LIVEUPDATE_ABI_V2 && !(pci_lu_break & PCI_LU_BREAK_VERDICT))
		lu_pause_translated();
	version = max3(lu_out.floor, READ_ONCE(pci_lu_abi_oldest),
		       pci_lu_abi_of_set(&lu_out.set));
	if (version > newest) {
		pr_err("no kexec: what is preserved takes version %#x of the hand-over, and the next kernel is said to read none after %#x; load another kernel, or set pci_liveupdate.abi_newest\n",
		       version, newest);
		return -EOPNOTSUPP;
	}
	lu_out.header->version = pci_lu_abi_version ?: version;
	return 0;
}

/* A reset of the slowest kind ends within this time, or has failed */
#define LU_LOCK_USEC	(2 * USEC_PER_SEC)

/*
 * What is read while a device is in reset is not true. Resets hold both locks of
 * the function and, if it is a bus that is reset, those of all functions below it:
 * the bridges above a device whose locks are held are not reset, either. The locks
 * are only tried, because whoever unbinds the device may hold one while it waits
 * for a lock of our caller's.
 */
static int lu_lock(struct pci_dev *dev, const char *what)
{
	int locked;

	if (pci_lu_break & PCI_LU_BREAK_CHECKS)
		return 0;
	if (!read_poll_timeout(pci_dev_trylock, locked, locked, 100, LU_LOCK_USEC, false, dev))
		return 0;
	dev_err_ratelimited(&dev->dev,
			    "cannot be %s: it is being reset, bound or unbound; try again\n", what);
	return -EAGAIN;
}

static void lu_unlock(struct pci_dev *dev)
{
	if (!(pci_lu_break & PCI_LU_BREAK_CHECKS))
		pci_dev_unlock(dev);
}

/* Until unpreserved; the bridges above stay awake with it, a Physical Function does not */
static int lu_stay_awake(struct pci_dev *dev)
{
	int active = pm_runtime_get_if_active(&dev->dev);

	if (!active) {
		dev_err_ratelimited(&dev->dev, "cannot be preserved: it is falling asleep; open it, or write on to its power/control, first\n");
		return -EINVAL;
	}
	/* Where there is no runtime power management, nothing falls asleep */
	if (active < 0)
		pm_runtime_get_noresume(&dev->dev);
	return 0;
}

/* A slot for @it, filled in by @take for the sake of @dev */
static struct pci_liveupdate_record_ser *
lu_take(struct pci_dev *dev, struct pci_dev *it,
	const char *(*take)(struct pci_dev *dev, struct pci_liveupdate_record_ser *rec))
{
	struct pci_liveupdate_record_ser *rec = slot_get();
	const char *why;

	if (IS_ERR(rec)) {
		dev_err_ratelimited(&dev->dev, "cannot be preserved: no memory for its record\n");
		return rec;
	}
	why = take(it, rec);
	if (!why)
		return rec;
	dev_err_ratelimited(&dev->dev, "cannot be preserved: %s: %s; put that right first\n",
			    pci_name(it), why);
	slot_put(rec);
	return ERR_PTR(-EIO);
}

static const char *lu_iov_take(struct pci_dev *pf, struct pci_liveupdate_record_ser *rec)
{
	const char *why = pci_lu_iov_take(pf, rec);

	if (why || pci_lu_break & PCI_LU_BREAK_CHECKS)
		return why;
	return pci_lu_record_check(rec, PCI_LIVEUPDATE_ABI_VERSION);
}

/* What is handed over of a Physical Function beside its record */
static int lu_pf_get(struct pci_dev *dev, struct pci_dev *pf)
{
	struct pci_liveupdate_record_ser *rec;
	int err = lu_stay_awake(pf);

	if (err)
		return err;
	rec = lu_take(dev, pf, lu_iov_take);
	if (IS_ERR(rec)) {
		pm_runtime_put(&pf->dev);
		return PTR_ERR(rec);
	}
	*pci_lu_iov_slot(pf) = rec;
	return 0;
}

static void lu_pf_put(struct pci_dev *pf)
{
	slot_put(*pci_lu_iov_slot(pf));
	*pci_lu_iov_slot(pf) = NULL;
	pm_runtime_put(&pf->dev);
}

/* Nobody has it any more; a Physical Function may stay, with its Virtual ones */
static void lu_disown(struct pci_liveupdate_record_ser *own)
{
	if (!(own->flags & PCI_LIVEUPDATE_F_PF))
		return;
	own->flags &= ~PCI_LIVEUPDATE_F_ENDPOINT;
	own->dma = 0;
	memset(&own->iommu, 0, sizeof(own->iommu));
}

/* Drop one use of the records of @dev and of what is above it, up to @end */
static void lu_path_put(struct pci_dev *dev, struct pci_dev *end)
{
	for (struct pci_dev *up; dev != end; dev = up) {
		struct pci_liveupdate_record_ser *rec = dev->lu_outgoing;

		up = pci_lu_up(dev);
		if (--rec->use_count)
			continue;
		if (rec->flags & PCI_LIVEUPDATE_F_PF)
			lu_pf_put(dev);
		slot_put(rec);
		dev->lu_outgoing = NULL;
		clear_bit(PCI_LU_OUTGOING, &dev->lu_flags);
		clear_bit(PCI_LU_DEAD, &dev->lu_flags);
		pci_lu_changed(dev);
		pci_lu_reset_later(dev);
		pci_dev_put(dev);
	}
}

/*
 * A bridge that failed is good for those that are preserved from now on if it is as it was
 * recorded. Whether devices below it that failed, too, are good for anything is up to them.
 */
static int lu_revive(struct pci_dev *bridge, struct pci_liveupdate_record_ser *rec)
{
	const char *differs;

	if (!(rec->flags & PCI_LIVEUPDATE_F_DEAD) || !bridge->subordinate)
		return 0;
	/* It may not have been reset yet */
	differs = bridge->error_state != pci_channel_io_normal ? "state" :
		  pci_lu_record_changed(bridge, rec);
	if (differs) {
		dev_err_ratelimited(&bridge->dev, "nothing below it can be preserved: it failed, and its %s is not what it was\n",
				    differs);
		return -ENODEV;
	}
	rec->flags &= ~PCI_LIVEUPDATE_F_DEAD;
	clear_bit(PCI_LU_DEAD, &bridge->lu_flags);
	pci_lu_changed(bridge);
	return 0;
}

static int lu_path_get(struct pci_dev *dev, enum pci_liveupdate_dma dma)
{
	struct pci_liveupdate_record_ser *own;

	for (struct pci_dev *it = dev; it; it = pci_lu_up(it)) {
		struct pci_liveupdate_record_ser *rec = it->lu_outgoing;
		int err = rec ? lu_revive(it, rec) : 0;

		if (rec && !err) {
			rec->use_count++;
			continue;
		}
		if (!rec) {
			rec = lu_take(dev, it, pci_lu_record_take);
			err = PTR_ERR_OR_ZERO(rec);
		}
		if (!err && rec->flags & PCI_LIVEUPDATE_F_PF) {
			err = lu_pf_get(dev, it);
			if (err)
				slot_put(rec);
		}
		if (err) {
			lu_path_put(dev, it);
			return err;
		}
		it->lu_outgoing = rec;
		set_bit(PCI_LU_OUTGOING, &it->lu_flags);
		/* Of a bridge: what failed before it was described is over */
		clear_bit(PCI_LU_DEAD, &it->lu_flags);
		pci_lu_changed(it);
		pci_dev_get(it);
	}
	/* A Physical Function has been one that is kept with others so far */
	own = dev->lu_outgoing;
	own->flags |= PCI_LIVEUPDATE_F_ENDPOINT;
	own->dma = pci_lu_break & PCI_LU_BREAK_VERDICT ? PCI_LIVEUPDATE_DMA_TRANSLATED : dma;
	return 0;
}

/* What is being removed, while whoever does it waits for drivers; with it, others */
static struct pci_dev *lu_stopping;
static unsigned int lu_stopping_depth;

/**
 * pci_lu_stopping - drivers of what is to be removed are waited for
 * @dev: function that goes, with all below it; NULL when they are gone
 *
 * Does nothing for who removes without pci_rescan_remove_lock, as a driver does
 * that is unbound and disables SR-IOV: another may have it then, for a scan. A
 * removal within another takes functions off their bus: nobody is waited for from
 * the end of its drivers on.
 *
 * Context: Takes pci_lu_rwsem.
 */
void pci_lu_stopping(struct pci_dev *dev)
{
	if (READ_ONCE(pci_rescan_remove_owner) != current)
		return;

	guard(rwsem_write)(&pci_lu_rwsem);
	if (dev && !lu_stopping_depth++)
		lu_stopping = dev;
	if (dev)
		return;
	lu_stopping_depth--;
	lu_stopping = NULL;
}

/**
 * pci_lu_others_are_stopping - is it for a removal that scans are locked out?
 * @dev: function that is not to be removed
 *
 * Context: pci_lu_rwsem is held.
 * Return: whether pci_rescan_remove_lock belongs to somebody who removes other
 * devices, and gets no further, nor to a scan, before pci_lu_rwsem is released.
 */
bool pci_lu_others_are_stopping(struct pci_dev *dev)
{
	if (!lu_stopping)
		return false;
	for (; dev; dev = pci_lu_up(dev))
		if (dev == lu_stopping)
			return false;
	return true;
}

static int lu_preserve_locked(struct pci_dev *dev, const char *why_not)
{
	enum pci_liveupdate_dma dma;
	const char *paused;
	bool translated;
	bool locked;
	int err;

	dma = pci_lu_dma_verdict(dev, &paused);
	if (READ_ONCE(pci_lu_abi_newest) < PCI_LIVEUPDATE_ABI_V2)
		why_not = why_not ?: "the next kernel cannot be told of its IOMMU domain";
	translated = dma == PCI_LIVEUPDATE_DMA_PAUSED && dev->dev.iommu && !why_not;
	if (translated)
		dma = PCI_LIVEUPDATE_DMA_TRANSLATED;
	paused = translated ? NULL : paused && dev->dev.iommu ? why_not : paused;

	/*
	 * A scan that began while nothing was preserved may move what is
	 * recorded here, so none may run meanwhile. Waiting for it could
	 * deadlock: it may itself wait for the caller's locks. A removal is no
	 * scan, and may wait for a user who does not care.
	 */
	locked = mutex_trylock(&pci_rescan_remove_lock);
	scoped_guard(rwsem_write, &pci_lu_rwsem) {
		if (WARN_ON_ONCE(!lu_out.header)) {
			err = -EINVAL;
		} else if (!locked && !pci_lu_others_are_stopping(dev)) {
			dev_err_ratelimited(&dev->dev,
					    "cannot be preserved: buses are being scanned or devices removed; try again\n");
			err = -EBUSY;
		} else {
			err = pci_lu_refuse(dev, PCI_LU_PRESERVE) ?: lu_stay_awake(dev);
		}
		if (!err) {
			err = lu_path_get(dev, dma);
			if (!err) {
				err = lu_abi_refuses(dev);
				if (err) {
					lu_disown(dev->lu_outgoing);
					lu_path_put(dev, NULL);
				}
			}
			if (err)
				pm_runtime_put(&dev->dev);
		}
	}
	if (locked)
		mutex_unlock(&pci_rescan_remove_lock);
	if (err)
		return err;

	trace_pci_liveupdate_preserve(dev, paused ?: translated ? "translated" : "untranslated");
	if (!__ratelimit(&lu_told))
		return 0;
	if (paused)
		pci_info(dev, "preserved; DMA will pause during the kexec: %s\n", paused);
	else
		pci_info(dev, "preserved; DMA will go on during the kexec%s\n",
			 translated ? ", translated as it is when that begins" : "");
	return 0;
}

static int lu_preserve(struct pci_dev *dev, const char *why_not)
{
	struct pci_dev *pf = pci_physfn(dev);
	int err;

	err = lu_lock(dev, "preserved");
	if (err)
		return err;
	/* Nor is what it is part of reset, nor does that get another driver */
	if (pf != dev)
		err = lu_lock(pf, "kept with its Virtual Functions");
	if (!err) {
		err = lu_preserve_locked(dev, why_not);
		/* From here on its driver knows, and what it began before is over */
		if (!err && pf != dev) {
			err = pci_lu_ask_driver(pf, dev, "preserved");
			if (err)
				pci_liveupdate_unpreserve(dev);
		}
		if (pf != dev)
			lu_unlock(pf);
	}
	lu_unlock(dev);
	return err;
}

/**
 * pci_liveupdate_preserve - keep a device working through the next kexec
 * @dev: device, in D0, that the caller owns as its driver
 *
 * Takes the records of @dev, of its Physical Function if it is a Virtual one, and of
 * every bridge above it, and checks them as the next kernel will. From now on the
 * device stays in D0, and on the way out of this kernel it keeps Bus Master, or is
 * paused if an IOMMU is in the way (see
 * pci_liveupdate_dma()). Undo with pci_liveupdate_unpreserve().
 *
 * Context: process context, from the preserve callback of a file handler that
 * has called pci_liveupdate_register_flb(). The caller keeps its user from
 * resetting @dev meanwhile. Tries device_lock(&dev->dev) and the lock that resets
 * keep from configuration accesses, and both of a Physical Function, for a bounded
 * time, and pci_rescan_remove_lock; takes pci_lu_rwsem.
 * Return: 0, or after a message that names device, reason and remedy: -EBUSY
 * if @dev is preserved already, is not finished from the last live update, buses
 * are being scanned or devices removed right now, or the machine is about to
 * sleep; -EAGAIN if it, or its Physical Function, is being reset, bound or unbound;
 * -EINVAL if it is a bridge, not in D0, or its driver has not registered the File-Lifecycle-Bound
 * object; -EOPNOTSUPP if such a device or host cannot be kept yet, or not in a
 * version of the hand-over that the next kernel is said to read; -EIO if its
 * registers, or those of a bridge above it, are not what this kernel knows, or
 * bus numbers contradict each other; -ENODEV if it is gone; -ENOSPC or -ENOMEM if
 * there is no room for its records.
 */
int pci_liveupdate_preserve(struct pci_dev *dev)
{
	return lu_preserve(dev, "an IOMMU translates for it");
}
EXPORT_SYMBOL_GPL(pci_liveupdate_preserve);

/**
 * pci_liveupdate_preserve_translated - the same for a device whose domain can be frozen
 * @dev: device, in D0, that the caller owns as its driver
 * @why_not: why it cannot be, in words that fit behind "DMA will pause: "; NULL if it can
 *
 * Behind an IOMMU DMA goes on if the caller freezes the domain that translates for @dev
 * before the kexec, in the freeze callback of the file handler, and says so with
 * pci_liveupdate_set_domain(). He has to if pci_liveupdate_dma() says then that DMA goes on
 * translated, or return an error.
 *
 * Context: as pci_liveupdate_preserve().
 * Return: as pci_liveupdate_preserve().
 */
int pci_liveupdate_preserve_translated(struct pci_dev *dev, const char *why_not)
{
	return lu_preserve(dev, why_not);
}
EXPORT_SYMBOL_GPL(pci_liveupdate_preserve_translated);

/**
 * pci_liveupdate_set_domain - tell the next kernel which domain translates for a device
 * @dev: preserved device
 * @domain: the domain, frozen
 *
 * Context: process context, from the freeze callback of a file handler. Takes
 * pci_lu_rwsem.
 */
void pci_liveupdate_set_domain(struct pci_dev *dev,
			       const struct pci_liveupdate_iommu_ser *domain)
{
	guard(rwsem_write)(&pci_lu_rwsem);
	dev->lu_outgoing->iommu = *domain;
	if (pci_lu_break & PCI_LU_BREAK_DOMAIN)
		dev->lu_outgoing->iommu.tag ^= BIT(3);
}
EXPORT_SYMBOL_GPL(pci_liveupdate_set_domain);

static int lu_freeze_one(struct pci_dev *dev)
{
	const char *changed;
	int err;

	guard(rwsem_read)(&pci_lu_rwsem);
	/* The next kernel is told of what has failed since */
	if (!dev->lu_outgoing || dev->lu_outgoing->flags & PCI_LIVEUPDATE_F_DEAD)
		return 0;
	/* Nor is one that was taken out a reason to keep all others here */
	if (pci_lu_is_gone(dev)) {
		pci_warn(dev, "is gone, or does not answer: the next kernel may miss it\n");
		return 0;
	}

	if (dev->lu_outgoing->flags & PCI_LIVEUPDATE_F_ENDPOINT) {
		err = pci_lu_refuse(dev, PCI_LU_FREEZE);
		if (err)
			return err;
	}
	changed = pci_lu_record_changed(dev, dev->lu_outgoing);
	if (!changed && dev->lu_outgoing->flags & PCI_LIVEUPDATE_F_PF)
		changed = pci_lu_iov_changed(dev);
	if (!changed)
		return 0;
	pci_err(dev, "cannot be handed over: its %s differs from what was preserved; restore it, or preserve again\n",
		changed);
	return -EIO;
}

/**
 * pci_lu_outgoing_freeze - the last moment at which a kexec can be refused
 * @args: unused
 *
 * Nobody changes a preserved device by now, all of their owners are frozen. What
 * has changed since it was preserved would make the next kernel leave it alone, or
 * stop.
 *
 * Return: 0, or after a message -EAGAIN, -EIO, -EINVAL, -EOPNOTSUPP or -ENOMEM.
 */
int pci_lu_outgoing_freeze(struct liveupdate_flb_op_args *args)
{
	struct pci_liveupdate_record_ser **slots __free(kvfree) = NULL;
	struct pci_dev *dev = NULL;
	struct pci_lu_error bad;
	u64 nr;
	int err;

	pci_lu_look_for_cardbus();
	scoped_guard(rwsem_write, &pci_lu_rwsem) {
		err = lu_choose_abi();
		if (err)
			return err;
		err = iommu_liveupdate_hand_over(&lu_out.header->iommu);
		if (err) {
			pr_err("no kexec: no memory for the tables that IOMMUs are left with; free some, and try again\n");
			return err;
		}
	}

	/* A test wants to hand over something wrong */
	if (pci_lu_break & (PCI_LU_BREAK_CHECKS | PCI_LU_BREAK_IDENTITY | PCI_LU_BREAK_VERDICT))
		return 0;

	for_each_pci_dev(dev) {
		if (!test_bit(PCI_LU_OUTGOING, &dev->lu_flags))
			continue;
		err = lu_lock(dev, "handed over");
		if (!err) {
			err = pci_lu_ask_driver(dev, dev, "handed over") ?:
			      lu_freeze_one(dev);
			lu_unlock(dev);
		}
		if (err) {
			pci_dev_put(dev);
			return err;
		}
	}

	guard(rwsem_read)(&pci_lu_rwsem);
	err = pci_lu_set_check(lu_out.header, &lu_out.set, &slots, &nr, &bad);
	if (err && bad.rec)
		pr_err("no kexec: the record of %04x:%02x:%02x.%d cannot be handed over: %s\n",
		       bad.rec->domain, PCI_BUS_NUM(bad.rec->bdf), PCI_SLOT(bad.rec->bdf),
		       PCI_FUNC(bad.rec->bdf), bad.why);
	else if (err)
		pr_err("no kexec: the records of preserved devices cannot be handed over: %s\n",
		       bad.why ?: "no memory to check them");
	return err;
}

/**
 * pci_liveupdate_unpreserve - undo pci_liveupdate_preserve()
 * @dev: preserved device
 *
 * Writes nothing to the device. Its bridges are released with the last device
 * below them. A Physical Function is kept while its Virtual Functions are preserved,
 * but then there is no kexec, see lu_has_unpreserved_physfn().
 *
 * Context: process context, from the unpreserve callback of a file handler.
 * Takes pci_lu_rwsem.
 */
void pci_liveupdate_unpreserve(struct pci_dev *dev)
{
	scoped_guard(rwsem_write, &pci_lu_rwsem) {
		struct pci_liveupdate_record_ser *own = dev->lu_outgoing;

		if (WARN_ON_ONCE(!own))
			return;
		lu_disown(own);
		lu_path_put(dev, NULL);
	}
	pm_runtime_put(&dev->dev);
	trace_pci_liveupdate_finish(dev, "unpreserved");
	if (__ratelimit(&lu_told))
		pci_info(dev, "no longer preserved\n");
}
EXPORT_SYMBOL_GPL(pci_liveupdate_unpreserve);

/**
 * pci_liveupdate_is_outgoing - is this function preserved for the next kernel?
 * @dev: device or bridge
 *
 * Context: any.
 * Return: true if it has a record. The answer can change as soon as it is given,
 * unless the caller owns the preservation.
 */
bool pci_liveupdate_is_outgoing(struct pci_dev *dev)
{
	return test_bit(PCI_LU_OUTGOING, &dev->lu_flags);
}
EXPORT_SYMBOL_GPL(pci_liveupdate_is_outgoing);

/*
 * Called for every device on the way out. LUO holds all sessions frozen by
 * now: nothing can be preserved or unpreserved any more.
 */
bool __pci_liveupdate_shutdown(struct pci_dev *dev)
{
	struct pci_liveupdate_record_ser *rec;
	bool dead;

	/* Other ways to reboot end in a reset of all devices */
	if (!kexec_in_progress)
		return false;

	/* Not for as long as the device takes to stop */
	scoped_guard(rwsem_read, &pci_lu_rwsem) {
		rec = dev->lu_outgoing;
		dead = !rec || rec->flags & PCI_LIVEUPDATE_F_DEAD;
	}
	if (dead || pci_lu_break & PCI_LU_BREAK_BUS_MASTER) {
		/* Nobody retrieved it, or nobody will: it stops like all others */
		if (!pci_liveupdate_held(dev) || dev->current_state == PCI_D3cold ||
		    dev->current_state == PCI_UNKNOWN)
			return false;
		pci_liveupdate_stop_dma(dev);
		return true;
	}

	/*
	 * Requests of the devices below go through a bridge with Bus Master. Those of a
	 * Virtual Function do not depend on its Physical Function's (PCIe r6.0, sec
	 * 9.3.4.1.3), except where hardware gets that wrong: it stays as it is.
	 */
	if (!(rec->flags & PCI_LIVEUPDATE_F_ENDPOINT)) {
		pci_lu_look_after_driver(dev);
		return true;
	}
	if (rec->dma != PCI_LIVEUPDATE_DMA_PAUSED)
		return true;

	if (!pci_liveupdate_stop_dma(dev)) {
		scoped_guard(rwsem_write, &pci_lu_rwsem)
			rec->flags |= PCI_LIVEUPDATE_F_DMA_PENDING;
		pci_warn(dev, "paused with requests still outstanding\n");
	} else {
		pci_info(dev, "paused\n");
	}
	return true;
}
