// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for the versions of what is handed over: what each can say, in both
 * directions.
 */

#include <kunit/test.h>
#include <linux/array_size.h>
#include <linux/prandom.h>
#include <linux/random.h>
#include <linux/string.h>

#include "internal.h"

/* A slot, and the oldest version that can say it; 0 if none can */
struct saying {
	const char *name;
	struct pci_liveupdate_record_ser rec;
	u32 oldest;
	bool no_code;
};

#define DEVICE	.use_count = 1, .bdf = PCI_DEVID(3, 0)
#define NIC	DEVICE, .flags = PCI_LIVEUPDATE_F_ENDPOINT
#define V1	.oldest = PCI_LIVEUPDATE_ABI_V1
#define V2	.oldest = PCI_LIVEUPDATE_ABI_V2
#define V2_VTD V2, .no_code = !IS_ENABLED(CONFIG_PCI_LIVEUPDATE_VTD)
#define NONE	.oldest = 0

static const struct saying sayings[] = {
	{ "paused", { NIC }, V1 },
	{ "untranslated", { NIC, .dma = PCI_LIVEUPDATE_DMA_UNTRANSLATED }, V1 },
	{ "dead, pending", { DEVICE, .flags = PCI_LIVEUPDATE_F_ALL_V1 & ~PCI_LIVEUPDATE_F_BRIDGE },
	  V1 },
	{ "bridge", { DEVICE, .flags = PCI_LIVEUPDATE_F_BRIDGE, .secondary = 4 }, V1 },
	{ "reserved0", { NIC, .reserved0 = 1 }, NONE },
	{ "last reserved", { NIC, .reserved[9] = 1 }, NONE },
	{ "unknown flag", { NIC | 0x80 }, NONE },
	{ "unknown verdict", { NIC, .dma = PCI_LIVEUPDATE_DMA_NR }, NONE },

	{ "translated", { NIC, .dma = PCI_LIVEUPDATE_DMA_TRANSLATED,
			  .iommu = { .domain = 1, .tag = 0xffff, .stream = 0x300 } },
	  V2_VTD },
	{ "first domain", { NIC, .dma = PCI_LIVEUPDATE_DMA_TRANSLATED }, V2_VTD },
	{ "domain, untranslated", { NIC, .dma = PCI_LIVEUPDATE_DMA_UNTRANSLATED,
				    .iommu.stream = 1 }, NONE },
	{ "domain, reserved", { NIC, .dma = PCI_LIVEUPDATE_DMA_TRANSLATED,
				.iommu.reserved = 1 }, NONE },

	{ "VF", { NIC | PCI_LIVEUPDATE_F_VF, .vf = { .pf = 0x200, .index = 7 } }, V2 },
	{ "PF", { NIC | PCI_LIVEUPDATE_F_PF }, V2 },
	{ "PF without owner", { DEVICE, .flags = PCI_LIVEUPDATE_F_PF }, V2 },
	{ "VF, index alone", { NIC, .vf.index = 1 }, NONE },

	{ "IOV", { DEVICE, .flags = PCI_LIVEUPDATE_F_IOV, .claimed = BIT(0),
		   .bars[0] = { 0x8000000004, ~0xfffULL },
		   .iov = { .ctrl = 0x19, .num = 2, .total = 7, .page_size = 1,
			    .owner = PCI_LIVEUPDATE_PF_STUB, .flags = 1 } }, V2 },
	{ "IOV, of a user", { DEVICE, .flags = PCI_LIVEUPDATE_F_IOV,
			      .iov.owner = PCI_LIVEUPDATE_PF_USER,
			      .iov.vf_token[15] = 1 }, V2 },
	{ "IOV, of a driver", { DEVICE, .flags = PCI_LIVEUPDATE_F_IOV,
				.iov.owner = PCI_LIVEUPDATE_PF_NATIVE }, V2 },
	{ "IOV, token of nobody", { DEVICE, .flags = PCI_LIVEUPDATE_F_IOV,
				    .iov.vf_token[0] = 1 }, NONE },
	{ "IOV, owner", { DEVICE, .flags = PCI_LIVEUPDATE_F_IOV,
			  .iov.owner = PCI_LIVEUPDATE_PF_NR }, NONE },
	{ "IOV, flags", { DEVICE, .flags = PCI_LIVEUPDATE_F_IOV, .iov.flags = 2 }, NONE },
	{ "IOV, reserved", { DEVICE, .flags = PCI_LIVEUPDATE_F_IOV, .iov.reserved[1] = 1 }, NONE },
	{ "IOV, a function's flags", { NIC | PCI_LIVEUPDATE_F_IOV }, NONE },
	{ "IOV, a function's IDs", { DEVICE, .flags = PCI_LIVEUPDATE_F_IOV, .vendor = 1 }, NONE },
};

static void saying_name(const struct saying *saying, char *desc)
{
	strscpy(desc, saying->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(lu_saying, sayings, saying_name);

static void lu_says(struct kunit *test)
{
	const struct saying *saying = test->param_value;
	const struct pci_liveupdate_record_ser *rec = &saying->rec;
	const char *v1 = pci_lu_abi_check(rec, PCI_LIVEUPDATE_ABI_V1);
	const char *v2 = pci_lu_abi_check(rec, PCI_LIVEUPDATE_ABI_V2);

	/* Down: the older version is taken if it can say this */
	KUNIT_EXPECT_EQ(test, !v1, saying->oldest == PCI_LIVEUPDATE_ABI_V1);
	KUNIT_EXPECT_EQ(test, pci_lu_abi_of(rec), saying->oldest ?: PCI_LIVEUPDATE_ABI_V2);
	/* Up: what the older one could say, the newer one can */
	KUNIT_EXPECT_EQ(test, !v2, saying->oldest != 0);
	KUNIT_EXPECT_EQ(test, !!pci_lu_abi_no_code(rec) && !v2, saying->no_code);
}

static int lu_set(struct pci_liveupdate_record_ser *rec, u32 version, struct pci_lu_error *err)
{
	struct pci_liveupdate_header_ser header = {
		.version = version, .record_size = sizeof(*rec),
		.nr_records = 1, .records = PAGE_SIZE,
	};

	return pci_lu_header_check(&header, err) ?:
	       pci_lu_records_check(&header, &rec, 1, err);
}

/* The rules are those of the version that the header has, and no other's */
static void lu_read_as(struct kunit *test)
{
	struct pci_liveupdate_record_ser rec = { NIC };
	struct pci_lu_error err;

	KUNIT_EXPECT_EQ(test, lu_set(&rec, PCI_LIVEUPDATE_ABI_V1, &err), 0);
	KUNIT_EXPECT_EQ(test, lu_set(&rec, PCI_LIVEUPDATE_ABI_V2, &err), 0);
	KUNIT_EXPECT_EQ(test, lu_set(&rec, PCI_LIVEUPDATE_ABI_OLDEST - 1, &err), -EPROTO);
	KUNIT_EXPECT_EQ(test, lu_set(&rec, PCI_LIVEUPDATE_ABI_VERSION + 1, &err), -EPROTO);

	/* Reserved by one, and something that there is no code for in the other */
	rec.dma = PCI_LIVEUPDATE_DMA_TRANSLATED;
	KUNIT_EXPECT_EQ(test, lu_set(&rec, PCI_LIVEUPDATE_ABI_V1, &err), -EINVAL);
	KUNIT_EXPECT_STREQ(test, err.why, "unknown DMA verdict");
	KUNIT_EXPECT_EQ(test, lu_set(&rec, PCI_LIVEUPDATE_ABI_V2, &err), -EINVAL);
	KUNIT_EXPECT_STREQ(test, err.why, IS_ENABLED(CONFIG_PCI_LIVEUPDATE_VTD) ?
			   "frozen IOMMU domain that was not handed over" :
			   "this kernel has no code for frozen IOMMU domains");

	rec = (struct pci_liveupdate_record_ser){ NIC, .vf.index = 1 };
	KUNIT_EXPECT_EQ(test, lu_set(&rec, PCI_LIVEUPDATE_ABI_V1, &err), -EINVAL);
	KUNIT_EXPECT_STREQ(test, err.why, "reserved fields in use");
	KUNIT_EXPECT_EQ(test, lu_set(&rec, PCI_LIVEUPDATE_ABI_V2, &err), -EINVAL);
	KUNIT_EXPECT_STREQ(test, err.why, "number of a Virtual Function for another function");
}

/*
 * Bytes at random, most of them in what version 2 has added: no version says less than
 * the one before, and a reader takes nothing that it has no code for.
 */
static void lu_bytes(struct kunit *test)
{
	u64 seed = get_random_u32();
	unsigned int say[3] = {};
	struct rnd_state rnd;

	kunit_info(test, "seed %llu\n", seed);
	prandom_seed_state(&rnd, seed);
	for (unsigned int i = 0; i < 10000; i++) {
		unsigned int which = prandom_u32_state(&rnd) % ARRAY_SIZE(sayings);
		struct pci_liveupdate_record_ser rec = sayings[which].rec;
		struct pci_lu_error err;
		bool v1, v2;

		for (unsigned int n = prandom_u32_state(&rnd) % 4; n; n--) {
			u32 r = prandom_u32_state(&rnd);
			size_t from = r & 1 ? offsetof(typeof(rec), reserved) :
				      offsetof(typeof(rec), flags);
			size_t to = r & 1 ? sizeof(rec) : offsetof(typeof(rec), vendor);

			((u8 *)&rec)[from + (r >> 1) % (to - from)] ^= BIT(r >> 24 & 7);
		}
		if (pci_lu_slot_is_free(&rec))
			continue;
		v1 = !pci_lu_abi_check(&rec, PCI_LIVEUPDATE_ABI_V1);
		v2 = !pci_lu_abi_check(&rec, PCI_LIVEUPDATE_ABI_V2);
		say[v1 ? 1 : v2 ? 2 : 0]++;

		KUNIT_EXPECT_TRUE_MSG(test, v2 || !v1, "version 1 says what version 2 cannot");
		KUNIT_EXPECT_EQ(test, pci_lu_abi_of(&rec) == PCI_LIVEUPDATE_ABI_V1, v1);
		if (!lu_set(&rec, PCI_LIVEUPDATE_ABI_V2, &err)) {
			KUNIT_EXPECT_TRUE_MSG(test, v2,
					      "a reader takes what its version does not know");
			KUNIT_EXPECT_NULL_MSG(test, pci_lu_abi_no_code(&rec),
					      "a reader takes what it has no code for");
		}
		KUNIT_EXPECT_TRUE(test, v1 || lu_set(&rec, PCI_LIVEUPDATE_ABI_V1, &err));
		if (test->status != KUNIT_SUCCESS)
			return;
	}
	kunit_info(test, "%u in version 1, %u in version 2 alone, %u in none\n", say[1], say[2],
		   say[0]);
	/* Control: there was enough of each */
	for (int i = 0; i < ARRAY_SIZE(say); i++)
		KUNIT_EXPECT_GT(test, say[i], 100);
}

static struct kunit_case lu_abi_cases[] = {
	KUNIT_CASE_PARAM(lu_says, lu_saying_gen_params),
	KUNIT_CASE(lu_read_as),
	KUNIT_CASE(lu_bytes),
	{}
};

static struct kunit_suite lu_abi_suite = {
	.name		= "pci_liveupdate_abi",
	.test_cases	= lu_abi_cases,
};

kunit_test_suite(lu_abi_suite);
