// SPDX-License-Identifier: GPL-2.0
/* The next kernel's configuration: what it must have, and what it does otherwise. */

#include <stdlib.h>
#include <string.h>

#include "../../../lib/include/pcilu.h"
#include "kconfig.h"
#include "params.h"
#include "preflight.h"

static bool always(const struct preflight *pf)
{
	(void)pf;
	return true;
}

/* Is something preserved whose driver runs without an IOMMU? */
static bool no_iommu(const struct preflight *pf)
{
	int i;

	for (i = 0; i < pf->devices.count; i++) {
		const struct device *d = &pf->devices.dev[i];

		if (d->state > PCILU_STATE_NONE && d->cdev &&
		    !strncmp(d->cdev, "noiommu-", 8))
			return true;
	}
	return false;
}

static bool virtual_functions(const struct preflight *pf)
{
	int i;

	for (i = 0; i < pf->devices.count; i++)
		if (pf->devices.dev[i].state > PCILU_STATE_NONE &&
		    device_is_virtual_function(&pf->devices.dev[i]))
			return true;
	return false;
}

static const struct {
	const char *option;
	bool module_will_do;
	bool (*if_so)(const struct preflight *pf);
	const char *what;
} wanted[] = {
	{ "CONFIG_PCI_LIVEUPDATE", false, always, "PCI Live Update" },
	{ "CONFIG_LIVEUPDATE", false, always, "the Live Update Orchestrator" },
	{ "CONFIG_LIVEUPDATE_MEMFD", false, always, "hand-over of memory" },
	{ "CONFIG_KEXEC_HANDOVER", false, always, "Kexec HandOver" },
	{ "CONFIG_KEXEC_FILE", false, always,
	  "kexec, so it could never be replaced" },
	{ "CONFIG_VFIO_PCI", true, always, "vfio-pci" },
	{ "CONFIG_VFIO_DEVICE_CDEV", false, always, "VFIO device files" },
	{ "CONFIG_IOMMUFD", true, always, "iommufd" },
	{ "CONFIG_PCI_LIVEUPDATE_VFS", false, virtual_functions,
	  "the hand-over of Virtual Functions, one of which is preserved" },
	{ "CONFIG_VFIO_NOIOMMU", false, no_iommu,
	  "VFIO without an IOMMU, which a preserved device uses" },
	{ "CONFIG_IOMMUFD_NOIOMMU", false, no_iommu,
	  "iommufd without an IOMMU, which a preserved device uses" },
};

static void check_wanted(struct preflight *pf)
{
	const struct image *img = &pf->image;
	bool all = true;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(wanted); i++) {
		if (!wanted[i].if_so(pf) ||
		    kconfig_is(img->config, wanted[i].option, "y") ||
		    (wanted[i].module_will_do &&
		     kconfig_is(img->config, wanted[i].option, "m")))
			continue;
		all = false;
		pf_add(pf, "config", PF_FAIL, "build it with this option",
		       "the next kernel lacks %s (%s)", wanted[i].what,
		       wanted[i].option);
	}
	if (all)
		pf_add(pf, "config", PF_PASS, NULL,
		       "all options are there, from %s",
		       img->config_path ? img->config_path :
					  "the image itself");
}

/* The option of a built-in VFIO; a module gets it from modprobe.d */
static void check_noiommu_mode(struct preflight *pf)
{
	static const char name[] = "vfio.enable_unsafe_noiommu_mode";

	if (no_iommu(pf) && kconfig_is(pf->image.config, "CONFIG_VFIO", "y") &&
	    !params_is_on(pf->cmdline, name, false))
		pf_add(pf, "config", PF_FAIL,
		       "add vfio.enable_unsafe_noiommu_mode=1 to the command line",
		       "the next kernel would not open a preserved device that has no IOMMU");
}

/* Choices that move devices or their DMA unless the command line says otherwise */
static const struct {
	const char *option, *effect;
} choices[] = {
	{ "CONFIG_INTEL_IOMMU", "whether and how DMA is translated" },
	{ "CONFIG_INTEL_IOMMU_DEFAULT_ON", "whether DMA is translated" },
	{ "CONFIG_INTEL_IOMMU_SCALABLE_MODE_DEFAULT_ON",
	  "how DMA is translated" },
	{ "CONFIG_AMD_IOMMU", "whether and how DMA is translated" },
	{ "CONFIG_ARM_SMMU", "whether and how DMA is translated" },
	{ "CONFIG_ARM_SMMU_V3", "whether and how DMA is translated" },
	{ "CONFIG_IOMMU_DEFAULT_PASSTHROUGH", "how DMA is translated" },
	{ "CONFIG_IRQ_REMAP", "interrupt remapping" },
	{ "CONFIG_PCI_REALLOC_ENABLE_AUTO", "whether BARs move" },
	{ "CONFIG_PCIE_BUS_TUNE_OFF", "payload sizes" },
	{ "CONFIG_PCIE_BUS_SAFE", "payload sizes" },
	{ "CONFIG_PCIE_BUS_PERFORMANCE", "payload sizes" },
	{ "CONFIG_PCIE_BUS_PEER2PEER", "payload sizes" },
	{ "CONFIG_PCIEASPM", "link power states" },
	{ "CONFIG_HOTPLUG_PCI_PCIE", "hotplug" },
};

static void check_choices(struct preflight *pf)
{
	autofree char *running = kconfig_running();
	size_t i;

	for (i = 0; running && i < ARRAY_SIZE(choices); i++) {
		bool here = kconfig_is(running, choices[i].option, "y");
		bool there =
			kconfig_is(pf->image.config, choices[i].option, "y");

		if (here != there)
			pf_add(pf, "config", PF_WARN, NULL,
			       "the next kernel %s %s: it changes %s",
			       there ? "has" : "lacks", choices[i].option,
			       choices[i].effect);
	}
}

void check_config(struct preflight *pf)
{
	if (!pf->readable)
		return;
	if (!pf->image.config) {
		pf_add(pf, "config", PF_FAIL,
		       "build it with CONFIG_IKCONFIG=y, or name its configuration with --config",
		       "the image does not tell its configuration");
		return;
	}
	check_wanted(pf);
	check_noiommu_mode(pf);
	check_choices(pf);
}
