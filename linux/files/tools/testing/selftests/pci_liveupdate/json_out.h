/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A JSON emitter for test programs: one object, one line.
 *
 * Values are appended to a growing buffer in the order of the calls. Passing a
 * NULL key appends an array element. Nesting is the caller's business; commas
 * are handled here. A failed allocation ends the program, there is nothing a
 * test could still report.
 */
#ifndef SELFTESTS_PCI_LIVEUPDATE_JSON_OUT_H
#define SELFTESTS_PCI_LIVEUPDATE_JSON_OUT_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>

struct json {
	char *buf;
	size_t len;
	size_t size;
	bool comma;	/* the next value needs a comma before it */
};

/* Starts a line: resets @j (which must be zeroed or used before) to "{" */
void json_begin(struct json *j);
/* Ends the line: appends "}" and a newline */
void json_end(struct json *j);
/* Writes the line to @fd and frees the buffer; 0 or -errno */
int json_send(struct json *j, int fd);
void json_free(struct json *j);

void json_str(struct json *j, const char *key, const char *val);
void json_u64(struct json *j, const char *key, __u64 val);
void json_s64(struct json *j, const char *key, __s64 val);
/* A "0x..." string: JSON numbers do not hold 64 bits everywhere */
void json_hex(struct json *j, const char *key, __u64 val);
void json_bool(struct json *j, const char *key, bool val);
void json_null(struct json *j, const char *key);
void json_fixed(struct json *j, const char *key, double val);
/* Two hex digits a byte */
void json_bytes(struct json *j, const char *key, const void *data, size_t len);
/* "rc", and when it is negative "errno" with its name */
void json_rc(struct json *j, int rc);
void json_open(struct json *j, const char *key, char bracket);
void json_close(struct json *j, char bracket);

/* One line {"event":"error","what":...,"rc":...,"errno":...,"detail":...} on stdout */
void json_error(const char *what, int rc, const char *detail);

#endif /* SELFTESTS_PCI_LIVEUPDATE_JSON_OUT_H */
