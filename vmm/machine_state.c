// SPDX-License-Identifier: GPL-2.0
/*
 * What KVM knows of a guest. It survives nothing: the VM ends with its last descriptor,
 * and the kexec turns virtualization off. So all of it is asked for while the guest
 * stands still, and told to a new VM.
 *
 * Restoring has an order of its own. CPUID comes first (machine_add_cpus()): KVM accepts
 * registers that the CPU has. The control registers decide what the rest means, the
 * local APIC's mode is in an MSR, and its timer is started by one more, whose deadline
 * is a time of the TSC. Events that are pending are for a CPU that is complete.
 *
 * Time goes on for the guest. The TSC is the host's, which runs through the kexec, plus
 * an offset: restoring the offset, and not the value, tells the truth. kvm-clock is
 * nanoseconds that the host counts; what has passed is taken from the TSC, since the
 * clocks of the next kernel have begun anew. No clock goes back.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <x86intrin.h>

#include "vmm.h"

#define MSR_TSC 0x10
#define MSR_TSC_DEADLINE 0x6e0
#define MAX_MSRS 512

struct vcpu_state {
	struct kvm_mp_state mp;
	struct kvm_regs regs;
	struct kvm_sregs2 sregs;
	struct kvm_xcrs xcrs;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct kvm_debugregs debug;
	uint64_t tsc_offset;
};

struct vm_state {
	struct kvm_irqchip chip[3];
	struct kvm_pit_state2 pit;
	struct kvm_clock_data clock;
	uint64_t host_tsc; /* when that clock was read */
	uint64_t tsc_khz;
};

struct one_msr {
	struct kvm_msrs head;
	struct kvm_msr_entry entry;
};

struct msr_list {
	struct kvm_msr_list head;
	uint32_t index[MAX_MSRS];
};

struct command {
	unsigned long request;
	void *arg;
	const char *name;
};

#define COMMAND(request, arg)          \
	{                              \
		request, arg, #request \
	}

static int all(int fd, const struct command *c, size_t count)
{
	for (; count--; c++)
		if (ioctl(fd, c->request, c->arg) < 0)
			return fail(-errno, "%s", c->name);
	return 0;
}

/* Without AVX-512 and the like it is a page, and KVM says so with 0 */
static size_t xsave_size(const struct machine *m)
{
	int size = ioctl(m->vm, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);

	return size > (int)sizeof(struct kvm_xsave) ? (size_t)size :
						      sizeof(struct kvm_xsave);
}

static int tsc_offset(const struct cpu *c, unsigned long request,
		      uint64_t *offset)
{
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)offset,
	};

	return ioctl(c->fd, request, &attr) ? fail(-errno, "TSC offset") : 0;
}

/* --- saving --------------------------------------------------------------------- */

static int save_msrs(const struct machine *m, const struct cpu *c,
		     struct state *s)
{
	struct msr_list list = { .head.nmsrs = MAX_MSRS };
	struct kvm_msr_entry found[MAX_MSRS];
	unsigned int n, count = 0;

	if (ioctl(m->kvm, KVM_GET_MSR_INDEX_LIST, &list))
		return fail(-errno, "KVM_GET_MSR_INDEX_LIST");
	/* One by one, as the list has some that this guest's CPU has not */
	for (n = 0; n < list.head.nmsrs; n++) {
		struct one_msr one = {
			.head.nmsrs = 1,
			.entry.index = list.index[n],
		};

		if (ioctl(c->fd, KVM_GET_MSRS, &one) == 1)
			found[count++] = one.entry;
	}
	return state_put(s, STATE_OF(c->id, STATE_MSRS), found,
			 count * sizeof(found[0]));
}

static int save_xsave(const struct machine *m, const struct cpu *c,
		      struct state *s)
{
	size_t size = xsave_size(m);
	void *xsave = calloc(1, size);
	int err;

	if (!xsave)
		return fail(-ENOMEM, "no memory for the FPU's state");
	err = ioctl(c->fd,
		    size > sizeof(struct kvm_xsave) ? KVM_GET_XSAVE2 :
						      KVM_GET_XSAVE,
		    xsave) ?
		      fail(-errno, "KVM_GET_XSAVE") :
		      state_put(s, STATE_OF(c->id, STATE_XSAVE), xsave, size);
	free(xsave);
	return err;
}

static int save_vm(const struct machine *m, struct state *s)
{
	struct vm_state vm = {
		.chip = { { .chip_id = KVM_IRQCHIP_PIC_MASTER },
			  { .chip_id = KVM_IRQCHIP_PIC_SLAVE },
			  { .chip_id = KVM_IRQCHIP_IOAPIC } },
	};
	const struct command get[] = {
		COMMAND(KVM_GET_IRQCHIP, &vm.chip[0]),
		COMMAND(KVM_GET_IRQCHIP, &vm.chip[1]),
		COMMAND(KVM_GET_IRQCHIP, &vm.chip[2]),
		COMMAND(KVM_GET_PIT2, &vm.pit),
		COMMAND(KVM_GET_CLOCK, &vm.clock),
	};
	int khz = ioctl(m->cpus[0].fd, KVM_GET_TSC_KHZ), err;

	if (khz <= 0)
		return fail(-EOPNOTSUPP, "the host's TSC has no frequency");
	vm.tsc_khz = khz;
	err = all(m->vm, get, ARRAY_SIZE(get));
	/* If KVM reads the clock from the TSC, it tells which TSC that was */
	vm.host_tsc = vm.clock.flags & KVM_CLOCK_HOST_TSC ? vm.clock.host_tsc :
							    __rdtsc();
	return err ? err : state_put(s, STATE_VM, &vm, sizeof(vm));
}

static int save_cpu(const struct machine *m, const struct cpu *c,
		    struct state *s)
{
	struct vcpu_state cpu;
	const struct command get[] = {
		COMMAND(KVM_GET_MP_STATE, &cpu.mp),
		COMMAND(KVM_GET_REGS, &cpu.regs),
		COMMAND(KVM_GET_SREGS2, &cpu.sregs),
		COMMAND(KVM_GET_XCRS, &cpu.xcrs),
		COMMAND(KVM_GET_LAPIC, &cpu.lapic),
		COMMAND(KVM_GET_VCPU_EVENTS, &cpu.events),
		COMMAND(KVM_GET_DEBUGREGS, &cpu.debug),
	};
	int err;

	memset(&cpu, 0, sizeof(cpu));
	err = all(c->fd, get, ARRAY_SIZE(get));
	if (!err)
		err = tsc_offset(c, KVM_GET_DEVICE_ATTR, &cpu.tsc_offset);
	if (!err)
		err = state_put(s, STATE_OF(c->id, STATE_VCPU), &cpu,
				sizeof(cpu));
	if (!err)
		err = state_put(s, STATE_OF(c->id, STATE_CPUID), c->cpuid,
				sizeof(*c->cpuid) +
					c->cpuid->nent *
						sizeof(c->cpuid->entries[0]));
	if (!err)
		err = save_xsave(m, c, s);
	return err ? err : save_msrs(m, c, s);
}

int machine_save(struct machine *m, struct state *s)
{
	unsigned int n;
	int err;

	err = state_put(s, STATE_CPUS, &m->nr_cpus, sizeof(m->nr_cpus));
	for (n = 0; n < m->nr_cpus && !err; n++)
		err = save_cpu(m, &m->cpus[n], s);
	return err ? err : save_vm(m, s);
}

/* --- restoring --------------------------------------------------------------------- */

static int set_msr(const struct cpu *c, const struct kvm_msr_entry *e)
{
	struct one_msr one = { .head.nmsrs = 1, .entry = *e };

	if (ioctl(c->fd, KVM_SET_MSRS, &one) != 1)
		return fail(-EPROTO, "this KVM does not take MSR 0x%x",
			    e->index);
	return 0;
}

/* All but the TSC, which is an offset, and the deadline; or the deadline alone */
static int restore_msrs(const struct cpu *c, const struct state *s,
			bool deadline)
{
	const struct kvm_msr_entry *e, *end;
	size_t size;
	int err = 0;

	e = state_find(s, STATE_OF(c->id, STATE_MSRS), &size);
	if (!e)
		return fail(-EPROTO, "the state has no MSRs");
	for (end = e + size / sizeof(*e); e < end && !err; e++)
		if (e->index != MSR_TSC &&
		    (e->index == MSR_TSC_DEADLINE) == deadline)
			err = set_msr(c, e);
	return err;
}

static int restore_xsave(const struct machine *m, const struct cpu *c,
			 const struct state *s)
{
	const void *saved;
	size_t size, room = xsave_size(m);
	void *xsave;
	int err = 0;

	saved = state_find(s, STATE_OF(c->id, STATE_XSAVE), &size);
	if (!saved || size > room)
		return fail(-EPROTO,
			    "this KVM has no room for the FPU's state");
	xsave = calloc(1, room);
	if (!xsave)
		return fail(-ENOMEM, "no memory for the FPU's state");
	memcpy(xsave, saved, size);
	if (ioctl(c->fd, KVM_SET_XSAVE, xsave))
		err = fail(-errno, "KVM_SET_XSAVE");
	free(xsave);
	return err;
}

static int restore_cpu(const struct machine *m, const struct cpu *c,
		       const struct state *s, uint64_t stood_still)
{
	struct vcpu_state cpu;
	const struct command first[] = {
		COMMAND(KVM_SET_REGS, &cpu.regs),
		COMMAND(KVM_SET_SREGS2, &cpu.sregs),
		COMMAND(KVM_SET_XCRS, &cpu.xcrs),
	};
	const struct command lapic[] = {
		COMMAND(KVM_SET_LAPIC, &cpu.lapic),
	};
	const struct command last[] = {
		COMMAND(KVM_SET_VCPU_EVENTS, &cpu.events),
		COMMAND(KVM_SET_DEBUGREGS, &cpu.debug),
		COMMAND(KVM_SET_MP_STATE, &cpu.mp),
	};
	int err;

	err = state_get(s, STATE_OF(c->id, STATE_VCPU), &cpu, sizeof(cpu));
	if (err)
		return err;
	/* A CPU without XSAVE has no such registers, and KVM takes none */
	err = all(c->fd, first, ARRAY_SIZE(first) - (cpu.xcrs.nr_xcrs ? 0 : 1));
	if (!err)
		err = restore_xsave(m, c, s);
	cpu.tsc_offset -= stood_still;
	if (!err)
		err = tsc_offset(c, KVM_SET_DEVICE_ATTR, &cpu.tsc_offset);
	if (!err)
		err = restore_msrs(c, s, false);
	if (!err)
		err = all(c->fd, lapic, ARRAY_SIZE(lapic));
	if (!err)
		err = restore_msrs(c, s, true);
	return err ? err : all(c->fd, last, ARRAY_SIZE(last));
}

/*
 * Tells a guest that looks at kvm-clock that it stood still, for its watchdogs not to
 * bark. A CPU that does not look has none to tell.
 */
static int tell_of_pause(const struct machine *m)
{
	unsigned int n;

	for (n = 0; n < m->nr_cpus; n++)
		if (ioctl(m->cpus[n].fd, KVM_KVMCLOCK_CTRL, 0) &&
		    errno != EINVAL)
			return fail(-errno, "KVM_KVMCLOCK_CTRL");
	return 0;
}

/* Ticks of the TSC since the state was saved */
static int passed_since(const struct vm_state *vm, uint64_t *passed)
{
	uint64_t now = __rdtsc();

	if (now < vm->host_tsc)
		return fail(
			-ERANGE,
			"the host's TSC has begun anew: nobody can tell the guest the time");
	*passed = now - vm->host_tsc;
	return 0;
}

int machine_restore(struct machine *m, const struct state *s, bool stand_still)
{
	struct vm_state vm;
	struct kvm_clock_data clock = { 0 };
	const struct command set[] = {
		COMMAND(KVM_SET_IRQCHIP, &vm.chip[0]),
		COMMAND(KVM_SET_IRQCHIP, &vm.chip[1]),
		COMMAND(KVM_SET_IRQCHIP, &vm.chip[2]),
		COMMAND(KVM_SET_PIT2, &vm.pit),
		COMMAND(KVM_SET_CLOCK, &clock),
	};
	uint64_t passed = 0;
	unsigned int n;
	int err;

	err = state_get(s, STATE_VM, &vm, sizeof(vm));
	if (!err)
		err = passed_since(&vm, &passed);
	for (n = 0; n < m->nr_cpus && !err; n++)
		err = restore_cpu(m, &m->cpus[n], s, stand_still ? passed : 0);
	/* Which took its time, too */
	if (!err)
		err = passed_since(&vm, &passed);
	if (err)
		return err;
	if (stand_still)
		passed = 0;
	clock.clock = vm.clock.clock +
		      (unsigned __int128)passed * 1000000 / vm.tsc_khz;
	err = all(m->vm, set, ARRAY_SIZE(set));
	if (!err)
		err = tell_of_pause(m);
	if (!err)
		say("the guest stood still for %.0f ms of its time",
		    passed / (double)vm.tsc_khz);
	return err;
}
