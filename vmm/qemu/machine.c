// SPDX-License-Identifier: GPL-2.0
/*
 * What has to be known of a QEMU that runs, and whether it can be started again as it was
 * started: with what was plugged in since, or with files that it was passed, it cannot.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../../lib/src/cleanup.h"
#include "broker.h"

/* Does a word of the command line contain it? */
static bool has_word(struct json_object *guest, const char *what)
{
	struct json_object *words = array_of(guest, "argv");
	size_t n, nr = json_object_array_length(words);

	for (n = 0; n < nr; n++)
		if (strstr(json_object_get_string(
				   json_object_array_get_idx(words, n)),
			   what))
			return true;
	return false;
}

/* id=NAME, or the same in JSON */
static bool has_id(struct json_object *guest, const char *id)
{
	static const char *const forms[] = { "id=%s", "\"id\":\"%s\"",
					     "\"id\": \"%s\"" };
	size_t n;

	for (n = 0; n < ARRAY_SIZE(forms); n++) {
		autofree char *text = NULL;

		if (asprintf(&text, forms[n], id) >= 0 && has_word(guest, text))
			return true;
	}
	return false;
}

/* Only files of VFIO and iommufd go by names, which a successor finds again */
static int check_fds(struct json_object *guest)
{
	struct json_object *words = array_of(guest, "argv");
	size_t n, nr = json_object_array_length(words);

	for (n = 0; n < nr; n++) {
		const char *word = json_object_get_string(
			json_object_array_get_idx(words, n));

		if (!strcmp(word, "-add-fd") || !strcmp(word, "--add-fd") ||
		    ((strstr(word, "fd=") || strstr(word, "fds=") ||
		      strstr(word, "\"fd\"")) &&
		     !strstr(word, "vfio-pci") && !strstr(word, "iommufd")))
			return fail(
				-EOPNOTSUPP,
				"QEMU was passed a descriptor at its start (%s)",
				word);
	}
	return 0;
}

static int check_devices(struct qmp *q, struct json_object *guest)
{
	struct json_object *all, *arguments = json_object_new_object();
	size_t n, nr;
	int err = 0;

	json_object_object_add(arguments, "path",
			       json_object_new_string("/machine/peripheral"));
	all = qmp_do(q, "qom-list", arguments);
	nr = all ? json_object_array_length(all) : 0;
	for (n = 0; n < nr && !err; n++) {
		struct json_object *o = json_object_array_get_idx(all, n);

		if (!strncmp(text_of(o, "type"), "child<", 6) &&
		    !has_id(guest, text_of(o, "name")))
			err = fail(
				-EOPNOTSUPP,
				"device %s was plugged in after the start of QEMU",
				text_of(o, "name"));
	}
	err = all ? err : -EIO;
	json_object_put(all);
	return err;
}

static int check_drives(struct qmp *q, struct json_object *guest)
{
	struct json_object *all = qmp_do(q, "query-block", NULL);
	size_t n, nr = all ? json_object_array_length(all) : 0;
	int err = all ? 0 : -EIO;

	for (n = 0; n < nr && !err; n++) {
		struct json_object *o = json_object_object_get(
			json_object_array_get_idx(all, n), "inserted");
		const char *file = text_of(o, "file");

		if (*file && strncmp(file, "json:", 5) != 0 &&
		    !has_word(guest, file))
			err = fail(
				-EOPNOTSUPP,
				"drive %s is another one than at the start of QEMU",
				file);
	}
	json_object_put(all);
	return err;
}

/* Its process, which need not be the one that listens at the socket */
static int pid_of(struct qmp *q, struct ucred *of)
{
	struct json_object *all = qmp_do(q, "query-cpus-fast", NULL);
	autofree char *line = NULL, *path = NULL;
	autofclose FILE *f = NULL;
	size_t size = 0;
	struct stat st;
	uint64_t tid;

	tid = all ? number_of(json_object_array_get_idx(all, 0), "thread-id") :
		    0;
	json_object_put(all);
	if (asprintf(&path, "/proc/%llu/status", (unsigned long long)tid) < 0)
		return fail(-ENOMEM, "QEMU");
	f = tid ? fopen(path, "re") : NULL;
	while (f && getline(&line, &size, f) > 0)
		if (sscanf(line, "Tgid: %d", &of->pid) == 1)
			break;
	snprintf(path, strlen(path) + 1, "/proc/%d", of->pid);
	if (!of->pid || stat(path, &st))
		return fail(-ESRCH, "the process of that QEMU");
	of->uid = st.st_uid;
	of->gid = st.st_gid;
	return 0;
}

static int add_ranges(struct qmp *q, struct json_object *guest)
{
	struct json_object *line = json_object_new_object(), *tree;
	int err;

	json_object_object_add(line, "command-line",
			       json_object_new_string("info mtree -f"));
	tree = qmp_do(q, "human-monitor-command", line);
	err = tree ? guest_add_ranges(guest, json_object_get_string(tree)) :
		     -EIO;
	json_object_put(tree);
	return err;
}

bool machine_has_moved(struct qmp *q, struct json_object *guest)
{
	struct json_object *now = json_object_new_object();
	bool moved = add_ranges(q, now) ||
		     !json_object_equal(array_of(now, "ranges"),
					array_of(guest, "ranges"));

	json_object_put(now);
	return moved;
}

struct json_object *machine_describe(struct qmp *q, struct ucred *of)
{
	struct json_object *version = qmp_do(q, "query-version", NULL), *number,
			   *guest;
	char release[32];
	int err;

	if (!version)
		return NULL;
	number = json_object_object_get(version, "qemu");
	snprintf(release, sizeof(release), "%u.%u.%u",
		 (unsigned int)number_of(number, "major"),
		 (unsigned int)number_of(number, "minor"),
		 (unsigned int)number_of(number, "micro"));
	json_object_put(version);
	err = pid_of(q, of);
	guest = err ? NULL : guest_new(release, of->pid);
	if (!guest)
		return NULL;
	err = check_fds(guest);
	if (!err)
		err = check_devices(q, guest);
	if (!err)
		err = check_drives(q, guest);
	if (!err)
		err = add_ranges(q, guest);
	if (err) {
		json_object_put(guest);
		guest = NULL;
	}
	return guest;
}
