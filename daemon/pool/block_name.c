// SPDX-License-Identifier: MIT
/*
 * Names of blocks, in a digital search tree on their hash: a name's path is given by the bits of its hash, highest first, and it
 * stands at the first free place on that path. So a look-up compares at most 64 records, mostly about log2(n), and nothing is
 * ever rehashed or allocated but the record. The hash is seeded for each pool; should two hashes be the same in all
 * bits, the path goes on to the left.
 */
#include <string.h>

#include "pool/pool_internal.h"

static uint64_t mix(uint64_t a, uint64_t b)
{
	__extension__ typedef unsigned __int128 u128;
	u128 product = (u128)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Multiply and fold, eight bytes at a time (Wang Yi: wyhash, 2019). */
static uint64_t hash_of(const struct pool *pool, const uint8_t *name, size_t n_bytes)
{
	uint64_t hash = pool->name_seed ^ n_bytes, word;

	for (size_t i = 0; i < n_bytes; i += 8) {
		word = 0;
		memcpy(&word, name + i, n_bytes - i < 8 ? n_bytes - i : 8);
		hash = mix(hash ^ word ^ UINT64_C(0xa0761d6478bd642f), pool->name_seed | 1);
		hash += UINT64_C(0x9e3779b97f4a7c15);
	}
	return mix(hash, UINT64_C(0xe7037ed1a0b428db));
}

static bool is_it(const struct name_record *record, uint64_t hash, const void *name, size_t n_bytes)
{
	return record->hash == hash && record->n_bytes == n_bytes && !memcmp(record->name, name, n_bytes);
}

/* The place of a name: where the index of its record is, or would be put. */
static uint32_t *find_place(const struct pool *pool, uint64_t hash, const void *name, size_t n_bytes)
{
	uint32_t *place = (uint32_t *)&pool->name_root;
	uint64_t path = hash;

	while (*place != POOL_NONE && !is_it(name_record(pool, *place), hash, name, n_bytes)) {
		place = &name_record(pool, *place)->child[path >> 63];
		path <<= 1;
	}
	return place;
}

uint32_t block_name_find(const struct pool *pool, const void *name, size_t n_bytes)
{
	return *find_place(pool, hash_of(pool, name, n_bytes), name, n_bytes);
}

void block_name_add(struct pool *pool, uint32_t extent, const void *name, size_t n_bytes)
{
	uint64_t hash = hash_of(pool, name, n_bytes);
	uint32_t *place = find_place(pool, hash, name, n_bytes), index;
	struct name_record *record;

	assert(*place == POOL_NONE && n_bytes && n_bytes <= NAME_BYTES_MAX);
	index = record_take(pool, &pool->names);
	record = name_record(pool, index);
	record->extent = extent;
	memcpy(record->name, name, n_bytes);
	record->hash = hash;
	record->child[0] = record->child[1] = POOL_NONE;
	intent_set(&pool->ledger, &record->n_bytes, n_bytes);
	*place = index;
	extent_links(&pool->map, extent)->name = index;
	extent_map_set_flags(&pool->map, extent, extent_flags(&pool->map, extent) | EXTENT_NAMED);
}

/* Any leaf below @index may take its place: whatever is below shares its path. */
static uint32_t *leaf_below(const struct pool *pool, uint32_t *place)
{
	for (;;) {
		struct name_record *record = name_record(pool, *place);

		if (record->child[0] != POOL_NONE)
			place = &record->child[0];
		else if (record->child[1] != POOL_NONE)
			place = &record->child[1];
		else
			return place;
	}
}

void block_name_remove(struct pool *pool, uint32_t extent)
{
	uint32_t index = extent_links(&pool->map, extent)->name, heir;
	struct name_record *record = name_record(pool, index);
	uint32_t *place = find_place(pool, record->hash, record->name, record->n_bytes), *leaf;

	assert(*place == index && record->extent == extent);
	leaf = leaf_below(pool, place);
	heir = *leaf;
	*leaf = POOL_NONE;
	if (heir != index) {
		memcpy(name_record(pool, heir)->child, record->child, sizeof(record->child));
		*place = heir;
	}
	intent_set(&pool->ledger, &record->n_bytes, 0);
	record_give(pool, &pool->names, index);
	extent_map_set_flags(&pool->map, extent, extent_flags(&pool->map, extent) & ~(unsigned)EXTENT_NAMED);
}

static void insert(struct pool *pool, uint32_t index)
{
	struct name_record *record = name_record(pool, index);

	record->child[0] = record->child[1] = POOL_NONE;
	*find_place(pool, record->hash, record->name, record->n_bytes) = index;
	extent_links(&pool->map, record->extent)->name = index;
	extent_map_set_flags(&pool->map, record->extent, extent_flags(&pool->map, record->extent) | EXTENT_NAMED);
}

static bool name_is_sound(const struct pool *pool, const struct name_record *record)
{
	return record->n_bytes <= NAME_BYTES_MAX && name_is_valid(record->name, record->n_bytes) &&
	       record->extent < pool->map.n_high && extent_is_block(&pool->map, record->extent) &&
	       extent_owner(&pool->map, record->extent) == POOL_OWNER &&
	       !(extent_flags(&pool->map, record->extent) & EXTENT_NAMED) &&
	       block_name_find(pool, record->name, record->n_bytes) == POOL_NONE;
}

bool block_name_recover(struct pool *pool)
{
	uint32_t n = pool->ledger.tables[LEDGER_NAMES].n_backed;
	struct name_record *record;

	while (n && !name_record(pool, n - 1)->n_bytes)
		n--;
	pool->names.n_high = pool->names.n = n;
	for (uint32_t i = n; i-- > 0;) {
		record = name_record(pool, i);
		if (!record->n_bytes) {
			record_give(pool, &pool->names, i);
			continue;
		}
		if (!name_is_sound(pool, record))
			return false;
		record->hash = hash_of(pool, record->name, record->n_bytes);
		insert(pool, i);
		pool_commit(pool);
	}
	return true;
}

unsigned block_name_check(const struct pool *pool, FILE *report)
{
	unsigned n_faults = 0;
	uint32_t n = 0;

	for (uint32_t i = 0; i < pool->names.n_high; i++) {
		const struct name_record *record = name_record(pool, i);

		if (!record->n_bytes)
			continue;
		n++;
		if (record->n_bytes <= NAME_BYTES_MAX && block_name_find(pool, record->name, record->n_bytes) == i &&
		    extent_is_block(&pool->map, record->extent) &&
		    extent_flags(&pool->map, record->extent) & EXTENT_NAMED &&
		    extent_links(&pool->map, record->extent)->name == i)
			continue;
		fprintf(report, "name %u: not found again, or its block does not have it\n", i);
		n_faults++;
	}
	if (n != pool->names.n) {
		fprintf(report, "names: %u counted, %u found\n", pool->names.n, n);
		n_faults++;
	}
	return n_faults;
}
