/* SPDX-License-Identifier: GPL-2.0 */
/* The boot configuration that can stand behind an initrd (admin-guide/bootconfig). */
#ifndef PCILU_BOOTCONFIG_H
#define PCILU_BOOTCONFIG_H

#include <stddef.h>

/*
 * Finds it behind an initrd. Returns its size and its beginning in @text, 0 if there
 * is none, -EBADMSG if its size or checksum is wrong. The initrd ends before @text.
 */
long bootconfig_find(const char *initrd, size_t size, const char **text);

/*
 * Its "kernel." keys as the kernel puts them before the command line, with a blank
 * behind each; the caller frees it. NULL if it does not parse.
 */
char *bootconfig_cmdline(const char *text, size_t size);

#endif /* PCILU_BOOTCONFIG_H */
