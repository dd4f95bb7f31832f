/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How long devices were without their owners: from the snapshot, which is taken when
 * all stand still, until a device's session is finished. By the wall clock, which the
 * next kernel has from the hardware's, to a second.
 */
#ifndef PCILU_BLACKOUT_H
#define PCILU_BLACKOUT_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

int64_t blackout_now(void); /* milliseconds of the wall clock */

/* Adds "blackouts" of what the live update kept to the report, with nothing known */
void blackout_begin(struct json_object *report, struct json_object *snapshot);

/*
 * Whose owner has it again? That is added, and told to the journal. @exact if this
 * was looked at a moment ago as well. True if anything was added.
 */
bool blackout_look(struct json_object *report, bool exact);

#endif /* PCILU_BLACKOUT_H */
