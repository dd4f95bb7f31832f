// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <unistd.h>

#include "e1000e_hw.h"

static int wait_bits(void *bar0, unsigned int reg, __u32 mask,
		     __u32 want, unsigned int ms)
{
	while ((e1000e_read(bar0, reg) & mask) != want) {
		if (!ms--)
			return -ETIMEDOUT;
		usleep(1000);
	}
	return 0;
}

/*
 * Sec 4.6: mask interrupts, reset, mask again because the reset clears the
 * mask's effect on causes that the NVM load raises, and wait until the NVM has
 * been read: it holds the MAC address.
 */
int e1000e_reset(void *bar0)
{
	int ret;

	e1000e_write(bar0, E1000E_IMC, ~0u);
	e1000e_write(bar0, E1000E_RCTL, 0);
	/* A read flushes posted writes; then nothing may touch the device for 1 us */
	e1000e_read(bar0, E1000E_STATUS);

	e1000e_write(bar0, E1000E_CTRL,
		     e1000e_read(bar0, E1000E_CTRL) | E1000E_CTRL_RST);
	usleep(10000);

	ret = wait_bits(bar0, E1000E_CTRL, E1000E_CTRL_RST, 0, 1000);
	if (ret)
		return ret;
	ret = wait_bits(bar0, E1000E_EECD, E1000E_EECD_AUTO_RD,
			E1000E_EECD_AUTO_RD, 1000);
	if (ret)
		return ret;

	e1000e_write(bar0, E1000E_IMC, ~0u);
	return 0;
}

void e1000e_start_rx(void *bar0, __u64 ring_pa, unsigned int entries)
{
	e1000e_write(bar0, E1000E_CTRL,
		     e1000e_read(bar0, E1000E_CTRL) | E1000E_CTRL_SLU);

	/* One queue, legacy descriptors, no checksum offload, no write-back delay */
	e1000e_write(bar0, E1000E_MRQC, 0);
	e1000e_write(bar0, E1000E_RFCTL, 0);
	e1000e_write(bar0, E1000E_RXCSUM, 0);
	e1000e_write(bar0, E1000E_RDTR, 0);
	e1000e_write(bar0, E1000E_RADV, 0);

	e1000e_write(bar0, E1000E_RDBAL, (__u32)ring_pa);
	e1000e_write(bar0, E1000E_RDBAH, (__u32)(ring_pa >> 32));
	e1000e_write(bar0, E1000E_RDLEN,
		     entries * sizeof(struct e1000e_rx_desc));
	e1000e_write(bar0, E1000E_RDH, 0);
	e1000e_write(bar0, E1000E_RDT, 0);

	/*
	 * SECRC, or the four CRC bytes of a frame can take a descriptor of
	 * their own. Receive goes on before the tail moves, sec 4.6.
	 */
	e1000e_write(bar0, E1000E_RCTL,
		     E1000E_RCTL_EN | E1000E_RCTL_UPE | E1000E_RCTL_MPE |
		     E1000E_RCTL_BAM | E1000E_RCTL_BSIZE_2048 |
		     E1000E_RCTL_SECRC);
	e1000e_set_tail(bar0, entries - 1);
}

/* Sec 7.4: vectors by cause */
void e1000e_interrupt_rx(void *bar0)
{
	e1000e_write(bar0, E1000E_IVAR, E1000E_IVAR_RXQ0_VALID | 0);
	e1000e_write(bar0, E1000E_IMS, E1000E_CAUSE_RXQ0);
}

int e1000e_wait_link(void *bar0)
{
	/* Auto-negotiation takes seconds on a wire */
	if (wait_bits(bar0, E1000E_STATUS, E1000E_STATUS_LU,
		      E1000E_STATUS_LU, 10000))
		return -ENETDOWN;
	return 0;
}

void e1000e_mac(void *bar0, __u8 mac[6])
{
	__u32 low = e1000e_read(bar0, E1000E_RAL0);
	__u32 high = e1000e_read(bar0, E1000E_RAH0);
	int i;

	for (i = 0; i < 4; i++)
		mac[i] = low >> (8 * i);
	mac[4] = high;
	mac[5] = high >> 8;
}
