// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/iommufd.h>
#include <linux/vfio.h>

#include "pci_sysfs.h"
#include "vfio_noiommu.h"

int vfio_noiommu_cdev_open(const char *bdf)
{
	char name[64], path[128];
	int fd, ret;

	ret = pci_sysfs_vfio_cdev(bdf, name, sizeof(name));
	if (ret)
		return ret;

	snprintf(path, sizeof(path), "/dev/vfio/devices/%s", name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int region_info(struct vfio_noiommu *v, unsigned int index,
		       struct vfio_region_info *info)
{
	memset(info, 0, sizeof(*info));
	info->argsz = sizeof(*info);
	info->index = index;

	if (ioctl(v->cdev, VFIO_DEVICE_GET_REGION_INFO, info))
		return -errno;
	return 0;
}

int vfio_noiommu_bind_only(struct vfio_noiommu *v, int cdev)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
	struct vfio_region_info info;
	int ret;

	v->cdev = cdev;
	if (v->iommufd < 0)
		v->iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	if (v->iommufd < 0)
		return -errno;

	bind.iommufd = v->iommufd;
	if (v->token) {
		bind.flags = VFIO_DEVICE_BIND_FLAG_TOKEN;
		bind.token_uuid_ptr = (__u64)(unsigned long)v->token;
	}
	if (ioctl(v->cdev, VFIO_DEVICE_BIND_IOMMUFD, &bind))
		return -errno;
	v->dev_id = bind.out_devid;

	ret = region_info(v, VFIO_PCI_CONFIG_REGION_INDEX, &info);
	if (ret)
		return ret;
	v->config_offset = info.offset;
	return 0;
}

int vfio_noiommu_ioas(struct vfio_noiommu *v)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };

	if (ioctl(v->iommufd, IOMMU_IOAS_ALLOC, &alloc))
		return -errno;
	v->ioas_id = alloc.out_ioas_id;
	return 0;
}

static int attach_to(struct vfio_noiommu *v, __u32 id)
{
	struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach), .pt_id = id };

	return ioctl(v->cdev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach) ? -errno : 0;
}

int vfio_noiommu_attach_ioas(struct vfio_noiommu *v)
{
	return attach_to(v, v->ioas_id);
}

int vfio_noiommu_hwpt(struct vfio_noiommu *v)
{
	struct iommu_hwpt_alloc alloc = {
		.size = sizeof(alloc),
		.dev_id = v->dev_id,
		.pt_id = v->ioas_id,
	};

	if (ioctl(v->iommufd, IOMMU_HWPT_ALLOC, &alloc))
		return -errno;
	v->hwpt_id = alloc.out_hwpt_id;
	return 0;
}

int vfio_noiommu_attach_hwpt(struct vfio_noiommu *v)
{
	return attach_to(v, v->hwpt_id);
}

int vfio_noiommu_attach(struct vfio_noiommu *v)
{
	return vfio_noiommu_ioas(v) ?: vfio_noiommu_attach_ioas(v);
}

int vfio_noiommu_bind(struct vfio_noiommu *v, int cdev)
{
	return vfio_noiommu_bind_only(v, cdev) ?: vfio_noiommu_attach(v);
}

static int map_file(struct vfio_noiommu *v, int memfd, __u64 len, __u32 flags, __u64 iova)
{
	struct iommu_ioas_map_file map = {
		.size = sizeof(map),
		.flags = flags | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
		.ioas_id = v->ioas_id,
		.fd = memfd,
		.length = len,
		.iova = iova,
	};

	if (ioctl(v->iommufd, IOMMU_IOAS_MAP_FILE, &map))
		return -errno;

	v->iova = map.iova;
	v->mapped = len;
	return 0;
}

int vfio_noiommu_map(struct vfio_noiommu *v, int memfd, __u64 len)
{
	return map_file(v, memfd, len, 0, 0);
}

int vfio_noiommu_map_at(struct vfio_noiommu *v, int memfd, __u64 len, __u64 iova)
{
	return map_file(v, memfd, len, IOMMU_IOAS_MAP_FIXED_IOVA, iova);
}

int vfio_noiommu_unmap(struct vfio_noiommu *v)
{
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap),
		.ioas_id = v->ioas_id,
		.iova = v->iova,
		.length = v->mapped,
	};

	if (!v->mapped)
		return 0;
	if (ioctl(v->iommufd, IOMMU_IOAS_UNMAP, &unmap))
		return -errno;

	v->mapped = 0;
	return 0;
}

int vfio_noiommu_pa(struct vfio_noiommu *v, __u64 offset, __u64 *pa,
		    __u64 *run)
{
	struct iommu_ioas_noiommu_get_pa get = {
		.size = sizeof(get),
		.ioas_id = v->ioas_id,
		.iova = v->iova + offset,
		.length = v->mapped - offset,
	};

	if (offset >= v->mapped)
		return -EINVAL;
	if (ioctl(v->iommufd, IOMMU_IOAS_NOIOMMU_GET_PA, &get))
		return -errno;

	*pa = get.out_phys;
	*run = get.length;
	return 0;
}

int vfio_noiommu_map_bar0(struct vfio_noiommu *v)
{
	struct vfio_region_info info;
	void *bar;
	int ret;

	ret = region_info(v, VFIO_PCI_BAR0_REGION_INDEX, &info);
	if (ret)
		return ret;
	if (!(info.flags & VFIO_REGION_INFO_FLAG_MMAP))
		return -EOPNOTSUPP;

	bar = mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED,
		   v->cdev, info.offset);
	if (bar == MAP_FAILED)
		return -errno;

	v->bar0 = bar;
	v->bar0_size = info.size;
	return 0;
}

int vfio_noiommu_config_read(struct vfio_noiommu *v, unsigned int where,
			     void *data, size_t len)
{
	ssize_t n = pread(v->cdev, data, len, v->config_offset + where);

	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

int vfio_noiommu_config_write(struct vfio_noiommu *v, unsigned int where,
			      const void *data, size_t len)
{
	ssize_t n = pwrite(v->cdev, data, len, v->config_offset + where);

	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

int vfio_noiommu_set_irqs(const struct vfio_noiommu *v, int index, __u32 flags, unsigned int start,
			  unsigned int count, const int *fd)
{
	struct {
		struct vfio_irq_set head;
		__s32 fd[VFIO_NOIOMMU_VECTORS];
	} set = {
		.head.argsz = sizeof(set.head) + (fd ? count * sizeof(set.fd[0]) : 0),
		.head.flags = flags | (fd ? VFIO_IRQ_SET_DATA_EVENTFD : VFIO_IRQ_SET_DATA_NONE),
		.head.index = index,
		.head.start = start,
		.head.count = count,
	};

	if (fd && count > VFIO_NOIOMMU_VECTORS)
		return -EINVAL;
	if (fd)
		memcpy(set.fd, fd, count * sizeof(set.fd[0]));
	return ioctl(v->cdev, VFIO_DEVICE_SET_IRQS, &set) ? -errno : 0;
}

void vfio_noiommu_close(struct vfio_noiommu *v)
{
	if (v->bar0)
		munmap((void *)v->bar0, v->bar0_size);
	/* The device must stop before its memory is unpinned: cdev first */
	if (v->cdev >= 0)
		close(v->cdev);
	if (v->iommufd >= 0)
		close(v->iommufd);
	*v = (struct vfio_noiommu)VFIO_NOIOMMU_INIT;
}
