/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Frozen IOMMU domains: the structures one kernel hands to the next.
 */
#ifndef _LINUX_KHO_ABI_IOMMU_H
#define _LINUX_KHO_ABI_IOMMU_H

#include <linux/build_bug.h>
#include <linux/types.h>

/**
 * DOC: IOMMU Live Update ABI
 *
 * A preserved PCI device whose verdict is %PCI_LIVEUPDATE_DMA_TRANSLATED goes on with
 * DMA through an IOMMU domain that is frozen: from freeze on nobody changes its page
 * table. What the hardware may read until the next kernel has tables of its own is
 * handed over, and nothing else of the domain: page tables in the format of the
 * hardware, which both kernels know, and lists of the pages that they are made of.
 *
 * The header of the PCI records (linux/kho/abi/pci.h, version 2) says where
 * &struct iommu_liveupdate_ser is, and a device's record which domain it is in. There
 * is no version here: it is that of the PCI records. What is reserved is zero, and a
 * reader refuses it if it is not.
 *
 * Units, domains and pages are in a &struct kho_block_set each, and have numbers from
 * zero in that order. Each entry of a page has one user: those of the domains come first, in
 * the order of these, then those of the units. A page table that several units use is that of
 * a domain of each, and its pages have entries for each: they can be freed with the last of
 * these. The pages of a domain are in the order in which a walk
 * from the first entry of the top of its page table on meets them, first of what an entry
 * leads to, and then of the next entry.
 */

/**
 * struct iommu_liveupdate_ser - all that is frozen
 * @units:	physical address of the first block of units
 * @domains:	the same of domains
 * @pages:	the same of pages
 * @nr_units:	how many units there are
 * @nr_domains:	how many domains
 * @nr_pages:	how many entries of pages
 * @reserved:	zero
 */
struct iommu_liveupdate_ser {
	u64 units;
	u64 domains;
	u64 pages;
	u64 nr_units;
	u64 nr_domains;
	u64 nr_pages;
	u64 reserved[10];
};

static_assert(sizeof(struct iommu_liveupdate_ser) == 128);

/**
 * enum iommu_liveupdate_kind - which hardware, and how its tables are to be read
 * @IOMMU_LIVEUPDATE_VTD_LEGACY: VT-d in legacy mode: a root table and context tables
 *	(VT-d 4.1, sec 9.1 and 9.3)
 * @IOMMU_LIVEUPDATE_VTD_SCALABLE: VT-d in scalable mode: a root table, context tables,
 *	PASID directories of the smallest size and PASID tables (sec 9.2, 9.4 to 9.6), of
 *	which the entry of PASID 0 is in use and no other
 * @IOMMU_LIVEUPDATE_KIND_NR: number of kinds, not one itself
 */
enum iommu_liveupdate_kind {
	IOMMU_LIVEUPDATE_VTD_LEGACY	= 0,
	IOMMU_LIVEUPDATE_VTD_SCALABLE	= 1,
	IOMMU_LIVEUPDATE_KIND_NR
};

/**
 * enum iommu_liveupdate_format - how a page table is to be read
 * @IOMMU_LIVEUPDATE_VTD_SECOND: VT-d second stage (VT-d 4.1, sec 9.8)
 * @IOMMU_LIVEUPDATE_VTD_FIRST: VT-d first stage (sec 9.7); in scalable mode only
 * @IOMMU_LIVEUPDATE_FORMAT_NR: number of formats, not one itself
 */
enum iommu_liveupdate_format {
	IOMMU_LIVEUPDATE_VTD_SECOND	= 0,
	IOMMU_LIVEUPDATE_VTD_FIRST	= 1,
	IOMMU_LIVEUPDATE_FORMAT_NR
};

/**
 * struct iommu_liveupdate_unit_ser - an IOMMU that goes on translating
 * @base:	physical address of its registers
 * @root:	physical address of the table that they point to. It has entries for
 *		the devices that are in a frozen domain, and for those that firmware
 *		wants to have access to memory all the time
 * @segment:	PCI domain (segment) number
 * @kind:	&enum iommu_liveupdate_kind
 * @first_page:	number of the first of its pages
 * @nr_pages:	how many it has. They can be freed once the unit has other tables
 * @reserved:	zero
 */
struct iommu_liveupdate_unit_ser {
	u64 base;
	u64 root;
	u32 segment;
	u32 kind;
	u64 first_page;
	u64 nr_pages;
	u64 reserved[3];
};

static_assert(sizeof(struct iommu_liveupdate_unit_ser) == 64);

/**
 * struct iommu_liveupdate_domain_ser - a frozen domain
 * @table:	physical address of the top of its page table, which is its first page
 * @unit:	number of the unit that it belongs to
 * @levels:	levels of the page table
 * @first_page:	number of the first of its pages
 * @nr_pages:	how many it has. They can be freed once no device is in the domain
 * @format:	&enum iommu_liveupdate_format
 * @reserved32:	zero
 * @reserved:	zero
 */
struct iommu_liveupdate_domain_ser {
	u64 table;
	u32 unit;
	u32 levels;
	u64 first_page;
	u64 nr_pages;
	u32 format;
	u32 reserved32;
	u64 reserved[3];
};

static_assert(sizeof(struct iommu_liveupdate_domain_ser) == 64);

/**
 * struct iommu_liveupdate_page_ser - memory that the hardware may read
 * @address:	physical address, and in its lower 12 bits the order: 2^order times
 *		4 KiB, in one piece and aligned to its size
 */
struct iommu_liveupdate_page_ser {
	u64 address;
};

static_assert(sizeof(struct iommu_liveupdate_page_ser) == 8);

#endif /* _LINUX_KHO_ABI_IOMMU_H */
