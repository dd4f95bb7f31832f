// SPDX-License-Identifier: LGPL-2.1-or-later
/* What the daemon asks during a live update: a connection of its own, as a request's. */

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "client.h"
#include "internal.h"

struct pcilu_events {
	pthread_mutex_t lock;
	int sock;
	int asked; /* the current event waits for an answer */
	struct pcilu_event current;
};

/* What is new has room for one message, what is older is read by the daemon at once */
static int send_all(int sock, const struct pcilu_msg *msg)
{
	int err;

	do
		err = pcilu_msg_send(sock, msg, -1);
	while (err == -EINTR);
	return err == -EPIPE ? -ECONNRESET : err;
}

int pcilu_events_start(struct pcilu *lu, const char *name,
		       struct pcilu_events **out)
{
	struct pcilu_events *ev;
	struct pcilu_msg msg;
	int err;

	if (!lu || !out || !pcilu_name_valid(name))
		return -EINVAL;
	*out = NULL;
	if (!pcilu_is_daemon(lu))
		return -EOPNOTSUPP;
	ev = calloc(1, sizeof(*ev));
	if (!ev)
		return -ENOMEM;
	pthread_mutex_init(&ev->lock, NULL);
	pcilu_msg_init(&msg, PCILU_MSG_SUBSCRIBE, name);
	ev->sock = pcilu_client_start();
	err = ev->sock < 0 ? ev->sock : send_all(ev->sock, &msg);
	if (err) {
		pcilu_events_close(ev);
		return err == -ENOENT || err == -ECONNREFUSED ? -ECONNRESET :
								err;
	}
	*out = ev;
	return 0;
}

int pcilu_events_fd(const struct pcilu_events *ev)
{
	return ev ? ev->sock : -EINVAL;
}

/* 0, or -errno. Replies, also to answers, come the same way as what nobody asked for. */
static int receive(int sock, struct pcilu_msg *msg)
{
	struct pcilu_msg any;
	autoclose int fd = -1;
	char buf[sizeof(*msg)];
	ssize_t n;

	do
		n = pcilu_msg_recv(sock, buf, sizeof(buf), &fd);
	while (n == -EINTR);
	if (n <= 0)
		return n && n != -EPIPE ? (int)n : -ECONNRESET;
	if ((size_t)n != sizeof(buf))
		return -EPROTO;
	memcpy(&any, buf, sizeof(any));
	return pcilu_msg_parse_reply(buf, (size_t)n, &any, msg) ? -EPROTO : 0;
}

static int take(struct pcilu_events *ev)
{
	struct pcilu_msg msg = { 0 };
	int err;

	do {
		err = receive(ev->sock, &msg);
		if (err)
			return err;
		/* An older daemon does not know the request */
		if (msg.type == PCILU_MSG_SUBSCRIBE && msg.error)
			return msg.error == -EINVAL ? -EOPNOTSUPP : msg.error;
	} while (msg.type != PCILU_MSG_EVENT);
	ev->current = (struct pcilu_event){
		.size = sizeof(ev->current),
		.kind = msg.index,
		.limit_ms = msg.value,
	};
	ev->asked = msg.value != 0;
	return 0;
}

int pcilu_events_take(struct pcilu_events *ev, const struct pcilu_event **event)
{
	int err;

	if (!ev || !event)
		return -EINVAL;
	pthread_mutex_lock(&ev->lock);
	err = take(ev);
	*event = err ? NULL : &ev->current;
	pthread_mutex_unlock(&ev->lock);
	return err;
}

static int answer(struct pcilu_events *ev, int verdict)
{
	struct pcilu_msg msg;

	if (!ev->asked)
		return -EINVAL;
	ev->asked = 0;
	pcilu_msg_init(&msg, PCILU_MSG_ANSWER, NULL);
	msg.index = ev->current.kind;
	msg.value = (uint32_t)-verdict;
	return send_all(ev->sock, &msg);
}

int pcilu_events_answer(struct pcilu_events *ev, int verdict)
{
	int err;

	if (!ev || verdict > 0 || verdict < -4095)
		return -EINVAL;
	pthread_mutex_lock(&ev->lock);
	err = answer(ev, verdict);
	pthread_mutex_unlock(&ev->lock);
	return err;
}

void pcilu_events_close(struct pcilu_events *ev)
{
	if (!ev)
		return;
	if (ev->sock >= 0)
		close(ev->sock);
	pthread_mutex_destroy(&ev->lock);
	free(ev);
}
