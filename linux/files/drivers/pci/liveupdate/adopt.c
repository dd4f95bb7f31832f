// SPDX-License-Identifier: GPL-2.0
/*
 * PCI Live Update: what enumeration leaves as it is in adopted functions.
 */

/**
 * DOC: Adopted, not set up
 *
 * Enumeration sets functions up: it sizes BARs, tunes packet sizes, turns
 * interrupts off, and so on. In a function that the previous kernel preserved,
 * all of that has been done, and most of it hurts while the device is working. So
 * the PCI core branches before the first write: what follows for an adopted
 * function is in ``lu_capabilities``, and only reads. What is not in there, such
 * as a capability that Linux learns of next year, is left alone.
 *
 * An endpoint is not written to at all until its owner has it back. Of a bridge
 * above one only what concerns the way to the device is kept: bus numbers,
 * windows, routing, packet sizes, the link. Its errors, its hot-plug events and
 * its own interrupts are this kernel's, which sets them up as always. ``lu_kept``
 * says what is whose. A Physical Function above a preserved Virtual Function is an
 * endpoint, too: one that its owner does not have yet, if it has any.
 *
 * Some of it also holds in the outgoing kernel, from when a device is preserved:
 * devices that come later, by hot-plug or a rescan, are no reason to move it or
 * to tune what is in use.
 */

#define dev_fmt(fmt) "Live Update: " fmt

#include <linux/pm_runtime.h>
#include <linux/wait_bit.h>

#include "../pci.h"
#include "internal.h"

/* Of which functions something is kept */
#define LU_ENDPOINTS	BIT(0)
#define LU_BRIDGES	BIT(1)
#define LU_UNCLAIMED	BIT(2)	/* of an endpoint, not when the owner has it back */
#define LU_OUTGOING	BIT(3)	/* also when preserved for the next kernel */

static const u8 lu_kept[PCI_LU_KEEP_NR] = {
	[PCI_LU_KEEP_BARS]	= LU_ENDPOINTS | LU_BRIDGES | LU_UNCLAIMED,
	[PCI_LU_KEEP_WINDOWS]	= LU_BRIDGES,
	[PCI_LU_KEEP_ADDRESSES]	= LU_ENDPOINTS | LU_BRIDGES | LU_OUTGOING,
	[PCI_LU_KEEP_PAYLOAD]	= LU_ENDPOINTS | LU_BRIDGES | LU_OUTGOING,
	[PCI_LU_KEEP_REQUESTS]	= LU_ENDPOINTS | LU_BRIDGES | LU_OUTGOING,
	[PCI_LU_KEEP_LINK]	= LU_BRIDGES,
	[PCI_LU_KEEP_INTX]	= LU_ENDPOINTS | LU_BRIDGES | LU_UNCLAIMED,
	[PCI_LU_KEEP_MSI]	= LU_ENDPOINTS,
	[PCI_LU_KEEP_POWER]	= LU_ENDPOINTS | LU_BRIDGES,
	[PCI_LU_KEEP_ERRORS]	= LU_ENDPOINTS,
	[PCI_LU_KEEP_MAILBOX]	= LU_ENDPOINTS,
	[PCI_LU_KEEP_IOV]	= LU_ENDPOINTS,
	[PCI_LU_KEEP_VPD]	= LU_ENDPOINTS | LU_UNCLAIMED,
	[PCI_LU_KEEP_VGA]	= LU_ENDPOINTS | LU_BRIDGES | LU_OUTGOING,
	[PCI_LU_KEEP_TRANSLATION] = LU_ENDPOINTS,
	[PCI_LU_KEEP_STREAMS]	= LU_ENDPOINTS | LU_BRIDGES,
	[PCI_LU_KEEP_INTX_OFF]	= LU_ENDPOINTS | LU_BRIDGES,
	[PCI_LU_KEEP_ROUTING]	= LU_BRIDGES | LU_OUTGOING,
};

/**
 * pci_lu_changed - let everybody know what has become of a function
 * @dev: function whose &pci_dev.lu_flags have changed
 *
 * Context: process context, pci_lu_rwsem held for writing.
 */
void pci_lu_changed(struct pci_dev *dev)
{
	bool endpoint = dev->hdr_type == PCI_HEADER_TYPE_NORMAL;
	bool adopted = test_bit(PCI_LU_ADOPTED, &dev->lu_flags);
	bool claimed = test_bit(PCI_LU_CLAIMED, &dev->lu_flags);
	bool outgoing = test_bit(PCI_LU_OUTGOING, &dev->lu_flags);
	u32 keep = 0;

	assign_bit(PCI_LU_PF, &dev->lu_flags,
		   pci_lu_is_pf(dev->lu_outgoing) ||
		   (adopted && dev->lu_incoming && pci_lu_is_pf(dev->lu_incoming->rec)));
	for (int i = 0; i < PCI_LU_KEEP_NR; i++) {
		u8 scope = lu_kept[i];

		if (scope & (endpoint ? LU_ENDPOINTS : LU_BRIDGES) &&
		    (adopted || (outgoing && scope & LU_OUTGOING)) &&
		    !(endpoint && claimed && scope & LU_UNCLAIMED) &&
		    !(pci_lu_break & pci_lu_break_keep(i)))
			keep |= BIT(i);
	}
	if (pci_lu_break & PCI_LU_BREAK_ROUTING)
		keep &= ~BIT(PCI_LU_KEEP_ROUTING);
	WRITE_ONCE(dev->lu_keep, keep);
	/* For quirks that stop, or silence, what firmware may have left running */
	WRITE_ONCE(dev->adopted, adopted && !(pci_lu_break & PCI_LU_BREAK_REFUSALS));
	pci_lu_fix(dev);
	pci_lu_guard_update(dev);
	/* See pci_liveupdate_await_vfs() */
	smp_mb();
	wake_up_var(&dev->lu_flags);
}

bool __pci_liveupdate_keeps_path(struct pci_dev *dev, enum pci_lu_keep what)
{
	for (; dev; dev = pci_lu_up(dev))
		if (pci_lu_kept(dev) & BIT(what))
			return true;
	return false;
}

/**
 * pci_lu_read_ltr - is Latency Tolerance Reporting on all the way to a function?
 * @dev: incoming function, which is not configured: what it has stays
 */
void pci_lu_read_ltr(struct pci_dev *dev)
{
	struct pci_dev *bridge = pci_upstream_bridge(dev);
	u32 ctl;

	/* Only function 0 of a device has LTR to be enabled, which no Virtual Function is */
	if (dev->is_virtfn)
		return;

	/* LTR counts if it is on all the way (PCIe r6.0, sec 6.18); what is above comes first */
	pcie_capability_read_dword(dev, PCI_EXP_DEVCTL2, &ctl);
	if (ctl & PCI_EXP_DEVCTL2_LTR_EN &&
	    (pci_pcie_type(dev) == PCI_EXP_TYPE_ROOT_PORT || (bridge && bridge->ltr_path)))
		dev->ltr_path = 1;
}

static void lu_find_msi(struct pci_dev *dev)
{
	u16 ctrl;

	dev->msi_cap = pci_find_capability(dev, PCI_CAP_ID_MSI);
	if (!dev->msi_cap)
		return;
	pci_read_config_word(dev, dev->msi_cap + PCI_MSI_FLAGS, &ctrl);
	if (!(ctrl & PCI_MSI_FLAGS_64BIT))
		dev->msi_addr_mask = DMA_BIT_MASK(32);
}

static void lu_find_msix(struct pci_dev *dev)
{
	dev->msix_cap = pci_find_capability(dev, PCI_CAP_ID_MSIX);
}

static void lu_find_pm(struct pci_dev *dev)
{
	pci_pm_find(dev);
	pci_update_current_state(dev, PCI_D0);
	pm_runtime_forbid(&dev->dev);
	pm_runtime_set_active(&dev->dev);
}

static void lu_find_aer(struct pci_dev *dev)
{
	pci_aer_find(dev);
}

static void lu_init_iov(struct pci_dev *dev)
{
	pci_iov_init(dev);
}

/**
 * struct lu_capability - how a capability of an adopted function is dealt with
 * @adopt: reads what others need to know of it; NULL if it is left alone
 * @init: what the core does with it, NULL if that only reads and is @adopt
 * @what: if this is kept, @adopt is called, else @init
 * @late: @init is called once the function is given back
 */
struct lu_capability {
	void (*adopt)(struct pci_dev *dev);
	void (*init)(struct pci_dev *dev);
	enum pci_lu_keep what;
	bool late;
};

static const struct lu_capability lu_capabilities[] = {
	{ pci_ea_init },
	{ lu_find_msi, pci_msi_init, PCI_LU_KEEP_MSI },
	{ lu_find_msix, pci_msix_init, PCI_LU_KEEP_MSI },
	{ pci_allocate_cap_save_buffers },
	{ pci_imm_ready_init },
	{ lu_find_pm, pci_pm_init, PCI_LU_KEEP_POWER },
	{ pci_vpd_init },
	{ pci_lu_read_ari },
	{ pci_configure_ari },
	{ pci_lu_adopt_iov, lu_init_iov, PCI_LU_KEEP_IOV },
	{ NULL, pci_ats_init, PCI_LU_KEEP_TRANSLATION },
	{ NULL, pci_pri_init, PCI_LU_KEEP_TRANSLATION },
	{ NULL, pci_pasid_init, PCI_LU_KEEP_TRANSLATION },
	{ pci_acs_init },
	{ pci_lu_read_acs },
	{ pci_ptm_init },
	{ lu_find_aer, pci_aer_init, PCI_LU_KEEP_ERRORS, true },
	{ pci_dpc_init },
	{ pci_rcec_init },
	{ pci_lu_no_mailboxes, pci_doe_init, PCI_LU_KEEP_MAILBOX, true },
	{ pci_tph_init },
	{ pci_rebar_init },
	{ pci_dev3_init },
	{ pci_lu_no_streams, pci_ide_init, PCI_LU_KEEP_STREAMS, true },
	{ pcie_report_downtraining },
	{ pci_init_reset_methods },
};

/**
 * pci_lu_read_capabilities - read what others are initialised with
 * @dev: incoming function that is being added
 */
void pci_lu_read_capabilities(struct pci_dev *dev)
{
	for (int i = 0; i < ARRAY_SIZE(lu_capabilities); i++) {
		const struct lu_capability *cap = &lu_capabilities[i];

		if (cap->init && !pci_liveupdate_keeps(dev, cap->what))
			cap->init(dev);
		else if (cap->adopt)
			cap->adopt(dev);
	}
	set_bit(PCI_LU_LEFT_OUT, &dev->lu_flags);
}

/**
 * pci_lu_init_left_out - initialise what pci_lu_read_capabilities() left out
 * @dev: function that is idle, and no longer adopted
 */
void pci_lu_init_left_out(struct pci_dev *dev)
{
	u8 scope = dev->hdr_type == PCI_HEADER_TYPE_NORMAL ? LU_ENDPOINTS : LU_BRIDGES;

	for (int i = 0; i < ARRAY_SIZE(lu_capabilities); i++) {
		const struct lu_capability *cap = &lu_capabilities[i];

		if (cap->late && lu_kept[cap->what] & scope &&
		    !(pci_lu_break & pci_lu_break_keep(cap->what)))
			cap->init(dev);
	}
}

/**
 * pci_lu_end_translation - end requests that only the last kernel's IOMMU answers
 * @dev: device that its owner has just got back
 *
 * If an IOMMU translated for the device, ATS may be enabled. It has been paused
 * since, and this kernel's IOMMU does not know that it caches translations. A
 * function without ATS uses none of them (PCIe r6.0, sec 10.5.1.3). PASID must
 * not change while ATS is enabled. That of a Physical Function is its Virtual Functions',
 * too (sec 9.3.7.14).
 */
void pci_lu_end_translation(struct pci_dev *dev)
{
	static const struct {
		u16 cap;
		u16 control;
		u16 enable;
	} controls[] = {
		{ PCI_EXT_CAP_ID_ATS, PCI_ATS_CTRL, PCI_ATS_CTRL_ENABLE },
		{ PCI_EXT_CAP_ID_PASID, PCI_PASID_CTRL, PCI_PASID_CTRL_ENABLE },
	};
	struct pci_liveupdate_bypass bypass;

	for (int i = 0; i < ARRAY_SIZE(controls); i++) {
		int pos = pci_find_ext_capability(dev, controls[i].cap);
		u16 ctrl;

		if (!pos || (controls[i].cap == PCI_EXT_CAP_ID_PASID &&
			     pci_liveupdate_keeps_vfs(dev)))
			continue;
		pci_read_config_word(dev, pos + controls[i].control, &ctrl);
		if (!(ctrl & controls[i].enable))
			continue;
		pci_liveupdate_bypass_begin(&bypass, dev);
		pci_write_config_word(dev, pos + controls[i].control,
				      ctrl & ~controls[i].enable);
		pci_liveupdate_bypass_end(&bypass);
	}
}
