// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <string.h>

#include "../../../lib/include/pcilu.h"
#include "../common/log.h"
#include "round.h"

static void unasked(struct pcilu_msg *msg, enum pcilu_msg_type type)
{
	pcilu_msg_init(msg, type, NULL);
	msg->flags = PCILU_MSG_F_REPLY;
}

static void describe(struct pcilu_msg *msg, const struct member *m,
		     uint32_t verdict)
{
	unasked(msg, PCILU_MSG_ANSWER);
	memcpy(msg->name, m->name, sizeof(msg->name));
	msg->uid = m->peer.uid;
	msg->pid = m->peer.pid;
	msg->value = verdict;
}

/* To the leader, if it waits; what it did not wait for is told with the next event */
static void report(struct round *r, const struct member *m)
{
	struct pcilu_msg msg;

	if (!r->asking)
		return;
	if (m->verdict && m->why[0]) {
		unasked(&msg, PCILU_MSG_REASON);
		memcpy(msg.name, m->why, sizeof(msg.name));
		r->ops->send(r->leader, &msg);
	}
	describe(&msg, m, m->verdict);
	r->ops->send(r->leader, &msg);
	if (m->verdict)
		log_msg(LOG_NOTICE, "'%s' (process %d) is not ready: %s",
			m->name, m->peer.pid,
			m->why[0] ? m->why : strerror((int)m->verdict));
}

static void settle(struct round *r)
{
	const struct member *m;
	struct pcilu_msg end;

	if (!r->asking)
		return;
	for (m = r->subscribers; m; m = m->next)
		if (m->waiting)
			return;
	unasked(&end, PCILU_MSG_ANSWER);
	r->ops->send(r->leader, &end);
	r->asking = false;
	r->ops->set_timer(r->ctx, 0);
}

static int tell(struct round *r, struct member *m, uint32_t event,
		uint32_t limit)
{
	struct pcilu_msg msg;

	unasked(&msg, PCILU_MSG_EVENT);
	msg.index = event;
	msg.value = limit;
	return r->ops->send(m, &msg);
}

/* Towards what all are to reach, a step at a time */
static void advance(struct round *r, struct member *m)
{
	if (m->waiting || m->verdict || m->told == r->event)
		return;
	m->told++;
	m->waiting = true;
	m->why[0] = '\0';
	if (tell(r, m, m->told, r->limit)) {
		m->waiting = false;
		m->verdict = ECONNRESET;
		report(r, m);
	}
}

static void forget(struct member *m)
{
	m->told = 0;
	m->waiting = false;
	m->verdict = 0;
	m->why[0] = '\0';
}

/* Whatever they have answered */
static void abort_round(struct round *r)
{
	struct member *m;

	for (m = r->subscribers; m; m = m->next) {
		if (m->told)
			tell(r, m, PCILU_EVENT_ABORT, 0);
		forget(m);
	}
	r->leader = NULL;
	r->event = 0;
	if (r->asking)
		r->ops->set_timer(r->ctx, 0);
	r->asking = false;
	r->gone.name[0] = '\0';
}

static void ask(struct round *r, uint32_t event, uint32_t limit)
{
	struct member *m;

	r->event = event;
	r->limit = limit;
	r->asking = true;
	r->ops->set_timer(r->ctx, limit);
	if (r->gone.name[0])
		r->ops->send(r->leader, &r->gone);
	for (m = r->subscribers; m; m = m->next) {
		if (m->verdict)
			report(r, m);
		advance(r, m);
	}
	settle(r);
}

int round_event(struct round *r, struct member *leader, uint32_t event,
		uint32_t limit)
{
	bool begins = event == PCILU_EVENT_PREPARE;
	/* One that is on its way has no leader any more, and anybody may call it off */
	bool own = r->leader == leader ||
		   (event == PCILU_EVENT_ABORT && !r->leader);

	if (leader->name[0])
		return -EINVAL;
	if (begins ? r->leader != NULL : !own)
		return begins ? -EBUSY : -EINVAL;
	switch (event) {
	case PCILU_EVENT_PREPARE:
	case PCILU_EVENT_GO:
		if (!limit || r->asking || (!begins && r->event != event - 1))
			return -EINVAL;
		if (begins) /* a kexec that was on its way did not take place */
			abort_round(r);
		r->leader = leader;
		ask(r, event, limit);
		return 0;
	case PCILU_EVENT_ABORT:
		abort_round(r);
		return 0;
	case PCILU_MSG_EVENT_DONE:
		if (r->asking || r->event != PCILU_EVENT_GO)
			return -EINVAL;
		r->leader = NULL;
		return 0;
	default:
		return -EINVAL;
	}
}

static bool has_place(const struct round *r, uid_t uid)
{
	unsigned int own = 0;
	const struct member *m;

	for (m = r->subscribers; m; m = m->next)
		own += m->peer.uid == uid;
	return uid == 0 || own < SUBSCRIBERS_PER_USER;
}

int round_subscribe(struct round *r, struct member *m, const char *name)
{
	if (m->name[0] || r->leader == m)
		return -EBUSY;
	if (!has_place(r, m->peer.uid))
		return -ENOSPC;
	memcpy(m->name, name, strlen(name) + 1);
	forget(m);
	m->next = r->subscribers;
	r->subscribers = m;
	log_msg(LOG_INFO, "'%s' (process %d) takes part in live updates",
		m->name, m->peer.pid);
	if (r->event)
		advance(r, m);
	return 0;
}

int round_answer(struct round *r, struct member *m, uint32_t event,
		 uint32_t verdict)
{
	if (!m->waiting || event != m->told)
		return -ECANCELED;
	m->waiting = false;
	m->verdict = verdict;
	if (verdict || m->told == r->event)
		report(r, m);
	else
		advance(r, m);
	settle(r);
	return 0;
}

int round_reason(struct round *r, struct member *m, uint32_t event,
		 const char *why)
{
	(void)r;
	if (!m->waiting || event != m->told)
		return -ECANCELED;
	/* To its end: a message has zeros there */
	memset(m->why, 0, sizeof(m->why));
	memcpy(m->why, why, strlen(why));
	return 0;
}

void round_time_out(struct round *r)
{
	struct member *m;

	for (m = r->subscribers; m; m = m->next) {
		if (!m->waiting)
			continue;
		m->waiting = false;
		m->verdict = ETIMEDOUT;
		m->why[0] = '\0';
		report(r, m);
	}
	settle(r);
}

static void unlink_member(struct round *r, struct member *m)
{
	struct member **p;

	for (p = &r->subscribers; *p; p = &(*p)->next) {
		if (*p != m)
			continue;
		*p = m->next;
		return;
	}
}

void round_leave(struct round *r, struct member *m)
{
	if (r->leader == m)
		abort_round(r);
	if (!m->name[0])
		return;
	unlink_member(r, m);
	if (!r->leader || (!m->waiting && m->verdict))
		return; /* nobody asks, or it is told already */
	m->verdict = ECONNRESET;
	m->why[0] = '\0';
	if (r->asking)
		report(r, m);
	else
		describe(&r->gone, m, ECONNRESET);
	settle(r);
}

const struct member *round_next(const struct round *r, uint32_t *index)
{
	const struct member *m = r->subscribers;
	uint32_t i;

	for (i = 0; m && i < *index; i++)
		m = m->next;
	return m;
}
