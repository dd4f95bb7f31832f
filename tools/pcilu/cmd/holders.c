// SPDX-License-Identifier: GPL-2.0

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../../lib/src/cleanup.h"
#include "../../../lib/src/path.h"
#include "holders.h"

#define VFIO "/dev/vfio/"

static void add(struct holders *h, const char *file, pid_t pid,
		const char *name)
{
	struct holder *more =
		reallocarray(h->holder, h->count + 1, sizeof(*more));
	struct holder *new;

	if (!more)
		abort();
	h->holder = more;
	new = &more[h->count++];
	new->file = strdup(file);
	if (!new->file)
		abort();
	new->pid = pid;
	strncpy(new->name, name, sizeof(new->name) - 1);
	new->name[sizeof(new->name) - 1] = '\0';
}

static void look_into(struct holders *h, pid_t pid)
{
	autofree char *fds = path_of("/proc/%d/fd", pid);
	autofree char *path = path_of("/proc/%d/comm", pid);
	autofree char *name = NULL;
	autoclosedir DIR *d = fds ? opendir(fds) : NULL;
	struct dirent *e;

	while (d && (e = readdir(d))) {
		char link[PATH_MAX];
		ssize_t n =
			readlinkat(dirfd(d), e->d_name, link, sizeof(link) - 1);

		if (n < (ssize_t)strlen(VFIO))
			continue;
		link[n] = '\0';
		if (strncmp(link, VFIO, strlen(VFIO)) != 0)
			continue;
		/* Gone meanwhile: it has nothing open any more */
		if (!name && (!path || path_line(path, &name) < 0))
			return;
		add(h, link, pid, name);
	}
}

static int by_file(const void *a, const void *b)
{
	return strcmp(((const struct holder *)a)->file,
		      ((const struct holder *)b)->file);
}

void holders_scan(struct holders *h)
{
	autofree char *proc = path_of("/proc");
	autoclosedir DIR *d = proc ? opendir(proc) : NULL;
	struct dirent *e;

	*h = (struct holders){ 0 };
	while (d && (e = readdir(d))) {
		pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);

		if (pid > 0 && pid != getpid())
			look_into(h, pid);
	}
	if (h->count)
		qsort(h->holder, h->count, sizeof(*h->holder), by_file);
}

const struct holder *holders_find(const struct holders *h, const char *file)
{
	const struct holder key = { .file = (char *)file };

	return h->count ? bsearch(&key, h->holder, h->count, sizeof(key),
				  by_file) :
			  NULL;
}

void holders_free(struct holders *h)
{
	while (h->count)
		free(h->holder[--h->count].file);
	free(h->holder);
}
