// SPDX-License-Identifier: MIT
/*
 * Retains. A record says that one session retains one block, and how often; it hangs in two chains, its block's and its
 * session's, both doubly linked, so that a session's end drops each in O(1). Finding a session's record on a block takes as
 * many steps as the block has holders.
 */
#include <errno.h>

#include "pool/pool_internal.h"

static uint32_t first_of_block(const struct pool *pool, uint32_t extent)
{
	return extent_flags(&pool->map, extent) & EXTENT_HELD ? extent_links(&pool->map, extent)->first_hold
							      : POOL_NONE;
}

uint32_t hold_find(const struct pool *pool, uint32_t extent, uint32_t member)
{
	uint32_t hold = first_of_block(pool, extent);

	while (hold != POOL_NONE && hold_record(pool, hold)->member != member)
		hold = hold_record(pool, hold)->block_next;
	return hold;
}

static void link_to_block(struct pool *pool, uint32_t extent, uint32_t hold)
{
	struct hold_record *record = hold_record(pool, hold);

	record->block_prev = POOL_NONE;
	record->block_next = first_of_block(pool, extent);
	if (record->block_next != POOL_NONE)
		hold_record(pool, record->block_next)->block_prev = hold;
	extent_links(&pool->map, extent)->first_hold = hold;
	extent_map_set_flags(&pool->map, extent, extent_flags(&pool->map, extent) | EXTENT_HELD);
}

static void link_to_member(struct pool *pool, struct pool_member *member, uint32_t hold)
{
	struct hold_record *record = hold_record(pool, hold);

	record->member_prev = POOL_NONE;
	record->member_next = member->first_hold;
	if (record->member_next != POOL_NONE)
		hold_record(pool, record->member_next)->member_prev = hold;
	member->first_hold = hold;
	member->n_holds++;
}

int hold_add(struct pool *pool, uint32_t extent, struct pool_member *member)
{
	uint32_t hold = hold_find(pool, extent, member->index);
	struct hold_record *record;
	int r;

	if (hold != POOL_NONE) {
		if (hold_record(pool, hold)->n == UINT32_MAX)
			return -ENOSPC;
		intent_set(&pool->ledger, &hold_record(pool, hold)->n, hold_record(pool, hold)->n + 1);
		return 0;
	}
	r = record_reserve(pool, &pool->holds);
	if (r)
		return r;
	hold = record_take(pool, &pool->holds);
	record = hold_record(pool, hold);
	record->extent = extent;
	record->member = member->index;
	intent_set(&pool->ledger, &record->n, 1);
	link_to_block(pool, extent, hold);
	link_to_member(pool, member, hold);
	return 0;
}

static void unlink_from_block(struct pool *pool, const struct hold_record *record)
{
	uint32_t extent = record->extent;

	if (record->block_prev != POOL_NONE)
		hold_record(pool, record->block_prev)->block_next = record->block_next;
	else
		extent_links(&pool->map, extent)->first_hold = record->block_next;
	if (record->block_next != POOL_NONE)
		hold_record(pool, record->block_next)->block_prev = record->block_prev;
	if (extent_links(&pool->map, extent)->first_hold == POOL_NONE)
		extent_map_set_flags(&pool->map, extent, extent_flags(&pool->map, extent) & ~(unsigned)EXTENT_HELD);
}

static void unlink_from_member(struct pool *pool, const struct hold_record *record)
{
	struct pool_member *member = pool->members[record->member];

	if (record->member_prev != POOL_NONE)
		hold_record(pool, record->member_prev)->member_next = record->member_next;
	else
		member->first_hold = record->member_next;
	if (record->member_next != POOL_NONE)
		hold_record(pool, record->member_next)->member_prev = record->member_prev;
	member->n_holds--;
}

bool hold_drop(struct pool *pool, uint32_t hold, uint32_t n)
{
	struct hold_record *record = hold_record(pool, hold);
	uint32_t extent = record->extent;

	assert(n && n <= record->n);
	intent_set(&pool->ledger, &record->n, record->n - n);
	if (record->n)
		return false;
	unlink_from_block(pool, record);
	unlink_from_member(pool, record);
	record_give(pool, &pool->holds, hold);
	if (extent_owner(&pool->map, extent) != EXTENT_OWNER_NONE || extent_flags(&pool->map, extent) & EXTENT_HELD)
		return false;
	block_end(pool, extent);
	return true;
}

uint32_t hold_count(const struct pool *pool, uint32_t extent)
{
	uint64_t n = 0;

	for (uint32_t hold = first_of_block(pool, extent); hold != POOL_NONE;
	     hold = hold_record(pool, hold)->block_next)
		n += hold_record(pool, hold)->n;
	return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

/* ---- after a restart ---- */

static bool hold_is_sound(const struct pool *pool, const struct hold_record *record)
{
	return record->n <= UINT32_MAX && record->extent < pool->map.n_high &&
	       extent_is_block(&pool->map, record->extent) && record->member < pool->n_members_alloced &&
	       pool->members[record->member] && hold_find(pool, record->extent, record->member) == POOL_NONE;
}

bool hold_recover(struct pool *pool)
{
	uint32_t n = pool->ledger.tables[LEDGER_HOLDS].n_backed;
	struct hold_record *record;

	while (n && !hold_record(pool, n - 1)->n)
		n--;
	pool->holds.n_high = pool->holds.n = n;
	for (uint32_t i = n; i-- > 0;) {
		record = hold_record(pool, i);
		if (!record->n) {
			record_give(pool, &pool->holds, i);
			continue;
		}
		if (!hold_is_sound(pool, record))
			return false;
		link_to_block(pool, record->extent, i);
		link_to_member(pool, pool->members[record->member], i);
		pool_commit(pool);
	}
	return true;
}

/* ---- check ---- */

static unsigned check_record(const struct pool *pool, uint32_t hold, FILE *report)
{
	const struct hold_record *record = hold_record(pool, hold);
	bool is_live = extent_is_block(&pool->map, record->extent);
	bool is_member = record->member < pool->n_members_alloced && pool->members[record->member];

	if (is_live && is_member && hold_find(pool, record->extent, record->member) == hold)
		return 0;
	fprintf(report, "hold %u: extent %u, member %u: %s\n", hold, record->extent, record->member,
		!is_live     ? "the extent is not a block"
		: !is_member ? "there is no such member"
			     : "not in the chain of its block");
	return 1;
}

static unsigned check_member(const struct pool *pool, const struct pool_member *member, FILE *report)
{
	uint32_t hold = member->first_hold, prev = POOL_NONE;
	uint64_t n = 0;

	for (; hold != POOL_NONE && n <= pool->holds.n; hold = hold_record(pool, hold)->member_next, n++) {
		if (hold_record(pool, hold)->member != member->index || hold_record(pool, hold)->member_prev != prev)
			break;
		prev = hold;
	}
	if (hold == POOL_NONE && n == member->n_holds)
		return 0;
	fprintf(report, "session %llu: its chain of retains is broken\n", (unsigned long long)member->session);
	return 1;
}

unsigned hold_check(const struct pool *pool, FILE *report)
{
	uint32_t n = 0;
	uint64_t n_of_members = 0;
	unsigned n_faults = 0;

	for (uint32_t hold = 0; hold < pool->holds.n_high; hold++) {
		if (!hold_record(pool, hold)->n)
			continue;
		n++;
		n_faults += check_record(pool, hold, report);
	}
	for (const struct pool_member *m = pool->first; m; m = m->next) {
		n_faults += check_member(pool, m, report);
		n_of_members += m->n_holds;
	}
	if (n != pool->holds.n || n != n_of_members) {
		fprintf(report, "holds: %u counted, %u found, %llu of members\n", pool->holds.n, n,
			(unsigned long long)n_of_members);
		n_faults++;
	}
	return n_faults;
}
