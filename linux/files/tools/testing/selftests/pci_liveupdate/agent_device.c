// SPDX-License-Identifier: GPL-2.0
/* The device commands of vfio_agent. */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/iommufd.h>
#include <linux/pci_regs.h>

#include "agent.h"
#include "e1000e_hw.h"
#include "pci_sysfs.h"

static int region_info(const struct agent_thing *t, struct vfio_region_info *info)
{
	info->argsz = sizeof(*info);
	return ioctl(t->v.cdev, VFIO_DEVICE_GET_REGION_INFO, info) ? -errno : 0;
}

static int cmd_open(struct agent_call *c)
{
	int cdev = vfio_noiommu_cdev_open(c->argv[0]);

	if (cdev < 0)
		return cdev;
	c->thing->kind = AGENT_DEVICE;
	c->thing->v.cdev = cdev;
	return 0;
}

/* The older way: group, container, device */
static int cmd_open_group(struct agent_call *c)
{
	struct vfio_region_info info = { .index = VFIO_PCI_CONFIG_REGION_INDEX };
	struct agent_thing *t = c->thing;
	char path[128], cdev[64];
	int number, ret;
	bool noiommu;

	ret = pci_sysfs_group(c->argv[0], &number);
	if (!ret)
		ret = pci_sysfs_vfio_cdev(c->argv[0], cdev, sizeof(cdev));
	if (ret)
		return ret;
	noiommu = !strncmp(cdev, "noiommu-", strlen("noiommu-"));

	t->kind = AGENT_DEVICE;
	snprintf(path, sizeof(path), "/dev/vfio/%s%d", noiommu ? "noiommu-" : "", number);
	t->group = open(path, O_RDWR | O_CLOEXEC);
	if (t->group < 0)
		return -errno;
	t->container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (t->container < 0 || ioctl(t->group, VFIO_GROUP_SET_CONTAINER, &t->container) ||
	    ioctl(t->container, VFIO_SET_IOMMU, noiommu ? VFIO_NOIOMMU_IOMMU : VFIO_TYPE1v2_IOMMU))
		return -errno;
	t->v.cdev = ioctl(t->group, VFIO_GROUP_GET_DEVICE_FD, c->argv[0]);
	if (t->v.cdev < 0)
		return -errno;
	ret = region_info(t, &info);
	t->v.config_offset = info.offset;
	return ret;
}

static int cmd_bind(struct agent_call *c)
{
	struct vfio_noiommu *v = &c->thing->v;
	int ret;

	if (v->iommufd >= 0)
		return -EALREADY;
	if (c->argc) {
		struct agent_thing *other = agent_find(c->agent, c->argv[0], AGENT_DEVICE);

		if (!other)
			return -ENOENT;
		v->iommufd = dup(other->v.iommufd);
		if (v->iommufd < 0)
			return -errno;
	}
	ret = vfio_noiommu_bind_only(v, v->cdev);
	if (ret && v->iommufd >= 0) {
		close(v->iommufd);
		v->iommufd = -1;
	}
	return ret;
}

static int parse_token(const char *hex, __u8 *token)
{
	if (strlen(hex) != 2 * AGENT_TOKEN)
		return -EINVAL;
	for (int i = 0; i < AGENT_TOKEN; i++)
		if (sscanf(hex + 2 * i, "%2hhx", &token[i]) != 1)
			return -EINVAL;
	return 0;
}

static int cmd_token(struct agent_call *c)
{
	struct agent_thing *t = c->thing;
	int ret = parse_token(c->argv[0], t->token);

	t->v.token = ret ? NULL : t->token;
	return ret;
}

static int cmd_set_token(struct agent_call *c)
{
	struct {
		struct vfio_device_feature feature;
		__u8 token[AGENT_TOKEN];
	} set = {
		.feature.argsz = sizeof(set),
		.feature.flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_PCI_VF_TOKEN,
	};
	int ret = parse_token(c->argv[0], set.token);

	if (ret)
		return ret;
	return ioctl(c->thing->v.cdev, VFIO_DEVICE_FEATURE, &set) ? -errno : 0;
}

static int cmd_ioas(struct agent_call *c)
{
	struct agent_thing *other;

	if (!c->argc)
		return vfio_noiommu_ioas(&c->thing->v);
	other = agent_find(c->agent, c->argv[0], AGENT_DEVICE);
	if (!other)
		return -ENOENT;
	c->thing->v.ioas_id = other->v.ioas_id;
	return 0;
}

static int cmd_hwpt(struct agent_call *c)
{
	return vfio_noiommu_hwpt(&c->thing->v);
}

static int cmd_attach(struct agent_call *c)
{
	if (c->argc && !strcmp(c->argv[0], "ioas"))
		return vfio_noiommu_attach_ioas(&c->thing->v);
	if (c->argc && !strcmp(c->argv[0], "hwpt"))
		return vfio_noiommu_attach_hwpt(&c->thing->v);
	return vfio_noiommu_attach(&c->thing->v);
}

static int cmd_detach(struct agent_call *c)
{
	struct vfio_device_detach_iommufd_pt detach = { .argsz = sizeof(detach) };

	return ioctl(c->thing->v.cdev, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach) ? -errno : 0;
}

static int cmd_map(struct agent_call *c)
{
	struct agent_thing *mem = agent_find(c->agent, c->argv[0], AGENT_MEMORY | AGENT_FILE);
	struct vfio_noiommu *v = &c->thing->v;
	int ret;

	if (!mem)
		return -EBADF;
	if (c->argc > 1)
		ret = vfio_noiommu_map_at(v, mem->fd, mem->size, agent_number(c, 1, 0));
	else
		ret = vfio_noiommu_map(v, mem->fd, mem->size);
	if (!ret)
		json_hex(c->reply, "iova", v->iova);
	return ret;
}

/* By its addresses in this process, and not by its file */
static int cmd_map_user(struct agent_call *c)
{
	struct agent_thing *mem = agent_find(c->agent, c->argv[0], AGENT_MEMORY);
	const struct vfio_noiommu *v = &c->thing->v;
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE |
			 IOMMU_IOAS_MAP_FIXED_IOVA,
		.ioas_id = v->ioas_id,
		.iova = agent_number(c, 1, 0),
	};

	if (!mem)
		return -EBADF;
	map.user_va = (uintptr_t)mem->map;
	map.length = mem->size;
	return ioctl(v->iommufd, IOMMU_IOAS_MAP, &map) ? -errno : 0;
}

static int cmd_unmap(struct agent_call *c)
{
	return vfio_noiommu_unmap(&c->thing->v);
}

static int cmd_pa(struct agent_call *c)
{
	__u64 pa, run;
	int ret = vfio_noiommu_pa(&c->thing->v, agent_number(c, 0, 0), &pa, &run);

	if (ret)
		return ret;
	json_hex(c->reply, "pa", pa);
	json_u64(c->reply, "run", run);
	return 0;
}

static int cmd_config_read(struct agent_call *c)
{
	__u64 len = agent_number(c, 1, 1);
	__u32 val = 0;
	int ret;

	if (len > sizeof(val))
		return -EINVAL;
	ret = vfio_noiommu_config_read(&c->thing->v, agent_number(c, 0, 0), &val, len);
	if (!ret)
		json_u64(c->reply, "value", val);
	return ret;
}

static int cmd_config_write(struct agent_call *c)
{
	__u32 val = agent_number(c, 2, 0);
	__u64 len = agent_number(c, 1, 1);

	if (len > sizeof(val))
		return -EINVAL;
	return vfio_noiommu_config_write(&c->thing->v, agent_number(c, 0, 0), &val, len);
}

static int map_bar(struct agent_thing *t, unsigned int bar)
{
	struct vfio_region_info info = { .index = bar };
	void *map;
	int ret;

	if (bar >= AGENT_BARS)
		return -EINVAL;
	if (t->bar[bar].map)
		return 0;
	ret = region_info(t, &info);
	if (ret)
		return ret;
	if (!(info.flags & VFIO_REGION_INFO_FLAG_MMAP))
		return -EOPNOTSUPP;
	map = mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED, t->v.cdev, info.offset);
	if (map == MAP_FAILED)
		return -errno;
	t->bar[bar] = (struct agent_bar){ map, info.size };
	return 0;
}

/* bar-read and bar-write BAR OFFSET WIDTH [VALUE]: one access of that width, through a mapping */
static int bar_access(struct agent_call *c, bool write)
{
	__u64 offset = agent_number(c, 1, 0), val = agent_number(c, 3, 0);
	unsigned int width = agent_number(c, 2, 4);
	struct agent_bar *bar;
	void *reg;
	int ret;

	ret = map_bar(c->thing, agent_number(c, 0, 0));
	if (ret)
		return ret;
	bar = &c->thing->bar[agent_number(c, 0, 0)];
	if (width > bar->size || offset > bar->size - width)
		return -ERANGE;

	reg = (char *)bar->map + offset;
	/* Relaxed atomics: one access of the full width, which the compiler keeps */
#define ACCESS(type)								\
	do {									\
		if (write)							\
			__atomic_store_n((type *)reg, val, __ATOMIC_RELAXED);	\
		else								\
			val = __atomic_load_n((type *)reg, __ATOMIC_RELAXED);	\
	} while (0)
	/* What was written to memory before is there when the device hears of it */
	e1000e_wmb();
	switch (width) {
	case 1:
		ACCESS(__u8);
		break;
	case 2:
		ACCESS(__u16);
		break;
	case 4:
		ACCESS(__u32);
		break;
	case 8:
		ACCESS(__u64);
		break;
	default:
		return -EINVAL;
	}
#undef ACCESS
	if (!write)
		json_u64(c->reply, "value", val);
	return 0;
}

static int cmd_bar_read(struct agent_call *c)
{
	return bar_access(c, false);
}

static int cmd_bar_write(struct agent_call *c)
{
	return bar_access(c, true);
}

/* The same with read and write system calls */
static int bar_file_access(struct agent_call *c, bool write)
{
	struct vfio_region_info info = { .index = agent_number(c, 0, 0) };
	__u64 val = agent_number(c, 3, 0), width = agent_number(c, 2, 4);
	ssize_t n;
	off_t at;
	int ret;

	if (width > sizeof(val))
		return -EINVAL;
	ret = region_info(c->thing, &info);
	if (ret)
		return ret;
	at = info.offset + agent_number(c, 1, 0);
	n = write ? pwrite(c->thing->v.cdev, &val, width, at) :
		    pread(c->thing->v.cdev, &val, width, at);
	if (n < 0)
		return -errno;
	if (!write)
		json_u64(c->reply, "value", val);
	return (size_t)n == width ? 0 : -EIO;
}

static int cmd_bar_pread(struct agent_call *c)
{
	return bar_file_access(c, false);
}

static int cmd_bar_pwrite(struct agent_call *c)
{
	return bar_file_access(c, true);
}

static int cmd_reset(struct agent_call *c)
{
	return ioctl(c->thing->v.cdev, VFIO_DEVICE_RESET) ? -errno : 0;
}

static int cmd_hot_reset(struct agent_call *c)
{
	/* Of a cdev no list of groups is asked for: the iommufd shows who owns the devices */
	struct vfio_pci_hot_reset reset = { .argsz = sizeof(reset) };

	return ioctl(c->thing->v.cdev, VFIO_DEVICE_PCI_HOT_RESET, &reset) ? -errno : 0;
}

static int cmd_info(struct agent_call *c)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	char bdf[PCI_SYSFS_BDF_LEN];
	int ret = pci_sysfs_bdf_of_cdev(c->thing->v.cdev, bdf);

	json_str(c->reply, "bdf", ret ? NULL : bdf);
	if (ioctl(c->thing->v.cdev, VFIO_DEVICE_GET_INFO, &info))
		return -errno;
	json_bool(c->reply, "can_reset", info.flags & VFIO_DEVICE_FLAGS_RESET);
	json_u64(c->reply, "regions", info.num_regions);
	return 0;
}

static int cmd_low_power(struct agent_call *c)
{
	bool enter = !strcmp(c->argv[0], "enter");
	struct vfio_device_feature feature = {
		.argsz = sizeof(feature),
		.flags = VFIO_DEVICE_FEATURE_SET | (enter ? VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY :
							     VFIO_DEVICE_FEATURE_LOW_POWER_EXIT),
	};

	return ioctl(c->thing->v.cdev, VFIO_DEVICE_FEATURE, &feature) ? -errno : 0;
}

int agent_export_bar(const struct vfio_noiommu *v, __u32 bar, __u64 length)
{
	struct {
		struct vfio_device_feature feature;
		struct vfio_device_feature_dma_buf dma_buf;
		struct vfio_region_dma_range range;
	} ask = {
		.feature.argsz = sizeof(ask),
		.feature.flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF,
		.dma_buf.region_index = bar,
		.dma_buf.open_flags = O_CLOEXEC,
		.dma_buf.nr_ranges = 1,
		.range.length = length,
	};
	int fd = ioctl(v->cdev, VFIO_DEVICE_FEATURE, &ask);

	return fd < 0 ? -errno : fd;
}

static int cmd_export(struct agent_call *c)
{
	struct agent_thing *t;
	int fd;

	if (agent_find(c->agent, c->argv[2], AGENT_ANY))
		return -EEXIST;
	fd = agent_export_bar(&c->thing->v, agent_number(c, 0, 0), agent_number(c, 1, 0));
	if (fd < 0)
		return fd;

	t = agent_add(c->agent, c->argv[2], AGENT_FILE);
	if (!t) {
		close(fd);
		return -EMFILE;
	}
	t->fd = fd;
	t->size = agent_number(c, 1, 0);
	return 0;
}

const struct agent_command agent_device_commands[] = {
	{ "open", cmd_open, AGENT_NEW, 1, "DEV BDF; its cdev" },
	{ "open-group", cmd_open_group, AGENT_NEW, 1, "DEV BDF; through its group" },
	{ "bind", cmd_bind, AGENT_DEVICE, 0, "DEV [OTHER]; to a new iommufd, or that of OTHER" },
	{ "token", cmd_token, AGENT_DEVICE, 1, "DEV HEX; the VF token to bind with" },
	{ "set-token", cmd_set_token, AGENT_DEVICE, 1, "DEV HEX; the VF token of all of its VFs" },
	{ "ioas", cmd_ioas, AGENT_DEVICE, 0,
	  "DEV [OTHER]; a new one for map and attach, or that of OTHER" },
	{ "hwpt", cmd_hwpt, AGENT_DEVICE, 0, "DEV; a page table of its own for its IOAS" },
	{ "attach", cmd_attach, AGENT_DEVICE, 0,
	  "DEV [ioas|hwpt]; to a new IOAS, the last one, or the last page table" },
	{ "detach", cmd_detach, AGENT_DEVICE, 0, "DEV" },
	{ "map", cmd_map, AGENT_DEVICE, 1, "DEV MEM [IOVA]; MEM may be a dma-buf" },
	{ "map-user", cmd_map_user, AGENT_DEVICE, 2, "DEV MEM IOVA; what this process has mapped" },
	{ "unmap", cmd_unmap, AGENT_DEVICE, 0, "DEV; what was mapped last" },
	{ "pa", cmd_pa, AGENT_DEVICE, 1, "DEV OFFSET; physical address of mapped memory" },
	{ "config-read", cmd_config_read, AGENT_DEVICE, 2, "DEV OFFSET LENGTH" },
	{ "config-write", cmd_config_write, AGENT_DEVICE, 3, "DEV OFFSET LENGTH VALUE" },
	{ "bar-read", cmd_bar_read, AGENT_DEVICE, 3, "DEV BAR OFFSET WIDTH" },
	{ "bar-write", cmd_bar_write, AGENT_DEVICE, 4, "DEV BAR OFFSET WIDTH VALUE" },
	{ "bar-pread", cmd_bar_pread, AGENT_DEVICE, 3, "DEV BAR OFFSET WIDTH; not mapped" },
	{ "bar-pwrite", cmd_bar_pwrite, AGENT_DEVICE, 4, "DEV BAR OFFSET WIDTH VALUE" },
	{ "reset", cmd_reset, AGENT_DEVICE, 0, "DEV" },
	{ "hot-reset", cmd_hot_reset, AGENT_DEVICE, 0, "DEV" },
	{ "info", cmd_info, AGENT_DEVICE, 0, "DEV" },
	{ "low-power", cmd_low_power, AGENT_DEVICE, 1, "DEV enter|exit" },
	{ "export", cmd_export, AGENT_DEVICE, 3, "DEV BAR LENGTH NAME; as a dma-buf" },
	{ }
};
