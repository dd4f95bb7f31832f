// SPDX-License-Identifier: GPL-2.0
/* pcilu bind and pcilu unbind: which driver has a function, now and at each boot. */

#include <errno.h>
#include <fcntl.h>
#include <libkmod.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../../lib/include/pcilu.h"
#include "../../../lib/src/path.h"
#include "cmd.h"
#include "device.h"
#include "json.h"
#include "lock.h"
#include "persist.h"

#define VFIO_PCI "vfio-pci"
#define PROBE_LOOKS 20

static int write_sysfs(const char *path, const char *text)
{
	autoclose int fd = path ? open(path, O_WRONLY | O_TRUNC | O_CLOEXEC) :
				  -1;

	if (fd < 0)
		return path ? -errno : -ENOMEM;
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static int write_attr(const struct device *d, const char *attribute,
		      const char *text)
{
	autofree char *path =
		path_of("/sys/bus/pci/devices/%s/%s", d->bdf, attribute);

	return write_sysfs(path, text);
}

static int load_driver(void)
{
	autofree char *path = path_of("/sys/bus/pci/drivers/" VFIO_PCI);
	struct kmod_list *list = NULL, *item;
	struct kmod_ctx *ctx;
	int err = -ENOENT;

	if (path && !access(path, F_OK))
		return 0;
	ctx = kmod_new(NULL, NULL);
	if (!ctx)
		return -ENOMEM;
	if (!kmod_module_new_from_lookup(ctx, VFIO_PCI, &list)) {
		kmod_list_foreach(item, list)
		{
			struct kmod_module *m = kmod_module_get_module(item);

			err = kmod_module_probe_insert_module(
				m, KMOD_PROBE_APPLY_BLACKLIST, NULL, NULL, NULL,
				NULL);
			kmod_module_unref(m);
		}
	}
	kmod_module_unref_list(list);
	kmod_unref(ctx);
	return err < 0 ? err : 0;
}

/* Whoever has the function lets go, then the driver core looks for another driver */
static int give(const struct device *d, const char *override)
{
	autofree char *probe = path_of("/sys/bus/pci/drivers_probe");
	int err = write_attr(d, "driver_override", override);

	if (!err && d->driver)
		err = write_attr(d, "driver/unbind", d->bdf);
	return err ? err : write_sysfs(probe, d->bdf);
}

/* A driver may be probed behind our back, so a wrong one is looked at again */
static bool has_driver(const struct device *d, bool vfio, char **driver)
{
	const struct timespec pause = { .tv_nsec = 50000000 };
	int i;

	for (i = 0; i < PROBE_LOOKS; i++) {
		free(*driver);
		*driver = device_link(d->bdf, "driver");
		if (vfio == (*driver && !strcmp(*driver, VFIO_PCI)))
			return true;
		nanosleep(&pause, NULL);
	}
	return false;
}

/* "drivers_probe" reports success whatever came of it */
static int change(const struct options *o, const struct device *d, bool bind,
		  char **driver)
{
	int err;

	if (d->bridge)
		return fail(ST_NO, "%s is a bridge, and bridges follow",
			    d->bdf);
	if (d->state > PCILU_STATE_NONE)
		return fail(ST_NO, "%s is %s, and stays with its driver",
			    d->bdf, pcilu_state_name(d->state));
	if (bind == (d->driver && !strcmp(d->driver, VFIO_PCI)))
		return ST_YES;
	if (d->owner)
		return fail(ST_NO, "%s is in use by %s[%d]", d->bdf,
			    d->owner_name, d->owner);
	if (o->dry_run) {
		fprintf(stderr, "pcilu: would take %s from %s\n", d->bdf,
			d->driver ? d->driver : "nobody");
		return ST_YES;
	}
	err = give(d, bind ? VFIO_PCI "\n" : "\n");
	if (err)
		return fail(status_of(err), "%s: %s", d->bdf, strerror(-err));
	if (!has_driver(d, bind, driver))
		return fail(
			ST_FAILED,
			"%s: the kernel reports success, and its driver is %s; the kernel's log may tell why",
			d->bdf, *driver ? *driver : "none");
	return ST_YES;
}

static int change_all(const struct options *o, bool bind,
		      struct json_object *array)
{
	__attribute__((cleanup(devices_free))) struct devices d;
	int i, one, ret = devices_scan(&d, o);

	if (ret && ret != ST_ABSENT)
		return ret;
	for (i = 0; i < d.count; i++) {
		const struct device *dev = &d.dev[i];
		autofree char *driver = NULL;
		struct json_object *r;

		one = change(o, dev, bind, &driver);
		if (!one && o->persist && !o->dry_run)
			one = persist_set(dev->bdf, bind);
		if (one > ret)
			ret = one;
		r = array_object(array);
		add_str(r, "bdf", dev->bdf);
		add_str(r, "driver", driver ? driver : dev->driver);
		add_bool(r, "persists", persist_has(dev->bdf));
		add_int(r, "status", one);
		if (!o->json && !one && !o->dry_run)
			printf("%s: %s%s\n", dev->bdf,
			       get_str(r, "driver") ? get_str(r, "driver") :
						      "no driver",
			       persist_has(dev->bdf) ? ", and at each boot" :
						       "");
	}
	return ret;
}

static int run(const struct options *o, bool bind)
{
	autojson *doc = doc_new(bind ? "bind" : "unbind");
	struct json_object *array = add_array(doc, "devices");
	int err = 0, ret;

	if (!o->nr_args && !o->slot)
		return fail(ST_USAGE, "name the address of a device");
	ret = lock_take(o);
	if (ret)
		return ret;
	if (bind && !o->dry_run)
		err = load_driver();
	if (err)
		return fail(status_of(err), VFIO_PCI " cannot be loaded: %s",
			    strerror(-err));
	ret = change_all(o, bind, array);
	add_bool(doc, "dry_run", o->dry_run);
	add_int(doc, "status", ret);
	if (o->json && json_object_array_length(array))
		doc_print(doc);
	return ret;
}

int cmd_bind(const struct options *o)
{
	return run(o, true);
}

int cmd_unbind(const struct options *o)
{
	return run(o, false);
}
