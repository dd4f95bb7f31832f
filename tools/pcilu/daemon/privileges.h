/* SPDX-License-Identifier: GPL-2.0 */
#ifndef PCILUD_PRIVILEGES_H
#define PCILUD_PRIVILEGES_H

#include <stdbool.h>

/*
 * Becomes @user for good, with no other groups and no way to gain rights. Does
 * nothing but the latter when not root. Returns 0, or -errno after a message.
 *
 * If there is no such user and we @must_go_on, we stay root in name, without a
 * single capability: nobody else can then signal us or look into us.
 */
int privileges_drop(const char *user, bool must_go_on);

#endif /* PCILUD_PRIVILEGES_H */
