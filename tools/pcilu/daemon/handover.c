// SPDX-License-Identifier: GPL-2.0

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "../../../lib/include/pcilu.h"
#include "../../../lib/src/cleanup.h"
#include "../../../lib/src/luo.h"
#include "../common/log.h"
#include "dispatch.h"
#include "handover.h"

#define TOKEN_REGISTRY 1

/* The previous daemon's outgoing sessions are this one's incoming ones */
static void inherit(struct registry *reg, int memfd)
{
	struct registry *old = registry_from_fd(memfd);
	unsigned int n = 0;
	struct entry *e;
	uint32_t i;

	if (!old) {
		log_msg(LOG_ERR,
			"the list of sessions from the previous kernel is not understood (%s): sessions can be retrieved, but not listed",
			strerror(errno));
		close(memfd);
		return;
	}
	for (i = 0; (e = registry_next(old, &i)); i++) {
		if (e->direction != PCILU_OUTGOING)
			continue;
		if (!registry_add(reg, PCILU_INCOMING, e->name, e->uid, 0, -1))
			break;
		n++;
	}
	registry_free(old);
	log_msg(LOG_NOTICE, "%u sessions from the previous kernel", n);
}

static int preserve(struct registry *reg, int luo)
{
	autoclose int own = luo_session_create(luo, OWN_SESSION);
	int err;

	if (own < 0)
		return own;
	err = luo_preserve_fd(own, registry_fd(reg), TOKEN_REGISTRY);
	return err ? err : take_fd(&own);
}

struct registry *handover_start(int luo, int *own)
{
	autoclose int incoming = luo_session_retrieve(luo, OWN_SESSION);
	struct registry *reg = registry_new();

	if (!reg) {
		log_msg(LOG_ERR, "no memory for the list of sessions");
		return NULL;
	}
	if (incoming >= 0) {
		int memfd = luo_retrieve_fd(incoming, TOKEN_REGISTRY);

		if (memfd >= 0)
			inherit(reg, memfd);
		else
			log_msg(LOG_ERR,
				"the list of sessions from the previous kernel is lost: %s",
				strerror(-memfd));
	} else if (incoming != -ENOENT) {
		log_msg(LOG_ERR,
			"the session '" OWN_SESSION "' cannot be retrieved: %s",
			strerror(-incoming));
	}

	/* Only now is the old list not needed any more: closing it finishes it */
	*own = preserve(reg, luo);
	if (*own < 0) {
		log_msg(LOG_ERR, "the list of sessions cannot be preserved: %s",
			strerror(-*own));
		registry_free(reg);
		return NULL;
	}
	return reg;
}
