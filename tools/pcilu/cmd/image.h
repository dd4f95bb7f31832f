/* SPDX-License-Identifier: GPL-2.0 */
/* A kernel image: what is in it, as far as it tells. */
#ifndef PCILU_IMAGE_H
#define PCILU_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

struct image {
	const char *format; /* "bzImage", "Image", "EFI zboot", "vmlinux" */
	const char *compression;
	char *release; /* NULL if it does not tell */
	char *config; /* text of its IKCONFIG, NULL if it has none */
	char *config_path; /* the file that @config is from, NULL: the image */
	uint64_t memory; /* bytes that it needs when it starts, 0: not known */
	bool is_signed; /* it carries a PE signature, which nobody checked here */
};

/*
 * Reads an image, and its configuration out of it or, failing that, from @config or
 * a file beside it (config-RELEASE, .config, IMAGE.config). Returns 0, or -errno
 * with a reason for a person in @why (a static string).
 */
int image_read(const char *path, const char *config, struct image *image,
	       const char **why);
void image_free(struct image *image);

/* The same on memory, without a file beside it; for tests */
int image_parse(const void *data, size_t size, struct image *image,
		const char **why);

#endif /* PCILU_IMAGE_H */
