// SPDX-License-Identifier: GPL-2.0
/*
 * PCI Live Update records: taken in the outgoing kernel, checked in the
 * incoming one.
 */

/**
 * DOC: PCI Live Update records
 *
 * A record is taken when a device is preserved, so that what cannot be kept is
 * refused while there is still somebody to tell. Taking one only reads: sizes
 * of BARs come from the resources that enumeration left in &struct pci_dev.
 *
 * The incoming kernel believes nothing. Each record is checked by itself
 * (enumerations, bits, BAR arithmetic) and all of them together: no function
 * twice, no two claimed BARs on the same addresses, bus ranges of bridges
 * nested or apart. A set that fails there is memory corruption, and nobody can
 * say which devices are still writing to memory, so the caller stops the boot.
 *
 * So that it is nothing else, the outgoing kernel makes the same checks: of each
 * record when a device is preserved, and of the whole set and the hardware at the
 * end, when the kexec can still be refused. What it reads it does not believe,
 * either: a device in reset answers all ones, and zeroes a little later.
 */

#define dev_fmt(fmt) "Live Update: " fmt

#include <linux/kho_block.h>
#include <linux/log2.h>
#include <linux/overflow.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/string.h>

#include "../pci.h"
#include "internal.h"

/* Address bits of a register (PCIe r6.0, sec 7.5.1.2.1 and 7.5.1.2.4) */
#define BAR_MEM_FLAGS	0xfULL
#define BAR_IO_FLAGS	0x3ULL
#define BAR_ROM_FLAGS	0x7ffULL

static bool bar_is_io(u64 value)
{
	return value & PCI_BASE_ADDRESS_SPACE_IO;
}

static bool bar_is_64(u64 value)
{
	return !bar_is_io(value) &&
	       (value & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64;
}

static u64 bar_flags(int i, u64 value)
{
	if (i == PCI_LIVEUPDATE_ROM_BAR)
		return BAR_ROM_FLAGS;
	return bar_is_io(value) ? BAR_IO_FLAGS : BAR_MEM_FLAGS;
}

/* Size in bytes that @bar decodes, or 0 if its mask is no size at all */
static u64 bar_size(int i, const struct pci_liveupdate_bar_ser *bar)
{
	bool wide = i != PCI_LIVEUPDATE_ROM_BAR && bar_is_64(bar->value);
	u64 size = wide ? -bar->mask : (u32)-bar->mask;

	if (!wide && upper_32_bits(bar->mask))
		return 0;
	if (!is_power_of_2(size) || size <= bar_flags(i, bar->value))
		return 0;
	return size;
}

static void record_fill_bar(struct pci_dev *dev, int i, int reg,
			    const struct resource *res,
			    struct pci_liveupdate_record_ser *rec)
{
	struct pci_liveupdate_bar_ser *bar = &rec->bars[i];
	resource_size_t size;
	u32 lo, hi = 0;

	/* A fixed resource (legacy IDE, Enhanced Allocation) is not a BAR's */
	if (!res->flags || (res->flags & IORESOURCE_PCI_FIXED &&
			    !(dev->lu_fixed & BIT(pci_resource_num(dev, res)))))
		return;
	size = resource_size(res);
	if (!is_power_of_2(size))
		return;

	pci_read_config_dword(dev, reg, &lo);
	if (i != PCI_LIVEUPDATE_ROM_BAR && bar_is_64(lo))
		pci_read_config_dword(dev, reg + 4, &hi);

	bar->value = (u64)hi << 32 | lo;
	bar->mask = -(u64)size;
	if (i == PCI_LIVEUPDATE_ROM_BAR || !bar_is_64(lo))
		bar->mask = lower_32_bits(bar->mask);

	/*
	 * A ROM that is not enabled decodes nothing and may lie anywhere. Where
	 * a host bridge translates addresses, those of two of them may be alike.
	 */
	if (res->parent && res->start == (bar->value & ~bar_flags(i, lo)) &&
	    (i != PCI_LIVEUPDATE_ROM_BAR || lo & PCI_ROM_ADDRESS_ENABLE))
		rec->claimed |= BIT(i);
}

static void record_read_buses(struct pci_dev *dev,
			      struct pci_liveupdate_record_ser *rec)
{
	u32 buses;

	pci_read_config_dword(dev, PCI_PRIMARY_BUS, &buses);
	rec->primary = buses;
	rec->secondary = buses >> 8;
	rec->subordinate = buses >> 16;
}

static void record_fill_bridge(struct pci_dev *dev,
			       struct pci_liveupdate_record_ser *rec)
{
	record_read_buses(dev, rec);
	if (dev->io_window)
		rec->windows |= PCI_LIVEUPDATE_WIN_IO;
	if (dev->pref_window)
		rec->windows |= PCI_LIVEUPDATE_WIN_PREF;
	if (dev->pref_64_window)
		rec->windows |= PCI_LIVEUPDATE_WIN_PREF64;
}

static u16 record_kind(struct pci_dev *dev)
{
	if (dev->hdr_type == PCI_HEADER_TYPE_BRIDGE)
		return PCI_LIVEUPDATE_F_BRIDGE;
	if (dev->is_virtfn)
		return PCI_LIVEUPDATE_F_ENDPOINT | PCI_LIVEUPDATE_F_VF;
	/* Which may be preserved for itself, too: see lu_path_get() */
	return pci_num_vf(dev) ? PCI_LIVEUPDATE_F_PF : PCI_LIVEUPDATE_F_ENDPOINT;
}

static void record_fill_ids(struct pci_dev *dev, struct pci_liveupdate_record_ser *rec)
{
	u32 id, class;

	/* Quirks may have put other values in &struct pci_dev */
	pci_read_config_dword(dev, PCI_VENDOR_ID, &id);
	pci_read_config_dword(dev, PCI_CLASS_REVISION, &class);
	rec->class = class >> 8;
	/* A Virtual Function answers all ones, be it there or not */
	rec->vendor = dev->is_virtfn ? dev->vendor : lower_16_bits(id);
	rec->device = dev->is_virtfn ? dev->device : upper_16_bits(id);
}

static void record_fill_identity(struct pci_dev *dev,
				 struct pci_liveupdate_record_ser *rec)
{
	u32 subsystem = 0;

	if (dev->is_virtfn)
		subsystem = pci_lu_vf_subsystem(dev);
	else if (dev->hdr_type == PCI_HEADER_TYPE_NORMAL)
		pci_read_config_dword(dev, PCI_SUBSYSTEM_VENDOR_ID, &subsystem);

	rec->hdr_type = dev->hdr_type;
	rec->subvendor = lower_16_bits(subsystem);
	rec->subdevice = upper_16_bits(subsystem);
	rec->dsn = pci_get_dsn(dev);
}

/**
 * pci_lu_record_fill - describe a function
 * @dev: device or bridge, in D0
 * @rec: zeroed slot; all but the use count and the DMA verdict is filled in
 *
 * Reads config space and writes nothing.
 *
 * Context: may sleep; @dev must stay.
 */
void pci_lu_record_fill(struct pci_dev *dev, struct pci_liveupdate_record_ser *rec)
{
	bool bridge = dev->hdr_type == PCI_HEADER_TYPE_BRIDGE;
	int i, nr_bars = bridge ? 2 : PCI_STD_NUM_BARS;

	rec->domain = pci_domain_nr(dev->bus);
	rec->bdf = pci_dev_id(dev);
	rec->flags = record_kind(dev);
	record_fill_ids(dev, rec);
	record_fill_identity(dev, rec);
	if (rec->flags & PCI_LIVEUPDATE_F_VF) {
		rec->vf.pf = pci_dev_id(pci_physfn(dev));
		rec->vf.index = pci_lu_vf_index(dev);
		return;
	}
	if (!bridge && pci_lu_break & PCI_LU_BREAK_IDENTITY)
		rec->device ^= 1;

	for (i = 0; i < nr_bars; i++)
		record_fill_bar(dev, i, PCI_BASE_ADDRESS_0 + 4 * i,
				&dev->resource[i], rec);
	if (dev->rom_base_reg)
		record_fill_bar(dev, PCI_LIVEUPDATE_ROM_BAR, dev->rom_base_reg,
				&dev->resource[PCI_ROM_RESOURCE], rec);
	if (bridge)
		record_fill_bridge(dev, rec);
}

static void record_read_bar(struct pci_dev *dev, int reg,
			    const struct pci_liveupdate_bar_ser *was,
			    struct pci_liveupdate_bar_ser *now)
{
	u32 lo, hi = 0;

	if (!was->mask)
		return;
	pci_read_config_dword(dev, reg, &lo);
	if (bar_is_64(was->value))
		pci_read_config_dword(dev, reg + 4, &hi);
	now->value = (u64)hi << 32 | lo;
}

/* An Expansion ROM may be enabled or not, and lies anywhere if it is not */
static const char *record_differs(const struct pci_liveupdate_record_ser *was,
				  const struct pci_liveupdate_record_ser *now)
{
	if (now->vendor != was->vendor)
		return "Vendor ID";
	if (now->device != was->device)
		return "Device ID";
	if (now->hdr_type != was->hdr_type)
		return "header type";
	if (now->class != was->class)
		return "class code";
	if (now->subvendor != was->subvendor || now->subdevice != was->subdevice)
		return "Subsystem ID";
	if (now->dsn != was->dsn)
		return "Device Serial Number";
	/* A device that was reset has forgotten its addresses */
	for (int i = 0; i < PCI_LIVEUPDATE_ROM_BAR; i++)
		if (was->bars[i].mask && now->bars[i].value != was->bars[i].value)
			return "BAR";
	if (now->primary != was->primary || now->secondary != was->secondary ||
	    now->subordinate != was->subordinate)
		return "bus number range";
	return NULL;
}

/**
 * pci_lu_record_mismatch - is this the device that was preserved?
 * @dev: device found at the place that @rec names
 * @rec: checked record
 *
 * Before any quirk, &struct pci_dev has what the registers say: they are not
 * read again.
 *
 * Context: may sleep; early in enumeration, when config space size, header type
 * and class are known.
 * Return: NULL if it is, otherwise the name of the first thing that differs.
 */
const char *pci_lu_record_mismatch(struct pci_dev *dev,
				   const struct pci_liveupdate_record_ser *rec)
{
	struct pci_liveupdate_record_ser now = {
		.vendor = dev->vendor,
		.device = dev->device,
		.class = dev->class,
	};

	record_fill_identity(dev, &now);
	/*
	 * What cannot be seen cannot be compared. A device whose extended
	 * configuration space could not be read then has not been preserved.
	 */
	if (pci_is_pcie(dev) && dev->cfg_size <= PCI_CFG_SPACE_SIZE)
		return "extended configuration space, which cannot be read here (pci=nommconf?),";
	/* Nothing else is read of it, and it may be in reset */
	if (dev->is_virtfn && !pci_is_pcie(dev))
		return "PCI Express Capability";
	for (int i = 0; i < PCI_LIVEUPDATE_ROM_BAR; i++)
		record_read_bar(dev, PCI_BASE_ADDRESS_0 + 4 * i, &rec->bars[i], &now.bars[i]);
	if (rec->flags & PCI_LIVEUPDATE_F_BRIDGE)
		record_read_buses(dev, &now);
	return record_differs(rec, &now);
}

static const char *record_check_bars(const struct pci_liveupdate_record_ser *rec)
{
	int last = rec->flags & PCI_LIVEUPDATE_F_BRIDGE ? 1 : PCI_STD_NUM_BARS - 1;

	for (int i = 0; i < PCI_LIVEUPDATE_NUM_BARS; i++) {
		const struct pci_liveupdate_bar_ser *bar = &rec->bars[i];
		bool rom = i == PCI_LIVEUPDATE_ROM_BAR;

		if (!bar->mask) {
			if (bar->value)
				return "BAR without a size";
			if (rec->claimed & BIT(i))
				return "claimed BAR that does not exist";
			continue;
		}
		if (!rom && i > last)
			return "BAR that the header type does not have";
		if (!bar_size(i, bar))
			return "BAR size is not a power of two";
		if (rom || !bar_is_64(bar->value)) {
			if (upper_32_bits(bar->value))
				return "32-bit BAR with upper address bits";
		} else if (i == last || rec->bars[i + 1].mask || rec->bars[i + 1].value) {
			return "64-bit BAR without room for its upper half";
		}
		if (bar->value & ~bar->mask & ~bar_flags(i, bar->value))
			return "BAR address is not aligned to its size";
	}
	return NULL;
}

/* What a record is of: these flags, and no others of them, go together */
static const u16 record_kinds[] = {
	PCI_LIVEUPDATE_F_BRIDGE,
	PCI_LIVEUPDATE_F_ENDPOINT,
	PCI_LIVEUPDATE_F_ENDPOINT | PCI_LIVEUPDATE_F_VF,
	PCI_LIVEUPDATE_F_PF,
	PCI_LIVEUPDATE_F_PF | PCI_LIVEUPDATE_F_ENDPOINT,
};

#define KIND_FLAGS	(PCI_LIVEUPDATE_F_BRIDGE | PCI_LIVEUPDATE_F_ENDPOINT |		\
			 PCI_LIVEUPDATE_F_VF | PCI_LIVEUPDATE_F_PF)

static bool record_is_of_a_kind(const struct pci_liveupdate_record_ser *rec)
{
	bool bridge = rec->hdr_type == PCI_HEADER_TYPE_BRIDGE;

	for (int i = 0; i < ARRAY_SIZE(record_kinds); i++)
		if ((rec->flags & KIND_FLAGS) == record_kinds[i])
			return bridge == (record_kinds[i] == PCI_LIVEUPDATE_F_BRIDGE);
	return false;
}

static const char *record_check_bridge(const struct pci_liveupdate_record_ser *rec)
{
	if (!(rec->flags & PCI_LIVEUPDATE_F_BRIDGE)) {
		if (rec->windows || rec->primary || rec->secondary || rec->subordinate)
			return "bridge fields in a device's record";
		return NULL;
	}
	if (rec->secondary > rec->subordinate)
		return "secondary bus above the subordinate bus";
	if (rec->secondary <= rec->bdf >> 8)
		return "secondary bus not below the bridge";
	return NULL;
}

/**
 * pci_lu_record_check - would the next kernel take this record by itself?
 * @rec: record that was filled in here, or handed over
 * @version: of the hand-over
 *
 * Return: NULL if so, or why not.
 */
const char *pci_lu_record_check(const struct pci_liveupdate_record_ser *rec, u32 version)
{
	const char *why;

	why = pci_lu_abi_check(rec, version) ?: pci_lu_abi_no_code(rec);
	if (why)
		return why;
	if (rec->claimed & ~(u8)GENMASK(PCI_LIVEUPDATE_ROM_BAR, 0))
		return "unknown BARs claimed";
	if (rec->flags & PCI_LIVEUPDATE_F_IOV)
		return record_check_bars(rec) ?: pci_lu_iov_check(rec);
	if (rec->hdr_type > PCI_HEADER_TYPE_BRIDGE)
		return "unknown header type";
	if (!record_is_of_a_kind(rec))
		return "flags that do not fit the header type";
	if ((rec->flags & KIND_FLAGS & ~PCI_LIVEUPDATE_F_VF) == PCI_LIVEUPDATE_F_ENDPOINT &&
	    rec->use_count != 1)
		return "device preserved more than once";
	if (!(rec->flags & PCI_LIVEUPDATE_F_ENDPOINT) && rec->dma)
		return "DMA verdict for what nobody preserved";
	if (rec->flags & PCI_LIVEUPDATE_F_VF && memchr_inv(rec->bars, 0, sizeof(rec->bars)))
		return "BARs of a Virtual Function, which has none of its own";
	if (rec->windows & ~PCI_LIVEUPDATE_WIN_ALL)
		return "unknown window kinds";
	if (rec->class > 0xffffff)
		return "class code wider than 24 bits";

	why = record_check_bridge(rec);
	return why ?: record_check_bars(rec);
}

/* Bus address that this kernel has given to a BAR */
static u64 bar_start(struct pci_dev *dev, struct resource *res)
{
	struct pci_bus_region region;

	pcibios_resource_to_bus(dev->bus, &region, res);
	return region.start;
}

static const char *record_doubt_bars(struct pci_dev *dev,
				     const struct pci_liveupdate_record_ser *rec)
{
	for (int i = 0; i < PCI_LIVEUPDATE_NUM_BARS; i++) {
		bool rom = i == PCI_LIVEUPDATE_ROM_BAR;
		struct resource *res = &dev->resource[rom ? PCI_ROM_RESOURCE : i];
		u64 value = rec->bars[i].value;

		if (!rec->bars[i].mask || !res->parent ||
		    (rom && !(value & PCI_ROM_ADDRESS_ENABLE)))
			continue;
		if ((value & ~bar_flags(i, value)) != bar_start(dev, res))
			return "a BAR is not where this kernel has put it";
	}
	return NULL;
}

static const char *record_doubt_buses(struct pci_dev *dev,
				      const struct pci_liveupdate_record_ser *rec)
{
	struct pci_bus *bus = dev->subordinate;
	struct pci_dev *other;

	if (!(rec->flags & PCI_LIVEUPDATE_F_BRIDGE))
		return NULL;
	/* Some bridges have no Primary Bus Number, which Linux lives with */
	if (!bus || (rec->primary && rec->primary != dev->bus->number) ||
	    rec->secondary != bus->number ||
	    rec->subordinate != bus->busn_res.end)
		return "its bus numbers are not those that this kernel knows";

	/* Linux lives with these, but nobody can say what is routed where */
	if (rec->subordinate > dev->bus->busn_res.end)
		return "its bus numbers reach beyond those of what is above it";
	list_for_each_entry(other, &dev->bus->devices, bus_list)
		if (other != dev && other->subordinate &&
		    resource_overlaps(&other->subordinate->busn_res, &bus->busn_res))
			return "its bus numbers are those of another bridge, too";
	return NULL;
}

/* All that the next kernel looks for in a Virtual Function, see pci_lu_record_mismatch() */
static bool record_is_express(struct pci_dev *dev)
{
	return !dev->is_virtfn || dev->pcie_cap ==
	       pci_bus_find_capability(dev->bus, dev->devfn, PCI_CAP_ID_EXP);
}

static bool record_is_answered(struct pci_dev *dev, const struct pci_liveupdate_record_ser *rec)
{
	u32 id;

	/* No class is all ones, which an ID of a Virtual Function always is */
	pci_read_config_dword(dev, dev->is_virtfn ? PCI_CLASS_REVISION : PCI_VENDOR_ID, &id);
	return !PCI_POSSIBLE_ERROR(id) && !PCI_POSSIBLE_ERROR(rec->vendor) &&
	       !(dev->is_virtfn && rec->class == 0xffffff) && record_is_express(dev);
}

/**
 * pci_lu_record_take - describe a function, and see whether that can be true
 * @dev: device or bridge, in D0
 * @rec: zeroed slot; all but the DMA verdict is filled in, for one user
 *
 * Reads config space and writes nothing. What is read must be what this kernel
 * knows, and what the next one will accept: where that takes a look at others, at
 * those beside and above @dev, which are the ones that it can contradict.
 *
 * Context: may sleep; @dev must not be reset, and its bus not be scanned, nor
 * anything there be removed.
 * Return: NULL, or why the record must not be handed over.
 */
const char *pci_lu_record_take(struct pci_dev *dev, struct pci_liveupdate_record_ser *rec)
{
	const char *why;

	pci_lu_record_fill(dev, rec);
	rec->use_count = 1;
	if (pci_lu_break & PCI_LU_BREAK_CHECKS)
		return NULL;

	/* Not all resets ask for locks: it must have answered all the while */
	if (!record_is_answered(dev, rec))
		return "it does not answer";

	why = pci_lu_record_check(rec, PCI_LIVEUPDATE_ABI_VERSION);
	if (!why)
		why = record_doubt_bars(dev, rec);
	if (!why && dev->is_virtfn)
		why = pci_lu_vf_doubt(dev, rec);
	return why ?: record_doubt_buses(dev, rec);
}

/**
 * pci_lu_record_changed - is the device still what its record says?
 * @dev: preserved device, or a bridge above one
 * @rec: its record
 *
 * Context: may sleep; @dev must not be reset.
 * Return: NULL if it is, otherwise the name of the first thing that differs.
 */
const char *pci_lu_record_changed(struct pci_dev *dev,
				  const struct pci_liveupdate_record_ser *rec)
{
	struct pci_liveupdate_record_ser now = {};

	pci_lu_record_fill(dev, &now);
	if (!record_is_express(dev))
		return "PCI Express Capability";
	return record_differs(rec, &now);
}

/*
 * What a record occupies. Sorted by domain, kind and start, a plain look at
 * neighbours finds overlaps in linear time.
 */
struct lu_range {
	const struct pci_liveupdate_record_ser *rec;
	u64 start;
	u64 end;
	enum { RANGE_FUNCTION, RANGE_MEM, RANGE_IO, RANGE_BUS } kind;
};

/* A function itself, its bus range and its BARs */
#define RANGES_PER_RECORD	(2 + PCI_LIVEUPDATE_NUM_BARS)

static int range_cmp(const void *pa, const void *pb)
{
	const struct lu_range *a = pa, *b = pb;

	return cmp_int(a->rec->domain, b->rec->domain) ?:
	       cmp_int(a->kind, b->kind) ?:
	       cmp_int(a->start, b->start) ?:
	       cmp_int(b->end, a->end);
}

static int record_ranges(const struct pci_liveupdate_record_ser *rec,
			 struct lu_range *range)
{
	bool iov = rec->flags & PCI_LIVEUPDATE_F_IOV;
	int n = 0;

	if (!iov)
		range[n++] = (struct lu_range){ rec, rec->bdf, rec->bdf, RANGE_FUNCTION };
	else if (rec->iov.last_bus > PCI_BUS_NUM(rec->bdf))
		range[n++] = (struct lu_range){ rec, PCI_BUS_NUM(rec->bdf) + 1,
						rec->iov.last_bus, RANGE_BUS };
	if (rec->flags & PCI_LIVEUPDATE_F_BRIDGE)
		range[n++] = (struct lu_range){ rec, rec->secondary,
						rec->subordinate, RANGE_BUS };

	for (int i = 0; i < PCI_LIVEUPDATE_NUM_BARS; i++) {
		const struct pci_liveupdate_bar_ser *bar = &rec->bars[i];
		bool io = i != PCI_LIVEUPDATE_ROM_BAR && bar_is_io(bar->value);
		u64 start = bar->value & bar->mask, size = bar_size(i, bar);

		if (!(rec->claimed & BIT(i)))
			continue;
		if (iov)
			size *= rec->iov.bar_vfs[i];
		range[n++] = (struct lu_range){ rec, start, start + size - 1,
						io ? RANGE_IO : RANGE_MEM };
	}
	return n;
}

/**
 * struct lu_buses - bus ranges of a domain, up to one
 * @stack:  where those end that it may be in; a chain of bridges is not longer, as
 *	    starts differ
 * @depth:  entries in @stack
 * @bridge: where the last one of a bridge starts, negative if there is none
 * @vfs:    the highest bus number of Virtual Functions, negative if there is none
 */
struct lu_buses {
	u8 stack[256];
	int depth;
	int bridge;
	int vfs;
};

/*
 * Bus ranges may nest, as bridges do, but neither cross nor start together. Numbers of
 * Virtual Functions are within the range of the bridge above, no bridge's that begins
 * there, and may be used by several Physical Functions.
 */
static bool buses_cross(const struct lu_range *range, struct lu_buses *buses)
{
	bool vfs = range->rec->flags & PCI_LIVEUPDATE_F_IOV;
	int start = range->start, end = range->end;

	while (buses->depth && buses->stack[buses->depth - 1] < start)
		buses->depth--;
	if (buses->depth && end > buses->stack[buses->depth - 1])
		return true;
	if (start == buses->bridge || (!vfs && start <= buses->vfs))
		return true;
	if (vfs) {
		buses->vfs = max(buses->vfs, end);
	} else {
		buses->stack[buses->depth++] = end;
		buses->bridge = start;
	}
	return false;
}

static const char *ranges_check(const struct lu_range *range, size_t nr,
				const struct pci_liveupdate_record_ser **bad)
{
	struct lu_buses buses;

	for (size_t i = 0; i < nr; i++) {
		const struct lu_range *prev = i ? &range[i - 1] : NULL;

		*bad = range[i].rec;
		if (!prev || prev->kind != range[i].kind ||
		    prev->rec->domain != range[i].rec->domain) {
			buses.depth = 0;
			buses.bridge = -1;
			buses.vfs = -1;
			prev = NULL;
		}

		if (range[i].kind == RANGE_BUS) {
			if (buses_cross(&range[i], &buses))
				return "bus range overlaps another bridge's";
		} else if (prev && prev->end >= range[i].start) {
			return range[i].kind == RANGE_FUNCTION ?
				"function recorded twice" :
				"BAR overlaps another device's";
		}
	}
	*bad = NULL;
	return NULL;
}

/**
 * pci_lu_header_check - can this header be read at all?
 * @hdr: handed-over header
 * @err: filled in on failure
 *
 * Return: 0, -EPROTO if another layout or another implementation wrote it,
 * -EINVAL if it is corrupt.
 */
int pci_lu_header_check(const struct pci_liveupdate_header_ser *hdr,
			struct pci_lu_error *err)
{
	*err = (struct pci_lu_error){};

	if (!pci_lu_abi_known(hdr->version)) {
		err->why = "it is of a version that this kernel does not read";
		return -EPROTO;
	}
	if (hdr->record_size != sizeof(struct pci_liveupdate_record_ser))
		err->why = "record size does not fit the version";
	else if (memchr_inv(hdr->reserved, 0, sizeof(hdr->reserved)) ||
		 (hdr->iommu && hdr->version < PCI_LIVEUPDATE_ABI_V2))
		err->why = "reserved header fields in use";
	else if (!IS_ALIGNED(hdr->records, PAGE_SIZE))
		err->why = "records are not page aligned";
	/* All devices may be gone, and something else still need the object */
	else if (hdr->nr_records && !hdr->records)
		err->why = "record count does not fit the records";

	return err->why ? -EINVAL : 0;
}

/**
 * pci_lu_records_check - can these records be believed?
 * @hdr: checked header, which tells by the rules of which version
 * @slots: all slots of the record set, free ones included
 * @nr_slots: number of @slots
 * @err: filled in on failure
 *
 * Takes time in proportion to n log n of the records.
 *
 * Return: 0, -EINVAL if not, -ENOMEM.
 */
int pci_lu_records_check(const struct pci_liveupdate_header_ser *hdr,
			 struct pci_liveupdate_record_ser **slots, u64 nr_slots,
			 struct pci_lu_error *err)
{
	struct lu_range *ranges __free(kvfree) = NULL;
	size_t nr_ranges = 0;
	u64 used = 0;

	*err = (struct pci_lu_error){};
	ranges = kvmalloc_array(max(nr_slots, 1), RANGES_PER_RECORD * sizeof(*ranges),
				GFP_KERNEL);
	if (!ranges)
		return -ENOMEM;

	for (u64 i = 0; i < nr_slots; i++) {
		err->rec = slots[i];
		if (pci_lu_slot_is_free(slots[i])) {
			if (!memchr_inv(slots[i], 0, sizeof(*slots[i])))
				continue;
			err->why = "free slot with content";
			return -EINVAL;
		}
		err->why = pci_lu_record_check(slots[i], hdr->version);
		if (!err->why && slots[i]->dma == PCI_LIVEUPDATE_DMA_TRANSLATED && !hdr->iommu)
			err->why = "frozen IOMMU domain that was not handed over";
		if (err->why)
			return -EINVAL;
		nr_ranges += record_ranges(slots[i], ranges + nr_ranges);
		used++;
	}

	err->rec = NULL;
	if (used != hdr->nr_records) {
		err->why = used < hdr->nr_records ? "records are missing" :
						    "more records than counted";
		return -EINVAL;
	}

	sort(ranges, nr_ranges, sizeof(*ranges), range_cmp, NULL);
	err->why = ranges_check(ranges, nr_ranges, &err->rec);
	if (err->why)
		return -EINVAL;
	return pci_lu_iov_check_all(slots, nr_slots, err);
}

/**
 * pci_lu_set_check - can this set be handed over, or believed?
 * @hdr: header, checked if it is another kernel's
 * @set: its records
 * @slots: set to all slots of @set, free ones included; to be freed with kvfree()
 * @nr_slots: set to their number
 * @err: filled in on failure
 *
 * Both kernels ask the same, so that the next cannot refuse what this one has
 * accepted.
 *
 * Return: 0, -EINVAL if not, -ENOMEM.
 */
int pci_lu_set_check(const struct pci_liveupdate_header_ser *hdr, struct kho_block_set *set,
		     struct pci_liveupdate_record_ser ***slots, u64 *nr_slots,
		     struct pci_lu_error *err)
{
	struct pci_liveupdate_record_ser *rec;
	struct kho_block_set_it it;
	u64 nr = 0;

	*err = (struct pci_lu_error){};
	*slots = kvmalloc_array(max(set->nblocks * set->count_per_block, 1),
				sizeof(**slots), GFP_KERNEL);
	if (!*slots)
		return -ENOMEM;

	kho_block_set_it_init(&it, set);
	while ((rec = kho_block_set_it_read_entry(&it)))
		(*slots)[nr++] = rec;
	*nr_slots = nr;
	return pci_lu_records_check(hdr, *slots, nr, err);
}
