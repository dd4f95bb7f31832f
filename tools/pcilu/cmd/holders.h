/* SPDX-License-Identifier: GPL-2.0 */
/* Which processes have VFIO files open: all of them, in one walk through /proc. */
#ifndef PCILU_HOLDERS_H
#define PCILU_HOLDERS_H

#include <stddef.h>
#include <sys/types.h>

struct holder {
	char *file; /* "/dev/vfio/devices/vfio0", "/dev/vfio/17" */
	pid_t pid;
	char name[64];
};

struct holders {
	struct holder *holder;
	size_t count;
};

/* What we may not see is left out, and so is this process */
void holders_scan(struct holders *h);
/* NULL if nobody has it open */
const struct holder *holders_find(const struct holders *h, const char *file);
void holders_free(struct holders *h);

#endif /* PCILU_HOLDERS_H */
