// SPDX-License-Identifier: GPL-2.0
/* Asking a QEMU to hand itself over to `pcilu-qemu keep`, and calling that off. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/iommufd.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "../lib/src/cleanup.h"
#include "broker.h"

#define MAX_OBJECT 1024	/* of an iommufd, in which IOAS come early */
#define PATIENCE 600	/* tenths of a second, for keep */

/* What is mapped between the guest's memory: BARs of devices, which nobody can hand over */
static void unmap_gaps(int iommufd, struct json_object *guest)
{
	struct json_object *ranges = array_of(guest, "ranges");
	struct iommu_ioas_iova_ranges probe = { .size = sizeof(probe) };
	size_t n, nr = json_object_array_length(ranges);

	for (probe.ioas_id = 1; probe.ioas_id < MAX_OBJECT; probe.ioas_id++) {
		struct iommu_ioas_unmap gap = { .size = sizeof(gap) };

		probe.num_iovas = 0;
		if (ioctl(iommufd, IOMMU_IOAS_IOVA_RANGES, &probe) &&
		    errno != EMSGSIZE)
			continue;
		gap.ioas_id = probe.ioas_id;
		for (n = 0; n <= nr; n++) {
			struct json_object *r =
				n < nr ? json_object_array_get_idx(ranges, n) :
					 NULL;
			uint64_t next = r ? number_of(r, "at") : 1ULL << 52;

			gap.length = next - gap.iova;
			if (gap.length)
				ioctl(iommufd, IOMMU_IOAS_UNMAP, &gap);
			gap.iova = r ? next + number_of(r, "size") : next;
		}
	}
}

/* Of the other process, as long as it has these files */
static int unmap_bars(int pid, struct json_object *guest)
{
	autoclose int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	autoclosedir DIR *dir = NULL;
	char path[64], link[64];
	struct dirent *e;
	ssize_t size;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	if (pidfd < 0 || !dir)
		return fail(-errno, "process %d", pid);
	while ((e = readdir(dir))) {
		autoclose int fd = -1;

		size = readlinkat(dirfd(dir), e->d_name, link, sizeof(link) - 1);
		if (size < 0)
			continue;
		link[size] = '\0';
		if (strcmp(link, "/dev/iommu") != 0)
			continue;
		fd = (int)syscall(SYS_pidfd_getfd, pidfd, atoi(e->d_name), 0);
		if (fd < 0)
			return fail(-errno, "/dev/iommu of process %d", pid);
		unmap_gaps(fd, guest);
	}
	return 0;
}

/* A line to keep, and its answer: 0, or what it could not do, said. */
static int ask_keep(const char *name, const char *what, int tries)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	autofree char *path = run_path(name, "socket");
	char answer[512];
	ssize_t n;
	int err = -ENOENT;

	if (!path)
		return -ENOMEM;
	strncpy(to.sun_path, path, sizeof(to.sun_path) - 1);
	for (; tries && err; tries--) {
		autoclose int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

		if (fd < 0)
			return fail(-errno, "%s", path);
		err = connect(fd, (struct sockaddr *)&to, sizeof(to)) ? -errno : 0;
		if (err) {
			poll(NULL, 0, 100);
			continue;
		}
		n = send(fd, what, strlen(what), MSG_NOSIGNAL) < 0 ?
			    -1 :
			    recv(fd, answer, sizeof(answer) - 1, 0);
		if (n <= 0)
			return fail(-EPIPE, "what became of %s is not known", name);
		answer[n] = '\0';
		return strcmp(answer, "ok") ? fail(0, "%s", answer) : 0;
	}
	return fail(err, "nobody keeps a guest %s", name);
}

int resume(const char *name)
{
	return ask_keep(name, "resume", 1);
}

static struct json_object *object(const char *key, struct json_object *value)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, key, value);
	return o;
}

/* The QEMU becomes `keep`, if it can: then it is gone. */
static int hand_over(struct qmp *q, const char *name, const char *stream)
{
	struct json_object *o, *command = json_object_new_array();
	autofree char *self = realpath("/proc/self/exe", NULL), *uri = NULL;

	if (!self || asprintf(&uri, "file:%s", stream) < 0)
		return fail(-ENOMEM, "%s", name);
	json_object_array_add(command, json_object_new_string(self));
	json_object_array_add(command, json_object_new_string("keep"));
	json_object_array_add(command, json_object_new_string(name));
	o = object("cpr-exec-command", command);
	json_object_object_add(o, "mode", json_object_new_string("cpr-exec"));
	o = qmp_do(q, "migrate-set-parameters", o);
	if (o) {
		json_object_put(o);
		o = qmp_do(q, "migrate", object("uri", json_object_new_string(uri)));
	}
	while (o) {
		const char *state;

		json_object_put(o);
		poll(NULL, 0, 100);
		o = qmp_do(q, "query-migrate", NULL);
		state = o ? text_of(o, "status") : "";
		if (!strcmp(state, "failed") || !strcmp(state, "cancelled")) {
			fail(0, "QEMU cannot save itself: %s",
			     text_of(o, "error-desc"));
			json_object_put(o);
			return -EIO;
		}
	}
	return qmp_gone(q) ? 0 : -EIO;
}

/* A folder for who becomes `keep`, which is of the same user as that QEMU */
static int prepare(const char *name, const struct ucred *of)
{
	autofree char *all = run_path("", ""), *dir = run_path(name, ""),
		      *socket = run_path(name, "socket");

	if (!all || !dir || !socket)
		return -ENOMEM;
	if (mkdir(all, 0711) && errno != EEXIST)
		return fail(-errno, "%s", all);
	if (mkdir(dir, 0700) && errno != EEXIST)
		return fail(-errno, "%s", dir);
	if (chown(dir, of->uid, of->gid))
		return fail(-errno, "%s", dir);
	unlink(socket);
	return 0;
}

static struct json_object *describe(struct qmp *q)
{
	struct json_object *version = qmp_do(q, "query-version", NULL), *tree,
			   *guest = NULL, *number, *line;
	char release[32];

	if (!version)
		return NULL;
	number = json_object_object_get(version, "qemu");
	snprintf(release, sizeof(release), "%u.%u.%u",
		 (unsigned int)number_of(number, "major"),
		 (unsigned int)number_of(number, "minor"),
		 (unsigned int)number_of(number, "micro"));
	json_object_put(version);
	line = object("command-line", json_object_new_string("info mtree -f"));
	tree = qmp_do(q, "human-monitor-command", line);
	if (tree)
		guest = guest_new(release, qmp_peer(q)->pid);
	if (guest && guest_add_ranges(guest, json_object_get_string(tree))) {
		json_object_put(guest);
		guest = NULL;
	}
	json_object_put(tree);
	return guest;
}

int save(const char *name, const char *socket)
{
	autofree char *stream = run_path(name, "main"),
		      *path = run_path(name, "guest.json");
	struct json_object *guest = NULL;
	struct qmp *q;
	int err;

	if (!stream || !path)
		return -ENOMEM;
	q = qmp_open(socket);
	if (!q)
		return -EIO;
	err = prepare(name, qmp_peer(q));
	if (!err)
		guest = describe(q);
	if (!err)
		err = guest ? guest_write(guest, path, qmp_peer(q)) : -EIO;
	if (!err)
		err = unmap_bars(qmp_peer(q)->pid, guest);
	if (!err)
		err = hand_over(q, name, stream);
	json_object_put(guest);
	qmp_close(q);
	return err ? err : ask_keep(name, "status", PATIENCE);
}
