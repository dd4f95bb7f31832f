// SPDX-License-Identifier: GPL-2.0
/*
 * KVM: a VM with the interrupt controllers and the timer of a PC in the kernel, virtual
 * CPUs, and a thread for each. What the guest does to devices is served by the thread of
 * the CPU that does it, by one at a time; the main thread touches the same things only
 * while all are paused.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm.h"

/* Three pages that Intel's virtualization wants, in the hole */
#define TSS_ADDRESS 0xfffbd000
#define MAX_CPUID 256
#define KICK SIGUSR1

int machine_create(struct machine *m)
{
	struct kvm_create_device vfio = { .type = KVM_DEV_TYPE_VFIO };
	struct kvm_pit_config pit = { 0 };

	m->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (m->kvm < 0)
		return fail(-errno, "/dev/kvm");
	m->vm = ioctl(m->kvm, KVM_CREATE_VM, 0);
	if (m->vm < 0)
		return fail(-errno, "KVM_CREATE_VM");
	/*
	 * 0: the TSC is as fast as the host's. Otherwise it is what the host's was believed to
	 * be when KVM was loaded, and the host may have measured it again since. Of the VM and
	 * not of its CPU: a CPU sets its TSC when it is made.
	 */
	if (ioctl(m->vm, KVM_SET_TSC_KHZ, 0))
		return fail(-errno, "KVM_SET_TSC_KHZ");
	if (ioctl(m->vm, KVM_SET_TSS_ADDR, TSS_ADDRESS) ||
	    ioctl(m->vm, KVM_CREATE_IRQCHIP) ||
	    ioctl(m->vm, KVM_CREATE_PIT2, &pit) ||
	    ioctl(m->vm, KVM_CREATE_DEVICE, &vfio))
		return fail(-errno, "interrupt controllers and timer");
	m->vfio = vfio.fd;
	return 0;
}

/*
 * Tells KVM of a device, before it is bound to an iommufd: that is when VFIO takes note
 * of the VM. It keeps the VM from then on, until the device file is closed, which for a
 * preserved one is the kexec.
 */
int machine_add_device(struct machine *m, int device)
{
	int32_t fd = device;
	struct kvm_device_attr attr = {
		.group = KVM_DEV_VFIO_FILE,
		.attr = KVM_DEV_VFIO_FILE_ADD,
		.addr = (uintptr_t)&fd,
	};

	if (ioctl(m->vfio, KVM_SET_DEVICE_ATTR, &attr))
		return fail(-errno, "KVM_DEV_VFIO_FILE_ADD");
	return 0;
}

int machine_add_memory(struct machine *m, uint32_t slot, uint64_t gpa,
		       uint64_t size, void *va)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = gpa,
		.memory_size = size, /* 0 removes it */
		.userspace_addr = (uintptr_t)va,
	};

	if (ioctl(m->vm, KVM_SET_USER_MEMORY_REGION, &region))
		return fail(-errno, "memory of the guest at 0x%llx",
			    (unsigned long long)gpa);
	return 0;
}

/*
 * The guest is told that it is one, for it to look for kvm-clock, and each CPU its number.
 * A guest that has guests of its own would have more state than is saved here.
 */
static void adapt_cpuid(struct kvm_cpuid2 *c, unsigned int id)
{
	struct kvm_cpuid_entry2 *e;

	for (e = c->entries; e < c->entries + c->nent; e++) {
		if (e->function == 1) {
			e->ecx |= 1U << 31; /* a hypervisor */
			e->ecx &= ~(1U << 5); /* VMX */
			e->ebx = (e->ebx & 0xffffff) | id << 24;
		}
		if (e->function == 0xb || e->function == 0x1f)
			e->edx = id;
		if (e->function == 0x8000001e)
			e->eax = id;
		if (e->function == 0x80000001)
			e->ecx &= ~(1U << 2); /* SVM */
	}
}

/* What this host's KVM can give to a guest */
static struct kvm_cpuid2 *supported_cpuid(const struct machine *m,
					  unsigned int id)
{
	struct kvm_cpuid2 *c;

	c = calloc(1, sizeof(*c) + MAX_CPUID * sizeof(c->entries[0]));
	if (!c)
		return NULL;
	c->nent = MAX_CPUID;
	if (ioctl(m->kvm, KVM_GET_SUPPORTED_CPUID, c)) {
		free(c);
		return NULL;
	}
	adapt_cpuid(c, id);
	return c;
}

/*
 * A guest that comes back brings its CPUID along: the next kernel's KVM may know more,
 * which the guest has not seen when it booted.
 */
static struct kvm_cpuid2 *saved_cpuid(const struct state *s, unsigned int id)
{
	const struct kvm_cpuid2 *saved;
	struct kvm_cpuid2 *c;
	size_t size;

	saved = state_find(s, STATE_OF(id, STATE_CPUID), &size);
	if (!saved ||
	    size != sizeof(*saved) + saved->nent * sizeof(saved->entries[0]))
		return NULL;
	c = malloc(size);
	if (c)
		memcpy(c, saved, size);
	return c;
}

static int add_cpu(struct machine *m, struct cpu *c, const struct state *s)
{
	int n;

	c->fd = ioctl(m->vm, KVM_CREATE_VCPU, c->id);
	if (c->fd < 0)
		return fail(-errno, "KVM_CREATE_VCPU");
	n = ioctl(m->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (n <= 0)
		return fail(-errno, "KVM_GET_VCPU_MMAP_SIZE");
	c->run = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, 0);
	if (c->run == MAP_FAILED)
		return fail(-errno, "virtual CPU");
	c->cpuid = s ? saved_cpuid(s, c->id) : supported_cpuid(m, c->id);
	if (!c->cpuid)
		return fail(-EPROTO, "CPU %u has no CPUID", c->id);
	if (ioctl(c->fd, KVM_SET_CPUID2, c->cpuid))
		return fail(-errno,
			    "this KVM cannot be the CPU that the guest knows");
	/* Once more: the host may have measured its TSC since the VM was made */
	if (ioctl(c->fd, KVM_SET_TSC_KHZ, 0))
		return fail(-errno, "KVM_SET_TSC_KHZ");
	return 0;
}

/* Of a guest that comes back, if there is a state */
int machine_add_cpus(struct machine *m, const struct state *s)
{
	unsigned int n;
	int err = 0;

	if (s)
		err = state_get(s, STATE_CPUS, &m->nr_cpus, sizeof(m->nr_cpus));
	if (!err && (!m->nr_cpus || m->nr_cpus > MAX_CPUS))
		err = fail(-EINVAL, "a guest has 1 to %u CPUs", MAX_CPUS);
	for (n = 0; n < m->nr_cpus && !err; n++) {
		m->cpus[n].id = n;
		err = add_cpu(m, &m->cpus[n], s);
	}
	return err;
}

/* --- the virtual CPUs' threads -------------------------------------------------- */

static void port(struct vmm *v, unsigned int port, unsigned int size,
		 bool write, uint32_t *value)
{
	if (port >= SERIAL_PORT && port < SERIAL_PORT + 8) {
		if (write)
			serial_write(&v->serial, v->machine.vm,
				     port - SERIAL_PORT, *value);
		else
			*value = serial_read(&v->serial, v->machine.vm,
					     port - SERIAL_PORT);
	} else if (port >= 0xcf8 && port < 0xd00) {
		pci_port(v, port, size, write, value);
	} else if (!write) {
		*value = ~0U; /* nobody is there */
	}
}

static bool is_reset(const struct kvm_run *run, uint32_t value)
{
	return run->io.port == 0x64 && run->io.direction == KVM_EXIT_IO_OUT &&
	       (value & 0xff) == 0xfe;
}

/* Returns false if that was the guest's last word */
static bool serve_port(struct vmm *v, struct kvm_run *run)
{
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	bool write = run->io.direction == KVM_EXIT_IO_OUT;
	uint32_t n, value;

	for (n = 0; n < run->io.count; n++, data += run->io.size) {
		value = 0;
		memcpy(&value, data, run->io.size);
		if (is_reset(run, value))
			return false;
		port(v, run->io.port, run->io.size, write, &value);
		if (!write)
			memcpy(data, &value, run->io.size);
	}
	return true;
}

static void serve_mmio(struct vmm *v, struct kvm_run *run)
{
	unsigned int n;

	for (n = 0; n < v->nr_devices; n++)
		if (device_mmio(&v->devices[n], run->mmio.phys_addr,
				run->mmio.data, run->mmio.len,
				run->mmio.is_write))
			return;
	if (!run->mmio.is_write)
		memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
}

static bool serve(struct vmm *v, struct kvm_run *run)
{
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		return serve_port(v, run);
	case KVM_EXIT_MMIO:
		serve_mmio(v, run);
		return true;
	case KVM_EXIT_SHUTDOWN:
		say("the guest shuts down");
		return false;
	default:
		say("the guest does what is not served, KVM's exit %u",
		    run->exit_reason);
		return false;
	}
}

/* Waits while the guest is to stand still; false: it is to end */
static bool may_run(struct machine *m, struct cpu *c)
{
	bool end;

	pthread_mutex_lock(&m->lock);
	while (m->pause && !m->end) {
		c->paused = true;
		pthread_cond_broadcast(&m->changed);
		pthread_cond_wait(&m->changed, &m->lock);
	}
	c->paused = m->end;
	c->run->immediate_exit = 0;
	end = m->end;
	pthread_mutex_unlock(&m->lock);
	return !end;
}

/*
 * Who pauses the guest sets immediate_exit, which has KVM_RUN complete the access that
 * was served last, and then return. So nothing is half done when the thread waits.
 */
static void *run(void *arg)
{
	struct cpu *c = arg;
	struct machine *m = &c->vmm->machine;
	uint64_t one = 1;
	bool on = true;

	while (on && may_run(m, c)) {
		while (on && !ioctl(c->fd, KVM_RUN, 0)) {
			pthread_mutex_lock(&m->serving);
			on = serve(c->vmm, c->run);
			pthread_mutex_unlock(&m->serving);
		}
		if (on && errno != EINTR && errno != EAGAIN) {
			fail(-errno, "KVM_RUN");
			on = false;
		}
	}
	serial_flush(&c->vmm->serial);
	pthread_mutex_lock(&m->lock);
	m->end = true;
	c->paused = true;
	pthread_cond_broadcast(&m->changed);
	pthread_mutex_unlock(&m->lock);
	if (write(m->ended, &one, sizeof(one)) != sizeof(one))
		abort();
	return NULL;
}

static void kicked(int signal)
{
	(void)signal;
}

/* The threads begin paused */
int machine_start(struct vmm *v)
{
	struct machine *m = &v->machine;
	struct sigaction action = { .sa_handler = kicked };
	struct cpu *c;

	sigaction(KICK, &action, NULL);
	pthread_mutex_init(&m->serving, NULL);
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->changed, NULL);
	m->pause = true;
	m->ended = eventfd(0, EFD_CLOEXEC);
	if (m->ended < 0)
		return fail(-errno, "eventfd");
	for (c = m->cpus; c < m->cpus + m->nr_cpus; c++) {
		c->vmm = v;
		if (pthread_create(&c->thread, NULL, run, c))
			return fail(-EAGAIN, "no thread for the virtual CPU");
	}
	return 0;
}

void machine_pause(struct machine *m)
{
	struct cpu *c;

	pthread_mutex_lock(&m->lock);
	m->pause = true;
	for (c = m->cpus; c < m->cpus + m->nr_cpus; c++) {
		c->run->immediate_exit = 1;
		if (!c->paused)
			pthread_kill(c->thread, KICK);
	}
	for (c = m->cpus; c < m->cpus + m->nr_cpus; c++)
		while (!c->paused)
			pthread_cond_wait(&m->changed, &m->lock);
	pthread_mutex_unlock(&m->lock);
}

void machine_resume(struct machine *m)
{
	pthread_mutex_lock(&m->lock);
	m->pause = false;
	pthread_cond_broadcast(&m->changed);
	pthread_mutex_unlock(&m->lock);
}
