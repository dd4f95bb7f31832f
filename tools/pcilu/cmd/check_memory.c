// SPDX-License-Identifier: GPL-2.0
/* The memory that the next kernel starts in: what is scratch now is all it has. */

#include <stdlib.h>
#include <string.h>

#include "../../../lib/src/path.h"
#include "cmdline.h"
#include "params.h"
#include "preflight.h"
#include "reserve.h"

#define MB (1ULL << 20)
/* Beside the image: page tables, the device tree or boot parameters, early data */
#define RESERVE (32 * MB)

struct scratch {
	unsigned long long total, largest;
	int areas;
};

static void add_area(struct scratch *s, unsigned long long size)
{
	s->total += size;
	s->areas++;
	if (size > s->largest)
		s->largest = size;
}

/* Linux is about to call it "bootmem" */
static void from_debugfs(struct scratch *s)
{
	static const char *const names[] = { "scratch_len", "bootmem_len" };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names) && !s->areas; i++) {
		autofree char *path =
			path_of("/sys/kernel/debug/kho/out/%s", names[i]);
		autofree char *text = NULL;
		char *p, *end;

		if (!path || path_read(path, 65536, &text) <= 0)
			continue;
		for (p = text; *p; p = end) {
			unsigned long long n = strtoull(p, &end, 0);

			if (end == p)
				break;
			add_area(s, n);
		}
	}
}

/* Sizes, and not a percentage of what was in use at boot */
static void from_cmdline(struct scratch *s)
{
	static const char *const names[] = { "kho_scratch", "kho_bootmem" };
	autofree char *cmdline = cmdline_running();
	size_t i;

	for (i = 0; cmdline && i < ARRAY_SIZE(names) && !s->areas; i++) {
		autofree char *value = params_value(cmdline, names[i]);
		char *p, *end;

		if (!value || strchr(value, '%'))
			continue;
		for (p = value; *p; p = *end ? end + 1 : end) {
			unsigned long long n = params_size(p, &end);

			if (end == p)
				break;
			add_area(s, n);
		}
	}
}

static void check_scratch(struct preflight *pf)
{
	unsigned long long crash =
		reserve_crashkernel(pf->cmdline, reserve_ram());
	unsigned long long image = pf->readable ? pf->image.memory : 0;
	unsigned long long need = image + pf->initrd.size + crash + RESERVE;
	struct scratch s = { 0 };

	from_debugfs(&s);
	if (!s.areas)
		from_cmdline(&s);
	if (!s.areas)
		pf_add(pf, "scratch", PF_WARN,
		       "boot with kho_scratch=SIZE,SIZE,SIZE, or mount debugfs",
		       "the size of the scratch memory is not known; %llu MB are needed",
		       need / MB);
	else if (s.total < need || s.largest < image)
		pf_add(pf, "scratch", PF_FAIL,
		       "boot with a larger kho_scratch=, or reserve less for the crash kernel",
		       "%llu MB of scratch memory (%llu in one piece), and %llu MB are needed (%llu for the kernel, %llu for the crash kernel)",
		       s.total / MB, s.largest / MB, need / MB, image / MB,
		       crash / MB);
	else
		pf_add(pf, "scratch", PF_PASS, NULL,
		       "%llu MB of scratch memory, %llu MB are needed",
		       s.total / MB, need / MB);
}

/* Pages for them are taken before KHO sets its own memory aside */
static void check_hugepages(struct preflight *pf)
{
	unsigned long long ram = reserve_ram();
	unsigned long long huge = reserve_hugepages(pf->cmdline);

	if (ram && huge > ram / 2)
		pf_add(pf, "scratch", PF_WARN,
		       "boot with fewer huge pages, or with kho_scratch=SIZE,SIZE,SIZE",
		       "huge pages take %llu of %llu MB, and the next kernel may find no scratch memory for the update after it",
		       huge / MB, ram / MB);
}

void check_memory(struct preflight *pf)
{
	check_scratch(pf);
	check_hugepages(pf);
}
