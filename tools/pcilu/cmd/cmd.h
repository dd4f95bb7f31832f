/* SPDX-License-Identifier: GPL-2.0 */
/* What the commands of pcilu have in common. */
#ifndef PCILU_CMD_H
#define PCILU_CMD_H

#include <json-c/json.h>
#include <stdbool.h>

#include "../../../lib/src/cleanup.h"

/*
 * Exit statuses, documented in pcilu(1). systemd and the LSB give names to 0 to 7, 64
 * to 78 and 200 to 245: ours mean the same there, or are others.
 */
enum status {
	ST_YES = 0, /* done, or the answer is yes */
	ST_NO = 1, /* the answer is no */
	ST_USAGE = 2,
	ST_PERMISSION = 4,
	ST_ABSENT = 10, /* no such device, file, daemon or kernel feature */
	ST_FAILED = 11,
};

/* The options of all commands in one place; a command names those it takes */
struct options {
	bool json;
	bool strict;
	bool verbose;
	bool dry_run;
	bool tree;
	bool force;
	bool boot;
	bool keep;
	bool persist;
	bool metrics;
	bool reuse_cmdline;
	bool no_systemd;
	bool asks; /* owners of devices are asked to preserve them */
	const char *slot;
	const char *kernel;
	const char *initrd;
	const char *cmdline;
	const char *config;
	const char *input;
	const char *output;
	const char *accept[32];
	const char *timeout;
	const char *reason;
	int nr_accept;
	char **args; /* what follows the options, NULL at the end */
	int nr_args;
};

int cmd_list(const struct options *o);
int cmd_check(const struct options *o);
int cmd_preflight(const struct options *o);
int cmd_load(const struct options *o);
int cmd_exec(const struct options *o);
int cmd_snapshot(const struct options *o);
int cmd_verify(const struct options *o);
int cmd_update(const struct options *o);
int cmd_status(const struct options *o);
int cmd_unload(const struct options *o);
int cmd_bind(const struct options *o);
int cmd_unbind(const struct options *o);
int cmd_release(const struct options *o);
int cmd_discard(const struct options *o);
int cmd_finish(const struct options *o);
int cmd_wait(const struct options *o);

/* An exit status for an errno value, which may be negative */
enum status status_of(int err);

/*
 * Error on standard error: "pcilu: what: remedy". With --json it is the document if
 * the command prints no other. Returns the status.
 */
enum status fail(enum status status, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* The last of them, NULL if there was none */
const char *fail_text(void);

/* The end of the program, with the document that --json promises */
void leave(int status) __attribute__((noreturn));

#endif /* PCILU_CMD_H */
