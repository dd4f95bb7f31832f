/* SPDX-License-Identifier: GPL-2.0 */
/* A file that is checked and then loaded: opened once, read once, and remembered. */
#ifndef PCILU_SOURCE_H
#define PCILU_SOURCE_H

#include <stdbool.h>
#include <stddef.h>

#define SOURCE_HASH 65 /* SHA-256 in hexadecimal, with its NUL */

struct source {
	int fd; /* what the kernel is given to load; -1: nothing */
	char *data; /* what was read from it, with a NUL behind */
	size_t size;
	char hash[SOURCE_HASH];
};

/* Returns 0, or -errno with nothing to close */
int source_open(struct source *s, const char *path, size_t max);

/* Takes a copy of @data as what is loaded: in memory that nobody can write to */
int source_hold(struct source *s, const char *name, const void *data,
		size_t size);

/* Is it what was read before? Reads the file anew. */
bool source_unchanged(const struct source *s);
void source_close(struct source *s);

static inline void cleanup_source(struct source *s)
{
	source_close(s);
}

#define autosource __attribute__((cleanup(cleanup_source)))

#endif /* PCILU_SOURCE_H */
