// SPDX-License-Identifier: GPL-2.0
/* Asking a QEMU to hand itself over to `pcilu-qemu keep`, and calling that off. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../lib/src/cleanup.h"
#include "broker.h"

#define PATIENCE 600 /* tenths of a second, for keep */
#define TRIES 10
#define ANSWER_S 60

/*
 * At its start QEMU resets a device that has no reset of its own by what goes before one
 * of the whole bus: it takes Bus Master and the BARs from it (11.1).
 */
static int check_device(int fd, const char *path)
{
	struct device d;

	if (device_look(fd, &d))
		return 0; /* opened, and not in use */
	return d.flr ? 0 :
		       fail(-EOPNOTSUPP,
			    "%s has no reset by function (FLR), without which QEMU disturbs it",
			    path);
}

/*
 * Can the devices of the other process be handed over? By its own descriptors. Changes
 * nothing, unless told to unmap what cannot.
 */
static int look_at_files(int pid, struct json_object *guest, bool unmap)
{
	autoclose int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	int found = -ENODEV, err = 0;
	autoclosedir DIR *dir = NULL;
	char path[64], link[64];
	struct dirent *e;
	ssize_t size;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	if (pidfd < 0 || !dir)
		return fail(-errno, "process %d", pid);
	while (!err && (e = readdir(dir))) {
		autoclose int fd = -1;

		size = readlinkat(dirfd(dir), e->d_name, link,
				  sizeof(link) - 1);
		if (size < 0)
			continue;
		link[size] = '\0';
		if (strcmp(link, "/dev/iommu") != 0 &&
		    strncmp(link, "/dev/vfio/devices/", 18) != 0)
			continue;
		fd = (int)syscall(SYS_pidfd_getfd, pidfd, atoi(e->d_name), 0);
		if (fd < 0)
			return fail(-errno, "%s of process %d", link, pid);
		if (link[5] == 'v')
			err = check_device(fd, link);
		else if (found)
			found = iommu_check(fd, guest, unmap);
	}
	if (err || !found || found == -ENODEV)
		return err;
	return fail(
		found,
		"devices do not see memory where the guest does (has it an IOMMU of its own?)");
}

/* A line to keep, and its answer: 0, or what it could not do, said. */
static int ask_keep(const char *name, const char *what, int tries)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_sec = ANSWER_S };
	autofree char *path = run_path(name, "socket");
	char answer[512];
	ssize_t n;
	int err = -ENOENT;

	if (!path)
		return -ENOMEM;
	strncpy(to.sun_path, path, sizeof(to.sun_path) - 1);
	for (; tries && err; tries--) {
		autoclose int fd =
			socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

		if (fd < 0)
			return fail(-errno, "%s", path);
		err = connect(fd, (struct sockaddr *)&to, sizeof(to)) ? -errno :
									0;
		if (err) {
			poll(NULL, 0, 100);
			continue;
		}
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
		n = send(fd, what, strlen(what), MSG_NOSIGNAL) < 0 ?
			    -1 :
			    recv(fd, answer, sizeof(answer) - 1, 0);
		if (n <= 0)
			return fail(-EPIPE, "what became of %s is not known",
				    name);
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

/* A later migration is an ordinary one again */
static void reset_mode(struct qmp *q)
{
	json_object_put(
		qmp_do(q, "migrate-set-parameters",
		       object("mode", json_object_new_string("normal"))));
}

/* Until the QEMU has become `keep`, and is gone, or says that it cannot */
static int await(struct qmp *q)
{
	struct json_object *o;
	int err = 0;

	while (!err && (o = qmp_do(q, "query-migrate", NULL))) {
		const char *state = text_of(o, "status");

		if (!strcmp(state, "failed") || !strcmp(state, "cancelled"))
			err = fail(-EIO, "QEMU cannot save itself: %s",
				   text_of(o, "error-desc"));
		json_object_put(o);
		poll(NULL, 0, 100);
	}
	return err || qmp_gone(q) ? err : -EIO;
}

static int hand_over(struct qmp *q, const char *name, const char *stream)
{
	struct json_object *o, *command = json_object_new_array();
	autofree char *self = realpath("/proc/self/exe", NULL), *uri = NULL;
	int err = -EIO;

	if (!self || asprintf(&uri, "file:%s", stream) < 0) {
		json_object_put(command);
		return fail(-ENOMEM, "%s", name);
	}
	json_object_array_add(command, json_object_new_string(self));
	json_object_array_add(command, json_object_new_string("keep"));
	json_object_array_add(command, json_object_new_string(name));
	o = object("cpr-exec-command", command);
	json_object_object_add(o, "mode", json_object_new_string("cpr-exec"));
	o = qmp_do(q, "migrate-set-parameters", o);
	if (!o)
		return err;
	json_object_put(o);
	o = qmp_do(q, "migrate", object("uri", json_object_new_string(uri)));
	if (o)
		err = await(q);
	json_object_put(o);
	if (err)
		reset_mode(q);
	return err;
}

/* Is somebody there? */
static bool answers(const char *path)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	autoclose int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	strncpy(to.sun_path, path, sizeof(to.sun_path) - 1);
	return fd >= 0 && !connect(fd, (struct sockaddr *)&to, sizeof(to));
}

/*
 * A folder for who becomes `keep`, which is of the same user as that QEMU. Returns a
 * descriptor, by which others are kept out of it until it is closed.
 */
static int prepare(const char *name, const struct ucred *of)
{
	autofree char *all = run_path("", ""), *dir = run_path(name, ""),
		      *path = run_path(name, "socket");
	autoclose int lock = -1;

	if (!all || !dir || !path)
		return -ENOMEM;
	if (mkdir(all, 0711) && errno != EEXIST)
		return fail(-errno, "%s", all);
	if (mkdir(dir, 0700) && errno != EEXIST)
		return fail(-errno, "%s", dir);
	lock = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (lock < 0)
		return fail(-errno, "%s", dir);
	if (flock(lock, LOCK_EX | LOCK_NB))
		return fail(-errno, "somebody else saves a guest %s", name);
	if (answers(path))
		return fail(-EBUSY, "a guest %s is saved already", name);
	if (fchown(lock, of->uid, of->gid))
		return fail(-errno, "%s", dir);
	unlink(path);
	return take_fd(&lock);
}

/* Better now than when its QEMU has stopped */
static int check_session(const char *name)
{
	struct pcilu_session_info **list = NULL;
	struct pcilu *lu = NULL;
	size_t n, nr = 0;
	int err;

	err = pcilu_open(&lu, PCILU_MODE_AUTO);
	if (err)
		return fail(err, "no Live Update");
	if (pcilu_is_daemon(lu))
		err = pcilu_session_list(lu, &list, &nr);
	for (n = 0; n < nr && !err; n++)
		if (!strcmp(list[n]->name, name))
			err = fail(-EEXIST, "session %s", name);
	free(list);
	pcilu_close(lu);
	return err;
}

int save(const char *name, const char *socket)
{
	autofree char *stream = run_path(name, "main"),
		      *path = run_path(name, "guest.json");
	struct json_object *guest = NULL;
	unsigned int tries = 0;
	autoclose int lock = -1;
	struct ucred of = { 0 };
	struct qmp *q;
	int err;

	if (!stream || !path)
		return -ENOMEM;
	err = check_session(name);
	q = err ? NULL : qmp_open(socket);
	if (!q)
		return -EIO;
	do { /* a guest that is booting moves its memory */
		json_object_put(guest);
		guest = machine_describe(q, &of);
	} while (guest && machine_has_moved(q, guest) && ++tries < TRIES);
	err = guest ? 0 : -EIO;
	if (tries == TRIES)
		err = fail(-EAGAIN, "the guest's memory moves");
	if (!err) {
		lock = prepare(name, &of);
		err = lock < 0 ? lock : guest_write(guest, path, &of);
	}
	if (!err)
		err = look_at_files(of.pid, guest, false);
	if (!err)
		err = look_at_files(of.pid, guest, true);
	if (!err)
		err = hand_over(q, name, stream);
	json_object_put(guest);
	qmp_close(q);
	return err ? err : ask_keep(name, "status", PATIENCE);
}
