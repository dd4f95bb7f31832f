/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where vfio-pci asks about Live Update. The contract is in
 * vfio_pci_liveupdate.c.
 */
#ifndef _VFIO_PCI_LIVEUPDATE_H
#define _VFIO_PCI_LIVEUPDATE_H

#include <linux/eventfd.h>
#include <linux/kho/abi/vfio_pci.h>
#include <linux/pci_liveupdate.h>
#include <linux/rwsem.h>
#include <linux/vfio_pci_core.h>

/**
 * vfio_pci_liveupdate_adopt - is this device to be taken over as it is?
 * @vdev: device that is probed or opened
 *
 * An incoming device is running: whoever probes or opens it must not change it.
 * It is opened through the file that was retrieved and no other, which
 * vfio_df_open() sees to.
 *
 * Return: true until the live update of the device is finished.
 */
static inline bool vfio_pci_liveupdate_adopt(struct vfio_pci_core_device *vdev)
{
	return pci_liveupdate_is_incoming(vdev->pdev);
}

/**
 * vfio_pci_liveupdate_bars_reset - is a member of this set not to be reset?
 * @dev_set: devices that a bus or slot reset affects, locked
 *
 * Return: true if the set has a device that is preserved, or that was preserved
 * by the previous kernel and is not finished. The reset of a sibling must not
 * take it along.
 */
static inline bool vfio_pci_liveupdate_bars_reset(struct vfio_device_set *dev_set)
{
	struct vfio_pci_core_device *cur;

	lockdep_assert_held(&dev_set->lock);

	list_for_each_entry(cur, &dev_set->device_list, vdev.dev_set_list)
		if (pci_liveupdate_is_incoming(cur->pdev) ||
		    pci_liveupdate_is_outgoing(cur->pdev))
			return true;
	return false;
}

/**
 * vfio_pci_liveupdate_refuses_reset - must the bus of this set not be reset?
 * @dev_set: devices that a bus or slot reset affects, locked and not empty
 *
 * Also for the sake of one that is not in the set, for want of a driver.
 *
 * Return: true, and the log says so, if any function on their bus is preserved.
 */
static inline bool vfio_pci_liveupdate_refuses_reset(struct vfio_device_set *dev_set)
{
	struct vfio_pci_core_device *any;

	any = list_first_entry(&dev_set->device_list, struct vfio_pci_core_device,
			       vdev.dev_set_list);
	return pci_liveupdate_refuses_reset(any->pdev);
}

/**
 * vfio_pci_liveupdate_claim - let the owner of an incoming device have it
 * @vdev: device that is being opened, awake
 *
 * Return: vfio_pci_liveupdate_adopt(); if true, @vdev may be written to from here on.
 */
static inline bool vfio_pci_liveupdate_claim(struct vfio_pci_core_device *vdev)
{
	if (!vfio_pci_liveupdate_adopt(vdev))
		return false;
	pci_liveupdate_claim(vdev->pdev);
	return true;
}

/**
 * vfio_pci_liveupdate_stop_pf - stop a Physical Function that is closed without a reset
 * @vdev: device that is being closed, in D0
 *
 * Return: true if it is kept with its Virtual Functions, which a reset would disable:
 * then its DMA has ended, and it is to be told with pci_liveupdate_owe_reset() when it
 * is disabled. False, and nothing is done, if it is like any other.
 */
static inline bool vfio_pci_liveupdate_stop_pf(struct vfio_pci_core_device *vdev)
{
	if (!pci_liveupdate_keeps_vfs(vdev->pdev))
		return false;
	pci_liveupdate_stop_dma(vdev->pdev);
	return true;
}

/**
 * vfio_pci_liveupdate_give_back - a device has been closed, and reset
 * @vdev: device
 *
 * Return: true if it is like any other again, and is a Physical Function that had no VF
 * token while it was not.
 */
static inline bool vfio_pci_liveupdate_give_back(struct vfio_pci_core_device *vdev)
{
	return pci_liveupdate_give_back(vdev->pdev) && vdev->pdev->is_physfn && !vdev->vf_token;
}

/**
 * vfio_pci_liveupdate_gen_token - get the VF token of a Physical Function
 * @vdev: device that is probed
 * @token: set to that of the previous kernel if users depend on it, else to a new one
 */
static inline void vfio_pci_liveupdate_gen_token(struct vfio_pci_core_device *vdev,
						 uuid_t *token)
{
	if (!pci_liveupdate_pf_has_user(vdev->pdev, token))
		uuid_gen(token);
}

/* Asks who has a Physical Function open to close it, see vfio_pci_liveupdate_removing() */
static inline void vfio_pci_liveupdate_ask(struct pci_dev *pdev, unsigned int count)
{
	struct vfio_pci_core_device *vdev = dev_get_drvdata(&pdev->dev);

	vfio_pci_core_request(&vdev->vdev, count);
}

#ifdef CONFIG_VFIO_PCI_LIVEUPDATE

/**
 * struct vfio_pci_liveupdate_parts - where what is handed over has its parts
 * @armed:	bit n is set if vector n had an eventfd, in this kernel or when its signal came
 * @signalled:	bit n is set if nobody had read that since it was signalled
 * @nr_vectors:	bits in each of these
 * @vconfig:	version 1: virtualised configuration space
 * @config_map:	version 1: to which capability each byte of @vconfig belongs
 * @spans:	version 2: pieces of virtualised configuration space
 * @nr_spans:	how many
 * @bytes:	version 2: their bytes
 * @state:	what the device is restored to when it is closed
 * @state_room:	bytes from there to the end of the memory
 * @size:	bytes in all, with the state that is there
 */
struct vfio_pci_liveupdate_parts {
	u64 *armed;
	u64 *signalled;
	unsigned int nr_vectors;
	u8 *vconfig;
	u8 *config_map;
	struct vfio_pci_liveupdate_span_ser *spans;
	unsigned int nr_spans;
	u8 *bytes;
	void *state;
	size_t state_room;
	size_t size;
};

size_t vfio_pci_liveupdate_size(const u8 *map, size_t config_size, unsigned int nr_vectors,
				size_t state_size);
void vfio_pci_liveupdate_begin(struct vfio_pci_liveupdate_ser *ser, size_t room,
			       const u8 *vconfig, const u8 *map, size_t config_size,
			       unsigned int nr_vectors,
			       struct vfio_pci_liveupdate_parts *parts);
void vfio_pci_liveupdate_end(struct vfio_pci_liveupdate_ser *ser,
			     const struct vfio_pci_liveupdate_parts *parts);
bool vfio_pci_liveupdate_parse(struct vfio_pci_liveupdate_ser *ser,
			       struct vfio_pci_liveupdate_parts *parts);
void vfio_pci_liveupdate_load_config(const struct vfio_pci_liveupdate_ser *ser,
				     const struct vfio_pci_liveupdate_parts *parts,
				     u8 *vconfig, const u8 *map, size_t config_size);

void vfio_pci_liveupdate_init(struct pci_driver *driver);
void vfio_pci_liveupdate_exit(void);

int vfio_pci_liveupdate_hold_irqs(struct vfio_pci_core_device *vdev);
void vfio_pci_liveupdate_release_irqs(struct vfio_pci_core_device *vdev);
size_t vfio_pci_liveupdate_room(struct vfio_pci_core_device *vdev);
void vfio_pci_liveupdate_save(struct vfio_pci_core_device *vdev,
			      struct vfio_pci_liveupdate_ser *ser, size_t room);
void vfio_pci_liveupdate_restore(struct vfio_pci_core_device *vdev);
void vfio_pci_liveupdate_rearmed(struct vfio_pci_core_device *vdev, unsigned int vector,
				 struct eventfd_ctx *trigger);

/**
 * vfio_pci_liveupdate_init_dev - initialise the Live Update part of a device
 * @vdev: device that is being initialised
 */
static inline void vfio_pci_liveupdate_init_dev(struct vfio_pci_core_device *vdev)
{
	init_rwsem(&vdev->lu_gate);
}

/**
 * vfio_pci_liveupdate_try_reset - find out if an adopted device can be reset
 * @vdev: incoming device, which a try would reset
 *
 * Return: what pci_try_reset_function() returned when the previous kernel asked
 * it, as far as it matters: 0 or -ENOTTY.
 */
static inline int vfio_pci_liveupdate_try_reset(struct vfio_pci_core_device *vdev)
{
	return vdev->lu_ser && vdev->lu_ser->flags & VFIO_PCI_LIVEUPDATE_F_RESET_WORKS ?
		0 : -ENOTTY;
}

/**
 * vfio_pci_liveupdate_frozen - is the jump to the next kernel under way?
 * @vdev: device
 *
 * Context: any.
 * Return: true from freeze on. If it is false with @vdev's igate or memory_lock
 * held, freeze waits until that is released before it looks at the device.
 */
static inline bool vfio_pci_liveupdate_frozen(struct vfio_pci_core_device *vdev)
{
	return READ_ONCE(vdev->lu_frozen);
}

/**
 * vfio_pci_liveupdate_enter - begin to change what is handed over at freeze
 * @vdev: device
 *
 * Context: process context, no lock of @vdev held. Nothing between this and
 * vfio_pci_liveupdate_leave() may wait for user space.
 * Return: 0, or -EBUSY if the device is frozen.
 */
static inline int vfio_pci_liveupdate_enter(struct vfio_pci_core_device *vdev)
{
	down_read(&vdev->lu_gate);
	if (!vfio_pci_liveupdate_frozen(vdev))
		return 0;
	up_read(&vdev->lu_gate);
	return -EBUSY;
}

/**
 * vfio_pci_liveupdate_leave - end what vfio_pci_liveupdate_enter() began
 * @vdev: device
 */
static inline void vfio_pci_liveupdate_leave(struct vfio_pci_core_device *vdev)
{
	up_read(&vdev->lu_gate);
}

/**
 * vfio_pci_liveupdate_defers_unmask - put off a request to unmask INTx
 * @vdev: device, its irqlock held
 *
 * Return: true if the device is frozen: the request is served if that is rolled
 * back.
 */
static inline bool vfio_pci_liveupdate_defers_unmask(struct vfio_pci_core_device *vdev)
{
	if (!vfio_pci_liveupdate_frozen(vdev))
		return false;
	vdev->lu_unmask = true;
	return true;
}

/**
 * vfio_pci_liveupdate_removing - the device is being unbound
 * @vdev: device, before anybody waits for its users
 *
 * Virtual Functions that it is kept with can neither be disabled nor forgotten, so that this
 * waits until they are no longer preserved, or their live update is finished.
 *
 * Context: process context, device_lock() of the device held.
 */
static inline void vfio_pci_liveupdate_removing(struct vfio_pci_core_device *vdev)
{
	scoped_guard(rwsem_write, &vdev->memory_lock)
		vdev->lu_removing = true;
	pci_liveupdate_await_vfs(vdev->pdev, vfio_pci_liveupdate_ask);
}

/**
 * vfio_pci_liveupdate_awaits_pf - must a Virtual Function wait for its Physical Function?
 * @vdev: device that is probed, and whose Physical Function has no user yet
 *
 * Otherwise it could be opened without the VF token.
 *
 * Return: true if so.
 */
static inline bool vfio_pci_liveupdate_awaits_pf(struct vfio_pci_core_device *vdev)
{
	return !pci_liveupdate_leaves_out(PCI_LIVEUPDATE_PF_FIRST) &&
	       pci_liveupdate_pf_has_user(pci_physfn(vdev->pdev), NULL);
}

/**
 * vfio_pci_liveupdate_awaits_vfs - may this device not be opened before its Virtual Functions end?
 * @vdev: device that is being opened
 *
 * Its last user has gone, and it cannot be reset for the next: only who retrieves it gets
 * it as it is.
 *
 * Context: the device set is locked.
 * Return: true if so.
 */
static inline bool vfio_pci_liveupdate_awaits_vfs(struct vfio_pci_core_device *vdev)
{
	return pci_liveupdate_keeps_vfs(vdev->pdev) &&
	       !(vfio_pci_liveupdate_adopt(vdev) && vdev->lu_ser);
}

#else /* CONFIG_VFIO_PCI_LIVEUPDATE */

static inline bool vfio_pci_liveupdate_awaits_vfs(struct vfio_pci_core_device *vdev)
{
	return pci_liveupdate_keeps_vfs(vdev->pdev);
}

static inline void vfio_pci_liveupdate_init(struct pci_driver *driver)
{
}

static inline void vfio_pci_liveupdate_exit(void)
{
}

static inline void vfio_pci_liveupdate_restore(struct vfio_pci_core_device *vdev)
{
}

static inline void vfio_pci_liveupdate_rearmed(struct vfio_pci_core_device *vdev,
					       unsigned int vector,
					       struct eventfd_ctx *trigger)
{
}

static inline void vfio_pci_liveupdate_init_dev(struct vfio_pci_core_device *vdev)
{
}

static inline int vfio_pci_liveupdate_enter(struct vfio_pci_core_device *vdev)
{
	return 0;
}

static inline void vfio_pci_liveupdate_leave(struct vfio_pci_core_device *vdev)
{
}

static inline bool vfio_pci_liveupdate_defers_unmask(struct vfio_pci_core_device *vdev)
{
	return false;
}

static inline int vfio_pci_liveupdate_try_reset(struct vfio_pci_core_device *vdev)
{
	return -ENOTTY;
}

static inline bool vfio_pci_liveupdate_frozen(struct vfio_pci_core_device *vdev)
{
	return false;
}

static inline void vfio_pci_liveupdate_removing(struct vfio_pci_core_device *vdev)
{
	pci_liveupdate_await_vfs(vdev->pdev, vfio_pci_liveupdate_ask);
}

static inline bool vfio_pci_liveupdate_awaits_pf(struct vfio_pci_core_device *vdev)
{
	return false;
}

#endif /* CONFIG_VFIO_PCI_LIVEUPDATE */

#endif /* _VFIO_PCI_LIVEUPDATE_H */
