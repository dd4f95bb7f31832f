// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"

/* Letters for options that have none */
enum {
	OPT_ACCEPT = 256,
	OPT_BOOT,
	OPT_CONFIG,
	OPT_CMDLINE,
	OPT_INITRD,
	OPT_KEEP,
	OPT_REUSE,
	OPT_NO_SYSTEMD,
	OPT_VERSION,
	OPT_KERNEL,
};

static const struct option long_options[] = {
	{ "accept", required_argument, NULL, OPT_ACCEPT },
	{ "boot", no_argument, NULL, OPT_BOOT },
	{ "cmdline", required_argument, NULL, OPT_CMDLINE },
	{ "config", required_argument, NULL, OPT_CONFIG },
	{ "dry-run", no_argument, NULL, 'n' },
	{ "force", no_argument, NULL, 'f' },
	{ "help", no_argument, NULL, 'h' },
	{ "initrd", required_argument, NULL, OPT_INITRD },
	{ "input", required_argument, NULL, 'i' },
	{ "json", no_argument, NULL, 'j' },
	{ "keep", no_argument, NULL, OPT_KEEP },
	{ "kernel", required_argument, NULL, OPT_KERNEL },
	{ "no-systemd", no_argument, NULL, OPT_NO_SYSTEMD },
	{ "output", required_argument, NULL, 'o' },
	{ "reuse-cmdline", no_argument, NULL, OPT_REUSE },
	{ "slot", required_argument, NULL, 's' },
	{ "tree", no_argument, NULL, 't' },
	{ "verbose", no_argument, NULL, 'v' },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ 0 },
};

#define ALWAYS "jvh"
#define IMAGE_OPTIONS "KICRAX"

/*
 * A command, the letters of the options it takes (those without one: K kernel,
 * I initrd, C cmdline, R reuse-cmdline, A accept, X config, B boot, P keep,
 * N no-systemd), and whether arguments follow.
 */
static const struct command {
	const char *name;
	int (*run)(const struct options *o);
	const char *takes;
	bool arguments;
	const char *usage;
	const char *help;
} commands[] = {
	{ "list", cmd_list, "st", false, "[-s SLOT] [-t]",
	  "every function: driver, owner, state, preservable or why not" },
	{ "check", cmd_check, "s", true, "SLOT...",
	  "can these be preserved? what is in the way, and the remedy" },
	{ "preflight", cmd_preflight, IMAGE_OPTIONS, false,
	  "--kernel IMAGE [--initrd F] --cmdline S|--reuse-cmdline",
	  "will this kernel take over what is preserved here?" },
	{ "load", cmd_load, IMAGE_OPTIONS "nf", false,
	  "--kernel IMAGE [--initrd F] --cmdline S|--reuse-cmdline",
	  "preflight, and load the kernel" },
	{ "exec", cmd_exec, "nfN", false, "[--force] [--no-systemd]",
	  "jump into the loaded kernel" },
	{ "snapshot", cmd_snapshot, "on", false, "[-o FILE]",
	  "remember what all functions look like" },
	{ "verify", cmd_verify, "inBP", false, "[-i FILE] [--boot] [--keep]",
	  "compare with the snapshot" },
	{ "update", cmd_update, IMAGE_OPTIONS "nfN", false,
	  "--kernel IMAGE [--initrd F] --cmdline S|--reuse-cmdline",
	  "preflight, snapshot, load and exec" },
	{ "status", cmd_status, "", false, "",
	  "sessions, devices, and what remains to be done" },
};

static const struct {
	int value;
	int letter;
} letters[] = {
	{ OPT_ACCEPT, 'A' },  { OPT_BOOT, 'B' },   { OPT_CONFIG, 'X' },
	{ OPT_CMDLINE, 'C' }, { OPT_INITRD, 'I' }, { OPT_KEEP, 'P' },
	{ OPT_REUSE, 'R' },   { OPT_KERNEL, 'K' }, { OPT_NO_SYSTEMD, 'N' },
};

enum status fail(enum status status, const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("pcilu: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return status;
}

enum status status_of(int err)
{
	switch (err < 0 ? -err : err) {
	case EPERM:
	case EACCES:
		return ST_PERMISSION;
	case ENOENT:
	case ENODEV:
	case ENOSYS:
	case ECONNREFUSED:
	case EOPNOTSUPP:
		return ST_ABSENT;
	default:
		return ST_FAILED;
	}
}

static void usage(FILE *f)
{
	size_t i;

	fputs("Usage: pcilu COMMAND [options], see pcilu(1)\n\n", f);
	for (i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].help);
	fputs("\nAll commands: -j, --json; -v, --verbose; -h, --help\n"
	      "Exit status: 0 yes, 1 no, 2 usage, 3 permission, 4 not here, 5 failed\n",
	      f);
}

static const struct command *find_command(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

static bool takes(const struct command *c, int value)
{
	int letter = value;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(letters); i++)
		if (letters[i].value == value)
			letter = letters[i].letter;
	return strchr(c->takes, letter) || strchr(ALWAYS, letter);
}

/* Returns 0, or an exit status */
static int set_option(struct options *o, int value, const char *arg)
{
	switch (value) {
	case 's':
		o->slot = arg;
		break;
	case 't':
		o->tree = true;
		break;
	case 'j':
		o->json = true;
		break;
	case 'v':
		o->verbose = true;
		break;
	case 'n':
		o->dry_run = true;
		break;
	case 'f':
		o->force = true;
		break;
	case 'i':
		o->input = arg;
		break;
	case 'o':
		o->output = arg;
		break;
	case OPT_ACCEPT:
		if (o->nr_accept == (int)ARRAY_SIZE(o->accept))
			return fail(ST_USAGE, "too many --accept");
		o->accept[o->nr_accept++] = arg;
		break;
	case OPT_BOOT:
		o->boot = true;
		break;
	case OPT_CONFIG:
		o->config = arg;
		break;
	case OPT_CMDLINE:
		o->cmdline = arg;
		break;
	case OPT_INITRD:
		o->initrd = arg;
		break;
	case OPT_KEEP:
		o->keep = true;
		break;
	case OPT_REUSE:
		o->reuse_cmdline = true;
		break;
	case OPT_KERNEL:
		o->kernel = arg;
		break;
	case OPT_NO_SYSTEMD:
		o->no_systemd = true;
		break;
	default:
		return ST_USAGE;
	}
	return 0;
}

static int parse(struct options *o, const struct command *c, int argc,
		 char **argv, bool *help)
{
	int value, ret;

	while ((value = getopt_long(argc, argv, "s:tjvnfi:o:h", long_options,
				    NULL)) != -1) {
		if (value == '?')
			return ST_USAGE;
		if (value == 'h') {
			*help = true;
			return 0;
		}
		if (!takes(c, value))
			return fail(ST_USAGE,
				    "%s does not take this option: pcilu %s %s",
				    c->name, c->name, c->usage);
		ret = set_option(o, value, optarg);
		if (ret)
			return ret;
	}
	o->args = argv + optind;
	o->nr_args = argc - optind;
	if (o->nr_args && !c->arguments)
		return fail(ST_USAGE, "'%s' is too much: pcilu %s %s",
			    o->args[0], c->name, c->usage);
	return 0;
}

int main(int argc, char **argv)
{
	const struct command *c;
	struct options o = { 0 };
	bool help = false;
	int ret;

	if (argc < 2) {
		usage(stderr);
		return ST_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") ||
	    !strcmp(argv[1], "help")) {
		usage(stdout);
		return ST_YES;
	}
	if (!strcmp(argv[1], "--version")) {
		puts("pcilu " PCILU_VERSION);
		return ST_YES;
	}
	c = find_command(argv[1]);
	if (!c)
		return fail(ST_USAGE,
			    "'%s' is no command, pcilu --help lists them",
			    argv[1]);
	ret = parse(&o, c, argc - 1, argv + 1, &help);
	if (ret)
		return ret;
	if (help) {
		printf("Usage: pcilu %s %s\n%s\n", c->name, c->usage, c->help);
		return ST_YES;
	}
	ret = c->run(&o);
	/* A table that was not written is no answer */
	if (fflush(stdout) || ferror(stdout))
		return fail(ST_FAILED, "standard output: %s", strerror(errno));
	return ret;
}
