// SPDX-License-Identifier: GPL-2.0

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/bits.h>
#include <linux/compiler.h>
#include <linux/math.h>

#include "rx_mem.h"

#define PAGEMAP_PRESENT		BIT_ULL(63)
#define PAGEMAP_PFN_MASK	GENMASK_ULL(54, 0)

struct frame {
	__u8 dst[6];
	__u8 src[6];
	__u16 type;
	__u32 magic;
	__u32 stream;
	__u64 seq;
	__u64 host_ns;
	__u8 fill[RX_FRAME_LEN - 38];
} __packed;

static_assert(sizeof(struct frame) == RX_FRAME_LEN, "frame layout");

static __u64 place(__u64 *end, __u64 len, size_t page_size)
{
	__u64 start = *end;

	*end += DIV_ROUND_UP(len, page_size) * page_size;
	return start;
}

/* Pointers into the mapping, from the header's offsets */
static void resolve(struct rx_mem *m)
{
	m->h = (struct rx_header *)m->map;
	m->pa = (__u64 *)(m->map + m->h->pa_offset);
	m->bitmap = (__u64 *)(m->map + m->h->bitmap_offset);
	m->log = (struct rx_log *)(m->map + m->h->log_offset);
	m->ring_page = (__u32 *)(m->map + m->h->ring_pages_offset);
	m->buf_page = (__u32 *)(m->map + m->h->buf_pages_offset);
	m->bufs_per_page = m->page_size / E1000E_BUF_SIZE;
}

static int map_memfd(struct rx_mem *m)
{
	void *map = mmap(NULL, m->size, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_POPULATE, m->memfd, 0);

	if (map == MAP_FAILED)
		return -errno;
	m->map = map;
	return 0;
}

int rx_mem_create(struct rx_mem *m, unsigned int entries, unsigned int spare)
{
	size_t ps = sysconf(_SC_PAGESIZE);
	__u32 ring_pages = DIV_ROUND_UP(entries * sizeof(struct e1000e_rx_desc), ps);
	__u32 buf_pages = DIV_ROUND_UP(entries, ps / E1000E_BUF_SIZE);
	__u64 pool = (__u64)(ring_pages + buf_pages + spare) * ps;
	struct rx_header h = {
		.magic = RX_MAGIC,
		.version = RX_VERSION,
		.page_size = ps,
		.ring_entries = entries,
		.ring_pages = ring_pages,
		.buf_pages = buf_pages,
	};
	__u64 end = 0;
	int ret;

	place(&end, sizeof(h), ps);
	h.bitmap_offset = place(&end, RX_SEQ_MAX / 8, ps);
	h.log_offset = place(&end, RX_LOG_MAX * sizeof(struct rx_log), ps);
	h.ring_pages_offset = place(&end, ring_pages * sizeof(__u32), ps);
	h.buf_pages_offset = place(&end, buf_pages * sizeof(__u32), ps);
	/* The table covers its own pages too; a page of slack is for those */
	h.pa_offset = place(&end, (end + pool) / ps * sizeof(__u64) + ps, ps);
	h.pool_offset = end;
	h.size = end + pool;
	h.state[0].pending_seq = ~0ULL;

	m->page_size = ps;
	m->size = h.size;
	m->memfd = memfd_create("e1000e_rx", MFD_CLOEXEC);
	if (m->memfd < 0)
		return -errno;
	if (ftruncate(m->memfd, m->size))
		return -errno;
	ret = map_memfd(m);
	if (ret)
		return ret;

	memset(m->map, 0, m->size);
	memcpy(m->map, &h, sizeof(h));
	resolve(m);
	return 0;
}

static int map_ring(struct rx_mem *m)
{
	__u8 *ring;
	__u32 i;

	ring = mmap(NULL, m->h->ring_pages * m->page_size, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ring == MAP_FAILED)
		return -errno;

	for (i = 0; i < m->h->ring_pages; i++) {
		void *page = mmap(ring + i * m->page_size, m->page_size,
				  PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_FIXED | MAP_POPULATE,
				  m->memfd, m->ring_page[i] * m->page_size);

		if (page == MAP_FAILED)
			return -errno;
	}

	m->ring = (struct e1000e_rx_desc *)ring;
	return 0;
}

static const __u64 *sort_pa;

static int by_pa(const void *a, const void *b)
{
	__u64 pa = sort_pa[*(const __u32 *)a];
	__u64 pb = sort_pa[*(const __u32 *)b];

	return pa < pb ? -1 : pa > pb;
}

static int read_pas(struct rx_mem *m, struct vfio_noiommu *v)
{
	__u64 offset = 0;

	while (offset < m->size) {
		__u64 pa, run, i;
		int ret = vfio_noiommu_pa(v, offset, &pa, &run);

		if (ret)
			return ret;
		if (run < m->page_size)
			return -EPROTO;
		for (i = 0; i < run; i += m->page_size)
			m->pa[(offset + i) / m->page_size] = pa + i;
		offset += run / m->page_size * m->page_size;
	}
	return 0;
}

/* First index in @page[] of @want pages in a row, or -1 */
static long find_run(struct rx_mem *m, const __u32 *page, __u32 n,
		     __u32 want)
{
	__u32 start = 0, i;

	for (i = 0; i < n; i++) {
		if (i && m->pa[page[i]] != m->pa[page[i - 1]] + m->page_size)
			start = i;
		if (i - start + 1 == want)
			return start;
	}
	return -1;
}

static __u8 *buffer(struct rx_mem *m, unsigned int i)
{
	return m->map +
	       (__u64)m->buf_page[i / m->bufs_per_page] * m->page_size +
	       i % m->bufs_per_page * E1000E_BUF_SIZE;
}

static void give_buffer(struct rx_mem *m, unsigned int i)
{
	struct e1000e_rx_desc *desc = &m->ring[i];

	desc->addr = m->pa[m->buf_page[i / m->bufs_per_page]] +
		     i % m->bufs_per_page * E1000E_BUF_SIZE;
	desc->length = 0;
	desc->csum = 0;
	desc->errors = 0;
	desc->vlan = 0;
	desc->status = 0;
}

int rx_mem_arrange(struct rx_mem *m, struct vfio_noiommu *v)
{
	__u32 first = m->h->pool_offset / m->page_size;
	__u32 n = m->size / m->page_size - first;
	__u32 *page, i, used = 0;
	long run;
	int ret;

	ret = read_pas(m, v);
	if (ret)
		return ret;

	page = calloc(n, sizeof(*page));
	if (!page)
		return -ENOMEM;
	for (i = 0; i < n; i++)
		page[i] = first + i;
	sort_pa = m->pa;
	qsort(page, n, sizeof(*page), by_pa);

	run = find_run(m, page, n, m->h->ring_pages);
	if (run < 0) {
		free(page);
		return -ENOSPC;
	}

	memcpy(m->ring_page, page + run, m->h->ring_pages * sizeof(*page));
	m->h->ring_pa = m->pa[m->ring_page[0]];
	for (i = 0; i < n && used < m->h->buf_pages; i++) {
		if (i < run || i >= run + m->h->ring_pages)
			m->buf_page[used++] = page[i];
	}
	free(page);

	ret = map_ring(m);
	if (ret)
		return ret;
	for (i = 0; i < m->h->ring_entries; i++)
		give_buffer(m, i);
	return 0;
}

static bool in_file(struct rx_mem *m, __u64 offset, __u64 len)
{
	return offset % m->page_size == 0 && offset <= m->size &&
	       len <= m->size - offset;
}

static bool pages_valid(struct rx_mem *m, const __u32 *page, __u32 n)
{
	while (n--) {
		__u64 offset = page[n] * (__u64)m->page_size;

		if (offset < m->h->pool_offset || !in_file(m, offset, m->page_size))
			return false;
	}
	return true;
}

/* A header from another program version, or damaged, must not lead us astray */
static bool header_valid(struct rx_mem *m)
{
	const struct rx_header *h = (const struct rx_header *)m->map;
	__u64 n;

	if (h->magic != RX_MAGIC || h->version != RX_VERSION ||
	    h->page_size != m->page_size || h->size != m->size)
		return false;

	n = h->ring_entries;
	if (n < E1000E_RING_MIN || n > E1000E_RING_MAX || n % 8 ||
	    h->ring_pages != DIV_ROUND_UP(n * sizeof(struct e1000e_rx_desc), m->page_size) ||
	    h->buf_pages != DIV_ROUND_UP(n, m->page_size / E1000E_BUF_SIZE))
		return false;

	return h->pool_offset < m->size && h->active < 2 &&
	       strnlen(h->bdf, sizeof(h->bdf)) < sizeof(h->bdf) &&
	       h->state[h->active].logged <= RX_LOG_MAX &&
	       in_file(m, h->pa_offset, m->size / m->page_size * sizeof(__u64)) &&
	       in_file(m, h->bitmap_offset, RX_SEQ_MAX / 8) &&
	       in_file(m, h->log_offset, RX_LOG_MAX * sizeof(struct rx_log)) &&
	       in_file(m, h->ring_pages_offset, h->ring_pages * sizeof(__u32)) &&
	       in_file(m, h->buf_pages_offset, h->buf_pages * sizeof(__u32));
}

int rx_mem_adopt(struct rx_mem *m, int memfd)
{
	struct stat st;
	int ret;

	m->memfd = memfd;
	m->page_size = sysconf(_SC_PAGESIZE);
	if (fstat(memfd, &st))
		return -errno;
	if (st.st_size < (off_t)m->page_size)
		return -EBADMSG;

	m->size = st.st_size;
	ret = map_memfd(m);
	if (ret)
		return ret;
	if (!header_valid(m))
		return -EBADMSG;

	resolve(m);
	if (!pages_valid(m, m->ring_page, m->h->ring_pages) ||
	    !pages_valid(m, m->buf_page, m->h->buf_pages))
		return -EBADMSG;

	return map_ring(m);
}

void rx_mem_close(struct rx_mem *m)
{
	if (m->ring)
		munmap((void *)m->ring, m->h->ring_pages * m->page_size);
	if (m->map)
		munmap(m->map, m->size);
	if (m->memfd >= 0)
		close(m->memfd);
	*m = (struct rx_mem)RX_MEM_INIT;
}

long rx_mem_moved_ioas(struct rx_mem *m, struct vfio_noiommu *v)
{
	__u64 offset = 0;
	long moved = 0;

	while (offset < m->size) {
		__u64 pa, run, i;
		int ret = vfio_noiommu_pa(v, offset, &pa, &run);

		if (ret)
			return ret;
		if (run < m->page_size)
			return -EPROTO;
		for (i = 0; i + m->page_size <= run; i += m->page_size)
			moved += m->pa[(offset + i) / m->page_size] != pa + i;
		offset += run / m->page_size * m->page_size;
	}
	return moved;
}

long rx_mem_moved_pagemap(struct rx_mem *m, long *unknown)
{
	long moved = 0;
	__u64 i;
	int fd;

	*unknown = 0;
	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;

	for (i = 0; i < m->size / m->page_size; i++) {
		const __u8 *page = m->map + i * m->page_size;
		__u64 entry = 0;

		/* Migration leaves nothing in the page table: fault it in */
		__atomic_load_n(page, __ATOMIC_RELAXED);
		if (pread(fd, &entry, sizeof(entry),
			  (unsigned long)page / m->page_size * sizeof(entry)) != sizeof(entry) ||
		    !(entry & PAGEMAP_PRESENT) || !(entry & PAGEMAP_PFN_MASK))
			(*unknown)++;
		else
			moved += (entry & PAGEMAP_PFN_MASK) * m->page_size != m->pa[i];
	}

	close(fd);
	return moved;
}

void rx_mem_recover(struct rx_mem *m)
{
	struct rx_state *s = rx_mem_state(m);

	if (s->pending_seq < RX_SEQ_MAX)
		m->bitmap[s->pending_seq / 64] |= 1ULL << s->pending_seq % 64;
	if (s->consumed)
		give_buffer(m, (s->consumed - 1) % m->h->ring_entries);
}

static bool seen(struct rx_mem *m, __u64 seq)
{
	return m->bitmap[seq / 64] >> seq % 64 & 1;
}

static bool is_ours(const struct frame *f, unsigned int len)
{
	return len >= offsetof(struct frame, fill) &&
	       be16toh(f->type) == RX_FRAME_TYPE &&
	       be32toh(f->magic) == RX_FRAME_MAGIC;
}

static bool is_intact(const struct frame *f, unsigned int len,
		      const struct e1000e_rx_desc *desc)
{
	__u8 fill = be64toh(f->seq) & 0xff;
	size_t i;

	if (len != RX_FRAME_LEN || desc->errors ||
	    !(desc->status & E1000E_RXD_STAT_EOP))
		return false;
	for (i = 0; i < sizeof(f->fill); i++) {
		if (f->fill[i] != fill)
			return false;
	}
	return true;
}

static void account_good(struct rx_mem *m, struct rx_state *s,
			 const struct frame *f)
{
	__u64 host_ns = be64toh(f->host_ns);
	__u64 seq = be64toh(f->seq);

	s->frames++;
	if (!s->first_host_ns) {
		s->first_host_ns = host_ns;
		s->first_seq = seq;
		s->last_seq = seq;
	} else {
		if (host_ns > s->last_host_ns &&
		    host_ns - s->last_host_ns > s->max_gap_ns) {
			s->max_gap_ns = host_ns - s->last_host_ns;
			s->max_gap_after_seq = s->prev_seq;
		}
		if (seq < s->prev_seq)
			s->reordered++;
	}

	if (seq < s->first_seq)
		s->first_seq = seq;
	if (seq > s->last_seq)
		s->last_seq = seq;
	s->prev_seq = seq;
	s->last_host_ns = host_ns;

	if (seq >= RX_SEQ_MAX) {
		s->untracked++;
	} else if (seen(m, seq)) {
		s->duplicated++;
	} else {
		s->distinct++;
		s->pending_seq = seq;
	}

	if (s->logged < RX_LOG_MAX) {
		m->log[s->logged++] = (struct rx_log){
			.host_ns = host_ns,
			.seq = seq,
			.incarnation = m->h->incarnation,
		};
	}
}

static void account(struct rx_mem *m, unsigned int i)
{
	const struct frame *f = (const struct frame *)buffer(m, i);
	struct e1000e_rx_desc *desc = &m->ring[i];
	struct rx_state *s = &m->h->state[!m->h->active];
	unsigned int len = desc->length;

	*s = *rx_mem_state(m);
	s->consumed++;
	s->pending_seq = ~0ULL;

	if (is_ours(f, len) && !s->have_stream) {
		s->have_stream = 1;
		s->stream = be32toh(f->stream);
	}
	if (!is_ours(f, len) || be32toh(f->stream) != s->stream)
		s->foreign++;
	else if (!is_intact(f, len, desc))
		s->corrupted++;
	else
		account_good(m, s, f);

	/* From here on the frame counts; the rest can be repeated */
	__atomic_store_n(&m->h->active, !m->h->active, __ATOMIC_SEQ_CST);
	rx_mem_recover(m);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* How many descriptors in a row the hardware has finished */
static unsigned int done(struct rx_mem *m)
{
	__u64 consumed = rx_mem_state(m)->consumed;
	unsigned int n;

	for (n = 0; n < m->h->ring_entries; n++) {
		unsigned int i = (consumed + n) % m->h->ring_entries;

		if (!(__atomic_load_n(&m->ring[i].status, __ATOMIC_RELAXED) &
		      E1000E_RXD_STAT_DD))
			break;
	}
	e1000e_rmb();
	return n;
}

void rx_mem_waiting(struct rx_mem *m, struct rx_waiting *w)
{
	__u64 consumed = rx_mem_state(m)->consumed;
	unsigned int n = done(m), k;

	*w = (struct rx_waiting){ .descriptors = n };
	for (k = 0; k < n; k++) {
		unsigned int i = (consumed + k) % m->h->ring_entries;
		const struct frame *f = (const struct frame *)buffer(m, i);

		if (!is_ours(f, m->ring[i].length))
			continue;
		w->last_seq = be64toh(f->seq);
		w->last_host_ns = be64toh(f->host_ns);
		if (!w->frames++)
			w->first_seq = w->last_seq;
	}
}

unsigned int rx_mem_poll(struct rx_mem *m)
{
	__u64 consumed = rx_mem_state(m)->consumed;
	unsigned int n = done(m), k;

	if (n > m->h->high_water)
		m->h->high_water = n;
	for (k = 0; k < n; k++)
		account(m, (consumed + k) % m->h->ring_entries);
	return n;
}
