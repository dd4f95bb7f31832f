// SPDX-License-Identifier: GPL-2.0
/*
 * KVM: a VM with the interrupt controllers and the timer of a PC in the kernel, one
 * virtual CPU, and the thread that runs it. What the guest does to devices is served
 * by that thread; the main thread touches the same things only while it is paused.
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
 * The guest is told that it is one, for it to look for kvm-clock. A guest that has guests
 * of its own would have more state than is saved here.
 */
static void adapt_cpuid(struct kvm_cpuid2 *c)
{
	struct kvm_cpuid_entry2 *e;

	for (e = c->entries; e < c->entries + c->nent; e++) {
		if (e->function == 1) {
			e->ecx |= 1U << 31; /* a hypervisor */
			e->ecx &= ~(1U << 5); /* VMX */
		}
		if (e->function == 0x80000001)
			e->ecx &= ~(1U << 2); /* SVM */
	}
}

/* What this host's KVM can give to a guest */
static struct kvm_cpuid2 *supported_cpuid(const struct machine *m)
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
	adapt_cpuid(c);
	return c;
}

/*
 * A guest that comes back brings its CPUID along: the next kernel's KVM may know more,
 * which the guest has not seen when it booted.
 */
int machine_add_cpu(struct machine *m, const struct kvm_cpuid2 *cpuid)
{
	size_t size;
	int n;

	m->vcpu = ioctl(m->vm, KVM_CREATE_VCPU, 0);
	if (m->vcpu < 0)
		return fail(-errno, "KVM_CREATE_VCPU");
	n = ioctl(m->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (n <= 0)
		return fail(-errno, "KVM_GET_VCPU_MMAP_SIZE");
	m->run = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, m->vcpu, 0);
	if (m->run == MAP_FAILED)
		return fail(-errno, "virtual CPU");

	if (cpuid) {
		size = sizeof(*cpuid) + cpuid->nent * sizeof(cpuid->entries[0]);
		m->cpuid = malloc(size);
		if (m->cpuid)
			memcpy(m->cpuid, cpuid, size);
	} else {
		m->cpuid = supported_cpuid(m);
	}
	if (!m->cpuid)
		return fail(-ENOMEM, "CPUID");
	if (ioctl(m->vcpu, KVM_SET_CPUID2, m->cpuid))
		return fail(-errno,
			    "this KVM cannot be the CPU that the guest knows");
	return 0;
}

/* --- the virtual CPU's thread -------------------------------------------------- */

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
static bool serve_port(struct vmm *v)
{
	struct kvm_run *run = v->machine.run;
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

static void serve_mmio(struct vmm *v)
{
	struct kvm_run *run = v->machine.run;
	unsigned int n;

	for (n = 0; n < v->nr_devices; n++)
		if (device_mmio(&v->devices[n], run->mmio.phys_addr,
				run->mmio.data, run->mmio.len,
				run->mmio.is_write))
			return;
	if (!run->mmio.is_write)
		memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
}

static bool serve(struct vmm *v)
{
	struct kvm_run *run = v->machine.run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		return serve_port(v);
	case KVM_EXIT_MMIO:
		serve_mmio(v);
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
static bool may_run(struct machine *m)
{
	bool end;

	pthread_mutex_lock(&m->lock);
	while (m->pause && !m->end) {
		m->paused = true;
		pthread_cond_broadcast(&m->changed);
		pthread_cond_wait(&m->changed, &m->lock);
	}
	m->paused = false;
	m->run->immediate_exit = 0;
	end = m->end;
	pthread_mutex_unlock(&m->lock);
	return !end;
}

/*
 * Who pauses the guest sets immediate_exit, which has KVM_RUN complete the access that
 * was served last, and then return. So nothing is half done when the thread waits.
 */
static void *run(void *vmm)
{
	struct vmm *v = vmm;
	struct machine *m = &v->machine;
	uint64_t one = 1;

	while (may_run(m)) {
		while (!ioctl(m->vcpu, KVM_RUN, 0))
			if (!serve(v))
				goto out;
		if (errno != EINTR && errno != EAGAIN) {
			fail(-errno, "KVM_RUN");
			break;
		}
	}
out:
	serial_flush(&v->serial);
	pthread_mutex_lock(&m->lock);
	m->end = true;
	m->paused = true;
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

/* The thread begins paused */
int machine_start(struct vmm *v)
{
	struct machine *m = &v->machine;
	struct sigaction action = { .sa_handler = kicked };

	sigaction(KICK, &action, NULL);
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->changed, NULL);
	m->pause = true;
	m->ended = eventfd(0, EFD_CLOEXEC);
	if (m->ended < 0)
		return fail(-errno, "eventfd");
	if (pthread_create(&m->thread, NULL, run, v))
		return fail(-EAGAIN, "no thread for the virtual CPU");
	return 0;
}

void machine_pause(struct machine *m)
{
	pthread_mutex_lock(&m->lock);
	m->pause = true;
	m->run->immediate_exit = 1;
	if (!m->paused)
		pthread_kill(m->thread, KICK);
	while (!m->paused)
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
