// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Requests to the Live Update Orchestrator.
 *
 * Distributions do not ship the header of a kernel as new as this one, so the
 * facts that matter are stated here: the request numbers and the layouts, of
 * which the first word is always the size.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "cleanup.h"
#include "luo.h"
#include "path.h"

#define LUO_IOCTL(nr) _IO(0xBA, nr)

#define LUO_CREATE_SESSION LUO_IOCTL(0x00)
#define LUO_RETRIEVE_SESSION LUO_IOCTL(0x01)
#define LUO_PRESERVE_FD LUO_IOCTL(0x40)
#define LUO_RETRIEVE_FD LUO_IOCTL(0x41)
#define LUO_FINISH LUO_IOCTL(0x42)
#define LUO_GET_NAME LUO_IOCTL(0x43)
#define LUO_DISCARD LUO_IOCTL(0x44)

struct luo_token {
	uint32_t size;
	int32_t fd;
	uint64_t token __attribute__((aligned(8)));
};

struct luo_plain {
	uint32_t size;
	uint32_t reserved;
};

_Static_assert(sizeof(struct luo_named) == 72, "an ABI");
_Static_assert(sizeof(struct luo_token) == 16, "an ABI");
_Static_assert(sizeof(struct luo_plain) == 8, "an ABI");

/*
 * Not interrupted: nobody could tell whether what was asked for is done. Signals wait
 * until it is.
 */
static int request(int fd, unsigned long nr, void *arg)
{
	sigset_t all, before;
	int ret, saved;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	ret = ioctl(fd, nr, arg);
	saved = errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	errno = saved;
	return ret;
}

/* Another opener holds the device for one request, so waiting is short */
#define OPEN_LIMIT_S 1
#define OPEN_PAUSE_NS (20L * 1000 * 1000)

static int is_before(const struct timespec *end)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec < end->tv_sec ||
	       (t.tv_sec == end->tv_sec && t.tv_nsec < end->tv_nsec);
}

int luo_open(int wait)
{
	const struct timespec pause = { .tv_nsec = OPEN_PAUSE_NS };
	autofree char *path = path_of("/dev/liveupdate");
	struct timespec end;
	int fd;

	if (!path)
		return -ENOMEM;
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += OPEN_LIMIT_S;
	for (;;) {
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd >= 0)
			return fd;
		if (errno == EINTR)
			continue;
		if (errno != EBUSY || !wait || !is_before(&end))
			return -errno;
		nanosleep(&pause, NULL);
	}
}

static int named(int dev, unsigned long nr, const char *name,
		 struct luo_named *arg)
{
	size_t len = strlen(name);

	if (len == 0 || len >= sizeof(arg->name))
		return -EINVAL;
	*arg = (struct luo_named){ .size = sizeof(*arg), .fd = -1 };
	memcpy(arg->name, name, len);
	return request(dev, nr, arg) ? -errno : 0;
}

int luo_session_create(int dev, const char *name)
{
	struct luo_named arg;
	int err = named(dev, LUO_CREATE_SESSION, name, &arg);

	return err ? err : arg.fd;
}

int luo_session_retrieve(int dev, const char *name)
{
	struct luo_named arg;
	int err = luo_session_retrieve_in(dev, name, &arg);

	return err ? err : arg.fd;
}

int luo_session_retrieve_in(int dev, const char *name, struct luo_named *arg)
{
	return named(dev, LUO_RETRIEVE_SESSION, name, arg);
}

int luo_preserve_fd(int session, int fd, uint64_t token)
{
	struct luo_token arg = { .size = sizeof(arg),
				 .fd = fd,
				 .token = token };

	return request(session, LUO_PRESERVE_FD, &arg) ? -errno : 0;
}

int luo_retrieve_fd(int session, uint64_t token)
{
	struct luo_token arg = { .size = sizeof(arg),
				 .fd = -1,
				 .token = token };

	return request(session, LUO_RETRIEVE_FD, &arg) ? -errno : arg.fd;
}

int luo_finish(int session)
{
	struct luo_plain arg = { .size = sizeof(arg) };

	return request(session, LUO_FINISH, &arg) ? -errno : 0;
}

int luo_discard(int session)
{
	struct luo_plain arg = { .size = sizeof(arg) };

	return request(session, LUO_DISCARD, &arg) ? -errno : 0;
}

/*
 * Retrieving is for incoming sessions only, and the kernel looks at that before it
 * looks at a field that it cannot know.
 */
int luo_is_incoming(int session)
{
	struct {
		struct luo_token known;
		uint64_t unknown;
	} arg = {
		.known = { .size = sizeof(arg), .fd = -1, .token = UINT64_MAX },
		.unknown = 1,
	};

	if (!request(session, LUO_RETRIEVE_FD, &arg))
		return -EPROTO;
	switch (errno) {
	case EINVAL:
		return 0;
	case E2BIG:
	case ENOENT:
		return 1;
	}
	return -errno;
}

int luo_get_name(int session, char name[LUO_NAME_SIZE])
{
	struct {
		struct luo_plain head;
		char name[LUO_NAME_SIZE];
	} arg = { .head = { .size = sizeof(arg) } };

	if (request(session, LUO_GET_NAME, &arg))
		return -errno;
	memcpy(name, arg.name, LUO_NAME_SIZE);
	name[LUO_NAME_SIZE - 1] = '\0';
	return 0;
}
