// SPDX-License-Identifier: GPL-2.0
/*
 * The guest's memory: one memfd, which goes from kernel to kernel in the session, and
 * where the guest sees its parts.
 *
 * If an IOMMU translates for the devices, guest-physical addresses are what a VMM likes
 * them to be: offsets in the memfd. If none does, a device takes the addresses that the
 * guest gives it for physical ones. So they have to be: each page of the memfd is shown
 * to the guest where it is in the host's memory. That puts it into a handful of pieces,
 * which the guest is told of as any firmware tells of memory with holes. The first MiB
 * is an exception, as the guest cannot boot without it; Linux gives none of it to
 * devices.
 *
 * In the second way the guest, or whoever breaks into it, reads and writes all of the
 * host's memory through the device. That is what no-IOMMU mode means.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm.h"

/* Pieces of less are not shown to the guest */
#define LEAST_RUN MIB(1)

int memory_create(struct memory *m, uint64_t size)
{
	m->size = size;
	m->fd = memfd_create("guest", MFD_CLOEXEC);
	if (m->fd < 0 || ftruncate(m->fd, size))
		return fail(-errno, "memory for the guest");
	return 0;
}

static int add_segment(struct memory *m, uint64_t gpa, uint64_t offset,
		       uint64_t size)
{
	struct segment *more;

	more = reallocarray(m->segments, m->nr_segments + 1, sizeof(*more));
	if (!more)
		return fail(-ENOMEM, "no memory for the map of the memory");
	m->segments = more;
	more[m->nr_segments++] = (struct segment){ gpa, offset, size };
	return 0;
}

int memory_flat(struct memory *m)
{
	if (m->size > HOLE_START)
		return fail(-EINVAL, "a guest has at most 3 GiB");
	return add_segment(m, 0, 0, m->size);
}

static int by_gpa(const void *a, const void *b)
{
	const struct segment *one = a, *other = b;

	return (one->gpa > other->gpa) - (one->gpa < other->gpa);
}

/* A page that cannot be where it is in the host is left to nobody */
static bool usable(uint64_t pa, uint64_t size)
{
	return pa >= LOW_MEMORY && (pa + size <= HOLE_START || pa >= HOLE_END);
}

/*
 * The memory has to be mapped for the devices before: that pins its pages where they
 * are. Preserving it later does not move them any more.
 */
int memory_identity(struct memory *m, const struct iommu *iommu)
{
	uint64_t at, pa, size;
	int err;

	err = add_segment(m, 0, 0, LOW_MEMORY);
	for (at = LOW_MEMORY; !err && at < m->size; at += size) {
		size = m->size - at;
		err = iommu_physical(iommu, at, &pa, &size);
		if (!err && usable(pa, size))
			err = add_segment(m, pa, at, size);
	}
	if (!err)
		qsort(m->segments, m->nr_segments, sizeof(*m->segments),
		      by_gpa);
	return err;
}

/* How many segments from one on are in one piece for the guest, and how large it is */
static size_t run_length(const struct memory *m, size_t first, uint64_t *size)
{
	const struct segment *s = m->segments;
	size_t n = first;

	do {
		*size = s[n].gpa + s[n].size - s[first].gpa;
		n++;
	} while (n < m->nr_segments && s[n].gpa == s[first].gpa + *size);
	return n - first;
}

/* The first MiB is, however small its piece: the guest boots there */
static bool is_shown(const struct segment *s, uint64_t size, uint64_t least)
{
	return size >= least || !s->gpa;
}

/* The least size of pieces of which there are not too many */
static uint64_t least_run(const struct memory *m)
{
	uint64_t least, size;
	size_t n, count, runs;

	for (least = LEAST_RUN;; least *= 2) {
		for (n = 0, runs = 0; n < m->nr_segments; n += count) {
			count = run_length(m, n, &size);
			runs += is_shown(&m->segments[n], size, least);
		}
		if (runs <= MAX_RUNS)
			return least;
	}
}

static int map_run(struct memory *m, const struct segment *s, size_t count,
		   uint64_t size)
{
	struct run *r = &m->runs[m->nr_runs];
	void *va;
	size_t n;

	/* A place that is large enough, for the pieces to be put into */
	va = mmap(NULL, size, PROT_NONE, MAP_SHARED, m->fd, 0);
	if (va == MAP_FAILED)
		return fail(-errno, "no address space for the guest");
	*r = (struct run){ .gpa = s->gpa, .size = size, .va = va };
	for (n = 0; n < count; n++) {
		va = mmap(r->va + (s[n].gpa - s->gpa), s[n].size,
			  PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, m->fd,
			  s[n].offset);
		if (va == MAP_FAILED)
			return fail(-errno, "the guest's memory, %zu pieces",
				    count);
	}
	m->nr_runs++;
	return 0;
}

/* Maps what the guest sees, each piece in the order of its addresses */
int memory_map(struct memory *m, struct machine *machine)
{
	uint64_t least = least_run(m), size;
	size_t n, count;
	int err;

	for (n = 0; n < m->nr_segments; n += count) {
		count = run_length(m, n, &size);
		if (!is_shown(&m->segments[n], size, least))
			continue;
		err = map_run(m, &m->segments[n], count, size);
		if (!err)
			err = machine_add_memory(machine, m->nr_runs - 1,
						 m->segments[n].gpa, size,
						 m->runs[m->nr_runs - 1].va);
		if (err)
			return err;
	}
	return 0;
}

/* NULL if that is not memory in one piece */
void *memory_at(const struct memory *m, uint64_t gpa, uint64_t size)
{
	const struct run *r;

	for (r = m->runs; r < m->runs + m->nr_runs; r++)
		if (gpa >= r->gpa && gpa - r->gpa <= r->size &&
		    size <= r->size - (gpa - r->gpa))
			return r->va + (gpa - r->gpa);
	return NULL;
}

struct saved {
	uint64_t size;
	uint64_t identity;
};

int memory_save(const struct memory *m, struct state *s)
{
	struct saved saved = { m->size, m->identity };
	int err = state_put(s, STATE_MEMORY, &saved, sizeof(saved));

	return err ? err :
		     state_put(s, STATE_SEGMENTS, m->segments,
			       m->nr_segments * sizeof(*m->segments));
}

int memory_restore(struct memory *m, const struct state *s)
{
	const struct segment *segments;
	struct saved saved;
	size_t size, n;
	int err;

	err = state_get(s, STATE_MEMORY, &saved, sizeof(saved));
	if (err)
		return err;
	segments = state_find(s, STATE_SEGMENTS, &size);
	if (!segments)
		return fail(-EPROTO, "the state has no map of the memory");
	m->size = saved.size;
	m->identity = saved.identity;
	for (n = 0; !err && n < size / sizeof(*segments); n++)
		err = add_segment(m, segments[n].gpa, segments[n].offset,
				  segments[n].size);
	return err;
}

/* Are the pages still where the guest, and the devices, believe them to be? */
int memory_check(const struct memory *m, const struct iommu *iommu)
{
	struct memory now = { .size = m->size };
	int err = memory_identity(&now, iommu);

	if (!err && (now.nr_segments != m->nr_segments ||
		     memcmp(now.segments, m->segments,
			    now.nr_segments * sizeof(*now.segments)) != 0))
		err = fail(-EFAULT, "memory of the guest has moved");
	free(now.segments);
	return err;
}
