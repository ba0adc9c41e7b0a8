// SPDX-License-Identifier: MIT
/*
 * Giving back what a late success has got needs no memory, for there may be none: the ghost's own record becomes the request
 * that frees it, its reply stays as the list of what is to be freed, and its buffer holds as many of these at a time as it can.
 *
 * Slabs that nobody knows of are named to the daemon, which takes them back if they are empty, as new ones are. Others it takes as
 * soon as they are. A heap number cannot be given back: it is the session's until that ends, and costs nothing.
 */
#include "client/pending.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SPARES_MAX	  256u /* records kept; simply picked */
#define UNDO_HEADER_BYTES 24u  /* FreeBatch, ReturnSlabs: operation 2 + 5, pool 1 + 10, list 1 + 5 */
#define OFFSET_BYTES	  10u
#define ID_BYTES	  5u

int pending_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attributes;
	int r = pthread_condattr_init(&attributes);

	if (r)
		return -r;
	r = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	if (!r)
		r = pthread_cond_init(cond, &attributes);
	pthread_condattr_destroy(&attributes);
	return -r;
}

/* ---- records ---- */

/* All but the condition variable. */
static void begin(struct pending *pending)
{
	pending->id = pending->pool = pending->block = 0;
	pending->undo = UNDO_NOTHING;
	pending->is_free = pending->is_on_stack = pending->is_sent = pending->is_ghost = pending->is_done = false;
	pending->error = 0;
	pending->reply = NULL;
	pending->n_undone = 0;
	pending->fd = -1;
	pending->n_body = 0;
	pending->body = pending->small;
	pending->body_capacity = sizeof(pending->small);
}

static void end(struct pending *pending)
{
	if (pending->reply)
		mempool__wire__reply__free_unpacked(pending->reply, NULL);
	if (pending->fd >= 0)
		close(pending->fd);
	if (pending->body != pending->small)
		free(pending->body);
}

int pending_init(struct pending *pending)
{
	int r = pending_cond_init(&pending->wake);

	begin(pending);
	return r;
}

void pending_deinit(struct pending *pending)
{
	end(pending);
	pthread_cond_destroy(&pending->wake);
}

struct pending *pending_take(struct pending_spares *spares)
{
	struct pending *pending = spares->first;

	if (pending) {
		spares->first = pending->spare;
		spares->n--;
		begin(pending);
		return pending;
	}
	pending = malloc(sizeof(*pending));
	if (pending && pending_init(pending)) {
		free(pending);
		return NULL;
	}
	return pending;
}

void pending_give(struct pending_spares *spares, struct pending *pending)
{
	if (pending->is_on_stack) {
		pending_deinit(pending);
	} else if (spares->n >= SPARES_MAX) {
		pending_deinit(pending);
		free(pending);
	} else {
		end(pending);
		pending->spare = spares->first;
		spares->first = pending;
		spares->n++;
	}
}

void pending_spares_deinit(struct pending_spares *spares)
{
	struct pending *pending;

	while ((pending = spares->first)) {
		spares->first = pending->spare;
		pthread_cond_destroy(&pending->wake);
		free(pending);
	}
	spares->n = 0;
}

/* ---- frames ---- */

bool pending_is_free(const Mempool__Wire__Request *request)
{
	return request->op_case == MEMPOOL__WIRE__REQUEST__OP_FREE ||
	       request->op_case == MEMPOOL__WIRE__REQUEST__OP_FREE_BATCH;
}

/* Needed only by those who may wait no longer: what the request gets if it succeeds. */
static void note_undo(struct pending *pending, const Mempool__Wire__Request *request)
{
	if (request->op_case == MEMPOOL__WIRE__REQUEST__OP_ALLOC) {
		pending->undo = UNDO_BLOCK;
	} else if (request->op_case == MEMPOOL__WIRE__REQUEST__OP_ALLOC_BATCH) {
		pending->undo = UNDO_BLOCKS;
	} else if (request->op_case == MEMPOOL__WIRE__REQUEST__OP_REALLOC) {
		pending->undo = UNDO_MOVED;
	} else if (request->op_case == MEMPOOL__WIRE__REQUEST__OP_FIND && request->find->retain) {
		pending->undo = UNDO_BLOCK;
	} else if (request->op_case == MEMPOOL__WIRE__REQUEST__OP_RETAIN) {
		pending->undo = UNDO_HOLD;
		pending->block = request->retain->offset;
	} else if (request->op_case == MEMPOOL__WIRE__REQUEST__OP_LEASE_SLABS) {
		pending->undo = UNDO_SLABS;
	}
}

/* Requests of numbers only fit the small buffer whatever these are; to be measured takes as long as to be packed. */
static bool is_small(const Mempool__Wire__Request *request)
{
	return request->op_case == MEMPOOL__WIRE__REQUEST__OP_ALLOC ||
	       request->op_case == MEMPOOL__WIRE__REQUEST__OP_FREE ||
	       request->op_case == MEMPOOL__WIRE__REQUEST__OP_REALLOC;
}

int pending_pack(struct pending *pending, const Mempool__Wire__Request *request, uint64_t pool, size_t limit_bytes)
{
	size_t n_body = is_small(request) ? PENDING_SMALL_BYTES : mempool__wire__request__get_packed_size(request);

	if (n_body + PENDING_OVERHEAD_BYTES > limit_bytes)
		return -EMSGSIZE;
	if (n_body > pending->body_capacity) {
		uint8_t *body = malloc(n_body);

		if (!body)
			return -ENOMEM;
		pending->body = body;
		pending->body_capacity = n_body;
	}
	pending->n_body = mempool__wire__request__pack(request, pending->body);
	assert(pending->n_body <= n_body);
	pending->pool = pool;
	pending->is_free = pending_is_free(request);
	note_undo(pending, request);
	return 0;
}

static uint8_t *put_varint(uint8_t *out, uint64_t value)
{
	for (; value >= 0x80; value >>= 7)
		*out++ = (uint8_t)(value | 0x80);
	*out++ = (uint8_t)value;
	return out;
}

/* Fields may come in any order, so that id and acked are added when it is known what they are. */
size_t pending_put_frame(const struct pending *pending, uint64_t acked, uint8_t *out)
{
	uint8_t *at = out + FRAME_HEADER_BYTES;

	*at++ = 1 << 3; /* Request.id, a varint */
	at = put_varint(at, pending->id);
	if (acked) {
		*at++ = 2 << 3; /* Request.acked */
		at = put_varint(at, acked);
	}
	memcpy(at, pending->body, pending->n_body);
	at += pending->n_body;
	frame_put_header(out, (uint32_t)(at - out - FRAME_HEADER_BYTES));
	return (size_t)(at - out);
}

/* ---- giving back ---- */

static size_t to_undo(const struct pending *ghost, const uint64_t **offsetsp)
{
	const Mempool__Wire__Reply *reply = ghost->reply;
	const Mempool__Wire__Block *block =
		reply->result_case == MEMPOOL__WIRE__REPLY__RESULT_BLOCK ? reply->block : NULL;

	switch (ghost->undo) {
	case UNDO_NOTHING:
		break;
	case UNDO_BLOCK:
		*offsetsp = block ? &block->offset : NULL;
		return block != NULL;
	case UNDO_MOVED:
		*offsetsp = block ? &block->offset : NULL;
		return block && block->moved;
	case UNDO_BLOCKS:
		if (reply->result_case != MEMPOOL__WIRE__REPLY__RESULT_BLOCKS || !reply->blocks)
			break;
		*offsetsp = reply->blocks->offsets;
		return reply->blocks->n_offsets;
	case UNDO_HOLD:
		*offsetsp = &ghost->block;
		return 1;
	case UNDO_SLABS:
		return reply->result_case == MEMPOOL__WIRE__REPLY__RESULT_SLABS && reply->slabs ? reply->slabs->n_slabs
												: 0;
	}
	return 0;
}

/* Return: how many of @n offsets fitted */
static size_t pack_frees(struct pending *ghost, const uint64_t *offsets, size_t n)
{
	size_t n_room = (ghost->body_capacity - UNDO_HEADER_BYTES) / OFFSET_BYTES;
	Mempool__Wire__Request request = MEMPOOL__WIRE__REQUEST__INIT;
	Mempool__Wire__FreeBatch batch = MEMPOOL__WIRE__FREE_BATCH__INIT;

	batch.has_pool = 1;
	batch.pool = ghost->pool;
	batch.n_offsets = n < n_room ? n : n_room;
	batch.offsets = (uint64_t *)(uintptr_t)offsets; /* packed, not changed */
	request.op_case = MEMPOOL__WIRE__REQUEST__OP_FREE_BATCH;
	request.free_batch = &batch;
	ghost->n_body = mempool__wire__request__pack(&request, ghost->body);
	ghost->is_free = true;
	return batch.n_offsets;
}

/* The same for ids of slabs. Not a free: with the session they go in any case. */
static size_t pack_returns(struct pending *ghost, uint32_t *ids, size_t n)
{
	size_t n_room = (ghost->body_capacity - UNDO_HEADER_BYTES) / ID_BYTES;
	Mempool__Wire__Request request = MEMPOOL__WIRE__REQUEST__INIT;
	Mempool__Wire__ReturnSlabs give = MEMPOOL__WIRE__RETURN_SLABS__INIT;

	give.has_pool = 1;
	give.pool = ghost->pool;
	give.n_slabs = n < n_room ? n : n_room;
	give.slabs = ids;
	request.op_case = MEMPOOL__WIRE__REQUEST__OP_RETURN_SLABS;
	request.return_slabs = &give;
	ghost->n_body = mempool__wire__request__pack(&request, ghost->body);
	return give.n_slabs;
}

bool pending_undo(struct pending *ghost, Mempool__Wire__Reply *reply)
{
	const uint64_t *offsets = NULL;
	size_t n;

	if (ghost->undo == UNDO_NOTHING || (!ghost->reply && reply->status)) {
		mempool__wire__reply__free_unpacked(reply, NULL);
		return false;
	}
	if (ghost->reply)
		mempool__wire__reply__free_unpacked(reply, NULL); /* some were given back; what is left of them? */
	else
		ghost->reply = reply;
	n = to_undo(ghost, &offsets) - ghost->n_undone;
	if (!n)
		return false;
	ghost->n_undone += ghost->undo == UNDO_SLABS
				   ? pack_returns(ghost, ghost->reply->slabs->slabs + ghost->n_undone, n)
				   : pack_frees(ghost, offsets + ghost->n_undone, n);
	ghost->id = 0;
	ghost->is_sent = false;
	return true;
}
