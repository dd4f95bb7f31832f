// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../../lib/src/path.h"
#include "lock.h"

static int busy(int fd)
{
	char who[32] = "";
	ssize_t n = pread(fd, who, sizeof(who) - 1, 0);

	who[n > 0 ? strspn(who, "0123456789") : 0] = '\0';
	return fail(ST_FAILED, "another pcilu is at work (process %s)",
		    *who ? who : "unknown");
}

int lock_take(const struct options *o)
{
	autofree char *dir = path_of("/run/pcilu");
	autofree char *path = path_of("/run/pcilu/lock");
	char who[32];
	int fd, n;

	if (o->dry_run)
		return 0;
	if (!dir || !path)
		return fail(ST_FAILED, "out of memory");
	if (mkdir(dir, 0755) && errno != EEXIST)
		return fail(status_of(errno), "%s: %s", dir, strerror(errno));
	/* Programs that are started from here must not inherit it */
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return fail(status_of(errno), "%s: %s", path, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB))
		return busy(fd);
	n = snprintf(who, sizeof(who), "%d\n", getpid());
	if (ftruncate(fd, 0) || pwrite(fd, who, (size_t)n, 0) != n)
		return fail(ST_FAILED, "%s: %s", path, strerror(errno));
	return 0;
}
