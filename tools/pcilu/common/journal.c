// SPDX-License-Identifier: GPL-2.0

#define SD_JOURNAL_SUPPRESS_LOCATION

#include <stdio.h>
#include <stdlib.h>
#include <systemd/sd-journal.h>

#include "../../../lib/src/cleanup.h"
#include "journal.h"
#include "log.h"

#define FIELDS_MAX 16

/* Never another one for the same kind, and never the same for another */
static const char *const ids[] = {
	[JOURNAL_HELD] = "653c511f40004070b91e8aaa4612f576",
	[JOURNAL_RELEASED] = "61fef8b4ebaf414c8d250557e91e3f8b",
	[JOURNAL_NOT_READY] = "56bc337291524533a4a961bd37a6b016",
	[JOURNAL_JUMP] = "7ef9c02d7e1348929a94c3303b63df8a",
	[JOURNAL_FAILED] = "81817872d380475fbb16dae1fd129449",
	[JOURNAL_VERIFIED] = "53d53817dc07459ea240598ca8e18a15",
	[JOURNAL_BACK] = "2bdcb38bff3641108ee9828d82a24e3a",
	[JOURNAL_GIVEN_UP] = "bb16f4722a8441f0995bb13b16192067",
};

struct entry_fields {
	struct iovec iov[FIELDS_MAX];
	int count;
};

static void add(struct entry_fields *f, const char *name, const char *value)
{
	char *text;
	int n;

	if (!value || f->count == FIELDS_MAX)
		return;
	n = asprintf(&text, "%s=%s", name, value);
	if (n > 0)
		f->iov[f->count++] = (struct iovec){ text, (size_t)n };
}

bool journal_send(enum journal_kind kind, int level, const char *message,
		  const char *const *pairs)
{
	struct entry_fields f = { 0 };
	char priority[8];
	int err;

	snprintf(priority, sizeof(priority), "%d", level);
	add(&f, "MESSAGE", message);
	add(&f, "MESSAGE_ID", ids[kind]);
	add(&f, "PRIORITY", priority);
	add(&f, "SYSLOG_IDENTIFIER", log_program);
	for (; *pairs; pairs += 2)
		add(&f, pairs[0], pairs[1]);
	err = sd_journal_sendv(f.iov, f.count);
	while (f.count--)
		free(f.iov[f.count].iov_base);
	return err >= 0;
}
