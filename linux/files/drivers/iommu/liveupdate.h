/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Between what all IOMMUs have in common about Live Update and their drivers.
 */
#ifndef __DRIVERS_IOMMU_LIVEUPDATE_H
#define __DRIVERS_IOMMU_LIVEUPDATE_H

#include <linux/kho/abi/iommu.h>
#include <linux/list.h>
#include <linux/types.h>

/* Outgoing: what has been set down for the next kernel */
struct iommu_liveupdate_unit_ser *iommu_lu_unit(u32 kind, u32 segment, u64 base, u32 *nr);
struct iommu_liveupdate_domain_ser *iommu_lu_domain(u32 unit, u64 table, u32 *nr, bool *known);
int iommu_lu_page(void *page, u64 *first, u64 *nr);

/* What the driver makes of it, and what it does if there is no kexec */
int iommu_lu_build(void);
void iommu_lu_forget(void);

/**
 * struct iommu_lu_domain_in - a domain that the previous kernel has frozen
 * @table:	top of its page table
 * @unit:	number of its unit
 * @levels:	levels of the page table
 * @format:	&enum iommu_liveupdate_format
 * @first_page:	first of its pages
 * @nr_pages:	how many it has
 * @users:	devices that are in it still
 */
struct iommu_lu_domain_in {
	u64 table;
	u32 unit;
	u32 levels;
	u32 format;
	u64 first_page;
	u64 nr_pages;
	u32 users;
};

/**
 * struct iommu_lu_in - all that was handed over, checked as far as it can be by itself
 * @units:	its units, as they are
 * @domains:	its domains
 * @pages:	addresses with orders
 * @nr_units:	entries of @units
 * @nr_domains:	entries of @domains
 * @nr_pages:	entries of @pages
 */
struct iommu_lu_in {
	struct iommu_liveupdate_unit_ser *units;
	struct iommu_lu_domain_in *domains;
	u64 *pages;
	u32 nr_units;
	u32 nr_domains;
	u64 nr_pages;
};

const char *iommu_lu_read(u64 pa, struct iommu_lu_in *in);
const char *iommu_lu_check(const struct iommu_lu_in *in,
			   const struct iommu_liveupdate_domain_ser *domains);
void iommu_lu_free(const struct iommu_lu_in *in, u64 first, u64 nr);
bool iommu_lu_is_shared(const struct iommu_lu_in *in, const struct iommu_lu_domain_in *domain);
bool iommu_lu_has_page(const struct iommu_lu_in *in, u64 first, u64 nr, u64 address);

#endif /* __DRIVERS_IOMMU_LIVEUPDATE_H */
