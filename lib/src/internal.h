/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef PCILU_INTERNAL_H
#define PCILU_INTERNAL_H

#include "pcilu.h"
#include "proto.h"

/* One request to the daemon, see pcilu_client_call() */
int pcilu_connection_call(struct pcilu *lu, struct pcilu_msg *request,
			  struct pcilu_msg *reply, int *fd);

/* A session's descriptor: PCILU_MSG_CREATE, _ATTACH or _RETRIEVE; or -errno */
int pcilu_connection_session(struct pcilu *lu, enum pcilu_msg_type type,
			     const char *name);

/* Makes a session's object, which takes over @fd unless it fails */
int pcilu_session_new(int fd, uint32_t direction, const char *name,
		      struct pcilu_session **session);

#endif /* PCILU_INTERNAL_H */
