// SPDX-License-Identifier: GPL-2.0
/*
 * libFuzzer: what a client may send. The first byte says who it is and how the
 * rest is cut into messages; the daemon's own code handles them in order.
 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../../lib/include/pcilu.h"
#include "../common/log.h"
#include "../daemon/dispatch.h"

#define LIVE_MAX 64 /* sessions that the pretended kernel has room for */

#ifndef CONTROL
#define CONTROL 0
#endif

static int live;

static int fake_create(void *ctx, const char *name)
{
	(void)ctx;
	assert(pcilu_name_valid(name));
	if (live >= LIVE_MAX)
		return -ENOSPC;
	live++;
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static int fake_retrieve(void *ctx, const char *name)
{
	return name[0] < 'm' ? -ENOENT : fake_create(ctx, name);
}

/* The control build has one, to show that it would be found */
static void plant_a_bug(const struct entry *e)
{
	char *copy = CONTROL ? strdup(e->name) : NULL;

	if (copy)
		assert(copy[strlen(e->name) + 1] != 'x');
	free(copy);
}

static void fake_held(void *ctx, struct entry *e)
{
	(void)ctx;
	assert(e->fd >= 0 && pcilu_name_valid(e->name));
	plant_a_bug(e);
}

static bool fake_is_iommufd(void *ctx, int fd)
{
	(void)ctx;
	return fd % 2;
}

static void fake_kept(void *ctx, struct entry *e)
{
	(void)ctx;
	assert(e->kept >= 0 && e->fd >= 0);
}

static void fake_dropped(void *ctx, const struct entry *e)
{
	(void)ctx;
	assert(e->fd >= 0);
	live--;
}

static bool fake_has_room(void *ctx, uid_t uid)
{
	(void)ctx;
	return uid == 0 || live < LIVE_MAX / 2;
}

static const struct dispatch_ops ops = {
	.create = fake_create,
	.retrieve = fake_retrieve,
	.has_room = fake_has_room,
	.is_iommufd = fake_is_iommufd,
	.held = fake_held,
	.kept = fake_kept,
	.dropped = fake_dropped,
};

static int fake_send(struct member *to, const struct pcilu_msg *msg)
{
	const struct pcilu_msg like = { .type = msg->type };
	struct pcilu_msg parsed;

	assert(!pcilu_msg_parse_reply(msg, sizeof(*msg), &like, &parsed));
	return to->peer.pid == 3 ? -ECONNRESET : 0;
}

static void fake_timer(void *ctx, uint32_t ms)
{
	(void)ctx;
	(void)ms;
}

static const struct round_ops round_ops = {
	.send = fake_send,
	.set_timer = fake_timer,
};

/* Whatever comes in, what goes out is a message that our own library accepts */
static void check_reply(const void *buf, const struct pcilu_msg *reply, int fd)
{
	struct pcilu_msg request, parsed;

	if (pcilu_msg_parse_request(buf, sizeof(request), &request)) {
		assert(reply->error && fd == -1);
		return;
	}
	assert(!pcilu_msg_parse_reply(reply, sizeof(*reply), &request,
				      &parsed));
	assert((fd >= 0) == !!(reply->flags & PCILU_MSG_F_FD));
	assert(!reply->error || fd < 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char text[] = "user 0 use *\nuser 0 hold\n"
				   "user 1 use vm-*\n";
	struct member members[3] = { 0 }; /* who says something is drawn, too */
	struct round round = { .ops = &round_ops };
	struct dispatch d = { .ops = &ops, .round = &round };
	struct pcilu_msg reply;
	char buf[sizeof(reply)];
	struct policy *policy;
	size_t i;
	int fd, came, err;
	char *why;

	if (!size)
		return 0;
	log_level = -1;
	for (i = 0; i < 3; i++)
		members[i].peer = (struct peer){ .pid = (pid_t)i + 1,
						 .uid = data[0] % 3 };
	policy = policy_parse(text, sizeof(text) - 1, &why);
	d.policy = policy;
	d.registry = registry_new();
	live = 0;
	data++;
	size--;
	while (size) {
		size_t n = size < sizeof(reply) ? size : sizeof(reply);
		struct member *m = &members[data[n - 1] % 3];

		/* The last byte of a name is always 0, so it is free to say who */
		memcpy(buf, data, n);
		if (n == sizeof(reply))
			buf[n - 1] = 0;
		came = -1;
		if (n == sizeof(reply) &&
		    buf[offsetof(struct pcilu_msg, flags)] & PCILU_MSG_F_FD)
			came = open("/dev/null", O_RDONLY | O_CLOEXEC);
		err = dispatch(&d, m, buf, n, &came, &reply, &fd);
		if (came >= 0)
			close(came);
		if (err)
			break;
		check_reply(buf, &reply, fd);
		data += n;
		size -= n;
	}
	for (i = 0; i < 3; i++)
		round_leave(&round, &members[i]);
	assert(!round.subscribers && !round.leader);
	registry_free(d.registry);
	policy_free(policy);
	return 0;
}
