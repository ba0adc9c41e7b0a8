#pragma once
// SPDX-License-Identifier: MIT
/*
 * extent_internal - what the files of the extent map share: stores to records, the size classes, the hash
 */
#include <assert.h>

#include "alloc/extent.h"
#include "alloc/intent.h"

#define PARENT_RING EXTENT_NONE	      /* a gap that hangs in the ring of its size only */
#define PARENT_ROOT (EXTENT_NONE - 1) /* the top of its class's trie */

static inline uint64_t pack_what(uint64_t size, enum extent_state state, unsigned flags)
{
	return size | (uint64_t)state << 48 | (uint64_t)flags << 56;
}

static inline uint64_t extent_end(const struct extent_map *map, uint32_t extent)
{
	return extent_offset(map, extent) + extent_size(map, extent);
}

/** state_is_truth() - records in this state cannot be derived */
static inline bool state_is_truth(enum extent_state state)
{
	return state == EXTENT_LIVE || state == EXTENT_LEASED || state == EXTENT_PINNED;
}

static inline bool extent_is_gap(const struct extent_map *map, uint32_t extent)
{
	return extent != EXTENT_NONE && extent_state(map, extent) == EXTENT_GAP;
}

/* extent.c, for extent_recover.c: a map built up from its low end */
int map_init_empty(struct extent_map *map, struct ledger *ledger, uint64_t first_offset, uint64_t total_bytes)
	MUST_CHECK;
/** map_append_gap() - behind the last extent; there is an index for it */
void map_append_gap(struct extent_map *map, uint64_t offset, uint64_t size, uint32_t since_s);
/** map_append_truth() - a LIVE or LEASED one, behind the last extent; hung on no list yet; the hash has room */
void map_append_truth(struct extent_map *map, uint32_t extent);
/** map_add_pinned() - likewise, in no address order */
void map_add_pinned(struct extent_map *map, uint32_t extent);
/** map_forget_index() - it has no extent: the unused chain gets it */
void map_forget_index(struct extent_map *map, uint32_t extent);

/* extent_gap.c: gaps by size */
struct size_class {
	uint32_t fl, sl;
	uint32_t n_bits; /* low bits of the granule count in which sizes of the class differ */
};
struct size_class size_class_of(uint64_t n_granules);
void gap_insert(struct extent_map *map, uint32_t extent);
void gap_remove(struct extent_map *map, uint32_t extent);
/** gap_best_fit() - the smallest gap of at least @size bytes; EXTENT_NONE */
uint32_t gap_best_fit(const struct extent_map *map, uint64_t size);

/* extent_hash.c: live extents by offset */
/** hash_bucket() - the bucket that a block at @offset belongs to */
uint32_t hash_bucket(const struct extent_map *map, uint64_t offset);
int hash_init(struct extent_map *map);
int hash_reserve(struct extent_map *map, uint64_t n_more);
void hash_insert(struct extent_map *map, uint32_t extent);
void hash_remove(struct extent_map *map, uint32_t extent);
uint32_t hash_find(const struct extent_map *map, uint64_t offset);
