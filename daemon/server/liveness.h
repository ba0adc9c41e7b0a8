#pragma once
// SPDX-License-Identifier: MIT
/*
 * liveness - a lock that only a living process can hold
 *
 * A small object whose descriptor goes to the client, which takes a POSIX record lock on its first byte. The kernel drops
 * that lock when the process ends; a forked child does not inherit it; and it is seen across pid namespaces. The daemon
 * only ever asks (F_GETLK). The object keeps its name, so that a later daemon can ask too. Knows the lock; not sessions.
 */
#include "pool/segment.h"

struct liveness {
	struct segment segment;
	bool is_confirmed; /* the client said that it holds the lock, and it did */
};

#define LIVENESS_NULL                   \
	{                               \
		.segment = SEGMENT_NULL \
	}

/** liveness_open() - a new object. Return: 0, -errno */
int liveness_open(struct liveness *liveness, const char *instance) MUST_CHECK;
/** liveness_reopen() - the object @name of a daemon of before. Return: 0, -errno */
int liveness_reopen(struct liveness *liveness, const char *instance, const char *name, bool is_confirmed) MUST_CHECK;
/** liveness_remove() - its session has ended: the name goes */
void liveness_remove(struct liveness *liveness);
/** liveness_close() - the descriptor only; may run twice */
void liveness_close(struct liveness *liveness);
/** liveness_is_locked() - unknown counts as locked, for unknown is alive */
bool liveness_is_locked(const struct liveness *liveness);
/** liveness_proves_death() - the lock was held, and is free */
static inline bool liveness_proves_death(const struct liveness *liveness)
{
	return liveness->is_confirmed && !liveness_is_locked(liveness);
}
