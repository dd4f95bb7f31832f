// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../lib/src/luo.h"
#include "retrieve.h"
#include "store.h"

/* What both processes see; the kernel itself writes the descriptor into @arg */
struct shared {
	struct luo_named arg;
	int err;
};

/*
 * Like fork(), but with one table of descriptors for both: it lives as long as one
 * of them does. Memory is not shared but for a page, so that what kills one for its
 * memory leaves the other alone.
 */
static pid_t fork_with_descriptors(void)
{
	return (pid_t)syscall(SYS_clone, (long)(CLONE_FILES | SIGCHLD), 0L, 0L,
			      0L, 0L);
}

static int wait_for(pid_t pid)
{
	int status = 0;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

static int retrieve(struct shared *s, int luo, const char *name,
		    const char *stored_as)
{
	pid_t pid = fork_with_descriptors();

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		s->err = luo_session_retrieve_in(luo, name, &s->arg);
		if (!s->err)
			store_put(stored_as, s->arg.fd);
		_exit(0);
	}
	/* If it was killed, it may have got as far as the kernel's answer */
	if (wait_for(pid) && s->arg.fd >= 0)
		store_put(stored_as, s->arg.fd);
	else if (s->err)
		return s->err;
	return s->arg.fd;
}

int retrieve_session(int luo, const char *name, const char *stored_as)
{
	struct shared *s;
	int fd;

	if (!getenv("NOTIFY_SOCKET")) /* nobody who would keep it */
		return luo_session_retrieve(luo, name);
	s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS, 0, 0);
	if (s == MAP_FAILED)
		return -errno;
	s->arg.fd = -1;
	s->err = -EIO;
	fd = retrieve(s, luo, name, stored_as);
	munmap(s, sizeof(*s));
	return fd;
}
