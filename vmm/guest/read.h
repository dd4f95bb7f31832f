/* SPDX-License-Identifier: GPL-2.0 */
/* A drive that is read all the time, on each CPU */
#ifndef READ_H
#define READ_H

#include <stdint.h>

#define MAX_CPUS 2

struct reads {
	unsigned int nr_cpus;
	uint64_t count[MAX_CPUS]; /* of each, whatever came of it */
	uint64_t wrong; /* what was read is not what is there */
	uint64_t failed; /* or the kernel says that there was an error */
	double longest; /* seconds from one to the next, whoever read */
	double before; /* when the last one was there, of CLOCK_MONOTONIC */
};

int reads_start(const char *drive);
struct reads reads_up_to_now(void);

#endif /* READ_H */
