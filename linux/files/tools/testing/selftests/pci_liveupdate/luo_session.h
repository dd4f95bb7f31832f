/* SPDX-License-Identifier: GPL-2.0 */
/*
 * LUO sessions for programs that hold one session at a time.
 *
 * /dev/liveupdate can be open only once in the system, so it is opened for a
 * single request and closed again, and a request waits for somebody else's to
 * end. The ioctls themselves come from the liveupdate selftests' library.
 */
#ifndef SELFTESTS_PCI_LIVEUPDATE_LUO_SESSION_H
#define SELFTESTS_PCI_LIVEUPDATE_LUO_SESSION_H

#include <linux/types.h>

/* All return a file descriptor or 0, or -errno as the kernel gave it */
int luo_session_create(const char *name);
int luo_session_retrieve(const char *name);

/* The same from a session that was inherited: it is not inherited any further */
int luo_session_adopt(int fd);

#endif /* SELFTESTS_PCI_LIVEUPDATE_LUO_SESSION_H */
