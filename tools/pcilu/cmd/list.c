// SPDX-License-Identifier: GPL-2.0
/* pcilu list and pcilu check */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../lib/include/pcilu.h"
#include "cmd.h"
#include "device.h"
#include "json.h"
#include "table.h"

static const char *answer(const struct device *dev)
{
	if (dev->follows)
		return "follows";
	return dev->nr_blockers ? dev->blocker[0]->text : "yes";
}

static void owner_text(const struct device *dev, char *text, size_t size)
{
	text[0] = '\0';
	if (dev->owner)
		snprintf(text, size, "%s[%d]", dev->owner_name, dev->owner);
}

static void print_table(const struct devices *d, bool verbose)
{
	struct table *t = verbose ?
				  TABLE("DEVICE", "ID", "DRIVER", "OWNER",
					"STATE", "DMA", "PRESERVABLE", "NAME") :
				  TABLE("DEVICE", "ID", "DRIVER", "OWNER",
					"STATE", "PRESERVABLE");
	int i;

	for (i = 0; i < d->count; i++) {
		const struct device *dev = &d->dev[i];
		const char *state =
			dev->state < 0 ? "-" : pcilu_state_name(dev->state);
		char id[16], owner[96];

		snprintf(id, sizeof(id), "%04x:%04x", dev->pci->vendor_id,
			 dev->pci->device_id);
		owner_text(dev, owner, sizeof(owner));
		if (verbose)
			ROW(t, dev->bdf, id, dev->driver, owner, state,
			    dev->dma, answer(dev), dev->name);
		else
			ROW(t, dev->bdf, id, dev->driver, owner, state,
			    answer(dev));
	}
	table_print(t);
}

/* Is there a bridge to this bus, so that it is shown below that? */
static bool is_behind_bridge(const struct devices *d, const struct pci_dev *pci)
{
	int i;

	for (i = 0; i < d->count; i++) {
		const struct device *dev = &d->dev[i];

		if (dev->bridge && dev->pci->domain == pci->domain &&
		    pci->bus && dev->secondary == pci->bus &&
		    dev->pci->bus != pci->bus)
			return true;
	}
	return false;
}

static void print_bus(const struct devices *d, bool *shown, int domain, int bus,
		      int depth)
{
	int i;

	for (i = 0; i < d->count; i++) {
		const struct device *dev = &d->dev[i];

		if (shown[i] || dev->pci->domain != domain ||
		    dev->pci->bus != bus)
			continue;
		/* Numbers that make a loop end at what was shown */
		shown[i] = true;
		printf("%*s+-%s  %s  %s%s%s\n", depth * 2, "", dev->bdf,
		       dev->driver ? dev->driver : "-",
		       dev->state > 0 ? pcilu_state_name(dev->state) : "",
		       dev->state > 0 ? "  " : "", answer(dev));
		if (dev->bridge && dev->secondary && dev->secondary != bus)
			print_bus(d, shown, domain, dev->secondary, depth + 1);
	}
}

/* Buses without a bridge first; then what is left, whose numbers make no sense */
static int print_tree(const struct devices *d)
{
	autofree bool *shown = calloc((size_t)d->count + 1, sizeof(*shown));
	int i, pass;

	if (!shown)
		return fail(ST_FAILED, "out of memory");
	for (pass = 0; pass < 2; pass++) {
		for (i = 0; i < d->count; i++) {
			const struct pci_dev *pci = d->dev[i].pci;

			if (shown[i] || (!pass && is_behind_bridge(d, pci)))
				continue;
			printf("-[%04x:%02x]\n", pci->domain, pci->bus);
			print_bus(d, shown, pci->domain, pci->bus, 1);
		}
	}
	return ST_YES;
}

static struct json_object *devices_doc(const char *name,
				       const struct devices *d)
{
	struct json_object *doc = doc_new(name);
	struct json_object *array = add_array(doc, "devices");
	int i;

	for (i = 0; i < d->count; i++)
		device_json(&d->dev[i], array);
	return doc;
}

int cmd_list(const struct options *o)
{
	__attribute__((cleanup(devices_free))) struct devices d;
	int err = devices_scan(&d, o);

	if (err)
		return err;
	if (o->json) {
		autojson *doc = devices_doc("list", &d);

		doc_print(doc);
	} else if (o->tree) {
		return print_tree(&d);
	} else {
		print_table(&d, o->verbose);
	}
	return ST_YES;
}

static void print_answer(const struct device *dev)
{
	int i;

	printf("%s: %s\n", dev->bdf,
	       dev->nr_blockers ? "cannot be preserved" : "can be preserved");
	for (i = 0; i < dev->nr_blockers; i++)
		printf("  %s: %s\n", dev->blocker[i]->text,
		       dev->blocker[i]->remedy);
	for (i = 0; i < dev->nr_warnings; i++)
		printf("  note: %s: %s\n", dev->warning[i]->text,
		       dev->warning[i]->remedy);
	if (!dev->nr_blockers)
		printf("  DMA during the kexec: %s\n", dev->dma);
}

int cmd_check(const struct options *o)
{
	__attribute__((cleanup(devices_free))) struct devices d = { 0 };
	int i, ret, answer = ST_YES;

	if (!o->nr_args && !o->slot)
		return fail(ST_USAGE, "check needs the address of a device");
	ret = devices_scan(&d, o);
	if (ret && ret != ST_ABSENT)
		return ret;
	for (i = 0; i < d.count; i++) {
		if (!o->json)
			print_answer(&d.dev[i]);
		if (d.dev[i].nr_blockers)
			answer = ST_NO;
	}
	if (o->json && !ret) {
		autojson *doc = devices_doc("check", &d);

		doc_print(doc);
	}
	return ret ? ret : answer;
}
