// SPDX-License-Identifier: GPL-2.0
/*
 * PCI Live Update: a seat belt on the path of configuration writes.
 */

/**
 * DOC: The guard
 *
 * Everywhere else, PCI Live Update makes the kernel want to write nothing that
 * could disturb a preserved device. This is what holds if some place was
 * forgotten: between the configuration accessors and the hardware, a write that
 * would do damage is dropped, counted (``liveupdate/guard_count`` in sysfs),
 * traced (``pci_liveupdate:pci_liveupdate_guard``), and logged the first time that
 * the kernel comes this way. *A count that is not zero is a bug*, in the kernel or in what
 * somebody does with setpci(8).
 *
 * Who is guarded
 * --------------
 *
 * - A device of the previous kernel that its owner has not claimed: nobody has
 *   a reason to write to it, so every write is dropped, and even a write of the
 *   value that is there counts.
 * - A Physical Function of the previous kernel's, above a preserved Virtual one: the
 *   same, as it has no owner, or not yet.
 * - A bridge above a preserved device, from either direction, and the Physical
 *   Function of one that is preserved here, or whose owner has it back or has gone: the
 *   registers in ``lu_bridge_fields`` and ``lu_pf_fields``, bit by bit. A write is
 *   judged by what it would change. The bits of an access that would not change a
 *   protected bit go through.
 *
 * Preserved devices that have an owner are not: the owner writes through the
 * same accessors as everybody else. They are protected where resets, disabling,
 * and the like are decided.
 *
 * What passes on a bridge, and why
 * --------------------------------
 *
 * - Writing a register as it is. Some hardware latches on a write, but bridges
 *   do not (PCIe r6.0, sec 7.5.1.3), and RW1C bits next to it must be reachable.
 * - Setting Bus Master, I/O or Memory Space Enable: the windows stay, so nothing
 *   that was routed is routed elsewhere. A device next to the preserved one may
 *   need it.
 * - Master Abort Mode, which enumeration toggles around each scan, and the other
 *   error reporting bits of Bridge Control and Device Control.
 * - RW1C status bits, so that errors and events can be acknowledged.
 * - Interrupts, ASPM, the target link speed, hot-plug indicators: they belong to
 *   the port's services and take no request off its way. A new speed takes effect
 *   with a retrain, which is stopped.
 * - All that is written to a bridge and below it while it is recovered from an
 *   error, reset by the right of a device's owner, or switched off, see
 *   pci_liveupdate_bypass_begin(): nothing there is as it was any more. And the
 *   shutdown of what is not handed over to the next kernel.
 *
 * What does not pass through here
 * -------------------------------
 *
 * - ACPI's AML, which goes by raw_pci_write(), as does x86's early code in
 *   arch/x86/kernel/early-quirks.c and everything else that calls
 *   raw_pci_write() or write_pci_config() directly. On x86, the configuration
 *   operations themselves of a few root ports do (quirk_pcie_aspm_write() in
 *   arch/x86/pci/fixup.c), but these sit below the accessors.
 * - Registers that a bridge has in memory space, such as those of a Standard
 *   Hot-Plug Controller, and indirect ways into configuration space, such as
 *   the configuration access capability of some switches.
 * - Firmware (System Management Mode), and other functions with a way in.
 *
 * Look-up
 * -------
 *
 * The accessors run in any context, on x86 and with ECAM without a lock. Guarded
 * functions are in an XArray that is read under RCU, by domain and Requester ID.
 * An entry is complete when it is published and, but for its counters, never
 * changes: where its capabilities are is found out in advance.
 */

#define pr_fmt(fmt) "PCI Live Update: " fmt

#include <linux/atomic.h>
#include <linux/cleanup.h>
#include <linux/jhash.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/stacktrace.h>
#include <linux/string.h>
#include <linux/xarray.h>

#include "internal.h"

/**
 * struct pci_lu_write - a write to configuration space that is judged
 * @bus: bus
 * @devfn: device and function
 * @where: aligned offset
 * @size: 1, 2 or 4
 * @value: what is to be written
 * @current_value: what is there; not read on a function that takes no write
 * @through: something of it reaches the hardware
 * @passed: what is written, if @through
 */
struct pci_lu_write {
	struct pci_bus *bus;
	unsigned int devfn;
	int where;
	int size;
	u32 value;
	u32 current_value;
	bool through;
	u32 passed;
};

#define CREATE_TRACE_POINTS
#include <trace/events/pci_liveupdate_guard.h>

/* Bits that uapi/linux/pci_regs.h has no names for */
#define LU_BRIDGE_CTL_VGA16	0x0010	/* PCIe r6.0, sec 7.5.1.3.13 */
#define LU_BRIDGE_CTL_DTS	0x0400	/* Discard Timer Status */
#define LU_DPC_CTL_SW_TRIGGER	0x0040	/* PCIe r6.0, sec 7.9.14.3 */
#define LU_DEVSTA_EPR		0x0040	/* Emergency Power Reduction Detected */
#define LU_DEVCTL2_E2E_BLOCK	0x8000	/* End-End TLP Prefix Blocking */

#define LU_STATUS_W1C	(PCI_STATUS_PARITY | PCI_STATUS_SIG_TARGET_ABORT |	\
			 PCI_STATUS_REC_TARGET_ABORT |				\
			 PCI_STATUS_REC_MASTER_ABORT |				\
			 PCI_STATUS_SIG_SYSTEM_ERROR |				\
			 PCI_STATUS_DETECTED_PARITY)
#define LU_DEVSTA_W1C	(PCI_EXP_DEVSTA_CED | PCI_EXP_DEVSTA_NFED |		\
			 PCI_EXP_DEVSTA_FED | PCI_EXP_DEVSTA_URD | LU_DEVSTA_EPR)
#define LU_LNKSTA_W1C	(PCI_EXP_LNKSTA_LBMS | PCI_EXP_LNKSTA_LABS)
#define LU_SLTSTA_W1C	(PCI_EXP_SLTSTA_ABP | PCI_EXP_SLTSTA_PFD |		\
			 PCI_EXP_SLTSTA_MRLSC | PCI_EXP_SLTSTA_PDC |		\
			 PCI_EXP_SLTSTA_CC | PCI_EXP_SLTSTA_DLLSC)
#define LU_DECODE	(PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER)

enum lu_where { LU_HEADER, LU_CAP, LU_EXT_CAP };

/**
 * struct lu_field - a register of a bridge with bits to protect or to clear
 * @where:  in the header, a capability or an extended capability
 * @id:	    capability ID
 * @reg:    offset in there
 * @width:  in bytes
 * @keep:   bits that may not change. Read-only bits are left out: software may
 *	    write what it likes to them.
 * @set_ok: of these, bits that may be set all the same, but not cleared
 * @w1c:    bits that are cleared by writing ones
 * @needs:  bits of the PCI Express Capabilities register, one of which must be
 *	    set: where it is not, something else may be at this place. 0 is none.
 */
struct lu_field {
	enum lu_where where;
	u16 id;
	u16 reg;
	u8 width;
	u32 keep;
	u32 set_ok;
	u32 w1c;
	u16 needs;
};

/* Version 2 of the capability has all registers (PCIe r6.0, sec 7.5.3) */
#define LU_V2		0x0002
#define LU_V2_OR_SLOT	(LU_V2 | PCI_EXP_FLAGS_SLOT)

#define HEADER(_reg, _width, _keep, ...)					\
	{ .where = LU_HEADER, .reg = (_reg), .width = (_width), .keep = (_keep), __VA_ARGS__ }
#define CAP(_id, _reg, _width, _keep, ...)					\
	{ .where = LU_CAP, .id = PCI_CAP_ID_##_id, .reg = (_reg), .width = (_width),	\
	  .keep = (_keep), __VA_ARGS__ }
#define EXT_CAP(_id, _reg, _width, _keep, ...)					\
	{ .where = LU_EXT_CAP, .id = PCI_EXT_CAP_ID_##_id, .reg = (_reg),	\
	  .width = (_width), .keep = (_keep), __VA_ARGS__ }

static const struct lu_field lu_bridge_fields[] = {
	/* Type 1 header, PCIe r6.0, sec 7.5.1.1 and 7.5.1.3 */
	HEADER(PCI_COMMAND, 2, LU_DECODE, .set_ok = LU_DECODE),
	HEADER(PCI_STATUS, 2, 0, .w1c = LU_STATUS_W1C),
	/* BARs of a bridge decode ahead of its windows; the second may be an upper half */
	HEADER(PCI_BASE_ADDRESS_0, 4, 0xfffffffc),
	HEADER(PCI_BASE_ADDRESS_1, 4, 0xffffffff),
	HEADER(PCI_PRIMARY_BUS, 1, 0xff),
	HEADER(PCI_SECONDARY_BUS, 1, 0xff),
	HEADER(PCI_SUBORDINATE_BUS, 1, 0xff),
	/* Bits 3:2 are address bits of bridges with I/O windows of 1 KiB */
	HEADER(PCI_IO_BASE, 1, 0xfc),
	HEADER(PCI_IO_LIMIT, 1, 0xfc),
	HEADER(PCI_SEC_STATUS, 2, 0, .w1c = LU_STATUS_W1C),
	HEADER(PCI_MEMORY_BASE, 2, 0xfff0),
	HEADER(PCI_MEMORY_LIMIT, 2, 0xfff0),
	HEADER(PCI_PREF_MEMORY_BASE, 2, 0xfff0),
	HEADER(PCI_PREF_MEMORY_LIMIT, 2, 0xfff0),
	HEADER(PCI_PREF_BASE_UPPER32, 4, 0xffffffff),
	HEADER(PCI_PREF_LIMIT_UPPER32, 4, 0xffffffff),
	HEADER(PCI_IO_BASE_UPPER16, 2, 0xffff),
	HEADER(PCI_IO_LIMIT_UPPER16, 2, 0xffff),
	HEADER(PCI_ROM_ADDRESS1, 4, 0xfffff801),
	HEADER(PCI_BRIDGE_CONTROL, 2, PCI_BRIDGE_CTL_ISA | PCI_BRIDGE_CTL_VGA |
				      LU_BRIDGE_CTL_VGA16 | PCI_BRIDGE_CTL_BUS_RESET,
	       .w1c = LU_BRIDGE_CTL_DTS),

	/* Power state, PCIe r6.0, sec 7.5.2.2 */
	CAP(PM, PCI_PM_CTRL, 2, PCI_PM_CTRL_STATE_MASK, .w1c = PCI_PM_CTRL_PME_STATUS),

	/* PCI Express Capability, PCIe r6.0, sec 7.5.3 */
	CAP(EXP, PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_PAYLOAD),
	CAP(EXP, PCI_EXP_DEVSTA, 2, 0, .w1c = LU_DEVSTA_W1C),
	/* The other end of the link, which is set up alike, takes no write */
	CAP(EXP, PCI_EXP_LNKCTL, 2, PCI_EXP_LNKCTL_ASPMC | PCI_EXP_LNKCTL_LD |
				    PCI_EXP_LNKCTL_RL | PCI_EXP_LNKCTL_CCC),
	CAP(EXP, PCI_EXP_LNKSTA, 2, 0, .w1c = LU_LNKSTA_W1C),
	CAP(EXP, PCI_EXP_SLTCTL, 2, PCI_EXP_SLTCTL_PCC | PCI_EXP_SLTCTL_EIC,
	    .needs = LU_V2_OR_SLOT),
	CAP(EXP, PCI_EXP_SLTSTA, 2, 0, .w1c = LU_SLTSTA_W1C, .needs = LU_V2_OR_SLOT),
	CAP(EXP, PCI_EXP_DEVCTL2, 2, PCI_EXP_DEVCTL2_ARI |
	    PCI_EXP_DEVCTL2_ATOMIC_EGRESS_BLOCK | LU_DEVCTL2_E2E_BLOCK, .needs = LU_V2),

	/* Access Control Services, PCIe r6.0, sec 7.7.11.3 */
	EXT_CAP(ACS, PCI_ACS_CTRL, 2, 0xffff),

	/* A trigger by software takes the link down, PCIe r6.0, sec 6.2.11 */
	EXT_CAP(DPC, PCI_EXP_DPC_CTL, 2, LU_DPC_CTL_SW_TRIGGER),
};

/*
 * What Virtual Functions depend on in their Physical Function. Resets read as zero, so
 * that a write of one is a change.
 */
static const struct lu_field lu_pf_fields[] = {
	HEADER(PCI_STATUS, 2, 0, .w1c = LU_STATUS_W1C),
	CAP(PM, PCI_PM_CTRL, 2, PCI_PM_CTRL_STATE_MASK, .w1c = PCI_PM_CTRL_PME_STATUS),
	/* Of these, Virtual Functions have none of their own (PCIe r6.0, sec 9.3.5) */
	CAP(EXP, PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_PAYLOAD | PCI_EXP_DEVCTL_EXT_TAG |
				    PCI_EXP_DEVCTL_READRQ | PCI_EXP_DEVCTL_BCR_FLR),
	CAP(EXP, PCI_EXP_DEVSTA, 2, 0, .w1c = LU_DEVSTA_W1C),
	/* Advanced Features, PCIe r6.0, sec 7.9.22 */
	CAP(AF, PCI_AF_CTRL, 1, PCI_AF_CTRL_FLR),
	EXT_CAP(ACS, PCI_ACS_CTRL, 2, 0xffff),
	EXT_CAP(ATS, PCI_ATS_CTRL, 2, 0xffff),
	EXT_CAP(PRI, PCI_PRI_CTRL, 2, 0xffff),
	EXT_CAP(PASID, PCI_PASID_CTRL, 2, 0xffff),
	/* SR-IOV, PCIe r6.0, sec 9.3.3; its Status is next to Control */
	EXT_CAP(SRIOV, PCI_SRIOV_CTRL, 2, 0xffff),
	EXT_CAP(SRIOV, PCI_SRIOV_STATUS, 2, 0, .w1c = PCI_SRIOV_STATUS_VFM),
	EXT_CAP(SRIOV, PCI_SRIOV_NUM_VF, 2, 0xffff),
	EXT_CAP(SRIOV, PCI_SRIOV_SYS_PGSIZE, 4, 0xffffffff),
	EXT_CAP(SRIOV, PCI_SRIOV_BAR, 4, 0xfffffff0),
	EXT_CAP(SRIOV, PCI_SRIOV_BAR + 4, 4, 0xffffffff),
	EXT_CAP(SRIOV, PCI_SRIOV_BAR + 8, 4, 0xffffffff),
	EXT_CAP(SRIOV, PCI_SRIOV_BAR + 12, 4, 0xffffffff),
	EXT_CAP(SRIOV, PCI_SRIOV_BAR + 16, 4, 0xffffffff),
	EXT_CAP(SRIOV, PCI_SRIOV_BAR + 20, 4, 0xffffffff),
};

#define LU_MAX_FIELDS	max(ARRAY_SIZE(lu_bridge_fields), ARRAY_SIZE(lu_pf_fields))

/**
 * struct lu_word - what is protected in an aligned double word
 * @offset: in configuration space
 * @keep: as in &struct lu_field
 * @set_ok: as in &struct lu_field
 * @w1c: as in &struct lu_field
 */
struct lu_word {
	u16 offset;
	u32 keep;
	u32 set_ok;
	u32 w1c;
};

/* Ways to a write that are logged once per function; more than these are only counted */
#define LU_SITES	16

/**
 * struct lu_guard - a guarded function
 * @dev: who it is. Not to be followed: it may go, by ways that know nothing of
 *	 the guard, between the moment it is matched and the moment it can be held.
 * @flags: its &pci_dev.lu_flags
 * @all: no write at all goes through
 * @dropped: writes that did not reach it as they were meant
 * @sites: hashes of the stacks of those that have been logged
 * @rcu: for freeing
 * @nr_words: entries in @words
 * @words: what is protected, unless @all
 */
struct lu_guard {
	const struct pci_dev *dev;
	unsigned long flags;
	bool all;
	atomic_t dropped;
	atomic_t sites[LU_SITES];
	struct rcu_head rcu;
	int nr_words;
	struct lu_word words[] __counted_by(nr_words);
};

/* &struct lu_guard by domain and Requester ID, see pci_lu_key() */
static DEFINE_XARRAY(lu_guards);

DEFINE_STATIC_KEY_FALSE(pci_lu_guard_key);

/* Parts of the tree that are being recovered, reset or switched off; few, short, and rare */
static LIST_HEAD(lu_bypasses);
static atomic_t lu_nr_bypasses;
static DEFINE_RAW_SPINLOCK(lu_bypass_lock);

/* --- who is guarded --------------------------------------------------------- */

static void add_field(struct lu_guard *guard, u16 offset, const struct lu_field *field)
{
	int shift = 8 * (offset & 3);
	struct lu_word *word = NULL;

	for (int i = 0; i < guard->nr_words; i++)
		if (guard->words[i].offset == (offset & ~3))
			word = &guard->words[i];
	if (!word) {
		guard->nr_words++;
		word = &guard->words[guard->nr_words - 1];
		word->offset = offset & ~3;
	}
	word->keep |= field->keep << shift;
	word->set_ok |= field->set_ok << shift;
	word->w1c |= field->w1c << shift;
}

/* Returns where the registers begin that the field is one of, negative if nowhere. */
static int base_of(struct pci_dev *dev, const struct lu_field *field)
{
	u16 pos = 0;

	if (field->where == LU_HEADER)
		return 0;
	if (field->where == LU_EXT_CAP && dev->pcie_cap)
		pos = pci_find_ext_capability(dev, field->id);
	else if (field->where == LU_CAP && field->id == PCI_CAP_ID_EXP)
		pos = dev->pcie_cap;
	else if (field->where == LU_CAP)
		pos = pci_find_capability(dev, field->id);
	return pos ?: -ENOENT;
}

/* At most a word for each of the fields */
static void add_fields(struct lu_guard *guard, struct pci_dev *dev,
		       const struct lu_field *fields, int nr)
{
	for (int i = 0; i < nr; i++) {
		const struct lu_field *field = &fields[i];
		int base = base_of(dev, field);

		if (base < 0)
			continue;
		if (field->needs && !(dev->pcie_flags_reg & field->needs))
			continue;
		add_field(guard, base + field->reg, field);
	}
}

static bool is_settled(struct pci_dev *dev)
{
	return test_bit(PCI_LU_CLAIMED, &dev->lu_flags) ||
	       test_bit(PCI_LU_STOPPED, &dev->lu_flags);
}

/* Does it take no write at all? It has no owner, then, or not yet */
static bool guards_all(struct pci_dev *dev)
{
	return dev->hdr_type != PCI_HEADER_TYPE_BRIDGE && !is_settled(dev) &&
	       test_bit(PCI_LU_ADOPTED, &dev->lu_flags);
}

static struct lu_guard *guard_create(struct pci_dev *dev)
{
	bool all = guards_all(dev);
	struct lu_guard *guard;

	guard = kzalloc(struct_size(guard, words, all ? 0 : LU_MAX_FIELDS), GFP_KERNEL);
	if (!guard)
		return NULL;

	guard->dev = dev;
	guard->flags = dev->lu_flags;
	guard->all = all;
	if (all)
		return guard;
	if (dev->hdr_type == PCI_HEADER_TYPE_BRIDGE)
		add_fields(guard, dev, lu_bridge_fields, ARRAY_SIZE(lu_bridge_fields));
	else
		add_fields(guard, dev, lu_pf_fields, ARRAY_SIZE(lu_pf_fields));
	return guard;
}

static bool is_guarded(struct pci_dev *dev)
{
	bool adopted = test_bit(PCI_LU_ADOPTED, &dev->lu_flags);

	/* Removed or reset: what was to be kept is gone, and another may come */
	if (test_bit(PCI_LU_DEAD, &dev->lu_flags))
		return false;
	/* What another function does about its Virtual Functions does not matter */
	if (dev->hdr_type == PCI_HEADER_TYPE_BRIDGE ||
	    (test_bit(PCI_LU_PF, &dev->lu_flags) && !test_bit(PCI_LU_LOST, &dev->lu_flags)))
		return adopted || test_bit(PCI_LU_OUTGOING, &dev->lu_flags);
	return adopted && !is_settled(dev);
}

static unsigned long guard_key(struct pci_bus *bus, unsigned int devfn)
{
	return pci_lu_key(pci_domain_nr(bus), PCI_DEVID(bus->number, devfn));
}

/**
 * pci_lu_guard_forget - no longer guard a function that nobody has
 * @key: of a function that was matched and not added, see pci_lu_key()
 *
 * Context: process context, pci_lu_rwsem held for writing.
 */
void pci_lu_guard_forget(unsigned long key)
{
	struct lu_guard *guard = xa_erase(&lu_guards, key);

	if (guard)
		kfree_rcu(guard, rcu);
}

/**
 * pci_lu_guard_update - guard a function, or no longer, as its flags tell
 * @dev: function whose &pci_dev.lu_flags have changed
 *
 * Reads the capability lists of a bridge that was not guarded before, and writes
 * nothing. Its PCI Express Capability has been found already.
 *
 * Context: process context, pci_lu_rwsem held for writing.
 */
void pci_lu_guard_update(struct pci_dev *dev)
{
	unsigned long key = guard_key(dev->bus, dev->devfn);
	struct lu_guard *guard = xa_load(&lu_guards, key);

	if (guard && guard->dev != dev) {
		/* Another function is in the place of this one, which was removed */
		if (!is_guarded(dev))
			return;
		/* This one is in the place of another that was found and not added */
		pci_lu_guard_forget(key);
		guard = NULL;
	}

	if (guard && is_guarded(dev) && guard->all == guards_all(dev)) {
		WRITE_ONCE(guard->flags, dev->lu_flags);
		return;
	}
	if (guard) {
		xa_erase(&lu_guards, key);
		dev->lu_guard_count += atomic_read(&guard->dropped);
		kfree_rcu(guard, rcu);
	}
	if (is_guarded(dev)) {
		guard = guard_create(dev);
		if (guard && !xa_err(xa_store(&lu_guards, key, guard, GFP_KERNEL)))
			return;
		kfree(guard);
		pr_warn("no memory to guard the configuration of %s\n", pci_name(dev));
	}
}

/**
 * pci_lu_guard_start - something is preserved, or was by the previous kernel
 *
 * Context: process context, not with pci_lu_rwsem held.
 */
void pci_lu_guard_start(void)
{
	static_branch_inc(&pci_lu_guard_key);
}

/**
 * pci_lu_guard_end - undo pci_lu_guard_start()
 *
 * Context: process context, not with pci_lu_rwsem held.
 */
void pci_lu_guard_end(void)
{
	static_branch_dec(&pci_lu_guard_key);
}

/**
 * pci_lu_guard_count - writes that did not reach a function as they were meant
 * @dev: device or bridge
 *
 * Context: process context. Takes pci_lu_rwsem for reading.
 * Return: their number since @dev was found.
 */
unsigned int pci_lu_guard_count(struct pci_dev *dev)
{
	struct lu_guard *guard;

	guard(rwsem_read)(&pci_lu_rwsem);
	guard = xa_load(&lu_guards, guard_key(dev->bus, dev->devfn));
	if (!guard || guard->dev != dev)
		return dev->lu_guard_count;
	return dev->lu_guard_count + atomic_read(&guard->dropped);
}

/* --- who may all the same ----------------------------------------------------- */

void __pci_liveupdate_bypass_begin(struct pci_liveupdate_bypass *bypass,
				   struct pci_dev *dev)
{
	bypass->dev = dev;
	scoped_guard(raw_spinlock_irqsave, &lu_bypass_lock)
		list_add(&bypass->node, &lu_bypasses);
	atomic_inc(&lu_nr_bypasses);
}

void __pci_liveupdate_bypass_end(struct pci_liveupdate_bypass *bypass)
{
	atomic_dec(&lu_nr_bypasses);
	guard(raw_spinlock_irqsave)(&lu_bypass_lock);
	list_del(&bypass->node);
}

/* Is @dev the function at @devfn on @bus, or a bridge above it? */
static bool is_at_or_above(struct pci_dev *dev, struct pci_bus *bus, unsigned int devfn)
{
	if (dev->bus == bus && dev->devfn == devfn)
		return true;
	for (; bus; bus = bus->parent)
		if (bus->self == dev)
			return true;
	return false;
}

static bool is_bypassed(const struct pci_lu_write *write)
{
	struct pci_liveupdate_bypass *bypass;

	if (!atomic_read(&lu_nr_bypasses))
		return false;

	guard(raw_spinlock_irqsave)(&lu_bypass_lock);
	list_for_each_entry(bypass, &lu_bypasses, node)
		if (is_at_or_above(bypass->dev, write->bus, write->devfn))
			return true;
	return false;
}

/* --- the judgement ------------------------------------------------------------- */

/* Returns true if the write may go through as it is; otherwise says what of it may */
static bool judge(const struct lu_word *word, struct pci_lu_write *write)
{
	int shift = 8 * (write->where & 3);
	u32 access = GENMASK(8 * write->size - 1, 0);
	u32 w1c = word->w1c >> shift;
	u32 bad, rest;

	bad = (write->current_value ^ write->value) & word->keep >> shift & access;
	bad &= ~(word->set_ok >> shift & write->value);
	if (!bad)
		return true;

	/* Bad bits stay; is there anything else that the write would do? */
	write->passed = (write->value & ~bad) | (write->current_value & bad);
	rest = ((write->current_value ^ write->passed) & ~w1c) | (write->passed & w1c);
	write->through = rest & access;
	return false;
}

/* Bridges are at the end of their slow path anyway: some twenty words to look at */
static const struct lu_word *find_word(const struct lu_guard *guard, int where)
{
	for (int i = 0; i < guard->nr_words; i++)
		if (guard->words[i].offset == (where & ~3) && guard->words[i].keep)
			return &guard->words[i];
	return NULL;
}

/* The way down of what the next kernel does not get: it ends in resets or nothing */
static bool is_shut_down(const struct lu_guard *guard)
{
	return system_state > SYSTEM_RUNNING && system_state < SYSTEM_SUSPEND &&
	       !(READ_ONCE(guard->flags) & BIT(PCI_LU_OUTGOING));
}

/* Ways of the kernel to a write, as they are told in the log */
#define LU_CALLERS	8
#define LU_CALLER_LEN	40

static bool is_new_site(struct lu_guard *guard, u32 site)
{
	for (int i = 0; i < LU_SITES; i++) {
		int was = atomic_cmpxchg(&guard->sites[i], 0, site);

		if (!was)
			return true;
		if (was == site)
			return false;
	}
	return false;
}

static void report(struct lu_guard *guard, const struct pci_lu_write *write)
{
	char callers[LU_CALLERS * LU_CALLER_LEN] = "";
	unsigned long stack[LU_CALLERS];
	unsigned int nr;
	int len = 0;

	atomic_inc(&guard->dropped);
	trace_pci_liveupdate_guard(write);

	nr = stack_trace_save(stack, ARRAY_SIZE(stack), 1);
	if (!is_new_site(guard, jhash(stack, nr * sizeof(stack[0]), 0) ?: 1))
		return;
	for (unsigned int i = 0; i < nr; i++)
		len += scnprintf(callers + len, sizeof(callers) - len, " < %ps", (void *)stack[i]);
	pr_err("%04x:%02x:%02x.%d: %d-byte write of %#x to %#x %s: a preserved device needs it as it is%s\n",
	       pci_domain_nr(write->bus), write->bus->number, PCI_SLOT(write->devfn),
	       PCI_FUNC(write->devfn), write->size, write->value, write->where,
	       write->through ? "dropped in part" : "dropped", callers);
}

/* Returns true if the write may go through as it is */
static bool may_write(struct lu_guard *guard, struct pci_lu_write *write)
{
	const struct lu_word *word;

	if (pci_lu_break & PCI_LU_BREAK_GUARD || is_shut_down(guard) || is_bypassed(write))
		return true;

	if (!guard->all) {
		word = find_word(guard, write->where);
		if (!word)
			return true;
		/* The accessors' lock, where there is one, is held: not through them */
		if (write->bus->ops->read(write->bus, write->devfn, write->where,
					  write->size, &write->current_value))
			PCI_SET_ERROR_RESPONSE(&write->current_value);
		if (judge(word, write))
			return true;
	}

	report(guard, write);
	return false;
}

/**
 * __pci_liveupdate_write - write to configuration space what may be written
 * @bus: bus
 * @devfn: device and function
 * @where: aligned offset
 * @size: 1, 2 or 4
 * @value: value
 *
 * Context: any; pci_lock held where configuration accesses take it.
 * Return: PCIBIOS_SUCCESSFUL, also if only a part of the bits went through;
 * PCIBIOS_SET_FAILED if nothing did; or the error of the access.
 */
int __pci_liveupdate_write(struct pci_bus *bus, unsigned int devfn, int where,
			   int size, u32 value)
{
	struct pci_lu_write write = {
		.bus	= bus,
		.devfn	= devfn,
		.where	= where,
		.size	= size,
		.value	= value,
	};
	struct lu_guard *guard;

	guard(rcu)();
	guard = xa_load(&lu_guards, guard_key(bus, devfn));
	if (guard && !may_write(guard, &write)) {
		if (!write.through)
			return PCIBIOS_SET_FAILED;
		value = write.passed;
	}
	return bus->ops->write(bus, devfn, where, size, value);
}
