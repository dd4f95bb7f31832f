// SPDX-License-Identifier: GPL-2.0
/*
 * vfio-pci under the Live Update Orchestrator.
 */

/**
 * DOC: Live Update of vfio-pci devices
 *
 * The device file of a vfio-pci device (/dev/vfio/devices/vfioN or
 * noiommu-vfioN, bound to an iommufd) can be preserved through a kexec with the
 * Live Update Orchestrator (LUO). The device is not reset, not put to sleep and,
 * where nothing translates its addresses or what does can be handed over, not stopped:
 * it goes on with what its user told it to do.
 *
 * What is kept
 * ============
 *
 * The device in the state in which its registers are, its place (domain, bus,
 * device, function), and what VFIO knew about it: virtualised configuration
 * space, what the device is restored to when it is closed, whether a reset
 * works, the VF token. PCI's own part of it, and whether DMA goes on, is told in
 * drivers/pci/liveupdate/.
 *
 * Interrupts that the device raises from freeze on stay pending in it, masked,
 * and those that reached an eventfd which nobody has read are remembered. Both
 * are delivered when the owner arms the vector again (VFIO_DEVICE_SET_IRQS). A
 * device that has MSI without masks cannot say what is pending: every vector
 * that was armed is signalled once.
 *
 * What is not
 * ===========
 *
 * The binding to an iommufd, mappings and eventfds, also those for errors and
 * requests, ioeventfds and irqfds: they are files and memory of this kernel. The
 * retrieved file is bound, attached, mapped and armed by its user, who may then
 * go on with the device. The memory that the device accesses is preserved by its
 * user, as memfds in the same session.
 *
 * The life of a preserved device
 * ==============================
 *
 * preserve
 *   Refuses what cannot be kept, once a reset by the user is over. Writes nothing
 *   to the device; its user may go on to do anything with it, a reset included.
 *
 * freeze
 *   Refuses a device that sleeps, one whose interrupts cannot be masked, and one
 *   whose unbind has begun: that unbind waits for the file with the device's
 *   lock held, and device_shutdown() would wait for the lock after the point of
 *   no return. From here to the jump the user gets -EBUSY for what would change
 *   what is handed over: config writes, arming and masking interrupts, resets,
 *   sleep, dma-bufs, the VF token. Config writes under way are completed first.
 *   Interrupts are masked. Behind an IOMMU that goes on translating, the same goes for
 *   mappings and attachments, and what the device can access is looked at: all of it
 *   must be in files of the session.
 *
 * settle
 *   When all devices are frozen, waits once for the interrupts of all, and
 *   writes down what VFIO knows.
 *
 * retrieve
 *   Gives a device file for the incoming device, under the rights that open(2)
 *   asks for, whoever had it before. Until finish it is the only one that can be
 *   bound, and its user finds the device untouched: VFIO takes it over with reads
 *   only. (An open that fails half way, for lack of memory, stops the device.)
 *
 * quiesce
 *   Before memory of the session may be freed, stops a device that
 *   nobody retrieved, whose memory was not retrieved, or whose user has not
 *   attached it to an IOAS or mapped anything there: nothing pins its memory. It
 *   does not matter whether the device could be retrieved. One that cannot be
 *   stopped keeps its session, and the memory in it.
 *
 * quiesced
 *   Resets what was stopped, all of the session at the same time: that is what takes
 *   long, and nothing that is still to be stopped meets a reset.
 *
 * finish
 *   The device is like any other from here on.
 *
 * Locking
 * =======
 *
 * LUO's session mutex is held around every operation but can_preserve and
 * get_id; freeze runs in the reboot system call. Below it, in this order::
 *
 *   device_lock -> dev_set->lock -> lu_gate -> igate -> memory_lock -> PCI's rwsem
 *
 * where the first is only ever tried, for a bounded time: unbind holds it while
 * it waits for the file to be closed, which LUO does with the session mutex
 * held. The PCI core tries it below memory_lock, when a device is preserved. The second
 * is only tried in freeze: its holder may wait for user space.
 * vfio_pci_core_device.lu_frozen is set with lu_gate held, which those hold for
 * reading who write config space; whoever holds igate or memory_lock can rely on
 * it, too. lu_ser is guarded by dev_set->lock, lu_removing by
 * memory_lock, what concerns INTx by irqlock, and the rest by igate.
 */

#define dev_fmt(fmt) "Live Update: " fmt
#define pr_fmt(fmt) KBUILD_MODNAME ": Live Update: " fmt

#include <linux/cleanup.h>
#include <linux/file.h>
#include <linux/io.h>
#include <linux/iommu_liveupdate.h>
#include <linux/iommufd.h>
#include <linux/iopoll.h>
#include <linux/kexec_handover.h>
#include <linux/kho/abi/vfio_pci.h>
#include <linux/liveupdate.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/shmem_fs.h>
#include <linux/vfio.h>

#include "vfio_pci_liveupdate.h"
#include "vfio_pci_priv.h"

/* The driver whose devices are preserved, NULL while LUO does not know us */
static struct pci_driver *vfio_pci_lu_driver;

static bool lu_is_ours(struct device *dev)
{
	return dev->driver == &vfio_pci_lu_driver->driver;
}

/* The device of a file that can_preserve has accepted, or that was retrieved */
static struct vfio_pci_core_device *lu_file_vdev(struct file *file)
{
	return container_of(vfio_device_from_file(file),
			    struct vfio_pci_core_device, vdev);
}

static bool lu_is_group_file(struct vfio_pci_core_device *vdev, struct file *file)
{
	return vfio_file_cdev_bound(file) == -ENOTTY;
}

static bool lu_is_unbound(struct vfio_pci_core_device *vdev, struct file *file)
{
	return vfio_file_cdev_bound(file) == -EINVAL;
}

static bool lu_is_removed(struct vfio_pci_core_device *vdev, struct file *file)
{
	return vdev->lu_removing;
}

static bool lu_is_asleep(struct vfio_pci_core_device *vdev, struct file *file)
{
	return vdev->pm_runtime_engaged || vdev->pdev->current_state != PCI_D0;
}

/* Its line would be asserted in a kernel where nobody expects it */
static bool lu_has_loud_intx(struct vfio_pci_core_device *vdev, struct file *file)
{
	return vdev->irq_type == VFIO_PCI_INTX_IRQ_INDEX && !vdev->pci_2_3;
}

static bool lu_has_dmabufs(struct vfio_pci_core_device *vdev, struct file *file)
{
	return !list_empty(&vdev->dmabufs);
}

static bool lu_can_migrate(struct vfio_pci_core_device *vdev, struct file *file)
{
	return vdev->vdev.mig_ops;
}

static bool lu_has_regions(struct vfio_pci_core_device *vdev, struct file *file)
{
	return vdev->num_regions;
}

/* What the user may still change is asked again at freeze, or only then */
enum lu_when { LU_PRESERVE = BIT(0), LU_FREEZE = BIT(1) };

static const struct {
	bool (*test)(struct vfio_pci_core_device *vdev, struct file *file);
	unsigned int when;
	int errno;
	const char *reason;
	const char *remedy;
} lu_refusals[] = {
	{ lu_is_group_file, LU_PRESERVE, -EOPNOTSUPP,
	  "it was opened through its group",
	  "open it in /dev/vfio/devices" },
	{ lu_is_unbound, LU_PRESERVE, -EINVAL,
	  "the file is not bound to an iommufd",
	  "bind it (VFIO_DEVICE_BIND_IOMMUFD) first" },
	{ lu_is_removed, LU_PRESERVE | LU_FREEZE, -ENODEV,
	  "it is being unbound from its driver",
	  "close its session and its files, or the unbind waits for ever" },
	{ lu_is_asleep, LU_PRESERVE | LU_FREEZE, -EBUSY,
	  "its user has put it in a low power state",
	  "wake it up first" },
	{ lu_can_migrate, LU_PRESERVE, -EOPNOTSUPP,
	  "its driver migrates it, and knows more of it than can be handed over",
	  "bind it to vfio-pci" },
	{ lu_has_regions, LU_PRESERVE, -EOPNOTSUPP,
	  "it has regions of its own kind, which are not handed over",
	  "none, this device cannot be preserved" },
	{ lu_has_dmabufs, LU_PRESERVE | LU_FREEZE, -EBUSY,
	  "its memory has been exported as a dma-buf",
	  "close that first" },
	{ lu_has_loud_intx, LU_PRESERVE | LU_FREEZE, -EBUSY,
	  "its user has INTx armed, and the device cannot be kept from asserting it",
	  "disarm it (VFIO_DEVICE_SET_IRQS), or use MSI" },
};

static int lu_refuse(struct vfio_pci_core_device *vdev, struct file *file,
		     enum lu_when when)
{
	for (int i = 0; i < ARRAY_SIZE(lu_refusals); i++) {
		if (!(lu_refusals[i].when & when) ||
		    !lu_refusals[i].test(vdev, file))
			continue;
		/* By tenants, as often as they like */
		dev_err_ratelimited(&vdev->pdev->dev, "cannot be %s: %s; %s\n",
				    when == LU_PRESERVE ? "preserved" : "handed over",
				    lu_refusals[i].reason, lu_refusals[i].remedy);
		return lu_refusals[i].errno;
	}
	return 0;
}

static bool vfio_pci_lu_can_preserve(struct liveupdate_file_handler *handler,
				     struct file *file)
{
	struct vfio_device *device = vfio_device_from_file(file);

	/* Drivers that build on vfio-pci-core have state of their own */
	return device && lu_is_ours(device->dev);
}

/* Two files of one device must not both be preserved */
static unsigned long vfio_pci_lu_get_id(struct file *file)
{
	return (unsigned long)vfio_device_from_file(file);
}

/*
 * Memory for the version that is handed over in the end: it may turn out to be newer
 * than what is to be expected now, but not older.
 */
static size_t lu_room(struct vfio_pci_core_device *vdev, u32 version)
{
	size_t room = vfio_pci_liveupdate_room(vdev);

	return version == VFIO_PCI_LIVEUPDATE_ABI_V1 ?
	       max(room, sizeof(struct vfio_pci_liveupdate_v1_ser)) : room;
}

/* The version that goes with that of the PCI core's records */
static u32 lu_abi(u32 pci)
{
	return pci >= PCI_LIVEUPDATE_ABI_V2 ? VFIO_PCI_LIVEUPDATE_ABI_V2 :
					      VFIO_PCI_LIVEUPDATE_ABI_V1;
}

/* For a device that is open: until then VFIO has not looked at it */
static struct vfio_pci_liveupdate_ser *lu_describe(struct vfio_pci_core_device *vdev)
{
	u32 version = lu_abi(pci_liveupdate_abi_pin());
	size_t room = lu_room(vdev, version);
	struct vfio_pci_liveupdate_ser *ser;

	ser = kho_alloc_preserve(room);
	if (IS_ERR(ser)) {
		dev_err_ratelimited(&vdev->pdev->dev, "cannot be preserved: no memory to hand over\n");
		return ser;
	}

	ser->version = version;
	ser->size = room;
	ser->domain = pci_domain_nr(vdev->pdev->bus);
	ser->bdf = pci_dev_id(vdev->pdev);
	if (vdev->vdev.noiommu)
		ser->flags |= VFIO_PCI_LIVEUPDATE_F_NOIOMMU;
	if (vdev->reset_works)
		ser->flags |= VFIO_PCI_LIVEUPDATE_F_RESET_WORKS;
	return ser;
}

/* Folios come in a row, and mostly from one file */
struct lu_leaves {
	const struct liveupdate_file_op_args *args;
	const struct address_space *known;
	unsigned long valid;		/* a part of memory that is there, as pfn_valid() has it */
};

#define LU_LEAVES_INIT(_args)	{ .args = (_args), .valid = ULONG_MAX }

static const char lu_not_memory[] = "it may access what is not memory; unmap that";

static bool lu_is_memory(struct lu_leaves *leaves, unsigned long pfn)
{
	unsigned long part = ALIGN_DOWN(pfn, PAGES_PER_SUBSECTION);

	if (part == leaves->valid)
		return true;
	if (!pfn_valid(pfn))
		return false;
	leaves->valid = part;
	return true;
}

/* Behind this page and the rest of its folio */
static unsigned long lu_behind(const struct folio *folio, unsigned long pfn)
{
	return folio_test_large(folio) ? folio_pfn(folio) + folio_nr_pages(folio) : pfn + 1;
}

/* What a folio belonged to when it was looked at is not freed meanwhile */
static const struct address_space *lu_memfd_of(struct folio *folio)
{
	const struct address_space *mapping;

	guard(rcu)();
	mapping = READ_ONCE(folio->mapping);
	return mapping && !folio_test_anon(folio) && shmem_mapping(mapping) ? mapping : NULL;
}

/*
 * Could this be in the session of the device when the kexec begins? Memory that is in no
 * memfd, or was punched out of one and is mapped still, cannot, and is known as early as
 * this. That the file belongs to the session is asked when nobody can add it any more.
 */
static const char *lu_leaf_could_be(void *data, phys_addr_t start, size_t size)
{
	unsigned long pfn = PHYS_PFN(start), end = PHYS_PFN(start + size);
	struct lu_leaves *leaves = data;

	while (pfn < end) {
		const struct address_space *mapping;
		struct folio *folio;

		if (!lu_is_memory(leaves, pfn))
			return lu_not_memory;
		folio = pfn_folio(pfn);
		mapping = READ_ONCE(folio->mapping);
		if (!mapping || mapping != leaves->known)
			leaves->known = lu_memfd_of(folio);
		if (!leaves->known)
			return "not all of its memory is that of memfds; map no other";
		pfn = lu_behind(folio, pfn);
	}
	return NULL;
}

/* Behind an IOMMU: can DMA go on with the page table that the user has made? */
static const char *lu_why_not_translated(struct vfio_pci_core_device *vdev, struct file *file)
{
	struct lu_leaves leaves = LU_LEAVES_INIT(NULL);
	const struct iommu_liveupdate_check check = { .leaf = lu_leaf_could_be, .data = &leaves };

	if (vdev->vdev.noiommu || vfio_file_cdev_bound(file))
		return "an IOMMU translates for it";
	return iommufd_device_freeze_refusal(vdev->vdev.iommufd_device, &check);
}

static int vfio_pci_lu_preserve(struct liveupdate_file_op_args *args)
{
	struct vfio_pci_core_device *vdev = lu_file_vdev(args->file);
	struct vfio_pci_liveupdate_ser *ser;
	const char *why_not;
	int err;

	/* Its locks are held by those who wait for memory_lock in a page fault */
	why_not = lu_why_not_translated(vdev, args->file);

	/*
	 * What the user does to the device, a reset above all, waits until it has
	 * been described. The PCI core says itself what it does not like.
	 */
	guard(rwsem_read)(&vdev->memory_lock);
	err = lu_refuse(vdev, args->file, LU_PRESERVE);
	if (err)
		return err;
	ser = lu_describe(vdev);
	if (IS_ERR(ser))
		return PTR_ERR(ser);
	err = pci_liveupdate_preserve_translated(vdev->pdev, why_not);
	if (err) {
		kho_unpreserve_free(ser);
		return err;
	}

	args->serialized_data = virt_to_phys(ser);
	return 0;
}

static void vfio_pci_lu_unpreserve(struct liveupdate_file_op_args *args)
{
	pci_liveupdate_unpreserve(lu_file_vdev(args->file)->pdev);
	kho_unpreserve_free(phys_to_virt(args->serialized_data));
}

/* Return: whether somebody wanted INTx unmasked meanwhile */
static bool lu_set_frozen(struct vfio_pci_core_device *vdev, bool frozen)
{
	bool unmask;

	guard(rwsem_write)(&vdev->lu_gate);
	guard(spinlock_irq)(&vdev->irqlock);

	WRITE_ONCE(vdev->lu_frozen, frozen);
	unmask = vdev->lu_unmask;
	vdev->lu_unmask = false;
	return unmask;
}

static void lu_thaw(struct vfio_pci_core_device *vdev)
{
	if (lu_set_frozen(vdev, false))
		vfio_pci_intx_unmask(vdev);
}

/*
 * Memory that the device may write to must be there in the next kernel: it is in a file
 * that is preserved in the same session. What has been punched out of one, or truncated,
 * belongs to no file, but is mapped still.
 */
static const char *lu_leaf(void *data, phys_addr_t start, size_t size)
{
	unsigned long pfn = PHYS_PFN(start), end = PHYS_PFN(start + size);
	struct lu_leaves *leaves = data;

	if (pci_liveupdate_leaves_out(PCI_LIVEUPDATE_LEAVES))
		return NULL;
	while (pfn < end) {
		const struct address_space *mapping;
		struct folio *folio;

		if (!lu_is_memory(leaves, pfn))
			return lu_not_memory;
		folio = pfn_folio(pfn);
		mapping = READ_ONCE(folio->mapping);
		if (!mapping || (mapping != leaves->known &&
				 !liveupdate_has_mapping(leaves->args, mapping)))
			return "not all of its memory is in memfds of its session; preserve that";
		leaves->known = mapping;
		pfn = lu_behind(folio, pfn);
	}
	return NULL;
}

static int lu_freeze_domain(struct vfio_pci_core_device *vdev,
			    const struct liveupdate_file_op_args *args)
{
	struct lu_leaves leaves = LU_LEAVES_INIT(args);
	const struct iommu_liveupdate_check check = { .leaf = lu_leaf, .data = &leaves };
	struct mutex *lock = &vdev->vdev.dev_set->lock;
	struct pci_liveupdate_iommu_ser domain;
	const char *why;
	bool locked;
	int err;

	if (vdev->vdev.noiommu ||
	    pci_liveupdate_dma(vdev->pdev) != PCI_LIVEUPDATE_DMA_TRANSLATED)
		return 0;
	/*
	 * Who attaches may detach again, because of a fault, and cannot be kept from that.
	 * How long a fault takes is up to user space: nobody waits for it to the end.
	 */
	if (read_poll_timeout(mutex_trylock, locked, locked, 10 * USEC_PER_MSEC, USEC_PER_SEC,
			      false, lock)) {
		dev_err_ratelimited(&vdev->pdev->dev, "cannot be handed over: a page table is being attached\n");
		return -EBUSY;
	}
	err = iommufd_device_freeze(vdev->vdev.iommufd_device, &check, &domain, &why);
	mutex_unlock(lock);
	if (err)
		dev_err_ratelimited(&vdev->pdev->dev, "cannot be handed over: %s\n", why);
	else
		pci_liveupdate_set_domain(vdev->pdev, &domain);
	return err;
}

static int vfio_pci_lu_freeze(struct liveupdate_file_op_args *args)
{
	struct vfio_pci_core_device *vdev = lu_file_vdev(args->file);
	int err;

	/* Before igate, which a config write under way may need */
	lu_set_frozen(vdev, true);

	scoped_guard(mutex, &vdev->igate) {
		scoped_guard(rwsem_write, &vdev->memory_lock)
			err = lu_refuse(vdev, args->file, LU_FREEZE);
		if (!err)
			err = vfio_pci_liveupdate_hold_irqs(vdev);
	}
	if (err)
		goto thaw;

	err = lu_freeze_domain(vdev, args);
	if (!err)
		return 0;
	scoped_guard(mutex, &vdev->igate)
		vfio_pci_liveupdate_release_irqs(vdev);
thaw:
	lu_thaw(vdev);
	return err;
}

static void vfio_pci_lu_settle(struct liveupdate_file_op_args *args)
{
	struct vfio_pci_liveupdate_ser *ser = phys_to_virt(args->serialized_data);
	struct vfio_pci_core_device *vdev = lu_file_vdev(args->file);
	size_t room = lu_room(vdev, ser->version);

	guard(mutex)(&vdev->igate);

	pci_liveupdate_settle_irqs(vdev->pdev, vdev->lu_held);
	ser->version = lu_abi(pci_liveupdate_abi());
	vfio_pci_liveupdate_save(vdev, ser, room);
}

static void vfio_pci_lu_unfreeze(struct liveupdate_file_op_args *args)
{
	struct vfio_pci_core_device *vdev = lu_file_vdev(args->file);

	if (!vdev->vdev.noiommu)
		iommufd_device_unfreeze(vdev->vdev.iommufd_device);

	/* While nobody can change what is armed */
	scoped_guard(mutex, &vdev->igate)
		vfio_pci_liveupdate_release_irqs(vdev);
	lu_thaw(vdev);
}

/*
 * The handed-over structure. It was written by another kernel, so nothing in it
 * is believed. NULL if it makes no sense.
 */
static struct vfio_pci_liveupdate_ser *lu_ser(struct liveupdate_file_op_args *args)
{
	struct vfio_pci_liveupdate_parts parts;
	struct vfio_pci_liveupdate_ser *ser;

	if (!args->serialized_data || !PAGE_ALIGNED(args->serialized_data) ||
	    !pfn_valid(PHYS_PFN(args->serialized_data)))
		return NULL;

	ser = phys_to_virt(args->serialized_data);
	return vfio_pci_liveupdate_parse(ser, &parts) ? ser : NULL;
}

static struct pci_dev *lu_find(const struct vfio_pci_liveupdate_ser *ser)
{
	return pci_liveupdate_find(ser->domain, ser->bdf);
}

/* What the next open of the device goes by */
static void lu_set_ser(struct vfio_pci_core_device *vdev,
		       struct vfio_pci_liveupdate_ser *ser)
{
	guard(mutex)(&vdev->vdev.dev_set->lock);
	vdev->lu_ser = ser;
}

/* Called with the device locked: it is bound to us, or will not be meanwhile */
static struct file *lu_retrieve_locked(struct pci_dev *pdev,
				       struct vfio_pci_liveupdate_ser *ser)
{
	bool noiommu = ser->flags & VFIO_PCI_LIVEUPDATE_F_NOIOMMU;
	struct vfio_pci_core_device *vdev;
	struct file *file;

	if (!lu_is_ours(&pdev->dev)) {
		pci_notice_ratelimited(pdev, "cannot be retrieved yet: bind it to vfio-pci (driver_override), then retrieve again%s\n",
				       noiommu ? " (needs vfio.enable_unsafe_noiommu_mode=1)" : "");
		return ERR_PTR(-EAGAIN);
	}
	vdev = dev_get_drvdata(&pdev->dev);

	/*
	 * Its addresses are physical in one mode and the IOMMU's in the other.
	 * A bind to the iommufd would put the wrong meaning on those in use.
	 */
	if (vdev->vdev.noiommu != noiommu) {
		dev_err_ratelimited(&pdev->dev, "cannot be retrieved: it was preserved %s an IOMMU and is now %s one; use the same IOMMU options in both kernels\n",
				    noiommu ? "without" : "with", noiommu ? "with" : "without");
		return ERR_PTR(-EOPNOTSUPP);
	}

	file = vfio_device_cdev_getfile(&vdev->vdev);
	if (IS_ERR(file))
		pci_notice_ratelimited(pdev, "cannot be retrieved: %s\n",
				       PTR_ERR(file) == -EPERM ?
				       "no right to open it: CAP_SYS_RAWIO, or its cgroup" :
				       "no memory, or it is being unbound");
	else
		lu_set_ser(vdev, ser);
	if (!IS_ERR(file) && !pci_msi_enabled() &&
	    (ser->irq_type == VFIO_PCI_MSI_IRQ_INDEX || ser->irq_type == VFIO_PCI_MSIX_IRQ_INDEX))
		dev_warn_ratelimited(&pdev->dev, "its interrupts cannot be armed: MSI is off in this kernel (pci=nomsi), and without a reset it sends no INTx\n");
	return file;
}

static int vfio_pci_lu_retrieve(struct liveupdate_file_op_args *args)
{
	struct vfio_pci_liveupdate_ser *ser = lu_ser(args);
	struct file *file;

	if (!ser) {
		pr_err_ratelimited("a preserved device cannot be retrieved: what was handed over makes no sense; the next kernel must read the version that the last one writes\n");
		return -EINVAL;
	}

	struct pci_dev *pdev __free(pci_dev_put) = lu_find(ser);

	if (!pdev && pci_liveupdate_may_come(ser->domain, ser->bdf)) {
		pr_notice_ratelimited("%04x:%02x:%02x.%d cannot be retrieved yet: its host bridge has not been scanned; retrieve again\n",
				      ser->domain, PCI_BUS_NUM(ser->bdf),
				      PCI_SLOT(ser->bdf), PCI_FUNC(ser->bdf));
		return -EAGAIN;
	}
	if (!pdev || !pci_liveupdate_is_incoming(pdev)) {
		pr_err_ratelimited("%04x:%02x:%02x.%d cannot be retrieved: it is gone, or another device is in its place\n",
				   ser->domain, PCI_BUS_NUM(ser->bdf), PCI_SLOT(ser->bdf),
				   PCI_FUNC(ser->bdf));
		return -ENODEV;
	}

	if (!device_trylock(&pdev->dev)) {
		pci_notice_ratelimited(pdev, "cannot be retrieved yet: it is being bound, unbound or reset; retrieve again\n");
		return -EAGAIN;
	}
	file = lu_retrieve_locked(pdev, ser);
	device_unlock(&pdev->dev);
	if (IS_ERR(file))
		return PTR_ERR(file);

	args->file = file;
	return 0;
}

/* For all who ask after the first */
static int vfio_pci_lu_may_retrieve(struct liveupdate_file_op_args *args)
{
	return vfio_device_cdev_may_open(vfio_device_from_file(args->file));
}

/*
 * Without the structure nobody knows which device to stop. Its memory must not be
 * freed while it may be running.
 */
static bool vfio_pci_lu_can_finish(struct liveupdate_file_op_args *args)
{
	const struct vfio_pci_liveupdate_ser *ser = lu_ser(args);

	if (!ser) {
		pr_err("a preserved device cannot be stopped: what was handed over makes no sense; its session stays until the next reboot\n");
		return false;
	}
	return !pci_liveupdate_can_stop(ser->domain, ser->bdf);
}

/* Why a device must be stopped before memory goes, NULL if it may go on */
static const char *lu_stop_reason(struct liveupdate_file_op_args *args)
{
	struct vfio_device *device;

	if (args->retrieve_status <= 0)
		return "it was not retrieved";
	if (args->discard)
		return "not all of its session was retrieved";

	device = vfio_device_from_file(args->file);
	guard(mutex)(&device->dev_set->lock);
	if (!device->iommufd_attached)
		return "it is not attached to an IOAS";
	if (!iommufd_device_has_mapping(device->iommufd_device))
		return "nothing is mapped in its IOAS";
	return NULL;
}

static void lu_reset(struct pci_dev *pdev)
{
	struct vfio_pci_core_device *vdev = NULL;
	bool locked;

	/*
	 * An unbind that waits for this very file has the lock and will keep
	 * it. All that memory needs is that DMA has ended.
	 */
	if (read_poll_timeout(device_trylock, locked, locked, 10 * USEC_PER_MSEC,
			      USEC_PER_SEC, false, &pdev->dev)) {
		pci_warn(pdev, "stopped, but not reset: it is being bound or unbound\n");
		return;
	}

	/* Nobody may access the device while it is in reset */
	if (lu_is_ours(&pdev->dev)) {
		vdev = dev_get_drvdata(&pdev->dev);
		vfio_pci_zap_and_down_write_memory_lock(vdev);
	}
	/* It says how it went */
	pci_liveupdate_reset(pdev);
	if (vdev)
		up_write(&vdev->memory_lock);
	device_unlock(&pdev->dev);
}

static int vfio_pci_lu_quiesce(struct liveupdate_file_op_args *args)
{
	const struct vfio_pci_liveupdate_ser *ser = lu_ser(args);
	const char *reason = lu_stop_reason(args);
	int err;

	if (!reason)
		return 0;

	struct pci_dev *pdev __free(pci_dev_put) = lu_find(ser);

	if (pdev)
		pci_warn(pdev, "is stopped: %s\n", reason);
	/* Whatever it is that is there, and whether or not it can be retrieved */
	err = pci_liveupdate_stop(ser->domain, ser->bdf);
	if (!err)
		args->private_data = no_free_ptr(pdev);
	return err;
}

static void vfio_pci_lu_quiesced(struct liveupdate_file_op_args *args)
{
	struct pci_dev *pdev __free(pci_dev_put) = args->private_data;

	args->private_data = NULL;
	if (pdev)
		lu_reset(pdev);
}

static void vfio_pci_lu_finish(struct liveupdate_file_op_args *args)
{
	struct vfio_pci_liveupdate_ser *ser = lu_ser(args);

	if (args->retrieve_status > 0)
		lu_set_ser(lu_file_vdev(args->file), NULL);
	pci_liveupdate_finish(ser->domain, ser->bdf);
	/* Not earlier: a retrieve that failed for now reads it again */
	kho_restore_free(ser);
}

static const struct liveupdate_file_ops vfio_pci_lu_ops = {
	.can_preserve	= vfio_pci_lu_can_preserve,
	.preserve	= vfio_pci_lu_preserve,
	.unpreserve	= vfio_pci_lu_unpreserve,
	.freeze		= vfio_pci_lu_freeze,
	.settle		= vfio_pci_lu_settle,
	.unfreeze	= vfio_pci_lu_unfreeze,
	.retrieve	= vfio_pci_lu_retrieve,
	.may_retrieve	= vfio_pci_lu_may_retrieve,
	.can_finish	= vfio_pci_lu_can_finish,
	.quiesce	= vfio_pci_lu_quiesce,
	.quiesced	= vfio_pci_lu_quiesced,
	.finish		= vfio_pci_lu_finish,
	.get_id		= vfio_pci_lu_get_id,
	.owner		= THIS_MODULE,
};

static struct liveupdate_file_handler vfio_pci_lu_handler = {
	.ops		= &vfio_pci_lu_ops,
	.compatible	= VFIO_PCI_LIVEUPDATE_COMPATIBLE,
};

/**
 * vfio_pci_liveupdate_init - make vfio-pci known to LUO
 * @driver: vfio-pci, registered
 *
 * vfio-pci works without Live Update, so a failure is logged and no more.
 *
 * Context: module initialisation.
 */
void vfio_pci_liveupdate_init(struct pci_driver *driver)
{
	int err;

	vfio_pci_lu_driver = driver;
	err = liveupdate_register_file_handler(&vfio_pci_lu_handler);
	if (!err) {
		err = pci_liveupdate_register_flb(&vfio_pci_lu_handler);
		if (!err)
			return;
		liveupdate_unregister_file_handler(&vfio_pci_lu_handler);
	}

	vfio_pci_lu_driver = NULL;
	/* Without liveupdate=on there is nothing to say */
	if (err != -EOPNOTSUPP)
		pr_err("devices cannot be preserved or retrieved: %pe\n", ERR_PTR(err));
}

/**
 * vfio_pci_liveupdate_exit - undo vfio_pci_liveupdate_init()
 *
 * LUO holds a reference on the module for every file that it knows to be of this
 * handler, so there is none when this runs: in the outgoing kernel from preserve
 * on, in the incoming one from the first open of /dev/liveupdate or, if the
 * module came later, from when the session is retrieved. No file has been
 * retrieved before that, and retrieving the session loads the module again.
 *
 * Context: module exit.
 */
void vfio_pci_liveupdate_exit(void)
{
	if (!vfio_pci_lu_driver)
		return;
	pci_liveupdate_unregister_flb(&vfio_pci_lu_handler);
	liveupdate_unregister_file_handler(&vfio_pci_lu_handler);
	vfio_pci_lu_driver = NULL;
}

MODULE_IMPORT_NS("IOMMUFD");
MODULE_ALIAS_LIVEUPDATE_FILE(VFIO_PCI_LIVEUPDATE_COMPATIBLE);
