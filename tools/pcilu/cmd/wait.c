// SPDX-License-Identifier: GPL-2.0
/* pcilu wait: until owners have finished what was handed over. */

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "blackout.h"
#include "cmd.h"
#include "json.h"
#include "run.h"
#include "status.h"

#define PAUSE_NS 250000000L
/* Who waits for hours need not know to the moment */
#define QUICK_S 300
#define LATER_S 5

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int remaining(struct json_object **doc)
{
	int status;

	*doc = status_doc(&status);
	if (!*doc)
		return -status;
	return (int)json_object_array_length(get_array(*doc, "remaining"));
}

/* So that root's report says how long each device had no owner; does it say more? */
static bool observe(bool first)
{
	autojson *report = run_load("verify.json");

	if (!report || !blackout_look(report, !first))
		return false;
	run_save("verify.json", report);
	return true;
}

int cmd_wait(const struct options *o)
{
	const struct timespec pause = { .tv_nsec = PAUSE_NS };
	const struct timespec later = { .tv_sec = LATER_S };
	double limit = 0, start = now();
	bool first = true;
	char *end;
	int n;

	if (o->timeout) {
		limit = strtod(o->timeout, &end);
		if (end == o->timeout || *end || limit < 0)
			return fail(ST_USAGE, "--timeout %s: say seconds",
				    o->timeout);
	}
	for (;;) {
		autojson *doc = NULL;

		observe(first);
		first = false;
		n = remaining(&doc);
		/* An owner may finish between the two: look once more */
		if (!n && observe(false)) {
			json_object_put(doc);
			n = remaining(&doc);
		}
		if (n < 0)
			return -n;
		if (n && (!o->timeout || now() - start < limit)) {
			nanosleep(now() - start < QUICK_S ? &pause : &later,
				  NULL);
			continue;
		}
		if (o->json) {
			add_str(doc, "schema", "pcilu/wait");
			doc_print(doc);
		} else {
			status_print(doc);
		}
		return n ? fail(ST_NO, "%d things remain to be done", n) :
			   ST_YES;
	}
}
