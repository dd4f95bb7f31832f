// SPDX-License-Identifier: GPL-2.0
/*
 * What Live Update asks iommufd.
 */

#include <linux/iommu_liveupdate.h>
#include <linux/iommufd.h>
#include <linux/iopoll.h>

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

static struct iommufd_hw_pagetable *lu_hwpt(struct iommufd_device *idev)
{
	struct iommufd_attach *attach;

	lockdep_assert_held(&idev->igroup->lock);
	attach = xa_load(&idev->igroup->pasid_attach, IOMMU_NO_PASID);
	return attach ? attach->hwpt : NULL;
}

static bool lu_has_pasids(struct iommufd_device *idev)
{
	unsigned long pasid = IOMMU_NO_PASID;

	return xa_find_after(&idev->igroup->pasid_attach, &pasid, ULONG_MAX, XA_PRESENT);
}

/* Nobody sets up or tears down an area meanwhile */
static const char *lu_areas_refusal(struct io_pagetable *iopt)
{
	struct iopt_area *area = iopt_area_iter_first(iopt, 0, ULONG_MAX);

	if (!area)
		return "nothing is mapped for it";
	for (; area; area = iopt_area_iter_next(area, 0, ULONG_MAX)) {
		if (!area->pages)
			continue;	/* not in the page table yet */
		if (iopt_is_dmabuf(area->pages))
			return "a dma-buf is mapped for it";
	}
	return NULL;
}

static const char *lu_refusal(struct iommufd_device *idev)
{
	struct iommufd_hw_pagetable *hwpt = lu_hwpt(idev);
	struct iommufd_hwpt_paging *paging;

	if (hwpt->obj.type != IOMMUFD_OBJ_HWPT_PAGING)
		return "its page table is nested";
	if (hwpt->fault)
		return "its page table reports faults";
	if (lu_has_pasids(idev))
		return "it uses PASIDs";
	paging = find_hwpt_paging(hwpt);
	lockdep_assert_held(&paging->ioas->iopt.iova_rwsem);
	return lu_areas_refusal(&paging->ioas->iopt) ?:
	       iommu_liveupdate_refusal(idev->dev, hwpt->domain);
}

/**
 * iommufd_device_freeze_refusal - can the device go on in its domain during a kexec?
 * @idev: device that is bound to an iommufd
 * @check: could the device be let reach this during the kexec?
 *
 * As far as it can be told now: what is mapped may change until the domain is frozen.
 *
 * Context: process context; @idev must stay bound.
 * Return: NULL if it can, or why not.
 */
const char *iommufd_device_freeze_refusal(struct iommufd_device *idev,
					  const struct iommu_liveupdate_check *check)
{
	struct iommufd_hw_pagetable *hwpt;
	struct io_pagetable *iopt;

	guard(mutex)(&idev->igroup->lock);
	hwpt = lu_hwpt(idev);
	if (!hwpt || !find_hwpt_paging(hwpt))
		return "it is not attached to an IOAS";
	iopt = &find_hwpt_paging(hwpt)->ioas->iopt;
	guard(rwsem_write)(&iopt->domains_rwsem);
	guard(rwsem_read)(&iopt->iova_rwsem);
	return lu_refusal(idev) ?: iommu_liveupdate_look(hwpt->domain, check);
}
EXPORT_SYMBOL_NS_GPL(iommufd_device_freeze_refusal, "IOMMUFD");

/* For those who map or unmap, or ask what is mapped */
#define LU_STEP_US	100
#define LU_WAIT_US	(5 * USEC_PER_SEC)

static bool lu_try_lock(struct rw_semaphore *sem)
{
	bool locked;

	return !read_poll_timeout(down_write_trylock, locked, locked, LU_STEP_US, LU_WAIT_US,
				  false, sem);
}

/*
 * Whoever maps holds the first from beginning to end, also while it waits for user space,
 * which serves the page fault. Whoever begins from here on is told -EBUSY at once, and
 * those who have begun are waited for, but not for ever.
 */
static bool lu_close_maps(struct io_pagetable *iopt)
{
	WRITE_ONCE(iopt->lu_frozen, iopt->lu_frozen + 1);
	if (lu_try_lock(&iopt->domains_rwsem)) {
		if (lu_try_lock(&iopt->iova_rwsem))
			return true;
		up_write(&iopt->domains_rwsem);
	}
	WRITE_ONCE(iopt->lu_frozen, iopt->lu_frozen - 1);
	return false;
}

static int lu_freeze(struct iommufd_device *idev, const struct iommu_liveupdate_check *check,
		     struct pci_liveupdate_iommu_ser *ser, const char **why)
{
	int err;

	*why = lu_refusal(idev);
	if (*why)
		return -EINVAL;
	err = iommu_liveupdate_freeze(idev->dev, lu_hwpt(idev)->domain, check, ser, why);
	/* All others are unfrozen, too */
	if (err)
		iommu_liveupdate_unfreeze();
	return err;
}

/**
 * iommufd_device_freeze - keep the page table of a device as it is, and hand it over
 * @idev: device that is bound to an iommufd
 * @check: may the device reach this during the kexec?
 * @ser: filled in, for the device's record
 * @why: set if it cannot be, in words that fit behind "cannot be handed over: "
 *
 * From here on -EBUSY comes of mapping and unmapping in the device's IOAS, and of
 * attaching, replacing and detaching its page table. Undo with
 * iommufd_device_unfreeze().
 *
 * Context: process context, while a kexec begins; @idev must stay bound.
 * Return: 0, or an error: then nothing has changed for the device. -EBUSY if somebody maps
 * or unmaps, and does not come to an end with it.
 */
int iommufd_device_freeze(struct iommufd_device *idev,
			  const struct iommu_liveupdate_check *check,
			  struct pci_liveupdate_iommu_ser *ser, const char **why)
{
	struct iommufd_hw_pagetable *hwpt;
	struct io_pagetable *iopt;
	int err;

	guard(mutex)(&idev->igroup->lock);
	hwpt = lu_hwpt(idev);
	if (!hwpt || !find_hwpt_paging(hwpt)) {
		*why = "it is not attached to an IOAS";
		return -EINVAL;
	}
	iopt = &find_hwpt_paging(hwpt)->ioas->iopt;

	if (!lu_close_maps(iopt)) {
		*why = "memory is being mapped for it, and that does not come to an end";
		return -EBUSY;
	}
	err = lu_freeze(idev, check, ser, why);
	if (err)
		WRITE_ONCE(iopt->lu_frozen, iopt->lu_frozen - 1);
	else
		idev->igroup->lu_frozen = true;
	up_write(&iopt->iova_rwsem);
	up_write(&iopt->domains_rwsem);
	return err;
}
EXPORT_SYMBOL_NS_GPL(iommufd_device_freeze, "IOMMUFD");

/**
 * iommufd_device_unfreeze - undo iommufd_device_freeze()
 * @idev: device
 *
 * Context: process context; @idev must stay bound.
 */
void iommufd_device_unfreeze(struct iommufd_device *idev)
{
	struct io_pagetable *iopt;

	guard(mutex)(&idev->igroup->lock);
	if (!idev->igroup->lu_frozen)
		return;
	iommu_liveupdate_unfreeze();
	idev->igroup->lu_frozen = false;
	iopt = &find_hwpt_paging(lu_hwpt(idev))->ioas->iopt;
	WRITE_ONCE(iopt->lu_frozen, iopt->lu_frozen - 1);
}
EXPORT_SYMBOL_NS_GPL(iommufd_device_unfreeze, "IOMMUFD");

/**
 * iommufd_device_is_frozen - must the device stay attached as it is?
 * @idev: device that is bound to an iommufd
 *
 * Context: process context; @idev must stay bound.
 * Return: true from iommufd_device_freeze() to iommufd_device_unfreeze().
 */
bool iommufd_device_is_frozen(struct iommufd_device *idev)
{
	guard(mutex)(&idev->igroup->lock);
	return idev->igroup->lu_frozen;
}
EXPORT_SYMBOL_NS_GPL(iommufd_device_is_frozen, "IOMMUFD");

/**
 * iommufd_lu_hold_still - a device that goes on in a frozen domain is about to be attached
 * @idev: device
 * @hwpt: what it is attached to
 * @pasid: for requests with this PASID
 *
 * It is compared with what the device uses up to now, and nobody may change it between
 * that and the moment at which it takes its place. What is nested, or for requests that
 * the device has not made up to now, comes when that is done.
 *
 * Context: process context.
 * Return: for iommufd_lu_let_go(): NULL if the device does not; ERR_PTR(-EBUSY) if
 * something else comes first.
 */
struct io_pagetable *iommufd_lu_hold_still(struct iommufd_device *idev,
					   struct iommufd_hw_pagetable *hwpt,
					   ioasid_t pasid)
{
	struct io_pagetable *iopt;

	if (!iommu_liveupdate_is_frozen(idev->dev))
		return NULL;
	if (hwpt->obj.type != IOMMUFD_OBJ_HWPT_PAGING || pasid != IOMMU_NO_PASID)
		return ERR_PTR(-EBUSY);
	iopt = &find_hwpt_paging(hwpt)->ioas->iopt;
	down_write(&iopt->domains_rwsem);
	return iopt;
}

/**
 * iommufd_lu_let_go - the device has been attached, or not
 * @iopt: what iommufd_lu_hold_still() returned
 */
void iommufd_lu_let_go(struct io_pagetable *iopt)
{
	if (!IS_ERR_OR_NULL(iopt))
		up_write(&iopt->domains_rwsem);
}
