/* SPDX-License-Identifier: GPL-2.0 */
/* The parts of vfio_agent; what it is and how it is used is told in vfio_agent.c. */
#ifndef SELFTESTS_PCI_LIVEUPDATE_AGENT_H
#define SELFTESTS_PCI_LIVEUPDATE_AGENT_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>
#include <linux/vfio.h>

#include "ctl.h"
#include "json_out.h"
#include "vfio_noiommu.h"

#define AGENT_THINGS	64
#define AGENT_ARGS	16
#define AGENT_NAME_LEN	32
#define AGENT_VECTORS	VFIO_NOIOMMU_VECTORS
#define AGENT_BARS	6
#define AGENT_TOKEN	16

/* What a command may be about; AGENT_NEW is a name that nothing has yet */
enum agent_kind {
	AGENT_NOTHING = 0,
	AGENT_DEVICE = 1,
	AGENT_MEMORY = 2,
	AGENT_SESSION = 4,
	AGENT_FILE = 8,		/* any other file: a duplicate, a dma-buf */
	AGENT_ANY = 15,
	AGENT_NEW = 16,
};

struct agent_bar {
	void *map;
	size_t size;
};

struct agent_irqs {
	int eventfd[AGENT_VECTORS];
	unsigned int armed;
};

struct agent_thing {
	enum agent_kind kind;
	char name[AGENT_NAME_LEN];
	int fd;			/* of all but a device */
	__u8 *map;			/* of memory */
	size_t size;
	struct vfio_noiommu v;		/* of a device */
	int group, container;		/* of one that was opened through them, or -1 */
	struct agent_bar bar[AGENT_BARS];
	struct agent_irqs irqs[VFIO_PCI_NUM_IRQS];
	__u8 token[AGENT_TOKEN];	/* of a device, see "token" */
};

struct agent {
	struct ctl ctl;
	struct agent_thing thing[AGENT_THINGS];
	bool quit;
};

/* A command with the thing that its first argument names, and the other arguments */
struct agent_call {
	struct agent *agent;
	struct agent_thing *thing;
	int argc;
	char **argv;
	struct json *reply;
};

/* Commands return 0 or -errno. The last of a table has no name. */
struct agent_command {
	const char *name;
	int (*run)(struct agent_call *c);
	unsigned int kind;		/* what the first argument may name, 0: there is none */
	int min_args;			/* after the first */
	const char *help;
};

extern const struct agent_command agent_device_commands[];	/* agent_device.c */
extern const struct agent_command agent_irq_commands[];	/* agent_irq.c */
extern const struct agent_command agent_file_commands[];	/* agent_files.c */
extern const struct agent_command agent_memory_commands[];	/* agent_memory.c */
extern const struct agent_command agent_thread_commands[];	/* agent_threads.c */

/* The thing of that name and of one of these kinds, or NULL */
struct agent_thing *agent_find(struct agent *a, const char *name, unsigned int kinds);
/* Gives the new thing of a call, or one of another name, its kind */
struct agent_thing *agent_add(struct agent *a, const char *name, enum agent_kind kind);
/* Unmaps and closes all that belongs to a thing */
void agent_drop(struct agent_thing *t);
/* The file that stands for a thing */
int agent_fd(const struct agent_thing *t);
/* Maps memory whose file is there. 0 or -errno */
int agent_map_memory(struct agent_thing *t);
/* The start of a BAR as a dma-buf. A file descriptor or -errno */
int agent_export_bar(const struct vfio_noiommu *v, __u32 bar, __u64 length);
/* An argument as a number, or the default if there are fewer */
__u64 agent_number(const struct agent_call *c, int i, __u64 otherwise);

#endif /* SELFTESTS_PCI_LIVEUPDATE_AGENT_H */
