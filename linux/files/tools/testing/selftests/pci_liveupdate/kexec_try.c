// SPDX-License-Identifier: GPL-2.0
/*
 * kexec_try - ask for one kexec or power state by its raw system call and say
 * what the kernel answered.
 *
 *	kexec_try file KERNEL INITRD CMDLINE	kexec_file_load; INITRD "-": none
 *	kexec_try crash KERNEL INITRD CMDLINE	the same for the crash kernel
 *	kexec_try legacy			kexec_load of one segment
 *	kexec_try legacy-preserve-context	the same, to return from
 *	kexec_try unload | unload-crash
 *	kexec_try exec [NTH]			jump; only failure returns
 *	kexec_try suspend [STATE]		/sys/power/state, "mem" if not given
 *	kexec_try hibernate
 *
 * "legacy" loads something that can never run: a single segment of zeroes. It
 * is there to be refused at load or at "exec" while something is preserved.
 * WARNING: if "exec" is not refused then, the machine is gone.
 *
 * "exec" with a number has the kernel fail at the NTHth chance in that system call
 * (Documentation/fault-injection/); "injected" says whether it came to that.
 *
 * Output is one JSON object, after "exec" with the nanoseconds that it took. Exit
 * codes: 0 done, 1 refused (see "errno"), 2 usage.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <linux/kexec.h>
#include <linux/kernel.h>
#include <linux/reboot.h>

#include "json_out.h"
#include "pci_sysfs.h"

/* Nanoseconds, of a kexec that was refused */
static __u64 took;

/* The file that says after how many chances to fail the kernel does, or -1 */
static int fail_nth = -1;

static __u64 now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

/* Of those up to the one that fails; none may fail from here on */
static unsigned long chances_left(void)
{
	char left[16] = "";

	if (pread(fail_nth, left, sizeof(left) - 1, 0) < 0 || pwrite(fail_nth, "0", 1, 0) < 0)
		abort();
	return strtoul(left, NULL, 0);
}

static int report(const char *what, int rc)
{
	struct json j = {};

	json_begin(&j);
	json_str(&j, "event", "kexec_try");
	json_str(&j, "what", what);
	json_rc(&j, rc);
	if (took)
		json_u64(&j, "ns", took);
	if (fail_nth >= 0)
		json_bool(&j, "injected", !chances_left());
	json_end(&j);
	json_send(&j, STDOUT_FILENO);
	return rc ? 1 : 0;
}

static int file_load(const char *kernel, const char *initrd, const char *cmdline,
		     unsigned long flags)
{
	int kernel_fd, initrd_fd = -1, ret = 0;

	kernel_fd = open(kernel, O_RDONLY | O_CLOEXEC);
	if (kernel_fd < 0)
		return -errno;

	if (!strcmp(initrd, "-")) {
		flags |= KEXEC_FILE_NO_INITRAMFS;
	} else {
		initrd_fd = open(initrd, O_RDONLY | O_CLOEXEC);
		if (initrd_fd < 0) {
			ret = -errno;
			goto out;
		}
	}

	if (syscall(SYS_kexec_file_load, kernel_fd, initrd_fd,
		    strlen(cmdline) + 1, cmdline, flags))
		ret = -errno;
	if (initrd_fd >= 0)
		close(initrd_fd);
out:
	close(kernel_fd);
	return ret;
}

/* Some RAM that a segment may go to: the end of the largest System RAM range */
static unsigned long find_ram(unsigned long want)
{
	unsigned long start, end, best = 0, best_len = 0;
	char line[256];
	FILE *f = fopen("/proc/iomem", "re");

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		if (line[0] == ' ' || !strstr(line, "System RAM") ||
		    sscanf(line, "%lx-%lx", &start, &end) != 2)
			continue;
		if (end - start > best_len && end - start > 4 * want) {
			best_len = end - start;
			best = (end + 1 - 2 * want) & ~(want - 1);
		}
	}
	fclose(f);
	return best;
}

static int legacy_load(unsigned long flags)
{
	long page_size = sysconf(_SC_PAGESIZE);
	struct kexec_segment segment = { .bufsz = page_size, .memsz = page_size };
	int ret = 0;
	void *buf;

	segment.mem = (void *)find_ram(page_size);
	if (!segment.mem)
		return -ENODATA;
	buf = calloc(1, page_size);
	if (!buf)
		return -ENOMEM;

	segment.buf = buf;
	if (syscall(SYS_kexec_load, (unsigned long)segment.mem, 1UL, &segment,
		    flags | KEXEC_ARCH_DEFAULT))
		ret = -errno;
	free(buf);
	return ret;
}

static int unload(unsigned long flags)
{
	if (syscall(SYS_kexec_file_load, -1, -1, 0UL, NULL,
		    flags | KEXEC_FILE_UNLOAD))
		return -errno;
	return 0;
}

static int jump(const char *nth)
{
	__u64 begin;
	int ret;

	sync();
	/* From here on the machine's console tells the time */
	sysfs_write("/dev/kmsg", "<5>kexec_try: exec");
	if (nth) {
		fail_nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
		if (fail_nth < 0 || pwrite(fail_nth, nth, strlen(nth), 0) < 0)
			return -errno;
	}
	begin = now();
	ret = reboot(LINUX_REBOOT_CMD_KEXEC) ? -errno : 0;
	took = now() - begin;
	return ret;
}

static int set_state(const char *state)
{
	return sysfs_write("/sys/power/state", state);
}

int main(int argc, char *argv[])
{
	const char *what = argc > 1 ? argv[1] : "";

	if (argc == 5 && !strcmp(what, "file"))
		return report(what, file_load(argv[2], argv[3], argv[4], 0));
	if (argc == 5 && !strcmp(what, "crash"))
		return report(what, file_load(argv[2], argv[3], argv[4],
					      KEXEC_FILE_ON_CRASH));
	if (argc == 2 && !strcmp(what, "legacy"))
		return report(what, legacy_load(0));
	if (argc == 2 && !strcmp(what, "legacy-preserve-context"))
		return report(what, legacy_load(KEXEC_PRESERVE_CONTEXT));
	if (argc == 2 && !strcmp(what, "unload"))
		return report(what, unload(0));
	if (argc == 2 && !strcmp(what, "unload-crash"))
		return report(what, unload(KEXEC_FILE_ON_CRASH));
	if ((argc == 2 || argc == 3) && !strcmp(what, "exec"))
		return report(what, jump(argc == 3 ? argv[2] : NULL));
	if ((argc == 2 || argc == 3) && !strcmp(what, "suspend"))
		return report(what, set_state(argc == 3 ? argv[2] : "mem"));
	if (argc == 2 && !strcmp(what, "hibernate"))
		return report(what, set_state("disk"));

	fprintf(stderr,
		"kexec_try file|crash KERNEL INITRD CMDLINE | legacy | legacy-preserve-context |\n"
		"          unload | unload-crash | exec [NTH] | suspend [STATE] | hibernate\n");
	return 2;
}
