// SPDX-License-Identifier: GPL-2.0

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmdline.h"
#include "json.h"
#include "preflight.h"
#include "table.h"

static const char *const verdicts[] = { "pass", "warn", "FAIL", "accepted" };

const char *const pf_checks[] = {
	"abi",	     "cmdline",	   "config",   "daemon", "devices",
	"host",	     "image",	   "in-use",   "initrd", "kexec",
	"kho",	     "liveupdate", "modules",  "panic",	 "scratch",
	"signature", "unfinished", "watchdog", NULL,
};

void pf_add(struct preflight *pf, const char *check, enum verdict verdict,
	    const char *remedy, const char *fmt, ...)
{
	struct finding *more =
		reallocarray(pf->finding, (size_t)pf->count + 1, sizeof(*more));
	struct finding *f;
	va_list ap;

	if (!more) /* Not to be told is not to pass */
		abort();
	pf->finding = more;
	f = &more[pf->count++];
	f->check = check;
	f->verdict = verdict;
	snprintf(f->remedy, sizeof(f->remedy), "%s", remedy ? remedy : "");
	va_start(ap, fmt);
	vsnprintf(f->text, sizeof(f->text), fmt, ap);
	va_end(ap);
}

static int check_names(const struct options *o)
{
	int i, j;

	for (i = 0; i < o->nr_accept; i++) {
		for (j = 0; pf_checks[j]; j++)
			if (!strcmp(pf_checks[j], o->accept[i]))
				break;
		if (!pf_checks[j])
			return fail(ST_USAGE,
				    "--accept %s: there is no such check",
				    o->accept[i]);
	}
	return 0;
}

static char *wanted_cmdline(const struct options *o, const struct image *img)
{
	autofree char *running = NULL;

	if (!o->reuse_cmdline)
		return strdup(o->cmdline   ? o->cmdline :
			      img->cmdline ? img->cmdline :
					     "");
	running = cmdline_running();
	if (!running || !o->cmdline)
		return take_ptr(running);
	return cmdline_join(running, o->cmdline);
}

static void judge(const struct options *o, struct preflight *pf)
{
	int i, j;

	pf->passed = true;
	for (i = 0; i < pf->count; i++) {
		struct finding *f = &pf->finding[i];
		bool refuses = f->verdict == PF_FAIL ||
			       (o->strict && f->verdict == PF_WARN);

		for (j = 0; j < o->nr_accept; j++)
			if (refuses && !strcmp(f->check, o->accept[j]))
				f->verdict = PF_ACCEPTED;
		if (!refuses || f->verdict == PF_ACCEPTED)
			continue;
		if (pf->passed)
			pf->why = f;
		pf->passed = false;
	}
}

int preflight_run(const struct options *o, struct preflight *pf)
{
	int err;

	*pf = (struct preflight){ .options = o,
				  .kernel.fd = -1,
				  .initrd.fd = -1 };
	if (!o->kernel)
		return fail(ST_USAGE, "name the next kernel with --kernel");
	err = check_names(o);
	if (err)
		return err;
	check_image(pf);
	if (!o->cmdline && !o->reuse_cmdline && !pf->image.cmdline &&
	    (pf->readable || pf->kernel.fd < 0))
		return fail(ST_USAGE,
			    "say --cmdline \"...\" or --reuse-cmdline");
	pf->given = wanted_cmdline(o, &pf->image);
	if (!pf->given)
		return fail(ST_FAILED,
			    "the running kernel's command line cannot be read");
	err = devices_scan(&pf->devices, NULL);
	if (err)
		return err;
	check_modules(pf);
	check_initrd(pf);
	check_cmdline(pf);
	check_config(pf);
	check_versions(pf);
	check_memory(pf);
	check_loading(pf);
	check_host(pf);
	judge(o, pf);
	return 0;
}

void preflight_free(struct preflight *pf)
{
	free(pf->finding);
	free(pf->cmdline);
	free(pf->given);
	image_free(&pf->image);
	source_close(&pf->kernel);
	source_close(&pf->initrd);
	devices_free(&pf->devices);
}

void preflight_checks(const struct preflight *pf, struct json_object *doc)
{
	static const char *const words[] = { "pass", "warn", "fail",
					     "accepted" };
	struct json_object *array = add_array(doc, "checks");
	int i;

	for (i = 0; i < pf->count; i++) {
		const struct finding *f = &pf->finding[i];
		struct json_object *c = array_object(array);

		add_str(c, "check", f->check);
		add_str(c, "verdict", words[f->verdict]);
		add_str(c, "text", f->text);
		add_str(c, "remedy", f->remedy[0] ? f->remedy : NULL);
	}
}

struct json_object *preflight_json(const struct preflight *pf,
				   const char *schema)
{
	const struct options *o = pf->options;
	struct json_object *doc = doc_new(schema);

	add_str(doc, "kernel", o->kernel);
	add_str(doc, "kernel_sha256",
		pf->kernel.fd < 0 ? NULL : pf->kernel.hash);
	add_str(doc, "initrd", o->initrd);
	add_str(doc, "initrd_sha256",
		pf->initrd.fd < 0 ? NULL : pf->initrd.hash);
	add_str(doc, "cmdline", pf->given);
	add_str(doc, "effective_cmdline", pf->cmdline);
	add_str(doc, "release", pf->image.release);
	add_bool(doc, "strict", o->strict);
	add_bool(doc, "passed", pf->passed);
	preflight_checks(pf, doc);
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
		autojson *doc = preflight_json(&pf, "preflight");

		doc_print(doc);
	} else {
		preflight_print(&pf, o->verbose);
	}
	return pf.passed ? ST_YES : ST_NO;
}
