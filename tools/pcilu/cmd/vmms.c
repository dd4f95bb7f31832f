// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "../../../lib/include/pcilu.h"
#include "../../../lib/src/cleanup.h"
#include "../../../lib/src/client.h"
#include "../common/journal.h"
#include "json.h"
#include "vmms.h"

#define GRACE_MS 5000 /* for pcilud, which keeps the time */

static const char *const events[] = {
	[PCILU_EVENT_PREPARE] = "prepare",
	[PCILU_EVENT_GO] = "go",
};

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int vmms_limit(const struct options *o, uint32_t *ms)
{
	double seconds = VMMS_SECONDS;
	char *end;

	if (o->timeout) {
		seconds = strtod(o->timeout, &end);
		if (end == o->timeout || *end || !(seconds > 0.001) ||
		    seconds > 86400)
			return fail(
				ST_USAGE,
				"--timeout %s: say seconds, more than 0 and a day at most",
				o->timeout);
	}
	*ms = (uint32_t)(seconds * 1000);
	return 0;
}

static int send_event(struct vmms *v, uint32_t event)
{
	struct pcilu_msg msg;

	pcilu_msg_init(&msg, PCILU_MSG_EVENT, NULL);
	msg.index = event;
	msg.value = v->limit_ms;
	msg.serial = ++v->serial;
	return pcilu_msg_send(v->sock, &msg, -1);
}

/*
 * One message that is a reply, or that nobody asked for: 0 or -errno, -EINTR if a signal
 * calls it off
 */
static int receive(struct vmms *v, struct pcilu_msg *msg, int64_t end)
{
	struct pollfd p[] = { { .fd = v->sock, .events = POLLIN },
			      { .fd = v->signals, .events = POLLIN } };
	struct pcilu_msg any;
	autoclose int fd = -1;
	char buf[sizeof(*msg)];
	ssize_t n;

	for (;;) {
		int64_t left = end - now_ms();

		if (left <= 0)
			return -ETIMEDOUT;
		if (poll(p, ARRAY_SIZE(p), (int)left) < 0) {
			if (errno != EINTR)
				return -errno;
			continue;
		}
		if (p[1].revents)
			return -EINTR;
		n = pcilu_msg_recv(v->sock, buf, sizeof(buf), &fd);
		if (n != -EAGAIN && n != -EINTR)
			break;
	}
	if (n <= 0)
		return n ? (int)n : -ECONNRESET;
	if ((size_t)n != sizeof(buf))
		return -EPROTO;
	memcpy(&any, buf, sizeof(any));
	return pcilu_msg_parse_reply(buf, (size_t)n, &any, msg) ? -EPROTO : 0;
}

struct answers {
	char why[PCILU_MSG_NAME_SIZE]; /* of who answers next, in its words */
	int no; /* how many are not ready */
	char first[200];
};

static void record(const struct pcilu_msg *msg, uint32_t event, const char *why)
{
	char message[256], pid[16];

	snprintf(pid, sizeof(pid), "%d", msg->pid);
	snprintf(message, sizeof(message), "%s (process %s) is not ready: %s",
		 msg->name, pid, why);
	journal(JOURNAL_NOT_READY, LOG_WARNING, message, "PCILU_SESSION",
		msg->name, "PCILU_PID", pid, "PCILU_STEP", events[event],
		"PCILU_REASON", why);
}

static void take_answer(struct vmms *v, uint32_t event, double seconds,
			const struct pcilu_msg *msg, struct answers *all)
{
	struct json_object *a = array_object(v->answers);
	const char *why = NULL;

	if (msg->value)
		why = all->why[0] ? all->why : strerror((int)msg->value);
	add_str(a, "name", msg->name);
	add_int(a, "pid", msg->pid);
	add_int(a, "uid", msg->uid);
	add_str(a, "event", events[event]);
	add_bool(a, "ready", !why);
	add_str(a, "reason", why);
	json_object_object_add(a, "seconds", json_object_new_double(seconds));
	if (!why)
		return;
	record(msg, event, why);
	if (!all->no++)
		snprintf(all->first, sizeof(all->first), "%s (process %d): %s",
			 msg->name, msg->pid, why);
	else
		fprintf(stderr, "pcilu: %s (process %d) is not ready: %s\n",
			msg->name, msg->pid, why);
}

/* Until the last answer is there, and the reply: 0 or -errno */
static int collect(struct vmms *v, uint32_t event, struct answers *all)
{
	int64_t start = now_ms(), end = start + v->limit_ms + GRACE_MS;
	bool replied = false, ended = false;
	struct pcilu_msg msg = { 0 };
	int err = send_event(v, event);

	while (!err && !(replied && ended)) {
		err = receive(v, &msg, end);
		if (err)
			break;
		if (msg.type == PCILU_MSG_EVENT && msg.serial == v->serial) {
			err = msg.error;
			replied = true;
		} else if (msg.type == PCILU_MSG_REASON) {
			memcpy(all->why, msg.name, sizeof(all->why));
		} else if (msg.type == PCILU_MSG_ANSWER && msg.name[0]) {
			take_answer(v, event, (double)(now_ms() - start) / 1e3,
				    &msg, all);
			all->why[0] = '\0';
		} else if (msg.type == PCILU_MSG_ANSWER) {
			ended = true;
		}
	}
	return err;
}

static int explain(int err)
{
	switch (err) {
	case -EACCES:
		return fail(
			ST_PERMISSION,
			"the policy does not allow this user to hold, which asking owners needs");
	case -EBUSY:
		return fail(ST_FAILED, "another update is asking the owners");
	case -EINTR:
		return fail(ST_FAILED, "interrupted");
	default:
		return fail(ST_FAILED, "asking the owners through pcilud: %s",
			    strerror(-err));
	}
}

int vmms_ask(struct vmms *v, uint32_t event)
{
	struct answers all = { 0 };
	int err;

	if (event == PCILU_EVENT_PREPARE) {
		err = pcilu_client_connect();
		if (err < 0 && err != -ENOENT && err != -ECONNREFUSED)
			return explain(err);
		v->sock = err < 0 ? -1 : err;
	}
	if (v->sock < 0) /* without a daemon nobody can take part */
		return ST_YES;
	err = collect(v, event, &all);
	if (err == -EINVAL && event == PCILU_EVENT_PREPARE) {
		fputs("pcilu: this pcilud is an older one, which does not ask owners\n",
		      stderr);
		vmms_close(v);
		return ST_YES;
	}
	if (err)
		return explain(err);
	if (!all.no)
		return ST_YES;
	if (all.no == 1)
		return fail(ST_NO, "not ready is %s", all.first);
	return fail(ST_NO, "not ready is %s, and %d more", all.first,
		    all.no - 1);
}

/*
 * A pcilud that was restarted since they answered knows of no update, and has them take
 * back what they did: then nobody may jump.
 */
int vmms_done(struct vmms *v)
{
	int64_t end = now_ms() + GRACE_MS;
	struct pcilu_msg msg = { 0 };
	int err;

	if (v->sock < 0)
		return ST_YES;
	err = send_event(v, PCILU_MSG_EVENT_DONE);
	while (!err && (msg.type != PCILU_MSG_EVENT || msg.serial != v->serial))
		err = receive(v, &msg, end);
	if (!err)
		err = msg.error;
	return err ? fail(ST_FAILED,
			  "pcilud does not know of this update any more, and owners take back what they preserved: %s",
			  strerror(-err)) :
		     ST_YES;
}

void vmms_abort(struct vmms *v)
{
	if (v->sock >= 0)
		send_event(v, PCILU_EVENT_ABORT);
}

void vmms_call_off(void)
{
	struct vmms v = { .sock = pcilu_client_connect(), .signals = -1 };

	vmms_abort(&v);
	vmms_close(&v);
}

void vmms_close(struct vmms *v)
{
	if (v->sock >= 0)
		close(v->sock);
	v->sock = -1;
}

bool vmms_has(const pid_t *pids, size_t n, pid_t pid)
{
	while (n--)
		if (pids[n] == pid)
			return true;
	return false;
}

size_t vmms_list(pid_t **pids)
{
	struct pcilu_msg request, reply;
	uint32_t serial = 0, index = 0;
	autoclose int fd = -1;
	size_t n = 0;
	int sock = pcilu_client_connect();

	*pids = NULL;
	while (sock >= 0) {
		pid_t *more;

		pcilu_msg_init(&request, PCILU_MSG_SUBSCRIBERS, NULL);
		request.index = index;
		if (pcilu_client_call(&sock, &serial, &request, &reply, &fd) ||
		    reply.index < index)
			break;
		more = reallocarray(*pids, n + 1, sizeof(**pids));
		if (!more)
			break;
		*pids = more;
		more[n++] = reply.pid;
		index = reply.index + 1;
	}
	if (sock >= 0)
		close(sock);
	return n;
}
