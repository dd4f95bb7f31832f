// SPDX-License-Identifier: GPL-2.0

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../lib/src/cleanup.h"
#include "../../../lib/src/path.h"
#include "params.h"
#include "reserve.h"

#define MB (1ULL << 20)
#define CRASH_LOW_DEFAULT (128 * MB) /* beside ",high", if nothing is said */
#define RAM_UNIT (128 * MB) /* RAM is rounded up to this to find its range */
#define HUGE_DEFAULT (2 * MB)

/* SIZE, SIZE,high and so on; the last of each kind */
struct crash {
	char *plain;
	char *high, *low, *cma;
};

static bool collect(const struct param *p, void *ctx)
{
	struct crash *c = ctx;
	const char *suffix;
	char **slot = &c->plain;

	if (!params_equal(p->name, "crashkernel") || !p->value)
		return true;
	suffix = strrchr(p->value, ',');
	if (suffix && !strcmp(suffix, ",high"))
		slot = &c->high;
	else if (suffix && !strcmp(suffix, ",low"))
		slot = &c->low;
	else if (suffix && !strcmp(suffix, ",cma"))
		slot = &c->cma;
	free(*slot);
	*slot = strdup(p->value);
	return true;
}

static unsigned long long size_of(const char *text)
{
	char *end;

	return text ? params_size(text, &end) : 0;
}

/* FROM-[TO]:SIZE,...: the first range that the RAM is in, or the largest of all */
static unsigned long long of_ranges(const char *text, unsigned long long ram)
{
	unsigned long long from, to, size, most = 0;
	char *at;

	ram = (ram + RAM_UNIT - 1) / RAM_UNIT * RAM_UNIT;
	while (text && *text) {
		from = params_size(text, &at);
		to = ~0ULL;
		if (at == text || *at++ != '-')
			break;
		if (*at != ':')
			to = params_size(at, &at);
		if (*at++ != ':')
			break;
		size = params_size(at, &at);
		if (ram && ram >= from && ram < to)
			return size;
		if (size > most)
			most = size;
		text = *at == ',' ? at + 1 : NULL;
	}
	return ram ? 0 : most;
}

unsigned long long reserve_crashkernel(const char *cmdline,
				       unsigned long long ram)
{
	struct crash c = { 0 };
	unsigned long long size;

	params_each(cmdline, collect, &c);
	if (c.plain)
		size = strchr(c.plain, ':') ? of_ranges(c.plain, ram) :
					      size_of(c.plain);
	else if (c.high)
		size = size_of(c.high) +
		       (c.low ? size_of(c.low) : CRASH_LOW_DEFAULT);
	else
		size = 0;
	size += size_of(c.cma);
	free(c.plain);
	free(c.high);
	free(c.low);
	free(c.cma);
	return size;
}

struct huge {
	unsigned long long page, total;
};

/* N, or NODE:N,NODE:N */
static unsigned long long count_of(const char *text)
{
	unsigned long long n = 0;
	char *end;

	for (;;) {
		unsigned long long one = strtoull(text, &end, 10);

		if (*end == ':')
			one = strtoull(end + 1, &end, 10);
		n += one;
		if (*end != ',')
			return n;
		text = end + 1;
	}
}

static bool add_pages(const struct param *p, void *ctx)
{
	struct huge *h = ctx;

	if (!p->value)
		return true;
	if (params_equal(p->name, "hugepagesz"))
		h->page = size_of(p->value);
	else if (params_equal(p->name, "hugepages"))
		h->total += h->page * count_of(p->value);
	return true;
}

unsigned long long reserve_hugepages(const char *cmdline)
{
	autofree char *page = params_value(cmdline, "default_hugepagesz");
	struct huge h = { .page = page ? size_of(page) : HUGE_DEFAULT };

	params_each(cmdline, add_pages, &h);
	return h.total;
}

unsigned long long reserve_ram(void)
{
	autofree char *path = path_of("/proc/meminfo");
	autofree char *text = NULL;
	unsigned long long kb = 0;

	if (!path || path_read(path, 65536, &text) < 0 ||
	    sscanf(text, "MemTotal: %llu", &kb) != 1)
		return 0;
	return kb << 10;
}
