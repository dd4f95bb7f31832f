/* SPDX-License-Identifier: GPL-2.0 */
/* Which session it was that refused to be frozen: the kernel's log names it. */
#ifndef PCILU_VETO_H
#define PCILU_VETO_H

/* What is logged from now on; -1 if the log cannot be read */
int veto_watch(void);

/* The name of the session, or NULL; the caller frees it. Closes @log. */
char *veto_session(int log);

#endif /* PCILU_VETO_H */
