/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The sessions that the daemon knows, and the same in memory that can be handed
 * to the next kernel: a memfd of fixed size that is changed in place, because the
 * size of a preserved memfd cannot change.
 */
#ifndef PCILUD_REGISTRY_H
#define PCILUD_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../../../lib/src/proto.h"

#define REGISTRY_MAX 4096
/* The session in which it is handed over */
#define OWN_SESSION "pcilud"

struct entry {
	char name[PCILU_MSG_NAME_SIZE]; /* empty: a free slot */
	uint32_t direction; /* enum pcilu_direction */
	uint32_t uid;
	int32_t pid;
	int fd; /* -1: not held */
	int kept; /* the iommufd of its devices, -1: none */
	bool kept_spare; /* which of its two names that has, see store.h */
	char tag; /* how the store tells it from its namesake, see store.h */
};

struct registry;

/* Makes an empty one with a memfd of its own */
struct registry *registry_new(void);

/*
 * Takes over a memfd that this daemon or one in the previous kernel wrote. Nothing
 * in it is trusted. NULL with errno set if it is not understood: EBADMSG.
 * All entries are there, and none is held.
 */
struct registry *registry_from_fd(int memfd);
void registry_free(struct registry *reg);

/* The memfd, the registry's own */
int registry_fd(const struct registry *reg);

struct entry *registry_find(struct registry *reg, uint32_t direction,
			    const char *name);
/* The first entry at or after @index, or NULL; @index becomes its index */
struct entry *registry_next(struct registry *reg, uint32_t *index);
/* Takes over @fd, which may be -1. NULL if there is no room. */
struct entry *registry_add(struct registry *reg, uint32_t direction,
			   const char *name, uid_t uid, pid_t pid, int fd);
/* Writes a changed entry to the memfd */
void registry_update(struct registry *reg, const struct entry *entry);
/* Closes its descriptors and frees the slot */
void registry_remove(struct registry *reg, struct entry *entry);
unsigned int registry_count(const struct registry *reg);

#endif /* PCILUD_REGISTRY_H */
