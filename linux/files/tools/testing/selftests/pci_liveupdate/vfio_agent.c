// SPDX-License-Identifier: GPL-2.0
/*
 * vfio_agent - a process that does with VFIO devices, memory and LUO sessions
 * what it is told, one command at a time: any sequence that a VMM may run.
 *
 *	vfio_agent start NAME
 *	vfio_agent ctl NAME [--wait SECONDS] COMMAND [ARGUMENT...] [\; COMMAND ...]
 *
 * What commands work on has names that the caller gives:
 *
 *	vfio_agent ctl vm0 open dev 0000:03:00.0 \; bind dev \; attach dev
 *	vfio_agent ctl vm0 memory ram 64 \; map dev ram
 *	vfio_agent ctl vm0 session s vm0 \; preserve s 1 ram \; preserve s 2 dev
 *	(kexec)
 *	vfio_agent ctl vm0 retrieve-session s vm0 \; retrieve s 1 memory ram
 *	vfio_agent ctl vm0 retrieve s 2 device dev \; bind dev \; attach dev
 *	vfio_agent ctl vm0 map dev ram \; finish s
 *
 * Every answer is one line of JSON with "rc", and the name of the errno if that
 * is negative. Run without arguments for the commands.
 */

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/bits.h>
#include <linux/capability.h>
#include <linux/kernel.h>

#include "agent.h"

#define DELIMITERS	"\n\t "

static const struct agent_command * const tables[] = {
	agent_device_commands, agent_irq_commands, agent_file_commands, agent_memory_commands,
	agent_thread_commands,
};

struct agent_thing *agent_find(struct agent *a, const char *name, unsigned int kinds)
{
	for (size_t i = 0; i < AGENT_THINGS; i++)
		if (a->thing[i].kind & kinds && !strcmp(a->thing[i].name, name))
			return &a->thing[i];
	return NULL;
}

struct agent_thing *agent_add(struct agent *a, const char *name, enum agent_kind kind)
{
	for (size_t i = 0; i < AGENT_THINGS; i++) {
		struct agent_thing *t = &a->thing[i];

		if (t->kind)
			continue;
		*t = (struct agent_thing){
			.kind = kind, .fd = -1, .group = -1, .container = -1,
			.v = VFIO_NOIOMMU_INIT,
		};
		snprintf(t->name, sizeof(t->name), "%s", name);
		return t;
	}
	return NULL;
}

void agent_drop(struct agent_thing *t)
{
	if (t->map)
		munmap(t->map, t->size);
	for (int i = 0; i < AGENT_BARS; i++)
		if (t->bar[i].map)
			munmap(t->bar[i].map, t->bar[i].size);
	for (int i = 0; i < VFIO_PCI_NUM_IRQS; i++)
		while (t->irqs[i].armed)
			close(t->irqs[i].eventfd[--t->irqs[i].armed]);
	if (t->fd >= 0)
		close(t->fd);
	vfio_noiommu_close(&t->v);
	if (t->group >= 0)
		close(t->group);
	if (t->container >= 0)
		close(t->container);
	t->kind = AGENT_NOTHING;
}

int agent_fd(const struct agent_thing *t)
{
	return t->kind == AGENT_DEVICE ? t->v.cdev : t->fd;
}

__u64 agent_number(const struct agent_call *c, int i, __u64 otherwise)
{
	return i < c->argc ? strtoull(c->argv[i], NULL, 0) : otherwise;
}

static const struct agent_command *find_command(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
		for (const struct agent_command *cmd = tables[i]; cmd->name; cmd++)
			if (!strcmp(cmd->name, name))
				return cmd;
	return NULL;
}

static int run(struct agent *a, int argc, char *argv[], struct json *j);

/*
 * fail-nth N COMMAND...: the Nth chance to fail that the kernel comes upon in this thread does
 * (Documentation/fault-injection/). "injected" is false if there were fewer.
 */
static int run_failing(struct agent *a, int argc, char *argv[], struct json *j)
{
	char left[16] = "";
	int fd, ret;

	if (argc < 2)
		return -EINVAL;
	fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (pwrite(fd, argv[0], strlen(argv[0]), 0) < 0) {
		ret = -errno;
	} else {
		ret = run(a, argc - 1, argv + 1, j);
		if (pread(fd, left, sizeof(left) - 1, 0) < 0 || pwrite(fd, "0", 1, 0) < 0)
			abort();
		json_bool(j, "injected", !strtoul(left, NULL, 0));
	}
	close(fd);
	return ret;
}

static int set_admin(bool on)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &header, data))
		return -errno;
	data[0].effective &= ~BIT(CAP_SYS_ADMIN);
	if (on)
		data[0].effective |= BIT(CAP_SYS_ADMIN);
	return syscall(SYS_capset, &header, data) ? -errno : 0;
}

/*
 * no-files COMMAND...: while the kernel is at its limit of open files, which only those with
 * CAP_SYS_ADMIN may exceed.
 */
static int run_without_files(struct agent *a, int argc, char *argv[], struct json *j)
{
	char limit[32] = "";
	int fd, ret;

	if (argc < 1)
		return -EINVAL;
	fd = open("/proc/sys/fs/file-max", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (pread(fd, limit, sizeof(limit) - 1, 0) < 0 || pwrite(fd, "0", 1, 0) < 0) {
		ret = -errno;
	} else {
		ret = set_admin(false);
		if (!ret)
			ret = run(a, argc, argv, j);
		if (set_admin(true) || pwrite(fd, limit, strlen(limit), 0) < 0)
			abort();
	}
	close(fd);
	return ret;
}

/*
 * become UID: the agent ends, and its child goes on with all files and without privileges, as a
 * VMM does that a helper has started.
 */
static int become(int argc, char *argv[], struct json *j)
{
	unsigned int id;
	pid_t child;

	if (argc < 1)
		return -EINVAL;
	id = strtoul(argv[0], NULL, 0);
	child = fork();
	if (child < 0)
		return -errno;
	if (child)
		_exit(0);
	if (setgroups(0, NULL) || setgid(id) || setuid(id))
		return -errno;
	json_u64(j, "pid", getpid());
	return 0;
}

static int run(struct agent *a, int argc, char *argv[], struct json *j)
{
	struct agent_call call = { .agent = a, .reply = j };
	const struct agent_command *cmd;
	int first;

	if (!strcmp(argv[0], "fail-nth"))
		return run_failing(a, argc - 1, argv + 1, j);
	if (!strcmp(argv[0], "no-files"))
		return run_without_files(a, argc - 1, argv + 1, j);
	if (!strcmp(argv[0], "become"))
		return become(argc - 1, argv + 1, j);
	if (!strcmp(argv[0], "quit")) {
		a->quit = true;
		return 0;
	}

	cmd = find_command(argv[0]);
	if (!cmd)
		return -EOPNOTSUPP;
	first = cmd->kind ? 2 : 1;
	if (argc < first + cmd->min_args)
		return -EINVAL;
	call.argc = argc - first;
	call.argv = argv + first;

	if (cmd->kind & AGENT_NEW) {
		int ret;

		if (agent_find(a, argv[1], AGENT_ANY))
			return -EEXIST;
		/* The command says what it is; if it fails it is nothing */
		call.thing = agent_add(a, argv[1], AGENT_NOTHING);
		if (!call.thing)
			return -EMFILE;
		ret = cmd->run(&call);
		if (ret)
			agent_drop(call.thing);
		return ret;
	}
	if (cmd->kind) {
		call.thing = agent_find(a, argv[1], cmd->kind);
		if (!call.thing)
			return -EBADF;
	}
	return cmd->run(&call);
}

static void handle(void *data, char *line, int fd)
{
	char *argv[AGENT_ARGS], *save;
	struct json reply = {};
	int argc = 0, rc;

	for (char *word = strtok_r(line, DELIMITERS, &save); word && argc < AGENT_ARGS;
	     word = strtok_r(NULL, DELIMITERS, &save))
		argv[argc++] = word;
	if (!argc)
		return;

	json_begin(&reply);
	json_str(&reply, "command", argv[0]);
	rc = run(data, argc, argv, &reply);
	json_rc(&reply, rc);
	json_end(&reply);
	json_send(&reply, fd);
}

static int start(struct agent *a)
{
	struct json j = {};
	int code, ret;

	signal(SIGPIPE, SIG_IGN);
	ret = ctl_background(&a->ctl, &code);
	if (ret > 0)
		return code;
	if (!ret)
		ret = ctl_listen(&a->ctl);
	if (ret < 0) {
		json_error("start", ret, a->ctl.name);
		return CTL_NO_DAEMON;
	}

	json_begin(&j);
	json_str(&j, "event", "ready");
	json_u64(&j, "pid", getpid());
	json_end(&j);
	json_send(&j, STDOUT_FILENO);
	ctl_ready(&a->ctl);

	while (!a->quit)
		ctl_serve(&a->ctl, NULL, handle, a);
	/* Devices stop before their memory goes, whoever else holds them */
	for (size_t i = 0; i < AGENT_THINGS; i++)
		if (a->thing[i].kind == AGENT_DEVICE)
			agent_drop(&a->thing[i]);
	ctl_unlisten(&a->ctl);
	return CTL_OK;
}

static int usage(void)
{
	fprintf(stderr, "vfio_agent start NAME\n"
		"vfio_agent ctl NAME [--wait SECONDS] COMMAND [ARGUMENT...] [\\; COMMAND...]\n"
		"commands:\n");
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
		for (const struct agent_command *cmd = tables[i]; cmd->name; cmd++)
			fprintf(stderr, "  %-16s %s\n", cmd->name, cmd->help);
	fprintf(stderr, "  %-16s %s\n  %-16s %s\n  %-16s %s\n  %-16s %s\n",
		"become", "UID; in another process, without privileges",
		"fail-nth", "N COMMAND...; with the Nth possible fault injected",
		"no-files", "COMMAND...; with no more open files allowed", "quit", "");
	return CTL_USAGE;
}

int main(int argc, char *argv[])
{
	static struct agent a = { .ctl.program = "vfio_agent" };
	int code;

	if (argc < 3)
		return usage();
	a.ctl.name = argv[2];
	if (argc == 3 && !strcmp(argv[1], "start"))
		return start(&a);
	if (strcmp(argv[1], "ctl"))
		return usage();
	code = ctl_client(&a.ctl, argc - 3, argv + 3);
	return code == CTL_USAGE ? usage() : code;
}
