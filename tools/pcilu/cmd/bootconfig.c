// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "../../../lib/src/cleanup.h"
#include "bootconfig.h"

#define MAGIC "#BOOTCONFIG\n"
#define MAGIC_LEN (sizeof(MAGIC) - 1)
#define KEY_MAX 256
#define DEPTH_MAX 16

static uint32_t le32(const char *p)
{
	const uint8_t *b = (const uint8_t *)p;

	return b[0] | b[1] << 8 | b[2] << 16 | (uint32_t)b[3] << 24;
}

long bootconfig_find(const char *initrd, size_t size, const char **text)
{
	uint32_t length, sum = 0, i;
	const char *end;

	if (size < MAGIC_LEN + 8 ||
	    memcmp(initrd + size - MAGIC_LEN, MAGIC, MAGIC_LEN) != 0)
		return 0;
	end = initrd + size - MAGIC_LEN - 8;
	length = le32(end);
	if (length > size - MAGIC_LEN - 8)
		return -EBADMSG;
	*text = end - length;
	for (i = 0; i < length; i++)
		sum += (uint8_t)(*text)[i];
	return sum == le32(end + 4) ? (long)length : -EBADMSG;
}

struct reader {
	const char *p, *end;
	char key[KEY_MAX]; /* of the braces that we are in, then of the entry */
	size_t key_len;
	size_t base[DEPTH_MAX]; /* key_len outside of each brace */
	int depth;
	FILE *out;
	bool bad;
};

static char peek(const struct reader *r)
{
	return r->p < r->end ? *r->p : '\0';
}

/* Blanks and comments; newlines too if they do not end anything here */
static void skip(struct reader *r, bool lines)
{
	for (; r->p < r->end; r->p++) {
		if (*r->p == '#') {
			while (r->p < r->end && *r->p != '\n')
				r->p++;
			if (!lines || r->p == r->end)
				return;
		} else if (*r->p == '\n' ? !lines :
					   !strchr(" \t\r\v\f", *r->p)) {
			return;
		}
	}
}

static bool key_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}

static void read_key(struct reader *r)
{
	size_t start = r->key_len;

	if (r->key_len)
		r->key[r->key_len++] = '.';
	while (r->p < r->end && key_char(*r->p) && r->key_len < KEY_MAX - 2)
		r->key[r->key_len++] = *r->p++;
	r->key[r->key_len] = '\0';
	if (r->key_len <= start + (start ? 1 : 0) || key_char(peek(r)))
		r->bad = true;
}

/* To the closing quote, or to what ends a bare word */
static const char *read_value(struct reader *r, size_t *len)
{
	char quote = peek(r);
	const char *start = r->p;

	if (quote == '"' || quote == '\'') {
		start = ++r->p;
		while (r->p < r->end && *r->p != quote)
			r->p++;
		*len = (size_t)(r->p - start);
		if (r->p == r->end)
			r->bad = true;
		else
			r->p++;
		return start;
	}
	while (r->p < r->end && !strchr(",;\n#}", *r->p))
		r->p++;
	*len = (size_t)(r->p - start);
	while (*len && strchr(" \t\r", start[*len - 1]))
		--*len;
	return start;
}

static void emit(struct reader *r, const char *value, size_t len)
{
	if (strncmp(r->key, "kernel.", 7) != 0)
		return;
	if (value)
		fprintf(r->out, "%s=\"%.*s\" ", r->key + 7, (int)len, value);
	else
		fprintf(r->out, "%s ", r->key + 7);
}

/*
 * key, key = value, key += value, key := value, with more values behind commas. What
 * ":=" replaces goes on to be told: of two the later one counts.
 */
static void read_entry(struct reader *r)
{
	const char *value;
	size_t len;

	if (peek(r) == '+' || peek(r) == ':')
		r->p++;
	if (peek(r) != '=') {
		emit(r, NULL, 0);
		return;
	}
	do {
		r->p++;
		skip(r, false);
		value = read_value(r, &len);
		emit(r, value, len);
		skip(r, false);
	} while (peek(r) == ',');
	if (r->p < r->end && !strchr(";\n#}", *r->p))
		r->bad = true;
}

static void close_brace(struct reader *r)
{
	r->p++;
	if (!r->depth)
		r->bad = true;
	else
		r->key_len = r->base[--r->depth];
}

static void read_all(struct reader *r)
{
	for (;;) {
		size_t outside = r->key_len;

		skip(r, true);
		if (r->bad || r->p == r->end)
			break;
		if (*r->p == ';') {
			r->p++;
			continue;
		}
		if (*r->p == '}') {
			close_brace(r);
			continue;
		}
		read_key(r);
		skip(r, false);
		if (!r->bad && peek(r) == '{') {
			r->p++;
			if (r->depth == DEPTH_MAX) {
				r->bad = true;
				break;
			}
			r->base[r->depth++] = outside;
			continue;
		}
		if (!r->bad)
			read_entry(r);
		r->key_len = outside;
	}
	r->bad |= r->depth > 0;
}

char *bootconfig_cmdline(const char *text, size_t size)
{
	struct reader r = { .p = text, .end = text + strnlen(text, size) };
	char *line = NULL;
	size_t n;

	r.out = open_memstream(&line, &n);
	if (!r.out)
		return NULL;
	read_all(&r);
	fclose(r.out);
	if (!r.bad)
		return line;
	free(line);
	return NULL;
}
