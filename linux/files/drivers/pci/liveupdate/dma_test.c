// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of the DMA verdict.
 */

#include <kunit/test.h>
#include <linux/acpi.h>

#include "internal.h"

#define PADDING	8	/* in front of the first node and in each */

struct iort_case {
	const char *name;
	u8 types[3];	/* of the nodes */
	int cut;	/* bytes that the table lacks */
	bool smmu;
	bool flat;	/* nodes say that they have no length */
};

static const struct iort_case iort_cases[] = {
	{ "no SMMU", { ACPI_IORT_NODE_ITS_GROUP, ACPI_IORT_NODE_PCI_ROOT_COMPLEX,
		       ACPI_IORT_NODE_NAMED_COMPONENT } },
	{ "SMMUv2 first", { ACPI_IORT_NODE_SMMU }, 0, true },
	{ "SMMUv3 last", { ACPI_IORT_NODE_ITS_GROUP, ACPI_IORT_NODE_PCI_ROOT_COMPLEX,
			   ACPI_IORT_NODE_SMMU_V3 }, 0, true },
	{ "only a counter of an SMMU", { ACPI_IORT_NODE_PMCG } },
	{ "less than a header", { }, sizeof(struct acpi_table_iort) +
	  4 * PADDING + 3 * sizeof(struct acpi_iort_node) - 4, true },
	{ "last node beyond the end", { }, PADDING + 1, true },
	{ "last node cut behind its head", { }, PADDING },
	{ "nodes without a length", { }, 0, true, true },
};

static void iort_desc(const struct iort_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(iort, iort_cases, iort_desc);

static void lu_iort_has_smmu(struct kunit *test)
{
	const struct iort_case *c = test->param_value;
	size_t node_size = sizeof(struct acpi_iort_node) + PADDING;
	size_t size = sizeof(struct acpi_table_iort) + PADDING + ARRAY_SIZE(c->types) * node_size;
	struct acpi_table_iort *iort = kunit_kzalloc(test, size, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, iort);
	iort->header.length = size - c->cut;
	iort->node_count = ARRAY_SIZE(c->types);
	iort->node_offset = sizeof(*iort) + PADDING;
	for (int i = 0; i < ARRAY_SIZE(c->types); i++) {
		struct acpi_iort_node *node = (void *)iort + iort->node_offset + i * node_size;

		node->type = c->types[i];
		node->length = c->flat ? 0 : node_size;
	}
	KUNIT_EXPECT_EQ(test, pci_lu_iort_has_smmu(&iort->header), c->smmu);
}

static struct kunit_case dma_cases[] = {
	KUNIT_CASE_PARAM(lu_iort_has_smmu, iort_gen_params),
	{}
};

static struct kunit_suite dma_suite = {
	.name = "pci_liveupdate_dma",
	.test_cases = dma_cases,
};

kunit_test_suite(dma_suite);
