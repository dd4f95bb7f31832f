// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit: what the outgoing kernel hands over, the incoming one accepts, whatever
 * the registers say.
 *
 * Topologies are made up, sound ones at first, then registers and what the kernel
 * knows of them are changed at random: as a reset, a careless setpci, firmware or
 * a quirk could. Devices are preserved the way outgoing.c does it. Then registers
 * are changed once more, or not, before the kexec is asked for. Everything that all
 * this accepts is given to the code of the incoming kernel, which must not refuse.
 *
 * fuzz_iov_test.c, which has all of this in it, goes on with Virtual Functions.
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
#define MODULE_PARAM_PREFIX "pci_liveupdate_fuzz."

/* With all the checks of a debug kernel on, fewer do, in the same time */
static unsigned int fuzz_rounds = IS_ENABLED(CONFIG_KASAN) ? 20000 : 100000;
module_param_named(rounds, fuzz_rounds, uint, 0400);
MODULE_PARM_DESC(rounds, "how many topologies");

static u64 fuzz_seed;
module_param_named(seed, fuzz_seed, ullong, 0400);
MODULE_PARM_DESC(seed, "of the first of them, 0 for one that nobody has had yet");

#define FUZZ_FUNCS	32
#define FUZZ_TREE	8	/* functions of a topology without Virtual Functions, at most */
#define FUZZ_BUSES	16	/* below a root port, at most */

/**
 * struct fuzz_func - a function and, if it is a bridge, the bus below it
 * @bytes: its configuration space; what follows reads as zero
 * @dev:   what the kernel knows of it
 * @below: the bus below
 * @rec:   its record
 * @sriov: what the kernel knows of its Virtual Functions
 * @iov:   the record of these
 */
struct fuzz_func {
	u8 bytes[PCI_CFG_SPACE_SIZE + SZ_128];
	struct pci_dev dev;
	struct pci_bus below;
	struct pci_liveupdate_record_ser rec;
	struct pci_sriov sriov;
	struct pci_liveupdate_record_ser iov;
};

/**
 * struct fuzz_kind - of topologies
 * @vfs:      they have Virtual Functions, and a control is without the checks of these
 * @topology: makes up a sound one
 * @damage:   damages it, as long as nothing is preserved
 * @touch:    ... and then
 * @wanted:   is there anybody who asks for this function to be preserved?
 * @found:    what the next kernel finds wrong with a function that is preserved
 * @accepted: told of each one that it takes on; may be NULL
 */
struct fuzz_kind {
	bool vfs;
	void (*topology)(void);
	void (*damage)(void);
	void (*touch)(void);
	bool (*wanted)(struct pci_dev *dev);
	const char *(*found)(struct fuzz_func *f);
	void (*accepted)(void);
};

static struct fuzz {
	struct rnd_state rnd;
	u64 sysdata[8];			/* an architecture's; x86 has the domain in it */
	struct pci_host_bridge host;
	struct pci_bus root;
	struct resource parent;
	u64 next_mem, next_io;
	unsigned int nr;
	struct fuzz_func func[FUZZ_FUNCS];
	struct pci_liveupdate_header_ser header;
	struct pci_liveupdate_record_ser *slots[2 * FUZZ_FUNCS];
} *fz;

static struct fuzz_func *fuzz_find(struct pci_bus *bus, unsigned int devfn)
{
	for (unsigned int i = 0; i < fz->nr; i++)
		if (fz->func[i].dev.bus == bus && fz->func[i].dev.devfn == devfn)
			return &fz->func[i];
	return NULL;
}

static int fuzz_read(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 *val)
{
	*val = 0;
	if (where + size <= sizeof(fz->func->bytes))
		memcpy(val, fuzz_find(bus, devfn)->bytes + where, size);
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

/* A BAR as enumeration leaves it; returns how many registers it takes */
static int fuzz_bar(struct fuzz_func *f, int i, int last)
{
	struct resource *res = &f->dev.resource[i];
	bool io = !any(4), wide = !io && i < last && any(2);
	u64 size = io ? 4ULL << any(7) : 16ULL << any(wide ? 36 : 24);
	u64 *next = io ? &fz->next_io : &fz->next_mem;
	u64 start = ALIGN(*next, size);

	if (!wide && !io && start + size > SZ_2G * 2ULL)
		return 1;
	*next = start + size;
	put(f, PCI_BASE_ADDRESS_0 + 4 * i,
	    start | (io ? 1 : wide ? PCI_BASE_ADDRESS_MEM_TYPE_64 | any(2) << 3 : any(2) << 3),
	    wide ? 8 : 4);
	*res = DEFINE_RES_NAMED(start, size, "fuzz", io ? IORESOURCE_IO :
				wide ? IORESOURCE_MEM | IORESOURCE_MEM_64 : IORESOURCE_MEM);
	res->parent = any(8) ? &fz->parent : NULL;
	return wide ? 2 : 1;
}

static void fuzz_func(struct fuzz_func *f, struct pci_bus *bus, unsigned int devfn, bool bridge)
{
	memset(f, 0, sizeof(*f));
	f->dev.bus = bus;
	list_add_tail(&f->dev.bus_list, &bus->devices);
	f->dev.devfn = devfn;
	f->dev.cfg_size = PCI_CFG_SPACE_SIZE;
	f->dev.hdr_type = bridge ? PCI_HEADER_TYPE_BRIDGE : PCI_HEADER_TYPE_NORMAL;
	f->dev.vendor = any(0xffff);
	f->dev.device = any(0x10000);
	f->dev.class = bridge ? PCI_CLASS_BRIDGE_PCI_NORMAL : any(0x1000000);
	put(f, PCI_VENDOR_ID, (u64)f->dev.device << 16 | f->dev.vendor, 4);
	put(f, PCI_CLASS_REVISION, f->dev.class << 8 | any(256), 4);
	if (!bridge)
		put(f, PCI_SUBSYSTEM_VENDOR_ID, prandom_u32_state(&fz->rnd), 4);
}

static void fuzz_bars(struct fuzz_func *f)
{
	bool bridge = f->dev.hdr_type == PCI_HEADER_TYPE_BRIDGE;
	int last = bridge ? 1 : PCI_STD_NUM_BARS - 1;

	for (int i = 0; i <= last; i++)
		if (any(2))
			i += fuzz_bar(f, i, last) - 1;
	if (any(2)) {
		f->dev.rom_base_reg = bridge ? PCI_ROM_ADDRESS1 : PCI_ROM_ADDRESS;
		f->dev.resource[PCI_ROM_RESOURCE] =
			DEFINE_RES_NAMED(0, SZ_2K << any(8), "fuzz ROM", IORESOURCE_MEM);
	}
}

static void fuzz_bridge(struct fuzz_func *f, unsigned int secondary, unsigned int subordinate)
{
	put(f, PCI_PRIMARY_BUS, f->dev.bus->number | secondary << 8 | subordinate << 16, 4);
	f->dev.subordinate = &f->below;
	INIT_LIST_HEAD(&f->below.devices);
	f->below.ops = &fuzz_ops;
	f->below.sysdata = fz->sysdata;
	f->below.parent = f->dev.bus;
	f->below.self = &f->dev;
	f->below.number = secondary;
	f->below.busn_res.start = secondary;
	f->below.busn_res.end = subordinate;
	f->dev.io_window = any(2);
	f->dev.pref_window = any(2);
	f->dev.pref_64_window = any(2);
}

static void fuzz_root(void)
{
	fz->root.ops = &fuzz_ops;
	fz->root.sysdata = fz->sysdata;
	fz->root.bridge = &fz->host.dev;
	INIT_LIST_HEAD(&fz->root.devices);
	INIT_LIST_HEAD(&fz->host.windows);
	fz->root.busn_res.end = 0xff;
	fz->next_mem = SZ_1M;
	fz->next_io = 0x1000;
}

/* Root ports with FUZZ_BUSES bus numbers each, switches and devices below them */
static void fuzz_tree(void)
{
	unsigned int free_bus[FUZZ_TREE];	/* next number below each bridge */

	fuzz_root();
	fz->nr = 2 + any(FUZZ_TREE - 1);
	for (unsigned int i = 0; i < fz->nr; i++) {
		struct fuzz_func *f = &fz->func[i];
		unsigned int up = any(i + 1);
		struct fuzz_func *above = up < i && fz->func[up].dev.subordinate ?
					  &fz->func[up] : NULL;
		bool bridge = any(2);

		fuzz_func(f, above ? &above->below : &fz->root, PCI_DEVFN(i, 0), bridge);
		fuzz_bars(f);
		if (!bridge)
			continue;
		if (!above) {
			free_bus[i] = 1 + i * FUZZ_BUSES;
			fuzz_bridge(f, free_bus[i], free_bus[i] + FUZZ_BUSES - 1);
		} else {
			unsigned int room = above->below.busn_res.end - free_bus[up];
			unsigned int size = room / 2;

			if (!size) {
				f->dev.hdr_type = PCI_HEADER_TYPE_NORMAL;
				f->dev.rom_base_reg = 0;
				continue;
			}
			free_bus[i] = free_bus[up] + 1;
			fuzz_bridge(f, free_bus[i], free_bus[up] + size);
			free_bus[up] += size;
		}
	}
}

/* What a reset, or somebody with setpci, may do at any time */
static void fuzz_damage_registers(void)
{
	struct fuzz_func *f = &fz->func[any(fz->nr)];

	switch (any(6)) {
	case 0:		/* in reset, or gone */
		memset(f->bytes, 0xff, sizeof(f->bytes));
		break;
	case 1:		/* after a reset */
		memset(f->bytes + PCI_BASE_ADDRESS_0, 0, 24);
		break;
	case 2:		/* back again while it is read */
		memset(f->bytes + 4 * any(16), 0xff, 4);
		break;
	case 3:
		put(f, any(PCI_STD_HEADER_SIZEOF), any(256), 1);
		break;
	case 4:
		put(f, PCI_BASE_ADDRESS_0 + 4 * any(6), prandom_u32_state(&fz->rnd), 4);
		break;
	case 5:
		put(f, PCI_PRIMARY_BUS + any(3), any(256), 1);
		break;
	}
}

/*
 * ... and firmware, or a quirk, as long as nothing is preserved: what the kernel knows of
 * a function is held from then on
 */
static void fuzz_damage(void)
{
	struct fuzz_func *f = &fz->func[any(fz->nr)], *other = &fz->func[any(fz->nr)];
	struct resource *res = &f->dev.resource[any(PCI_STD_NUM_BARS)];

	switch (any(11)) {
	case 0:		/* Linux lives with ranges that reach beyond what is above */
		if (f->dev.subordinate) {
			f->bytes[PCI_SUBORDINATE_BUS] += any(64);
			f->below.busn_res.end = f->bytes[PCI_SUBORDINATE_BUS];
		}
		break;
	case 1:		/* and with those that lie upon others */
		if (f->dev.subordinate && other->dev.subordinate) {
			f->below.number = other->below.number + any(3);
			f->below.busn_res.start = f->below.number;
			f->below.busn_res.end = other->below.busn_res.end;
			put(f, PCI_SECONDARY_BUS, f->below.number, 1);
			put(f, PCI_SUBORDINATE_BUS, f->below.busn_res.end, 1);
		}
		break;
	case 2:
		*res = other->dev.resource[any(PCI_STD_NUM_BARS)];
		break;
	case 3:
		res->end += any(0x10000);
		break;
	case 4:
		res->flags ^= BIT(any(32));
		break;
	default:
		fuzz_damage_registers();
	}
}

static bool fuzz_is_device(struct pci_dev *dev)
{
	return dev->hdr_type == PCI_HEADER_TYPE_NORMAL;
}

/* As lu_take() and lu_pf_get() do; with @blindly, as they did once */
static const char *fuzz_take(struct fuzz_func *f, bool vfs, bool blindly)
{
	const char *why = NULL;

	if (blindly && !vfs) {
		pci_lu_record_fill(&f->dev, &f->rec);
		f->rec.use_count = 1;
	} else {
		why = pci_lu_record_take(&f->dev, &f->rec);
	}
	if (why || !pci_lu_is_pf(&f->rec))
		return why;
	*pci_lu_iov_slot(&f->dev) = &f->iov;
	why = pci_lu_iov_take(&f->dev, &f->iov) ?:
	      pci_lu_record_check(&f->iov, PCI_LIVEUPDATE_ABI_VERSION);
	return blindly ? NULL : why;
}

static void fuzz_drop(struct fuzz_func *f)
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
			fuzz_drop(container_of(dev, struct fuzz_func, dev));
}

/* As lu_path_get() does; returns why not */
static const char *fuzz_preserve(struct pci_dev *dev, bool vfs, bool blindly)
{
	for (struct pci_dev *it = dev; it; it = pci_lu_up(it)) {
		struct fuzz_func *f = container_of(it, struct fuzz_func, dev);
		const char *why;

		if (it->lu_outgoing) {
			f->rec.use_count++;
			continue;
		}
		why = fuzz_take(f, vfs, blindly);
		if (why) {
			fuzz_drop(f);
			fuzz_path_put(dev, it);
			return why;
		}
		it->lu_outgoing = &f->rec;
	}
	dev->lu_outgoing->flags |= PCI_LIVEUPDATE_F_ENDPOINT;
	dev->lu_outgoing->dma = any(PCI_LIVEUPDATE_DMA_TRANSLATED);
	return NULL;
}

/* What both kernels ask of what is handed over, in a version; NULL if they are content */
static const char *fuzz_check(u32 version)
{
	struct pci_lu_error err;
	unsigned int nr = 0;

	for (unsigned int i = 0; i < 2 * fz->nr; i++) {
		struct fuzz_func *f = &fz->func[i / 2];
		struct pci_liveupdate_record_ser *rec = i % 2 ? &f->iov : &f->rec;

		if (!pci_lu_slot_is_free(rec))
			fz->slots[nr++] = rec;
	}
	fz->header = (struct pci_liveupdate_header_ser) {
		.version = version,
		.record_size = sizeof(struct pci_liveupdate_record_ser),
		.nr_records = nr,
		.records = PAGE_SIZE,
	};
	if (pci_lu_header_check(&fz->header, &err) ||
	    pci_lu_records_check(&fz->header, fz->slots, nr, &err))
		return err.why ?: "no memory";
	return NULL;
}

/* The oldest version that can say all of this, which is the one that is written */
static u32 fuzz_version(void)
{
	u32 version = PCI_LIVEUPDATE_ABI_OLDEST;

	for (unsigned int i = 0; i < fz->nr; i++) {
		struct fuzz_func *f = &fz->func[i];

		if (f->dev.lu_outgoing)
			version = max(version, pci_lu_abi_of(&f->rec));
	}
	return version;
}

/*
 * What freeze asks of the hardware, of which something may be gone by then, and of the set;
 * NULL if it lets all of it pass.
 */
static const char *fuzz_freeze(bool blindly)
{
	for (unsigned int i = 0; i < fz->nr; i++) {
		struct pci_dev *dev = &fz->func[i].dev;
		const struct pci_lu_refusal *refusal = NULL;
		const char *why;

		if (!dev->lu_outgoing || pci_lu_is_gone(dev))
			continue;
		if (pci_lu_has_owner(dev->lu_outgoing))
			refusal = pci_lu_refusal(dev, PCI_LU_FREEZE);
		why = refusal ? refusal->reason : pci_lu_record_changed(dev, dev->lu_outgoing);
		if (!why && pci_lu_is_pf(dev->lu_outgoing) && !blindly)
			why = pci_lu_iov_changed(dev);
		if (why)
			return why;
	}
	return blindly ? NULL : fuzz_check(fuzz_version());
}

static const char *fuzz_is_found(struct fuzz_func *f)
{
	/* A Primary Bus Number that is hard-wired to 0 is mended by the scan */
	struct pci_lu_bridge_view view = {
		.held = true,
		.bus = f->dev.bus->number,
		.primary = f->bytes[PCI_PRIMARY_BUS] ?: f->dev.bus->number,
		.secondary = f->bytes[PCI_SECONDARY_BUS],
		.subordinate = f->bytes[PCI_SUBORDINATE_BUS],
	};
	const char *why;

	/* Enumeration reads it anew */
	f->dev.vendor = get(f, PCI_VENDOR_ID);
	f->dev.device = get(f, PCI_VENDOR_ID) >> 16;
	f->dev.class = get(f, PCI_CLASS_REVISION) >> 8;
	why = pci_lu_record_mismatch(&f->dev, &f->rec);
	if (!why && f->dev.subordinate && pci_lu_judge_buses(&view) != PCI_LU_BUSES_KEEP)
		why = "bus numbers that are not kept";
	return why;
}

/* All that the next kernel asks; NULL if it is content */
static const char *fuzz_incoming(const struct fuzz_kind *kind)
{
	const char *why = NULL;

	/* In each version from that which all of this takes on */
	for (u32 version = fuzz_version(); !why && version <= PCI_LIVEUPDATE_ABI_VERSION;
	     version++)
		why = fuzz_check(version);

	/* What is gone is missed, and nothing else comes of it */
	for (unsigned int i = 0; !why && i < fz->nr; i++)
		if (fz->func[i].dev.lu_outgoing && !pci_lu_is_gone(&fz->func[i].dev))
			why = kind->found(&fz->func[i]);
	return why;
}

struct fuzz_count {
	unsigned int preserved;
	unsigned int refused;
	unsigned int held_back;		/* topologies that freeze refuses */
	unsigned int rightly;		/* of these, the next kernel would, too */
	unsigned int stopped;
};

/* The next to look for a capability has to read */
static void fuzz_forget_capabilities(void)
{
	for (unsigned int i = 0; i < fz->nr; i++)
		pci_forget_capabilities(&fz->func[i].dev);
}

static void fuzz_round(struct kunit *test, const struct fuzz_kind *kind, u64 seed, bool blindly,
		       struct fuzz_count *count)
{
	const char *why, *held_back = NULL, *refused = NULL;
	bool damaged, touched;

	prandom_seed_state(&fz->rnd, seed);
	kind->topology();
	damaged = any(8);
	for (unsigned int i = 0, nr = damaged ? 1 + any(3) : 0; i < nr; i++)
		kind->damage();

	for (unsigned int i = 0; i < fz->nr; i++) {
		if (!kind->wanted(&fz->func[i].dev))
			continue;
		why = fuzz_preserve(&fz->func[i].dev, kind->vfs, blindly);
		count->preserved += !why;
		count->refused += !!why;
		refused = refused ?: why;
	}

	/* Between preserve and the kexec */
	touched = !any(4);
	for (unsigned int i = 0, nr = touched ? 1 + any(2) : 0; i < nr; i++)
		kind->touch();
	fuzz_forget_capabilities();
	if (!blindly || kind->vfs)
		held_back = fuzz_freeze(blindly);

	fuzz_forget_capabilities();
	why = fuzz_incoming(kind);
	fuzz_forget_capabilities();
	if (held_back) {
		count->held_back++;
		count->rightly += !!why;
	} else if (why) {
		count->stopped++;
		if (!blindly)
			KUNIT_FAIL(test, "seed %llu is accepted here and stops the next kernel: %s",
				   seed, why);
	} else if (kind->accepted) {
		kind->accepted();
	}
	if (!damaged)
		KUNIT_EXPECT_NULL_MSG(test, refused, "seed %llu is sound and is refused: %s",
				      seed, refused);
	if (!touched)
		KUNIT_EXPECT_NULL_MSG(test, held_back,
				      "seed %llu is as it was preserved, and is held back: %s",
				      seed, held_back);
	cond_resched();
}

static void fuzz_run(struct kunit *test, const struct fuzz_kind *kind, unsigned int rounds)
{
	u64 seed = fuzz_seed ?: get_random_u32();
	struct fuzz_count count = {}, blind = {};

	fz = kunit_kzalloc(test, sizeof(*fz), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, fz);
	kunit_info(test, "pci_liveupdate_fuzz.seed=%llu, %u topologies\n", seed, rounds);

	for (unsigned int i = 0; i < rounds && test->status == KUNIT_SUCCESS; i++)
		fuzz_round(test, kind, seed + i, false, &count);
	kunit_info(test, "%u devices preserved, %u refused\n", count.preserved, count.refused);
	kunit_info(test, "%u topologies held back, %u of which the next kernel would refuse\n",
		   count.held_back, count.rightly);
	KUNIT_EXPECT_GT(test, count.preserved, count.refused);
	KUNIT_EXPECT_GT(test, count.refused, rounds / 20);
	KUNIT_EXPECT_GT(test, count.rightly, rounds / 100);

	/* Control: without the checks there is something for the next kernel to find */
	for (unsigned int i = 0; i < rounds / 10; i++)
		fuzz_round(test, kind, seed + i, true, &blind);
	kunit_info(test, "control: %u of %u topologies stop the next kernel\n", blind.stopped,
		   rounds / 10);
	KUNIT_EXPECT_GT(test, blind.stopped, 0);
}

static void lu_fuzz(struct kunit *test)
{
	static const struct fuzz_kind tree = {
		.topology = fuzz_tree,
		.damage = fuzz_damage,
		.touch = fuzz_damage_registers,
		.wanted = fuzz_is_device,
		.found = fuzz_is_found,
	};

	fuzz_run(test, &tree, fuzz_rounds);
}

static struct kunit_case lu_fuzz_cases[] = {
	KUNIT_CASE_SLOW(lu_fuzz),
	{}
};

static struct kunit_suite lu_fuzz_suite = {
	.name		= "pci_liveupdate_fuzz",
	.test_cases	= lu_fuzz_cases,
};

kunit_test_suite(lu_fuzz_suite);
