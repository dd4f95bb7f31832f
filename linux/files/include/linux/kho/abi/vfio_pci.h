/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Preserved vfio-pci devices: the structure one kernel hands to the next.
 */
#ifndef _LINUX_KHO_ABI_VFIO_PCI_H
#define _LINUX_KHO_ABI_VFIO_PCI_H

#include <linux/build_bug.h>
#include <linux/stddef.h>
#include <linux/types.h>

/**
 * DOC: vfio-pci Live Update ABI
 *
 * Every preserved vfio-pci device file has one &struct vfio_pci_liveupdate_ser
 * in memory of its own, with what its version has behind it. Its physical address
 * is the data of the file under the Live Update Orchestrator, with the compatible
 * string %VFIO_PCI_LIVEUPDATE_COMPATIBLE.
 *
 * It says which device the file was for, and what the next kernel cannot find
 * out without disturbing that device. Where the device is, what it is, and what
 * becomes of its DMA is the business of the PCI core (see linux/kho/abi/pci.h).
 *
 * The first word is the version and never moves; any other change of layout or
 * meaning takes a new version. Integers are in the byte order of the machine.
 * What a version reserves is zero in it, and a reader refuses it if it is not.
 *
 * Versions
 * ========
 *
 * Both begin with &struct vfio_pci_liveupdate_ser. Version 1 goes on as
 * &struct vfio_pci_liveupdate_v1_ser, of one size whatever is in it. Version 2 has
 * what is in use alone, one after the other, each part of a multiple of 8 bytes:
 *
 * #. one bit for each of @nr_vectors vectors: it had an eventfd
 * #. the same: nobody had read that since it was signalled
 * #. @nr_spans times &struct vfio_pci_liveupdate_span_ser
 * #. the bytes of all spans of virtualised configuration space
 * #. @state_size bytes: what the device is restored to when it is closed
 *
 * The version goes with that of the PCI records: version 2 is written if they are
 * handed over in %PCI_LIVEUPDATE_ABI_V2 or a later one, and version 1 if not.
 */

/* The name of the file handler; 48 bytes at most, with NUL */
#define VFIO_PCI_LIVEUPDATE_COMPATIBLE	"vfio-pci-v1"

/* "LV" in the upper half tells these structures from other people's */
#define VFIO_PCI_LIVEUPDATE_ABI_V1	0x4c560001
#define VFIO_PCI_LIVEUPDATE_ABI_V2	0x4c560002

/* Flags of a device */
#define VFIO_PCI_LIVEUPDATE_F_NOIOMMU		0x0001	/* no-IOMMU mode */
#define VFIO_PCI_LIVEUPDATE_F_RESET_WORKS	0x0002	/* a reset has been tried */
#define VFIO_PCI_LIVEUPDATE_F_IRQS_OFF		0x0004	/* MSI is off, for want of masks */
#define VFIO_PCI_LIVEUPDATE_F_VF_TOKEN		0x0008	/* it has one */
#define VFIO_PCI_LIVEUPDATE_F_ALL_V1		0x000f
#define VFIO_PCI_LIVEUPDATE_F_SRIOV		0x0010	/* v2: a PF that has VFs enabled */
#define VFIO_PCI_LIVEUPDATE_F_TOKEN_NEEDED	0x0020	/* v2: a VF of a PF with a token */
#define VFIO_PCI_LIVEUPDATE_F_ALL		0x003f

/* Value of irq_type if no interrupts are armed, and nothing is left to be signalled */
#define VFIO_PCI_LIVEUPDATE_IRQ_NONE		0xffff

/* The most that there can be, in bytes and vectors */
#define VFIO_PCI_LIVEUPDATE_CONFIG_SIZE		4096
#define VFIO_PCI_LIVEUPDATE_STATE_SIZE		2048
#define VFIO_PCI_LIVEUPDATE_VECTORS		2048

/**
 * struct vfio_pci_liveupdate_ser - one preserved vfio-pci device file
 * @version:	 VFIO_PCI_LIVEUPDATE_ABI_V*. Always the first word.
 * @size:	 bytes in all, this structure included
 * @domain:	 PCI domain (segment) number
 * @bdf:	 bus << 8 | device << 3 | function: the Requester ID
 * @flags:	 VFIO_PCI_LIVEUPDATE_F_*
 * @config_size: bytes of configuration space that it is about
 * @state_size:	 bytes in use of the state that the device is restored to when it is
 *		 closed, a &struct pci_liveupdate_state_ser; 0 if there is none
 * @irq_type:	 %VFIO_PCI_INTX_IRQ_INDEX, %VFIO_PCI_MSI_IRQ_INDEX,
 *		 %VFIO_PCI_MSIX_IRQ_INDEX or %VFIO_PCI_LIVEUPDATE_IRQ_NONE
 * @nr_vectors:	 version 2: vectors that there are bits for, a multiple of 64.
 *		 Version 1: zero
 * @vf_token:	 VF token of a Physical Function, see %VFIO_DEVICE_FEATURE_PCI_VF_TOKEN
 * @nr_spans:	 version 2: how many spans of configuration space there are.
 *		 Version 1: zero
 * @reserved:	 zero
 *
 * Everything from @config_size on is written at freeze.
 */
struct vfio_pci_liveupdate_ser {
	u32 version;
	u32 size;
	u32 domain;
	u16 bdf;
	u16 flags;
	u16 config_size;
	u16 state_size;
	u16 irq_type;
	u16 nr_vectors;
	u8 vf_token[16];
	u16 nr_spans;
	u16 reserved[11];
};

static_assert(sizeof(struct vfio_pci_liveupdate_ser) == 64);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, version) == 0);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, size) == 4);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, domain) == 8);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, bdf) == 12);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, flags) == 14);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, config_size) == 16);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, irq_type) == 20);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, vf_token) == 24);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, nr_spans) == 40);

/**
 * struct vfio_pci_liveupdate_v1_ser - all of version 1
 * @head:	 what both versions begin with
 * @armed:	 bit n is set if vector n had an eventfd
 * @signalled:	 bit n is set if nobody had read that since it was signalled
 * @vconfig:	 configuration space as the user sees it, as far as it is
 *		 virtualised
 * @config_map:	 which capability each byte of @vconfig belongs to: its ID, 0 for
 *		 the header, 0xff or 0xfe for none
 * @state:	 &struct pci_liveupdate_state_ser
 */
struct vfio_pci_liveupdate_v1_ser {
	struct vfio_pci_liveupdate_ser head;
	u64 armed[VFIO_PCI_LIVEUPDATE_VECTORS / 64];
	u64 signalled[VFIO_PCI_LIVEUPDATE_VECTORS / 64];
	u8 vconfig[VFIO_PCI_LIVEUPDATE_CONFIG_SIZE];
	u8 config_map[VFIO_PCI_LIVEUPDATE_CONFIG_SIZE];
	u8 state[VFIO_PCI_LIVEUPDATE_STATE_SIZE];
};

static_assert(sizeof(struct vfio_pci_liveupdate_v1_ser) == 10816);
static_assert(offsetof(struct vfio_pci_liveupdate_v1_ser, armed) == 64);
static_assert(offsetof(struct vfio_pci_liveupdate_v1_ser, signalled) == 320);
static_assert(offsetof(struct vfio_pci_liveupdate_v1_ser, vconfig) == 576);
static_assert(offsetof(struct vfio_pci_liveupdate_v1_ser, config_map) == 4672);
static_assert(offsetof(struct vfio_pci_liveupdate_v1_ser, state) == 8768);

/**
 * struct vfio_pci_liveupdate_span_ser - bytes in a row of one capability
 * @offset:	offset of the first in configuration space
 * @size:	how many bytes
 * @id:		ID of the capability, 0 for the header
 * @reserved:	zero
 *
 * In the order of their offsets, without overlap. What is between them belongs to
 * no capability and is not handed over.
 */
struct vfio_pci_liveupdate_span_ser {
	u16 offset;
	u16 size;
	u8 id;
	u8 reserved[3];
};

static_assert(sizeof(struct vfio_pci_liveupdate_span_ser) == 8);

#endif /* _LINUX_KHO_ABI_VFIO_PCI_H */
