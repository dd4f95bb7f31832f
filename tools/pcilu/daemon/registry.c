// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../../lib/src/cleanup.h"
#include "registry.h"

/* The image: read by the daemon of another release in the next kernel, an ABI */
#define IMAGE_MAGIC 0x544c4350U /* "PCLT" */
#define IMAGE_VERSION 1

struct image_slot {
	char name[PCILU_MSG_NAME_SIZE];
	uint32_t direction;
	uint32_t uid;
	uint64_t reserved;
};

struct image {
	uint32_t magic;
	uint32_t version;
	uint32_t slots; /* REGISTRY_MAX of who wrote it */
	uint32_t slot_size;
	uint64_t reserved[6];
	struct image_slot slot[REGISTRY_MAX];
};

_Static_assert(sizeof(struct image_slot) == 80, "an ABI");
_Static_assert(sizeof(struct image) == 64 + 80 * REGISTRY_MAX, "an ABI");

struct registry {
	int fd;
	unsigned int count;
	struct image *image;
	struct entry entry[REGISTRY_MAX];
};

static struct registry *registry_map(int fd)
{
	struct registry *reg = calloc(1, sizeof(*reg));
	unsigned int i;

	if (!reg)
		return NULL;
	reg->image = mmap(NULL, sizeof(*reg->image), PROT_READ | PROT_WRITE,
			  MAP_SHARED, fd, 0);
	if (reg->image == MAP_FAILED) {
		free(reg);
		return NULL;
	}
	for (i = 0; i < REGISTRY_MAX; i++)
		reg->entry[i] = (struct entry){ .fd = -1, .kept = -1 };
	return reg;
}

struct registry *registry_new(void)
{
	autoclose int fd = memfd_create("pcilud", MFD_CLOEXEC);
	struct registry *reg;

	if (fd < 0 || ftruncate(fd, sizeof(struct image)))
		return NULL;
	reg = registry_map(fd);
	if (!reg)
		return NULL;
	reg->image->version = IMAGE_VERSION;
	reg->image->slots = REGISTRY_MAX;
	reg->image->slot_size = sizeof(struct image_slot);
	reg->image->magic = IMAGE_MAGIC;
	reg->fd = take_fd(&fd);
	return reg;
}

static int slot_valid(const struct image_slot *s)
{
	return pcilu_msg_name_valid(s->name, sizeof(s->name)) &&
	       s->direction <= 1 && !s->reserved;
}

struct registry *registry_from_fd(int fd)
{
	struct registry *reg;
	const struct image *img;
	struct stat st;
	unsigned int i;

	if (fstat(fd, &st))
		return NULL;
	if (st.st_size != sizeof(struct image)) {
		errno = EBADMSG;
		return NULL;
	}
	reg = registry_map(fd);
	if (!reg)
		return NULL;
	img = reg->image;
	if (img->magic != IMAGE_MAGIC || img->version != IMAGE_VERSION ||
	    img->slots != REGISTRY_MAX ||
	    img->slot_size != sizeof(struct image_slot))
		goto bad;
	for (i = 0; i < REGISTRY_MAX; i++) {
		const struct image_slot *s = &img->slot[i];
		struct entry *e = &reg->entry[i];

		if (!s->name[0])
			continue;
		if (!slot_valid(s) || registry_find(reg, s->direction, s->name))
			goto bad;
		memcpy(e->name, s->name, strlen(s->name));
		e->direction = s->direction;
		e->uid = s->uid;
		reg->count++;
	}
	reg->fd = fd;
	return reg;
bad:
	munmap(reg->image, sizeof(*reg->image));
	free(reg);
	errno = EBADMSG;
	return NULL;
}

static void close_all(const struct entry *e)
{
	if (e->fd >= 0)
		close(e->fd);
	if (e->kept >= 0)
		close(e->kept);
}

void registry_free(struct registry *reg)
{
	unsigned int i;

	if (!reg)
		return;
	for (i = 0; i < REGISTRY_MAX; i++)
		close_all(&reg->entry[i]);
	munmap(reg->image, sizeof(*reg->image));
	close(reg->fd);
	free(reg);
}

int registry_fd(const struct registry *reg)
{
	return reg->fd;
}

struct entry *registry_next(struct registry *reg, uint32_t *index)
{
	for (; *index < REGISTRY_MAX; ++*index)
		if (reg->entry[*index].name[0])
			return &reg->entry[*index];
	return NULL;
}

struct entry *registry_find(struct registry *reg, uint32_t direction,
			    const char *name)
{
	struct entry *e;
	uint32_t i;

	for (i = 0; (e = registry_next(reg, &i)); i++)
		if (e->direction == direction && !strcmp(e->name, name))
			return e;
	return NULL;
}

void registry_update(struct registry *reg, const struct entry *e)
{
	struct image_slot *s = &reg->image->slot[e - reg->entry];
	struct image_slot fresh = { .direction = e->direction, .uid = e->uid };

	memcpy(fresh.name, e->name, sizeof(fresh.name));
	*s = fresh;
}

struct entry *registry_add(struct registry *reg, uint32_t direction,
			   const char *name, uid_t uid, pid_t pid, int fd)
{
	unsigned int i;
	struct entry *e;

	for (i = 0; i < REGISTRY_MAX && reg->entry[i].name[0]; i++)
		;
	if (i == REGISTRY_MAX)
		return NULL;
	e = &reg->entry[i];
	*e = (struct entry){ .direction = direction,
			     .uid = uid,
			     .pid = pid,
			     .fd = fd,
			     .kept = -1 };
	memcpy(e->name, name, strnlen(name, sizeof(e->name) - 1));
	reg->count++;
	registry_update(reg, e);
	return e;
}

void registry_remove(struct registry *reg, struct entry *e)
{
	close_all(e);
	*e = (struct entry){ .fd = -1, .kept = -1 };
	reg->count--;
	registry_update(reg, e);
}

unsigned int registry_count(const struct registry *reg)
{
	return reg->count;
}
