/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM pci_liveupdate

#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE pci_liveupdate_guard

#if !defined(_TRACE_PCI_LIVEUPDATE_GUARD_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_PCI_LIVEUPDATE_GUARD_H

#include <linux/pci.h>
#include <linux/tracepoint.h>

/* See drivers/pci/liveupdate/guard.c */
struct pci_lu_write;

/* A write that did not reach the hardware as it was meant; trigger stacktrace tells whose */
TRACE_EVENT(pci_liveupdate_guard,
	    TP_PROTO(const struct pci_lu_write *write),
	    TP_ARGS(write),
	    TP_STRUCT__entry(__field(u32, domain)
			     __field(u16, bdf)
			     __field(u16, where)
			     __field(u8, size)
			     __field(bool, through)
			     __field(u32, value)
			     __field(u32, current_value)
			     __field(u32, passed)),
	    TP_fast_assign(__entry->domain = pci_domain_nr(write->bus);
			   __entry->bdf = PCI_DEVID(write->bus->number, write->devfn);
			   __entry->where = write->where;
			   __entry->size = write->size;
			   __entry->through = write->through;
			   __entry->value = write->value;
			   __entry->current_value = write->current_value;
			   __entry->passed = write->passed;),
	    TP_printk("%04x:%02x:%02x.%d @%#x/%u <- %#x over %#x %s %#x",
		      __entry->domain, PCI_BUS_NUM(__entry->bdf),
		      PCI_SLOT(__entry->bdf), PCI_FUNC(__entry->bdf),
		      __entry->where, __entry->size, __entry->value,
		      __entry->current_value,
		      __entry->through ? "became" : "dropped, not", __entry->passed)
);

#endif /* _TRACE_PCI_LIVEUPDATE_GUARD_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
