// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"
#include "json.h"

/* Letters for options that have none */
enum {
	OPT_ACCEPT = 256,
	OPT_BOOT,
	OPT_CONFIG,
	OPT_CMDLINE,
	OPT_INITRD,
	OPT_KEEP,
	OPT_METRICS,
	OPT_PERSIST,
	OPT_REASON,
	OPT_REUSE,
	OPT_STRICT,
	OPT_TIMEOUT,
	OPT_NO_SYSTEMD,
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
	{ "metrics", no_argument, NULL, OPT_METRICS },
	{ "no-systemd", no_argument, NULL, OPT_NO_SYSTEMD },
	{ "output", required_argument, NULL, 'o' },
	{ "persist", no_argument, NULL, OPT_PERSIST },
	{ "reason", required_argument, NULL, OPT_REASON },
	{ "reuse-cmdline", no_argument, NULL, OPT_REUSE },
	{ "slot", required_argument, NULL, 's' },
	{ "strict", no_argument, NULL, OPT_STRICT },
	{ "timeout", required_argument, NULL, OPT_TIMEOUT },
	{ "tree", no_argument, NULL, 't' },
	{ "verbose", no_argument, NULL, 'v' },
	{ "version", no_argument, NULL, 'V' },
	{ 0 },
};

/*
 * Of each option the letter by which a command says that it takes it, and what help
 * says of it.
 */
static const struct {
	int value;
	int letter;
	const char *name;
	const char *help;
} described[] = {
	{ OPT_KERNEL, 'K', "--kernel IMAGE", "the next kernel" },
	{ OPT_INITRD, 'I', "--initrd FILE", "its initial RAM disk" },
	{ OPT_CMDLINE, 'C', "--cmdline STRING", "its command line" },
	{ OPT_REUSE, 'R', "--reuse-cmdline",
	  "the running kernel's command line, then STRING" },
	{ OPT_CONFIG, 'X', "--config FILE",
	  "its configuration, if the image does not tell" },
	{ OPT_ACCEPT, 'A', "--accept CHECK",
	  "let this check fail; can be repeated" },
	{ OPT_STRICT, 'S', "--strict", "a warning refuses, too" },
	{ OPT_NO_SYSTEMD, 'N', "--no-systemd", "jump at once, by reboot(2)" },
	{ 's', 's', "-s, --slot SLOT", "these functions, as lspci -s does" },
	{ 't', 't', "-t, --tree", "show a tree" },
	{ 'o', 'o', "-o, --output FILE", "write to a file, - is stdout" },
	{ 'i', 'i', "-i, --input FILE", "read from a file, - is stdin" },
	{ OPT_BOOT, 'B', "--boot", "for the unit: no snapshot is no failure" },
	{ OPT_KEEP, 'P', "--keep", "do not finish the snapshot's session" },
	{ OPT_METRICS, 'M', "--metrics", "as node_exporter reads it" },
	{ OPT_PERSIST, 'Z', "--persist", "and at each boot" },
	{ OPT_REASON, 'W', "--reason TEXT", "why, for the journal" },
	{ OPT_TIMEOUT, 'T', "--timeout SECONDS", "wait that long at most" },
	{ 'n', 'n', "-n, --dry-run", "say what would be done, do nothing" },
	{ 'f', 'f', "-f, --force", "although it is refused" },
	{ 'j', 'j', "-j, --json", "a document on standard output" },
	{ 'v', 'v', "-v, --verbose", "say more" },
	{ 'h', 'h', "-h, --help", "this text" },
	{ 'V', 'V', "-V, --version", "the version" },
};

#define ALWAYS "jvhV"
#define IMAGE_OPTIONS "KICRXAS"

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
	{ "unload", cmd_unload, "n", false, "", "take the loaded kernel away" },
	{ "exec", cmd_exec, "nfN", false, "[--force] [--no-systemd]",
	  "jump into the loaded kernel" },
	{ "snapshot", cmd_snapshot, "on", false, "[-o FILE]",
	  "remember what all functions look like" },
	{ "verify", cmd_verify, "inBP", false, "[-i FILE] [--boot] [--keep]",
	  "compare with the snapshot" },
	{ "update", cmd_update, IMAGE_OPTIONS "nfNT", false,
	  "[--kernel IMAGE [--initrd F] --cmdline S|--reuse-cmdline]",
	  "a whole live update, to the newest kernel by default" },
	{ "status", cmd_status, "M", false, "[--metrics]",
	  "sessions, devices, and what remains to be done" },
	{ "bind", cmd_bind, "snZ", true, "[--persist] SLOT...",
	  "give functions to vfio-pci, and see that it has them" },
	{ "unbind", cmd_unbind, "snZ", true, "[--persist] SLOT...",
	  "give them back to their own drivers" },
	{ "release", cmd_release, "nfW", true,
	  "[--force] [--reason TEXT] SESSION",
	  "give up a session that has no owner: it is not preserved" },
	{ "discard", cmd_discard, "nfW", true,
	  "[--force] [--reason TEXT] SESSION",
	  "unpreserve what is in a session, whoever has it: it stands in the way" },
	{ "finish", cmd_finish, "nfW", true,
	  "[--force] [--reason TEXT] SESSION",
	  "finish a handed-over session that has no owner" },
	{ "wait", cmd_wait, "T", false, "[--timeout SECONDS]",
	  "until nothing remains to be finished" },
};

static bool json; /* seen before options are parsed: errors of that count */

void leave(int status)
{
	if (json && !doc_printed()) {
		autojson *doc = doc_new("error");

		add_int(doc, "status", status);
		add_str(doc, "error", fail_text());
		doc_print(doc);
	}
	/* A table that was not written is no answer */
	if (fflush(stdout) || ferror(stdout)) {
		json = false;
		status =
			fail(ST_FAILED, "standard output: %s", strerror(errno));
	}
	exit(status);
}

static void usage(FILE *f)
{
	size_t i;

	fputs("Usage: pcilu [options] COMMAND [options], see pcilu(1)\n\n", f);
	for (i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].help);
	fputs("\nAll commands: -j, --json; -v, --verbose; -h, --help; -V, --version\n"
	      "Exit status: 0 yes, 1 no, 2 usage, 4 permission, 10 not here, 11 failed\n",
	      f);
}

static int letter_of(int value)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(described); i++)
		if (described[i].value == value)
			return described[i].letter;
	return 0;
}

static bool takes(const struct command *c, int letter)
{
	return strchr(ALWAYS, letter) || (c && strchr(c->takes, letter));
}

static void help(const struct command *c)
{
	size_t i;

	printf("Usage: pcilu %s %s\n%s\n\n", c->name, c->usage, c->help);
	for (i = 0; i < ARRAY_SIZE(described); i++)
		if (takes(c, described[i].letter))
			printf("  %-19s %s\n", described[i].name,
			       described[i].help);
}

static const struct command *find_command(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
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
	case OPT_METRICS:
		o->metrics = true;
		break;
	case OPT_REASON:
		o->reason = arg;
		break;
	case OPT_PERSIST:
		o->persist = true;
		break;
	case OPT_REUSE:
		o->reuse_cmdline = true;
		break;
	case OPT_STRICT:
		o->strict = true;
		break;
	case OPT_TIMEOUT:
		o->timeout = arg;
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

/*
 * Before the command (@c is NULL then) its name ends the options. Asked for help or
 * the version, it does not come back.
 */
static int parse(struct options *o, const struct command *c, int argc,
		 char **argv)
{
	const char *letters = c ? ":s:tjvnfi:o:hV" : "+:s:tjvnfi:o:hV";
	int value, ret;

	optind = 0; /* in glibc: from the beginning, with a new order */
	opterr = 0;
	while ((value = getopt_long(argc, argv, letters, long_options, NULL)) !=
	       -1) {
		if (value == '?' || value == ':')
			return fail(ST_USAGE, "%s: %s", argv[optind - 1],
				    value == ':' ? "it needs an argument" :
						   "there is no such option");
		if (value == 'h') {
			if (c)
				help(c);
			else
				usage(stdout);
			json = false;
			leave(ST_YES);
		}
		if (value == 'V') {
			puts("pcilu " PCILU_VERSION);
			json = false;
			leave(ST_YES);
		}
		if (!c && !takes(c, letter_of(value)))
			return fail(
				ST_USAGE,
				"%s comes behind the command that it is for",
				argv[optind - 1]);
		if (c && !takes(c, letter_of(value)))
			return fail(ST_USAGE,
				    "%s does not take this option: pcilu %s %s",
				    c->name, c->name, c->usage);
		ret = set_option(o, value, optarg);
		if (ret)
			return ret;
	}
	o->args = argv + optind;
	o->nr_args = argc - optind;
	if (c && o->nr_args && !c->arguments)
		return fail(ST_USAGE, "'%s' is too much: pcilu %s %s",
			    o->args[0], c->name, c->usage);
	return 0;
}

/* -j alone or among short options that take no argument, in front of "--" */
static void look_for_json(char **argv)
{
	for (argv++; *argv && strcmp(*argv, "--") != 0; argv++)
		json |= !strcmp(*argv, "--json") ||
			((*argv)[0] == '-' && (*argv)[1] != '-' &&
			 strspn(*argv + 1, "tjvnfhV") == strlen(*argv + 1) &&
			 strchr(*argv, 'j'));
}

int main(int argc, char **argv)
{
	const struct command *c;
	struct options o = { 0 };
	int ret;

	setlocale(LC_CTYPE, "");
	look_for_json(argv);
	ret = parse(&o, NULL, argc, argv);
	if (ret)
		leave(ret);
	if (!o.nr_args) {
		usage(stderr);
		leave(ST_USAGE);
	}
	if (!strcmp(o.args[0], "help")) {
		usage(stdout);
		json = false;
		leave(ST_YES);
	}
	c = find_command(o.args[0]);
	if (!c)
		leave(fail(ST_USAGE,
			   "'%s' is no command, pcilu --help lists them",
			   o.args[0]));
	ret = parse(&o, c, o.nr_args, o.args);
	if (ret)
		leave(ret);
	json = o.json;
	leave(c->run(&o));
}
