/* SPDX-License-Identifier: GPL-2.0 */
/*
 * IOMMU domains that stay as they are while the kernel is replaced (Live Update).
 *
 * Whether a device can go on behind an IOMMU is asked when it is preserved, its domain
 * is frozen when the kexec begins, and the next kernel takes the hardware over with what
 * is frozen until the device's owner attaches another domain. See drivers/iommu/liveupdate.c.
 */
#ifndef _LINUX_IOMMU_LIVEUPDATE_H
#define _LINUX_IOMMU_LIVEUPDATE_H

#include <linux/errno.h>
#include <linux/kho/abi/pci.h>
#include <linux/types.h>

struct device;
struct iommu_domain;

/**
 * struct iommu_liveupdate_check - may a device reach this memory during the kexec?
 * @leaf:	asked of all that a page table maps, in any order; NULL if it may, or why
 *		not, in words that fit behind "DMA will pause: " and "cannot be handed
 *		over: "
 * @data:	for @leaf
 */
struct iommu_liveupdate_check {
	const char *(*leaf)(void *data, phys_addr_t start, size_t size);
	void *data;
};

#ifdef CONFIG_PCI_LIVEUPDATE_VTD

/* Outgoing */
const char *iommu_liveupdate_refusal(struct device *dev, struct iommu_domain *domain);
const char *iommu_liveupdate_look(struct iommu_domain *domain,
				  const struct iommu_liveupdate_check *check);
int iommu_liveupdate_freeze(struct device *dev, struct iommu_domain *domain,
			    const struct iommu_liveupdate_check *check,
			    struct pci_liveupdate_iommu_ser *ser, const char **why);
void iommu_liveupdate_unfreeze(void);
int iommu_liveupdate_hand_over(u64 *pa);

/* Incoming */
bool iommu_liveupdate_is_frozen(struct device *dev);
void iommu_liveupdate_release(u32 segment, u16 rid);
void iommu_liveupdate_settle(struct device *dev);

#else

static inline const char *iommu_liveupdate_refusal(struct device *dev,
						   struct iommu_domain *domain)
{
	return "this kernel cannot freeze IOMMU domains";
}

static inline const char *iommu_liveupdate_look(struct iommu_domain *domain,
						const struct iommu_liveupdate_check *check)
{
	return "this kernel cannot freeze IOMMU domains";
}

static inline int iommu_liveupdate_freeze(struct device *dev, struct iommu_domain *domain,
					  const struct iommu_liveupdate_check *check,
					  struct pci_liveupdate_iommu_ser *ser,
					  const char **why)
{
	*why = "this kernel cannot freeze IOMMU domains";
	return -EOPNOTSUPP;
}

static inline void iommu_liveupdate_unfreeze(void)
{
}

static inline int iommu_liveupdate_hand_over(u64 *pa)
{
	*pa = 0;
	return 0;
}

static inline bool iommu_liveupdate_is_frozen(struct device *dev)
{
	return false;
}

static inline void iommu_liveupdate_release(u32 segment, u16 rid)
{
}

static inline void iommu_liveupdate_settle(struct device *dev)
{
}

#endif /* CONFIG_PCI_LIVEUPDATE_VTD */

#endif /* _LINUX_IOMMU_LIVEUPDATE_H */
