/* SPDX-License-Identifier: GPL-2.0 */
/* Documents that go through a kexec in a session of their own. */
#ifndef PCILU_STORE_H
#define PCILU_STORE_H

#include <json-c/json.h>

#define SNAPSHOT_SESSION "pcilu.snapshot"

/* Replaces what the session of that name holds. Returns 0 or -errno. */
int store_save(const char *session, struct json_object *doc);

/*
 * What the previous kernel handed over under that name. NULL
 * with -errno: -ENOENT if there is nothing, -EBADMSG if it is not understood.
 */
struct json_object *store_load(const char *session, int *err);

/* Gives up the outgoing session of that name, if there is one */
void store_drop(const char *session);

/* Finishes the incoming session of that name, if there is one */
void store_finish(const char *session);

#endif /* PCILU_STORE_H */
