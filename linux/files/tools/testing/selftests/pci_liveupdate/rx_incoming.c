// SPDX-License-Identifier: GPL-2.0
/* e1000e_rx after the live update: the same card and memory, retrieved. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/bits.h>
#include <linux/capability.h>
#include <linux/pci_regs.h>

#include <libliveupdate.h>

#include "luo_session.h"
#include "pci_sysfs.h"
#include "rx.h"

#define RETRIES_PER_SECOND	10
#define WRONG_TOKEN		0xbad0bad0bad0bad0ULL

static int retrieve_session(struct rx *rx)
{
	int fd = rx->opt.session_fd < 0 ? luo_session_retrieve(rx->opt.session) :
					  luo_session_adopt(rx->opt.session_fd);

	if (fd < 0)
		return rx_fail(RX_RETRIEVE, "retrieve session", fd, rx->opt.session);
	rx->session = fd;
	rx->kind = RX_SESSION_INCOMING;
	return RX_OK;
}

static int retrieve_memory(struct rx *rx)
{
	int fd = luo_session_retrieve_fd(rx->session, RX_TOKEN_MEMORY);
	int ret;

	if (fd < 0)
		return rx_fail(RX_RETRIEVE, "retrieve memory", fd, NULL);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	ret = rx_mem_adopt(&rx->m, fd);
	if (ret)
		return rx_fail(ret == -EBADMSG ? RX_MISMATCH : RX_MEMORY,
			    "adopt memory", ret, NULL);
	return RX_OK;
}

static int retrieve_device(struct rx *rx)
{
	int fd, ret;

	/* EAGAIN: vfio-pci has not bound the device yet, which is for others to do */
	for (;;) {
		fd = luo_session_retrieve_fd(rx->session, RX_TOKEN_DEVICE);
		if (fd != -EAGAIN || rx->retries >= rx->opt.retry * RETRIES_PER_SECOND)
			break;
		rx->retries++;
		usleep(1000000 / RETRIES_PER_SECOND);
	}
	if (fd < 0)
		return rx_fail(RX_RETRIEVE, "retrieve device", fd, NULL);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	ret = vfio_noiommu_bind(&rx->v, fd);
	if (ret)
		return rx_fail(RX_DEVICE, "bind retrieved device", ret, NULL);
	ret = vfio_noiommu_map_bar0(&rx->v);
	if (ret)
		return rx_fail(RX_DEVICE, "map BAR 0 of retrieved device", ret, NULL);
	return RX_OK;
}

/* Retrieves what --retrieve names, in its order */
static int retrieve_files(struct rx *rx, struct json *j)
{
	char list[64], *item, *rest = list;
	int code = RX_OK;

	snprintf(list, sizeof(list), "%s", rx->opt.retrieve);
	json_open(j, "retrieved", '[');
	while (!code && (item = strsep(&rest, ","))) {
		if (!strcmp(item, "memory"))
			code = retrieve_memory(rx);
		else if (!strcmp(item, "device"))
			code = retrieve_device(rx);
		else if (!strcmp(item, "none"))
			continue;
		else
			code = rx_fail(RX_USAGE, "--retrieve", -EINVAL, item);
		json_str(j, NULL, item);
	}
	json_close(j, ']');
	return code;
}

/* The device that came back must be the one whose ring we hold, where it was */
static int check_device(struct rx *rx, struct json *j)
{
	char bdf[PCI_SYSFS_BDF_LEN];
	__u32 vendor_device, bar0[2];
	__u64 pa;
	__u16 command;
	int ret;

	ret = vfio_noiommu_config_read(&rx->v, PCI_VENDOR_ID, &vendor_device,
				       sizeof(vendor_device));
	if (!ret)
		ret = vfio_noiommu_config_read(&rx->v, PCI_COMMAND, &command,
					       sizeof(command));
	if (!ret)
		ret = vfio_noiommu_config_read(&rx->v, PCI_BASE_ADDRESS_0, bar0,
					       sizeof(bar0));
	if (ret)
		return rx_fail(RX_DEVICE, "read config space", ret, NULL);

	pa = bar0[0] & PCI_BASE_ADDRESS_MEM_MASK;
	if ((bar0[0] & PCI_BASE_ADDRESS_MEM_TYPE_MASK) ==
	    PCI_BASE_ADDRESS_MEM_TYPE_64)
		pa |= (__u64)bar0[1] << 32;

	ret = pci_sysfs_bdf_of_cdev(rx->v.cdev, bdf);
	json_str(j, "bdf_now", ret ? NULL : bdf);
	json_hex(j, "bar0_now", pa);
	json_bool(j, "bus_master", command & PCI_COMMAND_MASTER);
	if (!rx->m.h)
		return RX_OK;

	json_bool(j, "bar0_moved", pa != rx->m.h->bar0_pa);
	if (!ret && strcmp(bdf, rx->m.h->bdf))
		return rx_fail(RX_MISMATCH, "retrieved device", -EXDEV, bdf);
	if (vendor_device != rx->m.h->vendor_device)
		return rx_fail(RX_MISMATCH, "vendor or device ID", -EXDEV, NULL);
	if (pa != rx->m.h->bar0_pa)
		return rx_fail(RX_MISMATCH, "BAR 0 has moved", -EXDEV, NULL);
	return RX_OK;
}

static int pin_memory(struct rx *rx, struct json *j)
{
	long moved;
	int ret;

	ret = vfio_noiommu_map(&rx->v, rx->m.memfd, rx->m.size);
	if (ret)
		return rx_fail(RX_MEMORY, "map retrieved memory", ret, NULL);
	moved = rx_mem_moved_ioas(&rx->m, &rx->v);
	json_s64(j, "pa_moved", moved);
	if (moved < 0)
		return rx_fail(RX_MEMORY, "read physical addresses", moved, NULL);
	if (moved)
		return rx_fail(RX_MISMATCH, "memory has moved", -EXDEV, NULL);
	return RX_OK;
}

void rx_json_away(struct json *j, struct rx *rx)
{
	if (!rx->resumed) {
		json_null(j, "arrived_while_away");
		json_null(j, "away_ns");
		json_null(j, "away_first_seq");
		json_null(j, "away_last_seq");
		return;
	}

	json_u64(j, "arrived_while_away", rx->away.frames);
	if (rx->away.frames) {
		json_u64(j, "away_ns", rx->away_ns);
		json_u64(j, "away_first_seq", rx->away.first_seq);
		json_u64(j, "away_last_seq", rx->away.last_seq);
	} else {
		json_null(j, "away_ns");
		json_null(j, "away_first_seq");
		json_null(j, "away_last_seq");
	}
}

static void look_at_ring(struct rx *rx)
{
	__u64 before;

	rx_mem_recover(&rx->m);
	rx_mem_waiting(&rx->m, &rx->away);
	before = rx_mem_state(&rx->m)->last_host_ns;
	if (before && rx->away.last_host_ns > before)
		rx->away_ns = rx->away.last_host_ns - before;
	rx->resumed = true;
}

/* A retrieve that should fail, and must not spoil the proper one after it */
static void try_retrieve(struct rx *rx, struct json *j, const char *key, __u64 token)
{
	int fd = luo_session_retrieve_fd(rx->session, token);

	json_open(j, key, '{');
	json_rc(j, fd < 0 ? fd : 0);
	json_close(j, '}');
	if (fd >= 0)
		close(fd);
}

static int set_rawio(bool on)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &header, data))
		return -errno;
	if (on)
		data[0].effective |= BIT(CAP_SYS_RAWIO);
	else
		data[0].effective &= ~BIT(CAP_SYS_RAWIO);
	if (syscall(SYS_capset, &header, data))
		return -errno;
	return 0;
}

static int try_unprivileged(struct rx *rx, struct json *j, const char *key)
{
	int ret = set_rawio(false);

	if (ret)
		return rx_fail(RX_USAGE, "drop CAP_SYS_RAWIO", ret, NULL);
	try_retrieve(rx, j, key, RX_TOKEN_DEVICE);
	set_rawio(true);
	return RX_OK;
}

int rx_resume(struct rx *rx)
{
	struct json j = {};
	int code;

	code = retrieve_session(rx);
	if (code)
		return code;

	json_begin(&j);
	json_str(&j, "event", "ready");
	json_str(&j, "session", rx->opt.session);
	if (rx->opt.token_wrong)
		try_retrieve(rx, &j, "wrong_token", WRONG_TOKEN);
	if (rx->opt.unprivileged) {
		code = try_unprivileged(rx, &j, "unprivileged");
		if (code)
			return code;
	}

	code = retrieve_files(rx, &j);
	if (!code && rx->opt.unprivileged) {
		code = try_unprivileged(rx, &j, "unprivileged_again");
		try_retrieve(rx, &j, "again", RX_TOKEN_DEVICE);
	}
	if (!code && rx->m.h && rx->v.cdev >= 0 && !rx->opt.no_map)
		code = pin_memory(rx, &j);
	if (!code && rx->v.cdev >= 0)
		code = check_device(rx, &j);
	if (code) {
		json_free(&j);
		return code;
	}

	/* The card has its registers still; it is told nothing */
	if (rx->opt.interrupts && rx->v.cdev >= 0) {
		int ret = rx_irq_arm(rx);

		if (ret) {
			json_free(&j);
			return rx_fail(RX_DEVICE, "arm the interrupt", ret, NULL);
		}
		rx_irq_wait(rx);
		json_u64(&j, "interrupts_when_armed", rx->interrupts);
	}

	if (rx->m.h) {
		look_at_ring(rx);
		rx->m.h->incarnation++;
		rx_json_memory(&j, rx);
	}
	json_u64(&j, "retries", rx->retries);
	rx_json_away(&j, rx);
	json_end(&j);
	json_send(&j, STDOUT_FILENO);
	return RX_OK;
}

static void peek_line(struct rx *rx, const char *event)
{
	struct rx_state *s = rx_mem_state(&rx->m);
	struct json j = {};

	look_at_ring(rx);
	json_begin(&j);
	json_str(&j, "event", event);
	rx_json_away(&j, rx);
	json_u64(&j, "descriptors_done", rx->away.descriptors);
	json_u64(&j, "frames_before", s->frames);
	if (s->frames)
		json_u64(&j, "last_seq_before", s->last_seq);
	else
		json_null(&j, "last_seq_before");
	json_end(&j);
	json_send(&j, STDOUT_FILENO);
}

int rx_peek(struct rx *rx)
{
	int code, ret;

	code = retrieve_session(rx);
	if (!code)
		code = retrieve_memory(rx);
	if (code)
		return code;

	peek_line(rx, "peek");
	if (rx->opt.watch) {
		sleep(rx->opt.watch);
		peek_line(rx, "again");
	}

	ret = rx_session_finish(rx);
	if (ret)
		return rx_fail(RX_RETRIEVE, "finish", ret, rx->opt.session);
	rx_mem_close(&rx->m);
	return RX_OK;
}
