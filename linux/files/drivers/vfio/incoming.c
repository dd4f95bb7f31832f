// SPDX-License-Identifier: GPL-2.0
/*
 * VFIO: devices that the previous kernel has handed over.
 */

#include <linux/pci.h>
#include <linux/pci_liveupdate.h>
#include <linux/vfio.h>

#include "vfio.h"

/**
 * vfio_device_awaits_owner - must this device only be opened by who retrieves it?
 * @device: registered device
 *
 * A device that the previous kernel handed over is running on behalf of whoever
 * retrieves it. Nobody else gets it before that is settled.
 *
 * Context: any.
 * Return: true, and the log says so, if that is not settled.
 */
bool vfio_device_awaits_owner(struct vfio_device *device)
{
	struct device *dev = device->dev;

	if (!dev_is_pci(dev) || !pci_liveupdate_is_incoming(to_pci_dev(dev)))
		return false;

	dev_notice_ratelimited(dev, "in use since before the live update: retrieve it from its session, or finish that\n");
	return true;
}
