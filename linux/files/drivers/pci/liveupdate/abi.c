// SPDX-License-Identifier: GPL-2.0
/*
 * PCI Live Update: versions of what is handed over.
 */

/**
 * DOC: Versions of the records
 *
 * A kernel reads from ``CONFIG_PCI_LIVEUPDATE_ABI_OLDEST`` to
 * ``CONFIG_PCI_LIVEUPDATE_ABI``, and writes the oldest version of these that can say
 * what is preserved. Which one that is turns out when the kexec begins: records
 * change until then.
 *
 * A version that moves nothing and only gives a meaning to what the one before
 * reserves needs no conversion. Records of the older one are records of the newer
 * one that do not use what it adds, so reading them takes the older one's rules and
 * no more; and records that are content with the older one's rules can be handed
 * over under its number.
 *
 * What the next kernel reads, this one cannot know. Who loads it can say so, with
 * the parameters ``pci_liveupdate.abi_oldest`` and ``.abi_newest``: nothing older is
 * written, and what would take something newer is refused, be it when a device is
 * preserved or when the kexec begins. By default they are what this kernel reads.
 */

#define pr_fmt(fmt) "PCI Live Update: " fmt

#include <linux/kho_block.h>
#include <linux/minmax.h>
#include <linux/moduleparam.h>
#include <linux/string.h>

#include "internal.h"

static_assert(CONFIG_PCI_LIVEUPDATE_ABI == PCI_LIVEUPDATE_ABI_VERSION);
static_assert(CONFIG_PCI_LIVEUPDATE_ABI_OLDEST == PCI_LIVEUPDATE_ABI_OLDEST);

#undef MODULE_PARAM_PREFIX
#define MODULE_PARAM_PREFIX "pci_liveupdate."

unsigned int pci_lu_abi_oldest = PCI_LIVEUPDATE_ABI_OLDEST;
unsigned int pci_lu_abi_newest = PCI_LIVEUPDATE_ABI_VERSION;

static int abi_set(const char *val, const struct kernel_param *kp)
{
	unsigned int version;
	int err;

	err = kstrtouint(val, 0, &version);
	if (err)
		return err;
	if (!pci_lu_abi_known(version))
		return -EINVAL;
	WRITE_ONCE(*(unsigned int *)kp->arg, version);
	return 0;
}

static const struct kernel_param_ops abi_ops = {
	.set	= abi_set,
	.get	= param_get_hexint,
};

module_param_cb(abi_oldest, &abi_ops, &pci_lu_abi_oldest, 0644);
MODULE_PARM_DESC(abi_oldest, "oldest version that the next kernel reads");
module_param_cb(abi_newest, &abi_ops, &pci_lu_abi_newest, 0644);
MODULE_PARM_DESC(abi_newest, "newest version that the next kernel reads");

/**
 * pci_lu_abi_known - is this a version that this kernel reads and writes?
 * @version: first word of a header
 *
 * Return: true if it is.
 */
bool pci_lu_abi_known(u32 version)
{
	return version >= PCI_LIVEUPDATE_ABI_OLDEST && version <= PCI_LIVEUPDATE_ABI_VERSION;
}

/**
 * pci_lu_slot_is_free - is this slot of the record set unused?
 * @rec: slot
 *
 * Return: true if it describes no function.
 */
bool pci_lu_slot_is_free(const struct pci_liveupdate_record_ser *rec)
{
	return !rec->use_count;
}

/* A slot of version 2 that belongs to a Physical Function's record */
static const char *check_iov(const struct pci_liveupdate_record_ser *rec)
{
	struct pci_liveupdate_record_ser rest = *rec;

	if (rec->flags != PCI_LIVEUPDATE_F_IOV)
		return "flags of a function for an SR-IOV capability";
	if (rec->iov.owner >= PCI_LIVEUPDATE_PF_NR)
		return "unknown owner of a Physical Function";
	if (rec->iov.flags & ~PCI_LIVEUPDATE_IOV_ALL)
		return "unknown flags of an SR-IOV capability";
	if (memchr_inv(rec->iov.reserved, 0, sizeof(rec->iov.reserved)))
		return "reserved fields in use";
	if (rec->iov.owner != PCI_LIVEUPDATE_PF_USER &&
	    memchr_inv(rec->iov.vf_token, 0, sizeof(rec->iov.vf_token)))
		return "VF token of a Physical Function without a user";

	/* What it has in common with a function */
	rest.domain = 0;
	rest.bdf = 0;
	rest.flags = 0;
	rest.use_count = 0;
	rest.claimed = 0;
	memset(rest.bars, 0, sizeof(rest.bars));
	memset(&rest.iov, 0, sizeof(rest.iov));
	if (memchr_inv(&rest, 0, sizeof(rest)))
		return "fields of a function for an SR-IOV capability";
	return NULL;
}

static const char *check_v1(const struct pci_liveupdate_record_ser *rec)
{
	if (rec->flags & ~PCI_LIVEUPDATE_F_ALL_V1)
		return "unknown flags";
	if (rec->dma >= PCI_LIVEUPDATE_DMA_TRANSLATED)
		return "unknown DMA verdict";
	if (rec->reserved0 || memchr_inv(rec->reserved, 0, sizeof(rec->reserved)))
		return "reserved fields in use";
	return NULL;
}

static const char *check_v2(const struct pci_liveupdate_record_ser *rec)
{
	if (rec->flags & ~PCI_LIVEUPDATE_F_ALL)
		return "unknown flags";
	if (rec->flags & PCI_LIVEUPDATE_F_IOV)
		return check_iov(rec);
	if (rec->dma >= PCI_LIVEUPDATE_DMA_NR)
		return "unknown DMA verdict";
	if (rec->reserved0 || rec->reserved1 || rec->iommu.reserved ||
	    memchr_inv(rec->reserved2, 0, sizeof(rec->reserved2)))
		return "reserved fields in use";
	if (rec->dma != PCI_LIVEUPDATE_DMA_TRANSLATED &&
	    memchr_inv(&rec->iommu, 0, sizeof(rec->iommu)))
		return "domain of a function for which nothing translates";
	if (!(rec->flags & PCI_LIVEUPDATE_F_VF) && memchr_inv(&rec->vf, 0, sizeof(rec->vf)))
		return "number of a Virtual Function for another function";
	return NULL;
}

/**
 * pci_lu_abi_check - does a record only say what its version can?
 * @rec: slot in use
 * @version: a known one
 *
 * Return: NULL, or what it says that the version does not know.
 */
const char *pci_lu_abi_check(const struct pci_liveupdate_record_ser *rec, u32 version)
{
	return version == PCI_LIVEUPDATE_ABI_V1 ? check_v1(rec) : check_v2(rec);
}

#define LU_SRIOV	(PCI_LIVEUPDATE_F_IOV | PCI_LIVEUPDATE_F_PF | PCI_LIVEUPDATE_F_VF)

/**
 * pci_lu_abi_no_code - is there something that this kernel cannot honour?
 * @rec: slot in use that pci_lu_abi_check() is content with
 *
 * Return: NULL if there is not, or what it is.
 */
const char *pci_lu_abi_no_code(const struct pci_liveupdate_record_ser *rec)
{
	/* What is defined, and not built, or not yet */
	if (rec->flags & LU_SRIOV && !IS_ENABLED(CONFIG_PCI_LIVEUPDATE_VFS))
		return "this kernel has no code for Virtual Functions";
	if (rec->dma == PCI_LIVEUPDATE_DMA_TRANSLATED && !IS_ENABLED(CONFIG_PCI_LIVEUPDATE_VTD))
		return "this kernel has no code for frozen IOMMU domains";
	return NULL;
}

/**
 * pci_lu_abi_of - the oldest version that can say this
 * @rec: slot in use
 *
 * Return: a version that this kernel writes.
 */
u32 pci_lu_abi_of(const struct pci_liveupdate_record_ser *rec)
{
	for (u32 version = PCI_LIVEUPDATE_ABI_OLDEST; version < PCI_LIVEUPDATE_ABI_VERSION;
	     version++)
		if (!pci_lu_abi_check(rec, version))
			return version;
	return PCI_LIVEUPDATE_ABI_VERSION;
}

/**
 * pci_lu_abi_of_set - the oldest version that can say all of this
 * @set: records
 *
 * Return: a version that this kernel writes.
 */
u32 pci_lu_abi_of_set(struct kho_block_set *set)
{
	u32 version = PCI_LIVEUPDATE_ABI_OLDEST;
	struct pci_liveupdate_record_ser *rec;
	struct kho_block_set_it it;

	kho_block_set_it_init(&it, set);
	while ((rec = kho_block_set_it_read_entry(&it)))
		if (!pci_lu_slot_is_free(rec))
			version = max(version, pci_lu_abi_of(rec));
	return version;
}
