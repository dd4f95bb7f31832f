// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../../lib/src/cleanup.h"
#include "../../../lib/src/path.h"
#include "veto.h"

#define BEGIN "kexec refused: session ["
#define END "] cannot be frozen"
#define RECORD 8192 /* a record of the kernel's log is never longer */

int veto_watch(void)
{
	autofree char *path = path_of("/dev/kmsg");
	int fd = path ? open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC) : -1;

	if (fd >= 0 && lseek(fd, 0, SEEK_END) < 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static char *name_in(const char *record)
{
	const char *begin = strstr(record, BEGIN), *end;

	if (!begin)
		return NULL;
	begin += strlen(BEGIN);
	end = strstr(begin, END);
	return end ? strndup(begin, (size_t)(end - begin)) : NULL;
}

char *veto_session(int log)
{
	char record[RECORD + 1], *name = NULL;
	ssize_t n;

	if (log < 0)
		return NULL;
	while (!name) {
		n = read(log, record, RECORD);
		if (n < 0 && errno == EPIPE)
			continue; /* overwritten: the next one is there */
		if (n <= 0)
			break;
		record[n] = '\0';
		name = name_in(record);
	}
	close(log);
	return name;
}
