// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "cmd.h"
#include "text.h"

static char last[512];

enum status fail(enum status status, const char *fmt, ...)
{
	autofree char *shown = NULL;
	va_list ap;

	fflush(stdout);
	va_start(ap, fmt);
	vsnprintf(last, sizeof(last), fmt, ap);
	va_end(ap);
	shown = text_printable(last);
	fprintf(stderr, "pcilu: %s\n", shown ? shown : "out of memory");
	return status;
}

const char *fail_text(void)
{
	return last[0] ? last : NULL;
}

enum status status_of(int err)
{
	switch (err < 0 ? -err : err) {
	case EPERM:
	case EACCES:
		return ST_PERMISSION;
	case ENOENT:
	case ENODEV:
	case ENOSYS:
	case ECONNREFUSED:
	case EOPNOTSUPP:
		return ST_ABSENT;
	default:
		return ST_FAILED;
	}
}
