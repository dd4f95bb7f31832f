// SPDX-License-Identifier: GPL-2.0
/*
 * pcilu-keeper holds every session while the machine is shut down for a kexec.
 *
 * What must live until the very system call is a descriptor of each session, and
 * everybody who has one is stopped before: the VMMs and pcilud like all services,
 * and systemd's own store ends with systemd. This process has a name that begins
 * with "@", which tells systemd's last killing spree to leave it alone, and a unit
 * that shutdown does not stop.
 *
 * It follows pcilud as long as there is one: a VMM may preserve when it is stopped.
 */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "../../../lib/src/cleanup.h"
#include "../../../lib/src/client.h"
#include "../common/log.h"

#define RETRY_MS 200

struct held {
	char name[PCILU_MSG_NAME_SIZE];
	uint32_t direction;
	int fd;
};

struct keeper {
	int sock; /* -1 while there is no pcilud */
	int follows; /* it tells what is new */
	struct held *held;
	size_t count, room;
};

static struct held *find(struct keeper *k, const struct pcilu_msg *m)
{
	size_t i;

	for (i = 0; i < k->count; i++)
		if (k->held[i].direction == m->direction &&
		    !strcmp(k->held[i].name, m->name))
			return &k->held[i];
	return NULL;
}

/* Takes over @fd; the later one of a name is right */
static int keep(struct keeper *k, const struct pcilu_msg *m, int fd)
{
	struct held *h = find(k, m);

	if (!h && k->count == k->room) {
		size_t room = k->room ? 2 * k->room : 64;
		struct held *more = reallocarray(k->held, room, sizeof(*more));

		if (!more)
			return -ENOMEM; /* and it stays open, that is all */
		k->held = more;
		k->room = room;
	}
	if (h) {
		close(h->fd);
	} else {
		h = &k->held[k->count++];
		*h = (struct held){ .direction = m->direction };
		memcpy(h->name, m->name, sizeof(h->name));
	}
	h->fd = fd;
	return 0;
}

static void let_go(struct keeper *k, const struct pcilu_msg *m)
{
	struct held *h = find(k, m);

	if (!h)
		return;
	close(h->fd);
	*h = k->held[--k->count];
}

static void say(const struct keeper *k)
{
	sd_notifyf(0, "READY=1\nSTATUS=holding %zu sessions", k->count);
}

/* What pcilud told without being asked */
static int take_news(struct keeper *k)
{
	struct pcilu_msg m, any = { .type = PCILU_MSG_FOLLOW };
	autoclose int fd = -1;
	char buf[sizeof(m)];
	ssize_t n = pcilu_msg_recv(k->sock, buf, sizeof(buf), &fd);

	if (n <= 0)
		return n ? (int)n : -ECONNRESET;
	if (pcilu_msg_parse_reply(buf, (size_t)n, &any, &m))
		return -EPROTO;
	if (fd >= 0)
		keep(k, &m, take_fd(&fd));
	else
		let_go(k, &m);
	return 0;
}

/* Asks for a copy of each session: 0 or -errno */
static int take_all(struct keeper *k)
{
	struct pcilu_msg request, reply;
	uint32_t serial = 0, index = 0;
	int fd, err;

	for (;; index = reply.index + 1) {
		pcilu_msg_init(&request, PCILU_MSG_HOLD, NULL);
		request.index = index;
		err = pcilu_client_call(&k->sock, &serial, &request, &reply,
					&fd);
		if (err || fd < 0)
			break;
		keep(k, &reply, fd);
	}
	return err == -ENOENT ? 0 : err ? err : -EPROTO;
}

/*
 * The news come by a connection of their own, which is there before all that is
 * there already is asked for: nothing falls between the two.
 */
static int begin(struct keeper *k)
{
	struct pcilu_msg request, reply;
	uint32_t serial = 0;
	int fd, err, news = pcilu_client_connect();

	if (news < 0)
		return news;
	pcilu_msg_init(&request, PCILU_MSG_FOLLOW, NULL);
	err = pcilu_client_call(&news, &serial, &request, &reply, &fd);
	if (err &&
	    err != -EINVAL) { /* an older one does not know the request */
		if (news >= 0)
			close(news);
		return err;
	}
	k->follows = !err;
	k->sock = -1;
	err = take_all(k);
	if (k->sock >= 0)
		close(k->sock);
	k->sock = news;
	return err;
}

static void drop_connection(struct keeper *k)
{
	if (k->sock >= 0)
		close(k->sock);
	k->sock = -1;
}

/* Until a signal; a pcilud that was restarted is found again */
static void follow(struct keeper *k, int signals)
{
	struct pollfd p[2] = { { .fd = signals, .events = POLLIN },
			       { .events = POLLIN } };

	for (;;) {
		bool failed;

		p[1].fd = k->sock;
		if (poll(p, 2, k->sock < 0 ? RETRY_MS : -1) < 0 &&
		    errno != EINTR)
			return;
		if (p[0].revents)
			return;
		if (k->sock >= 0)
			failed = p[1].revents && take_news(k);
		else
			failed = begin(k);
		if (failed)
			drop_connection(k);
		else
			say(k);
	}
}

int main(int argc, char **argv)
{
	struct keeper k = { .sock = -1 };
	sigset_t set;
	int err, signals;

	(void)argv;
	log_program = "pcilu-keeper";
	if (argc != 1) {
		fputs("pcilu-keeper takes no arguments, see pcilud(8)\n",
		      stderr);
		return EX_USAGE;
	}
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	err = signals < 0 ? -errno : begin(&k);
	if (err) {
		log_msg(LOG_ERR, "pcilud does not give its sessions: %s",
			strerror(-err));
		return err == -EACCES ? EX_NOPERM : EX_UNAVAILABLE;
	}
	/* The file system below our code goes away before we do */
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		log_msg(LOG_WARNING, "not locked in memory: %s",
			strerror(errno));
	if (!k.follows)
		log_msg(LOG_WARNING,
			"this pcilud does not tell of sessions that are made from now on");
	log_msg(LOG_NOTICE, "holding %zu sessions", k.count);
	say(&k);
	follow(&k, signals);
	free(k.held);
	return EX_OK;
}
