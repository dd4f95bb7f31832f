// SPDX-License-Identifier: GPL-2.0

#include <libsmartcols/libsmartcols.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../../../lib/src/cleanup.h"
#include "table.h"
#include "text.h"

#define SEPARATOR "  "
#define LAST_MIN 24 /* columns that the last one has at least */

struct table {
	struct libscols_table *scols;
	size_t columns;
};

static void must(int failed)
{
	if (failed)
		abort();
}

/* A width, or 0 where nobody looks at lines */
static size_t screen_width(void)
{
	const char *columns = getenv("COLUMNS");
	struct winsize w;

	if (!isatty(STDOUT_FILENO))
		return 0;
	if (columns && atoi(columns) > 0)
		return (size_t)atoi(columns);
	if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) && w.ws_col)
		return w.ws_col;
	return 80;
}

/* It escapes by itself what a terminal must not be sent */
struct table *table_new(const char *const *columns)
{
	struct table *t = calloc(1, sizeof(*t));

	must(!t);
	t->scols = scols_new_table();
	must(!t->scols ||
	     scols_table_set_column_separator(t->scols, SEPARATOR));
	for (; columns[t->columns]; t->columns++)
		must(!scols_table_new_column(t->scols, columns[t->columns], 0,
					     0));
	return t;
}

void table_row(struct table *t, const char *const *cells)
{
	struct libscols_line *line = scols_table_new_line(t->scols, NULL);
	size_t i;

	must(!line);
	for (i = 0; i < t->columns; i++) {
		const char *text = cells[i] && *cells[i] ? cells[i] : "-";

		must(scols_line_set_data(line, i, text));
	}
}

/* Breaks lines at blanks, so that none is longer than @width if that can be */
static void fold(char *text, size_t width)
{
	char *blank = NULL, *start = text, *p;

	for (p = text; *p; p++) {
		if (*p == ' ')
			blank = p;
		if ((size_t)(p - start) >= width && blank) {
			*blank = '\n';
			start = blank + 1;
			blank = NULL;
		}
	}
}

static size_t widest(struct table *t, size_t column)
{
	struct libscols_column *c = scols_table_get_column(t->scols, column);
	size_t i, n, most;
	const char *title = scols_cell_get_data(scols_column_get_header(c));

	most = title ? strlen(title) : 0;
	for (i = 0; i < scols_table_get_nlines(t->scols); i++) {
		struct libscols_line *line = scols_table_get_line(t->scols, i);
		autofree char *shown = text_printable(
			scols_cell_get_data(scols_line_get_cell(line, column)));

		n = shown ? strlen(shown) : 0;
		if (n > most)
			most = n;
	}
	return most;
}

static void fold_last(struct table *t, size_t width)
{
	struct libscols_column *c =
		scols_table_get_column(t->scols, t->columns - 1);
	size_t i, before = 0;

	for (i = 0; i + 1 < t->columns; i++)
		before += widest(t, i) + strlen(SEPARATOR);
	width = width > before + LAST_MIN ? width - before : LAST_MIN;
	for (i = 0; i < scols_table_get_nlines(t->scols); i++) {
		struct libscols_line *line = scols_table_get_line(t->scols, i);

		fold((char *)scols_cell_get_data(
			     scols_line_get_cell(line, t->columns - 1)),
		     width);
	}
	must(scols_column_set_flags(c, SCOLS_FL_WRAP) ||
	     scols_column_set_safechars(c, "\n") ||
	     scols_column_set_wrapfunc(c, scols_wrapnl_chunksize,
				       scols_wrapnl_nextchunk, NULL));
}

void table_print(struct table *t)
{
	size_t width = screen_width();

	if (width) {
		scols_table_set_termwidth(t->scols, width);
		fold_last(t, width);
	}
	/* It prints no titles above nothing */
	must(scols_print_table(t->scols) < 0);
	scols_unref_table(t->scols);
	free(t);
}
