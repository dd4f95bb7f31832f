// SPDX-License-Identifier: LGPL-2.1-or-later

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "path.h"

const char *path_root(void)
{
	const char *root = secure_getenv("PCILU_SYSROOT");

	return root ? root : "";
}

char *path_of(const char *fmt, ...)
{
	autofree char *below = NULL;
	char *whole = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&below, fmt, ap);
	va_end(ap);
	if (n < 0) {
		below = NULL;
		return NULL;
	}
	if (asprintf(&whole, "%s%s", path_root(), below) < 0)
		return NULL;
	return whole;
}

ssize_t path_read(const char *path, size_t max, char **out)
{
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t room = 4096, len = 0;
	autofree char *buf = NULL;

	if (fd < 0)
		return -errno;
	for (;;) {
		char *more = realloc(buf, room + 1);
		ssize_t n;

		if (!more)
			return -ENOMEM;
		buf = more;
		n = read(fd, buf + len, room - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += n;
		if (len > max)
			return -EFBIG;
		if (len == room)
			room *= 2;
	}
	buf[len] = '\0';
	*out = take_ptr(buf);
	return (ssize_t)len;
}

ssize_t path_line(const char *path, char **out)
{
	ssize_t n = path_read(path, 1 << 20, out);

	if (n < 0)
		return n;
	(*out)[strcspn(*out, "\n")] = '\0';
	return (ssize_t)strlen(*out);
}
