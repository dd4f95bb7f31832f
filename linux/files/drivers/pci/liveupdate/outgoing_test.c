// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for which devices cannot be preserved, and what is said of them.
 */

#include <kunit/test.h>
#include <linux/device/driver.h>
#include <linux/of.h>
#include <linux/pci.h>
#include <linux/string.h>

#include "../pci.h"
#include "internal.h"

/* A function below a generic ECAM host bridge whose domain number is fixed */
struct fake {
	u64 sysdata[8];			/* an architecture's; x86 has the domain in it */
	struct pci_bus bus;
	struct pci_dev dev;
	struct pci_host_bridge host;
	struct device parent;
	struct device_driver driver;
	struct device_node node;
	struct pci_sriov sriov;
	struct pci_driver pf_driver;
	struct pci_dev pf;
	struct pci_lu_incoming incoming;
	struct pci_liveupdate_record_ser rec;
	struct pci_liveupdate_record_ser iov;
	u32 vendor;
};

static int fake_read(struct pci_bus *bus, unsigned int devfn, int where,
		     int size, u32 *val)
{
	*val = container_of(bus, struct fake, bus)->vendor;
	return PCIBIOS_SUCCESSFUL;
}

static struct pci_ops fake_ops = {
	.read = fake_read,
};

static struct fake *fake_device(struct kunit *test)
{
	struct fake *fake = kunit_kzalloc(test, sizeof(*fake), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, fake);
	fake->vendor = 0x10d38086;
	fake->bus.ops = &fake_ops;
	fake->bus.sysdata = fake->sysdata;
	fake->bus.bridge = &fake->host.dev;
	fake->host.dev.parent = &fake->parent;
	fake->parent.driver = &fake->driver;
	fake->driver.name = "pci-host-generic";
	fake->dev.bus = &fake->bus;
	fake->dev.vendor = PCI_VENDOR_ID_INTEL;
	fake->dev.device = 0x10d3;
	fake->dev.cfg_size = PCI_CFG_SPACE_EXP_SIZE;
	fake->dev.sriov = &fake->sriov;
	fake->dev.current_state = PCI_D0;
	pci_dev_assign_added(&fake->dev);
	return fake;
}

/* One thing about the device, and what must be said about it */
struct obstacle {
	const char *name;
	int errno;
	const char *reason;
	void (*apply)(struct fake *fake);
};

static void bridge(struct fake *f)	{ f->dev.hdr_type = PCI_HEADER_TYPE_BRIDGE; }
static void gone(struct fake *f)	{ f->vendor = ~0; }
static void unplugged(struct fake *f)	{ f->dev.error_state = pci_channel_io_perm_failure; }
static void leaving(struct fake *f)	{ pci_dev_test_and_clear_added(&f->dev); }
static void failed(struct fake *f)	{ set_bit(PCI_LU_DEAD, &f->dev.lu_flags); }
static void pri(struct fake *f)		{ f->dev.pri_enabled = true; }
static void odd_bars(struct fake *f)	{ f->dev.non_compliant_bars = true; }
static void asleep(struct fake *f)	{ f->dev.current_state = PCI_D3hot; }
static void other_host(struct fake *f)	{ f->driver.name = "pcie-fake"; }
static void dynamic(struct fake *f)	{ f->parent.of_node = &f->node; }
static void acs_quirk(struct fake *f)	{ f->dev.dev_flags = PCI_DEV_FLAGS_ACS_ENABLED_QUIRK; }

static void no_driver(struct fake *f)
{
	f->parent.driver = NULL;
}

/* On the same bus, and in order */
static void virtual_function(struct fake *f)
{
	f->pf = f->dev;
	f->pf.driver = &f->pf_driver;
	f->pf_driver.live_update = true;
	f->dev.is_virtfn = true;
	f->dev.physfn = &f->pf;
}

static void busy_pf(struct fake *f)
{
	virtual_function(f);
	f->pf_driver.live_update = false;
}

static void fake_callback(struct pci_dev *dev)
{
}

/* It takes a running device over, for a user: vfio-pci */
static void owned_pf(struct fake *f)
{
	virtual_function(f);
	f->pf_driver.remove = fake_callback;
}

/* ... who has closed its session */
static void left_pf(struct fake *f)
{
	owned_pf(f);
	f->pf.lu_outgoing = &f->rec;
	f->rec.flags = PCI_LIVEUPDATE_F_PF;
}

static void shut_down_pf(struct fake *f)
{
	virtual_function(f);
	f->pf_driver.shutdown = fake_callback;
}

static void sleeping_pf(struct fake *f)
{
	virtual_function(f);
	f->pf.current_state = PCI_D3hot;
}

static void failed_pf(struct fake *f)
{
	virtual_function(f);
	set_bit(PCI_LU_DEAD, &f->pf.lu_flags);
}

static void gone_pf(struct fake *f)
{
	virtual_function(f);
	f->pf.error_state = pci_channel_io_perm_failure;
}

static void pri_pf(struct fake *f)
{
	virtual_function(f);
	f->pf.pri_enabled = true;
}

static void acs_quirk_pf(struct fake *f)
{
	virtual_function(f);
	f->pf.dev_flags = PCI_DEV_FLAGS_ACS_ENABLED_QUIRK;
}

static void physical_function(struct fake *f)
{
	f->dev.is_physfn = true;
	memset(&f->sriov, 1, sizeof(f->sriov));	/* as many as that makes */
}

static void conventional_space(struct fake *f)
{
	f->dev.pcie_cap = PCI_STD_HEADER_SIZEOF;
	f->dev.cfg_size = PCI_CFG_SPACE_SIZE;
}

static void preserved(struct fake *f)
{
	f->dev.lu_outgoing = &f->rec;
	f->rec.flags = PCI_LIVEUPDATE_F_ENDPOINT;
}

static void kept_pf(struct fake *f)
{
	physical_function(f);
	f->dev.lu_outgoing = &f->rec;
	f->rec.flags = PCI_LIVEUPDATE_F_PF;
	f->sriov.lu_outgoing = &f->iov;
	f->iov.iov.owner = PCI_LIVEUPDATE_PF_STUB;
}

static void about_to_sleep(struct fake *f)
{
	pci_lu_set_suspending(true);
}

static void unfinished(struct fake *f)
{
	f->dev.lu_incoming = &f->incoming;
}

static const struct obstacle obstacles[] = {
	{ "bridge", -EINVAL, "it is a bridge", bridge },
	{ "gone", -ENODEV, "it is gone, or does not answer", gone },
	{ "unplugged", -ENODEV, "it is gone, or does not answer", unplugged },
	{ "leaving", -ENODEV, "it is being removed, or has failed", leaving },
	{ "failed", -ENODEV, "it is being removed, or has failed", failed },
	{ "VF of a busy PF", -EOPNOTSUPP,
	  "its Physical Function has a driver that does not keep Virtual Functions through a kexec",
	  busy_pf },
	{ "VF of a PF with owner", -EOPNOTSUPP,
	  "its Physical Function has a driver for users, and is not preserved", owned_pf },
	{ "VF of a PF whose owner left", -EOPNOTSUPP,
	  "its Physical Function has a driver for users, and is not preserved", left_pf },
	{ "VF of a PF that is shut down", -EOPNOTSUPP,
	  "its Physical Function has a driver for users, and is not preserved", shut_down_pf },
	{ "VF of a sleeping PF", -EINVAL, "its Physical Function is not in D0", sleeping_pf },
	{ "VF of a failed PF", -ENODEV, "it is being removed, or has failed", failed_pf },
	{ "VF of a gone PF", -ENODEV, "it is gone, or does not answer", gone_pf },
	{ "VF of a PF with PRI", -EOPNOTSUPP, "page requests (PRI) are enabled", pri_pf },
	{ "VF of a PF with ACS quirk", -EOPNOTSUPP,
	  "ACS of it, or of a bridge above it, is set up by a quirk that cannot be handed over",
	  acs_quirk_pf },
	{ "PF kept with VFs", -EBUSY,
	  "it is kept with its Virtual Functions, and had no user when they were preserved",
	  kept_pf },
	{ "PRI", -EOPNOTSUPP, "page requests (PRI) are enabled", pri },
	{ "odd BARs", -EOPNOTSUPP, "its BARs are known to be broken", odd_bars },
	{ "asleep", -EINVAL, "it is not in D0", asleep },
	{ "other host", -EOPNOTSUPP, "its host bridge has a driver of its own kind", other_host },
	{ "no host driver", -EOPNOTSUPP, "its host bridge has a driver of its own kind",
	  no_driver },
	{ "dynamic domain", -EOPNOTSUPP, "its domain number may be another next time", dynamic },
	{ "ACS quirk", -EOPNOTSUPP,
	  "ACS of it, or of a bridge above it, is set up by a quirk that cannot be handed over",
	  acs_quirk },
	{ "no extended space", -EOPNOTSUPP,
	  "extended configuration space of it, or of a bridge above it, cannot be read",
	  conventional_space },
	{ "preserved", -EBUSY, "it is preserved already", preserved },
	{ "about to sleep", -EBUSY, "the machine is about to sleep", about_to_sleep },
	{ "unfinished", -EBUSY, "it is not finished from the previous live update", unfinished },
};

static void obstacle_name(const struct obstacle *obstacle, char *desc)
{
	strscpy(desc, obstacle->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(lu_obstacle, obstacles, obstacle_name);

static void lu_inherited_end(void *data)
{
	static_branch_dec(&pci_lu_incoming_key);
}

static void lu_refused(struct kunit *test)
{
	const struct obstacle *obstacle = test->param_value;
	struct fake *fake = fake_device(test);
	const struct pci_lu_refusal *refusal;

	/* What is unfinished is looked for where something was inherited */
	static_branch_inc(&pci_lu_incoming_key);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, lu_inherited_end, NULL), 0);

	KUNIT_ASSERT_NULL(test, pci_lu_refusal(&fake->dev, PCI_LU_PRESERVE));
	obstacle->apply(fake);
	refusal = pci_lu_refusal(&fake->dev, PCI_LU_PRESERVE);
	pci_lu_set_suspending(false);
	KUNIT_ASSERT_NOT_NULL(test, refusal);
	KUNIT_EXPECT_EQ(test, refusal->errno, obstacle->errno);
	KUNIT_EXPECT_STREQ(test, refusal->reason, obstacle->reason);
}

/* As it is, or without a driver: then nobody has told what state it is in */
static void lu_vf_not_refused(struct kunit *test)
{
	struct fake *fake = fake_device(test);

	virtual_function(fake);
	KUNIT_EXPECT_NULL(test, pci_lu_refusal(&fake->dev, PCI_LU_PRESERVE));
	fake->pf.driver = NULL;
	fake->pf.current_state = PCI_UNKNOWN;
	KUNIT_EXPECT_NULL(test, pci_lu_refusal(&fake->dev, PCI_LU_PRESERVE));
	/* It has: Power State of what is read there is D2 */
	fake->pf.pm_cap = PCI_STD_HEADER_SIZEOF;
	KUNIT_EXPECT_NOT_NULL(test, pci_lu_refusal(&fake->dev, PCI_LU_PRESERVE));
}

/* Of a user who has preserved it */
static void lu_vf_of_a_user_not_refused(struct kunit *test)
{
	struct fake *fake = fake_device(test);

	owned_pf(fake);
	KUNIT_EXPECT_NOT_NULL(test, pci_lu_refusal(&fake->dev, PCI_LU_FREEZE));
	fake->pf.lu_outgoing = &fake->rec;
	fake->rec.flags = PCI_LIVEUPDATE_F_PF | PCI_LIVEUPDATE_F_ENDPOINT;
	KUNIT_EXPECT_NULL(test, pci_lu_refusal(&fake->dev, PCI_LU_PRESERVE));
	KUNIT_EXPECT_NULL(test, pci_lu_refusal(&fake->dev, PCI_LU_FREEZE));
}

static void lu_used_end(void *data)
{
	static_branch_dec(&pci_lu_used_key);
}

static const char *fake_answer;

static const char *fake_pf_callback(struct pci_dev *pf)
{
	return fake_answer;
}

/* ... and of a driver that keeps them, which may have a reason not to */
static void lu_vf_of_a_driver_asked(struct kunit *test)
{
	struct fake *fake = fake_device(test);

	busy_pf(fake);
	fake->pf_driver.remove = fake_callback;
	fake->pf_driver.shutdown = fake_callback;
	fake->pf_driver.live_update_pf = fake_pf_callback;
	fake->pf_driver.name = "fake";
	KUNIT_EXPECT_NULL(test, pci_lu_refusal(&fake->dev, PCI_LU_PRESERVE));
	KUNIT_EXPECT_NULL(test, pci_lu_refusal(&fake->dev, PCI_LU_FREEZE));

	static_branch_inc(&pci_lu_used_key);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, lu_used_end, NULL), 0);
	fake->dev.dev.init_name = "fake VF";
	fake_answer = "a reason; a remedy";
	/* Not while none of them is preserved */
	KUNIT_EXPECT_EQ(test, pci_lu_ask_driver(&fake->pf, &fake->dev, "preserved"), 0);
	set_bit(PCI_LU_PF, &fake->pf.lu_flags);
	KUNIT_EXPECT_EQ(test, pci_lu_ask_driver(&fake->pf, &fake->dev, "preserved"), -EOPNOTSUPP);
	fake_answer = NULL;
	KUNIT_EXPECT_EQ(test, pci_lu_ask_driver(&fake->pf, &fake->dev, "preserved"), 0);
	/* Nor of other drivers, nor where there is none */
	fake_answer = "a reason";
	fake->pf_driver.live_update_pf = NULL;
	KUNIT_EXPECT_EQ(test, pci_lu_ask_driver(&fake->pf, &fake->dev, "preserved"), 0);
	fake->pf.driver = NULL;
	KUNIT_EXPECT_EQ(test, pci_lu_ask_driver(&fake->pf, &fake->dev, "preserved"), 0);
}

/* Virtual Functions that came after it was preserved are not in its record */
static void lu_new_vfs_refused(struct kunit *test)
{
	const struct pci_lu_refusal *refusal;
	struct fake *fake = fake_device(test);

	physical_function(fake);
	KUNIT_EXPECT_NULL(test, pci_lu_refusal(&fake->dev, PCI_LU_PRESERVE));
	fake->dev.lu_outgoing = &fake->rec;
	fake->rec.flags = PCI_LIVEUPDATE_F_ENDPOINT;
	refusal = pci_lu_refusal(&fake->dev, PCI_LU_FREEZE);
	KUNIT_ASSERT_NOT_NULL(test, refusal);
	KUNIT_EXPECT_STREQ(test, refusal->reason, "it has Virtual Functions enabled");
	fake->rec.flags |= PCI_LIVEUPDATE_F_PF;
	KUNIT_EXPECT_NULL(test, pci_lu_refusal(&fake->dev, PCI_LU_FREEZE));
}

/* What is above counts, too: a quirk's port, a port without extended space */
static void lu_refused_for_a_bridge(struct kunit *test)
{
	struct fake *fake = fake_device(test), *up = fake_device(test);

	fake->bus.parent = &up->bus;
	fake->bus.self = &up->dev;
	up->dev.hdr_type = PCI_HEADER_TYPE_BRIDGE;
	KUNIT_ASSERT_NULL(test, pci_lu_refusal(&fake->dev, PCI_LU_PRESERVE));
	acs_quirk(up);
	KUNIT_EXPECT_NOT_NULL(test, pci_lu_refusal(&fake->dev, PCI_LU_PRESERVE));
	up->dev.dev_flags = 0;
	conventional_space(up);
	KUNIT_EXPECT_NOT_NULL(test, pci_lu_refusal(&fake->dev, PCI_LU_PRESERVE));
}

/* Emulated devices have no resizable BARs to try it on */
static void lu_bar_sizes_stay(struct kunit *test)
{
	struct fake *fake = fake_device(test);

	fake->vendor = 0;	/* Memory Space Enable, too */
	static_branch_inc(&pci_lu_used_key);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, lu_used_end, NULL), 0);

	KUNIT_EXPECT_EQ(test, pci_resize_resource(&fake->dev, 0, 8, 0), -EINVAL);
	set_bit(PCI_LU_OUTGOING, &fake->dev.lu_flags);
	pci_resource_n(&fake->dev, 0)->flags |= IORESOURCE_PCI_FIXED;
	KUNIT_EXPECT_EQ(test, pci_resize_resource(&fake->dev, 0, 8, 0), -EBUSY);
	KUNIT_EXPECT_TRUE(test, pci_liveupdate_refuses(&fake->dev, false, "a change of BAR sizes"));
}

/* Another adapter that asks for legacy VGA has others stop decoding it */
static void lu_vga_stays(struct kunit *test)
{
	struct fake *fake = fake_device(test);

	static_branch_inc(&pci_lu_used_key);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, lu_used_end, NULL), 0);

	KUNIT_EXPECT_EQ(test, pci_set_vga_state(&fake->dev, false, 0, 0), 0);
	fake->dev.lu_keep = BIT(PCI_LU_KEEP_VGA);
	KUNIT_EXPECT_EQ(test, pci_set_vga_state(&fake->dev, false, 0, 0), -EBUSY);
}

/* Functions of one device: those of a slot, or all of the bus where it has ARI */
static void lu_slot_stays(struct kunit *test)
{
	struct fake *fake = fake_device(test);

	static_branch_inc(&pci_lu_used_key);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, lu_used_end, NULL), 0);
	INIT_LIST_HEAD(&fake->bus.devices);
	list_add(&fake->dev.bus_list, &fake->bus.devices);
	fake->dev.devfn = PCI_DEVFN(1, 0);
	set_bit(PCI_LU_OUTGOING, &fake->dev.lu_flags);
	fake->bus.self = &fake->pf;

	KUNIT_EXPECT_TRUE(test, pci_lu_refuses_slot(&fake->bus, 1, "a test"));
	KUNIT_EXPECT_FALSE(test, pci_lu_refuses_slot(&fake->bus, 0, "a test"));
	fake->pf.ari_enabled = 1;
	KUNIT_EXPECT_TRUE(test, pci_lu_refuses_slot(&fake->bus, 0, "a test"));
}

static bool keeps_vga(struct fake *fake, bool outgoing)
{
	guard(rwsem_write)(&pci_lu_rwsem);
	assign_bit(PCI_LU_OUTGOING, &fake->dev.lu_flags, outgoing);
	pci_lu_changed(&fake->dev);
	return fake->dev.lu_keep & BIT(PCI_LU_KEEP_VGA);
}

/* In this kernel already, from when it is preserved until it is no longer */
static void lu_vga_stays_of_what_is_preserved(struct kunit *test)
{
	struct fake *fake = fake_device(test);

	KUNIT_EXPECT_FALSE(test, keeps_vga(fake, false));
	KUNIT_EXPECT_TRUE(test, keeps_vga(fake, true));
	KUNIT_EXPECT_FALSE(test, keeps_vga(fake, false));
}

static const struct master_case {
	const char *name;
	bool dead;
	pci_channel_state_t channel;
	bool keeps;
} master_cases[] = {
	{ .name = "works", .channel = pci_channel_io_normal, .keeps = true },
	{ .name = "dead", .dead = true, .channel = pci_channel_io_normal },
	{ .name = "frozen", .channel = pci_channel_io_frozen },
	{ .name = "failed for good", .channel = pci_channel_io_perm_failure },
	{ .name = "dead and frozen", .dead = true, .channel = pci_channel_io_frozen },
};

KUNIT_ARRAY_PARAM_DESC(master, master_cases, name);

/* What has failed is its driver's to stop */
static void lu_master_stays(struct kunit *test)
{
	const struct master_case *param = test->param_value;
	struct fake *fake = fake_device(test);

	static_branch_inc(&pci_lu_used_key);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, lu_used_end, NULL), 0);

	fake->dev.error_state = param->channel;
	assign_bit(PCI_LU_DEAD, &fake->dev.lu_flags, param->dead);
	/* Control: of what nobody preserved it goes in any case */
	KUNIT_EXPECT_FALSE(test, pci_liveupdate_keeps_master(&fake->dev));
	for (int bit = PCI_LU_OUTGOING; bit <= PCI_LU_ADOPTED; bit++) {
		set_bit(bit, &fake->dev.lu_flags);
		KUNIT_EXPECT_EQ(test, pci_liveupdate_keeps_master(&fake->dev), param->keeps);
		clear_bit(bit, &fake->dev.lu_flags);
	}
}

/* Do others than @fake stop, so that it may be preserved while scans are locked out? */
static bool others_stop(struct fake *fake)
{
	guard(rwsem_read)(&pci_lu_rwsem);
	return pci_lu_others_are_stopping(&fake->dev);
}

/* Only what is removed by whoever has the lock, and until a part of it goes */
static void lu_stops_for_whom(struct kunit *test)
{
	struct fake *goes = fake_device(test), *within = fake_device(test);
	struct fake *stays = fake_device(test);

	pci_lu_stopping(&goes->dev);
	KUNIT_EXPECT_FALSE(test, others_stop(stays));
	pci_lu_stopping(NULL);

	pci_lock_rescan_remove();
	KUNIT_EXPECT_FALSE(test, others_stop(stays));
	pci_lu_stopping(&goes->dev);
	KUNIT_EXPECT_TRUE(test, others_stop(stays));
	KUNIT_EXPECT_FALSE(test, others_stop(goes));
	pci_lu_stopping(&within->dev);
	KUNIT_EXPECT_FALSE(test, others_stop(goes));
	KUNIT_EXPECT_TRUE(test, others_stop(stays));
	pci_lu_stopping(NULL);
	KUNIT_EXPECT_FALSE(test, others_stop(stays));
	pci_lu_stopping(NULL);
	pci_lu_stopping(&goes->dev);
	KUNIT_EXPECT_TRUE(test, others_stop(stays));
	pci_lu_stopping(NULL);
	KUNIT_EXPECT_FALSE(test, others_stop(stays));
	pci_unlock_rescan_remove();
}

static struct kunit_case lu_outgoing_cases[] = {
	KUNIT_CASE_PARAM(lu_refused, lu_obstacle_gen_params),
	KUNIT_CASE(lu_vf_not_refused),
	KUNIT_CASE(lu_vf_of_a_user_not_refused),
	KUNIT_CASE(lu_vf_of_a_driver_asked),
	KUNIT_CASE(lu_new_vfs_refused),
	KUNIT_CASE(lu_refused_for_a_bridge),
	KUNIT_CASE(lu_bar_sizes_stay),
	KUNIT_CASE(lu_slot_stays),
	KUNIT_CASE(lu_vga_stays),
	KUNIT_CASE(lu_vga_stays_of_what_is_preserved),
	KUNIT_CASE_PARAM(lu_master_stays, master_gen_params),
	KUNIT_CASE(lu_stops_for_whom),
	{}
};

static struct kunit_suite lu_outgoing_suite = {
	.name		= "pci_liveupdate_outgoing",
	.test_cases	= lu_outgoing_cases,
};

kunit_test_suite(lu_outgoing_suite);
