// SPDX-License-Identifier: GPL-2.0
/*
 * May a preserved device go on with DMA while the kernel is replaced?
 */

/**
 * DOC: DMA across the kexec
 *
 * A device keeps Bus Master through the kexec only if nothing translates the
 * addresses it puts on the bus, in this kernel and in the next, or if its driver says
 * that what translates can be frozen and handed over (see drivers/iommu/liveupdate.c).
 * Where an IOMMU translates otherwise, its page tables are lost and the same addresses
 * mean other memory: such a device is paused.
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

/**
 * pci_lu_iort_has_smmu - does an IO Remapping Table describe an SMMU?
 * @table: the whole table
 *
 * On arm64 the table is there without one, too: it says which ITS the host
 * bridges send their MSIs to.
 *
 * Return: true if it does, or if the table cannot be read to its end.
 */
bool pci_lu_iort_has_smmu(const struct acpi_table_header *table)
{
	const struct acpi_table_iort *iort;
	u64 offset;

	if (table->length < sizeof(*iort))
		return true;

	iort = container_of_const(table, struct acpi_table_iort, header);
	offset = iort->node_offset;
	for (u32 i = 0; i < iort->node_count; i++) {
		const struct acpi_iort_node *node = (const void *)table + offset;

		if (offset + sizeof(*node) > table->length || node->length < sizeof(*node))
			return true;
		if (node->type == ACPI_IORT_NODE_SMMU || node->type == ACPI_IORT_NODE_SMMU_V3)
			return true;
		offset += node->length;
	}
	return false;
}

/* IOMMUs that the next kernel could switch on without asking */
static const struct {
	char sig[ACPI_NAMESEG_SIZE + 1];
	const char *why;
	bool (*has)(const struct acpi_table_header *table);	/* NULL: always */
} lu_iommu_tables[] = {
	{ "IVRS", "the machine has an AMD IOMMU" },
	{ "IORT", "the machine has an SMMU (IORT)", pci_lu_iort_has_smmu },
	{ "VIOT", "the machine has a virtio IOMMU" },
	{ "RIMT", "the machine may have a RISC-V IOMMU (RIMT)" },
};

static const char *acpi_iommu(void)
{
	if (!IS_ENABLED(CONFIG_ACPI) || acpi_disabled)
		return NULL;

	for (int i = 0; i < ARRAY_SIZE(lu_iommu_tables); i++) {
		struct acpi_table_header *table;
		bool has;

		if (ACPI_FAILURE(acpi_get_table((char *)lu_iommu_tables[i].sig,
						0, &table)))
			continue;
		has = !lu_iommu_tables[i].has || lu_iommu_tables[i].has(table);
		acpi_put_table(table);
		if (has)
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
