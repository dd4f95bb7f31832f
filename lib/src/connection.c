// SPDX-License-Identifier: LGPL-2.1-or-later
/* A connection to what gives out sessions: the daemon, or the device itself. */

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "client.h"
#include "internal.h"
#include "luo.h"
#include "path.h"

struct pcilu {
	pthread_mutex_t lock; /* one request at a time */
	int daemon; /* set once, read without the lock */
	int sock;
	uint32_t serial;
};

static int hello(struct pcilu *lu)
{
	struct pcilu_msg request, reply;
	autoclose int fd = -1;

	pcilu_msg_init(&request, PCILU_MSG_HELLO, NULL);
	return pcilu_connection_call(lu, &request, &reply, &fd);
}

static int connect_daemon(struct pcilu *lu)
{
	int err;

	lu->sock = pcilu_client_connect();
	if (lu->sock < 0)
		return lu->sock;
	lu->daemon = 1;
	err = hello(lu);
	/* One that is of another version says so in words of its own */
	return err == -EPROTONOSUPPORT ? -EPROTO : err;
}

static int find_device(void)
{
	autofree char *path = path_of("/dev/liveupdate");

	if (!path)
		return -ENOMEM;
	return access(path, R_OK | W_OK) ? -errno : 0;
}

int pcilu_open(struct pcilu **out, uint32_t mode)
{
	struct pcilu *lu;
	int err = -ENOENT;

	if (!out || mode > PCILU_MODE_DIRECT)
		return -EINVAL;
	*out = NULL;
	lu = calloc(1, sizeof(*lu));
	if (!lu)
		return -ENOMEM;
	pthread_mutex_init(&lu->lock, NULL);
	lu->sock = -1;

	if (mode != PCILU_MODE_DIRECT)
		err = connect_daemon(lu);
	/* A daemon that is there and refuses is an answer, no daemon is not */
	if (mode != PCILU_MODE_DAEMON &&
	    (err == -ENOENT || err == -ECONNREFUSED))
		err = find_device();
	if (err) {
		pcilu_close(lu);
		return err;
	}
	*out = lu;
	return 0;
}

void pcilu_close(struct pcilu *lu)
{
	if (!lu)
		return;
	if (lu->sock >= 0)
		close(lu->sock);
	pthread_mutex_destroy(&lu->lock);
	free(lu);
}

int pcilu_is_daemon(const struct pcilu *lu)
{
	return lu ? lu->daemon : -EINVAL;
}

const char *pcilu_version(void)
{
	return PCILU_VERSION;
}

int pcilu_connection_call(struct pcilu *lu, struct pcilu_msg *request,
			  struct pcilu_msg *reply, int *fd)
{
	int err;

	pthread_mutex_lock(&lu->lock);
	err = pcilu_client_call(&lu->sock, &lu->serial, request, reply, fd);
	pthread_mutex_unlock(&lu->lock);
	return err;
}

static int direct_session(enum pcilu_msg_type type, const char *name)
{
	autoclose int dev = -1;

	if (type == PCILU_MSG_ATTACH)
		return -EOPNOTSUPP;
	dev = luo_open(1);
	if (dev < 0)
		return dev;
	return type == PCILU_MSG_CREATE ? luo_session_create(dev, name) :
					  luo_session_retrieve(dev, name);
}

int pcilu_connection_session(struct pcilu *lu, enum pcilu_msg_type type,
			     const char *name)
{
	struct pcilu_msg request, reply;
	int fd, err;

	if (!lu->daemon)
		return direct_session(type, name);
	pcilu_msg_init(&request, type, name);
	err = pcilu_connection_call(lu, &request, &reply, &fd);
	if (err)
		return err;
	return fd >= 0 ? fd : -EPROTO;
}

/* One allocation: the pointers, then what they point to */
static struct pcilu_session_info **pack(const struct pcilu_session_info *all,
					size_t n)
{
	struct pcilu_session_info **list, *copy;
	size_t i;

	/* NOLINTNEXTLINE(bugprone-sizeof-expression): room for pointers is meant */
	list = malloc((n + 1) * sizeof(*list) + n * sizeof(*copy));
	if (!list)
		return NULL;
	copy = (struct pcilu_session_info *)(list + n + 1);
	for (i = 0; i < n; i++) {
		copy[i] = all[i];
		list[i] = &copy[i];
	}
	list[n] = NULL;
	return list;
}

/* The first session at or after @index, which becomes its index */
static int next_session(struct pcilu *lu, uint32_t *index,
			struct pcilu_session_info *info)
{
	struct pcilu_msg request, reply;
	autoclose int fd = -1;
	int err;

	pcilu_msg_init(&request, PCILU_MSG_LIST, NULL);
	request.index = *index;
	err = pcilu_connection_call(lu, &request, &reply, &fd);
	if (err)
		return err;
	/* Always forward, or a mad daemon could keep us here for good */
	if (reply.index < *index || reply.index == UINT32_MAX || !reply.name[0])
		return -EPROTO;
	*index = reply.index;
	*info = (struct pcilu_session_info){
		.size = sizeof(*info),
		.direction = reply.direction,
		.held = !!(reply.flags & PCILU_MSG_F_HELD),
		.uid = reply.uid,
		.pid = reply.pid,
	};
	memcpy(info->name, reply.name, PCILU_NAME_SIZE);
	return 0;
}

int pcilu_session_list(struct pcilu *lu, struct pcilu_session_info ***list,
		       size_t *count)
{
	autofree struct pcilu_session_info *all = NULL;
	size_t n = 0, room = 0;
	uint32_t index = 0;
	int err;

	if (!lu || !list)
		return -EINVAL;
	if (!lu->daemon)
		return -EOPNOTSUPP;
	for (;; n++, index++) {
		if (n == room) {
			void *more = reallocarray(all, room ? room * 2 : 16,
						  sizeof(*all));

			if (!more)
				return -ENOMEM;
			all = more;
			room = room ? room * 2 : 16;
		}
		err = next_session(lu, &index, &all[n]);
		if (err == -ENOENT)
			break;
		if (err)
			return err;
	}
	*list = pack(all, n);
	if (!*list)
		return -ENOMEM;
	if (count)
		*count = n;
	return 0;
}
