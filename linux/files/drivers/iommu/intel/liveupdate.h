/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where VT-d asks about Live Update, see liveupdate.c and liveupdate_in.c.
 */
#ifndef _INTEL_LIVEUPDATE_H
#define _INTEL_LIVEUPDATE_H

#include "iommu.h"
#include "pasid.h"

struct iommu_liveupdate_unit_ser;
struct iommu_lu_domain_in;
struct iommu_lu_in;

/**
 * struct vtd_lu_table - a page table
 * @top:	physical address of the top of it
 * @levels:	how many it has
 * @first:	it is of the first stage (VT-d 4.1, sec 9.7), not of the second (sec 9.8)
 */
struct vtd_lu_table {
	u64 top;
	int levels;
	bool first;
};

/**
 * struct vtd_lu_walk - what to do with a page table
 * @table:	asked of each page of the table, before it is read; NULL: nothing
 * @leaf:	asked of all leaves, of those that follow each other at once: @rights are
 *		DMA_PTE_READ and DMA_PTE_WRITE
 * @data:	for both, which return 0 or the error to stop with
 */
struct vtd_lu_walk {
	int (*table)(void *data, u64 address);
	int (*leaf)(void *data, u64 iova, u64 address, u64 size, u64 rights);
	void *data;
};

/**
 * struct vtd_lu_entry - what the hardware is told of a Requester ID
 * @context:	legacy mode: its context entry
 * @pasid:	scalable mode: the entry of its PASID table for requests without PASID
 */
struct vtd_lu_entry {
	struct context_entry context;
	struct pasid_entry pasid;
};

int vtd_lu_walk(const struct vtd_lu_walk *walk, const struct vtd_lu_table *table);
u64 vtd_lu_lookup(const struct vtd_lu_table *table, u64 iova, u64 *size, u64 *rights);
int vtd_lu_covers(const struct iommu_lu_in *in, const struct iommu_lu_domain_in *frozen,
		  const struct vtd_lu_table *table, u64 *iova);
bool vtd_lu_entry_table(const struct vtd_lu_entry *entry, bool scalable,
			struct vtd_lu_table *table, u16 *did);
bool vtd_lu_entry_is_of(const struct vtd_lu_entry *entry, bool scalable,
			const struct iommu_lu_domain_in *domain, u16 *did);
void vtd_lu_entry_pass(struct intel_iommu *iommu, bool scalable, struct vtd_lu_entry *entry);
bool vtd_lu_entry_passes(const struct vtd_lu_entry *entry, bool scalable);
u64 *vtd_lu_root_half(struct root_entry *root, bool scalable, u16 rid);
unsigned int vtd_lu_index(bool scalable, u16 rid);
const char *vtd_lu_find_entry(const struct iommu_lu_in *in,
			      const struct iommu_liveupdate_unit_ser *unit, u16 rid,
			      struct vtd_lu_entry *entry);
void vtd_lu_clear_irtes(struct irte *irtes, unsigned int nr);
void vtd_lu_replace(struct intel_iommu *iommu, struct context_entry *live,
		    const struct context_entry *new, u16 did, u16 rid);

#ifdef CONFIG_PCI_LIVEUPDATE_VTD

/* The previous kernel has frozen domains here */
extern bool intel_lu_used;

bool intel_lu_shutdown(struct intel_iommu *iommu);
bool intel_lu_prepare(int *scalable);
bool intel_lu_adopts(struct intel_iommu *iommu);
void intel_lu_choose_units(void);
int intel_lu_copy(struct intel_iommu *iommu);
void intel_lu_give_up(void);
void intel_lu_done(void);

#else

#define intel_lu_used		false

static inline bool intel_lu_shutdown(struct intel_iommu *iommu)
{
	return false;
}

static inline bool intel_lu_prepare(int *scalable)
{
	return false;
}

static inline bool intel_lu_adopts(struct intel_iommu *iommu)
{
	return false;
}

static inline void intel_lu_choose_units(void)
{
}

static inline int intel_lu_copy(struct intel_iommu *iommu)
{
	return -EOPNOTSUPP;
}

static inline void intel_lu_give_up(void)
{
}

static inline void intel_lu_done(void)
{
}

#endif

void intel_lu_table_of(struct dmar_domain *domain, struct vtd_lu_table *table);

/* Not called where intel_lu_used is a constant */
bool __intel_lu_is_frozen(struct intel_iommu *iommu, u8 bus, u8 devfn);
void __intel_lu_probe(struct device *dev);
int __intel_lu_may_attach(struct dmar_domain *domain, struct device *dev);
void __intel_lu_attached(struct device *dev);
void __intel_lu_end(struct device *dev, bool stays);
void __intel_lu_switch(struct intel_iommu *iommu, struct context_entry *live,
		       const struct context_entry *new, u8 bus, u8 devfn);
void __intel_lu_publish(struct device *dev);

/**
 * intel_lu_is_copied - has this Requester ID what the previous kernel gave it?
 * @iommu: unit
 * @bus: bus number
 * @devfn: device << 3 | function
 *
 * Return: true until another domain has taken its place, or the device has been stopped.
 */
static inline bool intel_lu_is_copied(struct intel_iommu *iommu, u8 bus, u8 devfn)
{
	return intel_lu_used && intel_lu_adopts(iommu) && context_copied(iommu, bus, devfn);
}

/**
 * intel_lu_is_frozen - does this Requester ID go on in a frozen domain?
 * @iommu: unit
 * @bus: bus number
 * @devfn: device << 3 | function
 *
 * Return: true until its owner has attached another domain, or it has been stopped.
 */
static inline bool intel_lu_is_frozen(struct intel_iommu *iommu, u8 bus, u8 devfn)
{
	return intel_lu_is_copied(iommu, bus, devfn) && __intel_lu_is_frozen(iommu, bus, devfn);
}

/* A device has been found: the one that the entry is meant for? */
static inline void intel_lu_probe(struct device *dev)
{
	if (intel_lu_used)
		__intel_lu_probe(dev);
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
		__intel_lu_attached(dev);
}

/* The device goes, or its owner has given it up and it @stays */
static inline void intel_lu_end(struct device *dev, bool stays)
{
	if (intel_lu_used)
		__intel_lu_end(dev, stays);
}

/* Replace a copied entry that is in use by another, at once. With iommu->lock held */
static inline void intel_lu_switch(struct intel_iommu *iommu, struct context_entry *live,
				   const struct context_entry *new, u8 bus, u8 devfn)
{
	if (intel_lu_used)
		__intel_lu_switch(iommu, live, new, bus, devfn);
}

/* Scalable mode: the same with a PASID table that is complete */
static inline void intel_lu_publish(struct device *dev)
{
	if (intel_lu_used)
		__intel_lu_publish(dev);
}

#endif /* _INTEL_LIVEUPDATE_H */
