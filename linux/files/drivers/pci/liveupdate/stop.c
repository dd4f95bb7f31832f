// SPDX-License-Identifier: GPL-2.0
/*
 * PCI Live Update: what may be running is stopped before its memory is freed.
 */

/**
 * DOC: Stopped before freed
 *
 * Whether a device can be given back to its owner and whether it is running are
 * different questions. A device that is lost, dead, or was never found may be
 * writing to memory of its session all the same, and the end of the session
 * frees that memory. So before it does, one question is asked, of the hardware
 * and for each record, whatever the kernel has made of the device meanwhile: *may
 * it be running?*
 *
 * - Somebody answers at its place: Bus Master is cleared and read back, and
 *   requests that are under way are awaited. If the addresses that it decodes are
 *   not its own in this kernel, decode is switched off, too: they are given to
 *   others afterwards.
 * - Nobody answers, and the way there is known to be good: there is nothing to
 *   stop.
 * - The way there is not known to be good (no host bridge, a bridge with other
 *   bus numbers, a function that is not ready): nobody can tell. The session is
 *   not finished, its memory stays, and one line says why. If there is no
 *   configuration access at all (``pci=off``), the boot stops: not even a
 *   shutdown could stop the device.
 *
 * The way is known to be good if each bridge on it, by the records and from the
 * top, answers and has the bus numbers that it had. Registers are reached by
 * number, below the root bus: it does not matter if buses and devices were
 * enumerated, or have been removed since.
 *
 * A session that nobody ends goes on until this kernel is left. By then what it has
 * is stopped as well, and a kexec is refused while there is something that cannot
 * be.
 *
 * A device that is removed, or fails, before its owner has it back is stopped on
 * the spot: its place may soon be another's.
 */

#define dev_fmt(fmt) "Live Update: " fmt
#define pr_fmt(fmt) "PCI Live Update: " fmt

#include <linux/acpi.h>
#include <linux/delay.h>
#include <linux/iommu_liveupdate.h>
#include <linux/iopoll.h>
#include <linux/kexec.h>
#include <linux/mutex.h>
#include <linux/of.h>
#include <linux/reboot.h>

#include "../pci.h"
#include "internal.h"

#include <trace/events/pci_liveupdate.h>

#define LU_DECODE	(PCI_COMMAND_IO | PCI_COMMAND_MEMORY)
#define LU_VFS_ON	(PCI_SRIOV_CTRL_VFE | PCI_SRIOV_CTRL_MSE)

/* PCIe r6.0, sec 2.3.2: a function that is not ready yet, as software sees it */
#define LU_NOT_READY	0xffff0001

/* Requests that take longer have failed (PCIe r6.0, sec 7.5.3.16) */
#define LU_DRAIN_STEP_US	USEC_PER_MSEC
#define LU_DRAIN_US		(1500 * USEC_PER_MSEC)

static enum pci_lu_answer lu_ask(struct pci_bus *bus, unsigned int devfn, const char **why)
{
	u32 id;

	if (pci_bus_read_config_dword(bus, devfn, PCI_VENDOR_ID, &id)) {
		*why = "its registers cannot be read";
		return PCI_LU_UNKNOWN;
	}
	if (id == LU_NOT_READY) {
		*why = "it, or a bridge above it, is not ready after a reset";
		return PCI_LU_UNKNOWN;
	}
	return PCI_POSSIBLE_ERROR(id) ? PCI_LU_NOBODY : PCI_LU_SOMEBODY;
}

/**
 * pci_lu_ask_bridge - does what a bridge was recorded to forward get through it?
 * @bus: bus that it is on, or one through which its registers can be reached
 * @rec: its record
 * @why: set if it cannot be told
 *
 * Return: %PCI_LU_SOMEBODY if it does.
 */
enum pci_lu_answer pci_lu_ask_bridge(struct pci_bus *bus,
				     const struct pci_liveupdate_record_ser *rec,
				     const char **why)
{
	unsigned int devfn = rec->bdf & 0xff;
	enum pci_lu_answer answer;
	u8 secondary, subordinate;
	u16 cmd;

	answer = lu_ask(bus, devfn, why);
	if (answer != PCI_LU_SOMEBODY)
		return answer;

	pci_bus_read_config_byte(bus, devfn, PCI_SECONDARY_BUS, &secondary);
	pci_bus_read_config_byte(bus, devfn, PCI_SUBORDINATE_BUS, &subordinate);
	if (secondary == rec->secondary && subordinate == rec->subordinate)
		return PCI_LU_SOMEBODY;

	/* Reset, or new: a reset goes on to all that is below (PCIe r6.0, sec 6.6.1) */
	pci_bus_read_config_word(bus, devfn, PCI_COMMAND, &cmd);
	if (!secondary && !subordinate && !(cmd & PCI_COMMAND_MASTER))
		return PCI_LU_NOBODY;
	*why = "a bridge above it has other bus numbers";
	return PCI_LU_UNKNOWN;
}

/*
 * Fill in a bus through which registers below a host bridge are reached: what
 * accessors look at is that of the root bus. It works as long as the host bridge
 * stays, see pci_liveupdate_refuses_host().
 */
static bool lu_copy_root(struct pci_bus *bus, u32 domain, u8 nr)
{
	struct pci_bus *root;

	guard(rwsem_read)(&pci_bus_sem);
	list_for_each_entry(root, &pci_root_buses, node) {
		if (pci_domain_nr(root) != domain || nr < root->busn_res.start ||
		    nr > root->busn_res.end)
			continue;
		*bus = *root;
		bus->parent = root;
		bus->self = NULL;
		return true;
	}
	return false;
}

/*
 * A Virtual Function is where its Physical Function is, unless that has been reset. Its
 * Vendor ID is all ones in any case, and its Command is not (PCIe r6.0, sec 9.3.4.1).
 */
static enum pci_lu_answer lu_ask_vf(struct pci_bus *bus,
				    const struct pci_liveupdate_record_ser *rec,
				    const char **why)
{
	enum pci_lu_answer answer;
	u32 command;

	bus->number = PCI_BUS_NUM(rec->vf.pf);
	answer = lu_ask(bus, rec->vf.pf & 0xff, why);
	bus->number = PCI_BUS_NUM(rec->bdf);
	if (answer != PCI_LU_SOMEBODY)
		return answer;
	if (pci_bus_read_config_dword(bus, rec->bdf & 0xff, PCI_COMMAND, &command)) {
		*why = "its registers cannot be read";
		return PCI_LU_UNKNOWN;
	}
	return PCI_POSSIBLE_ERROR(command) ? PCI_LU_NOBODY : PCI_LU_SOMEBODY;
}

/**
 * lu_reach - find the way to a function
 * @bus: filled in: a bus that its registers can be accessed through
 * @domain: PCI domain (segment) number
 * @bdf: bus << 8 | device << 3 | function
 * @why: set if it cannot be told who is there
 *
 * Context: process context. Takes pci_bus_sem, then pci_lu_rwsem, for reading.
 * Return: who answers; %PCI_LU_UNKNOWN if a bridge on the way cannot be asked.
 */
static enum pci_lu_answer lu_reach(struct pci_bus *bus, u32 domain, u16 bdf, const char **why)
{
	struct pci_lu_incoming *in;
	enum pci_lu_answer answer;
	unsigned long key;

	if (!lu_copy_root(bus, domain, PCI_BUS_NUM(bdf))) {
		*why = "no host bridge leads there, or it has not been scanned";
		return PCI_LU_UNKNOWN;
	}

	guard(rwsem_read)(&pci_lu_rwsem);
	xa_for_each_range(&pci_lu_entries, key, in,
			  pci_lu_key(domain, PCI_DEVID(bus->busn_res.start, 0)),
			  pci_lu_key(domain, bdf)) {
		const struct pci_liveupdate_record_ser *rec = in->rec;

		/* By ascending bus, so those on the way come from the top */
		if (!(rec->flags & PCI_LIVEUPDATE_F_BRIDGE) ||
		    PCI_BUS_NUM(bdf) < rec->secondary || PCI_BUS_NUM(bdf) > rec->subordinate)
			continue;
		bus->number = PCI_BUS_NUM(rec->bdf);
		answer = pci_lu_ask_bridge(bus, rec, why);
		if (answer != PCI_LU_SOMEBODY)
			return answer;
	}
	in = xa_load(&pci_lu_entries, pci_lu_key(domain, bdf));
	if (in && in->rec->flags & PCI_LIVEUPDATE_F_VF)
		return lu_ask_vf(bus, in->rec, why);
	bus->number = PCI_BUS_NUM(bdf);
	return lu_ask(bus, bdf & 0xff, why);
}

static bool lu_is_draining(struct pci_bus *bus, unsigned int devfn, int at)
{
	u16 status;

	pci_bus_read_config_word(bus, devfn, at, &status);
	return !PCI_POSSIBLE_ERROR(status) && status & PCI_EXP_DEVSTA_TRPND;
}

/**
 * pci_lu_end_dma - clear bits of Command, one of which is Bus Master
 * @bus: bus through which the registers of the function can be reached
 * @devfn: device << 3 | function
 * @express: where its PCI Express Capability is, 0 if it has none
 * @off: the bits
 * @drained: set to false if requests are outstanding in the end
 *
 * Return: false if Bus Master stays on.
 */
bool pci_lu_end_dma(struct pci_bus *bus, unsigned int devfn, u8 express, u16 off,
		    bool *drained)
{
	bool draining = false;
	u16 cmd;

	*drained = true;
	pci_bus_read_config_word(bus, devfn, PCI_COMMAND, &cmd);
	if (PCI_POSSIBLE_ERROR(cmd))
		return true;	/* it has just gone */
	if (cmd & off)
		pci_bus_write_config_word(bus, devfn, PCI_COMMAND, cmd & ~off);

	/* The answer to a read comes after the writes that the device has sent */
	pci_bus_read_config_word(bus, devfn, PCI_COMMAND, &cmd);
	if (PCI_POSSIBLE_ERROR(cmd))
		return true;
	if (cmd & PCI_COMMAND_MASTER)
		return false;

	if (express)
		read_poll_timeout(lu_is_draining, draining, !draining, LU_DRAIN_STEP_US,
				  LU_DRAIN_US, false, bus, devfn, express + PCI_EXP_DEVSTA);
	*drained = !draining;
	return true;
}

/**
 * pci_liveupdate_stop_dma - end the DMA of a device for good reason
 * @dev: preserved device, or a bridge above one, that can be reached
 *
 * Clears Bus Master and waits for the requests that are under way (PCIe r6.0,
 * sec 7.5.3.5, Transactions Pending). pci_clear_master() does not do that to a
 * device that is preserved.
 *
 * Context: may sleep.
 * Return: true if no request is outstanding any more.
 */
bool pci_liveupdate_stop_dma(struct pci_dev *dev)
{
	struct pci_liveupdate_bypass bypass;
	bool stopped, drained;

	pci_liveupdate_bypass_begin(&bypass, dev);
	stopped = pci_lu_end_dma(dev->bus, dev->devfn, dev->pcie_cap, PCI_COMMAND_MASTER,
				 &drained);
	dev->is_busmaster = 0;
	pci_liveupdate_bypass_end(&bypass);
	return stopped && drained;
}
EXPORT_SYMBOL_GPL(pci_liveupdate_stop_dma);

static bool lu_is_removed(struct pci_dev *dev)
{
	return test_bit(PCI_DEV_REMOVED, &dev->priv_flags);
}

/* Too large for the stack, and a lack of memory must not keep a device running */
static DEFINE_MUTEX(lu_way_lock);
static struct pci_bus lu_way;

/* Does this kernel have resources for what the function decodes? */
static bool lu_has_addresses(struct pci_dev *dev)
{
	return dev && !lu_is_removed(dev) &&
	       (!test_bit(PCI_LU_LOST, &dev->lu_flags) ||
		test_bit(PCI_LU_CLAIMED, &dev->lu_flags));
}

/* Is a function of its owner, or of nobody? Then how it ends is not decided here */
static bool lu_is_left_alone(struct pci_dev *dev)
{
	return !test_bit(PCI_LU_ADOPTED, &dev->lu_flags) ||
	       test_bit(PCI_LU_CLAIMED, &dev->lu_flags) ||
	       dev->hdr_type != PCI_HEADER_TYPE_NORMAL || pci_lu_break & PCI_LU_BREAK_STOP;
}

/**
 * pci_lu_leaves - stop a function that is about to go, or to fail
 * @dev: function that can be reached still, if it is there
 *
 * A device whose owner has it is left to its driver. One that does not answer is asked
 * again when its session ends: nobody knows whether it is running.
 *
 * Context: may sleep; not with pci_lu_rwsem held.
 */
void pci_lu_leaves(struct pci_dev *dev)
{
	u16 off = PCI_COMMAND_MASTER;
	bool drained;
	u16 cmd;

	if (lu_is_left_alone(dev))
		return;

	if (!lu_has_addresses(dev))
		off |= LU_DECODE;
	if (!pci_lu_end_dma(dev->bus, dev->devfn, dev->pcie_cap, off, &drained))
		return;
	pci_bus_read_config_word(dev->bus, dev->devfn, PCI_COMMAND, &cmd);
	if (PCI_POSSIBLE_ERROR(cmd))
		return;
	set_bit(PCI_LU_STOPPED, &dev->lu_flags);
	dev->is_busmaster = 0;
	if (!drained)
		pci_warn(dev, "stopped with requests still outstanding\n");
}

/**
 * pci_lu_has_left - a function is removed
 * @dev: function that pci_lu_leaves() has been called for
 *
 * If there is nobody, which is what the end of its session would find, that is noted now:
 * another may come to its place.
 *
 * Context: process context. Takes pci_bus_sem, then pci_lu_rwsem, for reading.
 */
void pci_lu_has_left(struct pci_dev *dev)
{
	const char *why;

	if (lu_is_left_alone(dev) || test_bit(PCI_LU_STOPPED, &dev->lu_flags))
		return;
	guard(mutex)(&lu_way_lock);
	if (lu_reach(&lu_way, pci_domain_nr(dev->bus), pci_dev_id(dev), &why) == PCI_LU_NOBODY)
		set_bit(PCI_LU_STOPPED, &dev->lu_flags);
}

/* From here on a function may be written to. Returns what is known of it, referenced */
static struct pci_dev *lu_unguard(u32 domain, u16 bdf)
{
	unsigned long key = pci_lu_key(domain, bdf);
	struct pci_lu_incoming *in;
	struct pci_dev *dev;

	guard(rwsem_write)(&pci_lu_rwsem);
	in = xa_load(&pci_lu_entries, key);
	dev = in ? pci_dev_get(in->dev) : NULL;
	if (dev && !lu_is_removed(dev)) {
		set_bit(PCI_LU_STOPPED, &dev->lu_flags);
		pci_lu_guard_update(dev);
	} else {
		pci_lu_guard_forget(key);
	}
	return dev;
}

/* Has it been stopped when it was removed? Another may have its place now */
static bool lu_is_settled(u32 domain, u16 bdf)
{
	struct pci_dev *dev __free(pci_dev_put) = pci_liveupdate_find(domain, bdf);

	return dev && lu_is_removed(dev) && test_bit(PCI_LU_STOPPED, &dev->lu_flags) &&
	       !test_bit(PCI_LU_CLAIMED, &dev->lu_flags);
}

/* An extended capability of a function that this kernel may have no device for */
static u16 lu_find_ext(struct pci_bus *bus, unsigned int devfn, u16 id)
{
	int ttl = (PCI_CFG_SPACE_EXP_SIZE - PCI_CFG_SPACE_SIZE) / 8;
	u16 pos = PCI_CFG_SPACE_SIZE;
	u32 header;

	while (ttl-- && pos >= PCI_CFG_SPACE_SIZE) {
		pci_bus_read_config_dword(bus, devfn, pos, &header);
		if (!header || PCI_POSSIBLE_ERROR(header))
			return 0;
		if (PCI_EXT_CAP_ID(header) == id)
			return pos;
		pos = PCI_EXT_CAP_NEXT(header);
	}
	return 0;
}

/* The next preserved Virtual Function of a function, from @key on */
static bool lu_next_vf(u32 domain, u16 pf, unsigned long *key)
{
	struct pci_lu_incoming *in;
	unsigned long at;

	guard(rwsem_read)(&pci_lu_rwsem);
	xa_for_each_range(&pci_lu_entries, at, in, *key, pci_lu_key(domain, 0xffff)) {
		if (!(in->rec->flags & PCI_LIVEUPDATE_F_VF) || in->rec->vf.pf != pf)
			continue;
		*key = at;
		return true;
	}
	return false;
}

/*
 * Give up the Virtual Functions of a function that nobody will have back, nor any of
 * them: first they stop, one by one, then they go, and no longer decode addresses that
 * are given to others.
 */
static void lu_end_vfs(struct pci_bus *bus, u32 domain, u16 pf)
{
	unsigned int devfn = pf & 0xff;
	bool drained;
	u16 pos, ctrl;

	/* The way to the Physical Function, and so to them, is known to be good */
	for (unsigned long key = pci_lu_key(domain, pf); lu_next_vf(domain, pf, &key); key++) {
		unsigned int vf = key & 0xff;

		pci_dev_put(lu_unguard(domain, key & 0xffff));
		bus->number = PCI_BUS_NUM(key & 0xffff);
		if (!pci_lu_end_dma(bus, vf, pci_bus_find_capability(bus, vf, PCI_CAP_ID_EXP),
				    PCI_COMMAND_MASTER, &drained) || !drained)
			pr_warn("%04x:%02x:%02x.%d has requests outstanding as it is disabled\n",
				domain, bus->number, PCI_SLOT(vf), PCI_FUNC(vf));
	}

	pci_dev_put(lu_unguard(domain, pf));
	bus->number = PCI_BUS_NUM(pf);
	pos = lu_find_ext(bus, devfn, PCI_EXT_CAP_ID_SRIOV);
	if (!pos)
		return;
	pci_bus_read_config_word(bus, devfn, pos + PCI_SRIOV_CTRL, &ctrl);
	if (PCI_POSSIBLE_ERROR(ctrl) || !(ctrl & LU_VFS_ON))
		return;
	pci_bus_write_config_word(bus, devfn, pos + PCI_SRIOV_CTRL, ctrl & ~LU_VFS_ON);
	/* After that, nothing of them is under way (PCIe r6.0, sec 9.3.3.3.1) */
	ssleep(1);
}

/*
 * The Physical Function of a Virtual one, or itself, whose address space may be given to
 * others, because this kernel has no use for it; false if there is none
 */
static bool lu_lost_pf(u32 domain, u16 bdf, u16 *pf)
{
	struct pci_lu_incoming *in;

	guard(rwsem_read)(&pci_lu_rwsem);
	in = xa_load(&pci_lu_entries, pci_lu_key(domain, bdf));
	if (!in || !(in->iov || in->rec->flags & PCI_LIVEUPDATE_F_VF))
		return false;
	*pf = in->iov ? bdf : in->rec->vf.pf;
	in = xa_load(&pci_lu_entries, pci_lu_key(domain, *pf));
	return !in->dev || test_bit(PCI_LU_LOST, &in->dev->lu_flags);
}

static int lu_cannot(u32 domain, u16 bdf, const char *why)
{
	pr_err_ratelimited("%04x:%02x:%02x.%d cannot be stopped: %s; its session is not finished and keeps its memory\n",
			   domain, PCI_BUS_NUM(bdf), PCI_SLOT(bdf), PCI_FUNC(bdf), why);
	return -EBUSY;
}

static int lu_stop(struct pci_bus *bus, u32 domain, u16 bdf, bool ask_only)
{
	u16 off = PCI_COMMAND_MASTER;
	const char *why = NULL;
	bool drained;
	u8 express;
	u16 pf;

	switch (lu_reach(bus, domain, bdf, &why)) {
	case PCI_LU_UNKNOWN:
		return lu_cannot(domain, bdf, why);
	case PCI_LU_NOBODY:
		return 0;
	case PCI_LU_SOMEBODY:
		break;
	}
	if (ask_only)
		return 0;

	if (lu_lost_pf(domain, bdf, &pf)) {
		lu_end_vfs(bus, domain, pf);
		bus->number = PCI_BUS_NUM(bdf);
	}

	struct pci_dev *dev __free(pci_dev_put) = lu_unguard(domain, bdf);

	if (!lu_has_addresses(dev))
		off |= LU_DECODE;
	express = pci_bus_find_capability(bus, bdf & 0xff, PCI_CAP_ID_EXP);
	if (!pci_lu_end_dma(bus, bdf & 0xff, express, off, &drained))
		return lu_cannot(domain, bdf, "Bus Master stays on");
	if (dev)
		dev->is_busmaster = 0;
	pr_info("%04x:%02x:%02x.%d stopped%s\n", domain, PCI_BUS_NUM(bdf), PCI_SLOT(bdf),
		PCI_FUNC(bdf), drained ? "" : " with requests still outstanding");
	return 0;
}

static int lu_stop_or_ask(u32 domain, u16 bdf, bool ask_only)
{
	if (pci_lu_break & PCI_LU_BREAK_STOP || lu_is_settled(domain, bdf))
		return 0;

	guard(mutex)(&lu_way_lock);
	return lu_stop(&lu_way, domain, bdf, ask_only);
}

/**
 * pci_liveupdate_can_stop - could a preserved device be stopped now?
 * @domain: PCI domain (segment) number
 * @bdf: bus << 8 | device << 3 | function
 *
 * For the can_finish callback of a file handler. Reads registers only of a device
 * that this kernel does not have.
 *
 * Context: process context. Takes pci_bus_sem and pci_lu_rwsem for reading.
 * Return: 0 if it could, or need not; -EBUSY after a message.
 */
int pci_liveupdate_can_stop(u32 domain, u16 bdf)
{
	struct pci_dev *dev __free(pci_dev_put) = pci_liveupdate_find(domain, bdf);

	if (dev && !lu_is_removed(dev))
		return 0;
	return lu_stop_or_ask(domain, bdf, true);
}
EXPORT_SYMBOL_GPL(pci_liveupdate_can_stop);

/**
 * pci_liveupdate_stop - stop what was preserved before the memory it may write to goes
 * @domain: PCI domain (segment) number
 * @bdf: bus << 8 | device << 3 | function
 *
 * It does not matter what became of the device in this kernel, nor who has a
 * driver bound to it.
 *
 * Context: process context, from the quiesce callback of a file handler. Takes
 * pci_bus_sem and pci_lu_rwsem.
 * Return: 0 if nothing is running there any more; -EBUSY after a message if that
 * cannot be told: the memory must be kept.
 */
int pci_liveupdate_stop(u32 domain, u16 bdf)
{
	int err = lu_stop_or_ask(domain, bdf, false);

	/* Nor does anything lead to the memory that could be cached or come to life again */
	if (!err)
		iommu_liveupdate_release(domain, bdf);
	return err;
}
EXPORT_SYMBOL_GPL(pci_liveupdate_stop);

/* Also if it should not be any more */
static bool lu_is_master(struct pci_dev *dev)
{
	u16 cmd;

	pci_read_config_word(dev, PCI_COMMAND, &cmd);
	return !PCI_POSSIBLE_ERROR(cmd) && cmd & PCI_COMMAND_MASTER;
}

/**
 * pci_liveupdate_pause - a device cannot go on with its frozen domain
 * @domain: PCI domain (segment) number
 * @bdf: bus << 8 | device << 3 | function
 * @why: in words that fit behind "is paused: "
 *
 * For IOMMU drivers, before they end what its DMA depends on. From here on it is a
 * device that was paused by the previous kernel. If it cannot be stopped the boot is:
 * nobody can say what it would write to.
 *
 * Context: process context, at boot. Takes pci_bus_sem and pci_lu_rwsem.
 */
void pci_liveupdate_pause(u32 domain, u16 bdf, const char *why)
{
	struct pci_dev *dev __free(pci_dev_put) = pci_liveupdate_find(domain, bdf);
	struct pci_lu_incoming *in;
	bool drained = true;

	pr_err("%04x:%02x:%02x.%d is paused: %s; its owner sets Bus Master when it is attached again\n",
	       domain, PCI_BUS_NUM(bdf), PCI_SLOT(bdf), PCI_FUNC(bdf), why);
	if (dev)
		drained = pci_liveupdate_stop_dma(dev);
	if (dev ? lu_is_master(dev) : lu_stop_or_ask(domain, bdf, false))
		liveupdate_fatal("PCI",
				 "%04x:%02x:%02x.%d is running on behalf of the previous kernel, its IOMMU cannot be taken over (%s), and it cannot be stopped",
				 domain, PCI_BUS_NUM(bdf), PCI_SLOT(bdf), PCI_FUNC(bdf), why);

	guard(rwsem_write)(&pci_lu_rwsem);
	in = xa_load(&pci_lu_entries, pci_lu_key(domain, bdf));
	if (!in)
		return;
	in->rec->dma = PCI_LIVEUPDATE_DMA_PAUSED;
	memset(&in->rec->iommu, 0, sizeof(in->rec->iommu));
	if (!drained)
		in->rec->flags |= PCI_LIVEUPDATE_F_DMA_PENDING;
}

static int lu_note_first(u32 domain, u16 bdf, const struct pci_liveupdate_iommu_ser *iommu,
			 void *data)
{
	*(unsigned long *)data = pci_lu_key(domain, bdf);
	return 1;
}

/**
 * pci_liveupdate_pause_all - no device can go on with its frozen domain
 * @why: in words that fit behind "is paused: "
 *
 * Context: as pci_liveupdate_pause().
 */
void pci_liveupdate_pause_all(const char *why)
{
	unsigned long key;

	while (pci_liveupdate_each_translated(lu_note_first, &key))
		pci_liveupdate_pause(key >> 16, key & 0xffff, why);
}

/* The next device, from @key on, that this kernel does not have and cannot shut down */
static bool lu_next_missing(unsigned long *key)
{
	struct pci_lu_incoming *in;
	unsigned long at;

	guard(rwsem_read)(&pci_lu_rwsem);
	xa_for_each_start(&pci_lu_entries, at, in, *key) {
		if (!(in->rec->flags & PCI_LIVEUPDATE_F_ENDPOINT) ||
		    (in->dev && !lu_is_removed(in->dev)))
			continue;
		*key = at;
		return true;
	}
	return false;
}

static int lu_stop_missing(bool ask_only)
{
	int err = 0;

	for (unsigned long key = 0; lu_next_missing(&key); key++)
		err = lu_stop_or_ask(key >> 16, key & 0xffff, ask_only) ?: err;
	return err;
}

/**
 * pci_liveupdate_may_leave - may another kernel be started?
 *
 * Not while memory is kept for a device that nobody can stop: the next kernel
 * would know nothing of it.
 *
 * Context: process context, before devices are shut down. Takes pci_bus_sem and
 * pci_lu_rwsem for reading.
 * Return: 0, or -EBUSY after a message.
 */
int pci_liveupdate_may_leave(void)
{
	int err;

	if (!static_branch_unlikely(&pci_lu_incoming_key))
		return 0;
	err = lu_stop_missing(true);
	if (err)
		pr_err("no kexec while a device is running that cannot be stopped; reboot through the firmware\n");
	return err;
}

/* What is in the tree is stopped when it is shut down */
static int lu_leave(struct notifier_block *nb, unsigned long event, void *unused)
{
	if (kexec_in_progress && static_branch_unlikely(&pci_lu_incoming_key))
		lu_stop_missing(false);
	return NOTIFY_DONE;
}

static struct notifier_block lu_leave_nb = {
	.notifier_call = lu_leave,
};

static int __init lu_leave_init(void)
{
	return register_reboot_notifier(&lu_leave_nb);
}
core_initcall(lu_leave_init);

/* Host bridges in a Device Tree are probed when what they depend on is there */
static bool lu_hosts_may_come(void)
{
	return acpi_disabled && of_have_populated_dt();
}

/* With pci=off there are root buses, and no access that works */
static bool __init lu_has_access(void)
{
	struct pci_bus *root;
	u32 id;

	guard(rwsem_read)(&pci_bus_sem);
	list_for_each_entry(root, &pci_root_buses, node)
		if (!pci_bus_read_config_dword(root, 0, PCI_VENDOR_ID, &id))
			return true;
	return false;
}

/**
 * pci_lu_stop_boot_without_access - is there a way to any device?
 *
 * Context: when buses have been scanned at boot.
 */
void __init pci_lu_stop_boot_without_access(void)
{
	if (!pci_lu_incoming_active() || lu_has_access() || lu_hosts_may_come())
		return;
	liveupdate_fatal("PCI",
			 "devices are running on behalf of the previous kernel, and this one has no way to stop them: no PCI host bridge can be accessed (pci=off?). To keep the devices, boot it without such an option");
}
