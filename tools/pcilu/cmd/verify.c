// SPDX-License-Identifier: GPL-2.0
/* pcilu verify: compares a snapshot with what is there now. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

#include "../../../lib/src/path.h"
#include "../../../lib/include/pcilu.h"
#include "../common/journal.h"
#include "blackout.h"
#include "cmd.h"
#include "device.h"
#include "json.h"
#include "run.h"
#include "snapshot.h"
#include "store.h"
#include "table.h"

struct comparison {
	struct json_object *array;
	const char *bdf;
	bool kept; /* the live update had to keep it */
	bool numbers; /* … and, because of others, the bus numbers of all bridges */
	bool broken; /* something that it had to keep is different */
};

static void differ(struct comparison *c, const char *what, const char *before,
		   const char *after, bool matters)
{
	struct json_object *d = array_object(c->array);
	bool broken = matters &&
		      (c->kept || (c->numbers && !strcmp(what, "bus numbers")));

	add_str(d, "bdf", c->bdf);
	add_str(d, "what", what);
	add_str(d, "before", before);
	add_str(d, "after", after);
	add_str(d, "severity", broken ? "broken" : "changed");
	c->broken |= broken;
}

static bool same(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

static struct json_object *find_device(struct json_object *devices,
				       const char *bdf)
{
	size_t i, n = json_object_array_length(devices);

	for (i = 0; i < n; i++) {
		struct json_object *o = json_object_array_get_idx(devices, i);

		if (same(get_str(o, "bdf"), bdf))
			return o;
	}
	return NULL;
}

static void compare_registers(struct comparison *c, struct json_object *before,
			      struct json_object *after)
{
	struct json_object *was = NULL, *is = NULL;

	json_object_object_get_ex(before, "registers", &was);
	json_object_object_get_ex(after, "registers", &is);
	if (!json_object_is_type(was, json_type_object)) {
		differ(c, "registers", NULL, NULL, true);
		return;
	}
	json_object_object_foreach(was, name, value)
	{
		const char *old = json_object_get_string(value);
		const char *now = get_str(is, name);

		if (!same(old, now))
			differ(c, name, old, now, true);
	}
}

static const char *range_of(struct json_object *device, int64_t index)
{
	struct json_object *all = get_array(device, "resources");
	size_t i, n = all ? json_object_array_length(all) : 0;

	for (i = 0; i < n; i++) {
		struct json_object *r = json_object_array_get_idx(all, i);

		if (get_int(r, "index") == index)
			return get_str(r, "range");
	}
	return NULL;
}

/* What the kernel believes, beside what the registers say; only if it had them */
static void compare_resources(struct comparison *c, struct json_object *before,
			      struct json_object *after)
{
	char what[32];
	int i;

	for (i = 0; i < 17; i++) {
		const char *old = range_of(before, i);
		const char *now = range_of(after, i);

		snprintf(what, sizeof(what), "resource %d", i);
		if (old && !same(old, now))
			differ(c, what, old, now, true);
	}
}

/* Another driver than vfio-pci has done what it wanted with the device */
static void compare_driver(struct comparison *c, struct json_object *before,
			   struct json_object *after)
{
	const char *old = get_str(before, "driver");
	const char *now = get_str(after, "driver");

	if (!same(old, now))
		differ(c, "driver", old, now,
		       now && strcmp(now, "vfio-pci") != 0);
}

/* Numbered as drivers bind: another name is worth telling, and nothing is broken */
static void compare_name(struct comparison *c, struct json_object *before,
			 struct json_object *after)
{
	const char *old = get_str(before, "device_file");
	const char *now = get_str(after, "device_file");

	if (old && now && strcmp(old, now) != 0)
		differ(c, "device file", old, now, false);
}

static void compare_device(struct comparison *c, struct json_object *before,
			   struct json_object *after)
{
	if (!after) {
		differ(c, "function", "present", "missing", true);
		return;
	}
	compare_registers(c, before, after);
	compare_resources(c, before, after);
	compare_driver(c, before, after);
	compare_name(c, before, after);
}

static struct json_object *compare(struct json_object *before,
				   struct json_object *after, bool *ok)
{
	struct json_object *was = get_array(before, "devices");
	struct json_object *is = get_array(after, "devices");
	struct json_object *doc = doc_new("verify");
	struct comparison c = { 0 };
	size_t i, n = json_object_array_length(was);

	add_str(doc, "kernel_before", get_str(before, "kernel"));
	add_str(doc, "kernel_after", get_str(after, "kernel"));
	c.array = json_object_new_array();
	for (i = 0; i < n; i++)
		c.numbers |=
			get_bool(json_object_array_get_idx(was, i), "kept");
	for (i = 0; i < n; i++) {
		struct json_object *o = json_object_array_get_idx(was, i);

		c.bdf = get_str(o, "bdf");
		c.kept = get_bool(o, "kept");
		if (c.bdf)
			compare_device(&c, o, find_device(is, c.bdf));
	}
	for (i = 0; i < json_object_array_length(is); i++) {
		struct json_object *o = json_object_array_get_idx(is, i);

		c.bdf = get_str(o, "bdf");
		c.kept = false;
		if (!find_device(was, c.bdf))
			differ(&c, "function", "missing", "present", false);
	}
	*ok = !c.broken;
	add_bool(doc, "ok", *ok);
	add_int(doc, "compared", (int64_t)n);
	json_object_object_add(doc, "differences", c.array);
	add_int(doc, "live_updates", get_int(before, "live_updates"));
	blackout_begin(doc, before);
	return doc;
}

static void record(struct json_object *doc)
{
	size_t n = json_object_array_length(get_array(doc, "differences"));
	bool ok = get_bool(doc, "ok");
	char differences[24], updates[24];

	snprintf(differences, sizeof(differences), "%zu", n);
	snprintf(updates, sizeof(updates), "%lld",
		 (long long)get_int(doc, "live_updates"));
	journal(JOURNAL_VERIFIED, ok ? LOG_NOTICE : LOG_ERR,
		ok ? "the live update kept everything" :
		     "the live update did not keep everything",
		"PCILU_RESULT", ok ? "kept" : "not kept", "PCILU_DIFFERENCES",
		differences, "PCILU_LIVE_UPDATES", updates,
		"PCILU_KERNEL_BEFORE", get_str(doc, "kernel_before"),
		"PCILU_KERNEL", get_str(doc, "kernel_after"));
}

static void print_result(struct json_object *doc)
{
	struct json_object *all = get_array(doc, "differences");
	size_t i, n = json_object_array_length(all);

	if (n) {
		struct table *t =
			TABLE("DEVICE", "SEVERITY", "WHAT", "BEFORE", "AFTER");

		for (i = 0; i < n; i++) {
			struct json_object *d =
				json_object_array_get_idx(all, i);

			ROW(t, get_str(d, "bdf"), get_str(d, "severity"),
			    get_str(d, "what"), get_str(d, "before"),
			    get_str(d, "after"));
		}
		table_print(t);
	}
	printf("%s: %lld functions compared, from %s to %s\n",
	       get_bool(doc, "ok") ? "kept" : "NOT KEPT",
	       (long long)get_int(doc, "compared"),
	       get_str(doc, "kernel_before"), get_str(doc, "kernel_after"));
}

/* What was handed over came with a snapshot, if pcilu update did it */
static int without_snapshot(void)
{
	__attribute__((cleanup(devices_free))) struct devices d;
	int i, n = 0, err = devices_scan(&d, NULL);

	if (err)
		return err;
	for (i = 0; i < d.count; i++)
		n += !d.dev[i].carrier &&
		     d.dev[i].state > PCILU_STATE_PRESERVED;
	if (n)
		return fail(
			ST_NO,
			"%d functions were handed over, and no snapshot came with them",
			n);
	puts("no snapshot was handed over");
	return ST_YES;
}

static struct json_object *load_snapshot(const struct options *o, int *status)
{
	const char *from = o->input ? o->input : "session " SNAPSHOT_SESSION;
	struct json_object *doc;
	int err;

	doc = o->input ? doc_read(o->input, &err) :
			 store_load(SNAPSHOT_SESSION, &err);
	if (doc && doc_is(doc, "snapshot") && get_array(doc, "devices"))
		return doc;
	if (doc)
		err = -EBADMSG;
	json_object_put(doc);
	if (o->boot && (err == -ENOENT || err == -ECONNREFUSED)) {
		*status = without_snapshot();
		return NULL;
	}
	*status =
		fail(status_of(err), "no snapshot in %s: %s", from,
		     err == -EBADMSG ? "it is not understood" : strerror(-err));
	return NULL;
}

int cmd_verify(const struct options *o)
{
	autojson *before = NULL, *after = NULL, *doc = NULL;
	int status, err;
	bool ok;

	before = load_snapshot(o, &status);
	if (!before)
		return status;
	after = snapshot_take(&status);
	if (!after)
		return status;
	doc = compare(before, after, &ok);
	if (o->boot) {
		record(doc);
		blackout_look(doc, false);
		err = run_save("verify.json", doc);
		if (err)
			fail(ST_FAILED, "the report cannot be saved: %s",
			     strerror(-err));
	}
	if (o->json)
		doc_print(doc);
	else
		print_result(doc);
	if (!o->input && !o->keep && !o->dry_run)
		store_finish(SNAPSHOT_SESSION);
	return ok ? ST_YES : ST_NO;
}
