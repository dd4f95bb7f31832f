// SPDX-License-Identifier: GPL-2.0
/* The status as node_exporter's textfile collector reads it. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../lib/src/cleanup.h"
#include "device.h"
#include "json.h"
#include "status.h"

static const char *const states[] = { "preserved", "incoming", "claimed",
				      "lost", "dead" };
static const char *const directions[] = { "outgoing", "incoming" };

static void head(const char *name, const char *help)
{
	printf("# HELP pcilu_%s %s\n# TYPE pcilu_%s gauge\n", name, help, name);
}

static void one(const char *name, const char *help, int64_t value)
{
	head(name, help);
	printf("pcilu_%s %lld\n", name, (long long)value);
}

/* How many of the array's objects have that word in that member */
static int count(struct json_object *array, const char *key, const char *word)
{
	size_t i, n = json_object_array_length(array);
	int found = 0;

	for (i = 0; i < n; i++) {
		const char *s =
			get_str(json_object_array_get_idx(array, i), key);

		found += s && !strcmp(s, word);
	}
	return found;
}

static void by(struct json_object *array, const char *name, const char *help,
	       const char *key, const char *const *words, size_t n)
{
	size_t i;

	head(name, help);
	for (i = 0; i < n; i++)
		printf("pcilu_%s{%s=\"%s\"} %d\n", name, key, words[i],
		       count(array, key, words[i]));
}

/* Writes that the kernel dropped: anything but zero is a bug */
static int64_t guarded(struct json_object *devices)
{
	size_t i, n = json_object_array_length(devices);
	int64_t sum = 0;

	for (i = 0; i < n; i++) {
		const char *bdf =
			get_str(json_object_array_get_idx(devices, i), "bdf");
		autofree char *text =
			device_attr(bdf, "liveupdate/guard_count");

		sum += text ? strtoll(text, NULL, 10) : 0;
	}
	return sum;
}

static void blackouts(struct json_object *all)
{
	size_t i, n = json_object_array_length(all);

	head("blackout_seconds",
	     "how long a device had no owner in the last live update");
	for (i = 0; i < n; i++) {
		struct json_object *b = json_object_array_get_idx(all, i);

		if (get_bool(b, "over"))
			printf("pcilu_blackout_seconds{device=\"%s\"} %.3f\n",
			       get_str(b, "bdf"),
			       (double)get_int(b, "milliseconds") / 1e3);
	}
}

void metrics_print(struct json_object *doc)
{
	struct json_object *devices = get_array(doc, "devices");
	const char *verify = get_str(doc, "last_verify");

	by(devices, "devices", "PCI functions that Live Update holds", "state",
	   states, ARRAY_SIZE(states));
	by(get_array(doc, "sessions"), "sessions", "Live Update sessions",
	   "direction", directions, ARRAY_SIZE(directions));
	one("remaining", "things to be done before the next live update",
	    (int64_t)json_object_array_length(get_array(doc, "remaining")));
	one("daemon_up", "pcilud answers",
	    !strcmp(get_str(doc, "daemon"), "running"));
	one("kernel_loaded", "a kernel is loaded for a kexec",
	    get_bool(doc, "kernel_loaded"));
	one("guarded_writes", "writes to held devices that were dropped",
	    guarded(devices));
	one("live_updates", "in a row, since the boot through the firmware",
	    get_int(doc, "live_updates"));
	blackouts(get_array(doc, "blackouts"));
	if (verify)
		one("last_verify_ok", "the last live update kept everything",
		    !strcmp(verify, "kept"));
}
