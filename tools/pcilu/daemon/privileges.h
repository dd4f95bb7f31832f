/* SPDX-License-Identifier: GPL-2.0 */
#ifndef PCILUD_PRIVILEGES_H
#define PCILUD_PRIVILEGES_H

/*
 * Becomes @user for good, with no other groups and no way to gain rights. Does
 * nothing but the latter when not root. Returns 0, or -errno after a message.
 */
int privileges_drop(const char *user);

#endif /* PCILUD_PRIVILEGES_H */
