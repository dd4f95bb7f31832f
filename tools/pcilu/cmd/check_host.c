// SPDX-License-Identifier: GPL-2.0
/* This machine: is all that should be kept preserved, and can it be? */

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../../lib/include/pcilu.h"
#include "../../../lib/src/path.h"
#include "cmdline.h"
#include "params.h"
#include "preflight.h"
#include "run.h"
#include "vmms.h"

#define WATCHDOG_MIN \
	60 /* seconds that a kernel's start with its user space may take */

static void check_live_update(struct preflight *pf)
{
	autofree char *path = path_of("/dev/liveupdate");
	autofree char *cmdline = cmdline_running();

	if (path && !access(path, F_OK))
		pf_add(pf, "host", PF_PASS, NULL, "Live Update is on");
	else if (cmdline && params_is_on(cmdline, "kho", false) &&
		 params_is_on(cmdline, "liveupdate", false))
		pf_add(pf, "host", PF_FAIL,
		       "look for \"disabling kexec handover\" in its log; reboot with a smaller kho_scratch= or fewer huge pages",
		       "Live Update is off although kho=on liveupdate=on: this kernel gave up at boot");
	else
		pf_add(pf, "host", PF_FAIL, "boot with kho=on liveupdate=on",
		       "Live Update is off");
}

static void check_daemon(struct preflight *pf)
{
	struct pcilu *lu = NULL;
	int err = pcilu_open(&lu, PCILU_MODE_DAEMON);

	pcilu_close(lu);
	if (!err)
		pf_add(pf, "daemon", PF_PASS, NULL, "pcilud answers");
	else
		pf_add(pf, "daemon", run_systemd() ? PF_FAIL : PF_WARN,
		       "start pcilud, or hold sessions in a program that outlives the jump",
		       "pcilud does not answer (%s)", strerror(-err));
}

struct askable {
	pid_t *pids;
	size_t count;
};

static bool is_unpreserved(const struct device *d)
{
	return d->state == PCILU_STATE_NONE && d->owner;
}

/* The owner is what tells an operator which machine would die */
static void check_device(struct preflight *pf, const struct device *d,
			 const struct askable *askable)
{
	bool asked = is_unpreserved(d) &&
		     vmms_has(askable->pids, askable->count, d->owner);

	if (asked)
		pf_add(pf, "in-use", pf->options->asks ? PF_PASS : PF_WARN,
		       "only pcilu update asks",
		       "%s is in use by %s[%d], who preserves it when asked",
		       d->bdf, d->owner_name, d->owner);
	else if (is_unpreserved(d))
		pf_add(pf, "in-use", PF_FAIL,
		       "let its owner preserve it, or end its owner",
		       "%s is in use by %s[%d], and nobody preserved it",
		       d->bdf, d->owner_name, d->owner);
	else if (d->state == PCILU_STATE_INCOMING ||
		 d->state == PCILU_STATE_CLAIMED)
		pf_add(pf, "unfinished", PF_WARN,
		       "let its owner finish, pcilu status",
		       "%s is not finished from the last live update and would be lost",
		       d->bdf);
}

static void check_devices(struct preflight *pf)
{
	int i, preserved = 0, told = 0;
	autofree pid_t *pids = NULL;
	struct askable askable = { .count = vmms_list(&pids) };

	askable.pids = pids;
	for (i = 0; i < pf->devices.count; i++) {
		const struct device *d = &pf->devices.dev[i];

		if (!d->carrier)
			check_device(pf, d, &askable);
		told += d->state >= 0;
		preserved += d->state == PCILU_STATE_PRESERVED && !d->carrier;
	}
	if (preserved)
		pf_add(pf, "devices", PF_PASS, NULL,
		       "%d functions are preserved", preserved);
	else if (told)
		pf_add(pf, "devices", PF_WARN,
		       "let the owners of devices preserve them first",
		       "nothing is preserved");
	else
		pf_add(pf, "devices", PF_WARN, NULL,
		       "this kernel does not tell which devices are preserved");
}

int preflight_in_use(const struct options *o)
{
	__attribute__((cleanup(devices_free))) struct devices devices;
	int i, err = devices_scan(&devices, NULL);

	for (i = 0; i < o->nr_accept; i++)
		if (!strcmp(o->accept[i], "in-use"))
			return err;
	for (i = 0; !err && i < devices.count; i++) {
		const struct device *d = &devices.dev[i];

		if (!d->carrier && is_unpreserved(d))
			return fail(
				ST_NO,
				"%s is in use by %s[%d], who said it was ready and did not preserve it",
				d->bdf, d->owner_name, d->owner);
	}
	return err;
}

static char *watchdog_attr(const char *name, const char *attribute)
{
	autofree char *path =
		path_of("/sys/class/watchdog/%s/%s", name, attribute);
	char *line = NULL;

	return path && path_line(path, &line) >= 0 ? line : NULL;
}

/* What the core was told: 1 stop, 0 leave running, -1 as its driver likes */
static long stops_on_reboot(void)
{
	autofree char *path =
		path_of("/sys/module/watchdog/parameters/stop_on_reboot");
	autofree char *line = NULL;

	return path && path_line(path, &line) > 0 ? strtol(line, NULL, 10) : -1;
}

/* Nobody feeds one that goes on running through the jump, which is what it is for */
static void check_watchdog(struct preflight *pf, const char *name, long seconds)
{
	autofree char *identity = watchdog_attr(name, "identity");
	long stops = stops_on_reboot();

	if (identity && !strcmp(identity, "Software Watchdog"))
		pf_add(pf, "watchdog", PF_WARN, "use a hardware watchdog",
		       "%s is a timer of this kernel: nothing resets the machine if the next one hangs",
		       name);
	else if (stops > 0)
		pf_add(pf, "watchdog", PF_WARN,
		       "boot with watchdog.stop_on_reboot=0",
		       "%s is stopped by the kexec: nothing resets the machine if the next kernel hangs",
		       name);
	else if (seconds < WATCHDOG_MIN)
		pf_add(pf, "watchdog", PF_WARN,
		       "set a longer time-out (RuntimeWatchdogSec=, RebootWatchdogSec=)",
		       "%s resets the machine if the next kernel does not feed it within %ld s",
		       name, seconds);
	else if (stops < 0)
		pf_add(pf, "watchdog", PF_WARN,
		       "boot with watchdog.stop_on_reboot=0, then it is not",
		       "%s may be stopped by its driver at the kexec: then nothing resets the machine if the next kernel hangs",
		       name);
	else
		pf_add(pf, "watchdog", PF_PASS, NULL,
		       "%s gives the next kernel %ld s", name, seconds);
}

static void check_watchdogs(struct preflight *pf)
{
	autofree char *path = path_of("/sys/class/watchdog");
	autoclosedir DIR *d = path ? opendir(path) : NULL;
	struct dirent *e;
	int running = 0;

	while (d && (e = readdir(d))) {
		autofree char *state = watchdog_attr(e->d_name, "state");
		autofree char *timeout = watchdog_attr(e->d_name, "timeout");
		long seconds = timeout ? strtol(timeout, NULL, 10) : 0;

		if (!state || strcmp(state, "active") != 0)
			continue;
		running++;
		check_watchdog(pf, e->d_name, seconds);
	}
	if (!running)
		pf_add(pf, "watchdog", PF_PASS, NULL,
		       "none runs, so none resets the machine if the next kernel hangs");
}

void check_host(struct preflight *pf)
{
	check_live_update(pf);
	check_daemon(pf);
	check_devices(pf);
	check_watchdogs(pf);
}
