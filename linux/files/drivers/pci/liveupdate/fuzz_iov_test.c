// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit: what the outgoing kernel hands over of Virtual Functions, the incoming one
 * accepts, whatever the registers say.
 *
 * What fuzz_test.c does for devices and bridges, this does for Physical Functions and
 * their Virtual Functions. It finds what the latter have in common, and where they may
 * be; it does not go into the tree that they are in.
 */

#include <kunit/test.h>
#include <linux/moduleparam.h>
#include <linux/pci.h>
#include <linux/prandom.h>
#include <linux/random.h>
#include <linux/sched.h>
#include <linux/string.h>

#include "../pci.h"
#include "internal.h"

#undef MODULE_PARAM_PREFIX
#define MODULE_PARAM_PREFIX "pci_liveupdate_fuzz_iov."

/* With all the checks of a debug kernel on, fewer do, in the same time */
static unsigned int fuzz_rounds = IS_ENABLED(CONFIG_KASAN) ? 4000 : 20000;
module_param_named(rounds, fuzz_rounds, uint, 0400);
MODULE_PARM_DESC(rounds, "how many topologies");

static u64 fuzz_seed;
module_param_named(seed, fuzz_seed, ullong, 0400);
MODULE_PARM_DESC(seed, "of the first of them, 0 for one that nobody has had yet");

#define FUZZ_FUNCS	32
#define FUZZ_BUSES	8	/* below each root port */

/* Configuration space ends where the last capability does; what follows reads as zero */
#define FUZZ_BYTES	0x180
#define AT_EXPRESS	0x40
#define AT_SERIAL	0x100
#define AT_SRIOV	0x140

/**
 * struct fuzz_func - a function
 * @bytes: its configuration space
 * @dev:   what the kernel knows of it
 * @below: the bus below a bridge; of a Virtual Function, its own if that is not its
 *	   Physical Function's
 * @sriov: what the kernel knows of its Virtual Functions
 * @first: the first of these
 * @rec:   its record
 * @iov:   that of its Virtual Functions
 */
struct fuzz_func {
	u8 bytes[FUZZ_BYTES];
	struct pci_dev dev;
	struct pci_bus below;
	struct pci_sriov sriov;
	struct fuzz_func *first;
	struct pci_liveupdate_record_ser rec;
	struct pci_liveupdate_record_ser iov;
};

static struct fuzz {
	struct rnd_state rnd;
	u64 sysdata[8];			/* an architecture's; x86 has the domain in it */
	struct pci_host_bridge host;
	struct pci_bus root;
	struct resource parent;
	u64 next;			/* address that nobody has */
	unsigned int nr;
	struct fuzz_func func[FUZZ_FUNCS];
	struct pci_liveupdate_header_ser header;
	struct pci_liveupdate_record_ser *slots[2 * FUZZ_FUNCS];
} *fz;

static int fuzz_read(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 *val)
{
	*val = 0;
	for (unsigned int i = 0; i < fz->nr; i++) {
		struct fuzz_func *f = &fz->func[i];

		if (f->dev.bus == bus && f->dev.devfn == devfn && where < FUZZ_BYTES)
			memcpy(val, f->bytes + where, size);
	}
	return PCIBIOS_SUCCESSFUL;
}

/* Nobody writes, neither in this kernel nor in the next */
static struct pci_ops fuzz_ops = {
	.read	= fuzz_read,
};

static u32 any(u32 below)
{
	return prandom_u32_state(&fz->rnd) % below;
}

static void put(struct fuzz_func *f, int reg, u64 value, int size)
{
	memcpy(f->bytes + reg, &value, size);
}

static u32 get(struct fuzz_func *f, int reg)
{
	u32 value;

	memcpy(&value, f->bytes + reg, sizeof(value));
	return value;
}

static struct fuzz_func *fuzz_of(struct pci_dev *dev)
{
	return container_of(dev, struct fuzz_func, dev);
}

/* --- sound ones -------------------------------------------------------------------- */

/* Who may have a Physical Function, beside nobody */
static void fuzz_remove(struct pci_dev *dev)
{
}

static const char *fuzz_keeps(struct pci_dev *pf)
{
	return NULL;
}

static struct pci_driver fuzz_stub = { .live_update = true };
static struct pci_driver fuzz_user = { .live_update = true, .remove = fuzz_remove };
static struct pci_driver fuzz_native = { .live_update_pf = fuzz_keeps, .remove = fuzz_remove };

static void fuzz_bus(struct pci_bus *bus, struct pci_bus *parent, unsigned int first,
		     unsigned int last)
{
	bus->ops = &fuzz_ops;
	bus->sysdata = fz->sysdata;
	bus->parent = parent;
	bus->number = first;
	bus->busn_res.start = first;
	bus->busn_res.end = last;
	INIT_LIST_HEAD(&bus->devices);
}

static struct fuzz_func *fuzz_func(struct pci_bus *bus, unsigned int devfn)
{
	struct fuzz_func *f = &fz->func[fz->nr++];

	memset(f, 0, sizeof(*f));
	f->dev.bus = bus;
	f->dev.devfn = devfn;
	f->dev.cfg_size = PCI_CFG_SPACE_EXP_SIZE;
	f->dev.pcie_cap = AT_EXPRESS;
	f->dev.vendor = 2 + any(0xfffd);
	f->dev.device = any(0x10000);
	f->dev.class = any(0xffffff);
	put(f, PCI_VENDOR_ID, f->dev.device << 16 | f->dev.vendor, 4);
	put(f, PCI_STATUS, PCI_STATUS_CAP_LIST, 2);
	put(f, PCI_CLASS_REVISION, f->dev.class << 8 | any(256), 4);
	put(f, PCI_SUBSYSTEM_VENDOR_ID, prandom_u32_state(&fz->rnd), 4);
	put(f, PCI_CAPABILITY_LIST, AT_EXPRESS, 1);
	put(f, AT_EXPRESS, PCI_CAP_ID_EXP, 2);
	return f;
}

static struct fuzz_func *fuzz_bridge(struct pci_bus *bus, unsigned int devfn,
				     unsigned int secondary, unsigned int subordinate)
{
	struct fuzz_func *f = fuzz_func(bus, devfn);

	f->dev.hdr_type = PCI_HEADER_TYPE_BRIDGE;
	put(f, PCI_HEADER_TYPE, PCI_HEADER_TYPE_BRIDGE, 1);
	put(f, PCI_PRIMARY_BUS, bus->number | secondary << 8 | subordinate << 16, 4);
	fuzz_bus(&f->below, bus, secondary, subordinate);
	f->below.self = &f->dev;
	f->dev.subordinate = &f->below;
	list_add_tail(&f->dev.bus_list, &bus->devices);
	return f;
}

/* Six BARs at a register, each for so many functions of the same size */
static void fuzz_bars(struct fuzz_func *f, int reg, int first, unsigned int nr,
		      resource_size_t *sizes)
{
	for (int i = 0; i < PCI_STD_NUM_BARS; i++) {
		struct resource *res = &f->dev.resource[first + i];
		bool wide = i < PCI_STD_NUM_BARS - 1 && any(2);
		u64 size = (u64)PAGE_SIZE << any(8);
		u64 start = ALIGN(fz->next, size);

		if (any(3) || (!wide && start + nr * size > SZ_2G * 2ULL))
			continue;
		fz->next = start + nr * size;
		if (wide)
			start += BIT_ULL(40);
		put(f, reg + 4 * i, start | (wide ? PCI_BASE_ADDRESS_MEM_TYPE_64 : 0),
		    wide ? 8 : 4);
		*res = DEFINE_RES_NAMED(start, nr * size, "fuzz", wide ?
					IORESOURCE_MEM | IORESOURCE_MEM_64 : IORESOURCE_MEM);
		res->parent = &fz->parent;
		if (sizes)
			sizes[i] = size;
		i += wide;
	}
}

static void fuzz_vf(struct fuzz_func *pf, unsigned int index)
{
	unsigned int nr = pci_iov_virtfn_bus(&pf->dev, index);
	struct fuzz_func *f = fuzz_func(pf->dev.bus, pci_iov_virtfn_devfn(&pf->dev, index));

	if (nr != pf->dev.bus->number) {
		fuzz_bus(&f->below, pf->dev.bus, nr, nr);
		f->dev.bus = &f->below;
	}
	f->dev.is_virtfn = 1;
	f->dev.physfn = &pf->dev;
	f->dev.vendor = pf->dev.vendor;
	f->dev.device = pf->sriov.vf_device;
	f->dev.class = pf->sriov.class >> 8;
	put(f, PCI_VENDOR_ID, ~0U, 4);
	put(f, PCI_CLASS_REVISION, pf->sriov.class, 4);
	put(f, PCI_SUBSYSTEM_VENDOR_ID, pci_lu_vf_subsystem(&f->dev), 4);
}

static void fuzz_sriov_registers(struct fuzz_func *f)
{
	struct pci_sriov *sriov = &f->sriov;

	put(f, AT_SERIAL, AT_SRIOV << 20 | 1 << 16 |
	    (any(2) ? PCI_EXT_CAP_ID_DSN : PCI_EXT_CAP_ID_ERR), 4);
	put(f, AT_SERIAL + 4, prandom_u32_state(&fz->rnd), 4);
	put(f, AT_SRIOV, 1 << 16 | PCI_EXT_CAP_ID_SRIOV, 4);
	put(f, AT_SRIOV + PCI_SRIOV_CTRL, sriov->ctrl, 2);
	put(f, AT_SRIOV + PCI_SRIOV_INITIAL_VF, sriov->total_VFs, 2);
	put(f, AT_SRIOV + PCI_SRIOV_TOTAL_VF, sriov->total_VFs, 2);
	put(f, AT_SRIOV + PCI_SRIOV_NUM_VF, sriov->num_VFs, 2);
	put(f, AT_SRIOV + PCI_SRIOV_FUNC_LINK, any(256), 1);
	put(f, AT_SRIOV + PCI_SRIOV_VF_OFFSET, sriov->offset, 2);
	put(f, AT_SRIOV + PCI_SRIOV_VF_STRIDE, sriov->stride, 2);
	put(f, AT_SRIOV + PCI_SRIOV_VF_DID, sriov->vf_device, 2);
	put(f, AT_SRIOV + PCI_SRIOV_SYS_PGSIZE, 1 << any(4), 4);
}

/*
 * A Physical Function, one of so many that share numbers up to the end of a bus. The first
 * of its Virtual Functions is always there, because its registers are read for all.
 */
static void fuzz_pf(struct fuzz_func *f, unsigned int nr, unsigned int last_bus)
{
	unsigned int buses = last_bus - f->dev.bus->number, room;
	struct pci_driver *drivers[] = { NULL, &fuzz_stub, &fuzz_user, &fuzz_native };
	struct pci_sriov *sriov = &f->sriov;

	f->dev.driver = drivers[any(ARRAY_SIZE(drivers))];
	f->dev.is_physfn = 1;
	f->dev.sriov = sriov;
	sriov->pos = AT_SRIOV;
	sriov->ctrl = PCI_SRIOV_CTRL_VFE | PCI_SRIOV_CTRL_MSE | (any(2) ? PCI_SRIOV_CTRL_ARI : 0);
	sriov->offset = nr * (4 + any(100)) + (buses ? any(2) << 8 : 0);
	sriov->stride = nr * (1 + any(64));
	room = ((buses + 1) << 8) - 1 - f->dev.devfn - sriov->offset;
	sriov->total_VFs = 1 + any(1 + min(room / sriov->stride, 63));
	sriov->driver_max_VFs = sriov->total_VFs;
	sriov->num_VFs = 1 + any(sriov->total_VFs);
	if (sriov->total_VFs == 1 && any(2))
		sriov->stride = 0;
	sriov->max_VF_buses = pci_iov_virtfn_bus(&f->dev, sriov->total_VFs - 1);
	sriov->vf_device = any(0x10000);
	sriov->class = any(0xffffff) << 8 | any(256);
	sriov->subsystem_vendor = any(0x10000);
	sriov->subsystem_device = any(0x10000);
	fuzz_sriov_registers(f);
	fuzz_bars(f, AT_SRIOV + PCI_SRIOV_BAR, pci_resource_num_from_vf_bar(0),
		  sriov->total_VFs, sriov->barsz);

	f->first = &fz->func[fz->nr];
	fuzz_vf(f, 0);
	for (unsigned int id = 1 + any(4), end = fz->nr + 2; id < sriov->num_VFs &&
	     fz->nr < end; id += 1 + any(sriov->num_VFs))
		fuzz_vf(f, id);
}

static void fuzz_device(struct pci_bus *bus, unsigned int devfn, unsigned int last_bus)
{
	unsigned int nr = 1 + any(2);

	for (unsigned int i = 0; i < nr; i++) {
		struct fuzz_func *f = fuzz_func(bus, devfn + i);

		fuzz_bars(f, PCI_BASE_ADDRESS_0, 0, 1, NULL);
		if (any(4))
			fuzz_pf(f, nr, last_bus);
	}
}

/* Virtual Functions come after their Physical Function, and that after bridges above it */
static void fuzz_topology(void)
{
	unsigned int ports = 1 + any(2);

	fz->nr = 0;
	fz->next = SZ_1M;
	INIT_LIST_HEAD(&fz->host.windows);
	fuzz_bus(&fz->root, NULL, 0, 0xff);
	fz->root.bridge = &fz->host.dev;

	/* On the root bus */
	if (!any(4))
		fuzz_device(&fz->root, PCI_DEVFN(3, 0), 0);
	for (unsigned int port = 1; port <= ports; port++) {
		unsigned int first = port * FUZZ_BUSES, last = first + any(3);
		struct fuzz_func *f = fuzz_bridge(&fz->root, PCI_DEVFN(port, 0), first,
						  first + FUZZ_BUSES - 1);

		fuzz_device(&f->below, 0, last);
		if (any(2))
			continue;
		/* With a bridge beside it, a part of the same device */
		f = fuzz_bridge(&f->below, PCI_DEVFN(0, 3), last + 1, last + 1 + any(4));
		if (any(2))
			fuzz_func(&f->below, 0);
	}
}

/* --- and unsound ones -------------------------------------------------------------- */

/* What a reset, or somebody with setpci, may do at any time */
static void fuzz_damage_registers(void)
{
	struct fuzz_func *f = &fz->func[any(fz->nr)];
	int reg = any(PCI_STD_HEADER_SIZEOF);

	if (f->dev.is_physfn && any(4))
		reg = AT_SRIOV + any(PCI_EXT_CAP_SRIOV_SIZEOF);

	switch (any(5)) {
	case 0:		/* in reset, or gone */
		memset(f->bytes, 0xff, sizeof(f->bytes));
		break;
	case 1:		/* ... and a little later */
		memset(f->bytes, 0, sizeof(f->bytes));
		break;
	case 2:		/* after a reset */
		memset(f->bytes + PCI_BASE_ADDRESS_0, 0, 24);
		if (!f->dev.is_physfn)
			break;
		put(f, AT_SRIOV + PCI_SRIOV_CTRL, 0, 2);
		put(f, AT_SRIOV + PCI_SRIOV_NUM_VF, 0, 2);
		memset(f->bytes + AT_SRIOV + PCI_SRIOV_BAR, 0, 24);
		break;
	case 3:		/* back again while it is read */
		memset(f->bytes + ALIGN_DOWN(reg, 4), 0xff, 4);
		break;
	case 4:
		put(f, reg, any(256), 1);
		break;
	}
	pci_forget_capabilities(&f->dev);
}

/* ... and firmware, or the driver of a Physical Function, as long as nothing is preserved */
static void fuzz_damage(void)
{
	struct fuzz_func *f = &fz->func[any(fz->nr)];
	int i = any(PCI_SRIOV_NUM_BARS);
	struct resource *res = &f->dev.resource[pci_resource_num_from_vf_bar(i)];
	struct pci_sriov *sriov = &f->sriov;

	if (f->dev.subordinate && any(2)) {
		/* Linux lives with ranges that have no room for what is below */
		f->below.busn_res.end = f->below.number + any(FUZZ_BUSES);
		put(f, PCI_SUBORDINATE_BUS, f->below.busn_res.end, 1);
		return;
	}
	if (!f->dev.is_physfn || !any(4)) {
		fuzz_damage_registers();
		return;
	}

	switch (any(8)) {
	case 0:		/* more of them could be than there are numbers for */
		sriov->max_VF_buses += any(2 * FUZZ_BUSES);
		break;
	case 1:		/* after a reset they are elsewhere, as has been read since */
		sriov->offset += any(4);
		sriov->stride += any(4);
		put(f, AT_SRIOV + PCI_SRIOV_VF_OFFSET, sriov->offset, 2);
		put(f, AT_SRIOV + PCI_SRIOV_VF_STRIDE, sriov->stride, 2);
		break;
	case 2:		/* the first was in reset when it was asked for all */
		sriov->class = any(2) ? ~0U : 0;
		sriov->subsystem_vendor = sriov->class;
		sriov->subsystem_device = sriov->class;
		break;
	case 3:
		sriov->num_VFs = 1 + any(64);
		break;
	case 4:
		sriov->driver_max_VFs = any(64);
		break;
	case 5:
		res->flags ^= BIT(any(32));
		break;
	case 6:		/* resized, to a size that may not fit the address */
		if (sriov->barsz[i])
			sriov->barsz[i] = (resource_size_t)PAGE_SIZE << any(8);
		break;
	case 7:
		if (any(2))
			res->parent = NULL;
		else if (sriov->barsz[i])
			resource_set_size(res, sriov->barsz[i] * any(sriov->total_VFs));
		break;
	}
}

/* --- the outgoing kernel ----------------------------------------------------------- */

/* As lu_take() and lu_pf_get() do; with @blindly, what is said of an SR-IOV capability goes */
static const char *fuzz_take(struct fuzz_func *f, bool blindly)
{
	const char *why = pci_lu_record_take(&f->dev, &f->rec);

	if (!why && pci_lu_is_pf(&f->rec)) {
		why = pci_lu_iov_take(&f->dev, &f->iov) ?:
		      pci_lu_record_check(&f->iov, PCI_LIVEUPDATE_ABI_VERSION);
		if (blindly)
			why = NULL;
		*pci_lu_iov_slot(&f->dev) = &f->iov;
	}
	return why;
}

static void fuzz_give_up(struct fuzz_func *f)
{
	memset(&f->rec, 0, sizeof(f->rec));
	memset(&f->iov, 0, sizeof(f->iov));
	f->sriov.lu_outgoing = NULL;
	f->dev.lu_outgoing = NULL;
}

/* As lu_path_put() does */
static void fuzz_path_put(struct pci_dev *dev, struct pci_dev *end)
{
	for (; dev != end; dev = pci_lu_up(dev))
		if (!--dev->lu_outgoing->use_count)
			fuzz_give_up(fuzz_of(dev));
}

/* As lu_path_get() does */
static const char *fuzz_preserve(struct pci_dev *dev, bool blindly)
{
	for (struct pci_dev *it = dev; it; it = pci_lu_up(it)) {
		struct fuzz_func *f = fuzz_of(it);
		const char *why;

		if (it->lu_outgoing) {
			f->rec.use_count++;
			continue;
		}
		why = fuzz_take(f, blindly);
		if (why) {
			fuzz_give_up(f);
			fuzz_path_put(dev, it);
			return why;
		}
		it->lu_outgoing = &f->rec;
	}
	dev->lu_outgoing->flags |= PCI_LIVEUPDATE_F_ENDPOINT;
	dev->lu_outgoing->dma = any(PCI_LIVEUPDATE_DMA_TRANSLATED);
	return NULL;
}

/* Is there anybody who would ask for it, and not be told that he must not? */
static bool fuzz_is_asked_for(struct pci_dev *dev)
{
	if (dev->subordinate || (pci_num_vf(dev) && dev->driver != &fuzz_user))
		return false;
	return any(8) && !pci_lu_refusal(dev, PCI_LU_FREEZE);
}

/* Does the user of a Physical Function give it up, with or without Virtual Functions? */
static void fuzz_unpreserve(void)
{
	struct fuzz_func *f = &fz->func[any(fz->nr)];

	if (!pci_lu_is_pf(f->dev.lu_outgoing) || !pci_lu_has_owner(f->dev.lu_outgoing))
		return;
	f->rec.flags &= ~PCI_LIVEUPDATE_F_ENDPOINT;
	f->rec.dma = 0;
	fuzz_path_put(&f->dev, NULL);
}

/* What both kernels ask of the set; NULL if they are content */
static const char *fuzz_check_set(void)
{
	struct pci_lu_error err;
	unsigned int nr = 0;

	fz->header = (struct pci_liveupdate_header_ser) {
		.version = PCI_LIVEUPDATE_ABI_OLDEST,
		.record_size = sizeof(struct pci_liveupdate_record_ser),
		.records = PAGE_SIZE,
	};
	for (unsigned int i = 0; i < 2 * fz->nr; i++) {
		struct fuzz_func *f = &fz->func[i / 2];
		struct pci_liveupdate_record_ser *rec = i % 2 ? &f->iov : &f->rec;

		if (pci_lu_slot_is_free(rec))
			continue;
		fz->header.version = max(fz->header.version, pci_lu_abi_of(rec));
		fz->slots[nr++] = rec;
	}
	fz->header.nr_records = nr;
	if (pci_lu_header_check(&fz->header, &err) ||
	    pci_lu_records_check(&fz->header, fz->slots, nr, &err))
		return err.why ?: "no memory";
	return NULL;
}

/* As pci_lu_outgoing_freeze() does; NULL if it lets all of it pass */
static const char *fuzz_freeze(bool blindly)
{
	for (unsigned int i = 0; i < fz->nr; i++) {
		struct pci_dev *dev = &fz->func[i].dev;
		const struct pci_lu_refusal *refusal;
		const char *why;

		if (!dev->lu_outgoing || pci_lu_is_gone(dev))
			continue;
		refusal = pci_lu_has_owner(dev->lu_outgoing) ?
			  pci_lu_refusal(dev, PCI_LU_FREEZE) : NULL;
		if (refusal)
			return refusal->reason;
		why = pci_lu_record_changed(dev, dev->lu_outgoing);
		if (!why && pci_lu_is_pf(dev->lu_outgoing) && !blindly)
			why = pci_lu_iov_changed(dev);
		if (why)
			return why;
	}
	return blindly ? NULL : fuzz_check_set();
}

/* --- the incoming kernel ----------------------------------------------------------- */

/* Enumeration reads a function anew, and only the first of all Virtual Functions */
static void fuzz_enumerate(struct fuzz_func *f)
{
	struct pci_dev *dev = &f->dev;

	pci_forget_capabilities(dev);
	if (dev->is_virtfn) {
		struct pci_sriov *sriov = dev->physfn->sriov;

		dev->hdr_type = sriov->hdr_type & PCI_HEADER_TYPE_MASK;
		dev->vendor = dev->physfn->vendor;
		dev->device = sriov->vf_device;
		dev->class = sriov->class >> 8;
		dev->pcie_cap = pci_find_capability(dev, PCI_CAP_ID_EXP);
		return;
	}
	dev->hdr_type = f->bytes[PCI_HEADER_TYPE] & PCI_HEADER_TYPE_MASK;
	dev->vendor = get(f, PCI_VENDOR_ID);
	dev->device = get(f, PCI_VENDOR_ID) >> 16;
	dev->class = get(f, PCI_CLASS_REVISION) >> 8;
	dev->pcie_cap = pci_find_capability(dev, PCI_CAP_ID_EXP);
	dev->cfg_size = dev->pcie_cap && !PCI_POSSIBLE_ERROR(get(f, PCI_CFG_SPACE_SIZE)) ?
			PCI_CFG_SPACE_EXP_SIZE : PCI_CFG_SPACE_SIZE;
}

/* As pci_lu_adopt_iov(), pci_read_vf_config_common() and pci_liveupdate_vf_config() do */
static void fuzz_adopt(struct fuzz_func *f)
{
	const struct pci_liveupdate_iov_ser *iov = &f->iov.iov;
	struct pci_sriov *sriov = &f->sriov;

	sriov->offset = iov->offset;
	sriov->stride = iov->stride;
	sriov->vf_device = iov->vf_device;
	sriov->class = get(f->first, PCI_CLASS_REVISION);
	sriov->hdr_type = f->first->bytes[PCI_HEADER_TYPE];
	sriov->subsystem_vendor = get(f->first, PCI_SUBSYSTEM_VENDOR_ID);
	sriov->subsystem_device = get(f->first, PCI_SUBSYSTEM_VENDOR_ID) >> 16;
	if (!PCI_POSSIBLE_ERROR(sriov->class))
		return;
	sriov->class = iov->vf_class << 8;
	sriov->hdr_type = PCI_HEADER_TYPE_NORMAL;
	sriov->subsystem_vendor = iov->vf_subvendor;
	sriov->subsystem_device = iov->vf_subdevice;
}

/* As pci_lu_incoming_has_buses() answers for Virtual Functions */
static bool fuzz_vfs_have_buses(struct fuzz_func *bridge, u8 first, u8 last)
{
	for (unsigned int i = 0; i < fz->nr; i++) {
		struct fuzz_func *f = &fz->func[i];

		if (pci_lu_is_pf(f->dev.lu_outgoing) && f->dev.bus == bridge->dev.bus &&
		    first <= f->iov.iov.last_bus && last > f->dev.bus->number)
			return true;
	}
	return false;
}

/* Also of a bridge above nothing that is preserved: it was good for others */
static const char *fuzz_scan(struct fuzz_func *f)
{
	/* A Primary Bus Number that is hard-wired to 0 is mended by the scan */
	struct pci_lu_bridge_view view = {
		.held = true,
		.bus = f->dev.bus->number,
		.primary = f->bytes[PCI_PRIMARY_BUS] ?: f->dev.bus->number,
		.secondary = f->bytes[PCI_SECONDARY_BUS],
		.subordinate = f->bytes[PCI_SUBORDINATE_BUS],
	};

	view.taken = fuzz_vfs_have_buses(f, f->below.number, f->below.busn_res.end);
	if (f->dev.lu_outgoing ? pci_lu_judge_buses(&view) != PCI_LU_BUSES_KEEP : view.taken)
		return "bus numbers that are not kept";
	return NULL;
}

/* NULL if the next kernel takes all of this on */
static const char *fuzz_incoming(void)
{
	const char *why = fuzz_check_set();

	for (unsigned int i = 0; !why && i < fz->nr; i++) {
		struct fuzz_func *f = &fz->func[i];
		struct pci_dev *dev = &f->dev;

		/* What is gone is missed, and nothing else comes of it */
		if (pci_lu_is_gone(dev))
			continue;
		if (dev->lu_outgoing) {
			fuzz_enumerate(f);
			why = pci_lu_record_mismatch(dev, dev->lu_outgoing);
		}
		if (!why && pci_lu_is_pf(dev->lu_outgoing)) {
			why = pci_lu_iov_mismatch(dev, &f->iov);
			fuzz_adopt(f);
		}
		if (!why && dev->subordinate)
			why = fuzz_scan(f);
	}
	return why;
}

/* --- rounds ------------------------------------------------------------------------ */

struct fuzz_count {
	unsigned int preserved;
	unsigned int refused;
	unsigned int held_back;		/* topologies that freeze refuses */
	unsigned int rightly;		/* of these, the next kernel would, too */
	unsigned int stopped;
	unsigned int accepted;		/* by both, with a Virtual Function that is preserved */
	unsigned int far;		/* ... on a bus of its own */
	unsigned int users;		/* ... whose Physical Function is preserved itself */
};

static void fuzz_count_accepted(struct fuzz_count *count)
{
	bool vfs = false, far = false, users = false;

	for (unsigned int i = 0; i < fz->nr; i++) {
		struct pci_dev *dev = &fz->func[i].dev;

		if (!dev->is_virtfn || !dev->lu_outgoing)
			continue;
		vfs = true;
		far |= dev->bus != dev->physfn->bus;
		users |= pci_lu_has_owner(dev->physfn->lu_outgoing);
	}
	count->accepted += vfs;
	count->far += far;
	count->users += users;
}

static void fuzz_round(struct kunit *test, u64 seed, bool blindly, struct fuzz_count *count)
{
	const char *why, *held_back, *refused = NULL;
	bool damaged, touched;

	prandom_seed_state(&fz->rnd, seed);
	fuzz_topology();
	damaged = any(8);
	for (unsigned int i = 0, nr = damaged ? 1 + any(3) : 0; i < nr; i++)
		fuzz_damage();

	for (unsigned int i = 0; i < fz->nr; i++) {
		struct pci_dev *dev = &fz->func[i].dev;

		if (!fuzz_is_asked_for(dev))
			continue;
		why = fuzz_preserve(dev, blindly);
		count->preserved += !why;
		count->refused += !!why;
		refused = refused ?: why;
	}

	/* Between preserve and the kexec */
	touched = !any(4);
	if (touched)
		fuzz_unpreserve();
	for (unsigned int i = 0, nr = touched ? any(3) : 0; i < nr; i++)
		fuzz_damage_registers();
	held_back = fuzz_freeze(blindly);
	why = fuzz_incoming();

	if (held_back) {
		count->held_back++;
		count->rightly += !!why;
	} else if (why) {
		count->stopped++;
		if (!blindly)
			KUNIT_FAIL(test, "seed %llu is accepted here and stops the next kernel: %s",
				   seed, why);
	} else {
		fuzz_count_accepted(count);
	}
	if (!damaged)
		KUNIT_EXPECT_NULL_MSG(test, refused, "seed %llu is sound and is refused: %s",
				      seed, refused);
	if (!touched)
		KUNIT_EXPECT_NULL_MSG(test, held_back,
				      "seed %llu is as it was preserved, and is held back: %s",
				      seed, held_back);

	for (unsigned int i = 0; i < fz->nr; i++)
		pci_forget_capabilities(&fz->func[i].dev);
	cond_resched();
}

static void lu_fuzz_vfs(struct kunit *test)
{
	u64 seed = fuzz_seed ?: get_random_u32();
	struct fuzz_count count = {}, blind = {};

	fz = kunit_kzalloc(test, sizeof(*fz), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, fz);
	kunit_info(test, "pci_liveupdate_fuzz_iov.seed=%llu, %u topologies\n", seed, fuzz_rounds);

	for (unsigned int i = 0; i < fuzz_rounds && test->status == KUNIT_SUCCESS; i++)
		fuzz_round(test, seed + i, false, &count);
	kunit_info(test, "%u devices preserved, %u refused\n", count.preserved, count.refused);
	kunit_info(test, "%u topologies held back, %u of which the next kernel would refuse\n",
		   count.held_back, count.rightly);
	kunit_info(test, "%u accepted with Virtual Functions, %u with some on buses of their own, %u of users\n",
		   count.accepted, count.far, count.users);
	KUNIT_EXPECT_GT(test, count.preserved, count.refused);
	KUNIT_EXPECT_GT(test, count.refused, fuzz_rounds / 20);
	KUNIT_EXPECT_GT(test, count.rightly, fuzz_rounds / 100);
	KUNIT_EXPECT_GT(test, count.accepted, fuzz_rounds / 10);
	KUNIT_EXPECT_GT(test, count.far, 0);
	KUNIT_EXPECT_GT(test, count.users, 0);

	/* Control: without what is asked of SR-IOV there is something for the next kernel */
	for (unsigned int i = 0; i < fuzz_rounds / 10; i++)
		fuzz_round(test, seed + i, true, &blind);
	kunit_info(test, "control: %u of %u topologies stop the next kernel\n", blind.stopped,
		   fuzz_rounds / 10);
	KUNIT_EXPECT_GT(test, blind.stopped, 0);
}

static struct kunit_case lu_fuzz_iov_cases[] = {
	KUNIT_CASE_SLOW(lu_fuzz_vfs),
	{}
};

static struct kunit_suite lu_fuzz_iov_suite = {
	.name		= "pci_liveupdate_fuzz_iov",
	.test_cases	= lu_fuzz_iov_cases,
};

kunit_test_suite(lu_fuzz_iov_suite);
