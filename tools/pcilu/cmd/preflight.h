/* SPDX-License-Identifier: GPL-2.0 */
/* Will the next kernel take over what is preserved here? */
#ifndef PCILU_PREFLIGHT_H
#define PCILU_PREFLIGHT_H

#include <json-c/json.h>

#include "cmd.h"

enum verdict { PF_PASS, PF_WARN, PF_FAIL, PF_ACCEPTED };

#define FINDINGS_MAX 64

struct finding {
	const char *check; /* a stable name, for --accept and for programs */
	enum verdict verdict;
	char text[320];
	char remedy[256]; /* empty if there is nothing to do */
};

struct preflight {
	struct finding finding[FINDINGS_MAX];
	int count;
	char *cmdline; /* the next kernel's */
	char *release; /* NULL if the image does not tell */
	bool passed;
};

/* Looks at everything, changes nothing. Returns 0 or an exit status. */
int preflight_run(const struct options *o, struct preflight *pf);
void preflight_free(struct preflight *pf);

struct json_object *preflight_json(const struct options *o,
				   const struct preflight *pf);
void preflight_print(const struct preflight *pf, bool verbose);

#endif /* PCILU_PREFLIGHT_H */
