/* SPDX-License-Identifier: GPL-2.0 */
#ifndef PCILUD_GIVEUP_H
#define PCILUD_GIVEUP_H

#include <stdbool.h>

/*
 * Names the sessions that would be lost if the running pcilud were stopped for good, or
 * that systemd keeps for one that is stopped, and asks, on a terminal; with a yes, which
 * PCILU_GIVE_UP=yes in the environment also says, systemd stops it and gives them up, but
 * for @dry_run. Returns 0 if there are none or they may go, an exit status if not.
 */
int give_up(bool dry_run);

#endif /* PCILUD_GIVEUP_H */
