/* SPDX-License-Identifier: GPL-2.0 */
/* What options of the kernel do to PCI devices that work, and to their DMA. */
#ifndef PCILU_EFFECTS_H
#define PCILU_EFFECTS_H

#include <stdbool.h>

/* An option in which two command lines differ */
struct change {
	char *option; /* "pci=realloc" */
	bool added; /* the next kernel has it, or only the running one */
	bool harmful; /* a reason not to go */
	const char *effect; /* what it does, NULL if that is not known here */
};

/*
 * Compares two command lines, options without effect left out. Returns the number of
 * changes, or -ENOMEM; changes_free() frees them.
 */
int effects_compare(const char *running, const char *next,
		    struct change **changes);
void changes_free(struct change *changes, int n);

#endif /* PCILU_EFFECTS_H */
