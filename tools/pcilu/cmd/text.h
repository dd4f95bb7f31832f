/* SPDX-License-Identifier: GPL-2.0 */
/* Text from processes, files and sysfs, which may hold anything. */
#ifndef PCILU_TEXT_H
#define PCILU_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Is the whole of it valid UTF-8? */
bool text_is_utf8(const char *text);

/*
 * What a terminal can be shown: control characters and what is no UTF-8 as \xNN. The
 * caller frees it.
 */
char *text_printable(const char *text);

/* The same, but only what is no UTF-8: for JSON, which has its own escapes */
char *text_utf8(const char *text);

#endif /* PCILU_TEXT_H */
