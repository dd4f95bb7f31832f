// SPDX-License-Identifier: GPL-2.0
/* All versions of what is handed over, there and back. */

#include <stdlib.h>
#include <string.h>

#include "../../../lib/src/path.h"
#include "kconfig.h"
#include "preflight.h"
#include "target.h"

#define BLOB_MAX (16 << 20)

struct range {
	unsigned long abi, oldest;
};

/* A kernel reads from the oldest to its own */
static bool range_of(const char *config, struct range *r)
{
	autofree char *abi = kconfig_get(config, "CONFIG_PCI_LIVEUPDATE_ABI");
	autofree char *oldest =
		kconfig_get(config, "CONFIG_PCI_LIVEUPDATE_ABI_OLDEST");

	if (!abi)
		return false;
	r->abi = strtoul(abi, NULL, 0);
	r->oldest = oldest ? strtoul(oldest, NULL, 0) : r->abi;
	return true;
}

static bool reads(const struct range *r, unsigned long abi)
{
	return abi >= r->oldest && abi <= r->abi;
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
	else if (!reads(&there, here.abi))
		pf_add(pf, "abi", PF_FAIL,
		       "use a kernel that speaks the same version",
		       "it reads version %#lx, and this kernel hands over %#lx",
		       there.abi, here.abi);
	else if (!reads(&here, there.abi))
		pf_add(pf, "abi", PF_WARN, NULL,
		       "there is no way back: it hands over version %#lx, and this kernel reads %#lx",
		       there.abi, here.abi);
	else
		pf_add(pf, "abi", PF_PASS, NULL, "both kernels speak %#lx",
		       here.abi);
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
