// SPDX-License-Identifier: GPL-2.0
/* The commands of vfio_agent that leave something to a thread: what goes on, or does not end. */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/fs.h>
#include <linux/iommufd.h>
#include <linux/liveupdate.h>
#include <linux/pci_regs.h>

#include "agent.h"

/* What became of the attempts of "hammer"; in memory, so that the next kernel's user sees it */
struct hammer {
	__u64 config[2];		/* done, refused with EBUSY */
	__u64 irqs[2];
	__u64 reset[2];		/* tried when the others are refused, or if wanted */
	__u64 export[2];		/* tried when the others are refused */
	__u64 other[2];		/* other errors, and the last one's errno */
};

struct hammer_args {
	const struct vfio_noiommu *v;
	struct hammer *h;
	bool reset;
};

/* The words from @arg on are a memory and where in it attempts are counted */
static int hammer_counts(struct agent_call *c, int arg, size_t size, void **counts)
{
	struct agent_thing *mem = agent_find(c->agent, c->argv[arg], AGENT_MEMORY);
	__u64 offset = agent_number(c, arg + 1, 0);

	if (!mem)
		return -EBADF;
	if (mem->size < size || offset > mem->size - size)
		return -ERANGE;
	*counts = mem->map + offset;
	return 0;
}

/* Return: true if refused */
static bool hammer_note(__u64 other[2], __u64 count[2], int ret)
{
	if (ret && ret != -EBUSY) {
		other[0]++;
		other[1] = -ret;
		return false;
	}
	count[!!ret]++;
	return ret;
}

static void *hammer_thread(void *data)
{
	struct hammer_args *args = data;
	const struct vfio_noiommu *v = args->v;
	struct hammer *h = args->h;
	int request = eventfd(0, EFD_CLOEXEC);
	__u8 line = 0;
	int ret;

	for (;;) {
		ssize_t n = pwrite(v->cdev, &line, 1, v->config_offset + PCI_INTERRUPT_LINE);
		bool refused = hammer_note(h->other, h->config, n == 1 ? 0 : -errno);

		/* The eventfd for requests to let the device go, the same one again and again */
		ret = vfio_noiommu_set_irqs(v, VFIO_PCI_REQ_IRQ_INDEX,
					    VFIO_IRQ_SET_ACTION_TRIGGER, 0, 1, &request);
		hammer_note(h->other, h->irqs, ret);
		if (refused || args->reset)
			hammer_note(h->other, h->reset,
				    ioctl(v->cdev, VFIO_DEVICE_RESET) ? -errno : 0);
		if (refused) {
			ret = agent_export_bar(v, 0, getpagesize());
			hammer_note(h->other, h->export, ret < 0 ? ret : close(ret));
		}
		usleep(200);
	}
	return NULL;		/* it ends with the process */
}

static int cmd_hammer(struct agent_call *c)
{
	static struct hammer_args args;
	pthread_t thread;
	void *counts;
	int err = hammer_counts(c, 0, sizeof(struct hammer), &counts);

	if (err)
		return err;
	if (args.v)
		return -EALREADY;
	args = (struct hammer_args){
		.v = &c->thing->v,
		.h = counts,
		.reset = c->argc > 2 && !strcmp(c->argv[2], "reset"),
	};
	return -pthread_create(&thread, NULL, hammer_thread, &args);
}

/* The same of "hammer-maps" */
struct hammer_maps {
	__u64 map[2];		/* done, refused with EBUSY */
	__u64 unmap[2];
	__u64 attach[2];	/* tried when mapping is refused, and so is detaching */
	__u64 detach[2];
	__u64 other[2];		/* other errors, and the last one's errno */
};

struct hammer_maps_args {
	struct vfio_noiommu v;	/* a copy: what is mapped here is the thread's business */
	struct hammer_maps *h;
	int memfd;
	__u64 size;
	__u64 iova;
};

static void *hammer_maps_thread(void *data)
{
	struct vfio_device_detach_iommufd_pt detach = { .argsz = sizeof(detach) };
	struct hammer_maps_args *args = data;
	struct hammer_maps *h = args->h;
	struct vfio_noiommu *v = &args->v;
	bool mapped = false, refused;
	int ret;

	for (;;) {
		if (mapped)
			refused = hammer_note(h->other, h->unmap, vfio_noiommu_unmap(v));
		else
			refused = hammer_note(h->other, h->map,
					      vfio_noiommu_map_at(v, args->memfd, args->size,
								  args->iova));
		if (!refused) {
			mapped = !mapped;
			continue;
		}
		hammer_note(h->other, h->attach, vfio_noiommu_attach_ioas(v));
		ret = ioctl(v->cdev, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach) ? -errno : 0;
		hammer_note(h->other, h->detach, ret);
		usleep(200);
	}
	return NULL;		/* it ends with the process */
}

static int cmd_hammer_maps(struct agent_call *c)
{
	struct agent_thing *mem = agent_find(c->agent, c->argv[0], AGENT_MEMORY);
	static struct hammer_maps_args args;
	pthread_t thread;
	void *counts;
	int err = mem ? hammer_counts(c, 2, sizeof(*args.h), &counts) : -EBADF;

	if (err)
		return err;
	if (args.h)
		return -EALREADY;
	args = (struct hammer_maps_args){
		.v = c->thing->v,
		.h = counts,
		.memfd = mem->fd, .size = mem->size, .iova = agent_number(c, 1, 0),
	};
	return -pthread_create(&thread, NULL, hammer_maps_thread, &args);
}

/* Attach, and attach so that the answer cannot be written: that ends in a detach */
static void *hammer_attach_thread(void *data)
{
	struct hammer_maps_args *args = data;
	struct hammer_maps *h = args->h;
	struct vfio_device_attach_iommufd_pt *fixed;
	int ret;

	fixed = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (fixed == MAP_FAILED)
		return NULL;
	fixed->argsz = sizeof(*fixed);
	fixed->pt_id = args->v.ioas_id;
	mprotect(fixed, getpagesize(), PROT_READ);
	for (;;) {
		hammer_note(h->other, h->attach, vfio_noiommu_attach_ioas(&args->v));
		ret = ioctl(args->v.cdev, VFIO_DEVICE_ATTACH_IOMMUFD_PT, fixed) ? -errno : 0;
		hammer_note(h->other, h->detach, ret == -EFAULT ? 0 : ret ?: -EPROTO);
		if (ret == -EBUSY)
			usleep(200);
	}
	return NULL;		/* it ends with the process */
}

static int cmd_hammer_attach(struct agent_call *c)
{
	static struct hammer_maps_args args;
	pthread_t thread;
	void *counts;
	int err = hammer_counts(c, 0, sizeof(*args.h), &counts);

	if (err)
		return err;
	if (args.h)
		return -EALREADY;
	args = (struct hammer_maps_args){ .v = c->thing->v, .h = counts };
	return -pthread_create(&thread, NULL, hammer_attach_thread, &args);
}

struct stuck_preserve {
	int session;
	struct liveupdate_session_preserve_fd *arg;
};

static void *stuck_preserve_thread(void *data)
{
	const struct stuck_preserve *stuck = data;

	ioctl(stuck->session, LIVEUPDATE_SESSION_PRESERVE_FD, stuck->arg);
	return NULL;
}

/* The page that is answered to cannot be written before its file system is thawed */
static int cmd_preserve_stuck(struct agent_call *c)
{
	struct agent_thing *t = agent_find(c->agent, c->argv[1], AGENT_ANY);
	size_t size = getpagesize();
	static struct stuck_preserve args;
	pthread_t thread;
	int fd;

	if (!t)
		return -EBADF;
	fd = open(c->argv[2], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, size))
		return -errno;
	args.session = c->thing->fd;
	args.arg = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (args.arg == MAP_FAILED)
		return -errno;
	*args.arg = (struct liveupdate_session_preserve_fd){
		.size = sizeof(*args.arg),
		.fd = agent_fd(t),
		.token = agent_number(c, 0, 0),
	};
	if (ioctl(fd, FIFREEZE, 0))
		return -errno;
	return -pthread_create(&thread, NULL, stuck_preserve_thread, &args);
}

struct stuck_map {
	int iommufd;
	struct iommu_ioas_map arg;
};

static void *stuck_map_thread(void *data)
{
	struct stuck_map *stuck = data;

	ioctl(stuck->iommufd, IOMMU_IOAS_MAP, &stuck->arg);
	return NULL;
}

/* To map memory it has to be there, and this comes as slowly as the disk of the file is */
static int cmd_map_stuck(struct agent_call *c)
{
	const struct vfio_noiommu *v = &c->thing->v;
	size_t size = getpagesize();
	static struct stuck_map args;
	pthread_t thread;
	void *page;
	int fd;

	fd = open(c->argv[0], O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	page = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, agent_number(c, 2, 0));
	close(fd);
	if (page == MAP_FAILED)
		return -errno;
	args.iommufd = v->iommufd;
	args.arg = (struct iommu_ioas_map){
		.size = sizeof(args.arg),
		.flags = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_FIXED_IOVA,
		.ioas_id = v->ioas_id,
		.user_va = (uintptr_t)page,
		.length = size,
		.iova = agent_number(c, 1, 0),
	};
	return -pthread_create(&thread, NULL, stuck_map_thread, &args);
}

const struct agent_command agent_thread_commands[] = {
	{ "hammer-maps", cmd_hammer_maps, AGENT_DEVICE, 4,
	  "DEV MEM IOVA COUNTS OFFSET; map and unmap from now on, counted in COUNTS" },
	{ "hammer-attach", cmd_hammer_attach, AGENT_DEVICE, 2,
	  "DEV COUNTS OFFSET; attach, and detach by a fault, from now on, counted in COUNTS" },
	{ "hammer", cmd_hammer, AGENT_DEVICE, 2,
	  "DEV MEM OFFSET [reset]; config writes and so on from now on, counted there" },
	{ "preserve-stuck", cmd_preserve_stuck, AGENT_SESSION, 3,
	  "SESSION TOKEN THING FILE; it is done when the file system of FILE is thawed" },
	{ "map-stuck", cmd_map_stuck, AGENT_DEVICE, 3,
	  "DEV FILE IOVA OFFSET; it is done when what is there in FILE has been read" },
	{ }
};
