// SPDX-License-Identifier: GPL-2.0
/* libFuzzer: a kernel image that somebody brought from somewhere. */

#include <stdint.h>
#include <stdlib.h>

#include "../cmd/image.h"
#include "../cmd/kconfig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct image img;
	const char *why;

	if (!image_parse(data, size, &img, &why) && img.config)
		kconfig_is(img.config, "CONFIG_PCI_LIVEUPDATE", "y");
	image_free(&img);
	return 0;
}
