/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Descriptors that systemd keeps for us while we are restarted. What is in the store
 * is the truth about which sessions there are; our list of them is a memory of it.
 * Without systemd nothing is kept, and a restart gives up all outgoing sessions.
 *
 * A session is stored as a letter, a dot, and its name: "o" for an outgoing and "i"
 * for an incoming one. A systemd that carries its store through the kexec returns an
 * outgoing session as an incoming one under its old name, so the letter only tells
 * namesakes apart; the kernel knows the direction. With "k" or "l" it is the iommufd
 * that is kept with an incoming session: the next one is there before the last one goes.
 */
#ifndef PCILUD_STORE_H
#define PCILUD_STORE_H

#include <stddef.h>

#include "registry.h"

#define STORE_TABLE "table" /* the registry's memfd */
#define STORE_OWN "own" /* the outgoing session that has it */
#define STORE_POLICY "policy" /* the last good one: .0 or .1 */
#define STORE_NAME_SIZE (PCILU_MSG_NAME_SIZE + 8)

void store_put(const char *name, int fd);
void store_drop(const char *name);
/*
 * All of it: systemd forgets what it keeps for a unit when that is masked. What it has
 * it does not take twice.
 */
void store_put_again(struct registry *reg);
/* Waits until systemd has done what it was told */
void store_flush(void);
/* Only if something was dropped since the last time, else it returns false at once */
bool store_flush_dropped(void);

/* The name of an entry that has its tag */
void store_name(const struct entry *entry, char name[STORE_NAME_SIZE]);
/* And that of the iommufd kept with it */
void store_kept_name(const struct entry *entry, char name[STORE_NAME_SIZE]);
/* A tag that no namesake in @reg has */
char store_tag(struct registry *reg, uint32_t direction, const char *name);

/* One descriptor that systemd passed when we were started */
struct stored_fd {
	char *name;
	int fd; /* -1 when somebody has taken it */
};

struct stored {
	int listener; /* a listening socket, -1 if none */
	size_t count;
	struct stored_fd *all; /* the others */
};

/* Returns 0 or -errno */
int store_get(struct stored *stored);
/* The one of a name: its descriptor becomes the caller's. -1 if there is none. */
int store_take(struct stored *stored, const char *name);

/*
 * Puts stored sessions into the registry, also those that it does not know. What is
 * no session stays in the store, for the daemon that put it there. Frees @stored.
 */
void store_restore(struct stored *stored, struct registry *reg);

#endif /* PCILUD_STORE_H */
