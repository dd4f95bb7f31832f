/* SPDX-License-Identifier: GPL-2.0 */
/*
 * GICv3 and Live Update: what the hardware keeps in memory during a kexec.
 */
#ifndef __LINUX_IRQCHIP_ARM_GIC_V3_LIVEUPDATE_H
#define __LINUX_IRQCHIP_ARM_GIC_V3_LIVEUPDATE_H

#include <linux/compiler_types.h>

struct rdists;
struct redist_region;

/* Is called with each redistributor, and ends the walk by returning 0 */
typedef int (*gic_rdist_fn)(struct redist_region *region, void __iomem *rd);

#ifdef CONFIG_PCI_LIVEUPDATE_GIC

void gic_liveupdate_init(struct rdists *rdists, int (*for_each_rdist)(gic_rdist_fn fn),
			 gic_rdist_fn reset_vpes);
void gic_liveupdate_init_its(int (*stop_its)(void *unused));
int gic_liveupdate_may_preserve(void);
void gic_liveupdate_shutdown(void);

#else

static inline void gic_liveupdate_init(struct rdists *rdists,
				       int (*for_each_rdist)(gic_rdist_fn fn),
				       gic_rdist_fn reset_vpes)
{
}

static inline void gic_liveupdate_init_its(int (*stop_its)(void *unused))
{
}

static inline int gic_liveupdate_may_preserve(void)
{
	return 0;
}

static inline void gic_liveupdate_shutdown(void)
{
}

#endif /* CONFIG_PCI_LIVEUPDATE_GIC */

#endif /* __LINUX_IRQCHIP_ARM_GIC_V3_LIVEUPDATE_H */
