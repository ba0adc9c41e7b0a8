#pragma once
// SPDX-License-Identifier: MIT
/* pool - an open pool: which one it is, and where it is mapped */
#include <errno.h>

#include "client/client.h"
#include "client/heaps.h"
#include "client/mapping.h"

struct mempool_pool {
	/* what each alloc, free and address needs: one cache line */
	struct mempool_view view; /* of the mapping; n_known is a copy of what mapping->n_known says */
	uint8_t *base;		  /* the mapping's */
	uint64_t n_bytes;	  /* mapped */
	uint64_t first;		  /* MEMPOOL_VIEW_FIRST */
	uint32_t slot; /* where threads have their heaps in this pool; 0: there are none, or blocks have guards */
	enum mempool_fill fill;
	struct heaps *heaps;	       /* counted; NULL: all goes by request */
	struct mempool_client *client; /* counted */
	struct mapping *mapping;       /* counted */
	uint64_t id;
	_Atomic uint32_t n_running; /* calls, but for those that stay in the heap; and POOL_CLOSING */
	bool guard;
	char name[72];
	char label[96]; /* how sentences name it */
};

/*
 * POOL_CALL(pool) - a declaration: until the end of its block a call is under way, for which mempool_pool_close() waits. Not for
 * calls that stay in the heap: heaps_close() waits for those.
 */
#define POOL_CALL(pool) CLEANUP(pool_call_end) struct mempool_pool *pool_of_call = pool_call_begin(pool)
#define POOL_CLOSING	(1u << 31)

void pool_call_last(struct mempool_pool *pool); /* wakes who closes */

static inline struct mempool_pool *pool_call_begin(struct mempool_pool *pool)
{
	if (pool)
		atomic_fetch_add_explicit(&pool->n_running, 1, memory_order_relaxed);
	return pool;
}

static inline void pool_call_end(struct mempool_pool **poolp)
{
	if (*poolp && atomic_fetch_sub_explicit(&(*poolp)->n_running, 1, memory_order_release) == (POOL_CLOSING | 1))
		pool_call_last(*poolp);
}

/** pool_check_handle() - Return: 0; -EINVAL no pool was given */
static inline int pool_check_handle(const struct mempool_pool *pool, const char *asked)
{
	return pool ? 0 : error_set(-EINVAL, "%s: no pool was given", asked);
}

/** block_call() - block.c: a request whose reply is a block. Return: 0; -errno with the sentence set */
int block_call(struct mempool_pool *pool, Mempool__Wire__Request *request, const char *asked,
	       Mempool__Wire__Block *block) MUST_CHECK;
/** block_inspect() - block.c: what the daemon knows of a block. Return: 0, -errno with the sentence set */
int block_inspect(struct mempool_pool *pool, uint64_t offset, Mempool__Wire__Block *block) MUST_CHECK;
/** pool_destroy_by_id() - also a private one; a warning is left in mempool_last_error(), "" if there is none */
int pool_destroy_by_id(struct mempool_pool *pool) MUST_CHECK;
/** info_fill() - a PoolInfo of the wire as the public struct */
void info_fill(struct mempool_pool_info *info, const Mempool__Wire__PoolInfo *wire);
