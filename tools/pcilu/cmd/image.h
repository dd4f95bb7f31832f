/* SPDX-License-Identifier: GPL-2.0 */
/* A kernel image: what is in it, as far as it tells. */
#ifndef PCILU_IMAGE_H
#define PCILU_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "versions.h"
#include "view.h"

struct image {
	const char *format; /* "bzImage", "Image", "EFI zboot", "vmlinux" */
	const char *arch; /* as uname says it, NULL: not known */
	const char *compression;
	bool unified; /* it came in a unified kernel image */
	char *release; /* NULL if it does not tell */
	char *config; /* text of its IKCONFIG, NULL if it has none */
	char *config_path; /* the file that @config is from, NULL: the image */
	uint64_t memory; /* bytes that it needs when it starts, 0: not known */
	size_t cmdline_max; /* longest command line, 0: not known */
	unsigned int page_size; /* 0: not known */
	bool five_level; /* x86: it can start with five levels of page tables */
	bool is_signed; /* what is loaded carries a signature, not checked here */
	struct versions versions; /* of what it hands over and takes over */

	/* What kexec_file_load(2) is to get, a part of the file or unpacked */
	struct view load;
	void *unpacked;
	const char *unloadable; /* why no kernel would take it, NULL: it would */
	struct view initrd; /* of a unified kernel image, size 0: none */
	char *cmdline; /* its command line, NULL: none */
};

/*
 * Looks into an image of @size bytes, which have to stay. Returns 0, or -errno with
 * a reason for a person in @why (a static string).
 */
int image_parse(const void *data, size_t size, struct image *image,
		const char **why);

/* If it does not tell its configuration, that of a file beside it */
void image_config_beside(struct image *image, const char *path);
void image_free(struct image *image);

#endif /* PCILU_IMAGE_H */
