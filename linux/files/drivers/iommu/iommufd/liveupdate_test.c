// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit: what a user has set up in an iommufd that cannot be handed over.
 */

#include <kunit/test.h>
#include <linux/interval_tree.h>
#include <linux/iommu_liveupdate.h>
#include <linux/iommufd.h>
#include <linux/sizes.h>
#include <linux/xarray.h>

#include "io_pagetable.h"
#include "iommufd_private.h"

#define PASID	5

/* A device that is attached to a page table of its own in which one area is mapped */
static struct lu_fake {
	struct device dev;
	struct iommufd_device idev;
	struct iommufd_group group;
	struct iommufd_attach attach;
	struct iommufd_attach other;
	struct iommufd_hwpt_paging paging;
	struct iommufd_hwpt_nested nested;
	struct iommufd_ioas ioas;
	struct iopt_area area;
	struct iopt_area next;
	struct iopt_pages pages;
	struct iommu_domain domain;
} *fake;

static void lu_add(struct iopt_area *area, unsigned long start)
{
	area->node.start = start;
	area->node.last = start + PAGE_SIZE - 1;
	interval_tree_insert(&area->node, &fake->ioas.iopt.area_itree);
}

static void lu_detached(void)
{
	xa_erase(&fake->group.pasid_attach, IOMMU_NO_PASID);
}

static void lu_nested(void)
{
	fake->attach.hwpt = &fake->nested.common;
}

static void lu_faults(void)
{
	/* Only whether there is one is asked */
	fake->paging.common.fault = (struct iommufd_fault *)fake;
}

static void lu_pasid(void)
{
	xa_store(&fake->group.pasid_attach, PASID, &fake->other, GFP_KERNEL);
}

static void lu_empty(void)
{
	interval_tree_remove(&fake->area.node, &fake->ioas.iopt.area_itree);
}

/* Not the first that is looked at */
static void lu_dmabuf(void)
{
	fake->pages.type = IOPT_ADDRESS_DMABUF;
	fake->next.pages = &fake->pages;
	fake->area.pages = NULL;
	lu_add(&fake->next, SZ_2M);
}

static const struct lu_case {
	const char *name;
	void (*change)(void);
	const char *why;	/* NULL: what the driver says of it */
} lu_cases[] = {
	{ "nothing", NULL, NULL },
	{ "attached to nothing", lu_detached, "it is not attached to an IOAS" },
	{ "nested", lu_nested, "its page table is nested" },
	{ "reports faults", lu_faults, "its page table reports faults" },
	{ "a PASID", lu_pasid, "it uses PASIDs" },
	{ "an empty IOAS", lu_empty, "nothing is mapped for it" },
	{ "a dma-buf", lu_dmabuf, "a dma-buf is mapped for it" },
};

KUNIT_ARRAY_PARAM_DESC(lu, lu_cases, name);

/* The same is said when the kexec begins, and then nothing is frozen */
static void lu_refused(struct kunit *test)
{
	const struct lu_case *c = test->param_value;
	struct iommu_liveupdate_check check = {};
	struct pci_liveupdate_iommu_ser ser;
	const char *said, *at_freeze = NULL;

	if (c->change)
		c->change();
	said = iommufd_device_freeze_refusal(&fake->idev, &check);
	KUNIT_EXPECT_STREQ(test, said, c->why ?: iommu_liveupdate_refusal(&fake->dev,
									  &fake->domain));
	KUNIT_EXPECT_EQ(test, iommufd_device_freeze(&fake->idev, &check, &ser, &at_freeze),
			-EINVAL);
	KUNIT_EXPECT_STREQ(test, at_freeze, said);
	KUNIT_EXPECT_FALSE(test, iommufd_device_is_frozen(&fake->idev));
	KUNIT_EXPECT_EQ(test, fake->ioas.iopt.lu_frozen, 0);
}

static int lu_init(struct kunit *test)
{
	fake = kunit_kzalloc(test, sizeof(*fake), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, fake);
	fake->idev.dev = &fake->dev;
	fake->idev.igroup = &fake->group;
	mutex_init(&fake->group.lock);
	xa_init(&fake->group.pasid_attach);
	KUNIT_ASSERT_NULL(test, xa_store(&fake->group.pasid_attach, IOMMU_NO_PASID,
					 &fake->attach, GFP_KERNEL));
	fake->attach.hwpt = &fake->paging.common;
	fake->paging.common.obj.type = IOMMUFD_OBJ_HWPT_PAGING;
	fake->paging.common.domain = &fake->domain;
	fake->paging.ioas = &fake->ioas;
	fake->nested.common.obj.type = IOMMUFD_OBJ_HWPT_NESTED;
	fake->nested.parent = &fake->paging;
	init_rwsem(&fake->ioas.iopt.domains_rwsem);
	init_rwsem(&fake->ioas.iopt.iova_rwsem);
	fake->ioas.iopt.area_itree = RB_ROOT_CACHED;
	fake->area.pages = &fake->pages;
	fake->pages.type = IOPT_ADDRESS_FILE;
	lu_add(&fake->area, SZ_1M);
	return 0;
}

static void lu_exit(struct kunit *test)
{
	if (fake)
		xa_destroy(&fake->group.pasid_attach);
	fake = NULL;
}

static struct kunit_case lu_kunit[] = {
	KUNIT_CASE_PARAM(lu_refused, lu_gen_params),
	{}
};

static struct kunit_suite lu_suite = {
	.name		= "iommufd_liveupdate",
	.init		= lu_init,
	.exit		= lu_exit,
	.test_cases	= lu_kunit,
};

kunit_test_suite(lu_suite);
