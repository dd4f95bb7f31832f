// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <libkmod.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../../lib/include/pcilu.h"
#include "../../../lib/src/path.h"
#include "cmdline.h"
#include "device.h"
#include "image.h"
#include "json.h"
#include "kconfig.h"
#include "preflight.h"
#include "table.h"

#define MB (1ULL << 20)
/* Beside the image: page tables, the device tree or boot parameters, early data */
#define SCRATCH_RESERVE (32 * MB)

static const char *const verdicts[] = { "pass", "warn", "FAIL", "accepted" };

static void find(struct preflight *pf, const char *check, enum verdict verdict,
		 const char *remedy, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

static void find(struct preflight *pf, const char *check, enum verdict verdict,
		 const char *remedy, const char *fmt, ...)
{
	struct finding *f = &pf->finding[pf->count];
	va_list ap;

	if (pf->count == FINDINGS_MAX) {
		/* Not to be told is not to pass */
		pf->finding[FINDINGS_MAX - 1].verdict = PF_FAIL;
		return;
	}
	pf->count++;
	f->check = check;
	f->verdict = verdict;
	snprintf(f->remedy, sizeof(f->remedy), "%s", remedy ? remedy : "");
	va_start(ap, fmt);
	vsnprintf(f->text, sizeof(f->text), fmt, ap);
	va_end(ap);
}

/* --- the image and its configuration ---------------------------------------- */

static const struct {
	const char *option;
	bool module_will_do;
	const char *what;
} wanted[] = {
	{ "CONFIG_PCI_LIVEUPDATE", false, "PCI Live Update" },
	{ "CONFIG_LIVEUPDATE", false, "the Live Update Orchestrator" },
	{ "CONFIG_LIVEUPDATE_MEMFD", false, "hand-over of memory" },
	{ "CONFIG_KEXEC_HANDOVER", false, "Kexec HandOver" },
	{ "CONFIG_VFIO_PCI", true, "vfio-pci" },
	{ "CONFIG_VFIO_DEVICE_CDEV", false, "VFIO device files" },
	{ "CONFIG_IOMMUFD", true, "iommufd" },
};

static void check_options(struct preflight *pf, const struct image *img)
{
	bool all = true;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(wanted); i++) {
		if (kconfig_is(img->config, wanted[i].option, "y") ||
		    (wanted[i].module_will_do &&
		     kconfig_is(img->config, wanted[i].option, "m")))
			continue;
		all = false;
		find(pf, "config", PF_FAIL, "build it with this option",
		     "the next kernel lacks %s (%s)", wanted[i].what,
		     wanted[i].option);
	}
	if (all)
		find(pf, "config", PF_PASS, NULL,
		     "all options are there, from %s",
		     img->config_path ? img->config_path : "the image itself");
}

static void check_abi(struct preflight *pf, const struct image *img)
{
	static const char option[] = "CONFIG_PCI_LIVEUPDATE_ABI";
	autofree char *running = kconfig_running();
	autofree char *here = running ? kconfig_get(running, option) : NULL;
	autofree char *there = kconfig_get(img->config, option);

	if (!there)
		find(pf, "abi", PF_FAIL, "use a kernel with PCI Live Update",
		     "the next kernel tells no version of what is handed over");
	else if (!running)
		find(pf, "abi", PF_FAIL,
		     "install /boot/config-RELEASE of the running kernel",
		     "the running kernel's configuration is nowhere to be found");
	else if (!here)
		find(pf, "abi", PF_FAIL,
		     "boot a kernel with PCI Live Update first",
		     "the running kernel has no PCI Live Update");
	else if (strtoul(here, NULL, 0) != strtoul(there, NULL, 0))
		find(pf, "abi", PF_FAIL,
		     "use a kernel that speaks the same version",
		     "it reads version %s, and this kernel hands over %s",
		     there, here);
	else
		find(pf, "abi", PF_PASS, NULL, "both kernels speak %s", here);
}

/* vfio-pci as a module must be where the next kernel's modprobe looks */
static void check_modules(struct preflight *pf, const struct image *img)
{
	autofree char *dir = NULL;
	struct kmod_list *list = NULL;
	struct kmod_ctx *ctx;
	bool found = false;

	if (!kconfig_is(img->config, "CONFIG_VFIO_PCI", "m"))
		return;
	if (!img->release) {
		find(pf, "modules", PF_WARN, NULL,
		     "vfio-pci is a module, and the image does not tell its release");
		return;
	}
	dir = path_of("/lib/modules/%s", img->release);
	ctx = dir ? kmod_new(dir, NULL) : NULL;
	if (ctx) {
		found = kmod_module_new_from_lookup(ctx, "vfio-pci", &list) >=
				0 &&
			list;
		kmod_module_unref_list(list);
		kmod_unref(ctx);
	}
	if (found)
		find(pf, "modules", PF_PASS, NULL, "vfio-pci is in %s", dir);
	else
		find(pf, "modules", PF_FAIL, "install the kernel's modules",
		     "vfio-pci is a module, and %s has none", dir);
}

/* --- the command line ---------------------------------------------------------- */

static void check_switch(struct preflight *pf, const struct image *img,
			 const char *check, const char *name,
			 const char *default_option)
{
	bool otherwise = default_option && img->config &&
			 kconfig_is(img->config, default_option, "y");
	char remedy[64];

	snprintf(remedy, sizeof(remedy), "add %s=on to the command line", name);
	if (cmdline_is_on(pf->cmdline, name, otherwise))
		find(pf, check, PF_PASS, NULL, "%s is on", name);
	else
		find(pf, check, PF_FAIL, remedy,
		     "the next kernel would start without %s=on", name);
}

static void check_cmdline(struct preflight *pf)
{
	autofree char *running = cmdline_running();
	struct cmdline_change *change = NULL;
	int i, n = running ? cmdline_compare(running, pf->cmdline, &change) :
			     -1;

	if (n < 0) {
		find(pf, "cmdline", PF_FAIL, NULL,
		     "the running kernel's command line cannot be read");
		return;
	}
	for (i = 0; i < n; i++)
		find(pf, "cmdline", PF_FAIL,
		     "use the same options in both kernels, or --accept cmdline",
		     "%s %s: it %s",
		     change[i].added ? "the next kernel has" :
				       "the next kernel lacks",
		     change[i].option, change[i].effect);
	if (!n)
		find(pf, "cmdline", PF_PASS, NULL,
		     "no option that matters to PCI or DMA differs");
	cmdline_changes_free(change, n);
}

/* --- memory ------------------------------------------------------------------ */

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

/* From debugfs if it is there, else from the command line if that says sizes */
static void scratch_size(struct scratch *s)
{
	autofree char *path = path_of("/sys/kernel/debug/kho/out/scratch_len");
	autofree char *text = NULL, *cmdline = NULL, *value = NULL;
	char *p, *end;

	if (path && path_read(path, 65536, &text) > 0) {
		for (p = text; *p; p = end) {
			unsigned long long n = strtoull(p, &end, 0);

			if (end == p)
				break;
			add_area(s, n);
		}
		if (s->areas)
			return;
	}
	cmdline = cmdline_running();
	value = cmdline ? cmdline_value(cmdline, "kho_scratch") : NULL;
	if (!value || strchr(value, '%'))
		return;
	for (p = value; *p; p = *end ? end + 1 : end) {
		unsigned long long n = parse_size(p, &end);

		if (end == p)
			break;
		add_area(s, n);
	}
}

static void check_scratch(struct preflight *pf, const struct options *o,
			  const struct image *img)
{
	unsigned long long crash = cmdline_crashkernel(pf->cmdline), need;
	struct scratch s = { 0 };
	struct stat st = { 0 };

	if (o->initrd && stat(o->initrd, &st)) {
		find(pf, "initrd", PF_FAIL, NULL, "%s: %s", o->initrd,
		     strerror(errno));
		return;
	}
	need = img->memory + (unsigned long long)st.st_size + crash +
	       SCRATCH_RESERVE;
	scratch_size(&s);
	if (!s.areas)
		find(pf, "scratch", PF_WARN,
		     "boot with kho_scratch=SIZE,SIZE,SIZE, or mount debugfs",
		     "the size of the scratch memory is not known; %llu MB are needed",
		     need / MB);
	else if (s.total < need || s.largest < img->memory)
		find(pf, "scratch", PF_FAIL,
		     "boot with a larger kho_scratch=, or reserve less for the crash kernel",
		     "%llu MB of scratch memory (%llu in one piece), and %llu MB are needed (%llu for the kernel, %llu for the crash kernel)",
		     s.total / MB, s.largest / MB, need / MB,
		     (unsigned long long)img->memory / MB, crash / MB);
	else
		find(pf, "scratch", PF_PASS, NULL,
		     "%llu MB of scratch memory, %llu MB are needed",
		     s.total / MB, need / MB);
}

/* --- may it be loaded? ------------------------------------------------------- */

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
		find(pf, "kexec", PF_FAIL,
		     "reboot: it cannot be switched on again",
		     "kernel.kexec_load_disabled forbids loading");
	else if (!read_number("/proc/sys/kernel/kexec_load_limit_reboot", -1))
		find(pf, "kexec", PF_FAIL, "reboot: it cannot be raised again",
		     "kernel.kexec_load_limit_reboot is used up");
	else if (read_number("/sys/kernel/kexec_loaded", -1) < 0)
		find(pf, "kexec", PF_FAIL,
		     "boot a kernel with CONFIG_KEXEC_FILE=y",
		     "the running kernel has no kexec");
	else
		find(pf, "kexec", PF_PASS, NULL, "a kernel can be loaded");
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

static void check_signature(struct preflight *pf, const struct image *img)
{
	autofree char *config = kconfig_running();
	bool lockdown = locked_down();
	bool forced = config &&
		      kconfig_is(config, "CONFIG_KEXEC_SIG_FORCE", "y");

	if (!lockdown && !forced)
		find(pf, "signature", PF_PASS, NULL,
		     "no signature is asked for%s",
		     secure_boot() ? " although Secure Boot is on" : "");
	else if (img->is_signed)
		find(pf, "signature", PF_WARN, NULL,
		     "%s: the image is signed, and the kernel will judge by whom",
		     lockdown ? "the kernel is locked down" :
				"a signature is asked for");
	else
		find(pf, "signature", PF_FAIL, "sign the image",
		     "%s, and the image has no signature",
		     lockdown ? "the kernel is locked down" :
				"a signature is asked for");
}

/* --- what is preserved here -------------------------------------------------- */

static void check_devices(struct preflight *pf)
{
	__attribute__((cleanup(devices_free))) struct devices d;
	int i, preserved = 0, unfinished = 0, told = 0;

	if (devices_scan(&d, NULL))
		return;
	for (i = 0; i < d.count; i++) {
		const struct device *dev = &d.dev[i];

		told += dev->state >= 0;
		preserved += dev->state == PCILU_PRESERVED;
		unfinished += dev->state == PCILU_INCOMING_DEVICE ||
			      dev->state == PCILU_CLAIMED;
	}
	if (unfinished)
		find(pf, "unfinished", PF_WARN,
		     "let their owners finish, pcilu status",
		     "%d functions are not finished from the last live update and would be lost",
		     unfinished);
	if (told)
		find(pf, "devices", PF_PASS, NULL, "%d functions are preserved",
		     preserved);
	else
		find(pf, "devices", PF_WARN, NULL,
		     "this kernel does not tell which devices are preserved");
}

/* --- all of it --------------------------------------------------------------- */

static char *wanted_cmdline(const struct options *o)
{
	autofree char *running = NULL;
	char *both = NULL;

	if (!o->reuse_cmdline)
		return strdup(o->cmdline ? o->cmdline : "");
	running = cmdline_running();
	if (!running || !o->cmdline)
		return take_ptr(running);
	return asprintf(&both, "%s %s", running, o->cmdline) < 0 ? NULL : both;
}

static void accept_findings(const struct options *o, struct preflight *pf)
{
	int i, j;

	pf->passed = true;
	for (i = 0; i < pf->count; i++) {
		struct finding *f = &pf->finding[i];

		for (j = 0; j < o->nr_accept; j++)
			if (f->verdict == PF_FAIL &&
			    !strcmp(f->check, o->accept[j]))
				f->verdict = PF_ACCEPTED;
		if (f->verdict == PF_FAIL)
			pf->passed = false;
	}
}

static void check_image(const struct options *o, struct preflight *pf)
{
	struct image img;
	const char *why;

	if (image_read(o->kernel, o->config, &img, &why)) {
		find(pf, "image", PF_FAIL, "name a kernel image", "%s: %s",
		     o->kernel, why);
		image_free(&img);
		return;
	}
	find(pf, "image", PF_PASS, NULL, "%s %s, %s", img.format,
	     img.release ? img.release : "of unknown release", img.compression);
	if (img.release)
		pf->release = strdup(img.release);
	if (img.config) {
		check_options(pf, &img);
		check_abi(pf, &img);
		check_modules(pf, &img);
	} else {
		find(pf, "config", PF_FAIL,
		     "build it with CONFIG_IKCONFIG=y, or name its configuration with --config",
		     "the image does not tell its configuration");
	}
	check_switch(pf, &img, "kho", "kho",
		     "CONFIG_KEXEC_HANDOVER_ENABLE_DEFAULT");
	check_switch(pf, &img, "liveupdate", "liveupdate", NULL);
	check_scratch(pf, o, &img);
	check_signature(pf, &img);
	image_free(&img);
}

int preflight_run(const struct options *o, struct preflight *pf)
{
	*pf = (struct preflight){ 0 };
	if (!o->kernel)
		return fail(ST_USAGE, "name the next kernel with --kernel");
	if (!o->cmdline && !o->reuse_cmdline)
		return fail(ST_USAGE,
			    "say --cmdline \"...\" or --reuse-cmdline");
	pf->cmdline = wanted_cmdline(o);
	if (!pf->cmdline)
		return fail(ST_FAILED,
			    "the running kernel's command line cannot be read");
	check_image(o, pf);
	check_cmdline(pf);
	check_kexec(pf);
	check_devices(pf);
	accept_findings(o, pf);
	return 0;
}

void preflight_free(struct preflight *pf)
{
	free(pf->cmdline);
	free(pf->release);
}

struct json_object *preflight_json(const struct options *o,
				   const struct preflight *pf)
{
	static const char *const words[] = { "pass", "warn", "fail",
					     "accepted" };
	struct json_object *doc = doc_new("preflight");
	struct json_object *array;
	int i;

	add_str(doc, "kernel", o->kernel);
	add_str(doc, "initrd", o->initrd);
	add_str(doc, "cmdline", pf->cmdline);
	add_str(doc, "release", pf->release);
	add_bool(doc, "passed", pf->passed);
	array = add_array(doc, "checks");
	for (i = 0; i < pf->count; i++) {
		const struct finding *f = &pf->finding[i];
		struct json_object *c = array_object(array);

		add_str(c, "check", f->check);
		add_str(c, "verdict", words[f->verdict]);
		add_str(c, "text", f->text);
		add_str(c, "remedy", f->remedy[0] ? f->remedy : NULL);
	}
	return doc;
}

void preflight_print(const struct preflight *pf, bool verbose)
{
	struct table *t = TABLE("CHECK", "VERDICT", "WHAT");
	int i;

	for (i = 0; i < pf->count; i++) {
		const struct finding *f = &pf->finding[i];
		char text[600];

		if (f->verdict == PF_PASS && !verbose)
			continue;
		snprintf(text, sizeof(text), "%s%s%s", f->text,
			 f->remedy[0] && f->verdict != PF_PASS ? "; " : "",
			 f->verdict != PF_PASS ? f->remedy : "");
		ROW(t, f->check, verdicts[f->verdict], text);
	}
	table_print(t);
	printf("%s\n", pf->passed ? "preflight passed" : "preflight refuses");
}

int cmd_preflight(const struct options *o)
{
	__attribute__((cleanup(preflight_free))) struct preflight pf;
	int ret = preflight_run(o, &pf);

	if (ret)
		return ret;
	if (o->json) {
		autojson *doc = preflight_json(o, &pf);

		doc_print(doc);
	} else {
		preflight_print(&pf, o->verbose);
	}
	return pf.passed ? ST_YES : ST_NO;
}
