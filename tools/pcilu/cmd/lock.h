/* SPDX-License-Identifier: GPL-2.0 */
/* One at a time: what changes which kernel is loaded, or who has a device. */
#ifndef PCILU_LOCK_H
#define PCILU_LOCK_H

#include "cmd.h"

/* Taken until the process ends. Returns 0, or an exit status after a message. */
int lock_take(const struct options *o);

#endif /* PCILU_LOCK_H */
