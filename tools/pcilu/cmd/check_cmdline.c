// SPDX-License-Identifier: GPL-2.0
/* The command line, as the next kernel will read it. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bootconfig.h"
#include "cmdline.h"
#include "effects.h"
#include "kconfig.h"
#include "params.h"
#include "preflight.h"

#define UNKNOWN_MAX 200

static void check_switch(struct preflight *pf, const char *check,
			 const char *name, const char *default_option)
{
	const char *config = pf_config(pf);
	bool otherwise = default_option && config &&
			 kconfig_is(config, default_option, "y");
	char remedy[64];

	snprintf(remedy, sizeof(remedy), "add %s=on to the command line", name);
	if (params_is_on(pf->cmdline, name, otherwise))
		pf_add(pf, check, PF_PASS, NULL, "%s is on", name);
	else
		pf_add(pf, check, PF_FAIL, remedy,
		       "the next kernel would start without %s=on", name);
}

/* Those that we do not know are told in one line */
static void add_unknown(char *text, const struct change *c)
{
	size_t n = strlen(text);

	snprintf(text + n, UNKNOWN_MAX - n, "%s%s%s", n ? ", " : "",
		 c->added ? "" : "without ", c->option);
}

static void check_changes(struct preflight *pf)
{
	autofree char *running = cmdline_running();
	struct change *change = NULL;
	char unknown[UNKNOWN_MAX] = "";
	int i, told = 0;
	int n = running ? effects_compare(running, pf->cmdline, &change) : -1;

	if (n < 0) {
		pf_add(pf, "cmdline", PF_FAIL, "mount /proc",
		       "the running kernel's command line cannot be read");
		return;
	}
	for (i = 0; i < n; i++) {
		if (!change[i].effect) {
			add_unknown(unknown, &change[i]);
			continue;
		}
		told++;
		pf_add(pf, "cmdline", change[i].harmful ? PF_FAIL : PF_WARN,
		       "use the same options in both kernels, or --accept cmdline",
		       "%s %s: it %s",
		       change[i].added ? "the next kernel has" :
					 "the next kernel lacks",
		       change[i].option, change[i].effect);
	}
	if (*unknown)
		pf_add(pf, "cmdline", PF_WARN, NULL,
		       "what these differences do is not known here: %s",
		       unknown);
	if (!told && !*unknown)
		pf_add(pf, "cmdline", PF_PASS, NULL,
		       "no option that matters to PCI or DMA differs");
	changes_free(change, n);
}

static void check_length(struct preflight *pf)
{
	size_t most = pf->readable ? pf->image.cmdline_max : 0;

	if (most && strlen(pf->given) > most)
		pf_add(pf, "cmdline", PF_FAIL, "make it shorter",
		       "it has %zu characters, and the next kernel takes %zu",
		       strlen(pf->given), most);
}

/* Whether the kernel stays where it is after a panic */
static void check_panic(struct preflight *pf)
{
	const char *config = pf_config(pf);
	autofree char *value = params_value(pf->cmdline, "panic");
	autofree char *built_in =
		config ? kconfig_get(config, "CONFIG_PANIC_TIMEOUT") : NULL;
	const char *counts = value ? value : built_in ? built_in : "0";

	if (strtol(counts, NULL, 0))
		pf_add(pf, "panic", PF_PASS, NULL,
		       "a next kernel that panics restarts the machine");
	else
		pf_add(pf, "panic", PF_WARN, "add panic=10 to the command line",
		       "a next kernel that panics would stay there");
}

/* What stands behind the initrd counts if the kernel is to look for it */
static char *bootconfig(struct preflight *pf)
{
	const char *config = pf_config(pf);
	const struct initrd *r = &pf->ramdisk;
	char *line;

	if (config && (!kconfig_is(config, "CONFIG_BOOT_CONFIG", "y") ||
		       (!kconfig_is(config, "CONFIG_BOOT_CONFIG_FORCE", "y") &&
			!params_has(pf->given, "bootconfig"))))
		return NULL;
	if (!r->bootconfig_size) {
		if (config &&
		    kconfig_is(config, "CONFIG_BOOT_CONFIG_EMBED", "y"))
			pf_add(pf, "cmdline", PF_WARN, NULL,
			       "the boot configuration in the kernel cannot be read");
		return NULL;
	}
	line = bootconfig_cmdline(r->bootconfig, r->bootconfig_size);
	if (!line)
		pf_add(pf, "cmdline", PF_FAIL, "mend it, see bootconfig -l",
		       "the boot configuration behind the initrd does not parse");
	return line;
}

void check_cmdline(struct preflight *pf)
{
	autofree char *more = bootconfig(pf);
	const char *how;

	pf->cmdline = cmdline_effective(pf->given, pf_config(pf), more, &how);
	if (!pf->cmdline) {
		pf_add(pf, "cmdline", PF_FAIL, "try again", "out of memory");
		pf->cmdline = strdup("");
		return;
	}
	if (*how)
		pf_add(pf, "cmdline", PF_PASS, NULL, "%s: %.200s", how,
		       pf->cmdline);
	check_length(pf);
	check_switch(pf, "kho", "kho", "CONFIG_KEXEC_HANDOVER_ENABLE_DEFAULT");
	check_switch(pf, "liveupdate", "liveupdate", NULL);
	check_changes(pf);
	check_panic(pf);
}
