// SPDX-License-Identifier: GPL-2.0

#include <stdio.h>
#include <syslog.h>
#include <time.h>

#include "../../../lib/include/pcilu.h"
#include "../common/journal.h"
#include "blackout.h"
#include "json.h"

int64_t blackout_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void blackout_begin(struct json_object *report, struct json_object *snapshot)
{
	struct json_object *devices = get_array(snapshot, "devices");
	struct json_object *array = add_array(report, "blackouts");
	int64_t from = get_int(snapshot, "time_ms");
	size_t i, n = json_object_array_length(devices);

	add_int(report, "stopped_ms", from);
	/* An older snapshot does not tell */
	for (i = 0; from && i < n; i++) {
		struct json_object *d = json_object_array_get_idx(devices, i);
		struct json_object *b;

		if (!get_bool(d, "kept") || get_bool(d, "bridge"))
			continue;
		b = array_object(array);
		add_str(b, "bdf", get_str(d, "bdf"));
		add_bool(b, "over", false);
		add_bool(b, "exact", false);
		add_int(b, "milliseconds", 0);
	}
}

static void tell(const char *bdf, int64_t ms, bool exact)
{
	char message[128], number[24];

	snprintf(number, sizeof(number), "%lld", (long long)ms);
	snprintf(message, sizeof(message),
		 "%s was without its owner for %s%s ms", bdf,
		 exact ? "" : "at most ", number);
	journal(JOURNAL_BACK, LOG_NOTICE, message, "PCILU_DEVICE", bdf,
		"PCILU_BLACKOUT_MS", number, "PCILU_EXACT",
		exact ? "yes" : "no");
}

bool blackout_look(struct json_object *report, bool exact)
{
	struct json_object *all = get_array(report, "blackouts");
	size_t i, n = all ? json_object_array_length(all) : 0;
	int64_t ms = blackout_now() - get_int(report, "stopped_ms");
	bool added = false;

	for (i = 0; i < n; i++) {
		struct json_object *b = json_object_array_get_idx(all, i);
		const char *bdf = get_str(b, "bdf");
		int state = bdf ? pcilu_device_state(bdf) : -1;

		if (get_bool(b, "over") || (state != PCILU_STATE_NONE &&
					    state != PCILU_STATE_PRESERVED))
			continue;
		add_bool(b, "over", true);
		add_bool(b, "exact", exact);
		add_int(b, "milliseconds", ms < 0 ? 0 : ms);
		tell(bdf, ms < 0 ? 0 : ms, exact);
		added = true;
	}
	return added;
}
