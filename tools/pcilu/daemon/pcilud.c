// SPDX-License-Identifier: GPL-2.0
/*
 * pcilud owns /dev/liveupdate and gives out sessions by the rules of a policy
 * file. It keeps a copy of each, so that a session outlives its client, and hands
 * the list of them to the daemon in the next kernel.
 */

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "../../../lib/include/pcilu.h"
#include "../../../lib/src/cleanup.h"
#include "../../../lib/src/luo.h"
#include "../../../lib/src/path.h"
#include "../common/holder.h"
#include "../common/log.h"
#include "handover.h"
#include "privileges.h"
#include "server.h"
#include "store.h"

struct daemon {
	const char *policy_path;
	const char *user;
	int luo;
	int own; /* the session with the registry in it */
	struct policy *policy;
	struct registry *registry;
	struct dispatch dispatch;
	struct server *server;
};

static int op_create(void *ctx, const char *name)
{
	return luo_session_create(((struct daemon *)ctx)->luo, name);
}

static int op_retrieve(void *ctx, const char *name)
{
	return luo_session_retrieve(((struct daemon *)ctx)->luo, name);
}

static void tell_count(const struct daemon *d)
{
	sd_notifyf(0, "STATUS=%u sessions", registry_count(d->registry) - 1);
}

static void op_held(void *ctx, const struct entry *e)
{
	store_put_entry(e);
	log_msg(LOG_INFO, "session '%s' for user %u", e->name, e->uid);
	tell_count(ctx);
}

static void op_dropped(void *ctx, const struct entry *e)
{
	(void)ctx;
	store_drop_entry(e);
	log_msg(LOG_INFO, "session '%s' released", e->name);
}

static const struct dispatch_ops ops = {
	.create = op_create,
	.retrieve = op_retrieve,
	.held = op_held,
	.dropped = op_dropped,
};

/* Says why there is no device for us, and what to do: an exit status */
static int no_device(int err)
{
	char comm[64];
	pid_t pid;

	if (err == -EBUSY) {
		pid = holder_of("/dev/liveupdate", comm, sizeof(comm));
		log_msg(LOG_ERR, "/dev/liveupdate belongs to process %d (%s)%s",
			pid, pid ? comm : "not visible to us",
			pid == 1 ?
				": this systemd carries sessions itself, pcilud is not needed; mask pcilud.service" :
				": stop it first");
	} else if (err == -ENOENT) {
		log_msg(LOG_ERR,
			"no /dev/liveupdate: boot a kernel with Live Update, with kho=on liveupdate=on");
	} else {
		log_msg(LOG_ERR, "/dev/liveupdate: %s", strerror(-err));
		return EX_OSERR;
	}
	sd_notifyf(0, "STATUS=stepped aside: %s",
		   err == -EBUSY ?
			   "/dev/liveupdate belongs to another process" :
			   "no /dev/liveupdate");
	return EX_UNAVAILABLE;
}

/* Goes on with what systemd kept, or begins with what the last kernel left */
static int start_registry(struct daemon *d, struct stored *stored)
{
	d->own = stored->own;
	if (stored->table >= 0 && stored->own >= 0)
		d->registry = registry_from_fd(stored->table);
	if (!d->registry) {
		if (stored->table >= 0)
			log_msg(LOG_ERR,
				"the list of sessions that systemd kept is not understood");
		if (stored->own >= 0)
			close(stored->own);
		d->registry = handover_start(d->luo, &d->own);
		if (!d->registry)
			return -EIO;
		store_put(STORE_TABLE, registry_fd(d->registry));
		store_put(STORE_OWN, d->own);
		if (!registry_add(d->registry, PCILU_OUTGOING, OWN_SESSION, 0,
				  getpid(), d->own))
			return -ENOSPC;
	} else {
		struct entry *e =
			registry_find(d->registry, PCILU_OUTGOING, OWN_SESSION);

		if (e)
			e->fd = d->own;
		log_msg(LOG_NOTICE, "restarted with %u sessions",
			stored->count);
	}
	store_restore(stored, d->registry);
	return 0;
}

/* Outgoing sessions that nobody kept are gone; so must be our memory of them */
static void forget_lost(struct registry *reg)
{
	struct entry *e;
	uint32_t i;

	for (i = 0; (e = registry_next(reg, &i)); i++) {
		if (e->direction != PCILU_OUTGOING || e->fd >= 0)
			continue;
		log_msg(LOG_ERR, "session '%s' was lost with the restart",
			e->name);
		registry_remove(reg, e);
	}
}

static int load_policy(struct daemon *d)
{
	autofree char *why = NULL;
	struct policy *fresh = policy_load(d->policy_path, &why);

	if (!fresh) {
		log_msg(LOG_ERR, "%s: %s", d->policy_path,
			why ? why : "out of memory");
		return -EINVAL;
	}
	policy_free(d->policy);
	d->policy = fresh;
	d->dispatch.policy = fresh;
	return 0;
}

static int on_hangup(sd_event_source *source, const struct signalfd_siginfo *si,
		     void *data)
{
	struct daemon *d = data;

	(void)source;
	(void)si;
	sd_notify(0, "RELOADING=1");
	if (load_policy(d))
		log_msg(LOG_ERR, "the policy stays as it was");
	else
		log_msg(LOG_NOTICE, "read %s again", d->policy_path);
	sd_notify(0, "READY=1");
	return 0;
}

static int open_listener(int inherited)
{
	autofree char *path = NULL;
	int sock;

	if (inherited >= 0)
		return inherited;
	path = path_of("%s", PCILU_SOCKET);
	if (!path)
		return -ENOMEM;
	sock = server_listen(path);
	if (sock < 0)
		log_msg(LOG_ERR, "%s: %s", path, strerror(-sock));
	return sock;
}

static int add_signals(sd_event *event, struct daemon *d)
{
	static const int ends[] = { SIGTERM, SIGINT };
	sigset_t set;
	size_t i;
	int err;

	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	for (i = 0; i < ARRAY_SIZE(ends); i++)
		sigaddset(&set, ends[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	/* Without a handler, a signal ends the loop */
	for (i = 0; i < ARRAY_SIZE(ends); i++) {
		err = sd_event_add_signal(event, NULL, ends[i], NULL, NULL);
		if (err < 0)
			return err;
	}
	return sd_event_add_signal(event, NULL, SIGHUP, on_hangup, d);
}

static int serve(struct daemon *d, int listener)
{
	sd_event *event = NULL;
	int err;

	err = sd_event_default(&event);
	if (err >= 0)
		err = add_signals(event, d);
	if (err >= 0)
		err = server_new(&d->server, event, listener, &d->dispatch);
	if (err >= 0) {
		sd_notify(0, "READY=1");
		tell_count(d);
		log_msg(LOG_NOTICE, "ready, %u sessions",
			registry_count(d->registry) - 1);
		err = sd_event_loop(event);
		sd_notify(0, "STOPPING=1");
	}
	server_free(d->server);
	sd_event_unref(event);
	if (err < 0)
		log_msg(LOG_ERR, "%s", strerror(-err));
	return err < 0 ? EX_OSERR : EX_OK;
}

static int run(struct daemon *d)
{
	struct stored stored;
	int listener;

	if (load_policy(d))
		return EX_CONFIG;
	if (store_get(&stored))
		return EX_OSERR;
	d->luo = luo_open(1);
	if (d->luo < 0)
		return no_device(d->luo);
	listener = open_listener(stored.listener);
	if (listener < 0)
		return EX_OSERR;
	if (privileges_drop(d->user))
		return EX_NOUSER;
	if (start_registry(d, &stored))
		return EX_OSERR;
	forget_lost(d->registry);
	d->dispatch.registry = d->registry;
	return serve(d, listener);
}

static void usage(FILE *f)
{
	fputs("Usage: pcilud [--policy FILE] [--user NAME] [-v]\n"
	      "Owns /dev/liveupdate and gives out its sessions, see pcilud(8).\n"
	      "\n"
	      "  -p, --policy FILE  who may use which names (/etc/pcilu/pcilud.policy)\n"
	      "  -u, --user NAME    the user to become after start (pcilud)\n"
	      "  -v, --verbose      say what is done for whom\n"
	      "  -h, --help         this text\n"
	      "  -V, --version      the version\n",
	      f);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "policy", required_argument, NULL, 'p' },
		{ "user", required_argument, NULL, 'u' },
		{ "verbose", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ 0 },
	};
	autofree char *policy_path = path_of("/etc/pcilu/pcilud.policy");
	struct daemon d = { .user = "pcilud", .luo = -1, .own = -1 };
	int c, ret;

	log_program = "pcilud";
	d.policy_path = policy_path;
	while ((c = getopt_long(argc, argv, "p:u:vhV", options, NULL)) != -1) {
		switch (c) {
		case 'p':
			d.policy_path = optarg;
			break;
		case 'u':
			d.user = optarg;
			break;
		case 'v':
			log_level = LOG_INFO;
			break;
		case 'h':
			usage(stdout);
			return EX_OK;
		case 'V':
			puts("pcilud " PCILU_VERSION);
			return EX_OK;
		default:
			usage(stderr);
			return EX_USAGE;
		}
	}
	if (optind != argc || !d.policy_path) {
		usage(stderr);
		return EX_USAGE;
	}
	d.dispatch.ops = &ops;
	d.dispatch.ctx = &d;
	ret = run(&d);
	registry_free(d.registry);
	policy_free(d.policy);
	if (d.luo >= 0)
		close(d.luo);
	return ret;
}
