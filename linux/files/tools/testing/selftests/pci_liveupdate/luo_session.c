// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <libliveupdate.h>

#include "luo_session.h"

#define LUO_OPEN_TRIES		50
#define LUO_OPEN_DELAY_US	20000

static int luo_request(int (*request)(int luo_fd, const char *name),
		       const char *name)
{
	int luo_fd, ret, i;

	for (i = 0; i < LUO_OPEN_TRIES; i++) {
		luo_fd = luo_open_device();
		if (luo_fd >= 0 || errno != EBUSY)
			break;
		usleep(LUO_OPEN_DELAY_US);
	}
	if (luo_fd < 0)
		return -errno;

	ret = request(luo_fd, name);
	close(luo_fd);
	return ret;
}

int luo_session_create(const char *name)
{
	return luo_request(luo_create_session, name);
}

int luo_session_retrieve(const char *name)
{
	return luo_request(luo_retrieve_session, name);
}

int luo_session_adopt(int fd)
{
	return fcntl(fd, F_SETFD, FD_CLOEXEC) ? -errno : fd;
}
