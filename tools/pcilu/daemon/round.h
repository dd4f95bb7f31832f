/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One live update asks those who own devices: a round. Whoever subscribes while it is
 * going on is asked what the others have been asked, one thing after the other, so that
 * nobody runs into the kexec because of coming late.
 *
 * No sockets in here. Who is to be told is never removed by telling it.
 */
#ifndef PCILUD_ROUND_H
#define PCILUD_ROUND_H

#include "../../../lib/src/proto.h"
#include "policy.h"

/* Of one user other than root */
#define SUBSCRIBERS_PER_USER 512

/* A connection, as far as rounds go. Zero but for the peer when it is made. */
struct member {
	struct peer peer;
	struct member *next; /* subscriber */
	char name[PCILU_MSG_NAME_SIZE]; /* empty: no subscriber */
	uint32_t told; /* the last event it was told in this round, 0: none */
	bool waiting; /* for its answer */
	uint32_t verdict; /* 0, or why not, a positive errno value */
	char why[PCILU_MSG_NAME_SIZE]; /* in words, if it has said any */
};

struct round_ops {
	/* 0, or -errno, and then the connection is as good as closed */
	int (*send)(struct member *to, const struct pcilu_msg *msg);
	/* Calls round_time_out() after that many milliseconds; 0: not any more */
	void (*set_timer)(void *ctx, uint32_t ms);
};

struct round {
	const struct round_ops *ops;
	void *ctx;
	struct member *subscribers;
	struct member *leader; /* whose update it is, NULL: there is none */
	uint32_t event; /* what all are to reach */
	uint32_t limit; /* milliseconds */
	bool asking; /* the leader waits for the last answer */
	struct pcilu_msg gone; /* who left between two events, if it has a name */
};

/* All return 0 or the error of the reply */
int round_subscribe(struct round *r, struct member *m, const char *name);
int round_answer(struct round *r, struct member *m, uint32_t event,
		 uint32_t verdict);
int round_reason(struct round *r, struct member *m, uint32_t event,
		 const char *why);
int round_event(struct round *r, struct member *leader, uint32_t event,
		uint32_t limit);
/* The first subscriber at or after @index, or NULL */
const struct member *round_next(const struct round *r, uint32_t *index);

void round_time_out(struct round *r);
/* A connection ends */
void round_leave(struct round *r, struct member *m);
/* Is it one that has nothing to say for hours? */
static inline bool round_has(const struct round *r, const struct member *m)
{
	return m->name[0] || r->leader == m;
}

#endif /* PCILUD_ROUND_H */
