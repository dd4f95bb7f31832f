/* SPDX-License-Identifier: GPL-2.0 */
/* An initial RAM disk: is it one, is it whole, and for which kernel is it? */
#ifndef PCILU_INITRD_H
#define PCILU_INITRD_H

#include <stdbool.h>
#include <stddef.h>

#include "unpack.h"

struct initrd {
	enum unpack_kind kind; /* of what is packed in it, UNPACK_NONE: nothing */
	const char *compression; /* its name */
	bool opaque; /* packed so that we cannot look into it */
	bool has_modules; /* of any kernel */
	bool has_wanted; /* of the release that was asked for */
	const char *bootconfig; /* behind it, in the same memory */
	size_t bootconfig_size; /* 0: none */
};

/*
 * Walks through all archives in it; @release is the kernel's, or NULL. Returns 0, or
 * -EBADMSG with a reason in @why (a static string).
 */
int initrd_parse(const char *data, size_t size, const char *release,
		 struct initrd *out, const char **why);

#endif /* PCILU_INITRD_H */
