// SPDX-License-Identifier: GPL-2.0
/*
 * The stream of descriptors: big-endian words, a list of descriptors by name, and as a
 * subsection a list of vfio-pci devices. It is QEMU's own, and QEMU promises nobody that it
 * stays so: what is not understood is refused, and the guest goes on.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../lib/src/cleanup.h"
#include "broker.h"

#define MAGIC 0x51435052 /* "QCPR" */
#define VERSION 1
#define SUBSECTION 5
#define DEVICES "CprState/vfio devices"
#define DEVICES_VERSION 1
#define MAX_SIZE (1 << 20)

struct reader {
	const uint8_t *at;
	size_t left;
	bool bad;
};

static const void *take(struct reader *r, size_t size)
{
	const void *p = r->at;

	if (r->left < size) {
		r->bad = true;
		return NULL;
	}
	r->at += size;
	r->left -= size;
	return p;
}

static uint32_t take32(struct reader *r)
{
	const void *p = take(r, 4);
	uint32_t n;

	if (!p)
		return 0;
	memcpy(&n, p, 4);
	return be32toh(n);
}

static uint8_t take8(struct reader *r)
{
	const uint8_t *p = take(r, 1);

	return p ? *p : 0;
}

static void take_name(struct reader *r, char name[NAME_SIZE])
{
	uint32_t size = take32(r);
	const char *p = take(r, size);

	if (!p || !size || size > NAME_SIZE || p[size - 1]) {
		r->bad = true;
		return;
	}
	memcpy(name, p, size);
}

int stream_add(struct stream *s, const char *name, int id, int fd)
{
	struct handed *all;

	all = reallocarray(s->handed, s->nr_handed + 1, sizeof(*all));
	if (!all)
		return fail(-ENOMEM, "%s", name);
	s->handed = all;
	all += s->nr_handed++;
	*all = (struct handed){ .id = id, .fd = fd };
	strncpy(all->name, name, NAME_SIZE - 1);
	return 0;
}

int stream_host(struct stream *s, const struct hosted *h)
{
	struct hosted *all;

	all = reallocarray(s->hosted, s->nr_hosted + 1, sizeof(*all));
	if (!all)
		return fail(-ENOMEM, "%s", h->name);
	s->hosted = all;
	all[s->nr_hosted++] = *h;
	return 0;
}

int stream_find(const struct stream *s, const char *name, int id)
{
	size_t n;

	for (n = 0; n < s->nr_handed; n++)
		if (s->handed[n].id == id && !strcmp(s->handed[n].name, name))
			return s->handed[n].fd;
	return -1;
}

int stream_memory(const struct stream *s, const char *region)
{
	size_t n, length = strlen(region);
	int fd = -1;

	for (n = 0; n < s->nr_handed; n++) {
		const char *name = s->handed[n].name,
			   *end = name + strlen(name);

		if ((size_t)(end - name) < length ||
		    strcmp(end - length, region) != 0)
			continue;
		if (end - length != name && end[-(ssize_t)length - 1] != '/')
			continue;
		if (fd >= 0)
			return -1;
		fd = s->handed[n].fd;
	}
	return fd;
}

void stream_free(struct stream *s)
{
	free(s->handed);
	free(s->hosted);
	*s = (struct stream){ 0 };
}

static int parse(struct stream *s, struct reader *r)
{
	char name[NAME_SIZE];
	const char *section;
	struct hosted h;
	uint8_t mark;
	int err = 0;

	if (take32(r) != MAGIC || take32(r) != VERSION)
		return -EBADMSG;
	while (!err && (mark = take8(r)) == 1 && !r->bad) {
		struct handed one;

		take_name(r, one.name);
		one.id = (int)take32(r);
		one.fd = (int)take32(r);
		if (!r->bad)
			err = stream_add(s, one.name, one.id, one.fd);
	}
	if (err || r->bad || mark)
		return err ? err : -EBADMSG;
	if (!r->left)
		return 0;
	if (take8(r) != SUBSECTION || take8(r) != strlen(DEVICES))
		return -EBADMSG;
	section = take(r, strlen(DEVICES));
	if (!section || memcmp(section, DEVICES, strlen(DEVICES)) != 0 ||
	    take32(r) != DEVICES_VERSION)
		return -EBADMSG;
	while (!err && (mark = take8(r)) == 1 && !r->bad) {
		take_name(r, name);
		h.dev = take32(r);
		h.ioas = take32(r);
		h.hwpt = take32(r);
		if (r->bad)
			break;
		memcpy(h.name, name, NAME_SIZE);
		err = stream_host(s, &h);
	}
	if (err)
		return err;
	return r->bad || mark || r->left ? -EBADMSG : 0;
}

int stream_read(struct stream *s, int fd)
{
	autofree uint8_t *data = malloc(MAX_SIZE);
	struct reader r = { .at = data };
	ssize_t size;
	int err;

	if (!data)
		return fail(-ENOMEM, "QEMU's descriptors");
	size = pread(fd, data, MAX_SIZE, 0);
	if (size < 0)
		return fail(-errno, "QEMU's descriptors");
	r.left = (size_t)size;
	err = parse(s, &r);
	if (err)
		stream_free(s);
	return err == -EBADMSG ?
		       fail(err,
			    "this release of QEMU hands its descriptors over in a way that is not known") :
		       err;
}

/* --- writing ---------------------------------------------------------------------- */

static void put32(FILE *f, uint32_t n)
{
	n = htobe32(n);
	fwrite(&n, 4, 1, f);
}

static void put_name(FILE *f, const char *name)
{
	put32(f, (uint32_t)strlen(name) + 1);
	fwrite(name, strlen(name) + 1, 1, f);
}

int stream_write(const struct stream *s)
{
	autofree char *data = NULL;
	size_t n, size = 0;
	FILE *f = open_memstream(&data, &size);
	int fd, err;

	if (!f)
		return fail(-ENOMEM, "QEMU's descriptors");
	put32(f, MAGIC);
	put32(f, VERSION);
	for (n = 0; n < s->nr_handed; n++) {
		fputc(1, f);
		put_name(f, s->handed[n].name);
		put32(f, (uint32_t)s->handed[n].id);
		put32(f, (uint32_t)s->handed[n].fd);
	}
	fputc(0, f);
	fputc(SUBSECTION, f);
	fputc((int)strlen(DEVICES), f);
	fputs(DEVICES, f);
	put32(f, DEVICES_VERSION);
	for (n = 0; n < s->nr_hosted; n++) {
		fputc(1, f);
		put_name(f, s->hosted[n].name);
		put32(f, s->hosted[n].dev);
		put32(f, s->hosted[n].ioas);
		put32(f, s->hosted[n].hwpt);
	}
	fputc(0, f);
	err = ferror(f) ? -ENOMEM : 0;
	if (fclose(f) || err)
		return fail(-ENOMEM, "QEMU's descriptors");
	for (n = 0; n < s->nr_handed; n++)
		if (fcntl(s->handed[n].fd, F_SETFD, 0))
			return fail(-errno, "%s", s->handed[n].name);
	fd = memfd_create("cpr-exec-state", 0);
	if (fd < 0)
		return fail(-errno, "QEMU's descriptors");
	if (write(fd, data, size) != (ssize_t)size) {
		close(fd);
		return fail(-EIO, "QEMU's descriptors");
	}
	return fd;
}
