// SPDX-License-Identifier: GPL-2.0
/*
 * Many devices in one live update, to see what one of them costs.
 *
 *	lu_bulk preserve N	before the kexec: opens and arms N functions that
 *				vfio-pci has bound, preserves and unpreserves them,
 *				and preserves them again; stays in the background
 *	lu_bulk resume N	after it: retrieves, attaches, arms and finishes them
 *	lu_bulk bind COMMAND	runs what binds them
 *	lu_bulk pages N		before it: preserves N pages of memory, none of
 *				which is next to another; stays in the background
 *
 * Each prints one line of JSON with the time of every step in nanoseconds. In a
 * machine whose clock counts instructions (QEMU's -icount shift=0) that is their
 * number. Opening, binding and mapping are not part of any step. Who watches config
 * space from outside is told where a step ends: see mark().
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <linux/iommufd.h>
#include <linux/vfio.h>

#include <libliveupdate.h>

#include "luo_session.h"
#include "pci_sysfs.h"
#include "vfio_noiommu.h"

#define SESSION		"lu_bulk"
#define MEMORY_TOKEN	0xffff
#define MEMORY_SIZE	4096
#define PAGE		4096UL
#define TRIES		4
#define DRIVER		"/sys/bus/pci/drivers/vfio-pci"

static void die(const char *what, int err)
{
	fprintf(stderr, "lu_bulk: %s: %s\n", what, strerror(-err));
	exit(1);
}

static int checked(const char *what, int ret)
{
	if (ret < 0)
		die(what, ret);
	return ret;
}

static __u64 now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

/*
 * One byte of the host bridge that nothing else reads alone, Max_Lat (PCI 3.0, sec
 * 6.2.4): what config space saw before belongs to the step that ends, if one does.
 * Returns when the next one begins.
 */
static __u64 mark(void)
{
	static int config = -1;
	char byte;

	if (config < 0)
		config = open("/sys/bus/pci/devices/0000:00:00.0/config", O_RDONLY | O_CLOEXEC);
	if (pread(config, &byte, sizeof(byte), 0x3f) != sizeof(byte))
		die("mark", -errno);
	return now();
}

/* What the step took that ends here; another one begins */
static unsigned long long took(__u64 *begin)
{
	unsigned long long ns = now() - *begin;

	*begin = mark();
	return ns;
}

static int is_function(const struct dirent *entry)
{
	return strlen(entry->d_name) == strlen("0000:00:00.0") && entry->d_name[4] == ':';
}

/* One iommufd with one IOAS and one page mapped in it, for all devices */
static struct vfio_noiommu shared = VFIO_NOIOMMU_INIT;

static void open_shared(int memfd)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };

	shared.iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	if (shared.iommufd < 0 || ioctl(shared.iommufd, IOMMU_IOAS_ALLOC, &alloc))
		die("iommufd", -errno);
	shared.ioas_id = alloc.out_ioas_id;
	checked("map", vfio_noiommu_map(&shared, memfd, MEMORY_SIZE));
}

static void attach(int cdev)
{
	struct vfio_device_bind_iommufd bind = {
		.argsz = sizeof(bind), .iommufd = shared.iommufd,
	};
	struct vfio_device_attach_iommufd_pt to = {
		.argsz = sizeof(to), .pt_id = shared.ioas_id,
	};

	if (ioctl(cdev, VFIO_DEVICE_BIND_IOMMUFD, &bind))
		die("bind", -errno);
	if (ioctl(cdev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &to))
		die("attach", -errno);
}

/* The first vector of the best kind of interrupt that a function has, if it has one */
static void arm(int cdev)
{
	static const unsigned int kinds[] = {
		VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_INTX_IRQ_INDEX,
	};
	char buffer[sizeof(struct vfio_irq_set) + sizeof(__s32)];
	struct vfio_irq_set *set = (struct vfio_irq_set *)buffer;
	__s32 event;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		struct vfio_irq_info info = { .argsz = sizeof(info), .index = kinds[i] };

		if (ioctl(cdev, VFIO_DEVICE_GET_IRQ_INFO, &info) || !info.count)
			continue;
		event = checked("eventfd", eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
		*set = (struct vfio_irq_set) {
			.argsz = sizeof(buffer), .index = kinds[i], .count = 1,
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		};
		memcpy(set->data, &event, sizeof(event));
		if (ioctl(cdev, VFIO_DEVICE_SET_IRQS, set))
			die("arm", -errno);
		return;
	}
}

static int memory(size_t size)
{
	int memfd = memfd_create("lu_bulk", 0);

	if (memfd < 0 || ftruncate(memfd, size))
		die("memfd", -errno);
	return memfd;
}

/* The session lives as long as somebody has it open */
static int stay(void)
{
	fflush(stdout);
	if (daemon(1, 0))
		die("daemon", -errno);
	while (pause() < 0)
		continue;
	return 1;
}

/* Of two files that are filled by turns, one is preserved: every second page */
static int preserve_pages(int n)
{
	int session = checked("session", luo_session_create(SESSION));
	int memfd[2] = { memory(n * PAGE), memory(n * PAGE) };
	char *map[2];

	for (int i = 0; i < 2; i++) {
		map[i] = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd[i], 0);
		if (map[i] == MAP_FAILED)
			die("map", -errno);
	}
	for (int i = 0; i < 2 * n; i++)
		map[i % 2][i / 2 * PAGE] = 1;
	checked("preserve memory", luo_session_preserve_fd(session, memfd[0], MEMORY_TOKEN));
	printf("{\"pages\":%d}\n", n);
	return stay();
}

static void preserve_all(int session, const int *cdev, int n)
{
	for (int i = 0; i < n; i++)
		checked("preserve", luo_session_preserve_fd(session, cdev[i], i));
}

static int before_kexec(int n, int *cdev)
{
	struct dirent **functions;
	unsigned long long preserve = ULLONG_MAX, unpreserve = ULLONG_MAX, ns;
	__u64 begin;
	int found, session, memfd = memory(MEMORY_SIZE);

	found = scandir(DRIVER, &functions, is_function, alphasort);
	if (found < n) {
		fprintf(stderr, "lu_bulk: vfio-pci has %d functions\n", found);
		return 1;
	}
	open_shared(memfd);
	for (int i = 0; i < n; i++) {
		cdev[i] = checked("open", vfio_noiommu_cdev_open(functions[i]->d_name));
		attach(cdev[i]);
		arm(cdev[i]);
	}

	/* The least of each: what else the kernel has to do comes in between, or does not */
	for (int try = 0; try < TRIES; try++) {
		session = checked("session", luo_session_create(SESSION));
		begin = mark();
		preserve_all(session, cdev, n);
		ns = took(&begin);
		if (ns < preserve)
			preserve = ns;
		close(session);
		ns = took(&begin);
		if (ns < unpreserve)
			unpreserve = ns;
	}

	session = checked("session", luo_session_create(SESSION));
	preserve_all(session, cdev, n);
	checked("preserve memory", luo_session_preserve_fd(session, memfd, MEMORY_TOKEN));
	printf("{\"n\":%d,\"preserve\":%llu,\"unpreserve\":%llu}\n", n, preserve, unpreserve);
	return stay();
}

static int after_kexec(int n, int *cdev)
{
	unsigned long long retrieve, attached, armed;
	__u64 begin;
	int session, memfd;

	session = checked("session", luo_session_retrieve(SESSION));
	memfd = checked("retrieve memory", luo_session_retrieve_fd(session, MEMORY_TOKEN));
	open_shared(memfd);

	begin = mark();
	for (int i = 0; i < n; i++)
		cdev[i] = checked("retrieve", luo_session_retrieve_fd(session, i));
	retrieve = took(&begin);
	for (int i = 0; i < n; i++)
		attach(cdev[i]);
	attached = took(&begin);
	for (int i = 0; i < n; i++)
		arm(cdev[i]);
	armed = took(&begin);
	checked("finish", luo_session_finish(session));
	printf("{\"n\":%d,\"retrieve\":%llu,\"attach\":%llu,\"arm\":%llu,\"finish\":%llu}\n",
	       n, retrieve, attached, armed, took(&begin));
	return 0;
}

static int bind_all(const char *command)
{
	__u64 begin = mark();

	if (system(command)) {
		fprintf(stderr, "lu_bulk: '%s' failed\n", command);
		return 1;
	}
	printf("{\"bind\":%llu}\n", took(&begin));
	return 0;
}

int main(int argc, char **argv)
{
	struct rlimit files = { 8192, 8192 };
	int n = argc == 3 ? atoi(argv[2]) : 0;
	int *cdev;

	if (argc == 3 && !strcmp(argv[1], "bind"))
		return bind_all(argv[2]);
	if (argc == 3 && n > 0 && !strcmp(argv[1], "pages"))
		return preserve_pages(n);
	if (n < 1 || n >= MEMORY_TOKEN) {
		fprintf(stderr, "usage: lu_bulk preserve|resume|pages N | bind COMMAND\n");
		return 2;
	}
	cdev = calloc(n, sizeof(*cdev));
	if (!cdev || setrlimit(RLIMIT_NOFILE, &files))
		die("set-up", -errno);
	if (!strcmp(argv[1], "preserve"))
		return before_kexec(n, cdev);
	return after_kexec(n, cdev);
}
