// SPDX-License-Identifier: GPL-2.0
/*
 * Reads a drive of which each block holds its own number (rig/rig/guest.py), one after the
 * other, past the page cache. Each CPU waits for some reads of its own, so that each of the
 * drive's queues has something to say.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "read.h"

#define BLOCK 4096
#define MAGIC 0x50434c5500000000ULL
#define DEPTH 4 /* reads that a CPU waits for */
#define AFTER_FAILURE 100 /* milliseconds */

static struct {
	int fd;
	uint64_t blocks;
	pthread_mutex_t lock;
	struct reads r; /* under the lock */
} all = { .lock = PTHREAD_MUTEX_INITIALIZER };

static bool is_block(const uint64_t *data, uint64_t number)
{
	size_t n;

	for (n = 0; n < BLOCK / sizeof(*data); n++)
		if (le64toh(data[n]) != (MAGIC | number))
			return false;
	return true;
}

static void count(unsigned int cpu, bool failed, bool right)
{
	struct timespec t;
	double now;

	clock_gettime(CLOCK_MONOTONIC, &t);
	now = t.tv_sec + t.tv_nsec * 1e-9;
	pthread_mutex_lock(&all.lock);
	all.r.count[cpu]++;
	all.r.failed += failed;
	all.r.wrong += !failed && !right;
	if (all.r.before && now - all.r.before > all.r.longest)
		all.r.longest = now - all.r.before;
	all.r.before = now;
	pthread_mutex_unlock(&all.lock);
}

/* What is in the buffer before is no block, so that one that nobody writes to is noticed */
static void *reader(void *arg)
{
	unsigned int n = (uintptr_t)arg, readers = DEPTH * all.r.nr_cpus;
	uint64_t *data = aligned_alloc(BLOCK, BLOCK), number;
	bool failed;

	for (number = n; data; number += readers) {
		number %= all.blocks;
		memset(data, 0xff, BLOCK);
		failed = pread(all.fd, data, BLOCK, number * BLOCK) != BLOCK;
		count(n / DEPTH, failed, is_block(data, number));
		if (failed)
			poll(NULL, 0, AFTER_FAILURE);
	}
	return NULL;
}

static int start_reader(unsigned int n)
{
	pthread_attr_t attr;
	pthread_t thread;
	cpu_set_t cpu;
	int err;

	CPU_ZERO(&cpu);
	CPU_SET(n / DEPTH, &cpu);
	pthread_attr_init(&attr);
	err = pthread_attr_setaffinity_np(&attr, sizeof(cpu), &cpu);
	if (!err)
		err = pthread_create(&thread, &attr, reader,
				     (void *)(uintptr_t)n);
	pthread_attr_destroy(&attr);
	return err;
}

/* Returns 0, or -1 with errno set */
int reads_start(const char *drive)
{
	unsigned int n, cpus = sysconf(_SC_NPROCESSORS_ONLN);
	off_t size;
	int err = 0;

	all.fd = open(drive, O_RDONLY | O_DIRECT | O_CLOEXEC);
	size = all.fd < 0 ? -1 : lseek(all.fd, 0, SEEK_END);
	if (size < BLOCK)
		return -1;
	all.blocks = size / BLOCK;
	all.r.nr_cpus = cpus < MAX_CPUS ? cpus : MAX_CPUS;
	for (n = 0; n < DEPTH * all.r.nr_cpus && !err; n++)
		err = start_reader(n);
	errno = err;
	return err ? -1 : 0;
}

struct reads reads_up_to_now(void)
{
	struct reads r;

	pthread_mutex_lock(&all.lock);
	r = all.r;
	pthread_mutex_unlock(&all.lock);
	return r;
}
