// SPDX-License-Identifier: GPL-2.0
/*
 * For tests: kills a process at its Nth stop at a system call, of which each call
 * has two, before it has any effect and after it has had it.
 *
 *	killer N PROGRAM [ARGUMENT]...	from the start
 *	killer N PID			from now on; says "ready" when it counts
 *
 * At its end, or at a SIGTERM, it says how many stops there were. N = 0 kills nobody.
 */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t enough;

static void on_term(int sig)
{
	(void)sig;
	enough = 1;
}

/* What a stop wants delivered when the process goes on */
static int signal_of(int status)
{
	int sig = WSTOPSIG(status);

	if (sig == (SIGTRAP | 0x80) || status >> 16) /* a call, an event */
		return 0;
	return sig;
}

static long count_and_kill(pid_t pid, long n)
{
	long count = 0;
	int status;

	while (!enough) {
		if (waitpid(pid, &status, __WALL) < 0) {
			if (errno == EINTR)
				continue;
			break;
		}
		if (!WIFSTOPPED(status))
			break;
		if (WSTOPSIG(status) == (SIGTRAP | 0x80) && ++count == n) {
			kill(pid, SIGKILL);
			break;
		}
		ptrace(PTRACE_SYSCALL, pid, NULL, (long)signal_of(status));
	}
	return count;
}

static int trace(pid_t pid, long n, int tell)
{
	const struct sigaction sa = { .sa_handler = on_term };
	long count;

	sigaction(SIGTERM, &sa, NULL);
	if (ptrace(PTRACE_SEIZE, pid, NULL, (long)PTRACE_O_TRACESYSGOOD) ||
	    ptrace(PTRACE_INTERRUPT, pid, NULL, NULL)) {
		perror("killer");
		return 1;
	}
	if (write(tell, "ready\n", 6) != 6)
		return 1;
	count = count_and_kill(pid, n);
	dprintf(tell == STDOUT_FILENO ? tell : STDERR_FILENO, "killer: %ld\n",
		count);
	return 0;
}

/* The program keeps the number of this process, and the child is who kills it */
static int run(long n, char **argv)
{
	pid_t self = getpid();
	int ready[2];
	char c;

	if (pipe(ready))
		return 1;
	switch (fork()) {
	case -1:
		return 1;
	case 0:
		dup2(ready[1], 3);
		closefrom(4); /* no copy of what the program is given */
		_exit(trace(self, n, 3));
	}
	close(ready[1]);
	if (read(ready[0], &c, 1) != 1)
		return 1;
	close(ready[0]);
	execvp(argv[0], argv);
	return 1;
}

int main(int argc, char **argv)
{
	char *end;
	long n, pid;

	if (argc < 3)
		return 2;
	n = strtol(argv[1], NULL, 10);
	pid = strtol(argv[2], &end, 10);
	return *end ? run(n, argv + 2) : trace((pid_t)pid, n, STDOUT_FILENO);
}
