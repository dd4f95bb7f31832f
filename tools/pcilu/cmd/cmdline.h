/* SPDX-License-Identifier: GPL-2.0 */
/* The command lines of the running and of the next kernel. */
#ifndef PCILU_CMDLINE_H
#define PCILU_CMDLINE_H

/* The running kernel's, as it can be given to the next one; the caller frees it */
char *cmdline_running(void);

/* @more behind @line, but before what is init's; the caller frees it */
char *cmdline_join(const char *line, const char *more);

/*
 * What the next kernel will make of @given: with what its configuration @config (or
 * NULL) has built in, and with @bootconfig (or NULL), the parameters of a boot
 * configuration. The caller frees it. @how says where it is from, "" if @given is all.
 */
char *cmdline_effective(const char *given, const char *config,
			const char *bootconfig, const char **how);

#endif /* PCILU_CMDLINE_H */
