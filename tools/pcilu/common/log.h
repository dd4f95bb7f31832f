/* SPDX-License-Identifier: GPL-2.0 */
/* Messages on standard error, with their level for the journal. */
#ifndef PCILU_LOG_H
#define PCILU_LOG_H

#include <stdbool.h>
#include <syslog.h>
#include <time.h>

extern const char *log_program;
extern int log_level; /* the least important one that is printed */

void log_msg(int level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Messages of one kind, of which LOG_BURST are printed in LOG_INTERVAL seconds */
#define LOG_BURST 10
#define LOG_INTERVAL 30

struct log_limit {
	const char *what; /* "requests refused", for those that are left out */
	int level;
	unsigned int printed, left_out;
	time_t since;
	struct log_limit *next; /* of those that have printed */
	bool listed;
};

/* What others can cause at will goes through here */
void log_limited(struct log_limit *limit, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Says how many messages were left out in intervals that are over; call now and then */
void log_tick(void);

#endif /* PCILU_LOG_H */
