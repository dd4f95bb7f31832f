// SPDX-License-Identifier: GPL-2.0

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../lib/src/cleanup.h"
#include "../../../lib/src/path.h"
#include "kconfig.h"
#include "unpack.h"

char *kernel_release(void)
{
	autofree char *path = path_of("/proc/sys/kernel/osrelease");
	char *release = NULL;

	return path && path_line(path, &release) >= 0 ? release : NULL;
}

char *kconfig_read(const char *path)
{
	autofree char *raw = NULL;
	ssize_t n = path_read(path, KCONFIG_MAX, &raw);
	struct blob text;

	if (n < 0)
		return NULL;
	if (unpack_kind(raw, (size_t)n) != UNPACK_GZIP)
		return take_ptr(raw);
	return unpack(UNPACK_GZIP, raw, (size_t)n, KCONFIG_MAX, &text) ?
		       NULL :
		       text.data;
}

char *kconfig_running(void)
{
	autofree char *proc = path_of("/proc/config.gz");
	autofree char *release = kernel_release();
	autofree char *boot =
		path_of("/boot/config-%s", release ? release : "");
	char *text = proc ? kconfig_read(proc) : NULL;

	return text || !boot ? text : kconfig_read(boot);
}

/* A backslash stands before a quote and before itself */
static char *unquoted(const char *text, size_t len)
{
	char *copy = strndup(text, len), *to = copy, *from = copy;

	while (copy && *from) {
		if (*from == '\\' && from[1])
			from++;
		*to++ = *from++;
	}
	if (copy)
		*to = '\0';
	return copy;
}

char *kconfig_get(const char *text, const char *option)
{
	size_t n = strlen(option);
	const char *p = text;

	while (p && *p) {
		if (!strncmp(p, option, n) && p[n] == '=') {
			const char *v = p + n + 1;
			size_t len = strcspn(v, "\n");

			if (len >= 2 && v[0] == '"' && v[len - 1] == '"')
				return unquoted(v + 1, len - 2);
			return strndup(v, len);
		}
		p = strchr(p, '\n');
		p = p ? p + 1 : NULL;
	}
	return NULL;
}

bool kconfig_is(const char *text, const char *option, const char *value)
{
	autofree char *v = kconfig_get(text, option);

	return v && !strcmp(v, value);
}
