/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The receive side of an Intel 82574L, one queue, legacy descriptors, polled.
 *
 * Register names and rules are those of the "Intel 82574 GbE Controller Family
 * Datasheet": receive descriptors sec 7.1, initialisation sec 4.6, registers
 * sec 10.2.
 */
#ifndef SELFTESTS_PCI_LIVEUPDATE_E1000E_HW_H
#define SELFTESTS_PCI_LIVEUPDATE_E1000E_HW_H

#include <linux/bits.h>
#include <linux/types.h>

/* Registers, byte offsets in BAR 0 */
#define E1000E_CTRL		0x00000
#define  E1000E_CTRL_GIO_MASTER_DISABLE	BIT(2)
#define  E1000E_CTRL_SLU	BIT(6)	/* set link up */
#define  E1000E_CTRL_RST	BIT(26)
#define E1000E_STATUS		0x00008
#define  E1000E_STATUS_LU	BIT(1)	/* link is up */
#define E1000E_EECD		0x00010
#define  E1000E_EECD_AUTO_RD	BIT(9)	/* NVM has been read after reset */
#define E1000E_ICR		0x000c0	/* causes; a bit that is written is cleared */
#define E1000E_IMS		0x000d0
#define E1000E_IMC		0x000d8
#define E1000E_IVAR		0x000e4
#define  E1000E_IVAR_RXQ0_VALID	BIT(3)	/* bits 2:0 are its vector */
#define  E1000E_CAUSE_RXQ0	BIT(20)	/* in ICR and IMS */
#define E1000E_RCTL		0x00100
#define  E1000E_RCTL_EN		BIT(1)
#define  E1000E_RCTL_UPE	BIT(3)	/* unicast promiscuous */
#define  E1000E_RCTL_MPE	BIT(4)	/* multicast promiscuous */
#define  E1000E_RCTL_BAM	BIT(15)	/* accept broadcast */
#define  E1000E_RCTL_BSIZE_2048	0		/* BSIZE = 0 with BSEX = 0 */
#define  E1000E_RCTL_SECRC	BIT(26)	/* strip the Ethernet CRC */
#define E1000E_RDBAL		0x02800
#define E1000E_RDBAH		0x02804
#define E1000E_RDLEN		0x02808
#define E1000E_RDH		0x02810
#define E1000E_RDT		0x02818
#define E1000E_RDTR		0x02820
#define E1000E_RADV		0x0282c
#define E1000E_MPC		0x04010		/* missed packets, clears on read */
#define E1000E_RXCSUM		0x05000
#define E1000E_RFCTL		0x05008
#define E1000E_RAL0		0x05400
#define E1000E_RAH0		0x05404
#define E1000E_MRQC		0x05818

/*
 * RDLEN holds the ring's length in bytes in bits 19:7, so a ring is a multiple
 * of 8 descriptors and shorter than 1 MiB; head and tail are 16 bits wide. The
 * largest power of two that satisfies both is 32768 descriptors (512 KiB).
 */
#define E1000E_RING_MIN		8
#define E1000E_RING_MAX		32768

#define E1000E_BUF_SIZE		2048

/*
 * Legacy receive descriptor, sec 7.1. The hardware writes the second half back
 * and leaves the buffer address alone, so a descriptor can be given again by
 * clearing that half.
 */
struct e1000e_rx_desc {
	__u64 addr;
	__u16 length;
	__u16 csum;
	__u8 status;
	__u8 errors;
	__u16 vlan;
};

#define E1000E_RXD_STAT_DD	BIT(0)	/* descriptor done */
#define E1000E_RXD_STAT_EOP	BIT(1)	/* end of packet */

/* Relaxed atomics: one access of the full width, which the compiler keeps */
static inline __u32 e1000e_read(void *bar0, unsigned int reg)
{
	return __atomic_load_n((__u32 *)((char *)bar0 + reg), __ATOMIC_RELAXED);
}

static inline void e1000e_write(void *bar0, unsigned int reg,
				__u32 val)
{
	__atomic_store_n((__u32 *)((char *)bar0 + reg), val, __ATOMIC_RELAXED);
}

/* Memory written before is visible to the device before a register write that follows */
static inline void e1000e_wmb(void)
{
#ifdef __aarch64__
	asm volatile("dmb oshst" : : : "memory");
#else
	__atomic_thread_fence(__ATOMIC_RELEASE);
#endif
}

/* What is read from memory afterwards is not older than the DD bit seen before */
static inline void e1000e_rmb(void)
{
#ifdef __aarch64__
	asm volatile("dmb oshld" : : : "memory");
#else
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
#endif
}

/* Software reset, interrupts masked before and after, receive off. 0 or -ETIMEDOUT */
int e1000e_reset(void *bar0);
/* Programs the ring and turns receive on, all @entries - 1 usable descriptors given */
void e1000e_start_rx(void *bar0, __u64 ring_pa, unsigned int entries);
/* Has MSI-X vector 0, which must be armed before, signalled for the first frame after an ack */
void e1000e_interrupt_rx(void *bar0);
static inline void e1000e_ack_rx(void *bar0)
{
	e1000e_write(bar0, E1000E_ICR, E1000E_CAUSE_RXQ0);
}

/* Waits for the link; 0 or -ENETDOWN */
int e1000e_wait_link(void *bar0);
void e1000e_mac(void *bar0, __u8 mac[6]);

/* Returns descriptors to the device: it may fill all up to, not including, @tail */
static inline void e1000e_set_tail(void *bar0, unsigned int tail)
{
	e1000e_wmb();
	e1000e_write(bar0, E1000E_RDT, tail);
}

#endif /* SELFTESTS_PCI_LIVEUPDATE_E1000E_HW_H */
