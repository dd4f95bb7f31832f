// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../../lib/include/pcilu.h"
#include "../../../lib/src/cleanup.h"
#include "../../../lib/src/luo.h"
#include "../common/log.h"
#include "dispatch.h"
#include "handover.h"
#include "retrieve.h"

#define TOKEN_REGISTRY 1

/* What the last kernel's daemon left is stored under this name while it is read */
#define STORE_LEFT "left"
#define STORE_OWN_SPARE "own.1"

/* A session of ours that systemd may have */
struct kept {
	const char *stored_as; /* NULL if it is not stored */
	int fd;
};

static void forget(struct kept *k)
{
	if (k->stored_as)
		store_drop(k->stored_as);
	if (k->fd >= 0)
		close(k->fd);
	*k = (struct kept){ .fd = -1 };
}

/* Of all that it can be stored as, the session of this or of the last kernel */
static struct kept take_own(struct stored *s, int incoming)
{
	static const char *const names[] = { STORE_OWN, STORE_OWN_SPARE,
					     STORE_LEFT };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		struct stored_fd *f;

		for (f = s->all; f < s->all + s->count; f++)
			if (f->fd >= 0 && !strcmp(f->name, names[i]) &&
			    (luo_is_incoming(f->fd) == 1) == incoming)
				return (struct kept){ names[i],
						      take_fd(&f->fd) };
	}
	return (struct kept){ .fd = -1 };
}

static void copy(struct registry *reg, struct registry *old, uint32_t from,
		 uint32_t to)
{
	unsigned int n = 0;
	struct entry *e;
	uint32_t i;

	for (i = 0; (e = registry_next(old, &i)); i++) {
		if (e->direction != from || !strcmp(e->name, OWN_SESSION))
			continue;
		if (!registry_add(reg, to, e->name, e->uid, 0, -1))
			break;
		n++;
	}
	if (from != to)
		log_msg(LOG_NOTICE, "%u sessions from the previous kernel", n);
}

/* The previous daemon's outgoing sessions are this one's incoming ones */
static void inherit(struct registry *reg, int left)
{
	int memfd = luo_retrieve_fd(left, TOKEN_REGISTRY);
	struct registry *old;

	if (memfd < 0) {
		log_msg(LOG_ERR,
			"the list of sessions from the previous kernel is lost: %s",
			strerror(-memfd));
		return;
	}
	old = registry_from_fd(memfd);
	if (!old) {
		log_msg(LOG_ERR,
			"the list of sessions from the previous kernel is not understood (%s): sessions can be retrieved, but not listed",
			strerror(errno));
		close(memfd);
		return;
	}
	copy(reg, old, PCILU_DIRECTION_OUTGOING, PCILU_DIRECTION_INCOMING);
	registry_free(old);
}

static void take_left(int luo, struct kept *left)
{
	if (luo < 0 || left->fd >= 0)
		return;
	left->fd = retrieve_session(luo, OWN_SESSION, STORE_LEFT);
	if (left->fd >= 0)
		left->stored_as = STORE_LEFT;
	else if (left->fd != -ENOENT)
		log_msg(LOG_ERR,
			"the session '" OWN_SESSION "' cannot be retrieved: %s",
			strerror(-left->fd));
}

/* The name is free only when the last copy of an earlier one is closed */
static int create_own(int luo)
{
	const struct timespec pause = { .tv_nsec = 20L * 1000 * 1000 };
	int i, fd;

	for (i = 0;; i++) {
		fd = luo_session_create(luo, OWN_SESSION);
		if (fd != -EEXIST || i == 50)
			return fd;
		nanosleep(&pause, NULL);
	}
}

/* Puts the registry into a session of this kernel */
static void preserve(struct registry *reg, int luo, const struct kept *left)
{
	autoclose int own = luo < 0 ? -ENODEV : create_own(luo);
	int err = own < 0 ? own :
			    luo_preserve_fd(own, registry_fd(reg),
					    TOKEN_REGISTRY);

	store_put(STORE_TABLE, registry_fd(reg));
	if (!err && !registry_add(reg, PCILU_DIRECTION_OUTGOING, OWN_SESSION, 0,
				  getpid(), own))
		err = -ENOSPC;
	if (err) {
		log_msg(LOG_ERR,
			"the list of sessions cannot be preserved (%s): the next kernel can retrieve sessions, but not list them",
			strerror(-err));
		return;
	}
	store_put(left->stored_as && !strcmp(left->stored_as, STORE_OWN) ?
			  STORE_OWN_SPARE :
			  STORE_OWN,
		  own);
	take_fd(&own);
}

/*
 * A list that is not preserved yet, from whoever knows most: the last kernel's
 * daemon, or an earlier one of this kernel that did not come to preserving its own.
 */
static struct registry *make(int luo, int table, struct kept *left)
{
	struct registry *reg = registry_new(), *old;

	if (!reg)
		return NULL;
	take_left(luo, left);
	old = left->fd < 0 && table >= 0 ? registry_from_fd(table) : NULL;
	if (left->fd >= 0) {
		inherit(reg, left->fd);
	} else if (old) {
		copy(reg, old, PCILU_DIRECTION_OUTGOING,
		     PCILU_DIRECTION_OUTGOING);
		copy(reg, old, PCILU_DIRECTION_INCOMING,
		     PCILU_DIRECTION_INCOMING);
	} else if (table >= 0) {
		log_msg(LOG_ERR,
			"the list of sessions that systemd kept is not understood: made anew from the sessions");
	}
	if (old)
		registry_free(old);
	else if (table >= 0)
		close(table);
	return reg;
}

struct registry *handover_start(int luo, struct stored *s)
{
	struct kept left = take_own(s, 1), own = take_own(s, 0);
	int table = store_take(s, STORE_TABLE);
	struct registry *reg = NULL;
	struct entry *e;

	if (table >= 0 && own.fd >= 0)
		reg = registry_from_fd(table);
	if (reg) {
		e = registry_find(reg, PCILU_DIRECTION_OUTGOING, OWN_SESSION);
		if (!e)
			e = registry_add(reg, PCILU_DIRECTION_OUTGOING,
					 OWN_SESSION, 0, getpid(), -1);
		if (e)
			e->fd = take_fd(&own.fd);
		log_msg(LOG_NOTICE, "restarted with what systemd kept");
	} else {
		reg = make(luo, table, &left);
		if (!reg)
			return NULL;
		if (table >= 0)
			store_drop(STORE_TABLE);
		if (own.fd >= 0) {
			forget(&own);
			store_flush();
		}
		preserve(reg, luo, &left);
	}
	store_restore(s, reg);
	/* Only now is the old list not needed any more: closing it finishes it */
	forget(&left);
	return reg;
}
