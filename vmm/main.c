// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm.h"

struct options {
	const char *kernel, *initrd, *append, *inherit;
	const char *devices[MAX_DEVICES];
	unsigned int nr_devices;
	unsigned long memory;
};

static _Thread_local char failure[256];

int fail(int err, const char *fmt, ...)
{
	char text[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(failure, sizeof(failure), "%s%s%s", text, err ? ": " : "",
		 err ? strerror(-err) : "");
	say("%s", failure);
	return err;
}

const char *fail_text(void)
{
	return failure;
}

void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	flockfile(stderr);
	fputs("pcilu-vmm: ", stderr);
	vfprintf(stderr, fmt, ap);
	putc('\n', stderr);
	funlockfile(stderr);
	va_end(ap);
}

double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static int usage(void)
{
	fputs("pcilu-vmm start NAME --kernel FILE [--initrd FILE] [--append WORDS] [--memory MIB]\n"
	      "          [--cpus N] [--device DDDD:BB:DD.F]... [--serial FILE]\n"
	      "pcilu-vmm restore NAME [--serial FILE]\n"
	      "pcilu-vmm save|resume|replace|status|quit NAME\n"
	      "\n"
	      "start    boots a guest, or goes on with one that the previous kernel handed over\n"
	      "restore  the latter only\n"
	      "save     the guest stands still, and is handed over by the next kexec;\n"
	      "         `pcilu update` has this done by itself\n"
	      "resume   it goes on, and nothing is handed over\n"
	      "replace  by another process of this program, without a kexec\n",
	      stderr);
	return 2;
}

static int parse(struct vmm *v, struct options *o, int argc, char **argv)
{
	enum {
		KERNEL = 1,
		INITRD,
		APPEND,
		MEMORY,
		CPUS,
		DEVICE,
		SERIAL,
		INHERIT,
		LEAVE_OUT
	};
	static const struct option options[] = {
		{ "kernel", required_argument, NULL, KERNEL },
		{ "initrd", required_argument, NULL, INITRD },
		{ "append", required_argument, NULL, APPEND },
		{ "memory", required_argument, NULL, MEMORY },
		{ "cpus", required_argument, NULL, CPUS },
		{ "device", required_argument, NULL, DEVICE },
		{ "serial", required_argument, NULL, SERIAL },
		{ "inherit", required_argument, NULL, INHERIT }, /* our own */
		{ "leave-out", required_argument, NULL, LEAVE_OUT }, /* tests */
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case KERNEL:
			o->kernel = optarg;
			break;
		case INITRD:
			o->initrd = optarg;
			break;
		case APPEND:
			o->append = optarg;
			break;
		case MEMORY:
			o->memory = strtoul(optarg, NULL, 0);
			break;
		case CPUS:
			v->machine.nr_cpus = strtoul(optarg, NULL, 0);
			break;
		case DEVICE:
			if (o->nr_devices == MAX_DEVICES)
				return fail(-E2BIG, "too many devices");
			o->devices[o->nr_devices++] = optarg;
			break;
		case SERIAL:
			v->serial_path = optarg;
			break;
		case INHERIT:
			o->inherit = optarg;
			break;
		case LEAVE_OUT:
			v->leave_out = optarg;
			break;
		default:
			return -EINVAL;
		}
	}
	return optind < argc ? -EINVAL : 0;
}

static int boot(struct vmm *v, const struct options *o)
{
	unsigned int n;
	int err;

	if (!o->kernel)
		return fail(-EINVAL, "which --kernel?");
	err = memory_create(&v->memory, MIB(o->memory));
	for (n = 0; n < o->nr_devices && !err; n++)
		err = device_open(&v->devices[v->nr_devices++], o->devices[n]);
	if (!err)
		err = vmm_open(v, NULL);
	if (!err)
		err = boot_linux(v, o->kernel, o->initrd, o->append);
	if (!err)
		machine_resume(&v->machine);
	return err;
}

static int run(struct vmm *v, const struct options *o, bool may_boot)
{
	int answer = -1, err;
	sigset_t signals;

	/* Who asked, or read the console, may be gone: no reason to stop the guest */
	signal(SIGPIPE, SIG_IGN);
	control_signals(&signals);
	/* Before the first device is opened, so that no update can miss it */
	err = session_open(v);
	if (!err)
		session_events_start(v);
	if (o->inherit)
		err = restore_inherited(v, o->inherit, &answer);
	else if (!err)
		err = restore_session(v);
	else if (may_boot && err == -ENOENT)
		err = 1; /* there is no such thing here: it will be an ordinary VM */

	if (err == 1 && may_boot)
		err = boot(v, o);
	else if (err == 1)
		say("%s was not handed over", v->name);
	else if (!err)
		err = go_on(v);
	if (err)
		return err;
	if (answer >= 0) {
		control_answer(v, answer, 0);
		close(answer);
	}
	return control_run(v);
}

int main(int argc, char **argv)
{
	static struct vmm v = { .serial.out = -1,
				.iommu.fd = -1,
				.machine.nr_cpus = 1 };
	struct options o = { .append = "", .memory = 128 };
	bool start;

	if (argc < 3)
		return usage();
	v.name = argv[2];
	start = !strcmp(argv[1], "start");
	if (start || !strcmp(argv[1], "restore")) {
		if (parse(&v, &o, argc - 2, argv + 2))
			return usage();
		return run(&v, &o, start) ? 1 : 0;
	}
	if (argc != 3)
		return usage();
	return control_client(v.name, argv[1]) ? 1 : 0;
}
