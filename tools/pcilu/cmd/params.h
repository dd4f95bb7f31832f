/* SPDX-License-Identifier: GPL-2.0 */
/* Kernel parameters, split and compared as the kernel does it. */
#ifndef PCILU_PARAMS_H
#define PCILU_PARAMS_H

#include <stdbool.h>
#include <stddef.h>

struct param {
	const char *name; /* '-' is '_' in it */
	const char *value; /* NULL if there is no '=' */
};

/*
 * Calls @fn for each parameter up to "--", behind which they are init's, until it
 * returns false. What it gets is gone when it returns. False if out of memory.
 */
bool params_each(const char *cmdline,
		 bool (*fn)(const struct param *p, void *ctx), void *ctx);

/* Is it the same parameter? The kernel takes '-' and '_' for one another. */
bool params_equal(const char *a, const char *b);

/*
 * The value of the last @name=value, which counts; the caller frees it. NULL if there
 * is none.
 */
char *params_value(const char *cmdline, const char *name);

/* Is it there, with a value or without? */
bool params_has(const char *cmdline, const char *name);

/* As kstrtobool(): 0 or 1 for a word that it takes, -1 for any other */
int params_bool(const char *value);

/* Is a switch on? @otherwise unless a word is there that params_bool() takes. */
bool params_is_on(const char *cmdline, const char *name, bool otherwise);

/* A size with K, M, G, T, P or E after it; @end as in strtoull() */
unsigned long long params_size(const char *text, char **end);

#endif /* PCILU_PARAMS_H */
