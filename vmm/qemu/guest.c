// SPDX-License-Identifier: GPL-2.0
/* What the next kernel's pcilu-qemu has to know of a guest, and becoming its QEMU. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../lib/src/cleanup.h"
#include "broker.h"

#define DOCUMENT_VERSION 1
#define RETRY_MS 5000
#define WHOLE "memory" /* the address space that devices see */

const char *text_of(struct json_object *o, const char *key)
{
	const char *text =
		json_object_get_string(json_object_object_get(o, key));

	return text ? text : "";
}

uint64_t number_of(struct json_object *o, const char *key)
{
	return json_object_get_uint64(json_object_object_get(o, key));
}

struct json_object *array_of(struct json_object *o, const char *key)
{
	struct json_object *array = json_object_object_get(o, key);

	if (!array) {
		array = json_object_new_array();
		json_object_object_add(o, key, array);
	}
	return array;
}

/*
 * How it was started, but for where it came from if it is not the first, and for that it
 * was to stand still at first: whether it runs is part of its state.
 */
static int add_argv(struct json_object *guest, int pid)
{
	struct json_object *array = array_of(guest, "argv");
	autofree char *word = NULL, *path = NULL;
	autofclose FILE *f = NULL;
	bool skip = false;
	size_t size = 0;

	if (asprintf(&path, "/proc/%d/cmdline", pid) < 0)
		return fail(-ENOMEM, "the command line of QEMU");
	f = fopen(path, "re");
	if (!f)
		return fail(-errno, "%s", path);
	while (getdelim(&word, &size, '\0', f) > 0) {
		bool incoming = !strcmp(word, "-incoming") ||
				!strcmp(word, "--incoming");

		if (!skip && !incoming && strcmp(word, "-S") != 0 &&
		    strcmp(word, "--S") != 0)
			json_object_array_add(array,
					      json_object_new_string(word));
		skip = incoming;
	}
	return json_object_array_length(array) ?
		       0 :
		       fail(-ESRCH, "process %d has no command line", pid);
}

int guest_check_exe(struct json_object *guest)
{
	const char *exe = text_of(guest, "exe");

	return access(exe, X_OK) ? fail(-errno, "QEMU's program (%s)", exe) : 0;
}

struct json_object *guest_new(const char *qemu, int pid)
{
	struct json_object *guest = json_object_new_object();
	autofree char *cwd = NULL, *exe = NULL;
	char link[32];

	json_object_object_add(guest, "version",
			       json_object_new_int(DOCUMENT_VERSION));
	json_object_object_add(guest, "qemu", json_object_new_string(qemu));
	snprintf(link, sizeof(link), "/proc/%d/exe", pid);
	exe = realpath(link, NULL);
	json_object_object_add(guest, "exe",
			       json_object_new_string(exe ? exe : ""));
	snprintf(link, sizeof(link), "/proc/%d/cwd", pid);
	cwd = realpath(link, NULL);
	json_object_object_add(guest, "cwd",
			       json_object_new_string(cwd ? cwd : "/"));
	if (guest_check_exe(guest) || add_argv(guest, pid)) {
		json_object_put(guest);
		return NULL;
	}
	return guest;
}

/*
 * "  0000000000000000-00000000000bffff (prio 0, ram): ram0 @0000000000010000 KVM". As QEMU
 * does it, whole pages are mapped for devices, and none that is not whole.
 */
static void add_range(struct json_object *ranges, const char *line)
{
	unsigned long long from, to, start, offset = 0;
	struct json_object *o;
	char word[16], *kind = word, *name, *end;
	int at = 0;

	if (sscanf(line, " %llx-%llx (prio %*d, %15[^)]): %n", &start, &to,
		   word, &at) != 3 ||
	    !at)
		return;
	if (!strncmp(kind, "nv-", 3))
		kind += 3;
	if (strcmp(kind, "ram") != 0 && strcmp(kind, "rom") != 0)
		return; /* registers, and memory of other devices */
	from = (start + PAGE - 1) & ~(PAGE - 1);
	to = (to + 1) & ~(PAGE - 1);
	if (to <= from)
		return;
	name = strndupa(line + at, strcspn(line + at, "\n"));
	end = strstr(name, " KVM");
	if (end)
		*end = '\0';
	end = strstr(name, " @");
	if (end) {
		*end = '\0';
		offset = strtoull(end + 2, NULL, 16);
	}
	o = json_object_new_object();
	json_object_object_add(o, "at", json_object_new_uint64(from));
	json_object_object_add(o, "size", json_object_new_uint64(to - from));
	json_object_object_add(o, "name", json_object_new_string(name));
	json_object_object_add(o, "offset",
			       json_object_new_uint64(offset + from - start));
	json_object_object_add(o, "rom",
			       json_object_new_boolean(!strcmp(kind, "rom")));
	json_object_array_add(ranges, o);
}

int guest_add_ranges(struct json_object *guest, const char *mtree)
{
	struct json_object *ranges = array_of(guest, "ranges");
	autofree char *text = strdup(mtree);
	bool wanted = false;
	char *line, *next = text;

	while (next && (line = strsep(&next, "\n"))) {
		if (!strncmp(line, "FlatView", 8))
			wanted = false;
		else if (strstr(line, "AS \"" WHOLE "\","))
			wanted = true;
		else if (wanted)
			add_range(ranges, line);
	}
	if (!json_object_array_length(ranges))
		return fail(
			-EBADMSG,
			"this release of QEMU tells of its memory in a way that is not known");
	return 0;
}

/* In a folder of somebody else's, who may have put anything there */
int guest_write(struct json_object *guest, const char *path,
		const struct ucred *of)
{
	autoclose int fd = -1;

	if (unlink(path) && errno != ENOENT)
		return fail(-errno, "%s", path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || fchown(fd, of->uid, of->gid))
		return fail(-errno, "%s", path);
	if (json_object_to_fd(fd, guest, JSON_C_TO_STRING_PLAIN))
		return fail(-EIO, "%s", path);
	return 0;
}

static struct json_object *understood(struct json_object *guest,
				      const char *where)
{
	if (guest && number_of(guest, "version") == DOCUMENT_VERSION)
		return guest;
	fail(0, "%s is not understood", where);
	json_object_put(guest);
	return NULL;
}

struct json_object *guest_read(const char *path)
{
	return understood(json_object_from_file(path), path);
}

struct json_object *guest_from_fd(int fd)
{
	lseek(fd, 0, SEEK_SET);
	return understood(json_object_from_fd(fd),
			  "what the previous kernel tells of the guest");
}

int guest_to_fd(struct json_object *guest)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);

	if (fd < 0)
		return fail(-errno, "what is told of the guest");
	if (json_object_to_fd(fd, guest, JSON_C_TO_STRING_PLAIN)) {
		close(fd);
		return fail(-EIO, "what is told of the guest");
	}
	return fd;
}

void become_qemu(struct json_object *guest, int stream, const char *incoming)
{
	struct json_object *words = array_of(guest, "argv");
	size_t n, nr = json_object_array_length(words);
	char number[16];

	snprintf(number, sizeof(number), "%d", stream);
	for (;;) {
		autofree char **argv = calloc(nr + 3, sizeof(*argv));

		for (n = 0; argv && n < nr; n++)
			argv[n] = (char *)json_object_get_string(
				json_object_array_get_idx(words, n));
		if (argv) {
			argv[nr] = (char *)"-incoming";
			argv[nr + 1] = (char *)incoming;
			setenv(STREAM_VARIABLE, number, 1);
			lseek(stream, 0, SEEK_SET);
			if (chdir(text_of(guest, "cwd")))
				fail(-errno, "%s", text_of(guest, "cwd"));
			execv(text_of(guest, "exe"), argv);
		}
		fail(-errno, "%s", text_of(guest, "exe"));
		poll(NULL, 0, RETRY_MS);
	}
}
