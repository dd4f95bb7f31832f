// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../../lib/src/cleanup.h"
#include "../common/log.h"
#include "server.h"

/* Nobody but root can take the last places, and no one user all the others */
#define MAX_CLIENTS 2048
#define CLIENTS_FOR_ROOT 256
#define MAX_CLIENTS_PER_USER 1024
#define DESCRIPTORS_FOR_ROOT 32
#define MAX_GROUPS 256

#define TICK_US (1000ULL * 1000)
/* How long nobody is let in when there is no descriptor for another client */
#define PAUSE_US (100ULL * 1000)

struct client {
	struct server *server;
	struct client *next, *prev;
	sd_event_source *source;
	int sock;
	bool follows;
	uint64_t last; /* when it said something, in microseconds */
	struct member member;
	gid_t groups[MAX_GROUPS];
};

struct server {
	sd_event *event;
	sd_event_source *source, *tick, *pause;
	int listener;
	struct dispatch *dispatch;
	const struct limits *limits;
	struct client *clients;
	unsigned int count;
	struct round round;
	sd_event_source *time_out;
};

bool server_may_use(const struct limits *limits, uid_t uid, int fd)
{
	return uid == 0 ||
	       (unsigned int)fd + DESCRIPTORS_FOR_ROOT < limits->descriptors;
}

int server_listen(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	autoclose int sock = -1;

	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	strcpy(addr.sun_path, path);
	sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
		      0);
	if (sock < 0)
		return -errno;
	unlink(path);
	/* Who may do what is in the policy; the kernel names the peer */
	if (bind(sock, (struct sockaddr *)&addr, sizeof(addr)) ||
	    chmod(path, 0666) || listen(sock, SOMAXCONN))
		return -errno;
	return take_fd(&sock);
}

static void client_free(struct client *c)
{
	struct server *s = c->server;

	if (c->prev)
		c->prev->next = c->next;
	else
		s->clients = c->next;
	if (c->next)
		c->next->prev = c->prev;
	s->count--;
	round_leave(&s->round, &c->member);
	sd_event_source_unref(c->source);
	close(c->sock);
	free(c);
}

/* One message and its reply: 0, or an error that ends the connection */
static int client_serve(struct client *c)
{
	static struct log_limit limit = { .what = "foreign messages",
					  .level = LOG_NOTICE };
	autoclose int came = -1;
	char buf[sizeof(struct pcilu_msg)];
	struct pcilu_msg reply;
	ssize_t n;
	int fd, err;

	n = pcilu_msg_recv(c->sock, buf, sizeof(buf), &came);
	if (n == -EAGAIN || n == -EINTR)
		return 0;
	if (n <= 0)
		return n ? (int)n : -ECONNRESET;
	sd_event_now(c->server->event, CLOCK_MONOTONIC, &c->last);
	err = dispatch(c->server->dispatch, &c->member, buf, (size_t)n, &came,
		       &reply, &fd);
	if (err) {
		log_limited(&limit,
			    "process %d of user %u does not speak the protocol",
			    c->member.peer.pid, c->member.peer.uid);
		return err;
	}
	c->follows |= reply.type == PCILU_MSG_FOLLOW && !reply.error;
	/* Who does not read its replies gets no more of them: no queue here */
	return pcilu_msg_send(c->sock, &reply, fd);
}

static int on_client(sd_event_source *source, int sock, uint32_t events,
		     void *data)
{
	struct client *c = data;

	(void)source;
	(void)sock;
	/* What was sent before a hang-up is served before it */
	if (!(events & EPOLLIN) || client_serve(c))
		client_free(c);
	return 0;
}

/* A keeper that does not read for so long is let go, and gets all of them again */
#define FOLLOWER_LIMIT_MS 1000

void server_tell(struct server *s, const struct entry *e, bool held)
{
	struct pcilu_msg msg;
	struct client *c;

	pcilu_msg_init(&msg, PCILU_MSG_FOLLOW, e->name);
	msg.flags = PCILU_MSG_F_REPLY;
	msg.direction = e->direction;
	msg.uid = e->uid;
	if (held)
		msg.flags |= PCILU_MSG_F_FD | PCILU_MSG_F_HELD;
	for (c = s->clients; c; c = c->next) {
		struct pollfd p = { .fd = c->sock, .events = POLLOUT };

		if (!c->follows)
			continue;
		if (poll(&p, 1, FOLLOWER_LIMIT_MS) == 1 &&
		    !pcilu_msg_send(c->sock, &msg, held ? e->fd : -1))
			continue;
		log_msg(LOG_WARNING, "process %d does not follow any more",
			c->member.peer.pid);
		shutdown(c->sock, SHUT_RDWR);
		c->follows = false;
	}
}

static struct client *client_of(struct member *m)
{
	return (struct client *)((char *)m - offsetof(struct client, member));
}

/* The leader reads all the time, a subscriber has a few events in its queue at most */
static int send_to_member(struct member *to, const struct pcilu_msg *msg)
{
	struct client *c = client_of(to);
	struct pollfd p = { .fd = c->sock, .events = POLLOUT };
	int err;

	if (!to->name[0])
		poll(&p, 1, FOLLOWER_LIMIT_MS);
	err = pcilu_msg_send(c->sock, msg, -1);
	if (err) /* it is freed when the loop sees the end of it */
		shutdown(c->sock, SHUT_RDWR);
	return err;
}

static int on_time_out(sd_event_source *source, uint64_t usec, void *data)
{
	struct server *s = data;

	(void)source;
	(void)usec;
	round_time_out(&s->round);
	return 0;
}

static void set_round_timer(void *ctx, uint32_t ms)
{
	struct server *s = ctx;

	s->time_out = sd_event_source_disable_unref(s->time_out);
	if (ms &&
	    sd_event_add_time_relative(s->event, &s->time_out, CLOCK_MONOTONIC,
				       ms * 1000ULL, 1000, on_time_out, s) < 0)
		log_msg(LOG_WARNING, "no timer: nobody's answer has a limit");
}

static const struct round_ops round_ops = {
	.send = send_to_member,
	.set_timer = set_round_timer,
};

static int peer_of(int sock, struct client *c)
{
	socklen_t len = sizeof(struct ucred), groups = sizeof(c->groups);
	struct ucred cred;

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		return -errno;
	if (getsockopt(sock, SOL_SOCKET, SO_PEERGROUPS, c->groups, &groups))
		groups = 0; /* too many to look at: only the first one counts */
	c->member.peer = (struct peer){
		.pid = cred.pid,
		.uid = cred.uid,
		.gid = cred.gid,
		.groups = c->groups,
		.nr_groups = groups / sizeof(gid_t),
	};
	return 0;
}

static bool has_room(const struct server *s, uid_t uid)
{
	const struct client *c;
	unsigned int n = 0;

	if (uid == 0)
		return s->count < MAX_CLIENTS;
	for (c = s->clients; c; c = c->next)
		n += c->member.peer.uid == uid;
	return s->count < MAX_CLIENTS - CLIENTS_FOR_ROOT &&
	       n < MAX_CLIENTS_PER_USER;
}

static int on_pause_over(sd_event_source *source, uint64_t usec, void *data)
{
	struct server *s = data;

	(void)source;
	(void)usec;
	s->pause = sd_event_source_unref(s->pause);
	sd_event_source_set_enabled(s->source, SD_EVENT_ON);
	return 0;
}

/* Who waits would be reported again at once and for ever */
static void pause_listening(struct server *s, int err)
{
	static struct log_limit limit = { .what = "failures to accept a client",
					  .level = LOG_ERR };

	if (err == EAGAIN || err == ECONNABORTED || err == EINTR)
		return;
	log_limited(&limit, "a client cannot be let in: %s", strerror(err));
	if (sd_event_add_time_relative(s->event, &s->pause, CLOCK_MONOTONIC,
				       PAUSE_US, 0, on_pause_over, s) >= 0)
		sd_event_source_set_enabled(s->source, SD_EVENT_OFF);
}

static void turn_away(struct client *c, int sock)
{
	static struct log_limit limit = { .what = "clients turned away",
					  .level = LOG_WARNING };

	if (c)
		log_limited(&limit,
			    "process %d of user %u was turned away: no room",
			    c->member.peer.pid, c->member.peer.uid);
	free(c);
	close(sock);
}

static int on_connection(sd_event_source *source, int listener, uint32_t events,
			 void *data)
{
	struct server *s = data;
	struct client *c;
	int sock;

	(void)source;
	(void)events;
	sock = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (sock < 0) {
		pause_listening(s, errno);
		return 0;
	}
	c = calloc(1, sizeof(*c));
	if (!c || peer_of(sock, c) || !has_room(s, c->member.peer.uid) ||
	    !server_may_use(s->limits, c->member.peer.uid, sock) ||
	    sd_event_add_io(s->event, &c->source, sock, EPOLLIN, on_client, c) <
		    0) {
		turn_away(c, sock);
		return 0;
	}
	c->server = s;
	c->sock = sock;
	sd_event_now(s->event, CLOCK_MONOTONIC, &c->last);
	c->next = s->clients;
	if (c->next)
		c->next->prev = c;
	s->clients = c;
	s->count++;
	return 0;
}

/* The library connects again when it has something to say */
static int on_tick(sd_event_source *source, uint64_t usec, void *data)
{
	struct server *s = data;
	struct client *c, *next;

	for (c = s->clients; c; c = next) {
		next = c->next;
		if (!c->follows && !round_has(&s->round, &c->member) &&
		    c->last + s->limits->idle * TICK_US < usec)
			client_free(c);
	}
	s->dispatch->ops->tick(s->dispatch->ctx);
	log_tick();
	sd_event_source_set_time_relative(source, TICK_US);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int server_new(struct server **out, sd_event *event, int listener,
	       struct dispatch *d, const struct limits *limits)
{
	struct server *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	s->event = event;
	s->listener = listener;
	s->dispatch = d;
	s->round.ops = &round_ops;
	s->round.ctx = s;
	d->round = &s->round;
	s->limits = limits;
	err = sd_event_add_io(event, &s->source, listener, EPOLLIN,
			      on_connection, s);
	if (err >= 0)
		err = sd_event_add_time_relative(event, &s->tick,
						 CLOCK_MONOTONIC, TICK_US,
						 TICK_US, on_tick, s);
	if (err < 0) {
		sd_event_source_unref(s->source);
		free(s);
		return err;
	}
	*out = s;
	return 0;
}

void server_free(struct server *s)
{
	if (!s)
		return;
	while (s->clients)
		client_free(s->clients);
	sd_event_source_unref(s->source);
	sd_event_source_unref(s->tick);
	sd_event_source_disable_unref(s->time_out);
	sd_event_source_unref(s->pause);
	close(s->listener);
	free(s);
}
