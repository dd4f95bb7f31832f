// SPDX-License-Identifier: GPL-2.0
/* libFuzzer: two command lines, up to the first NUL and behind it. */

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../../lib/src/cleanup.h"
#include "../cmd/cmdline.h"
#include "../cmd/effects.h"
#include "../cmd/params.h"
#include "../cmd/reserve.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	autofree char *a = malloc(size + 1), *b = NULL, *joined = NULL;
	struct change *change = NULL;
	int n;

	memcpy(a, data, size);
	a[size] = '\0';
	b = strdup(strlen(a) < size ? a + strlen(a) + 1 : "");
	n = effects_compare(a, b, &change);
	assert(n >= 0);
	changes_free(change, n);
	/* A command line is no change to itself */
	n = effects_compare(a, a, &change);
	assert(n == 0);
	changes_free(change, n);
	joined = cmdline_join(a, "kho=on");
	assert(joined && strlen(joined) >= strlen(a));
	params_is_on(joined, "kho", false);
	reserve_crashkernel(a, 1ULL << 40);
	reserve_crashkernel(a, 0);
	reserve_hugepages(a);
	return 0;
}
