// SPDX-License-Identifier: GPL-2.0
/* What the registers of a device say that QEMU has open. */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "broker.h"

#define MAX_CAPABILITIES 48 /* of four bytes, in what is left of 256 */

/* PCI Express 6.0, 7.5.3.3 and 7.9.21.2: Function Level Reset Capability */
static bool is_flr(const uint8_t *cap, size_t size)
{
	uint32_t value;

	if (cap[0] == PCI_CAP_ID_EXP && size >= 8) {
		memcpy(&value, cap + PCI_EXP_DEVCAP, 4);
		return value & PCI_EXP_DEVCAP_FLR;
	}
	return cap[0] == PCI_CAP_ID_AF && size >= 4 &&
	       cap[PCI_AF_CAP] & PCI_AF_CAP_FLR;
}

/* VFIO shows the enabling bit of MSI-X as it is, that of MSI it does not */
int device_look(int fd, struct device *d)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info),
		.index = VFIO_PCI_CONFIG_REGION_INDEX,
	};
	uint8_t config[256], at;
	unsigned int n;

	if (ioctl(fd, VFIO_DEVICE_GET_REGION_INFO, &info) ||
	    pread(fd, config, sizeof(config), (off_t)info.offset) !=
		    sizeof(config))
		return -EIO;
	*d = (struct device){
		.irq = VFIO_PCI_MSI_IRQ_INDEX,
		.master = config[PCI_COMMAND] & PCI_COMMAND_MASTER,
	};
	at = config[PCI_CAPABILITY_LIST] & ~3;
	for (n = 0; at && n < MAX_CAPABILITIES; n++) {
		const uint8_t *cap = config + at;

		if (cap[0] == PCI_CAP_ID_MSIX &&
		    cap[PCI_MSIX_FLAGS + 1] & (PCI_MSIX_FLAGS_ENABLE >> 8))
			d->irq = VFIO_PCI_MSIX_IRQ_INDEX;
		d->flr |= is_flr(cap, sizeof(config) - at);
		at = cap[PCI_CAP_LIST_NEXT] & ~3;
	}
	return 0;
}
