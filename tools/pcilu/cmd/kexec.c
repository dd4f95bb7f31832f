// SPDX-License-Identifier: GPL-2.0
/*
 * kexec_file_load(2) is the only way to load a kernel that gets a hand-over: an
 * image that kexec_load(2) loaded would be refused at the jump.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/kexec.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../lib/src/path.h"
#include "json.h"
#include "kexec.h"
#include "run.h"

#define KEEPER "pcilu-keeper.service"

/* linux/reboot.h and glibc name it differently */
#define CMD_KEXEC 0x45584543

static const struct {
	int err;
	const char *remedy;
} load_remedies[] = {
	{ EPERM, "only root may load a kernel" },
	{ EKEYREJECTED,
	  "the image's signature is not one that this kernel trusts" },
	{ ENODATA, "the image has no signature, and this kernel asks for one" },
	{ ENOEXEC, "the kernel does not know this kind of image" },
	{ EBUSY, "another kexec is going on" },
	{ EADDRNOTAVAIL,
	  "no room for the image: a larger kho_scratch= at the next boot" },
	{ ENOMEM, "no room for the image" },
	{ ENOSYS, "this kernel lacks CONFIG_KEXEC_FILE" },
};

static const char *load_remedy(int err)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(load_remedies); i++)
		if (load_remedies[i].err == err)
			return load_remedies[i].remedy;
	return strerror(err);
}

int kexec_load(const struct options *o, const struct preflight *pf)
{
	autoclose int kernel = open(o->kernel, O_RDONLY | O_CLOEXEC);
	autoclose int initrd = -1;
	autojson *doc = NULL;
	int err;

	if (kernel < 0)
		return fail(status_of(errno), "%s: %s", o->kernel,
			    strerror(errno));
	if (o->initrd) {
		initrd = open(o->initrd, O_RDONLY | O_CLOEXEC);
		if (initrd < 0)
			return fail(status_of(errno), "%s: %s", o->initrd,
				    strerror(errno));
	}
	if (o->dry_run) {
		fprintf(stderr, "pcilu: would load %s with \"%s\"\n", o->kernel,
			pf->cmdline);
		return ST_YES;
	}
	/* What exec finds must be about what is loaded, whatever happens now */
	run_forget("loaded.json");
	if (syscall(SYS_kexec_file_load, kernel, initrd,
		    strlen(pf->cmdline) + 1, pf->cmdline,
		    initrd < 0 ? (long)KEXEC_FILE_NO_INITRAMFS : 0L)) {
		err = errno;
		return fail(status_of(err), "loading %s: %s", o->kernel,
			    load_remedy(err));
	}
	doc = preflight_json(o, pf);
	err = run_save("loaded.json", doc);
	if (err)
		return fail(
			ST_FAILED,
			"the kernel is loaded, but that it passed cannot be remembered: %s",
			strerror(-err));
	return ST_YES;
}

/* Runs a program and waits: its exit status, or -errno */
static int run_program(const char *const *argv)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) < 0)
		return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
}

/* Units stop in order; what they held, the keeper holds */
static int jump_by_systemd(void)
{
	static const char *const start[] = { "systemctl", "start", KEEPER,
					     NULL };
	static const char *const stop[] = { "systemctl", "stop", KEEPER, NULL };
	static const char *const jump[] = { "systemctl", "kexec", NULL };
	autofree char *socket = path_of("/run/pcilud/socket");
	bool daemon = socket && !access(socket, F_OK);
	int err;

	if (daemon) {
		err = run_program(start);
		if (err)
			return fail(
				ST_FAILED,
				"" KEEPER
				" does not start, and without it the sessions end with pcilud: systemctl status " KEEPER);
	}
	err = run_program(jump);
	if (err) {
		if (daemon)
			run_program(stop);
		return fail(ST_FAILED, "systemctl kexec failed (%d)", err);
	}
	return ST_YES;
}

/* Whoever holds sessions goes on to hold them: nobody is stopped */
static int jump_alone(void)
{
	sync();
	reboot(CMD_KEXEC);
	return fail(status_of(errno), "the kernel refuses the kexec: %s%s",
		    strerror(errno),
		    errno == EINVAL ?
			    "; its log names the session and the remedy" :
			    "");
}

int kexec_jump(const struct options *o)
{
	autojson *doc = run_load("loaded.json");

	if (!run_kernel_loaded() && !o->dry_run)
		return fail(ST_NO, "no kernel is loaded: pcilu load");
	if (!o->force && !o->dry_run) {
		if (!doc || !doc_is(doc, "preflight"))
			return fail(
				ST_NO,
				"the loaded kernel went through no preflight: use pcilu load, or --force");
		if (!get_bool(doc, "passed"))
			return fail(
				ST_NO,
				"the loaded kernel did not pass its preflight: pcilu preflight says why; --force jumps nevertheless");
	}
	if (o->dry_run) {
		fprintf(stderr, "pcilu: would jump by %s\n",
			run_systemd() && !o->no_systemd ? "systemctl kexec" :
							  "reboot(2)");
		return ST_YES;
	}
	fflush(NULL);
	return run_systemd() && !o->no_systemd ? jump_by_systemd() :
						 jump_alone();
}

static void print_load(const struct options *o, const struct preflight *pf,
		       bool loaded)
{
	autojson *doc = NULL;

	if (!o->json)
		return;
	doc = preflight_json(o, pf);
	add_str(doc, "schema", "pcilu/load");
	add_bool(doc, "loaded", loaded);
	doc_print(doc);
}

int cmd_load(const struct options *o)
{
	__attribute__((cleanup(preflight_free))) struct preflight pf;
	int ret = preflight_run(o, &pf);

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
		       pf.release ? pf.release : o->kernel,
		       pf.passed ? "" : ", which did not pass its preflight");
	return ST_YES;
}

/* A jump that succeeds at once leaves nobody to print anything */
int cmd_exec(const struct options *o)
{
	int status = kexec_jump(o);
	autojson *doc = NULL;

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
