// SPDX-License-Identifier: GPL-2.0
/* Microsoft's "PE Format": the COFF header, the optional header, the section table. */

#include "pe.h"

#define COFF_SECTIONS 6 /* from "PE\0\0" on */
#define COFF_OPTIONAL_SIZE 20
#define OPTIONAL 24
#define MAGIC_PLUS 0x20b
#define DIRECTORIES 96 /* in the optional header, and 16 more in PE32+ */
#define CERTIFICATES 4
#define SECTION_SIZE 40
#define SECTION_VIRTUAL_SIZE 8
#define SECTION_RAW_SIZE 16
#define SECTION_RAW_AT 20

static size_t header(const struct view *v)
{
	return view_le(v, 0x3c, 4);
}

bool pe_is(const struct view *v)
{
	return view_has(v, 0, "MZ", 2) && view_has(v, header(v), "PE\0\0", 4) &&
	       header(v) <= v->size - OPTIONAL;
}

/* An entry of the data directories: 8 bytes, where it is and its size */
static size_t certificates(const struct view *v)
{
	size_t optional = header(v) + OPTIONAL;
	bool plus = view_le(v, optional, 2) == MAGIC_PLUS;

	return optional + DIRECTORIES + (plus ? 16 : 0) + CERTIFICATES * 8UL;
}

bool pe_signed(const struct view *v)
{
	size_t at, size;

	if (!pe_is(v))
		return false;
	at = view_le(v, certificates(v), 4);
	size = view_le(v, certificates(v) + 4, 4);
	return size && at <= v->size && size <= v->size - at;
}

static size_t section_at(const struct view *v, unsigned int i)
{
	return header(v) + OPTIONAL +
	       view_le(v, header(v) + COFF_OPTIONAL_SIZE, 2) +
	       (size_t)i * SECTION_SIZE;
}

static unsigned int sections(const struct view *v)
{
	return view_le(v, header(v) + COFF_SECTIONS, 2);
}

size_t pe_needs(const struct view *v)
{
	size_t end, most = 0;
	unsigned int i;

	for (i = 0; i < sections(v); i++) {
		size_t s = section_at(v, i);

		end = (size_t)view_le(v, s + SECTION_RAW_AT, 4) +
		      view_le(v, s + SECTION_RAW_SIZE, 4);
		if (end > most)
			most = end;
	}
	end = (size_t)view_le(v, certificates(v), 4) +
	      view_le(v, certificates(v) + 4, 4);
	return end > most ? end : most;
}

int pe_section(const struct view *v, const char *name, struct view *out)
{
	char padded[8] = { 0 };
	unsigned int i;

	memcpy(padded, name, strnlen(name, sizeof(padded)));
	for (i = 0; pe_is(v) && i < sections(v); i++) {
		size_t s = section_at(v, i);
		size_t size = view_le(v, s + SECTION_RAW_SIZE, 4);
		size_t used = view_le(v, s + SECTION_VIRTUAL_SIZE, 4);

		if (!view_has(v, s, padded, sizeof(padded)))
			continue;
		/* The raw size is rounded up to the file's alignment */
		return view_part(v, view_le(v, s + SECTION_RAW_AT, 4),
				 used && used < size ? used : size, out);
	}
	return -ENOENT;
}
