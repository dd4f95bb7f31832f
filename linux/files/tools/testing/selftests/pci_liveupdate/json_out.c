// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/compiler.h>

#include "json_out.h"

static void put(struct json *j, const char *data, size_t len)
{
	if (j->len + len + 1 > j->size) {
		size_t size = (j->len + len + 1) * 2;
		char *buf = realloc(j->buf, size);

		if (!buf) {
			fprintf(stderr, "json: out of memory\n");
			abort();
		}
		j->buf = buf;
		j->size = size;
	}

	memcpy(j->buf + j->len, data, len);
	j->len += len;
	j->buf[j->len] = '\0';
}

static void put_str(struct json *j, const char *str)
{
	put(j, str, strlen(str));
}

static __printf(2, 3) void put_fmt(struct json *j, const char *fmt, ...)
{
	char tmp[64];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(tmp, sizeof(tmp), fmt, ap);
	va_end(ap);
	put_str(j, tmp);
}

static void put_quoted(struct json *j, const char *str)
{
	put_str(j, "\"");
	for (; *str; str++) {
		unsigned char c = *str;

		if (c == '"' || c == '\\')
			put_fmt(j, "\\%c", c);
		else if (c < 0x20 || c > 0x7e)
			put_fmt(j, "\\u%04x", c);
		else
			put(j, str, 1);
	}
	put_str(j, "\"");
}

static void put_key(struct json *j, const char *key)
{
	if (j->comma)
		put_str(j, ",");
	j->comma = true;

	if (key) {
		put_quoted(j, key);
		put_str(j, ":");
	}
}

void json_begin(struct json *j)
{
	j->len = 0;
	j->comma = false;
	put_str(j, "{");
}

void json_end(struct json *j)
{
	put_str(j, "}\n");
}

void json_free(struct json *j)
{
	free(j->buf);
	memset(j, 0, sizeof(*j));
}

int json_send(struct json *j, int fd)
{
	size_t done = 0;
	int ret = 0;

	while (done < j->len) {
		ssize_t n = write(fd, j->buf + done, j->len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			ret = -errno;
			break;
		}
		done += n;
	}

	json_free(j);
	return ret;
}

void json_str(struct json *j, const char *key, const char *val)
{
	put_key(j, key);
	if (val)
		put_quoted(j, val);
	else
		put_str(j, "null");
}

void json_u64(struct json *j, const char *key, __u64 val)
{
	put_key(j, key);
	put_fmt(j, "%llu", val);
}

void json_s64(struct json *j, const char *key, __s64 val)
{
	put_key(j, key);
	put_fmt(j, "%lld", val);
}

void json_hex(struct json *j, const char *key, __u64 val)
{
	put_key(j, key);
	put_fmt(j, "\"0x%llx\"", val);
}

void json_bool(struct json *j, const char *key, bool val)
{
	put_key(j, key);
	put_str(j, val ? "true" : "false");
}

void json_null(struct json *j, const char *key)
{
	put_key(j, key);
	put_str(j, "null");
}

void json_fixed(struct json *j, const char *key, double val)
{
	put_key(j, key);
	put_fmt(j, "%.3f", val);
}

void json_bytes(struct json *j, const char *key, const void *data, size_t len)
{
	const unsigned char *p = data;

	put_key(j, key);
	put_str(j, "\"");
	while (len--)
		put_fmt(j, "%02x", *p++);
	put_str(j, "\"");
}

void json_rc(struct json *j, int rc)
{
	json_s64(j, "rc", rc);
	if (rc < 0)
		json_str(j, "errno", strerrorname_np(-rc) ?: "?");
}

void json_open(struct json *j, const char *key, char bracket)
{
	put_key(j, key);
	put(j, &bracket, 1);
	j->comma = false;
}

void json_close(struct json *j, char bracket)
{
	put(j, &bracket, 1);
	j->comma = true;
}

void json_error(const char *what, int rc, const char *detail)
{
	struct json j = {};

	json_begin(&j);
	json_str(&j, "event", "error");
	json_str(&j, "what", what);
	json_rc(&j, rc);
	json_str(&j, "detail", detail);
	json_end(&j);
	json_send(&j, STDOUT_FILENO);
}
