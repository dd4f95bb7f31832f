/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The library's side of the daemon's socket. */
#ifndef PCILU_CLIENT_H
#define PCILU_CLIENT_H

#include "proto.h"

/* Returns a connected socket that does not block, or -errno; -EAGAIN if many wait */
int pcilu_client_start(void);
/* The same, and waits for its turn: -ETIMEDOUT after 10 seconds */
int pcilu_client_connect(void);

/*
 * Takes the reply to @request that has come: 0 with its descriptor in @fd (-1 if
 * none), the error that the daemon replied and that is in @reply then, or -EAGAIN,
 * -ECONNRESET, -EMFILE, -EPROTO.
 */
int pcilu_client_take(int sock, const struct pcilu_msg *request,
		      struct pcilu_msg *reply, int *fd);

/*
 * Sends @request, fills in its serial, and waits for the reply. Connects again if
 * the daemon was restarted since the last call and the request did not get out. What
 * is in @fd goes with a request that has PCILU_MSG_F_FD set.
 * Returns 0 with the reply in @reply and its descriptor in @fd (-1 if none), the
 * error that the daemon replied, or -ECONNRESET, -ETIMEDOUT, -EMFILE, -EPROTO.
 */
int pcilu_client_call(int *sock, uint32_t *serial, struct pcilu_msg *request,
		      struct pcilu_msg *reply, int *fd);

#endif /* PCILU_CLIENT_H */
