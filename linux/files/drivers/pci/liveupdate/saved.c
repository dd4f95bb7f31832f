// SPDX-License-Identifier: GPL-2.0
/*
 * PCI Live Update: the saved state of a device as one kernel hands it to the
 * next.
 */

#include <linux/align.h>
#include <linux/err.h>
#include <linux/slab.h>

#include "../pci.h"
#include "internal.h"

static const struct pci_cap_saved_data *lu_next(const struct pci_cap_saved_data *cap)
{
	return (const void *)cap->data + cap->size;
}

/**
 * pci_liveupdate_state_size - how much room does a saved state take?
 * @state: from pci_store_saved_state()
 *
 * Context: any.
 * Return: bytes that pci_liveupdate_pack_state() writes.
 */
size_t pci_liveupdate_state_size(const struct pci_saved_state *state)
{
	size_t size = sizeof(struct pci_liveupdate_state_ser);

	for (const struct pci_cap_saved_data *cap = state->cap; cap->size; cap = lu_next(cap))
		size += sizeof(struct pci_liveupdate_state_cap_ser) + ALIGN(cap->size, 8);
	return size;
}
EXPORT_SYMBOL_GPL(pci_liveupdate_state_size);

/**
 * pci_liveupdate_pack_state - write a saved state for the next kernel
 * @state: from pci_store_saved_state()
 * @buf: where to; a &struct pci_liveupdate_state_ser
 * @size: room there, in bytes
 *
 * Context: any.
 * Return: how many bytes were written, 0 if there is not enough room.
 */
size_t pci_liveupdate_pack_state(const struct pci_saved_state *state, void *buf,
				 size_t size)
{
	struct pci_liveupdate_state_ser *ser = buf;
	size_t done = sizeof(*ser);

	if (size < pci_liveupdate_state_size(state))
		return 0;

	*ser = (struct pci_liveupdate_state_ser){};
	memcpy(ser->config, state->config_space, sizeof(ser->config));

	for (const struct pci_cap_saved_data *cap = state->cap; cap->size; cap = lu_next(cap)) {
		struct pci_liveupdate_state_cap_ser *out = buf + done;
		size_t room = ALIGN(cap->size, 8);

		*out = (struct pci_liveupdate_state_cap_ser){
			.id = cap->cap_nr,
			.flags = cap->cap_extended ? PCI_LIVEUPDATE_STATE_EXTENDED : 0,
			.size = cap->size,
		};
		memset(out + 1, 0, room);
		memcpy(out + 1, cap->data, cap->size);
		done += sizeof(*out) + room;
	}
	ser->size = done - sizeof(*ser);
	return done;
}
EXPORT_SYMBOL_GPL(pci_liveupdate_pack_state);

/**
 * pci_liveupdate_unpack_state - read a saved state of the previous kernel
 * @dev: the device, which must save the same capabilities in this kernel
 * @buf: what pci_liveupdate_pack_state() wrote; nothing in it is believed
 * @size: bytes there
 *
 * Context: process context.
 * Return: a state for pci_load_saved_state(), to be freed with kfree(), or an
 * ERR_PTR: -EINVAL if it makes no sense or is not of such a device, -ENOMEM.
 */
struct pci_saved_state *pci_liveupdate_unpack_state(struct pci_dev *dev, const void *buf,
						    size_t size)
{
	const struct pci_liveupdate_state_ser *ser = buf;
	struct pci_saved_state *state;
	struct pci_cap_saved_data *cap;
	size_t pos = sizeof(*ser);

	if (size < pos || ser->size != size - pos || ser->reserved)
		return ERR_PTR(-EINVAL);

	/* An entry is no longer than it was when packed; zeroes end the list */
	state = kzalloc(sizeof(*state) + ser->size + sizeof(*cap), GFP_KERNEL);
	if (!state)
		return ERR_PTR(-ENOMEM);
	memcpy(state->config_space, ser->config, sizeof(ser->config));

	cap = state->cap;
	while (pos < size) {
		const struct pci_liveupdate_state_cap_ser *in = buf + pos;
		struct pci_cap_saved_state *here;
		bool extended;

		pos += sizeof(*in);
		if (pos > size || in->flags & ~PCI_LIVEUPDATE_STATE_ALL || !in->size ||
		    in->size > size - pos || ALIGN(in->size, 8) > size - pos)
			goto invalid;

		extended = in->flags & PCI_LIVEUPDATE_STATE_EXTENDED;
		here = extended ? pci_find_saved_ext_cap(dev, in->id) :
				  pci_find_saved_cap(dev, in->id);
		if (!here || here->cap.size != in->size)
			goto invalid;

		cap->cap_nr = in->id;
		cap->cap_extended = extended;
		cap->size = in->size;
		memcpy(cap->data, in + 1, in->size);
		cap = (void *)cap->data + cap->size;
		pos += ALIGN(in->size, 8);
	}
	return state;

invalid:
	kfree(state);
	return ERR_PTR(-EINVAL);
}
EXPORT_SYMBOL_GPL(pci_liveupdate_unpack_state);
