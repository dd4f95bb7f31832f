// SPDX-License-Identifier: GPL-2.0
/*
 * A device of the host in the guest: its configuration space is VFIO's, but for BARs and
 * MSI-X, and its BARs are memory of the guest, but for the pages that hold the MSI-X
 * table. It has no I/O ports, no ROM and no INTx.
 *
 * BARs have their addresses before the guest boots, as firmware would do it, and answer
 * nowhere else.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm.h"

#define CONFIG VFIO_PCI_CONFIG_REGION_INDEX
#define BARS_END 0xfe000000 /* the IOAPIC and what else a PC has begin above */

int device_read(const struct device *d, unsigned int region, uint64_t where,
		void *data, unsigned int size)
{
	ssize_t n;

	n = pread(d->fd, data, size, d->regions[region].offset + where);
	if (n == (ssize_t)size)
		return 0;
	memset(data, 0xff, size);
	return -EIO;
}

int device_write(const struct device *d, unsigned int region, uint64_t where,
		 const void *data, unsigned int size)
{
	ssize_t n;

	n = pwrite(d->fd, data, size, d->regions[region].offset + where);
	return n == (ssize_t)size ? 0 : -EIO;
}

/* Opens the device's file in /dev/vfio/devices, whose name sysfs tells */
int device_open(struct device *d, const char *bdf)
{
	char path[512];
	struct dirent *e;
	DIR *dir;

	if (strlen(bdf) != BDF_SIZE - 1)
		return fail(-EINVAL, "%s is no full address of a device", bdf);
	memcpy(d->s.bdf, bdf, BDF_SIZE);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev", bdf);
	dir = opendir(path);
	if (!dir)
		return fail(-errno, "%s is not bound to vfio-pci", bdf);
	while ((e = readdir(dir)) && !strstr(e->d_name, "vfio"))
		;
	if (e) {
		d->s.no_iommu = !strncmp(e->d_name, "noiommu-", 8);
		snprintf(path, sizeof(path), "/dev/vfio/devices/%s", e->d_name);
	}
	closedir(dir);
	d->fd = open(path, O_RDWR | O_CLOEXEC);
	return d->fd < 0 ? fail(-errno, "%s", path) : 0;
}

/* Would the kernel preserve it now? What the PCI core thinks of it, it tells beforehand. */
int device_check(const struct device *d)
{
	char path[128], why[256] = "";
	FILE *f;

	snprintf(path, sizeof(path),
		 "/sys/bus/pci/devices/%s/liveupdate/refusal", d->s.bdf);
	f = fopen(path, "re");
	if (!f)
		return fail(-errno, "%s cannot be preserved", d->s.bdf);
	if (fgets(why, sizeof(why), f))
		why[strcspn(why, "\n")] = '\0';
	fclose(f);
	if (strcmp(why, "none") != 0) {
		fail(0, "%s: %s", d->s.bdf, why);
		return -EOPNOTSUPP;
	}
	return 0;
}

static bool is_memory_bar(const struct device *d, unsigned int bar)
{
	return d->regions[bar].size &&
	       !(d->s.bar[bar] & PCI_BASE_ADDRESS_SPACE_IO);
}

static int find_regions(struct device *d)
{
	unsigned int n;

	for (n = 0; n < ARRAY_SIZE(d->regions); n++) {
		struct vfio_region_info info = {
			.argsz = sizeof(info),
			.index = n,
		};
		struct region *r = &d->regions[n];

		if (ioctl(d->fd, VFIO_DEVICE_GET_REGION_INFO, &info)) {
			if (n == CONFIG)
				return fail(-errno, "%s: no registers",
					    d->s.bdf);
			continue; /* it has no VGA, perhaps */
		}
		r->offset = info.offset;
		r->size = info.size;
		r->flags = info.flags;
	}
	return 0;
}

/* Maps what of a BAR is not the MSI-X table, whose pages are the kernel's alone */
static void map_bar(struct device *d, unsigned int bar)
{
	struct region *r = &d->regions[bar];
	void *map;

	if (!(r->flags & VFIO_REGION_INFO_FLAG_MMAP) || r->size < PAGE)
		return;
	map = mmap(NULL, r->size, PROT_READ | PROT_WRITE, MAP_SHARED, d->fd,
		   r->offset);
	if (map != MAP_FAILED)
		r->map = map;
}

/* What is found out anew of a device that is bound, in each kernel */
int device_setup(struct device *d)
{
	unsigned int bar;
	int err = find_regions(d);

	if (!err)
		err = msix_setup(d);
	for (bar = 0; !err && bar < MAX_BARS; bar++)
		map_bar(d, bar);
	return err;
}

/* Gives a new guest's device the addresses of its BARs, from *next on */
int device_place(struct device *d, uint64_t *next)
{
	unsigned int bar;
	uint64_t size;

	for (bar = 0; bar < MAX_BARS; bar++) {
		uint32_t *value = &d->s.bar[bar];

		if (device_read(d, CONFIG, PCI_BASE_ADDRESS_0 + 4 * bar, value,
				4))
			return fail(-EIO, "%s: BAR %u", d->s.bdf, bar);
		size = d->regions[bar].size;
		if (!is_memory_bar(d, bar)) {
			*value = 0;
			continue;
		}
		*next = round_up(*next, size < PAGE ? PAGE : size);
		if (size > BARS_END - *next)
			return fail(-ENOSPC, "%s: no room for BAR %u", d->s.bdf,
				    bar);
		d->s.bar_gpa[bar] = *next;
		*value = *next | (*value & ~PCI_BASE_ADDRESS_MEM_MASK);
		*next += size;
		if (*value & PCI_BASE_ADDRESS_MEM_TYPE_64)
			d->s.bar[++bar] = 0; /* its upper half */
	}
	return 0;
}

/* Two pieces at most: what is before the pages of the MSI-X table, and behind them */
static int decode_bar(struct device *d, unsigned int bar, bool on)
{
	const struct region *r = &d->regions[bar];
	uint64_t from[2] = { 0 }, to[2] = { r->size };
	unsigned int n, slot;
	int err = 0;

	if (d->nr_vectors && bar == d->msix_bar) {
		to[0] = d->msix_offset & ~(PAGE - 1);
		from[1] = round_up(d->msix_offset + 16 * d->nr_vectors, PAGE);
		to[1] = r->size;
	}
	for (n = 0; n < 2 && !err; n++) {
		slot = MAX_RUNS + (d->slot * MAX_BARS + bar) * 2 + n;
		if (from[n] < to[n])
			err = machine_add_memory(&d->vmm->machine, slot,
						 d->s.bar_gpa[bar] + from[n],
						 on ? to[n] - from[n] : 0,
						 r->map + from[n]);
	}
	return err;
}

/* As Memory Space Enable says */
int device_decode(struct device *d, bool on)
{
	unsigned int bar;
	int err = 0;

	if (d->decoding == on)
		return 0;
	d->decoding = on;
	for (bar = 0; bar < MAX_BARS && !err; bar++)
		if (d->s.bar_gpa[bar] && d->regions[bar].map)
			err = decode_bar(d, bar, on);
	return err;
}

/* An access to a BAR that is not mapped, or to the page of the MSI-X table */
bool device_mmio(struct device *d, uint64_t gpa, void *data, unsigned int size,
		 bool write)
{
	unsigned int bar;
	uint64_t at;

	for (bar = 0; bar < MAX_BARS; bar++) {
		at = gpa - d->s.bar_gpa[bar];
		if (d->s.bar_gpa[bar] && gpa >= d->s.bar_gpa[bar] &&
		    at + size <= d->regions[bar].size)
			break;
	}
	if (bar == MAX_BARS || !d->decoding)
		return false;
	if (msix_table(d, bar, at, data, size, write))
		return true;
	if (write)
		device_write(d, bar, at, data, size);
	else
		device_read(d, bar, at, data, size);
	return true;
}

/* --- configuration space ---------------------------------------------------------- */

static bool is_bar(unsigned int where)
{
	return where >= PCI_BASE_ADDRESS_0 && where < PCI_CARDBUS_CIS;
}

static bool is_msix_control(const struct device *d, unsigned int where,
			    unsigned int size)
{
	unsigned int control = d->msix_cap + PCI_MSIX_FLAGS;

	return d->msix_cap && where < control + 2 && where + size > control;
}

uint32_t device_config_read(struct device *d, unsigned int where,
			    unsigned int size)
{
	uint32_t value = 0;
	unsigned int shift;

	if (is_bar(where))
		return d->s.bar[(where - PCI_BASE_ADDRESS_0) / 4] >>
		       8 * (where % 4);
	if ((where & ~3U) == PCI_ROM_ADDRESS || where == PCI_INTERRUPT_PIN)
		return 0;
	device_read(d, CONFIG, where, &value, size);
	/* The device's own bits say what VFIO has done */
	if (is_msix_control(d, where, size) && where % 4 == 0 && size == 4) {
		shift = 8 * PCI_MSIX_FLAGS;
		value = (value & ((1U << shift) - 1)) |
			(uint32_t)d->s.msix_control << shift;
	} else if (is_msix_control(d, where, size)) {
		value = d->s.msix_control >> 8 * (where % 2);
	}
	return value;
}

/* Only what is written to learn the size, and what was there before, has an effect */
static void write_bar(struct device *d, unsigned int bar, uint32_t value)
{
	uint32_t flags = d->s.bar[bar] & ~(uint32_t)PCI_BASE_ADDRESS_MEM_MASK;

	if (d->s.bar_gpa[bar])
		d->s.bar[bar] =
			(value & ~(uint32_t)(d->regions[bar].size - 1)) | flags;
	else if (bar && d->s.bar_gpa[bar - 1] &&
		 d->s.bar[bar - 1] & PCI_BASE_ADDRESS_MEM_TYPE_64)
		d->s.bar[bar] = value; /* sizes are less than 4 GiB */
}

void device_config_write(struct device *d, unsigned int where,
			 unsigned int size, uint32_t value)
{
	unsigned int control = d->msix_cap + PCI_MSIX_FLAGS;

	if (is_bar(where)) {
		if (size == 4)
			write_bar(d, (where - PCI_BASE_ADDRESS_0) / 4, value);
		return;
	}
	if (is_msix_control(d, where, size)) {
		if (where == control && size == 2)
			msix_control(d, value);
		else if (where == control - 2 && size == 4)
			msix_control(d, value >> 16);
		return;
	}
	device_write(d, CONFIG, where, &value, size);
	if (where == PCI_COMMAND)
		device_decode(d, value & PCI_COMMAND_MEMORY);
}

/* While the guest stands still. Vectors stay armed, and the device works on. */
int device_save(struct device *d)
{
	if (device_read(d, CONFIG, PCI_COMMAND, &d->s.command,
			sizeof(d->s.command)))
		return fail(-EIO, "%s does not answer", d->s.bdf);
	return msix_detach(d);
}

/*
 * The device has worked all the time, or was paused: then it lacks Bus Master, which the
 * guest believes it has. Setting what is set already does nothing.
 */
int device_restore(struct device *d)
{
	uint16_t command;
	int err;

	if (device_read(d, CONFIG, PCI_COMMAND, &command, sizeof(command)))
		return fail(-EIO, "%s does not answer", d->s.bdf);
	if (d->s.command & PCI_COMMAND_MASTER &&
	    !(command & PCI_COMMAND_MASTER)) {
		say("%s was paused", d->s.bdf);
		command |= PCI_COMMAND_MASTER;
		if (device_write(d, CONFIG, PCI_COMMAND, &command,
				 sizeof(command)))
			return fail(-EIO, "%s stays paused", d->s.bdf);
	}
	err = device_decode(d, command & PCI_COMMAND_MEMORY);
	if (!err && d->s.msix_control & PCI_MSIX_FLAGS_ENABLE)
		err = msix_arm(d);
	return err ? err : msix_attach(d);
}
