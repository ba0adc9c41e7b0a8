// SPDX-License-Identifier: MIT
/*
 * memory_pool - the six calls of the original single-process allocator, served by mempoold
 *
 * Source-compatible: programs written for it compile unchanged, link libmempool-client, and need a running daemon.
 * Each pool is a private one; one hidden session serves the whole process. NULL is handled by every call; new memory
 * reads 0xCC; without a daemon create_memory_pool() gives NULL with errno set.
 */
#ifndef MEMPOOL_MEMORY_POOL_H
#define MEMPOOL_MEMORY_POOL_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default) /* the library hides all else */

#define MIN_BLOCK_SIZE 16 /* bytes; a smaller pool is refused */

struct memory_block; /* a pool */

/** A pool of @size bytes; NULL with errno set on failure. */
struct memory_block *mempool_compat_create(size_t size);
/** A block of @size bytes; NULL with errno set if the pool is full. */
void *mempool_compat_alloc(struct memory_block *pool, size_t size);
/** Frees a block; an address that is none is told on stderr and left alone. */
void mempool_compat_free(void *block);
/** Figures in bytes and blocks; any pointer may be NULL. */
void mempool_compat_stats(struct memory_block *pool, size_t *total_size, size_t *used_memory, size_t *num_allocations);
/** Draws the pool's map to stdout. */
void mempool_compat_visualize(struct memory_block *pool);
/** Removes the pool; warns on stderr if blocks are live. */
void mempool_compat_destroy(struct memory_block *pool);

/* Plain names rather than function-like macros, so that a pointer to one of them works too. */
#define create_memory_pool mempool_compat_create
#define pool_alloc	   mempool_compat_alloc
#define pool_free	   mempool_compat_free
#define get_pool_stats	   mempool_compat_stats
#define visualize_pool	   mempool_compat_visualize
#define destroy_pool	   mempool_compat_destroy

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
