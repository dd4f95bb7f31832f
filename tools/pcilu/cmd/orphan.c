// SPDX-License-Identifier: GPL-2.0
/*
 * pcilu release, finish and discard: one session whose owner does not do it any more, or
 * is not asked.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "../../../lib/include/pcilu.h"
#include "../../../lib/src/luo.h"
#include "../../../lib/src/path.h"
#include "../common/journal.h"
#include "cmd.h"
#include "json.h"
#include "lock.h"

static void close_lu(struct pcilu **lu)
{
	pcilu_close(*lu);
}

static void close_session(struct pcilu_session **s)
{
	pcilu_session_close(*s);
}

static int find(struct pcilu *lu, const char *name, uint32_t direction,
		struct pcilu_session_info *out)
{
	autofree struct pcilu_session_info **list = NULL;
	size_t i, n = 0;
	int err = pcilu_session_list(lu, &list, &n);

	if (err)
		return err;
	for (i = 0; i < n; i++) {
		if (list[i]->direction != direction ||
		    strcmp(list[i]->name, name) != 0)
			continue;
		*out = *list[i];
		return 0;
	}
	return -ENOENT;
}

/* The process that got it last, if it is still there under that number */
static bool owner_lives(const struct pcilu_session_info *info)
{
	autofree char *path = info->pid ? path_of("/proc/%d", info->pid) : NULL;

	return path && !access(path, F_OK);
}

/* Who has it, if anybody, got it from a pcilud that is gone */
static bool owner_is_not_known(const struct pcilu_session_info *info)
{
	return info->held && !info->pid;
}

/* Why not, without --force: an exit status, ST_YES if nothing is in the way */
static int refuse(const struct pcilu_session_info *info)
{
	if (owner_lives(info))
		return fail(
			ST_NO,
			"session %s has an owner, process %d; --force does it nevertheless",
			info->name, info->pid);
	if (owner_is_not_known(info))
		return fail(
			ST_NO,
			"session %s may have an owner, which is not known since pcilud was restarted; if there is none, --force does it",
			info->name);
	return ST_YES;
}

/* What is done is done, also if pcilud does not hear of it */
static void forget(struct pcilu *lu, struct pcilu_session *s)
{
	int err = pcilu_session_release(lu, s);

	if (err && err != -ENOENT)
		fprintf(stderr,
			"pcilu: it is done, and pcilud still lists session %s: %s\n",
			pcilu_session_name(s), strerror(-err));
}

static int release(struct pcilu *lu, const char *name)
{
	__attribute__((cleanup(close_session))) struct pcilu_session *s = NULL;
	int err = pcilu_session_attach(lu, name, &s);

	return err ? err : pcilu_session_release(lu, s);
}

static int finish(struct pcilu *lu, const char *name)
{
	__attribute__((cleanup(close_session))) struct pcilu_session *s = NULL;
	int err = pcilu_session_retrieve(lu, name, &s);

	if (!err)
		err = pcilu_session_finish(NULL, s);
	if (!err)
		forget(lu, s);
	return err;
}

/* Whoever has a descriptor of it keeps that, and no use of it */
static int discard(struct pcilu *lu, const char *name)
{
	__attribute__((cleanup(close_session))) struct pcilu_session *s = NULL;
	int err = pcilu_session_attach(lu, name, &s);

	if (!err)
		err = luo_discard(pcilu_session_fd(s));
	if (!err)
		forget(lu, s);
	return err;
}

/* Who reads the journal later wants to know why a machine lost its device */
static void why(const struct pcilu_session_info *info, const struct options *o,
		char *text, size_t size)
{
	if (o->reason)
		snprintf(text, size, "%s", o->reason);
	else if (owner_lives(info))
		snprintf(text, size, "forced, although process %d lives",
			 info->pid);
	else if (info->pid)
		snprintf(text, size, "its owner, process %d, is gone",
			 info->pid);
	else if (owner_is_not_known(info))
		snprintf(
			text, size,
			"forced; its owner is not known since pcilud was restarted");
	else
		snprintf(text, size, "nobody has asked for it in this kernel");
}

static void record(const struct pcilu_session_info *info, const char *verb,
		   const char *reason)
{
	char message[512], user[16];

	snprintf(user, sizeof(user), "%u", info->uid);
	snprintf(message, sizeof(message), "%s of session %s: %s", verb,
		 info->name, reason);
	journal(JOURNAL_GIVEN_UP, LOG_WARNING, message, "PCILU_SESSION",
		info->name, "PCILU_UID", user, "PCILU_ACTION", verb,
		"PCILU_REASON", reason);
}

static int run(const struct options *o, uint32_t direction, const char *verb,
	       int (*give_up)(struct pcilu *lu, const char *name))
{
	__attribute__((cleanup(close_lu))) struct pcilu *lu = NULL;
	struct pcilu_session_info info;
	autojson *doc = NULL;
	char reason[256];
	const char *name = o->nr_args == 1 ? o->args[0] : NULL;
	int err;

	if (!name)
		return fail(ST_USAGE,
			    "name one session, pcilu status lists them");
	err = lock_take(o);
	if (err)
		return err;
	err = pcilu_open(&lu, PCILU_MODE_DAEMON);
	if (err)
		return fail(status_of(err), "pcilud: %s", strerror(-err));
	err = find(lu, name, direction, &info);
	if (err)
		return fail(status_of(err), "session %s: %s", name,
			    err == -ENOENT ? "there is no such one" :
					     strerror(-err));
	if (!o->force && refuse(&info))
		return ST_NO;
	why(&info, o, reason, sizeof(reason));
	if (!o->dry_run)
		err = give_up(lu, name);
	if (err)
		return fail(status_of(err), "session %s: %s", name,
			    err == -ENOTTY ?
				    "this kernel does not discard sessions" :
				    strerror(-err));
	if (!o->dry_run)
		record(&info, verb, reason);
	if (!o->json) {
		printf("%s %s, because %s\n",
		       o->dry_run ? "would" : "done:", verb, reason);
		return ST_YES;
	}
	doc = doc_new(verb);
	add_str(doc, "session", name);
	add_str(doc, "reason", reason);
	add_bool(doc, "dry_run", o->dry_run);
	doc_print(doc);
	return ST_YES;
}

int cmd_release(const struct options *o)
{
	return run(o, PCILU_DIRECTION_OUTGOING, "release", release);
}

int cmd_finish(const struct options *o)
{
	return run(o, PCILU_DIRECTION_INCOMING, "finish", finish);
}

int cmd_discard(const struct options *o)
{
	return run(o, PCILU_DIRECTION_OUTGOING, "discard", discard);
}
