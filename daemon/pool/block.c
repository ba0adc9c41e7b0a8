// SPDX-License-Identifier: MIT
/*
 * What requests do to blocks. An allocation is
 *
 *   charge     to the owner's uid
 *   take       extents of the sizes, in state TAKEN: nobody can name them yet
 *   back       pages for them: at once if there is little to do; else without the mutex, by one who may block
 *   publish    they become blocks, and count
 *
 * and each step that fails has those before it undone. Whoever let go of the mutex looks again whether the pool is there.
 */
#include <errno.h>

#include "pool/pool_internal.h"

#define N_BACK_TRIES 16u /* times that pages are reclaimed for one request, before others who take them have won */

/* ---- sizes ---- */

bool shape_of(const struct pool *pool, uint64_t requested, struct shape *shapep)
{
	uint64_t size;

	if (!round_up_checked(requested, EXTENT_GRANULE, &size) || size > EXTENT_BYTES_MAX)
		return false;
	size += 2 * pool->guard_bytes;
	*shapep = (struct shape){.size = size, .slack = (uint32_t)(size - requested)};
	return true;
}

/* ---- allocation ---- */

struct claim { /* blocks on their way from gaps to their owner */
	struct pool *pool;
	struct pool_member *asker;
	struct quota_account *account;
	uint32_t owner;
	uint64_t alignment;
	unsigned flags;
	size_t n, n_taken;
	const uint64_t *sizes; /* [n], as asked for */
	uint64_t *extents;     /* [n], out */
	uint64_t n_bytes;      /* charged */
};

static int claim_measure(struct claim *claim)
{
	struct shape shape;

	for (size_t i = 0; i < claim->n; i++)
		if (!shape_of(claim->pool, claim->sizes[i], &shape) ||
		    __builtin_add_overflow(claim->n_bytes, shape.size, &claim->n_bytes))
			return POOL_E_FULL;
	return claim->n_bytes > claim->pool->map.free_bytes ? POOL_E_FULL : 0;
}

static int claim_take(struct claim *claim)
{
	struct pool *pool = claim->pool;
	struct shape shape = {0};
	uint32_t extent, now = now_s();
	int r;

	for (; claim->n_taken < claim->n; claim->n_taken++) {
		if (!shape_of(pool, claim->sizes[claim->n_taken], &shape))
			return POOL_E_FULL;
		r = extent_map_take(&pool->map, shape.size, claim->alignment, pool->guard_bytes, shape.slack,
				    claim->asker->session, now, &extent);
		if (r)
			return r == EXTENT_E_EXHAUSTED ? POOL_E_FULL : r;
		claim->extents[claim->n_taken] = extent;
	}
	return 0;
}

static uint64_t claim_missing(const struct claim *claim, uint64_t enough)
{
	const struct pool *pool = claim->pool;
	uint64_t missing = 0;

	for (size_t i = 0; i < claim->n && missing < enough; i++)
		missing += backing_missing(&pool->backing, extent_offset(&pool->map, (uint32_t)claim->extents[i]),
					   extent_size(&pool->map, (uint32_t)claim->extents[i]), enough - missing);
	return missing;
}

/* The records of TAKEN extents do not change under us: this needs no mutex. */
static int claim_ensure(const struct claim *claim)
{
	struct pool *pool = claim->pool;
	int r = 0;

	for (size_t i = 0; !r && i < claim->n; i++)
		r = backing_ensure(&pool->backing, extent_offset(&pool->map, (uint32_t)claim->extents[i]),
				   extent_size(&pool->map, (uint32_t)claim->extents[i]));
	return r;
}

static int claim_ensure_unlocked(const struct claim *claim)
{
	struct pool *pool = claim->pool;
	int r;

	pool_unlock(pool);
	pthread_rwlock_rdlock(&pool->length_lock);
	r = claim_ensure(claim);
	pthread_rwlock_unlock(&pool->length_lock);
	pool_lock_after_others(pool);
	return pool->is_destroyed ? POOL_E_DESTROYED : r == BACKING_E_EXHAUSTED ? POOL_E_UNBACKED : r;
}

static int claim_back(const struct claim *claim)
{
	struct pool *pool = claim->pool;
	uint64_t missing = claim_missing(claim, POOL_SLOW_BYTES + 1);
	int r = BACKING_E_EXHAUSTED;

	if (!missing)
		return 0;
	if (missing <= POOL_SLOW_BYTES)
		r = claim_ensure(claim);
	if (r != BACKING_E_EXHAUSTED)
		return r;
	if (!(claim->flags & POOL_MAY_BLOCK))
		return POOL_E_SLOW;
	r = claim_ensure_unlocked(claim);
	for (unsigned i = 0; r == POOL_E_UNBACKED && i < N_BACK_TRIES; i++) {
		if (!reclaim(pool, 0, claim_missing(claim, UINT64_MAX)))
			break;
		r = claim_ensure_unlocked(claim);
	}
	return pool->is_destroyed ? POOL_E_DESTROYED : r;
}

/* Under the mutex. Return: 0, and @claim->extents are blocks; else nothing has changed */
static int claim_run(struct claim *claim)
{
	struct pool *pool = claim->pool;
	int r;

	r = claim_measure(claim);
	if (!r)
		r = intent_reserve(&pool->ledger, (uint32_t)claim->n + POOL_NOTES);
	if (!r)
		r = charge_blocks(pool, claim->account, claim->n, claim->n_bytes);
	if (r)
		return r;
	r = claim_take(claim);
	if (!r)
		r = claim_back(claim);
	for (size_t i = 0; i < claim->n_taken; i++) {
		if (r)
			extent_drop(pool, (uint32_t)claim->extents[i]);
		else
			block_begin(pool, (uint32_t)claim->extents[i], claim->owner);
	}
	if (r)
		uncharge_blocks(pool, claim->account, claim->n, claim->n_bytes);
	else
		note_peak(pool);
	return r;
}

/* Of what was asked of a pool, this counts as an allocation refused. */
int note_failure(struct pool *pool, int r)
{
	pool->failed_total += r == POOL_E_FULL || r == POOL_E_UNBACKED || r == POOL_E_QUOTA || r == -ENOSPC;
	return r;
}

/* Empty slabs are room too. */
static int claim_run_or_recall(struct claim *claim)
{
	struct pool *pool = claim->pool;
	uint64_t n_free = pool->map.free_bytes;
	bool changed;
	int r;

	r = claim_run(claim);
	if (r != POOL_E_FULL)
		return r;
	r = slab_recall_all(pool, claim->asker, claim->flags, &changed);
	if (r)
		return r;
	if (pool->is_destroyed)
		return POOL_E_DESTROYED;
	if (!changed && pool->map.free_bytes == n_free) /* nor has anybody freed while we waited */
		return POOL_E_FULL;
	claim->n_taken = 0;
	claim->n_bytes = 0;
	return claim_run(claim);
}

int block_alloc(struct pool_member *asker, uint32_t owner, size_t n, const uint64_t sizes[], uint64_t alignment,
		unsigned flags, uint64_t extents[])
{
	struct pool *pool = asker->pool;
	struct claim claim = {
		.pool = pool,
		.asker = asker,
		.account = account_of(pool, owner),
		.owner = owner,
		.alignment = alignment,
		.flags = flags,
		.n = n,
		.sizes = sizes,
		.extents = extents,
	};

	return pool->is_destroyed ? POOL_E_DESTROYED : claim_run_or_recall(&claim);
}

void block_describe(const struct pool *pool, uint32_t extent, struct pool_block *blockp)
{
	*blockp = (struct pool_block){
		.offset = block_offset(pool, extent),
		.size = block_usable(pool, extent),
		.owner = session_of(pool, extent_owner(&pool->map, extent)),
		.origin = extent_origin(&pool->map, extent),
	};
}

int pool_alloc(struct pool_member *member, uint64_t size, uint64_t alignment, unsigned flags, struct pool_block *blockp)
{
	const struct pool_block asked = {.size = size};
	struct pool *pool = member->pool;
	uint64_t extent;
	int r;

	alignment = alignment ? alignment : EXTENT_GRANULE;
	if (!size || !is_power_of_two(alignment) || alignment > POOL_ALIGNMENT_MAX)
		return POOL_E_INVALID;
	alignment = alignment < EXTENT_GRANULE ? EXTENT_GRANULE : alignment;
	pool_lock(pool);
	if (!result_find(member, RECENT_ALLOC, &r, blockp)) {
		r = note_failure(pool, block_alloc(member, member->index, 1, &size, alignment, flags, &extent));
		if (!r)
			block_describe(pool, (uint32_t)extent, blockp);
		result_put(member, RECENT_ALLOC, r, r ? &asked : blockp);
	}
	pool_unlock(pool);
	return r;
}

int pool_alloc_batch(struct pool_member *member, size_t n, const uint64_t sizes[], unsigned flags, uint64_t offsets[])
{
	struct pool *pool = member->pool;
	uint32_t batch;
	int r;

	for (size_t i = 0; i < n; i++)
		if (!sizes[i])
			return POOL_E_INVALID;
	pool_lock(pool);
	if (!result_find_batch(member, RECENT_ALLOC, &r, offsets, n)) {
		r = result_take_batch(member, n, &batch);
		if (!r)
			r = block_alloc(member, member->index, n, sizes, EXTENT_GRANULE, flags, offsets);
		for (size_t i = 0; !r && i < n; i++)
			offsets[i] = block_offset(pool, (uint32_t)offsets[i]);
		result_put_batch(member, RECENT_ALLOC, note_failure(pool, r), batch, n, offsets, sizes);
	}
	pool_unlock(pool);
	return r;
}

/* ---- finding ---- */

/* An entry needs no clearing when its offset is handed out again: a live block is found before anybody looks here. */
static bool is_known_free(const struct pool *pool, uint64_t offset)
{
	return offset && pool->freed[offset / EXTENT_GRANULE % POOL_FREED_N] == offset;
}

/* Under the mutex: the block that a client calls @offset. */
int block_find(const struct pool *pool, uint64_t offset, uint32_t *extentp)
{
	if (pool->is_destroyed)
		return POOL_E_DESTROYED;
	if (offset >= pool->guard_bytes && !extent_map_find(&pool->map, offset - pool->guard_bytes, extentp))
		return 0;
	return is_known_free(pool, offset) ? POOL_E_FREED : POOL_E_NO_BLOCK;
}

/* The same for a request that changes it: a slot gets a record first, which is an operation of its own. */
static int block_find_or_pin(struct pool *pool, uint64_t offset, uint32_t *extentp)
{
	int r = block_find(pool, offset, extentp);

	return r == POOL_E_NO_BLOCK || r == POOL_E_FREED ? slot_pin(pool, offset, r, extentp) : r;
}

int pool_inspect(struct pool_member *member, uint64_t offset, struct pool_block *blockp)
{
	struct pool *pool = member->pool;
	struct slot slot;
	uint32_t extent;
	int r;

	pool_lock(pool);
	r = block_find(pool, offset, &extent);
	if (!r) {
		block_describe(pool, extent, blockp);
	} else if (r != POOL_E_DESTROYED) {
		r = slot_look(pool, offset, r, &slot);
		if (!r)
			slot_describe(pool, &slot, blockp);
	}
	pool_unlock(pool);
	return r;
}

int pool_find(struct pool_member *member, const void *name, size_t n_name_bytes, bool retain, struct pool_block *blockp)
{
	struct pool *pool = member->pool;
	uint32_t index;
	int r = 0;

	pool_lock(pool);
	if (!retain || !result_find(member, RECENT_ACQUIRE, &r, blockp)) {
		index = pool->is_destroyed ? POOL_NONE : block_name_find(pool, name, n_name_bytes);
		if (index == POOL_NONE)
			r = pool->is_destroyed ? POOL_E_DESTROYED : POOL_E_NO_NAME;
		else if (retain)
			r = hold_add(pool, name_record(pool, index)->extent, member);
		if (!r)
			block_describe(pool, name_record(pool, index)->extent, blockp);
		if (retain)
			result_put(member, RECENT_ACQUIRE, r, r ? NULL : blockp);
	}
	pool_unlock(pool);
	return r;
}

/* ---- holds ---- */

static int free_locked(struct pool_member *member, uint64_t offset)
{
	struct pool *pool = member->pool;
	uint32_t extent, hold;
	int r;

	r = block_find_or_pin(pool, offset, &extent);
	if (r == -ENOSPC)
		return slot_free_at_once(pool, offset);
	if (r)
		return r;
	hold = hold_find(pool, extent, member->index);
	if (hold != POOL_NONE)
		hold_drop(pool, hold, 1);
	else if (extent_owner(&pool->map, extent) == EXTENT_OWNER_NONE)
		return POOL_E_FREED; /* its owner's hold is gone, and the others' are theirs */
	else
		block_drop_owner(pool, extent);
	return 0;
}

int pool_free(struct pool_member *member, uint64_t offset)
{
	const struct pool_block block = {.offset = offset};
	int r;

	pool_lock(member->pool);
	if (!result_find(member, RECENT_FREE, &r, NULL))
		r = result_put(member, RECENT_FREE, free_locked(member, offset), &block);
	pool_unlock(member->pool);
	return r;
}

/* A group of frees is one operation with how far the batch is by then. */
static int free_some(struct pool_member *member, size_t n, const uint64_t offsets[], struct free_progress *progress,
		     uint64_t failed[], size_t *n_failedp)
{
	struct pool *pool = member->pool;
	uint64_t offset;
	uint32_t extent;
	int r;

	while (progress->n_done < n && pool->ledger.n_noted < INTENT_N_LEAST / 2) {
		offset = offsets[progress->n_done];
		if (pool->ledger.n_noted && offset && block_find(pool, offset, &extent))
			break; /* maybe a slot: pinning it commits, and what was done so far goes with its progress */
		progress->n_done++;
		r = offset ? free_locked(member, offset) : 0;
		if (r == POOL_E_DESTROYED)
			return r;
		recent_add(pool, member, RECENT_FREE, r, offset, 0);
		if (!r)
			continue;
		failed[(*n_failedp)++] = offset;
		if (!progress->n_failed++) {
			progress->first_outcome = r;
			progress->first_failed = offset;
		}
	}
	result_put_progress(member, progress, progress->n_done == n);
	pool_commit(pool);
	return 0;
}

int pool_free_batch(struct pool_member *member, size_t n, const uint64_t offsets[], uint64_t failed[],
		    size_t *n_failedp)
{
	struct free_progress progress;
	int r;

	*n_failedp = 0;
	pool_lock(member->pool);
	r = result_find_progress(member, n, &progress);
	if (progress.n_failed)
		failed[(*n_failedp)++] = progress.first_failed;
	while (!r && progress.n_done < n)
		r = free_some(member, n, offsets, &progress, failed, n_failedp);
	pool_unlock(member->pool);
	return r ? r : progress.first_outcome;
}

/* A slot of another session's is not pinned for one who has no right to it. */
static int may_pin(struct pool_member *member, uint64_t offset)
{
	struct pool *pool = member->pool;
	struct slot slot;
	uint32_t extent;

	if (pool->is_destroyed || !block_find(pool, offset, &extent) || slot_look(pool, offset, 0, &slot))
		return 0;
	return slot.owner == member->index || slot.owner == POOL_OWNER ? 0 : POOL_E_NOT_OWNER;
}

static int retain_locked(struct pool_member *member, uint64_t offset)
{
	struct pool *pool = member->pool;
	uint32_t extent, owner;
	int r;

	r = may_pin(member, offset);
	if (!r)
		r = block_find_or_pin(pool, offset, &extent);
	if (r)
		return r;
	owner = extent_owner(&pool->map, extent);
	if (owner == member->index || owner == POOL_OWNER || extent_flags(&pool->map, extent) & EXTENT_HELD)
		return hold_add(pool, extent, member);
	return POOL_E_NOT_OWNER;
}

int pool_retain(struct pool_member *member, uint64_t offset)
{
	const struct pool_block block = {.offset = offset};
	int r;

	pool_lock(member->pool);
	if (!result_find(member, RECENT_RETAIN, &r, NULL))
		r = result_put(member, RECENT_RETAIN, retain_locked(member, offset), &block);
	pool_unlock(member->pool);
	return r;
}

static int take_locked(struct pool_member *member, uint64_t offset, uint64_t from_session)
{
	struct pool *pool = member->pool;
	uint32_t extent, owner;
	uint64_t n_bytes;
	int r;

	r = block_find_or_pin(pool, offset, &extent);
	if (r)
		return r < 0		       ? r
		       : r == POOL_E_DESTROYED ? r
					       : POOL_E_STALE; /* an old offset: whoever owned it does not any more */
	owner = extent_owner(&pool->map, extent);
	if (!from_session || session_of(pool, owner) != from_session ||
	    member_record(pool, owner)->state == MEMBER_ENDING)
		return POOL_E_STALE;
	if (owner == member->index)
		return 0;
	n_bytes = extent_size(&pool->map, extent);
	if (member->account != account_of(pool, owner)) {
		r = charge_blocks(pool, member->account, 1, n_bytes);
		if (r)
			return r;
		uncharge_blocks(pool, account_of(pool, owner), 1, n_bytes);
	}
	block_pass(pool, extent, member->index);
	return 0;
}

int pool_take(struct pool_member *member, uint64_t offset, uint64_t from_session)
{
	const struct pool_block block = {.offset = offset};
	int r;

	pool_lock(member->pool);
	if (!result_find(member, RECENT_TAKE, &r, NULL))
		r = result_put(member, RECENT_TAKE, take_locked(member, offset, from_session), &block);
	pool_unlock(member->pool);
	return r;
}

static int publish_locked(struct pool_member *member, uint64_t offset, const void *name, size_t n_name_bytes)
{
	struct pool *pool = member->pool;
	uint32_t extent, owner, named;
	int r;

	r = may_pin(member, offset);
	if (!r)
		r = block_find_or_pin(pool, offset, &extent);
	if (r)
		return r;
	owner = extent_owner(&pool->map, extent);
	if (owner != member->index && owner != POOL_OWNER)
		return POOL_E_NOT_OWNER;
	named = n_name_bytes ? block_name_find(pool, name, n_name_bytes) : POOL_NONE;
	if (named != POOL_NONE) /* the same again is no mistake */
		return name_record(pool, named)->extent == extent ? 0 : POOL_E_NAME_TAKEN;
	if (n_name_bytes && extent_flags(&pool->map, extent) & EXTENT_NAMED)
		return POOL_E_NAMED;
	r = n_name_bytes ? record_reserve(pool, &pool->names) : 0;
	if (r)
		return r;
	if (owner != POOL_OWNER) {
		charge_blocks_always(pool, pool->account, 1, extent_size(&pool->map, extent));
		uncharge_blocks(pool, member->account, 1, extent_size(&pool->map, extent));
		block_pass(pool, extent, POOL_OWNER);
	}
	if (n_name_bytes)
		block_name_add(pool, extent, name, n_name_bytes);
	return 0;
}

int pool_publish(struct pool_member *member, uint64_t offset, const void *name, size_t n_name_bytes)
{
	const struct pool_block block = {.offset = offset};
	int r;

	if (n_name_bytes && !name_is_valid(name, n_name_bytes)) /* a recovery would refuse it */
		return POOL_E_INVALID;
	pool_lock(member->pool);
	if (!result_find(member, RECENT_PUBLISH, &r, NULL))
		r = result_put(member, RECENT_PUBLISH, publish_locked(member, offset, name, n_name_bytes), &block);
	pool_unlock(member->pool);
	return r;
}
