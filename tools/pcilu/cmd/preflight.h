/* SPDX-License-Identifier: GPL-2.0 */
/* Will the next kernel take over what is preserved here? */
#ifndef PCILU_PREFLIGHT_H
#define PCILU_PREFLIGHT_H

#include <json-c/json.h>

#include "cmd.h"
#include "device.h"
#include "image.h"
#include "initrd.h"
#include "source.h"

enum verdict { PF_PASS, PF_WARN, PF_FAIL, PF_ACCEPTED };

struct finding {
	const char *check; /* a stable name, for --accept and for programs */
	enum verdict verdict;
	char text[320];
	char remedy[256]; /* empty if there is nothing to do */
};

struct preflight {
	const struct options *options;
	struct finding *finding;
	int count;
	bool passed;
	const struct finding *why; /* the first that refuses */

	/* What is looked at; what was looked at is what is loaded */
	struct source kernel, initrd;
	struct image image; /* valid if @readable */
	bool readable;
	struct initrd ramdisk;
	char *given; /* the next kernel's command line, as it is passed on */
	char *cmdline; /* as that kernel reads it */
	struct devices devices;
};

/* The names of all checks, NULL at the end */
extern const char *const pf_checks[];

/* Looks at everything, changes nothing. Returns 0 or an exit status. */
int preflight_run(const struct options *o, struct preflight *pf);
/* Once more, when owners have been asked: is anything in use and not preserved? */
int preflight_in_use(const struct options *o);
void preflight_free(struct preflight *pf);

struct json_object *preflight_json(const struct preflight *pf,
				   const char *schema);
/* Its array "checks" */
void preflight_checks(const struct preflight *pf, struct json_object *doc);
void preflight_print(const struct preflight *pf, bool verbose);

/* Opens what is loaded, a kernel out of its wrapping. Returns 0, or -errno and why. */
int preflight_open(const char *path, struct source *s, struct image *image,
		   const char **why);

/* --- for the checks ---------------------------------------------------------- */

void pf_add(struct preflight *pf, const char *check, enum verdict verdict,
	    const char *remedy, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

void check_image(struct preflight *pf);
void check_modules(struct preflight *pf);
void check_initrd(struct preflight *pf);
void check_config(struct preflight *pf);
void check_versions(struct preflight *pf);
void check_cmdline(struct preflight *pf);
void check_memory(struct preflight *pf);
void check_loading(struct preflight *pf);
void check_host(struct preflight *pf);

/* The next kernel's configuration, NULL if it is not known */
static inline const char *pf_config(const struct preflight *pf)
{
	return pf->readable ? pf->image.config : NULL;
}

#endif /* PCILU_PREFLIGHT_H */
