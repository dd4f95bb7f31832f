// SPDX-License-Identifier: GPL-2.0
/* pcilu status: sessions, devices, who holds them, and what remains to be done. */

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#include "../../../lib/include/pcilu.h"
#include "../../../lib/src/path.h"
#include "cmd.h"
#include "device.h"
#include "json.h"
#include "run.h"
#include "status.h"
#include "table.h"

static const char *const directions[] = {
	[PCILU_DIRECTION_OUTGOING] = "outgoing",
	[PCILU_DIRECTION_INCOMING] = "incoming",
};

static void close_lu(struct pcilu **lu)
{
	pcilu_close(*lu);
}

/* A process may be gone, and its number somebody else's: say only what is true */
static char *process_name(pid_t pid)
{
	autofree char *path = pid ? path_of("/proc/%d/comm", pid) : NULL;
	char *name = NULL;

	return path && path_line(path, &name) >= 0 ? name : NULL;
}

static void add_session(struct json_object *array,
			const struct pcilu_session_info *s)
{
	struct json_object *o = array_object(array);
	struct passwd *pw = getpwuid(s->uid);
	autofree char *process = process_name(s->pid);
	char number[16];

	snprintf(number, sizeof(number), "%u", s->uid);
	add_str(o, "name", s->name);
	add_str(o, "direction", directions[s->direction]);
	add_bool(o, "held", s->held);
	add_str(o, "user", pw ? pw->pw_name : number);
	add_int(o, "pid", s->pid);
	add_str(o, "process", process);
}

static int add_sessions(struct json_object *doc, struct json_object *todo)
{
	__attribute__((cleanup(close_lu))) struct pcilu *lu = NULL;
	autofree struct pcilu_session_info **list = NULL;
	struct json_object *array = add_array(doc, "sessions");
	size_t i, n = 0;
	char text[128];
	int err;

	err = pcilu_open(&lu, PCILU_MODE_DAEMON);
	if (!err)
		err = pcilu_session_list(lu, &list, &n);
	add_str(doc, "daemon", err ? strerror(-err) : "running");
	for (i = 0; i < n; i++) {
		add_session(array, list[i]);
		if (list[i]->direction != PCILU_DIRECTION_INCOMING)
			continue;
		snprintf(text, sizeof(text), "session %s is to be %s",
			 list[i]->name,
			 list[i]->held ? "finished" : "retrieved");
		json_object_array_add(todo, json_object_new_string(text));
	}
	return err == -ENOENT || err == -ECONNREFUSED ? 0 : err;
}

static const struct {
	int state;
	const char *text;
} remains[] = {
	{ PCILU_STATE_INCOMING, "is to be retrieved by its owner" },
	{ PCILU_STATE_CLAIMED, "is to be finished by its owner" },
	{ PCILU_STATE_LOST, "was lost: look at the kernel's log" },
	{ PCILU_STATE_DEAD, "was stopped: reset or rebind it" },
};

static int add_devices(struct json_object *doc, struct json_object *todo)
{
	__attribute__((cleanup(devices_free))) struct devices d;
	struct json_object *array = add_array(doc, "devices");
	int i, err = devices_scan_held(&d);
	char text[128];
	size_t j;

	if (err)
		return err;
	for (i = 0; i < d.count; i++) {
		device_json(&d.dev[i], array);
		for (j = 0; j < ARRAY_SIZE(remains); j++) {
			if (d.dev[i].state != remains[j].state ||
			    d.dev[i].carrier)
				continue;
			snprintf(text, sizeof(text), "device %s %s",
				 d.dev[i].bdf, remains[j].text);
			json_object_array_add(todo,
					      json_object_new_string(text));
		}
	}
	return 0;
}

static void add_files(struct json_object *doc)
{
	autojson *loaded = run_load("loaded.json");
	autojson *verify = run_load("verify.json");

	add_bool(doc, "kernel_loaded", run_kernel_loaded());
	add_str(doc, "loaded",
		loaded && run_kernel_loaded() ? get_str(loaded, "kernel") :
						NULL);
	add_str(doc, "last_verify",
		!verify		       ? NULL :
		get_bool(verify, "ok") ? "kept" :
					 "not kept");
	add_int(doc, "live_updates",
		verify ? get_int(verify, "live_updates") : 0);
	json_object_object_add(
		doc, "blackouts",
		verify && get_array(verify, "blackouts") ?
			json_object_get(get_array(verify, "blackouts")) :
			json_object_new_array());
}

static void print_blackouts(struct json_object *doc)
{
	struct json_object *all = get_array(doc, "blackouts");
	size_t i, n = json_object_array_length(all);

	for (i = 0; i < n; i++) {
		struct json_object *b = json_object_array_get_idx(all, i);

		if (get_bool(b, "over"))
			printf("%s was without its owner for %s%.1f s\n",
			       get_str(b, "bdf"),
			       get_bool(b, "exact") ? "" : "at most ",
			       (double)get_int(b, "milliseconds") / 1e3);
	}
}

static void print_sessions(struct json_object *doc)
{
	struct json_object *all = get_array(doc, "sessions");
	size_t i, n = json_object_array_length(all);
	struct table *t;

	printf("pcilud: %s\n", get_str(doc, "daemon"));
	if (!n)
		return;
	t = TABLE("SESSION", "DIRECTION", "HELD", "USER", "PROCESS");
	for (i = 0; i < n; i++) {
		struct json_object *s = json_object_array_get_idx(all, i);
		const char *name = get_str(s, "process");
		char process[96] = "";

		if (get_int(s, "pid"))
			snprintf(process, sizeof(process), "%s[%d]",
				 name ? name : "gone", (int)get_int(s, "pid"));
		ROW(t, get_str(s, "name"), get_str(s, "direction"),
		    get_bool(s, "held") ? "yes" : "no", get_str(s, "user"),
		    process);
	}
	table_print(t);
}

static void print_devices(struct json_object *doc)
{
	struct json_object *all = get_array(doc, "devices");
	size_t i, n = json_object_array_length(all);
	struct table *t;

	if (!n)
		return;
	t = TABLE("DEVICE", "STATE", "DRIVER", "NAME");
	for (i = 0; i < n; i++) {
		struct json_object *d = json_object_array_get_idx(all, i);

		ROW(t, get_str(d, "bdf"), get_str(d, "state"),
		    get_str(d, "driver"), get_str(d, "name"));
	}
	table_print(t);
}

void status_print(struct json_object *doc)
{
	struct json_object *todo = get_array(doc, "remaining");
	size_t i;

	print_sessions(doc);
	print_devices(doc);
	if (get_bool(doc, "kernel_loaded"))
		printf("loaded: %s\n", get_str(doc, "loaded") ?
					       get_str(doc, "loaded") :
					       "a kernel, by another program");
	if (get_str(doc, "last_verify"))
		printf("last live update: %s, number %lld since the boot\n",
		       get_str(doc, "last_verify"),
		       (long long)get_int(doc, "live_updates"));
	print_blackouts(doc);
	for (i = 0; i < json_object_array_length(todo); i++)
		printf("to do: %s\n",
		       json_object_get_string(
			       json_object_array_get_idx(todo, i)));
}

struct json_object *status_doc(int *status)
{
	autojson *doc = doc_new("status");
	struct json_object *todo = json_object_new_array();
	int err;

	json_object_object_add(doc, "remaining", todo);
	err = add_sessions(doc, todo);
	if (err) {
		*status = fail(status_of(err), "pcilud: %s", strerror(-err));
		return NULL;
	}
	*status = add_devices(doc, todo);
	if (*status)
		return NULL;
	add_files(doc);
	return take_ptr(doc);
}

int cmd_status(const struct options *o)
{
	int status;
	autojson *doc = status_doc(&status);

	if (!doc)
		return status;
	if (o->json)
		doc_print(doc);
	else if (o->metrics)
		metrics_print(doc);
	else
		status_print(doc);
	return ST_YES;
}
