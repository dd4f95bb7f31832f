// SPDX-License-Identifier: GPL-2.0
/*
 * PCI Live Update in the incoming kernel: what was handed over, and who asks for it.
 * What becomes of the devices is in match.c.
 */

#define dev_fmt(fmt) "Live Update: " fmt
#define pr_fmt(fmt) "PCI Live Update: " fmt

#include <linux/acpi.h>
#include <linux/cleanup.h>
#include <linux/io.h>
#include <linux/kexec_handover.h>
#include <linux/kho_block.h>
#include <linux/mm.h>
#include <linux/pm_runtime.h>
#include <linux/slab.h>
#include <linux/xarray.h>

#include "../pci.h"
#include "internal.h"

#include <trace/events/pci_liveupdate.h>

/**
 * struct lu_incoming - what the previous kernel handed over
 * @header:  its header, NULL if there is nothing or all is finished
 * @set:     memory of the records
 * @pending: preserved devices that are not finished
 */
static struct lu_incoming {
	struct pci_liveupdate_header_ser *header;
	struct kho_block_set set;
	u64 pending;
} lu_in;

/* &struct pci_lu_incoming by domain and Requester ID, see pci_lu_key() */
DEFINE_XARRAY(pci_lu_entries);

/*
 * Without readable records nobody knows which memory is still being written
 * to. Going on would hand that memory to somebody else.
 */
static void __noreturn incoming_unreadable(const struct pci_lu_error *err, u32 version)
{
	char who[32] = "the record set";

	if (err->rec)
		snprintf(who, sizeof(who), "record %04x:%02x:%02x.%d", err->rec->domain,
			 PCI_BUS_NUM(err->rec->bdf), PCI_SLOT(err->rec->bdf),
			 PCI_FUNC(err->rec->bdf));

	liveupdate_fatal("PCI",
			 "devices are running on behalf of the previous kernel, but %s cannot be read: %s (versions %#x to %#x are read here, %#x was handed over); live update into a kernel that reads this, and can do what it says, instead",
			 who, err->why, PCI_LIVEUPDATE_ABI_OLDEST, PCI_LIVEUPDATE_ABI_VERSION,
			 version);
}

static int incoming_add(struct pci_liveupdate_record_ser *rec)
{
	struct pci_lu_incoming *in = kzalloc_obj(*in);
	int err;

	if (!in)
		return -ENOMEM;

	in->rec = rec;
	err = xa_insert(&pci_lu_entries, pci_lu_key(rec->domain, rec->bdf), in,
			GFP_KERNEL);
	if (err) {
		kfree(in);
		return err;
	}
	if (rec->flags & PCI_LIVEUPDATE_F_ENDPOINT)
		lu_in.pending++;
	return 0;
}

static struct pci_lu_incoming *incoming_find(u32 domain, u16 bdf)
{
	return xa_load(&pci_lu_entries, pci_lu_key(domain, bdf));
}

/* All but Virtual Functions on the bus below a bridge have that above them */
static void incoming_relate_below(struct pci_lu_incoming *bridge)
{
	unsigned long key, on_bus = pci_lu_key(bridge->rec->domain,
					       PCI_DEVID(bridge->rec->secondary, 0));
	struct pci_lu_incoming *in;

	xa_for_each_range(&pci_lu_entries, key, in, on_bus, on_bus | 0xff)
		if (!(in->rec->flags & PCI_LIVEUPDATE_F_VF))
			in->up = bridge;
}

/* What two records say of one function, when all of them are there */
static void incoming_relate(const struct pci_liveupdate_record_ser *rec)
{
	/* Of its Virtual Functions: it has been checked that there is one of itself, too */
	struct pci_lu_incoming *pf, *in = incoming_find(rec->domain, rec->bdf);

	if (rec->flags & PCI_LIVEUPDATE_F_IOV) {
		in->iov = rec;
	} else if (rec->flags & PCI_LIVEUPDATE_F_BRIDGE) {
		incoming_relate_below(in);
	} else if (rec->flags & PCI_LIVEUPDATE_F_VF) {
		pf = incoming_find(rec->domain, rec->vf.pf);
		in->up = pf;
		if (rec->dma == PCI_LIVEUPDATE_DMA_UNTRANSLATED)
			pf->untranslated = true;
	}
}

/* Counted anew: what is above must stay until all that is below is finished */
static void incoming_count(void)
{
	struct pci_lu_incoming *in;
	unsigned long key;

	xa_for_each(&pci_lu_entries, key, in)
		if (in->rec->flags & PCI_LIVEUPDATE_F_ENDPOINT)
			for (struct pci_lu_incoming *it = in; it; it = it->up)
				it->users++;
}

static int incoming_read(struct pci_liveupdate_header_ser *header,
			 struct pci_lu_error *bad)
{
	struct pci_liveupdate_record_ser **slots __free(kvfree) = NULL;
	u64 nr = 0;
	int err;

	err = pci_lu_header_check(header, bad);
	if (err)
		return err;

	/* There need be none: address 0 says so, and is not memory everywhere */
	if (header->records && !pfn_valid(PHYS_PFN(header->records))) {
		bad->why = "records that are not in memory";
		return -EINVAL;
	}
	kho_block_set_init(&lu_in.set, sizeof(struct pci_liveupdate_record_ser));
	err = kho_block_set_restore(&lu_in.set, header->records);
	if (err) {
		bad->why = "damaged blocks";
		return err;
	}

	err = pci_lu_set_check(header, &lu_in.set, &slots, &nr, bad);
	for (u64 i = 0; !err && i < nr; i++)
		if (!pci_lu_slot_is_free(slots[i]) &&
		    !(slots[i]->flags & PCI_LIVEUPDATE_F_IOV))
			err = incoming_add(slots[i]);
	if (err)
		return err;
	for (u64 i = 0; i < nr; i++)
		if (!pci_lu_slot_is_free(slots[i]))
			incoming_relate(slots[i]);
	incoming_count();
	return 0;
}

/* The File-Lifecycle-Bound object is asked for, at boot */
int pci_lu_incoming_retrieve(struct liveupdate_flb_op_args *args)
{
	struct pci_liveupdate_header_ser *header;
	struct pci_lu_error bad = {};

	if (!args->data || !PAGE_ALIGNED(args->data) || !pfn_valid(PHYS_PFN(args->data))) {
		bad.why = "a header that is not in memory";
		incoming_unreadable(&bad, 0);
	}
	header = phys_to_virt(args->data);

	scoped_guard(rwsem_write, &pci_lu_rwsem) {
		if (incoming_read(header, &bad)) {
			bad.why = bad.why ?: "out of memory";
			incoming_unreadable(&bad, header->version);
		}
		lu_in.header = header;
	}
	static_branch_enable(&pci_lu_incoming_key);
	static_branch_enable(&pci_lu_used_key);		/* for good */
	pci_lu_guard_start();
	pr_info("%llu devices are running on behalf of the previous kernel\n",
		lu_in.pending);

	args->obj = header;
	return 0;
}

/**
 * pci_lu_incoming_end - forget what the previous kernel handed over
 *
 * Context: all of it is finished; pci_lu_rwsem held for writing.
 */
void pci_lu_incoming_end(void)
{
	struct pci_lu_incoming *in;
	unsigned long key;

	xa_for_each(&pci_lu_entries, key, in)
		kfree(in);
	xa_destroy(&pci_lu_entries);
	kho_block_set_destroy(&lu_in.set);
	kho_restore_free(lu_in.header);
	lu_in.header = NULL;
	lu_in.pending = 0;
}

/**
 * pci_lu_incoming_done - one more device is finished
 *
 * Context: pci_lu_rwsem held for writing.
 */
void pci_lu_incoming_done(void)
{
	lu_in.pending--;
}

/* Is any device of the previous kernel not finished? */
bool pci_lu_incoming_active(void)
{
	guard(rwsem_read)(&pci_lu_rwsem);
	return lu_in.pending;
}

/* The bus numbers that are a bridge's, or of Virtual Functions; false if there are none */
static bool lu_has_buses(const struct pci_lu_incoming *in, u8 *first, u8 *last)
{
	if (in->rec->flags & PCI_LIVEUPDATE_F_BRIDGE) {
		*first = in->rec->secondary;
		*last = in->rec->subordinate;
		return true;
	}
	if (!in->iov || in->iov->iov.last_bus == PCI_BUS_NUM(in->rec->bdf))
		return false;
	*first = PCI_BUS_NUM(in->rec->bdf) + 1;
	*last = in->iov->iov.last_bus;
	return true;
}

/**
 * pci_lu_incoming_has_buses - are these the bus numbers of another bridge?
 * @bridge: bridge that a scan has come to
 * @first: its Secondary Bus Number
 * @last: its Subordinate Bus Number
 *
 * Context: takes pci_lu_rwsem for reading.
 * Return: true if a preserved bridge beside @bridge, or Virtual Functions of a device
 * there, found already or not, have one of them.
 */
bool pci_lu_incoming_has_buses(struct pci_dev *bridge, u8 first, u8 last)
{
	unsigned long key, on_bus = pci_lu_key(pci_domain_nr(bridge->bus),
					       PCI_DEVID(bridge->bus->number, 0));
	struct pci_lu_incoming *in;

	guard(rwsem_read)(&pci_lu_rwsem);
	xa_for_each_range(&pci_lu_entries, key, in, on_bus, on_bus | 0xff) {
		u8 its_first, its_last;

		if (in->rec->bdf != pci_dev_id(bridge) &&
		    lu_has_buses(in, &its_first, &its_last) &&
		    first <= its_last && last >= its_first)
			return true;
	}
	return false;
}

/**
 * pci_liveupdate_has_bus - is this the bus number of a preserved bridge, or of
 *	Virtual Functions?
 * @domain: PCI domain (segment) number
 * @nr: bus number
 *
 * Context: process context. Takes pci_lu_rwsem for reading.
 * Return: true if it is, whether or not the bridge, or device, has been found.
 */
bool pci_liveupdate_has_bus(u32 domain, u8 nr)
{
	struct pci_lu_incoming *in;
	unsigned long key;

	if (!static_branch_unlikely(&pci_lu_incoming_key))
		return false;

	guard(rwsem_read)(&pci_lu_rwsem);
	xa_for_each_range(&pci_lu_entries, key, in, pci_lu_key(domain, 0),
			  pci_lu_key(domain, PCI_DEVID(nr, 0))) {
		u8 first, last;

		if (lu_has_buses(in, &first, &last) && nr >= first && nr <= last)
			return true;
	}
	return false;
}

/**
 * pci_lu_incoming_below - look at all functions below a bus
 * @bus: root bus, or one that has been scanned anew
 * @fn: called for each function that was preserved, found or not; may be NULL
 *
 * Context: pci_lu_rwsem held, for writing if @fn needs that.
 * Return: true if there is any.
 */
bool pci_lu_incoming_below(struct pci_bus *bus,
			   void (*fn)(struct pci_bus *bus, struct pci_lu_incoming *in))
{
	u32 domain = pci_domain_nr(bus);
	struct pci_lu_incoming *in;
	unsigned long key;
	bool any = false;

	xa_for_each_range(&pci_lu_entries, key, in,
			  pci_lu_key(domain, PCI_DEVID(bus->busn_res.start, 0)),
			  pci_lu_key(domain, PCI_DEVID(bus->busn_res.end, 0xff))) {
		if (fn)
			fn(bus, in);
		any = true;
	}
	return any;
}

/**
 * pci_lu_record - the record that a function was matched with
 * @dev: function, from match on
 *
 * Context: pci_lu_rwsem held, for as long as the record is used.
 * Return: the record; NULL if there is none, or if its session was finished after
 * @dev was matched and before it was added.
 */
const struct pci_liveupdate_record_ser *pci_lu_record(struct pci_dev *dev)
{
	struct pci_lu_incoming *in = dev->lu_incoming;

	return in && incoming_find(pci_domain_nr(dev->bus), pci_dev_id(dev)) == in ?
	       in->rec : NULL;
}

static bool lu_is_incoming(struct pci_dev *dev)
{
	return dev->lu_incoming && !test_bit(PCI_LU_LOST, &dev->lu_flags);
}

/**
 * pci_liveupdate_is_incoming - was this function preserved by the last kernel?
 * @dev: device or bridge
 *
 * Context: process context. Takes pci_lu_rwsem for reading.
 * Return: true from the time the device is found until it is finished; for a
 * bridge, until the last preserved device below it is.
 */
bool pci_liveupdate_is_incoming(struct pci_dev *dev)
{
	if (!static_branch_unlikely(&pci_lu_incoming_key))
		return false;

	guard(rwsem_read)(&pci_lu_rwsem);
	return lu_is_incoming(dev);
}
EXPORT_SYMBOL_GPL(pci_liveupdate_is_incoming);

/**
 * pci_liveupdate_find - the function that the previous kernel preserved there
 * @domain: PCI domain (segment) number
 * @bdf: bus << 8 | device << 3 | function
 *
 * Takes the same time however many devices there are.
 *
 * Context: process context. Takes pci_lu_rwsem for reading.
 * Return: the function, or what was found in its place, with a reference; NULL
 * if none was found, or its live update is finished.
 */
struct pci_dev *pci_liveupdate_find(u32 domain, u16 bdf)
{
	struct pci_lu_incoming *in;

	guard(rwsem_read)(&pci_lu_rwsem);
	in = xa_load(&pci_lu_entries, pci_lu_key(domain, bdf));
	return in ? pci_dev_get(in->dev) : NULL;
}
EXPORT_SYMBOL_GPL(pci_liveupdate_find);

/**
 * pci_liveupdate_is_untranslated - must IOMMUs leave this device alone?
 * @dev: device
 *
 * For IOMMU drivers, before they switch a unit on that @dev is behind: its DMA
 * has been going on without translation since before the kexec, and its owner
 * has given it physical addresses. A Physical Function answers for its Virtual
 * Functions, which come later.
 *
 * Context: process context. Takes pci_lu_rwsem for reading.
 * Return: true if @dev is incoming and nothing may translate for it.
 */
bool pci_liveupdate_is_untranslated(struct pci_dev *dev)
{
	guard(rwsem_read)(&pci_lu_rwsem);
	return lu_is_incoming(dev) && !(pci_lu_break & PCI_LU_BREAK_UNTRANSLATED) &&
	       (dev->lu_incoming->untranslated ||
		dev->lu_incoming->rec->dma == PCI_LIVEUPDATE_DMA_UNTRANSLATED);
}

static bool lu_host_is_scanned(u32 domain, u8 nr)
{
	struct pci_bus *bus = NULL;

	while ((bus = pci_find_next_bus(bus)))
		if (pci_domain_nr(bus) == domain && nr >= bus->busn_res.start &&
		    nr <= bus->busn_res.end)
			return true;
	return false;
}

/**
 * pci_liveupdate_may_come - may this device still be found?
 * @domain: PCI domain (segment) number
 * @bdf: bus << 8 | device << 3 | function
 *
 * Host bridges in a Device Tree are probed when what they depend on is there,
 * which may be any time. What is preserved below such a host runs all the while.
 *
 * Context: process context. Takes pci_lu_rwsem for reading.
 * Return: true if a device is recorded there that has not been found, and its
 * host bridge has not been scanned, or a scan is under way.
 */
bool pci_liveupdate_may_come(u32 domain, u16 bdf)
{
	struct pci_lu_incoming *in;
	bool missing;

	scoped_guard(rwsem_read, &pci_lu_rwsem) {
		in = xa_load(&pci_lu_entries, pci_lu_key(domain, bdf));
		missing = in && !in->dev;
	}
	if (!missing)
		return false;
	if (mutex_is_locked(&pci_rescan_remove_lock))
		return true;
	/* ACPI's are scanned before there is a user space */
	return acpi_disabled && !lu_host_is_scanned(domain, PCI_BUS_NUM(bdf));
}
EXPORT_SYMBOL_GPL(pci_liveupdate_may_come);

enum pci_liveupdate_dma pci_lu_dma_locked(struct pci_dev *dev)
{
	if (dev->lu_incoming)
		return dev->lu_incoming->rec->dma;
	if (dev->lu_outgoing)
		return dev->lu_outgoing->dma;
	return PCI_LIVEUPDATE_DMA_PAUSED;
}

/* Were requests outstanding when the previous kernel paused it? */
bool pci_lu_was_pending_locked(struct pci_dev *dev)
{
	return dev->lu_incoming &&
	       dev->lu_incoming->rec->flags & PCI_LIVEUPDATE_F_DMA_PENDING;
}

/**
 * pci_liveupdate_dma - what happened, or will happen, to a device's DMA
 * @dev: incoming or outgoing device
 *
 * Context: process context. Takes pci_lu_rwsem for reading.
 * Return: the verdict of the record. If @dev is neither incoming nor outgoing,
 * %PCI_LIVEUPDATE_DMA_PAUSED.
 */
enum pci_liveupdate_dma pci_liveupdate_dma(struct pci_dev *dev)
{
	guard(rwsem_read)(&pci_lu_rwsem);
	return pci_lu_dma_locked(dev);
}
EXPORT_SYMBOL_GPL(pci_liveupdate_dma);

/**
 * pci_liveupdate_iommu - what has the previous kernel said about its IOMMUs?
 *
 * Context: process context. Takes pci_lu_rwsem for reading.
 * Return: physical address of a &struct iommu_liveupdate_ser, 0 if there is none.
 */
u64 pci_liveupdate_iommu(void)
{
	guard(rwsem_read)(&pci_lu_rwsem);
	if (!lu_in.header || pci_lu_break & PCI_LU_BREAK_UNTRANSLATED)
		return 0;
	return lu_in.header->iommu;
}

/* An IOMMU driver answers for all devices that go on translated, or has paused them */
static bool lu_iommu_is_taken __ro_after_init;

/**
 * pci_liveupdate_iommu_taken - what the previous kernel has said about its IOMMUs is known
 *
 * By an IOMMU driver that has taken over what it can, and has paused the other devices.
 *
 * Context: at boot, before device initcalls.
 */
void __init pci_liveupdate_iommu_taken(void)
{
	lu_iommu_is_taken = true;
}

static int __init lu_is_translated(u32 domain, u16 bdf,
				   const struct pci_liveupdate_iommu_ser *iommu, void *data)
{
	*(unsigned long *)data = pci_lu_key(domain, bdf);
	return 1;
}

/*
 * Firmware tables that cannot be read, or that a command line has switched off: the IOMMU
 * goes on with tables that nobody has, knows no devices but those, and cannot be found.
 */
static int __init lu_check_translated(void)
{
	unsigned long key;

	if (lu_iommu_is_taken || !pci_liveupdate_each_translated(lu_is_translated, &key))
		return 0;
	liveupdate_fatal("PCI",
			 "the IOMMU that translates for %04lx:%02lx:%02lx.%lu since before the kexec has no driver; boot this kernel without what keeps it from being found (acpi=off and the like)",
			 key >> 16, key >> 8 & 0xff, key >> 3 & 0x1f, key & 7);
}

/* Those of architectures, which IOMMU drivers are started by, come before */
rootfs_initcall(lu_check_translated);

/**
 * pci_liveupdate_each_translated - call a function for each device in a frozen domain
 * @fn: called with pci_lu_rwsem held for reading
 * @data: for @fn
 *
 * Whether they have been found or not.
 *
 * Context: process context. Takes pci_lu_rwsem for reading.
 * Return: 0, or what @fn has returned, if it is not 0: it is not called again then.
 */
int pci_liveupdate_each_translated(pci_liveupdate_translated_fn fn, void *data)
{
	struct pci_lu_incoming *in;
	unsigned long key;
	int ret;

	if (pci_lu_break & PCI_LU_BREAK_UNTRANSLATED)
		return 0;
	guard(rwsem_read)(&pci_lu_rwsem);
	xa_for_each(&pci_lu_entries, key, in) {
		if (in->rec->dma != PCI_LIVEUPDATE_DMA_TRANSLATED)
			continue;
		ret = fn(in->rec->domain, in->rec->bdf, &in->rec->iommu, data);
		if (ret)
			return ret;
	}
	return 0;
}
