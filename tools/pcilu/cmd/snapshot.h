/* SPDX-License-Identifier: GPL-2.0 */
/* What all functions look like now, as a document. */
#ifndef PCILU_SNAPSHOT_H
#define PCILU_SNAPSHOT_H

#include "cmd.h"

/* NULL after a message, with an exit status in @status */
struct json_object *snapshot_take(int *status);

/* Where the options say; an exit status, after a message if it is not ST_YES */
int snapshot_save(struct json_object *doc, const struct options *o);

#endif /* PCILU_SNAPSHOT_H */
