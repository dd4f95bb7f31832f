// SPDX-License-Identifier: GPL-2.0
/*
 * Containers, in the order of the documents that describe them: the x86 boot
 * protocol (Documentation/arch/x86/boot.rst), arm64 booting
 * (Documentation/arch/arm64/booting.rst), and the EFI zboot header
 * (drivers/firmware/efi/libstub/zboot-header.S). All integers are little-endian.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../lib/src/cleanup.h"
#include "../../../lib/src/path.h"
#include "image.h"
#include "kconfig.h"
#include "unpack.h"

#define IMAGE_MAX (1UL << 30)
#define UNPACKED_MAX (1UL << 30)

struct view {
	const uint8_t *p;
	size_t size;
};

static uint32_t get_le(const struct view *v, size_t at, unsigned int bytes)
{
	uint32_t n = 0;

	if (at > v->size || bytes > v->size - at)
		return 0;
	while (bytes--)
		n = n << 8 | v->p[at + bytes];
	return n;
}

static bool has(const struct view *v, size_t at, const char *text, size_t n)
{
	return at <= v->size && n <= v->size - at &&
	       !memcmp(v->p + at, text, n);
}

static int sub(const struct view *v, size_t at, size_t size, struct view *out)
{
	if (at > v->size || size > v->size - at)
		return -EBADMSG;
	*out = (struct view){ v->p + at, size };
	return 0;
}

/* A PE image is signed if its certificate table, data directory 4, is not empty */
static bool pe_signed(const struct view *v)
{
	size_t pe = get_le(v, 0x3c, 4);
	bool plus;

	if (!has(v, 0, "MZ", 2) || pe > v->size || !has(v, pe, "PE\0\0", 4))
		return false;
	plus = get_le(v, pe + 24, 2) == 0x20b;
	return get_le(v, pe + 24 + (plus ? 112UL : 96UL) + 4UL * 8 + 4, 4) != 0;
}

/* The release is the first word of a string that the header points at */
static char *bzimage_release(const struct view *v)
{
	size_t at = get_le(v, 0x20e, 2) + 0x200, n = 0;

	if (at == 0x200 || at >= v->size)
		return NULL;
	while (n < v->size - at && n < 256 && v->p[at + n] > ' ')
		n++;
	return n && n < 256 ? strndup((const char *)v->p + at, n) : NULL;
}

static int open_bzimage(const struct view *v, struct image *img,
			struct view *payload, const char **why)
{
	size_t sects = get_le(v, 0x1f1, 1);

	if (get_le(v, 0x206, 2) < 0x208) {
		*why = "its boot protocol is too old to find the kernel in it";
		return -EOPNOTSUPP;
	}
	img->format = "bzImage";
	img->release = bzimage_release(v);
	img->memory = get_le(v, 0x260, 4);
	return sub(v, ((sects ? sects : 4) + 1) * 512 + get_le(v, 0x248, 4),
		   get_le(v, 0x24c, 4), payload);
}

static int open_container(const struct view *v, struct image *img,
			  struct view *payload, const char **why)
{
	*payload = *v;
	img->is_signed = pe_signed(v);
	if (has(v, 0x202, "HdrS", 4))
		return open_bzimage(v, img, payload, why);
	if (has(v, 0, "MZ", 2) && has(v, 4, "zimg", 4)) {
		img->format = "EFI zboot";
		return sub(v, get_le(v, 8, 4), get_le(v, 12, 4), payload);
	}
	if (has(v, 0x38, "ARM\x64", 4)) {
		img->format = "Image";
		img->memory = get_le(v, 16, 4) | (uint64_t)get_le(v, 20, 4)
							 << 32;
		return 0;
	}
	if (has(v, 0, "\177ELF", 4)) {
		img->format = "vmlinux";
		return 0;
	}
	if (unpack_kind(v->p, v->size) != UNPACK_NONE) {
		img->format = "compressed Image";
		return 0;
	}
	*why = "it is no kernel image that we know (bzImage, Image, EFI zboot, vmlinux)";
	return -EBADMSG;
}

static char *find_config(const struct view *kernel)
{
	const uint8_t *p =
		memmem(kernel->p, kernel->size, "IKCFG_ST\x1f\x8b", 10);
	struct blob text;
	size_t left;

	if (!p)
		return NULL;
	p += 8;
	left = kernel->size - (size_t)(p - kernel->p);
	return unpack(UNPACK_GZIP, p, left, KCONFIG_MAX, &text) ? NULL :
								  text.data;
}

static char *find_release(const struct view *kernel)
{
	static const char banner[] = "Linux version ";
	const uint8_t *end = kernel->p + kernel->size, *p = kernel->p;
	size_t n;

	while ((p = memmem(p, (size_t)(end - p), banner, strlen(banner)))) {
		p += strlen(banner);
		for (n = 0; p + n < end && p[n] > ' ' && p[n] < 0x7f; n++)
			;
		/* and not the format string that prints it */
		if (n > 0 && n < 65 && *p >= '0' && *p <= '9')
			return strndup((const char *)p, n);
	}
	return NULL;
}

int image_parse(const void *data, size_t size, struct image *img,
		const char **why)
{
	const struct view whole = { data, size };
	struct blob unpacked = { 0 };
	autofree char *keep = NULL;
	enum unpack_kind kind;
	struct view kernel;
	int err;

	*img = (struct image){ .compression = "not compressed" };
	*why = "it is damaged: what its header promises is not there";
	err = open_container(&whole, img, &kernel, why);
	if (err)
		return err;
	kind = unpack_kind(kernel.p, kernel.size);
	if (kind != UNPACK_NONE) {
		img->compression = unpack_name(kind);
		err = unpack(kind, kernel.p, kernel.size, UNPACKED_MAX,
			     &unpacked);
		if (err == -EOPNOTSUPP)
			*why = "its compression (bzip2 or lzo) is not supported";
		else if (err == -EFBIG)
			*why = "it unpacks to more than a kernel can have";
		else if (err == -ENOMEM)
			*why = "it does not fit in memory";
		/* A file beside it may tell the configuration nevertheless */
		if (err)
			return err;
		keep = unpacked.data;
		kernel = (struct view){ (uint8_t *)unpacked.data,
					unpacked.size };
		if (!strcmp(img->format, "compressed Image") &&
		    has(&kernel, 0x38, "ARM\x64", 4))
			img->memory = get_le(&kernel, 16, 4);
	}
	img->config = find_config(&kernel);
	if (!img->release)
		img->release = find_release(&kernel);
	if (!img->memory)
		img->memory = kernel.size;
	return 0;
}

/* Looks for a configuration file: the one that was named, or one beside the image */
static void config_beside(const char *path, struct image *img)
{
	const char *slash = strrchr(path, '/');
	int dir = slash ? (int)(slash - path) + 1 : 0;
	char *name[3] = { NULL };
	size_t i;

	if (img->release &&
	    asprintf(&name[0], "%.*sconfig-%s", dir, path, img->release) < 0)
		name[0] = NULL;
	if (asprintf(&name[1], "%.*s.config", dir, path) < 0)
		name[1] = NULL;
	if (asprintf(&name[2], "%s.config", path) < 0)
		name[2] = NULL;
	for (i = 0; i < ARRAY_SIZE(name); i++) {
		if (!img->config && name[i]) {
			img->config = kconfig_read(name[i]);
			if (img->config) {
				img->config_path = name[i];
				continue;
			}
		}
		free(name[i]);
	}
}

int image_read(const char *path, const char *config, struct image *img,
	       const char **why)
{
	autofree char *data = NULL;
	ssize_t n = path_read(path, IMAGE_MAX, &data);
	int err;

	*img = (struct image){ 0 };
	if (n < 0) {
		*why = strerror((int)-n);
		return (int)n;
	}
	err = image_parse(data, (size_t)n, img, why);
	if (err)
		return err;
	if (config) {
		free(img->config);
		img->config = kconfig_read(config);
		if (!img->config) {
			*why = "the configuration file cannot be read";
			return -ENOENT;
		}
		img->config_path = strdup(config);
	} else if (!img->config) {
		config_beside(path, img);
	}
	return 0;
}

void image_free(struct image *img)
{
	free(img->release);
	free(img->config);
	free(img->config_path);
}
