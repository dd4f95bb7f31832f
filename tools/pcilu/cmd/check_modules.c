// SPDX-License-Identifier: GPL-2.0
/* The next kernel's modules: those that what is preserved cannot do without. */

#include <libkmod.h>
#include <stdlib.h>
#include <string.h>

#include "../../../lib/include/pcilu.h"
#include "../../../lib/src/path.h"
#include "kconfig.h"
#include "preflight.h"

/* A driver that goes on with Virtual Functions asks the core for them by this */
#define KEEPS "pci_liveupdate_keeps_vfs"

enum found { NOWHERE, BUILT_IN, KEEPER, NO_KEEPER };

static bool asks_for_them(const struct kmod_module *mod)
{
	struct kmod_list *list = NULL, *l;
	bool found = false;

	if (kmod_module_get_dependency_symbols(mod, &list) < 0)
		return false;
	for (l = list; l; l = kmod_list_next(list, l))
		found |= !strcmp(kmod_module_dependency_symbol_get_symbol(l),
				 KEEPS);
	kmod_module_dependency_symbols_free_list(list);
	return found;
}

/* What modprobe of the next kernel would come upon */
static enum found look_up(const char *dir, const char *name)
{
	struct kmod_ctx *ctx = kmod_new(dir, NULL);
	struct kmod_list *list = NULL, *l;
	enum found found = NOWHERE;

	if (!ctx)
		return NOWHERE;
	if (kmod_module_new_from_lookup(ctx, name, &list) < 0)
		list = NULL;
	for (l = list; l; l = kmod_list_next(list, l)) {
		struct kmod_module *mod = kmod_module_get_module(l);

		if (found != KEEPER)
			found = !kmod_module_get_path(mod) ? BUILT_IN :
				asks_for_them(mod)	   ? KEEPER :
							     NO_KEEPER;
		kmod_module_unref(mod);
	}
	kmod_module_unref_list(list);
	kmod_unref(ctx);
	return found;
}

static void check_vfio(struct preflight *pf, const char *dir)
{
	if (look_up(dir, "vfio-pci") != NOWHERE)
		pf_add(pf, "modules", PF_PASS, NULL, "vfio-pci is in %s", dir);
	else
		pf_add(pf, "modules", PF_FAIL, "install the kernel's modules",
		       "vfio-pci is a module, and %s has none", dir);
}

/* Has a device that is kept for its Virtual Functions a driver of its own kind? */
static bool is_driven(const struct device *d)
{
	return d->state == PCILU_STATE_PRESERVED && d->carrier && !d->bridge &&
	       d->driver && strcmp(d->driver, "pci-pf-stub") != 0 &&
	       strcmp(d->driver, "vfio-pci") != 0;
}

static void check_driver(struct preflight *pf, const char *dir,
			 const struct device *d)
{
	autofree char *module = device_link(d->bdf, "driver/module");
	const char *name = module ? module : d->driver;

	switch (look_up(dir, name)) {
	case KEEPER:
	case BUILT_IN:
		pf_add(pf, "modules", PF_PASS, NULL,
		       "%s, which has the preserved Virtual Functions of %s, is in %s",
		       name, d->bdf, dir);
		break;
	case NO_KEEPER:
		pf_add(pf, "modules", PF_FAIL,
		       "install one that has live_update_pf, or bind the device to pci-pf-stub",
		       "%s in %s does not go on with Virtual Functions, and those of %s are preserved",
		       name, dir, d->bdf);
		break;
	case NOWHERE:
		pf_add(pf, "modules", PF_FAIL, "install the kernel's modules",
		       "%s has Virtual Functions of %s that are preserved, and %s has none",
		       name, d->bdf, dir);
	}
}

void check_modules(struct preflight *pf)
{
	const struct image *img = &pf->image;
	autofree char *dir = NULL;
	bool vfio, any;
	int i;

	if (!pf->readable)
		return;
	vfio = img->config && kconfig_is(img->config, "CONFIG_VFIO_PCI", "m");
	any = vfio;
	for (i = 0; i < pf->devices.count; i++)
		any |= is_driven(&pf->devices.dev[i]);
	if (!any)
		return;
	if (!img->release) {
		pf_add(pf, "modules", PF_WARN, NULL,
		       "modules are needed, and the image does not tell its release");
		return;
	}
	dir = path_of("/lib/modules/%s", img->release);
	if (!dir)
		abort();
	if (vfio)
		check_vfio(pf, dir);
	for (i = 0; i < pf->devices.count; i++)
		if (is_driven(&pf->devices.dev[i]))
			check_driver(pf, dir, &pf->devices.dev[i]);
}
