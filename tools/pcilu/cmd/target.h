/* SPDX-License-Identifier: GPL-2.0 */
/* Kernels that are installed on this machine. */
#ifndef PCILU_TARGET_H
#define PCILU_TARGET_H

/* The newest in /boot by its release; NULL if there is none; the caller frees it */
char *target_newest(void);

/* The initrd beside a kernel, as distributions name them, the same way */
char *target_initrd(const char *kernel);

/* The image of the running kernel, the same way */
char *target_running(void);

#endif /* PCILU_TARGET_H */
