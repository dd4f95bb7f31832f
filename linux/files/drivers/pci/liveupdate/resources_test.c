// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for resources of held functions, which stay where they are.
 */

#include <kunit/test.h>

#include "../pci.h"
#include "internal.h"

#define BARS	(BIT(0) | BIT(PCI_ROM_RESOURCE))
#define WINDOWS	BIT(PCI_BRIDGE_MEM_WINDOW)

static void place(struct pci_dev *dev, unsigned int i, struct resource *parent)
{
	struct resource *res = pci_resource_n(dev, i);

	*res = DEFINE_RES_MEM_NAMED(0x1000 * (i + 1), 0x1000, "test");
	if (parent)
		WARN_ON(request_resource(parent, res));
}

static struct pci_dev *fake(struct kunit *test)
{
	struct resource *room = kunit_kzalloc(test, sizeof(*room), GFP_KERNEL);
	struct pci_dev *dev = kunit_kzalloc(test, sizeof(*dev), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, room);
	KUNIT_ASSERT_NOT_NULL(test, dev);
	*room = DEFINE_RES_MEM_NAMED(0, 0x100000, "room");
	place(dev, 0, room);
	place(dev, 1, NULL);
	place(dev, PCI_ROM_RESOURCE, room);
	place(dev, PCI_IOV_RESOURCES, room);
	place(dev, PCI_BRIDGE_MEM_WINDOW, room);
	return dev;
}

static u32 fixed(struct pci_dev *dev)
{
	struct resource *res;
	unsigned int i;
	u32 which = 0;

	pci_dev_for_each_resource(dev, res, i)
		if (res->flags & IORESOURCE_PCI_FIXED)
			which |= BIT(i);
	return which;
}

static void lu_fixes_what_is_held(struct kunit *test)
{
	struct pci_dev *dev = fake(test);

	pci_lu_fix(dev);
	KUNIT_EXPECT_EQ(test, fixed(dev), 0);

	dev->lu_keep = BIT(PCI_LU_KEEP_ADDRESSES);
	pci_lu_fix(dev);
	KUNIT_EXPECT_EQ(test, fixed(dev), BARS | WINDOWS);
	KUNIT_EXPECT_EQ(test, pci_release_resource(dev, 0), -EBUSY);
	KUNIT_EXPECT_PTR_NE(test, pci_resource_n(dev, 0)->parent, NULL);

	dev->lu_keep = 0;
	pci_lu_fix(dev);
	KUNIT_EXPECT_EQ(test, fixed(dev), 0);
	KUNIT_EXPECT_EQ(test, pci_release_resource(dev, 0), 0);
	KUNIT_EXPECT_PTR_EQ(test, pci_resource_n(dev, 0)->parent, NULL);
}

/* What Enhanced Allocation fixed is fixed for ever */
static void lu_leaves_others_fixed(struct kunit *test)
{
	struct pci_dev *dev = fake(test);

	pci_resource_n(dev, 0)->flags |= IORESOURCE_PCI_FIXED;
	dev->lu_keep = BIT(PCI_LU_KEEP_ADDRESSES);
	pci_lu_fix(dev);
	dev->lu_keep = 0;
	pci_lu_fix(dev);
	KUNIT_EXPECT_EQ(test, fixed(dev), BIT(0));
}

/* A BAR that is assigned only later is fixed by then, and given back as well */
static void lu_fixes_what_comes_late(struct kunit *test)
{
	struct pci_dev *dev = fake(test);

	dev->lu_keep = BIT(PCI_LU_KEEP_ADDRESSES);
	pci_lu_fix(dev);
	KUNIT_ASSERT_EQ(test, request_resource(pci_resource_n(dev, 0)->parent,
					       pci_resource_n(dev, 1)), 0);
	pci_lu_fix(dev);
	KUNIT_EXPECT_EQ(test, fixed(dev), BARS | WINDOWS | BIT(1));
	dev->lu_keep = 0;
	pci_lu_fix(dev);
	KUNIT_EXPECT_EQ(test, fixed(dev), 0);
}

static struct kunit_case lu_resources_cases[] = {
	KUNIT_CASE(lu_fixes_what_is_held),
	KUNIT_CASE(lu_leaves_others_fixed),
	KUNIT_CASE(lu_fixes_what_comes_late),
	{}
};

static struct kunit_suite lu_resources_suite = {
	.name		= "pci_liveupdate_resources",
	.test_cases	= lu_resources_cases,
};

kunit_test_suite(lu_resources_suite);
