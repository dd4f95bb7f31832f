// SPDX-License-Identifier: GPL-2.0
/*
 * PCI Live Update: bus numbers and routing stay as they are.
 */

/**
 * DOC: Bus numbers and routing
 *
 * A Requester ID is a bus number plus a device and function. Completions are
 * routed by it, and IOMMUs look it up. So while any device is preserved, in
 * either direction, *no* bridge of any host changes its secondary or
 * subordinate bus number: a bridge elsewhere could otherwise be given a range
 * that overlaps a preserved device's.
 *
 * For every bridge that a scan meets there are three answers:
 *
 * - its numbers make sense: they are kept, whatever the command line
 *   (``pci=assign-busses``) or the host driver (generic ECAM) wants;
 * - it has none, or they are broken: it is *refused* others, and nothing below
 *   it is enumerated;
 * - nothing is preserved: it is treated as always. Only, once something has
 *   been preserved in this kernel, a bridge that was enumerated keeps its
 *   numbers for good: devices whose live update is over are running still, and
 *   nobody wants the next rescan to cut them off for a moment. A bridge without
 *   numbers, such as one that was hot-added, gets some as always.
 *
 * A scan asks in its first pass over the bridges of a bus and acts in both. The
 * answer is kept in the bridge in between, so that the last unpreserve or
 * finish, which does not wait for scans, cannot change it half way. The other
 * direction needs no such care: preserve is refused while a scan runs.
 *
 * What a bridge forwards is adopted, too, for the path to a preserved device:
 * ACS (which decides over IOMMU groups, hence for as long as the device exists),
 * ARI forwarding (which decides over function numbers), and Bridge Control.
 */

#define dev_fmt(fmt) "Live Update: " fmt

#include "../pci.h"
#include "internal.h"

/**
 * pci_lu_judge_buses - decide over the bus numbers of a bridge
 * @view: what is known of it
 *
 * Return: what a scan does with them.
 */
enum pci_lu_buses pci_lu_judge_buses(const struct pci_lu_bridge_view *view)
{
	bool sane = view->primary == view->bus && view->secondary > view->bus &&
		    view->secondary <= view->subordinate && !view->taken &&
		    !view->cardbus;

	if (view->held)
		return sane ? PCI_LU_BUSES_KEEP : PCI_LU_BUSES_REFUSE;
	return sane && view->enumerated ? PCI_LU_BUSES_KEEP : PCI_LU_BUSES_ASSIGN;
}

/* A bridge beside this one may have a number on which there is no bus */
static bool lu_overlaps_sibling(struct pci_dev *dev, u8 secondary, u8 subordinate)
{
	struct pci_dev *other;

	guard(rwsem_read)(&pci_bus_sem);
	list_for_each_entry(other, &dev->bus->devices, bus_list)
		if (other != dev && other->subordinate &&
		    secondary <= other->subordinate->busn_res.end &&
		    subordinate >= other->subordinate->busn_res.start)
			return true;
	return false;
}

enum pci_lu_buses __pci_liveupdate_scan_buses(struct pci_dev *dev, u8 primary,
					      u8 secondary, u8 subordinate, int pass)
{
	struct pci_lu_bridge_view view = {
		.held		= pci_lu_outgoing_active() || pci_lu_incoming_active(),
		.enumerated	= dev->subordinate,
		.bus		= dev->bus->number,
		.primary	= primary,
		.secondary	= secondary,
		.subordinate	= subordinate,
		.cardbus	= pci_is_cardbus_bridge(dev),
	};
	struct pci_bus *there;
	enum pci_lu_buses answer;

	if (pci_lu_break & PCI_LU_BREAK_BUSES)
		return PCI_LU_BUSES_ASSIGN;
	if (pass)
		return dev->lu_buses;

	/*
	 * A number that another bridge has, or had when it was preserved. A bus without
	 * a bridge, other than a root bus, is one of Virtual Functions.
	 */
	there = pci_find_bus(pci_domain_nr(dev->bus), secondary);
	view.taken = (there && there->parent && there->self != dev) ||
		     lu_overlaps_sibling(dev, secondary, subordinate) ||
		     pci_lu_incoming_has_buses(dev, secondary, subordinate);

	answer = pci_lu_judge_buses(&view);
	if (answer == PCI_LU_BUSES_REFUSE)
		pci_err(dev, "bus numbers %02x-%02x behind it on bus %02x are %s, and none are assigned while devices are preserved: nothing below is enumerated; finish or unpreserve them, then rescan\n",
			secondary, subordinate, view.bus,
			view.cardbus ? "a CardBus bridge's" :
			secondary ? "broken" : "missing");
	if (answer == PCI_LU_BUSES_KEEP && pci_liveupdate_keeps(dev, PCI_LU_KEEP_ROUTING))
		answer = PCI_LU_BUSES_HELD;
	dev->lu_buses = answer;
	return answer;
}

/**
 * pci_lu_read_ari - take ARI forwarding as a bridge has it
 * @bridge: incoming bridge; nothing is done for another function
 *
 * With another setting the functions below would answer to other numbers (PCIe
 * r6.0, sec 6.13). What function 0 below supports does not matter any more.
 */
void pci_lu_read_ari(struct pci_dev *bridge)
{
	u16 ctl2;

	if (bridge->hdr_type != PCI_HEADER_TYPE_BRIDGE || pci_lu_break & PCI_LU_BREAK_ROUTING)
		return;
	/* Registers of a version 1 capability read as zero */
	pcie_capability_read_word(bridge, PCI_EXP_DEVCTL2, &ctl2);
	bridge->ari_enabled = !!(ctl2 & PCI_EXP_DEVCTL2_ARI);
}

/**
 * pci_lu_read_acs - remember how ACS is set
 * @dev: incoming function that has just been added
 */
void pci_lu_read_acs(struct pci_dev *dev)
{
	if (pci_lu_break & PCI_LU_BREAK_ROUTING)
		return;
	if (dev->acs_cap)
		pci_read_config_word(dev, dev->acs_cap + PCI_ACS_CTRL,
				     &dev->lu_acs_ctrl);
	set_bit(PCI_LU_ACS_KEPT, &dev->lu_flags);
}

/**
 * __pci_liveupdate_keep_acs - leave ACS as the previous kernel had it
 * @dev: function whose ACS is about to be set up
 *
 * Nothing is written unless a reset has changed it meanwhile.
 *
 * Return: true if there is nothing left to do for the caller.
 */
bool __pci_liveupdate_keep_acs(struct pci_dev *dev)
{
	u16 ctrl;

	if (!test_bit(PCI_LU_ACS_KEPT, &dev->lu_flags))
		return false;
	if (!dev->acs_cap)
		return true;

	pci_read_config_word(dev, dev->acs_cap + PCI_ACS_CTRL, &ctrl);
	if (ctrl != dev->lu_acs_ctrl)
		pci_write_config_word(dev, dev->acs_cap + PCI_ACS_CTRL,
				      dev->lu_acs_ctrl);
	return true;
}
