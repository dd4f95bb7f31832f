// SPDX-License-Identifier: GPL-2.0
/* libFuzzer: an initrd, and the boot configuration behind it. */

#include <stdint.h>
#include <stdlib.h>

#include "../cmd/bootconfig.h"
#include "../cmd/initrd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct initrd initrd;
	const char *why;

	if (!initrd_parse((const char *)data, size, "7.3.5-next", &initrd,
			  &why) &&
	    initrd.bootconfig_size)
		free(bootconfig_cmdline(initrd.bootconfig,
					initrd.bootconfig_size));
	/* Its text is behind a checksum that no fuzzer finds */
	free(bootconfig_cmdline((const char *)data, size));
	return 0;
}
