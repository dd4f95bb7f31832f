/* SPDX-License-Identifier: GPL-2.0 */
/* PCI functions through /sys/bus/pci. @bdf is always the full 0000:03:00.0. */
#ifndef SELFTESTS_PCI_LIVEUPDATE_PCI_SYSFS_H
#define SELFTESTS_PCI_LIVEUPDATE_PCI_SYSFS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <linux/types.h>

#define PCI_SYSFS_DEVICES	"/sys/bus/pci/devices"
#define PCI_SYSFS_CONFIG_MAX	4096
#define PCI_SYSFS_BDF_LEN	16

struct pci_sysfs_resource {
	__u64 start;
	__u64 end;
	__u64 flags;
};

/* All return 0 (or what they say) or -errno. */

/* Reads the configuration space; returns 256 or 4096, fewer without CAP_SYS_ADMIN */
ssize_t pci_sysfs_config(const char *bdf, __u8 config[PCI_SYSFS_CONFIG_MAX]);
int pci_sysfs_config_write8(const char *bdf, unsigned int where, __u8 val);
/*
 * Returns the number of lines of the resource file that were read, at most @n; the flags
 * are without the one that says whether the kernel may move it
 */
int pci_sysfs_resources(const char *bdf, struct pci_sysfs_resource *res, int n);
/* Reads or writes the 32-bit register at @offset of a memory BAR */
int pci_sysfs_register(const char *bdf, int bar, unsigned int offset, __u32 *val,
		       bool write);
/* Maps the first page of a memory BAR through /proc/bus/pci, and lets it go; domain 0 only */
int pci_procfs_map(const char *bdf, int bar);
/* BDFs of the bridges above @bdf, the top one first; returns how many, at most @n */
int pci_sysfs_bridges(const char *bdf, char bridge[][PCI_SYSFS_BDF_LEN], int n);
/* Name of the bound driver in @name, or -ENOENT */
int pci_sysfs_driver(const char *bdf, char *name, size_t len);
/* Number of its IOMMU group; -ENOENT if it has none */
int pci_sysfs_group(const char *bdf, int *number);
/* Name of its VFIO device cdev below /dev/vfio/devices, -ENODEV if it has none */
int pci_sysfs_vfio_cdev(const char *bdf, char *name, size_t len);
/* Unbinds whatever is bound and binds @driver by driver_override */
int pci_sysfs_bind(const char *bdf, const char *driver);
int pci_sysfs_unbind(const char *bdf);
/* BDF of the device behind an open VFIO file; -ENOENT if the kernel does not tell */
int pci_sysfs_bdf_of_cdev(int fd, char bdf[PCI_SYSFS_BDF_LEN]);

int sysfs_write(const char *path, const char *val);

#endif /* SELFTESTS_PCI_LIVEUPDATE_PCI_SYSFS_H */
