/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A PCI function through a VFIO device cdev, without an IOMMU.
 *
 * The kernel needs vfio.enable_unsafe_noiommu_mode=1, the caller CAP_SYS_RAWIO.
 * The steps are separate calls because a live update puts others in between:
 * the cdev is opened (or retrieved from a LUO session), bound to an iommufd,
 * attached to an IOAS, and memory is mapped there. Mapping pins the memory;
 * without an IOMMU the IOVA it gets means nothing to the device, which must be
 * given the physical addresses of vfio_noiommu_pa().
 */
#ifndef SELFTESTS_PCI_LIVEUPDATE_VFIO_NOIOMMU_H
#define SELFTESTS_PCI_LIVEUPDATE_VFIO_NOIOMMU_H

#include <stddef.h>

#include <linux/types.h>

struct vfio_noiommu {
	int cdev;		/* -1: not open */
	int iommufd;
	__u32 dev_id;		/* in the iommufd */
	__u32 ioas_id;
	__u32 hwpt_id;		/* of a page table that was asked for */
	__u64 iova;		/* of the mapped memory */
	__u64 mapped;	/* its length, 0 if nothing is mapped */
	void *bar0;
	size_t bar0_size;
	__u64 config_offset;	/* of the config region in the cdev */
	const __u8 *token;	/* VF token of 16 bytes to bind with, NULL: none */
};

#define VFIO_NOIOMMU_INIT { .cdev = -1, .iommufd = -1 }

/* All return 0 (or a file descriptor) or -errno. */

/* Opens /dev/vfio/devices/noiommu-vfioN or vfioN of @bdf, which vfio-pci has bound */
int vfio_noiommu_cdev_open(const char *bdf);
/* Takes @cdev over, binds it to a new iommufd and attaches it to a new IOAS */
int vfio_noiommu_bind(struct vfio_noiommu *v, int cdev);
/* The two halves of it; the first takes an iommufd that @v has already */
int vfio_noiommu_bind_only(struct vfio_noiommu *v, int cdev);
int vfio_noiommu_attach(struct vfio_noiommu *v);
/* The two halves of the second; memory can be mapped between them */
int vfio_noiommu_ioas(struct vfio_noiommu *v);
int vfio_noiommu_attach_ioas(struct vfio_noiommu *v);
/* A page table for the IOAS, which is not attached yet; and attach it */
int vfio_noiommu_hwpt(struct vfio_noiommu *v);
int vfio_noiommu_attach_hwpt(struct vfio_noiommu *v);
/* Maps (and thereby pins) @len bytes of @memfd */
int vfio_noiommu_map(struct vfio_noiommu *v, int memfd, __u64 len);
/* The same at an IOVA of the caller's choice, which behind an IOMMU the device uses */
int vfio_noiommu_map_at(struct vfio_noiommu *v, int memfd, __u64 len, __u64 iova);
int vfio_noiommu_unmap(struct vfio_noiommu *v);
/*
 * Physical address of byte @offset of the mapped memory; @run returns how many
 * bytes from there on are physically contiguous.
 */
int vfio_noiommu_pa(struct vfio_noiommu *v, __u64 offset, __u64 *pa,
		    __u64 *run);
int vfio_noiommu_map_bar0(struct vfio_noiommu *v);

int vfio_noiommu_config_read(struct vfio_noiommu *v, unsigned int where,
			     void *data, size_t len);
int vfio_noiommu_config_write(struct vfio_noiommu *v, unsigned int where,
			      const void *data, size_t len);

/*
 * VFIO_DEVICE_SET_IRQS with @flags VFIO_IRQ_SET_ACTION_*: with eventfds, or with no data if @fd
 * is NULL
 */
#define VFIO_NOIOMMU_VECTORS	64
int vfio_noiommu_set_irqs(const struct vfio_noiommu *v, int index, __u32 flags, unsigned int start,
			  unsigned int count, const int *fd);

/* Closes everything that is open. The last reference to the cdev resets the device. */
void vfio_noiommu_close(struct vfio_noiommu *v);

#endif /* SELFTESTS_PCI_LIVEUPDATE_VFIO_NOIOMMU_H */
