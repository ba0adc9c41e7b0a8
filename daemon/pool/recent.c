// SPDX-License-Identifier: MIT
/*
 * The black box: a ring of the last operations in the ledger, so that it is there after the daemon's death. The count is
 * stored after the entry; the entry that is being overwritten at a kill is the oldest, which nobody is shown.
 */
#include <time.h>

#include "pool/pool_internal.h"

const char *recent_name(enum recent_what what)
{
	static const char *const names[RECENT_WHAT_N] = {
		[RECENT_NONE] = "unknown",    [RECENT_ALLOC] = "alloc",	    [RECENT_FREE] = "free",
		[RECENT_REALLOC] = "realloc", [RECENT_PUBLISH] = "publish", [RECENT_ACQUIRE] = "acquire",
		[RECENT_RETAIN] = "retain",   [RECENT_TAKE] = "take",	    [RECENT_RESIZE] = "resize",
		[RECENT_JOIN] = "join",	      [RECENT_LEAVE] = "leave",	    [RECENT_RECOVER] = "recover",
		[RECENT_HEAP] = "heap",	      [RECENT_LEASE] = "lease",
	};

	return what < RECENT_WHAT_N ? names[what] : names[RECENT_NONE];
}

static struct recent_record *record_of(const struct pool *pool, uint64_t number)
{
	return (struct recent_record *)ledger_at(&pool->ledger, LEDGER_RECENT, (uint32_t)(number % RECENT_N));
}

/* Grows as long as it is not whole, so that a pool without traffic pays nothing; without memory, nothing is noted. */
static bool has_room(struct pool *pool, uint64_t number)
{
	uint64_t index = number % RECENT_N;

	return index < pool->ledger.tables[LEDGER_RECENT].n_backed ||
	       !ledger_reserve(&pool->ledger, LEDGER_RECENT, (uint32_t)index + 1);
}

void recent_add(struct pool *pool, const struct pool_member *member, enum recent_what what, int outcome,
		uint64_t offset, uint64_t size)
{
	struct ledger_header *header = pool->ledger.header;
	uint64_t number = atomic_load_explicit(&header->n_recent, memory_order_relaxed);
	struct timespec now;

	if (!has_room(pool, number))
		return;
	clock_gettime(CLOCK_REALTIME_COARSE, &now); /* 5 ns, and as fine as people need */
	*record_of(pool, number) = (struct recent_record){
		.time_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec,
		.session = member ? member->session : 0,
		.offset = offset,
		.size = size,
		.pid = member ? member_record(pool, member->index)->pid : 0,
		.outcome = (int16_t)outcome,
		.what = (uint16_t)what,
	};
	intent_store(&header->n_recent, number + 1);
}

uint32_t recent_list(const struct ledger *ledger, uint64_t after, struct pool_recent out[], uint32_t n_max)
{
	uint64_t end = atomic_load_explicit(&ledger->header->n_recent, memory_order_relaxed);
	uint64_t number = end >= RECENT_N ? end - RECENT_N + 1 : 0;
	uint32_t n = 0;

	for (number = number > after ? number : after; number < end && n < n_max; number++) {
		const struct recent_record *record;

		if (number % RECENT_N >= ledger->tables[LEDGER_RECENT].n_backed)
			continue; /* books that were meddled with: show what is there */
		record = ledger_at(ledger, LEDGER_RECENT, (uint32_t)(number % RECENT_N));
		out[n++] = (struct pool_recent){
			.number = number + 1,
			.time_ns = record->time_ns,
			.session = record->session,
			.offset = record->offset,
			.size = record->size,
			.pid = record->pid,
			.outcome = record->outcome,
			.what = record->what < RECENT_WHAT_N ? (enum recent_what)record->what : RECENT_NONE,
		};
	}
	return n;
}

uint32_t pool_recent(struct pool *pool, uint64_t after, struct pool_recent out[], uint32_t n_max)
{
	uint32_t n;

	pool_lock(pool);
	n = recent_list(&pool->ledger, after, out, n_max);
	pool_unlock(pool);
	return n;
}
