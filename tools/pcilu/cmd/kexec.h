/* SPDX-License-Identifier: GPL-2.0 */
/* Loading the next kernel and jumping into it. */
#ifndef PCILU_KEXEC_H
#define PCILU_KEXEC_H

#include "cmd.h"
#include "preflight.h"

/* All return an exit status, after a message if it is not ST_YES */
int kexec_load(const struct options *o, const struct preflight *pf);
/* What takes time: is it the checked kernel that is loaded? It is loaded once more. */
int kexec_ready(const struct options *o);
/* Right after that */
int kexec_jump(const struct options *o);

/* Takes the loaded kernel away: 0 or -errno */
int kexec_unload(void);

#endif /* PCILU_KEXEC_H */
