// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../../lib/src/cleanup.h"
#include "../../../lib/src/path.h"
#include "json.h"
#include "run.h"

int run_save(const char *name, struct json_object *doc)
{
	autofree char *dir = path_of("/run/pcilu");
	autofree char *path = path_of("/run/pcilu/%s", name);

	if (!dir || !path)
		return -ENOMEM;
	if (mkdir(dir, 0755) && errno != EEXIST)
		return -errno;
	return doc_write(doc, path);
}

struct json_object *run_load(const char *name)
{
	autofree char *path = path_of("/run/pcilu/%s", name);
	int err;

	return path ? doc_read(path, &err) : NULL;
}

void run_forget(const char *name)
{
	autofree char *path = path_of("/run/pcilu/%s", name);

	if (path)
		unlink(path);
}

bool run_systemd(void)
{
	autofree char *path = path_of("/run/systemd/system");

	return path && !access(path, F_OK);
}

bool run_kernel_loaded(void)
{
	autofree char *path = path_of("/sys/kernel/kexec_loaded");
	autofree char *line = NULL;

	return path && path_line(path, &line) > 0 && !strcmp(line, "1");
}
