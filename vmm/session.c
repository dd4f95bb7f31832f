// SPDX-License-Identifier: GPL-2.0
/*
 * The Live Update session of the guest: its memory, its state and its devices, all in
 * one, so that the kernel frees no memory that a device of it still writes to.
 *
 * It is made in two steps. While the guest runs: the session and the memory, which
 * takes long. Then the guest is stopped, and state and devices follow. `pcilu update`
 * asks for these steps one by one; the command `save` does both.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "vmm.h"

enum { TOKEN_MEMORY = 1, TOKEN_STATE = 2, TOKEN_DEVICE = 16 };

int session_open(struct vmm *v)
{
	int err = pcilu_open(&v->lu, PCILU_MODE_AUTO);

	return err ? fail(err, "no Live Update") : 0;
}

static int preserve(struct vmm *v, int fd, uint64_t token, const char *what)
{
	int err = pcilu_session_preserve_fd(v->session, fd, token);

	return err ? fail(err, "%s cannot be preserved", what) : 0;
}

/* The guest runs, before and after */
int session_prepare(struct vmm *v)
{
	unsigned int n;
	int err = 0;

	if (v->phase != RUNNING)
		return 0;
	for (n = 0; n < v->nr_devices && !err; n++)
		err = device_check(&v->devices[n]);
	if (err)
		return err;
	err = pcilu_session_create(v->lu, v->name, &v->session);
	if (err == -EEXIST) {
		fail(0, "somebody has a session %s", v->name);
		return err;
	}
	if (err)
		return fail(err, "no session %s", v->name);
	v->phase = PREPARED;
	v->complete = false;
	err = preserve(v, v->memory.fd, TOKEN_MEMORY, "the guest's memory");
	if (err)
		session_abort(v);
	v->complete = !err;
	return err;
}

static int preserve_rest(struct vmm *v)
{
	struct state s = { 0 };
	unsigned int n;
	int err, fd;

	err = vmm_save(v, &s);
	if (!err) {
		fd = state_write(&s);
		err = fd < 0 ?
			      fd :
			      preserve(v, fd, TOKEN_STATE, "the guest's state");
		if (fd >= 0)
			close(fd);
	}
	for (n = 0; n < v->nr_devices && !err; n++)
		if (!leaves_out(v, "devices"))
			err = preserve(v, v->devices[n].fd, TOKEN_DEVICE + n,
				       v->devices[n].s.bdf);
	state_free(&s);
	return err;
}

/* The guest stands still from now on. If it fails, everything is as it was. */
int session_save(struct vmm *v)
{
	double began = now_ms();
	int err;

	if (v->phase == SAVED)
		return 0;
	err = session_prepare(v);
	if (err)
		return err;
	machine_pause(&v->machine);
	v->phase = SAVED;
	v->complete = false;
	err = preserve_rest(v);
	if (err) {
		session_abort(v);
		return err;
	}
	v->complete = true;
	say("saved in %.0f ms", now_ms() - began);
	if (!pcilu_is_daemon(v->lu))
		say("pcilud is not there: only this process keeps what is saved");
	return 0;
}

/*
 * There is no live update after all. As long as pcilud has the session, the guest must not
 * run: it would be handed over as it was when it stood still, with memory of later.
 */
int session_abort(struct vmm *v)
{
	bool was_saved = v->phase == SAVED, again = v->calling_off;
	int err;

	if (v->phase == RUNNING)
		return 0;
	err = pcilu_session_release(v->lu, v->session);
	/* Without pcilud it ends with its descriptor */
	v->calling_off = err && err != -ENOENT && err != -EOPNOTSUPP;
	if (v->calling_off)
		return again ? err :
			       fail(err, "session %s is not given up yet",
				    v->name);
	pcilu_session_close(v->session);
	v->session = NULL;
	v->phase = RUNNING;
	if (was_saved)
		vmm_resume(v);
	return 0;
}

/*
 * The command `save`: it stays so until the command `resume`, whoever calls off what. But
 * if a part could not be preserved, and could not be given up either, that comes first.
 */
int session_by_hand(struct vmm *v)
{
	if (v->calling_off && !v->complete)
		session_abort(v);
	if (v->calling_off && !v->complete)
		return fail(-EBUSY, "session %s is not given up yet", v->name);
	v->asked = false;
	v->calling_off = false;
	return session_save(v);
}

/* The process ends. A guest that is saved is what pcilud has; one that is not is lost. */
void session_end(struct vmm *v)
{
	if (v->phase == PREPARED)
		session_abort(v);
	pcilu_events_close(v->events);
	v->events = NULL;
}

/* --- being asked --------------------------------------------------------------------- */

/* Without a daemon nobody asks */
void session_events_start(struct vmm *v)
{
	int err = pcilu_events_start(v->lu, v->name, &v->events);

	if (err && err != -EOPNOTSUPP)
		fail(err, "`pcilu update` will not ask this VM");
}

/* A guest that somebody has saved by hand is ready already, and stays saved */
static int do_event(struct vmm *v, uint32_t kind)
{
	if (v->calling_off)
		session_abort(v);
	if (v->calling_off)
		return -EBUSY;
	switch (kind) {
	case PCILU_EVENT_PREPARE:
		v->asked = v->phase == RUNNING;
		return session_prepare(v);
	case PCILU_EVENT_GO:
		return session_save(v);
	case PCILU_EVENT_ABORT:
		return v->asked ? session_abort(v) : 0;
	default:
		return fail(-EOPNOTSUPP, "event %u", kind);
	}
}

static int answer(struct vmm *v, const struct pcilu_event *e)
{
	int err = do_event(v, e->kind);

	if (e->kind == PCILU_EVENT_ABORT)
		return 0;
	if (err)
		return pcilu_events_refuse(v->events, err, fail_text());
	return pcilu_events_answer(v->events, 0);
}

/*
 * An event is there, or pcilud was restarted, which libpcilu deals with: what was asked
 * before is called off then, by an event.
 */
int session_events(struct vmm *v)
{
	const struct pcilu_event *e;
	int err;

	err = pcilu_events_take(v->events, &e);
	if (!err)
		err = answer(v, e);
	if (!err || err == -EAGAIN || err == -ECONNRESET || err == -EMFILE ||
	    err == -ENFILE)
		return 0;
	pcilu_events_close(v->events);
	v->events = NULL;
	if (v->asked)
		session_abort(v);
	return fail(err, "`pcilu update` does not ask this VM any more");
}

/* --- the way back ------------------------------------------------------------------------ */

/* The driver of a device may be bound a moment later */
static int retrieve_device(struct vmm *v, unsigned int n)
{
	unsigned int tries;
	int fd;

	for (tries = 0; tries < 100; tries++) {
		fd = pcilu_session_retrieve_fd(v->session, TOKEN_DEVICE + n);
		if (fd != -EAGAIN)
			break;
		poll(NULL, 0, 100);
	}
	return fd < 0 ? fail(fd, "%s does not come back", v->devices[n].s.bdf) :
			fd;
}

/* Memory before the devices that write to it. Returns 1, silently, without a session. */
int session_retrieve(struct vmm *v, struct state *s)
{
	unsigned int n;
	size_t size;
	int err, fd;

	err = pcilu_session_retrieve(v->lu, v->name, &v->session);
	if (err)
		return err == -ENOENT ? 1 : fail(err, "session %s", v->name);
	v->memory.fd = pcilu_session_retrieve_fd(v->session, TOKEN_MEMORY);
	if (v->memory.fd < 0)
		return fail(v->memory.fd, "the guest's memory");
	fd = pcilu_session_retrieve_fd(v->session, TOKEN_STATE);
	if (fd < 0)
		return fail(fd, "the guest's state");
	err = state_read(s, fd);
	close(fd);
	for (n = 0; !err && n < MAX_DEVICES; n++) {
		struct device *d = &v->devices[n];

		if (!state_find(s, STATE_DEVICE + n, &size))
			break;
		err = state_get(s, STATE_DEVICE + n, &d->s, sizeof(d->s));
		if (!err) {
			d->fd = retrieve_device(v, n);
			err = d->fd < 0 ? d->fd : 0;
		}
		v->nr_devices++;
	}
	return err;
}

/*
 * The iommufd for the devices. pcilud keeps it for who comes after us, if we die before
 * the session is finished; or it has one, and we are who comes after.
 */
int session_iommu(struct vmm *v)
{
	int err, fd = -ENOENT;

	if (v->session)
		fd = pcilu_session_kept_iommufd(v->lu, v->session);
	if (fd >= 0)
		return iommu_adopt(&v->iommu, fd);
	err = iommu_open(&v->iommu);
	if (err || !v->session)
		return err;
	if (leaves_out(v, "keep"))
		return 0;
	err = pcilu_session_keep_iommufd(v->lu, v->session, v->iommu.fd);
	if (err)
		fail(err, "nobody can go on from here if this process dies");
	return 0;
}

/* When all is restored and mapped: from here on the kernel holds nothing for us */
int session_finish(struct vmm *v)
{
	unsigned int tries;
	int err = -EBUSY;

	/* Then nothing has changed, and what is in the way may be over in a moment */
	for (tries = 0; tries < 50 && err == -EBUSY; tries++) {
		if (tries)
			poll(NULL, 0, 100);
		err = pcilu_session_finish(NULL, v->session);
	}
	if (err)
		return fail(err, "session %s is not finished", v->name);
	/* No reason to stop a guest that lives: `pcilu finish` takes it off the list */
	err = pcilu_session_release(v->lu, v->session);
	if (err && err != -ENOENT && err != -EOPNOTSUPP)
		fail(err, "pcilud still lists session %s", v->name);
	pcilu_session_close(v->session);
	v->session = NULL;
	return 0;
}
