/* SPDX-License-Identifier: GPL-2.0 */
/* PCI functions, and what Live Update can do with each. */
#ifndef PCILU_DEVICE_H
#define PCILU_DEVICE_H

#include <pci/pci.h>
#include <stdbool.h>

#include "cmd.h"

#define BDF_SIZE 20

/* What keeps a function from being preserved, or what is worth knowing */
struct blocker {
	const char *id; /* stable, for programs */
	const char *text;
	const char *remedy;
};

#define BLOCKERS_MAX 16

struct device {
	struct pci_dev *pci;
	char bdf[BDF_SIZE]; /* always the full address */
	char name[256];
	char *driver; /* NULL: none */
	char *cdev; /* name of its VFIO device file, NULL: none */
	int state; /* enum pcilu_state, -1 if the kernel does not tell */
	bool bridge;
	bool carrier; /* a bridge, or kept with its Virtual Functions: nobody's */
	bool follows; /* a carrier that is preserved with what it carries */
	const char *dma; /* "goes on", "paused" or "unknown" */
	bool by_group; /* it is open through its group */
	int secondary; /* a bridge's bus behind it */
	pid_t owner; /* the process that has it open, 0 if none is seen */
	char owner_name[64];
	char *told; /* what the kernel says to preserving it, NULL: nothing */
	struct blocker refusal; /* the same, if it is a reason why not */
	const struct blocker *blocker[BLOCKERS_MAX];
	int nr_blockers;
	const struct blocker *warning[BLOCKERS_MAX];
	int nr_warnings;
};

struct devices {
	struct pci_access *access;
	struct device *dev;
	int count;
};

/*
 * Scans the functions that -s and the arguments of a command name in lspci's syntax,
 * once for all of them and each once, in the order of their addresses. Without a name,
 * and if @o is NULL, it is all functions. Returns 0 or an exit status after a message;
 * with ST_ABSENT one name has no function, and those of the others are there.
 */
int devices_scan(struct devices *devices, const struct options *o);
/* Those that Live Update holds; of the others nothing but that is looked at */
int devices_scan_held(struct devices *devices);
void devices_free(struct devices *devices);

bool device_is_virtual_function(const struct device *dev);

/* A sysfs attribute's first line, NULL if it is not there; the caller frees it */
char *device_attr(const char *bdf, const char *attribute);
/* The last part of a link's target, the same way */
char *device_link(const char *bdf, const char *link);

/* Members that all documents with devices have */
struct json_object *device_json(const struct device *dev,
				struct json_object *array);

#endif /* PCILU_DEVICE_H */
