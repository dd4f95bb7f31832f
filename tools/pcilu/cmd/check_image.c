// SPDX-License-Identifier: GPL-2.0
/* The image: what kexec_file_load(2) of this machine takes, whole. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "../../../lib/src/path.h"
#include "kconfig.h"
#include "preflight.h"

#define IMAGE_MAX (1UL << 30)

int preflight_open(const char *path, struct source *s, struct image *image,
		   const char **why)
{
	int err = source_open(s, path, IMAGE_MAX);

	*image = (struct image){ 0 };
	if (err) {
		*why = strerror(-err);
		return err;
	}
	return image_parse(s->data, s->size, image, why);
}

static char *running_arch(void)
{
	autofree char *path = path_of("/proc/sys/kernel/arch");
	struct utsname names;
	char *arch = NULL;

	if (path && path_line(path, &arch) > 0)
		return arch;
	return uname(&names) ? NULL : strdup(names.machine);
}

static bool five_levels(void)
{
	autofree char *path = path_of("/proc/cpuinfo");
	autofree char *text = NULL;

	return path && path_read(path, 64 << 20, &text) > 0 &&
	       strstr(text, " la57");
}

/* What this machine's kernel, or the jump, would make of it */
static void check_kind(struct preflight *pf)
{
	const struct image *img = &pf->image;
	autofree char *arch = running_arch();
	long page = sysconf(_SC_PAGESIZE);

	if (img->arch && arch && strcmp(img->arch, arch) != 0)
		pf_add(pf, "image", PF_FAIL,
		       "use a kernel of this machine's architecture",
		       "%s: it is for %s, and this machine is %s",
		       pf->options->kernel, img->arch, arch);
	else if (img->unloadable)
		pf_add(pf, "image", PF_FAIL, "use the image that is installed",
		       "%s: %s", pf->options->kernel, img->unloadable);
	else if (img->page_size && img->page_size != page)
		pf_add(pf, "image", PF_FAIL, "use a kernel with the same pages",
		       "%s: its pages have %u bytes, and those of this kernel %ld",
		       pf->options->kernel, img->page_size, page);
	else if (img->arch && !strcmp(img->arch, "x86_64") &&
		 !img->five_level && five_levels())
		pf_add(pf, "image", PF_FAIL,
		       "use a kernel with CONFIG_X86_5LEVEL=y",
		       "%s: it cannot start with five levels of page tables",
		       pf->options->kernel);
	else
		pf_add(pf, "image", PF_PASS, NULL, "%s%s %s, %s",
		       img->unified ? "unified image, " : "", img->format,
		       img->release ? img->release : "of unknown release",
		       img->compression);
}

static int read_config(struct preflight *pf)
{
	struct image *img = &pf->image;
	const char *named = pf->options->config;

	if (!named) {
		image_config_beside(img, pf->options->kernel);
		return 0;
	}
	free(img->config);
	img->config = kconfig_read(named);
	img->config_path = strdup(named);
	return img->config ? 0 : -1;
}

void check_image(struct preflight *pf)
{
	struct image *img = &pf->image;
	const char *why = NULL;
	int err = preflight_open(pf->options->kernel, &pf->kernel, img, &why);

	if (err) {
		pf_add(pf, "image", PF_FAIL, "name a kernel image", "%s: %s",
		       pf->options->kernel, why);
		return;
	}
	if (read_config(pf)) {
		pf_add(pf, "image", PF_FAIL, "name another with --config",
		       "%s: the configuration file cannot be read",
		       pf->options->config);
		return;
	}
	pf->readable = true;
	check_kind(pf);
}
