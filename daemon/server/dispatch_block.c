// SPDX-License-Identifier: MIT
/* dispatch_block - requests about blocks: what they need is checked here, what they mean is pool.h's */
#include <errno.h>
#include <stdlib.h>

#include "server/request.h"

typedef unsigned long long llu; /* for printf */

static int answer_block(struct request *request, const struct pool_block *block)
{
	Mempool__Wire__Block message = MEMPOOL__WIRE__BLOCK__INIT;

	WIRE_SET(&message, offset, block->offset);
	WIRE_SET(&message, size, block->size);
	request->reply.result_case = MEMPOOL__WIRE__REPLY__RESULT_BLOCK;
	request->reply.block = &message;
	return request_answer(request);
}

/*
 * A full pool explains itself: asked, free, largest gap, top holders. For this all words are read, even where the refusal itself took
 * no time; a worker finds the answer among those that are kept.
 */
static int refuse_alloc(struct request *request, int result, struct pool *pool, uint64_t size, uint64_t alignment)
{
	char sentence[SENTENCE_BYTES];

	if (result != POOL_E_FULL && result != POOL_E_UNBACKED)
		return request_refuse_pool(request, result, pool, "allocating %llu byte%s", (llu)size, plural(size));
	if (!(request->flags & DISPATCH_MAY_BLOCK) && pool_is_long_to_read(pool))
		return DISPATCH_E_SLOW;
	pool_explain_full(pool, result, size, alignment, sentence, sizeof(sentence));
	return request_refuse(request, status_of_pool((enum pool_outcome)result).error, "%s", sentence);
}

int run_alloc(struct request *request)
{
	const Mempool__Wire__Alloc *alloc = request->wire->alloc;
	struct pool_member *member;
	struct pool_block block;
	int r = 0;

	member = request_member(request, alloc->has_pool, alloc->pool, &r);
	if (!member)
		return r;
	if (!alloc->size)
		return request_refuse(request, -EINVAL, "allocating 0 bytes in %s: ask for 1 byte or more",
				      pool_label(member->pool).text);
	if (alloc->alignment && (!is_power_of_two(alloc->alignment) || alloc->alignment > POOL_ALIGNMENT_MAX))
		return request_refuse(
			request, -EINVAL,
			"allocating in %s: alignment %llu is not a power of two up to 2 MiB; choose one that is",
			pool_label(member->pool).text, (llu)alloc->alignment);
	r = pool_alloc(member, alloc->size, alloc->alignment, request->flags, &block);
	return r ? refuse_alloc(request, r, member->pool, alloc->size, alloc->alignment)
		 : answer_block(request, &block);
}

int run_free(struct request *request)
{
	const Mempool__Wire__Free *message = request->wire->free;
	struct pool_member *member;
	int r = 0;

	member = request_member(request, message->has_pool, message->pool, &r);
	if (!member)
		return r;
	r = message->offset ? pool_free(member, message->offset) : 0; /* freeing nothing is no mistake */
	return r ? request_refuse_pool(request, r, member->pool, "freeing 0x%llx", (llu)message->offset)
		 : request_answer(request);
}

int run_realloc(struct request *request)
{
	const Mempool__Wire__Realloc *message = request->wire->realloc;
	struct pool_member *member;
	struct pool_block block;
	Mempool__Wire__Block answer = MEMPOOL__WIRE__BLOCK__INIT;
	int r = 0;

	member = request_member(request, message->has_pool, message->pool, &r);
	if (!member)
		return r;
	if (!message->size)
		return request_refuse(request, -EINVAL,
				      "reallocating 0x%llx in %s to 0 bytes: the block stays as it is; free it instead",
				      (llu)message->offset, pool_label(member->pool).text);
	r = pool_realloc(member, message->offset, message->size, request->flags, &block);
	if (r == POOL_E_FULL || r == POOL_E_UNBACKED)
		return refuse_alloc(request, r, member->pool, message->size, 0);
	if (r)
		return request_refuse_pool(request, r, member->pool, "making 0x%llx %llu byte%s long",
					   (llu)message->offset, (llu)message->size, plural(message->size));
	WIRE_SET(&answer, offset, block.offset);
	WIRE_SET(&answer, size, block.size);
	WIRE_SET(&answer, old_size, block.old_size);
	WIRE_SET(&answer, moved, block.moved);
	request->reply.result_case = MEMPOOL__WIRE__REPLY__RESULT_BLOCK;
	request->reply.block = &answer;
	return request_answer(request);
}

/* ---- batches ---- */

static int answer_blocks(struct request *request, uint64_t offsets[], size_t n)
{
	Mempool__Wire__Blocks blocks = MEMPOOL__WIRE__BLOCKS__INIT;

	blocks.offsets = offsets;
	blocks.n_offsets = n;
	request->reply.result_case = MEMPOOL__WIRE__REPLY__RESULT_BLOCKS;
	request->reply.blocks = &blocks;
	return request_answer(request);
}

static int refuse_batch(struct request *request, size_t n)
{
	return request_refuse(request, -EINVAL, "a batch of %zu is not within 1 to %u; split it", n,
			      DISPATCH_BATCH_MAX);
}

static uint64_t largest_of(const uint64_t sizes[], size_t n)
{
	uint64_t largest = 0;

	for (size_t i = 0; i < n; i++)
		largest = sizes[i] > largest ? sizes[i] : largest;
	return largest;
}

int run_alloc_batch(struct request *request)
{
	const Mempool__Wire__AllocBatch *batch = request->wire->alloc_batch;
	uint64_t offsets[DISPATCH_BATCH_MAX];
	struct pool_member *member;
	int r = 0;

	member = request_member(request, batch->has_pool, batch->pool, &r);
	if (!member)
		return r;
	if (!batch->n_sizes || batch->n_sizes > DISPATCH_BATCH_MAX)
		return refuse_batch(request, batch->n_sizes);
	for (size_t i = 0; i < batch->n_sizes; i++)
		if (!batch->sizes[i])
			return request_refuse(request, -EINVAL,
					      "allocating a batch in %s: size %zu is 0; ask for 1 byte or more",
					      pool_label(member->pool).text, i);
	r = pool_alloc_batch(member, batch->n_sizes, batch->sizes, request->flags, offsets);
	return r ? refuse_alloc(request, r, member->pool, largest_of(batch->sizes, batch->n_sizes), 0)
		 : answer_blocks(request, offsets, batch->n_sizes);
}

int run_free_batch(struct request *request)
{
	const Mempool__Wire__FreeBatch *batch = request->wire->free_batch;
	uint64_t failed[DISPATCH_BATCH_MAX];
	struct pool_member *member;
	char asked[96], sentence[SENTENCE_BYTES];
	struct status status;
	size_t n_failed = 0;
	int first, r = 0;

	member = request_member(request, batch->has_pool, batch->pool, &r);
	if (!member)
		return r;
	if (!batch->n_offsets || batch->n_offsets > DISPATCH_BATCH_MAX)
		return refuse_batch(request, batch->n_offsets);
	first = pool_free_batch(member, batch->n_offsets, batch->offsets, failed, &n_failed);
	if (first == POOL_E_DESTROYED)
		return request_refuse_pool(request, first, member->pool, "freeing %zu block%s", batch->n_offsets,
					   plural(batch->n_offsets));
	if (first) {
		status = first < 0 ? status_of_errno(first) : status_of_pool((enum pool_outcome)first);
		snprintf(asked, sizeof(asked), "freeing %zu of %zu block%s, the first 0x%llx", n_failed,
			 batch->n_offsets, plural(batch->n_offsets), (llu)failed[0]);
		status_sentence(status, asked, sentence, sizeof(sentence));
		WIRE_SET(&request->reply, status, status.error);
		request->reply.message = sentence;
	}
	return answer_blocks(request, failed, n_failed);
}

/* ---- holds and names ---- */

static int refuse_block_name(struct request *request, struct pool *pool)
{
	return request_refuse(
		request, -EINVAL,
		"a block's name in %s is 1 to %d of [A-Za-z0-9._-], and not \".\" or \"..\"; choose another",
		pool_label(pool).text, NAME_BYTES_MAX);
}

int run_publish(struct request *request)
{
	const Mempool__Wire__Publish *publish = request->wire->publish;
	struct pool_member *member;
	int r = 0;

	member = request_member(request, publish->has_pool, publish->pool, &r);
	if (!member)
		return r;
	if (publish->has_name && !name_is_valid(publish->name.data, publish->name.len))
		return refuse_block_name(request, member->pool);
	r = pool_publish(member, publish->offset, publish->name.data, publish->has_name ? publish->name.len : 0);
	if (!r)
		return request_answer(request);
	if (publish->has_name)
		return request_refuse_pool(request, r, member->pool, "publishing 0x%llx as \"%.*s\"",
					   (llu)publish->offset, (int)publish->name.len,
					   (const char *)publish->name.data);
	return request_refuse_pool(request, r, member->pool, "publishing 0x%llx", (llu)publish->offset);
}

int run_find(struct request *request)
{
	const Mempool__Wire__Find *find = request->wire->find;
	struct pool_member *member;
	struct pool_block block;
	int r = 0;

	member = request_member(request, find->has_pool, find->pool, &r);
	if (!member)
		return r;
	if (!name_is_valid(find->name.data, find->name.len))
		return refuse_block_name(request, member->pool);
	r = pool_find(member, find->name.data, find->name.len, find->has_retain && find->retain, &block);
	return r ? request_refuse_pool(request, r, member->pool, "finding \"%.*s\"", (int)find->name.len,
				       (const char *)find->name.data)
		 : answer_block(request, &block);
}

int run_retain(struct request *request)
{
	const Mempool__Wire__Retain *retain = request->wire->retain;
	struct pool_member *member;
	int r = 0;

	member = request_member(request, retain->has_pool, retain->pool, &r);
	if (!member)
		return r;
	r = pool_retain(member, retain->offset);
	return r ? request_refuse_pool(request, r, member->pool, "retaining 0x%llx", (llu)retain->offset)
		 : request_answer(request);
}

int run_take(struct request *request)
{
	const Mempool__Wire__Take *take = request->wire->take;
	struct pool_member *member;
	int r = 0;

	member = request_member(request, take->has_pool, take->pool, &r);
	if (!member)
		return r;
	r = pool_take(member, take->offset, take->from_session);
	return r ? request_refuse_pool(request, r, member->pool, "taking 0x%llx from session %llu", (llu)take->offset,
				       (llu)take->from_session)
		 : request_answer(request);
}

int run_inspect(struct request *request)
{
	const Mempool__Wire__Inspect *inspect = request->wire->inspect;
	Mempool__Wire__Block answer = MEMPOOL__WIRE__BLOCK__INIT;
	struct pool_member *member;
	struct pool_block block;
	int r = 0;

	member = request_member(request, inspect->has_pool, inspect->pool, &r);
	if (!member)
		return r;
	r = pool_inspect(member, inspect->offset, &block);
	if (r)
		return request_refuse_pool(request, r, member->pool, "looking at 0x%llx", (llu)inspect->offset);
	WIRE_SET(&answer, offset, block.offset);
	WIRE_SET(&answer, size, block.size);
	WIRE_SET(&answer, owner, block.owner);
	WIRE_SET(&answer, origin, block.origin);
	request->reply.result_case = MEMPOOL__WIRE__REPLY__RESULT_BLOCK;
	request->reply.block = &answer;
	return request_answer(request);
}
