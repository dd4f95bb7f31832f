// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit: devices that cannot go on in their domain, which mostly no emulated machine has.
 */

#include <kunit/device.h>
#include <kunit/test.h>
#include <linux/cpufeature.h>
#include <linux/iommu_liveupdate.h>
#include <linux/pci.h>

#include "liveupdate.h"

#define DEVFNS	256
#define DEVFN	PCI_DEVFN(3, 1)

/* A device that can, with all that is looked at */
static struct vtd_fake {
	struct pci_dev dev;
	struct pci_bus bus;
	struct pci_sysdata host;
	struct pci_dev vmd;
	struct dev_iommu iommu;
	struct device_domain_info info;
	struct intel_iommu unit;
	struct q_inval queue;
	struct dmar_domain domain;
	unsigned long aliases[BITS_TO_LONGS(DEVFNS)];
	struct device *member[2];	/* of its group, in place of it */
	int members;
} *fake;

static void vtd_join(struct kunit *test)
{
	struct device *member = kunit_device_register(test, fake->members ? "second" : "first");

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, member);
	KUNIT_ASSERT_EQ(test, iommu_group_add_device(fake->dev.dev.iommu_group, member), 0);
	fake->member[fake->members++] = member;
}

static void vtd_no_iommu(struct kunit *test)
{
	fake->dev.dev.iommu = NULL;
}

static void vtd_other_driver(struct kunit *test)
{
	fake->domain.domain.owner = NULL;
}

static void vtd_first_stage(struct kunit *test)
{
	fake->domain.domain.ops = &intel_fs_paging_domain_ops;
}

static void vtd_no_stage(struct kunit *test)
{
	fake->domain.domain.ops = NULL;
}

static void vtd_no_queue(struct kunit *test)
{
	fake->unit.qi = NULL;
}

static void vtd_detached(struct kunit *test)
{
	fake->info.domain = NULL;
}

static void vtd_nested_parent(struct kunit *test)
{
	fake->domain.nested_parent = 1;
}

static void vtd_dirty_tracking(struct kunit *test)
{
	fake->domain.dirty_tracking = 1;
}

static void vtd_reserved(struct kunit *test)
{
	fake->iommu.require_direct = 1;
}

static void vtd_ats(struct kunit *test)
{
	fake->info.ats_supported = 1;
}

static void vtd_alias(struct kunit *test)
{
	__set_bit(PCI_DEVFN(3, 0), fake->aliases);
	fake->dev.dma_alias_mask = fake->aliases;
}

/* Its own ID is no other */
static void vtd_own_alias(struct kunit *test)
{
	__set_bit(DEVFN, fake->aliases);
	fake->dev.dma_alias_mask = fake->aliases;
}

#if IS_ENABLED(CONFIG_VMD)
static void vtd_behind_vmd(struct kunit *test)
{
	fake->host.vmd_dev = &fake->vmd;
}
#endif

#define OTHER_IOMMU	"an IOMMU translates for it that cannot be handed over"
#define MORE_THAN_DMA	"its page table is used for more than DMA"

static const struct vtd_refusal_case {
	const char *name;
	void (*change)(struct kunit *test);
	const char *why;
} vtd_refusal_cases[] = {
	{ "nothing", NULL, NULL },
	{ "first stage", vtd_first_stage, NULL },
	{ "its own ID as alias", vtd_own_alias, NULL },
	{ "no IOMMU", vtd_no_iommu, OTHER_IOMMU },
	{ "another driver's domain", vtd_other_driver, OTHER_IOMMU },
	{ "a domain of neither stage", vtd_no_stage,
	  "its page table is not one of the kernel's" },
	{ "no queue of invalidations", vtd_no_queue, "the IOMMU or the processor is too old" },
	{ "another domain attached", vtd_detached, MORE_THAN_DMA },
	{ "parent of nested tables", vtd_nested_parent, MORE_THAN_DMA },
	{ "dirty tracking", vtd_dirty_tracking, MORE_THAN_DMA },
	{ "reserved memory", vtd_reserved, "firmware uses it" },
	{ "ATS", vtd_ats, "it may have translations of its own (ATS)" },
	{ "an alias", vtd_alias, "its requests come under another device's ID" },
#if IS_ENABLED(CONFIG_VMD)
	{ "behind a VMD", vtd_behind_vmd, "its requests come under another device's ID" },
#endif
	{ "a second member", vtd_join, "it is not alone in its IOMMU group" },
};

KUNIT_ARRAY_PARAM_DESC(vtd_refusal, vtd_refusal_cases, name);

static void vtd_refusal(struct kunit *test)
{
	const struct vtd_refusal_case *c = test->param_value;

	if (!system_has_cmpxchg128())
		kunit_skip(test, "no 128-bit store");
	if (c->change)
		c->change(test);
	KUNIT_EXPECT_STREQ(test, iommu_liveupdate_refusal(&fake->dev.dev, &fake->domain.domain) ?:
				 "none", c->why ?: "none");
}

static int vtd_refusal_init(struct kunit *test)
{
	fake = kunit_kzalloc(test, sizeof(*fake), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, fake);
	fake->bus.sysdata = &fake->host;
	fake->dev.bus = &fake->bus;
	fake->dev.devfn = DEVFN;
	fake->dev.dev.bus = &pci_bus_type;
	fake->dev.dev.iommu = &fake->iommu;
	fake->iommu.priv = &fake->info;
	fake->info.iommu = &fake->unit;
	fake->info.domain = &fake->domain;
	fake->unit.qi = &fake->queue;
	fake->domain.domain.owner = &intel_iommu_ops;
	fake->domain.domain.ops = &intel_ss_paging_domain_ops;
	fake->dev.dev.iommu_group = iommu_group_alloc();
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, fake->dev.dev.iommu_group);
	vtd_join(test);
	return 0;
}

static void vtd_refusal_exit(struct kunit *test)
{
	while (fake && fake->members)
		iommu_group_remove_device(fake->member[--fake->members]);
	if (fake && !IS_ERR_OR_NULL(fake->dev.dev.iommu_group))
		iommu_group_put(fake->dev.dev.iommu_group);
	fake = NULL;
}

static struct kunit_case vtd_refusal_kunit[] = {
	KUNIT_CASE_PARAM(vtd_refusal, vtd_refusal_gen_params),
	{}
};

static struct kunit_suite vtd_refusal_suite = {
	.name		= "intel_liveupdate_refusals",
	.init		= vtd_refusal_init,
	.exit		= vtd_refusal_exit,
	.test_cases	= vtd_refusal_kunit,
};

kunit_test_suite(vtd_refusal_suite);
