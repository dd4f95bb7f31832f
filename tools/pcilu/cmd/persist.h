/* SPDX-License-Identifier: GPL-2.0 */
/* Functions that vfio-pci gets at each boot, before another driver: a udev rule each. */
#ifndef PCILU_PERSIST_H
#define PCILU_PERSIST_H

#include <stdbool.h>

bool persist_has(const char *bdf);

/* Adds or removes it. Returns an exit status, after a message if it is not ST_YES. */
int persist_set(const char *bdf, bool on);

#endif /* PCILU_PERSIST_H */
