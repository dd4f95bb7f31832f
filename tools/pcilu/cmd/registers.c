// SPDX-License-Identifier: GPL-2.0

#include <stdio.h>

#include "json.h"
#include "registers.h"

enum where {
	IN_HEADER, /* of any type */
	IN_TYPE_0,
	IN_TYPE_1,
	IN_CAP, /* at an offset into a capability */
	IN_EXT_CAP,
};

/* The masks leave out what changes by itself: status bits, and what RW1C clears */
static const struct reg {
	const char *name;
	enum where where;
	unsigned int cap;
	unsigned int offset;
	unsigned int size;
	unsigned int mask;
} regs[] = {
	{ "Vendor ID", IN_HEADER, 0, PCI_VENDOR_ID, 2, 0xffff },
	{ "Device ID", IN_HEADER, 0, PCI_DEVICE_ID, 2, 0xffff },
	{ "Class and Revision", IN_HEADER, 0, PCI_CLASS_REVISION, 4, ~0U },
	{ "Header Type", IN_HEADER, 0, PCI_HEADER_TYPE, 1, 0xff },
	{ "Subsystem", IN_TYPE_0, 0, PCI_SUBSYSTEM_VENDOR_ID, 4, ~0U },
	{ "Command", IN_HEADER, 0, PCI_COMMAND, 2,
	  PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER },
	{ "BAR 0", IN_HEADER, 0, PCI_BASE_ADDRESS_0, 4, ~0U },
	{ "BAR 1", IN_HEADER, 0, PCI_BASE_ADDRESS_1, 4, ~0U },
	{ "BAR 2", IN_TYPE_0, 0, PCI_BASE_ADDRESS_2, 4, ~0U },
	{ "BAR 3", IN_TYPE_0, 0, PCI_BASE_ADDRESS_3, 4, ~0U },
	{ "BAR 4", IN_TYPE_0, 0, PCI_BASE_ADDRESS_4, 4, ~0U },
	{ "BAR 5", IN_TYPE_0, 0, PCI_BASE_ADDRESS_5, 4, ~0U },
	{ "bus numbers", IN_TYPE_1, 0, PCI_PRIMARY_BUS, 4, 0xffffff },
	{ "I/O window", IN_TYPE_1, 0, PCI_IO_BASE, 2, 0xffff },
	{ "memory window", IN_TYPE_1, 0, PCI_MEMORY_BASE, 4, ~0U },
	{ "prefetchable window", IN_TYPE_1, 0, PCI_PREF_MEMORY_BASE, 4, ~0U },
	{ "prefetchable base, upper half", IN_TYPE_1, 0, PCI_PREF_BASE_UPPER32,
	  4, ~0U },
	{ "prefetchable limit, upper half", IN_TYPE_1, 0,
	  PCI_PREF_LIMIT_UPPER32, 4, ~0U },
	{ "Bridge Control", IN_TYPE_1, 0, PCI_BRIDGE_CONTROL, 2,
	  PCI_BRIDGE_CTL_PARITY | PCI_BRIDGE_CTL_SERR | PCI_BRIDGE_CTL_NO_ISA |
		  PCI_BRIDGE_CTL_VGA | PCI_BRIDGE_CTL_BUS_RESET },
	/* Payload and request sizes, extended tags, relaxed ordering, no snoop */
	{ "Device Control", IN_CAP, PCI_CAP_ID_EXP, PCI_EXP_DEVCTL, 2, 0x79f0 },
	{ "Link Control", IN_CAP, PCI_CAP_ID_EXP, PCI_EXP_LNKCTL, 2, 0x0153 },
	/* ARI forwarding, LTR, atomics */
	{ "Device Control 2", IN_CAP, PCI_CAP_ID_EXP, PCI_EXP_DEVCTL2, 2,
	  0x04e0 },
	{ "power state", IN_CAP, PCI_CAP_ID_PM, PCI_PM_CTRL, 2, 0x0003 },
	{ "ACS Control", IN_EXT_CAP, PCI_EXT_CAP_ID_ACS, PCI_ACS_CTRL, 2,
	  0x007f },
	{ "SR-IOV Control", IN_EXT_CAP, PCI_EXT_CAP_ID_SRIOV, PCI_IOV_CTRL, 2,
	  0x0019 },
};

static bool find_base(struct pci_dev *pci, const struct reg *r, int type,
		      unsigned int *base)
{
	struct pci_cap *cap;

	*base = 0;
	switch (r->where) {
	case IN_HEADER:
		return true;
	case IN_TYPE_0:
		return type == PCI_HEADER_TYPE_NORMAL;
	case IN_TYPE_1:
		return type == PCI_HEADER_TYPE_BRIDGE;
	case IN_CAP:
		cap = pci_find_cap(pci, r->cap, PCI_CAP_NORMAL);
		break;
	case IN_EXT_CAP:
		cap = pci_find_cap(pci, r->cap, PCI_CAP_EXTENDED);
		break;
	default:
		return false;
	}
	if (cap)
		*base = cap->addr;
	return cap != NULL;
}

static unsigned int read_reg(struct pci_dev *pci, unsigned int at,
			     unsigned int size)
{
	switch (size) {
	case 1:
		return pci_read_byte(pci, (int)at);
	case 2:
		return pci_read_word(pci, (int)at);
	default:
		return pci_read_long(pci, (int)at);
	}
}

void registers_json(const struct device *dev, struct json_object *o)
{
	struct json_object *all = json_object_new_object();
	int type = pci_read_byte(dev->pci, PCI_HEADER_TYPE) & 0x7f;
	size_t i;

	json_object_object_add(o, "registers", all);
	for (i = 0; i < ARRAY_SIZE(regs); i++) {
		const struct reg *r = &regs[i];
		unsigned int base;
		char value[16];

		if (!find_base(dev->pci, r, type, &base))
			continue;
		snprintf(value, sizeof(value), "%0*x", (int)r->size * 2,
			 read_reg(dev->pci, base + r->offset, r->size) &
				 r->mask);
		add_str(all, r->name, value);
	}
}
