/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Versions of what kernels hand over. Those of KHO, of the orchestrator and of its
 * files are words that stand in the kernel; nothing else tells them.
 */
#ifndef PCILU_VERSIONS_H
#define PCILU_VERSIONS_H

#include "view.h"

enum { VERSION_KHO, VERSION_LUO, VERSION_MEMFD, VERSION_VFIO, VERSIONS };

struct versions {
	char word[VERSIONS][24]; /* "kho-v4", empty if it was not found */
};

extern const char *const version_names[VERSIONS];

/* Adds those that are found in an unpacked kernel, or in what it shows of itself */
void versions_find(const struct view *v, struct versions *out);

/*
 * Tells the running kernel which versions of the PCI hand-over the next one reads, whose
 * configuration is given; NULL: that it is not known. Returns 0 or -errno.
 */
int versions_tell(const char *next);

#endif /* PCILU_VERSIONS_H */
