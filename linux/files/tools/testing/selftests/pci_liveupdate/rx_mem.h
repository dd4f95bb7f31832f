/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The memory of the e1000e receiver: one memfd with everything in it that the
 * program after the live update needs.
 *
 *	header | physical address of each page | sequence bitmap | frame log |
 *	page numbers of the ring and of the buffers | pool
 *
 * The pool's pages become descriptor ring and receive buffers. The device uses
 * physical addresses, so the ring needs physically contiguous pages, but they
 * may be any pages of the pool: they are found by sorting the pool by physical
 * address, and mapped one after the other. Buffers only must not cross a page.
 *
 * The processor can be taken away between any two instructions: user space is
 * running when the kernel jumps. Counters and the ring position are therefore
 * kept twice and a frame is accounted by flipping between the two copies; what
 * follows the flip (bitmap, descriptor) is repeated by rx_mem_recover().
 */
#ifndef SELFTESTS_PCI_LIVEUPDATE_RX_MEM_H
#define SELFTESTS_PCI_LIVEUPDATE_RX_MEM_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>

#include "e1000e_hw.h"
#include "vfio_noiommu.h"

/* LUO tokens in the session */
#define RX_TOKEN_MEMORY		0x504c554d454d0001ULL	/* "PLUMEM", 1 */
#define RX_TOKEN_DEVICE		0x504c554445560001ULL	/* "PLUDEV", 1 */

#define RX_MAGIC		0x5045525649544352ULL
#define RX_VERSION		1

/* Sequence numbers that are tracked, and frames that are logged, per run */
#define RX_SEQ_MAX		BIT(22)
#define RX_LOG_MAX		BIT(18)

/* What the test frames look like; numbers are big-endian on the wire */
#define RX_FRAME_LEN		128
#define RX_FRAME_TYPE		0x88b5		/* IEEE 802 local experimental */
#define RX_FRAME_MAGIC		0x50434c55	/* "PCLU" */

struct rx_state {
	__u64 consumed;		/* descriptors since the start of the run */
	__u64 frames;		/* good ones, duplicates included */
	__u64 distinct;
	__u64 duplicated;
	__u64 corrupted;
	__u64 foreign;		/* not ours, or of another stream */
	__u64 reordered;
	__u64 untracked;		/* sequence number beyond the bitmap */
	__u64 logged;
	__u64 first_seq;
	__u64 last_seq;		/* highest */
	__u64 prev_seq;		/* latest */
	__u64 first_host_ns;
	__u64 last_host_ns;		/* latest */
	__u64 max_gap_ns;		/* between two consecutive frames, by the host's clock */
	__u64 max_gap_after_seq;
	__u64 pending_seq;		/* its bit may be missing in the bitmap; ~0: none */
	__u32 stream;
	__u32 have_stream;
};

struct rx_log {
	__u64 host_ns;
	__u32 seq;
	__u32 incarnation;
};

struct rx_header {
	__u64 magic;
	__u32 version;
	__u32 page_size;
	__u64 size;			/* of the memfd */
	__u64 pa_offset;		/* __u64 per page of the memfd */
	__u64 bitmap_offset;
	__u64 log_offset;		/* struct rx_log */
	__u64 ring_pages_offset;	/* __u32 page numbers */
	__u64 buf_pages_offset;	/* __u32 page numbers */
	__u64 pool_offset;
	__u32 ring_entries;
	__u32 ring_pages;
	__u32 buf_pages;
	__u32 incarnation;		/* live updates so far */
	__u64 ring_pa;
	char bdf[16];
	__u64 bar0_pa;
	__u32 vendor_device;
	__u32 high_water;		/* most descriptors done at once, ever */
	__u8 mac[8];
	__u32 reserved;
	__u32 active;		/* which of the two states counts */
	struct rx_state state[2];
};

static_assert(sizeof(struct rx_state) == 144, "handed to the next program");
static_assert(sizeof(struct rx_log) == 16, "handed to the next program");
static_assert(sizeof(struct rx_header) == 144 + 2 * 144, "handed to the next program");
static_assert(offsetof(struct rx_header, state) == 144, "handed to the next program");

struct rx_mem {
	int memfd;			/* -1: none */
	__u8 *map;
	__u64 size;
	struct rx_header *h;
	__u64 *pa;
	__u64 *bitmap;
	struct rx_log *log;
	__u32 *ring_page;
	__u32 *buf_page;
	struct e1000e_rx_desc *ring;
	size_t page_size;
	unsigned int bufs_per_page;
};

#define RX_MEM_INIT { .memfd = -1 }

/* What the hardware has done and nobody has looked at yet */
struct rx_waiting {
	__u64 descriptors;
	__u64 frames;		/* ours among them */
	__u64 first_seq;
	__u64 last_seq;
	__u64 last_host_ns;
};

/* All return 0 or -errno */

/* Creates the memfd for @entries descriptors, every page present, @spare pages more than needed */
int rx_mem_create(struct rx_mem *m, unsigned int entries, unsigned int spare);
/*
 * Reads the physical addresses (the memory must have been preserved and mapped
 * before: both may move pages), chooses ring and buffers, and gives all
 * descriptors their buffers. -ENOSPC: no contiguous run for the ring.
 */
int rx_mem_arrange(struct rx_mem *m, struct vfio_noiommu *v);
/* Takes a retrieved memfd. -EBADMSG: its header is not one of ours. */
int rx_mem_adopt(struct rx_mem *m, int memfd);
/* Repeats what may have been interrupted in the previous incarnation */
void rx_mem_recover(struct rx_mem *m);
void rx_mem_close(struct rx_mem *m);

/* Number of pages that are not where the header says, by the IOAS. Or -errno. */
long rx_mem_moved_ioas(struct rx_mem *m, struct vfio_noiommu *v);
/* The same by /proc/self/pagemap; @unknown returns how many it does not tell */
long rx_mem_moved_pagemap(struct rx_mem *m, long *unknown);

void rx_mem_waiting(struct rx_mem *m, struct rx_waiting *w);
/* Accounts all finished descriptors and clears them; returns how many */
unsigned int rx_mem_poll(struct rx_mem *m);

static inline struct rx_state *rx_mem_state(struct rx_mem *m)
{
	return &m->h->state[m->h->active & 1];
}

/* The device may use all descriptors but one, up to this index */
static inline unsigned int rx_mem_tail(struct rx_mem *m)
{
	return (rx_mem_state(m)->consumed + m->h->ring_entries - 1) %
	       m->h->ring_entries;
}

#endif /* SELFTESTS_PCI_LIVEUPDATE_RX_MEM_H */
