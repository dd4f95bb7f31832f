/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where igb asks about Live Update. The contract is in igb_liveupdate.c.
 */
#ifndef _IGB_LIVEUPDATE_H_
#define _IGB_LIVEUPDATE_H_

#include <linux/pci_liveupdate.h>
#include "igb.h"

#ifdef CONFIG_PCI_LIVEUPDATE_VFS

const char *igb_liveupdate_pf(struct pci_dev *pdev);
bool igb_liveupdate_shares(struct igb_adapter *adapter);
int igb_liveupdate_attach(struct igb_adapter *adapter);
int igb_liveupdate_num_vfs(struct igb_adapter *adapter, int num_vfs);
bool igb_liveupdate_adopt_vf(struct igb_adapter *adapter, unsigned int vf);
bool igb_liveupdate_reset(struct igb_adapter *adapter);
bool igb_liveupdate_stop_queues(struct igb_adapter *adapter);
bool igb_liveupdate_set_rx_mode(struct igb_adapter *adapter);
bool igb_liveupdate_set_multicasts(struct igb_adapter *adapter, unsigned int vf);

/**
 * igb_liveupdate_holds - are Virtual Functions preserved, or not finished?
 * @pdev: Physical Function
 *
 * Return: true if so: they cannot be disabled, nor does it stop for a kexec.
 */
static inline bool igb_liveupdate_holds(struct pci_dev *pdev)
{
	return pci_liveupdate_keeps_vfs(pdev);
}

/**
 * igb_liveupdate_forget - the next reset is one of the whole device
 * @adapter: whose Virtual Functions have been disabled, or have lost their registers
 */
static inline void igb_liveupdate_forget(struct igb_adapter *adapter)
{
	adapter->lu_adopted = false;
}

#else /* CONFIG_PCI_LIVEUPDATE_VFS */

#define igb_liveupdate_pf NULL

static inline bool igb_liveupdate_holds(struct pci_dev *pdev)
{
	return false;
}

static inline bool igb_liveupdate_shares(struct igb_adapter *adapter)
{
	return false;
}

static inline int igb_liveupdate_attach(struct igb_adapter *adapter)
{
	return 0;
}

static inline int igb_liveupdate_num_vfs(struct igb_adapter *adapter, int num_vfs)
{
	return num_vfs;
}

static inline bool igb_liveupdate_adopt_vf(struct igb_adapter *adapter, unsigned int vf)
{
	return false;
}

static inline bool igb_liveupdate_reset(struct igb_adapter *adapter)
{
	return false;
}

static inline bool igb_liveupdate_stop_queues(struct igb_adapter *adapter)
{
	return false;
}

static inline bool igb_liveupdate_set_rx_mode(struct igb_adapter *adapter)
{
	return false;
}

static inline bool igb_liveupdate_set_multicasts(struct igb_adapter *adapter, unsigned int vf)
{
	return false;
}

static inline void igb_liveupdate_forget(struct igb_adapter *adapter)
{
}

#endif /* CONFIG_PCI_LIVEUPDATE_VFS */

#endif /* _IGB_LIVEUPDATE_H_ */
