// SPDX-License-Identifier: GPL-2.0

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../../lib/src/cleanup.h"
#include "../../../lib/src/path.h"
#include "kconfig.h"
#include "target.h"

static const char *const prefixes[] = { "vmlinuz-", "Image-", "vmlinux-",
					"kernel-" };

/* The release in a kernel's name, NULL if it has none */
static const char *release_in(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (!strncmp(name, prefixes[i], strlen(prefixes[i])))
			return name + strlen(prefixes[i]);
	return NULL;
}

/* "7.3.10" is newer than "7.3.9", and "7.3" than "7.3-rc1" */
static int newer(const char *a, const char *b)
{
	bool a_candidate, b_candidate;
	size_t n = 0;

	while (a[n] && a[n] == b[n])
		n++;
	if (n && a[n - 1] == '-')
		n--;
	a_candidate = !strncmp(a + n, "-rc", 3);
	b_candidate = !strncmp(b + n, "-rc", 3);
	if (a_candidate != b_candidate)
		return b_candidate ? 1 : -1;
	return strverscmp(a, b);
}

/* What an interrupted installation or a rescue entry left is no kernel to take */
static bool is_candidate(const char *name)
{
	const char *release = release_in(name);

	return release && *release >= '0' && *release <= '9' &&
	       !strstr(name, ".old") && !strstr(name, ".dpkg-") &&
	       !strstr(name, "rescue");
}

char *target_newest(void)
{
	autofree char *boot = path_of("/boot");
	autoclosedir DIR *d = boot ? opendir(boot) : NULL;
	autofree char *best = NULL;
	struct dirent *e;

	while (d && (e = readdir(d))) {
		if (!is_candidate(e->d_name))
			continue;
		if (best && newer(release_in(e->d_name), release_in(best)) <= 0)
			continue;
		free(best);
		best = strdup(e->d_name);
	}
	return best ? path_of("/boot/%s", best) : NULL;
}

char *target_initrd(const char *kernel)
{
	static const char *const names[] = { "initrd.img-%s",
					     "initramfs-%s.img", "initrd-%s",
					     "initramfs-%s" };
	const char *slash = strrchr(kernel, '/');
	const char *name = slash ? slash + 1 : kernel;
	const char *release = release_in(name);
	size_t i;

	for (i = 0; release && i < ARRAY_SIZE(names); i++) {
		char *path = NULL;

		if (asprintf(&path, "%.*s%.*s%s%s", (int)(name - kernel),
			     kernel, (int)strcspn(names[i], "%"), names[i],
			     release, strchr(names[i], '%') + 2) < 0)
			return NULL;
		if (!access(path, F_OK))
			return path;
		free(path);
	}
	return NULL;
}

char *target_running(void)
{
	autofree char *release = kernel_release();
	size_t i;

	for (i = 0; release && i < ARRAY_SIZE(prefixes); i++) {
		char *path = path_of("/boot/%s%s", prefixes[i], release);

		if (path && !access(path, F_OK))
			return path;
		free(path);
	}
	return release ? path_of("/lib/modules/%s/vmlinuz", release) : NULL;
}
