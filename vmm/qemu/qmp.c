// SPDX-License-Identifier: GPL-2.0
/* A client of QEMU's monitor protocol (docs/interop/qmp-spec.rst): JSON, line by line. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../lib/src/cleanup.h"
#include "broker.h"

#define GREETING_S 5 /* a monitor serves one client at a time */

struct qmp {
	FILE *in;
	int fd;
	bool gone;
};

/* The next line, which the caller puts; NULL if QEMU has ended */
static struct json_object *receive(struct qmp *q)
{
	autofree char *line = NULL;
	struct json_object *o;
	size_t size = 0;

	if (getline(&line, &size, q->in) < 0) {
		q->gone = true;
		return NULL;
	}
	o = json_tokener_parse(line);
	if (!o)
		q->gone = true;
	return o;
}

struct json_object *qmp_do(struct qmp *q, const char *command,
			   struct json_object *arguments)
{
	struct json_object *o = json_object_new_object(), *member;
	size_t size;
	char *text;

	json_object_object_add(o, "execute", json_object_new_string(command));
	if (arguments)
		json_object_object_add(o, "arguments", arguments);
	text = (char *)json_object_to_json_string_length(
		o, JSON_C_TO_STRING_PLAIN, &size);
	text[size] = '\n'; /* in the place of the NUL */
	if (send(q->fd, text, size + 1, MSG_NOSIGNAL) != (ssize_t)size + 1)
		q->gone = true;
	json_object_put(o);
	while (!q->gone && (o = receive(q))) {
		if (json_object_object_get_ex(o, "return", &member)) {
			json_object_get(member);
			json_object_put(o);
			return member;
		}
		if (json_object_object_get_ex(o, "error", &member)) {
			fail(0, "QEMU: %s: %s", command,
			     text_of(member, "desc"));
			json_object_put(o);
			return NULL;
		}
		json_object_put(o); /* an event */
	}
	return NULL;
}

bool qmp_gone(const struct qmp *q)
{
	return q->gone;
}

void qmp_close(struct qmp *q)
{
	if (q && q->in)
		fclose(q->in);
	free(q);
}

struct qmp *qmp_open(const char *path)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	struct qmp *q = calloc(1, sizeof(*q));
	struct timeval limit = { .tv_sec = GREETING_S }, none = { 0 };
	struct json_object *o;

	if (!q)
		return NULL;
	if (strlen(path) >= sizeof(to.sun_path)) {
		fail(-ENAMETOOLONG, "%s", path);
		goto failed;
	}
	strcpy(to.sun_path, path);
	q->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (q->fd < 0 || connect(q->fd, (struct sockaddr *)&to, sizeof(to))) {
		fail(-errno, "%s", path);
		goto failed;
	}
	setsockopt(q->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	q->in = fdopen(q->fd, "re");
	o = q->in ? receive(q) : NULL;
	setsockopt(q->fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
	if (!o || !json_object_object_get_ex(o, "QMP", NULL)) {
		fail(-EPROTO,
		     "%s is no QMP socket of a QEMU, or has another client",
		     path);
		json_object_put(o);
		goto failed;
	}
	json_object_put(o);
	o = qmp_do(q, "qmp_capabilities", NULL);
	if (!o)
		goto failed;
	json_object_put(o);
	return q;
failed:
	if (!q->in && q->fd >= 0)
		close(q->fd);
	qmp_close(q);
	return NULL;
}
