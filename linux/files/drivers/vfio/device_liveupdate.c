// SPDX-License-Identifier: GPL-2.0
/*
 * Device files that are handed over to the next kernel: what the driver of a
 * VFIO device needs to know about them, and to make one.
 */

#include <linux/anon_inodes.h>
#include <linux/device_cgroup.h>
#include <linux/vfio.h>

#include "vfio.h"

/**
 * vfio_device_cdev_may_open - could the calling task open the cdev?
 * @device: device, of which the caller has a file, or that is registered
 *
 * As far as that does not depend on which of its device nodes would be opened.
 *
 * Context: Process context, of the task that is to get a file of @device.
 * Return: 0 if it could, -EPERM if it is a no-IOMMU device and the task lacks
 * CAP_SYS_RAWIO, or if the task's device cgroup denies reading or writing.
 */
int vfio_device_cdev_may_open(struct vfio_device *device)
{
	dev_t devt = device->device.devt;

	if (vfio_device_is_noiommu(device) && !capable(CAP_SYS_RAWIO))
		return -EPERM;

	return devcgroup_check_permission(DEVCG_DEV_CHAR, MAJOR(devt), MINOR(devt),
					  DEVCG_ACC_READ | DEVCG_ACC_WRITE);
}
EXPORT_SYMBOL_GPL(vfio_device_cdev_may_open);

/**
 * vfio_device_cdev_getfile - make a device file without a device node
 * @device: registered device
 *
 * For the driver of @device, which got it from the previous kernel. The file is
 * like one from open(2) of the cdev: unbound, and for those who could have
 * opened it. Nothing depends on the inode of the cdev: mappings belong to the
 * device's own inode, and release looks at the private data alone.
 *
 * Context: Process context, of the task that is given the file. @device must not
 * be released meanwhile, e.g. because its parent is locked.
 * Return: the file, or an ERR_PTR: -ENODEV if @device is being unregistered,
 * -EPERM as vfio_device_cdev_may_open() says, -ENOMEM or another error of the
 * file system.
 */
struct file *vfio_device_cdev_getfile(struct vfio_device *device)
{
	struct vfio_device_file *df;
	struct file *filep;
	int ret;

	ret = vfio_device_cdev_may_open(device);
	if (ret)
		return ERR_PTR(ret);

	df = vfio_df_cdev_alloc(device);
	if (IS_ERR(df))
		return ERR_CAST(df);
	df->retrieved = true;

	filep = anon_inode_getfile_fmode("[vfio-device]", &vfio_device_fops,
					 df, O_RDWR, FMODE_PREAD | FMODE_PWRITE);
	if (IS_ERR(filep)) {
		vfio_device_put_registration(device);
		kfree(df);
		return filep;
	}

	/* As in vfio_device_fops_cdev_open() */
	filep->f_mapping = device->inode->i_mapping;

	return filep;
}
EXPORT_SYMBOL_GPL(vfio_device_cdev_getfile);

/**
 * vfio_file_cdev_bound - is this a cdev file that is bound to an iommufd?
 * @file: device file, see vfio_device_from_file()
 *
 * Return: 0 if it is, and it will be until it is released; -EINVAL if it is not
 * bound (yet), -ENOTTY if it was opened through a group.
 */
int vfio_file_cdev_bound(struct file *file)
{
	struct vfio_device_file *df = file->private_data;

	if (df->group)
		return -ENOTTY;
	/* Paired with smp_store_release() in vfio_df_ioctl_bind_iommufd() */
	return smp_load_acquire(&df->access_granted) ? 0 : -EINVAL;
}
EXPORT_SYMBOL_GPL(vfio_file_cdev_bound);
