// SPDX-License-Identifier: MIT
/*
 * Numbers of heaps. A dead heap's number could still be in some thread's hand: it has read L(k) of a block, and is about to swap
 * that for C(j). Were k given out again meanwhile, and the slot too, it would free a stranger's block. So a number waits in
 * quarantine until no heap that was open when it came there can have it in hand. The clock counts numbers that came; for each heap it
 * is noted when that was last sure, and a number is free again when the earliest of those notes is not before its own time:
 *
 *   it does not say that it has    lease_heap.is_foreign, set before a word of another's is read. Whoever sets it and reads the word has
 *                                  done so before the membarrier, and is seen; or reads the word after it, and after the
 *                                  sweep that was before: then the number is not there any more
 *   it has asked for something     of a heap that does not keep is_foreign, this alone tells: a thread inside a free asks for nothing.
 *                                  Of one that does it tells nothing: what it has given up waiting for is executed while it is in a
 *                                  free, and a heap passes from a thread that waits for its answer to another
 *
 * A heap that is idle, asleep or stopped keeps no number back, unless it was stopped in the few instructions between. After a restart
 * all wait anew.
 */
#include <errno.h>
#include <linux/membarrier.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pool/pool_internal.h"

#define MARKS 0x100u /* in a record's `what` */

struct heap_record *heap_record(const struct pool *pool, uint32_t heap)
{
	return ledger_at(&pool->ledger, LEDGER_HEAPS, heap);
}

enum heap_state heap_state(const struct pool *pool, uint32_t heap)
{
	return (enum heap_state)(heap_record(pool, heap)->what & 0xff);
}

static uint64_t pack(enum heap_state state, uint32_t high)
{
	return (uint64_t)state | (uint64_t)high << 32;
}

static uint32_t since_of(const struct pool *pool, uint32_t heap)
{
	return (uint32_t)(heap_record(pool, heap)->what >> 32);
}

struct pool_member *heap_member(const struct pool *pool, uint32_t heap)
{
	return heap && heap < pool->lease.n_heaps_high ? pool->lease.heaps[heap].member : NULL;
}

int heap_know(struct pool *pool, uint32_t heap)
{
	struct lease *lease = &pool->lease;
	uint32_t n = lease->n_heaps_alloced ? 2 * lease->n_heaps_alloced : 16;
	struct heap *heaps;

	if (heap < lease->n_heaps_alloced)
		return 0;
	n = n > heap ? n : heap + 1;
	heaps = realloc(lease->heaps, n * sizeof(*heaps));
	if (!heaps)
		return -ENOMEM;
	memset(heaps + lease->n_heaps_alloced, 0, (n - lease->n_heaps_alloced) * sizeof(*heaps));
	lease->heaps = heaps;
	lease->n_heaps_alloced = n;
	return 0;
}

/* ---- which number ---- */

static uint64_t earliest_seen(const struct pool *pool)
{
	uint64_t earliest = UINT64_MAX;

	for (uint32_t i = 1; i < pool->lease.n_heaps_high; i++)
		if (pool->lease.heaps[i].member && pool->lease.heaps[i].seen < earliest)
			earliest = pool->lease.heaps[i].seen;
	return earliest;
}

/* Whatever number is in quarantine by now, @heap has not in hand. */
static void note_seen(struct pool *pool, uint32_t heap)
{
	pool->lease.heaps[heap].seen = pool->lease.quarantine_clock;
}

/* Notes of all heaps that say now that they have no other's number in hand. */
static void look_at_marks(struct pool *pool)
{
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0))
		return; /* not on this kernel: those that mark keep numbers back until they end */
	for (uint32_t i = 1; i < pool->lease.n_heaps_high; i++)
		if (pool->lease.heaps[i].member && heap_record(pool, i)->what & MARKS &&
		    !lease_foreign_get(&lease_heap_at(&pool->lease, i)->is_foreign))
			note_seen(pool, i);
}

/* The one that has waited longest, if it has waited long enough. */
static uint32_t find_waited(struct pool *pool)
{
	uint32_t oldest = 0;

	if (!pool->lease.n_quarantined)
		return 0;
	for (uint32_t i = 1; i < pool->lease.n_heaps_high; i++)
		if (heap_state(pool, i) == HEAP_QUARANTINED && (!oldest || since_of(pool, i) < since_of(pool, oldest)))
			oldest = i;
	if (!LEASE_RULE(QUARANTINE))
		return oldest;
	if (oldest && since_of(pool, oldest) > earliest_seen(pool))
		look_at_marks(pool);
	return oldest && since_of(pool, oldest) <= earliest_seen(pool) ? oldest : 0;
}

/*
 * Threads that go round many pools count in a line of each. Were it the same line of a page in each, a dozen of them would fill their set
 * of the first cache.
 */
static uint32_t first_number(const struct pool *pool)
{
	return 1 + (uint32_t)((pool_id(pool) - 1) % (LEASE_PAGE_BYTES / sizeof(struct lease_heap) - 1));
}

static int find_number(struct pool *pool, uint32_t *heapp)
{
	struct lease *lease = &pool->lease;
	uint32_t heap = find_waited(pool);
	int r;

	if (!heap)
		heap = lease->n_heaps_high ? lease->n_heaps_high : first_number(pool);
	if (heap >= LEASE_HEAPS_MAX)
		return POOL_E_NO_HEAP;
	r = ledger_reserve(&pool->ledger, LEDGER_HEAPS, heap + 1);
	if (!r)
		r = heap_know(pool, heap);
	if (!r)
		r = lease_back(pool, lease->layout.heaps_at + heap * sizeof(struct lease_heap),
			       sizeof(struct lease_heap));
	if (r)
		return r;
	*heapp = heap;
	return 0;
}

/* ---- life ---- */

static void describe(struct pool *pool, uint32_t heap, uint64_t session)
{
	struct lease_heap *copy = lease_heap_at(&pool->lease, heap);

	atomic_store_explicit(&copy->n_free, 0, memory_order_relaxed);
	atomic_store_explicit(&copy->is_foreign, 0, memory_order_relaxed);
	atomic_store_explicit(&copy->session, session, memory_order_release);
}

int heap_open(struct pool *pool, struct pool_member *member, bool marks, uint32_t *heapp)
{
	struct lease *lease = &pool->lease;
	uint32_t heap;
	int r = find_number(pool, &heap);

	if (r)
		return r;
	if (heap >= lease->n_heaps_high)
		lease->n_heaps_high = heap + 1;
	if (heap_state(pool, heap) == HEAP_QUARANTINED)
		lease->n_quarantined--;
	intent_set(&pool->ledger, &heap_record(pool, heap)->what, pack(HEAP_OPEN, member->index) | (marks ? MARKS : 0));
	lease->heaps[heap] =
		(struct heap){.member = member, .next = member->first_heap, .seen = lease->quarantine_clock};
	member->first_heap = heap;
	lease->n_heaps_open++;
	describe(pool, heap, member->session);
	*heapp = heap;
	return 0;
}

int pool_open_heap(struct pool_member *member, bool marks, uint32_t *heapp)
{
	struct pool_block block = {0};
	struct pool *pool = member->pool;
	uint32_t heap = 0;
	int r;

	pool_lock(pool);
	if (!result_find(member, RECENT_HEAP, &r, &block)) {
		r = pool->is_destroyed	    ? POOL_E_DESTROYED
		    : !pool->lease.is_on    ? POOL_E_NO_LEASES
		    : !lease_is_sound(pool) ? POOL_E_NO_HEAP
					    : heap_open(pool, member, marks, &heap);
		block.offset = heap;
		result_put(member, RECENT_HEAP, r, &block);
	}
	pool_unlock(pool);
	if (!r)
		*heapp = (uint32_t)block.offset;
	return r;
}

void heap_note_request(struct pool *pool, uint32_t heap)
{
	if (!(heap_record(pool, heap)->what & MARKS))
		note_seen(pool, heap);
}

void heap_disown(struct pool *pool, uint32_t heap)
{
	atomic_store_explicit(&lease_heap_at(&pool->lease, heap)->session, 0, memory_order_release);
}

void heap_quarantine(struct pool *pool, uint32_t heap)
{
	struct lease *lease = &pool->lease;
	const struct lease_heap *copy = lease_heap_at(lease, heap);

	lease->free_total += atomic_load_explicit(&copy->n_free, memory_order_relaxed);
	describe(pool, heap, 0);
	lease->heaps[heap].member = NULL;
	lease->n_heaps_open--;
	lease->n_quarantined++;
	intent_set(&pool->ledger, &heap_record(pool, heap)->what, pack(HEAP_QUARANTINED, ++lease->quarantine_clock));
	pool_commit(pool);
}

void heap_forget_member(struct pool_member *member)
{
	struct lease *lease = &member->pool->lease;

	for (uint32_t heap = member->first_heap; heap; heap = lease->heaps[heap].next)
		lease->heaps[heap].member = NULL;
	member->first_heap = 0;
}

uint64_t lease_count_freed(const struct pool *pool)
{
	const struct lease *lease = &pool->lease;
	uint64_t n = lease->free_total;

	for (uint32_t i = 1; i < lease->n_heaps_high; i++)
		if (lease->heaps[i].member)
			n += atomic_load_explicit(&lease_heap_at(lease, i)->n_free, memory_order_relaxed);
	return n;
}
