/* SPDX-License-Identifier: GPL-2.0 */
/* What the daemon does with a request: no sockets and no system in here. */
#ifndef PCILUD_DISPATCH_H
#define PCILUD_DISPATCH_H

#include "policy.h"
#include "registry.h"
#include "round.h"

/* Names that begin so are ours */
#define OWN_PREFIX "pcilud"
/* And these are systemd's, from version 261 on */
#define SYSTEMD_PREFIX "systemd"

/* What one user can take, and what is kept for root */
#define SESSIONS_PER_USER 2048
#define SESSIONS_FOR_ROOT 256

/* Where sessions come from, and who is told when one is held or no more */
struct dispatch_ops {
	int (*create)(void *ctx, const char *name); /* a descriptor, -errno */
	int (*retrieve)(void *ctx, const char *name);
	/* Is a descriptor left for this user? */
	bool (*has_room)(void *ctx, uid_t uid);
	bool (*is_iommufd)(void *ctx, int fd);
	void (*held)(void *ctx, struct entry *entry);
	void (*kept)(void *ctx, struct entry *entry);
	void (*dropped)(void *ctx, const struct entry *entry);
	void (*tick)(void *ctx); /* once a second */
};

struct dispatch {
	struct registry *registry;
	const struct policy *policy;
	struct round *round;
	const struct dispatch_ops *ops;
	void *ctx;
};

/*
 * Handles a message of @len bytes with the descriptor that came with it, or -1, in
 * @came; one that is taken is replaced by -1. Returns 0 with a @reply and the descriptor to
 * send with it (the registry's own, or -1), or -EPROTO if the peer does not speak
 * the protocol and is to be disconnected.
 */
int dispatch(struct dispatch *d, struct member *from, const void *buf,
	     size_t len, int *came, struct pcilu_msg *reply, int *fd);

#endif /* PCILUD_DISPATCH_H */
