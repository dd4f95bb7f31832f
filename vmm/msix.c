// SPDX-License-Identifier: GPL-2.0
/*
 * MSI-X: VFIO signals an eventfd for each vector of the device, and KVM takes it as an
 * interrupt of the guest, by the guest's own table entry.
 *
 * All vectors are armed while the guest has MSI-X enabled, whatever it masks. A vector
 * that the guest masks is detached from KVM: what the device has to say then stays in
 * the eventfd, and is delivered when it is attached again. For a live update that is
 * used once more. All are detached before the interrupt controllers are saved, and stay
 * armed: disarming would turn MSI-X off in the device, and what it has to say while that
 * is off is lost. From the freeze on it stays in the device, or was in an eventfd, which
 * the next kernel signals again as soon as the vector is armed there.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm.h"

#define CONFIG VFIO_PCI_CONFIG_REGION_INDEX
#define ENTRY 16UL /* bytes of a table entry */
#define PIC_PINS 16
#define IOAPIC_PINS 24
#define MAX_ROUTES (PIC_PINS + IOAPIC_PINS + MAX_DEVICES * MAX_VECTORS)

struct routes {
	struct kvm_irq_routing head;
	struct kvm_irq_routing_entry entry[MAX_ROUTES];
};

/* Where the capability is, and what it says; eventfds for all vectors */
int msix_setup(struct device *d)
{
	uint8_t where = 0, id = 0;
	uint16_t control;
	uint32_t table;
	unsigned int n;

	device_read(d, CONFIG, PCI_CAPABILITY_LIST, &where, 1);
	/* No list is longer */
	for (n = 0; where && n < PCI_CFG_SPACE_SIZE / 4; n++) {
		device_read(d, CONFIG, where, &id, 1);
		if (id == PCI_CAP_ID_MSIX)
			break;
		device_read(d, CONFIG, where + 1, &where, 1);
	}
	if (!where || id != PCI_CAP_ID_MSIX)
		return 0; /* it is polled, then */

	device_read(d, CONFIG, where + PCI_MSIX_FLAGS, &control, 2);
	device_read(d, CONFIG, where + PCI_MSIX_TABLE, &table, 4);
	d->msix_cap = where;
	d->msix_bar = table & PCI_MSIX_TABLE_BIR;
	d->msix_offset = table & PCI_MSIX_TABLE_OFFSET;
	d->nr_vectors = (control & PCI_MSIX_FLAGS_QSIZE) + 1;
	if (d->nr_vectors > MAX_VECTORS || d->msix_bar >= MAX_BARS)
		return fail(-ENOSPC, "%s has %u vectors", d->s.bdf,
			    d->nr_vectors);
	d->first_gsi = FIRST_GSI + (d->slot - 1) * MAX_VECTORS;
	for (n = 0; n < d->nr_vectors; n++) {
		d->vectors[n].event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (d->vectors[n].event < 0)
			return fail(-errno, "eventfd");
	}
	return 0;
}

/* What a table looks like after a reset */
void msix_reset(struct device *d)
{
	unsigned int n;

	d->s.msix_control = d->nr_vectors ? d->nr_vectors - 1 : 0;
	for (n = 0; n < MAX_VECTORS; n++)
		d->s.table[n][3] = PCI_MSIX_ENTRY_CTRL_MASKBIT;
}

static void add_pin(struct routes *r, unsigned int gsi, unsigned int chip,
		    unsigned int pin)
{
	struct kvm_irq_routing_entry *e = &r->entry[r->head.nr++];

	e->gsi = gsi;
	e->type = KVM_IRQ_ROUTING_IRQCHIP;
	e->u.irqchip.irqchip = chip;
	e->u.irqchip.pin = pin;
}

static void add_vectors(struct routes *r, const struct device *d)
{
	unsigned int n;

	for (n = 0; n < d->nr_vectors; n++) {
		struct kvm_irq_routing_entry *e = &r->entry[r->head.nr++];

		e->gsi = d->first_gsi + n;
		e->type = KVM_IRQ_ROUTING_MSI;
		e->u.msi.address_lo = d->s.table[n][0];
		e->u.msi.address_hi = d->s.table[n][1];
		e->u.msi.data = d->s.table[n][2];
	}
}

/* All of them at once, which is how KVM takes them: a PC's pins, then the vectors */
static int set_routes(const struct vmm *v)
{
	struct routes r = { 0 };
	unsigned int n;

	for (n = 0; n < PIC_PINS; n++)
		if (n != 2) /* the cascade */
			add_pin(&r, n,
				n < 8 ? KVM_IRQCHIP_PIC_MASTER :
					KVM_IRQCHIP_PIC_SLAVE,
				n % 8);
	for (n = 0; n < IOAPIC_PINS; n++)
		if (n != 2) /* where the timer is, GSI 0 */
			add_pin(&r, n, KVM_IRQCHIP_IOAPIC, n ? n : 2);
	for (n = 0; n < v->nr_devices; n++)
		add_vectors(&r, &v->devices[n]);
	if (ioctl(v->machine.vm, KVM_SET_GSI_ROUTING, &r))
		return fail(-errno, "KVM_SET_GSI_ROUTING");
	return 0;
}

static int irqfd(const struct device *d, unsigned int vector, uint32_t flags)
{
	struct kvm_irqfd irqfd = {
		.fd = d->vectors[vector].event,
		.gsi = d->first_gsi + vector,
		.flags = flags,
	};

	if (ioctl(d->vmm->machine.vm, KVM_IRQFD, &irqfd))
		return fail(-errno, "%s: KVM_IRQFD", d->s.bdf);
	return 0;
}

static bool is_masked(const struct device *d, unsigned int vector)
{
	uint16_t on = d->s.msix_control &
		      (PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);

	return on != PCI_MSIX_FLAGS_ENABLE ||
	       d->s.table[vector][3] & PCI_MSIX_ENTRY_CTRL_MASKBIT;
}

static int attach(struct device *d, bool none)
{
	unsigned int n;
	int err = 0;

	for (n = 0; n < d->nr_vectors && !err; n++) {
		bool on = !none && !is_masked(d, n);

		if (d->vectors[n].attached == on)
			continue;
		err = irqfd(d, n, on ? 0 : KVM_IRQFD_FLAG_DEASSIGN);
		d->vectors[n].attached = on;
	}
	return err;
}

/* Has KVM take what is not masked. An eventfd that is signalled is delivered by that. */
int msix_attach(struct device *d)
{
	int err = set_routes(d->vmm);

	return err ? err : attach(d, false);
}

/* Has KVM take nothing any more. What comes from now on stays in the eventfds. */
int msix_detach(struct device *d)
{
	return attach(d, true);
}

/* Arms all vectors, or disarms them, as the guest has MSI-X enabled or not */
int msix_arm(struct device *d)
{
	struct {
		struct vfio_irq_set head;
		int32_t fd[MAX_VECTORS];
	} set = {
		.head = {
			.argsz = sizeof(set.head),
			.flags = VFIO_IRQ_SET_ACTION_TRIGGER |
				 VFIO_IRQ_SET_DATA_NONE,
			.index = VFIO_PCI_MSIX_IRQ_INDEX,
		},
	};
	unsigned int n;

	if (d->s.msix_control & PCI_MSIX_FLAGS_ENABLE) {
		set.head.flags = VFIO_IRQ_SET_ACTION_TRIGGER |
				 VFIO_IRQ_SET_DATA_EVENTFD;
		set.head.count = d->nr_vectors;
		set.head.argsz += d->nr_vectors * sizeof(set.fd[0]);
		for (n = 0; n < d->nr_vectors; n++)
			set.fd[n] = d->vectors[n].event;
	}
	if (ioctl(d->fd, VFIO_DEVICE_SET_IRQS, &set))
		return fail(-errno, "%s: VFIO_DEVICE_SET_IRQS", d->s.bdf);
	return 0;
}

/*
 * An interrupt too many from each vector: between two processes that hold a device one
 * after the other, the kernel signals the eventfds of the first.
 */
void msix_signal_all(struct device *d)
{
	uint64_t one = 1;
	unsigned int n;

	for (n = 0; n < d->nr_vectors; n++)
		if (write(d->vectors[n].event, &one, sizeof(one)) < 0)
			fail(-errno, "%s: vector %u", d->s.bdf, n);
}

/* The guest writes Message Control */
void msix_control(struct device *d, uint16_t control)
{
	uint16_t was = d->s.msix_control;
	uint16_t keep = PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL;

	d->s.msix_control = (was & ~keep) | (control & keep);
	if ((was ^ d->s.msix_control) & PCI_MSIX_FLAGS_ENABLE)
		msix_arm(d);
	msix_attach(d);
}

/* Returns whether it is the table that the guest has accessed */
bool msix_table(struct device *d, unsigned int bar, uint64_t where, void *data,
		unsigned int size, bool write)
{
	uint8_t *table = (uint8_t *)d->s.table;
	uint64_t at = where - d->msix_offset;
	unsigned int n = at / ENTRY;
	bool was_masked;

	if (!d->nr_vectors || bar != d->msix_bar || where < d->msix_offset ||
	    at + size > ENTRY * d->nr_vectors)
		return false;
	if (!write) {
		memcpy(data, table + at, size);
		return true;
	}
	was_masked = is_masked(d, n);
	memcpy(table + at, data, size);
	if (!was_masked || !is_masked(d, n))
		msix_attach(d);
	return true;
}
