// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of saved states that are handed over.
 */

#include <kunit/test.h>
#include <linux/slab.h>

#include "../pci.h"
#include "internal.h"

#define STATE_ROOM	256

struct saved_fixture {
	struct pci_dev *dev;
	struct pci_saved_state *state;
	u8 buf[STATE_ROOM] __aligned(8);
	size_t size;
};

KUNIT_DEFINE_ACTION_WRAPPER(free_state, kfree, const void *);

static void add_cap(struct kunit *test, struct pci_dev *dev, u16 id, bool extended,
		    unsigned int size)
{
	struct pci_cap_saved_state *cap = kunit_kzalloc(test, sizeof(*cap) + size, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, cap);
	cap->cap.cap_nr = id;
	cap->cap.cap_extended = extended;
	cap->cap.size = size;
	memset(cap->cap.data, id, size);
	hlist_add_head(&cap->next, &dev->saved_cap_space);
}

/* A device that saves its header, an odd-sized capability and an extended one */
static int saved_init(struct kunit *test)
{
	struct saved_fixture *f = kunit_kzalloc(test, sizeof(*f), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, f);
	f->dev = kunit_kzalloc(test, sizeof(*f->dev), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, f->dev);
	add_cap(test, f->dev, PCI_CAP_ID_EXP, false, 14);
	add_cap(test, f->dev, PCI_EXT_CAP_ID_LTR, true, 4);
	for (int i = 0; i < 16; i++)
		f->dev->saved_config_space[i] = 0x01010101 * i;
	f->dev->state_saved = true;

	f->state = pci_store_saved_state(f->dev);
	KUNIT_ASSERT_NOT_NULL(test, f->state);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, free_state, f->state), 0);

	f->size = pci_liveupdate_pack_state(f->state, f->buf, sizeof(f->buf));
	KUNIT_ASSERT_GT(test, f->size, 0);
	test->priv = f;
	return 0;
}

static void saved_expect_invalid(struct kunit *test, size_t size)
{
	struct saved_fixture *f = test->priv;
	struct pci_saved_state *state;

	state = pci_liveupdate_unpack_state(f->dev, f->buf, size);
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(state), -EINVAL);
	if (!IS_ERR(state))
		kfree(state);
}

static struct pci_liveupdate_state_cap_ser *first_cap(struct saved_fixture *f)
{
	return (void *)f->buf + sizeof(struct pci_liveupdate_state_ser);
}

static void saved_comes_back(struct kunit *test)
{
	struct saved_fixture *f = test->priv;
	struct pci_cap_saved_state *cap;
	struct pci_saved_state *state;

	state = pci_liveupdate_unpack_state(f->dev, f->buf, f->size);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, state);

	memset(f->dev->saved_config_space, 0xff, sizeof(f->dev->saved_config_space));
	hlist_for_each_entry(cap, &f->dev->saved_cap_space, next)
		memset(cap->cap.data, 0xff, cap->cap.size);

	KUNIT_EXPECT_EQ(test, pci_load_and_free_saved_state(f->dev, &state), 0);
	for (int i = 0; i < 16; i++)
		KUNIT_EXPECT_EQ(test, f->dev->saved_config_space[i], 0x01010101 * i);
	hlist_for_each_entry(cap, &f->dev->saved_cap_space, next)
		for (int i = 0; i < cap->cap.size; i++)
			KUNIT_EXPECT_EQ(test, ((u8 *)cap->cap.data)[i], (u8)cap->cap.cap_nr);
}

static void saved_needs_room(struct kunit *test)
{
	struct saved_fixture *f = test->priv;

	for (size_t size = 0; size < f->size; size++)
		KUNIT_EXPECT_EQ(test, pci_liveupdate_pack_state(f->state, f->buf, size), 0);
	KUNIT_EXPECT_EQ(test, pci_liveupdate_pack_state(f->state, f->buf, f->size), f->size);
}

static void saved_is_cut_short(struct kunit *test)
{
	struct saved_fixture *f = test->priv;
	struct pci_liveupdate_state_ser *ser = (void *)f->buf;

	for (size_t size = 0; size < f->size; size++)
		saved_expect_invalid(test, size);

	/* Also where the length says the same, except between two capabilities */
	for (size_t size = sizeof(*ser) + 1; size < f->size; size++) {
		ser->size = size - sizeof(*ser);
		if (ser->size != sizeof(*first_cap(f)) + ALIGN(first_cap(f)->size, 8))
			saved_expect_invalid(test, size);
	}
}

static void saved_is_of_another_device(struct kunit *test)
{
	struct saved_fixture *f = test->priv;
	struct pci_liveupdate_state_cap_ser *cap = first_cap(f), good = *cap;

	cap->id = PCI_CAP_ID_PCIX;
	saved_expect_invalid(test, f->size);
	*cap = good;
	cap->flags ^= PCI_LIVEUPDATE_STATE_EXTENDED;
	saved_expect_invalid(test, f->size);
	*cap = good;
	cap->flags |= 0x8000;
	saved_expect_invalid(test, f->size);
	*cap = good;
	for (int bit = 0; bit < 32; bit++) {
		cap->size = good.size ^ BIT(bit);
		saved_expect_invalid(test, f->size);
	}
	cap->size = 0;
	saved_expect_invalid(test, f->size);
}

static struct kunit_case saved_cases[] = {
	KUNIT_CASE(saved_comes_back),
	KUNIT_CASE(saved_needs_room),
	KUNIT_CASE(saved_is_cut_short),
	KUNIT_CASE(saved_is_of_another_device),
	{}
};

static struct kunit_suite saved_suite = {
	.name = "pci_liveupdate_saved_state",
	.init = saved_init,
	.test_cases = saved_cases,
};

kunit_test_suite(saved_suite);
