// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../lib/src/cleanup.h"
#include "effects.h"
#include "params.h"

#define DMA "changes whether and how DMA is translated"
#define FIND "changes how devices, host bridges and interrupts are found"
#define RAM "hides memory, also what is handed over"
#define NO_DRIVER "keeps the driver of preserved devices from being loaded"

/* The longest that an option begins with counts */
static const struct rule {
	const char *begins;
	const char *effect; /* NULL: none */
	bool harmful;
} rules[] = {
	{ "pci=assign-busses", "assigns bus numbers anew", true },
	{ "pci=realloc", "moves BARs and windows", true },
	{ "pci=resource_alignment", "moves BARs", true },
	{ "pci=hp", "changes the windows and bus ranges of hotplug bridges",
	  true },
	{ "pci=pcie_bus_", "changes the payload size of every link", true },
	{ "pci=noari", "finds no functions above 7, changes routing", true },
	{ "pci=noats", "switches address translation services off", true },
	{ "pci=notph", "switches TLP processing hints off", true },
	{ "pci=nomsi", "leaves drivers without MSI", true },
	{ "pci=nodomains", "renumbers domains", true },
	{ "pci=config_acs", "changes peer-to-peer routing and IOMMU groups",
	  true },
	{ "pci=disable_acs", "changes peer-to-peer routing and IOMMU groups",
	  true },
	{ "pci=nocrs", "changes the windows of host bridges", true },
	{ "pci=use_crs", "changes the windows of host bridges", true },
	{ "pci=nommconf", "hides extended configuration space", true },
	{ "pci=noaer", "changes who handles errors", true },
	{ "pci=off", "finds no devices at all", true },
	{ "pci=", "changes how PCI is set up", true },
	{ "pcie_aspm", "changes link power states", true },
	{ "pcie_ports", "changes who controls ports and hotplug", true },
	{ "pcie_port_pm", "changes power states of ports", true },
	{ "pciehp.", "changes how hotplug ports work", true },
	{ "pnp_", "changes what firmware's resources are left alone", false },
	{ "iommu=", DMA, true },
	{ "iommu.", DMA, true },
	{ "iommufd.", DMA, true },
	{ "intel_iommu", DMA, true },
	{ "amd_iommu", DMA, true },
	{ "arm_smmu", DMA, true },
	{ "swiotlb", DMA, false },
	{ "intremap=", "changes interrupt remapping", true },
	{ "nointremap", "changes interrupt remapping", true },
	{ "nox2apic", "changes interrupt remapping", true },
	{ "noapic", "leaves devices without their interrupts", true },
	{ "nolapic", "leaves devices without their interrupts", true },
	{ "apic=", FIND, false },
	{ "acpi_enforce_resources", FIND, false },
	{ "acpi", FIND, true },
	{ "noacpi", FIND, true },
	{ "efi=", "changes what firmware tells of memory and devices", true },
	{ "noefi", "changes what firmware tells of memory and devices", true },
	{ "mem=", RAM, true },
	{ "memmap=", RAM, true },
	{ "efi_fake_mem", RAM, true },
	{ "numa", "changes the nodes that memory is set aside in", false },
	{ "movable_node", "makes no memory movable that is handed over",
	  false },
	{ "movablecore", "makes no memory movable that is handed over", false },
	{ "kernelcore", "makes no memory movable that is handed over", false },
	{ "cma=", "may put memory where no device can have it mapped", false },
	{ "hugepage", "takes memory early, which KHO may then lack", false },
	{ "default_hugepagesz", "takes memory early, which KHO may then lack",
	  false },
	{ "reset_devices", "makes drivers reset their devices", true },
	{ "initcall_blacklist=", "leaves a part of the kernel out", true },
	{ "modprobe.blacklist=vfio", NO_DRIVER, true },
	{ "modprobe.blacklist=iommufd", NO_DRIVER, true },
	{ "modprobe.blacklist=", "keeps a driver from being loaded", false },
	{ "module_blacklist=vfio", NO_DRIVER, true },
	{ "module_blacklist=iommufd", NO_DRIVER, true },
	{ "module_blacklist=", "keeps a driver from being loaded", false },
	{ "vfio", "changes how VFIO gives out devices", true },
	{ "kho_scratch=",
	  "changes the memory that the kernel after it starts in", true },
	{ "kho_bootmem=",
	  "changes the memory that the kernel after it starts in", true },
	{ "lockdown=", "changes what the update after it has to be signed for",
	  false },
	{ "ima_", "changes what the update after it has to be signed for",
	  false },
	{ "nokaslr", NULL, false },
	{ "kaslr", NULL, false },
	/* Looked at by a check of their own */
	{ "kho=", NULL, false },
	{ "liveupdate=", NULL, false },
	{ "crashkernel=", NULL, false },
	{ "panic=", NULL, false },
	/* The root, the console and user space */
	{ "root=", NULL, false },
	{ "rootflags=", NULL, false },
	{ "rootfstype=", NULL, false },
	{ "rootwait", NULL, false },
	{ "rootdelay=", NULL, false },
	{ "resume", NULL, false },
	{ "noresume", NULL, false },
	{ "ro", NULL, false },
	{ "rw", NULL, false },
	{ "init=", NULL, false },
	{ "rdinit=", NULL, false },
	{ "single", NULL, false },
	{ "systemd.", NULL, false },
	{ "rd.", NULL, false },
	{ "udev.", NULL, false },
	{ "net.ifnames=", NULL, false },
	{ "biosdevname=", NULL, false },
	{ "fsck.", NULL, false },
	{ "luks.", NULL, false },
	{ "rd_", NULL, false },
	{ "dolvm", NULL, false },
	{ "quiet", NULL, false },
	{ "splash", NULL, false },
	{ "debug", NULL, false },
	{ "console", NULL, false },
	{ "consoleblank=", NULL, false },
	{ "earlycon", NULL, false },
	{ "earlyprintk", NULL, false },
	{ "loglevel=", NULL, false },
	{ "log_buf_len=", NULL, false },
	{ "ignore_loglevel", NULL, false },
	{ "printk.", NULL, false },
	{ "vt.", NULL, false },
	{ "fbcon", NULL, false },
	{ "mitigations=", NULL, false },
	{ "audit=", NULL, false },
	{ "selinux=", NULL, false },
	{ "apparmor=", NULL, false },
	{ "security=", NULL, false },
	{ "lsm=", NULL, false },
	{ "BOOT_IMAGE=", NULL, false },
	{ "initrd=", NULL, false },
	{ "bootconfig", NULL, false },
	{ "pcilu.", NULL, false }, /* nobody's: for those who want a mark */
};

/* Those whose values are lists: each item is an option of its own */
static const char *const lists[] = {
	"pci",	"iommu", "intel_iommu",	       "amd_iommu",
	"acpi", "efi",	 "modprobe.blacklist", "module_blacklist",
};

struct option {
	char *key; /* of two with the same, the later counts */
	char *text;
	const struct rule *rule; /* NULL: unknown */
};

struct set {
	struct option *option;
	int count;
	bool failed;
};

static void set_free(struct set *s)
{
	while (s->count) {
		free(s->option[--s->count].key);
		free(s->option[s->count].text);
	}
	free(s->option);
}

/* A rule of a whole word, without '=' or '.', is for that word only */
static bool begins(const char *text, const char *with)
{
	size_t n = strlen(with);

	if (strncmp(text, with, n) != 0)
		return false;
	return n > 3 || strchr("=.", with[n - 1]) || !text[n] || text[n] == '=';
}

static const struct rule *rule_of(const char *text)
{
	const struct rule *best = NULL;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(rules); i++)
		if (begins(text, rules[i].begins) &&
		    (!best || strlen(rules[i].begins) > strlen(best->begins)))
			best = &rules[i];
	return best;
}

static struct option *find(const struct set *s, const char *key)
{
	int i;

	for (i = 0; i < s->count; i++)
		if (!strcmp(s->option[i].key, key))
			return &s->option[i];
	return NULL;
}

static void put(struct set *s, char *key, char *text)
{
	const struct rule *rule = text ? rule_of(text) : NULL;
	struct option *old, *more;

	if (!key || !text) {
		s->failed = true;
	} else if (!rule || rule->effect) {
		old = find(s, key);
		if (old) {
			char *was = old->text;

			old->text = text;
			old->rule = rule;
			text = was;
		} else {
			more = reallocarray(s->option, (size_t)s->count + 1,
					    sizeof(*more));
			s->failed |= !more;
			if (more) {
				more[s->count++] =
					(struct option){ key, text, rule };
				s->option = more;
				return;
			}
		}
	}
	free(key);
	free(text);
}

/* A key: the item up to its '=', and on and off are one */
static void put_item(struct set *s, const char *name, const char *item)
{
	char *key, *text;

	if (asprintf(&text, "%s=%s", name, item) < 0)
		text = NULL;
	if (!strcmp(item, "on") || !strcmp(item, "off"))
		item = "on|off";
	if (asprintf(&key, "%s=%.*s", name, (int)strcspn(item, "="), item) < 0)
		key = NULL;
	put(s, key, text);
}

static bool collect(const struct param *p, void *ctx)
{
	struct set *s = ctx;
	char *text, *item, *save = NULL;
	size_t i;

	for (i = 0; p->value && i < ARRAY_SIZE(lists); i++) {
		autofree char *copy = NULL;

		if (strcmp(p->name, lists[i]) != 0)
			continue;
		copy = strdup(p->value);
		s->failed |= !copy;
		for (item = copy ? strtok_r(copy, ",", &save) : NULL; item;
		     item = strtok_r(NULL, ",", &save))
			put_item(s, p->name, item);
		return true;
	}
	if (asprintf(&text, "%s%s%s", p->name, p->value ? "=" : "",
		     p->value ? p->value : "") < 0)
		text = NULL;
	put(s, strdup(p->name), text);
	return true;
}

static int differences(const struct set *of, const struct set *than, bool added,
		       struct change *out)
{
	int i, n = 0;

	for (i = 0; i < of->count; i++) {
		const struct option *o = &of->option[i];
		const struct option *other = find(than, o->key);

		/* Another value is told once, as what the next kernel has */
		if (other && (!added || !strcmp(other->text, o->text)))
			continue;
		out[n++] = (struct change){
			.option = strdup(o->text),
			.added = added,
			.harmful = o->rule && o->rule->harmful,
			.effect = o->rule ? o->rule->effect : NULL,
		};
	}
	return n;
}

int effects_compare(const char *running, const char *next,
		    struct change **changes)
{
	__attribute__((cleanup(set_free))) struct set a = { 0 };
	__attribute__((cleanup(set_free))) struct set b = { 0 };
	struct change *all;
	int n;

	if (!params_each(running, collect, &a) ||
	    !params_each(next, collect, &b))
		return -ENOMEM;
	all = calloc((size_t)(a.count + b.count) + 1, sizeof(*all));
	if (a.failed || b.failed || !all) {
		free(all);
		return -ENOMEM;
	}
	n = differences(&b, &a, true, all);
	n += differences(&a, &b, false, all + n);
	*changes = all;
	return n;
}

void changes_free(struct change *changes, int n)
{
	while (n > 0)
		free(changes[--n].option);
	free(changes);
}
