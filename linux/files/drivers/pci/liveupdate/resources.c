// SPDX-License-Identifier: GPL-2.0
/*
 * PCI Live Update: addresses of preserved devices stay where they are.
 */

/**
 * DOC: Addresses
 *
 * A device that works on behalf of the previous kernel decodes its BARs, and
 * the bridges above it forward to them. Nobody may write to these registers,
 * so they cannot be sized, and nobody else may be given the addresses:
 *
 * - sizes of BARs and kinds of windows come from the records, the addresses
 *   themselves from the registers;
 * - as soon as the buses of a host are scanned, and before anything else there
 *   is claimed or assigned, the windows above preserved devices and their BARs
 *   are claimed. They are IORESOURCE_PCI_FIXED until the live update is finished,
 *   so that they are never released, moved or resized; neighbours are placed
 *   around them. What was assigned in the previous kernel worked, so that its host
 *   bridge is one whose configuration is to be preserved;
 * - if that fails because somebody else has the addresses (a firmware table,
 *   the command line, a host bridge with a smaller window), the device is lost:
 *   it is not touched, has no resources in this kernel, and cannot be retrieved;
 * - addresses of devices that are lost or missing are reserved until the live
 *   update of the device is finished, which stops it and switches its decode off,
 *   or until a bridge above it is removed, with whose windows they go.
 *
 * A ROM that is not enabled decodes nothing. It is given an address in memory
 * only, as always, and may be claimed by whoever wants to.
 */

#define pr_fmt(fmt) "PCI Live Update: " fmt
#define dev_fmt(fmt) "Live Update: " fmt

#include <linux/ioport.h>
#include <linux/slab.h>

#include "../pci.h"
#include "internal.h"

#include <trace/events/pci_liveupdate.h>

/**
 * struct pci_lu_reservation - addresses that nobody may be given
 * @next: more of the same function
 * @res:  in the resource tree
 * @name: of @res
 */
struct pci_lu_reservation {
	struct pci_lu_reservation *next;
	struct resource res;
	char name[32];
};

/**
 * pci_lu_bar_masks - what sizing the BARs of a function would tell
 * @rec: its record
 * @nr: number of BARs of its header type
 * @masks: filled in with what the BARs would read as after all ones were written
 * @rom: the same for the Expansion ROM, NULL if the header type has none
 */
void pci_lu_bar_masks(const struct pci_liveupdate_record_ser *rec, unsigned int nr,
		      u32 *masks, u32 *rom)
{
	memset(masks, 0, nr * sizeof(*masks));
	for (unsigned int i = 0; i < nr; i++) {
		const struct pci_liveupdate_bar_ser *bar = &rec->bars[i];

		if (!bar->mask)
			continue;
		/* Low bits are read-only and tell the type (PCIe r6.0, sec 7.5.1.2.1) */
		masks[i] = lower_32_bits(bar->mask) |
			   (lower_32_bits(bar->value) & ~lower_32_bits(bar->mask) & 0xf);
		if (upper_32_bits(bar->mask) && i + 1 < nr)
			masks[++i] = upper_32_bits(bar->mask);
	}
	if (rom)
		*rom = lower_32_bits(rec->bars[PCI_LIVEUPDATE_ROM_BAR].mask);
}

/**
 * __pci_liveupdate_bar_masks - tell sizes of BARs without writing to them
 * @dev: function that is being set up
 * @nr: number of BARs of its header type
 * @masks: see pci_lu_bar_masks()
 * @rom: see pci_lu_bar_masks()
 *
 * Return: true if the BARs must not be sized. A function that is lost has none.
 */
bool __pci_liveupdate_bar_masks(struct pci_dev *dev, unsigned int nr, u32 *masks, u32 *rom)
{
	static const struct pci_liveupdate_record_ser none;
	bool lost = test_bit(PCI_LU_LOST, &dev->lu_flags);
	const struct pci_liveupdate_record_ser *rec;

	guard(rwsem_read)(&pci_lu_rwsem);
	rec = pci_lu_record(dev);
	if (rec)
		pci_lu_bar_masks(lost ? &none : rec, nr, masks, rom);
	return rec;
}

/**
 * pci_lu_window_kinds - what probing the windows of a bridge would tell
 * @rec: its record
 * @bridge: where that is filled in
 */
void pci_lu_window_kinds(const struct pci_liveupdate_record_ser *rec, struct pci_dev *bridge)
{
	bridge->io_window = !!(rec->windows & PCI_LIVEUPDATE_WIN_IO);
	bridge->pref_window = !!(rec->windows & PCI_LIVEUPDATE_WIN_PREF);
	bridge->pref_64_window = !!(rec->windows & PCI_LIVEUPDATE_WIN_PREF64);
}

/**
 * pci_lu_fix - see to it that resources of a held function stay, or no longer
 * @dev: function
 *
 * VF BARs are left out unless Virtual Functions are preserved: they are restored
 * after a reset by the code that assigns them, and what is in a fixed window does
 * not move.
 *
 * Context: pci_lu_rwsem held for writing.
 */
void pci_lu_fix(struct pci_dev *dev)
{
	bool vfs = test_bit(PCI_LU_PF, &dev->lu_flags);
	struct resource *res;
	unsigned int i;

	pci_dev_for_each_resource(dev, res, i) {
		bool iov = i > PCI_ROM_RESOURCE && !pci_resource_is_bridge_win(i);

		if (!(dev->lu_keep & BIT(PCI_LU_KEEP_ADDRESSES)) || (iov && !vfs)) {
			if (dev->lu_fixed & BIT(i))
				res->flags &= ~IORESOURCE_PCI_FIXED;
			dev->lu_fixed &= ~BIT(i);
		} else if (resource_assigned(res) && !(res->flags & IORESOURCE_PCI_FIXED)) {
			res->flags |= IORESOURCE_PCI_FIXED;
			dev->lu_fixed |= BIT(i);
		}
	}
}

/* The smallest window on the way to @bus that @res lies in */
static struct resource *lu_room(struct pci_bus *bus, const struct resource *res)
{
	struct resource *window;

	for (; bus; bus = bus->parent)
		pci_bus_for_each_resource(bus, window)
			if (window && resource_assigned(window) &&
			    resource_contains(window, res))
				return window;
	return res->flags & IORESOURCE_IO ? &ioport_resource : &iomem_resource;
}

/* Take what is free of a range: the rest belongs to somebody, who keeps it */
static void lu_reserve(struct pci_lu_incoming *in, struct resource *room,
		       const struct resource *range)
{
	const struct pci_liveupdate_record_ser *rec = in->rec;
	resource_size_t start = range->start;

	while (start <= range->end) {
		struct pci_lu_reservation *part = kzalloc_obj(*part);
		struct resource *other;

		if (!part)
			return;
		snprintf(part->name, sizeof(part->name), "Live Update %04x:%02x:%02x.%d",
			 rec->domain, PCI_BUS_NUM(rec->bdf), PCI_SLOT(rec->bdf),
			 PCI_FUNC(rec->bdf));
		part->res = (struct resource){
			.name = part->name, .flags = range->flags,
			.start = start, .end = range->end,
		};

		/* The first in the way; what is below it is free */
		other = request_resource_conflict(room, &part->res);
		if (other && other != room && other->start > start) {
			part->res.end = other->start - 1;
			if (request_resource(room, &part->res)) {
				/* Somebody else was quicker; what is not in the tree is not kept */
				kfree(part);
				return;
			}
		} else if (other) {
			kfree(part);
			part = NULL;
		}
		if (part) {
			pr_info("%pR stays reserved for %s\n", &part->res,
				part->name + strlen("Live Update "));
			part->next = in->reserved;
			in->reserved = part;
		}
		if (!other || other == room || other->end >= range->end)
			return;
		start = other->end + 1;
	}
}

static void lu_reserve_bars(struct pci_bus *bus, struct pci_lu_incoming *in,
			    const struct pci_liveupdate_record_ser *rec)
{
	bool iov = rec->flags & PCI_LIVEUPDATE_F_IOV;

	for (int i = 0; i < PCI_LIVEUPDATE_NUM_BARS; i++) {
		const struct pci_liveupdate_bar_ser *bar = &rec->bars[i];
		bool rom = i == PCI_LIVEUPDATE_ROM_BAR;
		bool io = !rom && bar->value & PCI_BASE_ADDRESS_SPACE_IO;
		u64 nr = iov && !rom ? rec->iov.bar_vfs[i] : 1;
		struct pci_bus_region region = {};
		struct resource range = {};

		region.start = bar->value & bar->mask;
		if (!region.start || (rom && !(rec->claimed & BIT(i))))
			continue;
		region.end = region.start + nr * pci_lu_bar_bytes(bar) - 1;

		range.flags = io ? IORESOURCE_IO : IORESOURCE_MEM;
		pcibios_bus_to_resource(bus, &range, &region);
		lu_reserve(in, lu_room(bus, &range), &range);
	}
}

/**
 * pci_lu_unreserve - let the addresses of a function go
 * @in: what is known of it
 *
 * Context: pci_lu_rwsem held for writing.
 */
void pci_lu_unreserve(struct pci_lu_incoming *in)
{
	struct pci_lu_reservation *part;

	while ((part = in->reserved)) {
		in->reserved = part->next;
		release_resource(&part->res);
		kfree(part);
	}
}

static void lu_unreserve(struct pci_bus *bus, struct pci_lu_incoming *in)
{
	pci_lu_unreserve(in);
}

/**
 * pci_lu_unreserve_below - let go what lies in windows that are about to go
 * @bus: bus of a bridge that is being removed, or a root bus
 *
 * What was below has been stopped, and does not decode there any more, or is gone
 * with the bridge.
 *
 * Context: takes pci_lu_rwsem.
 */
void pci_lu_unreserve_below(struct pci_bus *bus)
{
	guard(rwsem_write)(&pci_lu_rwsem);
	pci_lu_incoming_below(bus, lu_unreserve);
}

static void lu_lose(struct pci_dev *dev, const char *name, const struct resource *was)
{
	struct resource *res;
	unsigned int i;

	set_bit(PCI_LU_LOST, &dev->lu_flags);
	trace_pci_liveupdate_adopt(dev, "addresses cannot be claimed");
	pci_err(dev, "%s %pR is not to be had in this kernel; it is left alone and cannot be retrieved\n",
		name, was);

	pci_dev_for_each_resource(dev, res, i) {
		/* A bridge is still the way to others */
		if (i >= PCI_BRIDGE_RESOURCES)
			break;
		if (resource_assigned(res))
			release_resource(res);
		res->start = 0;
		res->end = 0;
		res->flags = 0;
	}
}

/* Returns false if @dev is lost */
static bool lu_claim(struct pci_dev *dev, int i)
{
	struct resource *res = &dev->resource[i];
	struct resource was = *res;

	/* A closed window; a fixed resource is not a BAR's and is nobody else's */
	if (!res->flags || resource_assigned(res) ||
	    res->flags & (IORESOURCE_DISABLED | IORESOURCE_PCI_FIXED))
		return true;

	if (!pci_claim_resource(dev, i)) {
		/* So that nobody turns the ROM off; the type of another BAR has that bit */
		if (i == PCI_ROM_RESOURCE)
			res->flags &= ~IORESOURCE_ROM_ENABLE;
		return true;
	}
	lu_lose(dev, pci_resource_name(dev, i), &was);
	return false;
}

/* Virtual Functions go on decoding these, and have a part of each when they are added */
#ifdef CONFIG_PCI_LIVEUPDATE_VFS
static void lu_claim_vf_bars(struct pci_dev *dev)
{
	if (!dev->is_physfn || !dev->lu_incoming->iov)
		return;
	for (int i = 0; i < PCI_SRIOV_NUM_BARS; i++)
		if (!lu_claim(dev, pci_resource_num_from_vf_bar(i)))
			return;
}
#else
static void lu_claim_vf_bars(struct pci_dev *dev)
{
}
#endif

static void lu_claim_bars(struct pci_dev *dev)
{
	const struct pci_liveupdate_record_ser *rec = dev->lu_incoming->rec;
	int nr = dev->hdr_type == PCI_HEADER_TYPE_NORMAL ? PCI_STD_NUM_BARS : 2;

	for (int i = 0; i < nr; i++) {
		struct resource *res = &dev->resource[i];

		if (rec->bars[i].value & rec->bars[i].mask) {
			if (!lu_claim(dev, i))
				return;
		} else if (res->flags && !resource_assigned(res) &&
			   !(res->flags & IORESOURCE_PCI_FIXED)) {
			/* It was not assigned, and is not now */
			res->flags |= IORESOURCE_UNSET | IORESOURCE_PCI_FIXED;
			dev->lu_fixed |= BIT(i);
		}
	}
	if (dev->resource[PCI_ROM_RESOURCE].flags & IORESOURCE_ROM_ENABLE &&
	    !lu_claim(dev, PCI_ROM_RESOURCE))
		return;
	lu_claim_vf_bars(dev);
}

static void lu_claim_windows(struct pci_dev *bridge)
{
	unsigned long flags = 0;

	/* Not every architecture has read them by now */
	for (int i = PCI_BRIDGE_RESOURCES; i <= PCI_BRIDGE_PREF_MEM_WINDOW; i++)
		flags |= bridge->resource[i].flags;
	if (!flags)
		pci_read_bridge_bases(bridge->subordinate);

	for (int i = PCI_BRIDGE_RESOURCES; i <= PCI_BRIDGE_PREF_MEM_WINDOW; i++)
		lu_claim(bridge, i);
}

/* From the top: a window has to be in the tree before what is in it */
static void lu_claim_bus(struct pci_bus *bus)
{
	struct pci_dev *dev;

	list_for_each_entry(dev, &bus->devices, bus_list) {
		if (!pci_liveupdate_keeps(dev, PCI_LU_KEEP_ADDRESSES) || !dev->lu_incoming)
			continue;
		if (!test_bit(PCI_LU_LOST, &dev->lu_flags))
			pci_lu_unreserve(dev->lu_incoming);	/* it came late */
		if (dev->subordinate)
			lu_claim_windows(dev);
		if (!test_bit(PCI_LU_LOST, &dev->lu_flags))
			lu_claim_bars(dev);
		pci_lu_fix(dev);
		if (dev->subordinate)
			lu_claim_bus(dev->subordinate);
	}
}

/* The bus below @bus with number @nr, or the one that it would be below */
static struct pci_bus *lu_bus(struct pci_bus *bus, u8 nr)
{
	struct pci_bus *child;

	list_for_each_entry(child, &bus->children, node)
		if (nr >= child->busn_res.start && nr <= child->busn_res.end)
			return lu_bus(child, nr);
	return bus;
}

static void lu_reserve_lost(struct pci_bus *bus, struct pci_lu_incoming *in)
{
	if (in->reserved || (in->dev && !test_bit(PCI_LU_LOST, &in->dev->lu_flags)))
		return;
	bus = lu_bus(bus, PCI_BUS_NUM(in->rec->bdf));
	lu_reserve_bars(bus, in, in->rec);
	if (in->iov)
		lu_reserve_bars(bus, in, in->iov);
}

/**
 * __pci_liveupdate_claim_resources - give preserved devices their addresses
 * @bus: root bus, or one that was scanned anew
 *
 * What is claimed already stays so.
 *
 * Context: may sleep; buses are scanned and not changing. Takes pci_lu_rwsem.
 */
void __pci_liveupdate_claim_resources(struct pci_bus *bus)
{
	struct pci_host_bridge *host = pci_find_host_bridge(bus);

	if (!static_branch_unlikely(&pci_lu_incoming_key) ||
	    pci_lu_break & pci_lu_break_keep(PCI_LU_KEEP_ADDRESSES))
		return;

	guard(rwsem_write)(&pci_lu_rwsem);
	lu_claim_bus(bus);
	if (pci_lu_incoming_below(bus, lu_reserve_lost) && !host->preserve_config) {
		host->preserve_config = 1;
		host->lu_preserve_config = 1;
	}
}

/**
 * pci_lu_release_hosts - let resources of all hosts be assigned anew
 *
 * Context: no device of the previous kernel is left. Takes pci_bus_sem.
 */
void pci_lu_release_hosts(void)
{
	struct pci_bus *root;

	guard(rwsem_read)(&pci_bus_sem);
	list_for_each_entry(root, &pci_root_buses, node) {
		struct pci_host_bridge *host = pci_find_host_bridge(root);

		if (host->lu_preserve_config)
			host->preserve_config = 0;
		host->lu_preserve_config = 0;
	}
}
