/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What happens to sessions and in a live update, for programs that read the journal:
 * each kind has a MESSAGE_ID and fields, see pcilu.journal(7).
 */
#ifndef PCILU_JOURNAL_H
#define PCILU_JOURNAL_H

#include <stdbool.h>

enum journal_kind {
	JOURNAL_HELD,
	JOURNAL_RELEASED,
	JOURNAL_NOT_READY,
	JOURNAL_JUMP,
	JOURNAL_FAILED,
	JOURNAL_VERIFIED,
	JOURNAL_BACK,
	JOURNAL_GIVEN_UP,
};

/*
 * Says a message and, for programs, pairs of a field's name and its value; a value that
 * is NULL is left out. True if there is a journal that has it.
 */
#define journal(kind, level, message, ...) \
	journal_send(kind, level, message, \
		     (const char *const[]){ __VA_ARGS__, NULL })

bool journal_send(enum journal_kind kind, int level, const char *message,
		  const char *const *pairs);

#endif /* PCILU_JOURNAL_H */
