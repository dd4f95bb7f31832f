/* SPDX-License-Identifier: GPL-2.0 */
#ifndef PCILUD_GIVEUP_H
#define PCILUD_GIVEUP_H

/*
 * Names the sessions that would be lost if the running pcilud were stopped for good,
 * and asks, on a terminal. Returns 0 if there are none or they may go, which
 * PCILU_GIVE_UP=yes in the environment also says; an exit status if not.
 */
int give_up(void);

#endif /* PCILUD_GIVEUP_H */
