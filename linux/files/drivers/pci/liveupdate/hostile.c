// SPDX-License-Identifier: GPL-2.0
/*
 * PCI Live Update: a quirk and a driver that do to a device and to the bridge
 * above it what nobody may do to preserved ones, for tests of the guard; and
 * devices that are not what they should be.
 */

#define dev_fmt(fmt) "Live Update, hostile: " fmt

#include <linux/cleanup.h>
#include <linux/delay.h>
#include <linux/init.h>
#include <linux/io.h>
#include <linux/kallsyms.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/stacktrace.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include <linux/xarray.h>

#include "../pci.h"
#include "internal.h"

#undef MODULE_PARAM_PREFIX
#define MODULE_PARAM_PREFIX "pci_liveupdate_hostile."

static char *lu_quirk;
module_param_named(quirk, lu_quirk, charp, 0400);
MODULE_PARM_DESC(quirk, "function that quirks disturb, as it is found");

static char *lu_vpd;
module_param_named(vpd, lu_vpd, charp, 0400);
MODULE_PARM_DESC(vpd, "function that has VPD as far as the kernel knows");

static char *lu_slow;
module_param_named(slow, lu_slow, charp, 0400);
MODULE_PARM_DESC(slow, "function that is found long before it is added");

static bool lu_stale;
module_param_named(stale, lu_stale, bool, 0400);
MODULE_PARM_DESC(stale, "its record is read before it is added, and nobody asks whether it is still there");

static bool lu_no_reset;
module_param_named(no_reset, lu_no_reset, bool, 0400);
MODULE_PARM_DESC(no_reset, "no function takes a reset of its bus");

static char *lu_capability;
module_param_named(capability, lu_capability, charp, 0400);
MODULE_PARM_DESC(capability, "function with a capability that Linux has learnt of since");

#define LU_SLOW_MS	10000

/* Beyond all capabilities of the devices that this is used with */
#define LU_VPD_AT	0xf8

#define LU_EXT		0x100

/**
 * struct lu_poke - bits of a register to be turned over
 * @cap:  capability, or extended capability plus %LU_EXT, or 0 for the header
 * @reg:  offset in there
 * @size: of the access, in bytes
 * @flip: bits
 */
struct lu_poke {
	u16 cap;
	u16 reg;
	u8 size;
	u32 flip;
};

static const struct lu_poke lu_device_pokes[] = {
	{ 0, PCI_BASE_ADDRESS_0, 4, ~0 },
	{ 0, PCI_BASE_ADDRESS_1, 4, ~0 },
	{ 0, PCI_BASE_ADDRESS_2, 4, ~0 },
	{ 0, PCI_BASE_ADDRESS_3, 4, ~0 },
	{ 0, PCI_BASE_ADDRESS_4, 4, ~0 },
	{ 0, PCI_BASE_ADDRESS_5, 4, ~0 },
	{ 0, PCI_ROM_ADDRESS, 4, ~0 },
	{ 0, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER },
	{ 0, PCI_COMMAND, 1, PCI_COMMAND_MASTER },
	{ 0, PCI_COMMAND, 4, PCI_COMMAND_INTX_DISABLE },
	{ 0, PCI_INTERRUPT_LINE, 1, 0xff },
	{ 0, PCI_CACHE_LINE_SIZE, 1, 0x10 },
	{ PCI_CAP_ID_PM, PCI_PM_CTRL, 2, PCI_PM_CTRL_STATE_MASK },
	{ PCI_CAP_ID_MSI, PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE },
	{ PCI_CAP_ID_MSIX, PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_MASKALL },
	{ PCI_CAP_ID_EXP, PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_READRQ },
	{ PCI_CAP_ID_EXP, PCI_EXP_DEVCTL, 1, PCI_EXP_DEVCTL_PAYLOAD },
	{ PCI_CAP_ID_EXP, PCI_EXP_LNKCTL, 2, PCI_EXP_LNKCTL_ASPMC },
	{ LU_EXT + PCI_EXT_CAP_ID_ERR, PCI_ERR_UNCOR_MASK, 4, ~0 },
};

static const struct lu_poke lu_bridge_pokes[] = {
	{ 0, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER },
	{ 0, PCI_PRIMARY_BUS, 1, 0x40 },
	{ 0, PCI_SECONDARY_BUS, 2, 0x4040 },
	{ 0, PCI_PRIMARY_BUS, 4, 0x00404000 },
	{ 0, PCI_IO_BASE, 2, 0xf0f0 },
	{ 0, PCI_MEMORY_BASE, 4, 0xfff0fff0 },
	{ 0, PCI_PREF_MEMORY_BASE, 4, 0xfff0fff0 },
	{ 0, PCI_PREF_BASE_UPPER32, 4, 0x1 },
	{ 0, PCI_PREF_LIMIT_UPPER32, 2, 0x1 },
	{ 0, PCI_BRIDGE_CONTROL, 2, PCI_BRIDGE_CTL_BUS_RESET },
	{ 0, PCI_BRIDGE_CONTROL, 1, PCI_BRIDGE_CTL_VGA },
	{ PCI_CAP_ID_PM, PCI_PM_CTRL, 2, PCI_PM_CTRL_STATE_MASK },
	{ PCI_CAP_ID_EXP, PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_PAYLOAD },
	{ PCI_CAP_ID_EXP, PCI_EXP_LNKCTL, 2, PCI_EXP_LNKCTL_LD },
	{ PCI_CAP_ID_EXP, PCI_EXP_LNKCTL, 1, PCI_EXP_LNKCTL_RL },
	{ PCI_CAP_ID_EXP, PCI_EXP_SLTCTL, 2, PCI_EXP_SLTCTL_PCC },
	{ PCI_CAP_ID_EXP, PCI_EXP_DEVCTL2, 2, PCI_EXP_DEVCTL2_ARI },
	{ LU_EXT + PCI_EXT_CAP_ID_ACS, PCI_ACS_CTRL, 2, PCI_ACS_SV | PCI_ACS_RR },
};

static void lu_read(struct pci_dev *dev, int where, int size, u32 *value)
{
	u16 word;
	u8 byte;

	if (size == 1) {
		pci_read_config_byte(dev, where, &byte);
		*value = byte;
	} else if (size == 2) {
		pci_read_config_word(dev, where, &word);
		*value = word;
	} else {
		pci_read_config_dword(dev, where, value);
	}
}

static __always_inline void lu_write(struct pci_dev *dev, int where, int size, u32 value)
{
	if (size == 1)
		pci_write_config_byte(dev, where, value);
	else if (size == 2)
		pci_write_config_word(dev, where, value);
	else
		pci_write_config_dword(dev, where, value);
}

/*
 * What arrived is undone at once, so that the rest can be tried. A function of its
 * own, for its name is what the guard's log is searched for.
 */
static noinline void lu_hostile_poke(struct pci_dev *dev, const struct lu_poke *poke)
{
	u32 was, is;
	int at = 0;

	if (poke->cap >= LU_EXT)
		at = pci_find_ext_capability(dev, poke->cap - LU_EXT);
	else if (poke->cap)
		at = pci_find_capability(dev, poke->cap);
	if (poke->cap && !at)
		return;

	at += poke->reg;
	lu_read(dev, at, poke->size, &was);
	lu_write(dev, at, poke->size, was ^ poke->flip);
	lu_read(dev, at, poke->size, &is);
	if (is != was)
		lu_write(dev, at, poke->size, was);
}

static void lu_poke_all(struct pci_dev *dev)
{
	struct pci_dev *bridge = pci_upstream_bridge(dev);

	for (int i = 0; i < ARRAY_SIZE(lu_device_pokes); i++)
		lu_hostile_poke(dev, &lu_device_pokes[i]);
	for (int i = 0; bridge && i < ARRAY_SIZE(lu_bridge_pokes); i++)
		lu_hostile_poke(bridge, &lu_bridge_pokes[i]);
}

static void lu_reset_all(struct pci_dev *dev)
{
	struct pci_dev *bridge = pci_upstream_bridge(dev);

	pcie_flr(dev);
	if (bridge)
		pci_bridge_secondary_bus_reset(bridge);
	pci_set_power_state(dev, PCI_D3hot);
	pci_set_power_state(dev, PCI_D0);
	pcie_set_readrq(dev, 4096);
	pci_clear_master(dev);
}

static bool lu_is(struct pci_dev *dev, const char *name)
{
	return name && !strcmp(pci_name(dev), name);
}

/* What Linux learns of next year: this stands at the end of pci_init_capabilities() */
void pci_hostile_capability_init(struct pci_dev *dev)
{
	u8 size;

	if (!lu_is(dev, lu_capability))
		return;
	pci_read_config_byte(dev, PCI_CACHE_LINE_SIZE, &size);
	pci_write_config_byte(dev, PCI_CACHE_LINE_SIZE, size ^ 0x10);
	pci_info(dev, "capability initialised\n");
}

static void lu_quirk_early(struct pci_dev *dev)
{
	if (lu_is(dev, lu_slow)) {
		pci_info(dev, "found, not added yet\n");
		msleep(LU_SLOW_MS);
		if (lu_stale && dev->lu_incoming)
			pci_info(dev, "%u as yet\n", READ_ONCE(dev->lu_incoming->users));
	}
	if (!lu_is(dev, lu_quirk))
		return;
	pci_info(dev, "early quirk\n");
	lu_poke_all(dev);
}
DECLARE_PCI_FIXUP_EARLY(PCI_ANY_ID, PCI_ANY_ID, lu_quirk_early);

static void lu_quirk_final(struct pci_dev *dev)
{
	if (lu_no_reset)
		dev->dev_flags |= PCI_DEV_FLAGS_NO_BUS_RESET;
	if (lu_is(dev, lu_vpd)) {
		dev->vpd.cap = LU_VPD_AT;
		if (sysfs_update_group(&dev->dev.kobj, &pci_dev_vpd_attr_group))
			pci_warn(dev, "no file for VPD\n");
	}
	if (!lu_is(dev, lu_quirk))
		return;
	pci_info(dev, "final quirk\n");
	lu_poke_all(dev);
	lu_reset_all(dev);
}
DECLARE_PCI_FIXUP_FINAL(PCI_ANY_ID, PCI_ANY_ID, lu_quirk_final);

static int lu_hostile_probe(struct pci_dev *dev, const struct pci_device_id *id)
{
	pci_info(dev, "driver\n");
	lu_poke_all(dev);
	lu_reset_all(dev);
	return -ENODEV;
}

/* It says that it takes over running devices, which is a lie */
static struct pci_driver lu_hostile_driver = {
	.name		= "pci_lu_hostile",
	.probe		= lu_hostile_probe,
	.live_update	= true,
};
builtin_pci_driver(lu_hostile_driver);

/*
 * A device that answers all ones for a while after its Function Level Reset, as
 * real ones do (PCIe r6.0, sec 6.6.2), and emulated ones do not. It is said to be
 * ready at once, so that resets follow each other quickly.
 */
static struct lu_deaf {
	struct pci_dev *dev;
	struct pci_ops *ops;
	u64 until;
} lu_deaf;

static unsigned int lu_deaf_us = 500;
module_param_named(deaf_us, lu_deaf_us, uint, 0600);
MODULE_PARM_DESC(deaf_us, "for how long it does not answer after a reset");

/* None, as long as whoever takes a record keeps resets away meanwhile */
static unsigned int lu_deaf_records;
module_param_named(deaf_records, lu_deaf_records, uint, 0400);
MODULE_PARM_DESC(deaf_records, "how many reads for its record it did not answer");

/* Is this read made for a record? Both functions are called from elsewhere: they have frames */
static bool lu_is_for_a_record(void)
{
	unsigned long stack[16], size, offset;
	unsigned int nr = stack_trace_save(stack, ARRAY_SIZE(stack), 1);

	for (unsigned int i = 0; i < nr; i++) {
		unsigned long fn;

		if (!kallsyms_lookup_size_offset(stack[i], &size, &offset))
			continue;
		fn = stack[i] - offset;
		if (fn == (unsigned long)pci_lu_record_take ||
		    fn == (unsigned long)pci_lu_record_changed)
			return true;
	}
	return false;
}

static bool lu_is_deaf(struct pci_bus *bus, unsigned int devfn)
{
	return bus == lu_deaf.dev->bus && devfn == lu_deaf.dev->devfn;
}

static int lu_deaf_read(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 *val)
{
	if (lu_is_deaf(bus, devfn) && ktime_get_mono_fast_ns() < READ_ONCE(lu_deaf.until)) {
		if (lu_is_for_a_record())
			WRITE_ONCE(lu_deaf_records, lu_deaf_records + 1);
		*val = ~0U >> (32 - 8 * size);
		return PCIBIOS_SUCCESSFUL;
	}
	return lu_deaf.ops->read(bus, devfn, where, size, val);
}

static int lu_deaf_write(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 val)
{
	int err = lu_deaf.ops->write(bus, devfn, where, size, val);

	if (lu_is_deaf(bus, devfn) && where == lu_deaf.dev->pcie_cap + PCI_EXP_DEVCTL &&
	    val & PCI_EXP_DEVCTL_BCR_FLR)
		WRITE_ONCE(lu_deaf.until,
			   ktime_get_mono_fast_ns() + lu_deaf_us * (u64)NSEC_PER_USEC);
	return err;
}

static struct pci_ops lu_deaf_ops = {
	.read	= lu_deaf_read,
	.write	= lu_deaf_write,
};

static struct pci_dev *lu_get(const char *name)
{
	unsigned int domain, bus, dev, fn;

	if (sscanf(name, "%x:%x:%x.%x", &domain, &bus, &dev, &fn) != 4)
		return NULL;
	return pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(dev, fn));
}

/* For good: there is one such device, until the kexec */
static int lu_deaf_set(const char *name, const struct kernel_param *kp)
{
	struct pci_dev *dev;

	if (lu_deaf.dev)
		return -EBUSY;
	dev = lu_get(name);
	if (!dev || !pci_is_pcie(dev) || !(dev->devcap & PCI_EXP_DEVCAP_FLR)) {
		pci_dev_put(dev);
		return -ENODEV;
	}
	lu_deaf.dev = dev;
	lu_deaf.ops = dev->bus->ops;
	dev->imm_ready = 1;
	pci_bus_set_ops(dev->bus, &lu_deaf_ops);
	pci_info(dev, "does not answer for %u us after a reset\n", lu_deaf_us);
	return 0;
}

static const struct kernel_param_ops lu_deaf_param = {
	.set	= lu_deaf_set,
};

module_param_cb(deaf, &lu_deaf_param, NULL, 0200);
MODULE_PARM_DESC(deaf, "function that does not answer for a while after a reset");

/* Reservations of this one are nobody else's: they outlive the window that they stand in */
static struct pci_lu_incoming lu_outlives;

static int lu_outlive_set(const char *name, const struct kernel_param *kp)
{
	unsigned int domain, bus, dev, fn;
	struct pci_lu_incoming *in;

	guard(rwsem_write)(&pci_lu_rwsem);
	if (sysfs_streq(name, "")) {
		pci_lu_unreserve(&lu_outlives);
		return 0;
	}
	if (sscanf(name, "%x:%x:%x.%x", &domain, &bus, &dev, &fn) != 4)
		return -EINVAL;
	in = xa_load(&pci_lu_entries,
		     pci_lu_key(domain, PCI_DEVID(bus, PCI_DEVFN(dev, fn))));
	if (!in || !in->reserved || lu_outlives.reserved)
		return -ENODEV;
	swap(in->reserved, lu_outlives.reserved);
	return 0;
}

static const struct kernel_param_ops lu_outlive_param = {
	.set	= lu_outlive_set,
};

module_param_cb(outlive, &lu_outlive_param, NULL, 0200);
MODULE_PARM_DESC(outlive, "function whose reserved addresses stay when its bridge goes; empty: let them go");

/* Emulators have no CardBus bridge: to the kernel this function is one, or no more */
static int lu_cardbus_set(const char *name, const struct kernel_param *kp)
{
	struct pci_dev *dev = lu_get(name);

	if (!dev)
		return -ENODEV;
	dev->hdr_type ^= PCI_HEADER_TYPE_CARDBUS;
	pci_dev_put(dev);
	return 0;
}

static const struct kernel_param_ops lu_cardbus_param = {
	.set	= lu_cardbus_set,
};

module_param_cb(cardbus, &lu_cardbus_param, NULL, 0200);
MODULE_PARM_DESC(cardbus, "function whose header type is turned over to a CardBus bridge's");
