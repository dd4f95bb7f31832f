/* SPDX-License-Identifier: GPL-2.0 */
/* What pcilu status says, for those who wait for it to change. */
#ifndef PCILU_STATUS_H
#define PCILU_STATUS_H

#include <json-c/json.h>

/* NULL with an exit status after a message */
struct json_object *status_doc(int *status);
void status_print(struct json_object *doc);
/* The same for node_exporter */
void metrics_print(struct json_object *doc);

#endif /* PCILU_STATUS_H */
