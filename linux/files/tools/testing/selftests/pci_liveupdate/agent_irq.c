// SPDX-License-Identifier: GPL-2.0
/* The interrupt commands of vfio_agent: VFIO_DEVICE_SET_IRQS, and what the eventfds counted. */

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/kernel.h>

#include "agent.h"

static const char * const index_names[] = {
	[VFIO_PCI_INTX_IRQ_INDEX] = "intx",
	[VFIO_PCI_MSI_IRQ_INDEX] = "msi",
	[VFIO_PCI_MSIX_IRQ_INDEX] = "msix",
	[VFIO_PCI_ERR_IRQ_INDEX] = "err",
	[VFIO_PCI_REQ_IRQ_INDEX] = "req",
};

static int irq_index(const struct agent_call *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(index_names); i++)
		if (!strcmp(c->argv[0], index_names[i]))
			return i;
	return -EINVAL;
}

static void close_eventfds(struct agent_irqs *irqs)
{
	while (irqs->armed)
		close(irqs->eventfd[--irqs->armed]);
}

static int cmd_arm(struct agent_call *c)
{
	unsigned int n = agent_number(c, 1, 0), i;
	int index = irq_index(c), ret;
	struct agent_irqs new = {};

	if (index < 0 || n < 1 || n > AGENT_VECTORS)
		return -EINVAL;
	for (i = 0; i < n; i++) {
		new.eventfd[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (new.eventfd[i] < 0) {
			ret = -errno;
			close_eventfds(&new);
			return ret;
		}
		new.armed++;
	}

	ret = vfio_noiommu_set_irqs(&c->thing->v, index, VFIO_IRQ_SET_ACTION_TRIGGER, 0, n,
				    new.eventfd);
	if (ret) {
		close_eventfds(&new);
		return ret;
	}
	close_eventfds(&c->thing->irqs[index]);
	c->thing->irqs[index] = new;
	return 0;
}

static int cmd_disarm(struct agent_call *c)
{
	int index = irq_index(c), ret;

	if (index < 0)
		return index;
	ret = vfio_noiommu_set_irqs(&c->thing->v, index, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0, NULL);
	if (!ret)
		close_eventfds(&c->thing->irqs[index]);
	return ret;
}

static int cmd_counts(struct agent_call *c)
{
	int index = irq_index(c);
	struct agent_irqs *irqs;
	eventfd_t count;

	if (index < 0)
		return index;
	irqs = &c->thing->irqs[index];
	json_open(c->reply, "counts", '[');
	for (unsigned int i = 0; i < irqs->armed; i++)
		json_u64(c->reply, NULL, eventfd_read(irqs->eventfd[i], &count) ? 0 : count);
	json_close(c->reply, ']');
	return 0;
}

/* Mask, unmask or signal one vector as if the device had */
static int one_vector(struct agent_call *c, __u32 action)
{
	int index = irq_index(c);

	if (index < 0)
		return index;
	return vfio_noiommu_set_irqs(&c->thing->v, index, action, agent_number(c, 1, 0), 1, NULL);
}

static int cmd_trigger(struct agent_call *c)
{
	return one_vector(c, VFIO_IRQ_SET_ACTION_TRIGGER);
}

static int cmd_mask(struct agent_call *c)
{
	return one_vector(c, VFIO_IRQ_SET_ACTION_MASK);
}

static int cmd_unmask(struct agent_call *c)
{
	return one_vector(c, VFIO_IRQ_SET_ACTION_UNMASK);
}

static int cmd_irq_info(struct agent_call *c)
{
	struct vfio_irq_info info = { .argsz = sizeof(info) };
	int index = irq_index(c);

	if (index < 0)
		return index;
	info.index = index;
	if (ioctl(c->thing->v.cdev, VFIO_DEVICE_GET_IRQ_INFO, &info))
		return -errno;
	json_u64(c->reply, "count", info.count);
	json_hex(c->reply, "flags", info.flags);
	return 0;
}

const struct agent_command agent_irq_commands[] = {
	{ "arm", cmd_arm, AGENT_DEVICE, 2, "DEV intx|msi|msix|err|req VECTORS; fresh eventfds" },
	{ "disarm", cmd_disarm, AGENT_DEVICE, 1, "DEV INDEX" },
	{ "counts", cmd_counts, AGENT_DEVICE, 1, "DEV INDEX; of each vector, since the last look" },
	{ "trigger", cmd_trigger, AGENT_DEVICE, 1, "DEV INDEX [VECTOR]; signal its eventfd" },
	{ "mask", cmd_mask, AGENT_DEVICE, 1, "DEV INDEX [VECTOR]" },
	{ "unmask", cmd_unmask, AGENT_DEVICE, 1, "DEV INDEX [VECTOR]" },
	{ "irq-info", cmd_irq_info, AGENT_DEVICE, 1, "DEV INDEX" },
	{ }
};
