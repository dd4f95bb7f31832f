// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../../lib/include/pcilu.h"
#include "../../../lib/src/path.h"
#include "blackout.h"
#include "cmd.h"
#include "cmdline.h"
#include "device.h"
#include "json.h"
#include "kconfig.h"
#include "registers.h"
#include "run.h"
#include "snapshot.h"
#include "store.h"

#define CONFIG_BYTES 4096

/* Ends where an unprivileged reader's view of it ends */
static void add_config(const struct device *dev, struct json_object *o)
{
	autofree char *path =
		path_of("/sys/bus/pci/devices/%s/config", dev->bdf);
	autofree char *raw = NULL, *hex = NULL;
	ssize_t i, n = path ? path_read(path, CONFIG_BYTES, &raw) : -1;

	hex = n > 0 ? malloc((size_t)n * 2 + 1) : NULL;
	for (i = 0; hex && i < n; i++)
		sprintf(hex + i * 2, "%02x", (unsigned char)raw[i]);
	add_str(o, "config", hex ? hex : "");
}

/* Lines of start, end and flags, empty ones left out */
static void add_resources(const struct device *dev, struct json_object *o)
{
	autofree char *path =
		path_of("/sys/bus/pci/devices/%s/resource", dev->bdf);
	struct json_object *array = add_array(o, "resources");
	autofree char *text = NULL;
	unsigned long long start, end, flags;
	char *line, *save = NULL, value[64];
	int i = 0;

	if (!path || path_read(path, 65536, &text) < 0)
		return;
	for (line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save), i++) {
		struct json_object *r;

		if (sscanf(line, "%llx %llx %llx", &start, &end, &flags) != 3 ||
		    (!start && !end))
			continue;
		r = array_object(array);
		add_int(r, "index", i);
		snprintf(value, sizeof(value), "%llx-%llx", start, end);
		add_str(r, "range", value);
		snprintf(value, sizeof(value), "%llx", flags);
		add_str(r, "flags", value);
	}
}

/*
 * Does the live update have to keep it? Where nobody tells, that is so for bridges
 * and for what vfio-pci has.
 */
static bool is_kept(const struct device *dev)
{
	if (dev->state < 0)
		return dev->bridge ||
		       (dev->driver && !strcmp(dev->driver, "vfio-pci"));
	return dev->state != PCILU_STATE_NONE;
}

/* How many live updates in a row this would be: since the boot through the firmware */
static int64_t live_updates(void)
{
	autojson *last = run_load("verify.json");

	return (last ? get_int(last, "live_updates") : 0) + 1;
}

struct json_object *snapshot_take(int *status)
{
	__attribute__((cleanup(devices_free))) struct devices d;
	autofree char *release = kernel_release();
	autofree char *cmdline = cmdline_running();
	struct json_object *doc, *array;
	int i;

	*status = devices_scan(&d, NULL);
	if (*status)
		return NULL;
	doc = doc_new("snapshot");
	add_str(doc, "kernel", release ? release : "");
	add_str(doc, "cmdline", cmdline ? cmdline : "");
	add_int(doc, "time", (int64_t)time(NULL));
	add_int(doc, "time_ms", blackout_now());
	add_int(doc, "live_updates", live_updates());
	array = add_array(doc, "devices");
	for (i = 0; i < d.count; i++) {
		struct json_object *o = array_object(array);
		const struct device *dev = &d.dev[i];

		add_str(o, "bdf", dev->bdf);
		add_bool(o, "kept", is_kept(dev));
		add_bool(o, "bridge", dev->bridge);
		add_str(o, "driver", dev->driver);
		add_str(o, "device_file", dev->cdev);
		add_str(o, "state",
			dev->state < 0 ? "unknown" :
					 pcilu_state_name(dev->state));
		registers_json(dev, o);
		add_resources(dev, o);
		add_config(dev, o);
	}
	return doc;
}

int snapshot_save(struct json_object *doc, const struct options *o)
{
	int err;

	if (o->dry_run) {
		fprintf(stderr, "pcilu: would save the snapshot in %s\n",
			o->output ? o->output :
				    "the session " SNAPSHOT_SESSION);
		return ST_YES;
	}
	if (o->output) {
		err = doc_write(doc, o->output);
		return err ? fail(status_of(err), "%s: %s", o->output,
				  strerror(-err)) :
			     ST_YES;
	}
	err = store_save(SNAPSHOT_SESSION, doc);
	return err ? fail(status_of(err),
			  "the snapshot cannot be kept through a kexec: %s; is pcilud running? --output FILE saves it in a file",
			  strerror(-err)) :
		     ST_YES;
}

int cmd_snapshot(const struct options *o)
{
	autojson *doc = NULL;
	int status;

	doc = snapshot_take(&status);
	if (!doc)
		return status;
	status = snapshot_save(doc, o);
	if (status)
		return status;
	if (o->output && !strcmp(o->output, "-"))
		return ST_YES;
	if (o->json)
		doc_print(doc);
	else
		printf("snapshot of %zu functions\n",
		       json_object_array_length(get_array(doc, "devices")));
	return ST_YES;
}
