// SPDX-License-Identifier: GPL-2.0

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "table.h"

#define COLUMNS_MAX 12

struct table {
	size_t columns, rows, width[COLUMNS_MAX];
	char **cell;
};

struct table *table_new(const char *const *columns)
{
	struct table *t = calloc(1, sizeof(*t));

	if (!t)
		abort();
	while (columns[t->columns])
		t->columns++;
	table_row(t, columns);
	return t;
}

void table_row(struct table *t, const char *const *cells)
{
	size_t i, n = t->rows * t->columns;
	char **more = reallocarray(t->cell, n + t->columns, sizeof(*more));

	if (!more)
		abort();
	t->cell = more;
	for (i = 0; i < t->columns; i++) {
		char *copy = strdup(cells[i] && *cells[i] ? cells[i] : "-");

		if (!copy)
			abort();
		t->cell[n + i] = copy;
		if (strlen(copy) > t->width[i])
			t->width[i] = strlen(copy);
	}
	t->rows++;
}

void table_print(struct table *t)
{
	size_t i, n = t->rows * t->columns;

	for (i = 0; i < n; i++) {
		size_t column = i % t->columns;

		/* No blanks at the end of a line */
		if (column + 1 == t->columns)
			puts(t->cell[i]);
		else
			printf("%-*s  ", (int)t->width[column], t->cell[i]);
		free(t->cell[i]);
	}
	free(t->cell);
	free(t);
}
