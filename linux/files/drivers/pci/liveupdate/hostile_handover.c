// SPDX-License-Identifier: GPL-2.0
/*
 * PCI Live Update: hand-overs that are not what they should be, for tests of who
 * reads them. All is serialized when they are spoilt.
 */

#include <linux/init.h>
#include <linux/io.h>
#include <linux/kexec.h>
#include <linux/kexec_handover.h>
#include <linux/kho/abi/block.h>
#include <linux/kho/abi/iommu.h>
#include <linux/kho/abi/kexec_handover.h>
#include <linux/kho/abi/luo.h>
#include <linux/libfdt.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/reboot.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include <linux/unaligned.h>

#include "internal.h"

#undef MODULE_PARAM_PREFIX
#define MODULE_PARAM_PREFIX "pci_liveupdate_hostile."

static char *lu_spoil;
module_param_named(spoil, lu_spoil, charp, 0600);
MODULE_PARM_DESC(spoil, "what the next kernel cannot read: version, tree, map, luo, flbs or header");

static char *lu_forget;
module_param_named(forget, lu_forget, charp, 0600);
MODULE_PARM_DESC(forget, "tables of frozen domains whose memory is not kept: root, context, directory, pasid or page");

/* In no machine */
#define LU_NOWHERE	BIT_ULL(51)

static bool lu_spoils(const char *what)
{
	return lu_spoil && sysfs_streq(lu_spoil, what);
}

static bool lu_forgets(const char *what)
{
	return lu_forget && sysfs_streq(lu_forget, what);
}

static void lu_forget_table(u64 address)
{
	kho_unpreserve_folio(pfn_folio(PHYS_PFN(address)));
}

/* What a unit leads to: each present entry has its bit 0 set, and the address of a table */
static void lu_forget_below(u64 address, bool scalable)
{
	static const char * const kinds[] = { "root", "context", "directory", "pasid" };
	/* In steps of so many words: entries of a root table have two of them that may lead on */
	int steps[] = { 1, scalable ? 4 : 2, 1, 8 };
	int last = scalable ? 3 : 1;
	u64 *tables[] = { phys_to_virt(address), NULL, NULL, NULL };
	int at[ARRAY_SIZE(tables)] = { 0 };
	int level = 0;

	while (level >= 0) {
		u64 entry;

		if (level == last || lu_forgets(kinds[level]) ||
		    at[level] >= PAGE_SIZE / sizeof(u64)) {
			if (lu_forgets(kinds[level]))
				lu_forget_table(virt_to_phys(tables[level]));
			level--;
			continue;
		}
		entry = tables[level][at[level]];
		at[level] += steps[level];
		if (!(entry & 1))
			continue;
		level++;
		tables[level] = phys_to_virt(entry & PAGE_MASK);
		at[level] = 0;
	}
}

static void *lu_first_entry(u64 set)
{
	return (struct kho_block_header_ser *)phys_to_virt(set) + 1;
}

static void lu_forget_tables(const struct iommu_liveupdate_ser *ser)
{
	const struct iommu_liveupdate_unit_ser *unit = lu_first_entry(ser->units);
	const struct iommu_liveupdate_domain_ser *domain = lu_first_entry(ser->domains);

	/* A test has no more of them than there is room for in a block */
	for (u64 n = 0; n < ser->nr_units; n++)
		lu_forget_below(unit[n].root, unit[n].kind == IOMMU_LIVEUPDATE_VTD_SCALABLE);
	if (lu_forgets("page"))
		for (u64 n = 0; n < ser->nr_domains; n++)
			lu_forget_table(domain[n].table);
}

/* What LUO hands over of PCI, or NULL */
static struct luo_flb_ser *lu_flb(const struct luo_ser *luo)
{
	struct luo_flb_header_ser *header = phys_to_virt(luo->flbs_pa);
	struct luo_flb_ser *flb = (void *)(header + 1);

	for (u64 i = 0; i < header->count; i++)
		if (!strcmp(flb[i].name, PCI_LIVEUPDATE_COMPATIBLE))
			return &flb[i];
	return NULL;
}

static int lu_reboot(struct notifier_block *nb, unsigned long event, void *unused)
{
	const struct pci_liveupdate_header_ser *header;
	struct luo_flb_ser *flb;
	struct luo_ser *luo;
	char *version;
	u64 *where;
	void *fdt;
	int len;

	if (!(lu_spoil || lu_forget) || !kexec_in_progress || !kexec_image->kho.fdt)
		return NOTIFY_DONE;

	fdt = phys_to_virt(kexec_image->kho.fdt);
	where = fdt_getprop_w(fdt, fdt_subnode_offset(fdt, 0, LUO_KHO_ENTRY_NAME),
			      KHO_SUB_TREE_PROP_NAME, NULL);
	if (WARN_ON(!where))
		return NOTIFY_DONE;
	luo = phys_to_virt(*where);
	flb = lu_flb(luo);
	if (WARN_ON(!flb))
		return NOTIFY_DONE;

	if (lu_spoils("version")) {
		version = fdt_getprop_w(fdt, 0, "compatible", &len);
		if (!WARN_ON(!version || len < 2))
			version[len - 2]++;
	} else if (lu_spoils("tree")) {
		fdt_set_magic(fdt, ~FDT_MAGIC);
	} else if (lu_spoils("map")) {
		where = fdt_getprop_w(fdt, 0, KHO_FDT_MEMORY_MAP_PROP_NAME, NULL);
		if (!WARN_ON(!where))
			put_unaligned(get_unaligned(where) ^ LU_NOWHERE, where);
	} else if (lu_spoils("luo")) {
		*where ^= LU_NOWHERE;
	} else if (lu_spoils("flbs")) {
		luo->flbs_pa ^= LU_NOWHERE;
	} else if (lu_spoils("header")) {
		flb->data ^= LU_NOWHERE;
	}

	if (lu_forget) {
		header = phys_to_virt(flb->data);
		if (!WARN_ON(!header->iommu))
			lu_forget_tables(phys_to_virt(header->iommu));
	}
	return NOTIFY_DONE;
}

static struct notifier_block lu_reboot_nb = {
	.notifier_call = lu_reboot,
};

static int __init lu_hostile_init(void)
{
	return register_reboot_notifier(&lu_reboot_nb);
}
late_initcall(lu_hostile_init);
