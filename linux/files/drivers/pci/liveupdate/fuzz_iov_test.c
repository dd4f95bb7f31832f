// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit: what the outgoing kernel hands over of Virtual Functions, the incoming one
 * accepts, whatever the registers say.
 *
 * As fuzz_test.c does it for trees of other functions, but with Physical Functions and some
 * of their Virtual Functions: what these have in common, where they are, and whose they are.
 */

#include "fuzz_test.c"

#define AT_EXPRESS	0x40
#define AT_SRIOV	0x140

static_assert(AT_SRIOV + PCI_EXT_CAP_SRIOV_SIZEOF <= sizeof_field(struct fuzz_func, bytes));

static void fuzz_remove(struct pci_dev *dev)
{
}

static const char *fuzz_keeps(struct pci_dev *pf)
{
	return NULL;
}

/* Who may have a Physical Function, beside nobody */
static struct pci_driver fuzz_stub = { .live_update = true };
static struct pci_driver fuzz_user = { .live_update = true, .remove = fuzz_remove };
static struct pci_driver fuzz_native = { .live_update_pf = fuzz_keeps, .remove = fuzz_remove };

/* --- sound topologies ---------------------------------------------------------------- */

static struct fuzz_func *fuzz_express(struct pci_bus *bus, unsigned int devfn)
{
	struct fuzz_func *f = &fz->func[fz->nr++];

	fuzz_func(f, bus, devfn, false);
	f->dev.cfg_size = PCI_CFG_SPACE_EXP_SIZE;
	f->dev.pcie_cap = AT_EXPRESS;
	put(f, PCI_STATUS, PCI_STATUS_CAP_LIST, 2);
	put(f, PCI_CAPABILITY_LIST, AT_EXPRESS, 1);
	put(f, AT_EXPRESS, PCI_CAP_ID_EXP, 2);
	return f;
}

/* On a bus of its own if it is not on its Physical Function's */
static void fuzz_vf(struct fuzz_func *pf, unsigned int index)
{
	struct fuzz_func *f = fuzz_express(pf->dev.bus, pci_iov_virtfn_devfn(&pf->dev, index));

	f->below.ops = &fuzz_ops;
	f->below.sysdata = fz->sysdata;
	f->below.parent = pf->dev.bus;
	f->below.number = pci_iov_virtfn_bus(&pf->dev, index);
	if (f->below.number != pf->dev.bus->number)
		f->dev.bus = &f->below;
	f->dev.is_virtfn = 1;
	f->dev.physfn = &pf->dev;
	f->dev.vendor = pf->dev.vendor;
	f->dev.device = pf->sriov.vf_device;
	f->dev.class = pf->sriov.class >> 8;
	put(f, PCI_VENDOR_ID, ~0U, 4);
	put(f, PCI_CLASS_REVISION, pf->sriov.class, 4);
	put(f, PCI_SUBSYSTEM_VENDOR_ID, pci_lu_vf_subsystem(&f->dev), 4);
}

static void fuzz_vf_bars(struct fuzz_func *f)
{
	struct pci_sriov *sriov = &f->sriov;

	for (int i = 0; i < PCI_SRIOV_NUM_BARS; i++) {
		struct resource *res = &f->dev.resource[pci_resource_num_from_vf_bar(i)];
		bool wide = i < PCI_SRIOV_NUM_BARS - 1 && any(2);
		u64 size = (u64)PAGE_SIZE << any(8), span = size * sriov->total_VFs;
		u64 start = ALIGN(fz->next_mem, size);

		if (any(3) || (!wide && start + span > SZ_2G * 2ULL))
			continue;
		fz->next_mem = start + span;
		put(f, AT_SRIOV + PCI_SRIOV_BAR + 4 * i,
		    start | (wide ? PCI_BASE_ADDRESS_MEM_TYPE_64 : 0), wide ? 8 : 4);
		*res = DEFINE_RES_NAMED(start, span, "fuzz", IORESOURCE_MEM |
					(wide ? IORESOURCE_MEM_64 : 0));
		res->parent = &fz->parent;
		sriov->barsz[i] = size;
		i += wide;
	}
}

/* As sriov_enable() leaves them */
static void fuzz_sriov_registers(struct fuzz_func *f)
{
	struct pci_sriov *sriov = &f->sriov;

	put(f, AT_SRIOV, 1 << 16 | PCI_EXT_CAP_ID_SRIOV, 4);
	put(f, AT_SRIOV + PCI_SRIOV_CTRL, sriov->ctrl, 2);
	put(f, AT_SRIOV + PCI_SRIOV_INITIAL_VF, sriov->total_VFs, 2);
	put(f, AT_SRIOV + PCI_SRIOV_TOTAL_VF, sriov->total_VFs, 2);
	put(f, AT_SRIOV + PCI_SRIOV_NUM_VF, sriov->num_VFs, 2);
	put(f, AT_SRIOV + PCI_SRIOV_FUNC_LINK, f->dev.devfn, 1);
	put(f, AT_SRIOV + PCI_SRIOV_VF_OFFSET, sriov->offset, 2);
	put(f, AT_SRIOV + PCI_SRIOV_VF_STRIDE, sriov->stride, 2);
	put(f, AT_SRIOV + PCI_SRIOV_VF_DID, sriov->vf_device, 2);
	put(f, AT_SRIOV + PCI_SRIOV_SYS_PGSIZE, PAGE_SIZE >> 12, 4);
}

/* A Physical Function, one of @nr that share the numbers up to the end of @last_bus */
static void fuzz_pf(struct pci_bus *bus, unsigned int devfn, unsigned int nr, u8 last_bus)
{
	struct pci_driver *drivers[] = { NULL, &fuzz_stub, &fuzz_user, &fuzz_native };
	struct fuzz_func *f = fuzz_express(bus, devfn);
	struct pci_sriov *sriov = &f->sriov;
	unsigned int room;

	f->dev.driver = drivers[any(ARRAY_SIZE(drivers))];
	f->dev.is_physfn = 1;
	f->dev.sriov = sriov;
	sriov->pos = AT_SRIOV;
	sriov->ctrl = PCI_SRIOV_CTRL_VFE | PCI_SRIOV_CTRL_MSE | (any(2) ? PCI_SRIOV_CTRL_ARI : 0);
	sriov->offset = nr * (4 + any(100)) + (last_bus > bus->number ? any(2) << 8 : 0);
	sriov->stride = nr * (1 + any(64));
	room = PCI_DEVID(last_bus - bus->number, 0xff) - devfn - sriov->offset;
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
	put(f, PCI_CFG_SPACE_SIZE, AT_SRIOV << 20 | 1 << 16 |
	    (any(2) ? PCI_EXT_CAP_ID_DSN : PCI_EXT_CAP_ID_ERR), 4);
	put(f, PCI_CFG_SPACE_SIZE + 4, prandom_u32_state(&fz->rnd), 8);
	fuzz_sriov_registers(f);
	fuzz_vf_bars(f);
	fuzz_bars(f);

	/* The first, of which is read what all have in common, and one or two others */
	fuzz_vf(f, 0);
	for (unsigned int i = 1 + any(3), n = 0; i < sriov->num_VFs && n < 2; n++) {
		fuzz_vf(f, i);
		i += 1 + any(sriov->num_VFs);
	}
}

/* One or two Physical Functions of a device */
static void fuzz_device(struct pci_bus *bus, unsigned int devfn, u8 last_bus)
{
	unsigned int nr = 1 + any(2);

	for (unsigned int i = 0; i < nr; i++)
		fuzz_pf(bus, devfn + i, nr, last_bus);
}

static struct fuzz_func *fuzz_port(struct pci_bus *bus, unsigned int devfn,
				   unsigned int secondary, unsigned int subordinate)
{
	struct fuzz_func *f = &fz->func[fz->nr++];

	fuzz_func(f, bus, devfn, true);
	fuzz_bridge(f, secondary, subordinate);
	return f;
}

/* Up to 30 functions: each before what is below it, and before its Virtual Functions */
static void fuzz_devices(void)
{
	unsigned int ports = 1 + any(2);

	fuzz_root();
	fz->nr = 0;
	if (!any(4))
		fuzz_device(&fz->root, PCI_DEVFN(3, 0), 0);

	for (unsigned int port = 1; port <= ports; port++) {
		unsigned int first = port * FUZZ_BUSES, last = first + any(3);
		struct fuzz_func *f = fuzz_port(&fz->root, PCI_DEVFN(port, 0), first,
						first + FUZZ_BUSES - 1);

		fuzz_device(&f->below, 0, last);
		if (any(2))
			continue;
		/* A bridge that is part of the same device, with another below it */
		f = fuzz_port(&f->below, PCI_DEVFN(0, 3), last + 1, last + 1 + any(4));
		fuzz_express(&f->below, 0);
	}
}

/* --- and unsound ones ---------------------------------------------------------------- */

static struct fuzz_func *fuzz_any(void)
{
	struct fuzz_func *f = &fz->func[any(fz->nr)];

	return f->dev.is_virtfn && any(2) ? container_of(f->dev.physfn, struct fuzz_func, dev) : f;
}

/* What a reset, or somebody with setpci, may do at any time */
static void fuzz_damage_sriov(void)
{
	struct fuzz_func *f = fuzz_any();
	int reg = AT_SRIOV + any(PCI_EXT_CAP_SRIOV_SIZEOF);

	switch (any(5)) {
	case 0:		/* a little later than in reset */
		memset(f->bytes, 0, sizeof(f->bytes));
		break;
	case 1:		/* after a reset */
		memset(f->bytes + AT_SRIOV + PCI_SRIOV_CTRL, 0, 2);
		memset(f->bytes + AT_SRIOV + PCI_SRIOV_NUM_VF, 0, 2);
		memset(f->bytes + AT_SRIOV + PCI_SRIOV_BAR, 0, 24);
		break;
	case 2:		/* back again while it is read */
		memset(f->bytes + ALIGN_DOWN(reg, 4), 0xff, 4);
		break;
	case 3:
		put(f, reg, any(256), 1);
		break;
	default:
		fuzz_damage_registers();
	}
}

/* ... and firmware, or who has a Physical Function, as long as nothing is preserved */
static void fuzz_damage_vfs(void)
{
	struct fuzz_func *f = fuzz_any();
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
		fuzz_damage_sriov();
		return;
	}

	switch (any(6)) {
	case 0:		/* there could be more of them than there are numbers for */
		sriov->max_VF_buses += any(2 * FUZZ_BUSES);
		break;
	case 1:		/* after a reset they are elsewhere, and it has been read where */
		sriov->offset += any(4);
		sriov->stride += any(4);
		fuzz_sriov_registers(f);
		break;
	case 2:		/* the first was in reset when it was asked what they have in common */
		sriov->class = any(2) ? ~0U : 0;
		sriov->subsystem_vendor = sriov->class;
		sriov->subsystem_device = sriov->class;
		break;
	case 3:
		sriov->num_VFs = 1 + any(64);
		sriov->driver_max_VFs = any(64);
		break;
	case 4:		/* resized, to what may not fit the address */
		if (sriov->barsz[i])
			sriov->barsz[i] = (resource_size_t)PAGE_SIZE << any(8);
		break;
	case 5:
		if (any(2))
			res->flags ^= BIT(any(32));
		else
			res->parent = NULL;
		break;
	}
}

/* A user may also give a Physical Function up, with or without Virtual Functions */
static void fuzz_touch_vfs(void)
{
	struct fuzz_func *f = fuzz_any();

	if (any(4) || !pci_lu_is_pf(f->dev.lu_outgoing) ||
	    !pci_lu_has_owner(f->dev.lu_outgoing)) {
		fuzz_damage_sriov();
		return;
	}
	/* As lu_disown() does */
	f->rec.flags &= ~PCI_LIVEUPDATE_F_ENDPOINT;
	f->rec.dma = 0;
	fuzz_path_put(&f->dev, NULL);
}

/* Is there anybody who asks for it, and is not told that he must not? */
static bool fuzz_is_wanted(struct pci_dev *dev)
{
	if (!fuzz_is_device(dev) || (dev->is_physfn && dev->driver != &fuzz_user))
		return false;
	return any(5) && !pci_lu_refusal(dev, PCI_LU_FREEZE);
}

/* --- the incoming kernel ------------------------------------------------------------- */

/* As pci_read_vf_config_common() does, of the first, which need not be preserved */
static void fuzz_adopt(struct fuzz_func *f)
{
	unsigned long key = pci_lu_key(pci_domain_nr(f->dev.bus), pci_dev_id(&f->dev));
	struct pci_lu_incoming in = { .rec = &f->rec, .iov = &f->iov };
	u32 subsystem = get(f + 1, PCI_SUBSYSTEM_VENDOR_ID);
	struct pci_sriov *sriov = &f->sriov;

	sriov->vf_device = f->iov.iov.vf_device;
	sriov->class = get(f + 1, PCI_CLASS_REVISION);
	sriov->hdr_type = get(f + 1, PCI_HEADER_TYPE);
	sriov->subsystem_vendor = subsystem;
	sriov->subsystem_device = subsystem >> 16;

	/* For this one call it is incoming */
	f->dev.lu_incoming = &in;
	if (!xa_insert(&pci_lu_entries, key, &in, GFP_KERNEL)) {
		__pci_liveupdate_vf_config(&f->dev);
		xa_erase(&pci_lu_entries, key);
	}
	f->dev.lu_incoming = NULL;
}

/* Of a Virtual Function, enumeration reads little but where its capabilities are */
static const char *fuzz_vf_is_found(struct fuzz_func *f)
{
	struct pci_dev *dev = &f->dev;
	struct pci_sriov *sriov = dev->physfn->sriov;

	dev->vendor = dev->physfn->vendor;
	dev->device = sriov->vf_device;
	dev->class = sriov->class >> 8;
	dev->hdr_type = sriov->hdr_type & PCI_HEADER_TYPE_MASK;
	dev->pcie_cap = pci_find_capability(dev, PCI_CAP_ID_EXP);
	return pci_lu_record_mismatch(dev, &f->rec);
}

/* As pci_lu_incoming_has_buses() finds out for a bridge, also if that has no record */
static bool fuzz_takes_buses(struct fuzz_func *f)
{
	for (unsigned int i = 0; i < fz->nr; i++) {
		struct pci_bus *bus = fz->func[i].dev.subordinate;

		if (bus && bus->parent == f->dev.bus && bus->number <= f->iov.iov.last_bus &&
		    bus->busn_res.end > f->dev.bus->number)
			return true;
	}
	return false;
}

static const char *fuzz_any_is_found(struct fuzz_func *f)
{
	const char *why = f->dev.is_virtfn ? fuzz_vf_is_found(f) : fuzz_is_found(f);

	if (why || !pci_lu_is_pf(&f->rec))
		return why;
	fuzz_adopt(f);
	if (fuzz_takes_buses(f))
		return "bus numbers that a bridge loses";
	return pci_lu_iov_mismatch(&f->dev, &f->iov);
}

/* --- rounds -------------------------------------------------------------------------- */

/* Virtual Functions that both kernels accept */
static struct {
	unsigned int users;		/* whose Physical Function is preserved for itself, too */
	unsigned int others;		/* whose is kept for them alone */
	unsigned int far;		/* of both, those on another bus than it */
} fuzz_vfs;

static void fuzz_count_vfs(void)
{
	for (unsigned int i = 0; i < fz->nr; i++) {
		struct pci_dev *dev = &fz->func[i].dev;

		if (!dev->is_virtfn || !dev->lu_outgoing)
			continue;
		if (pci_lu_has_owner(dev->physfn->lu_outgoing))
			fuzz_vfs.users++;
		else
			fuzz_vfs.others++;
		fuzz_vfs.far += dev->bus != dev->physfn->bus;
	}
}

static void lu_fuzz_vfs(struct kunit *test)
{
	static const struct fuzz_kind kind = {
		.vfs = true,
		.topology = fuzz_devices,
		.damage = fuzz_damage_vfs,
		.touch = fuzz_touch_vfs,
		.wanted = fuzz_is_wanted,
		.found = fuzz_any_is_found,
		.accepted = fuzz_count_vfs,
	};

	/* Of which each takes three times as long as a tree of other functions */
	memset(&fuzz_vfs, 0, sizeof(fuzz_vfs));
	fuzz_run(test, &kind, fuzz_rounds / 8);
	kunit_info(test, "%u Virtual Functions accepted, %u on another bus, %u of a user\n",
		   fuzz_vfs.users + fuzz_vfs.others, fuzz_vfs.far, fuzz_vfs.users);
	/* It has not passed because there were none */
	KUNIT_EXPECT_GT(test, fuzz_vfs.users, 0);
	KUNIT_EXPECT_GT(test, fuzz_vfs.others, 0);
	KUNIT_EXPECT_GT(test, fuzz_vfs.far, 0);
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
