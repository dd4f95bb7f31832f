// SPDX-License-Identifier: GPL-2.0
/*
 * igb under PCI Live Update: Virtual Functions of an 82576 go on while their Physical
 * Function changes hands.
 */

/**
 * DOC: An 82576 whose Virtual Functions go on
 *
 * Physical and Virtual Functions of an 82576 have one MAC, one PHY, one table of addresses
 * and one switch between their pools. The driver resets all of that whenever it begins anew:
 * at probe, when the interface goes down, when a setting changes, and it ends it all at
 * shutdown. While Virtual Functions are preserved, in either kernel, the hardware is *shared*
 * (igb_liveupdate_shares()), and the driver has to do with its own pool alone:
 *
 * - a reset is none. What it would have set up is there already: by this kernel, or by the
 *   previous one, and is read;
 * - queues of the driver's own are stopped and started one by one. Receive and Transmit Enable
 *   stay on, and so do the link and the modes of the switch;
 * - lists of addresses, VLAN modes and offloads stay as they are. The table of multicast
 *   hashes is not written anew, which would forget those of Virtual Functions that only the
 *   hardware knows: what one of them asks for is added to it;
 * - frames are as long as the buffers of our own queues take them, in each kernel and with
 *   each MTU;
 * - shutdown stops the driver's queues, timers and interrupts, and leaves it at that.
 *
 * The next kernel's driver finds in registers how many Virtual Functions there are, their MAC
 * addresses (RAL, RAH), who has finished the handshake of its reset (VFRE), tags that the
 * host has given out (VMVIR), which of them are checked for spoofing (DTXSWC), and the VLAN
 * filter (VFTA). Who is trusted, and whose rate is limited, it could not tell: that is refused
 * as a Virtual Function is preserved, and again at the kexec. Nor could it tell an address
 * that the host has set from one that the user of the Virtual Function has chosen. It takes
 * all for the first kind: nobody changes his own.
 *
 * A driver that has adopted a device goes on sharing until its Virtual Functions are disabled,
 * also when they are finished: whoever works with them does not know of any of this. Then, and
 * after an error or a sleep in which registers were lost, all is as without Live Update.
 *
 * Mailboxes of Virtual Functions are served as soon as the interface is up, with what came
 * in between. The number of the driver's own queues should be the same in both kernels: how
 * frames are spread over them is not set up anew.
 */

#include <linux/bitfield.h>
#include <linux/etherdevice.h>
#include <linux/if_vlan.h>
#include <linux/iopoll.h>
#include <linux/pci.h>
#include <linux/rtnetlink.h>

#include "igb.h"
#include "igb_liveupdate.h"

/* A queue is idle when its Enable reads as zero (82576 datasheet, RXDCTL and TXDCTL) */
#define IGB_LU_STEP_US	100
#define IGB_LU_STOP_US	(10 * USEC_PER_MSEC)

/* A change of settings takes no longer, but for one that waits for a link */
#define IGB_LU_LOCK_STEP_US	USEC_PER_MSEC
#define IGB_LU_LOCK_US		(2 * USEC_PER_SEC)

static const char *igb_lu_doubt(struct igb_adapter *adapter)
{
	/* Others have registers elsewhere, and have not been tried */
	if (adapter->hw.mac.type != e1000_82576)
		return "it keeps Virtual Functions of an 82576 only";
	if (!adapter->vf_data)
		return "it does not know of Virtual Functions";
	if (!(igb_rd32(&adapter->hw, E1000_RCTL) & E1000_RCTL_EN))
		return "none of them receives, as its interface is down; set that up";
	for (unsigned int vf = 0; vf < adapter->vfs_allocated_count; vf++) {
		if (adapter->vf_data[vf].trusted)
			return "the next kernel could not tell whom it trusts; set trust off";
		if (adapter->vf_data[vf].tx_rate)
			return "the next kernel could not tell whose rate is limited; set that off";
	}
	return NULL;
}

/**
 * igb_liveupdate_pf - can Virtual Functions of this device go on?
 * @pdev: Physical Function, kept with them from now on or still
 *
 * A reset that has begun is over when this returns, and there is no other.
 *
 * Context: process context, device_lock(&pdev->dev) held. Tries the RTNL, for a bounded
 * time.
 * Return: NULL if they can, or why not, see &pci_driver.live_update_pf.
 */
const char *igb_liveupdate_pf(struct pci_dev *pdev)
{
	struct igb_adapter *adapter = netdev_priv(pci_get_drvdata(pdev));
	const char *why;
	int locked;

	/* Whoever has it may wait for memory, in a page fault that waits for our caller */
	if (read_poll_timeout(rtnl_trylock, locked, locked, IGB_LU_LOCK_STEP_US,
			      IGB_LU_LOCK_US, false))
		return "its interface is being set up; try again";
	why = igb_lu_doubt(adapter);
	rtnl_unlock();
	return why;
}

/**
 * igb_liveupdate_shares - is the device to be left as it is for Virtual Functions?
 * @adapter: board private structure
 *
 * Context: any.
 * Return: true if only what is our own pool's may be changed.
 */
bool igb_liveupdate_shares(struct igb_adapter *adapter)
{
	return adapter->lu_adopted || pci_liveupdate_keeps_vfs(adapter->pdev);
}

/**
 * igb_liveupdate_attach - begin with a device that Virtual Functions work with
 * @adapter: board private structure; the kind of hardware is known
 *
 * Context: probe.
 * Return: 0, also for a device like any other; -EOPNOTSUPP if that is not possible.
 */
int igb_liveupdate_attach(struct igb_adapter *adapter)
{
	struct pci_dev *pdev = adapter->pdev;

	if (!pci_liveupdate_keeps_vfs(pdev))
		return 0;
	if (adapter->hw.mac.type != e1000_82576) {
		dev_err(&pdev->dev, "cannot go on with preserved VFs of this kind\n");
		return -EOPNOTSUPP;
	}
	adapter->lu_adopted = true;
	dev_info(&pdev->dev, "going on with %d VFs as they are\n", pci_num_vf(pdev));
	return 0;
}

/**
 * igb_liveupdate_num_vfs - how many Virtual Functions are there to be?
 * @adapter: board private structure
 * @num_vfs: how many would be enabled
 *
 * Return: @num_vfs, or how many there are already, with their work to do.
 */
int igb_liveupdate_num_vfs(struct igb_adapter *adapter, int num_vfs)
{
	return adapter->lu_adopted ? pci_num_vf(adapter->pdev) : num_vfs;
}

static bool igb_lu_read_address(struct igb_adapter *adapter, unsigned int index, u8 *addr)
{
	struct igb_mac_addr *entry = &adapter->mac_table[index];
	struct e1000_hw *hw = &adapter->hw;
	u32 low = rd32(E1000_RAL(index)), high = rd32(E1000_RAH(index));
	u32 pools = FIELD_GET(E1000_RAH_POOL_MASK, high);

	*(__le32 *)addr = cpu_to_le32(low);
	*(__le16 *)(addr + 4) = cpu_to_le16((u16)high);
	if (!(high & E1000_RAH_AV) || !pools)
		return false;
	ether_addr_copy(entry->addr, addr);
	entry->queue = __ffs(pools);
	entry->state = IGB_MAC_STATE_IN_USE;
	if (high & E1000_RAH_ASEL_SRC_ADDR)
		entry->state |= IGB_MAC_STATE_SRC_ADDR;
	return true;
}

/**
 * igb_liveupdate_adopt_vf - know a Virtual Function by what is in registers
 * @adapter: board private structure
 * @vf: its number
 *
 * Return: true if that is done; false if it is new, and has to be set up.
 */
bool igb_liveupdate_adopt_vf(struct igb_adapter *adapter, unsigned int vf)
{
	struct vf_data_storage *data = &adapter->vf_data[vf];
	struct e1000_hw *hw = &adapter->hw;
	u8 addr[ETH_ALEN] __aligned(4);
	u32 tag;

	if (!adapter->lu_adopted)
		return false;

	/* Its own, and then, once for all, those that it has asked for besides */
	if (igb_lu_read_address(adapter, hw->mac.rar_entry_count - (vf + 1), addr)) {
		ether_addr_copy(data->vf_mac_addresses, addr);
		data->flags |= IGB_VF_FLAG_PF_SET_MAC;
	}
	for (int i = 1; !vf && i < hw->mac.rar_entry_count - adapter->vfs_allocated_count; i++)
		igb_lu_read_address(adapter, i, addr);

	if (rd32(E1000_VFRE) & BIT(vf))
		data->flags |= IGB_VF_FLAG_CTS;
	tag = rd32(E1000_VMVIR(vf));
	if (tag & E1000_VMVIR_VLANA_DEFAULT) {
		data->pf_vlan = FIELD_GET(VLAN_VID_MASK, tag);
		data->pf_qos = FIELD_GET(VLAN_PRIO_MASK, tag);
	}
	data->spoofchk_enabled = rd32(E1000_DTXSWC) & BIT(vf);
	data->trusted = false;
	return true;
}

static void igb_lu_read_shared(struct igb_adapter *adapter)
{
	struct e1000_hw *hw = &adapter->hw;
	u32 ctrl = rd32(E1000_CTRL);

	for (int i = 0; i < E1000_VLAN_FILTER_TBL_SIZE; i++)
		adapter->shadow_vfta[i] = array_rd32(E1000_VFTA, i);

	/* What the link has been told is what is asked for when it has to be told again */
	if (ctrl & E1000_CTRL_RFCE)
		hw->fc.current_mode = ctrl & E1000_CTRL_TFCE ? e1000_fc_full :
							       e1000_fc_rx_pause;
	else
		hw->fc.current_mode = ctrl & E1000_CTRL_TFCE ? e1000_fc_tx_pause :
							       e1000_fc_none;
	hw->fc.requested_mode = hw->fc.current_mode;
}

/**
 * igb_liveupdate_reset - is a reset to be left out?
 * @adapter: board private structure
 *
 * Our own queues have been stopped, if they were running.
 *
 * Return: true if so; what the reset would have brought about has been read.
 */
bool igb_liveupdate_reset(struct igb_adapter *adapter)
{
	if (!igb_liveupdate_shares(adapter))
		return false;
	if (adapter->lu_adopted)
		igb_lu_read_shared(adapter);
	return true;
}

static void igb_lu_stop_queue(struct e1000_hw *hw, u32 control)
{
	u32 value;

	wr32(control, 0);
	/* Bit 25 is Enable in both directions */
	if (read_poll_timeout(igb_rd32, value, !(value & E1000_RXDCTL_QUEUE_ENABLE),
			      IGB_LU_STEP_US, IGB_LU_STOP_US, false, hw, control))
		hw_dbg("queue does not stop\n");
}

/**
 * igb_liveupdate_stop_queues - stop our own queues, if others have to go on
 * @adapter: board private structure
 *
 * Context: may sleep.
 * Return: false if the whole device is to be stopped instead.
 */
bool igb_liveupdate_stop_queues(struct igb_adapter *adapter)
{
	struct e1000_hw *hw = &adapter->hw;

	static_assert(E1000_RXDCTL_QUEUE_ENABLE == E1000_TXDCTL_QUEUE_ENABLE);
	if (!igb_liveupdate_shares(adapter))
		return false;
	for (int i = 0; i < adapter->num_rx_queues; i++)
		igb_lu_stop_queue(hw, E1000_RXDCTL(adapter->rx_ring[i]->reg_idx));
	for (int i = 0; i < adapter->num_tx_queues; i++)
		igb_lu_stop_queue(hw, E1000_TXDCTL(adapter->tx_ring[i]->reg_idx));
	return true;
}

/**
 * igb_liveupdate_set_rx_mode - are modes and addresses to be left as they are?
 * @adapter: board private structure
 *
 * Our own queues get no frame that is longer than their buffers are now.
 *
 * Context: our own queues are stopped, if their buffers are to have another size.
 * Return: true if so.
 */
bool igb_liveupdate_set_rx_mode(struct igb_adapter *adapter)
{
	struct e1000_hw *hw = &adapter->hw;
	u32 own = adapter->vfs_allocated_count, length = MAX_JUMBO_FRAME_SIZE;

	if (!igb_liveupdate_shares(adapter))
		return false;
#if (PAGE_SIZE < 8192)
	if (adapter->max_frame_size <= IGB_MAX_FRAME_BUILD_SKB)
		length = IGB_MAX_FRAME_BUILD_SKB;
#endif
	wr32(E1000_VMOLR(own), (rd32(E1000_VMOLR(own)) & ~E1000_VMOLR_RLPML_MASK) |
	     length | E1000_VMOLR_LPE);
	return true;
}

/**
 * igb_liveupdate_set_multicasts - let a Virtual Function hear what it has asked for
 * @adapter: board private structure
 * @vf: its number; what it has asked for has been noted
 *
 * The table is everybody's: what is in it stays.
 *
 * Return: false if modes and addresses of all are to be set up anew instead.
 */
bool igb_liveupdate_set_multicasts(struct igb_adapter *adapter, unsigned int vf)
{
	struct vf_data_storage *data = &adapter->vf_data[vf];
	struct e1000_hw *hw = &adapter->hw;
	u32 mode;

	if (!igb_liveupdate_shares(adapter))
		return false;
	mode = rd32(E1000_VMOLR(vf)) & ~(E1000_VMOLR_ROMPE | E1000_VMOLR_MPME);
	if (data->num_vf_mc_hashes > ARRAY_SIZE(data->vf_mc_hashes) ||
	    data->flags & IGB_VF_FLAG_MULTI_PROMISC) {
		mode |= E1000_VMOLR_MPME;
	} else if (data->num_vf_mc_hashes) {
		for (int i = 0; i < data->num_vf_mc_hashes; i++)
			igb_mta_set(hw, data->vf_mc_hashes[i]);
		mode |= E1000_VMOLR_ROMPE;
	}
	wr32(E1000_VMOLR(vf), mode);
	return true;
}
