/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A process in the background that takes commands through a Unix socket, and its client.
 *
 * A connection brings one line of commands with ';' between them, and is answered with a line
 * of JSON for each. All paths are /run/PROGRAM.NAME.sock.
 */
#ifndef SELFTESTS_PCI_LIVEUPDATE_CTL_H
#define SELFTESTS_PCI_LIVEUPDATE_CTL_H

#include <stdbool.h>
#include <time.h>

/* Exit codes of the client; 10 to 14 are for the programs */
enum ctl_exit {
	CTL_OK = 0,
	CTL_COMMAND = 1,	/* the rc of one is negative */
	CTL_USAGE = 2,
	CTL_NO_DAEMON = 15,	/* nobody answers */
};

struct ctl {
	const char *program;
	const char *name;
	int listener;
	int ready;		/* the end of a pipe to the parent that waits */
};

/* 0 or -errno: -EADDRINUSE if such a process lives */
int ctl_listen(struct ctl *c);
void ctl_unlisten(struct ctl *c);

/*
 * Forks. In the child it returns 0 and the child is to call ctl_ready() or exit; in the parent
 * 1, with the exit code in @code. Or -errno.
 */
int ctl_background(struct ctl *c, int *code);
/* Lets the parent end with success and detaches from its terminal */
void ctl_ready(struct ctl *c);

/*
 * Serves one connection if there is one within @timeout (NULL: whenever it comes): @handle is
 * called for each command and answers to @fd
 */
void ctl_serve(struct ctl *c, const struct timespec *timeout,
	       void (*handle)(void *data, char *command, int fd), void *data);

/* [--wait SECONDS] WORD...: sends the words, prints the answers. An exit code. */
int ctl_client(struct ctl *c, int argc, char *argv[]);

#endif /* SELFTESTS_PCI_LIVEUPDATE_CTL_H */
