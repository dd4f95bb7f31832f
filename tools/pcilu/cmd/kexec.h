/* SPDX-License-Identifier: GPL-2.0 */
/* Loading the next kernel and jumping into it. */
#ifndef PCILU_KEXEC_H
#define PCILU_KEXEC_H

#include "cmd.h"
#include "preflight.h"

/* Both return an exit status, after a message if it is not ST_YES */
int kexec_load(const struct options *o, const struct preflight *pf);
int kexec_jump(const struct options *o);

/* Takes the loaded kernel away: 0 or -errno */
int kexec_unload(void);

#endif /* PCILU_KEXEC_H */
