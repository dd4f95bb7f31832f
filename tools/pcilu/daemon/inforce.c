// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../../lib/src/cleanup.h"
#include "../common/log.h"
#include "inforce.h"

/* Never more than one of them but between two steps: then the younger one counts */
static const char *const slots[] = { STORE_POLICY ".0", STORE_POLICY ".1" };

static const char for_root[] = "user 0 use *\nuser 0 hold\n";

static struct policy *read_file(const struct inforce *f)
{
	static struct log_limit limit = { .what = "times a wrong policy",
					  .level = LOG_ERR };
	autofree char *why = NULL;
	struct policy *p = policy_load(f->path, &why);

	if (!p)
		log_limited(&limit, "%s: %s", f->path,
			    why ? why : "out of memory");
	return p;
}

/* Before the old one goes, the new one is there */
static void keep(struct inforce *f)
{
	const char *text = policy_text(f->policy);
	autoclose int fd = memfd_create("policy", MFD_CLOEXEC);
	unsigned int fresh = !f->slot;

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) {
		log_msg(LOG_WARNING, "the policy cannot be kept: %s",
			strerror(errno));
		return;
	}
	store_put(slots[fresh], fd);
	if (f->kept)
		store_drop(slots[f->slot]);
	f->kept = true;
	f->slot = fresh;
}

static struct policy *read_kept(int fd)
{
	autofree char *text = NULL, *why = NULL;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) || st.st_size > 1 << 20)
		return NULL;
	text = malloc((size_t)st.st_size + 1);
	if (!text || pread(fd, text, (size_t)st.st_size, 0) != st.st_size)
		return NULL;
	return policy_parse(text, (size_t)st.st_size, &why);
}

static int is_younger(int a, int b)
{
	struct stat sa, sb;

	if (fstat(a, &sa) || fstat(b, &sb))
		return 0;
	return sa.st_mtim.tv_sec != sb.st_mtim.tv_sec ?
		       sa.st_mtim.tv_sec > sb.st_mtim.tv_sec :
		       sa.st_mtim.tv_nsec > sb.st_mtim.tv_nsec;
}

int inforce_start(struct inforce *f, struct stored *stored)
{
	autoclose int zero = store_take(stored, slots[0]);
	autoclose int one = store_take(stored, slots[1]);
	autofree char *why = NULL;

	f->slot = one >= 0 && (zero < 0 || is_younger(one, zero));
	f->kept = zero >= 0 || one >= 0;
	f->policy = read_file(f);
	if (f->policy) {
		keep(f);
		return 0;
	}
	f->policy = read_kept(f->slot ? one : zero);
	f->trouble = "the policy is wrong, the last good one is in force";
	if (!f->policy) {
		f->policy = policy_parse(for_root, strlen(for_root), &why);
		f->trouble = "the policy is wrong, nobody but root is let in";
	}
	log_msg(LOG_ERR, "%s", f->trouble);
	return f->policy ? 0 : -ENOMEM;
}

int inforce_reload(struct inforce *f)
{
	struct policy *fresh = read_file(f);

	if (!fresh)
		return -EINVAL;
	/* With the same words, too: users may have come and gone, and systemd may have forgotten */
	policy_free(f->policy);
	f->policy = fresh;
	f->trouble = NULL;
	keep(f);
	return 0;
}
