// SPDX-License-Identifier: MIT
/*
 * realloc: in place where it can, else a new block beside the old one, which the client frees when it has copied.
 *
 * What a block grows into is backed *before* it grows, while it still is a gap. Where that takes long, the mutex is handed over
 * between slices, and everything is looked at again after each: block, owner, room, pages.
 *
 * A slot stays as it is while what is asked for fits, and else moves to a new block, if nobody else holds it. Its word does not
 * change: its owner frees it as it would any other.
 */
#include <errno.h>

#include "pool/pool_internal.h"

enum { /* beside POOL_E_*, inside this file */
	REALLOC_E_NO_ROOM = POOL_OUTCOME_N + 1,
	REALLOC_E_AGAIN, /* the mutex was let go of */
};

struct change { /* of one block's size */
	struct pool_member *member;
	uint64_t offset; /* as the client knows it */
	uint64_t wanted; /* bytes asked for */
	unsigned flags;
	uint32_t extent; /* after look(); EXTENT_NONE: a slot */
	struct slot slot;
	struct shape shape;
};

/* Without a record, that is. */
static int look_at_slot(struct change *change, int otherwise)
{
	int r = slot_look(change->member->pool, change->offset, otherwise, &change->slot);

	change->extent = EXTENT_NONE;
	if (r)
		return r;
	return change->slot.owner == change->member->index || change->slot.owner == POOL_OWNER ? 0 : POOL_E_NOT_OWNER;
}

static int look(struct change *change)
{
	struct pool *pool = change->member->pool;
	uint32_t owner;
	int r;

	r = block_find(pool, change->offset, &change->extent);
	if (r == POOL_E_NO_BLOCK || r == POOL_E_FREED)
		return look_at_slot(change, r);
	if (r)
		return r;
	owner = extent_owner(&pool->map, change->extent);
	if (owner == change->member->index || owner == POOL_OWNER)
		return 0;
	if (owner == EXTENT_OWNER_NONE && hold_find(pool, change->extent, change->member->index) != POOL_NONE)
		return 0;
	return POOL_E_NOT_OWNER;
}

static int back_slice(const struct change *change, uint64_t offset, uint64_t n_bytes)
{
	struct pool *pool = change->member->pool;
	uint64_t first = backing_first_missing(&pool->backing, offset, n_bytes), end = offset + n_bytes;
	int r;

	n_bytes = end - first < POOL_SLOW_BYTES ? end - first : POOL_SLOW_BYTES;
	r = backing_ensure(&pool->backing, first, n_bytes);
	if (r != BACKING_E_EXHAUSTED)
		return r;
	if (!(change->flags & POOL_MAY_BLOCK))
		return POOL_E_SLOW;
	return reclaim(pool, offset, n_bytes) ? REALLOC_E_AGAIN : POOL_E_UNBACKED;
}

/* Pages for [offset, offset + n_bytes), a part of the gap behind the block. */
static int back_behind(const struct change *change, uint64_t offset, uint64_t n_bytes)
{
	struct pool *pool = change->member->pool;
	uint64_t missing = backing_missing(&pool->backing, offset, n_bytes, POOL_SLOW_BYTES + 1);
	int r;

	if (!missing)
		return 0;
	if (missing > POOL_SLOW_BYTES && !(change->flags & POOL_MAY_BLOCK))
		return POOL_E_SLOW;
	r = back_slice(change, offset, n_bytes);
	if (r || missing <= POOL_SLOW_BYTES)
		return r;
	pool_hand_over(pool);
	return REALLOC_E_AGAIN;
}

static int grow_in_place(const struct change *change)
{
	struct pool *pool = change->member->pool;
	uint32_t extent = change->extent, owner = extent_owner(&pool->map, extent);
	uint64_t old = extent_size(&pool->map, extent), n_more = change->shape.size - old;
	int r;

	if (n_more > extent_map_room_behind(&pool->map, extent))
		return REALLOC_E_NO_ROOM;
	r = back_behind(change, extent_offset(&pool->map, extent) + old, n_more);
	if (!r)
		r = charge_blocks(pool, account_of(pool, owner), 0, n_more);
	if (r)
		return r;
	cursor_fix(pool, extent);
	r = extent_map_resize(&pool->map, extent, change->shape.size, change->shape.slack,
			      &holding_of(pool, owner)->list, now_s());
	if (r)
		uncharge_blocks(pool, account_of(pool, owner), 0, n_more);
	else
		note_peak(pool);
	return r == EXTENT_E_NO_ROOM ? REALLOC_E_NO_ROOM : r;
}

static int shrink_in_place(const struct change *change)
{
	struct pool *pool = change->member->pool;
	uint32_t extent = change->extent, owner = extent_owner(&pool->map, extent);
	uint64_t n_less = extent_size(&pool->map, extent) - change->shape.size;
	int r;

	cursor_fix(pool, extent);
	r = extent_map_resize(&pool->map, extent, change->shape.size, change->shape.slack,
			      &holding_of(pool, owner)->list, now_s());
	assert(r != EXTENT_E_NO_ROOM);
	if (r)
		return r;
	uncharge_blocks(pool, account_of(pool, owner), 0, n_less);
	if (n_less)
		decay_note(pool, extent_map_next(&pool->map, extent));
	return 0;
}

/* The new block has the owner of the old one, which stays. */
static int move(const struct change *change, struct pool_block *blockp)
{
	struct pool *pool = change->member->pool;
	bool is_slot = change->extent == EXTENT_NONE;
	uint32_t owner = is_slot ? change->slot.owner : extent_owner(&pool->map, change->extent);
	uint64_t old_size = is_slot ? change->slot.size - 2 * pool->guard_bytes : block_usable(pool, change->extent),
		 extent;
	int r;

	if (!is_slot && (extent_flags(&pool->map, change->extent) || owner == EXTENT_OWNER_NONE))
		return POOL_E_PINNED;
	r = block_alloc(change->member, owner, 1, &change->wanted, EXTENT_GRANULE, change->flags, &extent);
	if (r)
		return r;
	block_describe(pool, (uint32_t)extent, blockp);
	blockp->old_size = old_size;
	blockp->moved = true;
	return 0;
}

static int keep_slot(const struct change *change, struct pool_block *blockp)
{
	const struct pool *pool = change->member->pool;
	bool is_pinned = change->extent != EXTENT_NONE;
	uint64_t size = is_pinned ? block_usable(pool, change->extent) : change->slot.size - 2 * pool->guard_bytes;

	if (change->wanted > size)
		return REALLOC_E_NO_ROOM;
	if (is_pinned)
		block_describe(pool, change->extent, blockp);
	else
		slot_describe(pool, &change->slot, blockp);
	blockp->old_size = size;
	return 0;
}

static int change_in_place(struct change *change, struct pool_block *blockp)
{
	struct pool *pool = change->member->pool;
	uint64_t old_size;
	int r;

	if (change->extent == EXTENT_NONE || extent_state(&pool->map, change->extent) == EXTENT_PINNED)
		return keep_slot(change, blockp);
	old_size = block_usable(pool, change->extent);
	r = change->shape.size > extent_size(&pool->map, change->extent) ? grow_in_place(change)
									 : shrink_in_place(change);
	if (r)
		return r;
	block_describe(pool, change->extent, blockp);
	blockp->old_size = old_size;
	return 0;
}

static int realloc_locked(struct change *change, struct pool_block *blockp)
{
	/* once for each slice, and again for those that others got or punched meanwhile; then it is somebody else's turn */
	uint64_t n_tries = 16 + 2 * (change->wanted / POOL_SLOW_BYTES);
	int r;

	do {
		r = look(change);
		if (r)
			return r;
		if (!shape_of(change->member->pool, change->wanted, &change->shape))
			return POOL_E_FULL;
		r = change_in_place(change, blockp);
	} while (r == REALLOC_E_AGAIN && n_tries--);
	if (r == REALLOC_E_AGAIN)
		return POOL_E_UNBACKED;
	return r == REALLOC_E_NO_ROOM ? move(change, blockp) : r;
}

int pool_realloc(struct pool_member *member, uint64_t offset, uint64_t size, unsigned flags, struct pool_block *blockp)
{
	const struct pool_block asked = {.offset = offset, .size = size};
	struct change change = {.member = member, .offset = offset, .wanted = size, .flags = flags};
	int r;

	if (!size)
		return POOL_E_INVALID;
	if (!offset)
		return pool_alloc(member, size, 0, flags, blockp);
	pool_lock(member->pool);
	if (!result_find(member, RECENT_REALLOC, &r, blockp)) {
		r = note_failure(member->pool, realloc_locked(&change, blockp));
		result_put(member, RECENT_REALLOC, r, r ? &asked : blockp);
	}
	pool_unlock(member->pool);
	return r;
}
