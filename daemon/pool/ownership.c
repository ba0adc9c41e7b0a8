// SPDX-License-Identifier: MIT
/*
 * Whose a block is. It hangs on the list of its owner: a session, the pool, or, while only retains keep it, nobody. It is
 * charged to its owner's uid, and to the pool's where no session owns it.
 */
#include "pool/pool_internal.h"

struct pool_holding *holding_of(struct pool *pool, uint32_t owner)
{
	return owner == POOL_OWNER	    ? &pool->own
	       : owner == EXTENT_OWNER_NONE ? &pool->nobody
					    : &pool->members[owner]->blocks;
}

static bool is_session(uint32_t owner)
{
	return owner < POOL_OWNER;
}

struct quota_account *account_of(const struct pool *pool, uint32_t owner)
{
	return is_session(owner) ? pool->members[owner]->account : pool->account;
}

uint64_t session_of(const struct pool *pool, uint32_t owner)
{
	/* of a destroyed pool a member leaves without its blocks, which somebody may still be looking at */
	return is_session(owner) && pool->members[owner] ? pool->members[owner]->session : 0;
}

/* ---- charges ---- */

static uint64_t bytes_to_charge(const struct pool *pool, uint64_t n_bytes)
{
	return pool->options.reserve ? 0 : n_bytes; /* paid for at create */
}

int charge_blocks(const struct pool *pool, struct quota_account *account, uint64_t n_blocks, uint64_t n_bytes)
{
	n_bytes = bytes_to_charge(pool, n_bytes);
	if (n_bytes && quota_charge(account, QUOTA_BYTES, n_bytes))
		return POOL_E_QUOTA;
	if (n_blocks && quota_charge(account, QUOTA_BLOCKS, n_blocks)) {
		quota_give_back(account, QUOTA_BYTES, n_bytes);
		return POOL_E_QUOTA;
	}
	return 0;
}

void charge_blocks_always(const struct pool *pool, struct quota_account *account, uint64_t n_blocks, uint64_t n_bytes)
{
	quota_charge_always(account, QUOTA_BYTES, bytes_to_charge(pool, n_bytes));
	quota_charge_always(account, QUOTA_BLOCKS, n_blocks);
}

void uncharge_blocks(const struct pool *pool, struct quota_account *account, uint64_t n_blocks, uint64_t n_bytes)
{
	quota_give_back(account, QUOTA_BYTES, bytes_to_charge(pool, n_bytes));
	quota_give_back(account, QUOTA_BLOCKS, n_blocks);
}

/* ---- sizes ---- */

uint64_t block_requested(const struct pool *pool, uint32_t extent)
{
	return extent_size(&pool->map, extent) - extent_slack(&pool->map, extent);
}

/* Behind a guard the usable size is what was asked for, to the byte: the canary begins there. Of a slot only its client knows. */
uint64_t block_usable(const struct pool *pool, uint32_t extent)
{
	if (extent_state(&pool->map, extent) == EXTENT_PINNED)
		return extent_size(&pool->map, extent) - 2 * pool->guard_bytes;
	return pool->guard_bytes ? block_requested(pool, extent) : extent_size(&pool->map, extent);
}

/* ---- lists ---- */

static void hang(struct pool_holding *holding, uint32_t extent)
{
	if (holding->oldest == EXTENT_NONE)
		holding->oldest = extent;
}

/* before the extent map takes it off its list */
static void unhang(struct pool *pool, struct pool_holding *holding, uint32_t extent)
{
	if (holding->oldest == extent)
		holding->oldest = extent_links(&pool->map, extent)->owner_prev;
}

void block_begin(struct pool *pool, uint32_t extent, uint32_t owner)
{
	struct pool_holding *holding = holding_of(pool, owner);

	extent_map_publish(&pool->map, extent, owner, &holding->list);
	hang(holding, extent);
	pool->alloc_total++;
}

void block_pass(struct pool *pool, uint32_t extent, uint32_t owner)
{
	struct pool_holding *from = holding_of(pool, extent_owner(&pool->map, extent)), *to = holding_of(pool, owner);

	unhang(pool, from, extent);
	extent_map_own(&pool->map, extent, &from->list, owner, &to->list);
	hang(to, extent);
}

void block_remember_freed(struct pool *pool, uint64_t offset)
{
	pool->freed[offset / EXTENT_GRANULE % POOL_FREED_N] = offset;
}

static void give_extent(struct pool *pool, uint32_t extent, struct extent_owner *list)
{
	if (extent_state(&pool->map, extent) == EXTENT_PINNED) { /* it leaves no gap */
		extent_map_give(&pool->map, extent, list, 0);
		return;
	}
	cursor_fix(pool, extent);
	decay_note(pool, extent_map_give(&pool->map, extent, list, now_s()));
}

void extent_give_slab(struct pool *pool, uint32_t extent, struct extent_owner *list)
{
	give_extent(pool, extent, list);
}

void extent_drop(struct pool *pool, uint32_t extent)
{
	give_extent(pool, extent, NULL);
}

static void take_off_list(struct pool *pool, uint32_t extent)
{
	uint32_t owner = extent_owner(&pool->map, extent);
	struct pool_holding *holding = holding_of(pool, owner);

	uncharge_blocks(pool, account_of(pool, owner), 1, extent_size(&pool->map, extent));
	unhang(pool, holding, extent);
	give_extent(pool, extent, &holding->list);
}

void block_end(struct pool *pool, uint32_t extent)
{
	assert(pool_is_locked(pool));
	if (extent_state(&pool->map, extent) == EXTENT_PINNED) {
		slot_release(pool, extent);
	} else {
		block_remember_freed(pool, block_offset(pool, extent));
		pool->free_total++;
	}
	take_off_list(pool, extent);
}

/* Charged beside its slab, so that it may be anybody's. */
int block_begin_slot(struct pool *pool, uint64_t offset, uint64_t size, uint32_t owner, uint32_t *extentp)
{
	struct pool_holding *holding = holding_of(pool, owner);
	int r = extent_map_pin(&pool->map, offset, size, session_of(pool, owner), owner, &holding->list, now_s(),
			       extentp);

	if (r)
		return r;
	hang(holding, *extentp);
	charge_blocks_always(pool, account_of(pool, owner), 1, size);
	return 0;
}

void block_cancel_slot(struct pool *pool, uint32_t extent)
{
	take_off_list(pool, extent);
}

bool block_drop_owner(struct pool *pool, uint32_t extent)
{
	struct quota_account *account = account_of(pool, extent_owner(&pool->map, extent));
	unsigned flags = extent_flags(&pool->map, extent);

	if (flags & EXTENT_NAMED) /* a name goes with the pool's hold */
		block_name_remove(pool, extent);
	if (!(flags & EXTENT_HELD)) {
		block_end(pool, extent);
		return true;
	}
	charge_blocks_always(pool, pool->account, 1, extent_size(&pool->map, extent));
	uncharge_blocks(pool, account, 1, extent_size(&pool->map, extent));
	block_pass(pool, extent, EXTENT_OWNER_NONE);
	return false;
}
