// SPDX-License-Identifier: GPL-2.0
/*
 * The main loop of a running VMM: commands that come through a socket of its name,
 * pcilud's questions, signals, and the end of the guest.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm.h"

#define FOLDER "/run/pcilu-vmm"

static const char *const phases[] = {
	[RUNNING] = "running",
	[PREPARED] = "prepared",
	[SAVED] = "saved",
	[RESTORED] = "restored",
};

static int address(struct sockaddr_un *a, const char *name)
{
	*a = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (!pcilu_name_valid(name))
		return fail(-EINVAL, "%s is no name of a session", name);
	snprintf(a->sun_path, sizeof(a->sun_path), FOLDER "/%s", name);
	return 0;
}

static int listen_at(const char *name)
{
	struct sockaddr_un a;
	int err = address(&a, name), fd;

	if (err)
		return err;
	mkdir(FOLDER, 0700);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && !connect(fd, (struct sockaddr *)&a, sizeof(a)))
		return fail(-EADDRINUSE, "there is a VMM of the name %s", name);
	unlink(a.sun_path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) ||
	    listen(fd, 4))
		return fail(-errno, "%s", a.sun_path);
	return fd;
}

void control_answer(const struct vmm *v, int fd, int err)
{
	if (dprintf(fd, "{\"rc\": %d, \"phase\": \"%s\", \"pid\": %d}\n", err,
		    phases[v->phase], getpid()) < 0)
		fail(-errno, "nobody waits for the answer");
}

/* Returns whether to go on */
static bool command(struct vmm *v, int from)
{
	const struct timeval patience = { .tv_sec = 1 };
	char word[16] = "";
	bool end = false;
	int err = 0;

	/* Who says nothing does not keep all others waiting */
	setsockopt(from, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (read(from, word, sizeof(word) - 1) < 0)
		return true;
	if (!strcmp(word, "save"))
		err = session_by_hand(v);
	else if (!strcmp(word, "resume"))
		err = go_on(v);
	else if (!strcmp(word, "replace"))
		err = replace_process(v, from);
	else if (!strcmp(word, "quit"))
		end = true;
	else if (strcmp(word, "status") != 0)
		err = -EOPNOTSUPP;
	control_answer(v, from, err);
	return !end;
}

static bool serve(struct vmm *v, int listening)
{
	int from = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	bool on;

	if (from < 0)
		return true;
	on = command(v, from);
	close(from);
	return on;
}

/* To be blocked before there is a second thread, which would get them */
void control_signals(sigset_t *signals)
{
	sigemptyset(signals);
	sigaddset(signals, SIGTERM);
	sigaddset(signals, SIGINT);
	sigprocmask(SIG_BLOCK, signals, NULL);
}

/* Milliseconds. What is to be given up is tried again until it is. */
#define AGAIN 500

/* Until the guest or somebody else ends it. A guest that is saved waits for its kexec. */
static int loop(struct vmm *v)
{
	enum { CONTROL, ENDED, SIGNAL, EVENTS, COUNT };
	struct pollfd p[COUNT] = { 0 };
	sigset_t signals;

	control_signals(&signals);
	p[CONTROL].fd = listen_at(v->name);
	p[ENDED].fd = v->machine.ended;
	p[SIGNAL].fd = signalfd(-1, &signals, SFD_CLOEXEC);
	if (p[CONTROL].fd < 0 || p[SIGNAL].fd < 0)
		return p[CONTROL].fd < 0 ? p[CONTROL].fd : -errno;
	for (;;) {
		p[EVENTS].fd = v->events ? pcilu_events_fd(v->events) : -1;
		for (int n = 0; n < COUNT; n++)
			p[n].events = POLLIN;
		if (poll(p, COUNT, v->calling_off ? AGAIN : -1) < 0)
			continue;
		if (v->calling_off)
			session_abort(v);
		if (p[ENDED].revents || p[SIGNAL].revents)
			return 0;
		if (p[EVENTS].revents)
			session_events(v);
		if (p[CONTROL].revents && !serve(v, p[CONTROL].fd))
			return 0;
	}
}

int control_run(struct vmm *v)
{
	int err = loop(v);

	session_end(v);
	return err;
}

/* Prints the answer, and returns what it says */
int control_client(const char *name, const char *word)
{
	struct sockaddr_un a;
	char line[256];
	int err = address(&a, name), fd;
	ssize_t n;

	if (err)
		return err;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) ||
	    write(fd, word, strlen(word)) < 0)
		return fail(-errno, "no VMM of the name %s", name);
	n = read(fd, line, sizeof(line) - 1);
	close(fd);
	if (n <= 0)
		return fail(-ECONNRESET, "%s ended", name);
	line[n] = '\0';
	fputs(line, stdout);
	return sscanf(line, "{\"rc\": %d", &err) == 1 ? err : -EPROTO;
}
