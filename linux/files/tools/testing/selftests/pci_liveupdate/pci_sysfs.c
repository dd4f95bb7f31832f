// SPDX-License-Identifier: GPL-2.0

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/pci.h>

#include "pci_sysfs.h"

static void attr_path(char path[PATH_MAX], const char *bdf, const char *attr)
{
	snprintf(path, PATH_MAX, PCI_SYSFS_DEVICES "/%s/%s", bdf, attr);
}

int sysfs_write(const char *path, const char *val)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, val, strlen(val)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

ssize_t pci_sysfs_config(const char *bdf, __u8 config[PCI_SYSFS_CONFIG_MAX])
{
	char path[PATH_MAX];
	ssize_t len = 0, n;
	int fd;

	attr_path(path, bdf, "config");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;

	do {
		n = pread(fd, config + len, PCI_SYSFS_CONFIG_MAX - len, len);
		if (n > 0)
			len += n;
	} while (n > 0 && len < PCI_SYSFS_CONFIG_MAX);
	if (n < 0)
		len = -errno;

	close(fd);
	return len;
}

int pci_sysfs_config_write8(const char *bdf, unsigned int where, __u8 val)
{
	char path[PATH_MAX];
	int fd, ret = 0;

	attr_path(path, bdf, "config");
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (pwrite(fd, &val, sizeof(val), where) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/* IORESOURCE_PCI_FIXED: whether the kernel may move it, which preserving changes */
#define RESOURCE_FIXED	0x10ULL

int pci_sysfs_resources(const char *bdf, struct pci_sysfs_resource *res, int n)
{
	char path[PATH_MAX];
	int i = 0;
	FILE *f;

	attr_path(path, bdf, "resource");
	f = fopen(path, "re");
	if (!f)
		return -errno;

	while (i < n && fscanf(f, "%llx %llx %llx",
			       &res[i].start, &res[i].end, &res[i].flags) == 3)
		res[i++].flags &= ~RESOURCE_FIXED;

	fclose(f);
	return i;
}

int pci_sysfs_register(const char *bdf, int bar, unsigned int offset, __u32 *val,
		       bool write)
{
	struct pci_sysfs_resource res[PCI_STD_NUM_BARS] = {};
	size_t page = getpagesize(), in_page;
	char path[PATH_MAX], attr[24];
	__u32 *reg;
	int fd, ret = 0;
	void *map;

	if (bar < 0 || bar >= pci_sysfs_resources(bdf, res, PCI_STD_NUM_BARS) ||
	    offset >= res[bar].end - res[bar].start)
		return -EINVAL;
	/* A BAR smaller than a page may begin anywhere in one */
	in_page = (res[bar].start + offset) % page;

	snprintf(attr, sizeof(attr), "resource%d", bar);
	attr_path(path, bdf, attr);
	fd = open(path, O_RDWR | O_SYNC | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	map = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		   offset / page * page);
	if (map == MAP_FAILED) {
		ret = -errno;
	} else {
		reg = map + in_page;
		/* Relaxed atomics: one access of the full width, which the compiler keeps */
		if (write)
			__atomic_store_n(reg, *val, __ATOMIC_RELAXED);
		else
			*val = __atomic_load_n(reg, __ATOMIC_RELAXED);
		munmap(map, page);
	}
	close(fd);
	return ret;
}

int pci_procfs_map(const char *bdf, int bar)
{
	struct pci_sysfs_resource res[PCI_STD_NUM_BARS] = {};
	size_t page = getpagesize();
	char path[PATH_MAX];
	int fd, ret = 0;
	void *map;

	if (bar < 0 || bar >= pci_sysfs_resources(bdf, res, PCI_STD_NUM_BARS) ||
	    strncmp(bdf, "0000:", 5) || strlen(bdf) != strlen("0000:00:00.0"))
		return -EINVAL;
	snprintf(path, sizeof(path), "/proc/bus/pci/%.2s/%s", bdf + 5, bdf + 8);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;

	/* Unlike in sysfs, a file is that of all BARs, which are told apart by address */
	if (ioctl(fd, PCIIOC_MMAP_IS_MEM)) {
		ret = -errno;
	} else {
		map = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			   res[bar].start / page * page);
		if (map == MAP_FAILED)
			ret = -errno;
		else
			munmap(map, page);
	}
	close(fd);
	return ret;
}

int pci_sysfs_bridges(const char *bdf, char bridge[][PCI_SYSFS_BDF_LEN], int n)
{
	char path[PATH_MAX], real[PATH_MAX], *part, *rest = real;
	unsigned int domain, bus, slot, fn;
	int count = 0;

	snprintf(path, sizeof(path), PCI_SYSFS_DEVICES "/%s", bdf);
	if (!realpath(path, real))
		return -errno;

	/* /sys/devices/pci0000:00/0000:00:02.0/0000:01:00.0: the last one is @bdf */
	while (count < n && (part = strsep(&rest, "/"))) {
		if (!rest || strlen(part) >= PCI_SYSFS_BDF_LEN ||
		    sscanf(part, "%x:%x:%x.%x", &domain, &bus, &slot, &fn) != 4)
			continue;
		memcpy(bridge[count++], part, strlen(part) + 1);
	}
	return count;
}

/* The last part of what a link of a function leads to */
static int link_base(const char *bdf, const char *link, char *name, size_t len)
{
	char path[PATH_MAX], target[PATH_MAX];
	const char *base;
	ssize_t n;

	attr_path(path, bdf, link);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return -errno;

	target[n] = '\0';
	base = strrchr(target, '/');
	snprintf(name, len, "%s", base ? base + 1 : target);
	return 0;
}

int pci_sysfs_driver(const char *bdf, char *name, size_t len)
{
	return link_base(bdf, "driver", name, len);
}

int pci_sysfs_group(const char *bdf, int *number)
{
	char name[32], *end;
	int ret = link_base(bdf, "iommu_group", name, sizeof(name));

	if (ret)
		return ret;
	*number = strtol(name, &end, 10);
	return end == name || *end ? -EPROTO : 0;
}

int pci_sysfs_vfio_cdev(const char *bdf, char *name, size_t len)
{
	char path[PATH_MAX];
	struct dirent *entry;
	int ret = -ENODEV;
	DIR *dir;

	attr_path(path, bdf, "vfio-dev");
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? -ENODEV : -errno;

	while (ret && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, len, "%s", entry->d_name);
		ret = 0;
	}

	closedir(dir);
	return ret;
}

int pci_sysfs_unbind(const char *bdf)
{
	char path[PATH_MAX];
	int ret;

	attr_path(path, bdf, "driver/unbind");
	ret = sysfs_write(path, bdf);
	return ret == -ENOENT ? 0 : ret;
}

int pci_sysfs_bind(const char *bdf, const char *driver)
{
	char path[PATH_MAX], now[64];
	int ret;

	if (!pci_sysfs_driver(bdf, now, sizeof(now))) {
		if (!strcmp(now, driver))
			return 0;
		ret = pci_sysfs_unbind(bdf);
		if (ret)
			return ret;
	}

	attr_path(path, bdf, "driver_override");
	ret = sysfs_write(path, driver);
	if (ret)
		return ret;
	ret = sysfs_write("/sys/bus/pci/drivers_probe", bdf);
	if (ret)
		return ret;

	/* drivers_probe succeeds when no driver wants the device */
	if (pci_sysfs_driver(bdf, now, sizeof(now)) || strcmp(now, driver))
		return -ENODEV;
	return 0;
}

int pci_sysfs_bdf_of_cdev(int fd, char bdf[PCI_SYSFS_BDF_LEN])
{
	char path[64], line[PATH_MAX], *name;
	int ret = -ENOENT;
	FILE *f;

	/* A retrieved cdev has no device node to go by, but VFIO tells in fdinfo */
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "re");
	if (!f)
		return -errno;

	while (ret && fgets(line, sizeof(line), f)) {
		if (strncmp(line, "vfio-device-syspath:", strlen("vfio-device-syspath:")))
			continue;
		name = strrchr(line, '/');
		if (!name || strlen(name + 1) > PCI_SYSFS_BDF_LEN)
			continue;
		name[strcspn(name, "\n")] = '\0';
		snprintf(bdf, PCI_SYSFS_BDF_LEN, "%s", name + 1);
		ret = 0;
	}

	fclose(f);
	return ret;
}
