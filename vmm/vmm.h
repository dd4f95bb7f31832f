/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A small VMM whose guest lives through the replacement of its host's kernel. It is
 * there to be read by people who write real ones: what such a VMM has to do beside
 * what any VMM does is in state.c, machine_state.c, session.c and restore.c, in that
 * order, and nothing but public interfaces is used.
 *
 * The guest is an unmodified Linux with one or two virtual CPUs, a serial console and
 * PCI devices of the host, passed through by vfio-pci. Each file has one subject:
 *
 *	memory.c	guest memory: a memfd, and where the guest sees its parts
 *	boot.c, mptable.c	Linux's 64-bit boot protocol
 *	machine.c	KVM: the VM, its virtual CPUs and the threads that run them
 *	machine_state.c	... what KVM knows of them, saved and restored
 *	serial.c, pci.c	the console and PCI configuration mechanism #1
 *	vfio.c, msix.c	a passed-through device and its interrupts
 *	iommu.c		iommufd: where the devices find the guest's memory
 *	state.c		what is handed over, in a memfd
 *	session.c	the Live Update session, and pcilud's questions
 *	restore.c	the way back, in the next kernel or in the next process
 *	control.c	what the command line asks of a running VMM
 *
 * Functions that return int return 0 or a negative errno value, and have said what
 * was wrong where it was found.
 */
#ifndef VMM_H
#define VMM_H

#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <pcilu.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)
#define PAGE KIB(4)

/* Up to a multiple of a power of two */
static inline uint64_t round_up(uint64_t n, uint64_t to)
{
	return (n + to - 1) & ~(to - 1);
}

/* Says what failed, on standard error, and returns @err for the caller to return */
__attribute__((format(printf, 2, 3))) int fail(int err, const char *fmt, ...);
/* What that was, the last time in this thread */
const char *fail_text(void);
__attribute__((format(printf, 1, 2))) void say(const char *fmt, ...);

/* Milliseconds, to tell how long something took */
double now_ms(void);

/* --- state.c: what is handed over ------------------------------------------- */

/* What a part of the state is about. Numbers are never used again for others. */
enum state_tag {
	STATE_MEMORY = 1,
	STATE_SEGMENTS = 2,
	STATE_CPUID = 3,
	STATE_VCPU = 4,
	STATE_XSAVE = 5,
	STATE_MSRS = 6,
	STATE_VM = 7,
	STATE_SERIAL = 8,
	STATE_PCI = 9,
	STATE_CPUS = 10,
	STATE_DEVICE = 16, /* and following, one for each */
};

/* The parts of each virtual CPU, of which the first has the numbers above */
#define STATE_OF(cpu, tag) ((tag) + 256 * (cpu))

struct state {
	uint8_t *data;
	size_t size;
	size_t room;
};

int state_put(struct state *s, uint32_t tag, const void *data, size_t size);
int state_get(const struct state *s, uint32_t tag, void *data, size_t size);
const void *state_find(const struct state *s, uint32_t tag, size_t *size);
int state_write(const struct state *s);
int state_read(struct state *s, int fd);
void state_free(struct state *s);

/* --- memory.c: the guest's memory ------------------------------------------- */

/* Boot parameters and BIOS tables: below it Linux never allocates */
#define LOW_MEMORY MIB(1)
/* Where the guest's devices are, and no memory */
#define HOLE_START GIB(3)
#define HOLE_END GIB(4)
#define MAX_RUNS 96

/* Part of the memfd that is in one piece for the guest, too */
struct segment {
	uint64_t gpa, offset, size;
};

/* Memory that the guest sees in one piece */
struct run {
	uint64_t gpa, size;
	uint8_t *va;
};

struct memory {
	int fd; /* memfd */
	uint64_t size;
	bool identity; /* guest-physical = host-physical */
	struct segment *segments; /* by guest-physical address */
	size_t nr_segments;
	struct run runs[MAX_RUNS];
	size_t nr_runs;
};

struct iommu;
struct machine;
int memory_create(struct memory *m, uint64_t size);
int memory_flat(struct memory *m);
int memory_identity(struct memory *m, const struct iommu *iommu);
int memory_map(struct memory *m, struct machine *machine);
void *memory_at(const struct memory *m, uint64_t gpa, uint64_t size);
int memory_save(const struct memory *m, struct state *s);
int memory_restore(struct memory *m, const struct state *s);
int memory_check(const struct memory *m, const struct iommu *iommu);

/* --- machine.c, machine_state.c: KVM ---------------------------------------- */

#define MAX_CPUS 2

struct vmm;

struct cpu {
	struct vmm *vmm;
	unsigned int id; /* of its local APIC, too */
	int fd;
	struct kvm_run *run;
	struct kvm_cpuid2 *cpuid;
	pthread_t thread;
	bool paused; /* under the lock */
};

struct machine {
	int kvm, vm;
	int vfio; /* KVM's VFIO device */
	struct cpu cpus[MAX_CPUS];
	unsigned int nr_cpus;

	pthread_mutex_t serving; /* one CPU at a time is at a device */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool pause, end; /* under the lock */
	int ended; /* an eventfd: the guest is at its end */
};

int machine_create(struct machine *m);
int machine_add_cpus(struct machine *m, const struct state *s);
int machine_add_memory(struct machine *m, uint32_t slot, uint64_t gpa,
		       uint64_t size, void *va);
int machine_add_device(struct machine *m, int device);
int machine_start(struct vmm *v);
void machine_pause(struct machine *m);
void machine_resume(struct machine *m);

int machine_save(struct machine *m, struct state *s);
int machine_restore(struct machine *m, const struct state *s, bool stand_still);

/* --- boot.c ------------------------------------------------------------------ */

int boot_linux(struct vmm *v, const char *kernel, const char *initrd,
	       const char *append);

/* --- mptable.c ------------------------------------------------------------------- */

void mptable_write(void *low_memory, unsigned int nr_cpus);

/* --- serial.c: an 8250 that only sends --------------------------------------- */

#define SERIAL_PORT 0x3f8
#define SERIAL_IRQ 4

struct serial {
	int out; /* a descriptor */
	char line[256];
	size_t length;
	/* handed over from here on */
	struct serial_registers {
		uint8_t ier, lcr, mcr, scr, dll, dlm, thr_empty;
	} r;
};

int serial_open(struct serial *s, const char *path);
uint8_t serial_read(struct serial *s, int vm, unsigned int reg);
void serial_write(struct serial *s, int vm, unsigned int reg, uint8_t value);
void serial_update_irq(const struct serial *s, int vm);
void serial_flush(struct serial *s);

/* --- iommu.c ------------------------------------------------------------------ */

struct iommu {
	int fd; /* -1: no device, no IOMMU */
	uint32_t ioas;
	bool adopted; /* from another process, with what that has done */
};

int iommu_open(struct iommu *i);
int iommu_adopt(struct iommu *i, int fd);
int iommu_bind(const struct iommu *i, int device);
int iommu_map(const struct iommu *i, const struct memory *m);
int iommu_attach(const struct iommu *i, int device);
int iommu_physical(const struct iommu *i, uint64_t iova, uint64_t *pa,
		   uint64_t *size);

/* --- vfio.c, msix.c: devices of the host ---------------------------------------- */

#define MAX_DEVICES 8
#define MAX_BARS 6
#define MAX_VECTORS 64
#define FIRST_GSI 24 /* the first that is no pin of the IOAPIC */
#define BDF_SIZE 13

struct region {
	uint64_t offset, size;
	uint32_t flags;
	uint8_t *map;
};

/* A vector of MSI-X */
struct vector {
	int event; /* VFIO signals it, and KVM takes it while it is unmasked */
	bool attached;
};

struct device {
	struct vmm *vmm;
	int fd;
	unsigned int slot; /* on the guest's bus 0 */
	struct region regions[9]; /* VFIO's, BARs first */
	bool decoding;

	unsigned int msix_cap, msix_bar, nr_vectors;
	uint32_t msix_offset;
	struct vector vectors[MAX_VECTORS];
	unsigned int first_gsi;

	/* What is handed over: all that the guest has set and VFIO does not know */
	struct device_state {
		char bdf[BDF_SIZE];
		uint8_t no_iommu;
		uint16_t command; /* as it was when the guest was saved */
		uint16_t msix_control;
		uint32_t bar[MAX_BARS];
		uint64_t bar_gpa[MAX_BARS];
		uint32_t table[MAX_VECTORS][4]; /* MSI-X entries */
	} s;
};

int device_open(struct device *d, const char *bdf);
int device_check(const struct device *d);
int device_setup(struct device *d);
int device_place(struct device *d, uint64_t *next);
int device_decode(struct device *d, bool on);
uint32_t device_config_read(struct device *d, unsigned int where,
			    unsigned int size);
void device_config_write(struct device *d, unsigned int where,
			 unsigned int size, uint32_t value);
bool device_mmio(struct device *d, uint64_t gpa, void *data, unsigned int size,
		 bool write);
int device_read(const struct device *d, unsigned int region, uint64_t where,
		void *data, unsigned int size);
int device_write(const struct device *d, unsigned int region, uint64_t where,
		 const void *data, unsigned int size);
int device_restore(struct device *d);

int device_save(struct device *d);

int msix_setup(struct device *d);
void msix_reset(struct device *d);
bool msix_table(struct device *d, unsigned int bar, uint64_t where, void *data,
		unsigned int size, bool write);
void msix_control(struct device *d, uint16_t control);
int msix_arm(struct device *d);
int msix_attach(struct device *d);
int msix_detach(struct device *d);
void msix_signal_all(struct device *d);

/* --- pci.c --------------------------------------------------------------------- */

struct pci {
	uint32_t address; /* port 0xcf8 */
};

void pci_port(struct vmm *v, unsigned int port, unsigned int size, bool write,
	      uint32_t *value);

/* --- session.c, restore.c, control.c ---------------------------------------------- */

enum vmm_phase {
	RUNNING,
	PREPARED, /* there is a session, with the memory */
	SAVED, /* all is preserved, the guest stands still */
	RESTORED, /* all is back, the guest stands still, nothing is finished */
};

struct vmm {
	const char *name;
	const char *serial_path;
	struct machine machine;
	struct memory memory;
	struct iommu iommu;
	struct serial serial;
	struct pci pci;
	struct device devices[MAX_DEVICES];
	unsigned int nr_devices;

	enum vmm_phase phase;
	bool asked; /* prepared or saved since pcilud has asked for it */
	bool complete; /* all that is preserved in this phase is in the session */
	bool calling_off; /* it is to be given up, and pcilud is not there */
	struct pcilu *lu;
	struct pcilu_session *session;
	struct pcilu_events *events;
	const char *leave_out; /* for tests */
};

/* Opens memory, devices and VM of a guest that is new, or of one that comes back */
int vmm_open(struct vmm *v, const struct state *s);
int vmm_save(struct vmm *v, struct state *s);
void vmm_resume(struct vmm *v);
bool leaves_out(const struct vmm *v, const char *what);

int session_open(struct vmm *v);
int session_prepare(struct vmm *v);
int session_save(struct vmm *v);
int session_abort(struct vmm *v);
int session_by_hand(struct vmm *v);
void session_end(struct vmm *v);
void session_events_start(struct vmm *v);
int session_events(struct vmm *v);
int session_retrieve(struct vmm *v, struct state *s);
int session_iommu(struct vmm *v);
int session_finish(struct vmm *v);

int restore_session(struct vmm *v);
int go_on(struct vmm *v);
int replace_process(struct vmm *v, int answer);
int restore_inherited(struct vmm *v, const char *fds, int *answer);

void control_answer(const struct vmm *v, int fd, int err);
void control_signals(sigset_t *signals);
int control_run(struct vmm *v);
int control_client(const char *name, const char *command);

#endif /* VMM_H */
