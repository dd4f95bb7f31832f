// SPDX-License-Identifier: GPL-2.0

#include <stdlib.h>
#include <string.h>

#include "../../../lib/src/cleanup.h"
#include "params.h"

/* The kernel's idea of a blank has the no-break space of Latin-1, too */
static bool is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r') || c == '\xa0';
}

static void take_last_quote(char *s, char *end)
{
	if (end > s && end[-1] == '"')
		end[-1] = '\0';
}

/* Cuts one parameter off; returns what is behind it */
static char *next(char *at, struct param *p)
{
	bool quoted = *at == '"', inside = quoted;
	char *name, *equals = NULL, *c;

	name = quoted ? at + 1 : at;
	for (c = name; *c && (inside || !is_blank(*c)); c++) {
		if (*c == '=' && !equals)
			equals = c;
		if (*c == '"')
			inside = !inside;
	}
	at = *c ? c + 1 : c;
	*c = '\0';
	p->value = NULL;
	if (equals) {
		char *value = equals + 1;

		*equals = '\0';
		if (*value == '"') {
			value++;
			take_last_quote(value, c);
		} else if (quoted) {
			take_last_quote(value, c);
		}
		p->value = value;
	} else if (quoted) {
		take_last_quote(name, c);
	}
	for (c = name; *c; c++)
		if (*c == '-')
			*c = '_';
	p->name = name;
	return at;
}

bool params_each(const char *cmdline,
		 bool (*fn)(const struct param *p, void *ctx), void *ctx)
{
	autofree char *copy = strdup(cmdline);
	struct param p;
	char *at = copy;

	while (at) {
		bool end;

		while (is_blank(*at))
			at++;
		if (!*at)
			break;
		end = !strncmp(at, "--", 2);
		at = next(at, &p);
		if ((end && !p.value && !p.name[2]) || !fn(&p, ctx))
			break;
	}
	return copy;
}

static char folded(char c)
{
	return c == '-' ? '_' : c;
}

bool params_equal(const char *a, const char *b)
{
	while (*a && folded(*a) == folded(*b)) {
		a++;
		b++;
	}
	return !*a && !*b;
}

struct search {
	const char *name;
	char *value;
	bool there;
	bool on;
};

static bool look(const struct param *p, void *ctx)
{
	struct search *s = ctx;
	int on;

	if (!params_equal(p->name, s->name))
		return true;
	s->there = true;
	if (!p->value)
		return true;
	free(s->value);
	s->value = strdup(p->value);
	on = params_bool(p->value);
	if (on >= 0)
		s->on = on;
	return true;
}

char *params_value(const char *cmdline, const char *name)
{
	struct search s = { .name = name };

	params_each(cmdline, look, &s);
	return s.value;
}

bool params_has(const char *cmdline, const char *name)
{
	struct search s = { .name = name };

	params_each(cmdline, look, &s);
	free(s.value);
	return s.there;
}

int params_bool(const char *value)
{
	switch (value[0]) {
	case 'y':
	case 'Y':
	case 't':
	case 'T':
	case '1':
		return 1;
	case 'n':
	case 'N':
	case 'f':
	case 'F':
	case '0':
		return 0;
	case 'o':
	case 'O':
		if (value[1] == 'n' || value[1] == 'N')
			return 1;
		if (value[1] == 'f' || value[1] == 'F')
			return 0;
	}
	return -1;
}

bool params_is_on(const char *cmdline, const char *name, bool otherwise)
{
	struct search s = { .name = name, .on = otherwise };

	params_each(cmdline, look, &s);
	free(s.value);
	return s.on;
}

unsigned long long params_size(const char *text, char **end)
{
	static const char units[] = "KMGTPE";
	unsigned long long n = strtoull(text, end, 0);
	const char *unit = **end ? strchr(units, **end & ~0x20) : NULL;

	if (!unit)
		return n;
	++*end;
	return n << (10 * (unit - units + 1));
}
