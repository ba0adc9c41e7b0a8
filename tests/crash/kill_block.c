// SPDX-License-Identifier: MIT
/* Blocks of one thread: alloc, free, realloc, batches, retains. */
#include <errno.h>
#include <string.h>

#include "kill_worker.h"

#define STATE(state) (1u << (state))
#define RARELY	     64 /* one in so many, where most are to be slots */

int kill_free_place(const struct kill_me *me)
{
	for (int i = 0; i < KILL_BLOCKS; i++)
		if (kill_state(&me->thread->blocks[i]) == KILL_NONE)
			return i;
	return -1;
}

int kill_pick(struct kill_me *me, unsigned states, int pool, bool unretained)
{
	unsigned first = (unsigned)rnd_below(&me->rnd, KILL_BLOCKS);

	for (unsigned i = 0; i < KILL_BLOCKS; i++) {
		unsigned place = (first + i) % KILL_BLOCKS;
		const struct kill_block *block = &me->thread->blocks[place];

		if (states & STATE(kill_state(block)) && (pool < 0 || block->pool == (unsigned)pool) &&
		    (!unretained || !block->n_retains))
			return (int)place;
	}
	return -1;
}

static uint64_t new_tag(struct kill_me *me)
{
	return kill_tag_make(me->worker_index, me->thread_index, me->incarnation, ++me->thread->n_serials);
}

static void *address(struct kill_me *me, unsigned pool, uint64_t offset)
{
	void *at = mempool_ptr(me->pools[pool], offset);

	if (!at)
		kill_fault(me, "mempool_ptr(0x%llx) in pool %s is NULL", (unsigned long long)offset,
			   kill_pool_name(pool));
	return at;
}

static void verify(struct kill_me *me, const struct kill_block *block, uint32_t n_bytes, const char *when)
{
	const unsigned char *at = address(me, block->pool, block->offset);
	uint64_t tag = kill_tag(block);
	int64_t bad = kill_bad_byte(at, tag, block->size, n_bytes);
	uint64_t found;

	if (bad < 0)
		return;
	memcpy(&found, at, sizeof(found));
	kill_fault(me,
		   "%s: block at 0x%llx, %u bytes, in pool %s: the pattern of tag %llx is damaged at byte %lld of %u; "
		   "its first word reads %llx",
		   when, (unsigned long long)block->offset, block->size, kill_pool_name(block->pool),
		   (unsigned long long)tag, (long long)bad, n_bytes, (unsigned long long)found);
}

void kill_verify(struct kill_me *me, const struct kill_block *block, const char *when)
{
	verify(me, block, block->size, when);
}

/* ---- alloc ---- */

static void check_fill(struct kill_me *me, unsigned pool, uint64_t offset, uint32_t size)
{
	const unsigned char *at = address(me, pool, offset);

	for (uint32_t i = 0; pool == KILL_SESSION_POOL && i < size; i++)
		if (at[i] != 0xCC)
			kill_fault(me, "new block at 0x%llx, %u bytes: byte %u reads 0x%02x, and not 0xCC",
				   (unsigned long long)offset, size, i, at[i]);
}

/* Within the operation: the answer gave us a block. */
static void accept(struct kill_me *me, int place, unsigned pool, uint64_t offset, uint32_t size)
{
	struct kill_block *block = &me->thread->blocks[place];
	uint64_t tag = new_tag(me);

	kill_claim(me, pool, offset, size);
	check_fill(me, pool, offset, size);
	kill_fill(address(me, pool, offset), tag, size);
	block->pool = pool;
	block->offset = offset;
	block->size = size;
	block->n_retains = 0;
	block->is_taken = false;
	kill_set(block, tag, KILL_OWNED);
}

bool kill_is_full(struct kill_me *me, int r)
{
	if (r != -ENOSPC || !me->model->may_be_full)
		return false;
	atomic_fetch_add(&me->model->n_full, 1);
	return true;
}

static uint32_t random_size(struct kill_me *me)
{
	static const uint32_t few[] = {64, 64, 64, 64, 64, 1000, 1000, 1000, 20000, 20000, 40000};

	if (atomic_load_explicit(&me->model->is_hungry, memory_order_relaxed))
		return KILL_MAX_SIZE;
	if (me->model->mostly_slots)
		return few[rnd_below(&me->rnd, N_ELEMENTS(few))];
	return (uint32_t)rnd_log(&me->rnd, KILL_MIN_SIZE, KILL_MAX_SIZE);
}

static unsigned random_pool(struct kill_me *me)
{
	return (unsigned)rnd_below(&me->rnd, KILL_POOLS);
}

static bool step_alloc(struct kill_me *me)
{
	struct kill_op *op = &me->thread->op;
	unsigned pool = random_pool(me);
	uint32_t size = random_size(me), alignment = 16;
	int place = kill_free_place(me);
	uint64_t offset;

	if (place < 0)
		return false;
	if (!rnd_below(&me->rnd, 8))
		alignment <<= rnd_below(&me->rnd, 9);
	op->blocks[op->n++] = (uint16_t)place;
	op->sizes[op->n_sizes++] = size;
	op->alignment = alignment;
	kill_begin(me, KILL_ALLOC, pool);
	offset = alignment > 16 ? mempool_alloc_aligned(me->pools[pool], size, alignment)
				: mempool_alloc(me->pools[pool], size);
	if (offset && offset % alignment)
		kill_fault(me, "alloc of %u bytes at a multiple of %u gave 0x%llx", size, alignment,
			   (unsigned long long)offset);
	if (offset)
		accept(me, place, pool, offset, size);
	else if (!kill_is_full(me, -errno))
		kill_fault(me, "alloc of %u bytes in pool %s: %s (%s)", size, kill_pool_name(pool), strerror(errno),
			   mempool_last_error());
	kill_end(me, offset, size, offset ? 0 : -ENOSPC);
	return true;
}

static bool step_alloc_batch(struct kill_me *me)
{
	struct kill_op *op = &me->thread->op;
	unsigned pool = random_pool(me);
	uint32_t n = 2 + (uint32_t)rnd_below(&me->rnd, KILL_BATCH - 1);
	mempool_offset offsets[KILL_BATCH];
	size_t sizes[KILL_BATCH];
	int r;

	for (uint16_t i = 0; i < KILL_BLOCKS && op->n < n; i++)
		if (kill_state(&me->thread->blocks[i]) == KILL_NONE)
			op->blocks[op->n++] = i;
	if (op->n < 2) {
		op->n = 0;
		return false;
	}
	for (uint32_t i = 0; i < op->n; i++)
		sizes[i] = op->sizes[op->n_sizes++] = random_size(me) / 4 + KILL_MIN_SIZE;
	kill_begin(me, KILL_ALLOC_BATCH, pool);
	r = mempool_alloc_batch(me->pools[pool], op->n, sizes, offsets);
	for (uint32_t i = 0; !r && i < op->n; i++)
		accept(me, op->blocks[i], pool, offsets[i], op->sizes[i]);
	if (r && !kill_is_full(me, r))
		kill_fault(me, "alloc of a batch of %u in pool %s: %s (%s)", op->n, kill_pool_name(pool), strerror(-r),
			   mempool_last_error());
	kill_end(me, r ? 0 : offsets[0], op->n, r);
	return true;
}

/* ---- free ---- */

void kill_give_up(struct kill_me *me, int place)
{
	struct kill_block *block = &me->thread->blocks[place];
	struct kill_op *op = &me->thread->op;
	enum kill_state state = kill_state(block);
	bool is_others = state == KILL_HELD || state == KILL_PASSED, is_last = is_others || !block->n_retains;
	uint64_t offset = block->offset;
	int r;

	if (state != KILL_PASSED)
		kill_verify(me, block, "before free");
	op->blocks[op->n++] = (uint16_t)place;
	kill_begin(me, is_others ? KILL_DROP : KILL_FREE, block->pool);
	if (is_last && state == KILL_LEFT)
		kill_unclaim_left(me, block->pool, offset, block->size, kill_tag_incarnation(kill_tag(block)));
	else if (is_last && !is_others)
		kill_unclaim(me, block->pool, offset, block->size);
	r = mempool_free(me->pools[block->pool], offset);
	if (r)
		kill_fault(me, "free of 0x%llx, %u bytes, in pool %s, %s, %u retains: %s (%s)",
			   (unsigned long long)offset, block->size, kill_pool_name(block->pool),
			   state == KILL_HELD	? "held"
			   : state == KILL_LEFT ? "left behind by a dead session"
						: "owned",
			   block->n_retains, strerror(-r), mempool_last_error());
	if (is_last)
		kill_set(block, 0, KILL_NONE);
	else
		block->n_retains--;
	kill_end(me, offset, block->size, r);
}

static bool step_free(struct kill_me *me)
{
	int place = kill_pick(me, KILL_FREEABLE, -1, false);

	if (place >= 0)
		kill_give_up(me, place);
	return place >= 0;
}

static bool step_free_batch(struct kill_me *me)
{
	struct kill_op *op = &me->thread->op;
	unsigned pool = random_pool(me);
	uint32_t n = 2 + (uint32_t)rnd_below(&me->rnd, KILL_BATCH - 1);
	mempool_offset offsets[KILL_BATCH];
	int r;

	for (uint16_t i = 0; i < KILL_BLOCKS && op->n < n; i++) {
		const struct kill_block *block = &me->thread->blocks[i];

		if (kill_state(block) != KILL_OWNED || block->pool != pool || block->n_retains)
			continue;
		kill_verify(me, block, "before free of a batch");
		offsets[op->n] = block->offset;
		op->blocks[op->n++] = i;
	}
	if (!op->n)
		return false;
	kill_begin(me, KILL_FREE_BATCH, pool);
	for (uint32_t i = 0; i < op->n; i++)
		kill_unclaim(me, pool, offsets[i], me->thread->blocks[op->blocks[i]].size);
	r = mempool_free_batch(me->pools[pool], op->n, offsets);
	if (r)
		kill_fault(me, "free of a batch of %u, the first at 0x%llx, in pool %s: %s (%s)", op->n,
			   (unsigned long long)offsets[0], kill_pool_name(pool), strerror(-r), mempool_last_error());
	for (uint32_t i = 0; i < op->n; i++)
		kill_set(&me->thread->blocks[op->blocks[i]], 0, KILL_NONE);
	kill_end(me, offsets[0], op->n, r);
	return true;
}

/* ---- realloc, retain ---- */

static bool step_realloc(struct kill_me *me)
{
	int place = kill_pick(me, STATE(KILL_OWNED), -1, true);
	struct kill_op *op = &me->thread->op;
	uint32_t size = random_size(me);
	struct kill_block *block;
	uint64_t offset, tag;

	if (place < 0)
		return false;
	block = &me->thread->blocks[place];
	kill_verify(me, block, "before realloc");
	op->blocks[op->n++] = (uint16_t)place;
	op->sizes[op->n_sizes++] = size;
	kill_begin(me, KILL_REALLOC, block->pool);
	kill_unclaim(me, block->pool, block->offset, block->size); /* if it moves, others may get it at once */
	offset = mempool_realloc(me->pools[block->pool], block->offset, size);
	if (!offset) {
		if (!(errno == EBUSY && block->is_taken) && !kill_is_full(me, -errno))
			kill_fault(me, "realloc of 0x%llx in pool %s from %u to %u bytes: %s (%s)",
				   (unsigned long long)block->offset, kill_pool_name(block->pool), block->size, size,
				   strerror(errno), mempool_last_error());
		kill_claim(me, block->pool, block->offset, block->size);
		kill_verify(me, block, "after a realloc that was refused");
	} else {
		block->offset = offset;
		kill_claim(me, block->pool, offset, size);
		verify(me, block, block->size < size ? block->size : size, "after realloc");
		tag = new_tag(me);
		kill_fill(address(me, block->pool, offset), tag, size);
		block->size = size;
		kill_set(block, tag, KILL_OWNED);
	}
	kill_end(me, offset, size, offset ? 0 : -ENOSPC);
	return true;
}

static bool step_retain(struct kill_me *me)
{
	int place =
		kill_pick(me, STATE(KILL_OWNED) | STATE(KILL_LEFT), -1, false); /* what is the pool's, anybody may */
	struct kill_op *op = &me->thread->op;
	struct kill_block *block;
	int r;

	if (place < 0 || me->thread->blocks[place].n_retains >= 2)
		return false;
	block = &me->thread->blocks[place];
	op->blocks[op->n++] = (uint16_t)place;
	kill_begin(me, KILL_RETAIN, block->pool);
	r = mempool_retain(me->pools[block->pool], block->offset);
	if (!r)
		block->n_retains++;
	else if (!kill_is_full(me, r))
		kill_fault(me, "retain of 0x%llx, %u bytes, in pool %s: %s (%s)", (unsigned long long)block->offset,
			   block->size, kill_pool_name(block->pool), strerror(-r), mempool_last_error());
	kill_end(me, block->offset, block->size, r);
	return true;
}

/* ---- looking ---- */

static bool step_look(struct kill_me *me)
{
	unsigned pool = (unsigned)rnd_below(&me->rnd, KILL_POOLS);
	struct mempool_stats stats;
	int r;

	for (int i = 0; i < KILL_BLOCKS; i++)
		if (1u << kill_state(&me->thread->blocks[i]) & KILL_FREEABLE & ~(1u << KILL_PASSED))
			kill_verify(me, &me->thread->blocks[i], "looked at");
	kill_begin(me, KILL_LOOK, pool);
	r = mempool_pool_stats(me->pools[pool], &stats);
	if (r || stats.used + stats.free + stats.leased_idle != stats.total)
		kill_fault(me, "stats of pool %s: %s; used %llu + free %llu + leased_idle %llu of %llu",
			   kill_pool_name(pool), r ? mempool_last_error() : "done", (unsigned long long)stats.used,
			   (unsigned long long)stats.free, (unsigned long long)stats.leased_idle,
			   (unsigned long long)stats.total);
	kill_end(me, 0, 0, r);
	return true;
}

/* ---- all of it ---- */

static const struct {
	unsigned weight;
	bool is_request; /* always */
	bool (*step)(struct kill_me *me);
} steps[] = {
	{28, false, step_alloc},     {20, false, step_free},	 {8, false, step_realloc}, {5, false, step_alloc_batch},
	{5, false, step_free_batch}, {5, true, step_retain},	 {8, false, kill_send},	   {9, false, kill_receive},
	{4, true, kill_publish},     {3, true, kill_unpublish},	 {6, true, kill_acquire},  {2, true, kill_settle},
	{1, true, step_look},	     {1, true, kill_pool_cycle},
};

void kill_step(struct kill_me *me)
{
	unsigned all = 0, at;

	for (size_t i = 0; i < N_ELEMENTS(steps); i++)
		all += steps[i].weight;
	at = (unsigned)rnd_below(&me->rnd, all);
	for (size_t i = 0; i < N_ELEMENTS(steps); at -= steps[i++].weight) {
		if (at >= steps[i].weight)
			continue;
		if (steps[i].is_request && me->model->mostly_slots && rnd_below(&me->rnd, RARELY))
			return;
		if (!steps[i].step(me) && !step_alloc(me))
			(void)step_free(me);
		return;
	}
}

void kill_free_all(struct kill_me *me)
{
	for (int i = 0; i < KILL_BLOCKS; i++)
		while (kill_state(&me->thread->blocks[i]) != KILL_NONE) {
			if (kill_state(&me->thread->blocks[i]) == KILL_SENT)
				kill_fault(me, "a block was sent, and never came to be anybody else's");
			kill_give_up(me, i);
		}
	while (kill_unpublish(me))
		;
}
