// SPDX-License-Identifier: GPL-2.0

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "log.h"

const char *log_program = "pcilu";
int log_level = LOG_NOTICE;

static void print(int level, const char *fmt, va_list ap)
{
	if (level > log_level)
		return;
	flockfile(stderr);
	/* The journal takes the level from the beginning of the line */
	if (getenv("JOURNAL_STREAM"))
		fprintf(stderr, "<%d>", level);
	else
		fprintf(stderr, "%s: ", log_program);
	vfprintf(stderr, fmt, ap);
	putc('\n', stderr);
	funlockfile(stderr);
}

void log_msg(int level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	print(level, fmt, ap);
	va_end(ap);
}

static struct log_limit *limits;

static time_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

static void renew(struct log_limit *l, time_t t)
{
	if (t - l->since < LOG_INTERVAL)
		return;
	if (l->left_out)
		log_msg(l->level, "%u more %s in %ld s", l->left_out, l->what,
			(long)(t - l->since));
	l->since = t;
	l->printed = 0;
	l->left_out = 0;
}

void log_limited(struct log_limit *l, const char *fmt, ...)
{
	time_t t = now();
	va_list ap;

	if (!l->listed) {
		l->listed = true;
		l->since = t;
		l->next = limits;
		limits = l;
	}
	renew(l, t);
	if (l->printed == LOG_BURST) {
		l->left_out++;
		return;
	}
	l->printed++;
	va_start(ap, fmt);
	print(l->level, fmt, ap);
	va_end(ap);
}

void log_tick(void)
{
	struct log_limit *l;

	for (l = limits; l; l = l->next)
		renew(l, now());
}
