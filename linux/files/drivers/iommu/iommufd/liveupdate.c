// SPDX-License-Identifier: GPL-2.0
/*
 * What Live Update asks iommufd.
 */

#include <linux/iommufd.h>

#include "io_pagetable.h"
#include "iommufd_private.h"

/**
 * iommufd_device_has_mapping - does the address space of a device map anything?
 * @idev: device that is bound to an iommufd
 *
 * Memory that is mapped in an IOAS is pinned. A running device whose IOAS is
 * empty uses memory that nothing keeps in its place.
 *
 * Context: process context; @idev must stay bound. Takes the group's lock and
 * the IOAS's iova_rwsem for reading.
 * Return: true if @idev is attached and its IOAS maps something.
 */
bool iommufd_device_has_mapping(struct iommufd_device *idev)
{
	struct iommufd_hwpt_paging *paging;
	struct iommufd_attach *attach;

	guard(mutex)(&idev->igroup->lock);
	attach = xa_load(&idev->igroup->pasid_attach, IOMMU_NO_PASID);
	if (!attach)
		return false;

	/* A nested page table translates into its parent's address space */
	paging = find_hwpt_paging(attach->hwpt);
	if (!paging)
		return false;

	guard(rwsem_read)(&paging->ioas->iopt.iova_rwsem);
	return iopt_area_iter_first(&paging->ioas->iopt, 0, ULONG_MAX);
}
EXPORT_SYMBOL_NS_GPL(iommufd_device_has_mapping, "IOMMUFD");
