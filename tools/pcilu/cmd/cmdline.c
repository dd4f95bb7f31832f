// SPDX-License-Identifier: GPL-2.0

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../lib/src/cleanup.h"
#include "../../../lib/src/path.h"
#include "cmdline.h"
#include "kconfig.h"
#include "params.h"

/* A word with the blanks in its quotes; returns what is behind it */
static const char *word(const char *at, const char **start, size_t *len)
{
	bool inside = false;

	while (*at == ' ' || *at == '\t' || *at == '\n')
		at++;
	*start = at;
	for (; *at && (inside || !strchr(" \t\n", *at)); at++)
		if (*at == '"')
			inside = !inside;
	*len = (size_t)(at - *start);
	return at;
}

char *cmdline_running(void)
{
	autofree char *path = path_of("/proc/cmdline");
	autofree char *line = NULL;
	const char *at, *start;
	char *out;
	size_t len;

	if (!path || path_line(path, &line) < 0)
		return NULL;
	out = calloc(1, strlen(line) + 1);
	/* What the boot loader added is about the image that it loaded */
	for (at = word(line, &start, &len); out && len;
	     at = word(at, &start, &len)) {
		if (!strncmp(start, "BOOT_IMAGE=", 11) ||
		    !strncmp(start, "initrd=", 7))
			continue;
		if (*out)
			strcat(out, " ");
		strncat(out, start, len);
	}
	return out;
}

char *cmdline_join(const char *line, const char *more)
{
	const char *start, *at = line;
	char *both = NULL;
	size_t len;

	do {
		at = word(at, &start, &len);
	} while (len && !(len == 2 && !strncmp(start, "--", 2)));
	if (asprintf(&both, "%.*s%s%s%s%s", (int)(start - line), line,
		     start > line && start[-1] == ' ' ? "" : " ", more,
		     *start ? " " : "", start) < 0)
		return NULL;
	return both;
}

/*
 * x86 has CMDLINE_BOOL, and CMDLINE_OVERRIDE to ignore what is given; others have
 * CMDLINE_FORCE, CMDLINE_EXTEND, or use theirs if none is given.
 */
char *cmdline_effective(const char *given, const char *config,
			const char *bootconfig, const char **how)
{
	autofree char *own = config ? kconfig_get(config, "CONFIG_CMDLINE") :
				      NULL;
	const char *before = "", *after = "";
	char *line = NULL;

	*how = "";
	if (own && *own) {
		if (kconfig_is(config, "CONFIG_CMDLINE_OVERRIDE", "y") ||
		    kconfig_is(config, "CONFIG_CMDLINE_FORCE", "y")) {
			*how = "CONFIG_CMDLINE overrides what is given";
			given = own;
		} else if (kconfig_is(config, "CONFIG_CMDLINE_EXTEND", "y")) {
			*how = "CONFIG_CMDLINE is added";
			after = own;
		} else if (kconfig_is(config, "CONFIG_CMDLINE_BOOL", "y")) {
			*how = "CONFIG_CMDLINE comes before it";
			before = own;
		} else if (!*given) {
			*how = "CONFIG_CMDLINE stands in for it";
			given = own;
		}
	}
	if (bootconfig && *bootconfig)
		*how = "a boot configuration comes before it";
	if (asprintf(&line, "%s%s%s%s%s%s", bootconfig ? bootconfig : "",
		     before, *before ? " " : "", given, *after ? " " : "",
		     after) < 0)
		return NULL;
	return line;
}
