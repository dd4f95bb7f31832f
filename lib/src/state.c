// SPDX-License-Identifier: LGPL-2.1-or-later
/* What the kernel tells of a device in its liveupdate/state file. */

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "path.h"
#include "pcilu.h"

static const char *const words[] = {
	[PCILU_STATE_NONE] = "none",
	[PCILU_STATE_PRESERVED] = "preserved",
	[PCILU_STATE_CLAIMED] = "claimed",
	[PCILU_STATE_INCOMING] = "incoming",
	[PCILU_STATE_LOST] = "lost",
	[PCILU_STATE_DEAD] = "dead",
};

const char *pcilu_state_name(int state)
{
	return state >= 0 && state < (int)ARRAY_SIZE(words) ? words[state] :
							      "unknown";
}

/* The address becomes part of a path, so nothing but an address will do */
static int is_bdf(const char *bdf)
{
	size_t domain = strspn(bdf, "0123456789abcdefABCDEF");
	const char *p = bdf + domain;

	return domain >= 4 && domain <= 8 && p[0] == ':' &&
	       isxdigit((unsigned char)p[1]) && isxdigit((unsigned char)p[2]) &&
	       p[3] == ':' && isxdigit((unsigned char)p[4]) &&
	       isxdigit((unsigned char)p[5]) && p[6] == '.' && p[7] >= '0' &&
	       p[7] <= '7' && !p[8];
}

int pcilu_device_state(const char *bdf)
{
	autofree char *dir = NULL, *path = NULL, *word = NULL;
	char lower[sizeof("00000000:00:00.0")];
	ssize_t n;
	size_t i;

	if (!bdf || !is_bdf(bdf))
		return -EINVAL;
	for (i = 0; bdf[i]; i++)
		lower[i] = (char)tolower((unsigned char)bdf[i]);
	lower[i] = '\0';
	dir = path_of("/sys/bus/pci/devices/%s", lower);
	path = path_of("/sys/bus/pci/devices/%s/liveupdate/state", lower);
	if (!dir || !path)
		return -ENOMEM;
	n = path_line(path, &word);
	if (n == -ENOENT)
		return access(dir, F_OK) ? -ENODEV : -EOPNOTSUPP;
	if (n < 0)
		return (int)n;
	for (i = 0; i < ARRAY_SIZE(words); i++)
		if (!strcmp(word, words[i]))
			return (int)i;
	return -EPROTO;
}
