// SPDX-License-Identifier: GPL-2.0
/* Documentation/driver-api/early-userspace/buffer-format.rst */

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "../../../lib/src/cleanup.h"
#include "bootconfig.h"
#include "initrd.h"

#define HEADER 110
#define FIELD_SIZE 6
#define FIELD_NAME 11
#define END "TRAILER!!!"
#define UNPACKED_MAX (2UL << 30)

struct walk {
	const char *data;
	size_t size, at;
	const char *release;
	struct initrd *out;
};

static bool field(const char *header, int n, size_t *value)
{
	int i;

	*value = 0;
	for (i = 0; i < 8; i++) {
		char c = header[6 + n * 8 + i];

		if (c >= '0' && c <= '9')
			*value = *value << 4 | (size_t)(c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			*value = *value << 4 | (size_t)((c | 0x20) - 'a' + 10);
		else
			return false;
	}
	return true;
}

static size_t padded(size_t n)
{
	return (n + 3) & ~(size_t)3;
}

/* "usr/lib/modules/RELEASE" or "lib/modules/RELEASE", with anything behind it */
static void look_at_name(struct walk *w, const char *name)
{
	const char *release = strstr(name, "lib/modules/");
	size_t n;

	if (!release)
		return;
	release += strlen("lib/modules/");
	n = strcspn(release, "/");
	if (!n)
		return;
	w->out->has_modules = true;
	if (w->release && strlen(w->release) == n &&
	    !strncmp(release, w->release, n))
		w->out->has_wanted = true;
}

static bool is_archive(const struct walk *w)
{
	return w->size - w->at >= HEADER &&
	       (!memcmp(w->data + w->at, "070701", 6) ||
		!memcmp(w->data + w->at, "070702", 6));
}

/* From one header to the one behind it. False if it is not all there. */
static bool entry(struct walk *w, bool *end)
{
	const char *header = w->data + w->at;
	size_t size, name, left = w->size - w->at;

	if (!is_archive(w) || !field(header, FIELD_SIZE, &size) ||
	    !field(header, FIELD_NAME, &name))
		return false;
	if (!name || name > 4096 || padded(HEADER + name) > left ||
	    header[HEADER + name - 1] != '\0')
		return false;
	*end = !strcmp(header + HEADER, END);
	look_at_name(w, header + HEADER);
	left -= padded(HEADER + name);
	if (size > left)
		return false;
	/* The last one need not be padded */
	w->at = padded(HEADER + name) + padded(size) > w->size - w->at ?
			w->size :
			w->at + padded(HEADER + name) + padded(size);
	return true;
}

static bool archive(struct walk *w)
{
	bool end = false;

	while (!end)
		if (!entry(w, &end))
			return false;
	return true;
}

static void skip_padding(struct walk *w)
{
	while (w->at < w->size && !w->data[w->at])
		w->at++;
}

static const char *walk(struct walk *w, bool may_be_packed)
{
	struct walk inner = *w;
	const char *wrong;
	struct blob blob;
	size_t left;

	for (skip_padding(w); w->at < w->size; skip_padding(w)) {
		left = w->size - w->at;
		if (is_archive(w)) {
			if (!archive(w))
				return "an archive in it is cut off or damaged";
			continue;
		}
		w->out->kind = unpack_kind(w->data + w->at, left);
		if (!may_be_packed || w->out->kind == UNPACK_NONE)
			return "it is neither a cpio archive nor packed as the kernel knows it";
		w->out->compression = unpack_name(w->out->kind);
		w->out->opaque = w->out->kind == UNPACK_UNSUPPORTED;
		if (w->out->opaque)
			return NULL;
		if (unpack(w->out->kind, w->data + w->at, left, UNPACKED_MAX,
			   &blob))
			return "what is packed in it is cut off or damaged";
		inner.data = blob.data;
		inner.size = blob.size;
		inner.at = 0;
		wrong = blob.size ? walk(&inner, false) : "nothing is in it";
		free(blob.data);
		/* How much was packed is not told, so what is behind is not read */
		return wrong;
	}
	return NULL;
}

int initrd_parse(const char *data, size_t size, const char *release,
		 struct initrd *out, const char **why)
{
	struct walk w = { .data = data, .release = release, .out = out };
	long n;

	*out = (struct initrd){ .compression = "not compressed" };
	n = bootconfig_find(data, size, &out->bootconfig);
	if (n < 0) {
		*why = "the boot configuration behind it is damaged";
		return (int)n;
	}
	out->bootconfig_size = (size_t)n;
	w.size = n ? (size_t)(out->bootconfig - data) : size;
	skip_padding(&w);
	*why = w.at == w.size ? "it is empty" : walk(&w, true);
	return *why ? -EBADMSG : 0;
}
