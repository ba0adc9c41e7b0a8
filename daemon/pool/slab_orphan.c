// SPDX-License-Identifier: MIT
/*
 * Orphans: slabs whose heap is no more, with blocks in them that live on. The next lease of their class gets them before any new
 * one, for their free slots take no room.
 *
 * Those of a class are a ring, and whoever has looked at one moves its head on. So a request looks at a few only, and no full
 * ones at the head hide the others; when there is no other room, all are looked at once, in steps, off the loop. Who searches at
 * the same time shares the lap: looks are counted, whoever's they are.
 */
#include "pool/pool_internal.h"

#define FEW 8u /* looked at by every request; simply picked */
#define REST_FACTOR \
	10u /* after a lap that found nothing, so many times as long passes before the next; simply picked */

static struct orphans *orphans_of(struct pool *pool, uint32_t size_class)
{
	return &pool->lease.orphans[size_class];
}

void slab_list_orphan(struct pool *pool, uint32_t id)
{
	struct orphans *orphans = orphans_of(pool, slab_record(pool, id)->size_class);
	struct slab *slabs = pool->lease.slabs, *slab = slabs + id;

	slab->is_orphan = true;
	slab->orphan_prev = slab->orphan_next = id;
	if (orphans->n++) {
		slab->orphan_next = orphans->head;
		slab->orphan_prev = slabs[orphans->head].orphan_prev;
		slabs[slab->orphan_prev].orphan_next = slabs[slab->orphan_next].orphan_prev = id;
	}
	orphans->head = id;
}

void slab_unlist_orphan(struct pool *pool, uint32_t id)
{
	struct orphans *orphans = orphans_of(pool, slab_record(pool, id)->size_class);
	struct slab *slabs = pool->lease.slabs, *slab = slabs + id;

	if (!slab->is_orphan)
		return;
	slab->is_orphan = false;
	slabs[slab->orphan_prev].orphan_next = slab->orphan_next;
	slabs[slab->orphan_next].orphan_prev = slab->orphan_prev;
	if (orphans->head == id)
		orphans->head = slab->orphan_next;
	orphans->n--;
}

void slab_set_grantee(struct pool *pool, uint32_t id, uint32_t heap)
{
	intent_set(&pool->ledger, &slab_record(pool, id)->what,
		   (slab_extent(pool, id) + UINT64_C(1)) | (uint64_t)heap << 32);
	lease_slab_at(&pool->lease, id)->grantee = heap;
}

/* The extent's charge and list go over to @owner, whose charge is made already. */
static void pass_extent(struct pool *pool, uint32_t id, uint32_t owner)
{
	uint32_t extent = slab_extent(pool, id), from = extent_owner(&pool->map, extent);

	uncharge_blocks(pool, account_of(pool, from), 1, extent_size(&pool->map, extent));
	extent_map_own(&pool->map, extent, slab_holding(pool, from), owner, slab_holding(pool, owner));
}

void slab_orphan(struct pool *pool, uint32_t id)
{
	charge_blocks_always(pool, pool->account, 1, extent_size(&pool->map, slab_extent(pool, id)));
	pass_extent(pool, id, POOL_OWNER);
	slab_set_grantee(pool, id, 0);
	slab_list_orphan(pool, id);
	pool_commit(pool);
}

/* ---- leased again ---- */

/* The one at the head goes to the end. Return: whether it has something to give */
static bool look_at_next(struct pool *pool, struct orphans *orphans, uint32_t *idp)
{
	uint16_t words[SLAB_SLOTS_MAX];
	struct slab_count count;

	*idp = orphans->head;
	orphans->head = pool->lease.slabs[*idp].orphan_next;
	orphans->n_looked++;
	return slab_read(pool, *idp, words, &count) && count.n_free;
}

static int adopt(struct pool_member *member, uint32_t heap, uint32_t id)
{
	struct pool *pool = member->pool;
	int r = charge_blocks(pool, member->account, 1, extent_size(&pool->map, slab_extent(pool, id)));

	if (r)
		return r;
	pass_extent(pool, id, member->index);
	slab_unlist_orphan(pool, id);
	slab_set_grantee(pool, id, heap);
	lease_hint_set(&lease_slab_at(&pool->lease, id)->has_free, 1);
	return 0;
}

int slab_adopt(struct pool_member *member, uint32_t heap, uint32_t size_class, uint32_t *idp)
{
	struct orphans *orphans = orphans_of(member->pool, size_class);
	uint32_t n = orphans->n < FEW ? orphans->n : FEW, id;

	for (; n; n--)
		if (look_at_next(member->pool, orphans, &id)) {
			*idp = id;
			return adopt(member, heap, id);
		}
	return POOL_E_FULL;
}

/* What is left of the lap that ends with look @end, for one step. Return: whether *idp has something to give */
static bool search(struct pool *pool, struct orphans *orphans, uint64_t end, uint32_t *idp)
{
	struct step step = step_begin();

	while (orphans->n && orphans->n_looked < end) {
		if (look_at_next(pool, orphans, idp))
			return true;
		if (step_is_over_now(&step))
			break;
	}
	return false;
}

int slab_adopt_any(struct pool_member *member, uint32_t heap, uint32_t size_class, unsigned flags, uint32_t *idp)
{
	struct pool *pool = member->pool;
	struct orphans *orphans = orphans_of(pool, size_class);
	uint64_t begin = clock_ns(CLOCK_MONOTONIC), end = orphans->n_looked + orphans->n, ns = 0;
	uint32_t id;

	if (orphans->n <= FEW || begin < orphans->rest_until_ns)
		return POOL_E_FULL;
	if (!(flags & POOL_MAY_BLOCK))
		return POOL_E_SLOW;
	while (orphans->n && orphans->n_looked < end) {
		begin = clock_ns(CLOCK_MONOTONIC);
		if (search(pool, orphans, end, &id)) {
			*idp = id;
			return adopt(member, heap, id);
		}
		ns += clock_ns(CLOCK_MONOTONIC) - begin;
		pool_hand_over(pool);
		if (pool->is_destroyed)
			return POOL_E_DESTROYED;
	}
	orphans->rest_until_ns = clock_ns(CLOCK_MONOTONIC) + REST_FACTOR * ns;
	return POOL_E_FULL;
}
