/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The library's side of the daemon's socket. */
#ifndef PCILU_CLIENT_H
#define PCILU_CLIENT_H

#include "proto.h"

/* Returns a connected socket with time limits set, or -errno */
int pcilu_client_connect(void);

/*
 * Sends @request, fills in its serial, and waits for the reply. Connects again if
 * the daemon was restarted since the last call and the request did not get out.
 * Returns 0 with the reply in @reply and its descriptor in @fd (-1 if none), the
 * error that the daemon replied, or -ECONNRESET, -ETIMEDOUT, -EPROTO.
 */
int pcilu_client_call(int *sock, uint32_t *serial, struct pcilu_msg *request,
		      struct pcilu_msg *reply, int *fd);

#endif /* PCILU_CLIENT_H */
