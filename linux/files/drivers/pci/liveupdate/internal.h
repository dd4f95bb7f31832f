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
#include <linux/xarray.h>

#include "hooks.h"

struct kho_block_set;

/**
 * struct pci_lu_incoming - what the incoming kernel knows about a record
 * @rec:	the record, in memory of the previous kernel until the
 *		File-Lifecycle-Bound object is finished
 * @iov:	the record of its Virtual Functions, NULL if there is none
 * @dev:	the device, referenced, once it has been added; NULL before
 * @up:		what keeps it in its place: the bridge above it, or its Physical
 *		Function; NULL if nothing does
 * @users:	preserved devices at or below this function that are not
 *		finished yet; with the last of them it is gone
 * @replaced:	@dev has been removed, and something has come to its place
 * @untranslated: one of its Virtual Functions has DMA going on without translation
 * @reserved:	addresses that nobody may be given, because the device that
 *		has them is missing or lost
 *
 * What became of the device is in its &pci_dev.lu_flags.
 */
struct pci_lu_incoming {
	struct pci_liveupdate_record_ser *rec;
	const struct pci_liveupdate_record_ser *iov;
	struct pci_dev *dev;
	struct pci_lu_incoming *up;
	u32 users;
	bool replaced;
	bool untranslated;
	struct pci_lu_reservation *reserved;
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

/* abi.c */
extern unsigned int pci_lu_abi_oldest;
extern unsigned int pci_lu_abi_newest;
bool pci_lu_abi_known(u32 version);
bool pci_lu_slot_is_free(const struct pci_liveupdate_record_ser *rec);
const char *pci_lu_abi_check(const struct pci_liveupdate_record_ser *rec, u32 version);
const char *pci_lu_abi_no_code(const struct pci_liveupdate_record_ser *rec);
u32 pci_lu_abi_of(const struct pci_liveupdate_record_ser *rec);
u32 pci_lu_abi_of_set(struct kho_block_set *set);

/* record.c */
void pci_lu_record_fill(struct pci_dev *dev, struct pci_liveupdate_record_ser *rec);
const char *pci_lu_record_check(const struct pci_liveupdate_record_ser *rec, u32 version);
const char *pci_lu_record_take(struct pci_dev *dev, struct pci_liveupdate_record_ser *rec);
const char *pci_lu_record_changed(struct pci_dev *dev,
				  const struct pci_liveupdate_record_ser *rec);
const char *pci_lu_record_mismatch(struct pci_dev *dev,
				   const struct pci_liveupdate_record_ser *rec);
int pci_lu_header_check(const struct pci_liveupdate_header_ser *hdr,
			struct pci_lu_error *err);
int pci_lu_records_check(const struct pci_liveupdate_header_ser *hdr,
			 struct pci_liveupdate_record_ser **slots, u64 nr_slots,
			 struct pci_lu_error *err);
int pci_lu_set_check(const struct pci_liveupdate_header_ser *hdr, struct kho_block_set *set,
		     struct pci_liveupdate_record_ser ***slots, u64 *nr_slots,
		     struct pci_lu_error *err);

/* Size in bytes of a BAR that has been checked */
static inline u64 pci_lu_bar_bytes(const struct pci_liveupdate_bar_ser *bar)
{
	return upper_32_bits(bar->mask) ? -bar->mask : (u32)-bar->mask;
}

/* iov_record.c, iov_owner.c, iov_driver.c, iov.c */
#ifdef CONFIG_PCI_LIVEUPDATE_VFS
u16 pci_lu_vf_index(struct pci_dev *dev);
u32 pci_lu_vf_subsystem(struct pci_dev *dev);
const char *pci_lu_vf_doubt(struct pci_dev *dev, const struct pci_liveupdate_record_ser *rec);
const char *pci_lu_iov_take(struct pci_dev *dev, struct pci_liveupdate_record_ser *rec);
const char *pci_lu_iov_changed(struct pci_dev *dev);
const char *pci_lu_iov_mismatch(struct pci_dev *dev,
				const struct pci_liveupdate_record_ser *rec);
const char *pci_lu_iov_check(const struct pci_liveupdate_record_ser *rec);
int pci_lu_iov_check_all(struct pci_liveupdate_record_ser **slots, u64 nr_slots,
			 struct pci_lu_error *err);
void pci_lu_adopt_iov(struct pci_dev *dev);
struct pci_liveupdate_record_ser **pci_lu_iov_slot(struct pci_dev *dev);
bool pci_lu_pf_suits(struct pci_dev *pf, const struct pci_driver *drv);
bool pci_lu_is_captured(struct pci_dev *dev);
int pci_lu_ask_driver(struct pci_dev *pf, struct pci_dev *dev, const char *what);
void pci_lu_look_after_driver(struct pci_dev *pf);
void pci_lu_lend(struct pci_dev *pf);
bool pci_lu_vfs_need(struct pci_dev *pf);
#else
static inline u16 pci_lu_vf_index(struct pci_dev *dev)
{
	return 0;
}

static inline u32 pci_lu_vf_subsystem(struct pci_dev *dev)
{
	return 0;
}

static inline const char *pci_lu_vf_doubt(struct pci_dev *dev,
					  const struct pci_liveupdate_record_ser *rec)
{
	return NULL;
}

static inline const char *pci_lu_iov_take(struct pci_dev *dev,
					  struct pci_liveupdate_record_ser *rec)
{
	return NULL;
}

static inline const char *pci_lu_iov_changed(struct pci_dev *dev)
{
	return NULL;
}

static inline const char *pci_lu_iov_mismatch(struct pci_dev *dev,
					      const struct pci_liveupdate_record_ser *rec)
{
	return NULL;
}

static inline const char *pci_lu_iov_check(const struct pci_liveupdate_record_ser *rec)
{
	return NULL;
}

static inline int pci_lu_iov_check_all(struct pci_liveupdate_record_ser **slots,
				       u64 nr_slots, struct pci_lu_error *err)
{
	return 0;
}

static inline void pci_lu_adopt_iov(struct pci_dev *dev)
{
}

static inline struct pci_liveupdate_record_ser **pci_lu_iov_slot(struct pci_dev *dev)
{
	return NULL;
}

static inline bool pci_lu_pf_suits(struct pci_dev *pf, const struct pci_driver *drv)
{
	return false;
}

static inline bool pci_lu_is_captured(struct pci_dev *dev)
{
	return false;
}

static inline int pci_lu_ask_driver(struct pci_dev *pf, struct pci_dev *dev, const char *what)
{
	return 0;
}

static inline void pci_lu_look_after_driver(struct pci_dev *pf)
{
}

static inline void pci_lu_lend(struct pci_dev *pf)
{
}

static inline bool pci_lu_vfs_need(struct pci_dev *pf)
{
	return false;
}
#endif

/* A Virtual Function by its number, referenced; NULL if there is none */
static inline struct pci_dev *pci_lu_get_vf(struct pci_dev *pf, int id)
{
	return pci_get_domain_bus_and_slot(pci_domain_nr(pf->bus), pci_iov_virtfn_bus(pf, id),
					   pci_iov_virtfn_devfn(pf, id));
}

/* Is this the record, if any, of a Physical Function that is kept with others? */
static inline bool pci_lu_is_pf(const struct pci_liveupdate_record_ser *rec)
{
	return rec && rec->flags & PCI_LIVEUPDATE_F_PF;
}

/* ... and of what its own owner has preserved? */
static inline bool pci_lu_has_owner(const struct pci_liveupdate_record_ser *rec)
{
	return rec && rec->flags & PCI_LIVEUPDATE_F_ENDPOINT;
}

/* The next function on the way from a preserved device to the host bridge */
static inline struct pci_dev *pci_lu_up(struct pci_dev *dev)
{
	return dev->is_virtfn ? pci_physfn(dev) : pci_upstream_bridge(dev);
}

/* Does a driver nothing to a function: as it comes, while it has it, and as it goes? */
static inline bool pci_lu_leaves_alone(const struct pci_driver *drv)
{
	return drv->live_update && !drv->live_update_pf && !drv->remove && !drv->shutdown;
}

/* dma.c */
struct acpi_table_header;
enum pci_liveupdate_dma pci_lu_dma_verdict(struct pci_dev *dev, const char **why);
bool pci_lu_iort_has_smmu(const struct acpi_table_header *table);

/* fabric.c */

/**
 * struct pci_lu_bridge_view - what decides over the bus numbers of a bridge
 * @held:	 something is preserved, in either direction
 * @enumerated:	 the bridge has been scanned before, and has a bus
 * @taken:	 @secondary is another bridge's, or part of its range
 * @cardbus:	 its numbers are given out by code that does not ask what is held
 * @bus:	 number of the bus that it is on
 * @primary:	 as in its registers
 * @secondary:	 as in its registers
 * @subordinate: as in its registers
 */
struct pci_lu_bridge_view {
	bool held;
	bool enumerated;
	bool taken;
	bool cardbus;
	u8 bus;
	u8 primary;
	u8 secondary;
	u8 subordinate;
};

enum pci_lu_buses pci_lu_judge_buses(const struct pci_lu_bridge_view *view);
void pci_lu_read_acs(struct pci_dev *dev);
void pci_lu_read_ari(struct pci_dev *bridge);

/* refusals.c */
#define PCI_LU_PRESERVE		BIT(0)
#define PCI_LU_FREEZE		BIT(1)

/**
 * struct pci_lu_refusal - why a device cannot be kept
 * @test:   tells whether it is so; called with pci_lu_rwsem held
 * @when:   to be asked then: PCI_LU_PRESERVE, PCI_LU_FREEZE, or both
 * @errno:  what preserve or the kexec returns
 * @reason: in words that fit behind "cannot be preserved: "
 * @remedy: what to do about it
 * @driver: which driver is the reason, if one is
 */
struct pci_lu_refusal {
	bool (*test)(struct pci_dev *dev);
	unsigned int when;
	int errno;
	const char *reason;
	const char *remedy;
	struct pci_driver *(*driver)(struct pci_dev *dev);
};

const struct pci_lu_refusal *pci_lu_refusal(struct pci_dev *dev, unsigned int when);
int pci_lu_refuse(struct pci_dev *dev, unsigned int when);
bool pci_lu_is_gone(struct pci_dev *dev);
void pci_lu_set_suspending(bool suspending);
void pci_lu_look_for_cardbus(void);

/* outgoing.c */
int pci_lu_outgoing_create(struct liveupdate_flb_op_args *args);
int pci_lu_outgoing_freeze(struct liveupdate_flb_op_args *args);
void pci_lu_outgoing_destroy(struct liveupdate_flb_op_args *args);
bool pci_lu_outgoing_active(void);
u32 pci_lu_outgoing_abi(const struct pci_liveupdate_record_ser *rec);
void pci_lu_stopping(struct pci_dev *dev);
bool pci_lu_others_are_stopping(struct pci_dev *dev);

/* incoming.c */
DECLARE_STATIC_KEY_FALSE(pci_lu_incoming_key);
int pci_lu_incoming_retrieve(struct liveupdate_flb_op_args *args);
bool pci_lu_incoming_active(void);
void pci_lu_incoming_done(void);
void pci_lu_incoming_end(void);
const struct pci_liveupdate_record_ser *pci_lu_record(struct pci_dev *dev);
bool pci_lu_incoming_has_buses(struct pci_dev *bridge, u8 first, u8 last);
enum pci_liveupdate_dma pci_lu_dma_locked(struct pci_dev *dev);
bool pci_lu_was_pending_locked(struct pci_dev *dev);

/* &struct pci_lu_incoming by domain and Requester ID, see pci_lu_key() */
extern struct xarray pci_lu_entries;

bool pci_lu_incoming_below(struct pci_bus *bus,
			   void (*fn)(struct pci_bus *bus, struct pci_lu_incoming *in));

/* match.c */
void pci_lu_incoming_finish(struct liveupdate_flb_op_args *args);

/* stop.c */

/**
 * enum pci_lu_answer - what a read at the place of a record tells
 * @PCI_LU_SOMEBODY: a function answers
 * @PCI_LU_NOBODY:   none is there, or all that is there has been reset
 * @PCI_LU_UNKNOWN:  it cannot be told
 */
enum pci_lu_answer { PCI_LU_SOMEBODY, PCI_LU_NOBODY, PCI_LU_UNKNOWN };

enum pci_lu_answer pci_lu_ask_bridge(struct pci_bus *bus,
				     const struct pci_liveupdate_record_ser *rec,
				     const char **why);
bool pci_lu_end_dma(struct pci_bus *bus, unsigned int devfn, u8 express, u16 off,
		    bool *drained);
void pci_lu_leaves(struct pci_dev *dev);
void pci_lu_has_left(struct pci_dev *dev);
void pci_lu_stop_boot_without_access(void);

/* reset.c */
void pci_lu_reset_unreset(struct pci_dev *dev);
void pci_lu_reset_later(struct pci_dev *dev);

/* adopt.c */
void pci_lu_changed(struct pci_dev *dev);
void pci_lu_read_ltr(struct pci_dev *dev);
void pci_lu_read_capabilities(struct pci_dev *dev);
void pci_lu_init_left_out(struct pci_dev *dev);
void pci_lu_end_translation(struct pci_dev *dev);

/* protect.c */
void pci_lu_let_drivers_in(struct pci_dev *dev);
bool pci_lu_refuses_slot(struct pci_bus *bus, int slot, const char *what);

/* resources.c */
void pci_lu_bar_masks(const struct pci_liveupdate_record_ser *rec, unsigned int nr,
		      u32 *masks, u32 *rom);
void pci_lu_window_kinds(const struct pci_liveupdate_record_ser *rec, struct pci_dev *bridge);
void pci_lu_fix(struct pci_dev *dev);
void pci_lu_release_hosts(void);
void pci_lu_unreserve(struct pci_lu_incoming *in);
void pci_lu_unreserve_below(struct pci_bus *bus);

/* What is left alone has to be in order for its end */
static inline void pci_lu_no_mailboxes(struct pci_dev *dev)
{
#ifdef CONFIG_PCI_DOE
	xa_init(&dev->doe_mbs);
#endif
}

static inline void pci_lu_no_streams(struct pci_dev *dev)
{
#ifdef CONFIG_PCI_IDE
	ida_init(&dev->ide_stream_ida);
#endif
}

/* guard.c */
#ifdef CONFIG_PCI_LIVEUPDATE_GUARD
void pci_lu_guard_start(void);
void pci_lu_guard_end(void);
void pci_lu_guard_update(struct pci_dev *dev);
void pci_lu_guard_forget(unsigned long key);
unsigned int pci_lu_guard_count(struct pci_dev *dev);
#else
static inline void pci_lu_guard_start(void)
{
}

static inline void pci_lu_guard_end(void)
{
}

static inline void pci_lu_guard_update(struct pci_dev *dev)
{
}

static inline void pci_lu_guard_forget(unsigned long key)
{
}

static inline unsigned int pci_lu_guard_count(struct pci_dev *dev)
{
	return 0;
}
#endif

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
#define PCI_LU_BREAK_BUSES		BIT(3)	/* let scans assign bus numbers */
#define PCI_LU_BREAK_ROUTING		BIT(4)	/* do not adopt ACS and ARI */
#define PCI_LU_BREAK_REFUSALS		BIT(5)	/* let everybody do everything */
#define PCI_LU_BREAK_IDENTITY		BIT(6)	/* hand over another Device ID */
#define PCI_LU_BREAK_GUARD		BIT(7)	/* let every configuration write through */

#define PCI_LU_BREAK_IRQS		BIT(24)	/* neither mask MSIs nor turn them off */
#define PCI_LU_BREAK_CHECKS		BIT(25)	/* hand over records that nobody checked */
#define PCI_LU_BREAK_STOP		BIT(26)	/* free memory of devices that may be running */
#define PCI_LU_BREAK_VERDICT		BIT(28)	/* say what only version 2 can */
#define PCI_LU_BREAK_DOMAIN		BIT(29)	/* hand over another Domain ID */

/* Bits that other directories ask for are in enum pci_liveupdate_part: 30, 31, 62, 63 */

/* Do not keep that, see enum pci_lu_keep: bits 8 to 23, and on from 32 */
static inline unsigned long pci_lu_break_keep(enum pci_lu_keep what)
{
	static_assert(PCI_LU_KEEP_NR <= 16 + PCI_LIVEUPDATE_SWITCH - 32);
	return what < 16 ? BIT(8 + what) : BIT(16 + what);
}

#ifdef CONFIG_PCI_LIVEUPDATE_DEBUG
extern unsigned long pci_lu_break;
extern unsigned int pci_lu_abi_version;
#else
#define pci_lu_break		0ul
#define pci_lu_abi_version	0u
#endif

#endif /* _PCI_LIVEUPDATE_INTERNAL_H */
