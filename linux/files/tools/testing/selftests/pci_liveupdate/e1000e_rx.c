// SPDX-License-Identifier: GPL-2.0
/*
 * e1000e_rx - a network card that a user-space VFIO driver owns, and that goes
 * on receiving while the kernel below it is replaced.
 *
 * Before the live update:
 *
 *	e1000e_rx start --bdf 0000:03:00.0 --background
 *	e1000e_rx ctl rx0 preserve
 *	(kexec)
 *
 * and after it:
 *
 *	e1000e_rx resume --background
 *	e1000e_rx ctl rx0 finish
 *	e1000e_rx ctl rx0 stats
 *
 * The card works with physical addresses: vfio-pci in no-IOMMU mode, through
 * its device cdev. The descriptor ring is polled, so that nothing but DMA has to
 * survive; with --interrupts the card signals a vector besides, and the signals
 * are counted. Everything that the program after the kexec
 * has to know is in one memfd (rx_mem.h), which is in the same LUO session as
 * the device.
 *
 * The order matters: preserving a memfd may migrate its pages, and so may
 * mapping it, which pins them. Physical addresses are therefore read after
 * both, and only then is the ring programmed.
 *
 * Output is JSON, one object a line; every failure is such a line with the
 * name of its errno. Exit codes: enum rx_exit in rx.h, of ctl enum ctl_exit. Run
 * without arguments for the options and the control commands.
 */

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rx.h"

#define RING_DEFAULT	16384
#define NAME_DEFAULT	"rx0"

int rx_fail(enum rx_exit code, const char *what, int rc, const char *detail)
{
	json_error(what, rc, detail);
	return code;
}

static void usage(void)
{
	fprintf(stderr,
		"e1000e_rx start --bdf BDF [--name NAME] [--session S] [--ring N] [--background]\n"
		"          [--no-preserve-device] [--device-first|--memory-first] [--no-session]\n"
		"          [--interrupts]\n"
		"e1000e_rx resume [--name NAME] [--session S] [--retrieve memory,device|none]\n"
		"          [--no-map] [--token-wrong] [--unprivileged] [--retry SECONDS] [--no-finish] [--background]\n"
		"          [--interrupts]\n"
		"e1000e_rx peek [--session S] [--watch SECONDS]\n"
		"e1000e_rx ctl NAME [--wait SECONDS] COMMAND [ARGUMENT]\n"
		"commands:\n");
	rx_list_commands();
}

static int parse(struct rx_options *opt, int argc, char *argv[])
{
	enum { BDF = 1, NAME, SESSION, RING, BACKGROUND, NO_DEVICE, DEV_FIRST,
	       MEM_FIRST, NO_SESSION, RETRIEVE, NO_MAP, TOKEN_WRONG, NO_FINISH,
	       UNPRIVILEGED, RETRY, WATCH, INTERRUPTS };
	static const struct option longopts[] = {
		{ "bdf", required_argument, NULL, BDF },
		{ "name", required_argument, NULL, NAME },
		{ "session", required_argument, NULL, SESSION },
		{ "ring", required_argument, NULL, RING },
		{ "background", no_argument, NULL, BACKGROUND },
		{ "no-preserve-device", no_argument, NULL, NO_DEVICE },
		{ "device-first", no_argument, NULL, DEV_FIRST },
		{ "memory-first", no_argument, NULL, MEM_FIRST },
		{ "no-session", no_argument, NULL, NO_SESSION },
		{ "retrieve", required_argument, NULL, RETRIEVE },
		{ "no-map", no_argument, NULL, NO_MAP },
		{ "token-wrong", no_argument, NULL, TOKEN_WRONG },
		{ "no-finish", no_argument, NULL, NO_FINISH },
		{ "unprivileged", no_argument, NULL, UNPRIVILEGED },
		{ "retry", required_argument, NULL, RETRY },
		{ "watch", required_argument, NULL, WATCH },
		{ "interrupts", no_argument, NULL, INTERRUPTS },
		{ }
	};
	int c;

	*opt = (struct rx_options){
		.name = NAME_DEFAULT,
		.retrieve = "memory,device",
		.ring = RING_DEFAULT,
	};
	while ((c = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
		switch (c) {
		case BDF:
			opt->bdf = optarg;
			break;
		case NAME:
			opt->name = optarg;
			break;
		case SESSION:
			opt->session = optarg;
			break;
		case RING:
			opt->ring = strtoul(optarg, NULL, 0);
			break;
		case BACKGROUND:
			opt->background = true;
			break;
		case NO_DEVICE:
			opt->no_preserve_device = true;
			break;
		case DEV_FIRST:
			opt->device_first = true;
			break;
		case MEM_FIRST:
			opt->device_first = false;
			break;
		case NO_SESSION:
			opt->no_session = true;
			break;
		case RETRIEVE:
			opt->retrieve = optarg;
			break;
		case NO_MAP:
			opt->no_map = true;
			break;
		case TOKEN_WRONG:
			opt->token_wrong = true;
			break;
		case NO_FINISH:
			opt->no_finish = true;
			break;
		case UNPRIVILEGED:
			opt->unprivileged = true;
			break;
		case RETRY:
			opt->retry = strtoul(optarg, NULL, 0);
			break;
		case INTERRUPTS:
			opt->interrupts = true;
			break;
		case WATCH:
			opt->watch = strtoul(optarg, NULL, 0);
			break;
		default:
			return -EINVAL;
		}
	}

	if (!opt->session)
		opt->session = opt->name;
	if (opt->device_first && (opt->no_preserve_device || opt->no_session))
		return -EINVAL;
	if (optind < argc || opt->ring < E1000E_RING_MIN ||
	    opt->ring > E1000E_RING_MAX || opt->ring % 8)
		return -EINVAL;
	return 0;
}

int main(int argc, char *argv[])
{
	struct rx rx = {
		.v = VFIO_NOIOMMU_INIT,
		.m = RX_MEM_INIT,
		.irq = -1,
		.ctl.program = "e1000e_rx",
	};
	int code = RX_USAGE;

	if (argc >= 3 && !strcmp(argv[1], "ctl")) {
		rx.ctl.name = argv[2];
		code = ctl_client(&rx.ctl, argc - 3, argv + 3);
	} else if (argc >= 2 && !parse(&rx.opt, argc - 1, argv + 1)) {
		rx.ctl.name = rx.opt.name;
		if (!strcmp(argv[1], "start") && rx.opt.bdf)
			code = rx_run_daemon(&rx, rx_start);
		else if (!strcmp(argv[1], "resume"))
			code = rx_run_daemon(&rx, rx_resume);
		else if (!strcmp(argv[1], "peek"))
			code = rx_peek(&rx);
	}

	if (code == RX_USAGE)
		usage();
	return code;
}
