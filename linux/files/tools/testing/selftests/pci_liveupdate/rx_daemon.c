// SPDX-License-Identifier: GPL-2.0
/*
 * e1000e_rx as a process: one thread that polls the ring and takes commands in
 * between.
 */

#include <signal.h>
#include <time.h>

#include "e1000e_hw.h"
#include "rx.h"

#define POLL_NS		300000

/* Everything is gone when "quit" is answered */
void rx_tear_down(struct rx *rx)
{
	/* The session may own the device too: the card stops before its memory goes */
	vfio_noiommu_close(&rx->v);
	rx_irq_close(rx);
	rx_session_close(rx);
	rx_mem_close(&rx->m);
	ctl_unlisten(&rx->ctl);
}

static void clean_ring(struct rx *rx)
{
	unsigned int n;

	if (rx->held || !rx->m.ring)
		return;
	n = rx_mem_poll(&rx->m);
	if (n > rx->high_water)
		rx->high_water = n;
	if (n && rx->v.bar0)
		e1000e_set_tail(rx->v.bar0, rx_mem_tail(&rx->m));
}

int rx_run_daemon(struct rx *rx, int (*set_up)(struct rx *rx))
{
	struct timespec interval = { .tv_nsec = POLL_NS };
	int code, ret;

	signal(SIGPIPE, SIG_IGN);
	if (rx->opt.background) {
		ret = ctl_background(&rx->ctl, &code);
		if (ret < 0)
			return rx_fail(RX_DEVICE, "background", ret, NULL);
		if (ret)
			return code;
	}

	clock_gettime(CLOCK_MONOTONIC, &rx->started);
	ret = ctl_listen(&rx->ctl);
	if (ret)
		return rx_fail(RX_DEVICE, "control socket", ret, rx->opt.name);
	code = set_up(rx);
	if (code) {
		rx_tear_down(rx);
		return code;
	}
	if (rx->opt.background)
		ctl_ready(&rx->ctl);

	while (!rx->quit) {
		clean_ring(rx);
		rx_irq_count(rx);
		ctl_serve(&rx->ctl, &interval, rx_handle, rx);
	}
	return RX_OK;
}
