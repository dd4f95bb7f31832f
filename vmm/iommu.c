// SPDX-License-Identifier: GPL-2.0
/*
 * iommufd: the address space in which the devices find the guest's memory. The memfd is
 * mapped at its own offsets, which are guest-physical addresses if an IOMMU translates.
 * If none does, the map translates nothing: it pins the memory, which is what keeps the
 * device from being stopped when its session is finished, and it tells where the pages
 * are.
 *
 * A device file that is bound stays bound, to the iommufd of whoever did it. Another
 * process that takes the file over, out of the session or by inheritance, needs the same
 * iommufd, and finds all of this done, or some of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/iommufd.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>

#include "vmm.h"

/* Objects that an iommufd has at most, as it numbers them */
#define MAX_ID (2 * MAX_DEVICES + 2)

int iommu_open(struct iommu *i)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };

	i->fd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	if (i->fd < 0)
		return fail(-errno, "/dev/iommu");
	if (ioctl(i->fd, IOMMU_IOAS_ALLOC, &alloc))
		return fail(-errno, "IOMMU_IOAS_ALLOC");
	i->ioas = alloc.out_ioas_id;
	return 0;
}

/* An iommufd that another process has used, which has one address space, the first */
int iommu_adopt(struct iommu *i, int fd)
{
	struct iommu_ioas_iova_ranges ranges = { .size = sizeof(ranges) };

	i->fd = fd;
	i->adopted = true;
	for (i->ioas = 1; i->ioas < MAX_ID; i->ioas++) {
		ranges.ioas_id = i->ioas;
		ranges.num_iovas = 0;
		/* There are some, for which there is no room */
		if (!ioctl(fd, IOMMU_IOAS_IOVA_RANGES, &ranges) ||
		    errno == EMSGSIZE)
			return 0;
	}
	return fail(-ENOENT, "no address space in the iommufd");
}

int iommu_bind(const struct iommu *i, int device)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	struct vfio_device_bind_iommufd bind = {
		.argsz = sizeof(bind),
		.iommufd = i->fd,
	};

	/* Who is not bound does not answer */
	if (i->adopted && !ioctl(device, VFIO_DEVICE_GET_INFO, &info))
		return 0;
	if (ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind))
		return fail(-errno, "VFIO_DEVICE_BIND_IOMMUFD");
	return 0;
}

/*
 * After the memory was mapped: a device that comes from the previous kernel goes on
 * through the table it had until this gives it a new one, which has to map as much. One
 * that is attached to it already stays so.
 */
int iommu_attach(const struct iommu *i, int device)
{
	struct vfio_device_attach_iommufd_pt attach = {
		.argsz = sizeof(attach),
		.pt_id = i->ioas,
	};

	if (ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach))
		return fail(-errno, "VFIO_DEVICE_ATTACH_IOMMUFD_PT");
	return 0;
}

int iommu_map(const struct iommu *i, const struct memory *m)
{
	struct iommu_ioas_map_file map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
			 IOMMU_IOAS_MAP_WRITEABLE,
		.ioas_id = i->ioas,
		.fd = m->fd,
		.length = m->size,
	};

	if (ioctl(i->fd, IOMMU_IOAS_MAP_FILE, &map) &&
	    !(i->adopted && errno == EEXIST))
		return fail(-errno, "IOMMU_IOAS_MAP_FILE");
	return 0;
}

/* Of up to @size bytes from @iova on, as many as are in one piece */
int iommu_physical(const struct iommu *i, uint64_t iova, uint64_t *pa,
		   uint64_t *size)
{
	struct iommu_ioas_noiommu_get_pa get = {
		.size = sizeof(get),
		.ioas_id = i->ioas,
		.iova = iova,
		.length = *size,
	};

	if (ioctl(i->fd, IOMMU_IOAS_NOIOMMU_GET_PA, &get))
		return fail(-errno, "IOMMU_IOAS_NOIOMMU_GET_PA");
	*pa = get.out_phys;
	*size = get.length;
	return 0;
}
