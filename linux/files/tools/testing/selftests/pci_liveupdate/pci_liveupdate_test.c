// SPDX-License-Identifier: GPL-2.0
/*
 * Live update of a PCI device, on any host: no particular card is needed, only
 * a function that vfio-pci may have. It is opened and its configuration space
 * is looked at; it is never told to do anything.
 *
 *	echo vfio-pci > /sys/bus/pci/devices/0000:03:00.0/driver_override
 *	echo 0000:03:00.0 > /sys/bus/pci/drivers_probe
 *	export PCI_LIVEUPDATE_BDF=0000:03:00.0
 *	./pci_liveupdate_test		what one kernel can show
 *	./pci_liveupdate_test -s 1	before the kexec
 *	(kexec with kho=on liveupdate=on, see ../liveupdate/do_kexec.sh)
 *	./pci_liveupdate_test -s 2	after it; finds the device by itself
 *
 * PCI_LIVEUPDATE_NAME tells several of these apart, each with a device of its own.
 *
 * Stage 2 compares identity, BARs, Command and the bridges' bus numbers and
 * windows with what stage 1 wrote into a memfd of the same session.
 *
 * A kernel without LUO, without the handler for VFIO device files, or which
 * refuses this device, makes the test skip and say why.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/pci_regs.h>

#include <libliveupdate.h>

#include "luo_session.h"
#include "pci_sysfs.h"
#include "vfio_noiommu.h"

#define BDF_ENV			"PCI_LIVEUPDATE_BDF"
#define NAME_ENV		"PCI_LIVEUPDATE_NAME"

#define SINGLE_SESSION		"pci_liveupdate_single"
#define OTHER_SESSION		"pci_liveupdate_other"
#define STATE_SESSION		"pci_liveupdate_state"
#define DEVICE_SESSION		"pci_liveupdate_device"

#define STATE_TOKEN		1
#define DEVICE_TOKEN		2
#define OTHER_TOKEN		3
#define RECORD_TOKEN		4
#define WRONG_TOKEN		0xbad

#define MAX_BRIDGES		16
#define HEADER_LEN		64
#define NR_BARS			7	/* with the ROM */

struct bridge_record {
	char bdf[PCI_SYSFS_BDF_LEN];
	__u8 header[HEADER_LEN];
};

/* What stage 1 tells stage 2 */
struct record {
	char bdf[PCI_SYSFS_BDF_LEN];
	__u32 noiommu;
	__u32 nr_bridges;
	__s64 config_len;
	__u8 config[PCI_SYSFS_CONFIG_MAX];
	struct pci_sysfs_resource bar[NR_BARS];
	struct bridge_record bridge[MAX_BRIDGES];
};

/* The record in whole pages, as an IOAS maps it */
static size_t record_size(void)
{
	size_t page = getpagesize();

	return (sizeof(struct record) + page - 1) / page * page;
}

/* Type 1 header: bus numbers, windows, Bridge Control; not Secondary Status */
static const struct {
	const char *what;
	unsigned int from;
	unsigned int to;
} bridge_fields[] = {
	{ "bus numbers", PCI_PRIMARY_BUS, PCI_SUBORDINATE_BUS },
	{ "I/O window", PCI_IO_BASE, PCI_IO_LIMIT },
	{ "memory windows", PCI_MEMORY_BASE, PCI_IO_LIMIT_UPPER16 + 1 },
	{ "Bridge Control", PCI_BRIDGE_CONTROL, PCI_BRIDGE_CONTROL + 1 },
};

/* Both sessions of the two stages have a name of their own for each NAME_ENV */
static char state_session[64], device_session[64];

static void name_sessions(void)
{
	const char *name = getenv(NAME_ENV) ?: "";
	const char *sep = *name ? "_" : "";

	snprintf(state_session, sizeof(state_session), STATE_SESSION "%s%s", sep, name);
	snprintf(device_session, sizeof(device_session), DEVICE_SESSION "%s%s", sep, name);
}

static const char *test_bdf(void)
{
	const char *bdf = getenv(BDF_ENV);
	char driver[64];

	if (!bdf)
		ksft_exit_skip("set " BDF_ENV " to a function that vfio-pci has bound\n");
	if (pci_sysfs_driver(bdf, driver, sizeof(driver)) ||
	    strcmp(driver, "vfio-pci"))
		ksft_exit_skip("%s is not bound to vfio-pci\n", bdf);
	return bdf;
}

static void open_device(struct vfio_noiommu *v, const char *bdf)
{
	int cdev = vfio_noiommu_cdev_open(bdf);
	int ret;

	if (cdev == -ENODEV)
		ksft_exit_skip("%s has no VFIO device cdev\n", bdf);
	if (cdev < 0)
		ksft_exit_fail_msg("open cdev of %s: %s\n", bdf, strerror(-cdev));
	ret = vfio_noiommu_bind(v, cdev);
	if (ret)
		ksft_exit_fail_msg("bind %s to iommufd: %s\n", bdf, strerror(-ret));
}

static int create_session(const char *name)
{
	int fd = luo_session_create(name);

	if (fd == -ENOENT || fd == -ENODEV)
		ksft_exit_skip(LUO_DEVICE " is missing: kho=on liveupdate=on?\n");
	if (fd < 0)
		ksft_exit_fail_msg("create session %s: %s\n", name, strerror(-fd));
	return fd;
}

static void preserve_or_skip(int session, int cdev)
{
	int ret = luo_session_preserve_fd(session, cdev, DEVICE_TOKEN);

	if (ret == -ENOENT)
		ksft_exit_skip("this kernel cannot preserve VFIO devices\n");
	if (ret == -EOPNOTSUPP)
		ksft_exit_skip("this kernel cannot preserve this device, its log says why\n");
	if (ret)
		ksft_exit_fail_msg("preserve: %s\n", strerror(-ret));
}

/* The result of a request that has to fail, in words a log reader needs */
static void expect(const char *what, int ret, int want)
{
	ksft_test_result(ret == want, "%s: %s (want %s)\n", what,
			 ret < 0 ? strerrorname_np(-ret) : "success",
			 want < 0 ? strerrorname_np(-want) : "success");
}

static unsigned int count_changes(const char *when, const __u8 *old,
				  const __u8 *new, ssize_t len)
{
	unsigned int changes = 0;
	ssize_t i;

	for (i = 0; i < len; i++) {
		if (old[i] == new[i])
			continue;
		if (changes++ < 16)
			ksft_print_msg("%s: byte 0x%03zx was %02x, is %02x\n",
				       when, i, old[i], new[i]);
	}
	return changes;
}

/* ---- one kernel ---- */

static void test_config_unchanged(const char *bdf, int cdev)
{
	__u8 before[PCI_SYSFS_CONFIG_MAX], during[PCI_SYSFS_CONFIG_MAX];
	__u8 after[PCI_SYSFS_CONFIG_MAX];
	int session = create_session(SINGLE_SESSION);
	ssize_t len = pci_sysfs_config(bdf, before);

	preserve_or_skip(session, cdev);
	ksft_test_result(pci_sysfs_config(bdf, during) == len &&
			 !count_changes("preserved", before, during, len),
			 "preserve leaves the configuration space alone\n");
	close(session);
	ksft_test_result(pci_sysfs_config(bdf, after) == len &&
			 !count_changes("unpreserved", before, after, len),
			 "unpreserve leaves the configuration space alone\n");
}

static void test_refusals(int cdev)
{
	int session = create_session(SINGLE_SESSION);
	int other = create_session(OTHER_SESSION);

	preserve_or_skip(session, cdev);
	expect("preserve again, same token",
	       luo_session_preserve_fd(session, cdev, DEVICE_TOKEN), -EEXIST);
	expect("preserve again, other token",
	       luo_session_preserve_fd(session, cdev, OTHER_TOKEN), -EBUSY);
	expect("preserve again, other session",
	       luo_session_preserve_fd(other, cdev, DEVICE_TOKEN), -EBUSY);
	expect("retrieve before the kexec",
	       luo_session_retrieve_fd(session, DEVICE_TOKEN), -EINVAL);
	expect("finish before the kexec", luo_session_finish(session), -EINVAL);
	close(session);

	expect("preserve in another session after the first is closed",
	       luo_session_preserve_fd(other, cdev, DEVICE_TOKEN), 0);
	close(other);
}

/* The session alone keeps the device; takes @v over */
static void test_session_holds_device(const char *bdf, struct vfio_noiommu *v)
{
	struct vfio_noiommu second = VFIO_NOIOMMU_INIT;
	int session = create_session(SINGLE_SESSION);
	int ret, cdev;

	preserve_or_skip(session, v->cdev);
	vfio_noiommu_close(v);

	cdev = vfio_noiommu_cdev_open(bdf);
	ret = cdev < 0 ? cdev : vfio_noiommu_bind(&second, cdev);
	ksft_test_result(ret < 0, "nobody else gets a device that a session holds: %s\n",
			 ret < 0 ? strerrorname_np(-ret) : "success");
	vfio_noiommu_close(&second);
	close(session);

	second = (struct vfio_noiommu)VFIO_NOIOMMU_INIT;
	cdev = vfio_noiommu_cdev_open(bdf);
	ret = cdev < 0 ? cdev : vfio_noiommu_bind(&second, cdev);
	expect("open the device after its session is closed", ret, 0);
	vfio_noiommu_close(&second);
}

static int single_kernel(void)
{
	struct vfio_noiommu v = VFIO_NOIOMMU_INIT;
	const char *bdf;
	int session;

	ksft_print_header();
	bdf = test_bdf();
	open_device(&v, bdf);
	/* Skips, if it must, before the plan is made */
	session = create_session(SINGLE_SESSION);
	preserve_or_skip(session, v.cdev);
	close(session);

	ksft_set_plan(10);
	test_config_unchanged(bdf, v.cdev);
	test_refusals(v.cdev);
	test_session_holds_device(bdf, &v);
	ksft_finished();
}

/* ---- across a kexec ---- */

static void fill_record(struct record *r, const char *bdf)
{
	char bridge[MAX_BRIDGES][PCI_SYSFS_BDF_LEN];
	__u8 config[PCI_SYSFS_CONFIG_MAX];
	char name[64];
	int i, n;

	snprintf(r->bdf, sizeof(r->bdf), "%s", bdf);
	/* Only a device that no IOMMU translates for has Bus Master left on */
	r->noiommu = !pci_sysfs_vfio_cdev(bdf, name, sizeof(name)) &&
		     !strncmp(name, "noiommu", strlen("noiommu"));
	r->config_len = pci_sysfs_config(bdf, r->config);
	pci_sysfs_resources(bdf, r->bar, NR_BARS);

	n = pci_sysfs_bridges(bdf, bridge, MAX_BRIDGES);
	for (i = 0; i < n; i++) {
		if (pci_sysfs_config(bridge[i], config) < HEADER_LEN)
			continue;
		memcpy(r->bridge[r->nr_bridges].bdf, bridge[i], PCI_SYSFS_BDF_LEN);
		memcpy(r->bridge[r->nr_bridges++].header, config, HEADER_LEN);
	}
}

static struct record *map_record(int memfd)
{
	struct record *r = mmap(NULL, sizeof(*r), PROT_READ | PROT_WRITE,
				MAP_SHARED, memfd, 0);

	if (r == MAP_FAILED)
		fail_exit("mmap of the record");
	return r;
}

static void stage1(int luo_fd)
{
	struct vfio_noiommu v = VFIO_NOIOMMU_INIT;
	const char *bdf = test_bdf();
	int session, memfd, ret;
	__u16 command;

	open_device(&v, bdf);
	create_state_file(luo_fd, state_session, STATE_TOKEN, 2);
	close(luo_fd);
	session = create_session(device_session);

	/* Nothing is programmed: a bus master with nothing to do is harmless */
	ret = vfio_noiommu_config_read(&v, PCI_COMMAND, &command, sizeof(command));
	command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	if (!ret)
		ret = vfio_noiommu_config_write(&v, PCI_COMMAND, &command, sizeof(command));
	if (ret)
		ksft_exit_fail_msg("switch bus master on: %s\n", strerror(-ret));

	memfd = memfd_create("pci_liveupdate_record", 0);
	if (memfd < 0 || ftruncate(memfd, record_size()))
		fail_exit("memfd");
	preserve_or_skip(session, v.cdev);
	fill_record(map_record(memfd), bdf);
	ret = luo_session_preserve_fd(session, memfd, RECORD_TOKEN);
	if (ret)
		ksft_exit_fail_msg("preserve the record: %s\n", strerror(-ret));

	ksft_print_msg("[STAGE 1] %s is preserved\n", bdf);
	daemonize_and_wait();
}

static void check_bridges(const struct record *r)
{
	__u8 config[PCI_SYSFS_CONFIG_MAX];
	bool same[ARRAY_SIZE(bridge_fields)];
	__u32 b;
	size_t f;

	memset(same, true, sizeof(same));
	for (b = 0; b < r->nr_bridges; b++) {
		bool there = pci_sysfs_config(r->bridge[b].bdf, config) >= HEADER_LEN;

		for (f = 0; f < ARRAY_SIZE(bridge_fields); f++) {
			unsigned int from = bridge_fields[f].from;

			if (there && !memcmp(config + from, r->bridge[b].header + from,
					     bridge_fields[f].to - from + 1))
				continue;
			same[f] = false;
			ksft_print_msg("bridge %s: %s changed\n", r->bridge[b].bdf,
				       bridge_fields[f].what);
		}
	}
	for (f = 0; f < ARRAY_SIZE(bridge_fields); f++)
		ksft_test_result(same[f], "%s of %u bridges\n",
				 bridge_fields[f].what, r->nr_bridges);
}

#define STAGE2_DEVICE_RESULTS	4

static void check_device(const struct record *r, const char *when)
{
	struct pci_sysfs_resource bar[NR_BARS] = {};
	__u8 config[PCI_SYSFS_CONFIG_MAX] = {};
	/* INTx is off until its owner arms it again */
	__u16 was, is, ignore = PCI_COMMAND_INTX_DISABLE | (r->noiommu ? 0 : PCI_COMMAND_MASTER);
	ssize_t len = pci_sysfs_config(r->bdf, config);

	count_changes(when, r->config, config, len < 0 ? 0 : len);
	ksft_test_result(len == r->config_len &&
			 !memcmp(config, r->config, PCI_COMMAND) &&
			 !memcmp(config + PCI_CLASS_REVISION,
				 r->config + PCI_CLASS_REVISION, 4),
			 "%s: the same device at %s\n", when, r->bdf);
	ksft_test_result(!memcmp(config + PCI_BASE_ADDRESS_0,
				 r->config + PCI_BASE_ADDRESS_0, 6 * 4),
			 "%s: BARs in the device\n", when);
	pci_sysfs_resources(r->bdf, bar, NR_BARS);
	ksft_test_result(!memcmp(bar, r->bar, sizeof(bar)),
			 "%s: BARs in the kernel's eyes\n", when);
	memcpy(&was, r->config + PCI_COMMAND, sizeof(was));
	memcpy(&is, config + PCI_COMMAND, sizeof(is));
	ksft_test_result(!((was ^ is) & ~ignore),
			 "%s: Command was 0x%04x, is 0x%04x\n", when, was, is);
}

static void stage2(int luo_fd, int state_fd)
{
	struct vfio_noiommu v = VFIO_NOIOMMU_INIT;
	char bdf[PCI_SYSFS_BDF_LEN];
	int session, memfd, cdev, stage, ret;
	struct record *r;

	restore_and_read_stage(state_fd, STATE_TOKEN, &stage);
	if (stage != 2)
		fail_exit("state says stage %d", stage);
	session = luo_retrieve_session(luo_fd, device_session);
	if (session < 0)
		ksft_exit_fail_msg("retrieve session: %s\n", strerror(-session));
	close(luo_fd);

	memfd = luo_session_retrieve_fd(session, RECORD_TOKEN);
	if (memfd < 0)
		ksft_exit_fail_msg("retrieve the record: %s\n", strerror(-memfd));
	r = map_record(memfd);

	ksft_set_plan(3 * STAGE2_DEVICE_RESULTS + ARRAY_SIZE(bridge_fields) + 7);
	check_bridges(r);
	check_device(r, "before retrieve");
	expect("bind to vfio-pci", pci_sysfs_bind(r->bdf, "vfio-pci"), 0);
	expect("retrieve with a wrong token",
	       luo_session_retrieve_fd(session, WRONG_TOKEN), -ENOENT);

	cdev = luo_session_retrieve_fd(session, DEVICE_TOKEN);
	expect("retrieve the device", cdev < 0 ? cdev : 0, 0);
	if (cdev < 0)
		ksft_exit_fail_msg("no device, nothing left to test\n");
	ret = pci_sysfs_bdf_of_cdev(cdev, bdf);
	if (ret)
		ksft_test_result_skip("the cdev does not tell its device\n");
	else
		ksft_test_result(!strcmp(bdf, r->bdf), "the cdev is that of %s\n", bdf);

	expect("bind to an iommufd", vfio_noiommu_bind(&v, cdev), 0);
	/* A running device for which nothing is mapped is stopped at finish */
	expect("map memory", vfio_noiommu_map(&v, memfd, record_size()), 0);
	check_device(r, "retrieved and open");
	expect("finish", luo_session_finish(session), 0);
	check_device(r, "finished");

	close(session);
	luo_session_finish(state_fd);
	close(state_fd);
	vfio_noiommu_close(&v);
	ksft_finished();
}

int main(int argc, char *argv[])
{
	if (argc == 1)
		return single_kernel();

	ksft_print_header();
	name_sessions();
	return luo_test(argc, argv, state_session, stage1, stage2);
}
