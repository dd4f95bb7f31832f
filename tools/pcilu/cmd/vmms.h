/* SPDX-License-Identifier: GPL-2.0 */
/* Those who take part in a live update: asked through pcilud, see pcilu_events_start(). */
#ifndef PCILU_VMMS_H
#define PCILU_VMMS_H

#include <json-c/json.h>
#include <stdint.h>
#include <sys/types.h>

#include "cmd.h"

#define VMMS_SECONDS 60 /* that each of the two answers may take */

struct vmms {
	int sock; /* -1: nobody is being asked */
	int signals; /* that call it off, a signalfd; -1: none does */
	uint32_t serial;
	uint32_t limit_ms;
	struct json_object *answers;
};

/* Milliseconds out of --timeout: 0, or an exit status */
int vmms_limit(const struct options *o, uint32_t *ms);

/*
 * Tells all of @event and waits for their answers, which are added to v->answers.
 * ST_NO, with the names of those who are not ready, or another exit status.
 */
int vmms_ask(struct vmms *v, uint32_t event);
/* They may be stopped from now on, and only vmms_abort() takes it back. An exit status. */
int vmms_done(struct vmms *v);
/* It does not take place: they take back what they did. Also ends a done one. */
void vmms_abort(struct vmms *v);
/* The same for one whose process is gone */
void vmms_call_off(void);
void vmms_close(struct vmms *v);

/* Does this process take part? */
bool vmms_has(const pid_t *pids, size_t n, pid_t pid);
/* Their processes. The caller frees them. */
size_t vmms_list(pid_t **pids);

#endif /* PCILU_VMMS_H */
