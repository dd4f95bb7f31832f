// SPDX-License-Identifier: GPL-2.0
/*
 * pci_cfg - look at PCI functions from both sides of a live update.
 *
 *	pci_cfg dump BDF	configuration space, BARs, bus numbers and windows
 *	pci_cfg tree		the same for all functions, without the raw bytes
 *	pci_cfg mark VALUE	writes the host bridge's Interrupt Line: a mark in a
 *				trace of config accesses that disturbs nothing
 *	pci_cfg bind BDF [DRIVER]	by driver_override; vfio-pci if not given
 *	pci_cfg unbind BDF
 *	pci_cfg rescan
 *	pci_cfg write PATH VALUE	any attribute; tells the errno
 *	pci_cfg peek BDF BAR OFFSET		a 32-bit register, in the device's
 *	pci_cfg poke BDF BAR OFFSET VALUE	byte order
 *	pci_cfg map BDF BAR	its first page, through /proc/bus/pci; tells the errno
 *
 * Addresses of BARs are the kernel's, from the resource file; a bridge's numbers
 * and windows are decoded from its own registers (PCI-to-PCI Bridge Architecture
 * r1.2, sec 3.2.5), so the two can be compared.
 *
 * Output is one JSON object a line. Exit codes: 0 done, 1 failed (see "rc"),
 * 2 usage.
 */

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/pci_regs.h>

#include "json_out.h"
#include "pci_sysfs.h"

#define HOST_BRIDGE	"0000:00:00.0"
#define MAX_RESOURCES	17
#define HEADER_LEN	64

static unsigned int get16(const __u8 *config, unsigned int where)
{
	return config[where] | config[where + 1] << 8;
}

static __u64 get32(const __u8 *config, unsigned int where)
{
	return get16(config, where) | (__u64)get16(config, where + 2) << 16;
}

static void json_window(struct json *j, const char *key, __u64 base, __u64 limit)
{
	char str[48];

	if (base > limit) {
		json_null(j, key);
		return;
	}
	snprintf(str, sizeof(str), "0x%llx-0x%llx", base, limit);
	json_str(j, key, str);
}

static void json_bridge(struct json *j, const __u8 *c)
{
	__u64 base, limit;

	if ((c[PCI_HEADER_TYPE] & PCI_HEADER_TYPE_MASK) != PCI_HEADER_TYPE_BRIDGE) {
		json_null(j, "bridge");
		return;
	}

	json_open(j, "bridge", '{');
	json_u64(j, "primary", c[PCI_PRIMARY_BUS]);
	json_u64(j, "secondary", c[PCI_SECONDARY_BUS]);
	json_u64(j, "subordinate", c[PCI_SUBORDINATE_BUS]);

	base = (__u64)(c[PCI_IO_BASE] & 0xf0) << 8;
	limit = (__u64)(c[PCI_IO_LIMIT] & 0xf0) << 8 | 0xfff;
	if ((c[PCI_IO_BASE] & PCI_IO_RANGE_TYPE_MASK) == PCI_IO_RANGE_TYPE_32) {
		base |= (__u64)get16(c, PCI_IO_BASE_UPPER16) << 16;
		limit |= (__u64)get16(c, PCI_IO_LIMIT_UPPER16) << 16;
	}
	json_window(j, "io", base, limit);

	base = (__u64)(get16(c, PCI_MEMORY_BASE) & 0xfff0) << 16;
	limit = (__u64)(get16(c, PCI_MEMORY_LIMIT) & 0xfff0) << 16 | 0xfffff;
	json_window(j, "mem", base, limit);

	base = (__u64)(get16(c, PCI_PREF_MEMORY_BASE) & 0xfff0) << 16;
	limit = (__u64)(get16(c, PCI_PREF_MEMORY_LIMIT) & 0xfff0) << 16 | 0xfffff;
	if ((c[PCI_PREF_MEMORY_BASE] & PCI_PREF_RANGE_TYPE_MASK) ==
	    PCI_PREF_RANGE_TYPE_64) {
		base |= get32(c, PCI_PREF_BASE_UPPER32) << 32;
		limit |= get32(c, PCI_PREF_LIMIT_UPPER32) << 32;
	}
	json_window(j, "pref", base, limit);
	json_hex(j, "bridge_control", get16(c, PCI_BRIDGE_CONTROL));
	json_close(j, '}');
}

static void json_bars(struct json *j, const char *bdf)
{
	struct pci_sysfs_resource res[MAX_RESOURCES];
	int n = pci_sysfs_resources(bdf, res, MAX_RESOURCES);
	int i;

	json_open(j, "bars", '[');
	for (i = 0; i < n; i++) {
		if (!res[i].flags)
			continue;
		json_open(j, NULL, '{');
		json_s64(j, "n", i);
		json_hex(j, "start", res[i].start);
		json_hex(j, "end", res[i].end);
		json_hex(j, "flags", res[i].flags);
		json_close(j, '}');
	}
	json_close(j, ']');
}

static int json_function(struct json *j, const char *bdf, bool raw)
{
	__u8 config[PCI_SYSFS_CONFIG_MAX];
	ssize_t len = pci_sysfs_config(bdf, config);
	char driver[64];

	json_str(j, "bdf", bdf);
	if (len < HEADER_LEN) {
		json_rc(j, len < 0 ? len : -EACCES);
		return -1;
	}

	json_hex(j, "vendor", get16(config, PCI_VENDOR_ID));
	json_hex(j, "device", get16(config, PCI_DEVICE_ID));
	json_hex(j, "class", get32(config, PCI_CLASS_REVISION) >> 8);
	json_hex(j, "command", get16(config, PCI_COMMAND));
	json_hex(j, "status", get16(config, PCI_STATUS));
	json_str(j, "driver",
		 pci_sysfs_driver(bdf, driver, sizeof(driver)) ? NULL : driver);
	json_bars(j, bdf);
	json_bridge(j, config);
	if (raw) {
		json_s64(j, "size", len);
		json_bytes(j, "config", config, len);
	}
	return 0;
}

static int cmd_dump(const char *bdf)
{
	struct json j = {};
	int ret;

	json_begin(&j);
	ret = json_function(&j, bdf, true);
	json_end(&j);
	json_send(&j, STDOUT_FILENO);
	return ret ? 1 : 0;
}

static int not_hidden(const struct dirent *d)
{
	return d->d_name[0] != '.';
}

static int cmd_tree(void)
{
	struct dirent **list;
	struct json j = {};
	int i, n, ret = 0;

	n = scandir(PCI_SYSFS_DEVICES, &list, not_hidden, alphasort);
	if (n < 0) {
		json_error("read " PCI_SYSFS_DEVICES, -errno, NULL);
		return 1;
	}

	json_begin(&j);
	json_open(&j, "devices", '[');
	for (i = 0; i < n; i++) {
		json_open(&j, NULL, '{');
		if (json_function(&j, list[i]->d_name, false))
			ret = 1;
		json_close(&j, '}');
		free(list[i]);
	}
	free(list);
	json_close(&j, ']');
	json_end(&j);
	json_send(&j, STDOUT_FILENO);
	return ret;
}

static int report(const char *event, const char *bdf, const char *key,
		  const char *val, int rc)
{
	struct json j = {};

	json_begin(&j);
	json_str(&j, "event", event);
	if (bdf)
		json_str(&j, "bdf", bdf);
	if (key)
		json_str(&j, key, val);
	json_rc(&j, rc);
	json_end(&j);
	json_send(&j, STDOUT_FILENO);
	return rc ? 1 : 0;
}

static int cmd_mark(const char *value)
{
	return report("mark", HOST_BRIDGE, "value", value,
		      pci_sysfs_config_write8(HOST_BRIDGE, PCI_INTERRUPT_LINE,
					      strtoul(value, NULL, 0)));
}

static int cmd_register(int argc, char *argv[])
{
	int bar = strtol(argv[3], NULL, 0);
	unsigned int offset = strtoul(argv[4], NULL, 0);
	__u32 val = argc == 6 ? strtoul(argv[5], NULL, 0) : 0;
	struct json j = {};
	int rc;

	rc = pci_sysfs_register(argv[2], bar, offset, &val, argc == 6);
	json_begin(&j);
	json_str(&j, "event", argv[1]);
	json_str(&j, "bdf", argv[2]);
	json_hex(&j, "value", val);
	json_rc(&j, rc);
	json_end(&j);
	json_send(&j, STDOUT_FILENO);
	return rc ? 1 : 0;
}

int main(int argc, char *argv[])
{
	const char *verb = argc > 1 ? argv[1] : "";

	if (argc == 3 && !strcmp(verb, "dump"))
		return cmd_dump(argv[2]);
	if (argc == 2 && !strcmp(verb, "tree"))
		return cmd_tree();
	if (argc == 3 && !strcmp(verb, "mark"))
		return cmd_mark(argv[2]);
	if ((argc == 3 || argc == 4) && !strcmp(verb, "bind")) {
		const char *driver = argc == 4 ? argv[3] : "vfio-pci";

		return report(verb, argv[2], "driver", driver,
			      pci_sysfs_bind(argv[2], driver));
	}
	if (argc == 3 && !strcmp(verb, "unbind"))
		return report(verb, argv[2], NULL, NULL, pci_sysfs_unbind(argv[2]));
	if (argc == 2 && !strcmp(verb, "rescan"))
		return report(verb, NULL, NULL, NULL,
			      sysfs_write("/sys/bus/pci/rescan", "1"));
	if (argc == 4 && !strcmp(verb, "write"))
		return report(verb, NULL, "path", argv[2],
			      sysfs_write(argv[2], argv[3]));
	if (argc == 4 && !strcmp(verb, "map"))
		return report(verb, argv[2], "bar", argv[3],
			      pci_procfs_map(argv[2], strtol(argv[3], NULL, 0)));
	if ((argc == 5 && !strcmp(verb, "peek")) ||
	    (argc == 6 && !strcmp(verb, "poke")))
		return cmd_register(argc, argv);

	fprintf(stderr,
		"pci_cfg dump BDF | tree | mark VALUE | bind BDF [DRIVER] | unbind BDF | rescan |\n"
		"        write PATH VALUE | peek BDF BAR OFFSET | poke BDF BAR OFFSET VALUE |\n"
		"        map BDF BAR\n");
	return 2;
}
