// SPDX-License-Identifier: GPL-2.0

#include <dirent.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../../lib/include/pcilu.h"
#include "../../../lib/src/path.h"
#include "device.h"
#include "holders.h"
#include "json.h"
#include "kconfig.h"

/* What is the same for all functions: looked up once */
struct platform {
	bool feature_known;
	bool feature;
	bool enabled;
	bool always_pauses; /* an IOMMU that the next kernel may switch on */
	bool can_freeze; /* one whose page tables are handed over */
};

struct probe {
	const struct platform *platform;
	const struct device *dev;
};

char *device_attr(const char *bdf, const char *attribute)
{
	autofree char *path =
		path_of("/sys/bus/pci/devices/%s/%s", bdf, attribute);
	char *line = NULL;

	return path && path_line(path, &line) >= 0 ? line : NULL;
}

char *device_link(const char *bdf, const char *link)
{
	autofree char *path = path_of("/sys/bus/pci/devices/%s/%s", bdf, link);
	char target[PATH_MAX];
	const char *slash;
	ssize_t n;

	if (!path)
		return NULL;
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return NULL;
	target[n] = '\0';
	slash = strrchr(target, '/');
	return strdup(slash ? slash + 1 : target);
}

/* --- what is in the way ----------------------------------------------------- */

static int header_type(const struct probe *p)
{
	return pci_read_byte(p->dev->pci, PCI_HEADER_TYPE) & 0x7f;
}

static bool no_feature(const struct probe *p)
{
	return p->platform->feature_known && !p->platform->feature;
}

static bool not_enabled(const struct probe *p)
{
	return !no_feature(p) && !p->platform->enabled;
}

static bool is_bridge(const struct probe *p)
{
	return header_type(p) == PCI_HEADER_TYPE_BRIDGE;
}

static bool is_cardbus(const struct probe *p)
{
	return header_type(p) == PCI_HEADER_TYPE_CARDBUS;
}

bool device_is_virtual_function(const struct device *dev)
{
	autofree char *pf = device_link(dev->bdf, "physfn");

	return pf != NULL;
}

/* Kernels that do not say what they refuse refuse all of them */
static bool is_virtual_function(const struct probe *p)
{
	return !p->dev->told && device_is_virtual_function(p->dev);
}

/* The same: others keep what its user preserves, with them */
static bool has_virtual_functions(const struct probe *p)
{
	autofree char *n = device_attr(p->dev->bdf, "sriov_numvfs");

	return !p->dev->told && n && strcmp(n, "0") != 0;
}

static bool has_page_requests(const struct probe *p)
{
	struct pci_cap *cap =
		pci_find_cap(p->dev->pci, PCI_EXT_CAP_ID_PRI, PCI_CAP_EXTENDED);

	return cap && (pci_read_word(p->dev->pci, cap->addr + PCI_PRI_CTRL) &
		       PCI_PRI_CTRL_ENABLE);
}

static bool is_asleep(const struct probe *p)
{
	autofree char *power = device_attr(p->dev->bdf, "power_state");

	return power && strcmp(power, "D0") != 0 &&
	       strcmp(power, "unknown") != 0;
}

/*
 * Domains that a driver made, as VMD does, come after the firmware's: a guess, for
 * kernels that do not tell.
 */
static bool has_other_host(const struct probe *p)
{
	return !p->dev->told && p->dev->pci->domain > 0xffff;
}

static bool has_other_driver(const struct probe *p)
{
	return !is_bridge(p) &&
	       (!p->dev->driver || strcmp(p->dev->driver, "vfio-pci") != 0);
}

static bool has_no_cdev(const struct probe *p)
{
	return p->dev->driver && !strcmp(p->dev->driver, "vfio-pci") &&
	       !p->dev->cdev;
}

/* The kernel hands over what was opened through its own file only */
static bool is_open_by_group(const struct probe *p)
{
	return p->dev->by_group;
}

/*
 * All ones: it is off, gone, or behind a link that is down. The IDs of a Virtual
 * Function always are (PCIe r6.0, sec 9.3.4.1).
 */
static bool does_not_answer(const struct probe *p)
{
	int reg = device_is_virtual_function(p->dev) ? PCI_CLASS_REVISION :
						       PCI_VENDOR_ID;

	return pci_read_long(p->dev->pci, reg) == 0xffffffff;
}

/* Extended registers are there and cannot be reached, so nothing of them is kept */
static bool has_short_config(const struct probe *p)
{
	autofree char *path =
		path_of("/sys/bus/pci/devices/%s/config", p->dev->bdf);
	struct stat st;

	return !p->dev->told &&
	       pci_find_cap(p->dev->pci, PCI_CAP_ID_EXP, PCI_CAP_NORMAL) &&
	       path && !stat(path, &st) && st.st_size <= 256;
}

static bool is_unfinished(const struct probe *p)
{
	return p->dev->state == PCILU_STATE_INCOMING ||
	       p->dev->state == PCILU_STATE_CLAIMED ||
	       p->dev->state == PCILU_STATE_LOST ||
	       p->dev->state == PCILU_STATE_DEAD;
}

static bool feature_unknown(const struct probe *p)
{
	return !p->platform->feature_known;
}

struct rule {
	bool (*test)(const struct probe *p);
	struct blocker blocker;
};

static const struct rule blockers[] = {
	{ no_feature,
	  { "no-feature", "this kernel has no PCI Live Update",
	    "boot a kernel with CONFIG_PCI_LIVEUPDATE=y" } },
	{ not_enabled,
	  { "not-enabled", "Live Update is switched off",
	    "boot with kho=on liveupdate=on" } },
	{ is_bridge,
	  { "bridge", "it is a bridge",
	    "preserve the devices below it, bridges follow" } },
	{ is_cardbus,
	  { "cardbus", "CardBus bridges cannot be preserved",
	    "none, use another slot" } },
	{ is_virtual_function,
	  { "virtual-function", "this kernel does not keep Virtual Functions",
	    "use a device of its own, or a newer kernel" } },
	{ has_virtual_functions,
	  { "sriov", "it has Virtual Functions enabled",
	    "preserve these, or write 0 to its sriov_numvfs" } },
	{ has_page_requests,
	  { "page-requests", "page requests (PRI) are enabled",
	    "detach it from its shared address spaces" } },
	{ has_other_host,
	  { "host-bridge", "its host bridge has a driver of its own kind",
	    "use a device below an ACPI or generic ECAM host bridge" } },
	{ has_short_config,
	  { "short-config", "its extended configuration space cannot be read",
	    "boot without pci=nommconf" } },
	{ does_not_answer,
	  { "dead", "it does not answer", "check the slot, or reset it" } },
	{ is_open_by_group,
	  { "group", "it was opened through its group",
	    "open it in /dev/vfio/devices" } },
	{ is_unfinished,
	  { "unfinished", "it is not finished from the last live update",
	    "let its owner retrieve and finish its session" } },
	{ is_asleep,
	  { "asleep", "it is not in D0",
	    "open it, or write on to its power/control" } },
	{ has_other_driver,
	  { "driver", "its driver cannot hand it over", "pcilu bind" } },
	{ has_no_cdev,
	  { "no-cdev", "it has no VFIO device file",
	    "use a kernel with CONFIG_VFIO_DEVICE_CDEV=y" } },
};

static const struct rule warnings[] = {
	{ feature_unknown,
	  { "feature-unknown",
	    "the kernel's configuration is nowhere to be found",
	    "install /boot/config-RELEASE or use CONFIG_IKCONFIG_PROC=y" } },
};

static int apply(const struct rule *rule, size_t n, const struct probe *p,
		 const struct blocker **out)
{
	int found = 0;
	size_t i;

	for (i = 0; i < n && found < BLOCKERS_MAX; i++)
		if (rule[i].test(p))
			out[found++] = &rule[i].blocker;
	return found;
}

/* "none", or "REASON; REMEDY" as the kernel would refuse it now */
static void ask_kernel(struct device *dev)
{
	char *remedy;

	dev->told = device_attr(dev->bdf, "liveupdate/refusal");
	/* Of what is preserved it says just that */
	if (!dev->told || !strcmp(dev->told, "none") ||
	    dev->state == PCILU_STATE_PRESERVED)
		return;
	remedy = strstr(dev->told, "; ");
	if (remedy) {
		*remedy = '\0';
		remedy += 2;
	}
	dev->refusal = (struct blocker){ "kernel", dev->told,
					 remedy ? remedy :
						  "look at the kernel's log" };
}

/* --- the scan ---------------------------------------------------------------- */

static bool exists(const char *path)
{
	autofree char *full = path_of("%s", path);

	return full && !access(full, F_OK);
}

static void look_at_platform(struct platform *platform)
{
	/* ACPI tables of IOMMUs that make the kernel pause every device */
	static const char *const tables[] = { "IVRS", "IORT", "VIOT", "RIMT" };
	autofree char *config = kconfig_running();
	char path[64];
	size_t i;

	platform->feature_known = config != NULL;
	platform->feature = config &&
			    kconfig_is(config, "CONFIG_PCI_LIVEUPDATE", "y");
	platform->enabled = exists("/dev/liveupdate");
	/* VT-d, whose page tables the kernel hands over */
	platform->can_freeze = exists("/sys/firmware/acpi/tables/DMAR");
	for (i = 0; i < ARRAY_SIZE(tables); i++) {
		snprintf(path, sizeof(path), "/sys/firmware/acpi/tables/%s",
			 tables[i]);
		platform->always_pauses |= exists(path);
	}
}

static char *find_cdev(const char *bdf)
{
	autofree char *path = path_of("/sys/bus/pci/devices/%s/vfio-dev", bdf);
	autoclosedir DIR *d = path ? opendir(path) : NULL;
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.')
			return strdup(e->d_name);
	return NULL;
}

/* What the kernel will decide at preserve time, as far as it can be seen */
static const char *dma_verdict(const struct device *dev,
			       const struct platform *platform)
{
	autofree char *group = device_link(dev->bdf, "iommu_group");
	autofree char *told = device_attr(dev->bdf, "liveupdate/dma");

	/* The kernel tells of what is preserved; before that we see what it sees */
	if (told &&
	    (!strcmp(told, "untranslated") || !strcmp(told, "translated")))
		return "goes on";
	if (told && !strncmp(told, "paused", 6))
		return "paused";
	if (platform->always_pauses)
		return "paused";
	if (!group || (dev->cdev && !strncmp(dev->cdev, "noiommu-", 8)))
		return "goes on";
	/* What its owner has mapped for it decides, and that is not to be seen */
	return platform->can_freeze ? "unknown" : "paused";
}

/* It has DMA that somebody has decided about, or it is kept for others */
static bool is_kept_physical_function(const struct device *dev)
{
	autofree char *told = device_attr(dev->bdf, "liveupdate/dma");

	return !dev->bridge && dev->state > PCILU_STATE_NONE && told &&
	       !strcmp(told, "none");
}

/* Its own file, or that of the group it is in */
static void find_owner(struct device *dev, const struct holders *holders)
{
	autofree char *group = device_link(dev->bdf, "iommu_group");
	const struct holder *h = NULL;
	char path[PATH_MAX];

	if (!dev->driver || strncmp(dev->driver, "vfio", 4) != 0)
		return;
	if (dev->cdev) {
		snprintf(path, sizeof(path), "/dev/vfio/devices/%s", dev->cdev);
		h = holders_find(holders, path);
	}
	if (!h && group) {
		snprintf(path, sizeof(path), "/dev/vfio/%s", group);
		h = holders_find(holders, path);
		snprintf(path, sizeof(path), "/dev/vfio/noiommu-%s", group);
		if (!h)
			h = holders_find(holders, path);
		dev->by_group = h;
	}
	if (!h)
		return;
	dev->owner = h->pid;
	strcpy(dev->owner_name, h->name);
}

static void address(const struct pci_dev *pci, char bdf[BDF_SIZE])
{
	snprintf(bdf, BDF_SIZE, "%04x:%02x:%02x.%d", pci->domain, pci->bus,
		 pci->dev, pci->func);
}

static void fill(struct device *dev, struct pci_dev *pci,
		 struct pci_access *access, const struct platform *platform,
		 const struct holders *holders)
{
	const struct probe probe = { platform, dev };

	dev->pci = pci;
	pci_fill_info(pci, PCI_FILL_IDENT | PCI_FILL_CLASS | PCI_FILL_CAPS |
				   PCI_FILL_EXT_CAPS);
	address(pci, dev->bdf);
	pci_lookup_name(access, dev->name, sizeof(dev->name),
			PCI_LOOKUP_VENDOR | PCI_LOOKUP_DEVICE, pci->vendor_id,
			pci->device_id);
	dev->driver = device_link(dev->bdf, "driver");
	dev->cdev = find_cdev(dev->bdf);
	dev->state = pcilu_device_state(dev->bdf);
	if (dev->state < 0)
		dev->state = -1;
	dev->bridge = is_bridge(&probe);
	if (dev->bridge)
		dev->secondary = pci_read_byte(pci, PCI_SECONDARY_BUS);
	dev->dma = dev->bridge ? "goes on" : dma_verdict(dev, platform);
	find_owner(dev, holders);
	ask_kernel(dev);
	dev->nr_blockers =
		apply(blockers, ARRAY_SIZE(blockers), &probe, dev->blocker);
	if (!dev->nr_blockers && dev->refusal.id)
		dev->blocker[dev->nr_blockers++] = &dev->refusal;
	dev->nr_warnings =
		apply(warnings, ARRAY_SIZE(warnings), &probe, dev->warning);
	dev->carrier = dev->bridge || is_kept_physical_function(dev);
	dev->follows = dev->bridge ? dev->nr_blockers == 1 : dev->carrier;
}

static int by_address(const void *a, const void *b)
{
	const struct pci_dev *x = *(struct pci_dev *const *)a;
	const struct pci_dev *y = *(struct pci_dev *const *)b;

	if (x->domain != y->domain)
		return x->domain < y->domain ? -1 : 1;
	return ((x->bus << 8) + (x->dev << 3) + x->func) -
	       ((y->bus << 8) + (y->dev << 3) + y->func);
}

static void libpci_error(char *fmt, ...)
	__attribute__((noreturn, format(printf, 1, 2)));

/* It may not come back */
static void libpci_error(char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	leave(fail(ST_FAILED, "%s", text));
}

static void libpci_quiet(char *fmt, ...)
{
	(void)fmt;
}

static struct pci_access *open_access(void)
{
	struct pci_access *access = pci_alloc();
	autofree char *path = path_of("/sys/bus/pci");

	access->error = libpci_error;
	access->warning = libpci_quiet;
	access->method = PCI_ACCESS_SYS_BUS_PCI;
	pci_set_param(access, (char *)"sysfs.path", path);
	pci_init(access);
	pci_scan_bus(access);
	return access;
}

/* What -s and the arguments name: a filter of libpci for each, and whether it matched */
struct named {
	struct pci_filter filter;
	const char *slot;
	bool found;
};

static int parse_names(const struct options *o, struct pci_access *access,
		       struct named *named, int n)
{
	int i;

	for (i = 0; i < n; i++) {
		/* -s stands behind the arguments, if it is there */
		const char *slot = i < o->nr_args ? o->args[i] : o->slot;
		autofree char *copy = strdup(slot);
		const char *wrong;

		if (!copy)
			return fail(ST_FAILED, "out of memory");
		pci_filter_init(access, &named[i].filter);
		wrong = pci_filter_parse_slot(&named[i].filter, copy);
		if (wrong)
			return fail(ST_USAGE, "'%s': %s", slot, wrong);
		named[i].slot = slot;
	}
	return 0;
}

static bool is_named(struct named *named, int n, struct pci_dev *pci)
{
	bool found = !n;
	int i;

	for (i = 0; i < n; i++) {
		if (!pci_filter_match(&named[i].filter, pci))
			continue;
		named[i].found = true;
		found = true;
	}
	return found;
}

static bool is_held(const struct pci_dev *pci)
{
	char bdf[BDF_SIZE];

	address(pci, bdf);
	return pcilu_device_state(bdf) > PCILU_STATE_NONE;
}

static int scan(struct devices *d, const struct options *o, bool held)
{
	__attribute__((cleanup(holders_free))) struct holders holders = { 0 };
	int i, ret, room = 0, n = o ? o->nr_args + !!o->slot : 0;
	autofree struct named *named = calloc((size_t)n + 1, sizeof(*named));
	struct platform platform = { 0 };
	autofree struct pci_dev **found = NULL;
	struct pci_dev *pci;

	*d = (struct devices){ 0 };
	d->access = open_access();
	if (!named)
		return fail(ST_FAILED, "out of memory");
	ret = parse_names(o, d->access, named, n);
	if (ret)
		return ret;
	look_at_platform(&platform);
	holders_scan(&holders);
	for (pci = d->access->devices; pci; pci = pci->next)
		room++;
	d->dev = calloc((size_t)room + 1, sizeof(*d->dev));
	found = calloc((size_t)room + 1, sizeof(struct pci_dev *));
	if (!d->dev || !found)
		return fail(ST_FAILED, "out of memory");
	for (pci = d->access->devices; pci; pci = pci->next)
		if (is_named(named, n, pci) && (!held || is_held(pci)))
			found[d->count++] = pci;
	/* Not later: what is said of a device may point into it */
	qsort(found, (size_t)d->count, sizeof(struct pci_dev *), by_address);
	for (i = 0; i < d->count; i++)
		fill(&d->dev[i], found[i], d->access, &platform, &holders);
	for (i = 0; i < n; i++)
		if (!named[i].found)
			ret = fail(ST_ABSENT, "no device matches '%s'",
				   named[i].slot);
	return ret;
}

int devices_scan(struct devices *d, const struct options *o)
{
	return scan(d, o, false);
}

int devices_scan_held(struct devices *d)
{
	return scan(d, NULL, true);
}

void devices_free(struct devices *d)
{
	int i;

	for (i = 0; i < d->count; i++) {
		free(d->dev[i].driver);
		free(d->dev[i].cdev);
		free(d->dev[i].told);
	}
	free(d->dev);
	if (d->access)
		pci_cleanup(d->access);
}

static void add_reasons(struct json_object *o, const char *key,
			const struct blocker *const *reason, int n)
{
	struct json_object *array = add_array(o, key);
	int i;

	for (i = 0; i < n; i++) {
		struct json_object *r = array_object(array);

		add_str(r, "id", reason[i]->id);
		add_str(r, "text", reason[i]->text);
		add_str(r, "remedy", reason[i]->remedy);
	}
}

struct json_object *device_json(const struct device *dev,
				struct json_object *array)
{
	struct json_object *o = array_object(array);
	char id[16];

	add_str(o, "bdf", dev->bdf);
	snprintf(id, sizeof(id), "%04x:%04x", dev->pci->vendor_id,
		 dev->pci->device_id);
	add_str(o, "id", id);
	snprintf(id, sizeof(id), "%04x", dev->pci->device_class);
	add_str(o, "class", id);
	add_str(o, "name", dev->name);
	add_str(o, "driver", dev->driver);
	add_bool(o, "bridge", dev->bridge);
	add_str(o, "state",
		dev->state < 0 ? "unknown" : pcilu_state_name(dev->state));
	add_str(o, "preservable",
		dev->follows	 ? "follows" :
		dev->nr_blockers ? "no" :
				   "yes");
	add_str(o, "dma", dev->dma);
	if (dev->owner) {
		struct json_object *owner = json_object_new_object();

		add_int(owner, "pid", dev->owner);
		add_str(owner, "name", dev->owner_name);
		json_object_object_add(o, "owner", owner);
	} else {
		json_object_object_add(o, "owner", NULL);
	}
	add_reasons(o, "blockers", dev->blocker, dev->nr_blockers);
	add_reasons(o, "warnings", dev->warning, dev->nr_warnings);
	return o;
}
