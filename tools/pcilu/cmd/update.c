// SPDX-License-Identifier: GPL-2.0
/* pcilu update: all steps of a live update on this side, each with its time. */

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cmd.h"
#include "json.h"
#include "kexec.h"
#include "preflight.h"
#include "snapshot.h"

struct update {
	const struct options *options;
	struct preflight preflight;
	struct json_object *steps;
};

static int step_preflight(struct update *u)
{
	int ret = preflight_run(u->options, &u->preflight);

	if (ret)
		return ret;
	if (!u->preflight.passed && !u->options->force) {
		if (!u->options->json)
			preflight_print(&u->preflight, u->options->verbose);
		return fail(
			ST_NO,
			"nothing was changed; pcilu preflight --json tells all");
	}
	return ST_YES;
}

static int step_snapshot(struct update *u)
{
	autojson *doc = NULL;
	int status;

	doc = snapshot_take(&status);
	return doc ? snapshot_save(doc, u->options) : status;
}

static int step_load(struct update *u)
{
	return kexec_load(u->options, &u->preflight);
}

static int step_exec(struct update *u)
{
	return kexec_jump(u->options);
}

static const struct {
	const char *name;
	int (*run)(struct update *u);
} steps[] = {
	{ "preflight", step_preflight },
	{ "snapshot", step_snapshot },
	{ "load", step_load },
	{ "exec", step_exec },
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void record(struct update *u, const char *name, int status,
		   double seconds)
{
	struct json_object *s = array_object(u->steps);

	add_str(s, "step", name);
	add_int(s, "status", status);
	json_object_object_add(s, "seconds", json_object_new_double(seconds));
}

/* The last step does not come back if it succeeds, so its time is the jump's start */
int cmd_update(const struct options *o)
{
	autojson *doc = doc_new("update");
	struct update u = { .options = o, .steps = add_array(doc, "steps") };
	int status = ST_YES;
	size_t i;

	add_bool(doc, "dry_run", o->dry_run);
	for (i = 0; i < ARRAY_SIZE(steps) && status == ST_YES; i++) {
		double start = now(), took;
		FILE *out = o->json ? stderr : stdout;

		fprintf(out, "%-10s ...\n", steps[i].name);
		fflush(out);
		status = steps[i].run(&u);
		took = now() - start;
		record(&u, steps[i].name, status, took);
		fprintf(out, "%-10s %s, %.3f s\n", steps[i].name,
			status ? "failed" : "done", took);
		fflush(out);
	}
	add_int(doc, "status", status);
	if (o->json && status != ST_USAGE)
		doc_print(doc);
	preflight_free(&u.preflight);
	return status;
}
