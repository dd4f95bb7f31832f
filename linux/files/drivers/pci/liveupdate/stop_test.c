// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of what PCI Live Update takes for stopped: whether anybody is behind
 * a bridge, and whether the DMA of a function has ended.
 */

#include <kunit/test.h>
#include <linux/pci.h>
#include <linux/string.h>

#include "internal.h"

#define EXPRESS		0x40
#define DEVFN		PCI_DEVFN(1, 0)
#define EVER		1000000

/**
 * struct fake - a function alone on a bus, with a mind of its own
 * @bytes:	its registers
 * @sysdata:	an architecture's; x86 has the domain in it
 * @bus:	the bus
 * @unreadable:	accesses fail
 * @stuck:	bits of Command that cannot be cleared
 * @goes:	it is gone as soon as something is written
 * @gone:	it is
 * @pending:	how many reads of Device Status tell of requests under way
 * @asked:	how many there were
 */
struct fake {
	u8 bytes[PCI_CFG_SPACE_SIZE];
	u64 sysdata[8];
	struct pci_bus bus;
	bool unreadable;
	u16 stuck;
	bool goes;
	bool gone;
	unsigned int pending;
	unsigned int asked;
};

static int fake_read(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 *val)
{
	struct fake *fake = container_of(bus, struct fake, bus);

	if (fake->unreadable)
		return PCIBIOS_SET_FAILED;
	if (where == EXPRESS + PCI_EXP_DEVSTA && fake->asked++ >= fake->pending)
		fake->bytes[where] &= ~PCI_EXP_DEVSTA_TRPND;
	*val = 0;
	memcpy(val, fake->bytes + where, size);
	if (fake->gone || devfn != DEVFN)
		PCI_SET_ERROR_RESPONSE(val);
	return PCIBIOS_SUCCESSFUL;
}

static int fake_write(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 val)
{
	struct fake *fake = container_of(bus, struct fake, bus);

	if (where == PCI_COMMAND)
		val |= fake->stuck;
	memcpy(fake->bytes + where, &val, size);
	fake->gone = fake->goes;
	return PCIBIOS_SUCCESSFUL;
}

static struct pci_ops fake_ops = {
	.read	= fake_read,
	.write	= fake_write,
};

static void set_word(struct fake *fake, int reg, u16 value)
{
	memcpy(fake->bytes + reg, &value, sizeof(value));
}

static u16 command(struct fake *fake)
{
	u16 value;

	memcpy(&value, fake->bytes + PCI_COMMAND, sizeof(value));
	return value;
}

static struct fake *fake_function(struct kunit *test)
{
	struct fake *fake = kunit_kzalloc(test, sizeof(*fake), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, fake);
	fake->bus.ops = &fake_ops;
	fake->bus.sysdata = fake->sysdata;
	set_word(fake, PCI_VENDOR_ID, 0x8086);
	set_word(fake, PCI_DEVICE_ID, 0x10d3);
	set_word(fake, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY |
		 PCI_COMMAND_MASTER | PCI_COMMAND_SERR);
	set_word(fake, EXPRESS + PCI_EXP_DEVSTA, PCI_EXP_DEVSTA_TRPND);
	return fake;
}

static const struct ask_case {
	const char *name;
	u32 id;
	bool unreadable;
	u8 secondary;
	u8 subordinate;
	u16 command;
	enum pci_lu_answer answer;
} ask_cases[] = {
	{ .name = "as it was", .id = 0x10d38086, .secondary = 3, .subordinate = 5,
	  .command = PCI_COMMAND_MASTER, .answer = PCI_LU_SOMEBODY },
	{ .name = "as it was, forwards nothing", .id = 0x10d38086, .secondary = 3,
	  .subordinate = 5, .answer = PCI_LU_SOMEBODY },
	{ .name = "other secondary bus", .id = 0x10d38086, .secondary = 4, .subordinate = 5,
	  .answer = PCI_LU_UNKNOWN },
	{ .name = "other subordinate bus", .id = 0x10d38086, .secondary = 3, .subordinate = 6,
	  .answer = PCI_LU_UNKNOWN },
	{ .name = "reset", .id = 0x10d38086, .answer = PCI_LU_NOBODY },
	{ .name = "no numbers, but it forwards", .id = 0x10d38086,
	  .command = PCI_COMMAND_MASTER, .answer = PCI_LU_UNKNOWN },
	{ .name = "half reset", .id = 0x10d38086, .subordinate = 5, .answer = PCI_LU_UNKNOWN },
	{ .name = "gone", .id = ~0, .secondary = 3, .subordinate = 5, .answer = PCI_LU_NOBODY },
	{ .name = "not ready", .id = 0xffff0001, .secondary = 3, .subordinate = 5,
	  .answer = PCI_LU_UNKNOWN },
	{ .name = "out of reach", .unreadable = true, .answer = PCI_LU_UNKNOWN },
};

KUNIT_ARRAY_PARAM_DESC(ask, ask_cases, name);

static void lu_bridge_is_asked(struct kunit *test)
{
	const struct ask_case *param = test->param_value;
	const struct pci_liveupdate_record_ser rec = {
		.bdf = PCI_DEVID(0, DEVFN), .flags = PCI_LIVEUPDATE_F_BRIDGE,
		.secondary = 3, .subordinate = 5,
	};
	struct fake *fake = fake_function(test);
	const char *why = NULL;

	memcpy(fake->bytes + PCI_VENDOR_ID, &param->id, sizeof(param->id));
	fake->bytes[PCI_SECONDARY_BUS] = param->secondary;
	fake->bytes[PCI_SUBORDINATE_BUS] = param->subordinate;
	set_word(fake, PCI_COMMAND, param->command);
	fake->unreadable = param->unreadable;
	KUNIT_EXPECT_EQ(test, pci_lu_ask_bridge(&fake->bus, &rec, &why), param->answer);
	/* People are told why, and nothing is written */
	KUNIT_EXPECT_EQ(test, !why, param->answer != PCI_LU_UNKNOWN);
	KUNIT_EXPECT_EQ(test, command(fake), param->command);
}

static const struct end_case {
	const char *name;
	bool express;
	unsigned int pending;
	u16 off;
	u16 stuck;
	bool goes;
	bool ended;
	bool drained;
} end_cases[] = {
	{ .name = "at once", .off = PCI_COMMAND_MASTER, .ended = true, .drained = true },
	{ .name = "with decode", .off = PCI_COMMAND_MASTER | PCI_COMMAND_IO | PCI_COMMAND_MEMORY,
	  .ended = true, .drained = true },
	{ .name = "after requests", .express = true, .pending = 3, .off = PCI_COMMAND_MASTER,
	  .ended = true, .drained = true },
	{ .name = "with requests that hang", .express = true, .pending = EVER,
	  .off = PCI_COMMAND_MASTER, .ended = true },
	{ .name = "Bus Master stays on", .off = PCI_COMMAND_MASTER, .stuck = PCI_COMMAND_MASTER },
	{ .name = "decode stays on", .off = PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY,
	  .stuck = PCI_COMMAND_MEMORY, .ended = true, .drained = true },
	{ .name = "goes meanwhile", .express = true, .pending = EVER, .off = PCI_COMMAND_MASTER,
	  .goes = true, .ended = true, .drained = true },
};

KUNIT_ARRAY_PARAM_DESC(end, end_cases, name);

static void lu_dma_ends(struct kunit *test)
{
	const struct end_case *param = test->param_value;
	struct fake *fake = fake_function(test);
	u16 before = command(fake);
	bool drained = false;

	fake->pending = param->pending;
	fake->stuck = param->stuck;
	fake->goes = param->goes;
	KUNIT_EXPECT_EQ(test, pci_lu_end_dma(&fake->bus, DEVFN, param->express ? EXPRESS : 0,
					     param->off, &drained), param->ended);
	if (param->ended)
		KUNIT_EXPECT_EQ(test, drained, param->drained);
	/* Nothing else is changed */
	KUNIT_EXPECT_EQ(test, command(fake), (before & ~param->off) | param->stuck);
	if (param->express && param->drained && !param->goes)
		KUNIT_EXPECT_GT(test, fake->asked, param->pending);
}

/* What cannot be asked has not been stopped: it is asked again when its session ends */
static void lu_silence_is_no_answer(struct kunit *test)
{
	struct fake *fake = fake_function(test);
	struct pci_dev *dev = kunit_kzalloc(test, sizeof(*dev), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, dev);
	dev->bus = &fake->bus;
	dev->devfn = DEVFN;
	dev->hdr_type = PCI_HEADER_TYPE_NORMAL;
	set_bit(PCI_LU_ADOPTED, &dev->lu_flags);

	fake->gone = true;
	pci_lu_leaves(dev);
	KUNIT_EXPECT_FALSE(test, test_bit(PCI_LU_STOPPED, &dev->lu_flags));

	/* While it is being stopped, too */
	fake->gone = false;
	fake->goes = true;
	pci_lu_leaves(dev);
	KUNIT_EXPECT_FALSE(test, test_bit(PCI_LU_STOPPED, &dev->lu_flags));

	/* Control: one that answers */
	fake->gone = false;
	fake->goes = false;
	set_word(fake, PCI_COMMAND, PCI_COMMAND_MASTER);
	pci_lu_leaves(dev);
	KUNIT_EXPECT_TRUE(test, test_bit(PCI_LU_STOPPED, &dev->lu_flags));
	KUNIT_EXPECT_FALSE(test, command(fake) & PCI_COMMAND_MASTER);
}

static struct kunit_case lu_stop_cases[] = {
	KUNIT_CASE_PARAM(lu_bridge_is_asked, ask_gen_params),
	KUNIT_CASE_PARAM(lu_dma_ends, end_gen_params),
	KUNIT_CASE(lu_silence_is_no_answer),
	{}
};

static struct kunit_suite lu_stop_suite = {
	.name = "pci_liveupdate_stop",
	.test_cases = lu_stop_cases,
};

kunit_test_suite(lu_stop_suite);
