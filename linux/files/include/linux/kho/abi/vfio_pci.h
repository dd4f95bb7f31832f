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
 * in memory of its own. Its physical address is the data of the file under the
 * Live Update Orchestrator, with the compatible string
 * %VFIO_PCI_LIVEUPDATE_COMPATIBLE.
 *
 * It says which device the file was for, and what the next kernel cannot find
 * out without disturbing that device. Where the device is, what it is, and what
 * becomes of its DMA is the business of the PCI core (see linux/kho/abi/pci.h).
 *
 * The first word is the version and never moves; any other change of layout or
 * meaning takes a new version. Integers are in the byte order of the machine.
 * Reserved fields are zero, and a reader refuses them if they are not.
 */

/* The name of the file handler; 48 bytes at most, with NUL */
#define VFIO_PCI_LIVEUPDATE_COMPATIBLE	"vfio-pci-v1"

/* "LV" in the upper half tells these structures from other people's */
#define VFIO_PCI_LIVEUPDATE_ABI_VERSION	0x4c560001

/* Flags of a device */
#define VFIO_PCI_LIVEUPDATE_F_NOIOMMU		0x0001	/* no-IOMMU mode */
#define VFIO_PCI_LIVEUPDATE_F_RESET_WORKS	0x0002	/* a reset has been tried */
#define VFIO_PCI_LIVEUPDATE_F_IRQS_OFF		0x0004	/* MSI is off, for want of masks */
#define VFIO_PCI_LIVEUPDATE_F_VF_TOKEN		0x0008	/* it has one */
#define VFIO_PCI_LIVEUPDATE_F_ALL		0x000f

/* Value of irq_type if no interrupts are armed */
#define VFIO_PCI_LIVEUPDATE_IRQ_NONE		0xffff

/* Sizes of the arrays, in bytes and vectors */
#define VFIO_PCI_LIVEUPDATE_CONFIG_SIZE		4096
#define VFIO_PCI_LIVEUPDATE_STATE_SIZE		2048
#define VFIO_PCI_LIVEUPDATE_VECTORS		2048

/**
 * struct vfio_pci_liveupdate_ser - one preserved vfio-pci device file
 * @version:	 %VFIO_PCI_LIVEUPDATE_ABI_VERSION. Always the first word.
 * @size:	 sizeof(struct vfio_pci_liveupdate_ser), in bytes
 * @domain:	 PCI domain (segment) number
 * @bdf:	 bus << 8 | device << 3 | function: the Requester ID
 * @flags:	 VFIO_PCI_LIVEUPDATE_F_*
 * @config_size: bytes in use of @vconfig and @config_map
 * @state_size:	 bytes in use of @state, 0 if there is none
 * @irq_type:	 %VFIO_PCI_INTX_IRQ_INDEX, %VFIO_PCI_MSI_IRQ_INDEX,
 *		 %VFIO_PCI_MSIX_IRQ_INDEX or %VFIO_PCI_LIVEUPDATE_IRQ_NONE
 * @reserved0:	 zero
 * @vf_token:	 VF token of a Physical Function, see %VFIO_DEVICE_FEATURE_PCI_VF_TOKEN
 * @reserved:	 zero
 * @armed:	 bit n is set if vector n had an eventfd
 * @signalled:	 bit n is set if nobody had read that since it was signalled
 * @vconfig:	 configuration space as the user sees it, as far as it is
 *		 virtualised
 * @config_map:	 which capability each byte of @vconfig belongs to: its ID, 0 for
 *		 the header, 0xff or 0xfe for none
 * @state:	 &struct pci_liveupdate_state_ser, what the device is restored to
 *		 when it is closed
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
	u16 reserved0;
	u8 vf_token[16];
	u64 reserved[3];
	u64 armed[VFIO_PCI_LIVEUPDATE_VECTORS / 64];
	u64 signalled[VFIO_PCI_LIVEUPDATE_VECTORS / 64];
	u8 vconfig[VFIO_PCI_LIVEUPDATE_CONFIG_SIZE];
	u8 config_map[VFIO_PCI_LIVEUPDATE_CONFIG_SIZE];
	u8 state[VFIO_PCI_LIVEUPDATE_STATE_SIZE];
};

static_assert(sizeof(struct vfio_pci_liveupdate_ser) == 10816);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, version) == 0);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, size) == 4);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, domain) == 8);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, bdf) == 12);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, flags) == 14);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, config_size) == 16);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, irq_type) == 20);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, vf_token) == 24);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, reserved) == 40);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, armed) == 64);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, signalled) == 320);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, vconfig) == 576);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, config_map) == 4672);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, state) == 8768);

#endif /* _LINUX_KHO_ABI_VFIO_PCI_H */
