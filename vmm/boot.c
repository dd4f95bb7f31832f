// SPDX-License-Identifier: GPL-2.0
/*
 * Linux's 64-bit boot protocol: Documentation/arch/x86/boot.rst of the kernel. The kernel
 * and its initrd go into the largest piece of memory, wherever that is; what tells of
 * them goes below the first MiB.
 */
#include <asm/bootparam.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm.h"

#define GDT_AT 0x1000
#define PARAMS_AT 0x2000
#define CMDLINE_AT 0x3000
#define CMDLINE_SIZE 2048
#define STACK_AT 0x8000
#define TABLES_AT 0x9000 /* the page tables, as many as it takes */
#define LOW_END 0x9fc00 /* where a PC's BIOS has its data */

#define HEADER_AT 0x1f1 /* in the file */
#define ENTRY_64 0x200 /* from the start of the kernel proper */
#define LEAST_KERNEL_AT MIB(16)
#define LARGE_PAGE MIB(2)

/*
 * There is no ACPI but an MP table, a keyboard controller of which only the reset line
 * works, and one PCI bus, so that there is no point in looking for AGP on 256 of them.
 */
#define CMDLINE \
	"acpi=off pci=conf1,lastbus=0 iommu=noaperture reboot=k nokaslr i8042.noaux "

struct file {
	const uint8_t *data;
	uint64_t size;
};

struct place {
	uint64_t kernel, initrd;
};

static int map_file(struct file *f, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *data;

	if (fd < 0 || fstat(fd, &st))
		return fail(-errno, "%s", path);
	f->size = st.st_size;
	data = mmap(NULL, f->size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	f->data = data;
	return data == MAP_FAILED ? fail(-errno, "%s", path) : 0;
}

static int read_header(struct setup_header *h, const struct file *kernel)
{
	if (kernel->size < HEADER_AT + sizeof(*h))
		return fail(-ENOEXEC, "this is no kernel");
	memcpy(h, kernel->data + HEADER_AT, sizeof(*h));
	if (h->header != 0x53726448 || h->version < 0x20c ||
	    !(h->xloadflags & XLF_KERNEL_64) || !h->relocatable_kernel)
		return fail(-ENOEXEC,
			    "this is no relocatable 64-bit kernel for x86");
	return 0;
}

/* Kernel and initrd, one at the beginning and one at the end of the largest piece */
static int find_place(struct place *p, const struct memory *m,
		      const struct setup_header *h, uint64_t initrd)
{
	const struct run *r = m->runs, *n;
	uint64_t align = h->kernel_alignment;

	for (n = m->runs; n < m->runs + m->nr_runs; n++)
		if (n->size > r->size)
			r = n;
	p->kernel = r->gpa > LEAST_KERNEL_AT ? r->gpa : LEAST_KERNEL_AT;
	p->kernel =
		round_up(p->kernel, align > LARGE_PAGE ? align : LARGE_PAGE);
	p->initrd = (r->gpa + r->size - initrd) & ~(PAGE - 1);
	if (initrd > r->size || p->initrd < p->kernel + h->init_size)
		return fail(
			-ENOMEM,
			"no %llu MiB in one piece for the guest's kernel, the largest of %zu has %llu",
			(unsigned long long)(h->init_size + initrd) >> 20,
			m->nr_runs, (unsigned long long)r->size >> 20);
	return 0;
}

/* --- what the kernel is told ---------------------------------------------------- */

static void add_e820(struct boot_params *b, uint64_t start, uint64_t size)
{
	b->e820_table[b->e820_entries++] = (struct boot_e820_entry){
		.addr = start, .size = size, .type = 1, /* RAM */
	};
}

static void fill_params(const struct memory *m, const struct setup_header *h,
			const struct place *p, uint64_t initrd)
{
	struct boot_params *b = memory_at(m, PARAMS_AT, sizeof(*b));
	size_t n;

	memset(b, 0, sizeof(*b));
	b->hdr = *h;
	b->hdr.type_of_loader = 0xff;
	b->hdr.cmd_line_ptr = CMDLINE_AT;
	b->hdr.vid_mode = 0xffff;
	if (initrd) {
		b->hdr.ramdisk_image = p->initrd;
		b->ext_ramdisk_image = p->initrd >> 32;
		b->hdr.ramdisk_size = initrd;
		b->ext_ramdisk_size = initrd >> 32;
	}
	add_e820(b, 0, LOW_END);
	for (n = 0; n < m->nr_runs; n++) {
		const struct run *r = &m->runs[n];
		uint64_t skip = r->gpa < LOW_MEMORY ? LOW_MEMORY : 0;

		if (r->size > skip)
			add_e820(b, r->gpa + skip, r->size - skip);
	}
}

/* The page table that an entry of another leads to, made if it is not there yet */
static uint64_t *table(const struct memory *m, uint64_t *entry, uint64_t *next)
{
	if (!*entry) {
		*entry = *next | 3; /* present, writable */
		*next += PAGE;
	}
	return memory_at(m, *entry & ~(PAGE - 1), PAGE);
}

/* What is there is found at its own address */
static void map_identity(const struct memory *m, uint64_t start, uint64_t end,
			 uint64_t *next)
{
	uint64_t *pml4 = memory_at(m, TABLES_AT, PAGE), *pdpt, *pd;
	uint64_t at = start & ~(LARGE_PAGE - 1);

	for (; at < end; at += LARGE_PAGE) {
		pdpt = table(m, &pml4[at >> 39 & 511], next);
		pd = table(m, &pdpt[at >> 30 & 511], next);
		pd[at >> 21 & 511] = at | 0x83; /* a large page */
	}
}

/* --- the CPU --------------------------------------------------------------------- */

static int set_cpu(struct cpu *c, const struct memory *m, uint64_t entry)
{
	struct kvm_segment code = { .limit = ~0U,
				    .selector = 0x10,
				    .type = 11,
				    .present = 1,
				    .s = 1,
				    .l = 1,
				    .g = 1 };
	struct kvm_segment data = { .limit = ~0U,
				    .selector = 0x18,
				    .type = 3,
				    .present = 1,
				    .s = 1,
				    .db = 1,
				    .g = 1 };
	struct kvm_regs regs = {
		.rflags = 2, .rip = entry, .rsi = PARAMS_AT, .rsp = STACK_AT
	};
	uint64_t *gdt = memory_at(m, GDT_AT, 4 * sizeof(*gdt));
	struct kvm_sregs2 s;

	gdt[2] = 0x00af9b000000ffff;
	gdt[3] = 0x00cf93000000ffff;
	if (ioctl(c->fd, KVM_GET_SREGS2, &s))
		return fail(-errno, "KVM_GET_SREGS2");
	s.cs = code;
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.gdt.base = GDT_AT;
	s.gdt.limit = 4 * sizeof(*gdt) - 1;
	s.cr3 = TABLES_AT;
	s.cr4 = 1 << 5; /* PAE */
	s.cr0 = 1U << 31 | 1 << 4 | 1; /* paging, FPU, protection */
	s.efer = 1 << 8 | 1 << 10; /* long mode, enabled and active */
	if (ioctl(c->fd, KVM_SET_SREGS2, &s) ||
	    ioctl(c->fd, KVM_SET_REGS, &regs))
		return fail(-errno, "registers of the virtual CPU");
	return 0;
}

int boot_linux(struct vmm *v, const char *kernel, const char *initrd,
	       const char *append)
{
	const struct memory *m = &v->memory;
	struct file image = { 0 }, disk = { 0 };
	uint64_t next = TABLES_AT + PAGE, skip;
	struct setup_header h = { 0 };
	struct place p = { 0 };
	int err;

	err = map_file(&image, kernel);
	if (!err && initrd)
		err = map_file(&disk, initrd);
	if (!err)
		err = read_header(&h, &image);
	if (!err)
		err = find_place(&p, m, &h, disk.size);
	if (err)
		return err;

	skip = 512UL * (h.setup_sects ? h.setup_sects + 1 : 5);
	if (skip > image.size || image.size - skip > h.init_size)
		return fail(-ENOEXEC, "this kernel is not whole");
	memcpy(memory_at(m, p.kernel, h.init_size), image.data + skip,
	       image.size - skip);
	if (disk.size)
		memcpy(memory_at(m, p.initrd, disk.size), disk.data, disk.size);
	snprintf(memory_at(m, CMDLINE_AT, CMDLINE_SIZE), CMDLINE_SIZE, "%s%s",
		 CMDLINE, append);
	fill_params(m, &h, &p, disk.size);
	mptable_write(memory_at(m, 0, LOW_MEMORY), v->machine.nr_cpus);
	map_identity(m, 0, LOW_MEMORY, &next);
	map_identity(m, p.kernel, p.kernel + h.init_size, &next);
	munmap((void *)image.data, image.size);
	if (disk.size)
		munmap((void *)disk.data, disk.size);
	return set_cpu(&v->machine.cpus[0], m, p.kernel + ENTRY_64);
}
