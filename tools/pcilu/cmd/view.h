/* SPDX-License-Identifier: GPL-2.0 */
/* Bytes that nobody vouches for, read within their bounds; little-endian. */
#ifndef PCILU_VIEW_H
#define PCILU_VIEW_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct view {
	const uint8_t *p;
	size_t size;
};

/* 0 for what is not there */
static inline uint32_t view_le(const struct view *v, size_t at,
			       unsigned int bytes)
{
	uint32_t n = 0;

	if (at > v->size || bytes > v->size - at)
		return 0;
	while (bytes--)
		n = n << 8 | v->p[at + bytes];
	return n;
}

static inline uint64_t view_le64(const struct view *v, size_t at)
{
	return view_le(v, at, 4) | (uint64_t)view_le(v, at + 4, 4) << 32;
}

static inline bool view_has(const struct view *v, size_t at, const char *text,
			    size_t n)
{
	return at <= v->size && n <= v->size - at &&
	       !memcmp(v->p + at, text, n);
}

/* A part of it: 0, or -EBADMSG if it is not all there */
static inline int view_part(const struct view *v, size_t at, size_t size,
			    struct view *out)
{
	if (at > v->size || size > v->size - at)
		return -EBADMSG;
	*out = (struct view){ v->p + at, size };
	return 0;
}

#endif /* PCILU_VIEW_H */
