// SPDX-License-Identifier: GPL-2.0
/*
 * Intel's MultiProcessor Specification 1.4: without ACPI, it is by this table that Linux
 * finds more than one CPU, and the IOAPIC. Without it there is the PIC alone, and in an
 * emulated host guests were seen to halt while they boot and never to be given an
 * interrupt again.
 */
#include <string.h>

#include "vmm.h"

#define POINTER_AT 0xf0000 /* where a BIOS is, and no memory of the guest's */
#define TABLE_AT 0xf0010
#define LAPIC_AT 0xfee00000
#define IOAPIC_AT 0xfec00000
#define ISA 0 /* the number of the bus */
#define ISA_IRQS 16
#define ALL_CPUS 0xff

enum { CPU, BUS, IOAPIC, INTERRUPT, LOCAL_INTERRUPT }; /* entries */
enum { INT, NMI, SMI, EXT_INT }; /* what an interrupt is */

struct pointer {
	char signature[4];
	uint32_t table;
	uint8_t length, revision, checksum, features[5];
} __attribute__((packed));

struct head {
	char signature[4];
	uint16_t length;
	uint8_t revision, checksum;
	char oem[8], product[12];
	uint32_t oem_table;
	uint16_t oem_size, count;
	uint32_t lapic;
	uint32_t extended;
} __attribute__((packed));

struct cpu_entry {
	uint8_t type, apic, version, flags;
	uint32_t signature, features, reserved[2];
} __attribute__((packed));

struct entry {
	uint8_t type;
	union {
		struct {
			uint8_t id;
			char name[6];
		} __attribute__((packed)) bus;
		struct {
			uint8_t id, version, flags;
			uint32_t address;
		} __attribute__((packed)) ioapic;
		struct {
			uint8_t what;
			uint16_t flags;
			uint8_t bus, irq, apic, pin;
		} __attribute__((packed)) interrupt;
	};
} __attribute__((packed));

_Static_assert(sizeof(struct head) == 44 && sizeof(struct cpu_entry) == 20 &&
		       sizeof(struct entry) == 8,
	       "as the specification says");

/* What makes the sum of all bytes 0 */
static uint8_t checksum(const void *data, size_t size)
{
	const uint8_t *p = data;
	uint8_t sum = 0;

	while (size--)
		sum += *p++;
	return -sum;
}

static void *put(struct head *h, const void *entry, size_t size)
{
	void *at = (uint8_t *)h + h->length;

	memcpy(at, entry, size);
	h->length += size;
	h->count++;
	return at;
}

static void put_interrupt(struct head *h, uint8_t type, uint8_t what,
			  uint8_t irq, uint8_t apic, uint8_t pin)
{
	struct entry e = {
		.type = type,
		.interrupt = { what, 0, ISA, irq, apic, pin },
	};

	put(h, &e, sizeof(e));
}

void mptable_write(void *low_memory, unsigned int nr_cpus)
{
	struct pointer *p = (void *)((uint8_t *)low_memory + POINTER_AT);
	struct head *h = (void *)((uint8_t *)low_memory + TABLE_AT);
	struct entry bus = { .type = BUS, .bus = { ISA, "ISA   " } };
	struct entry ioapic = {
		.type = IOAPIC,
		.ioapic = { nr_cpus, 0x11, 1, IOAPIC_AT },
	};
	unsigned int n;

	*h = (struct head){
		.signature = "PCMP",
		.length = sizeof(*h),
		.revision = 4,
		.oem = "PCILU   ",
		.product = "VMM         ",
		.lapic = LAPIC_AT,
	};
	for (n = 0; n < nr_cpus; n++) {
		struct cpu_entry c = {
			.type = CPU,
			.apic = n,
			.version = 0x14,
			.flags = n ? 1 :
				     3, /* enabled, and the one that boots */
		};

		put(h, &c, sizeof(c));
	}
	put(h, &bus, sizeof(bus));
	put(h, &ioapic, sizeof(ioapic));
	for (n = 0; n < ISA_IRQS; n++)
		if (n != 2) /* the cascade; the timer is where it would be */
			put_interrupt(h, INTERRUPT, INT, n, nr_cpus, n ? n : 2);
	put_interrupt(h, LOCAL_INTERRUPT, EXT_INT, 0, ALL_CPUS, 0);
	put_interrupt(h, LOCAL_INTERRUPT, NMI, 0, ALL_CPUS, 1);
	h->checksum = checksum(h, h->length);

	*p = (struct pointer){
		.signature = "_MP_",
		.table = TABLE_AT,
		.length = 1,
		.revision = 4,
	};
	p->checksum = checksum(p, sizeof(*p));
}
