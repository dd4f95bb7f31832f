// SPDX-License-Identifier: GPL-2.0
/* pcilu update: all steps of a live update on this side, each with its time. */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "../../../lib/include/pcilu.h"
#include "../common/journal.h"
#include "cmd.h"
#include "json.h"
#include "kexec.h"
#include "lock.h"
#include "preflight.h"
#include "snapshot.h"
#include "store.h"
#include "target.h"
#include "vmms.h"

struct update {
	struct options options;
	struct preflight preflight;
	struct vmms vmms;
	struct json_object *steps;
	int signals; /* that make a step fail, a signalfd; -1: they end us */
	sigset_t mask; /* as it was before */
};

/*
 * From the load on nothing but SIGKILL ends us before what was done is taken back. What
 * we were started to ignore, as by nohup(1), stays ignored.
 */
static int hold_signals(struct update *u)
{
	static const int ends[] = { SIGINT, SIGTERM, SIGHUP, SIGPIPE };
	struct sigaction sa;
	sigset_t set;
	size_t i;

	sigemptyset(&set);
	for (i = 0; i < ARRAY_SIZE(ends); i++)
		if (!sigaction(ends[i], NULL, &sa) && sa.sa_handler != SIG_IGN)
			sigaddset(&set, ends[i]);
	u->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (u->signals < 0)
		return fail(ST_FAILED, "signals: %s", strerror(errno));
	sigprocmask(SIG_BLOCK, &set, &u->mask);
	u->vmms.signals = u->signals;
	return ST_YES;
}

/* Those that came are answered by what was taken back */
static void let_signals_go(struct update *u)
{
	struct signalfd_siginfo si;

	if (u->signals < 0)
		return;
	while (read(u->signals, &si, sizeof(si)) > 0)
		;
	close(u->signals);
	sigprocmask(SIG_SETMASK, &u->mask, NULL);
}

static bool interrupted(const struct update *u)
{
	struct pollfd p = { .fd = u->signals, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

static int step_preflight(struct update *u)
{
	int ret = preflight_run(&u->options, &u->preflight);

	if (ret)
		return ret;
	if (!u->preflight.passed && !u->options.force) {
		if (!u->options.json)
			preflight_print(&u->preflight, u->options.verbose);
		return fail(ST_NO, "nothing was changed: %s: %s",
			    u->preflight.why->check, u->preflight.why->text);
	}
	return ST_YES;
}

static int step_snapshot(struct update *u)
{
	autojson *doc = NULL;
	int status;

	doc = snapshot_take(&status);
	return doc ? snapshot_save(doc, &u->options) : status;
}

static void undo_snapshot(struct update *u)
{
	(void)u;
	store_drop(SNAPSHOT_SESSION);
}

static int step_load(struct update *u)
{
	int status = u->options.dry_run ? ST_YES : hold_signals(u);

	return status ? status : kexec_load(&u->options, &u->preflight);
}

/* A reboot would jump into it, with what is preserved only half prepared */
static void undo_load(struct update *u)
{
	int err = kexec_unload();

	(void)u;
	if (err)
		fail(ST_FAILED,
		     "the kernel stays loaded, and a reboot may jump into it: %s",
		     strerror(-err));
}

static void undo_prepare(struct update *u)
{
	vmms_abort(&u->vmms);
}

static int step_ask(struct update *u, uint32_t event)
{
	autofree pid_t *pids = NULL;
	int status;

	if (u->options.dry_run) {
		fprintf(stderr, "pcilu: would ask %zu owners, twice\n",
			vmms_list(&pids));
		return ST_YES;
	}
	status = vmms_ask(&u->vmms, event);
	return status == ST_NO && u->options.force ? ST_YES : status;
}

static int step_prepare(struct update *u)
{
	int status = step_ask(u, PCILU_EVENT_PREPARE);

	if (status)
		undo_prepare(u);
	return status;
}

/* What the preflight let pass because its owner would be asked */
static int step_go(struct update *u)
{
	int status = u->options.dry_run ? ST_YES : step_ask(u, PCILU_EVENT_GO);

	if (status || u->options.dry_run || u->options.force)
		return status;
	return preflight_in_use(&u->options);
}

/* From here on a signal is too late: if we ended, guests would stand still for ever */
static int done(struct update *u)
{
	int status;

	if (interrupted(u))
		return fail(ST_FAILED, "interrupted");
	u->vmms.signals = -1;
	status = vmms_done(&u->vmms);
	if (status)
		return status;
	journal(JOURNAL_JUMP, LOG_NOTICE, "the kernel is replaced now",
		"PCILU_KERNEL", u->options.kernel);
	return ST_YES;
}

static int step_exec(struct update *u)
{
	int status = kexec_ready(&u->options);

	if (!status && !u->options.dry_run)
		status = done(u);
	return status ? status : kexec_jump(&u->options);
}

static const struct {
	const char *name;
	int (*run)(struct update *u);
	void (*undo)(struct update *u);
} steps[] = {
	{ "preflight", step_preflight, NULL },
	{ "load", step_load, undo_load },
	{ "prepare", step_prepare, undo_prepare },
	{ "go", step_go, NULL }, /* from here on guests stand still */
	{ "snapshot", step_snapshot, undo_snapshot },
	{ "exec", step_exec, NULL },
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void record(struct update *u, const char *name, int status,
		   double seconds)
{
	struct json_object *s = array_object(u->steps);

	add_str(s, "step", name);
	add_int(s, "status", status);
	json_object_object_add(s, "seconds", json_object_new_double(seconds));
}

static int step(struct update *u, size_t i)
{
	FILE *out = u->options.json ? stderr : stdout;
	double start = now(), took;
	int status;

	fprintf(out, "%-10s ...\n", steps[i].name);
	fflush(out);
	if (interrupted(u))
		status = fail(ST_FAILED, "interrupted");
	else
		status = steps[i].run(u);
	took = now() - start;
	record(u, steps[i].name, status, took);
	fprintf(out, "%-10s %s, %.3f s\n", steps[i].name,
		status ? "failed" : "done", took);
	fflush(out);
	return status;
}

static void record_failure(const struct update *u, const char *step)
{
	if (!u->options.dry_run)
		journal(JOURNAL_FAILED, LOG_ERR,
			"the live update does not take place", "PCILU_STEP",
			step, "PCILU_KERNEL", u->options.kernel, "PCILU_REASON",
			fail_text());
}

/* What was done before the step that failed, last first */
static void take_back(struct update *u, size_t failed)
{
	while (!u->options.dry_run && failed-- > 0)
		if (steps[failed].undo)
			steps[failed].undo(u);
}

/* Without a kernel's name: the newest, as it is installed, with the running options */
static int choose(struct options *o, char **kernel, char **initrd)
{
	if (!o->kernel) {
		*kernel = target_newest();
		if (!*kernel)
			return fail(
				ST_ABSENT,
				"no kernel is installed in /boot, name one with --kernel");
		o->kernel = *kernel;
		fprintf(stderr, "pcilu: the newest kernel is %s\n", o->kernel);
		if (!o->initrd) {
			*initrd = target_initrd(o->kernel);
			o->initrd = *initrd;
		}
		if (!o->cmdline)
			o->reuse_cmdline = true;
	}
	return 0;
}

/* The last step does not come back if it succeeds, so its time is the jump's start */
int cmd_update(const struct options *o)
{
	autojson *doc = doc_new("update");
	struct update u = { .options = *o,
			    .steps = add_array(doc, "steps"),
			    .signals = -1,
			    .vmms.sock = -1,
			    .vmms.signals = -1,
			    .vmms.answers = add_array(doc, "owners") };
	autofree char *kernel = NULL, *initrd = NULL;
	int status = lock_take(o);
	size_t i;

	if (!status)
		status = vmms_limit(o, &u.vmms.limit_ms);
	if (!status)
		status = choose(&u.options, &kernel, &initrd);
	if (status)
		return status;
	u.options.asks = true;
	u.preflight.kernel.fd = -1;
	u.preflight.initrd.fd = -1;
	add_bool(doc, "dry_run", o->dry_run);
	add_str(doc, "kernel", u.options.kernel);
	add_str(doc, "initrd", u.options.initrd);
	for (i = 0; i < ARRAY_SIZE(steps) && status == ST_YES; i++)
		status = step(&u, i);
	if (status) {
		record_failure(&u, steps[i - 1].name);
		take_back(&u, i - 1);
	}
	let_signals_go(&u);
	preflight_checks(&u.preflight, doc);
	add_int(doc, "status", status);
	if (o->json && status != ST_USAGE)
		doc_print(doc);
	preflight_free(&u.preflight);
	vmms_close(&u.vmms);
	return status;
}
