// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "../../../lib/include/pcilu.h"
#include "../../../lib/src/cleanup.h"
#include "../common/log.h"
#include "store.h"

/* Names of stored sessions: a letter for the direction, a dot, the name */
static const char letter[] = { [PCILU_OUTGOING] = 'o', [PCILU_INCOMING] = 'i' };

#define STORE_NAME_SIZE (PCILU_MSG_NAME_SIZE + 2)

static void entry_name(const struct entry *e, char name[STORE_NAME_SIZE])
{
	snprintf(name, STORE_NAME_SIZE, "%c.%s", letter[e->direction], e->name);
}

void store_put(const char *name, int fd)
{
	autofree char *state = NULL;

	if (asprintf(&state, "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name) < 0) {
		state = NULL;
		return;
	}
	if (sd_pid_notify_with_fds(0, 0, state, &fd, 1) < 0)
		log_msg(LOG_WARNING, "systemd does not keep '%s' for us", name);
}

void store_put_entry(const struct entry *e)
{
	char name[STORE_NAME_SIZE];

	entry_name(e, name);
	store_put(name, e->fd);
}

void store_drop_entry(const struct entry *e)
{
	char name[STORE_NAME_SIZE];

	entry_name(e, name);
	sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", name);
}

int store_get(struct stored *s)
{
	char **names = NULL;
	int i, n;

	*s = (struct stored){ .listener = -1, .table = -1, .own = -1 };
	n = sd_listen_fds_with_names(1, &names);
	if (n <= 0)
		return n;
	s->fd = calloc(n, sizeof(*s->fd));
	if (!s->fd)
		return -ENOMEM;
	s->name = names;
	for (i = 0; i < n; i++) {
		int fd = SD_LISTEN_FDS_START + i;

		if (sd_is_socket(fd, AF_UNIX, SOCK_SEQPACKET, 1) > 0) {
			s->listener = fd;
		} else if (!strcmp(names[i], STORE_TABLE)) {
			s->table = fd;
		} else if (!strcmp(names[i], STORE_OWN)) {
			s->own = fd;
		} else {
			s->fd[s->count] = fd;
			s->name[s->count++] = names[i];
			continue;
		}
		free(names[i]);
	}
	return 0;
}

static int direction_of(const char *name)
{
	if (name[0] && name[1] == '.') {
		if (name[0] == letter[PCILU_OUTGOING])
			return PCILU_OUTGOING;
		if (name[0] == letter[PCILU_INCOMING])
			return PCILU_INCOMING;
	}
	return -1;
}

void store_restore(struct stored *s, struct registry *reg)
{
	unsigned int i;

	for (i = 0; i < s->count; i++) {
		int direction = direction_of(s->name[i]);
		struct entry *e = NULL;

		if (direction >= 0)
			e = registry_find(reg, direction, s->name[i] + 2);
		if (e && e->fd < 0) {
			e->fd = s->fd[i];
		} else {
			log_msg(LOG_WARNING,
				"'%s' was kept for us, but we do not know it",
				s->name[i]);
			close(s->fd[i]);
		}
		free(s->name[i]);
	}
	free(s->name);
	free(s->fd);
}
