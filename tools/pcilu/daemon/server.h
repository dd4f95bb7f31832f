/* SPDX-License-Identifier: GPL-2.0 */
/* The socket and its clients. */
#ifndef PCILUD_SERVER_H
#define PCILUD_SERVER_H

#include <systemd/sd-event.h>

#include "dispatch.h"

struct server;

struct limits {
	unsigned int idle; /* seconds after which a silent client is let go */
	unsigned int descriptors; /* that we may have open */
};

/* May a user have the descriptor of that number? The last ones are root's. */
bool server_may_use(const struct limits *limits, uid_t uid, int fd);

/* A listening socket at @path, or -errno */
int server_listen(const char *path);

/* Serves the clients of @listener, which becomes the server's, from @event */
int server_new(struct server **server, sd_event *event, int listener,
	       struct dispatch *dispatch, const struct limits *limits);
/*
 * Tells those who follow that a session is held, or no more. When it returns they
 * have their copy, even if we are gone before they look at it.
 */
void server_tell(struct server *server, const struct entry *entry, bool held);
void server_free(struct server *server);

#endif /* PCILUD_SERVER_H */
