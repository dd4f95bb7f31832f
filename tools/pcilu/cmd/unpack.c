// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "../../../lib/src/cleanup.h"
#include "unpack.h"

#define LZMA_MEMORY (256ULL << 20)
#define LZ4_BLOCK \
	(8U << 20) /* the legacy frame's blocks unpack to this at most */
#define LZ4_LEGACY 0x184C2102U

static const struct {
	enum unpack_kind kind;
	const char *name;
	unsigned char magic[6];
	size_t len;
} kinds[] = {
	{ UNPACK_GZIP, "gzip", { 0x1f, 0x8b, 0x08 }, 3 },
	{ UNPACK_XZ, "xz", { 0xfd, '7', 'z', 'X', 'Z', 0 }, 6 },
	{ UNPACK_ZSTD, "zstd", { 0x28, 0xb5, 0x2f, 0xfd }, 4 },
	{ UNPACK_LZ4, "lz4", { 0x02, 0x21, 0x4c, 0x18 }, 4 },
	{ UNPACK_LZMA, "lzma", { 0x5d, 0, 0 }, 3 },
	{ UNPACK_UNSUPPORTED, "bzip2", { 'B', 'Z', 'h' }, 3 },
	{ UNPACK_UNSUPPORTED, "lzo", { 0x89, 'L', 'Z', 'O' }, 4 },
};

enum unpack_kind unpack_kind(const void *data, size_t size)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		if (size >= kinds[i].len &&
		    !memcmp(data, kinds[i].magic, kinds[i].len))
			return kinds[i].kind;
	return UNPACK_NONE;
}

const char *unpack_name(enum unpack_kind kind)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		if (kinds[i].kind == kind)
			return kind == UNPACK_UNSUPPORTED ? "bzip2 or lzo" :
							    kinds[i].name;
	return "not compressed";
}

/* Room for @more bytes after what is there, and a NUL */
static int grow(struct blob *b, size_t *room, size_t more, size_t max)
{
	size_t want = *room ? *room : 1 << 20;
	char *p;

	while (want < b->size + more)
		want *= 2;
	if (b->size >= max)
		return -EFBIG;
	if (want != *room || !b->data) {
		p = realloc(b->data, want + 1);
		if (!p)
			return -ENOMEM;
		b->data = p;
		*room = want;
	}
	return 0;
}

static int unpack_gzip(const void *data, size_t size, size_t max,
		       struct blob *b)
{
	z_stream z = { .next_in = (Bytef *)data, .avail_in = (uInt)size };
	size_t room = 0;
	int err = 0, ret = Z_OK;

	if (size > UINT32_MAX)
		return -EFBIG;
	if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
		return -ENOMEM;
	while (!err && ret != Z_STREAM_END) {
		err = grow(b, &room, 1, max);
		if (err)
			break;
		z.next_out = (Bytef *)b->data + b->size;
		z.avail_out = (uInt)(room - b->size > UINT32_MAX ?
					     UINT32_MAX :
					     room - b->size);
		ret = inflate(&z, Z_NO_FLUSH);
		b->size = (size_t)((char *)z.next_out - b->data);
		if (ret != Z_OK && ret != Z_STREAM_END)
			err = -EBADMSG;
	}
	inflateEnd(&z);
	return err;
}

static int unpack_lzma(bool alone, const void *data, size_t size, size_t max,
		       struct blob *b)
{
	lzma_stream s = LZMA_STREAM_INIT;
	lzma_ret ret;
	size_t room = 0;
	int err = 0;

	ret = alone ? lzma_alone_decoder(&s, LZMA_MEMORY) :
		      lzma_stream_decoder(&s, LZMA_MEMORY, 0);
	if (ret != LZMA_OK)
		return -ENOMEM;
	s.next_in = data;
	s.avail_in = size;
	while (!err && ret != LZMA_STREAM_END) {
		err = grow(b, &room, 1, max);
		if (err)
			break;
		s.next_out = (uint8_t *)b->data + b->size;
		s.avail_out = room - b->size;
		ret = lzma_code(&s, LZMA_RUN);
		b->size = (size_t)((char *)s.next_out - b->data);
		if (ret != LZMA_OK && ret != LZMA_STREAM_END)
			err = -EBADMSG;
	}
	lzma_end(&s);
	return err;
}

static int unpack_zstd(const void *data, size_t size, size_t max,
		       struct blob *b)
{
	ZSTD_DCtx *z = ZSTD_createDCtx();
	ZSTD_inBuffer in = { data, size, 0 };
	size_t room = 0, ret = 1;
	int err = z ? 0 : -ENOMEM;

	while (!err && ret) {
		ZSTD_outBuffer out;
		size_t before = in.pos;

		err = grow(b, &room, 1, max);
		if (err)
			break;
		out = (ZSTD_outBuffer){ b->data, room, b->size };
		ret = ZSTD_decompressStream(z, &out, &in);
		if (ZSTD_isError(ret) ||
		    (ret && in.pos == before && out.pos == b->size))
			err = -EBADMSG;
		b->size = out.pos;
	}
	ZSTD_freeDCtx(z);
	return err;
}

static uint32_t le32(const void *p)
{
	const uint8_t *b = p;

	return b[0] | b[1] << 8 | b[2] << 16 | (uint32_t)b[3] << 24;
}

static int unpack_lz4(const char *p, size_t size, size_t max, struct blob *b)
{
	size_t room = 0;

	for (p += 4, size -= 4; size >= 4;) {
		uint32_t n = le32(p);
		int got, err;

		/* A block of no sense is the end: the kernel appends the size */
		p += 4;
		size -= 4;
		if (n == LZ4_LEGACY)
			continue;
		if (n == 0 || n > size)
			break;
		err = grow(b, &room, LZ4_BLOCK, max);
		if (err)
			return err;
		got = LZ4_decompress_safe(p, b->data + b->size, (int)n,
					  LZ4_BLOCK);
		if (got < 0)
			return -EBADMSG;
		b->size += (size_t)got;
		p += n;
		size -= n;
	}
	return b->size ? 0 : -EBADMSG;
}

int unpack(enum unpack_kind kind, const void *data, size_t size, size_t max,
	   struct blob *out)
{
	struct blob b = { 0 };
	int err = -EOPNOTSUPP;

	switch (kind) {
	case UNPACK_GZIP:
		err = unpack_gzip(data, size, max, &b);
		break;
	case UNPACK_XZ:
	case UNPACK_LZMA:
		err = unpack_lzma(kind == UNPACK_LZMA, data, size, max, &b);
		break;
	case UNPACK_ZSTD:
		err = unpack_zstd(data, size, max, &b);
		break;
	case UNPACK_LZ4:
		err = unpack_lz4(data, size, max, &b);
		break;
	case UNPACK_NONE:
	case UNPACK_UNSUPPORTED:
		break;
	}
	if (err) {
		free(b.data);
		return err;
	}
	b.data[b.size] = '\0';
	*out = b;
	return 0;
}
