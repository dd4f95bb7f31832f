// SPDX-License-Identifier: GPL-2.0
/*
 * vfio-pci under the Live Update Orchestrator: the versions of what it hands over.
 *
 * Where the parts of a version are is told in linux/kho/abi/vfio_pci.h. This finds
 * them, in either, for whoever writes them and for whoever reads them. A reader has
 * them checked before.
 */

#include <linux/align.h>
#include <linux/minmax.h>
#include <linux/sizes.h>
#include <linux/string.h>
#include <linux/vfio.h>

#include "vfio_pci_liveupdate.h"
#include "vfio_pci_priv.h"

/*
 * More than any function has: 12.5 KiB with all vectors and configuration space full
 * of the smallest capabilities, and what is left is for the state.
 */
#define LU_SIZE_MAX	SZ_32K

static bool lay_out_v1(struct vfio_pci_liveupdate_ser *ser,
		       struct vfio_pci_liveupdate_parts *parts)
{
	struct vfio_pci_liveupdate_v1_ser *v1 =
		container_of(ser, struct vfio_pci_liveupdate_v1_ser, head);

	*parts = (struct vfio_pci_liveupdate_parts){
		.armed = v1->armed,
		.signalled = v1->signalled,
		.nr_vectors = VFIO_PCI_LIVEUPDATE_VECTORS,
		.vconfig = v1->vconfig,
		.config_map = v1->config_map,
		.state = v1->state,
		.state_room = sizeof(v1->state),
		.size = sizeof(*v1),
	};
	return true;
}

static bool lay_out_v2(struct vfio_pci_liveupdate_ser *ser, size_t room,
		       struct vfio_pci_liveupdate_parts *parts)
{
	size_t bits = ser->nr_vectors / 8, spans = sizeof(*ser) + 2 * bits;
	size_t bytes = spans + ser->nr_spans * sizeof(*parts->spans);
	size_t state = bytes;

	if (bytes > room)
		return false;
	*parts = (struct vfio_pci_liveupdate_parts){
		.armed = (void *)ser + sizeof(*ser),
		.signalled = (void *)ser + sizeof(*ser) + bits,
		.nr_vectors = ser->nr_vectors,
		.spans = (void *)ser + spans,
		.nr_spans = ser->nr_spans,
		.bytes = (void *)ser + bytes,
	};
	for (unsigned int i = 0; i < ser->nr_spans; i++)
		state += parts->spans[i].size;

	state = ALIGN(state, 8);
	if (state > room)
		return false;
	parts->state = (void *)ser + state;
	parts->state_room = room - state;
	parts->size = state + ALIGN(ser->state_size, 8);
	return parts->size <= room;
}

/*
 * The next capability from @pos on, which is moved behind it. Bytes that belong to
 * none have nothing that is virtualised.
 */
static bool next_span(const u8 *map, size_t size, size_t *pos,
		      struct vfio_pci_liveupdate_span_ser *span)
{
	size_t at = *pos;

	while (at < size && map[at] >= PCI_CAP_ID_INVALID_VIRT)
		at++;
	*span = (struct vfio_pci_liveupdate_span_ser){ .offset = at };
	if (at == size)
		return false;
	span->id = map[at];
	while (at < size && map[at] == span->id)
		at++;
	span->size = at - span->offset;
	*pos = at;
	return true;
}

/**
 * vfio_pci_liveupdate_size - how much memory does version 2 take?
 * @map: to which capability each byte of configuration space belongs
 * @config_size: bytes of that
 * @nr_vectors: vectors of the device
 * @state_size: bytes that the state takes which the device is restored to
 *
 * Return: bytes.
 */
size_t vfio_pci_liveupdate_size(const u8 *map, size_t config_size, unsigned int nr_vectors,
				size_t state_size)
{
	struct vfio_pci_liveupdate_span_ser span;
	size_t pos = 0, spans = 0, bytes = 0;

	while (next_span(map, config_size, &pos, &span)) {
		spans += sizeof(span);
		bytes += span.size;
	}
	return sizeof(struct vfio_pci_liveupdate_ser) + 2 * (ALIGN(nr_vectors, 64) / 8) +
	       spans + ALIGN(bytes, 8) + ALIGN(state_size, 8);
}
EXPORT_SYMBOL_GPL(vfio_pci_liveupdate_size);

/**
 * vfio_pci_liveupdate_begin - prepare to write down what VFIO knows
 * @ser: memory that is handed over, its head filled in up to the flags
 * @room: bytes there, at least vfio_pci_liveupdate_size() or, for version 1, that of
 *	  &struct vfio_pci_liveupdate_v1_ser
 * @vconfig: configuration space as the user sees it
 * @map: to which capability each byte of it belongs
 * @config_size: bytes of that
 * @nr_vectors: vectors of the device
 * @parts: set to where the caller writes the rest, which is zero: bits of vectors, and
 *	   the state, whose size goes to &vfio_pci_liveupdate_ser.state_size
 *
 * Writes configuration space in the version that the head has. The caller ends with
 * vfio_pci_liveupdate_end().
 */
void vfio_pci_liveupdate_begin(struct vfio_pci_liveupdate_ser *ser, size_t room,
			       const u8 *vconfig, const u8 *map, size_t config_size,
			       unsigned int nr_vectors,
			       struct vfio_pci_liveupdate_parts *parts)
{
	size_t head = offsetof(struct vfio_pci_liveupdate_ser, config_size);
	struct vfio_pci_liveupdate_span_ser span, *spans;
	size_t pos = 0, at = 0;

	memset((void *)ser + head, 0, room - head);
	ser->config_size = config_size;
	if (ser->version == VFIO_PCI_LIVEUPDATE_ABI_V1) {
		lay_out_v1(ser, parts);
		memcpy(parts->vconfig, vconfig, config_size);
		memcpy(parts->config_map, map, config_size);
		return;
	}

	ser->nr_vectors = ALIGN(nr_vectors, 64);
	spans = (void *)(ser + 1) + 2 * (ser->nr_vectors / 8);
	while (next_span(map, config_size, &pos, &span))
		spans[ser->nr_spans++] = span;
	WARN_ON(!lay_out_v2(ser, room, parts));
	for (unsigned int i = 0; i < ser->nr_spans; i++) {
		memcpy(parts->bytes + at, vconfig + spans[i].offset, spans[i].size);
		at += spans[i].size;
	}
}
EXPORT_SYMBOL_GPL(vfio_pci_liveupdate_begin);

/**
 * vfio_pci_liveupdate_end - complete what vfio_pci_liveupdate_begin() began
 * @ser: memory that is handed over
 * @parts: as it was set
 */
void vfio_pci_liveupdate_end(struct vfio_pci_liveupdate_ser *ser,
			     const struct vfio_pci_liveupdate_parts *parts)
{
	ser->size = ser->version == VFIO_PCI_LIVEUPDATE_ABI_V1 ? parts->size :
		    parts->state + ALIGN(ser->state_size, 8) - (void *)ser;
}
EXPORT_SYMBOL_GPL(vfio_pci_liveupdate_end);

static bool spans_make_sense(const struct vfio_pci_liveupdate_ser *ser,
			     const struct vfio_pci_liveupdate_parts *parts)
{
	unsigned int end = 0;

	for (unsigned int i = 0; i < parts->nr_spans; i++) {
		const struct vfio_pci_liveupdate_span_ser *span = &parts->spans[i];

		if (span->offset < end || !span->size ||
		    span->offset + span->size > ser->config_size ||
		    span->id >= PCI_CAP_ID_INVALID_VIRT ||
		    memchr_inv(span->reserved, 0, sizeof(span->reserved)))
			return false;
		end = span->offset + span->size;
	}
	return true;
}

/**
 * vfio_pci_liveupdate_parse - find the parts of what was handed over
 * @ser: memory that the previous kernel handed over; nothing in it is believed
 * @parts: set to where they are
 *
 * Version 2 defines flags for which there is no code yet. They are refused like those
 * that nobody has defined.
 *
 * Return: true; false if it makes no sense, or is of a version that is not known.
 */
bool vfio_pci_liveupdate_parse(struct vfio_pci_liveupdate_ser *ser,
			       struct vfio_pci_liveupdate_parts *parts)
{
	bool v1 = ser->version == VFIO_PCI_LIVEUPDATE_ABI_V1;

	if ((!v1 && ser->version != VFIO_PCI_LIVEUPDATE_ABI_V2) ||
	    ser->size < sizeof(*ser) || ser->size > LU_SIZE_MAX ||
	    ser->flags & ~VFIO_PCI_LIVEUPDATE_F_ALL_V1 ||
	    ser->config_size > VFIO_PCI_LIVEUPDATE_CONFIG_SIZE ||
	    (ser->irq_type > VFIO_PCI_MSIX_IRQ_INDEX &&
	     ser->irq_type != VFIO_PCI_LIVEUPDATE_IRQ_NONE) ||
	    memchr_inv(ser->reserved, 0, sizeof(ser->reserved)))
		return false;

	if (v1)
		return !ser->nr_vectors && !ser->nr_spans && lay_out_v1(ser, parts) &&
		       ser->size == parts->size && ser->state_size <= parts->state_room;

	return ser->nr_vectors % 64 == 0 && ser->nr_vectors <= VFIO_PCI_LIVEUPDATE_VECTORS &&
	       lay_out_v2(ser, ser->size, parts) && ser->size == parts->size &&
	       spans_make_sense(ser, parts);
}
EXPORT_SYMBOL_GPL(vfio_pci_liveupdate_parse);

/**
 * vfio_pci_liveupdate_load_config - bring back what the user saw in configuration space
 * @ser: parsed memory
 * @parts: its parts
 * @vconfig: configuration space as the user sees it
 * @map: to which capability each byte of it belongs in this kernel
 * @config_size: bytes of that
 *
 * Bytes that this kernel takes for another capability's, or hides, stay as they are,
 * and so does the pin: whether INTx is wired up is for this kernel to say.
 */
void vfio_pci_liveupdate_load_config(const struct vfio_pci_liveupdate_ser *ser,
				     const struct vfio_pci_liveupdate_parts *parts,
				     u8 *vconfig, const u8 *map, size_t config_size)
{
	size_t size = min(ser->config_size, config_size);
	const u8 *byte = parts->bytes;
	u8 pin = vconfig[PCI_INTERRUPT_PIN];

	if (parts->vconfig)
		for (unsigned int i = 0; i < size; i++)
			if (parts->config_map[i] == map[i])
				vconfig[i] = parts->vconfig[i];

	for (unsigned int n = 0; n < parts->nr_spans; n++) {
		const struct vfio_pci_liveupdate_span_ser *span = &parts->spans[n];

		for (unsigned int i = span->offset; i < span->offset + span->size; i++, byte++)
			if (i < size && map[i] == span->id)
				vconfig[i] = *byte;
	}
	vconfig[PCI_INTERRUPT_PIN] = pin;
}
EXPORT_SYMBOL_GPL(vfio_pci_liveupdate_load_config);
