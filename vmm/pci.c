// SPDX-License-Identifier: GPL-2.0
/*
 * PCI as a guest finds it without ACPI: configuration mechanism #1, one bus, a host
 * bridge in slot 0 and the host's devices from slot 1 on.
 */
#include "vmm.h"

#define ADDRESS 0xcf8
#define DATA 0xcfc
#define ENABLE (1U << 31)

/* 82441FX, as every emulator has it; class 0x0600 */
static const uint32_t host_bridge[16] = { 0x12378086, 0, 0x06000002 };

static uint32_t config_read(struct vmm *v, unsigned int slot,
			    unsigned int where, unsigned int size)
{
	if (slot == 0)
		return where < sizeof(host_bridge) ?
			       host_bridge[where / 4] >> 8 * (where % 4) :
			       0;
	if (slot > v->nr_devices)
		return ~0U;
	return device_config_read(&v->devices[slot - 1], where, size);
}

void pci_port(struct vmm *v, unsigned int port, unsigned int size, bool write,
	      uint32_t *value)
{
	uint32_t address = v->pci.address;
	unsigned int slot = address >> 11 & 31;
	unsigned int where = (address & 0xfc) + (port & 3);

	if (port < DATA) {
		if (port != ADDRESS || size != 4)
			*value = write ? *value : ~0U;
		else if (write)
			v->pci.address = *value;
		else
			*value = address;
		return;
	}
	/* There is bus 0 alone, and function 0 of each slot */
	if (!(address & ENABLE) || address & 0x00ff0700) {
		*value = ~0U;
		return;
	}
	if (!write)
		*value = config_read(v, slot, where, size);
	else if (slot && slot <= v->nr_devices)
		device_config_write(&v->devices[slot - 1], where, size, *value);
}
