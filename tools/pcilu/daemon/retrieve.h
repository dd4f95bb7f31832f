/* SPDX-License-Identifier: GPL-2.0 */
#ifndef PCILUD_RETRIEVE_H
#define PCILUD_RETRIEVE_H

/*
 * Retrieves a session and puts it into systemd's store as @stored_as, even if we are
 * killed meanwhile. Returns a descriptor or -errno.
 *
 * A retrieved session is finished, and its devices are stopped, when its last
 * descriptor is closed. Between the kernel's giving us one and systemd's having a
 * copy there would be a moment in which a kill does that.
 */
int retrieve_session(int luo, const char *name, const char *stored_as);

#endif /* PCILUD_RETRIEVE_H */
