// SPDX-License-Identifier: GPL-2.0
/* libFuzzer: the configuration of a kernel, and what it makes of a command line. */

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../../lib/src/cleanup.h"
#include "../cmd/cmdline.h"
#include "../cmd/kconfig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	autofree char *text = malloc(size + 1);
	const char *how;

	memcpy(text, data, size);
	text[size] = '\0';
	free(kconfig_get(text, "CONFIG_PCI_LIVEUPDATE_ABI"));
	kconfig_is(text, "CONFIG_KEXEC_FILE", "y");
	free(cmdline_effective("root=/dev/sda1", text, NULL, &how));
	free(cmdline_effective("", text, "a=\"b\" ", &how));
	return 0;
}
