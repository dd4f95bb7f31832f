// SPDX-License-Identifier: GPL-2.0
/*
 * What a device says to those who listen for events of the kernel.
 *
 *	uevents FILE...		asks for an "add" in each of these uevent files of
 *				sysfs, and prints what comes, in one line of JSON
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <linux/netlink.h>

#include "json_out.h"

/* Header and variables are strings, one behind the other */
static void put_event(struct json *j, const char *event, ssize_t len)
{
	json_open(j, NULL, '[');
	for (ssize_t at = 0; at < len; at += strlen(event + at) + 1)
		json_str(j, NULL, event + at);
	json_close(j, ']');
}

static int ask(const char *file)
{
	int fd = open(file, O_WRONLY | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -errno;
	ret = write(fd, "add", 3) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

int main(int argc, char **argv)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	struct timeval patience = { .tv_sec = 10 };
	static char event[16384];
	struct json j = { 0 };
	int sock, ret;

	sock = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
	if (sock < 0 || bind(sock, (struct sockaddr *)&addr, sizeof(addr)) ||
	    setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience))) {
		json_error("socket", -errno, "uevents");
		return 1;
	}

	json_begin(&j);
	json_open(&j, "events", '[');
	for (int i = 1; i < argc; i++) {
		ssize_t len;

		ret = ask(argv[i]);
		if (ret) {
			json_error("write", ret, argv[i]);
			return 1;
		}
		len = recv(sock, event, sizeof(event) - 1, 0);
		if (len < 0) {
			json_error("receive", -errno, argv[i]);
			return 1;
		}
		event[len] = '\0';
		put_event(&j, event, len);
	}
	json_close(&j, ']');
	json_end(&j);
	ret = json_send(&j, STDOUT_FILENO);
	close(sock);
	return ret ? 1 : 0;
}
