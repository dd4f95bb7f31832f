// SPDX-License-Identifier: GPL-2.0
/*
 * PCI Live Update: interrupts that are raised while the kernel is replaced.
 */

/**
 * DOC: Interrupts across the kexec
 *
 * An MSI is a write to an address that means something to one kernel only. A
 * device that goes on working must not send any while nobody listens, and must
 * not forget that it wanted to. Masks do both: a masked vector sets its pending
 * bit, and the message goes out when the next kernel has set up and unmasked
 * the vector (PCIe r6.0, sec 6.1.4.4).
 *
 * MSI-X
 *   stays enabled, with Function Mask set.
 *
 * MSI with Per-Vector Masking
 *   stays enabled, with all vectors masked.
 *
 * MSI without
 *   is turned off. What the device wants to send meanwhile is lost, so that
 *   whoever turns it on again has to look (see %PCI_LIVEUPDATE_IRQS_OFF).
 *
 * The incoming kernel leaves all of that as it is (see drivers/pci/msi/) until
 * the owner sets up interrupts.
 */

#define dev_fmt(fmt) "Live Update: " fmt

#include <linux/cpu.h>
#include <linux/interrupt.h>
#include <linux/irq.h>
#include <linux/msi.h>
#include <linux/stop_machine.h>

#include "../msi/msi.h"
#include "../pci.h"
#include "internal.h"

#include <trace/events/pci_liveupdate.h>

/* May messages of a held device wait at a CPU? Only LUO's freeze asks and tells. */
static bool lu_undrained;

static int lu_nothing(void *unused)
{
	return 0;
}

/*
 * Wait until all CPUs have taken what held devices have sent. A register of each
 * has been read, and messages do not overtake that; a thread that gets to run on
 * a CPU does so after the interrupts that wait there. A CPU's stopper does even
 * if a real-time task that never sleeps has the CPU.
 */
static void lu_drain_cpus(void)
{
	unsigned int cpu;

	if (!lu_undrained)
		return;

	guard(cpus_read_lock)();
	for_each_online_cpu(cpu)
		stop_one_cpu(cpu, lu_nothing, NULL);
	lu_undrained = false;
	trace_pci_liveupdate_drain(num_online_cpus());
}

static void lu_change_word(struct pci_dev *dev, int pos, u16 clear, u16 set)
{
	u16 val;

	pci_read_config_word(dev, pos, &val);
	pci_write_config_word(dev, pos, (val & ~clear) | set);
	pci_read_config_word(dev, pos, &val);
}

/*
 * Tell the core of it as well, which may otherwise unmask a vector when it moves
 * to another CPU. Not earlier: what arrives at a disabled interrupt is noted in
 * this kernel's memory alone.
 */
static void lu_disable_vectors(struct pci_dev *dev)
{
	struct msi_desc *desc;

	guard(msi_descs_lock)(&dev->dev);
	desc = msi_first_desc(&dev->dev, MSI_DESC_ALL);
	for (unsigned int irq = desc->irq; irq < desc->irq + desc->nvec_used; irq++) {
		if (!irq_has_action(irq))
			continue;
		irq_set_status_flags(irq, IRQ_DISABLE_UNLAZY);
		disable_irq_nosync(irq);
	}
}

/* Those that nobody has requested were masked before */
static void lu_unmask_vectors(struct pci_dev *dev)
{
	struct msi_desc *desc;

	guard(msi_descs_lock)(&dev->dev);
	desc = msi_first_desc(&dev->dev, MSI_DESC_ALL);
	for (int i = 0; i < desc->nvec_used; i++) {
		unsigned int irq = desc->irq + i;

		if (!irq_has_action(irq))
			continue;
		if (irqd_irq_disabled(irq_get_irq_data(irq))) {
			enable_irq(irq);
			irq_clear_status_flags(irq, IRQ_DISABLE_UNLAZY);
		}
		pci_msi_unmask(desc, BIT(i));
	}
}

static enum pci_liveupdate_irqs lu_mask(struct pci_dev *dev)
{
	struct msi_desc *desc;
	u32 mask;

	if (dev->msix_enabled) {
		lu_change_word(dev, dev->msix_cap + PCI_MSIX_FLAGS, 0, PCI_MSIX_FLAGS_MASKALL);
		return PCI_LIVEUPDATE_IRQS_MSIX_MASKED;
	}
	if (!dev->msi_enabled)
		return PCI_LIVEUPDATE_IRQS_NONE;

	guard(msi_descs_lock)(&dev->dev);
	desc = msi_first_desc(&dev->dev, MSI_DESC_ALL);
	if (!desc->pci.msi_attrib.can_mask) {
		lu_change_word(dev, dev->msi_cap + PCI_MSI_FLAGS, PCI_MSI_FLAGS_ENABLE, 0);
		return PCI_LIVEUPDATE_IRQS_OFF;
	}
	/* All that it has: the next kernel may find more of them in use */
	pci_msi_mask(desc, msi_multi_mask(desc));
	pci_read_config_dword(dev, desc->pci.mask_pos, &mask);
	return PCI_LIVEUPDATE_IRQS_MSI_MASKED;
}

/**
 * pci_liveupdate_hold_irqs - keep MSIs of a device in it until the next kernel
 * @dev: preserved device
 *
 * The device sends no more; what it has sent may be on its way until
 * pci_liveupdate_settle_irqs() returns. INTx is the driver's business, but with
 * MSI turned off, INTx Disable has to be set.
 *
 * Context: process context, from the freeze callback of a file handler; the
 * caller sees to it that nobody allocates or frees vectors of @dev meanwhile.
 * Return: what has been done, for pci_liveupdate_settle_irqs() or
 * pci_liveupdate_release_irqs(); or -EOPNOTSUPP, after a message, if the device
 * neither masks its messages nor can be kept from sending INTx instead.
 */
int pci_liveupdate_hold_irqs(struct pci_dev *dev)
{
	int held;

	if (pci_lu_break & PCI_LU_BREAK_IRQS)
		return PCI_LIVEUPDATE_IRQS_NONE;

	held = lu_mask(dev);
	if (held == PCI_LIVEUPDATE_IRQS_OFF &&
	    dev->dev_flags & PCI_DEV_FLAGS_MSI_INTX_DISABLE_BUG) {
		pci_err(dev, "cannot be handed over: its interrupts can neither be masked nor turned off; disarm them before the kexec\n");
		pci_liveupdate_release_irqs(dev, held);
		return -EOPNOTSUPP;
	}
	if (held != PCI_LIVEUPDATE_IRQS_NONE)
		lu_undrained = true;
	return held;
}
EXPORT_SYMBOL_GPL(pci_liveupdate_hold_irqs);

/**
 * pci_liveupdate_settle_irqs - wait until messages of a held device are handled
 * @dev: preserved device
 * @held: what pci_liveupdate_hold_irqs() returned
 *
 * The first call waits for all devices that are held, so hold them all first.
 *
 * Context: process context, from the settle callback of a file handler; the
 * caller sees to it that nobody allocates or frees vectors of @dev meanwhile.
 */
void pci_liveupdate_settle_irqs(struct pci_dev *dev, enum pci_liveupdate_irqs held)
{
	struct msi_desc *desc;

	if (held == PCI_LIVEUPDATE_IRQS_NONE)
		return;

	lu_drain_cpus();
	/* Threaded ones take longer */
	scoped_guard(msi_descs_lock, &dev->dev) {
		msi_for_each_desc(desc, &dev->dev, MSI_DESC_ASSOCIATED)
			for (int i = 0; i < desc->nvec_used; i++)
				synchronize_irq(desc->irq + i);
	}
	if (held == PCI_LIVEUPDATE_IRQS_MSI_MASKED)
		lu_disable_vectors(dev);
}
EXPORT_SYMBOL_GPL(pci_liveupdate_settle_irqs);

/**
 * pci_liveupdate_release_irqs - undo pci_liveupdate_hold_irqs()
 * @dev: preserved device
 * @held: what that returned
 *
 * What was raised meanwhile is delivered, unless @held is
 * %PCI_LIVEUPDATE_IRQS_OFF: then the caller has to look for it.
 *
 * Context: process context, from the unfreeze callback of a file handler.
 */
void pci_liveupdate_release_irqs(struct pci_dev *dev, enum pci_liveupdate_irqs held)
{
	switch (held) {
	case PCI_LIVEUPDATE_IRQS_MSIX_MASKED:
		lu_change_word(dev, dev->msix_cap + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_MASKALL, 0);
		break;
	case PCI_LIVEUPDATE_IRQS_OFF:
		lu_change_word(dev, dev->msi_cap + PCI_MSI_FLAGS, 0, PCI_MSI_FLAGS_ENABLE);
		break;
	case PCI_LIVEUPDATE_IRQS_MSI_MASKED:
		lu_unmask_vectors(dev);
		break;
	default:
		break;
	}
}
EXPORT_SYMBOL_GPL(pci_liveupdate_release_irqs);

/* Enabled and masked: as the previous kernel left it, and nobody since */
bool __pci_liveupdate_msi_is_held(struct pci_dev *dev, int type)
{
	static const u16 held = PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL;
	u16 ctrl;
	u32 mask, all;

	if (type == PCI_CAP_ID_MSIX) {
		pci_read_config_word(dev, dev->msix_cap + PCI_MSIX_FLAGS, &ctrl);
		return (ctrl & held) == held;
	}

	pci_read_config_word(dev, dev->msi_cap + PCI_MSI_FLAGS, &ctrl);
	if (!(ctrl & PCI_MSI_FLAGS_ENABLE) || !(ctrl & PCI_MSI_FLAGS_MASKBIT))
		return false;

	all = GENMASK((1 << FIELD_GET(PCI_MSI_FLAGS_QMASK, ctrl)) - 1, 0);
	pci_read_config_dword(dev, dev->msi_cap + (ctrl & PCI_MSI_FLAGS_64BIT ?
						   PCI_MSI_MASK_64 : PCI_MSI_MASK_32), &mask);
	return (mask & all) == all;
}
