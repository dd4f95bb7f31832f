/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The policy that is in force: the file's; or, while that is wrong, the last one that
 * was right, which systemd keeps for us; or, if there is none, root's alone.
 */
#ifndef PCILUD_INFORCE_H
#define PCILUD_INFORCE_H

#include "policy.h"
#include "store.h"

struct inforce {
	const char *path;
	struct policy *policy;
	const char *
		trouble; /* what is in force instead of the file, NULL if nothing */
	bool kept; /* the last good one is in the store, under STORE_POLICY */
	unsigned int slot;
};

/* At a start. 0, or -ENOMEM. */
int inforce_start(struct inforce *f, struct stored *stored);
/* Reads the file again: 0, or -EINVAL with a message, and nothing has changed */
int inforce_reload(struct inforce *f);

#endif /* PCILUD_INFORCE_H */
