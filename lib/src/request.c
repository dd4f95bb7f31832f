// SPDX-License-Identifier: LGPL-2.1-or-later
/* Requests for sessions that a main loop waits for: each has a connection of its own. */

#include <errno.h>
#include <stdlib.h>

#include "cleanup.h"
#include "client.h"
#include "internal.h"

struct pcilu_request {
	int sock;
	struct pcilu_msg msg;
};

static const struct {
	enum pcilu_msg_type type;
	uint32_t direction;
} kinds[] = {
	[PCILU_REQUEST_CREATE] = { PCILU_MSG_CREATE, PCILU_DIRECTION_OUTGOING },
	[PCILU_REQUEST_ATTACH] = { PCILU_MSG_ATTACH, PCILU_DIRECTION_OUTGOING },
	[PCILU_REQUEST_RETRIEVE] = { PCILU_MSG_RETRIEVE,
				     PCILU_DIRECTION_INCOMING },
};

int pcilu_request_start(struct pcilu *lu, uint32_t kind, const char *name,
			struct pcilu_request **request)
{
	struct pcilu_request *r;
	int err;

	if (!lu || !request || kind >= ARRAY_SIZE(kinds) ||
	    !pcilu_name_valid(name))
		return -EINVAL;
	*request = NULL;
	if (!pcilu_is_daemon(lu))
		return -EOPNOTSUPP;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	pcilu_msg_init(&r->msg, kinds[kind].type, name);
	r->msg.serial = kind;
	r->sock = pcilu_client_start();
	/* What is new has room for one message */
	err = r->sock < 0 ? r->sock : pcilu_msg_send(r->sock, &r->msg, -1);
	if (err) {
		pcilu_request_close(r);
		return err == -EPIPE || err == -ENOENT || err == -ECONNREFUSED ?
			       -ECONNRESET :
			       err;
	}
	*request = r;
	return 0;
}

int pcilu_request_fd(const struct pcilu_request *r)
{
	return r ? r->sock : -EINVAL;
}

int pcilu_request_take(struct pcilu_request *r, struct pcilu_session **session)
{
	struct pcilu_msg reply = { 0 };
	autoclose int fd = -1;
	int err;

	if (!r || !session)
		return -EINVAL;
	*session = NULL;
	err = pcilu_client_take(r->sock, &r->msg, &reply, &fd);
	if (err)
		return err;
	if (fd < 0)
		return -EPROTO;
	err = pcilu_session_new(fd, kinds[r->msg.serial].direction, r->msg.name,
				session);
	if (!err)
		take_fd(&fd);
	return err;
}

void pcilu_request_close(struct pcilu_request *r)
{
	if (!r)
		return;
	if (r->sock >= 0)
		close(r->sock);
	free(r);
}
