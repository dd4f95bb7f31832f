// SPDX-License-Identifier: GPL-2.0

#include "versions.h"

#include "../../../lib/src/cleanup.h"

const char *const version_names[VERSIONS] = {
	[VERSION_KHO] = "Kexec HandOver",
	[VERSION_LUO] = "the Live Update Orchestrator",
	[VERSION_MEMFD] = "memory files",
	[VERSION_VFIO] = "VFIO's device files",
};

static const char *const begins[VERSIONS] = {
	[VERSION_KHO] = "kho-v",
	[VERSION_LUO] = "luo-v",
	[VERSION_MEMFD] = "memfd-v",
	[VERSION_VFIO] = "vfio-pci-v",
};

/* The word with its number, if nothing else is before and behind it */
static bool take(const struct view *v, size_t at, size_t n, char *word,
		 size_t room)
{
	size_t len = n;

	if (at > 0 && v->p[at - 1] >= ' ' && v->p[at - 1] < 0x7f)
		return false;
	while (at + len < v->size && v->p[at + len] >= '0' &&
	       v->p[at + len] <= '9' && len < room - 1)
		len++;
	if (len == n || at + len >= v->size || v->p[at + len] != '\0')
		return false;
	memcpy(word, v->p + at, len);
	word[len] = '\0';
	return true;
}

void versions_find(const struct view *v, struct versions *out)
{
	size_t i;

	for (i = 0; i < VERSIONS; i++) {
		size_t n = strlen(begins[i]);
		const uint8_t *p = v->p, *end = v->p + v->size;

		while (!out->word[i][0] &&
		       (p = memmem(p, (size_t)(end - p), begins[i], n))) {
			take(v, (size_t)(p - v->p), n, out->word[i],
			     sizeof(out->word[i]));
			p += n;
		}
	}
}
