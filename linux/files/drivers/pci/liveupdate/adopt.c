// SPDX-License-Identifier: GPL-2.0
/*
 * PCI Live Update: what enumeration leaves as it is in adopted functions.
 */

/**
 * DOC: Adopted, not set up
 *
 * Enumeration sets functions up: it sizes BARs, tunes packet sizes, turns
 * interrupts off, and so on. In a function that the previous kernel preserved,
 * all of that has been done, and most of it hurts while the device is working.
 * Each place in the PCI core that would write to such a function asks here
 * first, and reads instead.
 *
 * An endpoint is not written to at all until its owner has it back. Of a bridge
 * above one only what concerns the way to the device is kept: bus numbers,
 * windows, routing, packet sizes, the link. Its errors, its hot-plug events and
 * its own interrupts are this kernel's, which sets them up as always.
 *
 * Some of it also holds in the outgoing kernel, from when a device is preserved:
 * devices that come later, by hot-plug or a rescan, are no reason to move it or
 * to tune what is in use.
 */

#define dev_fmt(fmt) "Live Update: " fmt

#include "../pci.h"
#include "internal.h"

/* Of which functions something is kept */
#define LU_ENDPOINTS	BIT(0)
#define LU_BRIDGES	BIT(1)
#define LU_UNCLAIMED	BIT(2)	/* not when the owner has it back */
#define LU_OUTGOING	BIT(3)	/* also when preserved for the next kernel */

static const struct {
	const char *what;
	u8 scope;
} lu_kept[PCI_LU_KEEP_NR] = {
	[PCI_LU_KEEP_BARS]	= { "BARs", LU_ENDPOINTS | LU_BRIDGES | LU_UNCLAIMED },
	[PCI_LU_KEEP_WINDOWS]	= { "window kinds", LU_BRIDGES },
	[PCI_LU_KEEP_ADDRESSES]	= { "addresses", LU_ENDPOINTS | LU_BRIDGES | LU_OUTGOING },
	[PCI_LU_KEEP_PAYLOAD]	= { "packet sizes", LU_ENDPOINTS | LU_BRIDGES | LU_OUTGOING },
	[PCI_LU_KEEP_REQUESTS]	= { "request settings", LU_ENDPOINTS | LU_BRIDGES | LU_OUTGOING },
	[PCI_LU_KEEP_LINK]	= { "link settings", LU_BRIDGES },
	[PCI_LU_KEEP_INTX]	= { "INTx", LU_ENDPOINTS | LU_BRIDGES | LU_UNCLAIMED },
	[PCI_LU_KEEP_MSI]	= { "MSI and MSI-X", LU_ENDPOINTS },
	[PCI_LU_KEEP_POWER]	= { "power state", LU_ENDPOINTS | LU_BRIDGES },
	[PCI_LU_KEEP_ERRORS]	= { "errors", LU_ENDPOINTS },
	[PCI_LU_KEEP_MAILBOX]	= { "mailboxes", LU_ENDPOINTS },
	[PCI_LU_KEEP_IOV]	= { "Virtual Functions", LU_ENDPOINTS },
	[PCI_LU_KEEP_VPD]	= { "VPD", LU_ENDPOINTS | LU_UNCLAIMED },
	[PCI_LU_KEEP_VGA]	= { "VGA routing", LU_ENDPOINTS | LU_BRIDGES | LU_OUTGOING },
	[PCI_LU_KEEP_TRANSLATION] = { "ATS, PRI and PASID", LU_ENDPOINTS },
	[PCI_LU_KEEP_STREAMS]	= { "IDE streams", LU_ENDPOINTS | LU_BRIDGES },
};

bool __pci_liveupdate_keeps(struct pci_dev *dev, enum pci_lu_keep what)
{
	bool endpoint = dev->hdr_type == PCI_HEADER_TYPE_NORMAL;
	u8 scope = lu_kept[what].scope;

	if (pci_lu_break & pci_lu_break_keep(what))
		return false;
	if (!(scope & (endpoint ? LU_ENDPOINTS : LU_BRIDGES)))
		return false;
	if (!(scope & LU_OUTGOING) && !pci_liveupdate_adopted(dev))
		return false;
	if (endpoint && scope & LU_UNCLAIMED && test_bit(PCI_LU_CLAIMED, &dev->lu_flags))
		return false;

	pci_dbg(dev, "%s left alone\n", lu_kept[what].what);
	return true;
}

bool __pci_liveupdate_keeps_path(struct pci_dev *dev, enum pci_lu_keep what)
{
	for (; dev; dev = pci_upstream_bridge(dev))
		if (pci_liveupdate_keeps(dev, what))
			return true;
	return false;
}

bool __pci_liveupdate_rrs_sv(struct pci_dev *port)
{
	u16 ctl;

	pcie_capability_read_word(port, PCI_EXP_RTCTL, &ctl);
	return ctl & PCI_EXP_RTCTL_RRS_SVE;
}

/**
 * pci_lu_end_translation - end requests that only the last kernel's IOMMU answers
 * @dev: device that its owner has just got back
 *
 * If an IOMMU translated for the device, ATS may be enabled. It has been paused
 * since, and this kernel's IOMMU does not know that it caches translations. A
 * function without ATS uses none of them (PCIe r6.0, sec 10.5.1.3). PASID must
 * not change while ATS is enabled.
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

	for (int i = 0; i < ARRAY_SIZE(controls); i++) {
		int pos = pci_find_ext_capability(dev, controls[i].cap);
		u16 ctrl;

		if (!pos)
			continue;
		pci_read_config_word(dev, pos + controls[i].control, &ctrl);
		if (ctrl & controls[i].enable)
			pci_write_config_word(dev, pos + controls[i].control,
					      ctrl & ~controls[i].enable);
	}
}
