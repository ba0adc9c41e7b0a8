// SPDX-License-Identifier: MIT
/*
 * Pages given back to the kernel. A large gap keeps its pages for a while, since a new page costs far more than anything
 * else an allocation does; when nothing has been freed into it for decay_ms, its whole units are punched, slice by slice.
 *
 * pending: there may be such a gap; look at decay_at_ms. One look is a walk over the map in steps. It leaves pages in gaps
 * that are too young, and comes back for them, but not before half the time has passed again: a walk costs about 10 ms
 * for a million extents.
 */
#include "pool/pool_internal.h"

#define SLICE_BYTES (1u << 20) /* most that one punch takes: 60 us */

static uint64_t now_ms(void)
{
	return clock_ns(CLOCK_REALTIME) / 1000000u;
}

static uint64_t add_ms(uint64_t a, uint64_t b)
{
	uint64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

void decay_note(struct pool *pool, uint32_t gap)
{
	if (extent_size(&pool->map, gap) < DECAY_BYTES || pool->options.reserve || pool->is_destroyed)
		return;
	pool->decay_again = true;
	if (pool->decay_pending)
		return;
	pool->decay_pending = true;
	pool->decay_at_ms = add_ms(now_ms(), pool->env->decay_ms);
	if (pool->env->decay_wanted)
		pool->env->decay_wanted(pool->env->decay_arg);
}

/* Return: true if the gap has more to give */
static bool decay_gap(struct pool *pool, uint32_t gap, uint64_t now)
{
	uint64_t offset = extent_offset(&pool->map, gap), size = extent_size(&pool->map, gap);
	uint64_t due_ms = add_ms((uint64_t)extent_since(&pool->map, gap) * 1000, pool->env->decay_ms);

	if (now >= due_ms)
		return backing_punch(&pool->backing, offset, size, SLICE_BYTES) > 0;
	if (due_ms < pool->decay_young_ms && backing_has_whole(&pool->backing, offset, size))
		pool->decay_young_ms = due_ms;
	return false;
}

/* Return: true when the walk has come to the end */
static bool decay_walk(struct pool *pool, uint64_t now)
{
	struct cursor *cursor = &pool->decay_cursor;
	struct step step = step_begin();

	while (cursor->offset < map_end(pool)) {
		if (!cursor_seek(pool, cursor, &step))
			return false;
		if (extent_state(&pool->map, cursor->extent) == EXTENT_GAP &&
		    extent_size(&pool->map, cursor->extent) >= DECAY_BYTES) {
			if (decay_gap(pool, cursor->extent, now)) {
				if (step_is_over_now(&step))
					return false;
				continue;
			}
		}
		cursor->offset = extent_offset(&pool->map, cursor->extent) + extent_size(&pool->map, cursor->extent);
		if (step_is_over(&step))
			return false;
	}
	return true;
}

static void plan_next_walk(struct pool *pool, uint64_t now)
{
	uint64_t next = pool->decay_young_ms, earliest = add_ms(now, pool->env->decay_ms / 2);

	if (pool->decay_again && next > add_ms(now, pool->env->decay_ms))
		next = add_ms(now, pool->env->decay_ms);
	pool->decay_pending = pool->decay_again || next != UINT64_MAX;
	pool->decay_at_ms = next > earliest ? next : earliest;
}

static uint64_t due_in(const struct pool *pool, uint64_t now)
{
	if (!pool->decay_pending || pool->is_destroyed || pool->env->decay_ms == UINT64_MAX)
		return UINT64_MAX;
	return now < pool->decay_at_ms ? pool->decay_at_ms - now : 0;
}

static uint64_t decay_locked(struct pool *pool)
{
	uint64_t now = now_ms(), in_ms = due_in(pool, now);

	if (in_ms)
		return in_ms;
	if (!pool->decay_walking) {
		slab_recall_empty(pool);
		cursor_begin(pool, &pool->decay_cursor, POOL_FIRST, POOL_NONE);
		pool->decay_walking = true;
		pool->decay_again = false;
		pool->decay_young_ms = UINT64_MAX;
	}
	if (!decay_walk(pool, now))
		return 0;
	cursor_end(pool, &pool->decay_cursor);
	pool->decay_walking = false;
	plan_next_walk(pool, now);
	return due_in(pool, now);
}

uint64_t pool_decay_in(struct pool *pool)
{
	uint64_t ms;

	pool_lock(pool);
	ms = due_in(pool, now_ms());
	pool_unlock(pool);
	return ms;
}

uint64_t pool_decay_step(struct pool *pool)
{
	uint64_t ms;

	pool_lock_after_others(pool);
	ms = decay_locked(pool);
	pool_unlock(pool);
	return ms;
}

/* ---- at once ---- */

/* One step. Return: true when there is nothing more to do */
static bool reclaim_walk(struct pool *pool, struct cursor *cursor, uint64_t except, uint64_t wanted, uint64_t *donep)
{
	struct step step = step_begin();
	uint64_t offset, size, n_bytes;

	while (*donep < wanted && cursor->offset < map_end(pool)) {
		if (!cursor_seek(pool, cursor, &step))
			return false;
		offset = extent_offset(&pool->map, cursor->extent);
		size = extent_size(&pool->map, cursor->extent);
		n_bytes = 0;
		if (extent_state(&pool->map, cursor->extent) == EXTENT_GAP && offset != except)
			n_bytes = backing_punch(&pool->backing, offset, size, SLICE_BYTES);
		*donep += n_bytes;
		if (!n_bytes)
			cursor->offset = offset + size;
		if (n_bytes ? step_is_over_now(&step) : step_is_over(&step))
			return false;
	}
	return true;
}

uint64_t reclaim(struct pool *pool, uint64_t except, uint64_t wanted)
{
	struct cursor cursor;
	uint64_t done = 0;

	cursor_begin(pool, &cursor, POOL_FIRST, POOL_NONE);
	while (!pool->is_destroyed && !reclaim_walk(pool, &cursor, except, wanted, &done))
		pool_hand_over(pool);
	cursor_end(pool, &cursor);
	return done;
}
