/* SPDX-License-Identifier: GPL-2.0 */
/* What a command line sets aside of the memory of the machine. */
#ifndef PCILU_RESERVE_H
#define PCILU_RESERVE_H

/*
 * Bytes that crashkernel= takes in a machine with @ram bytes: of several the last
 * counts, ",high" with ",low" beside it, ",cma" on top. With @ram 0, which is not
 * known, the most that it could be.
 */
unsigned long long reserve_crashkernel(const char *cmdline,
				       unsigned long long ram);

/* Bytes of the huge pages that hugepagesz= and hugepages= allocate at boot */
unsigned long long reserve_hugepages(const char *cmdline);

/* RAM of this machine in bytes, 0 if it is not known */
unsigned long long reserve_ram(void);

#endif /* PCILU_RESERVE_H */
