/* SPDX-License-Identifier: GPL-2.0 */
/* Kernel command lines. */
#ifndef PCILU_CMDLINE_H
#define PCILU_CMDLINE_H

#include <stdbool.h>
#include <stddef.h>

/* The running kernel's, as it can be given to the next one; the caller frees it */
char *cmdline_running(void);

/*
 * The value of the last "name=value" word, which counts; the caller frees it. NULL
 * if there is none.
 */
char *cmdline_value(const char *cmdline, const char *name);

/* Is a switch on? @otherwise if it is not there. Not understood counts as off. */
bool cmdline_is_on(const char *cmdline, const char *name, bool otherwise);

/* An option that only one of two command lines has */
struct cmdline_change {
	char *option; /* "pci=realloc" */
	bool added; /* the new one has it, or only the running one */
	const char *effect; /* what it would do to devices */
};

/*
 * Compares what matters to PCI devices and their DMA. Returns the number of
 * changes, or -ENOMEM; cmdline_changes_free() frees them.
 */
int cmdline_compare(const char *running, const char *next,
		    struct cmdline_change **changes);
void cmdline_changes_free(struct cmdline_change *changes, int n);

/* Bytes that crashkernel= takes, at most; 0 if it is not there */
unsigned long long cmdline_crashkernel(const char *cmdline);

/* A size with K, M, G or T after it; @end as in strtoull() */
unsigned long long parse_size(const char *text, char **end);

#endif /* PCILU_CMDLINE_H */
