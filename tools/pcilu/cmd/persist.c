// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../../lib/src/path.h"
#include "cmd.h"
#include "persist.h"

/* Before 80-drivers.rules, which loads the driver that the device asks for */
#define RULES "/etc/udev/rules.d/50-pcilu.rules"
#define HEAD "# Written by pcilu bind --persist and pcilu unbind --persist\n"
#define RULE_BEGINS "ACTION==\"add\", SUBSYSTEM==\"pci\", KERNEL==\"%s\", "
#define RULE_ENDS \
	"ATTR{driver_override}=\"vfio-pci\", RUN{builtin}+=\"kmod load vfio-pci\"\n"

static char *read_rules(void)
{
	autofree char *path = path_of(RULES);
	char *text = NULL;

	return path && path_read(path, 1 << 20, &text) >= 0 ? text : NULL;
}

static bool is_for(const char *line, const char *bdf)
{
	char begins[128];

	snprintf(begins, sizeof(begins), RULE_BEGINS, bdf);
	return !strncmp(line, begins, strlen(begins));
}

bool persist_has(const char *bdf)
{
	autofree char *rules = read_rules();
	char *line, *save = NULL;

	if (!rules)
		return false;
	for (line = strtok_r(rules, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save))
		if (is_for(line, bdf))
			return true;
	return false;
}

static int write_rules(const char *text)
{
	autofree char *udev = path_of("/etc/udev");
	autofree char *dir = path_of("/etc/udev/rules.d");
	autofree char *path = path_of(RULES);
	autofree char *temp = path_of(RULES ".new");
	autofclose FILE *f = NULL;

	if (!udev || !dir || !path || !temp)
		return -ENOMEM;
	/* Where udev is not installed there is nothing yet */
	if ((mkdir(udev, 0755) && errno != EEXIST) ||
	    (mkdir(dir, 0755) && errno != EEXIST))
		return -errno;
	f = fopen(temp, "we");
	if (!f)
		return -errno;
	if (fputs(text, f) < 0 || fflush(f) || fsync(fileno(f)) ||
	    rename(temp, path)) {
		int err = -errno;

		unlink(temp);
		return err;
	}
	return 0;
}

int persist_set(const char *bdf, bool on)
{
	autofree char *rules = read_rules();
	autofree char *text = NULL;
	char *line, *save = NULL;
	size_t n;
	FILE *out;
	int err;

	if (on == persist_has(bdf))
		return ST_YES;
	out = open_memstream(&text, &n);
	if (!out)
		return fail(ST_FAILED, "out of memory");
	if (!rules)
		fputs(HEAD, out);
	for (line = rules ? strtok_r(rules, "\n", &save) : NULL; line;
	     line = strtok_r(NULL, "\n", &save))
		if (!is_for(line, bdf))
			fprintf(out, "%s\n", line);
	if (on)
		fprintf(out, RULE_BEGINS RULE_ENDS, bdf);
	fclose(out);
	err = write_rules(text);
	return err ? fail(status_of(err), RULES ": %s", strerror(-err)) :
		     ST_YES;
}
