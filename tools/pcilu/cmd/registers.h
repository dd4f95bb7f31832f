/* SPDX-License-Identifier: GPL-2.0 */
/* What a live update must leave as it is in a function's configuration space. */
#ifndef PCILU_REGISTERS_H
#define PCILU_REGISTERS_H

#include "device.h"

/* Adds an object with a member for each register that the function has */
void registers_json(const struct device *dev, struct json_object *o);

#endif /* PCILU_REGISTERS_H */
