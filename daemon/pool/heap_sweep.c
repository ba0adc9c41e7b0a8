// SPDX-License-Identifier: MIT
/*
 * The end of a session's heaps. Their slots may be anywhere, for a foreign free takes a slot along: so every word of the pool is
 * read, slab by slab. C(k) becomes C(0); L(k) becomes C(0), or Q where blocks outlive their session; each by one CAS, for a heap
 * that lives may free or take the block at this moment. Custody of the dead is broken, slabs that were granted to them are
 * orphans, and those that are empty are gaps. Then the numbers go to quarantine, one by one.
 *
 * A kill anywhere in it leaves an ending session whose heaps are still open: all is done again, and what was done is found done.
 */
#include "pool/pool_internal.h"

/* Return: slots that were live */
static uint32_t sweep_words(struct pool_member *member, uint32_t id)
{
	struct pool *pool = member->pool;
	uint16_t words[SLAB_SLOTS_MAX], left = pool->options.lifetime ? LEASE_POOLS : LEASE_FREE;
	uint32_t n_slots = slab_record(pool, id)->n_slots, first = slab_record(pool, id)->first_word, n_live = 0;
	struct slab_count count;
	bool is_freed = false;

	if (!LEASE_RULE(SWEEP_ALL) && extent_owner(&pool->map, slab_extent(pool, id)) != member->index)
		return 0;
	if (!lease_is_sound(pool) || !slab_read(pool, id, words, &count))
		return 0;
	for (uint32_t i = 0; i < n_slots; i++) {
		bool is_cached = lease_is_cached(words[i]);

		if (!lease_heap_of(words[i]) || heap_member(pool, lease_heap_of(words[i])) != member)
			continue;
		if (!lease_word_swap(lease_word_at(&pool->lease, first + i), words[i], is_cached ? LEASE_FREE : left))
			continue;
		is_freed |= is_cached || left == LEASE_FREE;
		n_live += !is_cached;
	}
	if (is_freed)
		lease_hint_set(&lease_slab_at(&pool->lease, id)->has_free, 1);
	return n_live;
}

static void sweep_custody(struct pool_member *member, uint32_t id)
{
	_Atomic uint32_t *custody = &lease_slab_at(&member->pool->lease, id)->custody;
	uint32_t who = lease_custody_peek(custody);

	if (LEASE_RULE(BREAK_DEAD) && who != LEASE_IDLE && who != LEASE_DAEMON &&
	    heap_member(member->pool, who) == member)
		lease_custody_break(custody, who, LEASE_IDLE);
}

static void sweep_slab(struct pool_member *member, uint32_t id,
		       void (*left)(void *arg, uint64_t n_blocks, uint64_t n_bytes), void *arg)
{
	struct pool *pool = member->pool;
	uint32_t n = sweep_words(member, id);

	if (n && !pool->options.lifetime) {
		pool->lease.free_total += n;
		left(arg, n, (uint64_t)n * slab_slot_bytes(pool, id));
	}
	sweep_custody(member, id);
	if (extent_owner(&pool->map, slab_extent(pool, id)) == member->index)
		slab_orphan(pool, id);
	slab_recall(pool, id, false);
}

static void begin(struct pool_member *member)
{
	member->is_sweeping = true;
	member->disown_at = member->first_heap;
	member->sweep_at = 0;
}

bool heap_sweep_one(struct pool_member *member, void (*left)(void *arg, uint64_t n_blocks, uint64_t n_bytes), void *arg)
{
	struct pool *pool = member->pool;
	uint32_t heap = member->first_heap;

	if (!heap)
		return false;
	if (!member->is_sweeping)
		begin(member);
	if (member->disown_at) { /* all of them, before the first word says that its owner is gone */
		heap_disown(pool, member->disown_at);
		member->disown_at = pool->lease.heaps[member->disown_at].next;
		return true;
	}
	if (member->sweep_at < pool->slab_records.n_high) {
		if (slab_exists(pool, member->sweep_at))
			sweep_slab(member, member->sweep_at, left, arg);
		member->sweep_at++;
		return true;
	}
	member->first_heap = pool->lease.heaps[heap].next;
	heap_quarantine(pool, heap);
	return true;
}
