/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Private to drivers/pci/liveupdate/.
 */
#ifndef _PCI_LIVEUPDATE_INTERNAL_H
#define _PCI_LIVEUPDATE_INTERNAL_H

#include <linux/bits.h>
#include <linux/kho/abi/pci.h>
#include <linux/liveupdate.h>
#include <linux/pci.h>
#include <linux/pci_liveupdate.h>
#include <linux/rwsem.h>

#include "hooks.h"

/**
 * struct pci_lu_incoming - what the incoming kernel knows about a record
 * @rec:	the record, in memory of the previous kernel until the
 *		File-Lifecycle-Bound object is finished
 * @dev:	the device, referenced, once it has been added; NULL before
 * @users:	preserved devices at or below this function that are not
 *		finished yet
 *
 * What became of the device is in its &pci_dev.lu_flags.
 */
struct pci_lu_incoming {
	struct pci_liveupdate_record_ser *rec;
	struct pci_dev *dev;
	u32 users;
};

/**
 * struct pci_lu_error - why handed-over records are refused
 * @why:	what is wrong, in words that fit behind "record: "
 * @rec:	the record at fault, NULL if it is the set as a whole
 */
struct pci_lu_error {
	const char *why;
	const struct pci_liveupdate_record_ser *rec;
};

/* Guards all state of this directory and pci_dev's lu_* members */
extern struct rw_semaphore pci_lu_rwsem;

/* core.c */
extern struct liveupdate_flb pci_lu_flb;

/* record.c */
void pci_lu_record_fill(struct pci_dev *dev, struct pci_liveupdate_record_ser *rec);
const char *pci_lu_record_mismatch(struct pci_dev *dev,
				   const struct pci_liveupdate_record_ser *rec);
int pci_lu_header_check(const struct pci_liveupdate_header_ser *hdr,
			struct pci_lu_error *err);
int pci_lu_records_check(const struct pci_liveupdate_header_ser *hdr,
			 struct pci_liveupdate_record_ser **slots, u64 nr_slots,
			 struct pci_lu_error *err);
bool pci_lu_slot_is_free(const struct pci_liveupdate_record_ser *rec);
void pci_lu_read_identity(struct pci_dev *dev, struct pci_liveupdate_record_ser *rec);

/* dma.c */
enum pci_liveupdate_dma pci_lu_dma_verdict(struct pci_dev *dev, const char **why);

/* outgoing.c */
int pci_lu_outgoing_create(struct liveupdate_flb_op_args *args);
void pci_lu_outgoing_destroy(struct liveupdate_flb_op_args *args);
bool pci_lu_outgoing_active(void);

/* incoming.c */
int pci_lu_incoming_retrieve(struct liveupdate_flb_op_args *args);
void pci_lu_incoming_finish(struct liveupdate_flb_op_args *args);
bool pci_lu_incoming_active(void);

/* A function's place: domain in the upper half, Requester ID in the lower */
static inline unsigned long pci_lu_key(u32 domain, u16 bdf)
{
	return (unsigned long)domain << 16 | bdf;
}

/*
 * What a test can switch off, to see that it would notice (module parameters
 * pci_liveupdate.break and .abi_version with CONFIG_PCI_LIVEUPDATE_DEBUG).
 */
#define PCI_LU_BREAK_BUS_MASTER		BIT(0)	/* clear Bus Master on the way out */
#define PCI_LU_BREAK_UNTRANSLATED	BIT(1)	/* forget the DMA verdict on the way in */
#define PCI_LU_BREAK_PAUSE		BIT(2)	/* do not pause behind an IOMMU */

#ifdef CONFIG_PCI_LIVEUPDATE_DEBUG
extern unsigned int pci_lu_break;
extern unsigned int pci_lu_abi_version;
#else
#define pci_lu_break		0u
#define pci_lu_abi_version	PCI_LIVEUPDATE_ABI_VERSION
#endif

#endif /* _PCI_LIVEUPDATE_INTERNAL_H */
