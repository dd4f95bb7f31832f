// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Sessions and the files in them. The kernel does the locking: a session object
 * does not change between its birth and its end.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "internal.h"
#include "luo.h"

struct pcilu_session {
	int fd;
	uint32_t direction;
	char name[PCILU_NAME_SIZE];
};

int pcilu_name_valid(const char *name)
{
	return name && pcilu_msg_name_valid(name, PCILU_NAME_SIZE);
}

int pcilu_session_new(int fd, uint32_t direction, const char *name,
		      struct pcilu_session **session)
{
	struct pcilu_session *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->fd = fd;
	s->direction = direction;
	memcpy(s->name, name, strnlen(name, sizeof(s->name) - 1));
	*session = s;
	return 0;
}

static int session_get(struct pcilu *lu, enum pcilu_msg_type type,
		       uint32_t direction, const char *name,
		       struct pcilu_session **session)
{
	autoclose int fd = -1;
	int err;

	if (!lu || !session)
		return -EINVAL;
	*session = NULL;
	if (!pcilu_name_valid(name))
		return -EINVAL;
	fd = pcilu_connection_session(lu, type, name);
	if (fd < 0)
		return fd;
	err = pcilu_session_new(fd, direction, name, session);
	if (!err)
		take_fd(&fd);
	return err;
}

int pcilu_session_create(struct pcilu *lu, const char *name,
			 struct pcilu_session **session)
{
	return session_get(lu, PCILU_MSG_CREATE, PCILU_DIRECTION_OUTGOING, name,
			   session);
}

int pcilu_session_attach(struct pcilu *lu, const char *name,
			 struct pcilu_session **session)
{
	return session_get(lu, PCILU_MSG_ATTACH, PCILU_DIRECTION_OUTGOING, name,
			   session);
}

int pcilu_session_retrieve(struct pcilu *lu, const char *name,
			   struct pcilu_session **session)
{
	return session_get(lu, PCILU_MSG_RETRIEVE, PCILU_DIRECTION_INCOMING,
			   name, session);
}

int pcilu_session_from_fd(int fd, uint32_t direction,
			  struct pcilu_session **session)
{
	char name[LUO_NAME_SIZE];
	int err, flags;

	if (!session || direction > PCILU_DIRECTION_INCOMING)
		return -EINVAL;
	*session = NULL;
	flags = fcntl(fd, F_GETFD);
	if (flags < 0)
		return -errno;
	err = luo_get_name(fd, name);
	if (err)
		return err == -ENOTTY ? -EINVAL : err;
	err = pcilu_session_new(fd, direction, name, session);
	if (!err)
		fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
	return err;
}

void pcilu_session_close(struct pcilu_session *session)
{
	if (!session)
		return;
	close(session->fd);
	free(session);
}

int pcilu_session_fd(const struct pcilu_session *session)
{
	return session ? session->fd : -EINVAL;
}

const char *pcilu_session_name(const struct pcilu_session *session)
{
	return session ? session->name : NULL;
}

int pcilu_session_direction(const struct pcilu_session *session)
{
	return session ? (int)session->direction : -EINVAL;
}

int pcilu_session_preserve_fd(struct pcilu_session *session, int fd,
			      uint64_t token)
{
	if (!session)
		return -EINVAL;
	return luo_preserve_fd(session->fd, fd, token);
}

int pcilu_session_retrieve_fd(struct pcilu_session *session, uint64_t token)
{
	if (!session)
		return -EINVAL;
	return luo_retrieve_fd(session->fd, token);
}

int pcilu_session_release(struct pcilu *lu, struct pcilu_session *session)
{
	struct pcilu_msg request, reply;
	int fd;

	if (!lu || !session)
		return -EINVAL;
	if (!pcilu_is_daemon(lu))
		return 0;
	pcilu_msg_init(&request, PCILU_MSG_RELEASE, session->name);
	request.direction = session->direction;
	return pcilu_connection_call(lu, &request, &reply, &fd);
}

int pcilu_session_keep_iommufd(struct pcilu *lu, struct pcilu_session *session,
			       int iommufd)
{
	struct pcilu_msg request, reply;

	if (!lu || !session || iommufd < 0 ||
	    session->direction != PCILU_DIRECTION_INCOMING)
		return -EINVAL;
	if (!pcilu_is_daemon(lu))
		return -EOPNOTSUPP;
	pcilu_msg_init(&request, PCILU_MSG_KEEP, session->name);
	request.flags = PCILU_MSG_F_FD;
	return pcilu_connection_call(lu, &request, &reply, &iommufd);
}

int pcilu_session_kept_iommufd(struct pcilu *lu, struct pcilu_session *session)
{
	if (!lu || !session || session->direction != PCILU_DIRECTION_INCOMING)
		return -EINVAL;
	if (!pcilu_is_daemon(lu))
		return -EOPNOTSUPP;
	return pcilu_connection_session(lu, PCILU_MSG_KEPT, session->name);
}

int pcilu_session_finish(struct pcilu *lu, struct pcilu_session *session)
{
	int err;

	if (!session || session->direction != PCILU_DIRECTION_INCOMING)
		return -EINVAL;
	err = luo_finish(session->fd);
	if (err)
		return err;
	return lu ? pcilu_session_release(lu, session) : 0;
}
