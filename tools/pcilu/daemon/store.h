/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Descriptors that systemd keeps for us while we are restarted. Without systemd
 * nothing is kept, and a restart gives up all outgoing sessions.
 */
#ifndef PCILUD_STORE_H
#define PCILUD_STORE_H

#include "registry.h"

#define STORE_TABLE "table" /* the registry's memfd */
#define STORE_OWN "own" /* the outgoing session that has it */

void store_put(const char *name, int fd);
void store_put_entry(const struct entry *entry);
void store_drop_entry(const struct entry *entry);

/* What systemd passed when we were started */
struct stored {
	int listener; /* a listening socket, -1 if none */
	int table;
	int own;
	unsigned int count; /* others: sessions */
	int *fd;
	char **name;
};

/* Returns 0 or -errno. All descriptors become the caller's. */
int store_get(struct stored *stored);

/* Puts stored sessions into the registry. Closes what it does not know. */
void store_restore(struct stored *stored, struct registry *reg);

#endif /* PCILUD_STORE_H */
