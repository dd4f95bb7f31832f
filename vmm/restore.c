// SPDX-License-Identifier: GPL-2.0
/*
 * Saving a guest and bringing it back: in the next kernel, out of the session, or in the
 * next process, out of what it inherits.
 *
 * What matters is the order. Saving: the guest stands still, with the access it was at
 * completed; KVM takes no more interrupts from the devices; then the state is read.
 * Coming back: memory, then devices, out of the session; the VM, so that a device can be
 * told of it; devices bound, memory mapped for them, devices attached; the CPU, with the
 * CPUID that the guest knows; its state; vectors armed and taken by KVM; the session
 * finished; and the guest runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm.h"

bool leaves_out(const struct vmm *v, const char *what)
{
	return v->leave_out && strstr(v->leave_out, what);
}

/* --- saving ------------------------------------------------------------------------------ */

/* While the guest stands still */
int vmm_save(struct vmm *v, struct state *s)
{
	unsigned int n;
	int err = 0;

	for (n = 0; n < v->nr_devices && !err; n++)
		err = device_save(&v->devices[n]);
	if (!err)
		err = memory_save(&v->memory, s);
	if (!err)
		err = machine_save(&v->machine, s);
	if (!err)
		err = state_put(s, STATE_SERIAL, &v->serial.r,
				sizeof(v->serial.r));
	if (!err)
		err = state_put(s, STATE_PCI, &v->pci, sizeof(v->pci));
	for (n = 0; n < v->nr_devices && !err; n++)
		err = state_put(s, STATE_DEVICE + n, &v->devices[n].s,
				sizeof(v->devices[n].s));
	serial_flush(&v->serial);
	return err;
}

/* It stood still for nothing */
void vmm_resume(struct vmm *v)
{
	unsigned int n;

	for (n = 0; n < v->nr_devices; n++)
		msix_attach(&v->devices[n]);
	machine_resume(&v->machine);
}

/* --- coming back -------------------------------------------------------------------------- */

static int add_devices(struct vmm *v)
{
	struct iommu *i = &v->iommu;
	unsigned int n;
	int err = 0;

	if (i->fd < 0)
		err = session_iommu(v);
	for (n = 0; n < v->nr_devices && !err; n++) {
		struct device *d = &v->devices[n];

		d->vmm = v;
		d->slot = n + 1;
		if (d->s.no_iommu != v->devices[0].s.no_iommu)
			return fail(-EINVAL,
				    "some devices have an IOMMU and some none");
		err = machine_add_device(&v->machine, d->fd);
		if (!err)
			err = iommu_bind(i, d->fd);
	}
	if (!err && leaves_out(v, "map"))
		raise(SIGKILL);
	if (!err)
		err = iommu_map(i, &v->memory);
	for (n = 0; n < v->nr_devices && !err; n++)
		err = iommu_attach(i, v->devices[n].fd);
	return err;
}

static int place_memory(struct vmm *v, const struct state *s)
{
	struct memory *m = &v->memory;

	if (s)
		return m->identity ? memory_check(m, &v->iommu) : 0;
	m->identity = v->nr_devices && v->devices[0].s.no_iommu;
	if (!m->identity)
		return memory_flat(m);
	say("no IOMMU translates for %s: the guest can read and write all memory of this host through it",
	    v->devices[0].s.bdf);
	return memory_identity(m, &v->iommu);
}

/* Of a guest that is new (@s is NULL), or of one that comes back */
int vmm_open(struct vmm *v, const struct state *s)
{
	uint64_t bar = HOLE_START;
	unsigned int n;
	int err;

	err = serial_open(&v->serial, v->serial_path);
	if (!err)
		err = machine_create(&v->machine);
	if (!err && s)
		err = memory_restore(&v->memory, s);
	if (!err && v->nr_devices)
		err = add_devices(v);
	if (!err)
		err = place_memory(v, s);
	if (!err)
		err = memory_map(&v->memory, &v->machine);
	if (!err)
		err = machine_add_cpus(&v->machine, s);
	for (n = 0; n < v->nr_devices && !err; n++) {
		err = device_setup(&v->devices[n]);
		if (!err && !s) {
			msix_reset(&v->devices[n]);
			err = device_place(&v->devices[n], &bar);
		}
	}
	return err ? err : machine_start(v);
}

static int restore(struct vmm *v, const struct state *s)
{
	unsigned int n;
	int err;

	err = vmm_open(v, s);
	if (!err)
		err = state_get(s, STATE_SERIAL, &v->serial.r,
				sizeof(v->serial.r));
	if (!err)
		err = state_get(s, STATE_PCI, &v->pci, sizeof(v->pci));
	if (!err)
		err = machine_restore(&v->machine, s, leaves_out(v, "time"));
	if (err)
		return err;
	serial_update_irq(&v->serial, v->machine.vm);
	for (n = 0; n < v->nr_devices && !err; n++) {
		err = device_restore(&v->devices[n]);
		if (!err && v->iommu.adopted)
			msix_signal_all(&v->devices[n]);
	}
	return err;
}

/*
 * Returns 1 if the previous kernel handed no such guest over. Whatever goes wrong can be
 * done again, by another process: pcilud has the session still, and the iommufd.
 */
int restore_session(struct vmm *v)
{
	double began = now_ms(), retrieved;
	struct state s = { 0 };
	int err;

	err = session_retrieve(v, &s);
	retrieved = now_ms();
	if (!err)
		err = restore(v, &s);
	state_free(&s);
	if (err)
		return err;
	v->phase = RESTORED;
	say("%s is back: retrieved in %.0f ms, restored in %.0f ms", v->name,
	    retrieved - began, now_ms() - retrieved);
	return 0;
}

/* The guest goes on: here, after it was restored, or where it was, after it was saved */
int go_on(struct vmm *v)
{
	int err;

	if (v->phase == RESTORED) {
		if (leaves_out(v, "finish"))
			raise(SIGKILL);
		err = v->session ? session_finish(v) : 0;
		if (err)
			return err;
		v->phase = RUNNING;
		machine_resume(&v->machine);
	}
	return session_abort(v);
}

/* --- another process in this kernel ----------------------------------------------------------- */

static int keep(int fd)
{
	return fcntl(fd, F_SETFD, 0) ? fail(-errno, "descriptor %d", fd) : fd;
}

/*
 * The successor inherits the memory, the state and the devices with the IOMMU's map, and
 * makes a new VM. Returns only if that fails; then the guest goes on.
 */
int replace_process(struct vmm *v, int answer)
{
	char fds[256];
	const char *argv[] = { "pcilu-vmm",	"restore", v->name,
			       "--inherit",	fds,	   NULL,
			       NULL /*serial*/, NULL };
	struct state s = { 0 };
	unsigned int n;
	int state = -1, at, err;

	if (v->phase != RUNNING)
		return fail(-EBUSY, "a live update is on its way");
	machine_pause(&v->machine);
	err = vmm_save(v, &s);
	if (!err)
		state = state_write(&s);
	state_free(&s);
	if (!err && state >= 0) {
		at = snprintf(fds, sizeof(fds), "%d,%d,%d,%d", keep(answer),
			      keep(v->memory.fd), keep(state),
			      v->nr_devices ? keep(v->iommu.fd) : -1);
		for (n = 0; n < v->nr_devices; n++)
			at += snprintf(fds + at, sizeof(fds) - at, ",%d",
				       keep(v->devices[n].fd));
		if (v->serial_path) {
			argv[5] = "--serial";
			argv[6] = v->serial_path;
		}
		execv("/proc/self/exe", (char **)argv);
		err = fail(-errno, "no successor");
	}
	vmm_resume(v);
	return err ? err : state;
}

/* What replace_process() has written. Sets @answer to who waits for it. */
int restore_inherited(struct vmm *v, const char *fds, int *answer)
{
	struct state s = { 0 };
	unsigned int n;
	int state, iommu, at, more, err;
	size_t size;

	if (sscanf(fds, "%d,%d,%d,%d%n", answer, &v->memory.fd, &state, &iommu,
		   &at) != 4)
		return fail(-EINVAL, "--inherit %s", fds);
	err = iommu < 0 ? 0 : iommu_adopt(&v->iommu, iommu);
	if (!err)
		err = state_read(&s, state);
	for (n = 0; !err && n < MAX_DEVICES; n++, at += more) {
		struct device *d = &v->devices[n];

		if (sscanf(fds + at, ",%d%n", &d->fd, &more) != 1)
			break;
		err = state_get(&s, STATE_DEVICE + n, &d->s, sizeof(d->s));
		v->nr_devices++;
	}
	if (!err && state_find(&s, STATE_DEVICE + n, &size))
		err = fail(-EINVAL, "not all devices are there");
	if (!err)
		err = restore(v, &s);
	state_free(&s);
	close(state);
	v->phase = RESTORED;
	return err;
}
