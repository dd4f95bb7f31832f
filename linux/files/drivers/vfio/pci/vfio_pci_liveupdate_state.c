// SPDX-License-Identifier: GPL-2.0
/*
 * vfio-pci under the Live Update Orchestrator: what VFIO knows about a device,
 * from the freeze of its file to the next open.
 *
 * This is a part of vfio-pci-core, where that knowledge is; who asks for it, and
 * when, is in vfio_pci_liveupdate.c.
 */

#define dev_fmt(fmt) "Live Update: " fmt

#include <linux/bitmap.h>
#include <linux/cleanup.h>
#include <linux/eventfd.h>
#include <linux/interrupt.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/vfio.h>

#include "vfio_pci_liveupdate.h"
#include "vfio_pci_priv.h"

static bool lu_is_msi(struct vfio_pci_core_device *vdev)
{
	return vdev->irq_type == VFIO_PCI_MSI_IRQ_INDEX ||
	       vdev->irq_type == VFIO_PCI_MSIX_IRQ_INDEX;
}

/*
 * INTx is a level: the device asserts it until it is served, in either kernel. One without
 * a pin has none (PCIe r6.0, sec 7.5.1.2.3), as no Virtual Function has.
 */
static void lu_mask_intx(struct vfio_pci_core_device *vdev)
{
	u16 cmd;

	scoped_guard(spinlock_irq, &vdev->irqlock) {
		vdev->lu_intx = false;
		/* With MSI enabled there is none (and some devices want it enabled) */
		if (!vdev->pci_2_3 || !vdev->pdev->pin ||
		    (lu_is_msi(vdev) && vdev->lu_held != PCI_LIVEUPDATE_IRQS_OFF))
			return;
		pci_read_config_word(vdev->pdev, PCI_COMMAND, &cmd);
		vdev->lu_intx = !(cmd & PCI_COMMAND_INTX_DISABLE);
		pci_intx(vdev->pdev, 0);
	}
	if (vdev->irq_type == VFIO_PCI_INTX_IRQ_INDEX)
		synchronize_irq(vdev->pdev->irq);
}

/* A handler may have masked it for good in the meantime */
static void lu_unmask_intx(struct vfio_pci_core_device *vdev)
{
	struct vfio_pci_irq_ctx *ctx = NULL;

	guard(spinlock_irq)(&vdev->irqlock);

	if (vdev->irq_type == VFIO_PCI_INTX_IRQ_INDEX)
		ctx = xa_load(&vdev->ctx, 0);
	if (vdev->lu_intx && !(ctx && ctx->masked))
		pci_intx(vdev->pdev, 1);
}

/* KVM injects without this kernel: back to the eventfd, which can be asked */
static void lu_bypass(struct vfio_pci_core_device *vdev, bool on)
{
	struct vfio_pci_irq_ctx *ctx;
	unsigned long vector;

	if (!lu_is_msi(vdev))
		return;
	xa_for_each(&vdev->ctx, vector, ctx) {
		if (!on)
			irq_bypass_unregister_producer(&ctx->producer);
		else if (irq_bypass_register_producer(&ctx->producer, ctx->trigger,
						      pci_irq_vector(vdev->pdev, vector)))
			pci_info(vdev->pdev, "vector %lu goes through the host from now on\n",
				 vector);
	}
}

/**
 * vfio_pci_liveupdate_hold_irqs - stop interrupts for the kexec
 * @vdev: frozen device
 *
 * What the device wants to say from here on stays in it. What it has said before
 * reaches the eventfds until pci_liveupdate_settle_irqs() returns.
 *
 * Context: process context. @vdev's igate is held.
 * Return: 0, or see pci_liveupdate_hold_irqs().
 */
int vfio_pci_liveupdate_hold_irqs(struct vfio_pci_core_device *vdev)
{
	int held;

	lockdep_assert_held(&vdev->igate);

	lu_bypass(vdev, false);
	held = pci_liveupdate_hold_irqs(vdev->pdev);
	if (held < 0) {
		lu_bypass(vdev, true);
		return held;
	}
	vdev->lu_held = held;
	lu_mask_intx(vdev);
	return 0;
}
EXPORT_SYMBOL_GPL(vfio_pci_liveupdate_hold_irqs);

/**
 * vfio_pci_liveupdate_release_irqs - undo vfio_pci_liveupdate_hold_irqs()
 * @vdev: device that is frozen no longer
 *
 * Context: process context. @vdev's igate is held.
 */
void vfio_pci_liveupdate_release_irqs(struct vfio_pci_core_device *vdev)
{
	struct vfio_pci_irq_ctx *ctx;
	unsigned long vector;

	lockdep_assert_held(&vdev->igate);

	lu_unmask_intx(vdev);
	pci_liveupdate_release_irqs(vdev->pdev, vdev->lu_held);
	lu_bypass(vdev, true);

	/* Nobody can tell what it wanted to say while MSI was off */
	if (vdev->lu_held == PCI_LIVEUPDATE_IRQS_OFF)
		xa_for_each(&vdev->ctx, vector, ctx)
			eventfd_signal(ctx->trigger);
	vdev->lu_held = PCI_LIVEUPDATE_IRQS_NONE;
}
EXPORT_SYMBOL_GPL(vfio_pci_liveupdate_release_irqs);

/*
 * There is no way to only look at an eventfd: what it counted is taken and it is
 * signalled again. Several signals become one if the kexec is called off, as they
 * do for whoever reads late.
 */
static bool lu_signalled(struct eventfd_ctx *trigger)
{
	wait_queue_entry_t nobody = { .entry = LIST_HEAD_INIT(nobody.entry) };
	u64 count;

	if (eventfd_ctx_remove_wait_queue(trigger, &nobody, &count))
		return false;
	eventfd_signal(trigger);
	return true;
}

/* What the kernel before said, and nobody has armed an eventfd for since: said again */
static void lu_save_untold(struct vfio_pci_core_device *vdev,
			   const struct vfio_pci_liveupdate_parts *parts)
{
	unsigned int vector;

	for_each_set_bit(vector, vdev->lu_signalled, parts->nr_vectors) {
		parts->armed[vector / 64] |= BIT_ULL(vector % 64);
		parts->signalled[vector / 64] |= BIT_ULL(vector % 64);
	}
}

static void lu_save_irqs(struct vfio_pci_core_device *vdev,
			 struct vfio_pci_liveupdate_ser *ser,
			 const struct vfio_pci_liveupdate_parts *parts)
{
	struct vfio_pci_irq_ctx *ctx;
	unsigned long vector;

	/* None yet, in this kernel: what there was in the one before */
	ser->irq_type = vdev->irq_type == VFIO_PCI_NUM_IRQS ? vdev->lu_irq_type : vdev->irq_type;
	if (ser->irq_type == VFIO_PCI_LIVEUPDATE_IRQ_NONE)
		return;
	if (ser->irq_type == vdev->lu_irq_type)
		lu_save_untold(vdev, parts);

	xa_for_each(&vdev->ctx, vector, ctx) {
		if (!ctx->trigger || vector >= parts->nr_vectors)
			continue;
		parts->armed[vector / 64] |= BIT_ULL(vector % 64);
		if (lu_signalled(ctx->trigger))
			parts->signalled[vector / 64] |= BIT_ULL(vector % 64);
	}
	if (vdev->lu_held == PCI_LIVEUPDATE_IRQS_OFF)
		ser->flags |= VFIO_PCI_LIVEUPDATE_F_IRQS_OFF;
}

/* Of INTx, MSI (PCIe r6.0, sec 7.7.1: 32 at most) and MSI-X */
static unsigned int lu_nr_vectors(struct vfio_pci_core_device *vdev)
{
	return max(vdev->msix_size / PCI_MSIX_ENTRY_SIZE, 32);
}

static size_t lu_config_size(struct vfio_pci_core_device *vdev)
{
	return min(vdev->pdev->cfg_size, VFIO_PCI_LIVEUPDATE_CONFIG_SIZE);
}

/**
 * vfio_pci_liveupdate_room - how much memory does a device take, in version 2?
 * @vdev: open device
 *
 * Return: bytes. They do not change until it is closed.
 */
size_t vfio_pci_liveupdate_room(struct vfio_pci_core_device *vdev)
{
	return vfio_pci_liveupdate_size(vdev->pci_config_map, lu_config_size(vdev),
					lu_nr_vectors(vdev),
					vdev->pci_saved_state ?
					pci_liveupdate_state_size(vdev->pci_saved_state) : 0);
}
EXPORT_SYMBOL_GPL(vfio_pci_liveupdate_room);

/**
 * vfio_pci_liveupdate_save - write down what VFIO knows about a device
 * @vdev: frozen device, its interrupts held and handled
 * @ser: structure that is handed over, its head filled in and zero beyond
 * @room: bytes of memory there
 *
 * Context: process context. @vdev's igate is held, and nobody writes
 * configuration space.
 */
void vfio_pci_liveupdate_save(struct vfio_pci_core_device *vdev,
			      struct vfio_pci_liveupdate_ser *ser, size_t room)
{
	struct vfio_pci_liveupdate_parts parts;

	vfio_pci_liveupdate_begin(ser, room, vdev->vconfig, vdev->pci_config_map,
				  lu_config_size(vdev), lu_nr_vectors(vdev), &parts);
	lu_save_irqs(vdev, ser, &parts);

	if (vdev->pci_saved_state) {
		ser->state_size = pci_liveupdate_pack_state(vdev->pci_saved_state, parts.state,
							    parts.state_room);
		if (!ser->state_size)
			pci_warn(vdev->pdev, "what it is reset to when it is closed does not fit into version 1: the next kernel takes its registers for that; set pci_liveupdate.abi_oldest=%#x if it reads version 2\n",
				 PCI_LIVEUPDATE_ABI_V2);
	}

	if (vdev->vf_token) {
		guard(mutex)(&vdev->vf_token->lock);
		export_uuid(ser->vf_token, &vdev->vf_token->uuid);
		ser->flags |= VFIO_PCI_LIVEUPDATE_F_VF_TOKEN;
		/* Whoever binds it needs that earlier where there are Virtual Functions */
		pci_liveupdate_set_vf_token(vdev->pdev, &vdev->vf_token->uuid);
	}
	vfio_pci_liveupdate_end(ser, &parts);
}
EXPORT_SYMBOL_GPL(vfio_pci_liveupdate_save);

static void lu_restore_state(struct vfio_pci_core_device *vdev, const void *data, size_t size)
{
	struct pci_saved_state *state;

	if (!size)
		return;
	state = pci_liveupdate_unpack_state(vdev->pdev, data, size);
	if (IS_ERR(state)) {
		pci_notice(vdev->pdev, "what it is reset to when it is closed was not handed over (%pe): it will be what its registers are now\n",
			   state);
		return;
	}
	kfree(vdev->pci_saved_state);
	vdev->pci_saved_state = state;
}

/* Vectors whose eventfd has something to tell as soon as there is one */
static void lu_restore_irqs(struct vfio_pci_core_device *vdev,
			    const struct vfio_pci_liveupdate_ser *ser,
			    const struct vfio_pci_liveupdate_parts *parts)
{
	bool off = ser->flags & VFIO_PCI_LIVEUPDATE_F_IRQS_OFF;

	vdev->lu_irq_type = ser->irq_type;
	bitmap_zero(vdev->lu_signalled, VFIO_PCI_LIVEUPDATE_VECTORS);
	bitmap_from_arr64(vdev->lu_signalled, off ? parts->armed : parts->signalled,
			  parts->nr_vectors);
}

/**
 * vfio_pci_liveupdate_restore - make a device what its user last saw
 * @vdev: device that is being opened, set up by reading
 *
 * Does nothing unless the device has been retrieved and is not finished. Writes
 * nothing to the device.
 *
 * Context: process context, from open; the device set is locked.
 */
void vfio_pci_liveupdate_restore(struct vfio_pci_core_device *vdev)
{
	struct vfio_pci_liveupdate_ser *ser = vdev->lu_ser;
	struct vfio_pci_liveupdate_parts parts;

	lockdep_assert_held(&vdev->vdev.dev_set->lock);

	vdev->lu_irq_type = VFIO_PCI_LIVEUPDATE_IRQ_NONE;
	if (!ser || !vfio_pci_liveupdate_parse(ser, &parts))
		return;

	vfio_pci_liveupdate_load_config(ser, &parts, vdev->vconfig, vdev->pci_config_map,
					vdev->pdev->cfg_size);
	vdev->virq_disabled = le16_to_cpup((__le16 *)&vdev->vconfig[PCI_COMMAND]) &
			      PCI_COMMAND_INTX_DISABLE;
	lu_restore_state(vdev, parts.state, ser->state_size);
	lu_restore_irqs(vdev, ser, &parts);
	if (vdev->vf_token && ser->flags & VFIO_PCI_LIVEUPDATE_F_VF_TOKEN) {
		guard(mutex)(&vdev->vf_token->lock);
		import_uuid(&vdev->vf_token->uuid, ser->vf_token);
	}
}

/**
 * vfio_pci_liveupdate_rearmed - tell a new eventfd what the old one did not
 * @vdev: device
 * @vector: that the eventfd is for, which can be signalled from now on
 * @trigger: the eventfd
 *
 * Context: process context. @vdev's igate is held.
 */
void vfio_pci_liveupdate_rearmed(struct vfio_pci_core_device *vdev, unsigned int vector,
				 struct eventfd_ctx *trigger)
{
	lockdep_assert_held(&vdev->igate);

	if (vdev->irq_type == vdev->lu_irq_type && vector < VFIO_PCI_LIVEUPDATE_VECTORS &&
	    __test_and_clear_bit(vector, vdev->lu_signalled))
		eventfd_signal(trigger);
}
