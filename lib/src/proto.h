/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the library and pcilud say to each other.
 *
 * The socket is a SOCK_SEQPACKET one, so a message is whole or is not there. Each
 * has the same fixed size in both directions, and each request has one reply. A
 * descriptor comes with a message that has PCILU_MSG_F_FD set: a reply, or KEEP.
 * Unused fields are zero, and a reader refuses them if they are not: what is
 * refused today can have a meaning tomorrow.
 */
#ifndef PCILU_PROTO_H
#define PCILU_PROTO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PCILU_MSG_MAGIC 0x554c4350U /* "PCLU" */
#define PCILU_MSG_VERSION 1
#define PCILU_MSG_NAME_SIZE 64

/**
 * enum pcilu_msg_type - requests, and what they use
 * @PCILU_MSG_HELLO: nothing. The reply tells how many sessions there are.
 * @PCILU_MSG_CREATE: name. The reply has a descriptor.
 * @PCILU_MSG_ATTACH: name. The reply has a descriptor.
 * @PCILU_MSG_RETRIEVE: name. The reply has a descriptor.
 * @PCILU_MSG_RELEASE: name and direction
 * @PCILU_MSG_LIST: index of a session, from 0. The reply describes the first one
 *	at or after that index that the caller may see, with its index; -ENOENT
 *	after the last one.
 * @PCILU_MSG_HOLD: index, as above. The reply has a copy of the descriptor as
 *	well. For those who may hold all sessions through a kexec.
 * @PCILU_MSG_FOLLOW: nothing. For the same. After the reply, whatever is made or
 *	retrieved is told by a message that nobody asked for, of this type and with
 *	serial 0, which describes the session and has a copy of its descriptor;
 *	what is released is told by one without.
 * @PCILU_MSG_SUBSCRIBE: name. From then on this connection is told of each event by a
 *	message of type EVENT that nobody asked for, serial 0, with index and value.
 * @PCILU_MSG_ANSWER: index and value: 0, or a positive errno value as the reason why
 *	not. -ECANCELED if nobody waits for it any more.
 * @PCILU_MSG_REASON: index, and words where others have a name: why the answer that
 *	comes next will be no
 * @PCILU_MSG_EVENT: index, an &enum pcilu_event_kind or %PCILU_MSG_EVENT_DONE, and
 *	value, the time limit in milliseconds. For those who may hold. Every answer
 *	is told by a message of type ANSWER that nobody asked for, serial 0, with
 *	the subscriber's name, uid and pid, and value, after a message of type REASON
 *	if it has given one; the last of them has no name. They can come before the
 *	reply. A connection that ends before DONE aborts.
 * @PCILU_MSG_SUBSCRIBERS: index, as for LIST: name, uid and pid of a subscriber
 * @PCILU_MSG_KEEP: name of an incoming session, and a descriptor of an iommufd, which
 *	is kept until the session is released. What was kept before it no longer is.
 * @PCILU_MSG_KEPT: name. The reply has that descriptor.
 */
enum pcilu_msg_type {
	PCILU_MSG_HELLO = 1,
	PCILU_MSG_CREATE,
	PCILU_MSG_ATTACH,
	PCILU_MSG_RETRIEVE,
	PCILU_MSG_RELEASE,
	PCILU_MSG_LIST,
	PCILU_MSG_HOLD,
	PCILU_MSG_FOLLOW,
	PCILU_MSG_SUBSCRIBE,
	PCILU_MSG_ANSWER,
	PCILU_MSG_EVENT,
	PCILU_MSG_SUBSCRIBERS,
	PCILU_MSG_KEEP,
	PCILU_MSG_KEPT,
	PCILU_MSG_REASON,
	PCILU_MSG_NR
};

/* Beside those of &enum pcilu_event_kind: the kexec is on its way */
#define PCILU_MSG_EVENT_DONE 4U

#define PCILU_MSG_F_REPLY 0x1U
#define PCILU_MSG_F_FD 0x2U /* a descriptor comes with it */
#define PCILU_MSG_F_HELD 0x4U /* the daemon has the session open */
#define PCILU_MSG_F_ALL 0x7U

struct pcilu_msg {
	uint32_t magic;
	uint16_t version;
	uint16_t type;
	uint32_t serial; /* a reply repeats its request's */
	uint32_t flags;
	int32_t error; /* 0 or -errno; 0 in a request */
	uint32_t index;
	uint32_t direction; /* enum pcilu_direction */
	uint32_t uid;
	int32_t pid;
	uint32_t value;
	uint32_t reserved[2];
	char name[PCILU_MSG_NAME_SIZE]; /* the rest is NUL */
};

_Static_assert(sizeof(struct pcilu_msg) == 112,
	       "the size is part of the protocol");

/*
 * Checks every field of a request or of a reply to @request. @buf need not be
 * aligned. Returns 0 and the message in @out, -EPROTO (no message of this
 * protocol), -EPROTONOSUPPORT (of another version: type and serial are valid in
 * @out) or -EINVAL (a field is wrong: type and serial are valid in @out).
 */
int pcilu_msg_parse_request(const void *buf, size_t len, struct pcilu_msg *out);
int pcilu_msg_parse_reply(const void *buf, size_t len,
			  const struct pcilu_msg *request,
			  struct pcilu_msg *out);

/* Starts a message, all else zero; @name may be NULL */
void pcilu_msg_init(struct pcilu_msg *msg, enum pcilu_msg_type type,
		    const char *name);

/* 1 if @name, in a field of @size bytes, is a valid name with its NUL in it */
int pcilu_msg_name_valid(const char *name, size_t size);

/* The same for words: ASCII that can be printed, whatever terminal it comes to */
int pcilu_msg_words_valid(const char *words, size_t size);

/* Sends a message, with a descriptor unless @fd is -1. Returns 0 or -errno. */
int pcilu_msg_send(int sock, const struct pcilu_msg *msg, int fd);

/*
 * Receives one message into @buf. A descriptor that came with it goes to @fd (-1
 * if none did), further ones are closed. Returns its whole length, which may be
 * more than @size, 0 at the end, or -errno.
 */
ssize_t pcilu_msg_recv(int sock, void *buf, size_t size, int *fd);

#endif /* PCILU_PROTO_H */
