// SPDX-License-Identifier: MIT
/*
 * Holds: whose a block is, and who else keeps it. All are requests, since their records are the daemon's, but for a take of a slot,
 * which is one change of its word.
 */
#include <errno.h>
#include <inttypes.h>

#include "client/guard.h"

/* ---- publish ---- */

int mempool_publish(struct mempool_pool *pool, mempool_offset offset, const char *name)
{
	Mempool__Wire__Publish publish = MEMPOOL__WIRE__PUBLISH__INIT;
	REQUEST(request, PUBLISH, publish, publish);
	POOL_CALL(pool);

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

/* As many requests at once, [n]. */
static int publish_some(struct mempool_pool *pool, unsigned n, const mempool_offset offsets[])
{
	Mempool__Wire__Publish publish[CONNECTION_EACH_MAX];
	Mempool__Wire__Request requests[CONNECTION_EACH_MAX];

	for (unsigned i = 0; i < n; i++) {
		publish[i] = (Mempool__Wire__Publish)MEMPOOL__WIRE__PUBLISH__INIT;
		SET(publish[i], pool, pool->id);
		SET(publish[i], offset, offsets[i]);
		requests[i] = (Mempool__Wire__Request)MEMPOOL__WIRE__REQUEST__INIT;
		requests[i].op_case = MEMPOOL__WIRE__REQUEST__OP_PUBLISH;
		requests[i].publish = &publish[i];
	}
	return client_do_each(pool->client, n, requests, pool->id, "publish of a batch");
}

int mempool_publish_batch(struct mempool_pool *pool, size_t n, const mempool_offset offsets[])
{
	struct error_first first = {0};
	int r = pool_check_handle(pool, "publish of a batch");
	POOL_CALL(pool);

	if (r)
		return r;
	if (n && !offsets)
		return error_set(-EINVAL, "publish of a batch in %s: no offsets", pool->label);
	for (size_t done = 0, some; done < n; done += some) {
		some = n - done < CONNECTION_EACH_MAX ? n - done : CONNECTION_EACH_MAX;
		r = publish_some(pool, (unsigned)some, offsets + done);
		error_note(&first, r);
		if (client_is_silent(r))
			break;
	}
	return error_give(&first);
}

/* ---- find ---- */

static int find(struct mempool_pool *pool, const char *name, bool retain, const char *asked, mempool_offset *out)
{
	Mempool__Wire__Find find = MEMPOOL__WIRE__FIND__INIT;
	Mempool__Wire__Block block = MEMPOOL__WIRE__BLOCK__INIT;
	int r;
	REQUEST(request, FIND, find, find);
	POOL_CALL(pool);

	if (pool_check_handle(pool, asked))
		return -EINVAL;
	if (!name || !out)
		return error_set(-EINVAL, "%s in %s: no name, or no place for the result", asked, pool->label);
	SET(find, pool, pool->id);
	SET(find, name, name_bytes(name));
	SET(find, retain, retain);
	r = block_call(pool, &request, asked, &block);
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

/* ---- retain, take ---- */

int mempool_retain(struct mempool_pool *pool, mempool_offset offset)
{
	Mempool__Wire__Retain retain = MEMPOOL__WIRE__RETAIN__INIT;
	REQUEST(request, RETAIN, retain, retain);
	POOL_CALL(pool);

	if (pool_check_handle(pool, "retain"))
		return -EINVAL;
	SET(retain, pool, pool->id);
	SET(retain, offset, offset);
	return client_do(pool->client, &request, pool->id, "retain");
}

int mempool_take(struct mempool_pool *pool, mempool_offset offset, uint64_t from_session)
{
	Mempool__Wire__Take take = MEMPOOL__WIRE__TAKE__INIT;
	int r;
	REQUEST(request, TAKE, take, take);
	POOL_CALL(pool);

	if (pool_check_handle(pool, "take"))
		return -EINVAL;
	r = heaps_take(pool->heaps, guard_slot(pool, offset), from_session);
	if (r == -EALREADY || r == -EFAULT)
		r = -ESTALE; /* freed, or never there: not the sender's */
	if (r == -ESTALE)
		return error_set(
			r, "take of 0x%" PRIx64 " in %s: the block is not, or not any more, session %" PRIu64 "'s",
			offset, pool->label, from_session);
	if (r != HEAP_E_REQUEST)
		return r;
	SET(take, pool, pool->id);
	SET(take, offset, offset);
	SET(take, from_session, from_session);
	return client_do(pool->client, &request, pool->id, "take");
}
