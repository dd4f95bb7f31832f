// SPDX-License-Identifier: GPL-2.0
/*
 * Containers, in the order of the documents that describe them: the x86 boot
 * protocol (Documentation/arch/x86/boot.rst), arm64 booting
 * (Documentation/arch/arm64/booting.rst), the EFI zboot header
 * (drivers/firmware/efi/libstub/zboot-header.S), and unified kernel images
 * (the UAPI group's specification). All integers are little-endian.
 */

#include <stdio.h>
#include <stdlib.h>

#include "../../../lib/src/cleanup.h"
#include "image.h"
#include "kconfig.h"
#include "pe.h"
#include "unpack.h"

#define UNPACKED_MAX (1UL << 30)
#define SECTOR 512
#define PARAGRAPH 16
#define CMDLINE_ARM64 2048 /* COMMAND_LINE_SIZE */

/* xloadflags */
#define KERNEL_64 0x01
#define ABOVE_4G 0x02
#define FIVE_LEVEL 0x20
#define LOADED_HIGH 0x01 /* loadflags */

#define TOO_SHORT "it is damaged: what its header promises is not there"

/* The release is the first word of a string that the header points at */
static char *bzimage_release(const struct view *v)
{
	size_t at = view_le(v, 0x20e, 2) + 0x200, n = 0;

	if (at == 0x200 || at >= v->size)
		return NULL;
	while (n < v->size - at && n < 256 && v->p[at + n] > ' ')
		n++;
	return n && n < 256 ? strndup((const char *)v->p + at, n) : NULL;
}

static const char *bzimage_unloadable(const struct view *v)
{
	unsigned int flags = view_le(v, 0x236, 2);

	if (view_le(v, 0x1fe, 2) != 0xaa55)
		return "its boot sector is none";
	if (view_le(v, 0x206, 2) < 0x20c)
		return "its boot protocol is older than 2.12";
	if (!(view_le(v, 0x211, 1) & LOADED_HIGH))
		return "it is a zImage";
	if (!(flags & KERNEL_64))
		return "it is a 32-bit kernel";
	if (!(flags & ABOVE_4G))
		return "it cannot be loaded above 4 GB";
	return NULL;
}

/* Code lies behind the payload, too: the header tells how much there is in all */
static int open_bzimage(const struct view *v, struct image *img,
			struct view *payload, const char **why)
{
	size_t sects = view_le(v, 0x1f1, 1);
	size_t setup = ((sects ? sects : 4) + 1) * SECTOR;

	if (view_le(v, 0x206, 2) < 0x208) {
		*why = "its boot protocol is too old to find the kernel in it";
		return -EOPNOTSUPP;
	}
	img->format = "bzImage";
	img->arch = "x86_64";
	img->release = bzimage_release(v);
	img->memory = view_le(v, 0x260, 4);
	img->cmdline_max = view_le(v, 0x238, 4);
	img->five_level = view_le(v, 0x236, 2) & FIVE_LEVEL;
	img->page_size = 4096;
	img->unloadable = bzimage_unloadable(v);
	if (setup + (size_t)view_le(v, 0x1f4, 4) * PARAGRAPH > v->size)
		return -EBADMSG;
	return view_part(v, setup + view_le(v, 0x248, 4), view_le(v, 0x24c, 4),
			 payload);
}

static int open_arm64(const struct view *v, struct image *img)
{
	static const unsigned int page_sizes[] = { 0, 4096, 16384, 65536 };

	img->format = "Image";
	img->arch = "aarch64";
	img->memory = view_le64(v, 16);
	img->cmdline_max = CMDLINE_ARM64 - 1;
	img->page_size = page_sizes[view_le(v, 24, 1) >> 1 & 3];
	if (!img->memory)
		img->unloadable = "its header does not tell its size";
	else if (view_le(v, 24, 1) & 1)
		img->unloadable = "it is a big-endian kernel";
	return 0;
}

static int open_vmlinux(const struct view *v, struct image *img)
{
	static const struct {
		unsigned int machine;
		const char *arch;
	} machines[] = { { 62, "x86_64" }, { 183, "aarch64" } };
	size_t i;

	img->format = "vmlinux";
	img->unloadable =
		"it is a vmlinux, and only what is built from it can be loaded";
	for (i = 0; i < ARRAY_SIZE(machines); i++)
		if (view_le(v, 18, 2) == machines[i].machine)
			img->arch = machines[i].arch;
	return 0;
}

/* A kernel that is in no other file; what is compressed in it goes to @payload */
static int open_kernel(const struct view *v, struct image *img,
		       struct view *payload, const char **why)
{
	*payload = *v;
	img->load = *v;
	img->is_signed = pe_signed(v);
	if (pe_is(v) && pe_needs(v) > v->size)
		return -EBADMSG;
	if (view_has(v, 0x202, "HdrS", 4))
		return open_bzimage(v, img, payload, why);
	if (view_has(v, 0x38, "ARM\x64", 4))
		return open_arm64(v, img);
	if (view_has(v, 0, "\177ELF", 4))
		return open_vmlinux(v, img);
	*why = "it is no kernel image that we know (bzImage, Image, EFI zboot, vmlinux)";
	return -EBADMSG;
}

static int unpack_view(const struct view *v, struct image *img,
		       struct blob *out, const char **why)
{
	enum unpack_kind kind = unpack_kind(v->p, v->size);
	int err = unpack(kind, v->p, v->size, UNPACKED_MAX, out);

	img->compression = unpack_name(kind);
	if (err == -EOPNOTSUPP)
		*why = "its compression (bzip2 or lzo) is not supported";
	else if (err == -EFBIG)
		*why = "it unpacks to more than a kernel can have";
	else if (err == -ENOMEM)
		*why = "it does not fit in memory";
	return err;
}

/* Takes a kernel out of what no kexec loads: a zboot file, or one that was packed */
static int take_out(struct view *v, struct image *img, const char **why)
{
	bool zboot = view_has(v, 0, "MZ", 2) && view_has(v, 4, "zimg", 4);
	struct view packed = *v;
	struct blob blob;
	int err = 0;

	if (zboot)
		err = view_part(v, view_le(v, 8, 4), view_le(v, 12, 4),
				&packed);
	else if (unpack_kind(v->p, v->size) == UNPACK_NONE)
		return 0;
	if (!err && unpack_kind(packed.p, packed.size) != UNPACK_NONE) {
		err = unpack_view(&packed, img, &blob, why);
		if (err)
			return err;
		img->unpacked = blob.data;
		packed = (struct view){ (uint8_t *)blob.data, blob.size };
	}
	*v = packed;
	return err;
}

/* A PE file with a kernel in a section, and what belongs to it in others */
static int open_unified(struct view *v, struct image *img)
{
	struct view kernel, text;
	int err = pe_section(v, ".linux", &kernel);

	if (err)
		return err == -ENOENT ? 0 : err;
	img->unified = true;
	err = pe_section(v, ".initrd", &img->initrd);
	if (err && err != -ENOENT)
		return err;
	err = pe_section(v, ".cmdline", &text);
	if (err && err != -ENOENT)
		return err;
	if (!err) {
		img->cmdline = strndup((const char *)text.p, text.size);
		if (!img->cmdline)
			return -ENOMEM;
		img->cmdline[strcspn(img->cmdline, "\n")] = '\0';
	}
	*v = kernel;
	return 0;
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

/* Of all compressions the last four bytes are the size, gzip has it by itself */
static int unpack_payload(struct view *payload, struct image *img, void **keep,
			  const char **why)
{
	size_t promised = view_le(payload, payload->size - 4, 4);
	struct blob blob;
	int err;

	if (unpack_kind(payload->p, payload->size) == UNPACK_NONE)
		return 0;
	err = unpack_view(payload, img, &blob, why);
	if (err)
		return err;
	*keep = blob.data;
	*payload = (struct view){ (uint8_t *)blob.data, blob.size };
	return (uint32_t)blob.size == promised ? 0 : -EBADMSG;
}

int image_parse(const void *data, size_t size, struct image *img,
		const char **why)
{
	struct view v = { data, size }, kernel;
	autofree void *keep = NULL;
	int err;

	*img = (struct image){ .compression = "not compressed" };
	*why = TOO_SHORT;
	if (pe_is(&v) && pe_needs(&v) > v.size)
		return -EBADMSG;
	err = open_unified(&v, img);
	if (!err)
		err = take_out(&v, img, why);
	if (!err)
		err = open_kernel(&v, img, &kernel, why);
	if (!err)
		err = unpack_payload(&kernel, img, &keep, why);
	if (err)
		return err;
	img->config = find_config(&kernel);
	if (!img->release)
		img->release = find_release(&kernel);
	if (!img->memory)
		img->memory = kernel.size;
	versions_find(&kernel, &img->versions);
	return 0;
}

void image_config_beside(struct image *img, const char *path)
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

void image_free(struct image *img)
{
	free(img->release);
	free(img->config);
	free(img->config_path);
	free(img->cmdline);
	free(img->unpacked);
}
