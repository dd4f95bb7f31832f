// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The socket never blocks, waiting is done by poll() up to a point in time: a signal
 * then neither ends a request that the daemon has, nor lengthens it.
 */

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "cleanup.h"
#include "client.h"
#include "path.h"
#include "pcilu.h"

#define TIME_LIMIT_MS 10000
#define CONNECT_PAUSE_MS 10

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int wait_for(int sock, short events, int64_t end)
{
	struct pollfd p = { .fd = sock, .events = events };

	for (;;) {
		int64_t left = end - now_ms();
		int n;

		if (left <= 0)
			return -ETIMEDOUT;
		n = poll(&p, 1, (int)left);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

int pcilu_client_start(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	autofree char *path = path_of("%s", PCILU_SOCKET);
	autoclose int sock = -1;

	if (!path)
		return -ENOMEM;
	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	strcpy(addr.sun_path, path);

	sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
		      0);
	if (sock < 0)
		return -errno;
	if (connect(sock, (struct sockaddr *)&addr, sizeof(addr)))
		return -errno;
	return take_fd(&sock);
}

/* While many are waiting to be let in, there is nothing to wait for but time */
static int connect_until(int64_t end)
{
	int sock;

	for (;;) {
		sock = pcilu_client_start();
		if (sock != -EAGAIN)
			return sock;
		if (now_ms() > end)
			return -ETIMEDOUT;
		poll(NULL, 0, CONNECT_PAUSE_MS);
	}
}

int pcilu_client_connect(void)
{
	return connect_until(now_ms() + TIME_LIMIT_MS);
}

static void drop(int *sock)
{
	close(*sock);
	*sock = -1;
}

static int send_until(int sock, const struct pcilu_msg *request, int fd,
		      int64_t end)
{
	int err;

	for (;;) {
		err = pcilu_msg_send(sock, request, fd);
		if (err == -EAGAIN)
			err = wait_for(sock, POLLOUT, end);
		else if (err != -EINTR)
			return err;
		if (err && err != -EINTR)
			return err;
	}
}

/* A broken connection shows when the request is sent: then try a new one, once */
static int send_request(int *sock, const struct pcilu_msg *request, int fd,
			int64_t end)
{
	int err;

	if (*sock >= 0) {
		err = send_until(*sock, request, fd, end);
		if (err != -EPIPE && err != -ECONNRESET)
			return err;
		drop(sock);
	}
	*sock = connect_until(end);
	if (*sock < 0) {
		err = *sock;
		*sock = -1;
		return err == -ENOENT || err == -ECONNREFUSED ? -ECONNRESET :
								err;
	}
	return send_until(*sock, request, fd, end);
}

int pcilu_client_take(int sock, const struct pcilu_msg *request,
		      struct pcilu_msg *reply, int *fd)
{
	char buf[sizeof(*reply)];
	autoclose int got = -1;
	ssize_t n;
	int err;

	*fd = -1;
	do
		n = pcilu_msg_recv(sock, buf, sizeof(buf), &got);
	while (n == -EINTR);
	if (n <= 0)
		return n && n != -EPIPE ? (int)n : -ECONNRESET;
	err = pcilu_msg_parse_reply(buf, (size_t)n, request, reply);
	if (!err && got < 0 && (reply->flags & PCILU_MSG_F_FD))
		return -EMFILE; /* it came, and there was no number for it */
	if (err || (got >= 0) != !!(reply->flags & PCILU_MSG_F_FD))
		return -EPROTO;
	if (reply->error)
		return reply->error;
	*fd = take_fd(&got);
	return 0;
}

/* Is there a number for the descriptor that comes? Before anything is asked. */
static int reserve(const struct pcilu_msg *request)
{
	int fd;

	if (request->type != PCILU_MSG_CREATE &&
	    request->type != PCILU_MSG_ATTACH &&
	    request->type != PCILU_MSG_RETRIEVE &&
	    request->type != PCILU_MSG_KEPT)
		return -1;
	fd = eventfd(0, EFD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int pcilu_client_call(int *sock, uint32_t *serial, struct pcilu_msg *request,
		      struct pcilu_msg *reply, int *fd)
{
	int with = request->flags & PCILU_MSG_F_FD ? *fd : -1;
	int64_t end = now_ms() + TIME_LIMIT_MS;
	autoclose int place = reserve(request);
	int err;

	*fd = -1;
	if (place < -1)
		return place;
	request->serial = ++*serial;
	err = send_request(sock, request, with, end);
	if (!err)
		err = wait_for(*sock, POLLIN, end);
	if (!err) {
		if (place >= 0)
			drop(&place);
		reply->error = 0;
		err = pcilu_client_take(*sock, request, reply, fd);
		if (err && err == reply->error)
			return err; /* the daemon's answer */
	}
	/* A reply that comes later must not be taken for the next one's */
	if (err && *sock >= 0)
		drop(sock);
	return err == -EPIPE ? -ECONNRESET : err;
}
