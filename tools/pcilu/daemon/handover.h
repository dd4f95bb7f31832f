/* SPDX-License-Identifier: GPL-2.0 */
/* The registry's way through a kexec, in a session of its own. */
#ifndef PCILUD_HANDOVER_H
#define PCILUD_HANDOVER_H

#include "registry.h"

/*
 * Makes the registry of this kernel: what the previous kernel's daemon had as
 * outgoing sessions is here as incoming ones that nobody has retrieved yet. It is
 * preserved in a new session, whose descriptor goes to @own. NULL with a message
 * if that cannot be.
 */
struct registry *handover_start(int luo, int *own);

#endif /* PCILUD_HANDOVER_H */
