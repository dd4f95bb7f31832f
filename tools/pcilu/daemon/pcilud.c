// SPDX-License-Identifier: GPL-2.0
/*
 * pcilud owns /dev/liveupdate and gives out sessions by the rules of a policy
 * file. It keeps a copy of each, so that a session outlives its client, and hands
 * the list of them to the daemon in the next kernel.
 */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>
#include <time.h>
#include <unistd.h>

#include "../../../lib/include/pcilu.h"
#include "../../../lib/src/cleanup.h"
#include "../../../lib/src/luo.h"
#include "../../../lib/src/path.h"
#include "../common/holder.h"
#include "../common/journal.h"
#include "../common/log.h"
#include "giveup.h"
#include "handover.h"
#include "inforce.h"
#include "privileges.h"
#include "retrieve.h"
#include "server.h"
#include "store.h"

struct daemon {
	const char *user;
	int luo; /* -1 if somebody else has the device */
	unsigned int told; /* sessions that systemd's status shows */
	struct inforce rules;
	struct registry *registry;
	struct dispatch dispatch;
	struct limits limits;
	struct server *server;
};

/*
 * A name is free when the last copy of an earlier session is closed, and systemd has one
 * for a moment longer than we. It says when it has let go of it, and a thread of it closes
 * it then. Once for all that was dropped: a client that has a copy of its own may ask for
 * the name again and again.
 */
static int op_create(void *ctx, const char *name)
{
	const struct timespec pause = { .tv_nsec = 1000L * 1000 };
	const struct daemon *d = ctx;
	int i, fd;

	if (d->luo < 0)
		return -EBUSY;
	fd = luo_session_create(d->luo, name);
	if (fd != -EEXIST || !store_flush_dropped())
		return fd;
	for (i = 0; i < 10; i++) {
		fd = luo_session_create(d->luo, name);
		if (fd != -EEXIST)
			break;
		nanosleep(&pause, NULL);
	}
	return fd;
}

static int op_retrieve(void *ctx, const char *name)
{
	const struct daemon *d = ctx;
	char stored_as[STORE_NAME_SIZE];
	struct entry e = {
		.tag = store_tag(d->registry, PCILU_DIRECTION_INCOMING, name),
	};

	memcpy(e.name, name, strnlen(name, sizeof(e.name) - 1));
	store_name(&e, stored_as);
	return d->luo < 0 ? -EBUSY : retrieve_session(d->luo, name, stored_as);
}

static bool op_has_room(void *ctx, uid_t uid)
{
	const struct daemon *d = ctx;
	int probe = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
	bool may;

	if (probe < 0)
		return false;
	may = server_may_use(&d->limits, uid, probe);
	close(probe);
	return may;
}

static bool op_is_iommufd(void *ctx, int fd)
{
	autofree char *path = path_of("/sys/class/misc/iommu/dev");
	autofree char *line = NULL;
	unsigned int major, minor;
	struct stat st;

	(void)ctx;
	return path && path_line(path, &line) > 0 &&
	       sscanf(line, "%u:%u", &major, &minor) == 2 && !fstat(fd, &st) &&
	       S_ISCHR(st.st_mode) && st.st_rdev == makedev(major, minor);
}

/* But for our own */
static unsigned int count(const struct daemon *d)
{
	return registry_count(d->registry) -
	       !!registry_find(d->registry, PCILU_DIRECTION_OUTGOING,
			       OWN_SESSION);
}

static void tell_ready(struct daemon *d)
{
	const char *trouble = d->rules.trouble;

	d->told = count(d);
	sd_notifyf(0, "READY=1\nSTATUS=%u sessions%s%s", d->told,
		   trouble ? "; " : "", trouble ? trouble : "");
}

/* Not with each session: systemd is told about those anyway */
static void op_tick(void *ctx)
{
	struct daemon *d = ctx;

	if (count(d) != d->told)
		tell_ready(d);
}

static void record(enum journal_kind kind, const struct entry *e)
{
	char message[160], user[16], pid[16];
	bool recorded;

	if (log_level < LOG_INFO)
		return;
	snprintf(user, sizeof(user), "%u", e->uid);
	snprintf(pid, sizeof(pid), "%d", e->pid);
	if (kind == JOURNAL_HELD)
		snprintf(message, sizeof(message), "session '%s' for user %s",
			 e->name, user);
	else
		snprintf(message, sizeof(message), "session '%s' released",
			 e->name);
	recorded = journal(kind, LOG_INFO, message, "PCILU_SESSION", e->name,
			   "PCILU_DIRECTION",
			   e->direction == PCILU_DIRECTION_OUTGOING ?
				   "outgoing" :
				   "incoming",
			   "PCILU_UID", user, "PCILU_PID", pid);
	/* Where the journal has our standard error, too, once is enough */
	if (!recorded || !getenv("JOURNAL_STREAM"))
		log_msg(LOG_INFO, "%s", message);
}

static void op_held(void *ctx, struct entry *e)
{
	struct daemon *d = ctx;
	char name[STORE_NAME_SIZE];

	e->tag = store_tag(d->registry, e->direction, e->name);
	if (e->direction ==
	    PCILU_DIRECTION_OUTGOING) { /* else it is there already */
		store_name(e, name);
		store_put(name, e->fd);
	}
	server_tell(d->server, e, true);
	record(JOURNAL_HELD, e);
}

/* Whoever is killed in between finds both, and has not answered yet */
static void op_kept(void *ctx, struct entry *e)
{
	char last[STORE_NAME_SIZE], name[STORE_NAME_SIZE];

	(void)ctx;
	store_kept_name(e, last);
	e->kept_spare = !e->kept_spare;
	store_kept_name(e, name);
	store_put(name, e->kept);
	store_drop(last);
}

static void op_dropped(void *ctx, const struct entry *e)
{
	const struct daemon *d = ctx;
	char name[STORE_NAME_SIZE];

	if (e->kept >= 0) {
		store_kept_name(e, name);
		store_drop(name);
	}
	store_name(e, name);
	store_drop(name);
	server_tell(d->server, e, false);
	record(JOURNAL_RELEASED, e);
}

static const struct dispatch_ops ops = {
	.create = op_create,
	.retrieve = op_retrieve,
	.has_room = op_has_room,
	.is_iommufd = op_is_iommufd,
	.held = op_held,
	.kept = op_kept,
	.dropped = op_dropped,
	.tick = op_tick,
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
			pid == 1 ? ": try again when it is done" :
				   ": stop it first");
		/* From version 261 on systemd has it, while it boots or shuts down */
		if (pid == 1)
			return EX_TEMPFAIL;
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

/* Outgoing sessions that nobody kept are gone; so must be our memory of them */
static void forget_lost(struct registry *reg)
{
	struct entry *e;
	uint32_t i;

	for (i = 0; (e = registry_next(reg, &i)); i++) {
		if (e->direction != PCILU_DIRECTION_OUTGOING || e->fd >= 0)
			continue;
		log_msg(LOG_ERR, "session '%s' was lost with the restart",
			e->name);
		registry_remove(reg, e);
	}
}

static int on_hangup(sd_event_source *source, const struct signalfd_siginfo *si,
		     void *data)
{
	static struct log_limit limit = { .what = "reloads",
					  .level = LOG_NOTICE };
	struct daemon *d = data;

	(void)source;
	(void)si;
	sd_notify(0, "RELOADING=1");
	if (inforce_reload(&d->rules))
		log_limited(&limit, "the policy stays as it was");
	else
		log_limited(&limit, "read %s again", d->rules.path);
	d->dispatch.policy = d->rules.policy;
	store_put_again(d->registry);
	tell_ready(d);
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

static const int ends[] = { SIGTERM, SIGINT };

/* From the very start: what comes before there is a handler must not end us */
static void block_signals(void)
{
	static const int ignored[] = { SIGPIPE, SIGUSR1, SIGUSR2, SIGALRM,
				       SIGVTALRM };
	sigset_t set;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(ignored); i++)
		signal(ignored[i], SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	for (i = 0; i < ARRAY_SIZE(ends); i++)
		sigaddset(&set, ends[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

static int add_signals(sd_event *event, struct daemon *d)
{
	size_t i;
	int err;

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
		err = server_new(&d->server, event, listener, &d->dispatch,
				 &d->limits);
	if (err >= 0) {
		tell_ready(d);
		log_msg(LOG_NOTICE, "ready, %u sessions", count(d));
		err = sd_event_loop(event);
		sd_notify(0, "STOPPING=1");
	}
	server_free(d->server);
	sd_event_unref(event);
	if (err < 0)
		log_msg(LOG_ERR, "%s", strerror(-err));
	return err < 0 ? EX_OSERR : EX_OK;
}

/* As many descriptors as we may have, and how many that is */
static unsigned int raise_descriptors(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r))
		return 1024;
	r.rlim_cur = r.rlim_max;
	setrlimit(RLIMIT_NOFILE, &r);
	return r.rlim_max < 1 << 20 ? (unsigned int)r.rlim_max : 1 << 20;
}

/*
 * What systemd keeps is given up when we fail for good, so with anything in the
 * store nothing that is wrong may stop us: it is said, and we serve what there is.
 */
static int run(struct daemon *d)
{
	struct stored stored;
	bool must_go_on;
	int listener;

	d->limits.descriptors = raise_descriptors();
	if (store_get(&stored))
		return EX_OSERR;
	if (inforce_start(&d->rules, &stored))
		return EX_OSERR;
	d->dispatch.policy = d->rules.policy;
	must_go_on = stored.count > 0;
	d->luo = luo_open(1);
	if (d->luo < 0) {
		int ret = no_device(d->luo);

		if (!must_go_on)
			return ret;
		log_msg(LOG_ERR,
			"sessions that systemd kept are served, others cannot be had: systemctl restart pcilud when the device is free");
	}
	listener = open_listener(stored.listener);
	if (listener < 0)
		return EX_OSERR;
	if (privileges_drop(d->user, must_go_on))
		return EX_NOUSER;
	d->registry = handover_start(d->luo, &stored);
	if (!d->registry)
		return EX_OSERR;
	forget_lost(d->registry);
	d->dispatch.registry = d->registry;
	return serve(d, listener);
}

/* As the daemon itself would read it */
static int check_policy(const struct daemon *d)
{
	autofree char *why = NULL;
	struct policy *p;

	if (getpwnam(d->user) && privileges_drop(d->user, false))
		return EX_OSERR;
	p = policy_load(d->rules.path, &why);
	if (!p) {
		log_msg(LOG_ERR, "%s: %s", d->rules.path,
			why ? why : "out of memory");
		return EX_CONFIG;
	}
	policy_free(p);
	return EX_OK;
}

static void usage(FILE *f)
{
	fputs("Usage: pcilud [--policy FILE] [--user NAME] [--idle SECONDS] [-v]\n"
	      "       pcilud --check-policy [--policy FILE] [--user NAME]\n"
	      "       pcilud --give-up [--dry-run]\n"
	      "Owns /dev/liveupdate and gives out its sessions, see pcilud(8).\n"
	      "\n"
	      "  -p, --policy FILE  who may use which names (/etc/pcilu/pcilud.policy)\n"
	      "  -u, --user NAME    the user to become after start (pcilud)\n"
	      "  -i, --idle SECONDS close what is idle for that long (60)\n"
	      "  -c, --check-policy say what is wrong with the policy, and end\n"
	      "  -g, --give-up      name what is lost by stopping pcilud, ask, and stop it\n"
	      "  -n, --dry-run      and do not stop it\n"
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
		{ "idle", required_argument, NULL, 'i' },
		{ "check-policy", no_argument, NULL, 'c' },
		{ "give-up", no_argument, NULL, 'g' },
		{ "dry-run", no_argument, NULL, 'n' },
		{ "verbose", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ 0 },
	};
	autofree char *policy_path = path_of("/etc/pcilu/pcilud.policy");
	struct daemon d = {
		.user = "pcilud",
		.luo = -1,
		.limits.idle = 60,
	};
	bool check = false, gives_up = false, dry_run = false;
	int c, ret;

	log_program = "pcilud";
	d.rules.path = policy_path;
	while ((c = getopt_long(argc, argv, "p:u:i:cgnvhV", options, NULL)) !=
	       -1) {
		switch (c) {
		case 'p':
			d.rules.path = optarg;
			break;
		case 'u':
			d.user = optarg;
			break;
		case 'i':
			d.limits.idle = (unsigned int)strtoul(optarg, NULL, 10);
			break;
		case 'c':
			check = true;
			break;
		case 'g':
			gives_up = true;
			break;
		case 'n':
			dry_run = true;
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
	if (optind != argc || !d.rules.path || !d.limits.idle ||
	    (dry_run && !gives_up)) {
		usage(stderr);
		return EX_USAGE;
	}
	if (check)
		return check_policy(&d);
	if (gives_up)
		return give_up(dry_run);
	block_signals();
	d.dispatch.ops = &ops;
	d.dispatch.ctx = &d;
	ret = run(&d);
	registry_free(d.registry);
	policy_free(d.rules.policy);
	if (d.luo >= 0)
		close(d.luo);
	return ret;
}
