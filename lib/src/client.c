// SPDX-License-Identifier: LGPL-2.1-or-later

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "cleanup.h"
#include "client.h"
#include "path.h"
#include "pcilu.h"

#define TIME_LIMIT_S 10

int pcilu_client_connect(void)
{
	const struct timeval limit = { .tv_sec = TIME_LIMIT_S };
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	autofree char *path = path_of("%s", PCILU_SOCKET);
	autoclose int sock = -1;

	if (!path)
		return -ENOMEM;
	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	strcpy(addr.sun_path, path);

	sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return -errno;
	if (setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) ||
	    setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)))
		return -errno;
	if (connect(sock, (struct sockaddr *)&addr, sizeof(addr)))
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	return take_fd(&sock);
}

static void drop(int *sock)
{
	close(*sock);
	*sock = -1;
}

/* A broken connection shows when the request is sent: then try a new one, once */
static int send_request(int *sock, const struct pcilu_msg *request)
{
	int err;

	if (*sock >= 0) {
		err = pcilu_msg_send(*sock, request, -1);
		if (err != -EPIPE && err != -ECONNRESET)
			return err;
		drop(sock);
	}
	*sock = pcilu_client_connect();
	if (*sock < 0) {
		err = *sock;
		*sock = -1;
		return err == -ENOENT || err == -ECONNREFUSED ? -ECONNRESET :
								err;
	}
	return pcilu_msg_send(*sock, request, -1);
}

int pcilu_client_call(int *sock, uint32_t *serial, struct pcilu_msg *request,
		      struct pcilu_msg *reply, int *fd)
{
	char buf[sizeof(*reply)];
	autoclose int got = -1;
	ssize_t n;
	int err;

	*fd = -1;
	request->serial = ++*serial;
	err = send_request(sock, request);
	if (!err) {
		n = pcilu_msg_recv(*sock, buf, sizeof(buf), &got);
		err = n > 0 ? 0 : n == 0 ? -ECONNRESET : (int)n;
	}
	if (err) {
		/* A reply that comes later must not be taken for the next one's */
		if (*sock >= 0)
			drop(sock);
		if (err == -EAGAIN)
			return -ETIMEDOUT;
		return err == -EPIPE ? -ECONNRESET : err;
	}

	err = pcilu_msg_parse_reply(buf, (size_t)n, request, reply);
	if (err || (got >= 0) != !!(reply->flags & PCILU_MSG_F_FD)) {
		drop(sock);
		return -EPROTO;
	}
	if (reply->error)
		return reply->error;
	*fd = take_fd(&got);
	return 0;
}
