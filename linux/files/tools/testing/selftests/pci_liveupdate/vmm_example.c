// SPDX-License-Identifier: GPL-2.0
/*
 * How a process that drives a PCI device through VFIO hands it to its successor
 * in the next kernel. It is to be read from top to bottom, beside
 * Documentation/userspace-api/vfio-pci-liveupdate.rst.
 *
 *   vmm_example save vfio0 vm1              before the kexec; stays until then
 *   vmm_example restore 0000:00:03.0 vm1    after it
 *
 * vfio0 is the name of the device in /dev/vfio/devices (noiommu-vfio0 if there is no
 * IOMMU), and vm1 is the name of the session. The device is bound to vfio-pci, and
 * has MSI or MSI-X. What the device does is not this program's business: a VMM would
 * leave that to its guest.
 */

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/iommufd.h>
#include <linux/liveupdate.h>
#include <linux/vfio.h>

#define MEMORY_SIZE	(2UL << 20)

/* Any numbers will do, if they are the same in both kernels */
enum { TOKEN_MEMORY = 1, TOKEN_DEVICE = 2 };

struct vm {
	int memory;	/* memfd: what the device reads and writes */
	char *ram;	/* ... mapped here */
	int device;	/* VFIO device file */
	int iommufd;
	int interrupt;	/* eventfd of vector 0 */
	int session;	/* LUO session */
};

static void do_ioctl(int fd, unsigned long request, void *arg, const char *what)
{
	if (ioctl(fd, request, arg))
		err(1, "%s", what);
}

/* --- what both kernels have in common: making the device usable ----------------- */

static void bind_and_map(struct vm *vm)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
	struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach) };
	struct iommu_ioas_alloc ioas = { .size = sizeof(ioas) };
	struct iommu_ioas_map_file map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
			 IOMMU_IOAS_MAP_WRITEABLE,
		.fd = vm->memory,
		.length = MEMORY_SIZE,
		.iova = 0x100000,	/* where it was is where it must be again */
	};

	vm->iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	if (vm->iommufd < 0)
		err(1, "/dev/iommu");

	bind.iommufd = vm->iommufd;
	do_ioctl(vm->device, VFIO_DEVICE_BIND_IOMMUFD, &bind, "bind to the iommufd");

	do_ioctl(vm->iommufd, IOMMU_IOAS_ALLOC, &ioas, "allocate an IOAS");
	/* This pins the memory: without it, finish would stop the device */
	map.ioas_id = ioas.out_ioas_id;
	do_ioctl(vm->iommufd, IOMMU_IOAS_MAP_FILE, &map, "map the memory");

	/* Not before it is mapped: a device that goes on would have nothing to go on with */
	attach.pt_id = ioas.out_ioas_id;
	do_ioctl(vm->device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach, "attach to the IOAS");

	vm->ram = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, vm->memory, 0);
	if (vm->ram == MAP_FAILED)
		err(1, "mmap");
}

/* Vector 0 of MSI-X, or of MSI */
static void arm_interrupt(struct vm *vm)
{
	struct vfio_irq_info info = { .argsz = sizeof(info), .index = VFIO_PCI_MSIX_IRQ_INDEX };
	struct {
		struct vfio_irq_set set;
		__s32 fd;
	} arm = {
		.set = {
			.argsz = sizeof(arm),
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			.count = 1,
		},
	};

	do_ioctl(vm->device, VFIO_DEVICE_GET_IRQ_INFO, &info, "ask for MSI-X");
	if (!info.count)
		info.index = VFIO_PCI_MSI_IRQ_INDEX;

	vm->interrupt = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vm->interrupt < 0)
		err(1, "eventfd");

	arm.set.index = info.index;
	arm.fd = vm->interrupt;
	do_ioctl(vm->device, VFIO_DEVICE_SET_IRQS, &arm, "arm vector 0");
}

/* --- the outgoing kernel ----------------------------------------------------------- */

static void preserve(struct vm *vm, int fd, __u64 token, const char *what)
{
	struct liveupdate_session_preserve_fd args = {
		.size = sizeof(args),
		.fd = fd,
		.token = token,
	};

	/* If this fails, the kernel log says why, and what to do */
	do_ioctl(vm->session, LIVEUPDATE_SESSION_PRESERVE_FD, &args, what);
}

static void save(const char *cdev, const char *name)
{
	struct liveupdate_ioctl_create_session create = { .size = sizeof(create) };
	struct vm vm = { 0 };
	char path[64];
	int luo;

	vm.memory = memfd_create("ram", MFD_CLOEXEC);
	if (vm.memory < 0 || ftruncate(vm.memory, MEMORY_SIZE))
		err(1, "memfd");

	snprintf(path, sizeof(path), "/dev/vfio/devices/%s", cdev);
	vm.device = open(path, O_RDWR | O_CLOEXEC);
	if (vm.device < 0)
		err(1, "%s", path);

	bind_and_map(&vm);
	arm_interrupt(&vm);
	snprintf(vm.ram, MEMORY_SIZE, "written before the kexec");

	/* One process at a time has this open: it is closed again at once */
	luo = open("/dev/liveupdate", O_RDWR | O_CLOEXEC);
	if (luo < 0)
		err(1, "/dev/liveupdate");
	snprintf((char *)create.name, sizeof(create.name), "%s", name);
	do_ioctl(luo, LIVEUPDATE_IOCTL_CREATE_SESSION, &create, "create the session");
	vm.session = create.fd;
	close(luo);

	/* The device and the memory it uses go into one session, in any order */
	preserve(&vm, vm.memory, TOKEN_MEMORY, "preserve the memory");
	preserve(&vm, vm.device, TOKEN_DEVICE, "preserve the device");

	/*
	 * Here, a VMM pauses its virtual CPUs and saves their state, into another
	 * memfd of the session. It leaves the vectors of the device armed.
	 */
	printf("{\"rc\": 0, \"saved\": \"%s\"}\n", name);
	fflush(stdout);

	/* The session lives as long as somebody has it open, which is until the kexec */
	for (;;)
		pause();
}

/* --- the incoming kernel ------------------------------------------------------------ */

static int retrieve(struct vm *vm, __u64 token, const char *what)
{
	struct liveupdate_session_retrieve_fd args = { .size = sizeof(args), .token = token };

	/* Not there yet: its driver is being bound, or its bus is being scanned */
	while (ioctl(vm->session, LIVEUPDATE_SESSION_RETRIEVE_FD, &args)) {
		if (errno != EAGAIN)
			err(1, "%s", what);
		usleep(100000);
	}
	return args.fd;
}

static void how_was_dma(const char *bdf, char *word, size_t size)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/liveupdate/dma", bdf);
	file = fopen(path, "re");
	if (!file || !fgets(word, size, file))
		err(1, "%s", path);
	fclose(file);
	word[strcspn(word, "\n")] = '\0';
}

static void restore(const char *bdf, const char *name)
{
	struct liveupdate_ioctl_retrieve_session get = { .size = sizeof(get) };
	struct liveupdate_session_finish finish = { .size = sizeof(finish) };
	struct vm vm = { 0 };
	struct pollfd wait;
	__u64 interrupts = 0;
	char dma[32];
	int luo;

	luo = open("/dev/liveupdate", O_RDWR | O_CLOEXEC);
	if (luo < 0)
		err(1, "/dev/liveupdate");
	snprintf((char *)get.name, sizeof(get.name), "%s", name);
	do_ioctl(luo, LIVEUPDATE_IOCTL_RETRIEVE_SESSION, &get, "retrieve the session");
	vm.session = get.fd;
	close(luo);

	vm.memory = retrieve(&vm, TOKEN_MEMORY, "retrieve the memory");
	vm.device = retrieve(&vm, TOKEN_DEVICE, "retrieve the device");

	/* The device has not noticed anything so far, and does not by this */
	bind_and_map(&vm);

	/*
	 * "untranslated": it went on all the time. "paused", "paused-pending": set Bus
	 * Master in its Command register when the guest is ready, and see what has become
	 * of requests that were outstanding.
	 */
	how_was_dma(bdf, dma, sizeof(dma));

	/* What the device wanted to say meanwhile is said now */
	arm_interrupt(&vm);
	wait = (struct pollfd){ .fd = vm.interrupt, .events = POLLIN };
	if (poll(&wait, 1, 200) == 1 && read(vm.interrupt, &interrupts, sizeof(interrupts)) < 0)
		err(1, "read the eventfd");

	/* From here on the device is like any other */
	do_ioctl(vm.session, LIVEUPDATE_SESSION_FINISH, &finish, "finish the session");
	close(vm.session);

	printf("{\"rc\": 0, \"memory\": \"%s\", \"dma\": \"%s\", \"interrupts\": %llu}\n",
	       vm.ram, dma, (unsigned long long)interrupts);

	/* Here, a VMM lets its guest run. This program ends, and the device is reset. */
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "save"))
		save(argv[2], argv[3]);
	else if (argc == 4 && !strcmp(argv[1], "restore"))
		restore(argv[2], argv[3]);
	else
		errx(1, "usage: vmm_example save CDEV SESSION | restore BDF SESSION");
	return 0;
}
