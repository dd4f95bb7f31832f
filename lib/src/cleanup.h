/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Variables that clean up after themselves when they go out of scope. */
#ifndef PCILU_CLEANUP_H
#define PCILU_CLEANUP_H

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define autoclean(f) __attribute__((cleanup(f)))

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

/* Leaves errno alone, so that "return -errno" works with a descriptor in scope */
static inline void cleanup_fd(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	errno = saved;
}

static inline void cleanup_file(FILE **f)
{
	if (*f)
		fclose(*f);
}

static inline void cleanup_dir(DIR **d)
{
	if (*d)
		closedir(*d);
}

/* Takes a descriptor or pointer out of the variable that would clean it up */
static inline int take_fd(int *fd)
{
	int ret = *fd;

	*fd = -1;
	return ret;
}

static inline void *take_ptr_raw(void *p)
{
	void *ret = *(void **)p;

	*(void **)p = NULL;
	return ret;
}

#define take_ptr(p) ((__typeof__(p))take_ptr_raw(&(p)))

#define autofree autoclean(cleanup_free)
#define autoclose autoclean(cleanup_fd)
#define autofclose autoclean(cleanup_file)
#define autoclosedir autoclean(cleanup_dir)

#ifndef ARRAY_SIZE
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#endif

#endif /* PCILU_CLEANUP_H */
