#pragma once
// SPDX-License-Identifier: MIT
/*
 * guard - canaries of a guarded pool, before and behind each block, and how long a block in a slot is
 *
 *   extent   16 bytes 0xFD | block | 0xFD to the next multiple of 16, and 16 more
 *   slot     mark | 8 bytes 0xFD | block | 0xFD to the end of the slot, 16 at least
 *
 * The daemon knows how long a block is that has an extent of its own. Of a slot it knows the most that fits, so the mark says it:
 * the size and its complement, so that no byte of it changes unseen. Sixteen times 0xFD is no mark.
 *
 * @most is in all calls the size that the daemon tells: of an extent that of the block, of a slot the most that fits.
 */
#include "client/pool.h"

#define GUARD_BYTES 16u /* before, and at least as much after, each block */

/** guard_slot() - where the slot begins of a block that is in one */
static inline uint64_t guard_slot(const struct mempool_pool *pool, uint64_t offset)
{
	return pool->guard ? offset - GUARD_BYTES : offset;
}

/** guard_is_slot() - whether it has a mark. A slot whose mark was overwritten has none, and no canaries there either */
bool guard_is_slot(const struct mempool_pool *pool, uint64_t offset, uint64_t most);
/** guard_size() - bytes of the block at @offset */
uint64_t guard_size(const struct mempool_pool *pool, uint64_t offset, uint64_t most);
/** guard_paint() - around a new block in an extent */
void guard_paint(const struct mempool_pool *pool, uint64_t offset, uint64_t size);
/**
 * guard_mark() - around a block in a slot: a new one, or one that is @size bytes long from now on
 *
 * Who looks meanwhile, and looks again if it finds a fault, finds none: what is behind the block is painted before the mark says
 * where that begins, and is the user's only after.
 */
void guard_mark(const struct mempool_pool *pool, uint64_t offset, uint64_t size, uint64_t most);
/** guard_find() - Return: offset of the first wrong byte, 0: none */
uint64_t guard_find(const struct mempool_pool *pool, uint64_t offset, uint64_t most);
/** guard_check() - Return: 0, or -EBADMSG with the sentence set */
int guard_check(struct mempool_pool *pool, uint64_t offset, uint64_t most, uint64_t owner) MUST_CHECK;
