// SPDX-License-Identifier: GPL-2.0
/*
 * What a QEMU becomes when it is saved: its own process, with its descriptors. It
 * preserves them, and keeps them open, so that it can become that QEMU again if there is
 * no live update after all.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../lib/src/cleanup.h"
#include "broker.h"

#define TOLD_MS 10000
#define RETRY_MS 5000

struct keeper {
	const char *name;
	struct stream stream;
	struct json_object *guest;
	struct pcilu *lu;
	struct pcilu_session *session;
};

static int preserve(struct keeper *k, int fd, uint64_t token, const char *what)
{
	int err = pcilu_session_preserve_fd(k->session, fd, token);

	return err ? fail(err, "%s cannot be preserved", what) : 0;
}

static void link_of(int fd, char *to, size_t size)
{
	char path[32];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, to, size - 1);
	to[n < 0 ? 0 : n] = '\0';
}

static bool is_handed(const struct stream *s, int fd)
{
	size_t n;

	for (n = 0; n < s->nr_handed; n++)
		if (s->handed[n].fd == fd)
			return true;
	return false;
}

/* Which QEMU has left open: a device whose BARs have become one cannot be preserved */
static int close_dma_bufs(const struct stream *s)
{
	autoclosedir DIR *dir = opendir("/proc/self/fd");
	struct dirent *e;
	char link[64];

	if (!dir)
		return fail(-errno, "/proc/self/fd");
	while ((e = readdir(dir))) {
		int fd = atoi(e->d_name);

		link_of(fd, link, sizeof(link));
		if (!is_handed(s, fd) && !strncmp(link, "/dmabuf:", 8))
			close(fd);
	}
	return 0;
}

static struct json_object *named(struct json_object *array, const char *name)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "name", json_object_new_string(name));
	json_object_array_add(array, o);
	return o;
}

/* What an eventfd of the device is for, as QEMU names it; NULL if it is none */
static const char *event_of(const struct hosted *h, const char *name)
{
	static const char *const what[] = {
		"_interrupt",	"_kvm_interrupt", "_intx-interrupt",
		"_intx-unmask", "_err_notifier",  "_req_notifier",
	};
	size_t n, length = strlen(h->name);

	if (strncmp(name, h->name, length) != 0)
		return NULL;
	for (n = 0; n < ARRAY_SIZE(what); n++)
		if (!strcmp(name + length, what[n]))
			return name + length;
	return NULL;
}

/* The device with its eventfds, which are named after it */
static int add_device(struct keeper *k, const struct hosted *h, uint64_t token)
{
	int fd = stream_find(&k->stream, h->name, 0);
	struct device d;
	struct json_object *o, *event;
	size_t n;

	if (fd < 0)
		return fail(-ENOENT, "QEMU hands over no file of %s", h->name);
	if (h->ioas != k->stream.hosted[0].ioas ||
	    h->hwpt != k->stream.hosted[0].hwpt)
		return fail(-EOPNOTSUPP,
			    "%s and %s have page tables of their own",
			    k->stream.hosted[0].name, h->name);
	if (device_look(fd, &d))
		return fail(-EIO, "%s does not answer", h->name);
	o = named(array_of(k->guest, "devices"), h->name);
	json_object_object_add(o, "token", json_object_new_uint64(token));
	json_object_object_add(o, "irq", json_object_new_int(d.irq));
	json_object_object_add(o, "master", json_object_new_boolean(d.master));
	for (n = 0; n < k->stream.nr_handed; n++) {
		const struct handed *e = &k->stream.handed[n];
		const char *what = event_of(h, e->name);

		if (!what)
			continue;
		if (!strcmp(what, "_intx-interrupt"))
			return fail(
				-EOPNOTSUPP,
				"the guest uses INTx of %s, not MSI or MSI-X",
				h->name);
		event = named(array_of(o, "events"), what);
		json_object_object_add(event, "id", json_object_new_int(e->id));
	}
	return 0;
}

static bool is_of_device(const struct stream *s, const char *name)
{
	size_t n;

	for (n = 0; n < s->nr_hosted; n++)
		if (!strcmp(name, s->hosted[n].name) ||
		    event_of(&s->hosted[n], name))
			return true;
	return false;
}

/* What is neither memory nor of a device has no place to go */
static int sort_out(struct keeper *k)
{
	uint64_t token = TOKEN_MEMORY;
	char link[256];
	size_t n;
	int err;

	for (n = 0; n < k->stream.nr_handed; n++) {
		const struct handed *e = &k->stream.handed[n];
		struct json_object *o;

		if (is_of_device(&k->stream, e->name))
			continue;
		link_of(e->fd, link, sizeof(link));
		if (!strcmp(link, "/dev/iommu")) {
			if (*text_of(k->guest, "iommufd"))
				return fail(-EOPNOTSUPP,
					    "QEMU has more than one iommufd");
			json_object_object_add(k->guest, "iommufd",
					       json_object_new_string(e->name));
			continue;
		}
		if (fcntl(e->fd, F_GET_SEALS) < 0)
			return fail(
				-EOPNOTSUPP,
				"QEMU has %s open (%s), which cannot be handed over",
				e->name, link);
		o = named(array_of(k->guest, "memory"), e->name);
		json_object_object_add(o, "id", json_object_new_int(e->id));
		json_object_object_add(o, "token",
				       json_object_new_uint64(token));
		err = preserve(k, e->fd, token++, e->name);
		if (err)
			return err;
	}
	return 0;
}

/* Devices are to find all of it where they find it now */
static int check_maps(const struct keeper *k)
{
	struct json_object *all = array_of(k->guest, "ranges");
	size_t n, nr = json_object_array_length(all);
	int fd = stream_find(&k->stream, text_of(k->guest, "iommufd"), 0);

	for (n = 0; n < nr; n++) {
		const char *name =
			text_of(json_object_array_get_idx(all, n), "name");

		if (stream_memory(&k->stream, name) < 0)
			return fail(
				-EOPNOTSUPP,
				"memory %s is in no file, or its name in several (aux-ram-share=on?)",
				name);
	}
	if (!iommu_maps_all(fd, k->stream.hosted[0].ioas, k->guest))
		return fail(
			-EOPNOTSUPP,
			"devices do not see memory where the guest does (has it an IOMMU of its own?)");
	return 0;
}

static int preserve_main(struct keeper *k)
{
	autofree char *path = run_path(k->name, "main");
	autoclose int from = -1, to = -1;
	struct stat st;
	ssize_t n;

	if (!path)
		return -ENOMEM;
	from = open(path, O_RDONLY | O_CLOEXEC);
	to = memfd_create("main", MFD_CLOEXEC);
	if (from < 0 || to < 0 || fstat(from, &st))
		return fail(-errno, "%s", path);
	do {
		n = sendfile(to, from, NULL, (size_t)st.st_size);
	} while (n > 0);
	if (n < 0)
		return fail(-errno, "%s", path);
	return preserve(k, to, TOKEN_MAIN, "QEMU's state");
}

/* Memory first, devices last: from then on they are watched */
static int preserve_all(struct keeper *k)
{
	uint64_t n, nr = k->stream.nr_hosted;
	autoclose int fd = -1;
	int err;

	err = pcilu_open(&k->lu, PCILU_MODE_AUTO);
	if (!err)
		err = pcilu_session_create(k->lu, k->name, &k->session);
	if (err)
		return fail(err, "no session %s", k->name);
	err = close_dma_bufs(&k->stream);
	if (!err)
		err = sort_out(k);
	if (!err && nr)
		err = check_maps(k);
	for (n = 0; n < nr && !err; n++)
		err = add_device(k, &k->stream.hosted[n], TOKEN_DEVICE + n);
	if (!err)
		err = preserve_main(k);
	if (!err) {
		fd = guest_to_fd(k->guest);
		err = fd < 0 ? fd : preserve(k, fd, TOKEN_GUEST, "the guest");
	}
	for (n = 0; n < nr && !err; n++)
		err = preserve(
			k, stream_find(&k->stream, k->stream.hosted[n].name, 0),
			TOKEN_DEVICE + n, k->stream.hosted[n].name);
	return err;
}

static int give_up(struct keeper *k)
{
	int err;

	if (!k->session)
		return 0;
	err = pcilu_session_release(k->lu, k->session);
	if (err && err != -ENOENT && err != -EOPNOTSUPP)
		return fail(err, "session %s is not given up", k->name);
	pcilu_session_close(k->session);
	k->session = NULL;
	return 0;
}

static int listen_at(const char *name)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	autofree char *path = run_path(name, "socket");
	autoclose int fd = -1;

	if (!path || strlen(path) >= sizeof(at.sun_path))
		return fail(-ENAMETOOLONG, "%s", name);
	strcpy(at.sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) ||
	    listen(fd, 4))
		return fail(-errno, "%s", path);
	return take_fd(&fd);
}

/* The question of somebody who is there, or -1 */
static int question(int server, int wait_ms, char *text, size_t size)
{
	struct pollfd ready = { .fd = server, .events = POLLIN };
	struct timeval limit = { .tv_sec = 1 };
	autoclose int fd = -1;
	ssize_t n;

	if (poll(&ready, 1, wait_ms) != 1)
		return -1;
	fd = accept4(server, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	n = recv(fd, text, size - 1, 0);
	if (n <= 0)
		return -1;
	text[n] = '\0';
	return take_fd(&fd);
}

/* Answers who asks, until the guest is to go on */
static void serve(struct keeper *k, int server)
{
	char text[16];

	while (k->session) {
		autoclose int fd = question(server, -1, text, sizeof(text));
		const char *answer = "ok";

		if (fd >= 0 && !strcmp(text, "resume") && give_up(k))
			answer = fail_text();
		if (fd >= 0)
			send(fd, answer, strlen(answer), MSG_NOSIGNAL);
	}
}

/* Who asks is told why not. `save` does, unless it has died. */
static void refuse(int server, int wait_ms)
{
	char text[16];
	autoclose int fd = question(server, wait_ms, text, sizeof(text));

	if (fd >= 0)
		send(fd, fail_text(), strlen(fail_text()), MSG_NOSIGNAL);
}

/* Whatever goes wrong, the guest goes on: QEMU understands what it has written. */
int keep(const char *name)
{
	struct keeper k = { .name = name };
	const char *number = getenv(STREAM_VARIABLE);
	autofree char *incoming = NULL, *path = run_path(name, "main"),
		      *json = run_path(name, "guest.json");
	int stream, server, err;

	if (!number)
		return fail(-EINVAL,
			    "no QEMU has become this: pcilu-qemu save");
	if (!path || !json || asprintf(&incoming, "file:%s", path) < 0)
		return -ENOMEM;
	k.guest = guest_read(json);
	if (!k.guest)
		return -EIO;
	stream = atoi(number);
	server = listen_at(name);
	err = server < 0 ? server : stream_read(&k.stream, stream);
	if (!err)
		err = preserve_all(&k);
	if (err) {
		refuse(server, TOLD_MS);
		/* As long as there is a session, what is in it must not change */
		while (give_up(&k))
			refuse(server, RETRY_MS);
	} else {
		say("%s is saved", name);
		if (!pcilu_is_daemon(k.lu))
			say("pcilud is not there: only this process keeps what is saved");
		serve(&k, server);
	}
	say("%s goes on", name);
	become_qemu(k.guest, stream, incoming);
}
