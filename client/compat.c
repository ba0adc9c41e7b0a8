// SPDX-License-Identifier: MIT
/*
 * The six calls of the original allocator. Each pool is a private one of a session that all of them share; pool_free() knows a pool
 * by the address. A forked child begins with no pools and a session of its own.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/pool.h"
#include "mempool/memory_pool.h"

struct memory_block {
	struct mempool_pool *pool;
	uint64_t generation;
	struct memory_block *next;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* all below */
static struct mempool_client *client;
static struct memory_block *pools;

/* The session; a failed connect is tried again by the next call, and so is one after the session was lost. */
static struct mempool_client *session(void)
{
	if (client &&
	    (!process_is(client->generation) || client_is_lost(client))) { /* the parent's, or over: let go of it */
		mempool_disconnect(client);
		client = NULL;
	}
	if (!client) {
		int r = mempool_connect(&client, NULL);

		if (r) {
			client = NULL;
			errno = -r;
		}
	}
	return client;
}

struct memory_block *mempool_compat_create(size_t size)
{
	struct memory_block *block;
	struct mempool_client *with;
	int r;

	if (size < MIN_BLOCK_SIZE) {
		errno = EINVAL;
		return NULL;
	}
	block = calloc(1, sizeof(*block));
	if (!block)
		return NULL;
	pthread_mutex_lock(&mutex);
	with = session();
	r = with ? mempool_pool_create(with, NULL, size, NULL, &block->pool) : -errno;
	if (!r) {
		block->generation = with->generation;
		block->next = pools;
		pools = block;
	}
	pthread_mutex_unlock(&mutex);
	if (r) {
		free(block);
		errno = -r;
		return NULL;
	}
	return block;
}

void *mempool_compat_alloc(struct memory_block *pool, size_t size)
{
	mempool_offset offset;

	if (!pool) {
		errno = EINVAL;
		return NULL;
	}
	offset = mempool_alloc(pool->pool, size);
	return offset ? mempool_ptr(pool->pool, offset) : NULL;
}

static struct mempool_pool *pool_of(const void *address, mempool_offset *offsetp)
{
	struct mempool_pool *found = NULL;

	pthread_mutex_lock(&mutex);
	for (const struct memory_block *block = pools; block && !found; block = block->next) {
		*offsetp = mempool_offset_of(block->pool, address);
		if (*offsetp)
			found = block->pool;
	}
	pthread_mutex_unlock(&mutex);
	return found;
}

void mempool_compat_free(void *block)
{
	struct mempool_pool *pool;
	mempool_offset offset;

	if (!block)
		return;
	pool = pool_of(block, &offset);
	if (!pool)
		fprintf(stderr, "pool_free: %p is in no pool\n", block);
	else if (mempool_free(pool, offset))
		fprintf(stderr, "pool_free: %s\n", mempool_last_error());
}

void mempool_compat_stats(struct memory_block *pool, size_t *total_size, size_t *used_memory, size_t *num_allocations)
{
	struct mempool_stats stats = {0};

	if (pool && mempool_pool_stats(pool->pool, &stats))
		memset(&stats, 0, sizeof(stats));
	if (total_size)
		*total_size = stats.total;
	if (used_memory)
		*used_memory = stats.used;
	if (num_allocations)
		*num_allocations = stats.allocations;
}

void mempool_compat_visualize(struct memory_block *pool)
{
	if (!pool)
		return;
	if (mempool_pool_visualize(pool->pool, stdout, NULL))
		fprintf(stderr, "visualize_pool: %s\n", mempool_last_error());
}

void mempool_compat_destroy(struct memory_block *pool)
{
	struct memory_block **at;

	if (!pool)
		return;
	pthread_mutex_lock(&mutex);
	for (at = &pools; *at && *at != pool; at = &(*at)->next)
		;
	if (*at)
		*at = pool->next;
	pthread_mutex_unlock(&mutex);
	if (process_is(pool->generation) && !pool_destroy_by_id(pool->pool) && *mempool_last_error())
		fprintf(stderr, "destroy_pool: %s\n", mempool_last_error());
	mempool_pool_close(pool->pool);
	free(pool);
}
