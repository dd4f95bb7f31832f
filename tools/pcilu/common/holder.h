/* SPDX-License-Identifier: GPL-2.0 */
/* Which process has a file open, from /proc. */
#ifndef PCILU_HOLDER_H
#define PCILU_HOLDER_H

#include <stddef.h>
#include <sys/types.h>

/*
 * Finds a process, other than this one, that has a file open whose name in /proc
 * is @target. Its name goes to @comm. Returns its number, 0 if there is none or we
 * may not see it.
 */
pid_t holder_of(const char *target, char *comm, size_t size);

#endif /* PCILU_HOLDER_H */
