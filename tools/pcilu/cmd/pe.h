/* SPDX-License-Identifier: GPL-2.0 */
/* PE files, which kernels with an EFI stub and unified kernel images are. */
#ifndef PCILU_PE_H
#define PCILU_PE_H

#include "view.h"

/* Is it a PE file, whose headers at least are there? */
bool pe_is(const struct view *v);

/* Does it carry a signature, and is that there? Nobody checks it here. */
bool pe_signed(const struct view *v);

/* Bytes that the file must have for its sections and its signature */
size_t pe_needs(const struct view *v);

/* The section of that name: 0, -ENOENT, or -EBADMSG if it is not all there */
int pe_section(const struct view *v, const char *name, struct view *out);

#endif /* PCILU_PE_H */
