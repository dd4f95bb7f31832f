// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl.h"
#include "json_out.h"

/* Of all commands of a connection */
#define LINE_MAX_LEN	32768

static int socket_address(const struct ctl *c, struct sockaddr_un *sa)
{
	int n;

	memset(sa, 0, sizeof(*sa));
	sa->sun_family = AF_UNIX;
	n = snprintf(sa->sun_path, sizeof(sa->sun_path), "/run/%s.%s.sock",
		     c->program, c->name);
	return n < (int)sizeof(sa->sun_path) ? 0 : -ENAMETOOLONG;
}

static int ctl_socket(const struct ctl *c, struct sockaddr_un *sa)
{
	int ret = socket_address(c, sa);

	if (ret)
		return ret;
	ret = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return ret < 0 ? -errno : ret;
}

int ctl_listen(struct ctl *c)
{
	struct sockaddr_un sa;
	int fd, ret;

	fd = ctl_socket(c, &sa);
	if (fd < 0)
		return fd;

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
	c->listener = fd;
	return 0;
}

void ctl_unlisten(struct ctl *c)
{
	struct sockaddr_un sa;

	close(c->listener);
	if (!socket_address(c, &sa))
		unlink(sa.sun_path);
}

/* In the parent: wait for readiness or the exit code */
static int wait_ready(int fd, pid_t pid)
{
	int status;
	char byte;

	if (read(fd, &byte, 1) == 1)
		return CTL_OK;
	if (waitpid(pid, &status, 0) < 0 || !WIFEXITED(status))
		return CTL_NO_DAEMON;
	return WEXITSTATUS(status);
}

int ctl_background(struct ctl *c, int *code)
{
	int pipefd[2];
	pid_t pid;

	if (pipe2(pipefd, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid) {
		close(pipefd[1]);
		*code = wait_ready(pipefd[0], pid);
		return 1;
	}
	close(pipefd[0]);
	setsid();
	c->ready = pipefd[1];
	return 0;
}

void ctl_ready(struct ctl *c)
{
	int null = open("/dev/null", O_RDWR);

	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	if (null > STDERR_FILENO)
		close(null);
	if (write(c->ready, "", 1) != 1)
		exit(CTL_NO_DAEMON);
	close(c->ready);
}

void ctl_serve(struct ctl *c, const struct timespec *timeout,
	       void (*handle)(void *data, char *command, int fd), void *data)
{
	struct pollfd pfd = { .fd = c->listener, .events = POLLIN };
	struct timeval patience = { .tv_sec = 1 };
	static char line[LINE_MAX_LEN];
	char *command, *rest = line;
	size_t len = 0;
	ssize_t n;
	int fd;

	if (ppoll(&pfd, 1, timeout, NULL) <= 0)
		return;
	fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	do {
		n = read(fd, line + len, sizeof(line) - 1 - len);
		if (n > 0)
			len += n;
	} while (n > 0 && line[len - 1] != '\n');
	line[len] = '\0';
	while ((command = strsep(&rest, ";")))
		handle(data, command, fd);
	close(fd);
}

static int connect_to(const struct ctl *c, unsigned int wait)
{
	struct sockaddr_un sa;
	int fd, ret, i;

	fd = ctl_socket(c, &sa);
	if (fd < 0)
		return fd;

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

static int no_daemon(const struct ctl *c, const char *what, int rc)
{
	json_error(what, rc, c->name);
	return CTL_NO_DAEMON;
}

int ctl_client(struct ctl *c, int argc, char *argv[])
{
	size_t len = 0, size = 1 << 20;
	unsigned int wait = 0;
	int fd, i, code;
	FILE *to;
	char *buf;
	ssize_t n;

	if (argc >= 2 && !strcmp(argv[0], "--wait")) {
		wait = strtoul(argv[1], NULL, 0);
		argc -= 2;
		argv += 2;
	}
	if (argc < 1)
		return CTL_USAGE;

	fd = connect_to(c, wait);
	if (fd < 0)
		return no_daemon(c, "connect", fd);
	to = fdopen(dup(fd), "w");
	buf = malloc(size);
	if (!to || !buf)
		return no_daemon(c, "send", -ENOMEM);
	for (i = 0; i < argc; i++)
		fprintf(to, "%s%s", argv[i], i < argc - 1 ? " " : "\n");
	if (fclose(to))
		return no_daemon(c, "send", -errno);

	while (len < size - 1) {
		n = read(fd, buf + len, size - 1 - len);
		if (n <= 0)
			break;
		len += n;
	}
	buf[len] = '\0';
	close(fd);

	fputs(buf, stdout);
	code = !len ? no_daemon(c, "read reply", -EPIPE) :
	       strstr(buf, "\"rc\":-") ? CTL_COMMAND : CTL_OK;
	free(buf);
	return code;
}
