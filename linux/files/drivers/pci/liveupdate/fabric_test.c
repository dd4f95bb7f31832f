// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for what a scan may do with the bus numbers of a bridge.
 */

#include <kunit/test.h>

#include "internal.h"

#define HELD	.held = true
#define KNOWN	.enumerated = true
#define ON(b, pri, sec, sub) \
	.bus = (b), .primary = (pri), .secondary = (sec), .subordinate = (sub)

struct judgement {
	const char *name;
	struct pci_lu_bridge_view view;
	enum pci_lu_buses answer;
};

static const struct judgement judgements[] = {
	{ "held sane", { HELD, ON(0, 0, 1, 4) }, PCI_LU_BUSES_KEEP },
	{ "held sane known", { HELD, KNOWN, ON(2, 2, 3, 3) }, PCI_LU_BUSES_KEEP },
	{ "held last bus", { HELD, ON(254, 254, 255, 255) }, PCI_LU_BUSES_KEEP },
	{ "held empty", { HELD, ON(0, 0, 0, 0) }, PCI_LU_BUSES_REFUSE },
	{ "held emptied meanwhile", { HELD, KNOWN, ON(0, 0, 0, 0) }, PCI_LU_BUSES_REFUSE },
	{ "held backwards", { HELD, ON(0, 0, 4, 1) }, PCI_LU_BUSES_REFUSE },
	{ "held own bus", { HELD, ON(3, 3, 3, 5) }, PCI_LU_BUSES_REFUSE },
	{ "held bus above", { HELD, ON(3, 3, 2, 5) }, PCI_LU_BUSES_REFUSE },
	{ "held other primary", { HELD, ON(3, 0, 4, 5) }, PCI_LU_BUSES_REFUSE },
	{ "held taken", { HELD, .taken = true, ON(0, 0, 1, 4) }, PCI_LU_BUSES_REFUSE },
	{ "held CardBus", { HELD, .cardbus = true, ON(0, 0, 1, 4) }, PCI_LU_BUSES_REFUSE },
	{ "new empty", { ON(0, 0, 0, 0) }, PCI_LU_BUSES_ASSIGN },
	{ "new sane", { ON(0, 0, 1, 4) }, PCI_LU_BUSES_ASSIGN },
	{ "known sane", { KNOWN, ON(0, 0, 1, 4) }, PCI_LU_BUSES_KEEP },
	{ "known broken", { KNOWN, ON(0, 0, 4, 1) }, PCI_LU_BUSES_ASSIGN },
	{ "known taken", { KNOWN, .taken = true, ON(0, 0, 1, 4) }, PCI_LU_BUSES_ASSIGN },
};

static void judgement_name(const struct judgement *judgement, char *desc)
{
	strscpy(desc, judgement->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(lu_judgement, judgements, judgement_name);

static void lu_judged(struct kunit *test)
{
	const struct judgement *judgement = test->param_value;

	KUNIT_EXPECT_EQ(test, pci_lu_judge_buses(&judgement->view), judgement->answer);
}

/* Whatever the numbers: while something is held, none are ever assigned */
static void lu_held_never_assigns(struct kunit *test)
{
	struct pci_lu_bridge_view view = { .held = true, .bus = 5, .primary = 5 };

	for (unsigned int sec = 0; sec < 256; sec++)
		for (unsigned int sub = 0; sub < 256; sub++) {
			view.secondary = sec;
			view.subordinate = sub;
			KUNIT_ASSERT_EQ(test, pci_lu_judge_buses(&view),
					sec > 5 && sec <= sub ? PCI_LU_BUSES_KEEP :
								PCI_LU_BUSES_REFUSE);
		}
}

static struct kunit_case lu_fabric_cases[] = {
	KUNIT_CASE_PARAM(lu_judged, lu_judgement_gen_params),
	KUNIT_CASE(lu_held_never_assigns),
	{}
};

static struct kunit_suite lu_fabric_suite = {
	.name		= "pci_liveupdate_fabric",
	.test_cases	= lu_fabric_cases,
};

kunit_test_suite(lu_fabric_suite);
