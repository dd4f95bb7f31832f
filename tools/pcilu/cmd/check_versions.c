// SPDX-License-Identifier: GPL-2.0
/* All versions of what is handed over, there and back. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../lib/src/path.h"
#include "device.h"
#include "kconfig.h"
#include "preflight.h"
#include "target.h"

#define BLOB_MAX (16 << 20)

#define PARAMETERS "/sys/module/pci_liveupdate/parameters/"

/* A kernel reads from the oldest to its own */
struct range {
	unsigned long abi, oldest;
	bool writes_oldest; /* if that can say it; else it writes its own */
};

static bool range_of(const char *config, struct range *r)
{
	autofree char *abi = kconfig_get(config, "CONFIG_PCI_LIVEUPDATE_ABI");
	autofree char *oldest =
		kconfig_get(config, "CONFIG_PCI_LIVEUPDATE_ABI_OLDEST");

	if (!abi)
		return false;
	r->abi = strtoul(abi, NULL, 0);
	r->oldest = oldest ? strtoul(oldest, NULL, 0) : r->abi;
	r->writes_oldest = oldest;
	return true;
}

static unsigned long at_least(unsigned long a, unsigned long b)
{
	return a > b ? a : b;
}

/* What is preserved cannot be said in less, and which device that is; 0: nothing */
static unsigned long needed(const struct preflight *pf, const char **who)
{
	unsigned long most = 0;
	int i;

	*who = NULL;
	for (i = 0; i < pf->devices.count; i++) {
		const struct device *d = &pf->devices.dev[i];
		autofree char *abi = device_attr(d->bdf, "liveupdate/abi");
		unsigned long version = abi ? strtoul(abi, NULL, 0) : 0;

		if (version > most) {
			most = version;
			*who = d->bdf;
		}
	}
	return most;
}

/*
 * A kernel is told what the next one reads, and writes no older. It reads all that it
 * can write, so that the way back is open with what is preserved here; what comes to be
 * preserved there may take more.
 */
static void check_ways(struct preflight *pf, const struct range *here,
		       const struct range *there)
{
	const char *who;
	unsigned long need = needed(pf, &who);
	unsigned long own = here->writes_oldest ? here->oldest : here->abi;
	unsigned long least = at_least(own, need);

	if (there->abi < least && need > own)
		pf_add(pf, "abi", PF_FAIL,
		       "use a kernel that reads it, or end that session",
		       "it reads versions %#lx to %#lx, and preserving %s takes %#lx",
		       there->oldest, there->abi, who, need);
	else if (there->abi < least || there->oldest > here->abi)
		pf_add(pf, "abi", PF_FAIL,
		       "use a kernel that reads one of them",
		       "it reads versions %#lx to %#lx, and this kernel hands over %#lx to %#lx",
		       there->oldest, there->abi, own, here->abi);
	else
		pf_add(pf, "abi", PF_PASS, NULL,
		       "it reads versions %#lx to %#lx, and this kernel hands over %#lx%s",
		       there->oldest, there->abi,
		       at_least(least, there->oldest),
		       there->abi > here->abi ?
			       "; what takes a newer one there has no way back" :
			       "; the way back is open");
}

static void check_pci(struct preflight *pf)
{
	autofree char *running = kconfig_running();
	struct range here, there;

	if (!range_of(pf->image.config, &there))
		pf_add(pf, "abi", PF_FAIL, "use a kernel with PCI Live Update",
		       "the next kernel tells no version of what is handed over");
	else if (!running)
		pf_add(pf, "abi", PF_FAIL,
		       "install /boot/config-RELEASE of the running kernel",
		       "the running kernel's configuration is nowhere to be found");
	else if (!range_of(running, &here))
		pf_add(pf, "abi", PF_FAIL,
		       "boot a kernel with PCI Live Update first",
		       "the running kernel has no PCI Live Update");
	else
		check_ways(pf, &here, &there);
}

static int set_parameter(const char *path, unsigned long value)
{
	FILE *f = fopen(path, "we");
	bool failed;

	if (!f)
		return -errno;
	failed = fprintf(f, "%#lx\n", value) < 0;
	return fclose(f) || failed ? -errno : 0;
}

/*
 * The oldest that it writes is someone's wish as long as the next kernel reads that.
 * A kernel without these parameters writes one version, whatever it is told.
 */
int versions_tell(const char *next)
{
	autofree char *oldest = path_of(PARAMETERS "abi_oldest");
	autofree char *newest = path_of(PARAMETERS "abi_newest");
	autofree char *running = kconfig_running();
	autofree char *wish = NULL;
	struct range here, there;
	unsigned long least;
	int err;

	if (!oldest || !newest || path_line(oldest, &wish) < 0)
		return 0;
	if (!running || !range_of(running, &here))
		return -ENOENT;
	if (!next || !range_of(next, &there) || there.abi < here.oldest ||
	    there.oldest > here.abi)
		return set_parameter(newest, here.abi);

	least = at_least(strtoul(wish, NULL, 0), there.oldest);
	err = set_parameter(newest,
			    there.abi < here.abi ? there.abi : here.abi);
	return err ? err :
		     set_parameter(oldest,
				   least < there.abi ? least : there.abi);
}

static void find_in_file(const char *path, struct versions *out)
{
	autofree char *data = NULL;
	ssize_t n = path ? path_read(path, BLOB_MAX, &data) : -1;

	if (n > 0)
		versions_find(&(struct view){ (uint8_t *)data, (size_t)n },
			      out);
}

/* What KHO shows of what it would hand over, and the image that was booted */
static void find_running(struct versions *out)
{
	autofree char *tree = path_of("/sys/kernel/debug/kho/out/fdt");
	autofree char *luo = path_of("/sys/kernel/debug/kho/out/sub_fdts/LUO");
	autofree char *path = target_running();
	struct source s = { .fd = -1 };
	struct image img = { 0 };
	const char *why;

	find_in_file(tree, out);
	find_in_file(luo, out);
	if (path && !preflight_open(path, &s, &img, &why)) {
		size_t i;

		for (i = 0; i < VERSIONS; i++)
			if (!out->word[i][0])
				memcpy(out->word[i], img.versions.word[i],
				       sizeof(out->word[i]));
	}
	image_free(&img);
	source_close(&s);
}

static void check_words(struct preflight *pf)
{
	const struct versions *there = &pf->image.versions;
	struct versions here = { 0 };
	bool known = true, same = true;
	size_t i;

	find_running(&here);
	for (i = 0; i < VERSIONS; i++) {
		const char *a = here.word[i], *b = there->word[i];

		/* It stands in a module, if that is what the driver is in */
		if (i == VERSION_VFIO && (!*a || !*b))
			continue;
		if (!*a || !*b) {
			known = false;
			pf_add(pf, "abi", PF_WARN,
			       "keep the running kernel's image in /boot, and mount debugfs",
			       "the version of %s in the %s kernel cannot be told",
			       version_names[i], *a ? "next" : "running");
		} else if (strcmp(a, b) != 0) {
			same = false;
			pf_add(pf, "abi", PF_FAIL,
			       "use a kernel that speaks the same version",
			       "it reads %s of %s, and this kernel hands over %s",
			       b, version_names[i], a);
		}
	}
	if (known && same)
		pf_add(pf, "abi", PF_PASS, NULL,
		       "both kernels speak %s, %s, %s", here.word[0],
		       here.word[1], here.word[2]);
}

void check_versions(struct preflight *pf)
{
	if (!pf_config(pf))
		return;
	check_pci(pf);
	check_words(pf);
}
