/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files of the running system, or of a copy of one. */
#ifndef PCILU_PATH_H
#define PCILU_PATH_H

#include <sys/types.h>

/*
 * The path below the directory that PCILU_SYSROOT names, for tests; a program
 * with more rights than its caller does not look at the environment. NULL when
 * out of memory; the caller frees it.
 */
char *path_of(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The directory itself, "" if there is none */
const char *path_root(void);

/*
 * Reads a whole file of at most @max bytes, whose size the kernel may not tell.
 * Returns its length and a string with a NUL at the end in @out, or -errno;
 * -EFBIG if there is more.
 */
ssize_t path_read(const char *path, size_t max, char **out);

/* The first line of a small file without its newline, as above */
ssize_t path_line(const char *path, char **out);

#endif /* PCILU_PATH_H */
