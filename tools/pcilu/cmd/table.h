/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tables without colour and lines. On a terminal, the last column is folded so that
 * the table is as wide as that; elsewhere a row is a line.
 */
#ifndef PCILU_TABLE_H
#define PCILU_TABLE_H

struct table;

/* @columns are the titles, NULL at the end */
struct table *table_new(const char *const *columns);
/* One row; a NULL cell shows as "-" */
void table_row(struct table *t, const char *const *cells);
/* Prints and frees it */
void table_print(struct table *t);

#define TABLE(...) table_new((const char *const[]){ __VA_ARGS__, NULL })
#define ROW(t, ...) table_row(t, (const char *const[]){ __VA_ARGS__ })

#endif /* PCILU_TABLE_H */
