// SPDX-License-Identifier: LGPL-2.1-or-later

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cleanup.h"
#include "proto.h"

/* Which fields a request of a type may use; all others are zero */
static const struct {
	unsigned int name : 1, direction : 1, index : 1, value : 1, fd : 1;
} uses[PCILU_MSG_NR] = {
	[PCILU_MSG_CREATE] = { .name = 1 },
	[PCILU_MSG_ATTACH] = { .name = 1 },
	[PCILU_MSG_RETRIEVE] = { .name = 1 },
	[PCILU_MSG_RELEASE] = { .name = 1, .direction = 1 },
	[PCILU_MSG_LIST] = { .index = 1 },
	[PCILU_MSG_HOLD] = { .index = 1 },
	[PCILU_MSG_SUBSCRIBE] = { .name = 1 },
	[PCILU_MSG_ANSWER] = { .index = 1, .value = 1 },
	[PCILU_MSG_EVENT] = { .index = 1, .value = 1 },
	[PCILU_MSG_SUBSCRIBERS] = { .index = 1 },
	[PCILU_MSG_KEEP] = { .name = 1, .fd = 1 },
	[PCILU_MSG_KEPT] = { .name = 1 },
	[PCILU_MSG_REASON] = { .name = 1, .index = 1 },
};

static int is_zero(const void *p, size_t len)
{
	const unsigned char *c = p;

	while (len--)
		if (*c++)
			return 0;
	return 1;
}

int pcilu_msg_name_valid(const char *name, size_t size)
{
	static const char allowed[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		"0123456789._@+-";
	size_t len = strnlen(name, size);

	return len > 0 && len < size && len < PCILU_MSG_NAME_SIZE &&
	       name[0] != '.' && strspn(name, allowed) == len;
}

int pcilu_msg_words_valid(const char *words, size_t size)
{
	size_t len = strnlen(words, size), i;

	for (i = 0; i < len; i++)
		if (words[i] < ' ' || words[i] > '~')
			return 0;
	return len > 0 && len < size;
}

static int text_valid(const struct pcilu_msg *msg)
{
	return msg->type == PCILU_MSG_REASON ?
		       pcilu_msg_words_valid(msg->name, sizeof(msg->name)) :
		       pcilu_msg_name_valid(msg->name, sizeof(msg->name));
}

/* What requests and replies have in common */
static int parse(const void *buf, size_t len, struct pcilu_msg *out)
{
	size_t n;

	memset(out, 0, sizeof(*out));
	if (len != sizeof(*out))
		return -EPROTO;
	memcpy(out, buf, sizeof(*out));
	if (out->magic != PCILU_MSG_MAGIC)
		return -EPROTO;
	if (out->version != PCILU_MSG_VERSION)
		return -EPROTONOSUPPORT;
	if (out->type < PCILU_MSG_HELLO || out->type >= PCILU_MSG_NR ||
	    (out->flags & ~PCILU_MSG_F_ALL) || out->direction > 1 ||
	    !is_zero(out->reserved, sizeof(out->reserved)))
		return -EINVAL;

	n = strnlen(out->name, sizeof(out->name));
	if (n && !text_valid(out))
		return -EINVAL;
	return is_zero(out->name + n, sizeof(out->name) - n) ? 0 : -EINVAL;
}

int pcilu_msg_parse_request(const void *buf, size_t len, struct pcilu_msg *out)
{
	int err = parse(buf, len, out);

	if (err)
		return err;
	if (out->flags != (uses[out->type].fd ? PCILU_MSG_F_FD : 0) ||
	    out->error || out->uid || out->pid)
		return -EINVAL;
	if (!uses[out->type].name != !out->name[0])
		return -EINVAL;
	if (!uses[out->type].direction && out->direction)
		return -EINVAL;
	if (!uses[out->type].index && out->index)
		return -EINVAL;
	if (!uses[out->type].value && out->value)
		return -EINVAL;
	return 0;
}

int pcilu_msg_parse_reply(const void *buf, size_t len,
			  const struct pcilu_msg *request,
			  struct pcilu_msg *out)
{
	int err = parse(buf, len, out);

	if (err)
		return err;
	if (!(out->flags & PCILU_MSG_F_REPLY) || out->type != request->type ||
	    out->serial != request->serial || out->error > 0 ||
	    out->error < -4095)
		return -EINVAL;
	return 0;
}

void pcilu_msg_init(struct pcilu_msg *msg, enum pcilu_msg_type type,
		    const char *name)
{
	*msg = (struct pcilu_msg){
		.magic = PCILU_MSG_MAGIC,
		.version = PCILU_MSG_VERSION,
		.type = type,
	};
	if (name)
		memcpy(msg->name, name, strnlen(name, sizeof(msg->name) - 1));
}

int pcilu_msg_send(int sock, const struct pcilu_msg *msg, int fd)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)msg, .iov_len = sizeof(*msg) };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		struct cmsghdr *c;

		hdr.msg_control = control.buf;
		hdr.msg_controllen = sizeof(control.buf);
		c = CMSG_FIRSTHDR(&hdr);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	return sendmsg(sock, &hdr, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Keeps the first descriptor of a control message in @keep, closes the others */
static void take_descriptors(struct cmsghdr *c, int *keep)
{
	size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int), i;

	for (i = 0; i < n; i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
		if (*keep < 0)
			*keep = fd;
		else
			close(fd);
	}
}

ssize_t pcilu_msg_recv(int sock, void *buf, size_t size, int *fd)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(8 * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = buf, .iov_len = size };
	struct msghdr hdr = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	struct cmsghdr *c;
	ssize_t n;

	*fd = -1;
	n = recvmsg(sock, &hdr, MSG_CMSG_CLOEXEC | MSG_TRUNC);
	if (n < 0)
		return -errno;
	for (c = CMSG_FIRSTHDR(&hdr); c; c = CMSG_NXTHDR(&hdr, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
			take_descriptors(c, fd);
	return n;
}
