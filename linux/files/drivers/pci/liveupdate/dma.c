// SPDX-License-Identifier: GPL-2.0
/*
 * May a preserved device go on with DMA while the kernel is replaced?
 */

/**
 * DOC: DMA across the kexec
 *
 * A device keeps Bus Master through the kexec only if nothing translates the
 * addresses it puts on the bus, in this kernel and in the next. Where an IOMMU
 * translates, its page tables are lost and the same addresses mean other
 * memory: such a device is paused.
 *
 * This kernel can say what translates now. About the next one it knows only
 * what the firmware tables say: an IOMMU that is described but not in use may
 * be switched on by a command line. VT-d can be told to leave the unit of such
 * a device alone (see pci_liveupdate_is_untranslated()). The other IOMMUs
 * cannot be told yet, so a machine that has one pauses its devices.
 */

#define dev_fmt(fmt) "Live Update: " fmt

#include <linux/acpi.h>
#include <linux/of.h>

#include "internal.h"

/* IOMMUs that the next kernel could switch on without asking */
static const struct {
	char sig[ACPI_NAMESEG_SIZE + 1];
	const char *why;
} lu_iommu_tables[] = {
	{ "IVRS", "the machine has an AMD IOMMU" },
	{ "IORT", "the machine may have an SMMU (IORT)" },
	{ "VIOT", "the machine has a virtio IOMMU" },
	{ "RIMT", "the machine may have a RISC-V IOMMU (RIMT)" },
};

static const char *acpi_iommu(void)
{
	if (!IS_ENABLED(CONFIG_ACPI) || acpi_disabled)
		return NULL;

	for (int i = 0; i < ARRAY_SIZE(lu_iommu_tables); i++) {
		struct acpi_table_header *table;

		if (ACPI_FAILURE(acpi_get_table((char *)lu_iommu_tables[i].sig,
						0, &table)))
			continue;
		acpi_put_table(table);
		return lu_iommu_tables[i].why;
	}
	return NULL;
}

static const char *of_iommu(struct pci_dev *dev)
{
	struct device *host = pci_find_host_bridge(dev->bus)->dev.parent;

	if (!host || !host->of_node)
		return NULL;
	if (of_property_present(host->of_node, "iommu-map") ||
	    of_property_present(host->of_node, "iommus"))
		return "the Device Tree puts an IOMMU above the host bridge";
	return NULL;
}

/**
 * pci_lu_dma_verdict - decide whether DMA goes on during the kexec
 * @dev: device about to be preserved
 * @why: set to the reason if the device will be paused
 *
 * Context: may sleep.
 * Return: %PCI_LIVEUPDATE_DMA_UNTRANSLATED if it does.
 */
enum pci_liveupdate_dma pci_lu_dma_verdict(struct pci_dev *dev, const char **why)
{
	*why = NULL;

	/*
	 * dev->iommu and not the IOMMU group: VFIO gives a device without an
	 * IOMMU a group of its own making.
	 */
	if (dev->dev.iommu)
		*why = "an IOMMU translates for it";
	else
		*why = acpi_iommu() ?: of_iommu(dev);

	if (!*why || pci_lu_break & PCI_LU_BREAK_PAUSE)
		return PCI_LIVEUPDATE_DMA_UNTRANSLATED;
	return PCI_LIVEUPDATE_DMA_PAUSED;
}
