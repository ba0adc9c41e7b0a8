// SPDX-License-Identifier: MIT
/*
 * Blocks. The daemon keeps the books; filling new memory and the canaries of guarded pools are done here, for the daemon never maps
 * what clients can write.
 */
#include "client/pool.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PATTERN 0xCC /* new memory */
#define CANARY	0xFD /* guards */

/* ---- guards and fill ---- */

static void guard_paint(const struct mempool_pool *pool, uint64_t offset, uint64_t size)
{
	uint8_t *base = pool->mapping->base;
	uint64_t end = round_up(offset + size, 16) + GUARD_BYTES;

	for (uint64_t at = offset - GUARD_BYTES; at < offset; at++)
		base[at] = CANARY;
	for (uint64_t at = offset + size; at < end; at++)
		base[at] = CANARY;
}

uint64_t guard_find(const struct mempool_pool *pool, uint64_t offset, uint64_t size)
{
	const uint8_t *base = pool->mapping->base;
	uint64_t end;

	if (offset < pool->first + GUARD_BYTES || !range_fits(offset, size, pool->mapping->n_bytes - 2 * GUARD_BYTES))
		return 0;
	end = round_up(offset + size, 16) + GUARD_BYTES;
	for (uint64_t at = offset - GUARD_BYTES; at < offset; at++)
		if (base[at] != CANARY)
			return at;
	for (uint64_t at = offset + size; at < end; at++)
		if (base[at] != CANARY)
			return at;
	return 0;
}

int guard_check(struct mempool_pool *pool, uint64_t offset, uint64_t size, uint64_t owner)
{
	uint64_t at = guard_find(pool, offset, size);

	if (!at)
		return 0;
	return error_set(-EBADMSG,
			 "the guard %s block 0x%" PRIx64 " (%" PRIu64 " bytes, owner: %s%.0" PRIu64
			 ") in %s was overwritten, first at 0x%" PRIx64,
			 at < offset ? "before" : "after", offset, size, owner ? "session " : "the pool", owner,
			 pool->label, at);
}

static void fill(const struct mempool_pool *pool, uint64_t offset, uint64_t n_bytes)
{
	if (!n_bytes || !range_fits(offset, n_bytes, pool->mapping->n_bytes))
		return;
	if (pool->fill != MEMPOOL_FILL_NONE)
		memset(pool->mapping->base + offset, pool->fill == MEMPOOL_FILL_ZERO ? 0 : PATTERN, n_bytes);
}

static void prepare(const struct mempool_pool *pool, uint64_t offset, uint64_t size)
{
	fill(pool, offset, size);
	if (pool->guard)
		guard_paint(pool, offset, size);
}

/* ---- requests whose reply is a block ---- */

static int call_block(struct mempool_pool *pool, Mempool__Wire__Request *request, const char *asked,
		      Mempool__Wire__Block *block)
{
	struct call call;
	int r;

	r = client_call(pool->client, request, pool->id, asked, &call);
	if (r)
		return r;
	if (call.reply->result_case != MEMPOOL__WIRE__REPLY__RESULT_BLOCK || !call.reply->block ||
	    !range_fits(call.reply->block->offset, call.reply->block->size, pool->mapping->n_bytes) ||
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

static int inspect(struct mempool_pool *pool, uint64_t offset, Mempool__Wire__Block *block)
{
	Mempool__Wire__Inspect inspect = MEMPOOL__WIRE__INSPECT__INIT;
	REQUEST(request, INSPECT, inspect, inspect);

	SET(inspect, pool, pool->id);
	SET(inspect, offset, offset);
	return call_block(pool, &request, "look at a block", block);
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
	r = call_block(pool, &request, "alloc", &block);
	if (r)
		return no_block(r);
	prepare(pool, block.offset, block.size);
	return block.offset;
}

mempool_offset mempool_alloc(struct mempool_pool *pool, size_t size)
{
	return mempool_alloc_aligned(pool, size, MEMPOOL_ALIGNMENT);
}

mempool_offset mempool_alloc_aligned(struct mempool_pool *pool, size_t size, size_t alignment)
{
	if (pool_check_handle(pool, "alloc"))
		return no_block(-EINVAL);
	if (!size)
		return no_block(error_set(-EINVAL, "alloc from %s: a block of 0 bytes", pool->label));
	if (!is_power_of_two(alignment) || alignment > MEMPOOL_ALIGNMENT_MAX)
		return no_block(error_set(-EINVAL, "alloc from %s: alignment %zu is not a power of two up to 2 MiB",
					  pool->label, alignment));
	return alloc(pool, size, alignment);
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

int mempool_alloc_batch(struct mempool_pool *pool, size_t n, const size_t sizes[], mempool_offset out[])
{
	mempool_offset *offsets;
	size_t done = 0;
	int r = pool_check_handle(pool, "alloc of a batch");

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
	while (!r && done < n) {
		size_t some = n - done < client_max_batch(pool->client) ? n - done : client_max_batch(pool->client);

		r = alloc_some(pool, some, sizes + done, offsets + done);
		done += r ? 0 : some;
	}
	for (size_t i = 0; !r && i < n; i++)
		prepare(pool, offsets[i], pool->guard ? sizes[i] : round_up(sizes[i], 16));
	if (!r) {
		memcpy(out, offsets, n * sizeof(out[0]));
	} else if (done) {
		char sentence[768];

		snprintf(sentence, sizeof(sentence), "%s", mempool_last_error());
		(void)mempool_free_batch(pool, done, offsets); /* all or none */
		error_warn(sentence);
	}
	free(offsets);
	return r;
}

/* ---- free ---- */

/* A silent or absent daemon is no failure of a free: the request is queued and is done exactly once (connection.h). */
static int free_one(struct mempool_pool *pool, uint64_t offset, bool waits)
{
	Mempool__Wire__Free free_request = MEMPOOL__WIRE__FREE__INIT;
	REQUEST(request, FREE, free, free_request);

	SET(free_request, pool, pool->id);
	SET(free_request, offset, offset);
	return client_free(pool->client, &request, pool->id, waits, "free");
}

static int free_guarded(struct mempool_pool *pool, uint64_t offset)
{
	Mempool__Wire__Block block = MEMPOOL__WIRE__BLOCK__INIT;
	char sentence[768] = "";
	int r, damage = 0;

	r = inspect(pool, offset, &block);
	if (r == -ETIMEDOUT || r == -EHOSTDOWN || r == -ENOMEM) /* freed all the same; nobody can say how long it is */
		return free_one(pool, offset, r == -ENOMEM);
	if (r)
		return r;
	damage = guard_check(pool, offset, block.size, block.owner);
	if (damage)
		snprintf(sentence, sizeof(sentence), "%s; it is freed", mempool_last_error());
	r = free_one(pool, offset, true);
	if (r || !damage)
		return r;
	error_warn(sentence);
	return damage;
}

int mempool_free(struct mempool_pool *pool, mempool_offset offset)
{
	if (pool_check_handle(pool, "free"))
		return -EINVAL;
	if (!offset)
		return 0;
	return pool->guard ? free_guarded(pool, offset) : free_one(pool, offset, true);
}

static int free_some(struct mempool_pool *pool, size_t n, const mempool_offset offsets[])
{
	Mempool__Wire__FreeBatch batch = MEMPOOL__WIRE__FREE_BATCH__INIT;
	REQUEST(request, FREE_BATCH, free_batch, batch);

	SET(batch, pool, pool->id);
	batch.n_offsets = n;
	batch.offsets = (uint64_t *)(uintptr_t)offsets;
	return client_free(pool->client, &request, pool->id, true, "free of a batch");
}

int mempool_free_batch(struct mempool_pool *pool, size_t n, const mempool_offset offsets[])
{
	char sentence[768] = "";
	int first = pool_check_handle(pool, "free of a batch");
	uint32_t most;

	if (first || !n)
		return first;
	if (!offsets)
		return error_set(-EINVAL, "free of a batch: no offsets");
	most = pool->guard ? 1 : client_max_batch(pool->client); /* canaries are looked at one by one */
	for (size_t done = 0, some; done < n; done += some) {
		int r;

		some = 1;
		while (offsets[done] && done + some < n && some < most && offsets[done + some])
			some++;
		r = some > 1 ? free_some(pool, some, offsets + done) : mempool_free(pool, offsets[done]);
		if (r == CLIENT_E_TOO_LONG) {
			most = 1;
			some = 0;
		} else if (r && !first) {
			first = r;
			snprintf(sentence, sizeof(sentence), "%s", mempool_last_error());
		}
	}
	if (first)
		error_warn(sentence);
	return first;
}

/* ---- realloc ---- */

static mempool_offset moved(struct mempool_pool *pool, mempool_offset old, const Mempool__Wire__Block *block)
{
	uint64_t n_copy = block->old_size < block->size ? block->old_size : block->size;

	if (range_fits(old, n_copy, pool->mapping->n_bytes))
		memcpy(pool->mapping->base + block->offset, pool->mapping->base + old, n_copy);
	fill(pool, block->offset + n_copy, block->size - n_copy);
	if (pool->guard)
		guard_paint(pool, block->offset, block->size);
	(void)free_one(pool, old, true);
	return block->offset;
}

mempool_offset mempool_realloc(struct mempool_pool *pool, mempool_offset offset, size_t size)
{
	Mempool__Wire__Realloc resize = MEMPOOL__WIRE__REALLOC__INIT;
	Mempool__Wire__Block block = MEMPOOL__WIRE__BLOCK__INIT;
	int r;
	REQUEST(request, REALLOC, realloc, resize);

	if (pool_check_handle(pool, "realloc"))
		return no_block(-EINVAL);
	if (!offset)
		return mempool_alloc(pool, size);
	if (!size)
		return no_block(error_set(-EINVAL, "realloc in %s: to 0 bytes; free the block instead", pool->label));
	if (pool->guard) {
		r = inspect(pool, offset, &block);
		if (!r)
			r = guard_check(pool, offset, block.size, block.owner);
		if (r)
			return no_block(r);
	}
	SET(resize, pool, pool->id);
	SET(resize, offset, offset);
	SET(resize, size, size);
	r = call_block(pool, &request, "realloc", &block);
	if (r)
		return no_block(r);
	if (block.moved)
		return moved(pool, offset, &block);
	if (block.size > block.old_size)
		fill(pool, offset + block.old_size, block.size - block.old_size);
	if (pool->guard)
		guard_paint(pool, offset, block.size);
	return offset;
}

/* ---- holds ---- */

int mempool_publish(struct mempool_pool *pool, mempool_offset offset, const char *name)
{
	Mempool__Wire__Publish publish = MEMPOOL__WIRE__PUBLISH__INIT;
	REQUEST(request, PUBLISH, publish, publish);

	if (pool_check_handle(pool, "publish"))
		return -EINVAL;
	SET(publish, pool, pool->id);
	SET(publish, offset, offset);
	if (name) {
		SET(publish, name, name_bytes(name));
		if (!publish.name.len)
			return error_set(-EINVAL, "publish in %s: the name is empty", pool->label);
	}
	return client_do(pool->client, &request, pool->id, "publish");
}

static int find(struct mempool_pool *pool, const char *name, bool retain, const char *asked, mempool_offset *out)
{
	Mempool__Wire__Find find = MEMPOOL__WIRE__FIND__INIT;
	Mempool__Wire__Block block = MEMPOOL__WIRE__BLOCK__INIT;
	int r;
	REQUEST(request, FIND, find, find);

	if (pool_check_handle(pool, asked))
		return -EINVAL;
	if (!name || !out)
		return error_set(-EINVAL, "%s in %s: no name, or no place for the result", asked, pool->label);
	SET(find, pool, pool->id);
	SET(find, name, name_bytes(name));
	SET(find, retain, retain);
	r = call_block(pool, &request, asked, &block);
	if (!r)
		*out = block.offset;
	return r;
}

int mempool_find(struct mempool_pool *pool, const char *name, mempool_offset *out)
{
	return find(pool, name, false, "find", out);
}

int mempool_acquire(struct mempool_pool *pool, const char *name, mempool_offset *out)
{
	return find(pool, name, true, "acquire", out);
}

int mempool_retain(struct mempool_pool *pool, mempool_offset offset)
{
	Mempool__Wire__Retain retain = MEMPOOL__WIRE__RETAIN__INIT;
	REQUEST(request, RETAIN, retain, retain);

	if (pool_check_handle(pool, "retain"))
		return -EINVAL;
	SET(retain, pool, pool->id);
	SET(retain, offset, offset);
	return client_do(pool->client, &request, pool->id, "retain");
}

int mempool_take(struct mempool_pool *pool, mempool_offset offset, uint64_t from_session)
{
	Mempool__Wire__Take take = MEMPOOL__WIRE__TAKE__INIT;
	REQUEST(request, TAKE, take, take);

	if (pool_check_handle(pool, "take"))
		return -EINVAL;
	SET(take, pool, pool->id);
	SET(take, offset, offset);
	SET(take, from_session, from_session);
	return client_do(pool->client, &request, pool->id, "take");
}

size_t mempool_usable_size(struct mempool_pool *pool, mempool_offset offset)
{
	Mempool__Wire__Block block = MEMPOOL__WIRE__BLOCK__INIT;

	if (pool_check_handle(pool, "usable_size") || !offset)
		return 0;
	return inspect(pool, offset, &block) ? 0 : block.size;
}
