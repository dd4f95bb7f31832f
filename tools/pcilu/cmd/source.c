// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <fcntl.h>
#include <sha2.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../../lib/src/cleanup.h"
#include "source.h"

#define PIECE (1 << 20)
#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

/* Files of sysfs, as the running kernel's initrd, may tell another size */
static int read_all(int fd, size_t room, size_t max, char **out, size_t *size)
{
	autofree char *data = NULL;
	ssize_t n;

	for (*size = 0;;) {
		char *more = realloc(data, room + 1);

		if (!more)
			return -ENOMEM;
		data = more;
		n = pread(fd, data + *size, room - *size, (off_t)*size);
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		*size += (size_t)n;
		if (*size > max)
			return -EFBIG;
		if (*size == room)
			room += room / 2 + PIECE;
	}
	data[*size] = '\0';
	*out = take_ptr(data);
	return 0;
}

int source_open(struct source *s, const char *path, size_t max)
{
	autoclose int fd =
		open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	int err;

	*s = (struct source){ .fd = -1 };
	if (fd < 0 || fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	err = read_all(fd, (size_t)st.st_size + 1, max, &s->data, &s->size);
	if (err)
		return err;
	SHA256Data((const uint8_t *)s->data, s->size, s->hash);
	s->fd = take_fd(&fd);
	return 0;
}

int source_hold(struct source *s, const char *name, const void *data,
		size_t size)
{
	autoclose int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	autofree char *copy = malloc(size + 1);
	size_t at = 0;
	ssize_t n;

	if (fd < 0)
		return -errno;
	if (!copy)
		return -ENOMEM;
	memcpy(copy, data, size);
	copy[size] = '\0';
	while (at < size) {
		n = write(fd, copy + at, size - at);
		if (n < 0)
			return -errno;
		at += (size_t)n;
	}
	if (fcntl(fd, F_ADD_SEALS, SEALS))
		return -errno;
	source_close(s);
	SHA256Data((const uint8_t *)copy, size, s->hash);
	s->fd = take_fd(&fd);
	s->data = take_ptr(copy);
	s->size = size;
	return 0;
}

bool source_unchanged(const struct source *s)
{
	autofree uint8_t *piece = malloc(PIECE);
	char hash[SOURCE_HASH];
	SHA2_CTX sha;
	off_t at = 0;
	ssize_t n = 0;

	if (s->fd < 0)
		return true;
	SHA256Init(&sha);
	while (piece && (n = pread(s->fd, piece, PIECE, at)) > 0) {
		SHA256Update(&sha, piece, (size_t)n);
		at += n;
	}
	SHA256End(&sha, hash);
	return piece && n == 0 && !strcmp(hash, s->hash);
}

void source_close(struct source *s)
{
	if (s->fd >= 0)
		close(s->fd);
	free(s->data);
	s->fd = -1;
	s->data = NULL;
	s->size = 0;
}
