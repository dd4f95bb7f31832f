/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Live Update of PCI devices: what a driver calls.
 *
 * See Documentation/PCI/liveupdate.rst for the life of a preserved device.
 */
#ifndef _LINUX_PCI_LIVEUPDATE_H
#define _LINUX_PCI_LIVEUPDATE_H

#include <linux/errno.h>
#include <linux/kho/abi/pci.h>
#include <linux/types.h>
#include <linux/uuid.h>

struct device;
struct liveupdate_file_handler;
struct pci_bus;
struct pci_dev;
struct pci_saved_state;

/**
 * enum pci_liveupdate_irqs - what keeps the MSIs of a device in it
 * @PCI_LIVEUPDATE_IRQS_NONE: nothing, it had none enabled
 * @PCI_LIVEUPDATE_IRQS_MSIX_MASKED: Function Mask of MSI-X
 * @PCI_LIVEUPDATE_IRQS_MSI_MASKED: the mask bits of MSI
 * @PCI_LIVEUPDATE_IRQS_OFF: MSI has been turned off; what the device wanted to
 *	send since is lost
 */
enum pci_liveupdate_irqs {
	PCI_LIVEUPDATE_IRQS_NONE,
	PCI_LIVEUPDATE_IRQS_MSIX_MASKED,
	PCI_LIVEUPDATE_IRQS_MSI_MASKED,
	PCI_LIVEUPDATE_IRQS_OFF,
};

#if defined(CONFIG_PCI_LIVEUPDATE) && defined(CONFIG_PCI_MSI)

int pci_liveupdate_hold_irqs(struct pci_dev *dev);
void pci_liveupdate_settle_irqs(struct pci_dev *dev, enum pci_liveupdate_irqs held);
void pci_liveupdate_release_irqs(struct pci_dev *dev, enum pci_liveupdate_irqs held);

#else

static inline int pci_liveupdate_hold_irqs(struct pci_dev *dev)
{
	return PCI_LIVEUPDATE_IRQS_NONE;
}

static inline void pci_liveupdate_settle_irqs(struct pci_dev *dev,
					      enum pci_liveupdate_irqs held)
{
}

static inline void pci_liveupdate_release_irqs(struct pci_dev *dev,
					       enum pci_liveupdate_irqs held)
{
}

#endif

/**
 * enum pci_liveupdate_part - what a test can have left out, by its bit of pci_liveupdate.break
 * @PCI_LIVEUPDATE_GIC: handing the tables of a GIC over
 * @PCI_LIVEUPDATE_LEAVES: looking at what a frozen page table leads to
 * @PCI_LIVEUPDATE_COVER: comparing what is attached with what is frozen
 * @PCI_LIVEUPDATE_SWITCH: replacing an entry at once: it is gone for 300 ms
 * @PCI_LIVEUPDATE_PF_FIRST: binding a user's Physical Function before its Virtual Functions
 */
enum pci_liveupdate_part {
	PCI_LIVEUPDATE_GIC	= 27,
	PCI_LIVEUPDATE_LEAVES	= 30,
	PCI_LIVEUPDATE_COVER	= 31,
	PCI_LIVEUPDATE_SWITCH	= 62,
	PCI_LIVEUPDATE_PF_FIRST	= 63,
};

#ifdef CONFIG_PCI_LIVEUPDATE_DEBUG
bool pci_liveupdate_leaves_out(enum pci_liveupdate_part part);
#else
static inline bool pci_liveupdate_leaves_out(enum pci_liveupdate_part part)
{
	return false;
}
#endif

#ifdef CONFIG_PCI_LIVEUPDATE

int pci_liveupdate_register_flb(struct liveupdate_file_handler *fh);
void pci_liveupdate_unregister_flb(struct liveupdate_file_handler *fh);

int pci_liveupdate_preserve(struct pci_dev *dev);
int pci_liveupdate_preserve_translated(struct pci_dev *dev, const char *why_not);
void pci_liveupdate_set_domain(struct pci_dev *dev,
			       const struct pci_liveupdate_iommu_ser *domain);
void pci_liveupdate_unpreserve(struct pci_dev *dev);
bool pci_liveupdate_is_outgoing(struct pci_dev *dev);
u32 pci_liveupdate_abi_pin(void);
u32 pci_liveupdate_abi(void);

bool pci_liveupdate_is_incoming(struct pci_dev *dev);
struct pci_dev *pci_liveupdate_find(u32 domain, u16 bdf);
bool pci_liveupdate_refuses_reset(struct pci_dev *dev);
bool pci_liveupdate_may_come(u32 domain, u16 bdf);
void pci_liveupdate_claim(struct pci_dev *dev);
bool pci_liveupdate_stop_dma(struct pci_dev *dev);
int pci_liveupdate_can_stop(u32 domain, u16 bdf);
int pci_liveupdate_stop(u32 domain, u16 bdf);
int pci_liveupdate_reset(struct pci_dev *dev);
void pci_liveupdate_owe_reset(struct pci_dev *dev);
int pci_liveupdate_may_leave(void);
void pci_liveupdate_finish(u32 domain, u16 bdf);
bool pci_liveupdate_give_back(struct pci_dev *dev);

enum pci_liveupdate_dma pci_liveupdate_dma(struct pci_dev *dev);

size_t pci_liveupdate_state_size(const struct pci_saved_state *state);
size_t pci_liveupdate_pack_state(const struct pci_saved_state *state, void *buf,
				 size_t size);
struct pci_saved_state *pci_liveupdate_unpack_state(struct pci_dev *dev, const void *buf,
						    size_t size);
bool pci_liveupdate_is_untranslated(struct pci_dev *dev);

/* For IOMMU drivers */
typedef int (*pci_liveupdate_translated_fn)(u32 domain, u16 bdf,
					    const struct pci_liveupdate_iommu_ser *iommu,
					    void *data);
u64 pci_liveupdate_iommu(void);
void pci_liveupdate_iommu_taken(void);
int pci_liveupdate_each_translated(pci_liveupdate_translated_fn fn, void *data);
void pci_liveupdate_pause(u32 domain, u16 bdf, const char *why);
void pci_liveupdate_pause_all(const char *why);

/* For architectures and host bridge drivers */
bool pci_liveupdate_refuses_host(const struct device *host);
bool pci_liveupdate_has_bus(u32 domain, u8 nr);

#else /* CONFIG_PCI_LIVEUPDATE */

static inline int pci_liveupdate_register_flb(struct liveupdate_file_handler *fh)
{
	return -EOPNOTSUPP;
}

static inline void pci_liveupdate_unregister_flb(struct liveupdate_file_handler *fh)
{
}

static inline int pci_liveupdate_preserve(struct pci_dev *dev)
{
	return -EOPNOTSUPP;
}

static inline int pci_liveupdate_preserve_translated(struct pci_dev *dev,
						     const char *why_not)
{
	return -EOPNOTSUPP;
}

static inline void pci_liveupdate_unpreserve(struct pci_dev *dev)
{
}

static inline bool pci_liveupdate_is_outgoing(struct pci_dev *dev)
{
	return false;
}

static inline bool pci_liveupdate_is_incoming(struct pci_dev *dev)
{
	return false;
}

static inline struct pci_dev *pci_liveupdate_find(u32 domain, u16 bdf)
{
	return NULL;
}

static inline bool pci_liveupdate_refuses_reset(struct pci_dev *dev)
{
	return false;
}

static inline bool pci_liveupdate_may_come(u32 domain, u16 bdf)
{
	return false;
}

static inline void pci_liveupdate_claim(struct pci_dev *dev)
{
}

static inline bool pci_liveupdate_stop_dma(struct pci_dev *dev)
{
	return true;
}

static inline int pci_liveupdate_can_stop(u32 domain, u16 bdf)
{
	return 0;
}

static inline int pci_liveupdate_stop(u32 domain, u16 bdf)
{
	return 0;
}

static inline int pci_liveupdate_reset(struct pci_dev *dev)
{
	return -EOPNOTSUPP;
}

static inline void pci_liveupdate_owe_reset(struct pci_dev *dev)
{
}

static inline int pci_liveupdate_may_leave(void)
{
	return 0;
}

static inline void pci_liveupdate_finish(u32 domain, u16 bdf)
{
}

static inline bool pci_liveupdate_give_back(struct pci_dev *dev)
{
	return false;
}

static inline enum pci_liveupdate_dma pci_liveupdate_dma(struct pci_dev *dev)
{
	return PCI_LIVEUPDATE_DMA_PAUSED;
}

static inline bool pci_liveupdate_refuses_host(const struct device *host)
{
	return false;
}

static inline bool pci_liveupdate_has_bus(u32 domain, u8 nr)
{
	return false;
}

#endif /* CONFIG_PCI_LIVEUPDATE */

/* For drivers of Physical Functions that belong to a user */
#if defined(CONFIG_PCI_LIVEUPDATE) && defined(CONFIG_PCI_LIVEUPDATE_VFS)
bool pci_liveupdate_keeps_vfs(struct pci_dev *dev);
void pci_liveupdate_await_vfs(struct pci_dev *pf,
			      void (*ask)(struct pci_dev *pf, unsigned int count));
void pci_liveupdate_set_vf_token(struct pci_dev *pf, const uuid_t *token);
bool pci_liveupdate_pf_has_user(struct pci_dev *pf, uuid_t *token);
#else
static inline bool pci_liveupdate_keeps_vfs(struct pci_dev *dev)
{
	return false;
}

static inline void pci_liveupdate_await_vfs(struct pci_dev *pf,
					    void (*ask)(struct pci_dev *pf, unsigned int count))
{
}

static inline void pci_liveupdate_set_vf_token(struct pci_dev *pf, const uuid_t *token)
{
}

static inline bool pci_liveupdate_pf_has_user(struct pci_dev *pf, uuid_t *token)
{
	return false;
}
#endif

#endif /* _LINUX_PCI_LIVEUPDATE_H */
