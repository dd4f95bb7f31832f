// SPDX-License-Identifier: GPL-2.0
/* The control commands of e1000e_rx: each fills in the reply and returns its rc. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/pci_regs.h>

#include <libliveupdate.h>

#include "e1000e_hw.h"
#include "rx.h"

#define LOG_CHUNK	1000
#define DELIMITERS	"\n "

static int cmd_stats(struct rx *rx, const char *arg, struct json *j)
{
	static const char * const kinds[] = { NULL, "outgoing", "incoming" };
	struct timespec now;

	(void)arg;
	if (rx->m.h) {
		struct rx_state *s = rx_mem_state(&rx->m);

		json_u64(j, "incarnation", rx->m.h->incarnation);
		json_u64(j, "frames", s->frames);
		json_u64(j, "distinct", s->distinct);
		if (s->frames) {
			json_u64(j, "first_seq", s->first_seq);
			json_u64(j, "last_seq", s->last_seq);
		} else {
			json_null(j, "first_seq");
			json_null(j, "last_seq");
		}
		json_u64(j, "lost", s->frames ?
			 s->last_seq - s->first_seq + 1 - s->distinct : 0);
		json_u64(j, "duplicated", s->duplicated);
		json_u64(j, "corrupted", s->corrupted);
		json_u64(j, "foreign", s->foreign);
		json_u64(j, "reordered", s->reordered);
		json_u64(j, "untracked", s->untracked);
		json_u64(j, "logged", s->logged);
		json_u64(j, "first_host_ns", s->first_host_ns);
		json_u64(j, "last_host_ns", s->last_host_ns);
		json_u64(j, "max_gap_ns", s->max_gap_ns);
		json_u64(j, "max_gap_after_seq", s->max_gap_after_seq);
		json_u64(j, "ring_size", rx->m.h->ring_entries);
		json_u64(j, "ring_high_water", rx->high_water);
		json_u64(j, "high_water_ever", rx->m.h->high_water);
		json_u64(j, "next_to_clean", s->consumed % rx->m.h->ring_entries);
		rx_json_mac(j, rx->m.h->mac);
	}
	if (rx->v.bar0) {
		json_u64(j, "head", e1000e_read(rx->v.bar0, E1000E_RDH));
		json_u64(j, "tail", e1000e_read(rx->v.bar0, E1000E_RDT));
	} else {
		json_null(j, "head");
		json_null(j, "tail");
	}
	rx_json_away(j, rx);
	clock_gettime(CLOCK_MONOTONIC, &now);
	json_fixed(j, "seconds", now.tv_sec - rx->started.tv_sec +
		   (now.tv_nsec - rx->started.tv_nsec) / 1e9);
	json_str(j, "session", kinds[rx->kind]);
	json_bool(j, "memory_preserved", rx->memory_preserved);
	json_bool(j, "device_preserved", rx->device_preserved);
	json_bool(j, "held", rx->held);
	json_u64(j, "interrupts", rx->interrupts);
	json_bool(j, "device_open", rx->v.cdev >= 0);
	return 0;
}

static int cmd_preserve(struct rx *rx, const char *arg, struct json *j)
{
	int ret = rx_preserve_all(rx);

	(void)arg;
	json_bool(j, "memory_preserved", rx->memory_preserved);
	json_bool(j, "device_preserved", rx->device_preserved);
	return ret;
}

static int cmd_preserve_memory(struct rx *rx, const char *arg, struct json *j)
{
	(void)arg;
	(void)j;
	return rx_preserve_memory(rx);
}

static int cmd_preserve_device(struct rx *rx, const char *arg, struct json *j)
{
	(void)arg;
	(void)j;
	return rx_preserve_device(rx);
}

static int cmd_preserve_device_again(struct rx *rx, const char *arg, struct json *j)
{
	__u64 token = RX_TOKEN_DEVICE;

	(void)j;
	if (rx->kind != RX_SESSION_OUTGOING || rx->v.cdev < 0)
		return -EBADF;
	if (!arg || strcmp(arg, "same-token"))
		token++;
	return luo_session_preserve_fd(rx->session, rx->v.cdev, token);
}

static int cmd_unpreserve(struct rx *rx, const char *arg, struct json *j)
{
	(void)arg;
	(void)j;
	if (rx->kind != RX_SESSION_OUTGOING)
		return -EINVAL;
	rx_session_close(rx);
	return 0;
}

static int cmd_finish(struct rx *rx, const char *arg, struct json *j)
{
	(void)arg;
	(void)j;
	return rx_session_finish(rx);
}

static int cmd_close_session(struct rx *rx, const char *arg, struct json *j)
{
	(void)arg;
	(void)j;
	if (rx->kind == RX_SESSION_NONE)
		return -EBADF;
	rx_session_close(rx);
	return 0;
}

static int cmd_close_device(struct rx *rx, const char *arg, struct json *j)
{
	(void)arg;
	(void)j;
	if (rx->v.cdev < 0)
		return -EBADF;
	vfio_noiommu_close(&rx->v);
	return 0;
}

static int cmd_hold(struct rx *rx, const char *arg, struct json *j)
{
	(void)arg;
	(void)j;
	rx->held = true;
	return 0;
}

static int cmd_release(struct rx *rx, const char *arg, struct json *j)
{
	(void)arg;
	(void)j;
	rx->held = false;
	return 0;
}

static int cmd_check_memory(struct rx *rx, const char *arg, struct json *j)
{
	long unknown, moved;

	(void)arg;
	if (!rx->m.h)
		return -EBADF;
	moved = rx_mem_moved_pagemap(&rx->m, &unknown);
	if (moved < 0)
		return moved;
	json_u64(j, "pages", rx->m.size / rx->m.page_size);
	json_s64(j, "moved", moved);
	json_s64(j, "unknown", unknown);

	if (!rx->v.mapped) {
		json_null(j, "ioas_moved");
		return 0;
	}
	moved = rx_mem_moved_ioas(&rx->m, &rx->v);
	json_s64(j, "ioas_moved", moved);
	return moved < 0 ? moved : 0;
}

static int cmd_regs(struct rx *rx, const char *arg, struct json *j)
{
	static const struct {
		const char *name;
		unsigned int offset;
	} regs[] = {
		{ "CTRL", E1000E_CTRL },
		{ "STATUS", E1000E_STATUS },
		{ "RCTL", E1000E_RCTL },
		{ "RDBAL", E1000E_RDBAL },
		{ "RDBAH", E1000E_RDBAH },
		{ "RDLEN", E1000E_RDLEN },
		{ "RDH", E1000E_RDH },
		{ "RDT", E1000E_RDT },
		{ "IMS", E1000E_IMS },
		{ "MPC", E1000E_MPC },
	};
	__u16 command;
	size_t i;
	int ret;

	(void)arg;
	if (!rx->v.bar0)
		return -EBADF;
	for (i = 0; i < ARRAY_SIZE(regs); i++)
		json_hex(j, regs[i].name, e1000e_read(rx->v.bar0, regs[i].offset));
	ret = vfio_noiommu_config_read(&rx->v, PCI_COMMAND, &command,
				       sizeof(command));
	if (!ret)
		json_hex(j, "command_register", command);
	return ret;
}

static int cmd_log(struct rx *rx, const char *arg, struct json *j)
{
	__u64 i, first = arg ? strtoull(arg, NULL, 0) : 0;
	struct rx_state *s;

	if (!rx->m.h)
		return -EBADF;
	s = rx_mem_state(&rx->m);
	json_u64(j, "first", first);
	json_u64(j, "logged", s->logged);
	json_open(j, "frames", '[');
	for (i = first; i < s->logged && i - first < LOG_CHUNK; i++) {
		json_open(j, NULL, '[');
		json_u64(j, NULL, rx->m.log[i].seq);
		json_u64(j, NULL, rx->m.log[i].host_ns);
		json_u64(j, NULL, rx->m.log[i].incarnation);
		json_close(j, ']');
	}
	json_close(j, ']');
	return 0;
}

static int cmd_quit(struct rx *rx, const char *arg, struct json *j)
{
	int ret = 0;

	(void)arg;
	(void)j;
	if (rx->kind == RX_SESSION_INCOMING && !rx->opt.no_finish)
		ret = rx_session_finish(rx);
	rx_tear_down(rx);
	rx->quit = true;
	return ret;
}

static const struct command {
	const char *name;
	int (*run)(struct rx *rx, const char *arg, struct json *j);
	const char *help;
} commands[] = {
	{ "stats", cmd_stats, "counters over all live updates" },
	{ "preserve", cmd_preserve, "memory and device, what is not preserved yet" },
	{ "preserve-memory", cmd_preserve_memory, "the memfd alone" },
	{ "preserve-device", cmd_preserve_device, "the device cdev alone" },
	{ "preserve-device-again", cmd_preserve_device_again, "[same-token]; must fail" },
	{ "unpreserve", cmd_unpreserve, "close the outgoing session" },
	{ "finish", cmd_finish, "finish the incoming session and close it" },
	{ "close-session", cmd_close_session, "close the session without finish" },
	{ "close-device", cmd_close_device, "close BAR, cdev and iommufd" },
	{ "hold", cmd_hold, "stop cleaning the ring" },
	{ "release", cmd_release, "go on cleaning the ring" },
	{ "check-memory", cmd_check_memory, "pages that have moved" },
	{ "regs", cmd_regs, "the card's registers; MPC clears when read" },
	{ "log", cmd_log, "[FIRST]; [sequence, host time, incarnation] of each frame" },
	{ "quit", cmd_quit, "finish unless --no-finish, close, exit" },
};

void rx_handle(void *data, char *line, int fd)
{
	struct json reply = {};
	struct rx *rx = data;
	char *arg, *name;
	int rc = -EOPNOTSUPP;
	size_t i;

	name = strtok_r(line, DELIMITERS, &arg);
	if (!name)
		return;
	arg = strtok_r(NULL, DELIMITERS, &arg);

	/* rc comes out last; readers find it by name */
	json_begin(&reply);
	json_str(&reply, "command", name);
	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		if (!strcmp(name, commands[i].name)) {
			rc = commands[i].run(rx, arg, &reply);
			break;
		}
	}
	json_rc(&reply, rc);
	json_end(&reply);
	json_send(&reply, fd);
}

void rx_list_commands(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(stderr, "  %-22s %s\n", commands[i].name, commands[i].help);
}
