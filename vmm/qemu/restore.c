// SPDX-License-Identifier: GPL-2.0
/*
 * In the next kernel: memory and devices come out of the session; devices are bound, the
 * memory is mapped for them where it was, and only then they are attached; interrupts are
 * armed. The successor finds all of this done, by the names it asks for.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/iommufd.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../../lib/src/cleanup.h"
#include "broker.h"

#define MAX_VECTORS 2048 /* PCI Express 6.0, 7.7.2: of MSI-X */

struct comeback {
	struct pcilu *lu;
	struct pcilu_session *session;
	struct json_object *guest;
	struct stream stream;
	int iommufd;
	uint32_t ioas, hwpt;
};

/* The driver of a device may be bound a moment later */
static int retrieve(struct comeback *c, uint64_t token, const char *what)
{
	unsigned int tries;
	int fd = -EAGAIN;

	for (tries = 0; tries < 100 && fd == -EAGAIN; tries++) {
		if (tries)
			poll(NULL, 0, 100);
		fd = pcilu_session_retrieve_fd(c->session, token);
	}
	return fd < 0 ? fail(fd, "%s does not come back", what) : fd;
}

static int retrieve_memory(struct comeback *c)
{
	struct json_object *all = array_of(c->guest, "memory");
	size_t n, nr = json_object_array_length(all);
	int fd, err = 0;

	for (n = 0; n < nr && !err; n++) {
		struct json_object *o = json_object_array_get_idx(all, n);

		fd = retrieve(c, number_of(o, "token"), text_of(o, "name"));
		err = fd < 0 ? fd :
			       stream_add(&c->stream, text_of(o, "name"),
					  (int)number_of(o, "id"), fd);
	}
	return err;
}

static int retrieve_devices(struct comeback *c)
{
	struct json_object *all = array_of(c->guest, "devices");
	size_t n, nr = json_object_array_length(all);
	int fd, err = 0;

	for (n = 0; n < nr && !err; n++) {
		struct json_object *o = json_object_array_get_idx(all, n);
		struct hosted h = { 0 };

		strncpy(h.name, text_of(o, "name"), NAME_SIZE - 1);
		fd = retrieve(c, number_of(o, "token"), h.name);
		err = fd < 0 ? fd : stream_add(&c->stream, h.name, 0, fd);
		if (!err)
			err = stream_host(&c->stream, &h);
	}
	return err;
}

/* The same pieces with the same rights as before: QEMU unmaps them one by one */
static int map_memory(struct comeback *c)
{
	struct json_object *all = array_of(c->guest, "ranges");
	size_t n, nr = json_object_array_length(all);

	for (n = 0; n < nr; n++) {
		struct json_object *o = json_object_array_get_idx(all, n);
		struct iommu_ioas_map_file map = {
			.size = sizeof(map),
			.flags = IOMMU_IOAS_MAP_FIXED_IOVA |
				 IOMMU_IOAS_MAP_READABLE,
			.ioas_id = c->ioas,
			.fd = stream_memory(&c->stream, text_of(o, "name")),
			.start = number_of(o, "offset"),
			.iova = number_of(o, "at"),
			.length = number_of(o, "size"),
		};

		if (!json_object_get_boolean(json_object_object_get(o, "rom")))
			map.flags |= IOMMU_IOAS_MAP_WRITEABLE;
		if (ioctl(c->iommufd, IOMMU_IOAS_MAP_FILE, &map))
			return fail(-errno, "memory %s at %#llx",
				    text_of(o, "name"),
				    (unsigned long long)map.iova);
	}
	return 0;
}

static int bind_devices(struct comeback *c)
{
	size_t n;

	for (n = 0; n < c->stream.nr_hosted; n++) {
		struct hosted *h = &c->stream.hosted[n];
		struct vfio_device_bind_iommufd bind = {
			.argsz = sizeof(bind),
			.iommufd = c->iommufd,
		};

		if (ioctl(stream_find(&c->stream, h->name, 0),
			  VFIO_DEVICE_BIND_IOMMUFD, &bind))
			return fail(-errno, "%s cannot be bound", h->name);
		h->dev = bind.out_devid;
		h->ioas = c->ioas;
	}
	return 0;
}

/* QEMU allocates the page table by itself, where it knows of an IOMMU, and looks for it */
static int attach_devices(struct comeback *c)
{
	size_t n;

	for (n = 0; n < c->stream.nr_hosted; n++) {
		struct hosted *h = &c->stream.hosted[n];
		struct iommu_hwpt_alloc alloc = {
			.size = sizeof(alloc),
			.dev_id = h->dev,
			.pt_id = c->ioas,
		};
		struct vfio_device_attach_iommufd_pt attach = {
			.argsz = sizeof(attach),
		};

		if (!n && ioctl(c->iommufd, IOMMU_HWPT_ALLOC, &alloc))
			return fail(-errno, "no page table for %s", h->name);
		if (!n)
			c->hwpt = alloc.out_hwpt_id;
		h->hwpt = attach.pt_id = c->hwpt;
		if (ioctl(stream_find(&c->stream, h->name, 0),
			  VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach))
			return fail(-errno, "%s cannot be attached", h->name);
	}
	return 0;
}

static int arm(int device, unsigned int index, const int *fds, unsigned int nr)
{
	autofree struct vfio_irq_set *set =
		calloc(1, sizeof(*set) + nr * sizeof(*fds));

	if (!set)
		return -ENOMEM;
	set->argsz = (uint32_t)(sizeof(*set) + nr * sizeof(*fds));
	set->flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
	set->index = index;
	set->count = nr;
	memcpy(set->data, fds, nr * sizeof(*fds));
	return ioctl(device, VFIO_DEVICE_SET_IRQS, set) ? -errno : 0;
}

/* New eventfds under the old names. QEMU takes those for armed that it finds. */
static int arm_device(struct comeback *c, struct json_object *o)
{
	struct json_object *events = array_of(o, "events");
	autofree int *vectors = malloc(MAX_VECTORS * sizeof(*vectors));
	size_t n, nr = json_object_array_length(events);
	int device = stream_find(&c->stream, text_of(o, "name"), 0), err = 0;
	unsigned int id, count = 0;
	char name[2 * NAME_SIZE];

	if (!vectors)
		return -ENOMEM;
	memset(vectors, 0xff, MAX_VECTORS * sizeof(*vectors));
	for (n = 0; n < nr && !err; n++) {
		struct json_object *e = json_object_array_get_idx(events, n);
		const char *what = text_of(e, "name");
		int fd = eventfd(0, EFD_NONBLOCK);

		id = (unsigned int)number_of(e, "id");
		if (fd < 0 || id >= MAX_VECTORS)
			return fail(fd < 0 ? -errno : -ERANGE, "%s%s",
				    text_of(o, "name"), what);
		snprintf(name, sizeof(name), "%s%s", text_of(o, "name"), what);
		err = stream_add(&c->stream, name, (int)id, fd);
		if (!err && !strcmp(what, "_err_notifier"))
			err = arm(device, VFIO_PCI_ERR_IRQ_INDEX, &fd, 1);
		else if (!err && !strcmp(what, "_req_notifier"))
			err = arm(device, VFIO_PCI_REQ_IRQ_INDEX, &fd, 1);
		else if (!strcmp(what, "_interrupt"))
			vectors[id] = fd;
		if (!strcmp(what, "_interrupt") && id >= count)
			count = id + 1;
	}
	if (!err && count)
		err = arm(device, (unsigned int)number_of(o, "irq"), vectors,
			  count);
	return err ? fail(err, "interrupts of %s", text_of(o, "name")) : 0;
}

/* One that was paused lacks Bus Master, which its guest believes it has */
static int set_master(struct comeback *c, struct json_object *o)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info),
		.index = VFIO_PCI_CONFIG_REGION_INDEX,
	};
	const char *name = text_of(o, "name");
	int fd = stream_find(&c->stream, name, 0);
	uint16_t command;
	off_t at;

	if (!json_object_get_boolean(json_object_object_get(o, "master")))
		return 0;
	if (ioctl(fd, VFIO_DEVICE_GET_REGION_INFO, &info))
		return fail(-errno, "%s has no registers", name);
	at = (off_t)info.offset + PCI_COMMAND;
	if (pread(fd, &command, sizeof(command), at) != sizeof(command))
		return fail(-EIO, "%s does not answer", name);
	if (command & PCI_COMMAND_MASTER)
		return 0;
	say("%s was paused", name);
	command |= PCI_COMMAND_MASTER;
	if (pwrite(fd, &command, sizeof(command), at) != sizeof(command))
		return fail(-EIO, "%s stays paused", name);
	return 0;
}

static int start_devices(struct comeback *c)
{
	struct json_object *all = array_of(c->guest, "devices");
	size_t n, nr = json_object_array_length(all);
	int err = 0;

	for (n = 0; n < nr && !err; n++) {
		struct json_object *o = json_object_array_get_idx(all, n);

		err = set_master(c, o);
		if (!err)
			err = arm_device(c, o);
	}
	return err;
}

static int bring_devices(struct comeback *c)
{
	struct iommu_ioas_alloc ioas = { .size = sizeof(ioas) };
	const char *name = text_of(c->guest, "iommufd");
	int err;

	if (!json_object_array_length(array_of(c->guest, "devices")))
		return 0;
	c->iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	if (c->iommufd < 0 || ioctl(c->iommufd, IOMMU_IOAS_ALLOC, &ioas))
		return fail(-errno, "/dev/iommu");
	c->ioas = ioas.out_ioas_id;
	/* What may fail comes before the bind, as that can be done once */
	err = stream_add(&c->stream, name, 0, c->iommufd);
	if (!err)
		err = map_memory(c);
	if (!err)
		err = retrieve_devices(c);
	if (!err)
		err = bind_devices(c);
	if (!err)
		err = attach_devices(c);
	return err ? err : start_devices(c);
}

static int finish(struct comeback *c, const char *name)
{
	unsigned int tries;
	int err = -EBUSY;

	for (tries = 0; tries < 50 && err == -EBUSY; tries++) {
		if (tries)
			poll(NULL, 0, 100);
		err = pcilu_session_finish(NULL, c->session);
	}
	if (err)
		return fail(err, "session %s is not finished", name);
	err = pcilu_session_release(c->lu, c->session);
	if (err && err != -ENOENT && err != -EOPNOTSUPP)
		fail(err, "pcilud still lists session %s", name);
	return 0;
}

/* What is executed here was told by whoever saved the guest */
static int check_owner(struct comeback *c, const char *name)
{
	struct pcilu_session_info **list = NULL;
	size_t n, nr = 0;
	int err = 0;

	if (pcilu_is_daemon(c->lu))
		err = pcilu_session_list(c->lu, &list, &nr);
	for (n = 0; n < nr && !err; n++)
		if (list[n]->direction == PCILU_DIRECTION_INCOMING &&
		    !strcmp(list[n]->name, name) && list[n]->uid != geteuid()) {
			say("it is to be restored by the user who saved it, %u",
			    list[n]->uid);
			err = -EPERM;
		}
	free(list);
	return err;
}

/* Returns a descriptor of QEMU's state, or a negative errno: said */
static int bring(struct comeback *c, const char *name, int *stream)
{
	autoclose int main = -1, guest = -1;
	int err;

	err = pcilu_open(&c->lu, PCILU_MODE_AUTO);
	if (!err)
		err = check_owner(c, name);
	if (!err)
		err = pcilu_session_retrieve(c->lu, name, &c->session);
	if (err)
		return fail(err, "session %s", name);
	guest = retrieve(c, TOKEN_GUEST, "what is told of the guest");
	if (guest < 0)
		return guest;
	c->guest = guest_from_fd(guest);
	if (!c->guest)
		return -EIO;
	main = retrieve(c, TOKEN_MAIN, "QEMU's state");
	if (main < 0)
		return main;
	if (lseek(main, 0, SEEK_SET) || fcntl(main, F_SETFD, 0))
		return fail(-errno, "QEMU's state");
	err = guest_check_exe(c->guest);
	if (!err)
		err = retrieve_memory(c);
	if (!err)
		err = bring_devices(c);
	if (!err) {
		*stream = stream_write(&c->stream);
		err = *stream < 0 ? *stream : 0;
	}
	if (!err)
		err = finish(c, name);
	return err ? err : take_fd(&main);
}

int restore(const char *name)
{
	struct comeback c = { .iommufd = -1 };
	struct rlimit files;
	char incoming[64];
	int main, stream = -1;

	/* Each vector has two */
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	main = bring(&c, name, &stream);
	pcilu_session_close(c.session);
	pcilu_close(c.lu);
	if (main >= 0) {
		say("%s is back", name);
		snprintf(incoming, sizeof(incoming), "file:/proc/self/fd/%d",
			 main);
		become_qemu(c.guest, stream, incoming);
	}
	json_object_put(c.guest);
	stream_free(&c.stream);
	return main;
}
