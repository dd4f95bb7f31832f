/* SPDX-License-Identifier: GPL-2.0 */
/* Who may use which session names, see pcilud.policy(5). */
#ifndef PCILUD_POLICY_H
#define PCILUD_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* A client as the kernel described it when it connected */
struct peer {
	pid_t pid;
	uid_t uid;
	gid_t gid;
	const gid_t *groups; /* supplementary ones */
	size_t nr_groups;
};

struct policy;

/*
 * Reads a policy from text of @len bytes, which need not end in a NUL. Returns
 * NULL and a message for a person in @why (free it) if a line is wrong.
 */
struct policy *policy_parse(const char *text, size_t len, char **why);

/* The same from a file, which nobody but root and ourselves may be able to change */
struct policy *policy_load(const char *path, char **why);
/* The text that it was read from */
const char *policy_text(const struct policy *policy);
void policy_free(struct policy *policy);

bool policy_may_use(const struct policy *policy, const struct peer *peer,
		    const char *name);
bool policy_may_hold(const struct policy *policy, const struct peer *peer);

#endif /* PCILUD_POLICY_H */
