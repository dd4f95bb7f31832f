// SPDX-License-Identifier: GPL-2.0
/* libFuzzer: the policy file. */

#include <stdint.h>
#include <stdlib.h>

#include "../common/log.h"
#include "../daemon/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct peer peer = { .uid = 1, .gid = 1 };
	struct policy *policy;
	char *why = NULL;

	log_level = -1;
	policy = policy_parse((const char *)data, size, &why);
	if (policy) {
		policy_may_use(policy, &peer, "vm-1");
		policy_may_hold(policy, &peer);
	}
	policy_free(policy);
	free(why);
	return 0;
}
