// SPDX-License-Identifier: GPL-2.0
/*
 * pci_lu_loop - preserve and unpreserve a PCI function again and again.
 *
 *	pci_lu_loop BDF ROUNDS
 *
 * until it has been preserved ROUNDS times. For tests of races with bus scans,
 * which refuse a preserve while they run (-EBUSY): both outcomes are counted.
 * vfio-pci must have bound the function.
 * Each round makes a session, puts the function's VFIO cdev into it, and closes
 * the session.
 *
 * Output is one JSON object. Exit codes: 0 done, 1 an error other than -EBUSY,
 * 2 usage.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <libliveupdate.h>

#include "json_out.h"
#include "luo_session.h"
#include "vfio_noiommu.h"

#define TOKEN		1
#define BUSY_DELAY_US	1000

static int one_round(const struct vfio_noiommu *v, const char *name)
{
	int session, ret;

	session = luo_session_create(name);
	if (session < 0)
		return session;
	ret = luo_session_preserve_fd(session, v->cdev, TOKEN);
	close(session);
	return ret;
}

int main(int argc, char *argv[])
{
	struct vfio_noiommu v = VFIO_NOIOMMU_INIT;
	unsigned long preserved = 0, busy = 0, rounds;
	struct json j = {};
	char name[32];
	int ret;

	if (argc != 3) {
		fprintf(stderr, "pci_lu_loop BDF ROUNDS\n");
		return 2;
	}
	rounds = strtoul(argv[2], NULL, 0);
	snprintf(name, sizeof(name), "loop-%d", getpid());

	ret = vfio_noiommu_cdev_open(argv[1]);
	if (ret >= 0)
		ret = vfio_noiommu_bind(&v, ret);
	if (ret) {
		json_error("open the device", ret, argv[1]);
		return 1;
	}

	while (!ret && preserved < rounds) {
		ret = one_round(&v, name);
		if (ret == -EBUSY) {
			busy++;
			ret = 0;
			usleep(BUSY_DELAY_US);
		} else if (!ret) {
			preserved++;
		}
	}

	json_begin(&j);
	json_str(&j, "event", "loop");
	json_u64(&j, "preserved", preserved);
	json_u64(&j, "busy", busy);
	json_rc(&j, ret);
	json_end(&j);
	json_send(&j, STDOUT_FILENO);
	vfio_noiommu_close(&v);
	return ret ? 1 : 0;
}
