// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Lends a session to a program that knows Live Update but not pcilud:
 *
 *	lend create NAME PROGRAM [ARGUMENT]...		before the kexec
 *	lend retrieve NAME PROGRAM [ARGUMENT]...	after it
 *	lend finish NAME				when the program is content
 *
 * The program finds the session as descriptor 3. pcilud keeps a copy, so the
 * session outlives the program.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <pcilu.h>

enum { SESSION_FD = 3 };

static int run(struct pcilu_session *s, char **argv)
{
	int fd = pcilu_session_fd(s);

	/* dup2() makes a copy that is inherited, if it makes one */
	if (fd == SESSION_FD ? fcntl(fd, F_SETFD, 0) : dup2(fd, SESSION_FD) < 0)
		return -errno;
	execvp(argv[0], argv);
	return -errno;
}

/* What the kernel has finished is finished, also if pcilud does not hear of it */
static int finish(struct pcilu *lu, struct pcilu_session *s)
{
	int err = pcilu_session_finish(NULL, s);

	if (err)
		return err;
	err = pcilu_session_release(lu, s);
	if (err && err != -ENOENT)
		fprintf(stderr, "lend: pcilud still lists %s: %s\n",
			pcilu_session_name(s), strerror(-err));
	return 0;
}

int main(int argc, char **argv)
{
	struct pcilu_session *s = NULL;
	struct pcilu *lu;
	int err;

	if (argc < 3 || (argc == 3) != !strcmp(argv[1], "finish"))
		return 2;
	err = pcilu_open(&lu, PCILU_MODE_DAEMON);
	if (err) {
		fprintf(stderr, "lend: no pcilud: %s\n", strerror(-err));
		return 1;
	}
	err = strcmp(argv[1], "create") ?
		      pcilu_session_retrieve(lu, argv[2], &s) :
		      pcilu_session_create(lu, argv[2], &s);
	if (!err)
		err = argc == 3 ? finish(lu, s) : run(s, argv + 3);
	if (err)
		fprintf(stderr, "lend: %s %s: %s\n", argv[1], argv[2],
			strerror(-err));
	pcilu_session_close(s);
	pcilu_close(lu);
	return !!err;
}
