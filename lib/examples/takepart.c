// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A VMM that is asked by `pcilu update`: `takepart NAME` preserves when it is told to,
 * and takes it back when there is no update after all. Its guest's memory is a memfd,
 * its device another one. One poll() is its main loop.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <pcilu.h>

enum { TOKEN_MEMORY = 1, TOKEN_DEVICE = 2 };

struct vmm {
	const char *name;
	struct pcilu *lu;
	struct pcilu_session *session; /* NULL: nothing is preserved */
	int memory, device;
};

static int prepare(struct vmm *v)
{
	int err = pcilu_session_create(v->lu, v->name, &v->session);

	if (err)
		return err;
	return pcilu_session_preserve_fd(v->session, v->memory, TOKEN_MEMORY);
}

/* Here a guest would be stopped */
static int go(struct vmm *v)
{
	return pcilu_session_preserve_fd(v->session, v->device, TOKEN_DEVICE);
}

/*
 * And here it would run again: not while the daemon has the session, which would be
 * handed over as it was when the guest was stopped.
 */
static void take_back(struct vmm *v)
{
	if (v->session)
		pcilu_session_release(v->lu, v->session);
	pcilu_session_close(v->session);
	v->session = NULL;
}

static int answer(struct vmm *v, struct pcilu_events *events,
		  const struct pcilu_event *e)
{
	switch (e->kind) {
	case PCILU_EVENT_PREPARE:
		puts("prepare");
		return pcilu_events_answer(events, prepare(v));
	case PCILU_EVENT_GO:
		puts("go");
		return pcilu_events_answer(events, go(v));
	case PCILU_EVENT_ABORT:
		puts("abort");
		take_back(v);
		return 0;
	default:
		return pcilu_events_answer(events, -EOPNOTSUPP);
	}
}

/* A main loop. What is called off because pcilud was restarted comes as an abort, too. */
static int follow(struct vmm *v, struct pcilu_events *events)
{
	struct pollfd p = { .fd = pcilu_events_fd(events), .events = POLLIN };
	const struct pcilu_event *e;
	int err;

	for (;;) {
		err = pcilu_events_take(events, &e);
		if (!err)
			err = answer(v, events, e);
		else if (err == -EAGAIN)
			err = poll(&p, 1, -1) < 0 && errno != EINTR ? -errno :
								      0;
		if (err && err != -ECONNRESET)
			return err;
	}
}

int main(int argc, char **argv)
{
	struct vmm v = { .name = argv[1] };
	struct pcilu_events *events;
	int err;

	if (argc != 2)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	v.memory = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	v.device = memfd_create("device", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (v.memory < 0 || v.device < 0)
		return 1;
	err = pcilu_open(&v.lu, PCILU_MODE_DAEMON);
	if (!err)
		err = pcilu_events_start(v.lu, v.name, &events);
	if (!err)
		err = follow(&v, events);
	fprintf(stderr, "takepart: %s: %s\n", v.name, strerror(-err));
	return 1;
}
