// SPDX-License-Identifier: GPL-2.0

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../../lib/src/cleanup.h"
#include "../../../lib/src/path.h"
#include "holder.h"

static int process_has(const char *dir, const char *target)
{
	autoclosedir DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		char link[PATH_MAX];
		ssize_t n =
			readlinkat(dirfd(d), e->d_name, link, sizeof(link) - 1);

		if (n < 0)
			continue;
		link[n] = '\0';
		if (!strcmp(link, target))
			return 1;
	}
	return 0;
}

pid_t holder_of(const char *target, char *comm, size_t size)
{
	autofree char *proc = path_of("/proc");
	autoclosedir DIR *d = proc ? opendir(proc) : NULL;
	struct dirent *e;

	while (d && (e = readdir(d))) {
		autofree char *fds = NULL, *path = NULL, *name = NULL;
		pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);

		if (pid <= 0 || pid == getpid())
			continue;
		fds = path_of("/proc/%d/fd", pid);
		if (!fds || !process_has(fds, target))
			continue;
		path = path_of("/proc/%d/comm", pid);
		if (!path || path_line(path, &name) < 0)
			continue;
		strncpy(comm, name, size - 1);
		comm[size - 1] = '\0';
		return pid;
	}
	return 0;
}
