// SPDX-License-Identifier: GPL-2.0
/*
 * For tests on a host without Live Update: preloaded into the real programs, it
 * passes what they ask of the kernel on to a stand-in (rig/rig/fakeluo.py).
 *
 * A descriptor of /dev/liveupdate or of a session is a socket to the stand-in,
 * which therefore sees, as the kernel would, when the last copy of one is closed.
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { OP_OPEN = 0x100, OP_KEXEC_LOAD = 0x101, OP_REBOOT = 0x102 };

struct request {
	uint32_t op;
	int32_t arg;
	uint64_t token;
	uint64_t serial; /* the reply repeats it */
	char text[4096];
};

struct reply {
	int32_t error; /* 0 or an errno */
	char name[64];
	uint64_t serial;
} __attribute__((packed));

static int exchange_once(int sock, const struct request *rq, int fd,
			 struct reply *re, int *got)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (void *)rq, sizeof(*rq) };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;
	ssize_t n;

	*got = -1;
	if (fd >= 0) {
		hdr.msg_control = control.buf;
		hdr.msg_controllen = sizeof(control.buf);
		c = CMSG_FIRSTHDR(&hdr);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	if (rq && sendmsg(sock, &hdr, MSG_NOSIGNAL) < 0)
		return ENOTTY;
	iov = (struct iovec){ re, sizeof(*re) };
	hdr = (struct msghdr){ .msg_iov = &iov,
			       .msg_iovlen = 1,
			       .msg_control = control.buf,
			       .msg_controllen = sizeof(control.buf) };
	n = recvmsg(sock, &hdr, MSG_CMSG_CLOEXEC);
	if (n != sizeof(*re))
		return EIO; /* nobody there any more */
	c = CMSG_FIRSTHDR(&hdr);
	if (c && c->cmsg_type == SCM_RIGHTS)
		memcpy(got, CMSG_DATA(c), sizeof(*got));
	return re->error;
}

/*
 * A system call ends with the process that made it. Here, the reply to somebody who
 * was killed while waiting for it is still there for the next one.
 */
static int exchange(int sock, struct request *rq, int fd, struct reply *re,
		    int *got)
{
	struct timespec t;
	int err;

	clock_gettime(CLOCK_MONOTONIC, &t);
	rq->serial = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
	err = exchange_once(sock, rq, fd, re, got);
	while (err != ENOTTY && err != EIO && re->serial != rq->serial) {
		if (*got >= 0)
			close(*got);
		err = exchange_once(sock, NULL, -1, re, got);
	}
	return err;
}

static int connect_stand_in(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	const char *path = getenv("PCILU_FAKE_LUO");
	int sock;

	if (!path) {
		errno = ENOENT;
		return -1;
	}
	strncpy(addr.sun_path, path, sizeof(addr.sun_path) - 1);
	sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (sock >= 0 &&
	    connect(sock, (struct sockaddr *)&addr, sizeof(addr))) {
		close(sock);
		errno = ENOENT;
		return -1;
	}
	return sock;
}

/* One request that has no descriptor of its own: -1 with errno, or 0 */
static int tell(uint32_t op, int arg, uint64_t token, const char *text, int fd)
{
	struct request rq = { .op = op, .arg = arg, .token = token };
	struct reply re;
	int got, err, sock = connect_stand_in();

	if (sock < 0)
		return -1;
	strncpy(rq.text, text ? text : "", sizeof(rq.text) - 1);
	err = exchange(sock, &rq, fd, &re, &got);
	close(sock);
	errno = err;
	return err ? -1 : 0;
}

static int is_device(const char *path)
{
	static const char name[] = "/dev/liveupdate";
	size_t n = strlen(path);

	return n >= sizeof(name) - 1 &&
	       !strcmp(path + n - (sizeof(name) - 1), name);
}

static int open_device(void)
{
	struct request rq = { .op = OP_OPEN };
	struct reply re;
	int got, err, sock = connect_stand_in();

	if (sock < 0)
		return -1;
	err = exchange(sock, &rq, -1, &re, &got);
	if (err) {
		close(sock);
		errno = err;
		return -1;
	}
	return sock;
}

static int open_any(const char *symbol, const char *path, int flags,
		    mode_t mode)
{
	int (*next)(const char *, int, ...);

	if (is_device(path))
		return open_device();
	next = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, symbol);
	return next(path, flags, mode);
}

int open(const char *path, int flags, ...);
int open(const char *path, int flags, ...)
{
	mode_t mode;
	va_list ap;

	va_start(ap, flags);
	mode = va_arg(ap, mode_t);
	va_end(ap);
	return open_any("open", path, flags, mode);
}

int open64(const char *path, int flags, ...);
int open64(const char *path, int flags, ...)
{
	mode_t mode;
	va_list ap;

	va_start(ap, flags);
	mode = va_arg(ap, mode_t);
	va_end(ap);
	return open_any("open64", path, flags, mode);
}

static int luo_ioctl(int fd, unsigned int nr, void *arg)
{
	struct {
		uint32_t size;
		int32_t fd;
		union {
			char name[64];
			uint64_t token;
		};
	} *a = arg;
	struct request rq = { .op = nr };
	struct reply re;
	int got, err, pass = -1;

	if (nr <= 0x01) {
		memcpy(rq.text, a->name, 64);
	} else if (nr == 0x40 || nr == 0x41) {
		rq.token = a->token;
		if (nr == 0x40)
			pass = a->fd;
	}
	if (pass >= 0 && fcntl(pass, F_GETFD) < 0)
		return -1; /* EBADF */
	err = exchange(fd, &rq, pass, &re, &got);
	if (err) {
		errno = err;
		return -1;
	}
	if (nr == 0x43)
		memcpy(a->name, re.name, sizeof(re.name));
	else if (nr == 0x00 || nr == 0x01 || nr == 0x41)
		a->fd = got;
	return 0;
}

int ioctl(int fd, unsigned long request, ...);
int ioctl(int fd, unsigned long request, ...)
{
	int (*next)(int, unsigned long, ...);
	void *arg;
	va_list ap;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (_IOC_TYPE(request) == 0xBA)
		return luo_ioctl(fd, _IOC_NR(request), arg);
	next = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
	return next(fd, request, arg);
}

int reboot(int cmd)
{
	return tell(OP_REBOOT, cmd, 0, NULL, -1);
}

long syscall(long number, ...);
long syscall(long number, ...)
{
	long (*next)(long, ...);
	long a[6];
	va_list ap;
	int i;

	va_start(ap, number);
	for (i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (number == SYS_kexec_file_load)
		return tell(OP_KEXEC_LOAD, (int)a[4],
			    (uint64_t)((int)a[1] >= 0), (const char *)a[3],
			    (int)a[0]);
	next = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* A line for each field, and an empty one behind */
int sd_journal_sendv(const struct iovec *iov, int n);
int sd_journal_sendv(const struct iovec *iov, int n)
{
	const char *root = getenv("PCILU_SYSROOT");
	char path[4096];
	FILE *f;
	int i;

	snprintf(path, sizeof(path), "%s/journal", root ? root : "");
	f = root ? fopen(path, "ae") : NULL;
	if (!f)
		return -ENOENT;
	for (i = 0; i < n; i++)
		fprintf(f, "%.*s\n", (int)iov[i].iov_len,
			(const char *)iov[i].iov_base);
	fputs("\n", f);
	fclose(f);
	return 0;
}
