// SPDX-License-Identifier: GPL-2.0
/*
 * The state: what is handed over beside memory and devices, as parts with a tag and a
 * length each. The next VMM may be of another version: it finds what it knows by tag,
 * insists on its size, and does not run a guest of which a part is missing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm.h"

#define MAGIC "pciluvm" /* with its NUL */
#define VERSION 1

struct head {
	char magic[8];
	uint32_t version;
	uint32_t size; /* of all of it */
};

struct part {
	uint32_t tag;
	uint32_t size; /* of what follows, up to which the next one is aligned */
};

#define ALIGN 8

static int append(struct state *s, const void *data, size_t size)
{
	size_t padded = round_up(size, ALIGN);

	if (s->size + padded > s->room) {
		size_t room = round_up(s->size + padded, KIB(64));
		void *more = realloc(s->data, room);

		if (!more)
			return fail(-ENOMEM, "no memory for the state");
		s->data = more;
		s->room = room;
	}
	memcpy(s->data + s->size, data, size);
	memset(s->data + s->size + size, 0, padded - size);
	s->size += padded;
	return 0;
}

int state_put(struct state *s, uint32_t tag, const void *data, size_t size)
{
	struct head head = { .magic = MAGIC, .version = VERSION };
	struct part part = { .tag = tag, .size = size };
	int err = 0;

	if (!s->size)
		err = append(s, &head, sizeof(head));
	if (!err)
		err = append(s, &part, sizeof(part));
	return err ? err : append(s, data, size);
}

/* NULL if there is no such part */
const void *state_find(const struct state *s, uint32_t tag, size_t *size)
{
	size_t at = sizeof(struct head);
	struct part part;

	while (at + sizeof(part) <= s->size) {
		memcpy(&part, s->data + at, sizeof(part));
		at += sizeof(part);
		if (part.size > s->size - at)
			break;
		if (part.tag == tag) {
			*size = part.size;
			return s->data + at;
		}
		at += round_up(part.size, ALIGN);
	}
	return NULL;
}

int state_get(const struct state *s, uint32_t tag, void *data, size_t size)
{
	const void *found;
	size_t has = 0;

	found = state_find(s, tag, &has);
	if (!found || has != size)
		return fail(-EPROTO,
			    "part %u of the state has %zu bytes, not %zu", tag,
			    has, size);
	memcpy(data, found, size);
	return 0;
}

/* Returns a memfd */
int state_write(const struct state *s)
{
	int fd = memfd_create("state", MFD_CLOEXEC);

	if (fd < 0)
		return fail(-errno, "memfd");
	((struct head *)s->data)->size = s->size;
	if (write(fd, s->data, s->size) != (ssize_t)s->size) {
		close(fd);
		return fail(-EIO, "the state cannot be written");
	}
	return fd;
}

int state_read(struct state *s, int fd)
{
	struct head head;
	struct stat st;

	if (fstat(fd, &st) ||
	    pread(fd, &head, sizeof(head), 0) != sizeof(head) ||
	    memcmp(head.magic, MAGIC, sizeof(head.magic)) != 0)
		return fail(-EPROTO, "this is no state of a VM");
	if (head.version != VERSION)
		return fail(-EPROTO, "the state is of version %u, not %u",
			    head.version, VERSION);
	if (head.size > st.st_size)
		return fail(-EPROTO, "the state is cut off");

	s->data = malloc(head.size);
	if (!s->data)
		return fail(-ENOMEM, "no memory for the state");
	s->size = head.size;
	s->room = head.size;
	if (pread(fd, s->data, s->size, 0) != (ssize_t)s->size)
		return fail(-EIO, "the state cannot be read");
	return 0;
}

void state_free(struct state *s)
{
	free(s->data);
	*s = (struct state){ 0 };
}
