// SPDX-License-Identifier: GPL-2.0
/*
 * The interrupt of e1000e_rx: one MSI-X vector that the card signals when it has put a frame
 * into memory, and not again before it was acknowledged. The ring is polled all the same: what
 * is shown is that no signal is lost.
 */

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <linux/vfio.h>

#include "e1000e_hw.h"
#include "rx.h"

/* What a device was not allowed to say before is said at once; a busy host is not that quick */
#define SETTLE_MS	2000

int rx_irq_arm(struct rx *rx)
{
	int ret;

	rx->irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (rx->irq < 0)
		return -errno;
	ret = vfio_noiommu_set_irqs(&rx->v, VFIO_PCI_MSIX_IRQ_INDEX,
				    VFIO_IRQ_SET_ACTION_TRIGGER, 0, 1, &rx->irq);
	if (ret)
		rx_irq_close(rx);
	return ret;
}

void rx_irq_count(struct rx *rx)
{
	eventfd_t count;

	if (rx->irq < 0 || eventfd_read(rx->irq, &count))
		return;
	rx->interrupts += count;
	e1000e_ack_rx(rx->v.bar0);
}

void rx_irq_wait(struct rx *rx)
{
	struct pollfd pfd = { .fd = rx->irq, .events = POLLIN };

	poll(&pfd, 1, SETTLE_MS);
	rx_irq_count(rx);
}

void rx_irq_close(struct rx *rx)
{
	if (rx->irq >= 0)
		close(rx->irq);
	rx->irq = -1;
}
