// SPDX-License-Identifier: GPL-2.0
/* The memory commands of vfio_agent: a memfd, mapped. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/bits.h>

#include "agent.h"

#define PEEK_MAX	4096

/* Documentation/admin-guide/mm/pagemap.rst */
#define PAGEMAP_PRESENT		BIT_ULL(63)
#define PAGEMAP_PFN_MASK	GENMASK_ULL(54, 0)

int agent_map_memory(struct agent_thing *t)
{
	struct stat st;
	void *map;

	if (fstat(t->fd, &st))
		return -errno;
	map = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, t->fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	t->map = map;
	t->size = st.st_size;
	return 0;
}

static int cmd_memory(struct agent_call *c)
{
	bool huge = c->argc > 1 && !strcmp(c->argv[1], "huge");
	struct agent_thing *t = c->thing;
	int ret;

	t->kind = AGENT_MEMORY;
	t->fd = memfd_create(t->name, MFD_CLOEXEC | (huge ? MFD_HUGETLB : 0));
	if (t->fd < 0 || ftruncate(t->fd, agent_number(c, 0, 1) * getpagesize()))
		return -errno;
	ret = agent_map_memory(t);
	if (!ret)
		memset(t->map, 0, t->size);
	return ret;
}

/* The file of another process, by its name in /proc */
static int cmd_open_memory(struct agent_call *c)
{
	struct agent_thing *t = c->thing;

	t->kind = AGENT_MEMORY;
	t->fd = open(c->argv[0], O_RDWR | O_CLOEXEC);
	return t->fd < 0 ? -errno : agent_map_memory(t);
}

static bool outside(const struct agent_thing *t, __u64 offset, __u64 len)
{
	return offset > t->size || len > t->size - offset;
}

static int cmd_peek(struct agent_call *c)
{
	__u64 offset = agent_number(c, 0, 0), len = agent_number(c, 1, 8);

	if (outside(c->thing, offset, len) || len > PEEK_MAX)
		return -ERANGE;
	json_bytes(c->reply, "data", c->thing->map + offset, len);
	return 0;
}

static int cmd_poke(struct agent_call *c)
{
	__u64 offset = agent_number(c, 0, 0);
	const char *hex = c->argv[1];
	unsigned int byte;

	if (strlen(hex) % 2 || outside(c->thing, offset, strlen(hex) / 2))
		return -ERANGE;
	for (; *hex; hex += 2) {
		if (sscanf(hex, "%2x", &byte) != 1)
			return -EINVAL;
		c->thing->map[offset++] = byte;
	}
	return 0;
}

/* What has been put at the start of a range, again and again up to its end */
static int cmd_repeat(struct agent_call *c)
{
	__u64 offset = agent_number(c, 0, 0), len = agent_number(c, 1, 0);
	__u64 part = agent_number(c, 2, 1);

	if (outside(c->thing, offset, len) || !part || part > len)
		return -ERANGE;
	for (__u64 at = part; at < len; at++)
		c->thing->map[offset + at] = c->thing->map[offset + at - part];
	return 0;
}

static int cmd_fill(struct agent_call *c)
{
	__u64 offset = agent_number(c, 0, 0), len = agent_number(c, 1, 0);

	if (outside(c->thing, offset, len))
		return -ERANGE;
	memset(c->thing->map + offset, agent_number(c, 2, 0), len);
	return 0;
}

static int cmd_punch(struct agent_call *c)
{
	__u64 offset = agent_number(c, 0, 0), len = agent_number(c, 1, 0);

	return fallocate(c->thing->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, len) ?
		-errno : 0;
}

/* Where a page of the memory is, or 0 */
static __u64 physical(int pagemap, const __u8 *page, size_t page_size)
{
	__u64 entry;

	/* It may have been migrated: fault it in */
	__atomic_load_n(page, __ATOMIC_RELAXED);
	if (pread(pagemap, &entry, sizeof(entry),
		  (unsigned long)page / page_size * sizeof(entry)) != sizeof(entry) ||
	    !(entry & PAGEMAP_PRESENT))
		return 0;
	return (entry & PAGEMAP_PFN_MASK) * page_size;
}

static void put_run(struct json *j, __u64 start, size_t pages)
{
	char run[48];

	snprintf(run, sizeof(run), "0x%llx+%zu", start, pages);
	json_str(j, NULL, run);
}

/* In runs of pages that are one after the other, as there may be many */
static int cmd_pages(struct agent_call *c)
{
	const struct agent_thing *t = c->thing;
	size_t page_size = getpagesize(), pages = 0;
	__u64 start = 0, pa = 1;
	int fd;

	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	json_open(c->reply, "pages", '[');
	for (size_t at = 0; pa && at < t->size; at += page_size, pages++) {
		pa = physical(fd, t->map + at, page_size);
		if (pages && pa == start + pages * page_size)
			continue;
		if (pages)
			put_run(c->reply, start, pages);
		start = pa;
		pages = 0;
	}
	if (pages)
		put_run(c->reply, start, pages);
	json_close(c->reply, ']');
	close(fd);
	return pa ? 0 : -ENODATA;
}

const struct agent_command agent_memory_commands[] = {
	{ "memory", cmd_memory, AGENT_NEW, 1, "MEM PAGES [huge]; a new memfd, of huge pages" },
	{ "open-memory", cmd_open_memory, AGENT_NEW, 1, "MEM PATH; another's memfd, in /proc" },
	{ "peek", cmd_peek, AGENT_MEMORY, 2, "MEM OFFSET LENGTH; as hex digits" },
	{ "poke", cmd_poke, AGENT_MEMORY, 2, "MEM OFFSET HEX" },
	{ "pages", cmd_pages, AGENT_MEMORY, 0, "MEM; their physical addresses" },
	{ "repeat", cmd_repeat, AGENT_MEMORY, 3,
	  "MEM OFFSET LENGTH PART; the first bytes of it, all over it" },
	{ "punch", cmd_punch, AGENT_MEMORY, 2, "MEM OFFSET LENGTH; a hole" },
	{ "fill", cmd_fill, AGENT_MEMORY, 3, "MEM OFFSET LENGTH BYTE" },
	{ }
};
