// SPDX-License-Identifier: MIT
/*
 * Live extents by offset: linear hashing (Litwin, VLDB 1980). The table grows by one bucket whenever there are more than 1.5
 * extents a bucket: that splits the one bucket whose turn it is, so no insertion ever rehashes everything.
 */
#include "alloc/extent_internal.h"

#define N_BUCKETS_FIRST 64u

static uint32_t *bucket(const struct extent_map *map, uint32_t index)
{
	return ledger_at(map->ledger, LEDGER_BUCKETS, index);
}

static uint32_t scatter(uint64_t offset)
{
	return (uint32_t)(offset / EXTENT_GRANULE * UINT64_C(0x9e3779b97f4a7c15) >> 32); /* Fibonacci hashing */
}

/* the largest power of two up to @n */
static uint32_t level_of(uint32_t n)
{
	return 1u << (31 - __builtin_clz(n));
}

uint32_t hash_bucket(const struct extent_map *map, uint64_t offset)
{
	uint32_t level = level_of(map->n_buckets), index = scatter(offset) & (2 * level - 1);

	return index < map->n_buckets ? index : index & (level - 1);
}

int hash_init(struct extent_map *map, uint64_t n_expected)
{
	uint32_t n_max = map->ledger->tables[LEDGER_BUCKETS].n_max, n = N_BUCKETS_FIRST;
	int r;

	if (n_expected * 2 / 3 + 1 > n)
		n = n_expected * 2 / 3 + 1 < n_max ? (uint32_t)(n_expected * 2 / 3 + 1) : n_max;
	if (n > n_max)
		n = level_of(n_max);
	r = ledger_reserve(map->ledger, LEDGER_BUCKETS, n);
	if (r)
		return r;
	map->n_buckets = n;
	for (uint32_t i = 0; i < n; i++)
		*bucket(map, i) = EXTENT_NONE;
	return 0;
}

/* n_hashed at which @n_buckets are full */
static bool is_crowded(uint64_t n_hashed, uint32_t n_buckets)
{
	return 2 * n_hashed > 3 * (uint64_t)n_buckets;
}

int hash_reserve(struct extent_map *map, uint64_t n_more)
{
	uint64_t n_buckets = (map->n_hashed + n_more) * 2 / 3 + 1;
	uint32_t n_max = map->ledger->tables[LEDGER_BUCKETS].n_max;

	if (n_buckets <= map->n_buckets)
		return 0;
	return ledger_reserve(map->ledger, LEDGER_BUCKETS, n_buckets < n_max ? (uint32_t)n_buckets : n_max);
}

static void split(struct extent_map *map)
{
	uint32_t fresh = map->n_buckets, source = fresh - level_of(fresh);
	uint32_t *keep = bucket(map, source), *move = bucket(map, fresh), extent = *keep;

	map->n_buckets++;
	*keep = *move = EXTENT_NONE;
	while (extent != EXTENT_NONE) {
		struct extent_links *links = extent_links(map, extent);
		uint32_t next = links->hash_next;
		uint32_t *to = hash_bucket(map, extent_offset(map, extent)) == fresh ? move : keep;

		links->hash_next = *to;
		*to = extent;
		extent = next;
	}
}

void hash_insert(struct extent_map *map, uint32_t extent)
{
	uint32_t *head;

	map->n_hashed++;
	if (is_crowded(map->n_hashed, map->n_buckets) && map->n_buckets < map->ledger->tables[LEDGER_BUCKETS].n_backed)
		split(map); /* hash_reserve() backed it, unless the table is at its most */
	head = bucket(map, hash_bucket(map, extent_offset(map, extent)));
	extent_links(map, extent)->hash_next = *head;
	*head = extent;
}

void hash_prefetch(const struct extent_map *map, uint64_t offset)
{
	__builtin_prefetch(bucket(map, hash_bucket(map, offset)), 1);
}

void hash_remove(struct extent_map *map, uint32_t extent)
{
	uint32_t *at = bucket(map, hash_bucket(map, extent_offset(map, extent)));

	while (*at != extent) {
		assert(*at != EXTENT_NONE);
		at = &extent_links(map, *at)->hash_next;
	}
	*at = extent_links(map, extent)->hash_next;
	map->n_hashed--;
}

uint32_t hash_find(const struct extent_map *map, uint64_t offset)
{
	uint32_t extent = *bucket(map, hash_bucket(map, offset));

	while (extent != EXTENT_NONE && extent_offset(map, extent) != offset)
		extent = extent_links(map, extent)->hash_next;
	return extent;
}
