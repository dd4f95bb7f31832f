// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../lib/src/cleanup.h"
#include "../../../lib/src/path.h"
#include "cmdline.h"

#define CMDLINE_MAX 65536

/* What an option does to a device that works; the longest matching name counts */
static const struct {
	const char *name;
	const char *effect;
} effects[] = {
	{ "pci=assign-busses", "assigns bus numbers anew" },
	{ "pci=realloc", "moves BARs and windows" },
	{ "pci=resource_alignment", "moves BARs" },
	{ "pci=hp", "changes the windows and bus ranges of hotplug bridges" },
	{ "pci=pcie_bus_", "changes the payload size of every link" },
	{ "pci=noari", "finds no functions above 7, changes routing" },
	{ "pci=noats", "switches address translation services off" },
	{ "pci=notph", "switches TLP processing hints off" },
	{ "pci=nomsi", "leaves drivers without MSI" },
	{ "pci=nodomains", "renumbers domains" },
	{ "pci=config_acs", "changes peer-to-peer routing and IOMMU groups" },
	{ "pci=disable_acs", "changes peer-to-peer routing and IOMMU groups" },
	{ "pci=nocrs", "changes the windows of host bridges" },
	{ "pci=use_crs", "changes the windows of host bridges" },
	{ "pci=nommconf", "hides extended configuration space" },
	{ "pci=noaer", "changes who handles errors" },
	{ "pci=off", "finds no devices at all" },
	{ "pci=", "changes how PCI is set up" },
	{ "pcie_aspm", "changes link power states" },
	{ "pcie_ports", "changes who controls ports and hotplug" },
	{ "pcie_port_pm", "changes power states of ports" },
	{ "iommu=", "changes whether and how DMA is translated" },
	{ "iommu.", "changes whether and how DMA is translated" },
	{ "intel_iommu=", "changes whether and how DMA is translated" },
	{ "amd_iommu=", "changes whether and how DMA is translated" },
	{ "arm-smmu", "changes whether and how DMA is translated" },
	{ "intremap=", "changes interrupt remapping" },
	{ "vfio", "changes how VFIO gives out devices" },
	{ "kho_scratch=",
	  "changes the memory that the kernel after it starts in" },
};

static const char *effect_of(const char *option)
{
	const char *best = NULL;
	size_t best_len = 0, i;

	for (i = 0; i < ARRAY_SIZE(effects); i++) {
		size_t n = strlen(effects[i].name);

		if (n > best_len && !strncmp(option, effects[i].name, n)) {
			best = effects[i].effect;
			best_len = n;
		}
	}
	return best;
}

char *cmdline_running(void)
{
	autofree char *path = path_of("/proc/cmdline");
	autofree char *line = NULL;
	char *out, *save = NULL, *w;

	if (!path || path_line(path, &line) < 0)
		return NULL;
	out = calloc(1, strlen(line) + 1);
	/* What the boot loader added is about the image that it loaded */
	for (w = strtok_r(line, " ", &save); out && w;
	     w = strtok_r(NULL, " ", &save)) {
		if (!strncmp(w, "BOOT_IMAGE=", 11) || !strncmp(w, "initrd=", 7))
			continue;
		if (*out)
			strcat(out, " ");
		strcat(out, w);
	}
	return out;
}

/* Calls @fn for each word, with quotes respected, until it returns false */
static void each_word(const char *line,
		      bool (*fn)(const char *w, size_t n, void *), void *ctx)
{
	const char *p = line;

	while (*p) {
		const char *start;
		bool quoted = false;

		while (*p == ' ' || *p == '\n')
			p++;
		for (start = p; *p && (quoted || (*p != ' ' && *p != '\n'));
		     p++)
			if (*p == '"')
				quoted = !quoted;
		/* What follows "--" is for init */
		if (p - start == 2 && !strncmp(start, "--", 2))
			return;
		if (p > start && !fn(start, (size_t)(p - start), ctx))
			return;
	}
}

struct value_search {
	const char *name;
	const char *value;
	size_t len;
};

static bool match_value(const char *w, size_t n, void *ctx)
{
	struct value_search *s = ctx;
	size_t len = strlen(s->name);

	if (n > len && !strncmp(w, s->name, len) && w[len] == '=') {
		s->value = w + len + 1;
		s->len = n - len - 1;
	}
	return true;
}

char *cmdline_value(const char *cmdline, const char *name)
{
	struct value_search s = { .name = name };

	each_word(cmdline, match_value, &s);
	return s.value ? strndup(s.value, s.len) : NULL;
}

bool cmdline_is_on(const char *cmdline, const char *name, bool otherwise)
{
	static const char *const on[] = { "1", "on", "y", "Y", "yes", "true" };
	autofree char *value = cmdline_value(cmdline, name);
	size_t i;

	if (!value)
		return otherwise;
	for (i = 0; i < ARRAY_SIZE(on); i++)
		if (!strcmp(value, on[i]))
			return true;
	return false;
}

struct words {
	char **word;
	int count;
	bool failed;
};

static void words_free(struct words *w)
{
	while (w->count)
		free(w->word[--w->count]);
	free(w->word);
}

static void add_word(struct words *w, char *word)
{
	char **more = word ? reallocarray(w->word, (size_t)w->count + 1,
					  sizeof(*more)) :
			     NULL;

	if (!more) {
		w->failed = true;
		free(word);
		return;
	}
	w->word = more;
	w->word[w->count++] = word;
}

/* Words that matter; "pci=a,b" counts as "pci=a" and "pci=b" */
static bool collect(const char *text, size_t n, void *ctx)
{
	autofree char *word = strndup(text, n);
	struct words *w = ctx;
	char *part, *save = NULL;

	if (!word || !effect_of(word))
		return true;
	if (strncmp(word, "pci=", 4) != 0) {
		add_word(w, take_ptr(word));
		return true;
	}
	for (part = strtok_r(word + 4, ",", &save); part;
	     part = strtok_r(NULL, ",", &save)) {
		char *option = NULL;

		if (asprintf(&option, "pci=%s", part) < 0)
			option = NULL;
		add_word(w, option);
	}
	return true;
}

static bool contains(const struct words *w, const char *word)
{
	int i;

	for (i = 0; i < w->count; i++)
		if (!strcmp(w->word[i], word))
			return true;
	return false;
}

static int differences(const struct words *of, const struct words *than,
		       bool added, struct cmdline_change *out)
{
	int i, n = 0;

	for (i = 0; i < of->count; i++) {
		if (contains(than, of->word[i]))
			continue;
		out[n++] = (struct cmdline_change){
			.option = strdup(of->word[i]),
			.added = added,
			.effect = effect_of(of->word[i]),
		};
	}
	return n;
}

int cmdline_compare(const char *running, const char *next,
		    struct cmdline_change **changes)
{
	__attribute__((cleanup(words_free))) struct words a = { 0 };
	__attribute__((cleanup(words_free))) struct words b = { 0 };
	struct cmdline_change *all;
	int n;

	each_word(running, collect, &a);
	each_word(next, collect, &b);
	all = calloc((size_t)(a.count + b.count) + 1, sizeof(*all));
	if (a.failed || b.failed || !all) {
		free(all);
		return -ENOMEM;
	}
	n = differences(&b, &a, true, all);
	n += differences(&a, &b, false, all + n);
	*changes = all;
	return n;
}

void cmdline_changes_free(struct cmdline_change *changes, int n)
{
	while (n > 0)
		free(changes[--n].option);
	free(changes);
}

unsigned long long parse_size(const char *text, char **end)
{
	static const char units[] = "KMGT";
	unsigned long long n = strtoull(text, end, 0);
	const char *unit = **end ? strchr(units, **end & ~0x20) : NULL;

	if (!unit)
		return n;
	++*end;
	return n << (10 * (unit - units + 1));
}

/* SIZE[,high], or RANGE:SIZE,RANGE:SIZE...: the largest of them */
unsigned long long cmdline_crashkernel(const char *cmdline)
{
	autofree char *value = cmdline_value(cmdline, "crashkernel");
	unsigned long long most = 0, n;
	char *part, *save = NULL, *end;

	if (!value)
		return 0;
	value[strcspn(value, "@")] = '\0';
	for (part = strtok_r(value, ",", &save); part;
	     part = strtok_r(NULL, ",", &save)) {
		const char *colon = strchr(part, ':');

		n = parse_size(colon ? colon + 1 : part, &end);
		if (n > most)
			most = n;
	}
	return most;
}
