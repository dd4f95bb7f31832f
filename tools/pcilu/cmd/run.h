/* SPDX-License-Identifier: GPL-2.0 */
/* What the commands remember until the next boot, in /run/pcilu. */
#ifndef PCILU_RUN_H
#define PCILU_RUN_H

#include <json-c/json.h>
#include <stdbool.h>

int run_save(const char *name, struct json_object *doc); /* 0 or -errno */
struct json_object *run_load(const char *name); /* NULL if there is none */
void run_forget(const char *name);

/* Does systemd run this machine? */
bool run_systemd(void);
/* Is a kernel loaded for a kexec? */
bool run_kernel_loaded(void);

#endif /* PCILU_RUN_H */
