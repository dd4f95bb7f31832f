// SPDX-License-Identifier: GPL-2.0
/*
 * GICv3 and Live Update: what the hardware keeps in memory during a kexec.
 */

/**
 * DOC: Tables of a GICv3 during a kexec
 *
 * A redistributor whose GICR_CTLR.EnableLPIs is set reads the configuration of
 * LPIs from one table in memory and keeps those that are pending in another,
 * when it likes. Whether the bit can be cleared again is IMPLEMENTATION DEFINED
 * (Arm IHI 0069, GICR_CTLR), and where it can, the processor to which the
 * redistributor belongs may be off. So it stays set, and the two tables are
 * handed over. There is no record of it: the next kernel reads in the
 * redistributor's registers where they are, finds that KHO has reserved that
 * memory, and goes on with them as with tables that EFI reserves for it. With
 * any other kernel they are nobody's memory, and nothing is harmed.
 *
 * An ITS has its own tables, and one for each device. It can always be switched
 * off, and GITS_CTLR.Quiescent then says that it has done with memory. This is
 * one of the last things that a kernel does that goes, after the other CPUs have
 * moved their interrupts here through the ITS. What MSIs devices raise from then
 * on is lost, as it is in the next kernel until it has set up its own ITS
 * tables; preserved devices have theirs masked, and keep what is pending.
 * Virtual CPUs have gone with the CPUs that they ran on; their table, which
 * GICv4.1 redistributors share with the ITS, is taken from them then, too.
 *
 * All this is for every kexec of a kernel that can hand memory over (``kho=on``),
 * whether or not a device is preserved: memory that is, a guest's for instance, is no
 * less in danger.
 */

#define pr_fmt(fmt) "GICv3 Live Update: " fmt

#include <linux/align.h>
#include <linux/cleanup.h>
#include <linux/cpu.h>
#include <linux/cpufeature.h>
#include <linux/cpuhotplug.h>
#include <linux/init.h>
#include <linux/irqchip/arm-gic-v3.h>
#include <linux/irqchip/arm-gic-v3-liveupdate.h>
#include <linux/kexec_handover.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/panic.h>
#include <linux/pci_liveupdate.h>
#include <linux/percpu.h>
#include <linux/pfn.h>
#include <linux/sizes.h>
#include <linux/slab.h>

static struct {
	struct rdists *rdists;
	int (*for_each_rdist)(gic_rdist_fn fn);
	gic_rdist_fn reset_vpes;
	int (*stop_its)(void *unused);
} gic __ro_after_init;

/**
 * struct kept_table - memory that the next kernel finds reserved
 * @list: in &kept
 * @at:	  where it is
 */
struct kept_table {
	struct list_head list;
	phys_addr_t at;
};

static LIST_HEAD(kept);
static DEFINE_MUTEX(kept_lock);

/* Tables are handed over */
static bool keeping __ro_after_init;

/* Why they cannot be */
static int keep_error;

/* How the walk that has just ended went: what it calls cannot tell */
static int walk_error;

/**
 * gic_liveupdate_init - remember the redistributors
 * @rdists:	  what the driver knows about those of CPUs that have been up
 * @for_each_rdist: walks all, also those of CPUs that never have been
 * @reset_vpes:	  has a redistributor forget about virtual CPUs, as at boot
 */
void __init gic_liveupdate_init(struct rdists *rdists,
				int (*for_each_rdist)(gic_rdist_fn fn),
				gic_rdist_fn reset_vpes)
{
	gic.rdists = rdists;
	gic.for_each_rdist = for_each_rdist;
	gic.reset_vpes = reset_vpes;
}

/**
 * gic_liveupdate_init_its - remember that there is an ITS
 * @stop_its: switches all ITSes off and waits until they are quiescent; returns
 *	      0 or an errno. Its argument means nothing.
 */
void __init gic_liveupdate_init_its(int (*stop_its)(void *unused))
{
	gic.stop_its = stop_its;
}

static int keep_table(phys_addr_t at, u64 size)
{
	struct kept_table *table;
	int err;

	/* Firmware may have given it memory that is not Linux's to give away */
	if (!pfn_valid(PHYS_PFN(at)))
		return 0;

	guard(mutex)(&kept_lock);
	list_for_each_entry(table, &kept, list)
		if (table->at == at)
			return 0;	/* redistributors share the properties */

	table = kmalloc_obj(*table);
	if (!table)
		return -ENOMEM;
	table->at = at;
	err = kho_preserve_pages(phys_to_page(at), ALIGN(size, SZ_64K) >> PAGE_SHIFT);
	if (err) {
		kfree(table);
		return err;
	}
	list_add(&table->list, &kept);
	return 0;
}

/*
 * The registers have the last word on what the hardware uses: tables that this
 * kernel took over, too, and those of CPUs that it never brought up.
 */
static int keep_tables(void __iomem *rd)
{
	u64 prop, pend, size;
	int err;

	if (!(readl_relaxed(rd + GICR_CTLR) & GICR_CTLR_ENABLE_LPIS))
		return 0;

	prop = gicr_read_propbaser(rd + GICR_PROPBASER);
	pend = gicr_read_pendbaser(rd + GICR_PENDBASER);
	/* A byte for each interrupt in the one, a bit in the other */
	size = BIT_ULL((prop & GICR_PROPBASER_IDBITS_MASK) + 1);

	err = keep_table(GICR_PROPBASER_ADDRESS(prop), size);
	if (err)
		return err;
	return keep_table(GICR_PENDBASER_ADDRESS(pend), size / BITS_PER_BYTE);
}

static int preserve_one(struct redist_region *region, void __iomem *rd)
{
	walk_error = keep_tables(rd);
	return !walk_error;	/* 0 ends the walk */
}

/* A CPU that comes up for the first time has set EnableLPIs by now */
static int preserve_cpu(unsigned int cpu)
{
	return keep_tables(per_cpu_ptr(gic.rdists->rdist, cpu)->rd_base);
}

static int __init gic_liveupdate_keep(void)
{
	if (!gic.stop_its || !kho_is_enabled() || pci_liveupdate_leaves_out(PCI_LIVEUPDATE_GIC))
		return 0;

	/* CPUs that come up later */
	keep_error = cpuhp_setup_state_nocalls(CPUHP_AP_ONLINE_DYN,
					       "irqchip/arm/gicv3/liveupdate:online",
					       preserve_cpu, NULL);
	if (keep_error >= 0) {
		gic.for_each_rdist(preserve_one);
		keep_error = walk_error;
	}
	if (keep_error)
		pr_err("tables cannot be handed over, and no PCI device be preserved: %pe\n",
		       ERR_PTR(keep_error));
	keeping = true;
	return 0;
}
late_initcall(gic_liveupdate_keep);

/**
 * gic_liveupdate_may_preserve - can the next kernel take the interrupt controller over?
 *
 * Context: any, after boot.
 * Return: 0, also if there is nothing to take over; -EOPNOTSUPP if the interrupt
 * controller is one that cannot be, after a message; -ENOMEM or -ENOSPC, after a message
 * at boot, if its tables could not be handed over.
 */
int gic_liveupdate_may_preserve(void)
{
	if (!gic.rdists && cpus_have_final_cap(ARM64_HAS_GICV5_CPUIF)) {
		pr_err("PCI devices cannot be preserved: a GICv5 keeps its tables, and the next kernel does not take them over; use a machine with GICv3 or GICv4\n");
		return -EOPNOTSUPP;
	}
	return keep_error;
}

/**
 * gic_liveupdate_shutdown - keep the ITSes from memory that is about to be given away
 *
 * An ITS that goes on all the same may write anywhere once its tables are
 * somebody else's, hence the panic: the firmware's way to boot is still there.
 *
 * Context: of a kexec that is under way, on the only CPU that is left.
 */
void gic_liveupdate_shutdown(void)
{
	if (!keeping)
		return;
	if (gic.stop_its(NULL))
		panic("GICv3: an ITS does not stop, and would write to memory of the next kernel; boot through firmware");
	gic.for_each_rdist(gic.reset_vpes);
}
