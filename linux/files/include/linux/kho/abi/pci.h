/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Preserved PCI devices: the structures one kernel hands to the next.
 */
#ifndef _LINUX_KHO_ABI_PCI_H
#define _LINUX_KHO_ABI_PCI_H

#include <linux/build_bug.h>
#include <linux/stddef.h>
#include <linux/types.h>

/**
 * DOC: PCI Live Update ABI
 *
 * The outgoing kernel describes every preserved device, and every bridge above
 * one, in a record. The records live in a &struct kho_block_set, and a header
 * that is handed over as the data of the File-Lifecycle-Bound object
 * %PCI_LIVEUPDATE_COMPATIBLE says where the first block is.
 *
 * A record holds only what the hardware cannot tell without being disturbed
 * (sizes of BARs, kinds of windows, why DMA may or may not go on) and what
 * proves that the device found later is the one that was preserved. Everything
 * else is read from the device, which changes nothing.
 *
 * This is a contract between kernels. The first word of the header is the
 * version and never moves; any other change of layout or meaning takes a new
 * version. Integers are in the byte order of the machine: a kexec does not
 * change it. Reserved fields are zero, and a reader refuses them if they are
 * not. A slot whose @use_count is zero is free and otherwise all zero.
 */

/* The name of the File-Lifecycle-Bound object; 48 bytes at most, with NUL */
#define PCI_LIVEUPDATE_COMPATIBLE	"pci"

/*
 * Versions of this layout start in a range of their own ("LU" in the upper
 * half): other code uses the same object name and counts from zero, and must
 * be told apart rather than misread.
 */
#define PCI_LIVEUPDATE_ABI_VERSION	0x4c550001

/* BARs of a function: six, and the Expansion ROM as the seventh */
#define PCI_LIVEUPDATE_NUM_BARS		7
#define PCI_LIVEUPDATE_ROM_BAR		6

/**
 * enum pci_liveupdate_dma - what the outgoing kernel decided about DMA
 * @PCI_LIVEUPDATE_DMA_PAUSED: Bus Master is cleared on the way out. The owner
 *	sets it again when the device has its translation back.
 * @PCI_LIVEUPDATE_DMA_UNTRANSLATED: Nothing translates the addresses that the
 *	device puts on the bus, so DMA goes on during the kexec, and the
 *	incoming kernel must not put a translation in its way.
 * @PCI_LIVEUPDATE_DMA_NR: number of verdicts, not one itself
 *
 * The verdict is about a preserved device. A bridge keeps Bus Master in any
 * case, and its verdict field is zero.
 */
enum pci_liveupdate_dma {
	PCI_LIVEUPDATE_DMA_PAUSED	= 0,
	PCI_LIVEUPDATE_DMA_UNTRANSLATED	= 1,
	PCI_LIVEUPDATE_DMA_NR
};

/* Flags of a record */
#define PCI_LIVEUPDATE_F_BRIDGE		0x0001	/* header type 1 */
#define PCI_LIVEUPDATE_F_ENDPOINT	0x0002	/* preserved by its owner */
#define PCI_LIVEUPDATE_F_DMA_PENDING	0x0004	/* paused with requests outstanding */
#define PCI_LIVEUPDATE_F_DEAD		0x0008	/* removed or failed since preserved */
#define PCI_LIVEUPDATE_F_ALL		0x000f

/* Kinds of windows that a bridge implements */
#define PCI_LIVEUPDATE_WIN_IO		0x01
#define PCI_LIVEUPDATE_WIN_PREF		0x02
#define PCI_LIVEUPDATE_WIN_PREF64	0x04
#define PCI_LIVEUPDATE_WIN_ALL		0x07

/**
 * struct pci_liveupdate_header_ser - where the records are
 * @version:	 %PCI_LIVEUPDATE_ABI_VERSION. Always the first word.
 * @record_size: sizeof(struct pci_liveupdate_record_ser), in bytes
 * @nr_records:	 records in use
 * @records:	 physical address of the first block of the record set
 * @reserved:	 zero
 */
struct pci_liveupdate_header_ser {
	u32 version;
	u32 record_size;
	u64 nr_records;
	u64 records;
	u64 reserved[5];
};

static_assert(sizeof(struct pci_liveupdate_header_ser) == 64);
static_assert(offsetof(struct pci_liveupdate_header_ser, version) == 0);
static_assert(offsetof(struct pci_liveupdate_header_ser, record_size) == 4);
static_assert(offsetof(struct pci_liveupdate_header_ser, nr_records) == 8);
static_assert(offsetof(struct pci_liveupdate_header_ser, records) == 16);

/**
 * struct pci_liveupdate_bar_ser - one Base Address Register
 * @value: the register as it was read, both halves of a 64-bit BAR, flag bits
 *	   included (PCIe r6.0, sec 7.5.1.2.1). A bus address, not a CPU address.
 * @mask:  address bits that the register implements, i.e. minus the size in
 *	   bytes; 0 if there is no BAR (or it is the upper half of the one before)
 */
struct pci_liveupdate_bar_ser {
	u64 value;
	u64 mask;
};

static_assert(sizeof(struct pci_liveupdate_bar_ser) == 16);

/**
 * struct pci_liveupdate_record_ser - one preserved function or bridge
 * @domain:	 PCI domain (segment) number
 * @bdf:	 bus << 8 | device << 3 | function: the Requester ID
 * @flags:	 PCI_LIVEUPDATE_F_*
 * @use_count:	 how many preserved devices are at or below this function; 0
 *		 marks a free slot
 * @dma:	 &enum pci_liveupdate_dma
 * @hdr_type:	 header type register without the multi-function bit
 * @windows:	 bridge: PCI_LIVEUPDATE_WIN_*
 * @claimed:	 bit n is set if BAR n is in the resource tree of the outgoing
 *		 kernel under the same address, i.e. overlaps no other claimed BAR
 * @vendor:	 Vendor ID
 * @device:	 Device ID
 * @subvendor:	 Subsystem Vendor ID, type 0 headers only
 * @subdevice:	 Subsystem ID, type 0 headers only
 * @class:	 Class Code, 24 bits
 * @primary:	 bridge: Primary Bus Number
 * @secondary:	 bridge: Secondary Bus Number
 * @subordinate: bridge: Subordinate Bus Number
 * @reserved0:	 zero
 * @dsn:	 Device Serial Number, 0 if the device has none
 * @bars:	 BARs; a bridge has two, the other slots (but the ROM's) are zero
 * @reserved:	 zero
 */
struct pci_liveupdate_record_ser {
	u32 domain;
	u16 bdf;
	u16 flags;
	u32 use_count;
	u8 dma;
	u8 hdr_type;
	u8 windows;
	u8 claimed;
	u16 vendor;
	u16 device;
	u16 subvendor;
	u16 subdevice;
	u32 class;
	u8 primary;
	u8 secondary;
	u8 subordinate;
	u8 reserved0;
	u64 dsn;
	struct pci_liveupdate_bar_ser bars[PCI_LIVEUPDATE_NUM_BARS];
	u64 reserved[10];
};

static_assert(sizeof(struct pci_liveupdate_record_ser) == 232);
static_assert(offsetof(struct pci_liveupdate_record_ser, bdf) == 4);
static_assert(offsetof(struct pci_liveupdate_record_ser, use_count) == 8);
static_assert(offsetof(struct pci_liveupdate_record_ser, dma) == 12);
static_assert(offsetof(struct pci_liveupdate_record_ser, vendor) == 16);
static_assert(offsetof(struct pci_liveupdate_record_ser, class) == 24);
static_assert(offsetof(struct pci_liveupdate_record_ser, dsn) == 32);
static_assert(offsetof(struct pci_liveupdate_record_ser, bars) == 40);
static_assert(offsetof(struct pci_liveupdate_record_ser, reserved) == 152);

/**
 * struct pci_liveupdate_state_ser - registers that a reset is followed by
 * @config: the header, offsets 0x00-0x3f
 * @size:   bytes of &struct pci_liveupdate_state_cap_ser that follow
 * @reserved: zero
 *
 * What a driver has saved with pci_store_saved_state(), for drivers to hand over
 * in structures of their own. It is of the version of the records.
 */
struct pci_liveupdate_state_ser {
	u32 config[16];
	u32 size;
	u32 reserved;
};

static_assert(sizeof(struct pci_liveupdate_state_ser) == 72);

/**
 * struct pci_liveupdate_state_cap_ser - registers of one capability
 * @id:    Capability ID
 * @flags: PCI_LIVEUPDATE_STATE_*
 * @size:  bytes of registers that follow, which the next capability follows at a
 *	   multiple of 8 bytes
 */
struct pci_liveupdate_state_cap_ser {
	u16 id;
	u16 flags;
	u32 size;
};

static_assert(sizeof(struct pci_liveupdate_state_cap_ser) == 8);

#define PCI_LIVEUPDATE_STATE_EXTENDED	0x0001	/* an Extended Capability */
#define PCI_LIVEUPDATE_STATE_ALL	0x0001

#endif /* _LINUX_KHO_ABI_PCI_H */
