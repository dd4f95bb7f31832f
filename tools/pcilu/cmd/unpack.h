/* SPDX-License-Identifier: GPL-2.0 */
/* Decompression by the usual libraries, bounded: what is unpacked is not trusted. */
#ifndef PCILU_UNPACK_H
#define PCILU_UNPACK_H

#include <stddef.h>

enum unpack_kind {
	UNPACK_NONE,
	UNPACK_GZIP,
	UNPACK_XZ,
	UNPACK_LZMA,
	UNPACK_ZSTD,
	UNPACK_LZ4, /* the kernel's: the legacy frame */
	UNPACK_UNSUPPORTED, /* bzip2, lzo */
};

/* Has a NUL after its end */
struct blob {
	char *data;
	size_t size;
};

/* What the first bytes say */
enum unpack_kind unpack_kind(const void *data, size_t size);
const char *unpack_name(enum unpack_kind kind);

/*
 * Unpacks at most @max bytes. What follows the compressed data is ignored. Returns
 * 0, -EBADMSG (damaged), -EFBIG, -ENOMEM or -EOPNOTSUPP. The caller frees the data.
 */
int unpack(enum unpack_kind kind, const void *data, size_t size, size_t max,
	   struct blob *out);

#endif /* PCILU_UNPACK_H */
