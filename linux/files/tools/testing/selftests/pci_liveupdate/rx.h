/* SPDX-License-Identifier: GPL-2.0 */
/* The parts of e1000e_rx; what it is and how it is used is told in e1000e_rx.c. */
#ifndef SELFTESTS_PCI_LIVEUPDATE_RX_H
#define SELFTESTS_PCI_LIVEUPDATE_RX_H

#include <stdbool.h>
#include <time.h>

#include "ctl.h"
#include "json_out.h"
#include "rx_mem.h"
#include "vfio_noiommu.h"

enum rx_exit {
	RX_OK = CTL_OK,
	RX_USAGE = CTL_USAGE,
	RX_DEVICE = 10,		/* VFIO or the card */
	RX_MEMORY = 11,		/* memfd, mapping, no contiguous run for the ring */
	RX_PRESERVE = 12,	/* LUO: create a session, preserve */
	RX_RETRIEVE = 13,	/* LUO: retrieve a session or a file */
	RX_MISMATCH = 14,	/* what was handed over does not fit */
};

enum rx_session_kind { RX_SESSION_NONE, RX_SESSION_OUTGOING, RX_SESSION_INCOMING };

struct rx_options {
	const char *bdf;
	const char *name;
	const char *session;
	const char *retrieve;
	unsigned int ring;
	unsigned int watch;
	unsigned int retry;
	bool background;
	bool interrupts;
	bool no_preserve_device;
	bool device_first;
	bool no_session;
	bool no_map;
	bool no_finish;
	bool token_wrong;
	bool unprivileged;
};

struct rx {
	struct rx_options opt;
	struct vfio_noiommu v;
	struct rx_mem m;
	enum rx_session_kind kind;
	int session;
	bool memory_preserved;
	bool device_preserved;
	bool held;
	bool quit;
	unsigned int tries;
	unsigned int retries;
	unsigned int high_water;	/* this incarnation */
	int irq;			/* eventfd of the card's vector, -1: none */
	__u64 interrupts;		/* signalled in this incarnation */
	struct rx_waiting away;
	bool resumed;
	__u64 away_ns;
	struct timespec started;
	struct ctl ctl;
};

/* Says on stdout what failed; returns @code */
int rx_fail(enum rx_exit code, const char *what, int rc, const char *detail);

/* rx_outgoing.c: the first start, and preserving. 0 or -errno, rx_start(): an exit code. */
int rx_session_open(struct rx *rx);
void rx_session_close(struct rx *rx);
int rx_session_finish(struct rx *rx);
int rx_preserve_memory(struct rx *rx);
int rx_preserve_device(struct rx *rx);
/* What is not preserved yet, the device only if the options want it */
int rx_preserve_all(struct rx *rx);
int rx_start(struct rx *rx);
void rx_json_mac(struct json *j, const __u8 *mac);
void rx_json_memory(struct json *j, struct rx *rx);

/* rx_incoming.c: after the kexec. Exit codes. */
int rx_resume(struct rx *rx);
int rx_peek(struct rx *rx);
void rx_json_away(struct json *j, struct rx *rx);

/* rx_irq.c: 0 or -errno */
int rx_irq_arm(struct rx *rx);
void rx_irq_count(struct rx *rx);
/* The same, after some time for a signal to come */
void rx_irq_wait(struct rx *rx);
void rx_irq_close(struct rx *rx);

/* rx_commands.c: one command from a control connection, the answer goes to @fd */
void rx_handle(void *data, char *line, int fd);
void rx_list_commands(void);

/* rx_daemon.c: the receive loop. Exit codes. */
int rx_run_daemon(struct rx *rx, int (*set_up)(struct rx *rx));
void rx_tear_down(struct rx *rx);

#endif /* SELFTESTS_PCI_LIVEUPDATE_RX_H */
