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

/*
 * The same with the request in memory of the caller's choice: the kernel writes the
 * descriptor to @arg->fd, which is -1 before, so that whoever shares that memory
 * knows it. Returns 0 or -errno.
 */
struct luo_named {
	uint32_t size;
	int32_t fd;
	char name[LUO_NAME_SIZE];
};

int luo_session_retrieve_in(int dev, const char *name, struct luo_named *arg);

int luo_preserve_fd(int session, int fd, uint64_t token);
int luo_retrieve_fd(int session, uint64_t token);
int luo_finish(int session);

/*
 * Unpreserves what is in an outgoing session and lets nothing into it again. -ENOTTY: the
 * kernel cannot.
 */
int luo_discard(int session);

/*
 * On which side of the kexec a session is: 1 if the previous kernel handed it over,
 * 0 if it was made in this one. Changes nothing.
 */
int luo_is_incoming(int session);
int luo_get_name(int session, char name[LUO_NAME_SIZE]);

#endif /* PCILU_LUO_H */
