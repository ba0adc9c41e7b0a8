// SPDX-License-Identifier: MIT
/*
 * Blocks. Those of ordinary size are slots of the thread's heap: alloc and free are a few stores here. All others, and whatever a
 * heap cannot decide, are requests. Filling new memory and the canaries of guarded pools are the client's in any case, for the
 * daemon never maps what clients can write. In a guarded pool a block lies between canaries in its slot, and all goes the long way.
 */
#include "client/guard.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PATTERN 0xCC /* new memory */

#define TOUCH_BYTES (UINT64_C(32) << 10) /* simply picked: worth a system call instead of some faults */

#define COLD __attribute__((noinline, cold)) /* keeps the common path free of its registers */

#define LEASE_ALIGNMENT_MAX LEASE_PAGE_BYTES /* slabs begin at pages */

/* ---- fill ---- */

static void fill(const struct mempool_pool *pool, uint64_t offset, uint64_t n_bytes)
{
	if (!n_bytes || !range_fits(offset, n_bytes, pool->n_bytes))
		return;
	if (pool->fill != MEMPOOL_FILL_NONE)
		memset(pool->base + offset, pool->fill == MEMPOOL_FILL_ZERO ? 0 : PATTERN, n_bytes);
}

/*
 * Filled before the heap is left: a close waits for who is inside before it unmaps. Finds the class again: keeping it for this would
 * cost the common path a register that it has to save.
 */
static __attribute__((noinline)) mempool_offset fill_and_leave(const struct mempool_pool *pool, uint64_t offset,
							       size_t size)
{
	fill(pool, offset, size_class_bytes(size_class_of(size)));
	thread_leave();
	return offset;
}

/* A new block, by request. */
static void prepare(const struct mempool_pool *pool, uint64_t offset, uint64_t size)
{
	if (pool->fill != MEMPOOL_FILL_NONE && size >= TOUCH_BYTES)
		mapping_touch(pool->base, pool->n_bytes, offset, size);
	fill(pool, offset, size);
	if (pool->guard)
		guard_paint(pool, offset, size);
}

/* ---- requests whose reply is a block ---- */

int block_call(struct mempool_pool *pool, Mempool__Wire__Request *request, const char *asked,
	       Mempool__Wire__Block *block)
{
	struct call call;
	int r;

	r = client_call(pool->client, request, pool->id, asked, &call);
	if (r)
		return r;
	if (call.reply->result_case != MEMPOOL__WIRE__REPLY__RESULT_BLOCK || !call.reply->block ||
	    !range_fits(call.reply->block->offset, call.reply->block->size, pool->n_bytes) ||
	    call.reply->block->offset < pool->first) {
		r = error_set(-EPROTO, "%s: the daemon answered with a block outside the pool", asked);
	} else {
		*block = *call.reply->block;
		mapping_know(pool->mapping, block->offset + block->size);
	}
	call_deinit(&call);
	return r;
}

static mempool_offset no_block(int error)
{
	errno = -error;
	return MEMPOOL_NULL;
}

int block_inspect(struct mempool_pool *pool, uint64_t offset, Mempool__Wire__Block *block)
{
	Mempool__Wire__Inspect inspect = MEMPOOL__WIRE__INSPECT__INIT;
	REQUEST(request, INSPECT, inspect, inspect);

	SET(inspect, pool, pool->id);
	SET(inspect, offset, offset);
	return block_call(pool, &request, "look at a block", block);
}

/* ---- alloc ---- */

static mempool_offset alloc(struct mempool_pool *pool, size_t size, size_t alignment)
{
	Mempool__Wire__Alloc alloc = MEMPOOL__WIRE__ALLOC__INIT;
	Mempool__Wire__Block block = MEMPOOL__WIRE__BLOCK__INIT;
	int r;
	REQUEST(request, ALLOC, alloc, alloc);

	SET(alloc, pool, pool->id);
	SET(alloc, size, size);
	if (alignment > MEMPOOL_ALIGNMENT)
		SET(alloc, alignment, alignment);
	r = block_call(pool, &request, "alloc", &block);
	if (r)
		return no_block(r);
	prepare(pool, block.offset, block.size);
	return block.offset;
}

struct guarded { /* a block on its way into a slot of a guarded pool */
	const struct mempool_pool *pool;
	uint64_t size, most;
};

static void prepare_slot(void *arg, uint64_t slot)
{
	const struct guarded *guarded = arg;
	uint64_t offset = slot + GUARD_BYTES;

	fill(guarded->pool, offset, guarded->size);
	guard_mark(guarded->pool, offset, guarded->size, guarded->most);
}

/* The slot is live only when its canaries stand. A large one is no such: the daemon may take it at any time until it is live. */
static int alloc_guarded(struct mempool_pool *pool, size_t size, size_t alignment, mempool_offset *offsetp)
{
	struct guarded guarded = {.pool = pool, .size = size};
	uint64_t slot;
	uint32_t size_class;
	int r;

	if (alignment > GUARD_BYTES || size > SIZE_CLASS_CUT_MAX - 2 * GUARD_BYTES)
		return HEAP_E_REQUEST;
	size_class = size_class_of(size + 2 * GUARD_BYTES);
	guarded.most = size_class_bytes(size_class) - 2 * GUARD_BYTES;
	r = heaps_alloc_prepared(pool->heaps, size_class, prepare_slot, &guarded, &slot);
	if (!r)
		*offsetp = slot + GUARD_BYTES;
	return r;
}

static int alloc_plain(struct mempool_pool *pool, size_t size, size_t alignment, mempool_offset *offsetp)
{
	uint32_t size_class;
	int r;

	if (size > SIZE_CLASS_BYTES_MAX || alignment > LEASE_ALIGNMENT_MAX)
		return HEAP_E_REQUEST;
	size_class = size_class_of(
		round_up(size, alignment)); /* slabs begin at pages: each slot is as aligned as its size */
	if (size_class >= SIZE_CLASS_N || size_class_bytes(size_class) % alignment)
		return HEAP_E_REQUEST;
	r = heaps_alloc(pool->heaps, size_class, offsetp);
	if (!r)
		fill(pool, *offsetp, size_class_bytes(size_class));
	return r;
}

/* By the thread's heap. Return: 0, HEAP_E_REQUEST, -errno with its sentence set */
static int alloc_slot(struct mempool_pool *pool, size_t size, size_t alignment, mempool_offset *offsetp)
{
	int r;

	if (!pool->heaps)
		return HEAP_E_REQUEST;
	r = pool->guard ? alloc_guarded(pool, size, alignment, offsetp) : alloc_plain(pool, size, alignment, offsetp);
	if (r == -ESTALE)
		return error_set(r, "alloc from %s: the pool was destroyed", pool->label);
	return r;
}

static COLD mempool_offset alloc_long_way(struct mempool_pool *pool, size_t size, size_t alignment)
{
	mempool_offset offset = MEMPOOL_NULL;
	int r;
	POOL_CALL(pool);

	if (pool_check_handle(pool, "alloc"))
		return no_block(-EINVAL);
	if (!size)
		return no_block(error_set(-EINVAL, "alloc from %s: a block of 0 bytes", pool->label));
	if (!is_power_of_two(alignment) || alignment > MEMPOOL_ALIGNMENT_MAX)
		return no_block(error_set(-EINVAL, "alloc from %s: alignment %zu is not a power of two up to 2 MiB",
					  pool->label, alignment));
	r = alloc_slot(pool, size, alignment, &offset);
	if (r == HEAP_E_REQUEST) {
		offset = alloc(pool, size, alignment);
		if (!offset && errno == ENOSPC && heaps_flush(pool->heaps))
			offset = alloc(pool, size, alignment); /* what was cached here may have been what was missing */
		return offset;
	}
	return r ? no_block(r) : offset;
}

static __attribute__((noinline)) mempool_offset alloc_large(struct mempool_pool *pool, size_t size)
{
	struct heap *heap = thread_enter(pool->slot);
	uint32_t size_class = size_class_of(size);
	uint64_t offset = heap ? heap_pop_large(heap, size_class) : 0;

	if (offset)
		return fill_and_leave(pool, offset, size);
	thread_leave();
	return alloc_long_way(pool, size, MEMPOOL_ALIGNMENT);
}

mempool_offset mempool_alloc(struct mempool_pool *pool, size_t size)
{
	if (__builtin_expect(pool && size - 1 < SIZE_CLASS_CUT_MAX, 1)) {
		struct heap *heap = thread_enter(pool->slot);
		uint64_t offset = __builtin_expect(heap != NULL, 1) ? heap_pop(heap, heap_class_of(size)) : 0;

		if (__builtin_expect(offset != 0, 1)) {
			if (__builtin_expect(pool->fill != MEMPOOL_FILL_NONE, 0))
				return fill_and_leave(pool, offset, size);
			thread_leave();
			return offset;
		}
		thread_leave();
	} else if (pool && size - 1 < SIZE_CLASS_BYTES_MAX) {
		return alloc_large(pool, size);
	}
	return alloc_long_way(pool, size, MEMPOOL_ALIGNMENT);
}

mempool_offset mempool_alloc_aligned(struct mempool_pool *pool, size_t size, size_t alignment)
{
	if (alignment <= MEMPOOL_ALIGNMENT && is_power_of_two(alignment))
		return mempool_alloc(pool, size);
	return alloc_long_way(pool, size, alignment);
}

static int alloc_some(struct mempool_pool *pool, size_t n, const size_t sizes[], mempool_offset out[])
{
	Mempool__Wire__AllocBatch batch = MEMPOOL__WIRE__ALLOC_BATCH__INIT;
	struct call call;
	int r;
	REQUEST(request, ALLOC_BATCH, alloc_batch, batch);

	SET(batch, pool, pool->id);
	batch.n_sizes = n;
	batch.sizes = (uint64_t *)(uintptr_t)sizes; /* packed, not changed */
	r = client_call(pool->client, &request, pool->id, "alloc of a batch", &call);
	if (r)
		return r;
	if (call.reply->result_case != MEMPOOL__WIRE__REPLY__RESULT_BLOCKS || call.reply->blocks->n_offsets != n)
		r = error_set(-EPROTO, "alloc of a batch: the daemon answered with another number of blocks");
	else
		memcpy(out, call.reply->blocks->offsets, n * sizeof(out[0]));
	call_deinit(&call);
	return r;
}

static_assert(sizeof(size_t) == sizeof(uint64_t), "sizes travel as they are");

/* Those of a batch that the heap has: the rest stays 0. */
static int alloc_slots(struct mempool_pool *pool, size_t n, const size_t sizes[], mempool_offset offsets[])
{
	for (size_t i = 0; i < n; i++) {
		int r = alloc_slot(pool, sizes[i], MEMPOOL_ALIGNMENT, &offsets[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

/* The rest of a batch, by requests for as many as one may ask for. */
static int alloc_others(struct mempool_pool *pool, size_t n, const size_t sizes[], mempool_offset offsets[])
{
	size_t max = n < client_max_batch(pool->client) ? n : client_max_batch(pool->client), at = 0;
	size_t *which = calloc(max, sizeof(*which)), *asked = calloc(max, sizeof(*asked));
	mempool_offset *got = calloc(max, sizeof(*got));
	int r = which && asked && got ? 0 : error_set(-ENOMEM, "alloc of a batch: this process is out of memory");

	while (!r && at < n) {
		size_t some = 0;

		for (; at < n && some < max; at++) {
			if (offsets[at])
				continue;
			which[some] = at;
			asked[some++] = sizes[at];
		}
		if (some)
			r = alloc_some(pool, some, asked, got);
		if (r == -ENOSPC && heaps_flush(pool->heaps))
			r = alloc_some(pool, some, asked, got);
		for (size_t i = 0; !r && i < some; i++) {
			offsets[which[i]] = got[i];
			prepare(pool, got[i], pool->guard ? asked[i] : round_up(asked[i], 16));
		}
	}
	free(which);
	free(asked);
	free(got);
	return r;
}

/* Below: what a batch has got before it failed. */
static void take_back(struct mempool_pool *pool, size_t n, const mempool_offset offsets[], bool waits);

int mempool_alloc_batch(struct mempool_pool *pool, size_t n, const size_t sizes[], mempool_offset out[])
{
	mempool_offset *offsets;
	int r = pool_check_handle(pool, "alloc of a batch");
	POOL_CALL(pool);

	if (r || !n)
		return r;
	if (!sizes || !out)
		return error_set(-EINVAL, "alloc of a batch: no sizes, or no place for the result");
	for (size_t i = 0; i < n; i++)
		if (!sizes[i])
			return error_set(-EINVAL, "alloc of a batch: block %zu of 0 bytes", i);
	offsets = calloc(n, sizeof(*offsets));
	if (!offsets)
		return error_set(-ENOMEM, "alloc of a batch: this process is out of memory");
	r = alloc_slots(pool, n, sizes, offsets);
	if (!r)
		r = alloc_others(pool, n, sizes, offsets);
	if (!r) {
		memcpy(out, offsets, n * sizeof(out[0]));
	} else {
		struct error_first first = {0};

		error_note(&first, r);
		take_back(pool, n, offsets, !client_is_silent(r)); /* all or none */
		(void)error_give(&first);
	}
	free(offsets);
	return r;
}

/* ---- free ---- */

/* A silent or absent daemon is no failure of a free: the request is queued and is done exactly once (connection.h). */
static int free_one(struct mempool_pool *pool, uint64_t offset, bool *waitsp)
{
	Mempool__Wire__Free free_request = MEMPOOL__WIRE__FREE__INIT;
	struct call call;
	int r;
	REQUEST(request, FREE, free, free_request);

	SET(free_request, pool, pool->id);
	SET(free_request, offset, offset);
	r = client_free(pool->client, &request, pool->id, waitsp, "free", &call);
	call_deinit(&call);
	return r;
}

/* What a heap answers to a free. Return: 0, HEAP_E_REQUEST, -errno with its sentence set */
static int freed(const struct mempool_pool *pool, uint64_t offset, int r)
{
	if (r == -EALREADY)
		return error_set(r, "free of 0x%" PRIx64 " in %s: the block is free already", offset, pool->label);
	if (r == -EFAULT)
		return error_set(r, "free of 0x%" PRIx64 " in %s: no block starts there", offset, pool->label);
	if (r == -ESTALE)
		return error_set(r, "free of 0x%" PRIx64 " in %s: the pool was destroyed", offset, pool->label);
	return r;
}

/* By the thread's heap. Return: as freed() */
static int free_slot(struct mempool_pool *pool, uint64_t offset, bool *waitsp)
{
	return freed(pool, offset, heaps_free(pool->heaps, guard_slot(pool, offset), waitsp));
}

/* Whether its canaries stand, of what can be known of it: its heap, or else the daemon, says how long it is, and whose. */
static int check_guards_of(struct mempool_pool *pool, uint64_t offset)
{
	Mempool__Wire__Block block = MEMPOOL__WIRE__BLOCK__INIT;
	uint64_t bytes, session;
	int r = heaps_look(pool->heaps, guard_slot(pool, offset), &bytes, &session);

	if (!r && bytes > 2 * GUARD_BYTES)
		return guard_check(pool, offset, bytes - 2 * GUARD_BYTES, session);
	if (r == -EALREADY || r == -EFAULT)
		return 0; /* as the free will say */
	if (r != HEAP_E_REQUEST)
		return r;
	r = block_inspect(pool, offset, &block);
	return r ? r : guard_check(pool, offset, block.size, block.owner);
}

static int free_guarded(struct mempool_pool *pool, uint64_t offset, bool *waitsp)
{
	char sentence[ERROR_SENTENCE_BYTES];
	int r, damage = *waitsp ? check_guards_of(pool, offset) : 0;

	if (client_is_silent(damage)) { /* freed all the same; nobody can say how long it is */
		*waitsp = false;
		damage = 0;
	}
	if (damage && damage != -EBADMSG && damage != -ENOMEM)
		return damage;
	if (damage == -EBADMSG)
		snprintf(sentence, sizeof(sentence), "%s; it is freed", mempool_last_error());
	r = free_slot(pool, offset, waitsp);
	if (r == HEAP_E_REQUEST)
		r = free_one(pool, offset, waitsp);
	if (r || damage != -EBADMSG)
		return r;
	error_warn(sentence);
	return damage;
}

static COLD int free_long_way(struct mempool_pool *pool, uint64_t offset)
{
	bool waits = true;
	int r;
	POOL_CALL(pool);

	if (pool_check_handle(pool, "free"))
		return -EINVAL;
	if (!offset)
		return 0;
	if (pool->guard)
		return free_guarded(pool, offset, &waits);
	r = free_slot(pool, offset, &waits);
	return r == HEAP_E_REQUEST ? free_one(pool, offset, &waits) : r;
}

static COLD int free_after(struct mempool_pool *pool, uint64_t offset, int r)
{
	bool waits = true;
	POOL_CALL(pool);

	if (r == HEAP_E_LOOK)
		return free_long_way(pool, offset);
	r = freed(pool, offset, r);
	return r == HEAP_E_REQUEST ? free_one(pool, offset, &waits) : r;
}

/* Begun in @heap, which is left here. */
static __attribute__((noinline)) int free_more(struct mempool_pool *pool, uint64_t offset, struct heap *heap,
					       uint32_t size_class, _Atomic uint16_t *word)
{
	int r = heap_push_more(heap, offset, size_class, word);

	thread_leave();
	return __builtin_expect(!r, 1) ? 0 : free_after(pool, offset, r);
}

int mempool_free(struct mempool_pool *pool, mempool_offset offset)
{
	if (__builtin_expect(pool != NULL, 1)) {
		struct heap *heap = thread_enter(pool->slot);
		enum heap_pushed pushed = HEAP_PUSH_LOOK;
		_Atomic uint16_t *word;
		uint32_t size_class;

		if (__builtin_expect(heap != NULL, 1))
			pushed = heap_push(heap, offset, &word, &size_class);
		if (__builtin_expect(pushed == HEAP_PUSH_MORE, 0))
			return free_more(pool, offset, heap, size_class, word);
		thread_leave();
		if (__builtin_expect(pushed == HEAP_PUSHED, 1))
			return 0;
	}
	return free_long_way(pool, offset);
}

/* ---- free of a batch ---- */

struct freeing {
	bool waits; /* until the daemon has been waited for in vain: then all is queued, for that is once long enough */
	struct error_first first;
	mempool_offset *failed; /* not freed, [n_failed]; NULL: nobody asks */
	size_t n_failed;
};

static void not_freed(struct freeing *freeing, size_t n, const mempool_offset offsets[])
{
	if (freeing->failed && n)
		memcpy(freeing->failed + freeing->n_failed, offsets, n * sizeof(offsets[0]));
	freeing->n_failed += n;
}

static void note_free(struct freeing *freeing, mempool_offset offset, int r)
{
	error_note(&freeing->first, r);
	if (r && r != -EBADMSG) /* with its canaries overwritten a block is freed all the same */
		not_freed(freeing, 1, &offset);
}

/* Return: 0; CLIENT_E_TOO_LONG */
static int free_some(struct mempool_pool *pool, size_t n, const mempool_offset offsets[], struct freeing *freeing)
{
	Mempool__Wire__FreeBatch batch = MEMPOOL__WIRE__FREE_BATCH__INIT;
	struct call call;
	int r;
	REQUEST(request, FREE_BATCH, free_batch, batch);

	SET(batch, pool, pool->id);
	batch.n_offsets = n;
	batch.offsets = (uint64_t *)(uintptr_t)offsets;
	r = client_free(pool->client, &request, pool->id, &freeing->waits, "free of a batch", &call);
	if (r < 0) {
		error_note(&freeing->first, r);
		if (call.reply && call.reply->result_case == MEMPOOL__WIRE__REPLY__RESULT_BLOCKS &&
		    call.reply->blocks->n_offsets <= n)
			not_freed(freeing, call.reply->blocks->n_offsets, call.reply->blocks->offsets);
		else
			not_freed(freeing, n, offsets);
	}
	call_deinit(&call);
	return r < 0 ? 0 : r;
}

/* By requests for as many as one may name; one by one where this process has no memory for a list. */
static void free_others(struct mempool_pool *pool, size_t n, const mempool_offset offsets[], struct freeing *freeing)
{
	size_t most = client_max_batch(pool->client), done = 0;

	while (done < n) {
		size_t some = n - done < most ? n - done : most;

		if (some == 1)
			note_free(freeing, offsets[done], free_one(pool, offsets[done], &freeing->waits));
		else if (free_some(pool, some, offsets + done, freeing))
			some = 0, most = 1;
		done += some;
	}
}

static int free_batch(struct mempool_pool *pool, size_t n, const mempool_offset offsets[], struct freeing *freeing)
{
	mempool_offset others[256]; /* simply picked: a request's worth that fits on the stack */
	size_t n_others = 0;
	int r = pool_check_handle(pool, "free of a batch");
	POOL_CALL(pool);

	if (r || !n)
		return r;
	if (!offsets)
		return error_set(-EINVAL, "free of a batch: no offsets");
	for (size_t i = 0; i < n; i++) {
		if (!offsets[i])
			continue;
		r = pool->guard ? free_guarded(pool, offsets[i], &freeing->waits)
				: free_slot(pool, offsets[i], &freeing->waits);
		if (r != HEAP_E_REQUEST) {
			note_free(freeing, offsets[i], r);
			continue;
		}
		others[n_others++] = offsets[i];
		if (n_others == N_ELEMENTS(others)) {
			free_others(pool, n_others, others, freeing);
			n_others = 0;
		}
	}
	free_others(pool, n_others, others, freeing);
	return error_give(&freeing->first);
}

static void take_back(struct mempool_pool *pool, size_t n, const mempool_offset offsets[], bool waits)
{
	struct freeing freeing = {.waits = waits};

	(void)free_batch(pool, n, offsets, &freeing);
}

int mempool_free_batch(struct mempool_pool *pool, size_t n, const mempool_offset offsets[])
{
	struct freeing freeing = {.waits = true};

	return free_batch(pool, n, offsets, &freeing);
}

int mempool_free_batch_failed(struct mempool_pool *pool, size_t n, const mempool_offset offsets[],
			      mempool_offset failed[], size_t *n_failedp)
{
	struct freeing freeing = {.waits = true, .failed = failed};
	int r;

	if (!n_failedp || (n && !failed))
		return error_set(-EINVAL, "free of a batch: no place for those that fail");
	r = free_batch(pool, n, offsets, &freeing);
	*n_failedp = freeing.n_failed;
	return r;
}

/* ---- realloc ---- */

static void copy(const struct mempool_pool *pool, uint64_t to, uint64_t from, uint64_t n_bytes)
{
	if (range_fits(from, n_bytes, pool->n_bytes))
		memcpy(pool->base + to, pool->base + from, n_bytes);
}

/* @old_size: as the block was used; block->old_size may be the most that fits into its slot */
static mempool_offset moved(struct mempool_pool *pool, mempool_offset old, uint64_t old_size,
			    const Mempool__Wire__Block *block)
{
	uint64_t n_copy = old_size < block->size ? old_size : block->size;
	bool waits = true;

	copy(pool, block->offset, old, n_copy);
	fill(pool, block->offset + n_copy, block->size - n_copy);
	if (pool->guard)
		guard_paint(pool, block->offset, block->size);
	(void)free_one(pool, old, &waits);
	return block->offset;
}

/* In a slot that keeps it. What is behind the new end is painted before the mark moves, and what is before it is filled after. */
static void resize_in_slot(struct mempool_pool *pool, uint64_t offset, uint64_t old_size, uint64_t size, uint64_t most)
{
	guard_mark(pool, offset, size, most);
	if (size > old_size)
		fill(pool, offset + old_size, size - old_size);
}

/* A slot stays where it is while its class is the right one, else it moves. Return: 0, HEAP_E_REQUEST, -errno */
static int realloc_slot(struct mempool_pool *pool, mempool_offset offset, size_t size, mempool_offset *newp)
{
	uint64_t bytes, session, old_size, guards = pool->guard ? 2 * GUARD_BYTES : 0;
	int r = heaps_look(pool->heaps, guard_slot(pool, offset), &bytes, &session);

	if (r == -EALREADY || r == -EFAULT || (!r && bytes <= guards))
		return error_set(r ? r : -EFAULT, "realloc of 0x%" PRIx64 " in %s: no live block starts there", offset,
				 pool->label);
	if (r)
		return r;
	if (session != pool->client->session)
		return HEAP_E_REQUEST; /* another's: the daemon says so */
	r = pool->guard ? guard_check(pool, offset, bytes - guards, session) : 0;
	if (r)
		return r;
	old_size = pool->guard ? guard_size(pool, offset, bytes - guards) : bytes;
	if (size <= SIZE_CLASS_BYTES_MAX - guards && size_class_bytes(size_class_of(size + guards)) == bytes) {
		if (pool->guard)
			resize_in_slot(pool, offset, old_size, size, bytes - guards);
		*newp = offset;
		return 0;
	}
	*newp = mempool_alloc(pool, size); /* and filled */
	if (!*newp)
		return -errno;
	copy(pool, *newp, offset, old_size < size ? old_size : size);
	r = mempool_free(pool, offset);
	if (r == -EBADMSG)
		return 0; /* overwritten since they were looked at: it is freed all the same, with a warning */
	if (r)
		(void)!mempool_free(pool, *newp); /* another has freed it meanwhile */
	return r;
}

/* By request. @old_size: 0: the daemon says */
static mempool_offset realloc_block(struct mempool_pool *pool, mempool_offset offset, size_t size, uint64_t old_size)
{
	Mempool__Wire__Realloc resize = MEMPOOL__WIRE__REALLOC__INIT;
	Mempool__Wire__Block block = MEMPOOL__WIRE__BLOCK__INIT;
	int r;
	REQUEST(request, REALLOC, realloc, resize);

	SET(resize, pool, pool->id);
	SET(resize, offset, offset);
	SET(resize, size, size);
	r = block_call(pool, &request, "realloc", &block);
	if (r)
		return no_block(r);
	if (!old_size)
		old_size = block.old_size;
	if (block.moved)
		return moved(pool, offset, old_size, &block);
	if (pool->guard && guard_is_slot(pool, offset, block.size)) {
		resize_in_slot(pool, offset, old_size, size, block.size);
		return offset;
	}
	if (block.size > old_size)
		fill(pool, offset + old_size, block.size - old_size);
	if (pool->guard)
		guard_paint(pool, offset, block.size);
	return offset;
}

static mempool_offset realloc_guarded(struct mempool_pool *pool, mempool_offset offset, size_t size)
{
	Mempool__Wire__Block block = MEMPOOL__WIRE__BLOCK__INIT;
	int r = block_inspect(pool, offset, &block);

	if (!r)
		r = guard_check(pool, offset, block.size, block.owner);
	return r ? no_block(r) : realloc_block(pool, offset, size, guard_size(pool, offset, block.size));
}

mempool_offset mempool_realloc(struct mempool_pool *pool, mempool_offset offset, size_t size)
{
	mempool_offset moved_to;
	int r;
	POOL_CALL(pool);

	if (pool_check_handle(pool, "realloc"))
		return no_block(-EINVAL);
	if (!offset)
		return mempool_alloc(pool, size);
	if (!size)
		return no_block(error_set(-EINVAL, "realloc in %s: to 0 bytes; free the block instead", pool->label));
	r = realloc_slot(pool, offset, size, &moved_to);
	if (r != HEAP_E_REQUEST)
		return r ? no_block(r) : moved_to;
	return pool->guard ? realloc_guarded(pool, offset, size) : realloc_block(pool, offset, size, 0);
}

/* ---- usable size ---- */

size_t mempool_usable_size(struct mempool_pool *pool, mempool_offset offset)
{
	Mempool__Wire__Block block = MEMPOOL__WIRE__BLOCK__INIT;
	uint64_t bytes, session;
	int r;
	POOL_CALL(pool);

	if (pool_check_handle(pool, "usable_size") || !offset)
		return 0;
	r = heaps_look(pool->heaps, guard_slot(pool, offset), &bytes, &session);
	if (r == HEAP_E_REQUEST) {
		r = block_inspect(pool, offset, &block);
		bytes = block.size;
	} else if (!r && pool->guard) {
		bytes = bytes > 2 * GUARD_BYTES ? bytes - 2 * GUARD_BYTES : 0;
	}
	if (r)
		return 0;
	return pool->guard ? guard_size(pool, offset, bytes) : bytes;
}
