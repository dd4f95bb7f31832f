/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where the list of sessions comes from at a start, and its way through a kexec in a
 * session of its own.
 */
#ifndef PCILUD_HANDOVER_H
#define PCILUD_HANDOVER_H

#include "registry.h"
#include "store.h"

/*
 * Makes the registry with all sessions that systemd kept, whatever became of the
 * list itself: as it was before a restart; or from what the previous kernel's daemon
 * left, whose outgoing sessions are incoming ones here; or from nothing but the
 * store. Can be interrupted at any point and started again. @luo may be -1, then
 * nothing new is made of the kernel. NULL if there is no memory.
 */
struct registry *handover_start(int luo, struct stored *stored);

#endif /* PCILUD_HANDOVER_H */
