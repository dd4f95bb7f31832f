// SPDX-License-Identifier: GPL-2.0

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../lib/src/cleanup.h"
#include "text.h"

/* Bytes of the character at @p, 0 if it is none (RFC 3629); its value in @code */
static size_t character(const char *p, uint32_t *code)
{
	static const struct {
		uint8_t mask, lead;
		uint32_t least;
	} lengths[] = { { 0x80, 0x00, 0 },
			{ 0xe0, 0xc0, 0x80 },
			{ 0xf0, 0xe0, 0x800 },
			{ 0xf8, 0xf0, 0x10000 } };
	const uint8_t *b = (const uint8_t *)p;
	size_t n, i;

	for (n = 0; n < ARRAY_SIZE(lengths); n++)
		if ((b[0] & lengths[n].mask) == lengths[n].lead)
			break;
	if (n == ARRAY_SIZE(lengths))
		return 0;
	*code = b[0] & ~lengths[n].mask;
	for (i = 1; i <= n; i++) {
		if ((b[i] & 0xc0) != 0x80)
			return 0;
		*code = *code << 6 | (b[i] & 0x3f);
	}
	if (*code < lengths[n].least || *code > 0x10ffff ||
	    (*code >= 0xd800 && *code <= 0xdfff))
		return 0;
	return n + 1;
}

bool text_is_utf8(const char *text)
{
	uint32_t code;
	size_t n;

	for (; *text; text += n) {
		n = character(text, &code);
		if (!n)
			return false;
	}
	return true;
}

/* Also those that change the direction of what follows */
static bool is_control(uint32_t code)
{
	return code < 0x20 || (code >= 0x7f && code < 0xa0) ||
	       (code >= 0x2028 && code <= 0x202e) ||
	       (code >= 0x2066 && code <= 0x2069);
}

static char *escaped(const char *text, bool controls)
{
	char *out = malloc(strlen(text) * 4 + 1), *to = out;
	uint32_t code;
	size_t n, i;

	for (; out && *text; text += n) {
		n = character(text, &code);
		if (n && !(controls && is_control(code))) {
			memcpy(to, text, n);
			to += n;
			continue;
		}
		n = n ? n : 1;
		for (i = 0; i < n; i++)
			to += sprintf(to, "\\x%02x", (uint8_t)text[i]);
	}
	if (out)
		*to = '\0';
	return out;
}

char *text_printable(const char *text)
{
	return escaped(text, true);
}

char *text_utf8(const char *text)
{
	return escaped(text, false);
}
