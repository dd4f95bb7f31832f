// SPDX-License-Identifier: GPL-2.0
/*
 * e1000e_rx as a process: one thread that polls the ring and serves a Unix
 * socket in between, and the client of that socket.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "e1000e_hw.h"
#include "rx.h"

#define POLL_NS		300000

static int socket_address(const char *name, struct sockaddr_un *sa)
{
	int n;

	memset(sa, 0, sizeof(*sa));
	sa->sun_family = AF_UNIX;
	n = snprintf(sa->sun_path, sizeof(sa->sun_path),
		     "/run/e1000e_rx.%s.sock", name);
	return n < (int)sizeof(sa->sun_path) ? 0 : -ENAMETOOLONG;
}

/* Everything is gone when "quit" is answered */
void rx_tear_down(struct rx *rx)
{
	struct sockaddr_un sa;

	/* The session may own the device too: the card stops before its memory goes */
	vfio_noiommu_close(&rx->v);
	rx_session_close(rx);
	rx_mem_close(&rx->m);
	close(rx->listener);
	if (!socket_address(rx->opt.name, &sa))
		unlink(sa.sun_path);
}

static int listen_on(struct rx *rx)
{
	struct sockaddr_un sa;
	int fd, ret;

	ret = socket_address(rx->opt.name, &sa);
	if (ret)
		return ret;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;

	/* Do not take a living daemon's place; a dead one's socket is in the way */
	if (!connect(fd, (struct sockaddr *)&sa, sizeof(sa))) {
		close(fd);
		return -EADDRINUSE;
	}
	unlink(sa.sun_path);
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) || listen(fd, 4)) {
		ret = -errno;
		close(fd);
		return ret;
	}
	rx->listener = fd;
	return 0;
}

static void serve_one(struct rx *rx)
{
	struct timeval timeout = { .tv_sec = 1 };
	char line[128];
	ssize_t n;
	int fd;

	fd = accept4(rx->listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	n = read(fd, line, sizeof(line) - 1);
	if (n > 0) {
		line[n] = '\0';
		rx_handle(rx, line, fd);
	}
	close(fd);
}

static void clean_ring(struct rx *rx)
{
	unsigned int n;

	if (rx->held || !rx->m.ring)
		return;
	n = rx_mem_poll(&rx->m);
	if (n > rx->high_water)
		rx->high_water = n;
	if (n && rx->v.bar0)
		e1000e_set_tail(rx->v.bar0, rx_mem_tail(&rx->m));
}

static int serve(struct rx *rx)
{
	struct timespec interval = { .tv_nsec = POLL_NS };
	struct pollfd pfd = { .fd = rx->listener, .events = POLLIN };

	while (!rx->quit) {
		clean_ring(rx);
		if (ppoll(&pfd, 1, &interval, NULL) > 0)
			serve_one(rx);
	}
	return RX_OK;
}

/* In the parent of a background start: wait for readiness or the exit code */
static int wait_ready(int fd, pid_t pid)
{
	char c;
	int status;

	if (read(fd, &c, 1) == 1)
		return RX_OK;
	if (waitpid(pid, &status, 0) < 0 || !WIFEXITED(status))
		return RX_DEVICE;
	return WEXITSTATUS(status);
}

static void tell_ready(int fd)
{
	int null = open("/dev/null", O_RDWR);

	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	if (null > STDERR_FILENO)
		close(null);
	if (write(fd, "", 1) != 1)
		exit(RX_DEVICE);
	close(fd);
}

int rx_run_daemon(struct rx *rx, int (*set_up)(struct rx *rx))
{
	int pipefd[2] = { -1, -1 };
	int code, ret;

	signal(SIGPIPE, SIG_IGN);
	if (rx->opt.background) {
		pid_t pid;

		if (pipe2(pipefd, O_CLOEXEC))
			return rx_fail(RX_DEVICE, "pipe", -errno, NULL);
		pid = fork();
		if (pid < 0)
			return rx_fail(RX_DEVICE, "fork", -errno, NULL);
		if (pid) {
			close(pipefd[1]);
			return wait_ready(pipefd[0], pid);
		}
		close(pipefd[0]);
		setsid();
	}

	clock_gettime(CLOCK_MONOTONIC, &rx->started);
	ret = listen_on(rx);
	if (ret)
		return rx_fail(RX_DEVICE, "control socket", ret, rx->opt.name);
	code = set_up(rx);
	if (code) {
		rx_tear_down(rx);
		return code;
	}
	if (rx->opt.background)
		tell_ready(pipefd[1]);
	return serve(rx);
}

static int connect_to(const char *name, unsigned int wait)
{
	struct sockaddr_un sa;
	int fd, ret, i;

	ret = socket_address(name, &sa);
	if (ret)
		return ret;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;

	for (i = 0;; i++) {
		if (!connect(fd, (struct sockaddr *)&sa, sizeof(sa)))
			return fd;
		if (i >= (int)wait * 10)
			break;
		usleep(100000);
	}
	ret = -errno;
	close(fd);
	return ret;
}

int rx_ctl(int argc, char *argv[])
{
	const char *name = argv[0];
	size_t len = 0, size = 1 << 17;
	unsigned int wait = 0;
	char line[128], *buf;
	int fd, code;
	ssize_t n;

	argc--;
	argv++;
	if (argc >= 2 && !strcmp(argv[0], "--wait")) {
		wait = strtoul(argv[1], NULL, 0);
		argc -= 2;
		argv += 2;
	}
	if (argc < 1 || argc > 2)
		return RX_USAGE;

	fd = connect_to(name, wait);
	if (fd < 0)
		return rx_fail(RX_NO_DAEMON, "connect", fd, name);

	snprintf(line, sizeof(line), "%s %s\n", argv[0], argc > 1 ? argv[1] : "");
	if (write(fd, line, strlen(line)) < 0)
		return rx_fail(RX_NO_DAEMON, "send", -errno, name);
	buf = malloc(size);
	if (!buf)
		return rx_fail(RX_MEMORY, "reply", -ENOMEM, name);

	while (len < size - 1) {
		n = read(fd, buf + len, size - 1 - len);
		if (n <= 0)
			break;
		len += n;
	}
	buf[len] = '\0';
	close(fd);

	fputs(buf, stdout);
	code = !len ? RX_NO_DAEMON : strstr(buf, "\"rc\":-") ? RX_COMMAND : RX_OK;
	free(buf);
	if (code == RX_NO_DAEMON)
		return rx_fail(code, "read reply", -EPIPE, name);
	return code;
}
