// SPDX-License-Identifier: GPL-2.0
/* May a kernel be loaded, and does it have the signature that is asked for? */

#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "../../../lib/src/path.h"
#include "cmdline.h"
#include "kconfig.h"
#include "params.h"
#include "preflight.h"

#define MODSIG "~Module signature appended~\n"

static long read_number(const char *name, long otherwise)
{
	autofree char *path = path_of("%s", name);
	autofree char *line = NULL;

	return path && path_line(path, &line) > 0 ? strtol(line, NULL, 0) :
						    otherwise;
}

static void check_kexec(struct preflight *pf)
{
	if (read_number("/proc/sys/kernel/kexec_load_disabled", 0))
		pf_add(pf, "kexec", PF_FAIL,
		       "reboot: it cannot be switched on again",
		       "kernel.kexec_load_disabled forbids loading");
	else if (!read_number("/proc/sys/kernel/kexec_load_limit_reboot", -1))
		pf_add(pf, "kexec", PF_FAIL,
		       "reboot: it cannot be raised again",
		       "kernel.kexec_load_limit_reboot is used up");
	else if (read_number("/sys/kernel/kexec_loaded", -1) < 0)
		pf_add(pf, "kexec", PF_FAIL,
		       "boot a kernel with CONFIG_KEXEC_FILE=y",
		       "the running kernel has no kexec");
	else
		pf_add(pf, "kexec", PF_PASS, NULL, "a kernel can be loaded");
}

static bool secure_boot(void)
{
	autofree char *path = path_of(
		"/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c");
	autofree char *data = NULL;

	/* Four bytes of attributes, then the value */
	return path && path_read(path, 64, &data) >= 5 && data[4] == 1;
}

static bool locked_down(void)
{
	autofree char *path = path_of("/sys/kernel/security/lockdown");
	autofree char *line = NULL;

	return path && path_line(path, &line) > 0 && !strstr(line, "[none]");
}

/* A rule of the loaded policy, as far as the kernel lets it be read */
static bool policy_appraises(void)
{
	autofree char *path = path_of("/sys/kernel/security/ima/policy");
	autofree char *text = NULL;
	char *line, *save = NULL;

	if (!path || path_read(path, 1 << 20, &text) <= 0)
		return false;
	for (line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save))
		if (!strncmp(line, "appraise ", 9) &&
		    strstr(line, "KEXEC_KERNEL_CHECK"))
			return true;
	return false;
}

static bool ima_appraises(const char *config)
{
	autofree char *cmdline = cmdline_running();
	autofree char *policy = cmdline ? params_value(cmdline, "ima_policy") :
					  NULL;

	return (config && kconfig_is(config, "CONFIG_IMA_ARCH_POLICY", "y") &&
		secure_boot()) ||
	       (policy && strstr(policy, "secure_boot")) || policy_appraises();
}

/* IMA's own signature is beside the file or behind it, and not in a copy */
static bool signed_for_ima(const struct preflight *pf)
{
	const struct source *s = &pf->kernel;
	size_t n = strlen(MODSIG);

	return fgetxattr(s->fd, "security.ima", NULL, 0) > 0 ||
	       (s->size > n && !memcmp(s->data + s->size - n, MODSIG, n));
}

static void check_signature(struct preflight *pf)
{
	autofree char *config = kconfig_running();
	bool kexec_sig = !config || kconfig_is(config, "CONFIG_KEXEC_SIG", "y");
	bool ima = ima_appraises(config);
	bool has = (kexec_sig && pf->image.is_signed) ||
		   (ima && signed_for_ima(pf));
	const char *who = NULL;

	if (locked_down())
		who = "the kernel is locked down";
	else if (config && kconfig_is(config, "CONFIG_KEXEC_SIG_FORCE", "y"))
		who = "a signature is asked for";
	else if (ima)
		who = "IMA's policy asks for a signature";
	if (!who)
		pf_add(pf, "signature", PF_PASS, NULL,
		       "no signature is asked for%s",
		       secure_boot() ? " although Secure Boot is on" : "");
	else if (has)
		pf_add(pf, "signature", PF_WARN, NULL,
		       "%s: the image is signed, and the kernel will judge by whom",
		       who);
	else if (pf->image.is_signed)
		pf_add(pf, "signature", PF_FAIL, "sign it for IMA",
		       "%s, and this kernel does not check an image's own signature (CONFIG_KEXEC_SIG)",
		       who);
	else
		pf_add(pf, "signature", PF_FAIL, "sign the image",
		       "%s, and %s has no signature", who,
		       pf->image.unpacked ? "what was unpacked" : "the image");
}

void check_loading(struct preflight *pf)
{
	check_kexec(pf);
	if (pf->readable)
		check_signature(pf);
}
