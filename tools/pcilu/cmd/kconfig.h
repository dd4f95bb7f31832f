/* SPDX-License-Identifier: GPL-2.0 */
/* The configuration of a kernel. */
#ifndef PCILU_KCONFIG_H
#define PCILU_KCONFIG_H

#include <stdbool.h>
#include <stddef.h>

#define KCONFIG_MAX (4 << 20)

/* The text of the running kernel's configuration, or NULL if it is nowhere */
char *kconfig_running(void);

/* A configuration file, as it is or compressed with gzip */
char *kconfig_read(const char *path);

/*
 * The value of an option without quotes ("y", "m", "0x4c550001"), which the caller
 * frees. NULL if it is not set.
 */
char *kconfig_get(const char *text, const char *option);
bool kconfig_is(const char *text, const char *option, const char *value);

/* The running kernel's release */
char *kernel_release(void);

#endif /* PCILU_KCONFIG_H */
