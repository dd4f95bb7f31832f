// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What the daemon asks during a live update: a connection of its own, as a request's.
 *
 * It outlives the daemon: when that is gone, a timer says when to look for the next one.
 * Callers wait for both through one epoll descriptor, which stays the same. What had been
 * asked is called off, but not before a daemon is there: as long as there is none, a
 * session cannot be released, and the machine may be going down for this very update.
 */

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include "cleanup.h"
#include "client.h"
#include "internal.h"

/* Between two looks for a daemon: twice as long each time, up to the last of them */
#define FIRST_PAUSE_MS 100
#define LAST_PAUSE_MS 3200

struct pcilu_events {
	pthread_mutex_t lock;
	char name[PCILU_NAME_SIZE];
	int poll, timer;
	int sock; /* -1: no daemon */
	unsigned int pause; /* milliseconds, before the next look */
	bool asked; /* the current event waits for an answer */
	bool begun; /* since the last prepare there was no abort */
	bool lost; /* begun, and the daemon that asked is gone */
	struct pcilu_event current;
};

/* What is new has room for a few messages, what is older is read by the daemon at once */
static int send_all(int sock, const struct pcilu_msg *msg)
{
	int err;

	do
		err = pcilu_msg_send(sock, msg, -1);
	while (err == -EINTR);
	return err == -EPIPE ? -ECONNRESET : err;
}

static int watch(const struct pcilu_events *ev, int fd)
{
	struct epoll_event in = { .events = EPOLLIN };

	return epoll_ctl(ev->poll, EPOLL_CTL_ADD, fd, &in) ? -errno : 0;
}

static void look_later(struct pcilu_events *ev)
{
	struct itimerspec at = {
		.it_value.tv_sec = ev->pause / 1000,
		.it_value.tv_nsec = ev->pause % 1000 * 1000000L,
	};

	timerfd_settime(ev->timer, 0, &at, NULL);
	if (ev->pause < LAST_PAUSE_MS)
		ev->pause *= 2;
}

/* Also a child of fork() may have the descriptor, so it is taken out by hand */
static void disconnect(struct pcilu_events *ev)
{
	epoll_ctl(ev->poll, EPOLL_CTL_DEL, ev->sock, NULL);
	close(ev->sock);
	ev->sock = -1;
	ev->lost = ev->begun;
	ev->asked = false;
	look_later(ev);
}

/* 0 or -errno, and then there will be another try */
static int subscribe(struct pcilu_events *ev)
{
	autoclose int sock = pcilu_client_start();
	struct pcilu_msg msg;
	int err;

	pcilu_msg_init(&msg, PCILU_MSG_SUBSCRIBE, ev->name);
	err = sock < 0 ? sock : send_all(sock, &msg);
	if (!err)
		err = watch(ev, sock);
	if (err)
		look_later(ev);
	else
		ev->sock = take_fd(&sock);
	return err;
}

/* Of a daemon that is being started, or of many that come to it at the same time */
static bool is_passing(int err)
{
	return err == -ENOENT || err == -ECONNREFUSED || err == -ECONNRESET ||
	       err == -EACCES || err == -EAGAIN;
}

static int start(struct pcilu_events *ev)
{
	int err;

	ev->poll = epoll_create1(EPOLL_CLOEXEC);
	if (ev->poll < 0)
		return -errno;
	ev->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (ev->timer < 0)
		return -errno;
	err = watch(ev, ev->timer);
	if (!err)
		err = subscribe(ev);
	return is_passing(err) ? 0 : err;
}

int pcilu_events_start(struct pcilu *lu, const char *name,
		       struct pcilu_events **out)
{
	struct pcilu_events *ev;
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
	memcpy(ev->name, name, strlen(name) + 1);
	ev->pause = FIRST_PAUSE_MS;
	ev->poll = -1;
	ev->timer = -1;
	ev->sock = -1;
	err = start(ev);
	if (err) {
		pcilu_events_close(ev);
		return err;
	}
	*out = ev;
	return 0;
}

int pcilu_events_fd(const struct pcilu_events *ev)
{
	return ev ? ev->poll : -EINVAL;
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

static void set_event(struct pcilu_events *ev, uint32_t kind, uint32_t limit)
{
	ev->current = (struct pcilu_event){
		.size = sizeof(ev->current),
		.kind = kind,
		.limit_ms = limit,
	};
	ev->asked = limit != 0;
	ev->begun = kind != PCILU_EVENT_ABORT;
	ev->lost = false;
}

/* Whatever it has to say, it is there: it may ask before it has replied */
static bool speaks(int sock)
{
	char any;
	ssize_t n;

	do
		n = recv(sock, &any, 1, MSG_PEEK);
	while (n < 0 && errno == EINTR);
	return n > 0;
}

/* 0 with the current event, -EAGAIN, or what nothing comes after */
static int take_one(struct pcilu_events *ev)
{
	struct pcilu_msg msg = { 0 };
	int err;

	if (ev->lost && speaks(ev->sock)) {
		set_event(ev, PCILU_EVENT_ABORT, 0);
		return 0;
	}
	do {
		err = receive(ev->sock, &msg);
		if (err == -ECONNRESET) {
			disconnect(ev);
			return -EAGAIN;
		}
		if (err)
			return err;
		/* An older daemon does not know the request */
		if (msg.type == PCILU_MSG_SUBSCRIBE && msg.error)
			return msg.error == -EINVAL ? -EOPNOTSUPP : msg.error;
		ev->pause = FIRST_PAUSE_MS;
	} while (msg.type != PCILU_MSG_EVENT);
	set_event(ev, msg.index, msg.value);
	return 0;
}

static int take(struct pcilu_events *ev)
{
	uint64_t times;
	int err;

	if (ev->sock < 0) {
		if (read(ev->timer, &times, sizeof(times)) < 0)
			return -EAGAIN;
		err = subscribe(ev);
		if (err)
			return is_passing(err) ? -EAGAIN : err;
	}
	return take_one(ev);
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

/* As much of it as a message takes, and nothing that a terminal would obey */
static int send_reason(const struct pcilu_events *ev, const char *why)
{
	struct pcilu_msg msg;
	char *c;

	pcilu_msg_init(&msg, PCILU_MSG_REASON, why);
	msg.index = ev->current.kind;
	for (c = msg.name; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	/* A daemon that does not know it refuses it, which changes nothing */
	return msg.name[0] ? send_all(ev->sock, &msg) : 0;
}

static int answer(struct pcilu_events *ev, int verdict, const char *why)
{
	struct pcilu_msg msg;
	int err = 0;

	if (ev->lost)
		return -ECONNRESET;
	if (!ev->asked)
		return -EINVAL;
	ev->asked = false;
	pcilu_msg_init(&msg, PCILU_MSG_ANSWER, NULL);
	msg.index = ev->current.kind;
	msg.value = (uint32_t)-verdict;
	if (why)
		err = send_reason(ev, why);
	return err ? err : send_all(ev->sock, &msg);
}

static int answer_locked(struct pcilu_events *ev, int verdict, const char *why)
{
	int err;

	pthread_mutex_lock(&ev->lock);
	err = answer(ev, verdict, why);
	pthread_mutex_unlock(&ev->lock);
	return err;
}

int pcilu_events_answer(struct pcilu_events *ev, int verdict)
{
	if (!ev || verdict > 0 || verdict < -4095)
		return -EINVAL;
	return answer_locked(ev, verdict, NULL);
}

int pcilu_events_refuse(struct pcilu_events *ev, int verdict, const char *why)
{
	if (!ev || verdict >= 0 || verdict < -4095)
		return -EINVAL;
	return answer_locked(ev, verdict, why);
}

void pcilu_events_close(struct pcilu_events *ev)
{
	if (!ev)
		return;
	if (ev->sock >= 0)
		close(ev->sock);
	if (ev->timer >= 0)
		close(ev->timer);
	if (ev->poll >= 0)
		close(ev->poll);
	pthread_mutex_destroy(&ev->lock);
	free(ev);
}
