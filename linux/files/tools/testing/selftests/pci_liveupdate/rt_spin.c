// SPDX-License-Identifier: GPL-2.0
/*
 * rt_spin - keep a CPU busy with a real-time task that never sleeps.
 *
 *	rt_spin CPU
 *
 * starts a process with SCHED_FIFO at the highest priority, bound to that CPU,
 * and returns when it spins. No other task gets the CPU, kernel threads
 * included, unless the scheduler's fair server lends it some of the time
 * (/sys/kernel/debug/sched/fair_server/). Kill it by the pid that is told.
 *
 * Output is one JSON object. Exit codes: 0 done, 1 failed, 2 usage.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "json_out.h"

static int become_rt(int cpu)
{
	struct sched_param param = { .sched_priority = sched_get_priority_max(SCHED_FIFO) };
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) ||
	    sched_setscheduler(0, SCHED_FIFO, &param))
		return -errno;
	return 0;
}

/* The write is the sign that it runs there; it is the last system call */
static void spin(int cpu, int ready)
{
	int err = become_rt(cpu);

	if (write(ready, &err, sizeof(err)) != sizeof(err) || err)
		_exit(1);
	for (;;)
		__asm__ volatile("" ::: "memory");
}

int main(int argc, char *argv[])
{
	struct json j = {};
	int ready[2], err;
	pid_t pid;

	if (argc != 2) {
		fprintf(stderr, "rt_spin CPU\n");
		return 2;
	}
	if (pipe(ready)) {
		json_error("pipe", -errno, NULL);
		return 1;
	}
	pid = fork();
	if (!pid)
		spin(atoi(argv[1]), ready[1]);
	close(ready[1]);
	if (pid < 0 || read(ready[0], &err, sizeof(err)) != sizeof(err))
		err = -ECHILD;

	json_begin(&j);
	json_str(&j, "event", "spin");
	json_u64(&j, "pid", pid);
	json_rc(&j, err);
	json_end(&j);
	json_send(&j, STDOUT_FILENO);
	return err ? 1 : 0;
}
