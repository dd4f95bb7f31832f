// SPDX-License-Identifier: GPL-2.0
/*
 * vf_set - tell a Physical Function's driver what one of its Virtual Functions may do.
 *
 *	vf_set INTERFACE VF trust 0|1
 *	vf_set INTERFACE VF rate MBIT
 *
 * as "ip link set dev INTERFACE vf VF trust|max_tx_rate" does, by RTM_SETLINK with one
 * IFLA_VF_INFO (rtnetlink(7), linux/if_link.h). A rate of 0 is no limit.
 *
 * Output is one JSON object. Exit codes: 0 done, 1 failed, 2 usage.
 */

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/if_link.h>
#include <linux/rtnetlink.h>

#include "json_out.h"

struct request {
	struct nlmsghdr head;
	struct ifinfomsg link;
	char attributes[64];
};

/* Begins an attribute, or adds a whole one; both at the end of the message */
static struct rtattr *add(struct request *r, int type, const void *data, size_t len)
{
	struct rtattr *a = (void *)((char *)r + NLMSG_ALIGN(r->head.nlmsg_len));

	a->rta_type = type;
	a->rta_len = RTA_LENGTH(len);
	if (len)
		memcpy(RTA_DATA(a), data, len);
	r->head.nlmsg_len = NLMSG_ALIGN(r->head.nlmsg_len) + RTA_SPACE(len);
	return a;
}

static void end(const struct request *r, struct rtattr *a)
{
	a->rta_len = (const char *)r + r->head.nlmsg_len - (const char *)a;
}

static int ask(const struct request *r)
{
	struct {
		struct nlmsghdr head;
		struct nlmsgerr error;
		char more[512];
	} answer;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (send(fd, r, r->head.nlmsg_len, 0) < 0 ||
	    recv(fd, &answer, sizeof(answer), 0) < (ssize_t)NLMSG_LENGTH(sizeof(answer.error)))
		err = -EIO;
	else if (answer.head.nlmsg_type == NLMSG_ERROR)
		err = answer.error.error;
	close(fd);
	return err;
}

int main(int argc, char *argv[])
{
	struct request r = {
		.head = { .nlmsg_len = NLMSG_LENGTH(sizeof(r.link)), .nlmsg_type = RTM_SETLINK,
			  .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK },
	};
	struct rtattr *list, *info;
	struct json j = {};
	int rc;

	if (argc != 5 || (strcmp(argv[3], "trust") && strcmp(argv[3], "rate"))) {
		fprintf(stderr, "vf_set INTERFACE VF trust 0|1, or rate MBIT\n");
		return 2;
	}
	r.link.ifi_index = if_nametoindex(argv[1]);
	list = add(&r, IFLA_VFINFO_LIST, NULL, 0);
	info = add(&r, IFLA_VF_INFO, NULL, 0);
	if (!strcmp(argv[3], "trust")) {
		struct ifla_vf_trust trust = { .vf = atoi(argv[2]), .setting = atoi(argv[4]) };

		add(&r, IFLA_VF_TRUST, &trust, sizeof(trust));
	} else {
		struct ifla_vf_rate rate = { .vf = atoi(argv[2]), .max_tx_rate = atoi(argv[4]) };

		add(&r, IFLA_VF_RATE, &rate, sizeof(rate));
	}
	end(&r, info);
	end(&r, list);
	rc = r.link.ifi_index ? ask(&r) : -ENODEV;

	json_begin(&j);
	json_str(&j, "event", "vf");
	json_rc(&j, rc);
	json_end(&j);
	json_send(&j, STDOUT_FILENO);
	return rc ? 1 : 0;
}
