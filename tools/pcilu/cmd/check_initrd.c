// SPDX-License-Identifier: GPL-2.0
/* The initial RAM disk, or that there is none. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../../lib/src/path.h"
#include "kconfig.h"
#include "params.h"
#include "preflight.h"
#include "target.h"

#define INITRD_MAX (4UL << 30)

/* File systems and volumes that only user space finds */
static bool needs_one(const char *root)
{
	static const char *const found[] = { "UUID=", "LABEL=",	 "ZFS=",
					     "zfs:",  "/dev/md", "/dev/dm-" };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(found); i++)
		if (!strncmp(root, found[i], strlen(found[i])))
			return true;
	return !strncmp(root, "/dev/", 5) && strchr(root + 5, '/');
}

static void check_none(struct preflight *pf)
{
	autofree char *beside = target_initrd(pf->options->kernel);
	autofree char *root = params_value(pf->given, "root");
	char remedy[256] = "name one with --initrd";
	bool needed = root && needs_one(root);

	if (beside)
		snprintf(remedy, sizeof(remedy), "--initrd %s", beside);
	if (needed)
		pf_add(pf, "initrd", PF_FAIL, remedy,
		       "none is given, and the kernel alone does not find root=%s",
		       root);
	else if (beside)
		pf_add(pf, "initrd", PF_WARN, remedy,
		       "none is given, although one lies beside the kernel");
}

/* What it is packed with must be something that the kernel unpacks */
static void check_support(struct preflight *pf)
{
	static const struct {
		enum unpack_kind kind;
		const char *option;
	} options[] = {
		{ UNPACK_GZIP, "CONFIG_RD_GZIP" },
		{ UNPACK_XZ, "CONFIG_RD_XZ" },
		{ UNPACK_LZMA, "CONFIG_RD_LZMA" },
		{ UNPACK_ZSTD, "CONFIG_RD_ZSTD" },
		{ UNPACK_LZ4, "CONFIG_RD_LZ4" },
	};
	const char *config = pf_config(pf);
	size_t i;

	if (!config)
		return;
	if (!kconfig_is(config, "CONFIG_BLK_DEV_INITRD", "y"))
		pf_add(pf, "initrd", PF_FAIL, "build it with this option",
		       "the next kernel takes no initrd (CONFIG_BLK_DEV_INITRD)");
	for (i = 0; i < ARRAY_SIZE(options); i++)
		if (pf->ramdisk.kind == options[i].kind &&
		    !kconfig_is(config, options[i].option, "y"))
			pf_add(pf, "initrd", PF_FAIL,
			       "build it with this option, or pack the initrd otherwise",
			       "the next kernel does not unpack %s (%s)",
			       pf->ramdisk.compression, options[i].option);
}

static void check_given(struct preflight *pf)
{
	const char *name = pf->options->initrd ? pf->options->initrd :
						 "the unified image's initrd";
	const char *release = pf->readable ? pf->image.release : NULL;
	const char *why;

	if (initrd_parse(pf->initrd.data, pf->initrd.size, release,
			 &pf->ramdisk, &why)) {
		pf_add(pf, "initrd", PF_FAIL, "make it anew, or name another",
		       "%s: %s", name, why);
		return;
	}
	check_support(pf);
	if (pf->ramdisk.opaque)
		pf_add(pf, "initrd", PF_WARN, NULL,
		       "%s is packed with bzip2 or lzo, and was not looked into",
		       name);
	else if (release && pf->ramdisk.has_modules && !pf->ramdisk.has_wanted)
		pf_add(pf, "initrd", PF_FAIL,
		       "name the one that was made for this kernel",
		       "%s has modules, and none of them is for %s", name,
		       release);
	else
		pf_add(pf, "initrd", PF_PASS, NULL, "%s, %s", name,
		       pf->ramdisk.compression);
}

void check_initrd(struct preflight *pf)
{
	const struct image *img = &pf->image;
	int err;

	if (pf->options->initrd) {
		err = source_open(&pf->initrd, pf->options->initrd, INITRD_MAX);
		if (err) {
			pf_add(pf, "initrd", PF_FAIL,
			       "name another with --initrd", "%s: %s",
			       pf->options->initrd, strerror(-err));
			return;
		}
	} else if (pf->readable && img->initrd.size) {
		err = source_hold(&pf->initrd, "initrd", img->initrd.p,
				  img->initrd.size);
		if (err) {
			pf_add(pf, "initrd", PF_FAIL, "name one with --initrd",
			       "that of the unified image: %s", strerror(-err));
			return;
		}
	} else {
		check_none(pf);
		return;
	}
	check_given(pf);
}
