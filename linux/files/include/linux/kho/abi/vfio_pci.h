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
#define VFIO_PCI_LIVEUPDATE_F_ALL		0x0003

/**
 * struct vfio_pci_liveupdate_ser - one preserved vfio-pci device file
 * @version:  %VFIO_PCI_LIVEUPDATE_ABI_VERSION. Always the first word.
 * @size:     sizeof(struct vfio_pci_liveupdate_ser), in bytes
 * @domain:   PCI domain (segment) number
 * @bdf:      bus << 8 | device << 3 | function: the Requester ID
 * @flags:    VFIO_PCI_LIVEUPDATE_F_*
 * @reserved: zero
 */
struct vfio_pci_liveupdate_ser {
	u32 version;
	u32 size;
	u32 domain;
	u16 bdf;
	u16 flags;
	u64 reserved[6];
};

static_assert(sizeof(struct vfio_pci_liveupdate_ser) == 64);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, version) == 0);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, size) == 4);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, domain) == 8);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, bdf) == 12);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, flags) == 14);
static_assert(offsetof(struct vfio_pci_liveupdate_ser, reserved) == 16);

#endif /* _LINUX_KHO_ABI_VFIO_PCI_H */
