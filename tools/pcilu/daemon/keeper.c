// SPDX-License-Identifier: GPL-2.0
/*
 * pcilu-keeper holds every session while the machine is shut down for a kexec.
 *
 * What must live until the very system call is a descriptor of each session, and
 * everybody who has one is stopped before: the VMMs and pcilud like all services,
 * and systemd's own store ends with systemd. This process has a name that begins
 * with "@", which tells systemd's last killing spree to leave it alone, and a unit
 * that shutdown does not stop. It does nothing.
 */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "../../../lib/src/client.h"
#include "../common/log.h"

/* Takes a copy of each session: their number, or -errno */
static int take_all(void)
{
	struct pcilu_msg request, reply;
	int sock = pcilu_client_connect();
	uint32_t serial = 0, index = 0;
	int fd, err, n = 0;

	if (sock < 0)
		return sock;
	for (;; index = reply.index + 1) {
		pcilu_msg_init(&request, PCILU_MSG_HOLD, NULL);
		request.index = index;
		err = pcilu_client_call(&sock, &serial, &request, &reply, &fd);
		if (err || fd < 0)
			break;
		n++; /* the descriptor stays open, that is all */
	}
	if (sock >= 0)
		close(sock);
	return err == -ENOENT ? n : err ? err : -EPROTO;
}

int main(int argc, char **argv)
{
	sigset_t set;
	int n, got;

	(void)argv;
	log_program = "pcilu-keeper";
	if (argc != 1) {
		fputs("pcilu-keeper takes no arguments, see pcilud(8)\n",
		      stderr);
		return EX_USAGE;
	}
	n = take_all();
	if (n < 0) {
		log_msg(LOG_ERR, "pcilud does not give its sessions: %s",
			strerror(-n));
		return n == -EACCES ? EX_NOPERM : EX_UNAVAILABLE;
	}
	/* The file system below our code goes away before we do */
	if (mlockall(MCL_CURRENT))
		log_msg(LOG_WARNING, "not locked in memory: %s",
			strerror(errno));
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	log_msg(LOG_NOTICE, "holding %d sessions", n);
	sd_notifyf(0, "READY=1\nSTATUS=holding %d sessions", n);
	sigwait(&set, &got);
	return EX_OK;
}
