// SPDX-License-Identifier: GPL-2.0
/* The commands of vfio_agent about LUO sessions and about files as such. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <libliveupdate.h>
#include <linux/fs.h>
#include <linux/liveupdate.h>

#include "agent.h"
#include "luo_session.h"

static int new_session(struct agent_call *c, int fd)
{
	if (fd < 0)
		return fd;
	c->thing->kind = AGENT_SESSION;
	c->thing->fd = fd;
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	return 0;
}

static int cmd_session(struct agent_call *c)
{
	return new_session(c, luo_session_create(c->argv[0]));
}

static int cmd_retrieve_session(struct agent_call *c)
{
	return new_session(c, luo_session_retrieve(c->argv[0]));
}

/* From whoever started this process, who got it from a daemon */
static int cmd_inherit_session(struct agent_call *c)
{
	int fd = dup(agent_number(c, 0, 3));

	return new_session(c, fd < 0 ? -errno : fd);
}

static int cmd_preserve(struct agent_call *c)
{
	struct agent_thing *t = agent_find(c->agent, c->argv[1], AGENT_ANY);

	if (!t)
		return -EBADF;
	return luo_session_preserve_fd(c->thing->fd, agent_fd(t), agent_number(c, 0, 0));
}

static int cmd_thaw(struct agent_call *c)
{
	int fd = open(c->argv[0], O_RDONLY | O_CLOEXEC);
	int err = fd < 0 || ioctl(fd, FITHAW, 0) ? -errno : 0;

	close(fd);
	return err;
}

static int cmd_retrieve(struct agent_call *c)
{
	const char *kind = c->argv[1], *name = c->argv[2];
	struct agent_thing *t;
	int fd, ret = 0;

	if (agent_find(c->agent, name, AGENT_ANY))
		return -EEXIST;
	fd = luo_session_retrieve_fd(c->thing->fd, agent_number(c, 0, 0));
	if (fd < 0)
		return fd;
	fcntl(fd, F_SETFD, FD_CLOEXEC);

	t = agent_add(c->agent, name, AGENT_FILE);
	if (!t) {
		close(fd);
		return -EMFILE;
	}
	if (!strcmp(kind, "device")) {
		t->kind = AGENT_DEVICE;
		t->v.cdev = fd;
		return 0;
	}
	t->fd = fd;
	if (!strcmp(kind, "memory")) {
		t->kind = AGENT_MEMORY;
		ret = agent_map_memory(t);
	}
	if (ret)
		agent_drop(t);
	return ret;
}

static int cmd_finish(struct agent_call *c)
{
	return luo_session_finish(c->thing->fd);
}

static int cmd_discard(struct agent_call *c)
{
	struct liveupdate_session_discard discard = { .size = sizeof(discard) };

	return ioctl(c->thing->fd, LIVEUPDATE_SESSION_DISCARD, &discard) ? -errno : 0;
}

static int cmd_dup(struct agent_call *c)
{
	struct agent_thing *of = agent_find(c->agent, c->argv[0], AGENT_ANY);

	if (!of)
		return -EBADF;
	c->thing->kind = AGENT_FILE;
	c->thing->fd = fcntl(agent_fd(of), F_DUPFD_CLOEXEC, 0);
	return c->thing->fd < 0 ? -errno : 0;
}

static int cmd_close(struct agent_call *c)
{
	agent_drop(c->thing);
	return 0;
}

const struct agent_command agent_file_commands[] = {
	{ "session", cmd_session, AGENT_NEW, 1, "SESSION NAME; create it" },
	{ "inherit-session", cmd_inherit_session, AGENT_NEW, 0, "SESSION [FD]; 3 if not given" },
	{ "retrieve-session", cmd_retrieve_session, AGENT_NEW, 1, "SESSION NAME" },
	{ "preserve", cmd_preserve, AGENT_SESSION, 2, "SESSION TOKEN THING" },
	{ "thaw", cmd_thaw, 0, 1, "FILE; its file system" },
	{ "retrieve", cmd_retrieve, AGENT_SESSION, 3, "SESSION TOKEN device|memory|file THING" },
	{ "finish", cmd_finish, AGENT_SESSION, 0, "SESSION; it stays open" },
	{ "discard", cmd_discard, AGENT_SESSION | AGENT_FILE, 0,
	  "SESSION; all that is preserved in it" },
	{ "dup", cmd_dup, AGENT_NEW, 1, "FILE THING" },
	{ "close", cmd_close, AGENT_ANY, 0, "THING; with its mappings and eventfds" },
	{ }
};
