// SPDX-License-Identifier: GPL-2.0
/*
 * vfio_hot_reset - reset a PCI function together with all that its reset hits.
 *
 *	vfio_hot_reset BDF [OTHER...]
 *
 * asks VFIO for it through BDF (VFIO_DEVICE_PCI_HOT_RESET), as the owner of BDF and
 * the OTHER functions. vfio-pci must have bound them all. VFIO wants the caller to
 * own every function in the slot; PCI Live Update refuses if one is preserved.
 *
 * Output is one JSON object. Exit codes: 0 reset, 1 not (see "rc"), 2 usage.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/vfio.h>

#include "json_out.h"
#include "vfio_noiommu.h"

/* Returns the device's cdev, which the caller keeps open, or -errno */
static int own(const char *bdf, int iommufd)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind), .iommufd = iommufd };
	int cdev = vfio_noiommu_cdev_open(bdf);

	if (cdev >= 0 && ioctl(cdev, VFIO_DEVICE_BIND_IOMMUFD, &bind))
		return -errno;
	return cdev;
}

int main(int argc, char *argv[])
{
	/* No list of groups: the functions are known by the iommufd they share */
	struct vfio_pci_hot_reset reset = { .argsz = sizeof(reset) };
	struct json j = {};
	int first = -1, iommufd, ret = 0;

	if (argc < 2) {
		fprintf(stderr, "vfio_hot_reset BDF [OTHER...]\n");
		return 2;
	}

	iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	if (iommufd < 0) {
		json_error("open /dev/iommu", -errno, NULL);
		return 1;
	}
	for (int i = 1; i < argc; i++) {
		ret = own(argv[i], iommufd);
		if (ret < 0) {
			json_error("open the device", ret, argv[i]);
			return 1;
		}
		if (first < 0)
			first = ret;
	}
	ret = ioctl(first, VFIO_DEVICE_PCI_HOT_RESET, &reset) ? -errno : 0;

	json_begin(&j);
	json_str(&j, "event", "hot-reset");
	json_rc(&j, ret);
	json_end(&j);
	json_send(&j, STDOUT_FILENO);
	return ret ? 1 : 0;
}
