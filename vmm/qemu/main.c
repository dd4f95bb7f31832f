// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../../lib/src/path.h"
#include "broker.h"

static char last[512];

int fail(int err, const char *fmt, ...)
{
	size_t at;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(last, sizeof(last), fmt, ap);
	va_end(ap);
	at = strlen(last);
	if (err)
		snprintf(last + at, sizeof(last) - at, ": %s", strerror(-err));
	fprintf(stderr, "pcilu-qemu: error: %s\n", last);
	return err ? err : -EINVAL;
}

const char *fail_text(void)
{
	return last;
}

void say(const char *fmt, ...)
{
	va_list ap;

	fputs("pcilu-qemu: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

char *run_path(const char *name, const char *file)
{
	char *path = path_of(RUN_DIR "/%s/%s", name, file);

	if (!path)
		fail(-ENOMEM, "%s", file);
	return path;
}

static int usage(FILE *to)
{
	fputs("usage: pcilu-qemu save NAME QMP-SOCKET   stop that QEMU, and have its guest preserved\n"
	      "       pcilu-qemu resume NAME            no live update after all: the guest goes on\n"
	      "       pcilu-qemu restore NAME           in the next kernel: become the QEMU of that guest\n"
	      "NAME is that of the Live Update session. See pcilu-qemu(8), also for which releases of\n"
	      "QEMU and which devices this works.\n",
	      to);
	return to == stdout ? 0 : 2;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	int err = 0;

	if (!strcmp(verb, "--help"))
		return usage(stdout);
	if (!strcmp(verb, "--version")) {
		puts("pcilu-qemu " PCILU_VERSION);
		return 0;
	}
	if (argc < 3 || (err = pcilu_name_valid(argv[2])) == 0) {
		if (argc >= 3)
			fail(0, "%s is no name of a session", argv[2]);
		return usage(stderr);
	}
	if (!strcmp(verb, "save") && argc == 4)
		err = save(argv[2], argv[3]);
	else if (!strcmp(verb, "keep") && argc == 3)
		err = keep(argv[2]);
	else if (!strcmp(verb, "resume") && argc == 3)
		err = resume(argv[2]);
	else if (!strcmp(verb, "restore") && argc == 3)
		err = restore(argv[2]);
	else
		return usage(stderr);
	return err ? 1 : 0;
}
