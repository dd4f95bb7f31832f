/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where VT-d asks about Live Update, see liveupdate.c and liveupdate_in.c.
 */
#ifndef _INTEL_LIVEUPDATE_H
#define _INTEL_LIVEUPDATE_H

#include "iommu.h"

/**
 * struct vtd_lu_walk - what to do with a page table
 * @table:	asked of each page of the table, NULL: nothing
 * @leaf:	asked of each leaf: @rights are DMA_PTE_READ and DMA_PTE_WRITE
 * @trusted:	the table is this kernel's own
 * @data:	for both, which return 0 or the error to stop with
 */
struct vtd_lu_walk {
	int (*table)(void *data, u64 address);
	int (*leaf)(void *data, u64 iova, u64 address, u64 size, u64 rights);
	bool trusted;
	void *data;
};

int vtd_lu_walk(const struct vtd_lu_walk *walk, u64 table, int level, u64 iova);
u64 vtd_lu_lookup(u64 table, int levels, u64 iova, u64 *size, u64 *rights);

#ifdef CONFIG_PCI_LIVEUPDATE_VTD

/* The previous kernel has frozen domains here */
extern bool intel_lu_used;

bool intel_lu_shutdown(struct intel_iommu *iommu);
bool intel_lu_prepare(void);
bool intel_lu_adopts(struct intel_iommu *iommu);
int intel_lu_copy(struct intel_iommu *iommu);
void intel_lu_done(void);
int __intel_lu_may_attach(struct dmar_domain *domain, struct device *dev);
void __intel_lu_attached(struct device *dev, bool end);
void __intel_lu_switch(struct intel_iommu *iommu, struct context_entry *live,
		       const struct context_entry *new, u8 bus, u8 devfn);

#else

#define intel_lu_used		false

static inline bool intel_lu_shutdown(struct intel_iommu *iommu)
{
	return false;
}

static inline bool intel_lu_prepare(void)
{
	return false;
}

static inline bool intel_lu_adopts(struct intel_iommu *iommu)
{
	return false;
}

static inline int intel_lu_copy(struct intel_iommu *iommu)
{
	return -EOPNOTSUPP;
}

static inline void intel_lu_done(void)
{
}

int __intel_lu_may_attach(struct dmar_domain *domain, struct device *dev);
void __intel_lu_attached(struct device *dev, bool end);
void __intel_lu_switch(struct intel_iommu *iommu, struct context_entry *live,
		       const struct context_entry *new, u8 bus, u8 devfn);

#endif

/**
 * intel_lu_is_frozen - does this Requester ID go on with what the previous kernel gave it?
 * @iommu: unit
 * @bus: bus number
 * @devfn: device << 3 | function
 *
 * Return: true until its owner has attached another domain, or it has been stopped.
 */
static inline bool intel_lu_is_frozen(struct intel_iommu *iommu, u8 bus, u8 devfn)
{
	return intel_lu_used && intel_lu_adopts(iommu) && context_copied(iommu, bus, devfn);
}

/* May this domain take the place of a frozen one? Before anything is changed */
static inline int intel_lu_may_attach(struct dmar_domain *domain, struct device *dev)
{
	return intel_lu_used ? __intel_lu_may_attach(domain, dev) : 0;
}

/* A domain has been attached, or could not be; frozen pages that nobody uses are freed */
static inline void intel_lu_attached(struct device *dev)
{
	if (intel_lu_used)
		__intel_lu_attached(dev, false);
}

/* The device goes, or its owner has given it up */
static inline void intel_lu_end(struct device *dev)
{
	if (intel_lu_used)
		__intel_lu_attached(dev, true);
}

/* Replace a frozen entry that is in use by another, at once. With iommu->lock held */
static inline void intel_lu_switch(struct intel_iommu *iommu, struct context_entry *live,
				   const struct context_entry *new, u8 bus, u8 devfn)
{
	if (intel_lu_used)
		__intel_lu_switch(iommu, live, new, bus, devfn);
}

#endif /* _INTEL_LIVEUPDATE_H */
