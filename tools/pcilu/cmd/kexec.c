// SPDX-License-Identifier: GPL-2.0
/*
 * kexec_file_load(2) is the only way to load a kernel that gets a hand-over: an
 * image that kexec_load(2) loaded would be refused at the jump.
 */

#include <errno.h>
#include <linux/kexec.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../lib/include/pcilu.h"
#include "../../../lib/src/path.h"
#include "device.h"
#include "json.h"
#include "kexec.h"
#include "run.h"
#include "veto.h"

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
	{ ESTALE, "it is not what was checked: somebody replaced it" },
};

static const char *load_remedy(int err)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(load_remedies); i++)
		if (load_remedies[i].err == err)
			return load_remedies[i].remedy;
	return strerror(err);
}

int kexec_unload(void)
{
	run_forget("loaded.json");
	if (syscall(SYS_kexec_file_load, -1, -1, 0UL, NULL,
		    (long)KEXEC_FILE_UNLOAD))
		return -errno;
	return versions_tell(NULL);
}

static int load(const struct source *kernel, const struct source *initrd,
		const char *cmdline)
{
	if (syscall(SYS_kexec_file_load, kernel->fd, initrd->fd,
		    strlen(cmdline) + 1, cmdline,
		    initrd->fd < 0 ? (long)KEXEC_FILE_NO_INITRAMFS : 0L))
		return -errno;
	/* The kernel read the files by itself; were they still what we read? */
	if (source_unchanged(kernel) && source_unchanged(initrd))
		return 0;
	kexec_unload();
	return -ESTALE;
}

/* A kernel that is taken out of a file of another kind is loaded from memory */
static int hold(const struct image *img, const struct source *file,
		struct source *held)
{
	if (img->load.p == (const uint8_t *)file->data &&
	    img->load.size == file->size)
		return 0;
	return source_hold(held, "kernel", img->load.p, img->load.size);
}

int kexec_load(const struct options *o, const struct preflight *pf)
{
	autosource struct source held = { .fd = -1 };
	autojson *doc = NULL;
	int err;

	if (o->dry_run) {
		fprintf(stderr, "pcilu: would load %s with \"%s\"\n", o->kernel,
			pf->given);
		return ST_YES;
	}
	/* What exec finds must be about what is loaded, whatever happens now */
	run_forget("loaded.json");
	err = hold(&pf->image, &pf->kernel, &held);
	if (!err)
		err = load(held.fd < 0 ? &pf->kernel : &held, &pf->initrd,
			   pf->given);
	if (err)
		return fail(status_of(err), "loading %s: %s", o->kernel,
			    load_remedy(-err));
	err = versions_tell(pf_config(pf));
	if (err) {
		kexec_unload();
		return fail(
			status_of(err),
			"not loaded: the kernel cannot be told which versions that one reads: %s",
			strerror(-err));
	}
	doc = preflight_json(pf, "preflight");
	err = run_save("loaded.json", doc);
	if (err) {
		kexec_unload();
		return fail(
			ST_FAILED,
			"not loaded: that it passed cannot be remembered: %s",
			strerror(-err));
	}
	return ST_YES;
}

/*
 * The kernel does not tell which image is loaded, and another program may have
 * loaded one after us. So it is loaded once more, and must be what was checked.
 */
static int load_again(struct json_object *doc)
{
	__attribute__((cleanup(image_free))) struct image img = { 0 };
	autosource struct source kernel = { .fd = -1 };
	autosource struct source initrd = { .fd = -1 };
	autosource struct source held = { .fd = -1 };
	const char *why, *name = get_str(doc, "initrd");
	const char *hash = get_str(doc, "initrd_sha256");
	const char *path = get_str(doc, "kernel");
	const char *kernel_hash = get_str(doc, "kernel_sha256");
	const char *cmdline = get_str(doc, "cmdline");
	int err;

	if (!path || !kernel_hash || !cmdline)
		return -ESTALE;
	err = preflight_open(path, &kernel, &img, &why);
	if (err || strcmp(kernel.hash, kernel_hash) != 0)
		return -ESTALE;
	if (name)
		err = source_open(&initrd, name, SIZE_MAX / 2);
	else if (hash)
		err = source_hold(&initrd, "initrd", img.initrd.p,
				  img.initrd.size);
	if (err || (hash && strcmp(initrd.hash, hash) != 0))
		return -ESTALE;
	err = hold(&img, &kernel, &held);
	return err ? err :
		     load(held.fd < 0 ? &kernel : &held, &initrd, cmdline);
}

/*
 * Runs a program and waits: its exit status, or -errno. It gets all signals, whatever
 * waits here, but none of our terminal's: a kexec that systemd has begun would look like
 * one that failed.
 */
static int run_program(const char *const *argv)
{
	int status;
	sigset_t none;
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		setsid();
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) < 0)
		return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
}

/* A function that is preserved: its address, which stays valid; NULL if none is */
static int first_preserved(const char **bdf)
{
	__attribute__((cleanup(devices_free))) struct devices d;
	static char address[sizeof(d.dev[0].bdf)];
	int i, err = devices_scan_held(&d);

	*bdf = NULL;
	for (i = 0; !err && i < d.count; i++) {
		if (d.dev[i].state != PCILU_STATE_PRESERVED)
			continue;
		memcpy(address, d.dev[i].bdf, sizeof(address));
		*bdf = address;
		break;
	}
	return err;
}

/* Units stop in order; what they held, the keeper holds */
static int jump_by_systemd(void)
{
	static const char *const start[] = { "systemctl", "start", KEEPER,
					     NULL };
	static const char *const stop[] = { "systemctl", "stop", KEEPER, NULL };
	static const char *const jump[] = { "systemctl", "kexec", NULL };
	autofree char *socket = path_of("/run/pcilud/socket");
	const char *lost = NULL;
	bool daemon = socket && !access(socket, F_OK);
	int err = daemon ? 0 : first_preserved(&lost);

	if (err)
		return err;
	if (lost)
		return fail(
			ST_NO,
			"%s is preserved, and no pcilud and no keeper would hold its session while systemd stops everybody: start pcilud, or exec --no-systemd",
			lost);
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
	autofree char *session = NULL;
	int err, log = veto_watch();

	sync();
	reboot(CMD_KEXEC);
	err = errno;
	session = veto_session(log);
	if (session)
		return fail(
			status_of(err),
			"the kernel refuses the kexec: session %s cannot be frozen (%s): its owner mends that, or pcilu discard --force %s goes on without what is in it",
			session, strerror(err), session);
	return fail(status_of(err), "the kernel refuses the kexec: %s%s",
		    strerror(err),
		    err == EINVAL ?
			    "; its log names the session and the remedy" :
			    "");
}

/* Then nobody can have loaded another one since it was set */
static bool loading_disabled(void)
{
	autofree char *path = path_of("/proc/sys/kernel/kexec_load_disabled");
	autofree char *line = NULL;

	return path && path_line(path, &line) > 0 && strcmp(line, "0") != 0;
}

int kexec_ready(const struct options *o)
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
	if (!o->force && !o->dry_run && !loading_disabled()) {
		int err = load_again(doc);

		if (err)
			return fail(
				err == -ESTALE ? ST_NO : status_of(err),
				"the checked kernel cannot be loaded once more: %s",
				load_remedy(-err));
	}
	return ST_YES;
}

int kexec_jump(const struct options *o)
{
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
