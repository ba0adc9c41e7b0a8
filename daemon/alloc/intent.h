#pragma once
// SPDX-License-Identifier: MIT
/*
 * intent - what happens to a ledger's truth between two commits happens whole or not at all, whenever the daemon is killed
 *
 * Before a word of truth is stored to, its place and what it held are noted in the ledger; a commit forgets the notes. A
 * daemon that finds notes when it opens a ledger puts back what they say, last one first: the operation under way never
 * happened, and nobody was told that it had, for replies come after the commit.
 *
 *   note    entry n: place, old value      no effect: entry n does not count
 *           n_noted = n + 1                puts back what is there already
 *   store   the word                       puts back the old value
 *   …
 *   commit  n_noted = 0                    the operation has happened
 *
 * A kill between any two of these stores leaves what stands on the right; a kill while it is put back leaves the notes, and
 * the next open puts it all back again. Each store is a release, so that the compiler keeps their order; a killed process
 * loses no store that it made, and none overtakes another (see "What survives what" in README.md).
 *
 * Why what was, and not what will be: operations store in place and read back what they stored, several functions
 * deep, and one that fails half-way has nothing to drain. A word costs one load and three stores more.
 *
 * Threads: the ledger's one mutex is held from the first note to the commit; letting go of it commits.
 */
#include <stdlib.h>

#include "alloc/ledger.h"

struct intent_entry {
	_Atomic uint64_t at;  /* bytes from the start of the object; a multiple of 8 */
	_Atomic uint64_t old; /* what stood there */
};

#define INTENT_N_LEAST 256u		   /* entries that always count: one page */
#define INTENT_N_MAX   (UINT32_C(1) << 16) /* simply picked: a batch of the most blocks, and as much again */

static inline void intent_store(_Atomic uint64_t *word, uint64_t value)
{
	atomic_store_explicit(word, value, memory_order_release);
}

/** intent_note() - @word, in the ledger, is about to change; it is to read @old if the operation does not come to its commit */
static inline void intent_note(struct ledger *ledger, const _Atomic uint64_t *word, uint64_t old)
{
#ifndef MEMPOOL_WITHOUT_INTENT /* only for the benchmark of what it costs */
	struct intent_entry *entry = (struct intent_entry *)ledger->tables[LEDGER_INTENT].base + ledger->n_noted;

	if (ledger->n_noted == ledger->tables[LEDGER_INTENT].n_backed)
		abort(); /* nobody reserved it: to die here loses nothing, to go on might */
	intent_store(&entry->at, (uint64_t)((const uint8_t *)word - ledger->map));
	intent_store(&entry->old, old);
	intent_store(&ledger->header->n_noted, ++ledger->n_noted);
#else
	(void)ledger, (void)word, (void)old;
#endif
}

/** intent_set() - note @word and store @value there */
static inline void intent_set(struct ledger *ledger, _Atomic uint64_t *word, uint64_t value)
{
	intent_note(ledger, word, atomic_load_explicit(word, memory_order_relaxed));
	intent_store(word, value);
}

/** intent_commit() - what was stored since the last commit stays */
static inline void intent_commit(struct ledger *ledger)
{
	if (!ledger->n_noted)
		return;
	intent_store(&ledger->header->n_noted, 0);
	ledger->n_noted = 0;
}

/** intent_reserve() - room for @n notes of one operation. Return: 0; -ENOSPC */
static inline int intent_reserve(struct ledger *ledger, uint32_t n)
{
	return ledger_reserve(ledger, LEDGER_INTENT, n < INTENT_N_LEAST ? INTENT_N_LEAST : n);
}

/** intent_take_back() - at open: put back what an operation that never came to its commit had changed. Return: 0; LEDGER_E_DAMAGED */
int intent_take_back(struct ledger *ledger) MUST_CHECK;
