// SPDX-License-Identifier: GPL-2.0
/*
 * PCI Live Update in sysfs, see Documentation/ABI/testing/sysfs-bus-pci-liveupdate.
 */

#include <linux/sysfs.h>

#include "internal.h"

/* The first that holds is the state */
static const struct {
	int bit;
	const char *name;
} lu_states[] = {
	{ PCI_LU_DEAD,		"dead" },
	{ PCI_LU_LOST,		"lost" },
	{ PCI_LU_OUTGOING,	"preserved" },
	{ PCI_LU_CLAIMED,	"claimed" },
	{ PCI_LU_ADOPTED,	"incoming" },
};

static ssize_t state_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct pci_dev *pdev = to_pci_dev(dev);

	for (int i = 0; i < ARRAY_SIZE(lu_states); i++)
		if (test_bit(lu_states[i].bit, &pdev->lu_flags))
			return sysfs_emit(buf, "%s\n", lu_states[i].name);
	return sysfs_emit(buf, "none\n");
}
static DEVICE_ATTR_RO(state);

static ssize_t dma_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct pci_dev *pdev = to_pci_dev(dev);
	const char *word = "none";

	guard(rwsem_read)(&pci_lu_rwsem);
	if (pci_lu_has_owner(pdev->lu_outgoing) || pci_lu_has_owner(pci_lu_record(pdev))) {
		if (pci_lu_dma_locked(pdev) == PCI_LIVEUPDATE_DMA_UNTRANSLATED)
			word = "untranslated";
		else if (pci_lu_dma_locked(pdev) == PCI_LIVEUPDATE_DMA_TRANSLATED)
			word = "translated";
		else
			word = pci_lu_was_pending_locked(pdev) ? "paused-pending" : "paused";
	}
	return sysfs_emit(buf, "%s\n", word);
}
static DEVICE_ATTR_RO(dma);

/* Some answers are read from the device, so they are not for everybody */
static ssize_t refusal_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	const struct pci_lu_refusal *refusal;
	const struct pci_driver *drv;

	guard(rwsem_read)(&pci_lu_rwsem);
	refusal = pci_lu_refusal(to_pci_dev(dev), PCI_LU_PRESERVE);
	if (!refusal)
		return sysfs_emit(buf, "none\n");
	drv = refusal->driver ? refusal->driver(to_pci_dev(dev)) : NULL;
	return sysfs_emit(buf, "%s%s%s; %s\n", refusal->reason, drv ? ": " : "",
			  drv ? drv->name : "", refusal->remedy);
}
static DEVICE_ATTR_ADMIN_RO(refusal);

static ssize_t abi_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct pci_dev *pdev = to_pci_dev(dev);

	guard(rwsem_read)(&pci_lu_rwsem);
	if (!pdev->lu_outgoing)
		return sysfs_emit(buf, "none\n");
	return sysfs_emit(buf, "%#x\n", pci_lu_outgoing_abi(pdev->lu_outgoing));
}
static DEVICE_ATTR_RO(abi);

static ssize_t guard_count_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", pci_lu_guard_count(to_pci_dev(dev)));
}
static DEVICE_ATTR_RO(guard_count);

static struct attribute *lu_attrs[] = {
	&dev_attr_state.attr,
	&dev_attr_dma.attr,
	&dev_attr_refusal.attr,
	&dev_attr_abi.attr,
	&dev_attr_guard_count.attr,
	NULL
};

static umode_t lu_attr_is_visible(struct kobject *kobj, struct attribute *attr, int n)
{
	if (attr == &dev_attr_guard_count.attr && !IS_ENABLED(CONFIG_PCI_LIVEUPDATE_GUARD))
		return 0;
	return attr->mode;
}

const struct attribute_group pci_liveupdate_attr_group = {
	.name	= "liveupdate",
	.attrs	= lu_attrs,
	.is_visible = lu_attr_is_visible,
};
