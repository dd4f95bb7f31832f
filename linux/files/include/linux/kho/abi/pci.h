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
 * change it. What a version reserves is zero in it, and a reader refuses it if it
 * is not. A slot whose @use_count is zero is free and otherwise all zero.
 *
 * Versions
 * ========
 *
 * A kernel reads its own version and the one before, and writes the oldest that
 * can say what is preserved, so that a host whose devices need nothing new can go
 * back to the previous release.
 *
 * Version 2 gives a meaning to what version 1 reserves, and moves nothing: it adds
 * frozen IOMMU domains (%PCI_LIVEUPDATE_DMA_TRANSLATED, @iommu of a record and of the
 * header),
 * Virtual Functions (%PCI_LIVEUPDATE_F_VF and @vf), and Physical Functions that
 * are kept with theirs (%PCI_LIVEUPDATE_F_PF, also %PCI_LIVEUPDATE_F_ENDPOINT if they have
 * an owner who preserves them, and one more slot with %PCI_LIVEUPDATE_F_IOV and @iov). A
 * kernel may know the version and yet have no code for some of this. It refuses such a
 * record as it refuses a damaged one.
 */

/* The name of the File-Lifecycle-Bound object; 48 bytes at most, with NUL */
#define PCI_LIVEUPDATE_COMPATIBLE	"pci"

/*
 * Versions of this layout start in a range of their own ("LU" in the upper
 * half): other code uses the same object name and counts from zero, and must
 * be told apart rather than misread.
 */
#define PCI_LIVEUPDATE_ABI_V1		0x4c550001
#define PCI_LIVEUPDATE_ABI_V2		0x4c550002

/* The newest, and the oldest that can be read */
#define PCI_LIVEUPDATE_ABI_VERSION	PCI_LIVEUPDATE_ABI_V2
#define PCI_LIVEUPDATE_ABI_OLDEST	PCI_LIVEUPDATE_ABI_V1

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
 * @PCI_LIVEUPDATE_DMA_TRANSLATED: Version 2. DMA goes on through an IOMMU domain
 *	that was frozen and is handed over. The incoming kernel leaves translation
 *	on and that domain in place until the owner has attached another one.
 * @PCI_LIVEUPDATE_DMA_NR: number of verdicts, not one itself
 *
 * The verdict is about a preserved device. A bridge keeps Bus Master in any
 * case, and its verdict field is zero.
 */
enum pci_liveupdate_dma {
	PCI_LIVEUPDATE_DMA_PAUSED	= 0,
	PCI_LIVEUPDATE_DMA_UNTRANSLATED	= 1,
	PCI_LIVEUPDATE_DMA_TRANSLATED	= 2,
	PCI_LIVEUPDATE_DMA_NR
};

/* Flags of a record. A slot with F_IOV has no other. */
#define PCI_LIVEUPDATE_F_BRIDGE		0x0001	/* header type 1 */
#define PCI_LIVEUPDATE_F_ENDPOINT	0x0002	/* preserved by its owner */
#define PCI_LIVEUPDATE_F_DMA_PENDING	0x0004	/* paused with requests outstanding */
#define PCI_LIVEUPDATE_F_DEAD		0x0008	/* removed or failed since preserved */
#define PCI_LIVEUPDATE_F_ALL_V1		0x000f
#define PCI_LIVEUPDATE_F_PF		0x0010	/* v2: kept with its Virtual Functions */
#define PCI_LIVEUPDATE_F_VF		0x0020	/* v2: a Virtual Function */
#define PCI_LIVEUPDATE_F_IOV		0x0040	/* v2: describes the VFs of a PF */
#define PCI_LIVEUPDATE_F_ALL		0x007f

/* Kinds of windows that a bridge implements */
#define PCI_LIVEUPDATE_WIN_IO		0x01
#define PCI_LIVEUPDATE_WIN_PREF		0x02
#define PCI_LIVEUPDATE_WIN_PREF64	0x04
#define PCI_LIVEUPDATE_WIN_ALL		0x07

/**
 * struct pci_liveupdate_header_ser - where the records are
 * @version:	 PCI_LIVEUPDATE_ABI_V*. Always the first word.
 * @record_size: sizeof(struct pci_liveupdate_record_ser), in bytes
 * @nr_records:	 records in use
 * @records:	 physical address of the first block of the record set
 * @iommu:	 version 2: physical address of a &struct iommu_liveupdate_ser if the
 *		 verdict of any device is %PCI_LIVEUPDATE_DMA_TRANSLATED. Otherwise, and
 *		 in version 1, zero
 * @reserved:	 zero
 */
struct pci_liveupdate_header_ser {
	u32 version;
	u32 record_size;
	u64 nr_records;
	u64 records;
	u64 iommu;
	u64 reserved[4];
};

static_assert(sizeof(struct pci_liveupdate_header_ser) == 64);
static_assert(offsetof(struct pci_liveupdate_header_ser, version) == 0);
static_assert(offsetof(struct pci_liveupdate_header_ser, record_size) == 4);
static_assert(offsetof(struct pci_liveupdate_header_ser, nr_records) == 8);
static_assert(offsetof(struct pci_liveupdate_header_ser, records) == 16);
static_assert(offsetof(struct pci_liveupdate_header_ser, iommu) == 24);

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
 * struct pci_liveupdate_iommu_ser - the frozen domain that translates for a function
 * @domain:	number of the domain in what the IOMMU driver hands over, see
 *		linux/kho/abi/iommu.h
 * @tag:	what the hardware tags cached translations of that domain with: a
 *		Domain ID (VT-d 4.1, sec 9.3; AMD IOMMU 3.08, sec 2.2.2.1), or a
 *		VMID or ASID (SMMUv3, sec 5.2). Not to be given to another domain
 *		before the caches have been invalidated
 * @stream:	who the IOMMU takes the function's requests for: the Requester ID,
 *		on SMMUv3 the StreamID
 * @reserved:	zero
 *
 * All zero unless the verdict is %PCI_LIVEUPDATE_DMA_TRANSLATED.
 */
struct pci_liveupdate_iommu_ser {
	u32 domain;
	u32 tag;
	u32 stream;
	u32 reserved;
};

static_assert(sizeof(struct pci_liveupdate_iommu_ser) == 16);

/**
 * struct pci_liveupdate_vf_ser - which Virtual Function a function is
 * @pf:		bus << 8 | device << 3 | function of the Physical Function, which
 *		is in the same domain and has a record, too
 * @index:	number of the Virtual Function, from 0: its Requester ID is @pf +
 *		First VF Offset + @index * VF Stride (PCIe r6.0, sec 9.2.1.2)
 *
 * All zero unless the record has %PCI_LIVEUPDATE_F_VF. Such a record has no BARs:
 * those of all Virtual Functions are in the SR-IOV capability. Nor has the function
 * an identity but that of its Physical Function and its number: Vendor ID and
 * Device ID read as all ones (PCIe r6.0, sec 9.3.4.1), and the record has what
 * they stand for.
 */
struct pci_liveupdate_vf_ser {
	u16 pf;
	u16 index;
};

static_assert(sizeof(struct pci_liveupdate_vf_ser) == 4);

/**
 * enum pci_liveupdate_pf_owner - who looks after a Physical Function
 * @PCI_LIVEUPDATE_PF_NOBODY: no driver
 * @PCI_LIVEUPDATE_PF_STUB: a driver that leaves the function alone (pci-pf-stub)
 * @PCI_LIVEUPDATE_PF_USER: a user, who preserves it, too (vfio-pci)
 * @PCI_LIVEUPDATE_PF_NATIVE: a driver that keeps Virtual Functions through a kexec
 * @PCI_LIVEUPDATE_PF_NR: number of owners, not one itself
 */
enum pci_liveupdate_pf_owner {
	PCI_LIVEUPDATE_PF_NOBODY	= 0,
	PCI_LIVEUPDATE_PF_STUB		= 1,
	PCI_LIVEUPDATE_PF_USER		= 2,
	PCI_LIVEUPDATE_PF_NATIVE	= 3,
	PCI_LIVEUPDATE_PF_NR
};

/* Flags of the Virtual Functions of a Physical Function */
#define PCI_LIVEUPDATE_IOV_AUTOPROBE	0x01	/* drivers bind those that nobody owns */
#define PCI_LIVEUPDATE_IOV_ALL		0x01

/**
 * struct pci_liveupdate_iov_ser - the SR-IOV capability of a Physical Function
 * @ctrl:	SR-IOV Control (PCIe r6.0, sec 9.3.3.3)
 * @initial:	InitialVFs, functions (sec 9.3.3.5)
 * @total:	TotalVFs, functions (sec 9.3.3.6)
 * @num:	NumVFs, functions (sec 9.3.3.7)
 * @offset:	First VF Offset, a distance of Requester IDs (sec 9.3.3.9)
 * @stride:	VF Stride, a distance of Requester IDs (sec 9.3.3.10)
 * @vf_device:	VF Device ID (sec 9.3.3.11)
 * @driver_max:	how many Virtual Functions the driver lets be enabled
 * @caps:	SR-IOV Capabilities (sec 9.3.3.2)
 * @page_size:	System Page Size as in the register: bit n stands for 2^(n+12)
 *		bytes (sec 9.3.3.13)
 * @vf_class:	Class Code of the Virtual Functions, 24 bits. It, and the next
 *		two, cannot be read from one that is in reset
 * @vf_subvendor: their Subsystem Vendor ID
 * @vf_subdevice: their Subsystem ID
 * @bar_vfs:	how many Virtual Functions there is address space for behind VF
 *		BAR n: @total, unless the BAR has been resized (sec 7.8.7)
 * @link:	Function Dependency Link (sec 9.3.3.8)
 * @last_bus:	highest bus number that a Virtual Function can have, whatever NumVFs.
 *		To find it out takes writes to NumVFs
 * @owner:	&enum pci_liveupdate_pf_owner
 * @flags:	PCI_LIVEUPDATE_IOV_*
 * @vf_token:	what users of Virtual Functions have to know, if @owner is a user
 * @reserved:	zero
 *
 * This is in a slot of its own, whose @domain and @bdf are the Physical Function's
 * and whose @use_count is one. Its @bars are the VF BARs: value as it was read
 * (sec 9.3.3.14), size of *one* Virtual Function's part, and in @claimed those
 * whose whole space is in the resource tree. All other fields of the slot are zero.
 */
struct pci_liveupdate_iov_ser {
	u16 ctrl;
	u16 initial;
	u16 total;
	u16 num;
	u16 offset;
	u16 stride;
	u16 vf_device;
	u16 driver_max;
	u32 caps;
	u32 page_size;
	u32 vf_class;
	u16 vf_subvendor;
	u16 vf_subdevice;
	u16 bar_vfs[6];
	u8 link;
	u8 last_bus;
	u8 owner;
	u8 flags;
	u8 vf_token[16];
	u64 reserved[2];
};

static_assert(sizeof(struct pci_liveupdate_iov_ser) == 80);
static_assert(offsetof(struct pci_liveupdate_iov_ser, caps) == 16);
static_assert(offsetof(struct pci_liveupdate_iov_ser, vf_class) == 24);
static_assert(offsetof(struct pci_liveupdate_iov_ser, bar_vfs) == 32);
static_assert(offsetof(struct pci_liveupdate_iov_ser, link) == 44);
static_assert(offsetof(struct pci_liveupdate_iov_ser, vf_token) == 48);
static_assert(offsetof(struct pci_liveupdate_iov_ser, reserved) == 64);

/**
 * struct pci_liveupdate_record_ser - one preserved function or bridge
 * @domain:	 PCI domain (segment) number
 * @bdf:	 bus << 8 | device << 3 | function: the Requester ID
 * @flags:	 PCI_LIVEUPDATE_F_*
 * @use_count:	 how many preserved devices are at or below this function; 0
 *		 marks a free slot. The Virtual Functions of a Physical Function
 *		 count as below it, and it counts itself if it has its own owner
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
 * @reserved:	 version 1: zero. The other members of the union are in its place
 * @iommu:	 version 2: what translates for the function
 * @vf:		 version 2: which Virtual Function it is
 * @reserved1:	 version 2: zero
 * @reserved2:	 version 2: zero
 * @iov:	 version 2, in a slot with %PCI_LIVEUPDATE_F_IOV alone
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
	union {
		u64 reserved[10];
		struct {
			struct pci_liveupdate_iommu_ser iommu;
			struct pci_liveupdate_vf_ser vf;
			u32 reserved1;
			u64 reserved2[7];
		};
		struct pci_liveupdate_iov_ser iov;
	};
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
static_assert(offsetof(struct pci_liveupdate_record_ser, iommu) == 152);
static_assert(offsetof(struct pci_liveupdate_record_ser, vf) == 168);
static_assert(offsetof(struct pci_liveupdate_record_ser, reserved2) == 176);
static_assert(offsetof(struct pci_liveupdate_record_ser, iov) == 152);

/**
 * struct pci_liveupdate_state_ser - registers that a reset is followed by
 * @config: the header, offsets 0x00-0x3f
 * @size:   bytes of &struct pci_liveupdate_state_cap_ser that follow
 * @reserved: zero
 *
 * What a driver has saved with pci_store_saved_state(), for drivers to hand over
 * in structures of their own. It is the same in both versions.
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
