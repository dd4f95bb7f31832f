// SPDX-License-Identifier: GPL-2.0
/* e1000e_rx before the live update: memory, card, LUO session. */

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include <linux/pci_regs.h>

#include <libliveupdate.h>

#include "e1000e_hw.h"
#include "luo_session.h"
#include "pci_sysfs.h"
#include "rx.h"

#define SPARE_PAGES	256
#define ARRANGE_TRIES	4

int rx_session_open(struct rx *rx)
{
	int fd;

	if (rx->kind == RX_SESSION_OUTGOING)
		return 0;
	if (rx->kind == RX_SESSION_INCOMING)
		return -EBUSY;

	fd = luo_session_create(rx->opt.session);
	if (fd < 0)
		return fd;
	rx->session = fd;
	rx->kind = RX_SESSION_OUTGOING;
	return 0;
}

void rx_session_close(struct rx *rx)
{
	if (rx->kind != RX_SESSION_NONE)
		close(rx->session);
	rx->kind = RX_SESSION_NONE;
	rx->memory_preserved = false;
	rx->device_preserved = false;
}

int rx_session_finish(struct rx *rx)
{
	int ret;

	if (rx->kind != RX_SESSION_INCOMING)
		return -EINVAL;
	ret = luo_session_finish(rx->session);
	if (!ret)
		rx_session_close(rx);
	return ret;
}

int rx_preserve_memory(struct rx *rx)
{
	int ret = rx_session_open(rx);

	if (ret)
		return ret;
	if (rx->m.memfd < 0)
		return -EBADF;
	ret = luo_session_preserve_fd(rx->session, rx->m.memfd, RX_TOKEN_MEMORY);
	if (!ret)
		rx->memory_preserved = true;
	return ret;
}

int rx_preserve_device(struct rx *rx)
{
	int ret = rx_session_open(rx);

	if (ret)
		return ret;
	if (rx->v.cdev < 0)
		return -EBADF;
	ret = luo_session_preserve_fd(rx->session, rx->v.cdev, RX_TOKEN_DEVICE);
	if (!ret)
		rx->device_preserved = true;
	return ret;
}

int rx_preserve_all(struct rx *rx)
{
	int ret = 0;

	if (!rx->memory_preserved || rx->kind != RX_SESSION_OUTGOING)
		ret = rx_preserve_memory(rx);
	if (!ret && !rx->device_preserved && !rx->opt.no_preserve_device)
		ret = rx_preserve_device(rx);
	return ret;
}

static int open_device(struct rx *rx)
{
	int cdev = vfio_noiommu_cdev_open(rx->opt.bdf);
	int ret;

	if (cdev < 0)
		return rx_fail(RX_DEVICE, "open cdev", cdev,
			    "bind the device to vfio-pci first (pci_cfg bind), with vfio.enable_unsafe_noiommu_mode=1");

	ret = vfio_noiommu_bind(&rx->v, cdev);
	if (ret)
		return rx_fail(RX_DEVICE, "bind to iommufd", ret, rx->opt.bdf);
	return RX_OK;
}

/*
 * Memory in its final place. The ring may not find its contiguous run; then
 * all is done again with more memory, while the first lot is kept so that the
 * same pages do not come back.
 */
static int set_up_memory(struct rx *rx)
{
	struct rx_mem old[ARRANGE_TRIES];
	unsigned int spare = SPARE_PAGES;
	int ret, code = RX_OK;
	unsigned int i, n = 0;

	for (;;) {
		ret = rx_mem_create(&rx->m, rx->opt.ring, spare);
		if (ret) {
			code = rx_fail(RX_MEMORY, "create memfd", ret, NULL);
			break;
		}
		if (!rx->opt.no_session) {
			ret = rx_session_open(rx);
			if (ret) {
				code = rx_fail(RX_PRESERVE, "create session", ret,
					       "kho=on liveupdate=on? name in use?");
				break;
			}
		}
		if (rx->opt.device_first) {
			ret = rx_preserve_device(rx);
			if (ret) {
				code = rx_fail(RX_PRESERVE, "preserve device", ret, rx->opt.bdf);
				break;
			}
		}
		if (!rx->opt.no_session) {
			ret = rx_preserve_memory(rx);
			if (ret) {
				code = rx_fail(RX_PRESERVE, "preserve memory", ret,
					       rx->opt.session);
				break;
			}
		}
		if (rx->v.cdev < 0) {
			code = open_device(rx);
			if (code)
				break;
		}
		ret = vfio_noiommu_map(&rx->v, rx->m.memfd, rx->m.size);
		if (ret) {
			code = rx_fail(RX_MEMORY, "map memory", ret, NULL);
			break;
		}
		rx->tries = n + 1;
		ret = rx_mem_arrange(&rx->m, &rx->v);
		if (!ret)
			break;
		if (ret != -ENOSPC || rx->tries == ARRANGE_TRIES) {
			code = rx_fail(RX_MEMORY, "arrange ring", ret,
				       ret == -ENOSPC ? "no contiguous memory for the ring" : NULL);
			break;
		}
		vfio_noiommu_unmap(&rx->v);
		rx_session_close(rx);
		old[n++] = rx->m;
		rx->m = (struct rx_mem)RX_MEM_INIT;
		spare = spare * 4 + rx->opt.ring / 2;
	}

	for (i = 0; i < n; i++)
		rx_mem_close(&old[i]);
	return code;
}

static int set_up_device(struct rx *rx)
{
	struct pci_sysfs_resource bar0;
	struct rx_header *h = rx->m.h;
	__u16 command;
	int ret;

	ret = vfio_noiommu_config_read(&rx->v, PCI_VENDOR_ID, &h->vendor_device,
				       sizeof(h->vendor_device));
	if (!ret)
		ret = vfio_noiommu_config_read(&rx->v, PCI_COMMAND, &command,
					       sizeof(command));
	if (ret)
		return rx_fail(RX_DEVICE, "read config space", ret, rx->opt.bdf);

	command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
		   PCI_COMMAND_INTX_DISABLE;
	ret = vfio_noiommu_config_write(&rx->v, PCI_COMMAND, &command,
					sizeof(command));
	if (ret)
		return rx_fail(RX_DEVICE, "enable bus master", ret, rx->opt.bdf);

	ret = vfio_noiommu_map_bar0(&rx->v);
	if (ret)
		return rx_fail(RX_DEVICE, "map BAR 0", ret, rx->opt.bdf);
	ret = e1000e_reset(rx->v.bar0);
	if (ret)
		return rx_fail(RX_DEVICE, "reset", ret, rx->opt.bdf);

	snprintf(h->bdf, sizeof(h->bdf), "%s", rx->opt.bdf);
	if (pci_sysfs_resources(rx->opt.bdf, &bar0, 1) == 1)
		h->bar0_pa = bar0.start;
	e1000e_mac(rx->v.bar0, h->mac);

	if (rx->opt.interrupts) {
		ret = rx_irq_arm(rx);
		if (ret)
			return rx_fail(RX_DEVICE, "arm the interrupt", ret, rx->opt.bdf);
		e1000e_interrupt_rx(rx->v.bar0);
	}
	e1000e_start_rx(rx->v.bar0, h->ring_pa, h->ring_entries);
	ret = e1000e_wait_link(rx->v.bar0);
	if (ret)
		return rx_fail(RX_DEVICE, "wait for link", ret, rx->opt.bdf);
	return RX_OK;
}

void rx_json_mac(struct json *j, const __u8 *mac)
{
	char str[18];

	snprintf(str, sizeof(str), "%02x:%02x:%02x:%02x:%02x:%02x",
		 mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	json_str(j, "mac", str);
}

void rx_json_memory(struct json *j, struct rx *rx)
{
	struct rx_header *h = rx->m.h;

	json_u64(j, "incarnation", h->incarnation);
	json_str(j, "bdf", h->bdf);
	json_u64(j, "ring_size", h->ring_entries);
	json_hex(j, "ring_pa", h->ring_pa);
	json_u64(j, "memfd_bytes", rx->m.size);
	json_hex(j, "bar0", h->bar0_pa);
	rx_json_mac(j, h->mac);
}

int rx_start(struct rx *rx)
{
	struct json j = {};
	int code;

	if (rx->opt.device_first) {
		code = open_device(rx);
		if (code)
			return code;
	}
	code = set_up_memory(rx);
	if (!code)
		code = set_up_device(rx);
	if (code)
		return code;

	json_begin(&j);
	json_str(&j, "event", "ready");
	rx_json_memory(&j, rx);
	json_str(&j, "session", rx->opt.no_session ? NULL : rx->opt.session);
	json_u64(&j, "tries", rx->tries);
	json_bool(&j, "memory_preserved", rx->memory_preserved);
	json_bool(&j, "device_preserved", rx->device_preserved);
	json_end(&j);
	json_send(&j, STDOUT_FILENO);
	return RX_OK;
}
