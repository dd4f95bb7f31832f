// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <linux/kcmp.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../../lib/include/pcilu.h"
#include "../../../lib/src/cleanup.h"
#include "../common/log.h"
#include "dispatch.h"

struct call {
	struct dispatch *d;
	struct member *from;
	const struct peer *peer;
	const struct pcilu_msg *request;
	struct pcilu_msg *reply;
	int *came, *fd;
};

static bool begins_with(const char *name, const char *prefix)
{
	return !strncmp(name, prefix, strlen(prefix));
}

/* Some are nobody else's, whatever the policy says */
static bool is_allowed(const struct call *c, const char *name)
{
	return !begins_with(name, OWN_PREFIX) &&
	       !begins_with(name, SYSTEMD_PREFIX) &&
	       policy_may_use(c->d->policy, c->peer, name);
}

/* Root sees what there is, to know what would be lost */
static bool may_see(const struct call *c, const char *name)
{
	return is_allowed(c, name) ||
	       (c->peer->uid == 0 && !begins_with(name, OWN_PREFIX));
}

static int may_use(const struct call *c)
{
	static struct log_limit limit = { .what = "refused requests",
					  .level = LOG_NOTICE };
	const char *name = c->request->name;

	if (!is_allowed(c, name)) {
		log_limited(&limit, "user %u (process %d) may not use '%s'",
			    c->peer->uid, c->peer->pid, name);
		return -EACCES;
	}
	return 0;
}

static bool has_place(const struct call *c)
{
	struct registry *reg = c->d->registry;
	unsigned int total = registry_count(reg), own = 0;
	const struct entry *e;
	uint32_t i;

	if (c->peer->uid == 0)
		return total < REGISTRY_MAX;
	for (i = 0; (e = registry_next(reg, &i)); i++)
		own += e->uid == c->peer->uid;
	return own < SESSIONS_PER_USER &&
	       total < REGISTRY_MAX - SESSIONS_FOR_ROOT;
}

/* Before anything is asked of the kernel: 0, -ENOSPC or -EMFILE */
static int may_add(const struct call *c, const struct entry *known)
{
	static struct log_limit limit = { .what = "users without room",
					  .level = LOG_WARNING };
	int err = 0;

	if (!known && !has_place(c))
		err = -ENOSPC;
	else if (!c->d->ops->has_room(c->d->ctx, c->peer->uid))
		err = -EMFILE;
	if (err)
		log_limited(&limit, "no %s left for user %u (process %d)",
			    err == -EMFILE ? "descriptor" : "place",
			    c->peer->uid, c->peer->pid);
	return err;
}

static void describe(const struct call *c, const struct entry *e)
{
	memcpy(c->reply->name, e->name, sizeof(c->reply->name));
	c->reply->direction = e->direction;
	c->reply->uid = e->uid;
	c->reply->pid = e->pid;
	if (e->fd >= 0)
		c->reply->flags |= PCILU_MSG_F_HELD;
}

/* The client that got it last is the one to show */
static int give(const struct call *c, struct entry *e)
{
	e->pid = c->peer->pid;
	describe(c, e);
	*c->fd = e->fd;
	return 0;
}

static int do_hello(const struct call *c)
{
	c->reply->index = registry_count(c->d->registry);
	return 0;
}

static int do_create(const struct call *c)
{
	struct registry *reg = c->d->registry;
	const char *name = c->request->name;
	struct entry *e;
	int fd, err;

	if (may_use(c))
		return -EACCES;
	if (registry_find(reg, PCILU_DIRECTION_OUTGOING, name))
		return -EEXIST;
	err = may_add(c, NULL);
	if (err)
		return err;
	fd = c->d->ops->create(c->d->ctx, name);
	if (fd < 0)
		return fd;
	e = registry_add(reg, PCILU_DIRECTION_OUTGOING, name, c->peer->uid,
			 c->peer->pid, fd);
	if (!e) {
		close(fd);
		return -ENOSPC;
	}
	c->d->ops->held(c->d->ctx, e);
	return give(c, e);
}

static int do_attach(const struct call *c)
{
	struct entry *e;

	if (may_use(c))
		return -EACCES;
	e = registry_find(c->d->registry, PCILU_DIRECTION_OUTGOING,
			  c->request->name);
	return e && e->fd >= 0 ? give(c, e) : -ENOENT;
}

static int do_retrieve(const struct call *c)
{
	struct registry *reg = c->d->registry;
	const char *name = c->request->name;
	struct entry *e;
	int fd, err;

	if (may_use(c))
		return -EACCES;
	e = registry_find(reg, PCILU_DIRECTION_INCOMING, name);
	if (e && e->fd >= 0)
		return give(c, e);
	err = may_add(c, e);
	if (err)
		return err;

	fd = c->d->ops->retrieve(c->d->ctx, name);
	if (fd == -ENOENT &&
	    e) /* we remembered what the kernel does not have */
		registry_remove(reg, e);
	if (fd < 0)
		return fd;
	if (!e)
		e = registry_add(reg, PCILU_DIRECTION_INCOMING, name,
				 c->peer->uid, c->peer->pid, fd);
	if (!e) {
		close(fd);
		return -ENOSPC;
	}
	e->fd = fd;
	c->d->ops->held(c->d->ctx, e);
	return give(c, e);
}

static int do_release(const struct call *c)
{
	struct entry *e, gone;

	if (may_use(c))
		return -EACCES;
	e = registry_find(c->d->registry, c->request->direction,
			  c->request->name);
	if (!e)
		return -ENOENT;
	/*
	 * First the list, then the store: who is killed between the two finds the
	 * session in the store. The other way round an incoming one, which is
	 * finished when the store lets go of it, would be listed for ever.
	 */
	gone = *e;
	e->fd = -1;
	e->kept = -1;
	registry_remove(c->d->registry, e);
	if (gone.fd < 0)
		return 0;
	c->d->ops->dropped(c->d->ctx, &gone);
	close(gone.fd);
	if (gone.kept >= 0)
		close(gone.kept);
	return 0;
}

static int do_list(const struct call *c)
{
	uint32_t i = c->request->index;
	struct entry *e;

	for (; (e = registry_next(c->d->registry, &i)); i++) {
		if (!may_see(c, e->name))
			continue;
		describe(c, e);
		c->reply->index = i;
		return 0;
	}
	return -ENOENT;
}

static int do_hold(const struct call *c)
{
	uint32_t i = c->request->index;
	struct entry *e;

	if (!policy_may_hold(c->d->policy, c->peer))
		return -EACCES;
	for (; (e = registry_next(c->d->registry, &i)); i++) {
		if (e->fd < 0)
			continue;
		describe(c, e);
		c->reply->index = i;
		*c->fd = e->fd;
		return 0;
	}
	return -ENOENT;
}

static int do_follow(const struct call *c)
{
	return policy_may_hold(c->d->policy, c->peer) ? 0 : -EACCES;
}

static int do_subscribe(const struct call *c)
{
	if (may_use(c))
		return -EACCES;
	return round_subscribe(c->d->round, c->from, c->request->name);
}

static int do_answer(const struct call *c)
{
	return round_answer(c->d->round, c->from, c->request->index,
			    c->request->value);
}

static int do_reason(const struct call *c)
{
	return round_reason(c->d->round, c->from, c->request->index,
			    c->request->name);
}

static int do_event(const struct call *c)
{
	if (!policy_may_hold(c->d->policy, c->peer))
		return -EACCES;
	return round_event(c->d->round, c->from, c->request->index,
			   c->request->value);
}

static int do_subscribers(const struct call *c)
{
	uint32_t i = c->request->index;
	const struct member *m;

	for (; (m = round_next(c->d->round, &i)); i++) {
		if (!may_see(c, m->name))
			continue;
		memcpy(c->reply->name, m->name, sizeof(c->reply->name));
		c->reply->uid = m->peer.uid;
		c->reply->pid = m->peer.pid;
		c->reply->index = i;
		return 0;
	}
	return -ENOENT;
}

static bool is_same_file(int a, int b)
{
	pid_t self = getpid();

	return !syscall(SYS_kcmp, self, self, KCMP_FILE, a, b);
}

static struct entry *who_keeps(const struct call *c)
{
	struct entry *e;
	uint32_t i;

	for (i = 0; (e = registry_next(c->d->registry, &i)); i++)
		if (e->kept >= 0 && is_same_file(e->kept, *c->came))
			return e;
	return NULL;
}

static int do_keep(const struct call *c)
{
	struct entry *e, *keeper;
	int last, err;

	if (may_use(c))
		return -EACCES;
	e = registry_find(c->d->registry, PCILU_DIRECTION_INCOMING,
			  c->request->name);
	if (!e || e->fd < 0)
		return -ENOENT;
	/* Nothing else: closing it must not depend on whoever gave it */
	if (!c->d->ops->is_iommufd(c->d->ctx, *c->came))
		return -EINVAL;
	err = may_add(c, e);
	if (err)
		return err;
	/* systemd has it already, and would not take it under another name */
	keeper = who_keeps(c);
	if (keeper)
		return keeper == e ? 0 : -EBUSY;
	last = e->kept;
	e->kept = take_fd(c->came);
	c->d->ops->kept(c->d->ctx, e);
	if (last >= 0)
		close(last);
	return 0;
}

static int do_kept(const struct call *c)
{
	struct entry *e;

	if (may_use(c))
		return -EACCES;
	e = registry_find(c->d->registry, PCILU_DIRECTION_INCOMING,
			  c->request->name);
	if (!e || e->fd < 0 || e->kept < 0)
		return -ENOENT;
	*c->fd = e->kept;
	return 0;
}

static int (*const handlers[PCILU_MSG_NR])(const struct call *c) = {
	[PCILU_MSG_HELLO] = do_hello,
	[PCILU_MSG_CREATE] = do_create,
	[PCILU_MSG_ATTACH] = do_attach,
	[PCILU_MSG_RETRIEVE] = do_retrieve,
	[PCILU_MSG_RELEASE] = do_release,
	[PCILU_MSG_LIST] = do_list,
	[PCILU_MSG_HOLD] = do_hold,
	[PCILU_MSG_FOLLOW] = do_follow,
	[PCILU_MSG_ANSWER] = do_answer,
	[PCILU_MSG_SUBSCRIBE] = do_subscribe,
	[PCILU_MSG_EVENT] = do_event,
	[PCILU_MSG_SUBSCRIBERS] = do_subscribers,
	[PCILU_MSG_KEEP] = do_keep,
	[PCILU_MSG_KEPT] = do_kept,
	[PCILU_MSG_REASON] = do_reason,
};

int dispatch(struct dispatch *d, struct member *from, const void *buf,
	     size_t len, int *came, struct pcilu_msg *reply, int *fd)
{
	struct pcilu_msg request;
	const struct call c = { .d = d,
				.from = from,
				.peer = &from->peer,
				.request = &request,
				.reply = reply,
				.came = came,
				.fd = fd };
	int err;

	*fd = -1;
	err = pcilu_msg_parse_request(buf, len, &request);
	if (err == -EPROTO ||
	    (*came >= 0) != (!err && request.flags & PCILU_MSG_F_FD))
		return -EPROTO;
	pcilu_msg_init(reply, request.type, NULL);
	reply->serial = request.serial;
	if (!err)
		err = handlers[request.type](&c);
	reply->error = err;
	reply->flags |= PCILU_MSG_F_REPLY;
	if (*fd >= 0)
		reply->flags |= PCILU_MSG_F_FD;
	return 0;
}
