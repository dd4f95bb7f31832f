/* SPDX-License-Identifier: GPL-2.0 */
/* Messages on standard error, with syslog's levels for the journal. */
#ifndef PCILU_LOG_H
#define PCILU_LOG_H

#include <syslog.h>

extern const char *log_program;
extern int log_level; /* what is more detailed than this is not said */

void log_msg(int level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#endif /* PCILU_LOG_H */
