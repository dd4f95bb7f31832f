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

struct liveupdate_file_handler;
struct pci_bus;
struct pci_dev;

#ifdef CONFIG_PCI_LIVEUPDATE

int pci_liveupdate_register_flb(struct liveupdate_file_handler *fh);
void pci_liveupdate_unregister_flb(struct liveupdate_file_handler *fh);

int pci_liveupdate_preserve(struct pci_dev *dev);
void pci_liveupdate_unpreserve(struct pci_dev *dev);
bool pci_liveupdate_is_outgoing(struct pci_dev *dev);

bool pci_liveupdate_is_incoming(struct pci_dev *dev);
bool pci_liveupdate_hands_off(struct pci_dev *dev);
bool pci_liveupdate_refuses_reset(struct pci_dev *dev);
bool pci_liveupdate_may_come(u32 domain, u16 bdf);
void pci_liveupdate_claim(struct pci_dev *dev);
bool pci_liveupdate_stop_dma(struct pci_dev *dev);
int pci_liveupdate_stop(struct pci_dev *dev);
void pci_liveupdate_finish(struct pci_dev *dev);

enum pci_liveupdate_dma pci_liveupdate_dma(struct pci_dev *dev);
bool pci_liveupdate_is_untranslated(struct pci_dev *dev);

/* For architectures and host bridge drivers */
bool pci_liveupdate_claim_resources(struct pci_bus *bus);

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

static inline bool pci_liveupdate_hands_off(struct pci_dev *dev)
{
	return false;
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

static inline int pci_liveupdate_stop(struct pci_dev *dev)
{
	return -EOPNOTSUPP;
}

static inline void pci_liveupdate_finish(struct pci_dev *dev)
{
}

static inline enum pci_liveupdate_dma pci_liveupdate_dma(struct pci_dev *dev)
{
	return PCI_LIVEUPDATE_DMA_PAUSED;
}

static inline bool pci_liveupdate_is_untranslated(struct pci_dev *dev)
{
	return false;
}

static inline bool pci_liveupdate_claim_resources(struct pci_bus *bus)
{
	return false;
}

#endif /* CONFIG_PCI_LIVEUPDATE */

#endif /* _LINUX_PCI_LIVEUPDATE_H */
