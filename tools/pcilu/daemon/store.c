// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "../../../lib/include/pcilu.h"
#include "../../../lib/src/cleanup.h"
#include "../../../lib/src/luo.h"
#include "../common/log.h"
#include "store.h"

#define FLUSH_LIMIT_US (2ULL * 1000 * 1000)

static const char letters[] = { [PCILU_DIRECTION_OUTGOING] = 'o',
				[PCILU_DIRECTION_INCOMING] = 'i' };
static const char spare_letter = 'a';
static const char kept_letters[] = "kl";

static bool dropped; /* since systemd was waited for */

void store_name(const struct entry *e, char name[STORE_NAME_SIZE])
{
	snprintf(name, STORE_NAME_SIZE, "%c.%s", e->tag, e->name);
}

void store_kept_name(const struct entry *e, char name[STORE_NAME_SIZE])
{
	snprintf(name, STORE_NAME_SIZE, "%c.%s", kept_letters[e->kept_spare],
		 e->name);
}

char store_tag(struct registry *reg, uint32_t direction, const char *name)
{
	const struct entry *namesake = registry_find(reg, !direction, name);

	if (namesake && namesake->tag == letters[direction])
		return spare_letter;
	return letters[direction];
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

void store_drop(const char *name)
{
	if (sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", name) > 0)
		dropped = true;
}

void store_put_again(struct registry *reg)
{
	char name[STORE_NAME_SIZE];
	struct entry *e;
	uint32_t i;

	store_put(STORE_TABLE, registry_fd(reg));
	for (i = 0; (e = registry_next(reg, &i)); i++) {
		if (e->fd < 0)
			continue;
		if (strcmp(e->name, OWN_SESSION) != 0)
			store_name(e, name);
		else
			strcpy(name, STORE_OWN);
		store_put(name, e->fd);
		if (e->kept < 0)
			continue;
		store_kept_name(e, name);
		store_put(name, e->kept);
	}
}

void store_flush(void)
{
	dropped = false;
	if (getenv("NOTIFY_SOCKET"))
		sd_notify_barrier(0, FLUSH_LIMIT_US);
}

bool store_flush_dropped(void)
{
	if (!dropped)
		return false;
	store_flush();
	return true;
}

int store_get(struct stored *s)
{
	char **names = NULL;
	int i, n;

	*s = (struct stored){ .listener = -1 };
	n = sd_listen_fds_with_names(1, &names);
	if (n <= 0)
		return n;
	s->all = calloc(n, sizeof(*s->all));
	if (!s->all)
		return -ENOMEM;
	for (i = 0; i < n; i++) {
		int fd = SD_LISTEN_FDS_START + i;

		if (sd_is_socket(fd, AF_UNIX, SOCK_SEQPACKET, 1) > 0) {
			s->listener = fd;
			free(names[i]);
			continue;
		}
		s->all[s->count++] = (struct stored_fd){ names[i], fd };
	}
	free(names);
	return 0;
}

int store_take(struct stored *s, const char *name)
{
	size_t i;

	for (i = 0; i < s->count; i++)
		if (s->all[i].fd >= 0 && !strcmp(s->all[i].name, name))
			return take_fd(&s->all[i].fd);
	return -1;
}

static bool is_session(const struct stored_fd *s)
{
	return s->name[0] && s->name[1] == '.' && strchr("oia", s->name[0]) &&
	       s->name[2];
}

static void restore(const struct stored_fd *s, struct registry *reg)
{
	int incoming = luo_is_incoming(s->fd);
	const char *name = s->name + 2;
	uint32_t direction;
	struct entry *e;

	if (incoming < 0) /* the kernel does not tell: as it was when stored */
		incoming = s->name[0] == letters[PCILU_DIRECTION_INCOMING];
	direction = incoming ? PCILU_DIRECTION_INCOMING :
			       PCILU_DIRECTION_OUTGOING;
	e = registry_find(reg, direction, name);
	if (e && e->fd >= 0) {
		log_msg(LOG_WARNING, "systemd kept '%s' twice", name);
		close(s->fd);
		return;
	}
	if (!e) {
		log_msg(LOG_NOTICE,
			"session '%s' was not in the list, and is there", name);
		e = registry_add(reg, direction, name, 0, 0, -1);
	}
	if (!e) {
		log_msg(LOG_ERR,
			"no room in the list for session '%s': it lives, but cannot be asked for",
			name);
		return; /* and stays open */
	}
	e->fd = s->fd;
	e->tag = s->name[0];
}

/* An iommufd is no use without the session that it was kept with */
static bool restore_kept(const struct stored_fd *s, struct registry *reg)
{
	struct entry *e;

	if (!s->name[0] || !strchr(kept_letters, s->name[0]) ||
	    s->name[1] != '.')
		return false;
	e = registry_find(reg, PCILU_DIRECTION_INCOMING, s->name + 2);
	if (e && e->fd >= 0 && e->kept < 0) {
		e->kept = s->fd;
		e->kept_spare = s->name[0] == kept_letters[1];
		return true;
	}
	store_drop(s->name);
	close(s->fd);
	return true;
}

void store_restore(struct stored *s, struct registry *reg)
{
	size_t i;

	for (i = 0; i < s->count; i++)
		if (s->all[i].fd >= 0 && is_session(&s->all[i]))
			restore(&s->all[i], reg);
	for (i = 0; i < s->count; i++) {
		struct stored_fd *f = &s->all[i];

		if (f->fd >= 0 && !is_session(f) && !restore_kept(f, reg)) {
			log_msg(LOG_NOTICE,
				"'%s' was kept for another pcilud, and still is",
				f->name);
			close(f->fd);
		}
		free(f->name);
	}
	free(s->all);
	*s = (struct stored){ .listener = -1 };
}
