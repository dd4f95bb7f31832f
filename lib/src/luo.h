/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The requests that /dev/liveupdate and a session's descriptor understand.
 * All functions return 0 or a descriptor, or a negative errno value as the kernel
 * gave it.
 */
#ifndef PCILU_LUO_H
#define PCILU_LUO_H

#include <stdint.h>

#define LUO_NAME_SIZE 64

/* Opens the device. With @wait, waits up to a second for somebody else to close it. */
int luo_open(int wait);

int luo_session_create(int dev, const char *name);
int luo_session_retrieve(int dev, const char *name);

int luo_preserve_fd(int session, int fd, uint64_t token);
int luo_retrieve_fd(int session, uint64_t token);
int luo_finish(int session);
int luo_get_name(int session, char name[LUO_NAME_SIZE]);

#endif /* PCILU_LUO_H */
