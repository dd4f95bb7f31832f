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

/* INTx is a level: the device asserts it until it is served, in either kernel */
static void lu_mask_intx(struct vfio_pci_core_device *vdev)
{
	u16 cmd;

	scoped_guard(spinlock_irq, &vdev->irqlock) {
		vdev->lu_intx = false;
		/* With MSI enabled there is none (and some devices want it enabled) */
		if (!vdev->pci_2_3 ||
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

static void lu_save_irqs(struct vfio_pci_core_device *vdev,
			 struct vfio_pci_liveupdate_ser *ser)
{
	struct vfio_pci_irq_ctx *ctx;
	unsigned long vector;

	ser->irq_type = VFIO_PCI_LIVEUPDATE_IRQ_NONE;
	if (vdev->irq_type == VFIO_PCI_NUM_IRQS)
		return;

	ser->irq_type = vdev->irq_type;
	xa_for_each(&vdev->ctx, vector, ctx) {
		if (!ctx->trigger || vector >= VFIO_PCI_LIVEUPDATE_VECTORS)
			continue;
		ser->armed[vector / 64] |= BIT_ULL(vector % 64);
		if (eventfd_ctx_is_signalled(ctx->trigger))
			ser->signalled[vector / 64] |= BIT_ULL(vector % 64);
	}
	if (vdev->lu_held == PCI_LIVEUPDATE_IRQS_OFF)
		ser->flags |= VFIO_PCI_LIVEUPDATE_F_IRQS_OFF;
}

/**
 * vfio_pci_liveupdate_save - write down what VFIO knows about a device
 * @vdev: frozen device, its interrupts held and handled
 * @ser: structure that is handed over, its head filled in and zero beyond
 *
 * Context: process context. @vdev's igate is held, and nobody writes
 * configuration space.
 */
void vfio_pci_liveupdate_save(struct vfio_pci_core_device *vdev,
			      struct vfio_pci_liveupdate_ser *ser)
{
	size_t size = min(vdev->pdev->cfg_size, VFIO_PCI_LIVEUPDATE_CONFIG_SIZE);

	lu_save_irqs(vdev, ser);

	ser->config_size = size;
	memcpy(ser->vconfig, vdev->vconfig, size);
	memcpy(ser->config_map, vdev->pci_config_map, size);

	if (vdev->pci_saved_state)
		ser->state_size = pci_liveupdate_pack_state(vdev->pci_saved_state, ser->state,
							    sizeof(ser->state));

	if (vdev->vf_token) {
		guard(mutex)(&vdev->vf_token->lock);
		export_uuid(ser->vf_token, &vdev->vf_token->uuid);
		ser->flags |= VFIO_PCI_LIVEUPDATE_F_VF_TOKEN;
	}
}
EXPORT_SYMBOL_GPL(vfio_pci_liveupdate_save);

static void lu_restore_state(struct vfio_pci_core_device *vdev,
			     const struct vfio_pci_liveupdate_ser *ser)
{
	struct pci_saved_state *state;

	if (!ser->state_size)
		return;
	state = pci_liveupdate_unpack_state(vdev->pdev, ser->state, ser->state_size);
	if (IS_ERR(state)) {
		pci_notice(vdev->pdev, "what it is reset to when it is closed was not handed over (%pe): it will be what its registers are now\n",
			   state);
		return;
	}
	kfree(vdev->pci_saved_state);
	vdev->pci_saved_state = state;
}

/*
 * Bytes that this kernel takes for another capability's, or hides, stay as they
 * are, and so does the pin: whether INTx is wired up is for this kernel to say.
 */
static void lu_restore_config(struct vfio_pci_core_device *vdev,
			      const struct vfio_pci_liveupdate_ser *ser)
{
	int size = min(ser->config_size, vdev->pdev->cfg_size);

	for (int i = 0; i < size; i++)
		if (ser->config_map[i] == vdev->pci_config_map[i] && i != PCI_INTERRUPT_PIN)
			vdev->vconfig[i] = ser->vconfig[i];

	vdev->virq_disabled = le16_to_cpup((__le16 *)&vdev->vconfig[PCI_COMMAND]) &
			      PCI_COMMAND_INTX_DISABLE;
}

/* Vectors whose eventfd has something to tell as soon as there is one */
static void lu_restore_irqs(struct vfio_pci_core_device *vdev,
			    const struct vfio_pci_liveupdate_ser *ser)
{
	bool off = ser->flags & VFIO_PCI_LIVEUPDATE_F_IRQS_OFF;

	vdev->lu_irq_type = ser->irq_type;
	bitmap_from_arr64(vdev->lu_signalled, off ? ser->armed : ser->signalled,
			  VFIO_PCI_LIVEUPDATE_VECTORS);
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
	const struct vfio_pci_liveupdate_ser *ser = vdev->lu_ser;

	lockdep_assert_held(&vdev->vdev.dev_set->lock);

	vdev->lu_irq_type = VFIO_PCI_LIVEUPDATE_IRQ_NONE;
	if (!ser)
		return;

	lu_restore_config(vdev, ser);
	lu_restore_state(vdev, ser);
	lu_restore_irqs(vdev, ser);
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
