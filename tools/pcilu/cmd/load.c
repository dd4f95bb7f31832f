// SPDX-License-Identifier: GPL-2.0
/* pcilu load, pcilu exec and pcilu unload */

#include <stdio.h>
#include <string.h>

#include "cmd.h"
#include "json.h"
#include "kexec.h"
#include "lock.h"
#include "preflight.h"
#include "run.h"
#include "vmms.h"

static void print_load(const struct options *o, const struct preflight *pf,
		       bool loaded)
{
	autojson *doc = NULL;

	if (!o->json)
		return;
	doc = preflight_json(pf, "load");
	add_bool(doc, "loaded", loaded);
	doc_print(doc);
}

int cmd_load(const struct options *o)
{
	__attribute__((cleanup(preflight_free))) struct preflight pf = {
		.kernel.fd = -1, .initrd.fd = -1
	};
	int ret = lock_take(o);

	if (!ret)
		ret = preflight_run(o, &pf);
	if (ret)
		return ret;
	if (!pf.passed && !o->force) {
		if (!o->json)
			preflight_print(&pf, o->verbose);
		print_load(o, &pf, false);
		return fail(ST_NO, "not loaded; --force loads nevertheless");
	}
	ret = kexec_load(o, &pf);
	if (ret)
		return ret;
	print_load(o, &pf, !o->dry_run);
	if (!o->json)
		printf("%s %s%s\n", o->dry_run ? "would load" : "loaded",
		       pf.image.release ? pf.image.release : o->kernel,
		       pf.passed ? "" : ", which did not pass its preflight");
	return ST_YES;
}

/* A jump that succeeds at once leaves nobody to print anything */
int cmd_exec(const struct options *o)
{
	int status = lock_take(o);
	autojson *doc = NULL;

	if (!status)
		status = kexec_ready(o);
	if (!status)
		status = kexec_jump(o);
	if (!o->json)
		return status;
	doc = doc_new("exec");
	add_str(doc, "by",
		run_systemd() && !o->no_systemd ? "systemctl kexec" : "reboot");
	add_bool(doc, "dry_run", o->dry_run);
	add_int(doc, "status", status);
	doc_print(doc);
	return status;
}

int cmd_unload(const struct options *o)
{
	bool loaded = run_kernel_loaded();
	autojson *doc = NULL;
	int err = lock_take(o);

	if (err)
		return err;
	if (!loaded)
		run_forget("loaded.json");
	else if (!o->dry_run)
		err = kexec_unload();
	if (err)
		return fail(status_of(err), "unloading: %s", strerror(-err));
	if (!o->dry_run)
		vmms_call_off();
	if (o->json) {
		doc = doc_new("unload");
		add_bool(doc, "was_loaded", loaded);
		add_bool(doc, "dry_run", o->dry_run);
		doc_print(doc);
	} else {
		puts(!loaded	? "no kernel was loaded" :
		     o->dry_run ? "would unload" :
				  "unloaded");
	}
	return ST_YES;
}
