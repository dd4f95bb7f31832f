/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM pci_liveupdate

#if !defined(_TRACE_PCI_LIVEUPDATE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_PCI_LIVEUPDATE_H

#include <linux/pci.h>
#include <linux/tracepoint.h>

/* What happened to a function, and what of, in words */
DECLARE_EVENT_CLASS(pci_liveupdate,
		    TP_PROTO(const struct pci_dev *dev, const char *what),
		    TP_ARGS(dev, what),
		    TP_STRUCT__entry(__string(name, pci_name(dev))
				     __string(what, what)),
		    TP_fast_assign(__assign_str(name);
				   __assign_str(what);),
		    TP_printk("%s: %s", __get_str(name), __get_str(what))
);

/* Preserved: the verdict about DMA, or why it will pause */
DEFINE_EVENT(pci_liveupdate, pci_liveupdate_preserve,
	     TP_PROTO(const struct pci_dev *dev, const char *what),
	     TP_ARGS(dev, what)
);

/* Found in the incoming kernel: as it was preserved, or what differs */
DEFINE_EVENT(pci_liveupdate, pci_liveupdate_adopt,
	     TP_PROTO(const struct pci_dev *dev, const char *what),
	     TP_ARGS(dev, what)
);

/* Refused for the sake of a preserved device: the operation, or the driver */
DEFINE_EVENT(pci_liveupdate, pci_liveupdate_refuse,
	     TP_PROTO(const struct pci_dev *dev, const char *what),
	     TP_ARGS(dev, what)
);

/* Retrieved by its owner */
DEFINE_EVENT(pci_liveupdate, pci_liveupdate_claim,
	     TP_PROTO(const struct pci_dev *dev, const char *what),
	     TP_ARGS(dev, what)
);

/* Finished in the incoming kernel, or unpreserved in the outgoing one */
DEFINE_EVENT(pci_liveupdate, pci_liveupdate_finish,
	     TP_PROTO(const struct pci_dev *dev, const char *what),
	     TP_ARGS(dev, what)
);

/* At freeze, all CPUs were made to take the interrupts that waited for them */
TRACE_EVENT(pci_liveupdate_drain,
	    TP_PROTO(unsigned int cpus),
	    TP_ARGS(cpus),
	    TP_STRUCT__entry(__field(unsigned int, cpus)),
	    TP_fast_assign(__entry->cpus = cpus;),
	    TP_printk("cpus=%u", __entry->cpus)
);

#endif /* _TRACE_PCI_LIVEUPDATE_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
